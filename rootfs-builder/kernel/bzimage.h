/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The compressed kernel inside a bzImage: where it lies, and the ELF vmlinux that comes out of it.
 *
 * Trust: the image may be any file; kernel_bzimage_locate() and kernel_elf_size() are pure and check every field.
 */
#ifndef MAYFLY_ROOTFS_KERNEL_BZIMAGE_H
#define MAYFLY_ROOTFS_KERNEL_BZIMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

struct err;

/* The payload of a bzImage, in bytes from the start of the image. */
struct bzimage_payload {
	size_t offset;
	size_t len;
};

/*
 * Find the compressed payload of the @len bytes at @image through its setup header (boot protocol 2.08 or later).
 * 0 with @out written, or -EINVAL with @e set to what is wrong with it.
 */
int kernel_bzimage_locate(const uint8_t *image, size_t len, struct bzimage_payload *out, struct err *e) MUST_USE;

/*
 * How many of the @len bytes at @elf belong to a 64-bit x86 ELF file: what its headers and sections reach to. A kernel's
 * payload carries relocation data behind it. 0 with *@size written, or -EINVAL with @e set.
 */
int kernel_elf_size(const uint8_t *elf, size_t len, size_t *size, struct err *e) MUST_USE;

/* Whether the @len bytes at @elf are a 64-bit ELF program that runs without an interpreter (a dynamic loader). */
int kernel_elf_is_static(const uint8_t *elf, size_t len);

/*
 * Decompress the @len bytes at @data (gzip, bzip2, xz, lzma, lz4 or zstd; -EINVAL with @e set for anything else) into
 * *@out, allocated, of *@out_len bytes, at most 512 MiB.
 */
int kernel_decompress(const uint8_t *data, size_t len, uint8_t **out, size_t *out_len, struct err *e) MUST_USE;

/* The vmlinux inside the bzImage of @len bytes at @image: allocated into *@out, its size into *@out_len. 0 or negative. */
int kernel_bzimage_unpack(const uint8_t *image, size_t len, uint8_t **out, size_t *out_len, struct err *e) MUST_USE;

#endif
