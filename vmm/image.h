/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a kernel image asks for: a bounded list of file ranges and where they go. A parser (elf.h, bzimage.h) fills
 * it from header bytes without touching the file or the memory; image_check() then holds it against the RAM, and
 * image_load() carries it out and trusts it.
 *
 * Trust: a plan that image_check() has not accepted is hostile. Threads: see boot.h.
 */
#ifndef MAYFLY_VMM_IMAGE_H
#define MAYFLY_VMM_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"
#include "vmm/gmem.h"

#define IMAGE_MAX_SEGMENTS 32 /* Linux has 4 to 6 */

struct image_segment {
	uint64_t file_off, file_len; /* bytes of the file; file_len <= mem_len */
	gpa_t gpa;
	uint64_t mem_len; /* > 0; what follows file_len is zero */
	uint64_t vaddr;   /* where the image believes to be; 0 if it does not say */
};

struct image_plan {
	size_t n_segments;
	struct image_segment segment[IMAGE_MAX_SEGMENTS];
	uint64_t entry; /* guest-physical, not yet checked */
};

/*
 * The length of the regular file behind @fd; @what ("kernel image") names it in errors.
 * Returns 0, or -EISDIR, -EINVAL (not a regular file), -ENODATA (empty), or what fstat said, with @e.
 */
int image_file_len(int fd, const char *what, uint64_t *out, struct err *e) MUST_USE;

/*
 * Does every segment of @plan lie in the first RAM region of @mem, from 1 MiB on (below are the tables of layout.h),
 * without overlap, and does the entry lie in bytes that come from the file?
 * Returns 0, -ENOEXEC (the image is wrong) or -E2BIG (this RAM is too small) with @e.
 */
int image_check(const struct image_plan *plan, const struct gmem *mem, struct err *e) MUST_USE;

/* First byte that @plan uses and first behind; @plan must be accepted. */
void image_extent(const struct image_plan *plan, gpa_t *start, gpa_t *end);

/*
 * Read the segments of the accepted @plan from @fd straight into @mem. Bytes beyond file_len are not written.
 * Returns 0, or negative errno with @e. May block on the file system.
 */
int image_load(const struct image_plan *plan, int fd, struct gmem *mem, struct err *e) MUST_USE;

/*
 * A sentence about what the first @len bytes of a refused file look like, and what to do about it; never NULL.
 * Static text.
 */
const char *image_guess(const uint8_t *bytes, size_t len);

#endif
