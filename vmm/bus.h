/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dispatch of guest port and MMIO accesses to the device that owns the address: the machine's dispatcher.
 *
 * A device does not care where it stands: it gets the offset into its own range and the length of the access (1, 2, 4 or 8),
 * and never an access that leaves its range. Addresses that nobody owns read as all zeroes and swallow writes (CONTRACT.md 16.2).
 *
 * Threads: devices are added before the vCPUs start; from then on the bus is constant and any vCPU thread dispatches. The
 * devices do their own locking.
 */
#ifndef MAYFLY_VMM_BUS_H
#define MAYFLY_VMM_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

#define BUS_MAX_DEVICES 32

struct bus_ops {
	/* Fill all @len bytes of @data. */
	void (*read)(void *dev, uint64_t off, void *data, uint32_t len);
	void (*write)(void *dev, uint64_t off, const void *data, uint32_t len);
};

struct bus_range {
	uint64_t base, size; /* addresses or ports */
	const struct bus_ops *ops;
	void *dev; /* borrowed, outlives the bus's use */
};

/* Sorted by base, not overlapping. Zero-initialised: empty. */
struct bus {
	size_t n_ranges;
	struct bus_range range[BUS_MAX_DEVICES];
};

/* Give [@base, @base + @size) to @dev. 0, -EEXIST on overlap, -ENOSPC when full, -EINVAL for an empty or wrapping range. */
int bus_add(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops, void *dev) MUST_USE;

/*
 * Perform one access of @len bytes (1 to 8) at @addr. False when no device owns the whole of it: a read then gives
 * zeroes, a write has no effect.
 */
bool bus_read(const struct bus *bus, uint64_t addr, void *data, uint32_t len);
bool bus_write(const struct bus *bus, uint64_t addr, const void *data, uint32_t len);

#endif
