/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The insides of a disk, shared by blk.c (life, configuration space, PATCH), blk_turn.c (requests) and
 * blk_async.c (those that the Async engine has).
 *
 * Threads: the device's lock is held for everything below, except the counters and what is constant.
 *
 * At most one request is present at a time: popped and parsed, and either being done in slices, waiting
 * for the rate limiter or a free slot, or handed from the vCPU thread to the I/O thread. It is always the one that was
 * popped last, so a snapshot can put it back (next_avail - 1). With the engine Sync that is all. With Async a request that
 * may have to wait for the disk leaves this place for a slot, and the next one is popped.
 *
 * Invariants:
 * (B1) In flight in the virtqueue are the heads of the busy slots, and req.head when has_req.
 * (B2) READ and WRITE requests that are present or in a slot lie inside the present capacity.
 * (B3) A turn ends after BLK_TURN_REQUESTS looks at the ring, BLK_TURN_BYTES bytes, BLK_TURN_NS, one
 *      flush or one range of a discard, whatever the guest does. With Async a turn submits pieces of
 *      about that many bytes, or 128 KiB of each slot.
 */
#ifndef MAYFLY_VIRTIO_BLK_IMPL_H
#define MAYFLY_VIRTIO_BLK_IMPL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "virtio/blk.h"
#include "virtio/blk_io.h"
#include "virtio/blk_req.h"
#include "virtio/device.h"
#include "virtio/ratelimit.h"
#include "virtio/virtio_spec.h"
#include "virtio/virtqueue.h"
#include "vmm/base/cdefs.h"

#define BLK_QUEUE 0
#define BLK_QUEUE_SIZE 256

/*
 * Data descriptors of a request: all that a chain may have except header and status. With 4 KiB pages
 * that is 1 MiB in one request (ANCHORS.md).
 */
#define BLK_SEG_MAX (VQ_CHAIN_MAX - 2)

/* B3. The time is looked at between requests only; a slow disk can exceed it by one system call. */
#define BLK_TURN_REQUESTS 64
#define BLK_TURN_BYTES (2 * MIB)
#define BLK_TURN_NS UINT64_C(2000000)

/*
 * The longest read that the vCPU thread does itself: Linux's default read-ahead. Above, a thread switch
 * does not matter.
 */
#define BLK_VCPU_READ_MAX (128 * KIB)

/*
 * Sectors in a range of DISCARD and WRITE_ZEROES, which is done in one turn: 64 MiB in a file (tmpfs needs 25 ms to
 * allocate and zero them); a block device may have to write every byte of zeros.
 */
#define BLK_RANGE_SECTORS_FILE UINT32_C(0x20000)
#define BLK_RANGE_SECTORS_DEVICE UINT32_C(0x8000)

struct blk_async;

struct blk {
	struct virtio_device vdev; /* first */
	struct blk_stats stats;
	struct evloop *loop;       /* borrowed; may be NULL */
	const struct blk_io_ops *io;
	struct ev_timer timer;     /* of the rate limiter; armed in the I/O thread only */
	struct blk_async *async;   /* owned; NULL: engine Sync */
	struct blk_topology topology; /* constant, as the guest was told; so is the next */
	uint32_t max_range_sectors;

	/* Under vdev.lock. */
	struct blk_backing backing; /* owned */
	struct ratelimit limit;
	bool has_req;              /* B1 */
	bool charged;              /* the rate limiter has let req pass */
	bool begun;                /* xfer describes req, or ranges before next_range are done */
	struct blk_req req;
	struct blk_xfer xfer;      /* of READ and WRITE */
	struct blk_ranges ranges;  /* of DISCARD and WRITE_ZEROES */
	uint32_t next_range;
	struct vq_chain chain;     /* of req */
};

static inline struct blk *blk_of(struct virtio_device *dev)
{
	return container_of(dev, struct blk, vdev);
}

static inline void blk_stat_add(_Atomic uint64_t *counter, uint64_t n)
{
	(void)atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline struct blk_limits blk_limits_of(const struct blk *blk)
{
	return (struct blk_limits){
		.n_sectors = blk->backing.size >> VIRTIO_BLK_SECTOR_SHIFT,
		.read_only = blk->backing.read_only,
		.discard = (blk->vdev.features & VIRTIO_BLK_F_DISCARD) != 0 && blk->backing.can_discard,
		.max_range_sectors = blk->max_range_sectors,
	};
}

/* The disk's files are handed to another blk: what was @backing's is nobody's now. */
static inline struct blk_backing blk_backing_take(struct blk_backing *backing)
{
	struct blk_backing taken = *backing;

	backing->fd = -1;
	backing->cow = NULL;
	return taken;
}

/* --- blk_turn.c --- */

/*
 * Finish @req, the present request or a slot's, with @status. @data: bytes of the dev_writable part in front of the
 * status byte that were really written.
 */
void blk_complete_status(struct blk *blk, const struct blk_req *req, uint8_t status, uint64_t data);

/* Finish a READ or WRITE, of which @x was done (@ok: all of it), or a FLUSH that ended with @rc (0 or negative errno). */
void blk_complete_transfer(struct blk *blk, const struct blk_req *req, const struct blk_xfer *x, bool ok);
void blk_complete_flush(struct blk *blk, const struct blk_req *req, int rc);

/* One turn of the I/O thread. */
void blk_process(struct blk *blk);

/* ops->notify and ops->try_notify (virtio/device.h). */
void blk_notify(struct virtio_device *dev, uint16_t q);
bool blk_try_notify(struct virtio_device *dev, uint16_t q);

/* The rate limiter's timer; @ctx: the struct blk. Takes the lock. I/O thread. */
void blk_timer_fired(void *ctx);

/* --- blk_async.c --- */

enum blk_async_taken {
	BLK_ASYNC_NO,    /* not for the ring: do it here and now */
	BLK_ASYNC_TAKEN, /* it is in a slot; nothing is present any more */
	BLK_ASYNC_FULL,  /* all slots are busy; the disk's turn comes when one gets free */
};

/* Join @ring with the files of blk->backing. 0, or negative errno with @e. I/O thread; no lock, nothing runs yet. */
int blk_async_create(struct blk *blk, struct blk_ring *ring, struct err *e) MUST_USE;

/* Leave the ring. Nothing is in flight. blk->async NULL allowed. */
void blk_async_destroy(struct blk *blk);

/* Take the present READ, WRITE or FLUSH, begun or not. */
enum blk_async_taken blk_async_take(struct blk *blk) MUST_USE;

/* Submit what was taken, and complete what is done. Used elements are not signalled. */
void blk_async_work(struct blk *blk);

/*
 * Wait until no slot is busy. The device's lock is released while waiting. @reset: for ops->reset, so the device is not
 * active; results are dropped and it stays so.
 */
void blk_async_drain(struct blk *blk, bool reset);

/* Use the files of @backing from now on. Nothing is in flight. 0 or negative errno: the old ones. */
int blk_async_set_files(struct blk *blk, const struct blk_backing *backing) MUST_USE;

/* Busy slots. */
uint32_t blk_async_in_flight(const struct blk *blk);

#endif
