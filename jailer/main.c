/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mayfly-jailer: builds a jail around the monitor and becomes the monitor in it (CONTRACT.md section 7).
 *
 * It begins as root with whatever the caller left open and ends, in the same process or a child, as a program that owns
 * nothing but its jail. `steps` is the table of contents; a step that fails ends the jailer with what had been made removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "jailer/jail.h"
#include "jailer/options.h"
#include "vmm/base/fd.h"

#define CLOSE_RANGE_UNSHARE_ 2U
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

static uint64_t clock_us(clockid_t clock)
{
	struct timespec t;

	(void)clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int open_null(struct jail *j, struct err *e)
{
	if (!j->opt->daemonize)
		return 0;
	j->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	return j->null_fd < 0 ? err_sys(e, -errno, "Failed to open /dev/null") : 0;
}

/* The order is the contract's (7.2); the name is what the second line of an error says. */
static const struct {
	const char *name;
	int (*run)(struct jail *j, struct err *e);
} steps[] = {
	{ "Resolve", jail_resolve },
	{ "MakeRoot", jail_make_root },
	{ "CopyProgram", jail_copy_program },
	{ "NetNs", jail_enter_netns },
	{ "Limits", jail_set_limits },
	{ "Cgroups", jail_make_cgroups },
	{ "DevNull", open_null },
	{ "MountNs", jail_enter_root },
	{ "Devices", jail_make_devices },
	{ "Launch", jail_launch },
};

static int fail(const char *step, const struct err *e)
{
	fprintf(stderr, "%s\nError: %s\n", e->msg, step);
	return 1;
}

void jail_fini(struct jail *j)
{
	undo_forget(&j->undo);
	fd_close(&j->base_fd);
	fd_close(&j->root_fd);
	fd_close(&j->null_fd);
	for (size_t i = 0; i < JAIL_CGROUPS_MAX; i++)
		fd_close(&j->cgroup_fd[i]);
}

static int make_jail(struct jail *j)
{
	struct err e = {0};

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		if (steps[i].run(j, &e) == 0)
			continue;
		undo_run(&j->undo);
		return fail(steps[i].name, &e);
	}
	return 0;
}

int main(int argc, char **argv)
{
	AUTO_FREE struct jail *j = calloc(1, sizeof(*j)); /* large: paths */
	struct jail_options options;
	struct err e = {0};
	int code;

	if (!j)
		return 1;
	j->start_us = clock_us(CLOCK_MONOTONIC);
	j->start_cpu_us = clock_us(CLOCK_PROCESS_CPUTIME_ID);
	j->base_fd = j->root_fd = j->null_fd = -1;
	for (size_t i = 0; i < JAIL_CGROUPS_MAX; i++)
		j->cgroup_fd[i] = -1;
	j->opt = &options;

	/* Nothing that the caller happened to have open or set reaches the jail. */
	if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_UNSHARE_) < 0) {
		(void)err_sys(&e, -errno, "Failed to close the descriptors that the caller left open");
		return fail("CloseFds", &e);
	}
	if (clearenv() != 0)
		return 1;
	(void)umask(022);
	switch (jail_options_parse(&options, argc, argv, &e)) {
	case JAIL_OPTIONS_RUN:
		break;
	case JAIL_OPTIONS_DONE:
		return 0;
	case JAIL_OPTIONS_BAD:
		return fail("Arguments", &e);
	}
	if (options.clean)
		code = jail_clean(j, &e) ? fail("Clean", &e) : 0;
	else
		code = make_jail(j);
	jail_fini(j);
	return code;
}
