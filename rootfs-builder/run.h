/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Child processes: the tools that mayfly-rootfs calls (make, tar, apt-get, dpkg) are run directly, never by a shell.
 *
 * A child gets its own process group, so that an interrupt (SIGINT, SIGTERM, SIGHUP) ends all of it while this process
 * lives on to clean up: run_command() then returns -EINTR.
 */
#ifndef MAYFLY_ROOTFS_RUN_H
#define MAYFLY_ROOTFS_RUN_H

#include <stddef.h>

#include "vmm/base/cdefs.h"

struct err;

struct run_opts {
	const char *dir;          /* working directory; NULL = ours */
	const char *const *env;   /* "NAME=value" strings ended by NULL, added to our environment; may be NULL */
	const char *log;          /* file that gets everything the command prints; NULL = none */
	void (*line)(void *ctx, const char *line); /* called for each line it prints, without the newline; may be NULL */
	void *ctx;
	int quiet_errors;         /* leave standard error out of the lines: it goes nowhere */
};

/*
 * Run @argv (ended by NULL, argv[0] looked up in PATH) to its end, its output collected as @opts says, its input empty.
 *
 * Returns 0 when it exits with 0. Otherwise a negative errno with @e set: -ENOENT when the program is not installed, -EINTR
 * when a signal asked us to stop, -ECHILD when it failed (the text carries its name, status and last line).
 */
int run_command(const char *const argv[], const struct run_opts *opts, struct err *e) MUST_USE;

/* As run_command(), and the first line printed goes to @out of @len bytes (cut to fit). */
int run_first_line(const char *const argv[], char *out, size_t len, struct err *e) MUST_USE;

/* Install the handlers that make SIGINT, SIGTERM and SIGHUP interrupt run_command(). Once, from main. */
void run_catch_signals(void);

/* The signal that asked us to stop, or 0. */
int run_stop_signal(void);

#endif
