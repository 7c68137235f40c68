/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening names as root in directories that others may have prepared: openat2(2), one descriptor at a time, never through
 * a symbolic link and never upwards.
 */
#ifndef MAYFLY_JAILER_PATH_H
#define MAYFLY_JAILER_PATH_H

#include <sys/types.h>

#include "jailer/undo.h"
#include "vmm/base/cdefs.h"

/*
 * Open @path, relative and below @dir_fd, without following symbolic links. A descriptor (owned, close-on-exec) or negative
 * errno.
 */
int path_open(int dir_fd, const char *path, int flags, mode_t mode) MUST_USE;

/* The same for a directory that is on the mount of @dir_fd; -EXDEV when something is mounted on the way. */
int path_open_dir_same_mount(int dir_fd, const char *path) MUST_USE;

/*
 * Make the directory @name in @dir_fd with @mode unless it exists, and open it. A directory made here is added to @undo
 * (may be NULL). A descriptor (owned) or negative errno; -ENOTDIR or -ELOOP when something else is there.
 */
int path_make_dir(int dir_fd, const char *name, mode_t mode, struct undo *undo) MUST_USE;

/* Write @text with one write(2), as the kernel's control files want it, to the file @path below @dir_fd. 0 or negative errno. */
int path_write(int dir_fd, const char *path, const char *text) MUST_USE;

/* Read the file @path below @dir_fd into @buf (@len bytes, NUL-terminated, cut). Its length, or negative errno. */
ssize_t path_read(int dir_fd, const char *path, char *buf, size_t len) MUST_USE;

#endif
