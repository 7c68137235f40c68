/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules of the driver's header. Section numbers are virtio 1.2.
 */
#include "virtio/net_hdr.h"

#include <endian.h>
#include <stdbool.h>
#include <string.h>

/* Bytes of an Internet checksum. */
#define CSUM_BYTES 2u

/* Is it a kind of segmentation that the driver negotiated (5.1.6.2.1)? ECN and UDP_L4 are not offered. */
static bool gso_acked(uint8_t gso_type, uint64_t acked)
{
	switch (gso_type) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return (acked & VIRTIO_NET_F_HOST_TSO4) != 0;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return (acked & VIRTIO_NET_F_HOST_TSO6) != 0;
	case VIRTIO_NET_HDR_GSO_UDP:
		return (acked & VIRTIO_NET_F_HOST_UFO) != 0;
	default:
		return false;
	}
}

enum verdict net_hdr_check(const struct virtio_net_hdr_wire *wire, uint32_t frame_len, uint64_t acked,
			   struct virtio_net_hdr_wire *out)
{
	uint32_t csum_start = le16toh(wire->csum_start), csum_offset = le16toh(wire->csum_offset);
	uint32_t hdr_len = le16toh(wire->hdr_len);
	/* 5.1.6.2.2: flags that we do not know are ignored; DATA_VALID and RSC_INFO are the other direction's. */
	bool csum = (wire->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0;

	memset(out, 0, sizeof(*out));
	if (csum) {
		if (!(acked & VIRTIO_NET_F_CSUM))
			return VERDICT_REQ_ERROR;
		/* The checksum lies behind where its sum begins, and inside the frame. */
		if (csum_start + csum_offset + CSUM_BYTES > frame_len)
			return VERDICT_REQ_ERROR;
		out->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		out->csum_start = wire->csum_start;
		out->csum_offset = wire->csum_offset;
	}
	if (wire->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return VERDICT_OK;
	/* 5.1.6.2.1: segments need checksums of their own, and a size. */
	if (!csum || wire->gso_size == 0 || !gso_acked(wire->gso_type, acked))
		return VERDICT_REQ_ERROR;
	out->gso_type = wire->gso_type;
	out->gso_size = wire->gso_size;
	/* 5.1.6.2.2: a hint that need not be right. What it must be is inside the frame. */
	out->hdr_len = hdr_len <= frame_len ? wire->hdr_len : htole16((uint16_t)frame_len);
	return VERDICT_OK;
}
