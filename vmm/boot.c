/* SPDX-License-Identifier: Apache-2.0 */
/* Loading the kernel and the initrd: see boot.h. */
#include "vmm/boot.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/base/checked.h"
#include "vmm/base/fd.h"
#include "vmm/boot_huge.h"
#include "vmm/bzimage.h"
#include "vmm/cmdline.h"
#include "vmm/elf.h"
#include "vmm/elf_facts.h"
#include "vmm/image.h"
#include "vmm/pvh.h"
#include "vmm/x86/entry.h"

#define HEAD_LEN 4096 /* bytes read first: holds every header and magic number, and mostly the program headers */
#define PAGE UINT64_C(4096)

struct head {
	uint64_t file_len;
	size_t len;
	uint8_t bytes[HEAD_LEN];
};

/*
 * Ask for huge pages where the kernel goes and where it allocates first, before the copy touches them. An image counts
 * whole, its gaps too: Linux gives the pages between its segments to the allocator, which hands them out first.
 */
static void advise_kernel(struct gmem *mem, const struct image_plan *plan, const struct boot_kernel *kernel)
{
	const struct boot_huge_rule rule = {
		.fill_percent = boot_huge_default.fill_percent,
		.low_blocks = boot_huge_default.low_blocks,
		.page_array = false, /* where it goes depends on the initrd */
	};
	struct boot_range filled[2];
	struct boot_huge_plan huge;
	size_t n = 0;
	gpa_t start, end;

	image_extent(plan, &start, &end);
	filled[n++] = (struct boot_range){.base = start, .len = end.v - start.v};
	if (kernel->is_bzimage) {
		/* The two may overlap in their last or first block, which then counts twice: it is advice. */
		filled[n++] = (struct boot_range){.base = kernel->work_start,
						  .len = kernel->end.v - kernel->work_start.v};
	}
	boot_huge_plan(mem, &rule, filled, n, NULL, &huge);
	boot_huge_apply(&huge, mem);
}

/* Look for a PVH entry in the notes of the file; an unreadable or odd note is none. */
static bool find_pvh_entry(int fd, const struct elf_notes *notes, uint32_t *entry)
{
	size_t i;

	for (i = 0; i < notes->n_ranges; i++) {
		const struct elf_note_range *note = &notes->range[i];
		AUTO_FREE uint8_t *bytes = malloc(note->len);

		if (!bytes || fd_pread_full(fd, bytes, note->len, note->off) < 0)
			continue;
		if (pvh_find_entry(bytes, note->len, note->align, entry))
			return true;
	}
	return false;
}

static int load_elf(struct gmem *mem, int fd, const struct head *head, struct boot_kernel *out, struct err *e)
{
	struct boot_kernel kernel = {
		.protocol = BOOT_PROTOCOL_LINUX64,
		.initrd_addr_max = UINT64_MAX,
		.cmdline_max = LAYOUT_CMDLINE_MAX - 1,
	};
	uint8_t phdrs[ELF_MAX_PHDRS * ELF_PHDR_LEN];
	struct elf_header header;
	struct elf_notes notes;
	struct image_plan plan;
	uint32_t pvh_entry;
	int rc;

	rc = elf_parse_header(head->bytes, head->len, head->file_len, &header, e);
	if (rc < 0)
		return rc;
	rc = fd_pread_full(fd, phdrs, (size_t)header.n_phdrs * ELF_PHDR_LEN, header.phdr_off);
	if (rc < 0)
		return err_sys(e, rc == -ENODATA ? -EIO : rc, "Cannot read the kernel image");
	rc = elf_parse_phdrs(&header, phdrs, head->file_len, &plan, &notes, e);
	if (rc < 0)
		return rc;
	if (find_pvh_entry(fd, &notes, &pvh_entry)) {
		kernel.protocol = BOOT_PROTOCOL_PVH;
		plan.entry = pvh_entry;
	}
	rc = image_check(&plan, mem, e);
	if (rc < 0)
		return rc;
	kernel.entry = GPA(plan.entry);
	image_extent(&plan, &kernel.start, &kernel.end);
	if (kernel.protocol == BOOT_PROTOCOL_LINUX64 && kernel.end.v > LAYOUT_IDENTITY_MAPPED)
		return err_set(e, -ENOEXEC,
			       "The kernel image ends at guest address 0x%" PRIx64
			       "; without a PVH entry it must lie in the first GiB, which is mapped at its start",
			       kernel.end.v);
	advise_kernel(mem, &plan, &kernel);
	rc = image_load(&plan, fd, mem, e);
	if (rc < 0)
		return rc;
	kernel.acpi = elf_acpi_support(fd, head->file_len, &header, &plan, mem);
	*out = kernel;
	return 0;
}

static int load_bzimage(struct gmem *mem, int fd, const struct head *head, struct boot_kernel *out, struct err *e)
{
	struct boot_kernel kernel;
	struct image_plan plan;
	int rc;

	rc = bzimage_parse(head->bytes, head->len, head->file_len, &plan, &kernel, e);
	if (rc < 0)
		return rc;
	rc = image_check(&plan, mem, e);
	if (rc < 0)
		return rc;
	if (kernel.end.v > mem->region[0].size)
		return err_set(e, -E2BIG,
			       "The kernel image uncompresses itself up to guest address 0x%" PRIx64
			       ", but the guest has %" PRIu64 " MiB of memory; give it at least %" PRIu64 " MiB",
			       kernel.end.v, mem->size / MIB, (kernel.end.v + MIB - 1) / MIB + 1);
	advise_kernel(mem, &plan, &kernel);
	rc = image_load(&plan, fd, mem, e);
	if (rc < 0)
		return rc;
	*out = kernel;
	return 0;
}

int boot_load_kernel(struct gmem *mem, int kernel_fd, struct boot_kernel *out, struct err *e)
{
	struct head head;
	int rc;

	rc = image_file_len(kernel_fd, "kernel image", &head.file_len, e);
	if (rc < 0)
		return rc;
	head.len = head.file_len < HEAD_LEN ? (size_t)head.file_len : HEAD_LEN;
	rc = fd_pread_full(kernel_fd, head.bytes, head.len, 0);
	if (rc < 0)
		return err_sys(e, rc == -ENODATA ? -EIO : rc, "Cannot read the kernel image");
	if (elf_is_elf(head.bytes, head.len))
		return load_elf(mem, kernel_fd, &head, out, e);
	if (bzimage_is_bzimage(head.bytes, head.len))
		return load_bzimage(mem, kernel_fd, &head, out, e);
	return err_set(e, -ENOEXEC, "The kernel image can't be booted. %s", image_guess(head.bytes, head.len));
}

const char *boot_kernel_text(const struct boot_kernel *kernel)
{
	if (kernel->protocol == BOOT_PROTOCOL_PVH)
		return "Kernel loaded using PVH boot protocol";
	if (kernel->is_bzimage)
		return "Kernel loaded using Linux 64-bit boot protocol (bzImage)";
	return "Kernel loaded using Linux 64-bit boot protocol";
}

/* Where an initrd of @len bytes goes: as high as the first region and the kernel allow. */
static int place_initrd(const struct gmem *mem, const struct boot_kernel *kernel, uint64_t len, gpa_t *out,
			struct err *e)
{
	uint64_t end = mem->region[0].size;
	uint64_t base;

	if (kernel->initrd_addr_max < end)
		end = kernel->initrd_addr_max + 1;
	base = len <= end ? (end - len) & ~(PAGE - 1) : 0;
	if (len > end || base < kernel->end.v)
		return err_set(e, -E2BIG,
			"The initrd does not fit: it has %" PRIu64 " bytes, but between the kernel's end at 0x%" PRIx64
			" and 0x%" PRIx64 " there are %" PRIu64 "; give the guest more memory (it has %" PRIu64 " MiB)",
			len, kernel->end.v, end, end > kernel->end.v ? end - kernel->end.v : 0, mem->size / MIB);
	*out = GPA(base);
	return 0;
}

int boot_load_initrd(struct gmem *mem, int initrd_fd, const struct boot_kernel *kernel, struct boot_initrd *out,
		     struct err *e)
{
	const struct boot_huge_rule rule = {.fill_percent = boot_huge_default.fill_percent};
	struct boot_huge_plan huge;
	struct boot_range loaded;
	uint64_t len;
	void *hva;
	int rc;

	rc = image_file_len(initrd_fd, "initrd", &len, e);
	if (rc < 0)
		return rc;
	rc = place_initrd(mem, kernel, len, &loaded.base, e);
	if (rc < 0)
		return rc;
	loaded.len = len;
	boot_huge_plan(mem, &rule, &loaded, 1, NULL, &huge);
	boot_huge_apply(&huge, mem);

	hva = gmem_hva(mem, loaded.base, len);
	must(hva);
	rc = fd_pread_full(initrd_fd, hva, len, 0);
	if (rc == -ENODATA)
		return err_set(e, rc, "The initrd became shorter while it was read");
	if (rc < 0)
		return err_sys(e, rc, "Cannot read the initrd");
	out->base = loaded.base;
	out->len = len;
	return 0;
}

bool boot_wants_cmdline_devices(const struct boot_kernel *kernel, const char *boot_args)
{
	if (kernel->acpi != BOOT_ACPI_USABLE)
		return true;
	return boot_args && (cmdline_has_word(boot_args, "acpi=off") || cmdline_has_word(boot_args, "acpi=noirq"));
}

void boot_init_regs(const struct boot_kernel *kernel, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
	switch (kernel->protocol) {
	case BOOT_PROTOCOL_PVH:
		entry_init_regs_pvh(kernel->entry, regs, sregs);
		break;
	case BOOT_PROTOCOL_LINUX64:
		entry_init_regs_64(kernel->entry, regs, sregs);
		break;
	}
}
