/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The insides of a network interface, shared by net.c (life, configuration space, who runs when),
 * net_rx.c and net_tx.c (one direction each).
 *
 * Threads: the device's lock is held for everything below, except the counters and what is constant. The
 * event source and the timers are the I/O thread's.
 *
 * Each direction runs until something is missing, and then waits for exactly that. Nothing else starts
 * it, and what it waits for was asked for before it stopped, so no wake-up is lost (CVE-2020-16843) and
 * none is for nothing:
 *
 *     net_wait      what is missing                              what ends it
 *     -----------   ------------------------------------------   ---------------------------------------
 *     WAIT_START    a driver                                     ops->activate (then WAIT_TURN)
 *     WAIT_GUEST    rx: a buffer; tx: a frame. Kicks were        ops->notify
 *                   asked for, then the ring was still empty
 *     WAIT_HOST     rx: a frame. recv() said -EAGAIN             EPOLLIN, an edge: the next frame
 *                   tx: room. send() or flush() said -EAGAIN     EPOLLOUT, asked for after that
 *     WAIT_LIMIT    tokens. The timer is armed                   the rate limiter's timer
 *     WAIT_TURN     a turn: others come first. The queue         ops->notify
 *                   was kicked by ourselves
 *     WAIT_NEVER    rx only: the host's side has ended           reset (then WAIT_START)
 *
 * The event source is edge-triggered, so frames that nobody can take cost nothing after the first; that
 * one silences the source (N4), until rx runs again.
 *
 * Invariants:
 * (N1) rx: the first n_bufs entries of bufs are in flight in queue 0, in the order of the ring, and the
 *      first n_iov of iov describe them; nothing else is in flight there.
 * (N2) rx: a frame is present (frame_len > 0) from recv() until it is published or dropped; its bytes
 *      are in the buffers, and what they could not hold is in spill.
 * (N3) tx: has_frame: exactly head is in flight in queue 1, and iov describes its frame; else nothing is.
 * (N4) The source is silent only while rx waits for START, GUEST, LIMIT or NEVER; what ends these listens
 *      again.
 * (N5) A turn ends after a number of looks at the rings and of bytes, whatever guest and host do.
 */
#ifndef MAYFLY_VIRTIO_NET_IMPL_H
#define MAYFLY_VIRTIO_NET_IMPL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "virtio/device.h"
#include "virtio/net.h"
#include "virtio/net_backend.h"
#include "virtio/ratelimit.h"
#include "virtio/virtio_spec.h"
#include "virtio/virtqueue.h"
#include "vmm/base/cdefs.h"

#define NET_QUEUE_RX 0
#define NET_QUEUE_TX 1
#define NET_QUEUE_SIZE 256

#define NET_ETH_HDR_LEN 14

/* N5. */
#define NET_TURN_LOOKS 1024
#define NET_TURN_BYTES (1 * MIB)

/* readv(2) takes 1024 elements; the last is the spill. */
#define NET_RX_IOV 1024

/*
 * Bytes of a frame that are copied before they are looked at, and sent from the copy: our header and the
 * Ethernet header.
 */
#define NET_TX_HEAD (NET_HDR_LEN + NET_ETH_HDR_LEN)

enum net_wait { WAIT_START, WAIT_GUEST, WAIT_HOST, WAIT_LIMIT, WAIT_TURN, WAIT_NEVER };

/* What is left of a turn. */
struct net_turn {
	uint32_t looks; /* at a ring or at the backend */
	uint64_t bytes;
};

/* A receive buffer that was popped. */
struct net_rx_buf {
	uint16_t head;
	uint16_t n_iov; /* its elements of iov, none of them empty */
	uint32_t len;   /* bytes, header included */
};

struct net_rx {
	enum net_wait wait;
	struct ratelimit limit;
	struct ev_timer timer;
	/* N1, N2 */
	uint16_t n_bufs, n_iov;
	uint64_t bufs_len;         /* bytes of all bufs */
	uint32_t frame_len;        /* header included; 0: none */
	bool charged;              /* the limiter has let it pass */
	uint32_t spill_len, spill_off; /* bytes of it in spill, and how many of them are placed by now */
	struct net_rx_buf bufs[NET_QUEUE_SIZE];
	struct iovec iov[NET_RX_IOV];
	struct iovec joined[NET_RX_IOV]; /* scratch */
	uint8_t spill[NET_FRAME_MAX];
};

struct net_tx {
	enum net_wait wait;
	struct ratelimit limit;
	struct ev_timer timer;
	bool flush;                /* the backend has gathered frames */
	/* N3 */
	bool has_frame;
	bool charged;
	uint16_t head;
	uint32_t frame_len;        /* header included */
	int n_iov;
	struct iovec iov[VQ_CHAIN_MAX + 1];
	uint8_t copy[NET_TX_HEAD];
};

struct net {
	struct virtio_device vdev; /* first */
	struct net_stats stats;
	struct evloop *loop;       /* borrowed; may be NULL */
	struct ev_source source;   /* of the backend */
	bool has_mac;
	struct virtio_net_config_wire config;

	/* Under vdev.lock. */
	struct net_backend *backend; /* owned */
	bool silent;               /* N4 */
	bool dead;                 /* the host's side has ended */
	struct net_rx rx;
	struct net_tx tx;
	struct vq_chain chain;     /* scratch */
};

static inline struct net *net_of(struct virtio_device *dev)
{
	return container_of(dev, struct net, vdev);
}

static inline void net_stat_add(_Atomic uint64_t *counter, uint64_t n)
{
	(void)atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* Forget buffers and frames of the guest. */
void net_rx_reset(struct net *net);
void net_tx_reset(struct net *net);

/*
 * Move frames until something is missing; rx.wait or tx.wait says what. VERDICT_OK, or
 * VERDICT_QUEUE_BROKEN: the caller breaks the device. The driver is not yet told of what was pushed.
 */
enum verdict net_rx_run(struct net *net, struct net_turn *turn) MUST_USE;
enum verdict net_tx_run(struct net *net, struct net_turn *turn) MUST_USE;

/*
 * May a frame of @len bytes pass @limit? Arms @timer when frames must wait, this one (false) or the next.
 * I/O thread, which has the timers.
 */
bool net_charge(struct net *net, struct ratelimit *limit, struct ev_timer *timer, uint32_t len) MUST_USE;

/* The host's side has ended: say so once. */
void net_host_ended(struct net *net);

#endif
