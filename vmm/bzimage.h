/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linux bzImage files: from the setup header to a load plan (Documentation/arch/x86/boot.rst, protocol 2.12 and
 * later). Pure over bytes that the caller has read.
 *
 * Trust: every byte is hostile; there is no loop whose length the file chooses. Threads: any.
 */
#ifndef MAYFLY_VMM_BZIMAGE_H
#define MAYFLY_VMM_BZIMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"
#include "vmm/boot.h"
#include "vmm/image.h"

#define BZIMAGE_HEADER_LEN 0x290 /* bytes from the start that a parse looks at; a real image has 32 KiB of setup */

/* Do @bytes hold a Linux setup header, of whatever version? */
bool bzimage_is_bzimage(const uint8_t *bytes, size_t len) MUST_USE;

/*
 * Parse the first @len @bytes (at least BZIMAGE_HEADER_LEN if the file has them) of a file of @file_len bytes that
 * bzimage_is_bzimage() recognised. Fills @plan (one segment: the protected-mode part at 1 MiB) and all of @kernel.
 * The extent of @kernel includes where the image uncompresses itself to; it is not yet held against the RAM.
 * Returns 0, or -ENOEXEC with @e.
 */
int bzimage_parse(const uint8_t *bytes, size_t len, uint64_t file_len, struct image_plan *plan,
		  struct boot_kernel *kernel, struct err *e) MUST_USE;

#endif
