// SPDX-License-Identifier: Apache-2.0
/*
 * Making a vmlinux dense: what a loader would put into memory stays the same, byte for byte; the filler is gone.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rootfs-builder/kernel/compact.h"
#include "vmm/base/err.h"

#define PAGE 4096u
#define TEXT_PAGES 64u
#define DATA_PAGES 32u
#define FILE_LEN (PAGE * (1 + TEXT_PAGES + DATA_PAGES))
#define BASE UINT64_C(0x1000000)
#define MEM_LEN (4u << 20)

static uint8_t file[FILE_LEN];
static Elf64_Phdr phdrs[3];

static void write_headers(size_t n_phdrs)
{
	Elf64_Ehdr eh = { .e_ident = ELFMAG "\2\1\1", .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_entry = BASE + 16,
			  .e_phoff = 64, .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = (Elf64_Half)n_phdrs };

	memcpy(file, &eh, sizeof(eh));
	memcpy(file + 64, phdrs, sizeof(phdrs));
}

/* Text with a gap of int3 in its middle and notes at its end, and writable data with 0xcc pages, zeros and a bss. */
static void good_file(void)
{
	uint8_t *text = file + PAGE, *data = text + TEXT_PAGES * PAGE;

	memset(file, 0, sizeof(file));
	memset(text, 0x90, 10 * PAGE);
	memset(text + 10 * PAGE, 0xcc, 20 * PAGE);
	memset(text + 50 * PAGE, 0x91, 14 * PAGE);
	memset(data, 0xcc, 12 * PAGE);
	phdrs[0] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_offset = PAGE, .p_vaddr = 0x81000000,
				 .p_paddr = BASE, .p_filesz = TEXT_PAGES * PAGE, .p_memsz = TEXT_PAGES * PAGE };
	phdrs[1] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_flags = PF_R | PF_W, .p_offset = PAGE + TEXT_PAGES * PAGE,
				 .p_vaddr = 0x81200000, .p_paddr = BASE + 0x200000, .p_filesz = DATA_PAGES * PAGE,
				 .p_memsz = (DATA_PAGES + 5) * PAGE };
	phdrs[2] = (Elf64_Phdr){ .p_type = PT_NOTE, .p_offset = PAGE + 60 * PAGE + 8, .p_filesz = 24 };
	write_headers(3);
}

/* What a loader makes of @elf, from BASE on; also checks that offsets and addresses agree modulo a page. */
static uint8_t *load(const uint8_t *elf, size_t len, uint64_t *end)
{
	uint8_t *mem = calloc(1, MEM_LEN);
	Elf64_Ehdr eh;
	Elf64_Phdr ph;

	assert_non_null(mem);
	memcpy(&eh, elf, sizeof(eh));
	*end = 0;
	for (size_t i = 0; i < eh.e_phnum; i++) {
		memcpy(&ph, elf + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type != PT_LOAD)
			continue;
		assert_true(ph.p_offset + ph.p_filesz <= len && ph.p_filesz <= ph.p_memsz);
		assert_int_equal(ph.p_offset % PAGE, ph.p_vaddr % PAGE);
		memcpy(mem + (ph.p_paddr - BASE), elf + ph.p_offset, ph.p_filesz);
		if (*end < ph.p_paddr + ph.p_memsz)
			*end = ph.p_paddr + ph.p_memsz;
	}
	return mem;
}

static void memory_stays_the_same(void **state)
{
	uint64_t end_before, end_after;
	struct err e = { 0 };
	uint8_t *out;
	size_t len;

	(void)state;
	good_file();
	assert_int_equal(kernel_compact(file, sizeof(file), &out, &len, &e), 0);
	assert_true(len < 45 * PAGE); /* 40 pages of text are filler, 20 of data are zero */
	memset(file + 11 * PAGE, 0, 20 * PAGE); /* int3 filler reads as zero afterwards */
	uint8_t *before = load(file, sizeof(file), &end_before);
	uint8_t *after = load(out, len, &end_after);
	assert_memory_equal(before, after, (TEXT_PAGES * PAGE));
	assert_memory_equal(before + 0x200000, after + 0x200000, (DATA_PAGES + 5) * PAGE);
	/* the writable segment's memory ends where it did, though its zeros are gone from the file */
	assert_true(end_after <= end_before);
	free(before);
	free(after);

	Elf64_Ehdr eh;
	Elf64_Phdr note;
	memcpy(&eh, out, sizeof(eh));
	assert_int_equal(eh.e_entry, BASE + 16);
	memcpy(&note, out + eh.e_phoff + (eh.e_phnum - 1u) * sizeof(note), sizeof(note));
	assert_int_equal(note.p_type, PT_NOTE);
	assert_memory_equal(out + note.p_offset, file + PAGE + 60 * PAGE + 8, 24);
	free(out);
}

static void wrong_files_are_refused(void **state)
{
	uint8_t *out = NULL;
	size_t len;

	(void)state;
	good_file();
	for (size_t cut = 0; cut < sizeof(file); cut += 997)
		assert_int_equal(kernel_compact(file, cut, &out, &len, NULL), -EINVAL);
	phdrs[1].p_memsz = 5;
	write_headers(3);
	assert_int_equal(kernel_compact(file, sizeof(file), &out, &len, NULL), -EINVAL);
	good_file();
	phdrs[2].p_offset = 0; /* notes that nothing loads */
	write_headers(3);
	assert_int_equal(kernel_compact(file, sizeof(file), &out, &len, NULL), -EINVAL);
	assert_null(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_stays_the_same),
		cmocka_unit_test(wrong_files_are_refused),
	};

	return cmocka_run_group_tests_name("rootfs_compact", tests, NULL, NULL);
}
