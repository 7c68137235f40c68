/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the Async engine's parts: blk_async.c (requests of one drive), blk_ring.c (who completes what,
 * in which thread), blk_uring.c (io_uring itself, the only file that includes liburing).
 *
 * Threads: any thread that holds the drive's device lock, except where said otherwise. The ring has a lock of its own
 * inside, taken after a device's lock and held only for work in memory and system calls that do not sleep;
 * no device lock is taken while it is held.
 *
 * Invariants:
 * (R1) At most BLK_RING_DEPTH operations of a drive are queued or in flight, so neither queue of the
 *      io_uring can overflow and nothing has to be allocated.
 * (R2) A result belongs to the drive in its tag and waits in the ring until that drive, under its own device lock,
 *      collects it: whoever empties the completion queue needs no other device's lock.
 * (R3) When a result waits and nobody is about to collect it, the ring's eventfd has been written.
 */
#ifndef MAYFLY_VIRTIO_BLK_RING_IMPL_H
#define MAYFLY_VIRTIO_BLK_RING_IMPL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtio/blk_ring.h"
#include "vmm/base/cdefs.h"

/* Operations of one drive that are in flight at most (CONTRACT.md section 9). */
#define BLK_RING_DEPTH 128

/* Registered files of a drive: [0] the raw file or the delta, [1] the base of a copy-on-write disk. */
#define BLK_RING_FILES 2

enum blk_ring_kind {
	BLK_RING_READ,
	BLK_RING_WRITE,
	BLK_RING_FLUSH, /* fdatasync */
};

/* One operation. The iovecs and what they name stay valid until its result is collected. */
struct blk_ring_op {
	enum blk_ring_kind kind;
	uint32_t file;           /* of the ring: drive * BLK_RING_FILES + which */
	const struct iovec *iov; /* READ and WRITE */
	uint32_t n_iov;
	uint64_t offset;
	uint64_t tag;            /* blk_ring_tag() */
};

/* What became of it: bytes or negative errno. */
struct blk_ring_result {
	uint64_t tag;
	int32_t res;
};

/* A tag names a drive, one of its slots, and the generation of that slot. */
static inline uint64_t blk_ring_tag(uint16_t drive, uint16_t slot, uint32_t generation)
{
	return (uint64_t)generation << 32 | (uint64_t)drive << 16 | slot;
}

/*
 * The kernel's side, so that tests can be the kernel. Called with the ring's lock held, except @enable, @destroy and
 * @wait. Descriptors are borrowed.
 */
struct blk_ring_backend {
	void (*queue)(void *ctx, const struct blk_ring_op *op);        /* there is room (R1) */
	int (*submit)(void *ctx);                                      /* 0 or negative errno: some wait for the next call */
	bool (*next)(void *ctx, struct blk_ring_result *out);          /* take one result */
	void (*notify)(void *ctx, bool on);                            /* write the eventfd for new results? */
	int (*set_file)(void *ctx, uint32_t file, int fd);             /* -1: none. 0 or negative errno */
	void (*wait)(void *ctx, int timeout_ms);                       /* until there is a result, or so */
	int (*enable)(void *ctx, struct err *e);
	void (*destroy)(void *ctx);
};

/*
 * Make the io_uring: @entries operations, results told to @event_fd (borrowed), @n_files registered files. 0 and
 * *@out (owned: ->destroy), or negative errno with @e. I/O thread.
 */
int blk_uring_create(uint32_t entries, uint32_t n_files, int event_fd, void **out, struct err *e) MUST_USE;

extern const struct blk_ring_backend blk_uring_backend;

/* As blk_ring_create(), over another kernel; @ctx and @event_fd are taken, also on failure. */
int blk_ring_create_on(const struct blk_ring_backend *backend, void *ctx, int event_fd, struct evloop *loop,
		       uint32_t n_drives, struct blk_ring **out, struct err *e) MUST_USE;

/*
 * Give a drive a place. @completed is called in the I/O thread, without locks, when results wait for it. 0 and
 * *@drive, or -ENOSPC. Before blk_ring_enable(). I/O thread.
 */
int blk_ring_attach(struct blk_ring *ring, void (*completed)(void *ctx), void *ctx, uint16_t *drive) MUST_USE;

/* Take it away. Nothing of it is in flight. I/O thread. */
void blk_ring_detach(struct blk_ring *ring, uint16_t drive);

/* The drive's files (borrowed: the kernel has its own reference; -1: none). Nothing of it is in flight. 0 or negative errno. */
int blk_ring_set_files(struct blk_ring *ring, uint16_t drive, const int fd[BLK_RING_FILES]) MUST_USE;

/* Put an operation into the submission queue; the kernel sees it with the next submit. */
void blk_ring_queue(struct blk_ring *ring, const struct blk_ring_op *op);

/* One system call for all that is queued. Follow it with blk_ring_collect(). */
void blk_ring_submit(struct blk_ring *ring);

/* Take up to @max results of @drive. Those of other drives are left to the I/O thread. */
uint32_t blk_ring_collect(struct blk_ring *ring, uint16_t drive, struct blk_ring_result *out, uint32_t max) MUST_USE;

/* Have @completed called for drives with results, in the I/O thread. */
void blk_ring_poke(struct blk_ring *ring);

/* Wait a moment for results. No lock is held. */
void blk_ring_wait(struct blk_ring *ring);

#endif
