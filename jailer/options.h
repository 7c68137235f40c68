/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jailer's command line (CONTRACT.md 7.1), checked as far as it can be without touching the host.
 *
 * Threads: none; called once, first.
 */
#ifndef MAYFLY_JAILER_OPTIONS_H
#define MAYFLY_JAILER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/cli.h"
#include "vmm/base/err.h"

#define JAIL_DEFAULT_BASE "/srv/jailer"
#define JAIL_DEFAULT_NO_FILE 2048

/* One `--cgroup CONTROLLER.FILE=VALUE`; borrowed from argv, `file` up to the '='. */
struct jail_cgroup_value {
	char controller[32]; /* "cpuset" of "cpuset.cpus" */
	char file[96];       /* "cpuset.cpus" */
	const char *value;
};

/* All strings are borrowed from argv or constant. */
struct jail_options {
	const char *app_name;     /* "Jailer" under that name's beginning, else "Mayfly jailer" */
	const char *id;
	const char *exec_file;
	const char *base_dir;
	const char *netns;        /* NULL: the caller's */
	const char *parent_cgroup; /* NULL: the program's name */
	const char *clean;        /* --clean: the id whose jail is to be removed; NULL: start one */
	uint32_t uid, gid;
	bool daemonize, new_pid_ns;
	unsigned int cgroup_version; /* 1 or 2; 0: not given */
	size_t n_cgroup;
	struct jail_cgroup_value cgroup[CLI_LIST_MAX];
	rlim_t no_file;           /* RLIMIT_NOFILE */
	bool has_fsize;
	rlim_t fsize;             /* RLIMIT_FSIZE, bytes */
	int n_rest;               /* what stood behind "--" */
	char *const *rest;
};

enum jail_options_verdict {
	JAIL_OPTIONS_RUN,
	JAIL_OPTIONS_DONE, /* --version or --help: printed; exit 0 */
	JAIL_OPTIONS_BAD,  /* @e says why */
};

/* Fill @o from the command line. @e must not be NULL. */
enum jail_options_verdict jail_options_parse(struct jail_options *o, int argc, char *const *argv, struct err *e) MUST_USE;

/*
 * Is @path a relative path of plain names: no empty one, no "." or ".."? Cgroup paths must be: they are walked as root.
 */
bool jail_path_plain(const char *path) MUST_USE;

#endif
