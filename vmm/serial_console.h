/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The descriptors behind the serial port: standard input and output, made fit for a console and given back as they were, or
 * a file or FIFO that takes the output.
 *
 * Threads: the I/O thread; serial_console_leave() is async-signal-safe.
 *
 * Use: serial_console_enter(), pass in_fd and out_fd to serial_create(), ..., serial_destroy(), serial_console_leave().
 */
#ifndef MAYFLY_VMM_SERIAL_CONSOLE_H
#define MAYFLY_VMM_SERIAL_CONSOLE_H

#include <stdbool.h>
#include <termios.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"

struct serial_console {
	int in_fd, out_fd;   /* for serial_create(); in_fd -1: standard input is no tty or FIFO, or not ours to read */
	bool owns_out;       /* out_fd is a file that serial_console_leave() closes */
	bool restore_termios;
	int in_flags, out_flags; /* file status flags to restore; -1: untouched */
	struct termios termios;
};

/*
 * Prepare the console. With @path the output goes to that file or FIFO, opened O_RDWR|O_CREAT|O_NONBLOCK, and there is no
 * input. Without, output is standard output and input is standard input if that is a FIFO or a tty in whose foreground we are;
 * both become non-blocking and the tty raw.
 *
 * 0, or negative errno with @e and nothing changed.
 */
int serial_console_enter(struct serial_console *console, const char *path, struct err *e) MUST_USE;

/* Give everything back as it was; idempotent. Async-signal-safe. */
void serial_console_leave(struct serial_console *console);

#endif
