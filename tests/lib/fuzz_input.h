/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fuzz input as a stream of choices. When it is used up every choice is 0, and 0 always means "the
 * valid thing", so that short inputs are valid sequences and each further byte can break one rule.
 */
#ifndef MAYFLY_TESTS_FUZZ_INPUT_H
#define MAYFLY_TESTS_FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct fuzz_input {
	const uint8_t *data; /* borrowed */
	size_t left;
};

static inline bool fuzz_empty(const struct fuzz_input *in)
{
	return in->left == 0;
}

static inline uint64_t fuzz_bytes(struct fuzz_input *in, size_t n)
{
	uint64_t v = 0;

	if (n > in->left)
		n = in->left;
	memcpy(&v, in->data, n);
	in->data += n;
	in->left -= n;
	return v;
}

static inline uint8_t fuzz_u8(struct fuzz_input *in)
{
	return (uint8_t)fuzz_bytes(in, 1);
}

static inline uint16_t fuzz_u16(struct fuzz_input *in)
{
	return (uint16_t)fuzz_bytes(in, 2);
}

static inline uint32_t fuzz_u32(struct fuzz_input *in)
{
	return (uint32_t)fuzz_bytes(in, 4);
}

static inline uint64_t fuzz_u64(struct fuzz_input *in)
{
	return fuzz_bytes(in, 8);
}

/* A number below @n (> 0). */
static inline uint32_t fuzz_below(struct fuzz_input *in, uint32_t n)
{
	return fuzz_u8(in) % n;
}

/* True for 1 in 32 values of the next byte, not for 0: break this rule. */
static inline bool fuzz_rarely(struct fuzz_input *in)
{
	return fuzz_u8(in) % 32 == 31;
}

#endif
