/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF images, the PVH note, the load plan's checks, and what a vmlinux tells about ACPI: one valid image, then one
 * rule broken at a time (THREATS.md GHSA-52h2-m2cf-9jh6).
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/fake_image.h"
#include "vmm/base/bytes.h"
#include "vmm/elf.h"
#include "vmm/elf_facts.h"
#include "vmm/gmem.h"
#include "vmm/image.h"
#include "vmm/pvh.h"

struct parsed {
	struct elf_header header;
	struct image_plan plan;
	struct elf_notes notes;
};

/* Header, program headers and plan check, as the loader does them, over an image that lies in memory. */
static int parse(const uint8_t *elf, uint64_t file_len, const struct gmem *mem, struct parsed *p, struct err *e)
{
	int rc = elf_parse_header(elf, file_len < 4096 ? file_len : 4096, file_len, &p->header, e);

	if (rc == 0)
		rc = elf_parse_phdrs(&p->header, elf + p->header.phdr_off, file_len, &p->plan, &p->notes, e);
	if (rc == 0)
		rc = image_check(&p->plan, mem, e);
	return rc;
}

static struct gmem *make_mem(uint64_t size)
{
	struct gmem *mem = NULL;

	assert_int_equal(gmem_create(&mem, size, GMEM_PAGES_DEFAULT, NULL), 0);
	return mem;
}

static void valid(void **state)
{
	struct gmem *mem = make_mem(64 * MIB);
	uint8_t elf[FAKE_ELF_LEN];
	struct parsed p;
	gpa_t start, end;

	(void)state;
	fake_elf(elf, true);
	assert_true(elf_is_elf(elf, sizeof(elf)));
	assert_int_equal(parse(elf, sizeof(elf), mem, &p, NULL), 0);
	assert_int_equal(p.plan.n_segments, 2);
	assert_int_equal(p.plan.entry, FAKE_ELF_TEXT);
	assert_int_equal(p.plan.segment[1].gpa.v, FAKE_ELF_DATA);
	assert_int_equal(p.plan.segment[1].file_len, 0x800);
	assert_int_equal(p.plan.segment[1].mem_len, 0x3000);
	image_extent(&p.plan, &start, &end);
	assert_int_equal(start.v, FAKE_ELF_TEXT);
	assert_int_equal(end.v, FAKE_ELF_DATA + 0x3000);
	assert_int_equal(p.notes.n_ranges, 1);
	assert_int_equal(p.notes.range[0].off, FAKE_ELF_NOTES);
	gmem_destroy(mem);
}

enum width { W8 = 1, W16 = 2, W32 = 4, W64 = 8 };

static const struct {
	size_t off;
	enum width width;
	uint64_t value;
	int rc;
	const char *text; /* part of the message */
} broken[] = {
	{4, W8, 1, -ENOEXEC, "32-bit ELF"},
	{5, W8, 2, -ENOEXEC, "big-endian"},
	{6, W8, 9, -ENOEXEC, "version 9"},
	{ELF_E_TYPE, W16, 1, -ENOEXEC, "type 1"},
	{ELF_E_TYPE, W16, 4, -ENOEXEC, "core dump"},
	{ELF_E_MACHINE, W16, 183, -ENOEXEC, "arm64"},
	{ELF_E_MACHINE, W16, 3, -ENOEXEC, "i386"},
	{ELF_E_MACHINE, W16, 0xfffe, -ENOEXEC, "machine 65534"},
	{ELF_E_PHNUM, W16, 0, -ENOEXEC, "nothing to load"},
	{ELF_E_PHNUM, W16, 65, -ENOEXEC, "65 program headers"},
	{ELF_E_PHNUM, W16, 0xffff, -ENOEXEC, "65535 program headers"},
	{ELF_E_PHENTSIZE, W16, 32, -ENOEXEC, "of 32 bytes"},
	{ELF_E_PHENTSIZE, W16, 0, -ENOEXEC, "of 0 bytes"},
	{ELF_E_PHOFF, W64, FAKE_ELF_LEN - 100, -ENOEXEC, "cut off"},
	{ELF_E_PHOFF, W64, UINT64_MAX - 10, -ENOEXEC, "cut off"},
	{ELF_E_ENTRY, W64, 0, -ENOEXEC, "entry point"},
	{ELF_E_ENTRY, W64, FAKE_ELF_TEXT + 0x1000, -ENOEXEC, "entry point"},
	{ELF_E_ENTRY, W64, FAKE_ELF_DATA + 0x800, -ENOEXEC, "entry point"}, /* in bss */
	{ELF_P(0, ELF_P_FILESZ), W64, 0x1001, -ENOEXEC, "4097 bytes in the file but only 4096"},
	{ELF_P(1, ELF_P_FILESZ), W64, 0x1001, -ENOEXEC, "cut off"},
	{ELF_P(1, ELF_P_OFFSET), W64, FAKE_ELF_LEN - 0x7ff, -ENOEXEC, "cut off"},
	{ELF_P(1, ELF_P_OFFSET), W64, UINT64_MAX, -ENOEXEC, "cut off"},
	{ELF_P(0, ELF_P_PADDR), W64, 0, -ENOEXEC, "first MiB"},
	{ELF_P(0, ELF_P_PADDR), W64, 0xfffff, -ENOEXEC, "first MiB"},
	{ELF_P(1, ELF_P_PADDR), W64, 64 * MIB - 0x2fff, -E2BIG, "give it at least"},
	{ELF_P(1, ELF_P_PADDR), W64, UINT64_MAX - 0x1000, -ENOEXEC, "wraps around"},
	{ELF_P(1, ELF_P_MEMSZ), W64, UINT64_MAX, -ENOEXEC, "wraps around"},
	{ELF_P(1, ELF_P_MEMSZ), W64, UINT64_MAX - FAKE_ELF_DATA, -ENOEXEC, "ends at 0xc0000000"},
	{ELF_P(1, ELF_P_PADDR), W64, 4 * GIB, -ENOEXEC, "ends at 0xc0000000"},
	{ELF_P(1, ELF_P_PADDR), W64, FAKE_ELF_TEXT + 0xfff, -ENOEXEC, "overlap"},
	{ELF_P(1, ELF_P_PADDR), W64, FAKE_ELF_TEXT - 0x2fff, -ENOEXEC, "overlap"}, /* by its bss */
	{ELF_P(1, ELF_P_PADDR), W64, FAKE_ELF_TEXT, -ENOEXEC, "overlap"},
};

static void one_rule_broken(void **state)
{
	struct gmem *mem = make_mem(64 * MIB);
	uint8_t elf[FAKE_ELF_LEN], value[8];
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(broken); i++) {
		struct err e = {0};
		struct parsed p;

		fake_elf(elf, false);
		le64_put(value, broken[i].value);
		memcpy(elf + broken[i].off, value, broken[i].width);
		assert_int_equal(parse(elf, sizeof(elf), mem, &p, &e), broken[i].rc);
		if (!strstr(e.msg, broken[i].text))
			fail_msg("row %zu says: %s", i, e.msg);
	}
	gmem_destroy(mem);
}

static void nothing_to_load(void **state)
{
	struct gmem *mem = make_mem(64 * MIB);
	uint8_t elf[FAKE_ELF_LEN];
	struct err e = {0};
	struct parsed p;

	(void)state;
	fake_elf(elf, false);
	le32_put(elf + ELF_P(0, ELF_P_TYPE), 0);
	le64_put(elf + ELF_P(1, ELF_P_FILESZ), 0); /* a segment without memory is no segment */
	le64_put(elf + ELF_P(1, ELF_P_MEMSZ), 0);
	assert_int_equal(parse(elf, sizeof(elf), mem, &p, &e), -ENOEXEC);
	assert_non_null(strstr(e.msg, "nothing to load"));
	gmem_destroy(mem);
}

/* Every length short of the whole file is refused, in every place where it can end. */
static void cut_off_anywhere(void **state)
{
	struct gmem *mem = make_mem(64 * MIB);
	uint8_t elf[FAKE_ELF_LEN];
	size_t len;

	(void)state;
	fake_elf(elf, true);
	for (len = 4; len < 0x2800; len++) {
		uint8_t *exact = malloc(len); /* so that ASan sees a byte too many */
		struct err e = {0};
		struct parsed p;

		memcpy(exact, elf, len);
		assert_int_equal(parse(exact, len, mem, &p, &e), -ENOEXEC);
		assert_true(e.msg[0] != '\0');
		free(exact);
	}
	gmem_destroy(mem);
}

static void too_many_segments(void **state)
{
	struct elf_header header = {.entry = FAKE_ELF_TEXT, .n_phdrs = ELF_MAX_PHDRS};
	uint8_t phdrs[ELF_MAX_PHDRS * ELF_PHDR_LEN] = {0};
	struct image_plan plan;
	struct elf_notes notes;
	struct err e = {0};
	int i;

	(void)state;
	for (i = 0; i < ELF_MAX_PHDRS; i++) {
		le32_put(phdrs + i * ELF_PHDR_LEN, 1);
		le64_put(phdrs + i * ELF_PHDR_LEN + ELF_P_MEMSZ, 1);
	}
	assert_int_equal(elf_parse_phdrs(&header, phdrs, 4096, &plan, &notes, &e), -ENOEXEC);
	assert_non_null(strstr(e.msg, "more than 32 segments"));
}

static void many_and_odd_notes(void **state)
{
	struct elf_header header = {.entry = FAKE_ELF_TEXT, .n_phdrs = 8};
	uint8_t phdrs[8 * ELF_PHDR_LEN] = {0};
	struct image_plan plan;
	struct elf_notes notes;
	int i;

	(void)state;
	for (i = 0; i < 8; i++) {
		le32_put(phdrs + i * ELF_PHDR_LEN, 4);
		le64_put(phdrs + i * ELF_PHDR_LEN + ELF_P_FILESZ, 16);
	}
	le64_put(phdrs + ELF_P_FILESZ, ELF_MAX_NOTE_LEN + 1); /* too long */
	le64_put(phdrs + ELF_PHDR_LEN + ELF_P_OFFSET, UINT64_MAX); /* beyond the file */
	assert_int_equal(elf_parse_phdrs(&header, phdrs, 1 << 20, &plan, &notes, NULL), 0);
	assert_int_equal(notes.n_ranges, ELF_MAX_NOTES);
	for (i = 0; i < ELF_MAX_NOTES; i++)
		assert_int_equal(notes.range[i].len, 16);
}

static void pvh_note(void **state)
{
	uint8_t elf[FAKE_ELF_LEN];
	uint8_t *notes = elf + FAKE_ELF_NOTES;
	uint32_t entry = 0;
	size_t len;

	(void)state;
	fake_elf(elf, true);
	assert_true(pvh_find_entry(notes, FAKE_ELF_NOTES_LEN, 4, &entry));
	assert_int_equal(entry, FAKE_ELF_PVH_ENTRY);
	for (len = 0; len < FAKE_ELF_NOTES_LEN - 4; len++) {
		uint8_t *exact = malloc(len + 1);

		memcpy(exact, notes, len);
		assert_false(pvh_find_entry(exact, len, 4, &entry));
		free(exact);
	}
	le32_put(notes + 32 + 4, 4); /* the protocol's own size */
	assert_true(pvh_find_entry(notes, FAKE_ELF_NOTES_LEN - 4, 4, &entry));
	fake_elf(elf, false);
	assert_false(pvh_find_entry(notes, FAKE_ELF_NOTES_LEN, 4, &entry));
}

static void hostile_notes(void **state)
{
	static const struct {
		size_t off;
		uint32_t value;
	} table[] = {
		{0, UINT32_MAX}, {4, UINT32_MAX}, {32, UINT32_MAX}, {36, UINT32_MAX}, /* lengths */
		{32, 3}, {32, 5}, {36, 0}, {36, 16},                                  /* another owner; odd contents */
		{44, 0x006e6558 + 1},                                                 /* "Yen" */
		{52, 1},                                                              /* an entry above 4 GiB */
	};
	uint8_t elf[FAKE_ELF_LEN];
	uint8_t zeroes[4096] = {0};
	uint32_t entry = 7;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		fake_elf(elf, true);
		le32_put(elf + FAKE_ELF_NOTES + table[i].off, table[i].value);
		assert_false(pvh_find_entry(elf + FAKE_ELF_NOTES, FAKE_ELF_NOTES_LEN, 4, &entry));
	}
	/* Empty notes only: each takes its header's 12 bytes (16 when padded to 8), so this ends. */
	assert_false(pvh_find_entry(zeroes, sizeof(zeroes), 4, &entry));
	assert_false(pvh_find_entry(zeroes, sizeof(zeroes), 8, &entry));
	assert_int_equal(entry, 7);
}

/*
 * ---- elf_facts --------------------------------------------------------------------------------------------------
 */

#define VBASE UINT64_C(0xffffffff81000000)
#define PARAMS 0x100 /* offsets in the segment */
#define NAMES 0x800
#define FIXUPS 0xc00

struct facts {
	struct gmem *mem;
	struct image_plan plan;
	struct elf_sections sections;
};

static void facts_init(struct facts *f, size_t n_params, size_t n_fixups)
{
	uint8_t *seg;
	size_t i;

	f->mem = make_mem(64 * MIB);
	f->plan = (struct image_plan){.n_segments = 1};
	f->plan.segment[0] = (struct image_segment){
		.file_len = 0x1000, .mem_len = 0x1000, .gpa = GPA(FAKE_ELF_TEXT), .vaddr = VBASE};
	f->sections.param.vaddr = VBASE + PARAMS;
	f->sections.param.len = n_params * 40;
	f->sections.pci_fixup.vaddr = VBASE + FIXUPS;
	f->sections.pci_fixup.len = n_fixups * 16;
	seg = gmem_hva(f->mem, GPA(FAKE_ELF_TEXT), 0x1000);
	for (i = 0; i < n_params; i++)
		le64_put(seg + PARAMS + i * 40, VBASE + NAMES);
	memcpy(seg + NAMES, "acp.xx\0acpi.ec_delay", 21);
	for (i = 0; i < n_fixups; i++) {
		le32_put(seg + FIXUPS + i * 16, 0x27b88086);
		le32_put(seg + FIXUPS + i * 16 + 4, UINT32_MAX); /* any class: no evidence */
	}
}

static void acpi_evidence(void **state)
{
	struct facts f;
	uint8_t *seg;

	(void)state;
	facts_init(&f, 4, 3);
	seg = gmem_hva(f.mem, GPA(FAKE_ELF_TEXT), 0x1000);
	assert_int_equal(elf_judge_acpi(&f.sections, &f.plan, f.mem), BOOT_ACPI_ABSENT);
	le64_put(seg + PARAMS + 3 * 40, VBASE + NAMES + 7);
	assert_int_equal(elf_judge_acpi(&f.sections, &f.plan, f.mem), BOOT_ACPI_NEEDS_PCI);
	le32_put(seg + FIXUPS + 2 * 16, UINT32_MAX);
	assert_int_equal(elf_judge_acpi(&f.sections, &f.plan, f.mem), BOOT_ACPI_USABLE);
	f.sections.pci_fixup.len = 0;
	assert_int_equal(elf_judge_acpi(&f.sections, &f.plan, f.mem), BOOT_ACPI_NEEDS_PCI);
	gmem_destroy(f.mem);
}

static void acpi_no_evidence(void **state)
{
	struct facts f;
	uint8_t *seg;

	(void)state;
	facts_init(&f, 4, 3);
	seg = gmem_hva(f.mem, GPA(FAKE_ELF_TEXT), 0x1000);
	f.sections.param.len = 4 * 40 + 1;
	assert_int_equal(elf_judge_acpi(&f.sections, &f.plan, f.mem), BOOT_ACPI_UNKNOWN);
	f.sections.param.len = 0;
	assert_int_equal(elf_judge_acpi(&f.sections, &f.plan, f.mem), BOOT_ACPI_UNKNOWN);
	f.sections.param.len = UINT64_C(40) << 40;
	assert_int_equal(elf_judge_acpi(&f.sections, &f.plan, f.mem), BOOT_ACPI_UNKNOWN);
	f.sections.param.len = 4 * 40;
	f.sections.param.vaddr = VBASE + 0x1000 - 40; /* runs out of the segment */
	assert_int_equal(elf_judge_acpi(&f.sections, &f.plan, f.mem), BOOT_ACPI_UNKNOWN);
	f.sections.param.vaddr = UINT64_MAX - 20;
	assert_int_equal(elf_judge_acpi(&f.sections, &f.plan, f.mem), BOOT_ACPI_UNKNOWN);
	f.sections.param.vaddr = VBASE + PARAMS;
	le64_put(seg + PARAMS, UINT64_MAX); /* a name that is nowhere */
	assert_int_equal(elf_judge_acpi(&f.sections, &f.plan, f.mem), BOOT_ACPI_UNKNOWN);
	gmem_destroy(f.mem);
}

static void sections(void **state)
{
	static const char names[] = "\0__param\0.pci_fixup\0.bss";
	uint8_t shdrs[4 * ELF_SHDR_LEN] = {0};
	struct elf_sections s;

	(void)state;
	le32_put(shdrs + ELF_SHDR_LEN, 1);
	le64_put(shdrs + ELF_SHDR_LEN + 16, 0x1111);
	le64_put(shdrs + ELF_SHDR_LEN + 32, 80);
	le32_put(shdrs + 2 * ELF_SHDR_LEN, 9);
	le64_put(shdrs + 2 * ELF_SHDR_LEN + 32, 16);
	le32_put(shdrs + 3 * ELF_SHDR_LEN, UINT32_MAX); /* a name beyond the names */
	elf_find_sections(shdrs, 4, (const uint8_t *)names, sizeof(names), &s);
	assert_int_equal(s.param.vaddr, 0x1111);
	assert_int_equal(s.param.len, 80);
	assert_int_equal(s.pci_fixup.len, 16);
	elf_find_sections(shdrs, 4, (const uint8_t *)names, 8, &s); /* "__param" without its end */
	assert_int_equal(s.param.len, 0);
	elf_find_sections(shdrs, 0, NULL, 0, &s);
	assert_int_equal(s.pci_fixup.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(valid),
		cmocka_unit_test(one_rule_broken),
		cmocka_unit_test(nothing_to_load),
		cmocka_unit_test(cut_off_anywhere),
		cmocka_unit_test(too_many_segments),
		cmocka_unit_test(many_and_odd_notes),
		cmocka_unit_test(pvh_note),
		cmocka_unit_test(hostile_notes),
		cmocka_unit_test(acpi_evidence),
		cmocka_unit_test(acpi_no_evidence),
		cmocka_unit_test(sections),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
