/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors for people, full reads and writes, and the small vocabulary of vmm/base.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/bytes.h"
#include "vmm/base/checked.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"

static void test_set_and_wrap(void **state)
{
	struct err e = { 0 };

	(void)state;
	assert_int_equal(err_set(&e, -EINVAL, "bad size %d", 7), -EINVAL);
	assert_int_equal(e.code, -EINVAL);
	assert_string_equal(e.msg, "bad size 7");
	assert_int_equal(err_wrap(&e, -EIO, "drive '%s'", "rootfs"), -EIO);
	assert_int_equal(e.code, -EIO);
	assert_string_equal(e.msg, "drive 'rootfs': bad size 7");
	assert_int_equal(err_sys(&e, -ENOENT, "open '%s'", "/x"), -ENOENT);
	assert_string_equal(e.msg, "open '/x': No such file or directory (os error 2)");
}

static void test_null_is_allowed(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, -EINVAL, "x"), -EINVAL);
	assert_int_equal(err_sys(NULL, -EIO, "x"), -EIO);
	assert_int_equal(err_wrap(NULL, -EPERM, "x"), -EPERM);
}

/* A text that does not fit is cut, in each function, and terminated. */
static void test_cut(void **state)
{
	struct err e = { 0 };
	char big[2 * ERR_MSG_MAX];

	(void)state;
	memset(big, 'x', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	(void)err_set(&e, -EINVAL, "%s", big);
	assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
	(void)err_wrap(&e, -EINVAL, "front");
	assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
	assert_memory_equal(e.msg, "front: xxx", 10);
	(void)err_wrap(&e, -EINVAL, "%s", big);
	assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
	(void)err_sys(&e, -EINVAL, "%s", big);
	assert_int_equal(strlen(e.msg), ERR_MSG_MAX - 1);
}

static void test_os_text(void **state)
{
	char buf[100];

	(void)state;
	assert_string_equal(err_os_text(EBUSY, buf, sizeof(buf)), "Resource busy (os error 16)");
	assert_string_equal(err_os_text(EMFILE, buf, sizeof(buf)), "No file descriptors available (os error 24)");
	assert_string_equal(err_os_text(EACCES, buf, sizeof(buf)), "Permission denied (os error 13)");
	assert_string_equal(err_os_text(4095, buf, sizeof(buf)), "Unknown error (os error 4095)");
	assert_string_equal(err_os_text(EACCES, buf, 5), "Perm");
}

static void test_full_io(void **state)
{
	char name[] = "/tmp/mayfly-test-XXXXXX", got[8];
	AUTO_FD int fd = mkstemp(name);
	AUTO_FD int wrong = -1;

	(void)state;
	assert_true(fd >= 0);
	(void)unlink(name);
	assert_int_equal(fd_write_full(fd, "0123456789", 10), 0);
	assert_int_equal(fd_pread_full(fd, got, 8, 2), 0);
	assert_memory_equal(got, "23456789", 8);
	assert_int_equal(fd_pread_full(fd, got, 8, 3), -ENODATA);
	assert_int_equal(fd_pread_full(fd, got, 0, 100), 0);
	assert_int_equal(fd_write_full(wrong, "x", 1), -EBADF);
	assert_int_equal(fd_pread_full(wrong, got, 1, 0), -EBADF);
}

static void test_ownership(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), taken;

	(void)state;
	taken = fd_take(&fd);
	assert_int_equal(fd, -1);
	errno = E2BIG;
	fd_close(&fd);
	fd_close(&taken);
	assert_int_equal(taken, -1);
	assert_int_equal(errno, E2BIG);
}

static void test_checked(void **state)
{
	uint64_t v = 7;

	(void)state;
	assert_false(checked_add_u64(UINT64_MAX, 1, &v));
	assert_false(checked_mul_u64(UINT64_MAX, 2, &v));
	assert_false(checked_align_up(UINT64_MAX, 4096, &v));
	assert_int_equal(v, 7);
	assert_true(checked_align_up(4097, 4096, &v));
	assert_int_equal(v, 8192);
	assert_true(range_within(10, 0, 10));
	assert_false(range_within(11, 0, 10));
	assert_false(range_within(1, UINT64_MAX, 10));
	assert_true(range_within(0, 10, 10));
}

static void test_bytes(void **state)
{
	uint8_t b[9] = { 0 };

	(void)state;
	le32_put(b + 1, 0x11223344);
	assert_int_equal(b[1], 0x44);
	assert_int_equal(le32_get(b + 1), 0x11223344);
	le16_put(b + 1, 0xabcd);
	assert_int_equal(le16_get(b + 1), 0xabcd);
	le64_put(b + 1, UINT64_C(0x0102030405060708));
	assert_int_equal(le64_get(b + 1), UINT64_C(0x0102030405060708));
}

/* must() says what and where on standard error and aborts. */
static void test_must(void **state)
{
	int pipe_fd[2], status;
	char text[200] = "";
	pid_t pid;

	(void)state;
	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		(void)signal(SIGABRT, SIG_DFL);
		(void)dup2(pipe_fd[1], STDERR_FILENO);
		must(pid != 0);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_true(read(pipe_fd[0], text, sizeof(text) - 1) > 0);
	assert_non_null(strstr(text, "must(pid != 0) failed at "));
	assert_non_null(strstr(text, "test_err.c:"));
	(void)close(pipe_fd[0]);
	(void)close(pipe_fd[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set_and_wrap), cmocka_unit_test(test_null_is_allowed), cmocka_unit_test(test_cut),
		cmocka_unit_test(test_os_text), cmocka_unit_test(test_full_io), cmocka_unit_test(test_ownership),
		cmocka_unit_test(test_checked), cmocka_unit_test(test_bytes), cmocka_unit_test(test_must),
	};

	return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
