/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "virtio/vsock.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/control_impl.h"

#define VSOCK_FAULT "Vsock config error: Cannot create backend for vsock device: "

/* virtio 1.2, 5.10.4: what a guest may be called. */
#define CID_FIRST_GUEST 3

/* Is the socket that our bind() made still at @path? */
static bool is_ours(const struct control_vsock *v, const char *path)
{
	struct stat st;

	return v->bound && lstat(path, &st) == 0 && st.st_dev == v->dev && st.st_ino == v->ino;
}

void control_vsock_close(struct control *c, bool unlink_too)
{
	fd_close(&c->vsock.fd);
	if (!unlink_too)
		return;
	if (c->config.vsock.uds_path && is_ours(&c->vsock, c->config.vsock.uds_path))
		(void)unlink(c->config.vsock.uds_path);
	c->vsock.bound = false;
}

/* What can be done about a uds_path that was refused with @rc. */
static const char *path_hint(int rc)
{
	switch (rc) {
	case -EADDRINUSE:
		return ": something is there already; remove it if no microVM uses it, or choose another path";
	case -ENOENT:
		return ": its folder does not exist";
	case -EACCES:
	case -EPERM:
	case -EROFS:
		return ": the monitor's user may not write to its folder";
	default:
		return "";
	}
}

void control_put_vsock(struct control *c, struct action *action, struct reply *reply)
{
	struct config_vsock *v = &action->vsock;
	struct control_vsock next = {.fd = -1};
	struct stat st;
	struct err e = {0};
	int rc;

	/* The old socket gives way when it is in the way, and otherwise once the new one is there. */
	if (is_ours(&c->vsock, v->uds_path)) {
		control_vsock_close(c, true);
		config_vsock_fini(&c->config.vsock);
	}
	rc = vsock_listener_open(v->uds_path, &next.fd, &e);
	if (rc) {
		control_fault(reply, VSOCK_FAULT "%s (uds_path '%.200s'%s)", e.msg, v->uds_path, path_hint(rc));
		return;
	}
	if (lstat(v->uds_path, &st) == 0)
		next = (struct control_vsock){.fd = next.fd, .bound = true, .dev = st.st_dev, .ino = st.st_ino};
	if (v->guest_cid < CID_FIRST_GUEST || v->guest_cid == UINT32_MAX)
		log_warn("guest_cid %u has a meaning of its own, and Linux guests will not work with it: use 3 or more.",
			 v->guest_cid);
	control_vsock_close(c, true);
	config_vsock_fini(&c->config.vsock);
	c->vsock = next;
	c->config.vsock = *v;
	*v = (struct config_vsock){0};
	reply->status = 204;
}
