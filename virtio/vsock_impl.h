/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The insides of the vsock device, shared by vsock.c (life, queues, turns), vsock_table.c (the streams
 * and how they are found), vsock_tx.c (guest to host), vsock_rx.c (host to guest) and vsock_uds.c (host
 * sockets).
 *
 * A stream is one connection: a struct vsock_conn (what the guest sees), a host socket, a buffer for what the
 * host does not take, a timer.
 *
 * Threads: the device's lock is held for everything below. Guest packets may be served in the vCPU
 * thread, but the event loop belongs to the I/O thread: whatever needs it (events, timers, close, a
 * connect to a path) is left to sync_all() of the I/O thread, which wake_io() has called.
 *
 * Why nothing spins. For each state, what a stream wants to hear (wanted_events()):
 *
 *     LINE                          EPOLLIN            read at once, always
 *     REQUESTED, OPENING            nothing            a timer ends them
 *     OPEN                          EPOLLIN, as an edge
 *     OPEN, CLOSING, end of file read or guest receives no more
 *                                   hang-up, as an edge
 *     any of them and DRAINING, bytes wait for the host    and EPOLLOUT, as an edge
 *     hang-up seen                  nothing: known for good
 *     DEAD                          is out of the set
 *
 * Edges: `readable` stays set until a read found the socket empty, so there is always an edge to come or somebody who goes on
 * (credit, receive buffers, others' turns: whatever ends the wait). Bytes wait for the host only when a write came short,
 * so its reading is an edge to come. Streams that flow need no epoll_ctl(2), and above all no I/O thread to call it.
 *
 * What is wanted is always in the set (sync_all()); what is not wanted any more leaves it when it is
 * reported once, because most of it is wanted again before that.
 * The listener hears EPOLLIN while the driver runs the device and accept(2) has descriptors to give.
 *
 * Invariants:
 * (V1) A stream in a keyed state (vsock_conn_is_keyed()) is in the hash table, under ports that no other has.
 * (V2) Slots are given back by the I/O thread only, when the host socket is closed, nothing is left to say and no list
 *      holds the stream.
 * (V3) A stream that has something for the guest is in the ready list; each turn of it is one packet or one read.
 * (V4) A turn ends after VSOCK_TURN_* whatever the guest and the host do.
 */
#ifndef MAYFLY_VIRTIO_VSOCK_IMPL_H
#define MAYFLY_VIRTIO_VSOCK_IMPL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtio/chain.h"
#include "virtio/device.h"
#include "virtio/virtqueue.h"
#include "virtio/vsock.h"
#include "virtio/vsock_conn.h"
#include "virtio/vsock_io.h"
#include "virtio/vsock_line.h"
#include "virtio/vsock_pkt.h"
#include "vmm/base/cdefs.h"
#include "vmm/evloop.h"

#define VSOCK_QUEUE_SIZE 256

/* Streams with a large buffer. With it all buffers together are at most 88 MiB, touched only while host programs don't read. */
#define VSOCK_MAX_LARGE 128
#define VSOCK_BUCKETS 1024

/* RSTs to ports that have no stream. When it is full the guest's packets wait until it takes some. */
#define VSOCK_MAX_RSTS 64

/* V4: looks at a ring or packets, and bytes; in the vCPU thread a kick of the guest waits for it, so less. */
#define VSOCK_TURN_PACKETS 256
#define VSOCK_TURN_BYTES (1024 * 1024)
#define VSOCK_VCPU_TURN_PACKETS 64
#define VSOCK_VCPU_TURN_BYTES (256 * 1024)

/* Receive buffers filled by one readv(2), and bytes: what a Unix socket holds and Linux gives credit for, in its buffers. */
#define VSOCK_READ_BUFFERS 72
#define VSOCK_READ_BYTES (256u * 1024)
#define VSOCK_READ_FIRST 4096u

/* Segments of one readv(2) or writev(2): a whole chain behind buffers of one. */
#define VSOCK_IOV_MAX (VQ_CHAIN_MAX + VSOCK_READ_BUFFERS)

struct vsock_stream {
	struct vsock_conn conn;
	struct vsock *vsock;            /* borrowed */
	int fd;                         /* owned host socket; -1: none */
	struct ev_source source;
	struct ev_timer timer;
	enum vsock_conn_state timed;    /* the state that the timer was set for */
	bool stall_timer;               /* OPEN: it waits whether tx_cnt stays at stall_tx_cnt */
	bool stall_asked;               /* it did, and the guest was asked for credit */
	uint32_t stall_tx_cnt;
	uint16_t open_tries;
	bool in_table, in_ready, in_sync;
	bool readable;                  /* the host has bytes for us, or its end of file */
	bool hung_up;                   /* EPOLLHUP or EPOLLERR came; the guest hears of it behind the last byte */
	bool shut_rd, shut_wr;          /* shutdown(2) was called */
	bool buf_touched;
	uint32_t read_guess;            /* how many bytes the next read may find */
	struct vsock_line line;
	struct vsock_stream *next_in_bucket, *next_ready, *next_sync;
};

struct vsock_fifo {
	struct vsock_stream *first, *last;
};

struct vsock_budget {
	uint32_t packets, bytes;
};

struct vsock {
	struct virtio_device vdev;      /* first */
	struct vsock_stats stats;
	uint64_t guest_cid;
	const struct vsock_io_ops *io;
	struct evloop *loop;            /* borrowed; NULL in tests */
	int listen_fd;                  /* owned; -1 in tests */
	int wake_fd;                    /* owned eventfd, never read; watched edge-triggered */
	int lazy_fd;                    /* owned timerfd, never read; watched edge-triggered */
	struct ev_source listener, waker, lazy;
	struct ev_timer accept_timer;   /* armed: accept(2) had no descriptors */
	char uds_path[VSOCK_UDS_PATH_MAX + 1];

	/* Under vdev.lock. */
	bool tx_waits;                  /* for room among rsts */
	bool rx_used;                   /* the driver got receive buffers back and was not told yet */
	bool lazy_armed;
	bool lazy_over;                 /* an interrupt came since lazy_fd was armed */
	uint32_t tx_used;               /* descriptors of transmit chains that the driver got back and was not told of yet */
	uint32_t next_host_port;
	struct vsock_fifo ready, sync;
	struct vsock_stream *free;      /* by next_sync */
	uint16_t n_touched;             /* slots that were ever used are [0, n_touched) */
	uint16_t n_used;
	uint16_t n_rsts;
	struct vsock_pkt rst[VSOCK_MAX_RSTS];
	struct vsock_stream *bucket[VSOCK_BUCKETS];
	struct vsock_stream *stream;    /* owned, VSOCK_MAX_CONNECTIONS */
	uint16_t n_large;               /* streams with a large buffer */
	uint8_t *buf;                   /* owned mapping, VSOCK_BUF_LARGE each; byte n of a stream is at n % buf_alloc */
	struct vq_chain chain;
	struct iovec iov[VSOCK_IOV_MAX];
};

static inline struct vsock *vsock_of(struct virtio_device *dev)
{
	return container_of(dev, struct vsock, vdev);
}

static inline void vsock_count(_Atomic uint64_t *counter, uint64_t n)
{
	(void)atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* --- vsock_table.c --- */

/* A stream in state FREE, of conn nothing is set, or NULL: all slots are taken. */
struct vsock_stream *vsock_stream_alloc(struct vsock *v) MUST_USE;

/* How large a buffer @s gets. */
uint32_t vsock_stream_buf_alloc(struct vsock_stream *s) MUST_USE;

/* Give it back (V2). I/O thread. */
void vsock_stream_free(struct vsock_stream *s);

/* The stream of these ports, or NULL. */
struct vsock_stream *vsock_table_find(const struct vsock *v, uint32_t guest_port, uint32_t host_port) MUST_USE;

/* Put @s into the table under its ports, and take it out. */
void vsock_table_insert(struct vsock_stream *s);
void vsock_table_remove(struct vsock_stream *s);

/* The next host port for a connection to @guest_port (11.1: from 2^30, below 2^31, over and over). */
uint32_t vsock_table_host_port(struct vsock *v, uint32_t guest_port) MUST_USE;

/* Append; first out. */
void vsock_ready_push(struct vsock_stream *s);
void vsock_sync_push(struct vsock_stream *s);
struct vsock_stream *vsock_ready_pop(struct vsock *v) MUST_USE;
struct vsock_stream *vsock_sync_pop(struct vsock *v) MUST_USE;

/* Bytes that wait for the host, as iovecs (0 to 2); and where the last @len bytes go that rx_cnt counts. */
size_t vsock_stream_backlog_iov(const struct vsock_stream *s, struct iovec iov[2]) MUST_USE;
size_t vsock_stream_room_iov(struct vsock_stream *s, uint32_t len, struct iovec iov[2]) MUST_USE;

/* --- vsock.c --- */

/*
 * After anything happened to @s: table, lists and socket follow its state. It stays valid until the I/O thread comes to
 * sync_all().
 */
void vsock_settle(struct vsock_stream *s);

/* The queue is inconsistent. */
void vsock_break(struct vsock *v);

/* What the event sources and timers do; they take the lock. For tests without a loop. */
void vsock_stream_ready(void *stream, uint32_t ready);
void vsock_stream_timer(void *stream);
void vsock_listener_ready(void *vsock, uint32_t ready);
void vsock_wake_ready(void *vsock, uint32_t ready);

/* --- vsock_tx.c --- */

/* Serve the guest's packets. True: there may be more. */
bool vsock_tx_run(struct vsock *v, struct vsock_budget *budget) MUST_USE;

/* --- vsock_rx.c --- */

/* Send to the guest what is ready. True: there is more, and room for it. */
bool vsock_rx_run(struct vsock *v, struct vsock_budget *budget) MUST_USE;

/* --- vsock_uds.c --- */

/* Accept host programs, a bounded number. False: accept(2) has no descriptors. */
bool vsock_uds_accept(struct vsock *v) MUST_USE;

/* The host program of @s, in state LINE, wrote something or hung up. */
void vsock_uds_line(struct vsock_stream *s);

/* Connect @s, in state OPENING. Its state tells what came of it; OPENING: try again soon. */
void vsock_uds_connect(struct vsock_stream *s);

/* The guest accepted: write "OK <port>\n". */
void vsock_uds_greet(struct vsock_stream *s);

/* Write what waits for the host, as far as it takes it. */
void vsock_uds_flush(struct vsock_stream *s);

/*
 * Give the @len bytes at @data, which rx_cnt counts already, to the host, or keep what it does not take.
 */
void vsock_uds_data(struct vsock_stream *s, struct chain_cursor *data, uint32_t len);

/* shutdown(2) for what the guest will not do any more. */
void vsock_uds_shutdown(struct vsock_stream *s);

/* Reading from the socket of @s failed with @errnum. */
void vsock_uds_read_failed(struct vsock_stream *s, int errnum);

#endif
