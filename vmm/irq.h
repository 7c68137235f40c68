/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt lines: an eventfd that KVM (or a test) listens to.
 *
 * Devices raise edges only: virtio-mmio, serial and i8042 lines are edge-triggered in the tables that the guest gets
 * (CONTRACT.md 16.2), so one write is one interrupt and there is nothing to lower.
 *
 * Threads: irq_raise from any thread; it never blocks.
 */
#ifndef MAYFLY_VMM_IRQ_H
#define MAYFLY_VMM_IRQ_H

#include <stdint.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"

struct irq_line {
	uint32_t gsi;
	int fd; /* owned eventfd, EFD_NONBLOCK; -1: not connected, irq_raise does nothing */
};

/* Make @line an unconnected line of @gsi with a fresh eventfd. 0, or negative errno with @e and line->fd == -1. */
int irq_init(struct irq_line *line, uint32_t gsi, struct err *e) MUST_USE;

/* Close; idempotent. */
void irq_fini(struct irq_line *line);

/* Raise one edge. */
void irq_raise(const struct irq_line *line);

#endif
