/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results of one completion queue, sorted by drive. Invariants R1 to R3 stand in blk_ring_impl.h.
 */
#include "virtio/blk_ring.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "virtio/blk_ring_impl.h"
#include "vmm/base/fd.h"

/* A kernel that was out of memory is asked again after so long. */
#define RETRY_NS UINT64_C(5000000)

/* A reset or PATCH that waits looks again after so long, in case another thread took its results. */
#define WAIT_MS 1

struct ring_drive {
	void (*completed)(void *ctx); /* NULL: no such drive */
	void *ctx;

	/* Under the lock: results that wait, a ring of its own. */
	uint32_t first, n;
	struct blk_ring_result waiting[BLK_RING_DEPTH];
};

struct blk_ring {
	const struct blk_ring_backend *backend;
	void *ctx;             /* owned */
	struct evloop *loop;   /* borrowed; NULL in tests */
	struct ev_timer retry; /* of a submit that failed */
	struct ev_source source; /* an owned eventfd, edge-triggered: it is never read */
	pthread_mutex_t lock;
	bool lock_made;
	bool unsubmitted;      /* under the lock: the kernel lacked memory, some operations wait for the next submit */
	uint32_t n_drives;
	struct ring_drive drive[];
};

static void lock(struct blk_ring *ring)
{
	int rc = pthread_mutex_lock(&ring->lock);

	must(rc == 0);
}

static void unlock(struct blk_ring *ring)
{
	int rc = pthread_mutex_unlock(&ring->lock);

	must(rc == 0);
}

/* --- Results --- */

static void sort_in(struct blk_ring *ring, const struct blk_ring_result *r)
{
	uint32_t drive = (uint32_t)(r->tag >> 16) & UINT16_MAX;
	struct ring_drive *d;

	must(drive < ring->n_drives);
	d = &ring->drive[drive];
	must(d->n < BLK_RING_DEPTH); /* R1 */
	d->waiting[(d->first + d->n++) % BLK_RING_DEPTH] = *r;
}

/* Empty the completion queue. Afterwards a new result writes the eventfd. */
static void reap(struct blk_ring *ring)
{
	struct blk_ring_result r;
	bool any;

	do {
		while (ring->backend->next(ring->ctx, &r))
			sort_in(ring, &r);
		ring->backend->notify(ring->ctx, true);
		any = ring->backend->next(ring->ctx, &r);
		if (any)
			sort_in(ring, &r);
	} while (any);
}

void blk_ring_poke(struct blk_ring *ring)
{
	const uint64_t one = 1;

	if (write(ring->source.fd, &one, sizeof(one)) < 0)
		return; /* EAGAIN: poked 2^64 times already */
}

uint32_t blk_ring_collect(struct blk_ring *ring, uint16_t drive, struct blk_ring_result *out, uint32_t max)
{
	struct ring_drive *d = &ring->drive[drive];
	bool others = false;
	uint32_t n = 0;

	lock(ring);
	reap(ring);
	while (n < max && d->n > 0) {
		out[n++] = d->waiting[d->first];
		d->first = (d->first + 1) % BLK_RING_DEPTH;
		d->n--;
	}
	for (uint32_t i = 0; i < ring->n_drives && !others; i++)
		others = ring->drive[i].n > 0;
	unlock(ring);
	if (others)
		blk_ring_poke(ring); /* R3 */
	return n;
}

void blk_ring_wait(struct blk_ring *ring)
{
	ring->backend->wait(ring->ctx, WAIT_MS);
}

/* --- Operations --- */

void blk_ring_queue(struct blk_ring *ring, const struct blk_ring_op *op)
{
	lock(ring);
	ring->backend->queue(ring->ctx, op);
	unlock(ring);
}

/* 0, or negative errno: a kernel that is out of memory takes the rest with the next submit. */
static int submit(struct blk_ring *ring)
{
	int rc;

	lock(ring);
	ring->backend->notify(ring->ctx, false);
	rc = ring->backend->submit(ring->ctx);
	ring->unsubmitted = rc < 0;
	unlock(ring);
	return rc;
}

/*
 * What can be done at once is done inside the system call, and the caller is about to look: no eventfd for that. What was
 * refused is tried again by the I/O thread.
 */
void blk_ring_submit(struct blk_ring *ring)
{
	if (submit(ring) < 0)
		blk_ring_poke(ring);
}

static void retry(void *ctx)
{
	blk_ring_poke(ctx);
}

/* The eventfd was written: tell the drives that have something. */
static void ring_ready(void *arg, uint32_t ready)
{
	struct blk_ring *ring = arg;
	bool again;

	(void)ready;
	lock(ring);
	again = ring->unsubmitted;
	unlock(ring);
	if (again && submit(ring) < 0 && ring->loop) {
		int rc = evloop_arm(ring->loop, &ring->retry, evloop_now_ns() + RETRY_NS);

		must(rc == 0);
	}
	lock(ring);
	reap(ring);
	unlock(ring);
	for (uint32_t i = 0; i < ring->n_drives; i++) {
		struct ring_drive *d = &ring->drive[i];
		bool any;

		lock(ring);
		any = d->completed && d->n > 0;
		unlock(ring);
		if (any)
			d->completed(d->ctx);
	}
}

/* --- Life --- */

int blk_ring_create_on(const struct blk_ring_backend *backend, void *ctx, int event_fd, struct evloop *loop,
		       uint32_t n_drives, struct blk_ring **out, struct err *e)
{
	struct blk_ring *ring = calloc(1, sizeof(*ring) + n_drives * sizeof(ring->drive[0]));
	int rc;

	if (!ring) {
		backend->destroy(ctx);
		(void)close(event_fd);
		return err_sys(e, -ENOMEM, "allocate the Async engine");
	}
	ring->backend = backend;
	ring->ctx = ctx;
	ring->loop = loop;
	ring->n_drives = n_drives;
	ring->source = (struct ev_source){
		.fd = event_fd, .events = EPOLLIN | EPOLLET, .group = EV_DEVICE, .fn = ring_ready, .ctx = ring,
	};
	ring->retry = (struct ev_timer){ .group = EV_DEVICE, .fn = retry, .ctx = ring };
	rc = -pthread_mutex_init(&ring->lock, NULL);
	ring->lock_made = rc == 0;
	if (rc == 0 && loop)
		rc = evloop_add(loop, &ring->source);
	if (rc < 0) {
		blk_ring_destroy(ring);
		return err_sys(e, rc, "make the Async engine");
	}
	*out = ring;
	return 0;
}

int blk_ring_create(struct evloop *loop, uint32_t n_drives, struct blk_ring **out, struct err *e)
{
	AUTO_FD int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	void *uring;
	int rc;

	if (fd < 0)
		return err_sys(e, -errno, "make the Async engine's event descriptor");
	rc = blk_uring_create(n_drives * BLK_RING_DEPTH, n_drives * BLK_RING_FILES, fd, &uring, e);
	if (rc < 0)
		return rc;
	return blk_ring_create_on(&blk_uring_backend, uring, fd_take(&fd), loop, n_drives, out, e);
}

int blk_ring_enable(struct blk_ring *ring, struct err *e)
{
	return ring->backend->enable(ring->ctx, e);
}

void blk_ring_destroy(struct blk_ring *ring)
{
	if (!ring)
		return;
	if (ring->loop) {
		evloop_remove(ring->loop, &ring->source);
		evloop_disarm(ring->loop, &ring->retry);
	}
	ring->backend->destroy(ring->ctx);
	fd_close(&ring->source.fd);
	if (ring->lock_made)
		(void)pthread_mutex_destroy(&ring->lock);
	free(ring);
}

int blk_ring_attach(struct blk_ring *ring, void (*completed)(void *ctx), void *ctx, uint16_t *drive)
{
	for (uint32_t i = 0; i < ring->n_drives; i++) {
		struct ring_drive *d = &ring->drive[i];

		if (d->completed)
			continue;
		d->completed = completed;
		d->ctx = ctx;
		*drive = (uint16_t)i;
		return 0;
	}
	return -ENOSPC;
}

void blk_ring_detach(struct blk_ring *ring, uint16_t drive)
{
	static const int none[BLK_RING_FILES] = { -1, -1 };

	ring->drive[drive].completed = NULL;
	/* Fails only when the kernel lacks the memory to note it; the files then go with the ring. */
	if (blk_ring_set_files(ring, drive, none) < 0)
		return;
}

int blk_ring_set_files(struct blk_ring *ring, uint16_t drive, const int fd[BLK_RING_FILES])
{
	int rc = 0;

	lock(ring);
	for (uint32_t i = 0; i < BLK_RING_FILES && rc == 0; i++)
		rc = ring->backend->set_file(ring->ctx, (uint32_t)drive * BLK_RING_FILES + i, fd[i]);
	unlock(ring);
	return rc;
}
