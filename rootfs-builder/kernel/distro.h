/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stock Debian cloud kernel, made usable for a microVM in seconds: its package is downloaded and unpacked (nothing is
 * installed), the vmlinux is taken out of the bzImage, and an initrd is made that carries the virtio modules.
 */
#ifndef MAYFLY_ROOTFS_KERNEL_DISTRO_H
#define MAYFLY_ROOTFS_KERNEL_DISTRO_H

#include <limits.h>

#include "vmm/base/cdefs.h"

struct err;

/* Where the three files lie in the cache. */
struct distro_paths {
	char package[128]; /* the Debian package they come from */
	char dir[PATH_MAX]; /* holds bzImage, vmlinux and initrd */
};

/*
 * Prepare the newest cloud kernel of series @series ("6.1", "6.12") that apt knows. 0 with @out written, or a negative errno
 * with @e set: -ENOENT when apt has no such package or busybox-static is missing.
 */
int distro_prepare(const char *series, struct distro_paths *out, struct err *e) MUST_USE;

/*
 * Whether the package name @name is a cloud kernel image of @series: 2 the signed one, 1 the unsigned one, 0 neither (a
 * meta-package, debug symbols, another series).
 */
int distro_package_rank(const char *name, const char *series);

#endif
