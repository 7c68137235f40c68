/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cursors: descriptor boundaries mean nothing, nothing moves on failure, iovecs cover exactly what was asked for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "virtio/chain.h"

#define MEM_SIZE MIB

static struct gmem *mem;
static struct vq_chain chain;

static void add(uint64_t gpa, uint32_t len, bool writable)
{
	struct vq_seg *seg = &chain.seg[chain.n++];

	*seg = (struct vq_seg){
		.gpa = GPA(gpa), .len = len, .dev_writable = writable, .hva = len ? gmem_hva(mem, GPA(gpa), len) : NULL,
	};
	if (writable) {
		chain.writable_len += len;
	} else {
		chain.n_readable++;
		chain.readable_len += len;
	}
}

static int setup(void **state)
{
	(void)state;
	memset(&chain, 0, sizeof(chain));
	return gmem_create(&mem, MEM_SIZE, GMEM_PAGES_DEFAULT, NULL);
}

static int teardown(void **state)
{
	(void)state;
	gmem_destroy(mem);
	return 0;
}

static void empty_chain(void **state)
{
	struct chain_cursor c;
	struct iovec iov[VQ_CHAIN_MAX];
	char byte;

	(void)state;
	chain_reader_init(&c, &chain);
	assert_false(chain_read(&c, &byte, 1));
	assert_true(chain_read(&c, &byte, 0));
	assert_true(chain_skip(&c, 0));
	assert_int_equal(chain_to_iov(&c, 0, iov), 0);
	chain_writer_init(&c, &chain);
	assert_false(chain_write(&c, "x", 1));
	assert_false(chain_skip(&c, 1));
}

/* "abcdef" in pieces of every size, empty descriptors between, read in steps of every size. */
static void read_across_descriptors(void **state)
{
	static const char text[] = "abcdef";

	(void)state;
	for (uint32_t piece = 1; piece <= 6; piece++) {
		for (size_t step = 1; step <= 6; step++) {
			struct chain_cursor c;
			char got[7] = { 0 };
			size_t done = 0;

			memset(&chain, 0, sizeof(chain));
			add(0, 0, false);
			for (uint32_t off = 0; off < 6; off += piece) {
				uint32_t len = 6 - off < piece ? 6 - off : piece;

				assert_int_equal(gmem_write(mem, GPA(0x1000 + off * 0x100), text + off, len), 0);
				add(0x1000 + off * 0x100, len, false);
				add(0, 0, false);
			}
			add(0x8000, 9, true);
			chain_reader_init(&c, &chain);
			while (done < 6) {
				size_t n = 6 - done < step ? 6 - done : step;

				assert_true(chain_read(&c, got + done, n));
				done += n;
			}
			assert_string_equal(got, text);
			assert_int_equal(c.left, 0);
			assert_false(chain_read(&c, got, 1));
		}
	}
}

static void write_starts_behind_readable(void **state)
{
	struct chain_cursor c;
	char got[8] = { 0 };

	(void)state;
	add(0x1000, 16, false);
	add(0x2000, 3, true);
	add(0x3000, 0, true);
	add(0x4000, 4, true);
	chain_writer_init(&c, &chain);
	assert_int_equal(c.left, 7);
	assert_true(chain_skip(&c, 1));
	assert_false(chain_write(&c, "1234567", 7));
	assert_int_equal(c.left, 6);
	assert_true(chain_write(&c, "234567", 6));
	assert_int_equal(gmem_read(mem, GPA(0x2000), got, 3), 0);
	assert_memory_equal(got, "\0" "23", 3);
	assert_int_equal(gmem_read(mem, GPA(0x4000), got, 5), 0);
	assert_memory_equal(got, "4567\0", 5);
}

static void iovecs(void **state)
{
	struct chain_cursor c;
	struct iovec iov[VQ_CHAIN_MAX];

	(void)state;
	add(0x1000, 16, false);
	add(0x2000, 100, false);
	add(0x3000, 0, false);
	add(0x4000, 50, false);
	add(0x5000, 1, true);
	chain_reader_init(&c, &chain);
	assert_true(chain_skip(&c, 20));
	assert_int_equal(chain_to_iov(&c, 120, iov), 2);
	assert_ptr_equal(iov[0].iov_base, gmem_hva(mem, GPA(0x2004), 1));
	assert_int_equal(iov[0].iov_len, 96);
	assert_ptr_equal(iov[1].iov_base, gmem_hva(mem, GPA(0x4000), 1));
	assert_int_equal(iov[1].iov_len, 24);
	assert_int_equal(c.left, 26);
	assert_int_equal(chain_to_iov(&c, 26, iov), 1);
	assert_int_equal(c.left, 0);
}

static void longest(void **state)
{
	struct chain_cursor c;
	struct iovec iov[VQ_CHAIN_MAX];

	(void)state;
	for (int i = 0; i < VQ_CHAIN_MAX; i++)
		add((uint64_t)i * 2, 1, true);
	chain_writer_init(&c, &chain);
	assert_int_equal(chain_to_iov(&c, VQ_CHAIN_MAX, iov), VQ_CHAIN_MAX);
	assert_int_equal(c.left, 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(empty_chain), T(read_across_descriptors), T(write_starts_behind_readable), T(iovecs), T(longest),
	};

	return cmocka_run_group_tests_name("chain", tests, NULL, NULL);
}
