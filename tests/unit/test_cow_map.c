/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of a copy-on-write disk that need no file: the layout, the header's fields, the bits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "tests/lib/cow_disk.h"
#include "virtio/cow_impl.h"
#include "vmm/base/bytes.h"

#define N_BLOCKS (2 * COW_MAP_PAGE_BLOCKS + 77)
#define N_PAGES 3
#define MAP_BYTES (N_PAGES * COW_MAP_PAGE)

static struct cow cow;
static uint64_t map[MAP_BYTES / sizeof(uint64_t)], dirty[1];
static uint8_t live[MAP_BYTES]; /* what cow_map_set() has written */
static int fail_errno;
static unsigned n_writes;

static ssize_t fake_pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	uint64_t at = (uint64_t)offset - cow.layout.live_at;

	(void)fd;
	n_writes++;
	errno = fail_errno;
	if (fail_errno)
		return -1;
	assert_int_equal(n, 1);
	assert_int_equal(flags, 0);
	assert_true(at < MAP_BYTES && iov->iov_len <= MAP_BYTES - at);
	memcpy(live + at, iov->iov_base, iov->iov_len);
	return (ssize_t)iov->iov_len;
}

static const struct blk_io_ops ops = { .pwritev2 = fake_pwritev2 };

static int setup(void **state)
{
	(void)state;
	memset(map, 0, sizeof(map));
	memset(dirty, 0, sizeof(dirty));
	memset(live, 0, sizeof(live));
	cow = (struct cow){ .map = map, .dirty = dirty, .n_pages = N_PAGES };
	assert_true(cow_layout(N_BLOCKS * COW_BLOCK - 1000, &cow.layout));
	assert_int_equal(cow.layout.map_bytes, MAP_BYTES);
	fail_errno = 0;
	n_writes = 0;
	return 0;
}

/* --- Layout --- */

static void layout_is_tight(void **state)
{
	static const uint64_t sizes[] = { 0, 1, 511, 4096, 4097, 128 * MIB, 128 * MIB + 1, 10 * GIB + 512, COW_SIZE_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct cow_layout l;

		assert_true(cow_layout(sizes[i], &l));
		assert_int_equal(l.size, sizes[i]);
		assert_true(l.n_blocks * COW_BLOCK >= sizes[i] && l.n_blocks * COW_BLOCK < sizes[i] + COW_BLOCK);
		assert_true(l.map_bytes * 8 >= l.n_blocks && l.map_bytes >= COW_MAP_PAGE);
		assert_int_equal(l.map_bytes % COW_MAP_PAGE, 0);
		assert_true(l.map_bytes * 8 < l.n_blocks + COW_MAP_PAGE_BLOCKS + 1);
		assert_int_equal(l.live_at, COW_MAP_AT + l.map_bytes);
		assert_int_equal(l.data_at % (2 * MIB), 0);
		assert_true(l.data_at >= l.live_at + l.map_bytes);
		assert_int_equal(l.file_size, l.data_at + l.n_blocks * COW_BLOCK);
	}
}

static void layout_has_a_largest_disk(void **state)
{
	struct cow_layout l;

	(void)state;
	assert_false(cow_layout(COW_SIZE_MAX + 1, &l));
	assert_false(cow_layout(UINT64_MAX, &l));
}

/* --- Header --- */

static const struct cow_header good = { .size = 123456789, .mtime = { .s = -5, .ns = 999999999 } };

static void header_round_trip(void **state)
{
	uint8_t sector[COW_HEADER_BYTES];
	struct cow_header h;
	struct err e;

	(void)state;
	cow_header_encode(&good, sector);
	assert_int_equal(cow_header_decode(sector, &h, &e), 0);
	assert_int_equal(h.size, good.size);
	assert_int_equal(h.mtime.s, good.mtime.s);
	assert_int_equal(h.mtime.ns, good.mtime.ns);
}

/* The format is what docs/cow-format.md says, whatever the code thinks. */
static void header_bytes(void **state)
{
	static const uint8_t start[36] = {
		0x8d, 'M', 'F', 'C', 'O', 'W', '\r', '\n', 1, 0, 0, 0, 0, 16, 0, 0,          /* magic, version, block */
		0x15, 0xcd, 0x5b, 0x07, 0, 0, 0, 0,                                           /* size */
		0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc9, 0x9a, 0x3b,       /* modification time */
	};
	uint8_t sector[COW_HEADER_BYTES];

	(void)state;
	cow_header_encode(&good, sector);
	assert_memory_equal(sector, start, sizeof(start));
	for (size_t i = sizeof(start); i < 508; i++)
		assert_int_equal(sector[i], 0);
	assert_int_equal(le32_get(sector + 508), UINT32_C(0x7ba9f97f));
}

static void header_any_flipped_bit_is_refused(void **state)
{
	uint8_t sector[COW_HEADER_BYTES];
	struct cow_header h;

	(void)state;
	cow_header_encode(&good, sector);
	for (unsigned bit = 0; bit < COW_HEADER_BYTES * 8; bit++) {
		sector[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(cow_header_decode(sector, &h, NULL), -EINVAL);
		sector[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

/* CRC-32C once more, from its definition. */
static uint32_t crc_of(const uint8_t *p, size_t n)
{
	uint32_t crc = UINT32_MAX;

	while (n--) {
		crc ^= *p++;
		for (int i = 0; i < 8; i++)
			crc = crc & 1 ? crc >> 1 ^ UINT32_C(0x82f63b78) : crc >> 1;
	}
	return crc ^ UINT32_MAX;
}

/* Fields that are wrong under a right checksum, each by its name. */
static void header_fields(void **state)
{
	static const struct {
		size_t at;
		uint32_t value;
		const char *text;
	} cases[] = {
		{ 0, 0, "not a delta of a copy-on-write drive" },
		{ 8, 2, "version 2" },
		{ 12, 512, "its blocks have 512 bytes" },
		{ 20, 0x4001, "a disk has at most" },
		{ 32, 1000000000, "1000000000 nanoseconds" },
		{ 36, 1, "a field that this Mayfly does not know" },
		{ 504, 0x80000000, "a field that this Mayfly does not know" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t sector[COW_HEADER_BYTES];
		struct cow_header h;
		struct err e;

		cow_header_encode(&good, sector);
		le32_put(sector + cases[i].at, cases[i].value);
		le32_put(sector + 508, crc_of(sector, 508));
		assert_int_equal(cow_header_decode(sector, &h, &e), -EINVAL);
		if (!strstr(e.msg, cases[i].text))
			fail_msg("expected a text with \"%s\", got \"%s\"", cases[i].text, e.msg);
	}
}

/* --- Bits --- */

static bool bit_of(const void *bits, uint64_t i)
{
	return ((const uint8_t *)bits)[i / 8] >> i % 8 & 1;
}

static void expect_run(uint64_t first, uint64_t max)
{
	uint64_t n = 1;
	bool set;
	uint64_t got = cow_map_run(&cow, first, max, &set);

	assert_int_equal(set, bit_of(map, first));
	while (n < max && bit_of(map, first + n) == set)
		n++;
	assert_int_equal(got, n);
}

static void runs_end_where_bits_change(void **state)
{
	uint64_t seed = 77;

	(void)state;
	for (unsigned round = 0; round < 200; round++) {
		uint64_t first = cow_disk_random(&seed, N_BLOCKS);
		uint64_t n = 1 + cow_disk_random(&seed, round % 2 ? 200 : 20000);

		if (n > N_BLOCKS - first)
			n = N_BLOCKS - first;
		assert_int_equal(cow_map_set(&ops, &cow, first, n), 0);
		for (unsigned i = 0; i < 50; i++) {
			uint64_t at = cow_disk_random(&seed, N_BLOCKS);

			expect_run(at, 1 + cow_disk_random(&seed, N_BLOCKS - at));
		}
	}
	expect_run(0, N_BLOCKS);
	expect_run(N_BLOCKS - 1, 1);
}

static void runs_at_the_edges_of_words(void **state)
{
	(void)state;
	for (uint64_t from = 60; from < 70; from++) {
		for (uint64_t n = 1; n < 140; n++) {
			memset(map, 0, sizeof(map));
			assert_int_equal(cow_map_set(&ops, &cow, from, n), 0);
			for (uint64_t at = 0; at < 260; at++) {
				assert_int_equal(bit_of(map, at), at >= from && at < from + n);
				expect_run(at, 256);
				expect_run(at, 1);
			}
		}
	}
}

static void set_writes_the_live_map_once_a_page(void **state)
{
	(void)state;
	assert_int_equal(cow_map_set(&ops, &cow, 5, 3), 0);
	assert_int_equal(n_writes, 1);
	assert_int_equal(cow_map_set(&ops, &cow, 5, 3), 0);
	assert_int_equal(n_writes, 1); /* nothing new */
	assert_int_equal(cow_map_set(&ops, &cow, 0, N_BLOCKS), 0);
	assert_int_equal(n_writes, 1 + N_PAGES);
	assert_memory_equal(live, map, MAP_BYTES);
	assert_int_equal(cow.n_dirty, N_PAGES);
	assert_int_equal(dirty[0], 7);
	assert_false(bit_of(map, N_BLOCKS)); /* C5 */
}

static void set_that_fails_changes_nothing(void **state)
{
	uint64_t before[ARRAY_SIZE(map)];

	(void)state;
	assert_int_equal(cow_map_set(&ops, &cow, 100, 1), 0);
	memcpy(before, map, sizeof(map));
	fail_errno = ENOSPC;
	assert_int_equal(cow_map_set(&ops, &cow, 90, 100), -ENOSPC);
	assert_memory_equal(map, before, sizeof(map));
	assert_int_equal(cow.n_dirty, 1);
}

static void find_tells_files_and_places(void **state)
{
	struct cow_extent at;

	(void)state;
	cow.base_fd = 50;
	cow.delta_fd = 60;
	assert_int_equal(cow_map_set(&ops, &cow, 2, 3), 0);
	cow_find(&cow, 1000, cow.layout.size - 1000, &at);
	assert_int_equal(at.where, COW_IN_BASE);
	assert_int_equal(at.fd, 50);
	assert_int_equal(at.offset, 1000);
	assert_int_equal(at.len, 2 * COW_BLOCK - 1000);
	cow_find(&cow, 2 * COW_BLOCK + 7, 9, &at);
	assert_int_equal(at.where, COW_IN_DELTA);
	assert_int_equal(at.fd, 60);
	assert_int_equal(at.offset, cow.layout.data_at + 2 * COW_BLOCK + 7);
	assert_int_equal(at.len, 9);
	cow_find(&cow, 2 * COW_BLOCK + 7, MIB, &at);
	assert_int_equal(at.len, 3 * COW_BLOCK - 7);
	cow_find(&cow, cow.layout.size - 1, 1, &at);
	assert_int_equal(at.len, 1);
}

#define T(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(layout_is_tight),
		T(layout_has_a_largest_disk),
		T(header_round_trip),
		T(header_bytes),
		T(header_any_flipped_bit_is_refused),
		T(header_fields),
		T(runs_end_where_bits_change),
		T(runs_at_the_edges_of_words),
		T(set_writes_the_live_map_once_a_page),
		T(set_that_fails_changes_nothing),
		T(find_tells_files_and_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
