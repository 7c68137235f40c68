/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Unix socket that host programs connect to: made when the client configures the device, so that they can chmod it and
 * queue up in its backlog before the guest runs.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "virtio/vsock.h"
#include "vmm/base/fd.h"

/* Clients that connect while the guest boots wait here. The kernel cuts it to net.core.somaxconn. */
#define BACKLOG 1024

int vsock_listener_open(const char *path, int *fd, struct err *e)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len = strlen(path);
	AUTO_FD int s = -1;

	if (len == 0)
		return err_sys(e, -EINVAL, "Error binding to the host-side Unix socket");
	if (len > VSOCK_UDS_PATH_MAX)
		return err_set(e, -ENAMETOOLONG, "Error binding to the host-side Unix socket: path of %zu bytes; it takes at "
			       "most %d", len, VSOCK_UDS_PATH_MAX);
	memcpy(addr.sun_path, path, len + 1);
	s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s < 0 || bind(s, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_sys(e, -errno, "Error binding to the host-side Unix socket");
	if (listen(s, BACKLOG) < 0) {
		int rc = err_sys(e, -errno, "Error binding to the host-side Unix socket");

		(void)unlink(path);
		return rc;
	}
	*fd = fd_take(&s);
	return 0;
}
