/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a network device's frames go: a tap device (net_tap.c) or passt's socket (net_passt.c).
 *
 * A backend moves whole Ethernet frames behind a 12-byte virtio_net header (virtio 1.2, 5.1.6), by
 * iovec, and never waits. It knows nothing of queues.
 *
 * Trust: the guest's header is checked before it comes here (net_hdr.c); what the host's side sends is
 * checked here: a length that is not possible never reaches the device.
 *
 * Threads: the device's lock is held for recv, send and flush; the rest: the I/O thread, before the
 * device runs or after it stopped.
 *
 * Use: net_tap_open(), net_tap_adopt() or net_passt_connect() when the client configures the interface;
 * net_create() takes it.
 */
#ifndef MAYFLY_VIRTIO_NET_BACKEND_H
#define MAYFLY_VIRTIO_NET_BACKEND_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"

/* Largest frame with its header, in bytes (CONTRACT.md section 10). */
#define NET_FRAME_MAX 65562
#define NET_HDR_LEN 12

struct net_backend;

struct net_backend_ops {
	const char *name; /* "tap", "passt": for log lines */
	uint64_t features; /* VIRTIO_NET_F_* that this backend can keep: checksum and segmentation offloads */

	/*
	 * Receive one frame, header first, into @iov (@n elements, NET_FRAME_MAX bytes or less). Returns its
	 * bytes (>= NET_HDR_LEN + 14), -EAGAIN when there is none now, -EMSGSIZE when one was there and did
	 * not fit (it is gone), -EPIPE when the host's side has ended for good, or another negative errno.
	 * At most one system call. Frames may wait behind it with the descriptor not readable, so the caller
	 * goes on until -EAGAIN; the descriptor's next edge comes after that.
	 */
	ssize_t (*recv)(struct net_backend *be, const struct iovec *iov, int n);

	/*
	 * Send the frame, header first, in @iov. 0: taken; -EAGAIN: no room now, wait for EPOLLOUT and offer
	 * it again; -EPIPE: the host's side has ended for good; another negative errno: lost. At most one
	 * system call.
	 */
	int (*send)(struct net_backend *be, const struct iovec *iov, int n);

	/*
	 * A batch of sends ended: pass on what send() gathered. 0, -EAGAIN: wait for EPOLLOUT and call again, or
	 * -EPIPE. Optional.
	 */
	int (*flush)(struct net_backend *be);

	/* The driver's features are final; set the host's offloads. 0 or negative errno. Optional. */
	int (*set_features)(struct net_backend *be, uint64_t acked);

	/* Another handle on the same host side, for a second try of a start. 0 or negative errno with @e. */
	int (*dup)(const struct net_backend *be, struct net_backend **out, struct err *e);

	/* Free. */
	void (*close)(struct net_backend *be);
};

struct net_backend {
	const struct net_backend_ops *ops;
	int fd; /* owned; what the event loop waits for: EPOLLIN for recv, EPOLLOUT after -EAGAIN */
};

/*
 * Open the tap device @name (1 to 15 bytes), which is made if it does not exist. 0 and *@out (owned), or
 * negative errno with @e: what stands between "Open tap device failed: " and " Invalid TUN/TAP Backend"
 * in the contract's message (section 5).
 */
int net_tap_open(const char *name, struct net_backend **out, struct err *e) MUST_USE;

/*
 * Use the open tap descriptor @fd (taken on success), which somebody handed to this process. Refused
 * unless it is a tap with IFF_NO_PI and IFF_VNET_HDR.
 */
int net_tap_adopt(int fd, struct net_backend **out, struct err *e) MUST_USE;

/* Connect to the passt that listens on the Unix socket @path. 0 and *@out (owned), or negative errno with @e. */
int net_passt_connect(const char *path, struct net_backend **out, struct err *e) MUST_USE;

/* Close; NULL allowed. */
void net_backend_close(struct net_backend *be);

#endif
