/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building a guest kernel from Debian's linux-source package, reproducibly: the same source, configuration and compiler
 * give the same bytes, whenever, wherever and by whomever it is built. Results are cache entries (rootfs-builder/cache.h).
 */
#ifndef MAYFLY_ROOTFS_KERNEL_BUILD_H
#define MAYFLY_ROOTFS_KERNEL_BUILD_H

#include <limits.h>

#include "vmm/base/cdefs.h"

struct err;

struct kernel_build_opts {
	const char *config;  /* as kernel_config_resolve() takes it */
	unsigned int jobs;   /* compilers at a time; at least 1 */
};

/* Where a built kernel lies in the cache. */
struct kernel_paths {
	char vmlinux[PATH_MAX]; /* ELF without symbols, with its PVH note */
	char bzimage[PATH_MAX];
};

/*
 * Find the kernel in the cache or build it there, which takes minutes and shows its progress on standard error.
 *
 * Returns 0 with @out written, or a negative errno with @e set: -ENOENT when the source package, a tool or the named
 * configuration is missing, -EINTR after a signal. Whatever happens, no half-made kernel is ever seen.
 */
int kernel_build(const struct kernel_build_opts *opts, struct kernel_paths *out, struct err *e) MUST_USE;

#endif
