/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One jail while it is being made: what every step of main.c knows and leaves behind.
 *
 * Trust: the caller is root and is believed; whatever already lies in the jail's directory is not (somebody may have put
 * symbolic links, hard links or FIFOs there to have root write elsewhere). So every name below the base directory is opened
 * relative to a descriptor and never through a symbolic link, and owner and mode are changed on descriptors.
 *
 * Threads: one.
 */
#ifndef MAYFLY_JAILER_JAIL_H
#define MAYFLY_JAILER_JAIL_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "jailer/options.h"
#include "jailer/undo.h"
#include "vmm/base/err.h"

/* Cgroup directories of one jail: one for each v1 hierarchy, or the one of v2. */
#define JAIL_CGROUPS_MAX 16

struct jail {
	const struct jail_options *opt;     /* borrowed */
	uint64_t start_us, start_cpu_us;    /* CLOCK_MONOTONIC and CPU time when the jailer began */
	uint64_t used_cpu_us;               /* CPU time that the jailer took until it launched the program */
	char exec_path[PATH_MAX];           /* canonical */
	const char *exec_name;              /* its last component */
	char root_path[PATH_MAX];           /* BASE/EXEC/ID/root, for messages */
	int base_fd, root_fd, null_fd; /* owned; -1: not open */

	unsigned int cgroup_version;        /* 1 or 2 */
	size_t n_cgroups;
	int cgroup_fd[JAIL_CGROUPS_MAX];    /* owned; directories that the program has to be in */
	char cgroup_path[JAIL_CGROUPS_MAX][PATH_MAX];

	struct undo undo;                   /* what to take back when a step fails */
};

/* jail_root.c: everything below BASE/EXEC/ID. */

/* Resolve the program and the base directory. */
int jail_resolve(struct jail *j, struct err *e) MUST_USE;

/* Make the directories down to the root; those that exist stay. */
int jail_make_root(struct jail *j, struct err *e) MUST_USE;

/* Copy the program into the root. */
int jail_copy_program(struct jail *j, struct err *e) MUST_USE;

/* /, /dev, /dev/net, /run with their owner and mode, and the device nodes. */
int jail_make_devices(struct jail *j, struct err *e) MUST_USE;

/* Write @pid to /<program>.pid, which must not exist. */
int jail_write_pid(struct jail *j, pid_t pid, struct err *e) MUST_USE;

/* jail_cgroup.c */

/* Make the cgroups and write their values; nobody is in them yet. */
int jail_make_cgroups(struct jail *j, struct err *e) MUST_USE;

/* Paths of the cgroups that jails with this id can have had, in every hierarchy; for --clean. */
int jail_find_cgroups(struct jail *j, struct err *e) MUST_USE;

/* Move the calling process into them. With @all false the one of v2 is left out, because the program is born in it. */
int jail_enter_cgroups(struct jail *j, bool all, struct err *e) MUST_USE;

/* jail_confine.c */

/* Join --netns. */
int jail_enter_netns(struct jail *j, struct err *e) MUST_USE;

/* Set --resource-limit, soft and hard. */
int jail_set_limits(struct jail *j, struct err *e) MUST_USE;

/* A mount namespace in which the root is "/" and nothing of the host is left; the working directory is "/". */
int jail_enter_root(struct jail *j, struct err *e) MUST_USE;

/* No groups, no capabilities, no way to get them back; then the user and group ids. */
int jail_drop_privileges(struct jail *j, struct err *e) MUST_USE;

/* jail_launch.c */

/* Detach, fork, write the pid file, drop privileges and become the program. Returns only on failure, or in a parent whose
 * child runs the program: then 0. */
int jail_launch(struct jail *j, struct err *e) MUST_USE;

/* jail_clean.c: remove the jail and the cgroups of a microVM that has ended. */
int jail_clean(struct jail *j, struct err *e) MUST_USE;

/* Close what is open. */
void jail_fini(struct jail *j);

#endif
