/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames through passt: the protocol of its Unix stream socket (passt(1); QEMU's `-netdev stream`).
 *
 * Each frame travels as a 32-bit big-endian number, its length in bytes, and the Ethernet frame. There
 * is no virtio_net header, so there are no offloads: towards the device a header of zeros is put in
 * front, the guest's is left out.
 *
 * Trust: passt parses what the network sends and is a process of its own, so it is hostile here: a
 * length that no frame has, or an end in the middle of a frame, ends the connection for good.
 *
 * Threads: as net_backend.h.
 *
 * Invariants:
 * (P1) the bytes in rx are those received behind the last frame given out; those in tx were taken and
 *      not sent yet. Both stay whole whatever the sockets take or give in one call.
 * (P2) once dead, every call returns -EPIPE without a system call, and one line was logged.
 */
#ifndef MAYFLY_VIRTIO_NET_PASST_H
#define MAYFLY_VIRTIO_NET_PASST_H

#include "virtio/net_backend.h"
#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"

/* Shortest and longest Ethernet frame that is taken in either direction. */
#define PASST_FRAME_MIN 14
#define PASST_FRAME_MAX (NET_FRAME_MAX - NET_HDR_LEN)

/* Each direction's buffer: what one system call moves at most, and room for several of the largest frames. */
#define PASST_BUF_BYTES ((size_t)(256 * KIB))

/*
 * Speak to the passt at the other end of the connected stream socket @fd (taken on success; made
 * non-blocking). @path is copied, for messages. 0 and *@out (owned), or negative errno with @e.
 */
int net_passt_adopt(int fd, const char *path, struct net_backend **out, struct err *e) MUST_USE;

#endif
