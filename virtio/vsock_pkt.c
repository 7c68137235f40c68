/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/vsock_pkt.h"

#include <endian.h>
#include <stddef.h>
#include <string.h>

#include "virtio/virtio_spec.h"
#include "virtio/vsock.h"

_Static_assert(VSOCK_HDR_BYTES == sizeof(struct virtio_vsock_hdr_wire), "virtio 1.2 5.10.6");
_Static_assert(VSOCK_OP_REQUEST == VIRTIO_VSOCK_OP_REQUEST && VSOCK_OP_CREDIT_REQUEST == VIRTIO_VSOCK_OP_CREDIT_REQUEST,
	       "virtio 1.2 5.10.6");
_Static_assert(VSOCK_NO_RECEIVE == VIRTIO_VSOCK_SHUTDOWN_RCV && VSOCK_NO_SEND == VIRTIO_VSOCK_SHUTDOWN_SEND,
	       "virtio 1.2 5.10.6.6");

enum vsock_pkt_fate vsock_pkt_parse(const uint8_t hdr[VSOCK_HDR_BYTES], uint64_t behind, uint64_t guest_cid,
				    struct vsock_pkt *out)
{
	struct virtio_vsock_hdr_wire w;
	uint16_t type, op;
	uint32_t len;

	memcpy(&w, hdr, sizeof(w));
	/* 5.10.6: a source that is not the guest's own is spoofed; CONTRACT.md 11.2: other destinations are dropped. */
	if (le64toh(w.src_cid) != guest_cid || le64toh(w.dst_cid) != VSOCK_CID_HOST)
		return VSOCK_PKT_DROP;
	type = le16toh(w.type);
	op = le16toh(w.op);
	len = le32toh(w.len);
	*out = (struct vsock_pkt){
		.guest_port = le32toh(w.src_port),
		.host_port = le32toh(w.dst_port),
		.buf_alloc = le32toh(w.buf_alloc),
		.fwd_cnt = le32toh(w.fwd_cnt),
		.type = type,
	};
	/* 5.10.6.4.1: a type that is not supported gets a RST. */
	if (type != VIRTIO_VSOCK_TYPE_STREAM || op < VIRTIO_VSOCK_OP_REQUEST || op > VIRTIO_VSOCK_OP_CREDIT_REQUEST)
		return op == VIRTIO_VSOCK_OP_RST ? VSOCK_PKT_DROP : VSOCK_PKT_REFUSE;
	/* Data that did not come whole would be a hole in the stream. */
	if (op == VIRTIO_VSOCK_OP_RW && (len > VSOCK_PKT_DATA_MAX || len > behind))
		return VSOCK_PKT_REFUSE;
	out->op = (enum vsock_op)op;
	if (op == VIRTIO_VSOCK_OP_RW)
		out->len = len;
	if (op == VIRTIO_VSOCK_OP_SHUTDOWN)
		out->flags = (uint8_t)(le32toh(w.flags) & VSOCK_NO_MORE);
	return VSOCK_PKT_OK;
}

void vsock_pkt_print(const struct vsock_pkt *pkt, uint64_t guest_cid, uint8_t hdr[VSOCK_HDR_BYTES])
{
	struct virtio_vsock_hdr_wire w = {
		.src_cid = htole64(VSOCK_CID_HOST),
		.dst_cid = htole64(guest_cid),
		.src_port = htole32(pkt->host_port),
		.dst_port = htole32(pkt->guest_port),
		.len = htole32(pkt->len),
		.type = htole16(pkt->type),
		.op = htole16((uint16_t)pkt->op),
		.flags = htole32(pkt->flags),
		.buf_alloc = htole32(pkt->buf_alloc),
		.fwd_cnt = htole32(pkt->fwd_cnt),
	};

	memcpy(hdr, &w, sizeof(w));
}

void vsock_pkt_set_len(uint8_t hdr[VSOCK_HDR_BYTES], uint32_t len)
{
	const uint32_t le = htole32(len);

	memcpy(hdr + offsetof(struct virtio_vsock_hdr_wire, len), &le, sizeof(le));
}
