/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host to guest: RSTs, packets of streams, and bytes of host sockets, read straight into the guest's
 * receive buffers: many buffers by one system call, because Linux posts buffers of one page.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "virtio/virtio_spec.h"
#include "virtio/vsock_impl.h"

/* A receive buffer that is to be filled. */
struct slot {
	void *hdr;     /* where the header goes (Q3: RAM) */
	uint32_t room; /* bytes behind it */
	uint16_t head;
};

enum taken {
	TAKEN_BUFFER,
	TAKEN_NONE,   /* the driver gave none */
	TAKEN_BAD,    /* the first chain is no receive buffer */
	TAKEN_BROKEN,
};

static struct virtqueue *rxq(const struct vsock *v)
{
	return v->vdev.vq[VIRTIO_VSOCK_RXQ];
}

/* Pop a chain with room for a header and @data bytes into v->chain. TAKEN_BAD: its head is in flight. */
static enum taken take_buffer(struct vsock *v, uint32_t data)
{
	enum verdict verdict = virtqueue_pop(rxq(v), &v->chain);

	if (verdict == VERDICT_QUEUE_BROKEN)
		return TAKEN_BROKEN;
	if (verdict == VERDICT_REQ_ERROR)
		return TAKEN_BAD;
	if (v->chain.n == 0)
		return TAKEN_NONE;
	if (v->chain.n_readable > 0 || v->chain.writable_len < VSOCK_HDR_BYTES + data)
		return TAKEN_BAD;
	return TAKEN_BUFFER;
}

static void give_back_bad(struct vsock *v)
{
	virtio_device_complain(&v->vdev, "receive chain without room, head", v->chain.head);
	virtqueue_push(rxq(v), v->chain.head, 0);
	v->rx_used = true;
}

/* Fill the buffer in v->chain with the packet @pkt, whose data is there already, and give it to the driver. */
static void put_chain(struct vsock *v, const struct vsock_pkt *pkt)
{
	uint8_t hdr[VSOCK_HDR_BYTES];
	struct chain_cursor c;
	bool ok;

	vsock_pkt_print(pkt, v->guest_cid, hdr);
	chain_writer_init(&c, &v->chain);
	ok = chain_write(&c, hdr, sizeof(hdr));
	must(ok); /* take_buffer() saw room for it */
	virtqueue_push(rxq(v), v->chain.head, VSOCK_HDR_BYTES + pkt->len);
	v->rx_used = true;
	vsock_count(&v->stats.rx_packets_count, 1);
}

/* A batch of receive buffers for one read. */
struct batch {
	size_t n, n_iov;
	uint32_t room;
	bool in_chain; /* the last buffer is described by v->chain: it is more than one descriptor */
	struct slot slot[VSOCK_READ_BUFFERS];
};

/* Add the buffer in v->chain to @b for at most @max bytes. Linux gives one descriptor, 280 of them for a MiB. */
static void batch_add(struct vsock *v, struct batch *b, uint32_t max)
{
	const struct vq_chain *chain = &v->chain;
	struct slot *slot = &b->slot[b->n++];
	uint64_t room = chain->writable_len - VSOCK_HDR_BYTES;

	slot->hdr = chain->seg[0].hva;
	slot->head = chain->head;
	slot->room = room < max ? (uint32_t)room : max;
	b->room += slot->room;
	b->in_chain = chain->n > 1;
	if (likely(!b->in_chain)) {
		v->iov[b->n_iov++] = (struct iovec){
			.iov_base = (uint8_t *)slot->hdr + VSOCK_HDR_BYTES, .iov_len = slot->room };
	} else {
		struct chain_cursor c;
		bool header;

		chain_writer_init(&c, chain);
		header = chain_skip(&c, VSOCK_HDR_BYTES);
		must(header);
		b->n_iov += chain_to_iov(&c, slot->room, v->iov + b->n_iov);
	}
}

/* Gather buffers for @want bytes (> 0). */
static enum taken batch_gather(struct vsock *v, struct batch *b, uint32_t want)
{
	b->n = 0;
	b->n_iov = 0;
	b->room = 0;
	b->in_chain = false;
	while (!b->in_chain && b->n < VSOCK_READ_BUFFERS && b->room < want) {
		enum taken taken = take_buffer(v, 1);

		if (taken == TAKEN_BROKEN || (taken != TAKEN_BUFFER && b->n == 0))
			return taken;
		if (taken == TAKEN_BAD)
			virtqueue_unpop(rxq(v), v->chain.head); /* it comes first next time */
		if (taken != TAKEN_BUFFER)
			break;
		batch_add(v, b, want - b->room);
	}
	return TAKEN_BUFFER;
}

/* Put back the buffers from @first on. */
static void batch_return(struct vsock *v, const struct batch *b, size_t first)
{
	for (size_t i = b->n; i > first; i--)
		virtqueue_unpop(rxq(v), b->slot[i - 1].head);
}

/* @n bytes are in the buffers: headers, and off they go. */
static void batch_send(struct vsock_stream *s, const struct batch *b, uint32_t n)
{
	struct vsock *v = s->vsock;
	struct vq_done done[VSOCK_READ_BUFFERS];
	uint8_t hdr[VSOCK_HDR_BYTES];
	struct vsock_pkt pkt;
	uint16_t used = 0;

	/* Their headers differ in len alone. */
	vsock_conn_send(&s->conn, n, &pkt);
	vsock_pkt_print(&pkt, v->guest_cid, hdr);
	while (n > 0 && !(b->in_chain && used == b->n - 1u)) {
		const struct slot *slot = &b->slot[used];
		uint32_t len = n < slot->room ? n : slot->room;

		vsock_pkt_set_len(hdr, len);
		memcpy(slot->hdr, hdr, sizeof(hdr));
		done[used++] = (struct vq_done){ .head = slot->head, .written = VSOCK_HDR_BYTES + len };
		n -= len;
	}
	if (n == 0)
		batch_return(v, b, used);
	virtqueue_push_many(rxq(v), done, used);
	v->rx_used = true;
	vsock_count(&v->stats.rx_packets_count, used);
	if (n > 0) {
		pkt.len = n; /* a batch has room for what was read */
		put_chain(v, &pkt);
	}
}

/*
 * A read came short. Mostly that means that all was read; but the program's end of file may be next, or a read stops at
 * descriptors that were passed along, and of both the event loop has spoken already.
 */
static bool is_drained(struct vsock_stream *s)
{
	char byte;

	return s->vsock->io->recv(s->fd, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* Read what the host program of @s wrote, once. */
static enum taken send_data(struct vsock_stream *s, struct vsock_budget *budget)
{
	struct vsock *v = s->vsock;
	uint32_t credit = vsock_conn_credit(&s->conn);
	uint32_t want = s->read_guess < credit ? s->read_guess : credit;
	struct batch b;
	enum taken taken = batch_gather(v, &b, want);
	ssize_t n;

	if (taken != TAKEN_BUFFER)
		return taken;
	n = v->io->readv(s->fd, v->iov, (int)b.n_iov);
	if (n <= 0) {
		int errnum = errno;

		batch_return(v, &b, 0);
		if (n < 0) {
			vsock_uds_read_failed(s, errnum);
		} else {
			s->readable = false;
			vsock_conn_host_shut(&s->conn, s->hung_up ? VSOCK_NO_MORE : VSOCK_NO_SEND);
		}
		return TAKEN_BUFFER;
	}
	vsock_count(&v->stats.rx_bytes_count, (uint64_t)n);
	budget->bytes -= (uint32_t)n < budget->bytes ? (uint32_t)n : budget->bytes;
	if ((uint32_t)n < b.room) {
		/* After a hang-up the event loop is silent and the end is to come. */
		s->readable = s->hung_up || !is_drained(s);
		s->read_guess = n > VSOCK_READ_FIRST ? (uint32_t)n : VSOCK_READ_FIRST;
	} else {
		s->read_guess = s->read_guess < VSOCK_READ_BYTES / 4 ? 4 * s->read_guess : VSOCK_READ_BYTES;
	}
	batch_send(s, &b, (uint32_t)n);
	return TAKEN_BUFFER;
}

/* One turn of @s, which was in the ready list: a packet, or a read. */
static enum taken send_stream(struct vsock_stream *s, struct vsock_budget *budget)
{
	/* Data first, where it may: its header tells the credit too, and the end of file may add to a SHUTDOWN. */
	const uint8_t can_wait = VSOCK_SAY_CREDIT_UPDATE | VSOCK_SAY_SHUTDOWN;
	struct vsock *v = s->vsock;
	enum taken taken;
	struct vsock_pkt pkt;

	if ((s->conn.say & ~can_wait) == 0 && s->readable && vsock_conn_reads_host(&s->conn) &&
	    vsock_conn_may_send(&s->conn))
		return send_data(s, budget);
	if (s->conn.say == 0)
		return TAKEN_BUFFER;
	taken = take_buffer(v, 0);
	if (taken != TAKEN_BUFFER)
		return taken;
	if (!vsock_conn_next(&s->conn, &pkt))
		must(false);
	put_chain(v, &pkt);
	return TAKEN_BUFFER;
}

/* The oldest RST that belongs to no stream. */
static enum taken send_rst(struct vsock *v)
{
	enum taken taken = take_buffer(v, 0);

	if (taken != TAKEN_BUFFER)
		return taken;
	put_chain(v, &v->rst[0]);
	v->n_rsts--;
	for (uint16_t i = 0; i < v->n_rsts; i++)
		v->rst[i] = v->rst[i + 1];
	return TAKEN_BUFFER;
}

/* One packet or read. */
static enum taken send_next(struct vsock *v, struct vsock_budget *budget)
{
	struct vsock_stream *s;
	enum taken taken;

	if (v->n_rsts > 0)
		return send_rst(v);
	s = vsock_ready_pop(v);
	must(s);
	taken = send_stream(s, budget);
	vsock_settle(s);
	return taken;
}

bool vsock_rx_run(struct vsock *v, struct vsock_budget *budget)
{
	while (v->vdev.active && (v->n_rsts > 0 || v->ready.first)) {
		if (budget->packets == 0 || budget->bytes == 0)
			return true;
		budget->packets--;
		switch (send_next(v, budget)) {
		case TAKEN_BUFFER:
			break;
		case TAKEN_BAD:
			give_back_bad(v);
			break;
		case TAKEN_BROKEN:
			vsock_break(v);
			return false;
		case TAKEN_NONE:
			/* The driver's kick goes on with it. */
			if (!virtqueue_notify_on(rxq(v)))
				return false;
			virtqueue_notify_off(rxq(v));
			break;
		}
	}
	return false;
}
