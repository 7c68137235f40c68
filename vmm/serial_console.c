/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serial_console.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/fd.h"

/* Set O_NONBLOCK. Returns the flags to restore, or -1 when nothing was changed. */
static int make_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || (flags & O_NONBLOCK) || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -1;
	return flags;
}

/* Keys go to the guest as they are typed: no line editing, echo, signals or flow control here; output is not touched. */
static bool make_raw(struct serial_console *console, int fd)
{
	struct termios raw;

	if (tcgetattr(fd, &console->termios) < 0)
		return false;
	raw = console->termios;
	raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO | ISIG | IEXTEN);
	raw.c_iflag &= (tcflag_t) ~(ICRNL | INLCR | IGNCR | IXON | ISTRIP | BRKINT);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(fd, TCSANOW, &raw) < 0)
		return false;
	console->restore_termios = true;
	return true;
}

/*
 * Is @fd something that a person or a program types into? A tty counts only while we are its foreground job: for another
 * job tcsetattr() would stop the whole monitor with SIGTTOU.
 */
static bool is_console_input(int fd, bool *is_tty)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return false;
	*is_tty = S_ISCHR(st.st_mode) && isatty(fd);
	if (*is_tty)
		return tcgetpgrp(fd) == getpgrp();
	return S_ISFIFO(st.st_mode);
}

int serial_console_enter(struct serial_console *console, const char *path, struct err *e)
{
	bool is_tty = false;

	*console = (struct serial_console){ .in_fd = -1, .out_fd = STDOUT_FILENO, .in_flags = -1, .out_flags = -1 };
	if (path) {
		console->out_fd = open(path, O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0644);
		if (console->out_fd < 0)
			return err_sys(e, -errno, "open the serial output '%s'", path);
		console->owns_out = true;
		return 0;
	}
	if (is_console_input(STDIN_FILENO, &is_tty) && (!is_tty || make_raw(console, STDIN_FILENO))) {
		console->in_fd = STDIN_FILENO;
		console->in_flags = make_nonblocking(STDIN_FILENO);
	}
	console->out_flags = make_nonblocking(STDOUT_FILENO);
	return 0;
}

void serial_console_leave(struct serial_console *console)
{
	if (console->owns_out)
		fd_close(&console->out_fd);
	/* Output first: both are often one open file, and the first flags read were the original ones. */
	if (console->out_flags >= 0)
		(void)fcntl(STDOUT_FILENO, F_SETFL, console->out_flags);
	if (console->in_flags >= 0)
		(void)fcntl(STDIN_FILENO, F_SETFL, console->in_flags);
	if (console->restore_termios)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &console->termios);
	*console = (struct serial_console){ .in_fd = -1, .out_fd = -1, .in_flags = -1, .out_flags = -1 };
}
