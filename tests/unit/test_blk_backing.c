/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may be a disk: regular files and block devices, and nothing else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "virtio/blk.h"
#include "vmm/base/log.h"

#define SECTORS 8

static char dir[64], path[96];

static int setup(void **state)
{
	int fd;

	(void)state;
	(void)snprintf(dir, sizeof(dir), "/tmp/test_blk_backing.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/disk", dir);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, SECTORS * 512) < 0)
		return -1;
	return close(fd);
}

static int teardown(void **state)
{
	(void)state;
	return unlink(path) || rmdir(dir);
}

static void expect_refused(const char *what, const char *text)
{
	struct blk_backing backing = { .fd = -1 };
	struct err e = { 0 };
	char want[ERR_MSG_MAX];

	assert_true(blk_backing_open(what, true, &backing, &e) < 0);
	assert_int_equal(backing.fd, -1);
	(void)snprintf(want, sizeof(want), "Error manipulating the backing file: %s %s", text, what);
	assert_string_equal(e.msg, want);
}

static void refused_backings(void **state)
{
	char fifo[128];

	(void)state;
	expect_refused("/nonexistent/disk", "No such file or directory (os error 2)");
	expect_refused(dir, "Is a directory (os error 21)");
	expect_refused("/dev/null", "Invalid argument (os error 22)");
	(void)snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	expect_refused(fifo, "Invalid argument (os error 22)");
	(void)unlink(fifo);
}

static void backing_facts(void **state)
{
	struct blk_backing b;

	(void)state;
	assert_int_equal(blk_backing_open(path, true, &b, NULL), 0);
	assert_int_equal(b.size, SECTORS * 512);
	assert_true(b.read_only);
	assert_int_equal(fcntl(b.fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY);
	assert_int_equal(fcntl(b.fd, F_GETFD), FD_CLOEXEC);
	blk_backing_close(&b);
	blk_backing_close(&b);
	assert_int_equal(b.fd, -1);
}

/* Opening a file to write asks whether it can discard, and leaves no trace: deltas know their base by its time. */
static void no_trace(void **state)
{
	const struct timespec old[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1000000000, .tv_nsec = 5 } };
	struct blk_backing b;
	struct stat st;

	(void)state;
	assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
	assert_int_equal(blk_backing_open(path, false, &b, NULL), 0);
	blk_backing_close(&b);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, SECTORS * 512);
	assert_int_equal(st.st_mtim.tv_sec, old[1].tv_sec);
	assert_int_equal(st.st_mtim.tv_nsec, old[1].tv_nsec);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {T(refused_backings), T(backing_facts), T(no_trace)};

	log_set_level(LOG_OFF);
	return cmocka_run_group_tests_name("blk_backing", tests, NULL, NULL);
}
