/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock: sockets between the guest and Unix sockets of the host (virtio 1.2, 5.10; CONTRACT.md
 * section 11).
 *
 * Trust: packets are the guest's; what arrives on the Unix sockets comes from the host's programs, which
 * are trusted no further than that they may use their own connection.
 *
 * Threads: vsock_listener_*, vsock_create, vsock_destroy: the I/O thread. The rest through
 * virtio/device.h.
 *
 * Use: vsock_listener_open() when the client configures the device; vsock_create() when the machine is
 * built; virtio_mmio_create() with vsock_virtio_device(); at the end virtio_mmio_destroy(),
 * vsock_destroy().
 */
#ifndef MAYFLY_VIRTIO_VSOCK_H
#define MAYFLY_VIRTIO_VSOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "virtio/device.h"
#include "virtio/vsock_io.h"
#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"
#include "vmm/evloop.h"

#define VSOCK_CID_HOST 2
#define VSOCK_MAX_CONNECTIONS 1023

/* What sun_path holds. Above 96 bytes "_<port>" does not fit for every port; the guest then gets a RST. */
#define VSOCK_UDS_PATH_MAX 107

struct vsock_config {
	uint32_t guest_cid;
	const char *uds_path;  /* copied; guest-initiated connections go to "<uds_path>_<port>" */
	int listen_fd;         /* taken, also on failure */
	struct evloop *loop;   /* borrowed; NULL only in tests */
	const struct vsock_io_ops *io; /* NULL: the host's; tests replace it */
};

/* Counters for metrics (names of CONTRACT.md section 15). Written under the device's lock, read by anybody, relaxed. */
struct vsock_stats {
	_Atomic uint64_t activate_fails, cfg_fails, rx_queue_event_fails, tx_queue_event_fails, ev_queue_event_fails;
	_Atomic uint64_t muxer_event_fails, conn_event_fails, rx_queue_event_count, tx_queue_event_count;
	_Atomic uint64_t rx_bytes_count, tx_bytes_count, rx_packets_count, tx_packets_count;
	_Atomic uint64_t conns_added, conns_killed, conns_removed, killq_resync, tx_flush_fails, tx_write_fails;
	_Atomic uint64_t rx_read_fails;
};

/*
 * Bind and listen on @path (it must not exist; 1 to VSOCK_UDS_PATH_MAX bytes). 0 and *@fd (owned), or
 * negative errno with @e: "Error binding to the host-side Unix socket: <os error>".
 */
int vsock_listener_open(const char *path, int *fd, struct err *e) MUST_USE;

struct vsock;

/*
 * Make the device. All memory that it will ever need is allocated here. 0 and *@out (owned), or negative
 * errno with @e.
 */
int vsock_create(const struct vsock_config *config, struct vsock **out, struct err *e) MUST_USE;

/*
 * Close every connection and free; NULL allowed. The transport is gone already. The socket's file stays: who
 * had it bound removes it, because a start that failed may be tried again.
 */
void vsock_destroy(struct vsock *vsock);

/* The device as a virtio device, for virtio_mmio_create(). Borrowed. */
struct virtio_device *vsock_virtio_device(struct vsock *vsock);

/* Its counters, as long as it lives. Any thread. */
const struct vsock_stats *vsock_get_stats(const struct vsock *vsock);

#endif
