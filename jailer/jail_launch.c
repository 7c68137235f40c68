/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the jailer to the program: in its own process, or in a child that is born where it belongs.
 *
 *     plain                pid file, drop privileges, exec: the jailer's process becomes the program
 *     --new-pid-ns         clone into the PID namespace (and the cgroup); the parent writes the pid file and ends
 *     --daemonize          a child in a session of its own clones again and ends; the first process waits for it
 *
 * Whoever starts the jailer with the last two may read the pid file as soon as the jailer has ended: it has been written, and
 * the program has been executed. A child reports what went wrong through a pipe that exec closes.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "jailer/jail.h"
#include "vmm/base/fd.h"

#define ARG_MAX_OWN 10

static uint64_t cpu_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Run the program in this process. Returns only on failure. */
static int become_program(struct jail *j, struct err *e)
{
	char path[NAME_MAX + 2], start[24], start_cpu[24], parent_cpu[24];
	char *empty[] = { NULL };
	AUTO_FREE const char **argv = calloc((size_t)j->opt->n_rest + ARG_MAX_OWN, sizeof(*argv));
	size_t n = 0;
	int rc;

	if (!argv)
		return err_sys(e, -ENOMEM, "Failed to make the program's arguments");
	(void)snprintf(path, sizeof(path), "/%s", j->exec_name);
	(void)snprintf(start, sizeof(start), "%" PRIu64, j->start_us);
	(void)snprintf(start_cpu, sizeof(start_cpu), "%" PRIu64, j->start_cpu_us);
	(void)snprintf(parent_cpu, sizeof(parent_cpu), "%" PRIu64, j->used_cpu_us);
	argv[n++] = path;
	argv[n++] = "--id";
	argv[n++] = j->opt->id;
	argv[n++] = "--start-time-us";
	argv[n++] = start;
	argv[n++] = "--start-time-cpu-us";
	argv[n++] = start_cpu;
	argv[n++] = "--parent-cpu-time-us";
	argv[n++] = parent_cpu;
	for (int i = 0; i < j->opt->n_rest; i++)
		argv[n++] = j->opt->rest[i];
	if (j->null_fd >= 0 && (dup2(j->null_fd, 0) < 0 || dup2(j->null_fd, 1) < 0 || dup2(j->null_fd, 2) < 0))
		return err_sys(e, -errno, "Failed to put /dev/null over the standard descriptors");
	rc = jail_drop_privileges(j, e);
	if (rc)
		return rc;
	(void)execve(path, (char *const *)(uintptr_t)argv, empty);
	return err_sys(e, -errno, "Failed to run %s in the jail %.300s", path, j->root_path);
}

/* A process like fork's, born in the PID namespace and the v2 cgroup that the jail asks for. */
static pid_t clone_into_jail(const struct jail *j)
{
	struct clone_args args = { .exit_signal = SIGCHLD };

	if (j->opt->new_pid_ns)
		args.flags |= CLONE_NEWPID;
	if (j->cgroup_version == 2 && j->n_cgroups > 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)j->cgroup_fd[0];
	}
	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* In the parent: write the pid file of @child, and wait until it has become the program or said why not. */
static int watch_child(struct jail *j, pid_t child, int report_fd, struct err *e)
{
	struct err said;
	int rc = jail_write_pid(j, child, e);
	ssize_t n;

	if (rc) {
		(void)kill(child, SIGKILL);
	} else {
		do {
			n = read(report_fd, &said, sizeof(said));
		} while (n < 0 && errno == EINTR);
		if (n == 0)
			return 0;
		if (n == (ssize_t)sizeof(said))
			*e = said;
		else
			(void)err_set(e, -EIO, "The jailed program's process ended before it could run it");
		rc = e->code;
	}
	(void)waitpid(child, NULL, 0);
	return rc;
}

/* Run the program in a child. 0 when it runs. */
static int launch_in_child(struct jail *j, struct err *e)
{
	bool leader = getsid(0) == getpid();
	AUTO_FD int read_end = -1;
	AUTO_FD int write_end = -1;
	int ends[2];
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "Failed to make a pipe");
	read_end = ends[0];
	write_end = ends[1];
	child = clone_into_jail(j);
	if (child < 0 && errno == EBUSY && j->n_cgroups > 0)
		return err_sys(e, -EBUSY, "Failed to move process to cgroup (%.350s)", j->cgroup_path[0]);
	if (child < 0)
		return err_sys(e, -errno, "Failed to start a process in the jail");
	if (child == 0) {
		/* A session leader's end would send us SIGHUP. */
		if (leader && !j->opt->daemonize && setsid() < 0)
			(void)err_sys(e, -errno, "Failed to make a session");
		else
			(void)become_program(j, e);
		if (write(write_end, e, sizeof(*e)) < 0)
			_exit(2);
		_exit(1);
	}
	fd_close(&write_end);
	return watch_child(j, child, read_end, e);
}

/* --daemonize: the child's child runs the program, in a session of its own, adopted by init. */
static int launch_daemon(struct jail *j, struct err *e)
{
	AUTO_FD int read_end = -1;
	AUTO_FD int write_end = -1;
	struct err said;
	int ends[2], rc;
	pid_t child;
	ssize_t n;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "Failed to make a pipe");
	read_end = ends[0];
	write_end = ends[1];
	child = fork();
	if (child < 0)
		return err_sys(e, -errno, "Failed to fork");
	if (child == 0) {
		rc = setsid() < 0 ? err_sys(e, -errno, "Failed to make a session") : launch_in_child(j, e);
		if (rc) {
			undo_run(&j->undo);
			if (write(write_end, e, sizeof(*e)) < 0)
				_exit(2);
		}
		_exit(rc ? 1 : 0);
	}
	fd_close(&write_end);
	do {
		n = read(read_end, &said, sizeof(said));
	} while (n < 0 && errno == EINTR);
	(void)waitpid(child, NULL, 0);
	if (n == 0)
		return 0;
	*e = said;
	undo_forget(&j->undo); /* the child has done it */
	return e->code;
}

int jail_launch(struct jail *j, struct err *e)
{
	bool in_child = j->opt->daemonize || j->opt->new_pid_ns;
	int rc = jail_enter_cgroups(j, !in_child, e);

	j->used_cpu_us = cpu_us();
	if (!rc && j->opt->daemonize)
		return launch_daemon(j, e);
	if (!rc && in_child)
		return launch_in_child(j, e);
	if (!rc)
		rc = jail_write_pid(j, getpid(), e);
	return rc ? rc : become_program(j, e);
}
