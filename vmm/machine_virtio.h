/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio devices of a machine: one list in the order in which the guest sees them, block (root first), net, vsock
 * (CONTRACT.md 16.2). The place in the list gives a device its page, its interrupt and its name in the tables.
 *
 * Ownership: the list owns its devices, their transports and interrupts. What it is built from stays the caller's: it
 * works on handles of its own, so that after a failed start everything is there for another try.
 *
 * Threads: the I/O thread.
 *
 * Use: machine_virtio_init(), machine_virtio_build(), run, machine_virtio_fini() when no vCPU runs any more.
 */
#ifndef MAYFLY_VMM_MACHINE_VIRTIO_H
#define MAYFLY_VMM_MACHINE_VIRTIO_H

#include <stddef.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"
#include "vmm/gmem.h"
#include "vmm/irq.h"
#include "vmm/layout.h"
#include "vmm/machine.h"

struct blk_ring;
struct bus;
struct kvm;
struct virtio_mmio;

enum machine_device_kind { MACHINE_BLK, MACHINE_NET, MACHINE_VSOCK };

struct machine_device {
	enum machine_device_kind kind;
	union {
		struct blk *blk;
		struct net *net;
		struct vsock *vsock;
	};                             /* owned; NULL: not made yet */
	struct virtio_mmio *transport; /* owned */
	struct irq_line irq;           /* owned */
	gpa_t base;                    /* of its page */
	char *id;                      /* owned; NULL: the vsock device has none */
};

struct machine_virtio {
	/* What devices are connected to; borrowed. */
	struct evloop *loop;
	struct gmem *mem;
	struct kvm *kvm;
	struct bus *mmio;

	struct blk_ring *ring; /* owned; NULL: no drive has the Async engine */
	size_t n;
	struct machine_device device[LAYOUT_MAX_VIRTIO]; /* the first n count */
};

/* An empty list, which machine_virtio_fini() accepts. The pointers of the list's head are set by the caller. */
void machine_virtio_init(struct machine_virtio *v);

/* Make the devices that @params names and attach them. 0, or negative errno with @e: then machine_virtio_fini(). */
int machine_virtio_build(struct machine_virtio *v, const struct machine_params *params, struct err *e) MUST_USE;

/* The device of @kind and @id, or NULL. */
struct machine_device *machine_virtio_find(struct machine_virtio *v, enum machine_device_kind kind, const char *id);

/* Have every device look at its queues, as if the guest had asked it to. */
void machine_virtio_kick_all(struct machine_virtio *v);

/* Free the devices; idempotent. */
void machine_virtio_fini(struct machine_virtio *v);

#endif
