/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any header, frame length and features. Asserted: what is passed on asks for nothing that was not
 * negotiated, points nowhere outside its frame, has zeros where it means nothing, and is its own check's
 * fixed point.
 */
#include <endian.h>
#include <string.h>

#include "tests/lib/fuzz_input.h"
#include "virtio/net_backend.h"
#include "virtio/net_hdr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct virtio_net_hdr_wire wire = { .flags = 0 }, out, again;
	uint64_t acked = ~fuzz_u64(&in);
	uint32_t len = fuzz_u32(&in) % NET_FRAME_MAX;
	size_t n = in.left < sizeof(wire) ? in.left : sizeof(wire);

	memcpy(&wire, in.data, n);
	if (net_hdr_check(&wire, len, acked, &out) != VERDICT_OK)
		return 0;
	must(out.flags <= VIRTIO_NET_HDR_F_NEEDS_CSUM && out.num_buffers == 0);
	if (out.flags) {
		must(acked & VIRTIO_NET_F_CSUM);
		must((uint32_t)le16toh(out.csum_start) + le16toh(out.csum_offset) + 2 <= len);
	} else {
		must(out.csum_start == 0 && out.csum_offset == 0 && out.gso_type == VIRTIO_NET_HDR_GSO_NONE);
	}
	switch (out.gso_type) {
	case VIRTIO_NET_HDR_GSO_NONE:
		must(out.gso_size == 0 && out.hdr_len == 0);
		break;
	case VIRTIO_NET_HDR_GSO_TCPV4:
		must(acked & VIRTIO_NET_F_HOST_TSO4);
		break;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		must(acked & VIRTIO_NET_F_HOST_TSO6);
		break;
	case VIRTIO_NET_HDR_GSO_UDP:
		must(acked & VIRTIO_NET_F_HOST_UFO);
		break;
	default:
		must(false);
	}
	must(out.gso_type == VIRTIO_NET_HDR_GSO_NONE || (out.gso_size != 0 && le16toh(out.hdr_len) <= len));
	must(net_hdr_check(&out, len, acked, &again) == VERDICT_OK && memcmp(&out, &again, sizeof(out)) == 0);
	return 0;
}
