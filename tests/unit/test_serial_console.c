/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console's descriptors: a tty becomes raw and is given back, FIFOs are input, other things are not, and a background
 * job leaves its terminal alone. Each case runs in a child process, which has the standard descriptors to itself.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/serial_console.h"

#define CHECK(cond)                                                                                                     \
	do {                                                                                                            \
		if (!(cond))                                                                                            \
			_exit(__LINE__ % 200 + 1);                                                                      \
	} while (0)

/* Run @body in a child that leads a session; its exit status names the line that failed. */
static void in_child(void (*body)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		(void)setsid();
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) != 0) {
		print_error("line %d (modulo 200)\n", WEXITSTATUS(status) - 1);
		fail();
	}
}

/* A terminal as standard input and output; returns the side of the user. */
static int take_terminal(void)
{
	int user = posix_openpt(O_RDWR | O_NOCTTY), tty;

	CHECK(user >= 0 && grantpt(user) == 0 && unlockpt(user) == 0);
	tty = open(ptsname(user), O_RDWR | O_NOCTTY);
	CHECK(tty >= 0 && ioctl(tty, TIOCSCTTY, 0) == 0);
	CHECK(dup2(tty, STDIN_FILENO) == STDIN_FILENO && dup2(tty, STDOUT_FILENO) == STDOUT_FILENO);
	return user;
}

static void tty_body(void)
{
	struct serial_console console;
	struct termios before, raw, after;
	int user = take_terminal(), flags = fcntl(STDIN_FILENO, F_GETFL);
	char c = 0;

	CHECK(tcgetattr(STDIN_FILENO, &before) == 0 && (before.c_lflag & ICANON));
	CHECK(serial_console_enter(&console, NULL, NULL) == 0);
	CHECK(console.in_fd == STDIN_FILENO && console.out_fd == STDOUT_FILENO);
	CHECK(tcgetattr(STDIN_FILENO, &raw) == 0 && !(raw.c_lflag & (ICANON | ECHO | ISIG)));
	CHECK(raw.c_oflag == before.c_oflag);
	CHECK(fcntl(STDIN_FILENO, F_GETFL) & O_NONBLOCK);
	/* Ctrl-C and Enter arrive as they are. */
	CHECK(write(user, "\003\r", 2) == 2);
	CHECK(read(STDIN_FILENO, &c, 1) == 1 && c == 3);
	CHECK(read(STDIN_FILENO, &c, 1) == 1 && c == '\r');
	serial_console_leave(&console);
	serial_console_leave(&console);
	CHECK(tcgetattr(STDIN_FILENO, &after) == 0);
	CHECK(after.c_lflag == before.c_lflag && after.c_iflag == before.c_iflag);
	CHECK(fcntl(STDIN_FILENO, F_GETFL) == flags);
}

static void background_body(void)
{
	struct serial_console console;
	struct termios before, after;
	int status;
	pid_t pid;

	(void)take_terminal();
	CHECK(tcgetattr(STDIN_FILENO, &before) == 0);
	pid = fork();
	if (pid == 0) {
		CHECK(setpgid(0, 0) == 0);
		CHECK(serial_console_enter(&console, NULL, NULL) == 0); /* would stop here for ever */
		CHECK(console.in_fd == -1 && console.out_fd == STDOUT_FILENO);
		CHECK(tcgetattr(STDIN_FILENO, &after) == 0 && after.c_lflag == before.c_lflag);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, WUNTRACED) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void fifo_body(void)
{
	struct serial_console console;
	int in[2], out[2];

	CHECK(pipe(in) == 0 && pipe(out) == 0);
	CHECK(dup2(in[0], STDIN_FILENO) >= 0 && dup2(out[1], STDOUT_FILENO) >= 0);
	CHECK(serial_console_enter(&console, NULL, NULL) == 0);
	CHECK(console.in_fd == STDIN_FILENO && console.out_fd == STDOUT_FILENO);
	CHECK((fcntl(STDIN_FILENO, F_GETFL) & O_NONBLOCK) && (fcntl(STDOUT_FILENO, F_GETFL) & O_NONBLOCK));
	serial_console_leave(&console);
	CHECK(!(fcntl(STDIN_FILENO, F_GETFL) & O_NONBLOCK) && !(fcntl(STDOUT_FILENO, F_GETFL) & O_NONBLOCK));
}

static void null_body(void)
{
	struct serial_console console;
	int null = open("/dev/null", O_RDWR);

	CHECK(null >= 0 && dup2(null, STDIN_FILENO) == STDIN_FILENO);
	CHECK(serial_console_enter(&console, NULL, NULL) == 0);
	CHECK(console.in_fd == -1);
	serial_console_leave(&console);
	(void)close(STDIN_FILENO);
	CHECK(serial_console_enter(&console, NULL, NULL) == 0);
	CHECK(console.in_fd == -1);
}

static void file_body(void)
{
	struct serial_console console;
	char dir[] = "/tmp/mayfly-console-XXXXXX", path[64];
	struct err e = { 0 };
	struct stat st;
	int flags = fcntl(STDOUT_FILENO, F_GETFL);

	CHECK(mkdtemp(dir) != NULL);
	(void)snprintf(path, sizeof(path), "%s/out", dir);
	CHECK(serial_console_enter(&console, path, &e) == 0);
	CHECK(console.in_fd == -1 && console.out_fd > 2);
	CHECK(stat(path, &st) == 0 && unlink(path) == 0);
	CHECK((fcntl(console.out_fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE)) == (O_NONBLOCK | O_RDWR));
	serial_console_leave(&console);
	CHECK(console.out_fd == -1 && fcntl(STDOUT_FILENO, F_GETFL) == flags);
	/* A FIFO that nobody reads opens at once. */
	CHECK(mkfifo(path, 0600) == 0 && serial_console_enter(&console, path, &e) == 0);
	serial_console_leave(&console);
	CHECK(unlink(path) == 0 && rmdir(dir) == 0);
	CHECK(serial_console_enter(&console, path, &e) < 0 && strstr(e.msg, "(os error 2)"));
}

static void test_tty(void **state)
{
	(void)state;
	in_child(tty_body);
}

static void test_background(void **state)
{
	(void)state;
	in_child(background_body);
}

static void test_fifo(void **state)
{
	(void)state;
	in_child(fifo_body);
}

static void test_null(void **state)
{
	(void)state;
	in_child(null_body);
}

static void test_file(void **state)
{
	(void)state;
	in_child(file_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tty), cmocka_unit_test(test_background), cmocka_unit_test(test_fifo),
		cmocka_unit_test(test_null), cmocka_unit_test(test_file),
	};

	return cmocka_run_group_tests_name("serial_console", tests, NULL, NULL);
}
