/* SPDX-License-Identifier: Apache-2.0 */
/* boot_params: see bootparams.h. */
#include "vmm/bootparams.h"

#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/layout.h"

/* Offsets in struct boot_params. */
#define ACPI_RSDP_ADDR 0x070
#define EXT_RAMDISK_IMAGE 0x0c0
#define EXT_RAMDISK_SIZE 0x0c4
#define E820_ENTRIES 0x1e8
#define SETUP_HEADER 0x1f1
#define BOOT_FLAG 0x1fe
#define HEADER_MAGIC 0x202
#define TYPE_OF_LOADER 0x210
#define LOADFLAGS 0x211
#define CODE32_START 0x214
#define RAMDISK_IMAGE 0x218
#define RAMDISK_SIZE 0x21c
#define CMD_LINE_PTR 0x228
#define KERNEL_ALIGNMENT 0x230
#define CMDLINE_SIZE 0x238
#define SETUP_DATA 0x250
#define E820_TABLE 0x2d0

#define LOADER_UNDEFINED 0xff
#define LOADED_HIGH 0x01
#define CAN_USE_HEAP 0x80
#define LINUX_ALIGNMENT 0x01000000 /* 16 MiB: what a vmlinux is linked for */

_Static_assert(SETUP_HEADER + BOOT_SETUP_HEADER_MAX <= E820_TABLE, "the header ends before the map");
_Static_assert(E820_TABLE + E820_MAX_ENTRIES * E820_ENTRY_LEN <= BOOTPARAMS_LEN, "the map fits");

static void put_header(const struct boot_kernel *kernel, uint8_t *page)
{
	if (kernel->is_bzimage) {
		memcpy(page + SETUP_HEADER, kernel->setup_header, kernel->setup_header_len);
		le32_put(page + CODE32_START, (uint32_t)kernel->start.v);
		/* No real-mode heap was set up, and no list of further data: whatever the file says. */
		page[LOADFLAGS] = (uint8_t)(page[LOADFLAGS] & ~CAN_USE_HEAP);
		le64_put(page + SETUP_DATA, 0);
	} else {
		le16_put(page + BOOT_FLAG, 0xaa55);
		memcpy(page + HEADER_MAGIC, "HdrS", 4);
		page[LOADFLAGS] = LOADED_HIGH;
		le32_put(page + KERNEL_ALIGNMENT, LINUX_ALIGNMENT);
	}
	page[TYPE_OF_LOADER] = LOADER_UNDEFINED;
}

void bootparams_build(const struct boot_kernel *kernel, const struct e820_map *map, const struct boot_initrd *initrd,
		      size_t cmdline_len, gpa_t rsdp, uint8_t out[BOOTPARAMS_LEN])
{
	size_t i;

	must(kernel->setup_header_len <= BOOT_SETUP_HEADER_MAX && map->n_entries <= E820_MAX_ENTRIES);
	memset(out, 0, BOOTPARAMS_LEN);
	put_header(kernel, out);
	le64_put(out + ACPI_RSDP_ADDR, rsdp.v);
	le32_put(out + CMD_LINE_PTR, LAYOUT_CMDLINE);
	le32_put(out + CMDLINE_SIZE, (uint32_t)cmdline_len);
	if (initrd && initrd->len > 0) {
		le32_put(out + RAMDISK_IMAGE, (uint32_t)initrd->base.v);
		le32_put(out + EXT_RAMDISK_IMAGE, (uint32_t)(initrd->base.v >> 32));
		le32_put(out + RAMDISK_SIZE, (uint32_t)initrd->len);
		le32_put(out + EXT_RAMDISK_SIZE, (uint32_t)(initrd->len >> 32));
	}
	out[E820_ENTRIES] = (uint8_t)map->n_entries;
	for (i = 0; i < map->n_entries; i++) {
		uint8_t *entry = out + E820_TABLE + i * E820_ENTRY_LEN;

		le64_put(entry, map->entry[i].base.v);
		le64_put(entry + 8, map->entry[i].len);
		le32_put(entry + 16, map->entry[i].type);
	}
}
