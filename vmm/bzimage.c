/* SPDX-License-Identifier: Apache-2.0 */
/* bzImage files: see bzimage.h. Field names and offsets are those of Linux, Documentation/arch/x86/boot.rst. */
#include "vmm/bzimage.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/checked.h"
#include "vmm/layout.h"

#define HDR_START 0x1f1
#define SETUP_SECTS 0x1f1
#define SYSSIZE 0x1f4
#define BOOT_FLAG 0x1fe
#define JUMP_LEN 0x201 /* the header ends here + 1 + this byte */
#define HEADER_MAGIC 0x202
#define VERSION 0x206
#define LOADFLAGS 0x211
#define INITRD_ADDR_MAX 0x22c
#define KERNEL_ALIGNMENT 0x230
#define RELOCATABLE_KERNEL 0x234
#define XLOADFLAGS 0x236
#define CMDLINE_SIZE 0x238
#define PREF_ADDRESS 0x258
#define INIT_SIZE 0x260

#define SECTOR 512
#define PARAGRAPH 16
#define LOADED_HIGH 0x01
#define XLF_KERNEL_64 0x01
#define XLF_CAN_BE_LOADED_ABOVE_4G 0x02
#define VERSION_2_12 0x020c
#define ENTRY_64 0x200 /* from the start of the protected-mode part */

bool bzimage_is_bzimage(const uint8_t *bytes, size_t len)
{
	return len >= VERSION + 2 && le16_get(bytes + BOOT_FLAG) == 0xaa55 &&
	       memcmp(bytes + HEADER_MAGIC, "HdrS", 4) == 0;
}

/* Can this image be entered in 64-bit mode at all? */
static int check_kind(const uint8_t *bytes, struct err *e)
{
	uint16_t version = le16_get(bytes + VERSION);

	if (version < VERSION_2_12)
		return err_set(e, -ENOEXEC,
			"The kernel image is a bzImage of boot protocol %u.%02u; 2.12 (Linux 3.8) or later is needed",
			version >> 8, version & 0xff);
	if (!(bytes[LOADFLAGS] & LOADED_HIGH))
		return err_set(
			e, -ENOEXEC, "The kernel image is a zImage, which loads below 1 MiB; a bzImage is needed");
	if (!(le16_get(bytes + XLOADFLAGS) & XLF_KERNEL_64))
		return err_set(e, -ENOEXEC,
			"The kernel image is a 32-bit bzImage (it has no 64-bit entry); an x86-64 kernel is needed");
	return 0;
}

/* The file's protected-mode part: everything behind the setup sectors, as long as the header says. */
static int parse_payload(const uint8_t *bytes, uint64_t file_len, struct image_segment *out, struct err *e)
{
	uint64_t setup_sects = bytes[SETUP_SECTS] ? bytes[SETUP_SECTS] : 4; /* 0 means 4, for historical reasons */
	uint64_t off = (setup_sects + 1) * SECTOR;
	uint64_t want = (uint64_t)le32_get(bytes + SYSSIZE) * PARAGRAPH;
	uint64_t have = file_len > off ? file_len - off : 0;

	/*
	 * The size is in paragraphs, so the last one may be incomplete; what follows (a signature) is not for
	 * memory.
	 */
	if (want <= ENTRY_64)
		return err_set(e, -ENOEXEC, "The kernel image is a bzImage whose header says that it has no contents");
	if (have + PARAGRAPH <= want)
		return err_set(e, -ENOEXEC,
			       "The kernel image is cut off: the bzImage has %" PRIu64 " bytes behind its setup part, "
			       "its header says %" PRIu64,
			       have, want);
	out->file_off = off;
	out->file_len = have < want ? have : want;
	out->mem_len = out->file_len;
	out->gpa = GPA(LAYOUT_HIGH_MEMORY);
	out->vaddr = 0;
	return 0;
}

/*
 * Where the image will uncompress itself to: at its preferred address, or for a relocatable one that was loaded above
 * it, at the next multiple of its alignment.
 */
static int parse_work_area(const uint8_t *bytes, uint64_t *start, uint64_t *end, struct err *e)
{
	uint64_t pref = le64_get(bytes + PREF_ADDRESS);
	uint64_t init_size = le32_get(bytes + INIT_SIZE);
	uint32_t alignment = le32_get(bytes + KERNEL_ALIGNMENT);
	uint64_t at = LAYOUT_HIGH_MEMORY;

	if (init_size == 0)
		return err_set(e, -ENOEXEC, "The kernel image is a bzImage whose header lacks init_size");
	if (bytes[RELOCATABLE_KERNEL]) {
		if (alignment == 0 || (alignment & (alignment - 1)) != 0)
			return err_set(e, -ENOEXEC, "The kernel image wants an alignment of 0x%x, not a power of two",
				       alignment);
		if (!checked_align_up(at, alignment, &at))
			return err_set(e, -ENOEXEC, "The kernel image wants an alignment of 0x%x", alignment);
	}
	if (pref > at || !bytes[RELOCATABLE_KERNEL])
		at = pref;
	/* Until it has page tables of its own, it works in what ours map. */
	if (!range_within(at, init_size, LAYOUT_IDENTITY_MAPPED) || at < LAYOUT_HIGH_MEMORY)
		return err_set(e, -ENOEXEC,
			       "The kernel image wants to uncompress %" PRIu64 " bytes to guest address 0x%" PRIx64
			       "; that must lie between 1 MiB and 1 GiB",
			       init_size, at);
	*start = at;
	*end = at + init_size;
	return 0;
}

int bzimage_parse(const uint8_t *bytes, size_t len, uint64_t file_len, struct image_plan *plan,
		  struct boot_kernel *kernel, struct err *e)
{
	struct boot_kernel k = {.protocol = BOOT_PROTOCOL_LINUX64, .is_bzimage = true, .acpi = BOOT_ACPI_UNKNOWN};
	struct image_plan p = {.n_segments = 1};
	uint64_t work_start = 0, work_end = 0, payload_end;
	uint32_t header_len, cmdline_max;
	int rc;

	if (len < BZIMAGE_HEADER_LEN || file_len < len)
		return err_set(e, -ENOEXEC, "The kernel image is a bzImage of only %" PRIu64 " bytes: it is cut off",
			       file_len);
	rc = check_kind(bytes, e);
	if (rc < 0)
		return rc;
	rc = parse_payload(bytes, file_len, &p.segment[0], e);
	if (rc < 0)
		return rc;
	rc = parse_work_area(bytes, &work_start, &work_end, e);
	if (rc < 0)
		return rc;

	k.entry = GPA(LAYOUT_HIGH_MEMORY + ENTRY_64);
	p.entry = k.entry.v;
	payload_end = LAYOUT_HIGH_MEMORY + p.segment[0].mem_len;
	k.start = GPA(LAYOUT_HIGH_MEMORY);
	k.end = GPA(work_end > payload_end ? work_end : payload_end);
	k.work_start = GPA(work_start);

	/*
	 * A kernel that can itself be loaded anywhere takes its initrd from anywhere too; others say how far they
	 * see.
	 */
	k.initrd_addr_max = UINT64_MAX;
	if (!(le16_get(bytes + XLOADFLAGS) & XLF_CAN_BE_LOADED_ABOVE_4G))
		k.initrd_addr_max = le32_get(bytes + INITRD_ADDR_MAX);
	cmdline_max = le32_get(bytes + CMDLINE_SIZE);
	k.cmdline_max = cmdline_max < LAYOUT_CMDLINE_MAX - 1 ? cmdline_max : LAYOUT_CMDLINE_MAX - 1;

	header_len = HEADER_MAGIC + bytes[JUMP_LEN] - HDR_START;
	if (header_len > BOOT_SETUP_HEADER_MAX)
		header_len = BOOT_SETUP_HEADER_MAX;
	memcpy(k.setup_header, bytes + HDR_START, header_len);
	k.setup_header_len = header_len;
	*plan = p;
	*kernel = k;
	return 0;
}
