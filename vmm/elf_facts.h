/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a vmlinux tells about its configuration without being run: does its ACPI work on a machine without PCI tables?
 *
 * The evidence is what the kernel's own build leaves in the file, a few kilobytes to look at (no symbol table is
 * needed, and `strip` keeps both):
 *   - the table of module parameters (section `__param`) has an entry `acpi.<something>` exactly when ACPI is built
 *     in;
 *   - the table of PCI fixups (`.pci_fixup`) has one for any device of any vendor exactly when PCI is (x86's VGA
 *     fixup, from arch/x86/pci). Other entries are no evidence: a few chipset quirks stand there in every x86
 *     kernel.
 *
 * Trust: the file is hostile, and its author can only mislead his own guest. Threads: see boot.h.
 */
#ifndef MAYFLY_VMM_ELF_FACTS_H
#define MAYFLY_VMM_ELF_FACTS_H

#include "vmm/boot.h"
#include "vmm/elf.h"

#define ELF_MAX_NAMES_LEN (16 * 1024) /* bytes of section names; Linux has about 1 KiB */
#define ELF_MAX_PARAMS 4096
#define ELF_MAX_FIXUPS_LEN (64 * 1024) /* bytes; a distribution's kernel has 16 KiB */

/* A section that the image has loaded; len 0: it has none of that name. */
struct elf_section {
	uint64_t vaddr, len; /* bytes */
};

struct elf_sections {
	struct elf_section param, pci_fixup;
};

/*
 * Find the sections that count among @n_shdrs headers in @shdrs, whose names are in @names (@names_len bytes, not
 * necessarily terminated). Pure.
 */
void elf_find_sections(const uint8_t *shdrs, uint32_t n_shdrs, const uint8_t *names, size_t names_len,
		       struct elf_sections *out);

/* Judge the two tables of an image that stands in @mem as the accepted @plan says. Pure but for reading @mem. */
enum boot_acpi elf_judge_acpi(const struct elf_sections *sections, const struct image_plan *plan,
			      const struct gmem *mem) MUST_USE;

/* All of it for the loaded image behind @fd; BOOT_ACPI_UNKNOWN whenever the file does not cooperate. */
enum boot_acpi elf_acpi_support(int fd, uint64_t file_len, const struct elf_header *header,
				const struct image_plan *plan, const struct gmem *mem) MUST_USE;

#endif
