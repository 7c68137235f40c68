/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tap device as the host's side of a network interface: one readv or writev a frame.
 *
 * The kernel keeps whole frames and never gives or takes a part of one. A reader whose buffers are too
 * small loses the rest of a frame without notice, so the device always offers NET_FRAME_MAX bytes.
 */
#include "virtio/net_backend.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "virtio/virtio_spec.h"
#include "vmm/base/fd.h"

#define TUN_PATH "/dev/net/tun"
#define TAP_FLAGS (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

#define TAP_FEATURES                                                                                                   \
	(VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6 |             \
	 VIRTIO_NET_F_GUEST_UFO | VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_TSO6 | VIRTIO_NET_F_HOST_UFO)

/* A tap that was removed answers EBADFD for ever. */
static int tap_errno(int errnum)
{
	return errnum == EBADFD ? -EPIPE : -errnum;
}

static ssize_t tap_recv(struct net_backend *be, const struct iovec *iov, int n)
{
	ssize_t len = readv(be->fd, iov, n);

	return len < 0 ? tap_errno(errno) : len;
}

static int tap_send(struct net_backend *be, const struct iovec *iov, int n)
{
	return writev(be->fd, iov, n) < 0 ? tap_errno(errno) : 0;
}

/* What the driver takes from us is what the kernel may leave undone. */
static int tap_set_features(struct net_backend *be, uint64_t acked)
{
	unsigned offload = 0;

	/* 5.1.3.1: without GUEST_CSUM the others mean nothing, and the kernel refuses them. */
	if (acked & VIRTIO_NET_F_GUEST_CSUM) {
		offload |= TUN_F_CSUM;
		if (acked & VIRTIO_NET_F_GUEST_TSO4)
			offload |= TUN_F_TSO4;
		if (acked & VIRTIO_NET_F_GUEST_TSO6)
			offload |= TUN_F_TSO6;
		if (acked & VIRTIO_NET_F_GUEST_UFO)
			offload |= TUN_F_UFO;
	}
	return ioctl(be->fd, TUNSETOFFLOAD, (unsigned long)offload) < 0 ? -errno : 0;
}

static void tap_close(struct net_backend *be)
{
	fd_close(&be->fd);
	free(be);
}

static int tap_dup(const struct net_backend *be, struct net_backend **out, struct err *e);

static const struct net_backend_ops tap_ops = {
	.name = "tap",
	.features = TAP_FEATURES,
	.recv = tap_recv,
	.send = tap_send,
	.set_features = tap_set_features,
	.dup = tap_dup,
	.close = tap_close,
};

/* Takes *@fd on success. */
static int tap_wrap(int *fd, struct net_backend **out, struct err *e)
{
	struct net_backend *be = calloc(1, sizeof(*be));

	if (!be)
		return err_sys(e, -ENOMEM, "allocate a tap");
	be->ops = &tap_ops;
	be->fd = fd_take(fd);
	*out = be;
	return 0;
}

static int tap_dup(const struct net_backend *be, struct net_backend **out, struct err *e)
{
	AUTO_FD int fd = fcntl(be->fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return err_sys(e, -errno, "duplicate the tap's descriptor");
	return tap_wrap(&fd, out, e);
}

static int set_header_len(int fd, struct err *e)
{
	int len = NET_HDR_LEN;
	char text[96];
	int rc;

	if (ioctl(fd, TUNSETVNETHDRSZ, &len) == 0)
		return 0;
	rc = -errno;
	return err_set(e, rc, "Error while setting size of the vnet header: %s.", err_os_text(-rc, text, sizeof(text)));
}

int net_tap_open(const char *name, struct net_backend **out, struct err *e)
{
	struct ifreq req = { .ifr_flags = TAP_FLAGS };
	size_t len = strlen(name);
	AUTO_FD int fd = -1;
	char text[96];
	int rc;

	if (len == 0 || len >= sizeof(req.ifr_name))
		return err_set(e, -EINVAL, "Invalid interface name: it has 1 to %zu bytes.", sizeof(req.ifr_name) - 1);
	memcpy(req.ifr_name, name, len + 1);
	fd = open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		rc = -errno;
		return err_set(e, rc, "Couldn't open " TUN_PATH ": %s.", err_os_text(-rc, text, sizeof(text)));
	}
	if (ioctl(fd, TUNSETIFF, &req) < 0) {
		rc = -errno;
		return err_set(e, rc, "Error while creating ifreq structure: %s.%s", err_os_text(-rc, text, sizeof(text)),
			       rc == -EPERM ? " Without CAP_NET_ADMIN the tap must exist and belong to the monitor's user "
					      "(ip tuntap add dev NAME mode tap user UID)." : "");
	}
	rc = set_header_len(fd, e);
	return rc < 0 ? rc : tap_wrap(&fd, out, e);
}

int net_tap_adopt(int fd, struct net_backend **out, struct err *e)
{
	struct ifreq req = { .ifr_flags = 0 };
	int rc, flags;

	if (ioctl(fd, TUNGETIFF, &req) < 0)
		return err_sys(e, -errno, "descriptor %d is not a tap device", fd);
	if ((req.ifr_flags & TAP_FLAGS) != TAP_FLAGS)
		return err_set(e, -EINVAL, "descriptor %d must be a tap (not tun) opened with IFF_NO_PI and IFF_VNET_HDR", fd);
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_sys(e, -errno, "set the flags of descriptor %d", fd);
	rc = set_header_len(fd, e);
	return rc < 0 ? rc : tap_wrap(&fd, out, e);
}
