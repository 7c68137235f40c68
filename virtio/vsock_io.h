/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system calls of the vsock device's data path, so that tests can let each of them fail or come short.
 *
 * Threads: those of the device. All descriptors are non-blocking; results and errno are those of the manual pages.
 */
#ifndef MAYFLY_VIRTIO_VSOCK_IO_H
#define MAYFLY_VIRTIO_VSOCK_IO_H

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

struct vsock_io_ops {
	/* accept4(2), non-blocking and close-on-exec. */
	int (*accept)(int listen_fd);
	/* A new socket, and connect(2) to @path. -1 with errno; EAGAIN: the listener's backlog is full. */
	int (*connect)(const char *path);
	/* recv(2) */
	ssize_t (*recv)(int fd, void *buf, size_t len, int flags);
	/* readv(2), writev(2). A broken pipe raises SIGPIPE, which the monitor counts (CONTRACT.md section 15). */
	ssize_t (*readv)(int fd, const struct iovec *iov, int n);
	ssize_t (*writev)(int fd, const struct iovec *iov, int n);
	/* shutdown(2) and close(2): never fail in a way that matters. */
	void (*shutdown)(int fd, int how);
	void (*close)(int fd);
};

extern const struct vsock_io_ops vsock_io_host;

#endif
