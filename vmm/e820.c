/* SPDX-License-Identifier: Apache-2.0 */
/* The memory map: see e820.h. */
#include "vmm/e820.h"

#include "vmm/base/cdefs.h"
#include "vmm/layout.h"

/* Low RAM, system area, RAM from 1 MiB, the device window's MMCONFIG, one more for each further region. */
_Static_assert(GMEM_MAX_REGIONS - 1 + 4 <= E820_MAX_ENTRIES, "every region has an entry");

static void add(struct e820_map *map, uint64_t base, uint64_t end, enum e820_type type)
{
	must(map->n_entries < E820_MAX_ENTRIES && base < end);
	map->entry[map->n_entries].base = GPA(base);
	map->entry[map->n_entries].len = end - base;
	map->entry[map->n_entries].type = type;
	map->n_entries++;
}

void e820_build(const struct gmem *mem, struct e820_map *out)
{
	struct e820_map map = {0};
	size_t i;

	must(mem->n_regions > 0 && mem->region[0].size > LAYOUT_HIGH_MEMORY);
	/*
	 * The page of the RSDP and the rest of the first MiB are in no entry: not RAM, found by whoever knows
	 * where.
	 */
	add(&map, 0, LAYOUT_SYSTEM, E820_RAM);
	add(&map, LAYOUT_SYSTEM, LAYOUT_SYSTEM_END, E820_RESERVED);
	add(&map, LAYOUT_HIGH_MEMORY, mem->region[0].size, E820_RAM);
	add(&map, LAYOUT_MMCONFIG, LAYOUT_MMCONFIG + LAYOUT_MMCONFIG_SIZE, E820_RESERVED);
	for (i = 1; i < mem->n_regions; i++)
		add(&map, mem->region[i].base.v, mem->region[i].base.v + mem->region[i].size, E820_RAM);
	*out = map;
}
