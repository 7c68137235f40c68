/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel configurations: what `--config` names, and how several of them become one.
 *
 * A configuration is a fragment over `make allnoconfig`: lines CONFIG_X=value or "# CONFIG_X is not set", and comments.
 * `--config A+B+C` means A, then B and C on top of it, where a later line about an option replaces an earlier one. Each
 * part is a name that the program carries (kernel_config_list) or, when it contains '/' or '.', a file.
 *
 * Trust: files are the user's own; a line that is neither an option nor a comment is refused.
 */
#ifndef MAYFLY_ROOTFS_KERNEL_CONFIG_H
#define MAYFLY_ROOTFS_KERNEL_CONFIG_H

#include <stddef.h>

#include "vmm/base/cdefs.h"

struct err;

/* A configuration built into the program. */
struct kernel_config {
	const char *name;
	const char *summary;
	const char *text; /* NUL-terminated */
	int fragment;     /* 1: only useful after '+' */
	unsigned int n_steps; /* about how many lines its build prints; 0 for a fragment */
};

extern const struct kernel_config kernel_config_list[];
extern const size_t n_kernel_configs;

/* The value that @text gives to the option @option ("CONFIG_X"): its line is found, its bytes go to @out of @len bytes
 * ("n" for "is not set"). Returns 1 when the option is there, else 0. */
int kernel_config_get(const char *text, const char *option, char *out, size_t len);

/*
 * Lay @over on @base (both configuration texts): options in the order of their last mention, comments dropped. The result
 * is allocated, owned by the caller, into *@out. 0, or -EINVAL with @e set for a line that is no option, or -ENOMEM.
 */
int kernel_config_merge(const char *base, const char *over, char **out, struct err *e) MUST_USE;

/*
 * The configuration that @spec ("default", "minimal+nopvh", "./my.config") stands for, allocated, into *@out.
 * 0 or a negative errno with @e set: -ENOENT for a name that is not known (the text lists those that are).
 */
int kernel_config_resolve(const char *spec, char **out, struct err *e) MUST_USE;

/* The configuration text in the file @path, allocated, into *@out. 0 or a negative errno with @e set. */
int kernel_config_read(const char *path, char **out, struct err *e) MUST_USE;

/* About how many lines the build of @spec prints, for a progress display; 0 when that is not known. */
unsigned int kernel_config_steps(const char *spec);

/*
 * Compare @got, the .config that the kernel's build made, with what @wanted asked for. Each option that has another value is
 * given to @report with both values ("n" = not set). Returns how many there are.
 */
unsigned int kernel_config_check(const char *wanted, const char *got,
				 void (*report)(void *ctx, const char *option, const char *want, const char *have), void *ctx);

#endif
