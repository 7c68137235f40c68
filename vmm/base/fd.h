/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ownership of descriptors, heap blocks and mappings that can be read on the declaration line.
 *
 *     AUTO_FD int fd = open(...);      closed when the scope ends
 *     out->fd = fd_take(&fd);          ... unless it was handed over
 *
 * close() is called once and never retried (on Linux the descriptor is gone even after EINTR), errno is preserved.
 */
#ifndef MAYFLY_BASE_FD_H
#define MAYFLY_BASE_FD_H

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/cdefs.h"

/* Close *@fd if it is open (>= 0) and set it to -1. errno is kept. */
static inline void fd_close(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;

		(void)close(*fd);
		errno = saved;
		*fd = -1;
	}
}

/* Hand over *@fd: returns it and leaves -1 behind. */
static inline int fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Free the block that @slot (a pointer to a pointer) holds; for AUTO_FREE. */
static inline void auto_free(void *slot)
{
	free(*(void **)slot);
}

/* Hand over the pointer in @slot, leaving NULL. */
#define ptr_take(slot)                                                                                                  \
	({                                                                                                              \
		__typeof__(*(slot)) taken_ = *(slot);                                                                   \
		*(slot) = NULL;                                                                                         \
		taken_;                                                                                                 \
	})

#define AUTO_FD __attribute__((cleanup(fd_close)))
#define AUTO_FREE __attribute__((cleanup(auto_free)))

/* Read exactly @len bytes at @offset into @buf, over short reads and EINTR. 0, negative errno, or -ENODATA at end of file. */
int fd_pread_full(int fd, void *buf, size_t len, uint64_t offset) MUST_USE;

/* Write all @len bytes of @buf, over short writes and EINTR. 0 or negative errno. */
int fd_write_full(int fd, const void *buf, size_t len) MUST_USE;

#endif
