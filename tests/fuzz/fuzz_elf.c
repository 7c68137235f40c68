/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The input is a kernel image file, loaded into 64 MiB of guest memory as /boot-source does it.
 *
 * Asserted: what the parser accepts lies in the file, in RAM above 1 MiB and nowhere twice, with an entry in loaded
 * bytes; what the loader then writes is exactly the file's bytes and nothing in the first MiB; a refusal says why;
 * tables can be written.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/fake_image.h"
#include "vmm/base/cdefs.h"
#include "vmm/base/checked.h"
#include "vmm/base/fd.h"
#include "vmm/boot.h"
#include "vmm/elf.h"
#include "vmm/pvh.h"

#define RAM (64 * MIB)
#define HEAD 4096 /* what the loader reads first */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first @len bytes of the input as a heap block of exactly that length, so that one byte too many is seen. */
static uint8_t *exact(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	must(copy);
	memcpy(copy, data, len);
	return copy;
}

static void check_plan(const struct image_plan *plan, size_t size)
{
	bool has_entry = false;
	size_t i, k;

	must(plan->n_segments > 0 && plan->n_segments <= IMAGE_MAX_SEGMENTS);
	for (i = 0; i < plan->n_segments; i++) {
		const struct image_segment *a = &plan->segment[i];

		must(range_within(a->file_off, a->file_len, size));
		must(a->file_len <= a->mem_len && a->mem_len > 0);
		must(a->gpa.v >= LAYOUT_HIGH_MEMORY && range_within(a->gpa.v, a->mem_len, RAM));
		has_entry |= plan->entry >= a->gpa.v && plan->entry < a->gpa.v + a->file_len;
		for (k = 0; k < i; k++) {
			const struct image_segment *b = &plan->segment[k];

			must(a->gpa.v >= b->gpa.v + b->mem_len || b->gpa.v >= a->gpa.v + a->mem_len);
		}
	}
	must(has_entry);
}

/* The parsers alone, over exactly sized blocks. True and *@plan when the image is acceptable. */
static bool parse(const uint8_t *data, size_t size, const struct gmem *mem, struct image_plan *plan)
{
	size_t head_len = size < HEAD ? size : HEAD;
	uint8_t *head = exact(data, head_len), *phdrs = NULL;
	struct elf_header header;
	struct elf_notes notes;
	struct err e = {0};
	uint32_t entry;
	size_t i;
	int rc = -ENOEXEC;

	if (elf_is_elf(head, head_len))
		rc = elf_parse_header(head, head_len, size, &header, &e);
	if (rc == 0) {
		must(range_within(header.phdr_off, header.n_phdrs * ELF_PHDR_LEN, size));
		phdrs = exact(data + header.phdr_off, header.n_phdrs * ELF_PHDR_LEN);
		rc = elf_parse_phdrs(&header, phdrs, size, plan, &notes, &e);
	}
	for (i = 0; rc == 0 && i < notes.n_ranges; i++) {
		uint8_t *note;

		must(range_within(notes.range[i].off, notes.range[i].len, size));
		note = exact(data + notes.range[i].off, notes.range[i].len);
		if (pvh_find_entry(note, notes.range[i].len, notes.range[i].align, &entry)) {
			plan->entry = entry;
			i = ELF_MAX_NOTES;
		}
		free(note);
	}
	if (rc == 0) {
		rc = image_check(plan, mem, &e);
		if (rc == 0)
			check_plan(plan, size);
		else
			must(e.msg[0] != '\0');
	}
	free(head);
	free(phdrs);
	return rc == 0;
}

static void check_loaded(const struct image_plan *plan, const uint8_t *data, const struct gmem *mem)
{
	static const uint8_t zeroes[LAYOUT_HIGH_MEMORY];
	const uint8_t *ram = gmem_hva(mem, GPA(0), RAM);
	size_t i;

	must(ram && memcmp(ram, zeroes, sizeof(zeroes)) == 0);
	for (i = 0; i < plan->n_segments; i++) {
		const struct image_segment *seg = &plan->segment[i];

		must(memcmp(ram + seg->gpa.v, data + seg->file_off, seg->file_len) == 0);
	}
}

static void check_tables(struct gmem *mem, const struct boot_kernel *kernel)
{
	/* A bzImage says how long a command line it takes, and may say 0. */
	const char *cmdline = kernel->cmdline_max >= 5 ? "quiet" : "";
	struct boot_config config = {.kernel = kernel, .cmdline = cmdline, .n_vcpus = 1, .has_vmgenid = true};
	struct kvm_sregs sregs = {0};
	struct kvm_regs regs;

	must(boot_write_tables(mem, &config, NULL) == 0);
	boot_init_regs(kernel, &regs, &sregs);
	must(regs.rip == kernel->entry.v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct boot_kernel kernel;
	struct image_plan plan;
	struct gmem *mem = NULL;
	struct err e = {0};
	bool accepted;
	int rc;

	must(gmem_create(&mem, RAM, GMEM_PAGES_DEFAULT, NULL) == 0);
	accepted = parse(data, size, mem, &plan);
	AUTO_FD int fd = fake_file(data, size);
	rc = boot_load_kernel(mem, fd, &kernel, &e);
	must(rc == 0 || (rc == e.code && e.msg[0] != '\0'));
	if (rc == 0) {
		must(kernel.start.v >= LAYOUT_HIGH_MEMORY && kernel.end.v <= RAM && kernel.start.v < kernel.end.v);
		if (!kernel.is_bzimage) {
			must(accepted);
			check_loaded(&plan, data, mem);
		}
		check_tables(mem, &kernel);
	} else {
		must(!accepted);
	}
	gmem_destroy(mem);
	return 0;
}
