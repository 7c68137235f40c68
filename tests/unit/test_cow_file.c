/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and making deltas: what is refused and with which words, locks, nothing left behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/cow_disk.h"
#include "virtio/cow_impl.h"

#define SIZE (3 * MIB + 1536 + 100) /* ends in the middle of a block and of a sector */
#define VISIBLE (SIZE / 512 * 512)

static struct cow_disk d;
static uint8_t model[SIZE], buf[SIZE];

static int setup_in(const char *parent)
{
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

static void expect_refused(int code, const char *text)
{
	struct err none = { .code = 0 };

	d.err = none;
	assert_int_equal(cow_disk_open(&d, false), code);
	if (!strstr(d.err.msg, text))
		fail_msg("expected a text with \"%s\", got \"%s\"", text, d.err.msg);
	if (!strstr(d.err.msg, d.delta))
		fail_msg("expected the delta's name, got \"%s\"", d.err.msg);
}

static void expect_model(void)
{
	assert_int_equal(cow_disk_read(&d, &blk_io_host, buf, VISIBLE, 0, SIZE, 1), 0);
	assert_memory_equal(buf, model, VISIBLE);
}

static void write_both(uint64_t offset, uint64_t len)
{
	memset(model + offset, 0x5a, len);
	assert_int_equal(cow_disk_write(&d, &blk_io_host, model + offset, len, offset, SIZE, 1), 0);
}

/* Write @len bytes of @p over the delta at @offset, while it is closed. */
static void damage(uint64_t offset, const void *p, size_t len)
{
	int fd = open(d.delta, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, p, len, (off_t)offset), len);
	(void)close(fd);
}

static void make_closed_delta(void)
{
	open_disk();
	write_both(8192, 4096);
	assert_int_equal(cow_flush(&blk_io_host, d.cow), 0);
	cow_disk_close(&d);
}

/* --- Refusals --- */

static void another_base_is_refused(void **state)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1700000000, .tv_nsec = 12345 } };
	struct stat st;
	char text[64];

	(void)state;
	make_closed_delta();
	assert_int_equal(stat(d.base, &st), 0);
	assert_int_equal(utimensat(AT_FDCWD, d.base, times, 0), 0);
	expect_refused(-ESTALE, "modified at @1700000000.000012345");
	(void)snprintf(text, sizeof(text), "modified at @%lld.%09ld", (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	expect_refused(-ESTALE, text);
	expect_refused(-ESTALE, "touch -d");
	times[1] = st.st_mtim; /* the way out that the text names */
	assert_int_equal(utimensat(AT_FDCWD, d.base, times, 0), 0);
	open_disk();
	expect_model();
	cow_disk_close(&d);

	assert_int_equal(truncate(d.base, SIZE - 512), 0);
	d.size = SIZE - 512;
	(void)snprintf(text, sizeof(text), "a base of %llu bytes", (unsigned long long)SIZE);
	expect_refused(-ESTALE, text);
}

static void length_must_be_right(void **state)
{
	struct stat st;

	(void)state;
	make_closed_delta();
	assert_int_equal(stat(d.delta, &st), 0);
	assert_int_equal(truncate(d.delta, st.st_size - 4096), 0);
	expect_refused(-EINVAL, "it was cut off");
	assert_int_equal(truncate(d.delta, st.st_size + 1), 0);
	expect_refused(-EINVAL, "it was made longer");
	assert_int_equal(truncate(d.delta, 8191), 0);
	expect_refused(-EINVAL, "8191 bytes are too few");
}

static void damaged_files_are_refused(void **state)
{
	uint8_t byte = 0xff;

	(void)state;
	make_closed_delta();
	damage(16, &byte, 1);
	expect_refused(-EINVAL, "its header is damaged");
	damage(8, &byte, 1);
	expect_refused(-EINVAL, "version 255");
	damage(0, "QFI\xfb", 4);
	expect_refused(-EINVAL, "not a delta");
	assert_int_equal(access(d.delta, F_OK), 0); /* not ours to remove */
}

/* In the last page, in its first bit behind the end, and in the live map. */
static void bits_behind_the_end_are_refused(void **state)
{
	struct cow_layout l;
	uint8_t bits, zero = 0;

	(void)state;
	make_closed_delta();
	assert_true(cow_layout(SIZE, &l));
	for (unsigned live = 0; live < 2; live++) {
		uint64_t map = live ? l.live_at : COW_MAP_AT;

		bits = 0x80;
		damage(map + l.map_bytes - 1, &bits, 1);
		expect_refused(-EINVAL, "bits behind the disk's end");
		damage(map + l.map_bytes - 1, &zero, 1);
		bits = (uint8_t)(1 << l.n_blocks % 8);
		damage(map + l.n_blocks / 8, &bits, 1);
		expect_refused(-EINVAL, "bits behind the disk's end");
		damage(map + l.n_blocks / 8, &zero, 1);
	}
	open_disk();
	expect_model();
}

static void wrong_kinds_of_files_are_refused(void **state)
{
	char saved[sizeof(d.delta)];

	(void)state;
	memcpy(saved, d.delta, sizeof(saved));
	memcpy(d.delta, d.base, sizeof(d.delta));
	expect_refused(-EINVAL, "it is the base itself");
	memcpy(d.delta, d.dir, sizeof(d.dir));
	expect_refused(-EISDIR, "Is a directory");
	memcpy(d.delta, "/dev/null", sizeof("/dev/null"));
	expect_refused(-EINVAL, "not a regular file");
	memcpy(d.delta, saved, sizeof(saved));
	assert_int_equal(mkfifo(d.delta, 0600), 0);
	expect_refused(-EINVAL, "not a regular file");
	assert_int_equal(unlink(d.delta), 0);
	assert_int_equal(symlink("/tmp/nowhere", d.delta), 0);
	expect_refused(-ELOOP, "symbolic link");
	assert_int_equal(unlink(d.delta), 0);
	(void)snprintf(d.delta, sizeof(d.delta), "%s/no/delta", d.dir);
	expect_refused(-ENOENT, "No such file or directory");
	memcpy(d.delta, saved, sizeof(saved));
}

static void second_opener_is_refused(void **state)
{
	struct cow_disk second = d;
	pid_t pid;
	int status;

	(void)state;
	open_disk();
	assert_int_equal(cow_disk_open(&second, false), -EBUSY);
	assert_non_null(strstr(second.err.msg, "in use, by another microVM or another drive"));
	assert_int_equal(cow_disk_open(&second, true), -EBUSY);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(cow_disk_open(&second, false) == -EBUSY ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	cow_disk_close(&d);
	/* Any number may only read. */
	make_closed_delta();
	assert_int_equal(cow_disk_open(&d, true), 0);
	assert_int_equal(cow_disk_open(&second, true), 0);
	cow_disk_close(&d);
	expect_refused(-EBUSY, "in use, by another microVM or another drive");
	cow_disk_close(&second);
	open_disk();
}

/* Many begin at the same moment with no delta there: one gets it, the others a clear answer, and it is whole. */
static void openers_that_race(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 30; round++) {
		unsigned n_won = 0;
		pid_t pids[6];
		int gate[2];

		assert_int_equal(pipe(gate), 0);
		for (unsigned i = 0; i < ARRAY_SIZE(pids); i++) {
			pids[i] = fork();
			assert_true(pids[i] >= 0);
			if (pids[i] == 0) {
				char c;
				int rc;

				(void)close(gate[1]);
				(void)!read(gate[0], &c, 1); /* end of file: go */
				rc = cow_disk_open(&d, false);
				if (rc == 0)
					(void)usleep(20000);
				_exit(rc == 0 ? 1 : rc == -EBUSY || rc == -EEXIST ? 0 : 2);
			}
		}
		(void)close(gate[0]);
		(void)close(gate[1]);
		for (unsigned i = 0; i < ARRAY_SIZE(pids); i++) {
			int status;

			assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
			assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 2);
			n_won += (unsigned)WEXITSTATUS(status);
		}
		assert_true(n_won >= 1);
		open_disk();
		expect_model();
		cow_disk_close(&d);
		assert_int_equal(unlink(d.delta), 0);
	}
}

/* --- Making --- */

static void file_begun_and_not_finished_is_made_anew(void **state)
{
	struct cow_layout l;
	int fd;

	(void)state;
	assert_true(cow_layout(SIZE, &l));
	fd = open(d.delta, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
	assert_true(fd >= 0);
	assert_int_equal(cow_disk_open(&d, true), 0); /* empty: the base alone */
	assert_int_equal(cow_delta_fd(d.cow), -1);
	cow_disk_close(&d);
	assert_int_equal(ftruncate(fd, (off_t)l.file_size), 0);
	(void)close(fd);
	open_disk();
	write_both(512, 512);
	cow_disk_close(&d);
	open_disk();
	expect_model();
	cow_disk_close(&d);
	/* A hole of another length is not ours. */
	assert_int_equal(truncate(d.delta, 0), 0);
	assert_int_equal(truncate(d.delta, MIB), 0);
	expect_refused(-EINVAL, "not a delta");
}

/* A limit on file sizes stands for a full disk. */
static void failed_making_leaves_nothing(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		struct stat st;
		int fd;

		d.size = UINT64_C(60) << 40; /* longer than a file of ext4 or xfs in any set-up of a test can be */
		if (cow_disk_open(&d, false) == 0)
			_exit(77);
		if (access(d.delta, F_OK) == 0)
			_exit(2);
		fd = open(d.delta, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0 || cow_disk_open(&d, false) == 0 || fstat(fd, &st) < 0)
			_exit(3);
		_exit(st.st_size == 0 ? 0 : 4); /* the operator's empty file is empty again */
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void base_that_is_too_large_is_refused(void **state)
{
	(void)state;
	d.size = COW_SIZE_MAX + 1;
	expect_refused(-EFBIG, "a copy-on-write drive has at most");
	assert_int_equal(access(d.delta, F_OK), -1);
}

static void empty_base(void **state)
{
	(void)state;
	assert_int_equal(truncate(d.base, 0), 0);
	d.size = 0;
	open_disk();
	assert_int_equal(cow_size(d.cow), 0);
	assert_int_equal(cow_flush(&blk_io_host, d.cow), 0);
	cow_disk_close(&d);
	open_disk();
}

/* The map of a disk that was closed without a flush is stable: after a restart of the host, too. */
static void orderly_end_keeps_what_was_written(void **state)
{
	static const uint8_t other_boot[COW_BOOT_ID_BYTES] = { 1 };

	(void)state;
	open_disk();
	write_both(512, 100 * 512);
	memset(model + MIB, 0, 512);
	assert_int_equal(cow_zero(&blk_io_host, d.cow, MIB, 512), 0);
	cow_disk_close(&d);
	damage(COW_SESSION_AT, other_boot, sizeof(other_boot));
	open_disk();
	expect_model();
}

/* What a killed process left in the live map only gets stable with the next one's flush. */
static void flush_after_a_kill_keeps_it_all(void **state)
{
	static const uint8_t other_boot[COW_BOOT_ID_BYTES] = { 1 };
	pid_t pid = fork();
	int status;

	(void)state;
	assert_true(pid >= 0);
	memset(model + 1024, 0x5a, 40960);
	if (pid == 0) {
		if (cow_disk_open(&d, false) < 0)
			_exit(1);
		_exit(cow_disk_write(&d, &blk_io_host, model + 1024, 40960, 1024, SIZE, 1));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	open_disk();
	expect_model();
	assert_false(cow_flush_is_plain(d.cow));
	assert_int_equal(cow_flush(&blk_io_host, d.cow), 0);
	cow_disk_close(&d);
	damage(COW_SESSION_AT, other_boot, sizeof(other_boot));
	open_disk();
	expect_model();
}

/* A limit on file sizes below the delta's is an error, and not the end of the process by SIGXFSZ. */
static void file_size_limit(void **state)
{
	struct rlimit before, low;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	low = (struct rlimit){ .rlim_cur = 64 * KIB, .rlim_max = before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	expect_refused(-EFBIG, "RLIMIT_FSIZE");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(access(d.delta, F_OK), -1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define M(f) cmocka_unit_test_setup_teardown(f, setup_tmpfs, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(another_base_is_refused),
		T(length_must_be_right),
		T(damaged_files_are_refused),
		T(bits_behind_the_end_are_refused),
		T(wrong_kinds_of_files_are_refused),
		T(second_opener_is_refused),
		M(openers_that_race),
		T(file_begun_and_not_finished_is_made_anew),
		T(failed_making_leaves_nothing),
		T(base_that_is_too_large_is_refused),
		T(file_size_limit),
		T(empty_base),
		T(orderly_end_keeps_what_was_written),
		T(flush_after_a_kill_keeps_it_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
