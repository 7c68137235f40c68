/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole files: read into memory, written or copied so that a reader sees the old content or the new, never a part.
 */
#ifndef MAYFLY_ROOTFS_FILE_H
#define MAYFLY_ROOTFS_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

struct err;

/*
 * Read the regular file @path (at most 1 GiB) into *@data, allocated, with a NUL behind its *@len bytes.
 * 0 or a negative errno with @e set.
 */
int file_read(const char *path, uint8_t **data, size_t *len, struct err *e) MUST_USE;

/* Make @path a file of the @len bytes at @data, by a temporary file beside it and a rename. 0 or negative with @e set. */
int file_write(const char *path, const void *data, size_t len, struct err *e) MUST_USE;

/* As file_write(), with the content of the file @from. */
int file_copy(const char *from, const char *path, struct err *e) MUST_USE;

#endif
