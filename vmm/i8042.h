/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The i8042 keyboard controller: the port through which a guest reboots, and a keyboard that knows one combination.
 *
 * Enough of the chip that Linux's i8042 and atkbd drivers find a controller with a plain AT keyboard (scancode set 2, not
 * translated) and no mouse port, and find it without waiting for a timeout, with or without the `i8042.*` options.
 *
 * Trust: the guest may read and write anything at any time; the state is of fixed size and a byte that does not fit is dropped
 * and counted.
 *
 * Threads: bus accesses from any vCPU thread, the rest from the I/O thread; one mutex.
 */
#ifndef MAYFLY_VMM_I8042_H
#define MAYFLY_VMM_I8042_H

#include <stdint.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"
#include "vmm/bus.h"
#include "vmm/irq.h"

#define I8042_BUFFER_MAX 16

struct i8042;

/* Totals since creation; CONTRACT.md section 15, group i8042. */
struct i8042_stats {
	uint64_t read_count, write_count;
	uint64_t missed_read_count, missed_write_count; /* accesses of a wrong size, and to ports between the two */
	uint64_t reset_count, error_count;              /* error: bytes that did not fit the buffer */
};

/*
 * Create the controller. @irq is borrowed and outlives it. @reset is called in a vCPU thread, with no lock held, each time
 * the guest pulses the reset line. Returns 0 and *@out (owned), or negative errno with @e.
 */
int i8042_create(struct i8042 **out, const struct irq_line *irq, void (*reset)(void *ctx), void *ctx,
		 struct err *e) MUST_USE;

/* NULL allowed. */
void i8042_destroy(struct i8042 *i8042);

/* Port accesses, for bus_add(); LAYOUT_I8042_SIZE ports from LAYOUT_I8042. */
extern const struct bus_ops i8042_bus_ops;

/*
 * Press Ctrl, Alt and Del. 0, or -ENOSPC with @e when the buffer has no room for the four bytes. What the guest makes of
 * it is its own affair.
 */
int i8042_send_ctrl_alt_del(struct i8042 *i8042, struct err *e) MUST_USE;

/* Copy the totals. Any thread. */
void i8042_get_stats(struct i8042 *i8042, struct i8042_stats *out);

#endif
