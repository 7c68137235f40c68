/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Glue of the disk: life, configuration space, PATCH. Requests are in blk_turn.c.
 */
#include "virtio/blk.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/blk_impl.h"
#include "vmm/base/log.h"

_Static_assert(BLK_ID_BYTES == VIRTIO_BLK_ID_BYTES, "virtio 1.2 5.2.6");

/* --- Device operations --- */

/* The rate limiter is the host's and survives: a guest must not get a full bucket by resetting. */
static void blk_reset(struct virtio_device *dev)
{
	struct blk *blk = blk_of(dev);

	blk_async_drain(blk);
	blk->has_req = false;
	blk->charged = false;
	blk->begun = false;
}

static void blk_config_read(const struct virtio_device *dev, uint32_t off, void *dst, uint32_t len)
{
	const struct blk *blk = (const struct blk *)(const void *)dev; /* vdev is first */
	struct virtio_blk_config_wire config = {
		.capacity = htole64(blk_limits_of(blk).n_sectors),
		.seg_max = htole32(BLK_SEG_MAX),
	};

	memcpy(dst, (const uint8_t *)&config + off, len);
}

_Static_assert(offsetof(struct blk, vdev) == 0, "blk_config_read");

static const struct virtio_device_ops blk_ops = {
	.id = VIRTIO_ID_BLOCK,
	.n_queues = 1,
	.queue_size = BLK_QUEUE_SIZE,
	.reset = blk_reset,
	.notify = blk_notify,
	.try_notify = blk_try_notify,
	.config_len = sizeof(struct virtio_blk_config_wire),
	.config_read = blk_config_read,
};

/* --- Life --- */

static void warn_about_size(const struct blk *blk)
{
	if (blk->backing.size % VIRTIO_BLK_SECTOR_SIZE != 0)
		log_warn("Disk size %" PRIu64 " is not a multiple of sector size %d; the remainder will not be visible "
			 "to the guest.", blk->backing.size, VIRTIO_BLK_SECTOR_SIZE);
}

int blk_create(const struct blk_config *config, struct blk_backing *backing, struct blk **out, struct err *e)
{
	uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | VIRTIO_BLK_F_SEG_MAX;
	struct blk *blk = calloc(1, sizeof(*blk));
	char name[VIRTIO_NAME_MAX];
	int rc;

	if (!blk) {
		blk_backing_close(backing);
		return err_sys(e, -ENOMEM, "allocate drive '%s'", config->drive_id);
	}
	blk->backing = *backing;
	backing->fd = -1;
	blk->io = config->io ? config->io : &blk_io_host;
	blk->loop = config->loop;
	blk->timer = (struct ev_timer){ .group = EV_DEVICE, .fn = blk_timer_fired, .ctx = blk };
	ratelimit_init(&blk->limit, &config->bandwidth, &config->ops, evloop_now_ns());
	if (config->flush)
		features |= VIRTIO_BLK_F_FLUSH;
	if (blk->backing.read_only)
		features |= VIRTIO_BLK_F_RO;
	(void)snprintf(name, sizeof(name), "drive '%s'", config->drive_id);
	rc = virtio_device_init(&blk->vdev, &blk_ops, features, name, e);
	if (rc == 0 && config->ring)
		rc = blk_async_create(blk, config->ring, e);
	if (rc < 0) {
		blk_destroy(blk);
		return rc;
	}
	warn_about_size(blk);
	*out = blk;
	return 0;
}

void blk_destroy(struct blk *blk)
{
	if (!blk)
		return;
	if (blk->loop)
		evloop_disarm(blk->loop, &blk->timer);
	blk_async_destroy(blk);
	virtio_device_fini(&blk->vdev);
	blk_backing_close(&blk->backing);
	free(blk);
}

struct virtio_device *blk_virtio_device(struct blk *blk)
{
	return &blk->vdev;
}

const struct blk_stats *blk_get_stats(const struct blk *blk)
{
	return &blk->stats;
}

uint64_t blk_capacity_sectors(struct blk *blk)
{
	uint64_t n;

	virtio_device_lock(&blk->vdev);
	n = blk_limits_of(blk).n_sectors;
	virtio_device_unlock(&blk->vdev);
	return n;
}

/* --- PATCH --- */

int blk_update_backing(struct blk *blk, struct blk_backing *backing, struct err *e)
{
	struct blk_backing old;
	struct blk_limits limits;
	int rc = 0;

	virtio_device_lock(&blk->vdev);
	if (backing->read_only != blk->backing.read_only)
		rc = err_set(e, -EINVAL, "%s: the new file is not opened like the old one", blk->vdev.name);
	if (rc == 0 && blk->async) {
		blk_async_drain(blk);
		rc = blk_async_set_files(blk, backing);
		if (rc < 0)
			rc = err_sys(e, rc, "%s: the Async engine can't take the new file", blk->vdev.name);
	}
	if (rc < 0) {
		blk_stat_add(&blk->stats.update_fails, 1);
		virtio_device_unlock(&blk->vdev);
		blk_backing_close(backing);
		return rc;
	}
	old = blk->backing;
	blk->backing = *backing;
	backing->fd = -1;
	blk->begun = false; /* a request done in part begins anew: it never mixes two files */
	limits = blk_limits_of(blk);
	/* B2. The guest did nothing wrong, so it gets a status. */
	if (blk->has_req && !blk_req_within(&blk->req, &limits)) {
		blk_stat_add(&blk->stats.execute_fails, 1);
		blk_complete_status(blk, &blk->req, VIRTIO_BLK_S_IOERR, 0);
		virtio_device_rekick(&blk->vdev, BLK_QUEUE);
	}
	virtio_device_signal_used(&blk->vdev, BLK_QUEUE); /* also for what was drained */
	blk_stat_add(&blk->stats.update_count, 1);
	warn_about_size(blk);
	virtio_device_signal_config(&blk->vdev);
	virtio_device_unlock(&blk->vdev);
	blk_backing_close(&old);
	return 0;
}

void blk_update_limits(struct blk *blk, const struct ratelimit_bucket_config *bandwidth,
		       const struct ratelimit_bucket_config *ops)
{
	virtio_device_lock(&blk->vdev);
	ratelimit_update(&blk->limit, bandwidth, ops, evloop_now_ns());
	virtio_device_rekick(&blk->vdev, BLK_QUEUE);
	virtio_device_unlock(&blk->vdev);
}
