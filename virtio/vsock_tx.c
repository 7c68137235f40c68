/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest to host: the packets of the transmit queue.
 */
#include "virtio/virtio_spec.h"
#include "virtio/vsock_impl.h"

/* Answer @pkt, which belongs to no stream, with a RST. There is room for it. */
static void reply_rst(struct vsock *v, const struct vsock_pkt *pkt)
{
	must(v->n_rsts < VSOCK_MAX_RSTS);
	v->rst[v->n_rsts++] = (struct vsock_pkt){
		.guest_port = pkt->guest_port,
		.host_port = pkt->host_port,
		.type = pkt->type,
		.op = VSOCK_OP_RST,
	};
}

/* A REQUEST to ports that are free. */
static void serve_request(struct vsock *v, const struct vsock_pkt *pkt)
{
	struct vsock_stream *s = vsock_stream_alloc(v);

	if (!s) {
		reply_rst(v, pkt);
		return;
	}
	vsock_conn_init_guest(&s->conn, vsock_stream_buf_alloc(s), pkt);
	vsock_table_insert(s);
	vsock_settle(s);
}

static void serve_stream(struct vsock_stream *s, const struct vsock_pkt *pkt, struct chain_cursor *data)
{
	switch (vsock_conn_packet(&s->conn, pkt)) {
	case VSOCK_EVENT_NONE:
		break;
	case VSOCK_EVENT_ESTABLISHED:
		vsock_uds_greet(s);
		break;
	case VSOCK_EVENT_DATA:
		vsock_uds_data(s, data, pkt->len);
		break;
	}
	vsock_settle(s);
}

static void serve_packet(struct vsock *v, const struct vsock_pkt *pkt, enum vsock_pkt_fate fate, struct chain_cursor *data)
{
	struct vsock_stream *s;

	if (fate == VSOCK_PKT_DROP)
		return;
	s = vsock_table_find(v, pkt->guest_port, pkt->host_port);
	if (fate == VSOCK_PKT_REFUSE && s) {
		vsock_conn_reset(&s->conn);
		vsock_settle(s);
	} else if (fate == VSOCK_PKT_REFUSE) {
		reply_rst(v, pkt);
	} else if (s) {
		serve_stream(s, pkt, data);
	} else if (pkt->op == VSOCK_OP_REQUEST) {
		serve_request(v, pkt);
	} else if (pkt->op != VSOCK_OP_RST) {
		reply_rst(v, pkt);
	}
}

/* @v->chain holds a packet. */
static void serve_chain(struct vsock *v, struct vsock_budget *budget)
{
	uint8_t hdr[VSOCK_HDR_BYTES];
	struct chain_cursor data;
	struct vsock_pkt pkt = { .len = 0 };
	enum vsock_pkt_fate fate;

	chain_reader_init(&data, &v->chain);
	if (!chain_read(&data, hdr, sizeof(hdr))) {
		virtio_device_complain(&v->vdev, "packet shorter than its header, of bytes", v->chain.readable_len);
		return;
	}
	fate = vsock_pkt_parse(hdr, data.left, v->guest_cid, &pkt);
	if (fate != VSOCK_PKT_OK)
		virtio_device_complain(&v->vdev, fate == VSOCK_PKT_DROP ? "packet of or for somebody else from port"
									: "malformed packet from port", pkt.guest_port);
	serve_packet(v, &pkt, fate, &data);
	vsock_count(&v->stats.tx_packets_count, 1);
	budget->bytes -= pkt.len < budget->bytes ? pkt.len : budget->bytes;
}

bool vsock_tx_run(struct vsock *v, struct vsock_budget *budget)
{
	struct virtqueue *vq = v->vdev.vq[VIRTIO_VSOCK_TXQ];

	virtqueue_notify_off(vq);
	while (v->vdev.active) {
		enum verdict verdict;

		v->tx_waits = v->n_rsts == VSOCK_MAX_RSTS;
		if (v->tx_waits)
			return false;
		if (budget->packets == 0 || budget->bytes == 0)
			return true;
		budget->packets--;
		verdict = virtqueue_pop(vq, &v->chain);
		if (verdict == VERDICT_QUEUE_BROKEN) {
			vsock_break(v);
			return false;
		}
		if (verdict == VERDICT_OK && v->chain.n == 0) {
			if (!virtqueue_notify_on(vq))
				return false;
			virtqueue_notify_off(vq);
			continue;
		}
		if (verdict == VERDICT_OK)
			serve_chain(v, budget);
		else
			virtio_device_complain(&v->vdev, "transmit chain in the wrong order, head", v->chain.head);
		/* A break inside would have stopped the queue; serving never breaks it. */
		virtqueue_push(vq, v->chain.head, 0);
		v->tx_used += v->chain.n > 0 ? v->chain.n : 1;
	}
	return false;
}
