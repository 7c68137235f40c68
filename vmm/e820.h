/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory map that the guest is told (CONTRACT.md 16.1), in the terms of the BIOS call it is named after.
 *
 * Trust: none of it is outside data. Threads: any; pure.
 */
#ifndef MAYFLY_VMM_E820_H
#define MAYFLY_VMM_E820_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/gmem.h"

#define E820_MAX_ENTRIES 8
#define E820_ENTRY_LEN 20 /* bytes of one entry in boot_params */

enum e820_type { E820_RAM = 1, E820_RESERVED = 2 };

struct e820_map {
	size_t n_entries;
	struct {
		gpa_t base;
		uint64_t len;
		enum e820_type type;
	} entry[E820_MAX_ENTRIES]; /* ascending, not overlapping */
};

/* Describe @mem, which has more than LAYOUT_HIGH_MEMORY bytes. */
void e820_build(const struct gmem *mem, struct e820_map *out);

#endif
