/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy-on-write disks over real files: what they hold against a plain array, space, system calls, short and
 * failing host calls at every index. Refusals are test_cow_file.c's, crashes test_cow_crash.c's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/cow_disk.h"
#include "virtio/cow_impl.h"
#include "vmm/base/log.h"
#include "vmm/base/sys.h"

#define SIZE (3 * MIB + 1536 + 100) /* ends in the middle of a block and of a sector */
#define VISIBLE (SIZE / 512 * 512)

static struct cow_disk d;
static uint8_t model[SIZE], buf[SIZE];
static uint64_t seed;

/* --- Host calls that are counted, and can fail, be short, or say that they can't --- */

static struct {
	unsigned n, n_reads, n_writes, n_syncs, n_punches, n_nowait;
	unsigned at;         /* the call that goes wrong; 0: none */
	int with;            /* errno; 0: short by half */
	bool cold, no_punch;
	int cold_fd;
} host;

static bool goes_wrong(void)
{
	host.n++;
	if (host.n != host.at)
		return false;
	errno = host.with;
	return true;
}

static int shorten(struct iovec *copy, const struct iovec *iov, int n)
{
	assert_in_range(n, 1, 256);
	memcpy(copy, iov, (size_t)n * sizeof(*iov));
	n = (n + 1) / 2;
	if (copy[n - 1].iov_len > 1)
		copy[n - 1].iov_len /= 2;
	return n;
}

static ssize_t host_preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	struct iovec copy[256];

	host.n_reads++;
	host.n_nowait += flags == RWF_NOWAIT;
	if (host.cold && fd == host.cold_fd && flags == RWF_NOWAIT) {
		errno = EAGAIN;
		return -1;
	}
	if (!goes_wrong())
		return sys_preadv2(fd, iov, n, offset, flags & ~RWF_NOWAIT);
	return host.with ? -1 : sys_preadv2(fd, copy, shorten(copy, iov, n), offset, 0);
}

static ssize_t host_pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	struct iovec copy[256];

	host.n_writes++;
	assert_int_equal(fd, cow_delta_fd(d.cow));
	if (!goes_wrong())
		return sys_pwritev2(fd, iov, n, offset, flags);
	return host.with ? -1 : sys_pwritev2(fd, copy, shorten(copy, iov, n), offset, flags);
}

static int host_fdatasync(int fd)
{
	host.n_syncs++;
	return goes_wrong() && host.with ? -1 : fdatasync(fd);
}

static int host_fallocate(int fd, int mode, off_t offset, off_t len)
{
	host.n_punches++;
	assert_int_equal(fd, cow_delta_fd(d.cow));
	assert_int_equal(mode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
	errno = EOPNOTSUPP;
	if (host.no_punch)
		return -1;
	return goes_wrong() && host.with ? -1 : fallocate(fd, mode, offset, len);
}

static const struct blk_io_ops ops = {
	.preadv2 = host_preadv2, .pwritev2 = host_pwritev2, .fdatasync = host_fdatasync, .fallocate = host_fallocate,
};

/* --- Setup --- */

static int setup_in(const char *parent)
{
	memset(&host, 0, sizeof(host));
	seed = 4711;
	cow_disk_make(&d, parent, SIZE);
	for (size_t i = 0; i < SIZE; i++)
		model[i] = cow_disk_byte(i);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	return setup_in("/tmp");
}

/* For tests that sync often. */
static int setup_tmpfs(void **state)
{
	(void)state;
	return setup_in(cow_disk_fast_parent());
}

static int teardown(void **state)
{
	(void)state;
	cow_disk_remove(&d);
	return 0;
}

static void open_disk(void)
{
	if (cow_disk_open(&d, false) < 0)
		fail_msg("open: %s", d.err.msg);
}

static void expect_model(void)
{
	memset(buf, 0xee, sizeof(buf));
	assert_int_equal(cow_disk_read(&d, &ops, buf, VISIBLE, 0, SIZE, 1), 0);
	for (size_t i = 0; i < VISIBLE; i++)
		if (buf[i] != model[i])
			fail_msg("byte %zu: expected 0x%02x, got 0x%02x", i, model[i], buf[i]);
}

static void write_both(uint64_t offset, uint64_t len, uint64_t slice, unsigned n_iov)
{
	for (uint64_t i = 0; i < len; i++)
		model[offset + i] = (uint8_t)cow_disk_random(&seed, 256);
	assert_int_equal(cow_disk_write(&d, &ops, model + offset, len, offset, slice, n_iov), 0);
}

static void zero_both(uint64_t offset, uint64_t len)
{
	memset(model + offset, 0, len);
	assert_int_equal(cow_zero(&ops, d.cow, offset, len), 0);
}

static uint64_t delta_space(void)
{
	struct stat st;

	assert_int_equal(stat(d.delta, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void make_closed_delta(void)
{
	open_disk();
	write_both(8192, 4096, 4096, 1);
	assert_int_equal(cow_flush(&ops, d.cow), 0);
	cow_disk_close(&d);
}

/* --- What it holds --- */

static void new_delta_is_the_base(void **state)
{
	struct stat st;

	(void)state;
	open_disk();
	expect_model();
	assert_int_equal(cow_size(d.cow), SIZE);
	assert_int_equal(stat(d.delta, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_true(delta_space() <= 16384);
	assert_int_equal(host.n_reads, 1); /* a uniform stretch is one call */
}

static void one_step(void)
{
	uint64_t n_sectors = VISIBLE / 512;
	uint64_t offset = cow_disk_random(&seed, n_sectors) * 512;
	uint64_t len = (1 + cow_disk_random(&seed, cow_disk_random(&seed, 8) ? 20 : 300)) * 512;
	uint64_t slice = (1 + cow_disk_random(&seed, 64)) * 512;
	unsigned n_iov = 1 + (unsigned)cow_disk_random(&seed, 5);

	if (len > VISIBLE - offset)
		len = VISIBLE - offset;
	if (cow_disk_random(&seed, 2)) {
		offset -= offset % COW_BLOCK;
		len = len < COW_BLOCK ? len : len - len % COW_BLOCK;
	}
	switch (cow_disk_random(&seed, 10)) {
	case 0: case 1: case 2: case 3:
		write_both(offset, len, slice, n_iov);
		break;
	case 4:
		zero_both(offset, len);
		break;
	case 5:
		if (cow_disk_random(&seed, 10) == 0)
			assert_int_equal(cow_flush(&ops, d.cow), 0);
		break;
	case 6:
		if (cow_disk_random(&seed, 50) == 0) {
			cow_disk_close(&d);
			assert_int_equal(cow_disk_open(&d, true), 0);
			expect_model();
			cow_disk_close(&d);
			open_disk();
			expect_model();
		}
		break;
	default:
		assert_int_equal(cow_disk_read(&d, &ops, buf, len, offset, slice, n_iov), 0);
		assert_memory_equal(buf, model + offset, len);
		break;
	}
}

static void random_operations(void **state)
{
	(void)state;
	open_disk();
	for (unsigned i = 0; i < 4000; i++)
		one_step();
	expect_model();
	host.no_punch = true;
	for (unsigned i = 0; i < 1000; i++)
		one_step();
	expect_model();
	cow_disk_close(&d);
	open_disk();
	expect_model();
}

/* Every alignment of a write to fresh blocks; each 64 KiB are used once. */
static void first_writes_of_every_alignment(void **state)
{
	(void)state;
	open_disk();
	for (uint64_t head = 0; head < 8; head++)
		for (uint64_t n = 1; n <= 18; n += n < 10 ? 1 : 4) {
			uint64_t offset = (head * 18 + n) % 48 * 65536 + head * 512;

			cow_disk_close(&d);
			assert_int_equal(unlink(d.delta), 0);
			for (size_t i = 0; i < SIZE; i++)
				model[i] = cow_disk_byte(i);
			open_disk();
			if (n % 2)
				write_both(offset, n * 512, SIZE, 2);
			else
				zero_both(offset, n * 512);
			expect_model();
		}
	/* The disk's last sectors. */
	write_both(VISIBLE - 512, 512, 512, 1);
	expect_model();
	zero_both(VISIBLE - 5120, 5120);
	expect_model();
}

static void base_is_never_written(void **state)
{
	static uint8_t bytes[SIZE];
	struct stat before, after;
	int fd;

	(void)state;
	assert_int_equal(stat(d.base, &before), 0);
	open_disk();
	zero_both(0, VISIBLE);
	write_both(512, 100000 / 512 * 512, SIZE, 3);
	assert_int_equal(cow_flush(&ops, d.cow), 0);
	assert_int_equal(stat(d.base, &after), 0);
	assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim));
	fd = open(d.base, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, bytes, SIZE, 0), SIZE);
	(void)close(fd);
	for (size_t i = 0; i < SIZE; i++)
		assert_int_equal(bytes[i], cow_disk_byte(i));
}

static void two_deltas_over_one_base(void **state)
{
	struct cow_disk other = d;

	(void)state;
	(void)snprintf(other.delta, sizeof(other.delta), "%s/other", d.dir);
	open_disk();
	assert_int_equal(cow_disk_open(&other, false), 0);
	write_both(4096, 8192, SIZE, 1);
	assert_int_equal(cow_disk_read(&other, &blk_io_host, buf, 16384, 0, SIZE, 1), 0);
	for (size_t i = 0; i < 16384; i++)
		assert_int_equal(buf[i], cow_disk_byte(i));
	cow_disk_close(&other);
	(void)unlink(other.delta);
	expect_model();
}

static void discard_gives_space_back(void **state)
{
	uint64_t before;

	(void)state;
	open_disk();
	if (!cow_can_discard(d.cow)) {
		skip();
		return;
	}
	write_both(0, 2 * MIB, MIB, 1);
	assert_int_equal(cow_flush(&ops, d.cow), 0);
	before = delta_space();
	assert_true(before >= 2 * MIB);
	zero_both(0, 2 * MIB);
	assert_int_equal(host.n_punches, 1);
	assert_int_equal(cow_flush(&ops, d.cow), 0);
	assert_true(delta_space() <= before - 2 * MIB + 4096);
	expect_model();
	/* What was only in the base: no space is taken either, except the map's. */
	zero_both(2 * MIB, MIB);
	assert_true(delta_space() <= before - 2 * MIB + 4096);
	expect_model();
}

static void ops_without_holes_write_zeros(void **state)
{
	(void)state;
	open_disk();
	write_both(0, 100 * 512, SIZE, 1);
	host.no_punch = true;
	zero_both(512, 2 * MIB);
	expect_model();
}

/* --- System calls --- */

static void calls_of_a_write(void **state)
{
	(void)state;
	open_disk();
	write_both(8192, 65536, SIZE, 4);
	assert_int_equal(host.n_writes, 2); /* data, live map */
	assert_int_equal(host.n_reads, 0);
	write_both(8192, 65536, SIZE, 4);
	assert_int_equal(host.n_writes, 3); /* in place */
	assert_false(cow_flush_is_plain(d.cow));
	assert_int_equal(cow_flush(&ops, d.cow), 0);
	assert_int_equal(host.n_writes, 4);
	assert_int_equal(host.n_syncs, 2);
	assert_true(cow_flush_is_plain(d.cow));
	assert_int_equal(cow_flush(&ops, d.cow), 0);
	assert_int_equal(host.n_writes, 4);
	assert_int_equal(host.n_syncs, 3);
	expect_model();
}

/* What a write meets on its way, new blocks and own ones in turn, makes no difference. */
static void writes_over_mixed_blocks_are_one_call(void **state)
{
	(void)state;
	open_disk();
	for (uint64_t block = 1; block < 255; block += 2)
		write_both(block * COW_BLOCK, COW_BLOCK, COW_BLOCK, 1);
	host.n_writes = 0;
	write_both(0, MIB, MIB, 7);
	assert_int_equal(host.n_writes, 2);
	expect_model();
	assert_int_equal(host.n_reads, 2); /* the delta, then the base */
}

/* A slice that ends inside a block does not copy up what the next one overwrites. */
static void slices_are_whole_blocks(void **state)
{
	(void)state;
	open_disk();
	write_both(0, 65536, 5120, 1);
	assert_int_equal(host.n_reads, 0);
	expect_model();
}

static void nowait_reads(void **state)
{
	static struct blk_xfer x;

	(void)state;
	open_disk();
	d.cow->base_in_memory = false; /* whatever /tmp is on */
	d.cow->delta_in_memory = false;
	write_both(4096, 4096, 4096, 1);
	x = (struct blk_xfer){ .left = 12288, .n = 1, .iov = { { buf, 12288 } } };
	assert_int_equal(cow_run(&ops, d.cow, &x, SIZE, RWF_NOWAIT), BLK_IO_DONE);
	assert_int_equal(host.n_nowait, 3);
	assert_memory_equal(buf, model, 12288);
	/* Cold in the delta: the base's part is done, the rest goes on later. */
	host.cold = true;
	host.cold_fd = cow_delta_fd(d.cow);
	memset(buf, 0, 12288);
	x = (struct blk_xfer){ .left = 12288, .n = 1, .iov = { { buf, 12288 } } };
	assert_int_equal(cow_run(&ops, d.cow, &x, SIZE, RWF_NOWAIT), BLK_IO_WOULD_BLOCK);
	assert_int_equal(x.done, 4096);
	assert_int_equal(cow_run(&ops, d.cow, &x, SIZE, 0), BLK_IO_DONE);
	assert_memory_equal(buf, model, 12288);
	/* tmpfs knows no RWF_NOWAIT and needs none. */
	host.n_nowait = 0;
	d.cow->delta_in_memory = true;
	x = (struct blk_xfer){ .left = 12288, .n = 1, .iov = { { buf, 12288 } } };
	assert_int_equal(cow_run(&ops, d.cow, &x, SIZE, RWF_NOWAIT), BLK_IO_DONE);
	assert_int_equal(host.n_nowait, 2);
}

/* --- Host calls that go wrong --- */

/* Steps that meet every kind of call. 0 or what went wrong. */
static int scenario_step(unsigned step)
{
	static uint8_t data[5 * COW_BLOCK];

	memset(data, 0x11 + (int)step, sizeof(data));
	switch (step) {
	case 0: return cow_disk_write(&d, &ops, data, 3 * COW_BLOCK + 512, 1024, SIZE, 3); /* copies up at both ends */
	case 1: return cow_disk_write(&d, &ops, data, 1024, 1536, SIZE, 1);
	case 2: return -cow_flush(&ops, d.cow);
	case 3: return -cow_zero(&ops, d.cow, COW_BLOCK + 512, 6 * COW_BLOCK);
	case 4: return cow_disk_write(&d, &ops, data, 5 * COW_BLOCK, 3 * COW_BLOCK, 2 * COW_BLOCK, 2);
	case 5: return -cow_flush(&ops, d.cow);
	default: return cow_disk_read(&d, &ops, data, 2 * COW_BLOCK, 512, SIZE, 2);
	}
}

#define N_STEPS 7

static void model_step(unsigned step, uint8_t *m)
{
	switch (step) {
	case 0: memset(m + 1024, 0x11, 3 * COW_BLOCK + 512); break;
	case 1: memset(m + 1536, 0x12, 1024); break;
	case 3: memset(m + COW_BLOCK + 512, 0, 6 * COW_BLOCK); break;
	case 4: memset(m + 3 * COW_BLOCK, 0x15, 5 * COW_BLOCK); break;
	default: break;
	}
}

/* Each byte is as before or as after; then the model is what was found. */
static void expect_old_or_new(const uint8_t *after)
{
	assert_int_equal(cow_disk_read(&d, &blk_io_host, buf, VISIBLE, 0, SIZE, 1), 0);
	for (size_t i = 0; i < VISIBLE; i++) {
		if (buf[i] != model[i] && buf[i] != after[i])
			fail_msg("byte %zu: 0x%02x is neither old (0x%02x) nor new (0x%02x)", i, buf[i], model[i], after[i]);
		model[i] = buf[i];
	}
}

/* Run the scenario with call @at going wrong. False when there is no such call. @errors: expected; else all steps succeed. */
static bool scenario(unsigned at, int with, bool errors)
{
	static uint8_t after[SIZE];
	bool failed = false, flush_failed = false;

	host.at = at;
	host.with = with;
	host.n = 0;
	open_disk();
	for (unsigned step = 0; step < N_STEPS; step++) {
		int got = scenario_step(step);
		bool is_flush = step == 2 || step == 5;

		memcpy(after, model, sizeof(after));
		model_step(step, after);
		if (got == 0) {
			memcpy(model, after, sizeof(model));
			assert_false(is_flush && flush_failed);
			continue;
		}
		assert_int_equal(got, with);
		assert_true(errors);
		failed = true;
		flush_failed |= is_flush && d.cow->broken;
		expect_old_or_new(after);
	}
	assert_true(failed == (errors && host.n >= at));
	cow_disk_close(&d);
	open_disk();
	assert_int_equal(cow_disk_read(&d, &blk_io_host, buf, VISIBLE, 0, SIZE, 1), 0);
	assert_memory_equal(buf, model, VISIBLE);
	cow_disk_close(&d);
	assert_int_equal(unlink(d.delta), 0);
	for (size_t i = 0; i < SIZE; i++)
		model[i] = cow_disk_byte(i);
	return host.n >= at;
}

static void every_call_fails_once(void **state)
{
	unsigned at = 1;

	(void)state;
	log_set_level(LOG_OFF);
	while (scenario(at, EIO, true) && scenario(at, ENOSPC, true))
		at++;
	assert_true(at > 20);
	log_set_level(LOG_INFO);
}

static void every_call_is_interrupted_or_short(void **state)
{
	unsigned at = 1;

	(void)state;
	while (scenario(at, EINTR, false) && scenario(at, 0, false))
		at++;
	assert_true(at > 20);
}

static void failed_sync_is_not_forgotten(void **state)
{
	(void)state;
	open_disk();
	write_both(0, 4096, 4096, 1);
	host.at = host.n + 1;
	host.with = EIO;
	assert_int_equal(cow_flush(&ops, d.cow), -EIO);
	assert_int_equal(cow_flush(&ops, d.cow), -EIO);
	assert_int_equal(host.n_syncs, 1); /* the kernel would say 0 to the second one */
	expect_model();
	log_set_level(LOG_OFF);
	cow_disk_close(&d);
	log_set_level(LOG_INFO);
	open_disk();
	assert_int_equal(cow_flush(&ops, d.cow), 0);
	expect_model();
}

static void failed_sync_of_an_engine_is_not_forgotten(void **state)
{
	(void)state;
	open_disk();
	assert_int_equal(cow_flush(&ops, d.cow), 0);
	assert_true(cow_flush_is_plain(d.cow));
	cow_flush_failed(d.cow, -EIO);
	assert_false(cow_flush_is_plain(d.cow));
	assert_int_equal(cow_flush(&ops, d.cow), -EIO);
}

static void base_that_shrank_is_an_error(void **state)
{
	(void)state;
	open_disk();
	assert_int_equal(truncate(d.base, 65536), 0);
	assert_int_equal(cow_disk_read(&d, &ops, buf, 4096, MIB, SIZE, 1), -1);
	assert_int_equal(cow_disk_write(&d, &ops, buf, 512, MIB, SIZE, 1), -1);
	assert_int_equal(cow_zero(&ops, d.cow, MIB, 512), -ENODATA);
	assert_int_equal(cow_disk_write(&d, &ops, buf, 4096, MIB, SIZE, 1), 0);
	assert_int_equal(cow_disk_read(&d, &ops, buf, 4096, MIB, SIZE, 1), 0);
}

/* --- Read-only --- */

static void read_only_writes_nothing(void **state)
{
	struct stat before, after;

	(void)state;
	assert_int_equal(cow_disk_open(&d, true), 0);
	assert_int_equal(cow_delta_fd(d.cow), -1);
	assert_int_equal(cow_flush(&ops, d.cow), 0);
	expect_model();
	cow_disk_close(&d);
	assert_int_equal(access(d.delta, F_OK), -1);

	make_closed_delta();
	assert_int_equal(chmod(d.delta, 0400), 0);
	assert_int_equal(stat(d.delta, &before), 0);
	assert_int_equal(cow_disk_open(&d, true), 0);
	expect_model();
	cow_disk_close(&d);
	assert_int_equal(stat(d.delta, &after), 0);
	assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim));
}

static void shares(void **state)
{
	struct cow *share;

	(void)state;
	open_disk();
	share = cow_ref(d.cow);
	cow_unref(share);
	write_both(0, 512, 512, 1);
	expect_model();
	cow_unref(NULL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define M(f) cmocka_unit_test_setup_teardown(f, setup_tmpfs, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(new_delta_is_the_base),
		T(random_operations),
		M(first_writes_of_every_alignment),
		T(base_is_never_written),
		T(two_deltas_over_one_base),
		T(discard_gives_space_back),
		T(ops_without_holes_write_zeros),
		T(calls_of_a_write),
		T(writes_over_mixed_blocks_are_one_call),
		T(slices_are_whole_blocks),
		T(nowait_reads),
		M(every_call_fails_once),
		M(every_call_is_interrupted_or_short),
		T(failed_sync_is_not_forgotten),
		T(failed_sync_of_an_engine_is_not_forgotten),
		T(base_that_shrank_is_an_error),
		T(read_only_writes_nothing),
		T(shares),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
