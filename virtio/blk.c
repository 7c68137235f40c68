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
#include "virtio/cow.h"
#include "vmm/base/log.h"

_Static_assert(BLK_ID_BYTES == VIRTIO_BLK_ID_BYTES, "virtio 1.2 5.2.6");

/* --- Device operations --- */

/* The rate limiter is the host's and survives: a guest must not get a full bucket by resetting. */
static void blk_reset(struct virtio_device *dev)
{
	struct blk *blk = blk_of(dev);

	blk_async_drain(blk, true);
	blk->has_req = false;
	blk->charged = false;
	blk->begun = false;
}

/* How often @small, a power of two, has to be doubled to be @large; 0 when it is not that. */
static uint8_t doublings(uint32_t small, uint32_t large)
{
	uint8_t n = 0;

	while (n < 31 && small << n < large)
		n++;
	return small << n == large ? n : 0;
}

/* Hints and limits, as far as they are offered. */
static void config_extras(const struct blk *blk, struct virtio_blk_config_wire *c)
{
	const struct blk_topology *t = &blk->topology;

	if (blk->vdev.features & VIRTIO_BLK_F_BLK_SIZE)
		c->blk_size = htole32(t->logical);
	if (blk->vdev.features & VIRTIO_BLK_F_TOPOLOGY) {
		c->physical_block_exp = doublings(t->logical, t->physical);
		c->alignment_offset = (uint8_t)(t->alignment / t->logical);
		c->min_io_size = htole16((uint16_t)(t->min_io / t->logical));
		c->opt_io_size = htole32(t->opt_io / t->logical);
	}
	if (blk->vdev.features & VIRTIO_BLK_F_DISCARD) {
		uint32_t block = t->physical > COW_BLOCK ? t->physical : COW_BLOCK;

		c->max_discard_sectors = htole32(blk->max_range_sectors);
		c->max_discard_seg = htole32(BLK_RANGES_MAX);
		c->discard_sector_alignment = htole32(block >> VIRTIO_BLK_SECTOR_SHIFT);
		c->max_write_zeroes_sectors = htole32(blk->max_range_sectors);
		c->max_write_zeroes_seg = htole32(BLK_RANGES_MAX);
		c->write_zeroes_may_unmap = 1;
	}
}

static void blk_config_read(const struct virtio_device *dev, uint32_t off, void *dst, uint32_t len)
{
	const struct blk *blk = (const struct blk *)(const void *)dev; /* vdev is first */
	struct virtio_blk_config_wire config = {
		.capacity = htole64(blk_limits_of(blk).n_sectors),
		.seg_max = htole32(BLK_SEG_MAX),
	};

	config_extras(blk, &config);
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

/* What the disk can, and what of it helps a guest. Constant from here on, also when PATCH brings a file that can't. */
static uint64_t features_of(const struct blk *blk)
{
	const struct blk_backing *b = &blk->backing;
	const struct blk_topology *t = &blk->topology;
	uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | VIRTIO_BLK_F_SEG_MAX;

	if (t->logical > VIRTIO_BLK_SECTOR_SIZE)
		features |= VIRTIO_BLK_F_BLK_SIZE;
	if (b->read_only)
		return features | VIRTIO_BLK_F_RO;
	/* Hints about writes; whoever can't say them in the configuration's few bits does not. */
	if (t->physical != 0 && t->alignment / t->logical <= UINT8_MAX && t->min_io / t->logical <= UINT16_MAX)
		features |= VIRTIO_BLK_F_TOPOLOGY;
	if (b->can_discard)
		features |= VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES;
	return features;
}

int blk_create(const struct blk_config *config, struct blk_backing *backing, struct blk **out, struct err *e)
{
	struct blk *blk = calloc(1, sizeof(*blk));
	char name[VIRTIO_NAME_MAX];
	uint64_t features;
	int rc;

	if (!blk) {
		blk_backing_close(backing);
		return err_sys(e, -ENOMEM, "allocate drive '%s'", config->drive_id);
	}
	blk->backing = blk_backing_take(backing);
	blk->topology = blk->backing.topology;
	if (blk->topology.logical == 0)
		blk->topology.logical = VIRTIO_BLK_SECTOR_SIZE;
	blk->max_range_sectors = blk->backing.block_device ? BLK_RANGE_SECTORS_DEVICE : BLK_RANGE_SECTORS_FILE;
	features = features_of(blk);
	blk->io = config->io ? config->io : &blk_io_host;
	blk->loop = config->loop;
	blk->timer = (struct ev_timer){ .group = EV_DEVICE, .fn = blk_timer_fired, .ctx = blk };
	ratelimit_init(&blk->limit, &config->bandwidth, &config->ops, evloop_now_ns());
	if (config->flush)
		features |= VIRTIO_BLK_F_FLUSH;
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

/* Is the present request for this disk? If not, it is completed. */
static bool still_possible(struct blk *blk, const struct blk_limits *limits)
{
	bool ranges = blk->req.op == BLK_OP_DISCARD || blk->req.op == BLK_OP_WRITE_ZEROES;

	if (ranges && !limits->discard)
		blk_complete_status(blk, &blk->req, VIRTIO_BLK_S_UNSUPP, 0);
	else if (!blk_req_within(&blk->req, &blk->ranges, limits))
		blk_complete_status(blk, &blk->req, VIRTIO_BLK_S_IOERR, 0);
	return blk->has_req;
}

int blk_update_backing(struct blk *blk, struct blk_backing *backing, struct err *e)
{
	struct blk_backing old;
	struct blk_limits limits;
	int rc = 0;

	virtio_device_lock(&blk->vdev);
	if (backing->read_only != blk->backing.read_only)
		rc = err_set(e, -EINVAL, "%s: the new file is not opened like the old one", blk->vdev.name);
	if (rc == 0 && blk->async) {
		blk_async_drain(blk, false);
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
	blk->backing = blk_backing_take(backing);
	blk->begun = false; /* a request done in part begins anew: it never mixes two files */
	limits = blk_limits_of(blk);
	/* B2. The guest did nothing wrong, so it gets a status. */
	if (blk->has_req && !still_possible(blk, &limits)) {
		blk_stat_add(&blk->stats.execute_fails, 1);
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
