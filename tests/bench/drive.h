/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every measuring program needs: start a monitor, speak its API, see its guest reach user space, look at its memory.
 *
 * These programs run in the lab under virtual time (one CPU, one instruction = one nanosecond), in a chroot on tmpfs, so
 * whatever runs beside the monitor is part of the figure. Hence everything here sleeps in the kernel until there is
 * something to see, and nothing polls.
 *
 * Errors end the program with a message: a measurement that did not work has no figure.
 * Threads: one. Trust: none needed, everything is ours.
 */
#ifndef MAYFLY_TESTS_BENCH_DRIVE_H
#define MAYFLY_TESTS_BENCH_DRIVE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BENCH_MARK 1 /* the byte that guest_init.S sends; no monitor's log contains it */

struct monitor {
	pid_t pid;
	int out_fd;	     /* its standard output and error, and so its guest's serial port */
	int api_fd;	     /* -1 until monitor_connect */
	uint64_t exec_ns;    /* just before its execve */
	uint64_t connect_ns; /* when its API had taken a connection */
	char *tail;	     /* the last of its output, for messages */
	size_t tail_len;
	char in[4096]; /* output that was read and not yet looked at */
	size_t in_at, in_len;
	uint64_t in_ns; /* when it came */
};

struct memory_use {
	uint64_t anon_dirty_kib; /* the monitor's private dirty memory without guest RAM: anonymous, */
	uint64_t file_dirty_kib; /* and pages of files; on tmpfs that is all it ever read of its own program */
	uint64_t guest_kib;	 /* guest RAM that is resident */
	unsigned int n_threads, n_fds;
};

void bench_die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
uint64_t bench_now_ns(void); /* CLOCK_MONOTONIC */
void bench_sleep_ms(unsigned int ms);
void bench_copy_file(const char *from, const char *to);
void bench_write(const char *path, const char *text); /* one write, as the kernel's control files want it */

/* Start @argv, whose API socket (NULL: it has none) will be @socket. The socket's folder must hold nothing else. */
void monitor_start(struct monitor *m, char *const argv[], const char *socket);

/* Wait until the socket given to monitor_start takes a connection; sets connect_ns. */
void monitor_connect(struct monitor *m, const char *socket);

/* One API call over the connection. @body may be NULL. Ends the program when the answer is not 2xx. */
void monitor_call(struct monitor *m, const char *method, const char *path, const char *body);

/* Read the monitor's output until BENCH_MARK comes. Returns when. Ends the program after 3 s without it. */
uint64_t monitor_wait_mark(struct monitor *m);

/* The same for any of the characters @marks, after at most @timeout_ms. Returns which, and *@ns is when it came. */
char monitor_wait_any(struct monitor *m, const char *marks, unsigned int timeout_ms, uint64_t *ns);

/* Read the rest of a line into @line, which holds @size bytes, without its end. */
void monitor_read_line(struct monitor *m, char *line, size_t size);

/* Kill the monitor, and let the kernel finish what it does later. */
void monitor_stop(struct monitor *m);

/* What the monitor uses now. Guest RAM is the adjoining mappings that are @guest_mib or more together. */
void monitor_memory(const struct monitor *m, unsigned int guest_mib, struct memory_use *use);

/* CPU time of all its threads, guest included. */
uint64_t monitor_cpu_ns(const struct monitor *m);

#endif
