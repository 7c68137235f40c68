/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic on numbers that came from outside. Each function returns false, and writes nothing, when the result does
 * not fit; range_within() is the one form of range test in this project (it can't overflow).
 */
#ifndef MAYFLY_BASE_CHECKED_H
#define MAYFLY_BASE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

static inline MUST_USE bool checked_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
	uint64_t r;

	if (__builtin_add_overflow(a, b, &r))
		return false;
	*out = r;
	return true;
}

static inline MUST_USE bool checked_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
	uint64_t r;

	if (__builtin_mul_overflow(a, b, &r))
		return false;
	*out = r;
	return true;
}

/* Does [@off, @off + @len) lie inside [0, @size)? An empty range at @size does. */
static inline MUST_USE bool range_within(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

/* Round @v up to a multiple of @align, a power of two. Returns false when the result does not fit. */
static inline MUST_USE bool checked_align_up(uint64_t v, uint64_t align, uint64_t *out)
{
	uint64_t r;

	if (!checked_add_u64(v, align - 1, &r))
		return false;
	*out = r & ~(align - 1);
	return true;
}

#endif
