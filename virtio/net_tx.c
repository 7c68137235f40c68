/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest to host. Section numbers are virtio 1.2; invariants stand in net_impl.h.
 *
 * What is looked at was copied before, and the copy is what is sent: the guest can't have one header
 * checked and another sent. The rest of a frame goes from guest RAM to the kernel unread.
 */
#include "virtio/net_impl.h"

#include <errno.h>
#include <string.h>

#include "virtio/chain.h"
#include "virtio/net_hdr.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"

/* What a look at the ring costs a turn (N5). */
#define LOOKS_OF_FRAME 4

enum taken {
	TAKEN_NONE,   /* the ring is empty */
	TAKEN_FRAME,  /* has_frame */
	TAKEN_BAD,    /* completed at once */
	TAKEN_BROKEN,
};

void net_tx_reset(struct net *net)
{
	net->tx.has_frame = false;
	net->tx.charged = false;
	net->tx.wait = WAIT_START;
}

static void complete(struct net *net)
{
	net->tx.has_frame = false;
	virtqueue_push(net->vdev.vq[NET_QUEUE_TX], net->tx.head, 0);
}

/* Read the present chain: header and Ethernet header into tx.copy, the whole frame into tx.iov. */
static enum verdict parse(struct net *net)
{
	const struct vq_chain *chain = &net->chain;
	struct net_tx *tx = &net->tx;
	struct virtio_net_hdr_wire hdr, checked;
	struct chain_cursor data;

	/* 5.1.6.2.1: nothing of a frame is for the device to write. */
	if (chain->n != chain->n_readable || chain->readable_len > NET_FRAME_MAX)
		return VERDICT_REQ_ERROR;
	chain_reader_init(&data, chain);
	if (!chain_read(&data, tx->copy, sizeof(tx->copy)))
		return VERDICT_REQ_ERROR;
	tx->frame_len = (uint32_t)chain->readable_len;
	memcpy(&hdr, tx->copy, sizeof(hdr));
	if (net_hdr_check(&hdr, tx->frame_len - NET_HDR_LEN, net->vdev.acked, &checked) != VERDICT_OK)
		return VERDICT_REQ_ERROR;
	memcpy(tx->copy, &checked, sizeof(checked));
	tx->iov[0] = (struct iovec){ .iov_base = tx->copy, .iov_len = sizeof(tx->copy) };
	tx->n_iov = 1 + (int)chain_to_iov(&data, data.left, tx->iov + 1);
	return VERDICT_OK;
}

static enum taken take_frame(struct net *net)
{
	enum verdict v = virtqueue_pop(net->vdev.vq[NET_QUEUE_TX], &net->chain);

	if (v == VERDICT_QUEUE_BROKEN)
		return TAKEN_BROKEN;
	if (v == VERDICT_OK && net->chain.n == 0)
		return TAKEN_NONE;
	net->tx.head = net->chain.head;
	if (v == VERDICT_OK)
		v = parse(net);
	if (v != VERDICT_OK) {
		net_stat_add(&net->stats.tx_malformed_frames, 1);
		log_guest(LOG_WARN, "%s: malformed frame from the guest", net->vdev.name);
		complete(net);
		return TAKEN_BAD;
	}
	net->tx.has_frame = true;
	net->tx.charged = false;
	return TAKEN_FRAME;
}

/* CONTRACT.md section 10: counted, and sent all the same. */
static void look_at_source(struct net *net)
{
	const uint8_t *source = net->tx.copy + NET_HDR_LEN + NET_MAC_BYTES;

	if (net->has_mac && memcmp(source, net->config.mac, NET_MAC_BYTES) != 0)
		net_stat_add(&net->stats.tx_spoofed_mac_count, 1);
}

static void send_failed(struct net *net, int errnum)
{
	char text[96];

	net_stat_add(&net->stats.tx_fails, 1);
	net_stat_add(&net->stats.tap_write_fails, 1);
	if (errnum == EPIPE)
		net_host_ended(net);
	else
		log_guest(LOG_ERROR, "%s: sending to the %s failed: %s", net->vdev.name, net->backend->ops->name,
			  err_os_text(errnum, text, sizeof(text)));
}

/* Where a frame leaves the guest. False: no room now. */
static bool send_frame(struct net *net)
{
	struct net_tx *tx = &net->tx;
	int rc = net->dead ? -EPIPE : net->backend->ops->send(net->backend, tx->iov, tx->n_iov);

	if (rc == -EAGAIN)
		return false;
	net_stat_add(&net->stats.tx_count, 1);
	if (rc < 0) {
		send_failed(net, -rc);
	} else {
		tx->flush = net->backend->ops->flush != NULL;
		look_at_source(net);
		net_stat_add(&net->stats.tx_bytes_count, tx->frame_len);
		net_stat_add(&net->stats.tx_packets_count, 1);
	}
	complete(net);
	return true;
}

/* Pass on what the backend gathered. False: no room now. */
static bool flush(struct net *net)
{
	int rc;

	if (!net->tx.flush || net->dead)
		return true;
	rc = net->backend->ops->flush(net->backend);
	if (rc == -EAGAIN)
		return false;
	net->tx.flush = false;
	if (rc < 0)
		send_failed(net, -rc);
	return true;
}

/* May the present frame go? */
static bool charge(struct net *net)
{
	struct net_tx *tx = &net->tx;

	if (!tx->charged) {
		tx->charged = net_charge(net, &tx->limit, &tx->timer, tx->frame_len);
		if (!tx->charged)
			net_stat_add(&net->stats.tx_rate_limiter_throttled, 1);
	}
	return tx->charged;
}

/* Frames until something is missing: which is returned. */
static enum net_wait send_frames(struct net *net, struct net_turn *turn, bool *broken)
{
	struct virtqueue *vq = net->vdev.vq[NET_QUEUE_TX];
	struct net_tx *tx = &net->tx;
	bool looked = false;

	virtqueue_notify_off(vq);
	while (turn->looks > 0 && turn->bytes > 0) {
		enum taken taken = tx->has_frame ? TAKEN_FRAME : take_frame(net);

		turn->looks -= turn->looks < LOOKS_OF_FRAME ? turn->looks : LOOKS_OF_FRAME;
		switch (taken) {
		case TAKEN_BROKEN:
			*broken = true;
			return WAIT_START;
		case TAKEN_NONE:
			if (!looked)
				net_stat_add(&net->stats.no_tx_avail_buffer, 1);
			if (!virtqueue_notify_on(vq))
				return WAIT_GUEST;
			virtqueue_notify_off(vq);
			break;
		case TAKEN_BAD:
			break;
		case TAKEN_FRAME:
			if (!charge(net))
				return WAIT_LIMIT;
			if (!send_frame(net))
				return WAIT_HOST;
			turn->bytes -= turn->bytes < tx->frame_len ? turn->bytes : tx->frame_len;
			break;
		}
		looked = true;
	}
	/* Two questions, so that an empty ring is not given a turn of its own. */
	return tx->has_frame || virtqueue_notify_on(vq) ? WAIT_TURN : WAIT_GUEST;
}

enum verdict net_tx_run(struct net *net, struct net_turn *turn)
{
	struct net_tx *tx = &net->tx;
	bool broken = false;

	tx->wait = send_frames(net, turn, &broken);
	if (broken)
		return VERDICT_QUEUE_BROKEN;
	if (!flush(net))
		tx->wait = WAIT_HOST;
	if (tx->wait == WAIT_TURN)
		virtio_device_rekick(&net->vdev, NET_QUEUE_TX);
	return VERDICT_OK;
}
