/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One split virtqueue, the device's side (virtio 1.2, 2.7).
 *
 * Trust: everything in guest memory is hostile and changes while we look. The geometry is checked once,
 * when the driver sets DRIVER_OK; a descriptor is copied once, checked once and then is a `struct
 * vq_seg`, which the guest can't change.
 *
 * Threads: none of its own. The device's lock (virtio/device.h) is held for every call.
 *
 * Use: virtqueue_create when the device is made; virtqueue_start when the driver says DRIVER_OK; then,
 * for each kick:
 *
 *     do {
 *             virtqueue_notify_off(vq);
 *             while (virtqueue_pop(vq, &chain) gives a chain)
 *                     ... virtqueue_push(vq, chain.head, written);
 *     } while (virtqueue_notify_on(vq));
 *     if (virtqueue_needs_interrupt(vq))
 *             ... one interrupt for all of them
 *
 * Invariants:
 * (Q1) Indices are ours: next_avail and next_used are never read back from guest memory.
 * (Q2) A head that was popped is in flight until it is pushed; it is pushed exactly once; one that is
 *      made available again while in flight breaks the queue. So at most `size` chains are in flight.
 * (Q3) A segment of a chain with len > 0 lies whole in one RAM region.
 * (Q4) Every byte of a descriptor or ring element is fetched once for each chain, through one function.
 */
#ifndef MAYFLY_VIRTIO_VIRTQUEUE_H
#define MAYFLY_VIRTIO_VIRTQUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"
#include "vmm/gmem.h"

/* Largest queue of any device (CONTRACT.md section 9 and 16.2). */
#define VQ_SIZE_MAX 256

/*
 * Most descriptors in a chain, those of an indirect table included: what a driver may use with a queue
 * of VQ_SIZE_MAX.
 */
#define VQ_CHAIN_MAX 256

/* What the guest did (STYLE.md B4, docs/device-model.md). */
enum verdict {
	VERDICT_OK,
	VERDICT_REQ_ERROR,    /* this request is wrong: complete it as the device's section of the contract says */
	VERDICT_QUEUE_BROKEN, /* the ring itself is inconsistent: stop the device, DEVICE_NEEDS_RESET */
};

/* One descriptor, copied and checked. */
struct vq_seg {
	void *hva;         /* means nothing when len is 0 */
	gpa_t gpa;
	uint32_t len;      /* bytes */
	bool dev_writable;
};

/* One descriptor chain, copied and checked: dev_readable segments first, then the dev_writable ones. */
struct vq_chain {
	uint16_t head;         /* index to give back with virtqueue_push() */
	uint16_t n;            /* segments; 0: there was no chain */
	uint16_t n_readable;   /* of them, the first n_readable are dev_readable */
	uint64_t readable_len; /* bytes */
	uint64_t writable_len; /* bytes */
	struct vq_seg seg[VQ_CHAIN_MAX];
};

/* Where the driver put a queue, as it wrote it: unchecked. */
struct vq_geometry {
	uint32_t size; /* elements */
	uint64_t desc, driver, device; /* guest-physical addresses: descriptor table, available ring, used ring */
};

struct virtqueue;

/*
 * Make a stopped queue of at most @max_size elements (a power of two <= VQ_SIZE_MAX). 0 and *@out
 * (owned), or -ENOMEM.
 */
int virtqueue_create(uint16_t max_size, struct virtqueue **out) MUST_USE;

/* Free; NULL allowed. */
void virtqueue_destroy(struct virtqueue *vq);

/* The @max_size that the queue was made with. */
uint16_t virtqueue_max_size(const struct virtqueue *vq);

/*
 * Check @geo (2.7: a power of two that is not 0 and at most the maximum, alignment, each part whole
 * inside one RAM region of @mem) and start the queue empty with the acked feature bits @features. @mem
 * is borrowed until virtqueue_stop().
 *
 * Returns VERDICT_OK, or VERDICT_QUEUE_BROKEN with @vq still stopped.
 */
enum verdict virtqueue_start(struct virtqueue *vq, const struct gmem *mem, const struct vq_geometry *geo,
			     uint64_t features) MUST_USE;

/* Forget everything that the driver said and what was in flight; idempotent. */
void virtqueue_stop(struct virtqueue *vq);

/* Between virtqueue_start() and virtqueue_stop()? */
bool virtqueue_started(const struct virtqueue *vq);

/* Elements of a started queue; 0: it is stopped. */
uint16_t virtqueue_size(const struct virtqueue *vq);

/* Chains popped and not yet pushed. */
uint16_t virtqueue_in_flight(const struct virtqueue *vq);

/*
 * How many chains are available, into *@n. VERDICT_OK, or VERDICT_QUEUE_BROKEN when avail.idx is more
 * than one queue ahead. A stopped queue has none.
 */
enum verdict virtqueue_available(struct virtqueue *vq, uint16_t *n) MUST_USE;

/*
 * Take the next available descriptor chain from @vq.
 *
 * Every descriptor is copied into @out, so @out stays valid whatever the guest does next. Only the
 * members that a chain of out->n segments uses are written.
 *
 * Returns VERDICT_OK (out->n == 0: ring empty, or the queue is stopped); VERDICT_REQ_ERROR: the chain
 * has a dev_readable descriptor behind a dev_writable one (2.7.4.2); out->head is in flight and must be
 * pushed with 0 bytes written, the other members are not set; VERDICT_QUEUE_BROKEN: avail.idx jumped by
 * more than the queue size, a head out of range or in flight already, a chain that loops or is longer
 * than VQ_CHAIN_MAX, an indirect table that is refused (2.7.5.3: inside another, with NEXT, empty, not
 * a multiple of 16 bytes, not negotiated), a range outside RAM, or more than 2^32 - 1 bytes in one
 * direction. Nothing changes then.
 *
 * Never blocks. Each popped head must be given to virtqueue_push() exactly once (Q2).
 */
enum verdict virtqueue_pop(struct virtqueue *vq, struct vq_chain *out) MUST_USE;

/*
 * Give the chain @head back to the driver, with @written bytes written into its dev_writable part, and
 * publish it. Visible to a driver that polls at once; whether it is to be interrupted is asked once
 * after any number of pushes.
 */
void virtqueue_push(struct virtqueue *vq, uint16_t head, uint32_t written);

/* A chain to give back, as for virtqueue_push(). */
struct vq_done {
	uint16_t head;
	uint32_t written; /* bytes */
};

/* Give @n chains back so that the driver sees all of them or none: a frame over several buffers (5.1.6.4). */
void virtqueue_push_many(struct virtqueue *vq, const struct vq_done *done, uint16_t n);

/*
 * Put the chain @head, the last one that was popped and is not pushed yet, back as if it had not been
 * popped. Several go back in the opposite order.
 */
void virtqueue_unpop(struct virtqueue *vq, uint16_t head);

/* Does the driver want an interrupt for what was pushed since the last call (2.7.7)? */
bool virtqueue_needs_interrupt(struct virtqueue *vq) MUST_USE;

/* Ask the driver for no kicks while we look at the ring anyway. Advice: kicks may come nevertheless. */
void virtqueue_notify_off(struct virtqueue *vq);

/*
 * Ask the driver for a kick with the next chain, and look again: true when a chain became available
 * meanwhile (its kick may have been suppressed, so the caller must go on popping). A broken ring counts
 * as one.
 */
bool virtqueue_notify_on(struct virtqueue *vq) MUST_USE;

#ifdef MAYFLY_CHECKED
/*
 * Double-fetch detector of test builds: called, where a test defines it, for every range of guest
 * memory that virtqueue.c and chain.c copy because of a chain. @start: a new chain begins.
 */
void virtqueue_observe_fetch(gpa_t gpa, uint64_t len, bool start) __attribute__((weak));
#endif

#endif
