/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Glue of the vsock device: life, configuration space, queue events.
 */
#include "virtio/vsock.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/virtio_spec.h"
#include "vmm/base/cdefs.h"
#include "vmm/base/fd.h"

struct vsock {
	struct virtio_device vdev; /* first */
	struct vsock_stats stats;
	uint64_t guest_cid;
	int listen_fd;
};

static void vsock_reset(struct virtio_device *dev)
{
	(void)dev;
}

static void vsock_notify(struct virtio_device *dev, uint16_t q)
{
	(void)dev;
	(void)q;
}

static void vsock_config_read(const struct virtio_device *dev, uint32_t off, void *dst, uint32_t len)
{
	const struct vsock *vsock = (const struct vsock *)(const void *)dev; /* vdev is first */
	uint64_t cid = htole64(vsock->guest_cid);

	memcpy(dst, (const uint8_t *)&cid + off, len);
}

static const struct virtio_device_ops vsock_ops = {
	.id = 19,
	.n_queues = 3,
	.queue_size = 256,
	.reset = vsock_reset,
	.notify = vsock_notify,
	.config_len = sizeof(uint64_t),
	.config_read = vsock_config_read,
};

int vsock_create(const struct vsock_config *config, struct vsock **out, struct err *e)
{
	struct vsock *vsock = calloc(1, sizeof(*vsock));
	int listen_fd = config->listen_fd, rc;

	if (!vsock) {
		fd_close(&listen_fd);
		return err_sys(e, -ENOMEM, "allocate the vsock device");
	}
	vsock->listen_fd = listen_fd;
	vsock->guest_cid = config->guest_cid;
	rc = virtio_device_init(&vsock->vdev, &vsock_ops, VIRTIO_F_EVENT_IDX, "vsock", e);
	if (rc < 0) {
		vsock_destroy(vsock);
		return rc;
	}
	*out = vsock;
	return 0;
}

void vsock_destroy(struct vsock *vsock)
{
	if (!vsock)
		return;
	fd_close(&vsock->listen_fd);
	virtio_device_fini(&vsock->vdev);
	free(vsock);
}

struct virtio_device *vsock_virtio_device(struct vsock *vsock)
{
	return &vsock->vdev;
}

const struct vsock_stats *vsock_get_stats(const struct vsock *vsock)
{
	return &vsock->stats;
}
