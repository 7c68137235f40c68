/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sync engine against a file in memory whose system calls are short, interrupted or fail at every byte
 * (FC#5485: data that came twice after an error in the second iovec).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "virtio/blk_io.h"

#define FILE_LEN 64
#define BUF_LEN 32

/* The host: what it does is set by each test. */
static struct {
	uint8_t file[FILE_LEN];
	size_t file_len;
	size_t per_call;   /* most bytes in one call */
	size_t fail_after; /* this many bytes in all succeed, then fail_errno */
	int fail_errno;
	unsigned n_eintr;  /* so many calls are interrupted first */
	size_t total;
	unsigned n_calls;
	int flush_errno;
} host;

static ssize_t transfer(const struct iovec *iov, int n, off_t offset, bool write)
{
	size_t done = 0, off = (size_t)offset;

	host.n_calls++;
	if (host.n_eintr > 0) {
		host.n_eintr--;
		errno = EINTR;
		return -1;
	}
	if (host.total >= host.fail_after) {
		errno = host.fail_errno;
		return -1;
	}
	for (int i = 0; i < n; i++) {
		assert_true(iov[i].iov_len > 0);
		for (size_t k = 0; k < iov[i].iov_len; k++) {
			uint8_t *mem = (uint8_t *)iov[i].iov_base + k;

			if (done == host.per_call || host.total == host.fail_after || off == host.file_len)
				return (ssize_t)done;
			if (write)
				host.file[off] = *mem;
			else
				*mem = host.file[off];
			off++;
			done++;
			host.total++;
		}
	}
	return (ssize_t)done;
}

static ssize_t fake_preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	assert_int_equal(fd, 33);
	(void)flags;
	return transfer(iov, n, offset, false);
}

static ssize_t fake_pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	assert_int_equal(fd, 33);
	assert_int_equal(flags, 0);
	return transfer(iov, n, offset, true);
}

static int fake_fdatasync(int fd)
{
	assert_int_equal(fd, 33);
	host.n_calls++;
	if (host.n_eintr > 0) {
		host.n_eintr--;
		errno = EINTR;
		return -1;
	}
	errno = host.flush_errno;
	return host.flush_errno ? -1 : 0;
}

static const struct blk_io_ops ops = { .preadv2 = fake_preadv2, .pwritev2 = fake_pwritev2, .fdatasync = fake_fdatasync };

static uint8_t buf[BUF_LEN];
static struct blk_xfer x;

static int setup(void **state)
{
	(void)state;
	memset(&host, 0, sizeof(host));
	for (size_t i = 0; i < FILE_LEN; i++)
		host.file[i] = (uint8_t)(i + 100);
	host.file_len = FILE_LEN;
	host.per_call = SIZE_MAX;
	host.fail_after = SIZE_MAX;
	host.fail_errno = EIO;
	memset(buf, 0, sizeof(buf));
	return 0;
}

/* All of buf in pieces of @piece bytes, from @offset on. */
static void prepare(bool write, uint64_t offset, size_t piece)
{
	memset(&x, 0, sizeof(x));
	x.is_write = write;
	x.offset = offset;
	x.left = BUF_LEN;
	for (size_t off = 0; off < BUF_LEN; off += piece)
		x.iov[x.n++] = (struct iovec){ buf + off, BUF_LEN - off < piece ? BUF_LEN - off : piece };
}

static enum blk_io_result run(uint64_t max, int flags)
{
	return blk_io_run(&ops, 33, &x, max, flags);
}

static void expect_read(size_t n)
{
	for (size_t i = 0; i < BUF_LEN; i++)
		assert_int_equal(buf[i], i < n ? i + 100 + 5 : 0);
}

static void whole(void **state)
{
	(void)state;
	prepare(false, 5, 7);
	assert_int_equal(run(1000, 0), BLK_IO_DONE);
	expect_read(BUF_LEN);
	assert_int_equal(x.done, BUF_LEN);
	assert_int_equal(host.n_calls, 1);
	prepare(false, 5, 7);
	x.left = 0;
	x.n = 0;
	assert_int_equal(run(1000, 0), BLK_IO_DONE);
	assert_int_equal(host.n_calls, 1); /* nothing to do: no call */
}

/* Short calls of every length, pieces of every length. */
static void short_calls(void **state)
{
	for (size_t piece = 1; piece <= BUF_LEN; piece++) {
		for (size_t per_call = 1; per_call <= BUF_LEN; per_call++) {
			setup(state);
			host.per_call = per_call;
			prepare(false, 5, piece);
			assert_int_equal(run(1000, 0), BLK_IO_DONE);
			expect_read(BUF_LEN);
			setup(state);
			host.per_call = per_call;
			for (size_t i = 0; i < BUF_LEN; i++)
				buf[i] = (uint8_t)i;
			prepare(true, 9, piece);
			assert_int_equal(run(1000, 0), BLK_IO_DONE);
			for (size_t i = 0; i < FILE_LEN; i++)
				assert_int_equal(host.file[i], i >= 9 && i < 9 + BUF_LEN ? i - 9 : i + 100);
			assert_int_equal(host.total, BUF_LEN);
		}
	}
}

/* A failure after every number of bytes: exactly these are done, once, and counted. */
static void failing_calls(void **state)
{
	for (size_t piece = 1; piece <= BUF_LEN; piece += 3) {
		for (size_t after = 0; after < BUF_LEN; after++) {
			setup(state);
			host.fail_after = after;
			prepare(false, 5, piece);
			assert_int_equal(run(1000, 0), BLK_IO_FAILED);
			assert_int_equal(x.done, after);
			assert_int_equal(x.left, BUF_LEN - after);
			expect_read(after);
		}
	}
}

static void end_of_file(void **state)
{
	for (size_t len = 5; len < 5 + BUF_LEN; len++) {
		setup(state);
		host.file_len = len;
		prepare(false, 5, 7);
		assert_int_equal(run(1000, 0), BLK_IO_FAILED);
		assert_int_equal(x.done, len - 5);
		expect_read(len - 5);
	}
}

static void interrupted(void **state)
{
	(void)state;
	host.n_eintr = 3;
	host.per_call = 10;
	prepare(false, 5, 7);
	assert_int_equal(run(1000, 0), BLK_IO_DONE);
	expect_read(BUF_LEN);
}

/* In slices of every length; the list of pieces is whole again between them. */
static void slices(void **state)
{
	for (size_t max = 1; max <= BUF_LEN; max++) {
		for (size_t piece = 1; piece <= BUF_LEN; piece++) {
			size_t n = 0;

			setup(state);
			prepare(false, 5, piece);
			while (x.left > 0) {
				size_t before = x.done;
				enum blk_io_result r = run(max, 0);

				assert_true(x.done - before <= max);
				assert_int_equal(r, x.left ? BLK_IO_MORE : BLK_IO_DONE);
				n++;
			}
			assert_int_equal(n, (BUF_LEN + max - 1) / max);
			expect_read(BUF_LEN);
		}
	}
}

static void nowait(void **state)
{
	(void)state;
	/* Nothing there. */
	host.fail_after = 0;
	host.fail_errno = EAGAIN;
	prepare(false, 5, 7);
	assert_int_equal(run(1000, RWF_NOWAIT), BLK_IO_WOULD_BLOCK);
	assert_int_equal(x.done, 0);
	/* A part is: it is not read again. */
	host.fail_after = SIZE_MAX;
	host.per_call = 10;
	assert_int_equal(run(1000, RWF_NOWAIT), BLK_IO_WOULD_BLOCK);
	assert_int_equal(x.done, 10);
	assert_int_equal(host.n_calls, 2);
	host.per_call = SIZE_MAX;
	assert_int_equal(run(1000, 0), BLK_IO_DONE);
	expect_read(BUF_LEN);
	assert_int_equal(host.total, BUF_LEN);
	/* A real error is one; the end of the file is left to the caller that may wait. */
	host.fail_after = 0;
	host.fail_errno = EIO;
	prepare(false, 5, 7);
	assert_int_equal(run(1000, RWF_NOWAIT), BLK_IO_FAILED);
	host.fail_after = SIZE_MAX;
	host.file_len = 5;
	assert_int_equal(run(1000, RWF_NOWAIT), BLK_IO_WOULD_BLOCK);
	/* EAGAIN without the flag is an error. */
	host.fail_after = 0;
	host.fail_errno = EAGAIN;
	assert_int_equal(run(1000, 0), BLK_IO_FAILED);
}

static void flushes(void **state)
{
	(void)state;
	host.n_eintr = 2;
	assert_int_equal(blk_io_flush(&ops, 33), 0);
	assert_int_equal(host.n_calls, 3);
	host.flush_errno = ENOSPC;
	assert_int_equal(blk_io_flush(&ops, 33), -ENOSPC);
}

#define T(fn) cmocka_unit_test_setup(fn, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(whole), T(short_calls), T(failing_calls), T(end_of_file), T(interrupted), T(slices), T(nowait), T(flushes),
	};

	return cmocka_run_group_tests_name("blk_io", tests, NULL, NULL);
}
