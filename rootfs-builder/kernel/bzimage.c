// SPDX-License-Identifier: Apache-2.0
/*
 * The compressed kernel inside a bzImage. Offsets are those of the setup header in Linux's Documentation/arch/x86/boot.rst.
 */
#include "rootfs-builder/kernel/bzimage.h"

#include <archive.h>
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/checked.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"

#define SETUP_SECTS 0x1f1
#define BOOT_FLAG 0x1fe
#define HEADER_MAGIC 0x202
#define PROTOCOL_VERSION 0x206
#define PAYLOAD_OFFSET 0x248
#define PAYLOAD_LENGTH 0x24c
#define HEADER_END 0x250

#define MAX_UNPACKED (512 * MIB)

int kernel_bzimage_locate(const uint8_t *image, size_t len, struct bzimage_payload *out, struct err *e)
{
	uint64_t setup_sects, offset, payload_len;

	if (len < HEADER_END || le16_get(image + BOOT_FLAG) != 0xaa55 || memcmp(image + HEADER_MAGIC, "HdrS", 4) != 0)
		return err_set(e, -EINVAL, "not a bzImage: no Linux setup header");
	if (le16_get(image + PROTOCOL_VERSION) < 0x0208)
		return err_set(e, -EINVAL, "the bzImage has boot protocol %u.%02u; its payload can be found from 2.08 on",
			       image[PROTOCOL_VERSION + 1], image[PROTOCOL_VERSION]);
	setup_sects = image[SETUP_SECTS] ? image[SETUP_SECTS] : 4; /* 0 means 4, for the oldest kernels */
	offset = (setup_sects + 1) * 512 + le32_get(image + PAYLOAD_OFFSET);
	payload_len = le32_get(image + PAYLOAD_LENGTH);
	if (payload_len == 0 || !range_within(offset, payload_len, len))
		return err_set(e, -EINVAL, "the bzImage is cut or damaged: its payload is %llu bytes at %llu, the file has %zu",
			       (unsigned long long)payload_len, (unsigned long long)offset, len);
	out->offset = (size_t)offset;
	out->len = (size_t)payload_len;
	return 0;
}

/* Raise *@end to @off + @n. Returns whether that lies within @len. */
static int reach(uint64_t off, uint64_t n, size_t len, size_t *end)
{
	if (!range_within(off, n, len))
		return 0;
	if (*end < off + n)
		*end = (size_t)(off + n);
	return 1;
}

int kernel_elf_size(const uint8_t *elf, size_t len, size_t *size, struct err *e)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	Elf64_Shdr sh;
	size_t end = sizeof(eh);

	if (len < sizeof(eh))
		return err_set(e, -EINVAL, "no ELF file: only %zu bytes", len);
	memcpy(&eh, elf, sizeof(eh));
	if (memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0 || eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_machine != EM_X86_64)
		return err_set(e, -EINVAL, "no 64-bit x86 ELF file");
	if ((eh.e_phnum && eh.e_phentsize != sizeof(ph)) || (eh.e_shnum && eh.e_shentsize != sizeof(sh)) ||
	    !reach(eh.e_phoff, (uint64_t)eh.e_phnum * sizeof(ph), len, &end) ||
	    !reach(eh.e_shoff, (uint64_t)eh.e_shnum * sizeof(sh), len, &end))
		return err_set(e, -EINVAL, "the ELF file is damaged: its header tables lie outside of it");
	for (size_t i = 0; i < eh.e_phnum; i++) {
		memcpy(&ph, elf + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (!reach(ph.p_offset, ph.p_filesz, len, &end))
			return err_set(e, -EINVAL, "the ELF file is damaged: segment %zu lies outside of it", i);
	}
	for (size_t i = 0; i < eh.e_shnum; i++) {
		memcpy(&sh, elf + eh.e_shoff + i * sizeof(sh), sizeof(sh));
		if (sh.sh_type != SHT_NOBITS && !reach(sh.sh_offset, sh.sh_size, len, &end))
			return err_set(e, -EINVAL, "the ELF file is damaged: section %zu lies outside of it", i);
	}
	*size = end;
	return 0;
}

int kernel_elf_is_static(const uint8_t *elf, size_t len)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	size_t size;

	if (kernel_elf_size(elf, len, &size, NULL) < 0)
		return 0;
	memcpy(&eh, elf, sizeof(eh));
	for (size_t i = 0; i < eh.e_phnum; i++) {
		memcpy(&ph, elf + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type == PT_INTERP)
			return 0;
	}
	return 1;
}

/* Read all of @a's one entry into a growing buffer. */
static int read_all(struct archive *a, uint8_t **out, size_t *out_len, struct err *e)
{
	size_t size = 16 * MIB, fill = 0;
	AUTO_FREE uint8_t *buf = malloc(size);
	struct archive_entry *entry;
	la_ssize_t n;

	if (archive_read_next_header(a, &entry) != ARCHIVE_OK)
		return err_set(e, -EINVAL, "decompress: %s", archive_error_string(a));
	while (buf && (n = archive_read_data(a, buf + fill, size - fill)) != 0) {
		if (n < 0)
			return err_set(e, -EINVAL, "decompress: %s", archive_error_string(a));
		fill += (size_t)n;
		if (fill < size)
			continue;
		if (size >= MAX_UNPACKED)
			return err_set(e, -EFBIG, "decompress: more than 512 MiB come out");
		size *= 2;
		uint8_t *more = realloc(buf, size);
		if (!more)
			return err_set(e, -ENOMEM, "no memory to decompress");
		buf = more;
	}
	if (!buf)
		return err_set(e, -ENOMEM, "no memory to decompress");
	*out = ptr_take(&buf);
	*out_len = fill;
	return 0;
}

static void free_archive(struct archive **a)
{
	archive_read_free(*a);
}

int kernel_decompress(const uint8_t *data, size_t len, uint8_t **out, size_t *out_len, struct err *e)
{
	__attribute__((cleanup(free_archive))) struct archive *a = archive_read_new();

	if (!a)
		return err_set(e, -ENOMEM, "no memory to decompress");
	archive_read_support_format_raw(a);
	archive_read_support_filter_gzip(a);
	archive_read_support_filter_bzip2(a);
	archive_read_support_filter_xz(a);
	archive_read_support_filter_lzma(a);
	archive_read_support_filter_lz4(a);
	archive_read_support_filter_zstd(a);
	if (archive_read_open_memory(a, data, len) != ARCHIVE_OK)
		return err_set(e, -EINVAL, "decompress: %s", archive_error_string(a));
	return read_all(a, out, out_len, e);
}

int kernel_bzimage_unpack(const uint8_t *image, size_t len, uint8_t **out, size_t *out_len, struct err *e)
{
	struct bzimage_payload payload;
	AUTO_FREE uint8_t *elf = NULL;
	size_t n, elf_len, used;
	int rc = kernel_bzimage_locate(image, len, &payload, e);

	if (rc < 0)
		return rc;
	/* Except after gzip, which has it itself, the kernel's build appends the unpacked size in four bytes. */
	n = payload.len;
	if (n > 4 && memcmp(image + payload.offset, "\x1f\x8b", 2) != 0)
		n -= 4;
	rc = kernel_decompress(image + payload.offset, n, &elf, &elf_len, e);
	if (rc == 0)
		rc = kernel_elf_size(elf, elf_len, &used, e);
	if (rc < 0)
		return err_wrap(e, rc, "the bzImage's payload");
	*out = ptr_take(&elf);
	*out_len = used;
	return 0;
}
