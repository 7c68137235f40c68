/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each verdict of the disk's request parser (virtio 1.2 5.2.6, CONTRACT.md section 9).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "virtio/blk_req.h"
#include "virtio/virtio_spec.h"
#include "vmm/base/bytes.h"

#define MEM_SIZE MIB
#define HDR UINT64_C(0x1000)
#define DATA UINT64_C(0x10000)
#define STATUS UINT64_C(0x2000)
#define SECTORS 100

static struct gmem *mem;
static struct vq_chain chain;
static struct blk_limits limits;
static struct blk_req req;
static struct blk_ranges ranges;

static int setup(void **state)
{
	(void)state;
	memset(&chain, 0, sizeof(chain));
	chain.head = 7;
	limits = (struct blk_limits){ .n_sectors = SECTORS };
	memset(&req, 0xee, sizeof(req));
	memset(&ranges, 0xee, sizeof(ranges));
	return gmem_create(&mem, MEM_SIZE, GMEM_PAGES_DEFAULT, NULL);
}

static int teardown(void **state)
{
	(void)state;
	gmem_destroy(mem);
	return 0;
}

static void header(uint32_t type, uint64_t sector)
{
	uint8_t hdr[16] = { 0 };

	le32_put(hdr, type);
	le32_put(hdr + 4, 0xffffffff); /* reserved: not looked at */
	le64_put(hdr + 8, sector);
	assert_int_equal(gmem_write(mem, GPA(HDR), hdr, sizeof(hdr)), 0);
}

static void add(uint64_t gpa, uint32_t len, bool writable)
{
	chain.seg[chain.n++] = (struct vq_seg){
		.gpa = GPA(gpa), .len = len, .dev_writable = writable, .hva = len ? gmem_hva(mem, GPA(gpa), len) : NULL,
	};
	if (writable) {
		chain.writable_len += len;
	} else {
		chain.n_readable++;
		chain.readable_len += len;
	}
}

/* Header, @out bytes to the device, @in bytes from it, status. */
static void build(uint32_t type, uint64_t sector, uint32_t out, uint32_t in)
{
	uint16_t head = chain.head;

	memset(&chain, 0, sizeof(chain));
	chain.head = head;
	header(type, sector);
	add(HDR, 16, false);
	if (out)
		add(DATA, out, false);
	if (in)
		add(DATA, in, true);
	add(STATUS, 1, true);
}

static enum verdict parse(void)
{
	return blk_req_parse(&chain, &limits, &req, &ranges);
}

static void expect_error(void)
{
	struct blk_req before;

	memset(&req, 0xee, sizeof(req));
	before = req;
	assert_int_equal(parse(), VERDICT_REQ_ERROR);
	assert_memory_equal(&req, &before, sizeof(req)); /* outputs only on success */
}

static void reads(void **state)
{
	(void)state;
	build(VIRTIO_BLK_T_IN, 3, 0, 1024);
	assert_int_equal(parse(), VERDICT_OK);
	assert_int_equal(req.op, BLK_OP_READ);
	assert_int_equal(req.head, 7);
	assert_int_equal(req.offset, 3 * 512);
	assert_int_equal(req.data_len, 1024);
	assert_int_equal(req.status.v, STATUS);
}

static void writes(void **state)
{
	(void)state;
	build(VIRTIO_BLK_T_OUT, 99, 512, 0);
	assert_int_equal(parse(), VERDICT_OK);
	assert_int_equal(req.op, BLK_OP_WRITE);
	assert_int_equal(req.offset, 99 * 512);
	assert_int_equal(req.data_len, 512);
}

static void read_only_disk(void **state)
{
	(void)state;
	limits.read_only = true;
	build(VIRTIO_BLK_T_OUT, 0, 512, 0);
	assert_int_equal(parse(), VERDICT_OK);
	assert_int_equal(req.op, BLK_OP_REFUSED);
	assert_int_equal(req.status.v, STATUS);
	build(VIRTIO_BLK_T_IN, 0, 0, 512);
	assert_int_equal(parse(), VERDICT_OK);
	assert_int_equal(req.op, BLK_OP_READ);
}

static void flush(void **state)
{
	(void)state;
	build(VIRTIO_BLK_T_FLUSH, 0, 0, 0);
	assert_int_equal(chain.n, 2);
	assert_int_equal(parse(), VERDICT_OK);
	assert_int_equal(req.op, BLK_OP_FLUSH);
	assert_int_equal(req.data_len, 0);
	/* Three descriptors, and any sector. */
	build(VIRTIO_BLK_T_FLUSH, UINT64_MAX, 0, 512);
	assert_int_equal(parse(), VERDICT_OK);
	assert_int_equal(req.op, BLK_OP_FLUSH);
	assert_int_equal(req.status.v, STATUS);
}

static void get_id(void **state)
{
	(void)state;
	build(VIRTIO_BLK_T_GET_ID, 0, 0, 20);
	assert_int_equal(parse(), VERDICT_OK);
	assert_int_equal(req.op, BLK_OP_GET_ID);
	assert_int_equal(req.data_len, 20);
	build(VIRTIO_BLK_T_GET_ID, 0, 0, 4096);
	assert_int_equal(parse(), VERDICT_OK);
	assert_int_equal(req.data_len, 20);
	build(VIRTIO_BLK_T_GET_ID, 0, 0, 19);
	expect_error();
	build(VIRTIO_BLK_T_GET_ID, 0, 20, 20);
	expect_error();
	build(VIRTIO_BLK_T_GET_ID, 0, 20, 0);
	expect_error();
}

static void unknown_types(void **state)
{
	static const uint32_t types[] = { 2, 3, 5, 11, 13, 14, 15, 0x80000000, UINT32_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		build(types[i], 0, 0, 512);
		assert_int_equal(parse(), VERDICT_OK);
		assert_int_equal(req.op, BLK_OP_UNSUPPORTED);
		build(types[i], UINT64_MAX, 3, 0);
		assert_int_equal(parse(), VERDICT_OK);
		assert_int_equal(req.op, BLK_OP_UNSUPPORTED);
	}
}

static void header_too_short(void **state)
{
	(void)state;
	header(VIRTIO_BLK_T_IN, 0);
	add(HDR, 15, false);
	add(DATA, 512, true);
	add(STATUS, 1, true);
	expect_error();
}

static void header_in_the_wrong_direction(void **state)
{
	(void)state;
	header(VIRTIO_BLK_T_IN, 0);
	add(HDR, 16, true);
	add(DATA, 512, true);
	add(STATUS, 1, true);
	expect_error();
}

static void no_status(void **state)
{
	(void)state;
	header(VIRTIO_BLK_T_OUT, 0);
	add(HDR, 16, false);
	add(DATA, 512, false);
	expect_error();
	add(STATUS, 0, true);
	expect_error();
	add(STATUS, 1, true);
	assert_int_equal(parse(), VERDICT_OK);
}

static void status_is_the_last_byte(void **state)
{
	(void)state;
	header(VIRTIO_BLK_T_IN, 0);
	add(HDR, 16, false);
	add(DATA, 513, true);
	add(STATUS, 0, true);
	assert_int_equal(parse(), VERDICT_OK);
	assert_int_equal(req.status.v, DATA + 512);
	assert_int_equal(req.data_len, 512);
}

static void wrong_direction(void **state)
{
	(void)state;
	build(VIRTIO_BLK_T_IN, 0, 512, 0);
	expect_error();
	build(VIRTIO_BLK_T_IN, 0, 512, 512);
	expect_error();
	build(VIRTIO_BLK_T_OUT, 0, 0, 512);
	expect_error();
	build(VIRTIO_BLK_T_OUT, 0, 512, 512);
	expect_error();
	limits.read_only = true;
	expect_error();
}

static void length_not_whole_sectors(void **state)
{
	static const uint32_t lens[] = { 1, 511, 513, 1023, 4095 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		build(VIRTIO_BLK_T_IN, 0, 0, lens[i]);
		expect_error();
		build(VIRTIO_BLK_T_OUT, 0, lens[i], 0);
		expect_error();
	}
}

static void past_the_end(void **state)
{
	static const struct {
		uint64_t sector;
		uint32_t len;
	} bad[] = {
		{ 100, 512 }, { 99, 1024 }, { 101, 512 }, { 0, 101 * 512 }, { UINT64_MAX, 512 }, { UINT64_MAX - 1, 1024 },
		{ UINT64_MAX / 512 + 1, 512 }, { UINT64_C(1) << 55, 512 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		build(VIRTIO_BLK_T_IN, bad[i].sector, 0, bad[i].len);
		expect_error();
		build(VIRTIO_BLK_T_OUT, bad[i].sector, bad[i].len, 0);
		expect_error();
	}
	build(VIRTIO_BLK_T_IN, 0, 0, 100 * 512);
	assert_int_equal(parse(), VERDICT_OK);
	/* Even a disk as large as numbers go has no offset that wraps. */
	limits.n_sectors = UINT64_MAX;
	build(VIRTIO_BLK_T_IN, UINT64_MAX / 512 + 1, 0, 512);
	expect_error();
	limits.n_sectors = 0;
	build(VIRTIO_BLK_T_IN, 0, 0, 512);
	expect_error();
}

static void no_data(void **state)
{
	(void)state;
	/* Two descriptors: a short chain. */
	build(VIRTIO_BLK_T_IN, 0, 0, 0);
	expect_error();
	build(VIRTIO_BLK_T_OUT, 0, 0, 0);
	expect_error();
	build(77, 0, 0, 0);
	expect_error();
	/* An empty data descriptor: a transfer of nothing. */
	header(VIRTIO_BLK_T_IN, SECTORS);
	memset(&chain, 0, sizeof(chain));
	add(HDR, 16, false);
	add(DATA, 0, true);
	add(STATUS, 1, true);
	assert_int_equal(parse(), VERDICT_OK);
	assert_int_equal(req.data_len, 0);
}

/* Header and data in one descriptor, header in pieces, data and status in one: no boundary means anything. */
static void any_layout(void **state)
{
	(void)state;
	header(VIRTIO_BLK_T_OUT, 5);
	add(HDR, 16 + 512, false);
	add(STATUS, 1, true);
	assert_int_equal(parse(), VERDICT_OK);
	assert_int_equal(req.op, BLK_OP_WRITE);
	assert_int_equal(req.data_len, 512);
	memset(&chain, 0, sizeof(chain));
	header(VIRTIO_BLK_T_IN, 5);
	for (uint32_t i = 0; i < 16; i++)
		add(HDR + i, 1, false);
	add(DATA, 100, true);
	add(DATA + 100, 413, true);
	assert_int_equal(parse(), VERDICT_OK);
	assert_int_equal(req.op, BLK_OP_READ);
	assert_int_equal(req.data_len, 512);
	assert_int_equal(req.status.v, DATA + 512);
}

static void within_new_limits(void **state)
{
	(void)state;
	build(VIRTIO_BLK_T_IN, 10, 0, 1024);
	assert_int_equal(parse(), VERDICT_OK);
	limits.n_sectors = 12;
	assert_true(blk_req_within(&req, &ranges, &limits));
	limits.n_sectors = 11;
	assert_false(blk_req_within(&req, &ranges, &limits));
	limits.n_sectors = 0;
	assert_false(blk_req_within(&req, &ranges, &limits));
	build(VIRTIO_BLK_T_FLUSH, 0, 0, 0);
	assert_int_equal(parse(), VERDICT_OK);
	assert_true(blk_req_within(&req, &ranges, &limits));
}

/* Range @i of a DISCARD or WRITE_ZEROES. */
static void range(unsigned i, uint64_t sector, uint32_t n_sectors, uint32_t flags)
{
	uint8_t wire[16];

	le64_put(wire, sector);
	le32_put(wire + 8, n_sectors);
	le32_put(wire + 12, flags);
	assert_int_equal(gmem_write(mem, GPA(DATA + 16 * (uint64_t)i), wire, sizeof(wire)), 0);
}

static void allow_ranges(void)
{
	limits.discard = true;
	limits.max_range_sectors = 50;
}

static void expect_op(enum blk_op op)
{
	struct blk_ranges before;

	memset(&ranges, 0xee, sizeof(ranges));
	before = ranges;
	assert_int_equal(parse(), VERDICT_OK);
	assert_int_equal(req.op, op);
	assert_int_equal(req.status.v, STATUS);
	if (op == BLK_OP_REFUSED || op == BLK_OP_UNSUPPORTED)
		assert_memory_equal(&ranges, &before, sizeof(ranges));
}

static void discards(void **state)
{
	(void)state;
	allow_ranges();
	range(0, 0, 50, 0);
	range(1, 99, 1, 0);
	range(2, 100, 0, 0); /* nothing, at the end */
	range(3, 7, 3, 0);
	build(VIRTIO_BLK_T_DISCARD, UINT64_MAX, 4 * 16, 0); /* the header's sector is not looked at */
	expect_op(BLK_OP_DISCARD);
	assert_int_equal(ranges.n, 3);
	assert_int_equal(ranges.range[0].offset, 0);
	assert_int_equal(ranges.range[0].len, 50 * 512);
	assert_true(ranges.range[0].may_unmap);
	assert_int_equal(ranges.range[1].offset, 99 * 512);
	assert_int_equal(ranges.range[1].len, 512);
	assert_int_equal(ranges.range[2].offset, 7 * 512);
	assert_true(blk_req_within(&req, &ranges, &limits));
	limits.n_sectors = 99;
	assert_false(blk_req_within(&req, &ranges, &limits));
}

static void zeroes(void **state)
{
	(void)state;
	allow_ranges();
	range(0, 5, 5, VIRTIO_BLK_RANGE_F_UNMAP);
	range(1, 20, 5, 0);
	build(VIRTIO_BLK_T_WRITE_ZEROES, 0, 2 * 16, 0);
	expect_op(BLK_OP_WRITE_ZEROES);
	assert_int_equal(ranges.n, 2);
	assert_true(ranges.range[0].may_unmap);
	assert_false(ranges.range[1].may_unmap);
	/* Only empty ranges: nothing to do. */
	range(0, 5, 0, 0);
	build(VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, 0);
	expect_op(BLK_OP_WRITE_ZEROES);
	assert_int_equal(ranges.n, 0);
}

static void ranges_not_offered(void **state)
{
	(void)state;
	range(0, 0, 1, 0);
	build(VIRTIO_BLK_T_DISCARD, 0, 16, 0);
	expect_op(BLK_OP_UNSUPPORTED);
	build(VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, 0);
	expect_op(BLK_OP_UNSUPPORTED);
}

/* 5.2.6.2: flags that are not defined, in any range, also behind good ones. */
static void ranges_with_flags(void **state)
{
	static const uint32_t flags[] = { 2, 4, 0x80000000, UINT32_MAX, 3 };

	(void)state;
	allow_ranges();
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		range(0, 0, 1, 0);
		range(1, 0, 1, flags[i]);
		build(VIRTIO_BLK_T_WRITE_ZEROES, 0, 2 * 16, 0);
		expect_op(BLK_OP_UNSUPPORTED);
		build(VIRTIO_BLK_T_DISCARD, 0, 2 * 16, 0);
		expect_op(BLK_OP_UNSUPPORTED);
	}
	range(1, 0, 1, VIRTIO_BLK_RANGE_F_UNMAP);
	expect_op(BLK_OP_UNSUPPORTED); /* a DISCARD */
}

static void ranges_off_the_disk(void **state)
{
	static const struct {
		uint64_t sector;
		uint32_t n;
	} bad[] = {
		{ 100, 1 }, { 99, 2 }, { 101, 0 }, { 0, 51 }, { 0, UINT32_MAX }, { UINT64_MAX, 1 }, { UINT64_MAX, UINT32_MAX },
		{ UINT64_C(1) << 55, 1 }, { 60, 41 },
	};

	(void)state;
	allow_ranges();
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		range(0, 0, 1, 0);
		range(1, bad[i].sector, bad[i].n, 0);
		build(VIRTIO_BLK_T_DISCARD, 0, 2 * 16, 0);
		expect_op(BLK_OP_REFUSED);
		build(VIRTIO_BLK_T_WRITE_ZEROES, 0, 2 * 16, 0);
		expect_op(BLK_OP_REFUSED);
	}
}

static void ranges_of_odd_length(void **state)
{
	(void)state;
	allow_ranges();
	for (unsigned i = 0; i <= BLK_RANGES_MAX; i++)
		range(i, i, 1, 0);
	build(VIRTIO_BLK_T_DISCARD, 0, BLK_RANGES_MAX * 16, 0);
	expect_op(BLK_OP_DISCARD);
	assert_int_equal(ranges.n, BLK_RANGES_MAX);
	build(VIRTIO_BLK_T_DISCARD, 0, (BLK_RANGES_MAX + 1) * 16, 0);
	expect_op(BLK_OP_REFUSED);
	build(VIRTIO_BLK_T_DISCARD, 0, 15, 0);
	expect_op(BLK_OP_REFUSED);
	build(VIRTIO_BLK_T_DISCARD, 0, 17, 0);
	expect_op(BLK_OP_REFUSED);
	/* No range at all: a chain of two descriptors is short, one of three is not. */
	build(VIRTIO_BLK_T_DISCARD, 0, 0, 0);
	expect_error();
	build(VIRTIO_BLK_T_DISCARD, 0, 0, 0);
	chain.n = 0;
	chain.n_readable = 0;
	chain.readable_len = chain.writable_len = 0;
	add(HDR, 16, false);
	add(DATA, 0, false);
	add(STATUS, 1, true);
	expect_op(BLK_OP_REFUSED);
	/* Ranges in the wrong direction. */
	build(VIRTIO_BLK_T_DISCARD, 0, 0, 16);
	expect_error();
	build(VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, 16);
	expect_error();
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(reads), T(writes), T(read_only_disk), T(flush), T(get_id), T(unknown_types), T(header_too_short),
		T(header_in_the_wrong_direction), T(no_status), T(status_is_the_last_byte), T(wrong_direction),
		T(length_not_whole_sectors), T(past_the_end), T(no_data), T(any_layout), T(within_new_limits),
		T(discards), T(zeroes), T(ranges_not_offered), T(ranges_with_flags), T(ranges_off_the_disk),
		T(ranges_of_odd_length),
	};

	return cmocka_run_group_tests_name("blk_req", tests, NULL, NULL);
}
