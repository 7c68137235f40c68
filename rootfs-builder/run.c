// SPDX-License-Identifier: Apache-2.0
/*
 * Child processes. The output pipe is read until its end; only then is the child waited for.
 */
#include "rootfs-builder/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"

static volatile sig_atomic_t stop_signal; /* global: written by the signal handler */
static volatile sig_atomic_t child_group; /* global: read by the signal handler */

static void on_signal(int sig)
{
	stop_signal = sig;
	if (child_group > 0)
		(void)kill(-child_group, SIGTERM);
}

void run_catch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
}

int run_stop_signal(void)
{
	return stop_signal;
}

/* What the child does between fork and exec; errors are reported by exit status 127 after a line on its output. */
NORETURN static void exec_child(const char *const argv[], const struct run_opts *o, int out_fd)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	dup2(null_fd, 0);
	dup2(out_fd, 1);
	dup2(o->quiet_errors ? null_fd : out_fd, 2);
	if (o->dir && chdir(o->dir) < 0) {
		dprintf(1, "can't enter '%s': %s\n", o->dir, strerror(errno));
		_exit(127);
	}
	for (const char *const *v = o->env; v && *v; v++)
		putenv((char *)(uintptr_t)*v);
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	dprintf(1, "%s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 126 : 127);
}

/* Read lines from @fd until its end; keeps the last non-empty one in @last. */
static void collect(int fd, const struct run_opts *o, char *last, size_t last_len)
{
	AUTO_FD int log_fd = o->log ? open(o->log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
	char buf[4096];
	size_t fill = 0;
	ssize_t n;

	for (;;) {
		n = read(fd, buf + fill, sizeof(buf) - 1 - fill);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		if (log_fd >= 0 && fd_write_full(log_fd, buf + fill, (size_t)n) < 0)
			fd_close(&log_fd);
		fill += (size_t)n;
		buf[fill] = '\0';
		char *line = buf, *end;
		while ((end = strpbrk(line, "\n")) || (line == buf && fill == sizeof(buf) - 1)) {
			if (end)
				*end = '\0';
			if (*line)
				snprintf(last, last_len, "%.250s", line);
			if (o->line)
				o->line(o->ctx, line);
			line = end ? end + 1 : buf + fill;
		}
		fill = (size_t)(buf + fill - line);
		memmove(buf, line, fill);
	}
	buf[fill] = '\0';
	if (fill) {
		snprintf(last, last_len, "%.250s", buf);
		if (o->line)
			o->line(o->ctx, buf);
	}
}

/* Turn the wait status into the function's result. */
static int verdict(const char *name, int status, const struct run_opts *o, const char *last, struct err *e)
{
	const char *log = o->log ? o->log : "";
	const char *see = o->log ? " (all of its output: " : "";
	const char *close_see = o->log ? ")" : "";

	if (stop_signal)
		return err_set(e, -EINTR, "interrupted by signal %d; nothing half-made is left", (int)stop_signal);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 126)
		return err_set(e, -ENOENT, "the program '%s' is not installed", name);
	if (WIFSIGNALED(status))
		return err_set(e, -ECHILD, "%s was killed by signal %d%s%s%s", name, WTERMSIG(status), see, log, close_see);
	return err_set(e, -ECHILD, "%s failed with status %d: %.200s%s%s%s", name, WEXITSTATUS(status), last, see, log,
		       close_see);
}

int run_command(const char *const argv[], const struct run_opts *opts, struct err *e)
{
	char last[256] = "(no output)";
	int fds[2], status = 0;
	pid_t pid;

	if (stop_signal)
		return err_set(e, -EINTR, "interrupted by signal %d; nothing half-made is left", (int)stop_signal);
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "make a pipe for %s", argv[0]);
	AUTO_FD int read_fd = fds[0];
	AUTO_FD int write_fd = fds[1];
	pid = fork();
	if (pid < 0)
		return err_sys(e, -errno, "start %s", argv[0]);
	if (pid == 0)
		exec_child(argv, opts, write_fd);
	setpgid(pid, pid); /* both sides do it, so that it is done whoever comes first */
	child_group = pid;
	fd_close(&write_fd);
	collect(read_fd, opts, last, sizeof(last));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	child_group = 0;
	return verdict(argv[0], status, opts, last, e);
}

struct first_line {
	char *out;
	size_t len;
	int have;
};

static void keep_first(void *ctx, const char *line)
{
	struct first_line *f = ctx;

	if (!f->have)
		snprintf(f->out, f->len, "%s", line);
	f->have = 1;
}

int run_first_line(const char *const argv[], char *out, size_t len, struct err *e)
{
	struct first_line f = { .out = out, .len = len };
	struct run_opts o = { .line = keep_first, .ctx = &f };

	out[0] = '\0';
	return run_command(argv, &o, e);
}
