/* SPDX-License-Identifier: Apache-2.0 */
/* Facts about a vmlinux: see elf_facts.h. */
#include "vmm/elf_facts.h"

#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/checked.h"
#include "vmm/base/fd.h"

/* Section headers (System V ABI). */
#define SH_NAME 0
#define SH_TYPE 4
#define SH_ADDR 16
#define SH_OFFSET 24
#define SH_SIZE 32
#define SHT_NOBITS 8

/* struct kernel_param of a 64-bit Linux: 40 bytes since 4.0, the name's address first. */
#define PARAM_LEN 40

static bool name_is(const uint8_t *names, size_t names_len, uint32_t off, const char *want)
{
	size_t len = strlen(want) + 1;

	return range_within(off, len, names_len) && memcmp(names + off, want, len) == 0;
}

void elf_find_sections(const uint8_t *shdrs, uint32_t n_shdrs, const uint8_t *names, size_t names_len,
		       struct elf_sections *out)
{
	struct elf_sections s = {0};
	uint32_t i;

	for (i = 0; i < n_shdrs; i++) {
		const uint8_t *shdr = shdrs + (size_t)i * ELF_SHDR_LEN;
		uint32_t name = le32_get(shdr + SH_NAME);
		struct elf_section section = {.vaddr = le64_get(shdr + SH_ADDR), .len = le64_get(shdr + SH_SIZE)};

		if (le32_get(shdr + SH_TYPE) == SHT_NOBITS)
			continue;
		if (name_is(names, names_len, name, "__param"))
			s.param = section;
		else if (name_is(names, names_len, name, ".pci_fixup"))
			s.pci_fixup = section;
	}
	*out = s;
}

/* Read @len bytes at the image's own address @vaddr out of the loaded image. */
static bool read_image(const struct image_plan *plan, const struct gmem *mem, uint64_t vaddr, void *dst, uint64_t len)
{
	size_t i;

	for (i = 0; i < plan->n_segments; i++) {
		const struct image_segment *seg = &plan->segment[i];

		if (vaddr >= seg->vaddr && range_within(vaddr - seg->vaddr, len, seg->file_len))
			return gmem_read(mem, GPA(seg->gpa.v + (vaddr - seg->vaddr)), dst, len) == 0;
	}
	return false;
}

/*
 * Is there a fixup for any device of any vendor? An entry has 16 or, before Linux 4.19, 24 bytes and starts with
 * the two ids; at the other multiples of 8 are a shift count and the middle of an address, which are never all
 * ones.
 */
static bool has_general_fixup(const struct elf_section *fixups, const struct image_plan *plan, const struct gmem *mem)
{
	uint64_t off;
	uint8_t ids[4];

	if (fixups->len > ELF_MAX_FIXUPS_LEN)
		return true; /* no kernel without PCI has that many */
	for (off = 0; range_within(off, sizeof(ids), fixups->len); off += 8) {
		if (!read_image(plan, mem, fixups->vaddr + off, ids, sizeof(ids)))
			return false;
		if (le32_get(ids) == UINT32_MAX)
			return true;
	}
	return false;
}

enum boot_acpi elf_judge_acpi(const struct elf_sections *sections, const struct image_plan *plan,
			      const struct gmem *mem)
{
	static const char prefix[] = "acpi.";
	const struct elf_section *table = &sections->param;
	uint64_t i, n_params = table->len / PARAM_LEN;
	uint8_t param[PARAM_LEN];
	char name[sizeof(prefix) - 1];

	/* A table of another shape is a kernel that we don't know: no statement. */
	if (n_params == 0 || table->len % PARAM_LEN != 0 || n_params > ELF_MAX_PARAMS)
		return BOOT_ACPI_UNKNOWN;
	for (i = 0; i < n_params; i++) {
		if (!read_image(plan, mem, table->vaddr + i * PARAM_LEN, param, sizeof(param)) ||
		    !read_image(plan, mem, le64_get(param), name, sizeof(name)))
			return BOOT_ACPI_UNKNOWN;
		if (memcmp(name, prefix, sizeof(name)) == 0)
			return has_general_fixup(&sections->pci_fixup, plan, mem) ? BOOT_ACPI_USABLE
										  : BOOT_ACPI_NEEDS_PCI;
	}
	return BOOT_ACPI_ABSENT;
}

enum boot_acpi elf_acpi_support(int fd, uint64_t file_len, const struct elf_header *header,
				const struct image_plan *plan, const struct gmem *mem)
{
	AUTO_FREE uint8_t *shdrs = NULL;
	AUTO_FREE uint8_t *names = NULL;
	struct elf_sections sections;
	uint64_t names_off, names_len;
	const uint8_t *names_shdr;

	if (header->n_shdrs == 0)
		return BOOT_ACPI_UNKNOWN;
	shdrs = malloc((size_t)header->n_shdrs * ELF_SHDR_LEN);
	if (!shdrs || fd_pread_full(fd, shdrs, (size_t)header->n_shdrs * ELF_SHDR_LEN, header->shdr_off) < 0)
		return BOOT_ACPI_UNKNOWN;
	must(header->names_index < header->n_shdrs);
	names_shdr = shdrs + (size_t)header->names_index * ELF_SHDR_LEN;
	names_off = le64_get(names_shdr + SH_OFFSET);
	names_len = le64_get(names_shdr + SH_SIZE);
	if (names_len == 0 || names_len > ELF_MAX_NAMES_LEN || !range_within(names_off, names_len, file_len))
		return BOOT_ACPI_UNKNOWN;
	names = malloc(names_len);
	if (!names || fd_pread_full(fd, names, names_len, names_off) < 0)
		return BOOT_ACPI_UNKNOWN;
	elf_find_sections(shdrs, header->n_shdrs, names, names_len, &sections);
	return elf_judge_acpi(&sections, plan, mem);
}
