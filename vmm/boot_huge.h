/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which 2 MiB blocks of guest RAM deserve a huge page of the host: those that a boot fills anyway. A huge page
 * there saves hundreds of page faults and costs nothing, elsewhere it costs its zeroing and up to 2 MiB of memory
 * (everywhere: 22 MiB resident; by this rule: 16.2 and, for the minimal kernel, 2 ms more).
 *
 * The rule, for any kernel and memory size; each number is a member of struct boot_huge_rule:
 *   1. A block that what we load (kernel with bss, initrd) covers to more than @fill_percent.
 *   2. The first @low_blocks blocks of the highest region: Linux hands out the memory of its highest zone first,
 *      from its lower end on. (RAM beyond 4 GiB: measured, the first blocks there fill and those at 0 do not.) Not the block
 *      at 0: a fifth of it is no RAM to the guest, and 0.8 MiB for 1.5 ms is a bad bargain.
 *   3. The blocks of the page array: Linux allocates it from the top of the highest memory that has room for
 *      it, one section of 64 bytes per page of 128 MiB at a time, aligned to 2 MiB, below what was taken before (the
 *      initrd; a few pages at the very top). All of it is initialised during boot. And one block more below it: a kernel
 *      that takes a little more from the top first has its array there; one that doesn't never touches it, which is free.
 *
 * Threads: any; pure.
 */
#ifndef MAYFLY_VMM_BOOT_HUGE_H
#define MAYFLY_VMM_BOOT_HUGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/gmem.h"

#define BOOT_HUGE_MAX_RANGES 16

struct boot_range {
	gpa_t base;
	uint64_t len; /* bytes */
};

struct boot_huge_rule {
	uint32_t fill_percent;
	uint32_t low_blocks;
	bool page_array;
};

struct boot_huge_plan {
	size_t n_ranges;
	struct boot_range range[BOOT_HUGE_MAX_RANGES]; /* whole blocks, each inside one RAM region */
};

/* What the measurements of ANCHORS.md say for all three parts together. */
extern const struct boot_huge_rule boot_huge_default;

/*
 * Apply @rule to RAM laid out as in @mem. @loaded are the @n_loaded ranges that get contents, not overlapping;
 * @initrd (NULL or len 0: none) is where the page array can't be, and counts as contents only if it is in @loaded
 * too. A plan that would need more than BOOT_HUGE_MAX_RANGES ranges is cut off there: it is advice.
 */
void boot_huge_plan(const struct gmem *mem, const struct boot_huge_rule *rule, const struct boot_range *loaded,
		    size_t n_loaded, const struct boot_range *initrd, struct boot_huge_plan *out);

/* Ask for the huge pages of @plan. */
void boot_huge_apply(const struct boot_huge_plan *plan, struct gmem *mem);

#endif
