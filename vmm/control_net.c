/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>

#include "vmm/base/log.h"
#include "vmm/control_impl.h"

#define NET_FAULT "Network config error: Could not create the network device: "
#define PATCH_NET_FAULT "Network config error: Unable to update the network device: "

/* virtio 1.2, 5.1.4.1: what the mtu field may say. */
#define MTU_MIN 68
#define MTU_MAX 65535

/* Place of the interface @id, or config.n_nets. */
static size_t find_net(const struct control *c, const char *id)
{
	size_t i;

	for (i = 0; i < c->config.n_nets; i++) {
		if (strcmp(c->config.net[i].iface_id, id) == 0)
			break;
	}
	return i;
}

static bool mac_is_free(const struct control *c, const struct config_net *n, size_t place, struct reply *reply)
{
	char text[CONFIG_MAC_TEXT];

	for (size_t i = 0; n->has_guest_mac && i < c->config.n_nets; i++) {
		const struct config_net *other = &c->config.net[i];

		if (i == place || !other->has_guest_mac || memcmp(other->guest_mac, n->guest_mac, CONFIG_MAC_BYTES) != 0)
			continue;
		config_mac_text(n->guest_mac, text);
		control_fault(reply, "Network config error: The MAC address is already in use: %s (iface_id '%.64s')", text,
			      other->iface_id);
		return false;
	}
	return true;
}

/* Two interfaces on one descriptor would share their frames by chance, and close it twice. */
static bool tap_fd_is_free(const struct control *c, const struct config_net *n, size_t place, struct reply *reply)
{
	for (size_t i = 0; n->has_tap_fd && i < c->config.n_nets; i++) {
		bool same = i == place && c->config.net[i].has_tap_fd; /* the same request again */

		if (same || c->net_backend[i]->fd < 0 || (uint32_t)c->net_backend[i]->fd != n->tap_fd)
			continue;
		control_fault(reply, NET_FAULT "tap_fd %u is in use by interface '%.64s': give each interface a tap of its own.",
			      n->tap_fd, c->config.net[i].iface_id);
		return false;
	}
	return true;
}

static bool net_acceptable(const struct control *c, const struct config_net *n, size_t place, struct reply *reply)
{
	if (n->has_mtu && n->mtu < MTU_MIN) {
		control_fault(reply, NET_FAULT "MTU %u is out of range [%d, %d]", n->mtu, MTU_MIN, MTU_MAX);
		return false;
	}
	if (!mac_is_free(c, n, place, reply) || !tap_fd_is_free(c, n, place, reply))
		return false;
	if (place == CONFIG_MAX_NETS) {
		control_fault(reply, NET_FAULT "interface '%.64s': a microVM can have at most %d interfaces.", n->iface_id,
			      CONFIG_MAX_NETS);
		return false;
	}
	return true;
}

/* ---- the host's side --------------------------------------------------------------------------------------------- */

static bool same_text(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

static bool same_host_side(const struct config_net *a, const struct config_net *b)
{
	return same_text(a->host_dev_name, b->host_dev_name) || same_text(a->passt_socket, b->passt_socket) ||
	       (a->has_tap_fd && b->has_tap_fd && a->tap_fd == b->tap_fd);
}

/* Is there still somebody behind @backend: has the tap not been deleted, has passt not ended? */
static bool host_side_is_there(const struct net_backend *backend)
{
	struct pollfd p = {.fd = backend->fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) >= 0 && !(p.revents & (POLLERR | POLLHUP | POLLRDHUP | POLLNVAL));
}

/* What can be done about the tap @name that was refused with @rc, as far as the refusal does not say so. */
static const char *tap_hint(const char *name, int rc)
{
	switch (rc) {
	case -EBUSY:
		return " (another interface or program uses it)";
	case -EINVAL: /* a name that is too long speaks for itself */
		return strlen(name) < IFNAMSIZ ? " (it must be a tap, not a bridge or another device, with one queue: made "
						 "without `multi_queue`)" : "";
	case -EACCES:
		return " (the monitor's user must be able to read and write /dev/net/tun)";
	case -ENOENT:
	case -ENODEV:
		return " (is /dev/net/tun there? `modprobe tun` makes it)";
	default:
		return "";
	}
}

/* Open what @n names. False: refused. */
static bool open_backend(const struct config_net *n, struct net_backend **out, struct reply *reply)
{
	struct err e = {0};
	int rc;

	if (n->host_dev_name) {
		bool existed = if_nametoindex(n->host_dev_name) != 0;

		rc = net_tap_open(n->host_dev_name, out, &e);
		if (rc == 0 && !existed)
			log_warn("Interface '%s': there was no tap '%s'. It has been made and is connected to nothing.",
				 n->iface_id, n->host_dev_name);
		if (rc)
			control_fault(reply,
				      NET_FAULT "Open tap device failed: %s Invalid TUN/TAP Backend provided by %.64s. Check our "
						"documentation on setting up the network devices.%s",
				      e.msg, n->host_dev_name, tap_hint(n->host_dev_name, rc));
	} else if (n->has_tap_fd) {
		rc = n->tap_fd > INT32_MAX ? err_set(&e, -EBADF, "there is no such descriptor")
					   : net_tap_adopt((int)n->tap_fd, out, &e);
		if (rc)
			control_fault(reply, NET_FAULT "tap_fd %u: %s", n->tap_fd, e.msg);
	} else {
		rc = net_passt_connect(n->passt_socket, out, &e);
		if (rc)
			control_fault(reply, NET_FAULT "passt_socket: %s", e.msg);
	}
	return rc == 0;
}

/*
 * The back end for @n, which replaces the interface at @place if there is one. The same host side again keeps its
 * handle, because a tap with one queue, a descriptor and passt can't be opened twice.
 */
static bool back_end_for(struct control *c, const struct config_net *n, size_t place, struct net_backend **out,
			 struct reply *reply)
{
	if (place < c->config.n_nets && same_host_side(n, &c->config.net[place]) &&
	    host_side_is_there(c->net_backend[place])) {
		*out = c->net_backend[place];
		c->net_backend[place] = NULL;
		return true;
	}
	return open_backend(n, out, reply);
}

/* ---- actions ----------------------------------------------------------------------------------------------------- */

static void remove_net(struct control *c, size_t place)
{
	size_t behind = c->config.n_nets - place - 1;

	config_net_fini(&c->config.net[place]);
	net_backend_close(c->net_backend[place]);
	memmove(&c->config.net[place], &c->config.net[place + 1], behind * sizeof(c->config.net[0]));
	memmove(&c->net_backend[place], &c->net_backend[place + 1], behind * sizeof(c->net_backend[0]));
	c->config.n_nets--;
}

void control_put_net(struct control *c, struct action *action, struct reply *reply)
{
	struct config_net *n = &action->net;
	size_t place = find_net(c, n->iface_id);
	struct net_backend *backend;

	if (!net_acceptable(c, n, place, reply) || !back_end_for(c, n, place, &backend, reply))
		return;
	if (n->has_guest_mac && n->guest_mac[0] & 1)
		log_warn("Interface '%s': guest_mac is a group address, which Linux does not use.", n->iface_id);
	if (place < c->config.n_nets)
		remove_net(c, place);
	c->net_backend[c->config.n_nets] = backend;
	c->config.net[c->config.n_nets++] = *n;
	*n = (struct config_net){0};
	reply->status = 204;
}

void control_patch_net(struct control *c, struct action *action, struct reply *reply)
{
	struct config_net *patch = &action->net;
	size_t place = find_net(c, patch->iface_id);
	struct machine_limits rx = control_limits(&patch->rx_rate_limiter);
	struct machine_limits tx = control_limits(&patch->tx_rate_limiter);
	struct err e = {0};

	if (place == c->config.n_nets) {
		control_fault(reply, PATCH_NET_FAULT "Device not found: no interface '%.64s'.", patch->iface_id);
		return;
	}
	if (machine_update_net_limits(c->machine, patch->iface_id, NET_RX, &rx, &e) ||
	    machine_update_net_limits(c->machine, patch->iface_id, NET_TX, &tx, &e)) {
		control_fault(reply, PATCH_NET_FAULT "%s", e.msg);
		return;
	}
	control_remember_limits(&c->config.net[place].rx_rate_limiter, &patch->rx_rate_limiter);
	control_remember_limits(&c->config.net[place].tx_rate_limiter, &patch->tx_rate_limiter);
	reply->status = 204;
}
