/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tap device as the host's side of a network interface.
 */
#include "virtio/net_backend.h"

#include <errno.h>

int net_tap_open(const char *name, struct net_backend **out, struct err *e)
{
	(void)out;
	return err_set(e, -ENOSYS, "tap '%s': not there yet", name);
}

int net_tap_adopt(int fd, struct net_backend **out, struct err *e)
{
	(void)out;
	return err_set(e, -ENOSYS, "tap descriptor %d: not there yet", fd);
}
