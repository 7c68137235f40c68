/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device as its transport sees it, and the transport as a device sees it.
 *
 * A device (blk, later net and vsock) embeds `struct virtio_device` as its first member, fills a const
 * ops table, and knows nothing of registers. The transport (mmio.c) owns the status machine and calls
 * the ops.
 *
 * Trust: all of a device's ops run on behalf of a hostile guest. None of them fails, exits or logs
 * without bound; what the guest does wrong ends in virtio_device_complain() or virtio_device_break()
 * (docs/device-model.md).
 *
 * Threads: `lock` is taken by the transport for register accesses (vCPU threads) and kicks (I/O
 * thread), and by the device in handlers of its own (timers, host events: I/O thread). It guards every
 * member below it and everything in the device; ops are called with it held. `interrupt_status` is
 * outside: every guest interrupt reads and acknowledges it and must not wait for a slow disk. No other
 * lock is taken while it is held, except the log's.
 *
 * Use: the device's create function calls virtio_device_init(); virtio_mmio_create() connects the two;
 * destroy the transport first, then the device, which calls virtio_device_fini().
 *
 * Invariants:
 * (D1) active is true exactly between a successful activate and reset or break; queues are started
 *      exactly then.
 * (D2) while active is false no handler touches a queue or guest memory.
 * (D3) after reset a device holds nothing that the guest gave it.
 */
#ifndef MAYFLY_VIRTIO_DEVICE_H
#define MAYFLY_VIRTIO_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "virtio/virtqueue.h"
#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"
#include "vmm/evloop.h"
#include "vmm/gmem.h"
#include "vmm/irq.h"

/* Queues of the device type that has most: vsock's three. */
#define VIRTIO_MAX_QUEUES 3

#define VIRTIO_NAME_MAX 80

struct virtio_device;

/* All are called with the device's lock held. Those marked optional may be NULL. */
struct virtio_device_ops {
	uint16_t id;         /* virtio 1.2 section 5 */
	uint16_t n_queues;   /* 1 to VIRTIO_MAX_QUEUES; all must be set up by the driver */
	uint16_t queue_size; /* largest size of each queue */

	/* DRIVER_OK: the queues are started, dev->acked is final. Any thread. Optional. */
	void (*activate)(struct virtio_device *dev);

	/*
	 * Forget everything that the guest gave, requests included; the queues are stopped behind it.
	 * Must not fail, returns with no I/O in flight (it may wait on a condition, which releases the
	 * lock: active is false already). Any thread.
	 */
	void (*reset)(struct virtio_device *dev);

	/*
	 * The driver kicked queue @q, or it is time to go on with it. Bounded work, then
	 * virtio_device_rekick(). I/O thread.
	 */
	void (*notify)(struct virtio_device *dev, uint16_t q);

	/*
	 * As notify, but in the vCPU thread that kicked: serve what can't block and is short. Returns
	 * true when there is nothing left to do, false to have notify called in the I/O thread.
	 * Optional.
	 */
	bool (*try_notify)(struct virtio_device *dev, uint16_t q);

	/*
	 * Configuration space: [@off, @off + @len) lies inside config_len. Any vCPU thread.
	 * config_write: optional.
	 */
	uint32_t config_len;
	void (*config_read)(const struct virtio_device *dev, uint32_t off, void *dst, uint32_t len);
	void (*config_write)(struct virtio_device *dev, uint32_t off, const void *src, uint32_t len);
};

struct virtio_device {
	const struct virtio_device_ops *ops;
	uint64_t features;              /* offered; constant after create */
	char name[VIRTIO_NAME_MAX];     /* for log lines: "drive 'rootfs'" */
	struct virtqueue *vq[VIRTIO_MAX_QUEUES]; /* owned; the first ops->n_queues */

	/* Set by the transport before anything runs, constant then; borrowed. */
	struct gmem *mem;
	const struct irq_line *irq;
	struct evloop *loop;            /* NULL in tests without one */
	int kick_fd[VIRTIO_MAX_QUEUES]; /* eventfds of the transport */

	/* Any thread, no lock: VIRTIO_INT_*. */
	_Atomic uint32_t interrupt_status;

	/* Counters for metrics: written by any thread, relaxed. */
	_Atomic uint64_t n_guest_faults;   /* illegal register accesses and broken queues */
	_Atomic uint64_t n_interrupts;     /* used buffer notifications sent */
	_Atomic uint64_t n_config_changes; /* configuration change notifications sent */

	pthread_mutex_t lock;
	uint32_t status;                /* VIRTIO_STATUS_*; changed by the transport and virtio_device_break() */
	uint64_t acked;                 /* feature bits in use: acked and offered */
	uint32_t config_generation;
	bool active;
};

/*
 * Prepare @dev: locks, queues, name (copied, cut). 0, or negative errno with @e; virtio_device_fini()
 * is right in both cases. @dev is zero-initialised by the caller.
 */
int virtio_device_init(struct virtio_device *dev, const struct virtio_device_ops *ops, uint64_t features,
		       const char *name, struct err *e) MUST_USE;

/* Free what virtio_device_init() made; idempotent. The transport is gone already. */
void virtio_device_fini(struct virtio_device *dev);

/* Take and give back dev->lock. */
void virtio_device_lock(struct virtio_device *dev);
void virtio_device_unlock(struct virtio_device *dev);

/* --- For devices, with the lock held --- */

/* Tell the driver of buffers pushed to queue @q, if it wants to know. Call once after a batch of pushes. */
void virtio_device_signal_used(struct virtio_device *dev, uint16_t q);

/* The same for all queues: one interrupt, if the driver wants one for any of them. */
void virtio_device_signal_all(struct virtio_device *dev);

/* The configuration space changed: a new generation and, when the driver runs, an interrupt. */
void virtio_device_signal_config(struct virtio_device *dev);

/* Have ops->notify called again for @q, in the I/O thread, after the others had their turn. */
void virtio_device_rekick(struct virtio_device *dev, uint16_t q);

/*
 * VERDICT_QUEUE_BROKEN: stop using the queues until the driver resets the device, set
 * DEVICE_NEEDS_RESET and raise a configuration interrupt (2.1.2). One log line, one count. The device
 * must drop its requests as in reset.
 */
void virtio_device_break(struct virtio_device *dev, const char *what);

/* --- Any thread, no lock --- */

/* Count, and log within limits, something the guest did that we ignore. @what names it, @value says which. */
void virtio_device_complain(struct virtio_device *dev, const char *what, uint64_t value);

#endif
