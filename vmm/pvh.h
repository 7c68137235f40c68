/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PVH boot protocol (Xen, docs/misc/pvh.pandoc; xen/include/public/arch-x86/hvm/start_info.h): the ELF note
 * that names the 32-bit entry, and the start_info that it is entered with.
 *
 * Trust: note bytes are hostile. Threads: any; pure.
 */
#ifndef MAYFLY_VMM_PVH_H
#define MAYFLY_VMM_PVH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"
#include "vmm/boot.h"
#include "vmm/e820.h"
#include "vmm/gmem.h"

/*
 * Find XEN_ELFNOTE_PHYS32_ENTRY among the notes in @bytes, whose entries are padded to @align (4 or 8).
 * True and *@entry when there is one.
 */
bool pvh_find_entry(const uint8_t *bytes, size_t len, uint32_t align, uint32_t *entry) MUST_USE;

/*
 * Write start_info, module list and memory map to their places in layout.h. @initrd may be NULL; @rsdp 0: none.
 * The command line is at LAYOUT_CMDLINE. Returns 0, or -EFAULT when there is no RAM.
 */
int pvh_write_start_info(
	struct gmem *mem, const struct e820_map *map, const struct boot_initrd *initrd, gpa_t rsdp) MUST_USE;

#endif
