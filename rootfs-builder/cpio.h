/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A writer of "newc" cpio archives, the form of an initrd. Its bytes depend on what is added and in which order, on nothing
 * else: inode numbers count up, times are 0, owner and group are root.
 *
 * Use: cpio_start(&c, fd); cpio_add_dir(&c, "dev", 0755); cpio_add_file(&c, "init", 0755, p, n); ... cpio_finish(&c);
 * The first error is kept and returned by cpio_finish(); calls after it do nothing.
 */
#ifndef MAYFLY_ROOTFS_CPIO_H
#define MAYFLY_ROOTFS_CPIO_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

struct cpio {
	int fd;           /* borrowed */
	int rc;           /* first error, a negative errno */
	uint32_t n_files;
	uint64_t offset;  /* bytes written */
};

/* Start an archive that is written to @fd, a descriptor that stays the caller's. */
void cpio_start(struct cpio *c, int fd);

/* Add the directory @path (no leading '/'; its parents come first). @mode: permission bits. */
void cpio_add_dir(struct cpio *c, const char *path, uint32_t mode);

/* Add a regular file of @len bytes at @data. */
void cpio_add_file(struct cpio *c, const char *path, uint32_t mode, const void *data, size_t len);

/* Add a symbolic link that reads @target. */
void cpio_add_symlink(struct cpio *c, const char *path, const char *target);

/* Add the character device @major:@minor. */
void cpio_add_chardev(struct cpio *c, const char *path, uint32_t mode, uint32_t major, uint32_t minor);

/* Write the trailer. 0, or the first error of all (a negative errno; -EFBIG for what the form can't hold). */
int cpio_finish(struct cpio *c) MUST_USE;

#endif
