/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A drive's share of the Async engine: requests that may have to wait for the disk, each in a slot.
 *
 * What never waits is not for the ring: a disk on tmpfs is served like the engine Sync does it, and so is a
 * read that the page cache holds when it comes alone (in the vCPU thread, blk_try_notify()).
 *
 * Of a copy-on-write disk the ring gets what lies in one file and needs no new place there; the rest is
 * done at once, under the device's lock, so that no two writes can make room for the same block.
 *
 * A slot is done in pieces, one after the other, because a piece that the page cache holds is copied inside
 * the system call that submits it: together the pieces of all slots are about one turn (B3).
 *
 * Invariants:
 * (A1) A slot is busy from blk_async_take() until its request is completed or dropped, and has exactly
 *      one operation queued or in flight.
 * (A2) A slot's generation changes when it gets free, so a result for an earlier request of the slot
 *      is known for what it is and dropped.
 * (A3) After each submit results are collected before the device's lock is released.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/blk_impl.h"
#include "virtio/blk_ring_impl.h"
#include "virtio/cow.h"

/* Times that the kernel may say EINTR or EAGAIN for one piece. */
#define TRIES_MAX 16

/* Submit-and-collect rounds in one call: more than one only when pieces are done at once. */
#define ROUNDS_MAX 8

/* The smallest piece, so that many requests at once are not cut into crumbs. */
#define PIECE_MIN (128 * KIB)

/*
 * What of a request a PATCH waits for behind its present piece. No driver makes requests that large; one that is ends
 * with an error instead of holding up the I/O thread.
 */
#define DRAIN_BYTES BLK_TURN_BYTES

struct slot {
	bool busy;
	uint8_t tries;
	uint32_t generation;
	size_t cut_n, cut_whole; /* of the piece in flight: blk_xfer_cut() */
	struct blk_req req;
	struct blk_xfer xfer;    /* READ and WRITE */
};

struct blk_async {
	struct blk_ring *ring; /* borrowed */
	uint16_t drive;        /* our number there */
	bool full;             /* the present request waits for a slot */
	bool draining;         /* blk_async_drain() runs */
	uint32_t n_queued;     /* operations that the kernel has not seen, */
	uint64_t bytes_queued; /* and their bytes */
	uint32_t n_free;
	uint16_t free[BLK_RING_DEPTH]; /* the last n_free.. are numbers of free slots */
	struct blk_ring_result results[BLK_RING_DEPTH];
	struct slot slot[BLK_RING_DEPTH]; /* large; memory only where they are used */
};

/* --- Slots --- */

static void slot_release(struct blk_async *a, struct slot *s)
{
	s->busy = false;
	s->generation++;
	a->free[a->n_free++] = (uint16_t)(s - a->slot);
}

/* The registered file that the rest of @x lies in as a whole, and where. False: there is none. */
static bool place_of(const struct blk *blk, const struct blk_xfer *x, uint32_t *file, uint64_t *offset)
{
	struct cow_extent extent;

	*file = (uint32_t)blk->async->drive * BLK_RING_FILES;
	*offset = x->offset;
	if (!blk->backing.cow)
		return true;
	cow_find(blk->backing.cow, x->offset, x->left, &extent);
	if (extent.len < x->left || (x->is_write && extent.where != COW_IN_DELTA))
		return false;
	if (extent.where == COW_IN_BASE)
		*file += 1;
	*offset = extent.offset;
	return true;
}

/* Bytes of the next piece of a slot: its share of a turn. */
static uint64_t piece_max(const struct blk_async *a)
{
	uint64_t share = BLK_TURN_BYTES / (BLK_RING_DEPTH - a->n_free) & ~UINT64_C(4095);

	return share < PIECE_MIN ? PIECE_MIN : share;
}

/* Queue the next piece of @s (A1). False: it is not for the ring any more, a discard came between. */
static bool slot_queue(struct blk *blk, struct slot *s)
{
	struct blk_async *a = blk->async;
	struct blk_xfer *x = &s->xfer;
	struct blk_ring_op op = {
		.kind = BLK_RING_FLUSH,
		.file = (uint32_t)a->drive * BLK_RING_FILES,
		.tag = blk_ring_tag(a->drive, (uint16_t)(s - a->slot), s->generation),
	};
	uint64_t piece = 0;

	if (s->req.op != BLK_OP_FLUSH) {
		if (!place_of(blk, x, &op.file, &op.offset))
			return false;
		op.kind = x->is_write ? BLK_RING_WRITE : BLK_RING_READ;
		piece = x->left < piece_max(a) ? x->left : piece_max(a);
		s->cut_n = blk_xfer_cut(x, piece, &s->cut_whole);
		op.iov = &x->iov[x->first];
		op.n_iov = (uint32_t)s->cut_n;
	}
	blk_ring_queue(a->ring, &op);
	a->n_queued++;
	a->bytes_queued += piece;
	return true;
}

/*
 * The request of @s is over, with @error; a transfer that met the end of the file is not @ok without one. A device
 * that is being reset has no ring to complete it on.
 */
static void slot_finish(struct blk *blk, struct slot *s, int error, bool ok)
{
	if (blk->vdev.active && s->req.op == BLK_OP_FLUSH)
		blk_complete_flush(blk, &s->req, -error);
	else if (blk->vdev.active) {
		s->xfer.error = error;
		blk_complete_transfer(blk, &s->req, &s->xfer, ok);
	}
	slot_release(blk->async, s);
}

/* Go on with @s, which has something left. What the ring can't do any more is short (blk_async_take()). */
static void slot_go_on(struct blk *blk, struct slot *s)
{
	enum blk_io_result r;

	if (slot_queue(blk, s))
		return;
	r = cow_run(blk->io, blk->backing.cow, &s->xfer, s->xfer.left, 0);
	slot_finish(blk, s, s->xfer.error, r == BLK_IO_DONE);
}

/* What the kernel says of the operation of @s: go on, or finish. */
static void slot_result(struct blk *blk, struct slot *s, int32_t res)
{
	struct blk_xfer *x = &s->xfer;
	bool again = (res == -EINTR || res == -EAGAIN) && s->tries++ < TRIES_MAX;

	if (s->req.op != BLK_OP_FLUSH)
		blk_xfer_uncut(x, s->cut_n, s->cut_whole);
	else if (res < 0 && res != -EINTR && res != -EAGAIN && blk->backing.cow)
		cow_flush_failed(blk->backing.cow, res); /* also when nobody hears of it any more */
	if (!blk->vdev.active) {
		slot_finish(blk, s, 0, false);
		return;
	}
	if (again) {
		slot_go_on(blk, s);
		return;
	}
	if (s->req.op == BLK_OP_FLUSH || res <= 0) {
		/* 0 bytes: the file ends before the disk does. */
		slot_finish(blk, s, res < 0 ? -res : 0, false);
		return;
	}
	s->tries = 0;
	blk_xfer_advance(x, (uint64_t)res);
	if (x->left == 0)
		slot_finish(blk, s, 0, true);
	else if (blk->async->draining && x->left > DRAIN_BYTES)
		slot_finish(blk, s, ESTALE, false);
	else
		slot_go_on(blk, s);
}

/* Take what the ring has for us. */
static void collect(struct blk *blk)
{
	struct blk_async *a = blk->async;
	uint32_t n = blk_ring_collect(a->ring, a->drive, a->results, ARRAY_SIZE(a->results));

	for (uint32_t i = 0; i < n; i++) {
		uint64_t tag = a->results[i].tag;
		uint32_t number = (uint32_t)tag & UINT16_MAX;
		struct slot *s;

		must(number < BLK_RING_DEPTH);
		s = &a->slot[number];
		if (s->busy && tag == blk_ring_tag(a->drive, (uint16_t)number, s->generation)) /* A2 */
			slot_result(blk, s, a->results[i].res);
	}
}

/* Show the kernel what is queued. Returns its bytes. */
static uint64_t submit(struct blk_async *a)
{
	uint64_t bytes = a->bytes_queued;

	a->n_queued = 0;
	a->bytes_queued = 0;
	blk_ring_submit(a->ring);
	return bytes;
}

/* Can the present request, which found no slot, have one now? */
static bool slot_for_present(const struct blk *blk)
{
	const struct blk_async *a = blk->async;

	return a->full && a->n_free > 0 && blk->has_req && blk->vdev.active;
}

void blk_async_work(struct blk *blk)
{
	struct blk_async *a = blk->async;
	uint64_t bytes = 0;

	for (int round = 0; round < ROUNDS_MAX && a->n_queued > 0 && bytes < BLK_TURN_BYTES; round++) {
		bytes += submit(a);
		collect(blk);
	}
	/* The rest in another turn of the I/O thread; so is the request that found no slot, when one got free here. */
	if (a->n_queued > 0 || slot_for_present(blk))
		virtio_device_rekick(&blk->vdev, BLK_QUEUE);
}

/* Results are there. I/O thread, no lock. */
static void completed(void *ctx)
{
	struct blk *blk = ctx;

	virtio_device_lock(&blk->vdev);
	collect(blk);
	if (slot_for_present(blk)) {
		blk_process(blk); /* ends with the two steps below */
	} else {
		blk_async_work(blk);
		virtio_device_signal_used(&blk->vdev, BLK_QUEUE);
	}
	virtio_device_unlock(&blk->vdev);
}

/* --- Requests --- */

/* @from without what is done, into @to: only the elements in use are copied. */
static void xfer_copy(struct blk_xfer *to, const struct blk_xfer *from)
{
	to->is_write = from->is_write;
	to->offset = from->offset;
	to->left = from->left;
	to->done = from->done;
	to->error = 0;
	to->first = 0;
	to->n = from->n - from->first;
	memcpy(to->iov, &from->iov[from->first], to->n * sizeof(to->iov[0]));
}

/* Is the present request for the ring? */
static bool wanted(const struct blk *blk)
{
	const struct cow *cow = blk->backing.cow;
	const struct blk_xfer *x = &blk->xfer;
	uint64_t offset;
	uint32_t file;

	switch (blk->req.op) {
	case BLK_OP_READ:
	case BLK_OP_WRITE:
		/* A copy-on-write disk's is one piece, so that its rest is short when it has to be done at once. */
		return x->left > 0 && (!cow || x->left <= BLK_TURN_BYTES) && place_of(blk, x, &file, &offset);
	case BLK_OP_FLUSH:
		return !cow || cow_flush_is_plain(cow);
	case BLK_OP_GET_ID:
	case BLK_OP_DISCARD:
	case BLK_OP_WRITE_ZEROES:
	case BLK_OP_UNSUPPORTED:
	case BLK_OP_REFUSED:
		break;
	}
	return false;
}

enum blk_async_taken blk_async_take(struct blk *blk)
{
	struct blk_async *a = blk->async;
	bool waited = a->full;
	struct slot *s;
	bool queued;

	a->full = false;
	/* tmpfs: nothing to wait for, and io_uring would hand it to a thread. */
	if (blk->backing.nowait == BLK_NOWAIT_MEMORY || !wanted(blk))
		return BLK_ASYNC_NO;
	if (a->n_free == 0) {
		if (!waited)
			blk_stat_add(&blk->stats.io_engine_throttled_events, 1);
		a->full = true;
		return BLK_ASYNC_FULL;
	}
	s = &a->slot[a->free[--a->n_free]];
	s->busy = true;
	s->tries = 0;
	s->req = blk->req;
	if (s->req.op != BLK_OP_FLUSH)
		xfer_copy(&s->xfer, &blk->xfer);
	blk->has_req = false;
	queued = slot_queue(blk, s);
	must(queued);
	return BLK_ASYNC_TAKEN;
}

uint32_t blk_async_in_flight(const struct blk *blk)
{
	return blk->async ? BLK_RING_DEPTH - blk->async->n_free : 0;
}

void blk_async_drain(struct blk *blk, bool reset)
{
	struct blk_async *a = blk->async;

	if (!a)
		return;
	a->draining = true;
	while (blk_async_in_flight(blk) > 0) {
		(void)submit(a);
		collect(blk);
		if (blk_async_in_flight(blk) == 0 || a->n_queued > 0)
			continue;
		virtio_device_unlock(&blk->vdev);
		blk_ring_wait(a->ring);
		virtio_device_lock(&blk->vdev);
		/*
		 * Another vCPU may have used the device while the lock was free: reset it too, or even started it
		 * again. Then this reset comes after that.
		 */
		if (reset)
			blk->vdev.active = false;
	}
	a->draining = false;
	if (reset)
		a->full = false;
	else if (slot_for_present(blk))
		virtio_device_rekick(&blk->vdev, BLK_QUEUE);
}

/* --- Life --- */

static int set_files(struct blk_async *a, const struct blk_backing *b)
{
	int fd[BLK_RING_FILES] = { b->fd, -1 };

	if (b->cow) {
		fd[0] = cow_delta_fd(b->cow);
		fd[1] = cow_base_fd(b->cow);
	}
	return blk_ring_set_files(a->ring, a->drive, fd);
}

int blk_async_set_files(struct blk *blk, const struct blk_backing *backing)
{
	int rc = set_files(blk->async, backing);

	if (rc < 0 && set_files(blk->async, &blk->backing) < 0)
		return rc; /* requests fail with EBADF until the next PATCH */
	return rc;
}

int blk_async_create(struct blk *blk, struct blk_ring *ring, struct err *e)
{
	struct blk_async *a = calloc(1, sizeof(*a));
	int rc;

	if (!a)
		return err_sys(e, -ENOMEM, "%s: allocate the Async engine", blk->vdev.name);
	a->ring = ring;
	rc = blk_ring_attach(ring, completed, blk, &a->drive);
	if (rc < 0) {
		free(a);
		return err_sys(e, rc, "%s: join the Async engine", blk->vdev.name);
	}
	while (a->n_free < BLK_RING_DEPTH) {
		a->free[a->n_free] = (uint16_t)(BLK_RING_DEPTH - 1 - a->n_free);
		a->n_free++;
	}
	blk->async = a;
	rc = blk_async_set_files(blk, &blk->backing);
	return rc < 0 ? err_sys(e, rc, "%s: give its file to the Async engine", blk->vdev.name) : 0;
}

void blk_async_destroy(struct blk *blk)
{
	struct blk_async *a = blk->async;

	if (!a)
		return;
	must(blk_async_in_flight(blk) == 0);
	blk_ring_detach(a->ring, a->drive);
	free(a);
	blk->async = NULL;
}
