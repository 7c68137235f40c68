/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/guest_vsock.h"

#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cdefs.h"

#define RINGS_AT UINT64_C(0x10000)
#define RING_BYTES UINT64_C(0x4000)
#define TX_AT UINT64_C(0x80000)    /* headers */
#define TX_DATA_AT UINT64_C(0x100000)
#define RX_AT UINT64_C(0x400000)

bool guest_vsock_start(struct guest_vsock *g, struct gmem *mem, struct virtio_mmio *t, uint16_t qsize, uint64_t features)
{
	*g = (struct guest_vsock){ .mem = mem, .t = t, .qsize = qsize };
	if (guest_mmio_negotiate(t, features) != 0xb)
		return false;
	for (uint16_t q = 0; q < 3; q++) {
		guest_ring_init(&g->ring[q], mem, qsize, RINGS_AT + RING_BYTES * q);
		guest_mmio_set_queue(t, q, &g->ring[q].geo);
	}
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0xf);
	return guest_mmio_read(t, VIRTIO_MMIO_STATUS) == 0xf;
}

void guest_vsock_post(struct guest_vsock *g, uint16_t i, bool kick)
{
	guest_ring_desc(&g->ring[0], i, RX_AT + (uint64_t)GUEST_VSOCK_BUF * i, GUEST_VSOCK_BUF, VIRTQ_DESC_F_WRITE, 0);
	guest_ring_offer(&g->ring[0], i);
	g->n_posted++;
	if (kick)
		guest_mmio_write(g->t, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
}

void guest_vsock_post_all(struct guest_vsock *g)
{
	for (uint16_t i = 0; i < g->qsize; i++)
		guest_vsock_post(g, i, i == g->qsize - 1);
}

struct guest_vsock_pkt guest_vsock_pkt(uint16_t op, uint32_t guest_port, uint32_t host_port)
{
	return (struct guest_vsock_pkt){
		.src_cid = GUEST_VSOCK_CID, .dst_cid = 2, .src_port = guest_port, .dst_port = host_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM, .op = op, .buf_alloc = 262144,
	};
}

void guest_vsock_send(struct guest_vsock *g, const struct guest_vsock_pkt *pkt, const void *data, uint32_t len)
{
	struct virtio_vsock_hdr_wire w = {
		.src_cid = pkt->src_cid, .dst_cid = pkt->dst_cid, .src_port = pkt->src_port, .dst_port = pkt->dst_port,
		.len = pkt->len, .type = pkt->type, .op = pkt->op, .flags = pkt->flags, .buf_alloc = pkt->buf_alloc,
		.fwd_cnt = pkt->fwd_cnt,
	};
	struct guest_ring *r = &g->ring[1];
	uint16_t head = (uint16_t)(r->avail_idx % (g->qsize / 2u) * 2);
	uint64_t at = TX_AT + 64u * head, data_at = TX_DATA_AT + UINT64_C(0x11000) * (head / 2u % 16);

	must(gmem_write(g->mem, GPA(at), &w, sizeof(w)) == 0);
	if (len > 0)
		must(gmem_write(g->mem, GPA(data_at), data, len) == 0);
	guest_ring_desc(r, head, at, sizeof(w), len > 0 ? VIRTQ_DESC_F_NEXT : 0, (uint16_t)(head + 1));
	guest_ring_desc(r, (uint16_t)(head + 1), data_at, len, 0, 0);
	guest_ring_offer(r, head);
	guest_mmio_write(g->t, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
}

bool guest_vsock_sent(struct guest_vsock *g)
{
	return guest_ring_used_idx(&g->ring[1]) == g->ring[1].avail_idx;
}

bool guest_vsock_receive(struct guest_vsock *g, struct guest_vsock_pkt *pkt, uint8_t *data)
{
	struct virtio_vsock_hdr_wire w;
	uint32_t id, len;

	if (!guest_ring_take_used(&g->ring[0], &id, &len))
		return false;
	must(id < g->qsize && len >= sizeof(w) && len <= GUEST_VSOCK_BUF && g->n_posted > 0);
	g->n_posted--;
	must(gmem_read(g->mem, GPA(RX_AT + (uint64_t)GUEST_VSOCK_BUF * id), &w, sizeof(w)) == 0);
	*pkt = (struct guest_vsock_pkt){
		.src_cid = w.src_cid, .dst_cid = w.dst_cid, .src_port = w.src_port, .dst_port = w.dst_port, .len = w.len,
		.type = w.type, .op = w.op, .flags = w.flags, .buf_alloc = w.buf_alloc, .fwd_cnt = w.fwd_cnt,
	};
	must(w.len == len - sizeof(w) && w.src_cid == 2 && w.dst_cid == GUEST_VSOCK_CID);
	if (w.len > 0)
		must(gmem_read(g->mem, GPA(RX_AT + (uint64_t)GUEST_VSOCK_BUF * id + sizeof(w)), data, w.len) == 0);
	guest_vsock_post(g, (uint16_t)id, true);
	return true;
}
