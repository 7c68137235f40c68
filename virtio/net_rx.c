/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host to guest. Section numbers are virtio 1.2; invariants stand in net_impl.h.
 *
 * A frame is read straight into the guest's buffers. How long it is shows only then, so as many buffers
 * are popped beforehand as the longest frame needs; those that it leaves are kept for the next one.
 * When the guest has fewer, what they can't hold lands in a buffer of ours behind them, and is copied as
 * buffers arrive.
 *
 * Buffers are published all together after their header is complete (5.1.6.4.1): a driver that sees the
 * first sees num_buffers and all the others.
 */
#include "virtio/net_impl.h"

#include <errno.h>
#include <string.h>

#include "virtio/chain.h"
#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"

/* What a look at the ring or at the backend costs a turn (N5). */
#define LOOKS_OF_BUF 1
#define LOOKS_OF_FRAME 4

enum popped {
	POPPED_BUF,    /* one more, the last of bufs, also in net->chain; or as many as are needed */
	POPPED_BAD,    /* completed at once */
	POPPED_NONE,   /* the ring is empty */
	POPPED_FULL,   /* there is no room to describe more */
	POPPED_TURN,   /* the turn is over */
	POPPED_BROKEN,
};

void net_rx_reset(struct net *net)
{
	struct net_rx *rx = &net->rx;

	rx->wait = WAIT_START;
	rx->n_bufs = 0;
	rx->n_iov = 0;
	rx->bufs_len = 0;
	rx->frame_len = 0;
	rx->spill_len = 0;
	rx->spill_off = 0;
	rx->charged = false;
}

static bool mergeable(const struct net *net)
{
	return (net->vdev.acked & VIRTIO_NET_F_MRG_RXBUF) != 0;
}

static void spend(struct net_turn *turn, uint32_t looks)
{
	turn->looks -= turn->looks < looks ? turn->looks : looks;
}

/* --- Buffers --- */

/* 5.1.6.3.1: room for the header at least; without mergeable buffers for the smallest frame, too. */
static bool buffer_ok(const struct net *net)
{
	const struct vq_chain *chain = &net->chain;

	return chain->n_readable == 0 && chain->writable_len >= (mergeable(net) ? NET_HDR_LEN : NET_HDR_LEN + NET_ETH_HDR_LEN);
}

/* Describe the buffer @chain, all of it dev_writable, behind the others (N1). */
static void keep_buf(struct net_rx *rx, const struct vq_chain *chain)
{
	struct iovec *first = rx->iov + rx->n_iov, *iov = first;

	for (const struct vq_seg *seg = chain->seg; seg < chain->seg + chain->n; seg++)
		if (seg->len > 0)
			*iov++ = (struct iovec){ .iov_base = seg->hva, .iov_len = seg->len };
	rx->bufs[rx->n_bufs++] = (struct net_rx_buf){
		.head = chain->head,
		.n_iov = (uint16_t)(iov - first),
		.len = (uint32_t)chain->writable_len,
	};
	rx->n_iov = (uint16_t)(iov - rx->iov);
	rx->bufs_len += chain->writable_len;
}

/* Take one more buffer from the ring. */
static enum popped pop_buf(struct net *net, struct net_turn *turn)
{
	struct virtqueue *vq = net->vdev.vq[NET_QUEUE_RX];
	struct net_rx *rx = &net->rx;
	enum verdict v;

	if (rx->n_bufs == NET_QUEUE_SIZE || rx->n_iov + VQ_CHAIN_MAX > NET_RX_IOV - 1)
		return POPPED_FULL;
	if (turn->looks == 0)
		return POPPED_TURN;
	spend(turn, LOOKS_OF_BUF);
	v = virtqueue_pop(vq, &net->chain);
	if (v == VERDICT_QUEUE_BROKEN)
		return POPPED_BROKEN;
	if (v == VERDICT_OK && net->chain.n == 0)
		return POPPED_NONE;
	if (v != VERDICT_OK || !buffer_ok(net)) {
		net_stat_add(&net->stats.rx_fails, 1);
		log_guest(LOG_WARN, "%s: a receive buffer that can't hold a frame", net->vdev.name);
		virtqueue_push(vq, net->chain.head, 0);
		return POPPED_BAD;
	}
	keep_buf(rx, &net->chain);
	return POPPED_BUF;
}

/* Have room for any frame, if the guest has. Returns how that ended: POPPED_BUF: enough. */
static enum popped gather(struct net *net, struct net_turn *turn)
{
	struct net_rx *rx = &net->rx;
	enum popped popped = POPPED_BUF;

	while (popped == POPPED_BUF || popped == POPPED_BAD) {
		if (rx->bufs_len >= NET_FRAME_MAX || (rx->n_bufs > 0 && !mergeable(net)))
			return POPPED_BUF;
		popped = pop_buf(net, turn);
	}
	return popped;
}

/* Forget the first @n buffers. */
static void drop_bufs(struct net_rx *rx, uint16_t n)
{
	uint16_t n_iov = 0;

	for (uint16_t i = 0; i < n; i++) {
		n_iov = (uint16_t)(n_iov + rx->bufs[i].n_iov);
		rx->bufs_len -= rx->bufs[i].len;
	}
	rx->n_bufs = (uint16_t)(rx->n_bufs - n);
	rx->n_iov = (uint16_t)(rx->n_iov - n_iov);
	memmove(rx->bufs, rx->bufs + n, rx->n_bufs * sizeof(rx->bufs[0]));
	memmove(rx->iov, rx->iov + n_iov, rx->n_iov * sizeof(rx->iov[0]));
}

/* --- Frames --- */

static void drop_frame(struct net *net)
{
	net_stat_add(&net->stats.rx_fails, 1);
	net->rx.frame_len = 0;
}

/* Byte @off of the present frame, one of its header: the first buffer has them. */
static uint8_t *header_byte(const struct net_rx *rx, size_t off)
{
	const struct iovec *iov = rx->iov;

	for (; off >= iov->iov_len; iov++)
		off -= iov->iov_len;
	return (uint8_t *)iov->iov_base + off;
}

/* The present frame is whole in the buffers: complete its header and give them to the driver. */
static void publish(struct net *net)
{
	struct vq_done done[NET_QUEUE_SIZE];
	struct net_rx *rx = &net->rx;
	uint32_t left = rx->frame_len;
	uint8_t num[2];
	uint16_t n = 0;

	for (; left > 0; n++) {
		must(n < rx->n_bufs);
		done[n].head = rx->bufs[n].head;
		done[n].written = left < rx->bufs[n].len ? left : rx->bufs[n].len;
		left -= done[n].written;
	}
	/* 5.1.6.4.1: also 1, without mergeable buffers. A tap leaves anything there. */
	le16_put(num, n);
	*header_byte(rx, offsetof(struct virtio_net_hdr_wire, num_buffers)) = num[0];
	*header_byte(rx, offsetof(struct virtio_net_hdr_wire, num_buffers) + 1) = num[1];
	/* 5.1.6.4.1: no word on checksums for a driver that does not know of them. */
	if (!(net->vdev.acked & VIRTIO_NET_F_GUEST_CSUM))
		*header_byte(rx, offsetof(struct virtio_net_hdr_wire, flags)) = 0;
	virtqueue_push_many(net->vdev.vq[NET_QUEUE_RX], done, n);
	drop_bufs(rx, n);
	net_stat_add(&net->stats.rx_bytes_count, rx->frame_len);
	net_stat_add(&net->stats.rx_packets_count, 1);
	rx->frame_len = 0;
}

/*
 * Describe the first @n elements of rx->iov by as few as possible in @out: a driver that cuts its buffers from large
 * pieces of memory offers neighbours one behind the other. Returns their number.
 */
static int join_iov(const struct net_rx *rx, uint16_t n, struct iovec *out)
{
	int last = 0;

	out[0] = rx->iov[0];
	for (uint16_t i = 1; i < n; i++) {
		if ((uint8_t *)out[last].iov_base + out[last].iov_len == rx->iov[i].iov_base)
			out[last].iov_len += rx->iov[i].iov_len;
		else
			out[++last] = rx->iov[i];
	}
	return last + 1;
}

/*
 * Where a frame enters: into the buffers, of which there is one at least, and the spill. 0: frame_len
 * says whether there is one now; negative errno as recv().
 */
static int receive_frame(struct net *net)
{
	struct net_rx *rx = &net->rx;
	uint64_t room = mergeable(net) ? rx->bufs_len : rx->bufs[0].len;
	uint16_t n = mergeable(net) ? rx->n_iov : rx->bufs[0].n_iov;
	int n_joined = join_iov(rx, n, rx->joined);
	ssize_t len;

	if (room < NET_FRAME_MAX)
		rx->joined[n_joined++] = (struct iovec){ .iov_base = rx->spill, .iov_len = sizeof(rx->spill) };
	len = net->backend->ops->recv(net->backend, rx->joined, n_joined);
	if (len < 0)
		return (int)len;
	net_stat_add(&net->stats.rx_count, 1);
	rx->frame_len = (uint32_t)len;
	rx->charged = false;
	rx->spill_off = 0;
	rx->spill_len = rx->frame_len > room ? (uint32_t)(rx->frame_len - room) : 0;
	if (rx->frame_len < NET_HDR_LEN + NET_ETH_HDR_LEN || (rx->spill_len > 0 && !mergeable(net)))
		drop_frame(net);
	return 0;
}

/* recv() gave no frame: what now is missing. */
static enum net_wait receive_failed(struct net *net, int errnum)
{
	char text[96];

	if (errnum == EAGAIN)
		return WAIT_HOST;
	net_stat_add(&net->stats.rx_fails, 1);
	net_stat_add(&net->stats.tap_read_fails, 1);
	if (errnum == EMSGSIZE)
		return WAIT_TURN;
	if (errnum == EPIPE) {
		net_host_ended(net);
		return WAIT_NEVER;
	}
	/* Asking again at once might spin. The next frame's edge does it. */
	log_guest(LOG_ERROR, "%s: receiving from the %s failed: %s", net->vdev.name, net->backend->ops->name,
		  err_os_text(errnum, text, sizeof(text)));
	return WAIT_HOST;
}

/* Bring what the buffers could not hold into more of them. POPPED_BUF: it is all there. */
static enum popped place_spill(struct net *net, struct net_turn *turn)
{
	struct net_rx *rx = &net->rx;

	while (rx->spill_off < rx->spill_len) {
		uint32_t left = rx->spill_len - rx->spill_off;
		enum popped popped = pop_buf(net, turn);
		struct chain_cursor data;
		bool ok;

		if (popped == POPPED_BAD)
			continue;
		if (popped != POPPED_BUF)
			return popped;
		if (left > net->chain.writable_len)
			left = (uint32_t)net->chain.writable_len;
		chain_writer_init(&data, &net->chain);
		ok = chain_write(&data, rx->spill + rx->spill_off, left);
		must(ok);
		rx->spill_off += left;
	}
	return POPPED_BUF;
}

/* May the present frame pass? */
static bool charge(struct net *net)
{
	struct net_rx *rx = &net->rx;

	if (!rx->charged) {
		rx->charged = net_charge(net, &rx->limit, &rx->timer, rx->frame_len);
		if (!rx->charged)
			net_stat_add(&net->stats.rx_rate_limiter_throttled, 1);
	}
	return rx->charged;
}

/* What became of a step; STEP_ON: take the next one. */
enum step { STEP_ON, STEP_WAIT, STEP_BROKEN };

/* The ring is empty: wait for a kick, if it still is after kicks were asked for. */
static enum step need_buffers(struct net *net)
{
	struct virtqueue *vq = net->vdev.vq[NET_QUEUE_RX];

	net_stat_add(&net->stats.no_rx_avail_buffer, 1);
	if (virtqueue_notify_on(vq)) {
		virtqueue_notify_off(vq);
		return STEP_ON;
	}
	net->rx.wait = WAIT_GUEST;
	return STEP_WAIT;
}

/* No frame is present: get one. */
static enum step next_frame(struct net *net, struct net_turn *turn)
{
	struct net_rx *rx = &net->rx;
	enum popped popped;
	int rc;

	rx->wait = WAIT_NEVER;
	if (net->dead)
		return STEP_WAIT;
	popped = gather(net, turn);
	if (popped == POPPED_BROKEN)
		return STEP_BROKEN;
	if (popped == POPPED_NONE && rx->n_bufs == 0)
		return need_buffers(net);
	rx->wait = WAIT_TURN;
	if (popped == POPPED_TURN)
		return STEP_WAIT;
	spend(turn, LOOKS_OF_FRAME);
	rc = receive_frame(net);
	if (rc < 0)
		rx->wait = receive_failed(net, -rc);
	turn->bytes -= turn->bytes < rx->frame_len ? turn->bytes : rx->frame_len;
	return rx->wait == WAIT_TURN ? STEP_ON : STEP_WAIT;
}

/* A frame is present: give it to the driver. */
static enum step give_frame(struct net *net, struct net_turn *turn)
{
	struct virtqueue *vq = net->vdev.vq[NET_QUEUE_RX];

	if (!charge(net)) {
		net->rx.wait = WAIT_LIMIT;
		return STEP_WAIT;
	}
	switch (place_spill(net, turn)) {
	case POPPED_BUF:
		publish(net);
		return STEP_ON;
	case POPPED_NONE:
		/* All that the driver may offer is here, and it is too little: it will never be enough. */
		if (virtqueue_in_flight(vq) == virtqueue_size(vq))
			break;
		return need_buffers(net);
	case POPPED_TURN:
		net->rx.wait = WAIT_TURN;
		return STEP_WAIT;
	case POPPED_BROKEN:
		return STEP_BROKEN;
	case POPPED_FULL:
	case POPPED_BAD:
		break;
	}
	drop_frame(net);
	return STEP_ON;
}

enum verdict net_rx_run(struct net *net, struct net_turn *turn)
{
	struct net_rx *rx = &net->rx;
	enum step step = STEP_ON;

	virtqueue_notify_off(net->vdev.vq[NET_QUEUE_RX]);
	while (step == STEP_ON && turn->looks > 0 && turn->bytes > 0) {
		rx->wait = WAIT_TURN;
		step = rx->frame_len == 0 ? next_frame(net, turn) : give_frame(net, turn);
	}
	if (step == STEP_BROKEN)
		return VERDICT_QUEUE_BROKEN;
	if (rx->wait == WAIT_TURN)
		virtio_device_rekick(&net->vdev, NET_QUEUE_RX);
	return VERDICT_OK;
}
