/* SPDX-License-Identifier: Apache-2.0 */
/* The PVH boot protocol: see pvh.h. */
#include "vmm/pvh.h"

#include <errno.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/checked.h"
#include "vmm/layout.h"

#define NOTE_HEADER_LEN 12
#define XEN_ELFNOTE_PHYS32_ENTRY 18

#define START_INFO_MAGIC 0x336ec578
#define START_INFO_LEN 56
#define MODLIST_ENTRY_LEN 32
#define MEMMAP_ENTRY_LEN 24

_Static_assert(LAYOUT_PVH_START_INFO + START_INFO_LEN <= LAYOUT_PVH_MODLIST, "start_info ends before the module list");
_Static_assert(LAYOUT_PVH_MODLIST + MODLIST_ENTRY_LEN <= LAYOUT_PVH_MEMMAP, "module list ends before the map");
_Static_assert(
	LAYOUT_PVH_MEMMAP + E820_MAX_ENTRIES * MEMMAP_ENTRY_LEN <= LAYOUT_PML4, "map ends before the page tables");

bool pvh_find_entry(const uint8_t *bytes, size_t len, uint32_t align, uint32_t *entry)
{
	static const char owner[] = "Xen";
	uint64_t off = 0;

	must(align == 4 || align == 8);
	/* Every turn advances by at least a header, so a range of len bytes has at most len / 12 of them. */
	while (range_within(off, NOTE_HEADER_LEN, len)) {
		uint64_t name_len = le32_get(bytes + off);
		uint64_t desc_len = le32_get(bytes + off + 4);
		uint32_t type = le32_get(bytes + off + 8);
		uint64_t name = off + NOTE_HEADER_LEN;
		uint64_t desc = (name + name_len + align - 1) & ~(uint64_t)(align - 1);

		if (!range_within(name, name_len, len) || !range_within(desc, desc_len, len))
			return false;
		/* 4 bytes by the protocol; Linux writes a long, of which the upper half is 0 */
		if (type == XEN_ELFNOTE_PHYS32_ENTRY && name_len == sizeof(owner) &&
		    memcmp(bytes + name, owner, sizeof(owner)) == 0 &&
		    (desc_len == 4 || (desc_len == 8 && le32_get(bytes + desc + 4) == 0))) {
			*entry = le32_get(bytes + desc);
			return true;
		}
		off = (desc + desc_len + align - 1) & ~(uint64_t)(align - 1);
	}
	return false;
}

int pvh_write_start_info(struct gmem *mem, const struct e820_map *map, const struct boot_initrd *initrd, gpa_t rsdp)
{
	uint8_t info[START_INFO_LEN] = {0};
	uint8_t module[MODLIST_ENTRY_LEN] = {0};
	uint8_t memmap[E820_MAX_ENTRIES * MEMMAP_ENTRY_LEN] = {0};
	bool has_initrd = initrd && initrd->len > 0;
	size_t i;

	must(map->n_entries <= E820_MAX_ENTRIES);
	for (i = 0; i < map->n_entries; i++) {
		uint8_t *entry = memmap + i * MEMMAP_ENTRY_LEN;

		le64_put(entry, map->entry[i].base.v);
		le64_put(entry + 8, map->entry[i].len);
		le32_put(entry + 16, map->entry[i].type); /* the protocol takes its types from E820 */
	}
	le32_put(info, START_INFO_MAGIC);
	le32_put(info + 4, 1); /* version: with memory map */
	le64_put(info + 24, LAYOUT_CMDLINE);
	le64_put(info + 32, rsdp.v);
	le64_put(info + 40, LAYOUT_PVH_MEMMAP);
	le32_put(info + 48, (uint32_t)map->n_entries);
	if (has_initrd) {
		le64_put(module, initrd->base.v);
		le64_put(module + 8, initrd->len);
		le32_put(info + 12, 1); /* number of modules */
		le64_put(info + 16, LAYOUT_PVH_MODLIST);
		if (gmem_write(mem, GPA(LAYOUT_PVH_MODLIST), module, sizeof(module)) < 0)
			return -EFAULT;
	}
	if (gmem_write(mem, GPA(LAYOUT_PVH_MEMMAP), memmap, map->n_entries * MEMMAP_ENTRY_LEN) < 0)
		return -EFAULT;
	return gmem_write(mem, GPA(LAYOUT_PVH_START_INFO), info, sizeof(info));
}
