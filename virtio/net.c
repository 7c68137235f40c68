/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Glue of the network interface: life, configuration space, PATCH, and which direction runs when.
 * Invariants and the table of what each direction waits for stand in net_impl.h.
 */
#include "virtio/net.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "virtio/net_impl.h"
#include "vmm/base/log.h"

#define EVENTS_RX (EPOLLIN | EPOLLERR | EPOLLHUP)
#define EVENTS_TX (EPOLLOUT | EPOLLERR | EPOLLHUP)

void net_backend_close(struct net_backend *be)
{
	if (be)
		be->ops->close(be);
}

/* --- Rate limiters (CONTRACT.md section 8) --- */

bool net_charge(struct net *net, struct ratelimit *limit, struct ev_timer *timer, uint32_t len)
{
	bool passed;

	if (!ratelimit_concerned(limit))
		return true;
	passed = ratelimit_take(limit, 1, len, evloop_now_ns());
	if (ratelimit_deadline(limit) != 0 && net->loop) {
		int rc = evloop_arm(net->loop, timer, ratelimit_deadline(limit));

		must(rc == 0);
	}
	return passed;
}

/* --- Who runs when --- */

void net_host_ended(struct net *net)
{
	if (net->dead)
		return;
	net->dead = true;
	net->tx.flush = false;
	/* A frame that waits for room would wait for ever: the source is silent from now on. */
	if (net->tx.wait == WAIT_HOST) {
		net->tx.wait = WAIT_TURN;
		virtio_device_rekick(&net->vdev, NET_QUEUE_TX);
	}
	log_error("%s: the host's side of the %s has ended; the guest's frames are dropped", net->vdev.name,
		  net->backend->ops->name);
}

/* Have the event loop wait for what the directions wait for (N4). I/O thread. */
static void listen_anew(struct net *net)
{
	enum net_wait rx = net->rx.wait;
	uint32_t events = EPOLLET;
	int rc;

	if (!net->loop)
		return;
	if (rx == WAIT_HOST || rx == WAIT_TURN)
		net->silent = false;
	if (!net->silent)
		events |= EPOLLIN;
	if (net->tx.wait == WAIT_HOST)
		events |= EPOLLOUT;
	if (net->dead || events == EPOLLET)
		events = 0;
	rc = evloop_set_events(net->loop, &net->source, events);
	if (rc < 0)
		log_guest(LOG_ERROR, "%s: epoll_ctl failed with errno %d", net->vdev.name, -rc);
}

/* Run the directions that are to, then tell the driver of both at once. */
static void run(struct net *net, bool rx, bool tx)
{
	struct net_turn tx_turn = { .looks = NET_TURN_LOOKS, .bytes = NET_TURN_BYTES }, rx_turn = tx_turn;
	enum verdict v = VERDICT_OK;

	if (tx) {
		v = net_tx_run(net, &tx_turn);
		/* What the host answers at once, a frame to itself, is there already. */
		rx |= net->rx.wait == WAIT_HOST;
	}
	if (v == VERDICT_OK && rx)
		v = net_rx_run(net, &rx_turn);
	virtio_device_signal_all(&net->vdev);
	if (v != VERDICT_OK)
		virtio_device_break(&net->vdev, "inconsistent virtqueue");
}

/* Is a kick, the driver's or our own, what @wait waits for? */
static bool kick_ends(enum net_wait wait)
{
	return wait == WAIT_GUEST || wait == WAIT_TURN;
}

static void net_notify(struct virtio_device *dev, uint16_t q)
{
	struct net *net = net_of(dev);

	if (q == NET_QUEUE_RX) {
		net_stat_add(&net->stats.rx_queue_event_count, 1);
		if (kick_ends(net->rx.wait))
			run(net, true, false);
	} else {
		net_stat_add(&net->stats.tx_queue_event_count, 1);
		if (kick_ends(net->tx.wait))
			run(net, false, true);
	}
	listen_anew(net);
}

void net_host_ready(struct net *net, uint32_t events)
{
	virtio_device_lock(&net->vdev);
	net_stat_add(&net->stats.rx_tap_event_count, 1);
	if (net->vdev.active) {
		bool rx = (events & EVENTS_RX) && net->rx.wait == WAIT_HOST;
		bool tx = (events & EVENTS_TX) && net->tx.wait == WAIT_HOST;

		if (rx || tx)
			run(net, rx, tx);
	}
	if ((events & EVENTS_RX) && net->rx.wait != WAIT_HOST && net->rx.wait != WAIT_TURN)
		net->silent = true;
	listen_anew(net);
	virtio_device_unlock(&net->vdev);
}

static void host_ready(void *ctx, uint32_t ready)
{
	net_host_ready(ctx, ready);
}

static void rx_timer_fired(void *ctx)
{
	struct net *net = ctx;

	virtio_device_lock(&net->vdev);
	net_stat_add(&net->stats.rx_event_rate_limiter_count, 1);
	ratelimit_expire(&net->rx.limit);
	if (net->rx.wait == WAIT_LIMIT)
		run(net, true, false);
	listen_anew(net);
	virtio_device_unlock(&net->vdev);
}

static void tx_timer_fired(void *ctx)
{
	struct net *net = ctx;

	virtio_device_lock(&net->vdev);
	net_stat_add(&net->stats.tx_rate_limiter_event_count, 1);
	ratelimit_expire(&net->tx.limit);
	if (net->tx.wait == WAIT_LIMIT)
		run(net, false, true);
	listen_anew(net);
	virtio_device_unlock(&net->vdev);
}

/* --- Device operations --- */

static void net_activate(struct virtio_device *dev)
{
	struct net *net = net_of(dev);
	int rc = net->backend->ops->set_features ? net->backend->ops->set_features(net->backend, dev->acked) : 0;

	if (rc < 0)
		log_guest(LOG_ERROR, "%s: setting the offloads of the %s failed with errno %d", dev->name,
			  net->backend->ops->name, -rc);
	net->rx.wait = WAIT_TURN;
	net->tx.wait = WAIT_TURN;
	virtio_device_rekick(dev, NET_QUEUE_RX);
	virtio_device_rekick(dev, NET_QUEUE_TX);
}

/* The rate limiters are the host's and survive: a guest must not get full buckets by resetting. */
static void net_reset(struct virtio_device *dev)
{
	net_rx_reset(net_of(dev));
	net_tx_reset(net_of(dev));
}

static void net_config_read(const struct virtio_device *dev, uint32_t off, void *dst, uint32_t len)
{
	const struct net *net = (const struct net *)(const void *)dev; /* vdev is first */

	memcpy(dst, (const uint8_t *)&net->config + off, len);
}

_Static_assert(offsetof(struct net, vdev) == 0, "net_config_read");

/* CONTRACT.md section 10: ignored, logged, counted. */
static void net_config_write(struct virtio_device *dev, uint32_t off, const void *src, uint32_t len)
{
	(void)src;
	(void)len;
	net_stat_add(&net_of(dev)->stats.cfg_fails, 1);
	virtio_device_complain(dev, "configuration write at", off);
}

static const struct virtio_device_ops net_ops = {
	.id = VIRTIO_ID_NET,
	.n_queues = 2,
	.queue_size = NET_QUEUE_SIZE,
	.activate = net_activate,
	.reset = net_reset,
	.notify = net_notify,
	.config_len = sizeof(struct virtio_net_config_wire),
	.config_read = net_config_read,
	.config_write = net_config_write,
};

/* --- Life --- */

static uint64_t features_of(const struct net_config *config, const struct net_backend *backend)
{
	uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_NET_F_MRG_RXBUF | backend->ops->features;

	if (config->mac)
		features |= VIRTIO_NET_F_MAC;
	if (config->mtu)
		features |= VIRTIO_NET_F_MTU;
	return features;
}

int net_create(const struct net_config *config, struct net_backend *backend, struct net **out, struct err *e)
{
	struct net *net = calloc(1, sizeof(*net));
	char name[VIRTIO_NAME_MAX];
	uint64_t now_ns = evloop_now_ns();
	int rc;

	if (!net) {
		net_backend_close(backend);
		return err_sys(e, -ENOMEM, "allocate interface '%s'", config->iface_id);
	}
	net->backend = backend;
	if (config->mac) {
		net->has_mac = true;
		memcpy(net->config.mac, config->mac, NET_MAC_BYTES);
	}
	net->config.mtu = htole16(config->mtu);
	net->rx.timer = (struct ev_timer){ .group = EV_DEVICE, .fn = rx_timer_fired, .ctx = net };
	net->tx.timer = (struct ev_timer){ .group = EV_DEVICE, .fn = tx_timer_fired, .ctx = net };
	ratelimit_init(&net->rx.limit, &config->rx.bandwidth, &config->rx.ops, now_ns);
	ratelimit_init(&net->tx.limit, &config->tx.bandwidth, &config->tx.ops, now_ns);
	net_rx_reset(net);
	net_tx_reset(net);
	(void)snprintf(name, sizeof(name), "interface '%s'", config->iface_id);
	rc = virtio_device_init(&net->vdev, &net_ops, features_of(config, backend), name, e);
	if (rc == 0 && config->loop) {
		net->source = (struct ev_source){
			.fd = backend->fd, .events = EPOLLIN | EPOLLET, .group = EV_DEVICE, .fn = host_ready, .ctx = net,
		};
		rc = evloop_add(config->loop, &net->source);
		if (rc < 0)
			(void)err_sys(e, rc, "watch the %s of %s", backend->ops->name, name);
		else
			net->loop = config->loop;
	}
	if (rc < 0) {
		net_destroy(net);
		return rc;
	}
	*out = net;
	return 0;
}

void net_destroy(struct net *net)
{
	if (!net)
		return;
	if (net->loop) {
		evloop_remove(net->loop, &net->source);
		evloop_disarm(net->loop, &net->rx.timer);
		evloop_disarm(net->loop, &net->tx.timer);
	}
	virtio_device_fini(&net->vdev);
	net_backend_close(net->backend);
	free(net);
}

struct virtio_device *net_virtio_device(struct net *net)
{
	return &net->vdev;
}

const struct net_stats *net_get_stats(const struct net *net)
{
	return &net->stats;
}

void net_update_limits(struct net *net, enum net_direction direction, const struct ratelimit_bucket_config *bandwidth,
		       const struct ratelimit_bucket_config *ops)
{
	virtio_device_lock(&net->vdev);
	ratelimit_update(direction == NET_RX ? &net->rx.limit : &net->tx.limit, bandwidth, ops, evloop_now_ns());
	virtio_device_unlock(&net->vdev);
}
