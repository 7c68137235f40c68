/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net: a guest's network interface (virtio 1.2, 5.1; CONTRACT.md section 10).
 *
 * Trust: frames and headers come from two hostile sides, the guest and the network; net_hdr.c checks the
 * guest's header, the backend the host's lengths. Contents are passed on unread.
 *
 * Threads: net_create, net_update_*, net_destroy: the I/O thread. The rest through virtio/device.h.
 *
 * Use: open a backend (net_backend.h) when the client names it; net_create() when the machine is built;
 * virtio_mmio_create() with net_virtio_device(); at the end virtio_mmio_destroy(), net_destroy().
 */
#ifndef MAYFLY_VIRTIO_NET_H
#define MAYFLY_VIRTIO_NET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "virtio/device.h"
#include "virtio/net_backend.h"
#include "virtio/ratelimit.h"
#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"
#include "vmm/evloop.h"

#define NET_MAC_BYTES 6

/* Seen from the guest. */
enum net_direction { NET_RX, NET_TX };

struct net_limits {
	struct ratelimit_bucket_config bandwidth, ops; /* size 0: no limit */
};

struct net_config {
	const char *iface_id;  /* copied; for log lines */
	const uint8_t *mac;    /* NET_MAC_BYTES, copied; NULL: the guest chooses */
	uint16_t mtu;          /* 68 to 65535; 0: not told to the guest */
	struct net_limits rx, tx;
	struct evloop *loop;   /* borrowed; NULL in tests: the owner calls net_host_ready() */
};

/*
 * Counters for metrics (names of CONTRACT.md section 15). Written under the device's lock, read by
 * anybody, relaxed.
 */
struct net_stats {
	_Atomic uint64_t cfg_fails, no_rx_avail_buffer, no_tx_avail_buffer, rx_queue_event_count, rx_event_rate_limiter_count;
	_Atomic uint64_t rx_rate_limiter_throttled, rx_tap_event_count, rx_bytes_count, rx_packets_count, rx_fails, rx_count;
	_Atomic uint64_t rx_partial_writes, tap_read_fails, tap_write_fails;
	_Atomic uint64_t tx_bytes_count, tx_malformed_frames, tx_fails, tx_count, tx_packets_count, tx_queue_event_count;
	_Atomic uint64_t tx_rate_limiter_event_count, tx_rate_limiter_throttled, tx_spoofed_mac_count;
};

struct net;

/*
 * Make an interface on @backend (taken, also on failure). All memory that it will ever need is allocated
 * here. 0 and *@out (owned), or negative errno with @e.
 */
int net_create(const struct net_config *config, struct net_backend *backend, struct net **out, struct err *e) MUST_USE;

/* Close the backend and free; NULL allowed. The transport is gone already. */
void net_destroy(struct net *net);

/* The interface as a virtio device, for virtio_mmio_create(). Borrowed. */
struct virtio_device *net_virtio_device(struct net *net);

/* Its counters, as long as it lives. Any thread. */
const struct net_stats *net_get_stats(const struct net *net);

/* PATCH /network-interfaces: replace the buckets of @direction that are not NULL (size 0 disables one). */
void net_update_limits(struct net *net, enum net_direction direction, const struct ratelimit_bucket_config *bandwidth,
		       const struct ratelimit_bucket_config *ops);

/* What the event loop calls when the backend's descriptor is ready (@events: EPOLL* bits). I/O thread; tests call it themselves. */
void net_host_ready(struct net *net, uint32_t events);

#endif
