/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The input is the start of a bzImage; its first four bytes (which a bzImage does not use) are the length of the
 * file, so that large sizes need no large inputs.
 *
 * Asserted: what the parser accepts lies in the file, above 1 MiB and below 1 GiB, with its entry inside; the copied
 * header fits boot_params; a refusal says why.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/checked.h"
#include "vmm/bootparams.h"
#include "vmm/bzimage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_accepted(const struct image_plan *plan, const struct boot_kernel *kernel, uint64_t file_len)
{
	const struct image_segment *seg = &plan->segment[0];
	const struct boot_initrd initrd = {.base = {UINT64_C(0x123456789000)}, .len = UINT64_C(0x100000001)};
	struct e820_map map = {.n_entries = E820_MAX_ENTRIES};
	uint8_t page[BOOTPARAMS_LEN];

	must(plan->n_segments == 1);
	must(range_within(seg->file_off, seg->file_len, file_len));
	must(seg->file_len > 0x200 - 16 && seg->mem_len == seg->file_len);
	must(seg->gpa.v == LAYOUT_HIGH_MEMORY && plan->entry == LAYOUT_HIGH_MEMORY + 0x200);
	must(kernel->start.v == LAYOUT_HIGH_MEMORY && kernel->end.v >= kernel->work_start.v);
	must(kernel->work_start.v >= LAYOUT_HIGH_MEMORY && kernel->work_start.v < LAYOUT_IDENTITY_MAPPED);
	must(kernel->end.v >= seg->gpa.v + seg->mem_len);
	must(kernel->setup_header_len <= BOOT_SETUP_HEADER_MAX);
	must(kernel->cmdline_max < LAYOUT_CMDLINE_MAX);

	bootparams_build(kernel, &map, &initrd, 100, GPA(LAYOUT_RSDP), page);
	must(page[0x210] == 0xff && le64_get(page + 0x250) == 0);
	must(le32_get(page + 0x228) == LAYOUT_CMDLINE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct boot_kernel kernel;
	struct image_plan plan;
	struct err e = {0};
	uint64_t file_len;
	uint8_t *head;
	int rc;

	if (size < 4)
		return 0;
	file_len = le32_get(data);
	if (file_len < size)
		file_len = size;
	head = malloc(size); /* exactly sized: one byte too many is seen */
	must(head);
	memcpy(head, data, size);
	if (bzimage_is_bzimage(head, size)) {
		rc = bzimage_parse(head, size, file_len, &plan, &kernel, &e);
		if (rc == 0)
			check_accepted(&plan, &kernel, file_len);
		else
			must(rc == -ENOEXEC && e.msg[0] != '\0');
	}
	free(head);
	return 0;
}
