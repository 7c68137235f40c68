/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls that not every libc wraps. The static programs are linked with musl (small, starts with few page faults),
 * tests and sanitizer builds with glibc; these names mean the same in both.
 *
 * Results and errno are those of the manual pages of the calls.
 */
#ifndef MAYFLY_BASE_SYS_H
#define MAYFLY_BASE_SYS_H

#include <stdint.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif
#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x8 /* linux/fs.h */
#endif

/* preadv2(2): the kernel takes the offset as two longs, the second for 32-bit machines. */
static inline ssize_t sys_preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	return syscall(SYS_preadv2, fd, iov, (long)n, (long)offset, 0L, flags);
}

/* pwritev2(2). */
static inline ssize_t sys_pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	return syscall(SYS_pwritev2, fd, iov, (long)n, (long)offset, 0L, flags);
}

/* epoll_pwait2(2) without a signal mask; @timeout NULL: no limit. Linux 5.11. */
static inline int sys_epoll_pwait2(int epoll_fd, struct epoll_event *events, int max, const struct timespec *timeout)
{
	return (int)syscall(SYS_epoll_pwait2, epoll_fd, events, max, timeout, NULL, 0UL);
}

#endif
