/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Glue of the network interface: life, configuration space, PATCH.
 */
#include "virtio/net.h"

#include <errno.h>
#include <stdlib.h>

void net_backend_close(struct net_backend *be)
{
	if (be)
		be->ops->close(be);
}

int net_create(const struct net_config *config, struct net_backend *backend, struct net **out, struct err *e)
{
	(void)out;
	net_backend_close(backend);
	return err_set(e, -ENOSYS, "interface '%s': not there yet", config->iface_id);
}

void net_destroy(struct net *net)
{
	must(!net);
}

struct virtio_device *net_virtio_device(struct net *net)
{
	must(!net);
	return NULL;
}

const struct net_stats *net_get_stats(const struct net *net)
{
	must(!net);
	return NULL;
}

void net_update_limits(struct net *net, enum net_direction direction, const struct ratelimit_bucket_config *bandwidth,
		       const struct ratelimit_bucket_config *ops)
{
	(void)direction;
	(void)bandwidth;
	(void)ops;
	must(!net);
}

void net_host_ready(struct net *net, uint32_t events)
{
	(void)events;
	must(!net);
}
