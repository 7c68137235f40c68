/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/vsock_io.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/fd.h"

static int host_accept(int listen_fd)
{
	return accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static int host_connect(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len = strlen(path);
	AUTO_FD int fd = -1;

	must(len < sizeof(addr.sun_path));
	memcpy(addr.sun_path, path, len + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -1;
	return fd_take(&fd);
}

static ssize_t host_recv(int fd, void *buf, size_t len, int flags)
{
	return recv(fd, buf, len, flags);
}

static ssize_t host_readv(int fd, const struct iovec *iov, int n)
{
	return readv(fd, iov, n);
}

static ssize_t host_writev(int fd, const struct iovec *iov, int n)
{
	return writev(fd, iov, n);
}

static void host_shutdown(int fd, int how)
{
	(void)shutdown(fd, how);
}

static void host_close(int fd)
{
	(void)close(fd);
}

const struct vsock_io_ops vsock_io_host = {
	host_accept, host_connect, host_recv, host_readv, host_writev, host_shutdown, host_close,
};
