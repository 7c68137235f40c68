/* SPDX-License-Identifier: Apache-2.0 */
/* Checking and carrying out the load plan of a kernel image: see image.h. */
#include "vmm/image.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/checked.h"
#include "vmm/base/fd.h"
#include "vmm/layout.h"

int image_file_len(int fd, const char *what, uint64_t *out, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, -errno, "Cannot examine the %s", what);
	if (S_ISDIR(st.st_mode))
		return err_set(e, -EISDIR, "The %s is a directory; give the path of a file", what);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "The %s is not a regular file; pipes and devices can't be loaded", what);
	if (st.st_size <= 0)
		return err_set(e, -ENODATA, "The %s is empty", what);
	*out = (uint64_t)st.st_size;
	return 0;
}

static int check_segment(const struct image_segment *seg, size_t index, const struct gmem *mem, struct err *e)
{
	uint64_t ram_end = mem->region[0].base.v + mem->region[0].size;
	uint64_t end;

	if (!checked_add_u64(seg->gpa.v, seg->mem_len, &end))
		return err_set(e, -ENOEXEC, "Segment %zu of the kernel image wraps around the address space", index);
	if (seg->gpa.v < LAYOUT_HIGH_MEMORY)
		return err_set(e, -ENOEXEC,
			"Segment %zu of the kernel image wants guest address 0x%" PRIx64
			", in the first MiB, which holds the boot tables; a kernel starts at 0x%" PRIx64 " or above",
			index, seg->gpa.v, LAYOUT_HIGH_MEMORY);
	if (end > LAYOUT_MMIO32)
		return err_set(e, -ENOEXEC,
			       "Segment %zu of the kernel image ends at guest address 0x%" PRIx64
			       ", but RAM that a kernel can be loaded to ends at 0x%" PRIx64,
			       index, end, LAYOUT_MMIO32);
	if (end > ram_end)
		return err_set(e, -E2BIG,
			       "Segment %zu of the kernel image ends at guest address 0x%" PRIx64
			       ", but the guest has %" PRIu64 " MiB of memory; give it at least %" PRIu64 " MiB",
			       index, end, mem->size / MIB, (end + MIB - 1) / MIB + 1);
	return 0;
}

/* Both segments are accepted by check_segment(), so the sums fit. */
static bool segments_overlap(const struct image_segment *a, const struct image_segment *b)
{
	return a->gpa.v < b->gpa.v + b->mem_len && b->gpa.v < a->gpa.v + a->mem_len;
}

int image_check(const struct image_plan *plan, const struct gmem *mem, struct err *e)
{
	bool has_entry = false;
	size_t i, k;
	int rc;

	must(plan->n_segments <= IMAGE_MAX_SEGMENTS);
	if (plan->n_segments == 0)
		return err_set(e, -ENOEXEC, "The kernel image has nothing to load");
	for (i = 0; i < plan->n_segments; i++) {
		const struct image_segment *seg = &plan->segment[i];

		must(seg->mem_len > 0 && seg->file_len <= seg->mem_len);
		rc = check_segment(seg, i, mem, e);
		if (rc < 0)
			return rc;
		for (k = 0; k < i; k++) {
			if (segments_overlap(seg, &plan->segment[k]))
				return err_set(e, -ENOEXEC, "Segments %zu and %zu of the kernel image overlap", k, i);
		}
		if (plan->entry >= seg->gpa.v && plan->entry - seg->gpa.v < seg->file_len)
			has_entry = true;
	}
	if (!has_entry)
		return err_set(e, -ENOEXEC,
			       "The entry point 0x%" PRIx64 " of the kernel image is in none of its loaded segments",
			       plan->entry);
	return 0;
}

void image_extent(const struct image_plan *plan, gpa_t *start, gpa_t *end)
{
	uint64_t low = UINT64_MAX, high = 0;
	size_t i;

	for (i = 0; i < plan->n_segments; i++) {
		const struct image_segment *seg = &plan->segment[i];

		if (seg->gpa.v < low)
			low = seg->gpa.v;
		if (seg->gpa.v + seg->mem_len > high)
			high = seg->gpa.v + seg->mem_len;
	}
	*start = GPA(low);
	*end = GPA(high);
}

int image_load(const struct image_plan *plan, int fd, struct gmem *mem, struct err *e)
{
	size_t i;
	int rc;

	for (i = 0; i < plan->n_segments; i++) {
		const struct image_segment *seg = &plan->segment[i];
		void *hva;

		if (seg->file_len == 0)
			continue;
		hva = gmem_hva(mem, seg->gpa, seg->file_len);
		must(hva);
		rc = fd_pread_full(fd, hva, seg->file_len, seg->file_off);
		if (rc == -ENODATA)
			return err_set(e, rc, "The kernel image became shorter while it was read");
		if (rc < 0)
			return err_sys(e, rc, "Cannot read the kernel image");
	}
	return 0;
}

struct magic {
	size_t off, len;
	const char *bytes;
	const char *text;
};

#define MAGIC(off_, bytes_, text_) {.off = (off_), .len = sizeof(bytes_) - 1, .bytes = (bytes_), .text = (text_)}
#define UNPACK "; uncompress it to get an ELF vmlinux, or give a bzImage, which uncompresses itself"

static const struct magic known_magic[] = {
	MAGIC(0, "\x1f\x8b", "It is gzip data" UNPACK),
	MAGIC(0, "\x28\xb5\x2f\xfd", "It is zstd data" UNPACK),
	MAGIC(0, "\xfd\x37zXZ", "It is xz data" UNPACK),
	MAGIC(0, "\x04\x22\x4d\x18", "It is lz4 data" UNPACK),
	MAGIC(0, "\x02\x21\x4c\x18", "It is lz4 data" UNPACK),
	MAGIC(0, "BZh", "It is bzip2 data" UNPACK),
	MAGIC(0, "\x5d\x00\x00", "It looks like lzma data" UNPACK),
	MAGIC(0, "\x89LZO", "It is lzop data" UNPACK),
	MAGIC(56, "ARM\x64", "It is an arm64 Image; an x86-64 vmlinux or bzImage is needed"),
	MAGIC(0x438, "\x53\xef", "It is an ext4 file system; give it as a drive, and a kernel here"),
	MAGIC(0x400, "\xe2\xe1\xf5\xe0", "It is an EROFS file system; give it as a drive, and a kernel here"),
	MAGIC(0, "hsqs", "It is a squashfs file system; give it as a drive, and a kernel here"),
	MAGIC(0, "070701", "It is a cpio archive; give it as the initrd, and a kernel here"),
	MAGIC(0, "!<arch>", "It is an archive; unpack the kernel from it"),
	MAGIC(0, "#!", "It is a script; an x86-64 vmlinux or bzImage is needed"),
	MAGIC(0, "MZ", "It is an EFI program without a Linux setup header; an x86-64 vmlinux or bzImage is needed"),
};

static bool is_text(const uint8_t *bytes, size_t len)
{
	size_t i, n = len < 256 ? len : 256;

	for (i = 0; i < n; i++) {
		if ((bytes[i] < ' ' && bytes[i] != '\n' && bytes[i] != '\r' && bytes[i] != '\t') || bytes[i] == 0x7f)
			return false;
	}
	return n > 0;
}

const char *image_guess(const uint8_t *bytes, size_t len)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(known_magic); i++) {
		const struct magic *m = &known_magic[i];

		if (range_within(m->off, m->len, len) && memcmp(bytes + m->off, m->bytes, m->len) == 0)
			return m->text;
	}
	if (is_text(bytes, len))
		return "It is a text file; an x86-64 vmlinux or bzImage is needed";
	return "It is neither an ELF vmlinux nor a bzImage for x86-64";
}
