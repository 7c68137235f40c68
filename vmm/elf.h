/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF64 kernel images (vmlinux): from header bytes to a load plan. Pure functions over bytes that the caller has
 * read.
 *
 * Trust: every byte is hostile. Counts are bounded before they are used as loop limits or sizes, offsets are held
 * against the length of the file. Addresses are held against the RAM later, by image_check().
 *
 * Threads: any.
 *
 * Use: elf_parse_header() on the first bytes, read the program headers it names, elf_parse_phdrs(), read each note
 * range, pvh_find_entry() (pvh.h). For elf_acpi_support() (elf_facts.h): read section headers and names likewise.
 */
#ifndef MAYFLY_VMM_ELF_H
#define MAYFLY_VMM_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"
#include "vmm/image.h"

#define ELF_HEADER_LEN 64
#define ELF_PHDR_LEN 56
#define ELF_SHDR_LEN 64
#define ELF_MAX_PHDRS 64
#define ELF_MAX_SHDRS 256
#define ELF_MAX_NOTES 4
#define ELF_MAX_NOTE_LEN (16 * 1024) /* bytes; Linux has a few hundred */

struct elf_header {
	uint64_t entry;
	uint64_t phdr_off; /* n_phdrs * ELF_PHDR_LEN bytes from here are in the file */
	uint32_t n_phdrs;  /* 1 to ELF_MAX_PHDRS */
	uint64_t shdr_off; /* as above, of ELF_SHDR_LEN; n_shdrs 0 when missing or not understood */
	uint32_t n_shdrs, names_index;
};

struct elf_note_range {
	uint64_t off, len; /* in the file; len at most ELF_MAX_NOTE_LEN */
	uint32_t align;    /* 4 or 8: how entries are padded */
};

struct elf_notes {
	size_t n_ranges;
	struct elf_note_range range[ELF_MAX_NOTES];
};

/* Do @bytes start like an ELF file, of whatever kind? */
bool elf_is_elf(const uint8_t *bytes, size_t len) MUST_USE;

/*
 * Parse the header in the first @len @bytes of a file of @file_len bytes that elf_is_elf() recognised.
 * Returns 0, or -ENOEXEC with a text that names what was found.
 */
int elf_parse_header(
	const uint8_t *bytes, size_t len, uint64_t file_len, struct elf_header *out, struct err *e) MUST_USE;

/*
 * Parse @header's n_phdrs program headers in @phdrs. Segments without memory are left out. Notes beyond
 * ELF_MAX_NOTES or longer than ELF_MAX_NOTE_LEN are left out too: the image then counts as one without PVH entry.
 * Returns 0 or -ENOEXEC.
 */
int elf_parse_phdrs(const struct elf_header *header, const uint8_t *phdrs, uint64_t file_len, struct image_plan *plan,
		    struct elf_notes *notes, struct err *e) MUST_USE;

#endif
