/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk: a raw file or host block device as a guest's disk (virtio 1.2, 5.2; CONTRACT.md section
 * 9).
 *
 * Four layers: virtqueue.c pops chains, blk_req.c judges them, blk_io.c does host I/O, and this glue
 * completes them. The Sync engine works in the I/O thread, a bounded amount a turn: a long request is
 * done in slices, and the device's lock is free between turns. The Async engine (blk_ring.h) does the same, except for
 * what may have to wait for the disk: that goes to an io_uring.
 *
 * Trust: requests are the guest's. The backing file is raw, never probed; its size may change under us,
 * which ends in I/O errors.
 *
 * Threads: blk_create, blk_update_*, blk_destroy: the I/O thread. The rest through virtio/device.h.
 *
 * Use: blk_backing_open() when the client names the file; blk_create() when the machine is built;
 * virtio_mmio_create() with blk_virtio_device(); at the end virtio_mmio_destroy(), blk_destroy().
 */
#ifndef MAYFLY_VIRTIO_BLK_H
#define MAYFLY_VIRTIO_BLK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "virtio/device.h"
#include "virtio/ratelimit.h"
#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"
#include "vmm/evloop.h"

#define BLK_ID_BYTES 20

struct blk_io_ops;
struct blk_ring;
struct cow;

/* How a read that must not wait can be made (the vCPU thread's fast path). */
enum blk_nowait {
	BLK_NOWAIT_NEVER,  /* it can't: host block device, or a file system that does not offer it */
	BLK_NOWAIT_FLAG,   /* preadv2 with RWF_NOWAIT: what the page cache holds */
	BLK_NOWAIT_MEMORY, /* tmpfs: every read is a copy */
};

/* What the guest is told about sizes, in bytes. */
struct blk_topology {
	uint32_t logical;   /* block that can be addressed: 512, or more on a host block device */
	uint32_t physical;  /* block that can be written without reading; 0: nothing is known */
	uint32_t alignment; /* of the disk's begin in a physical block */
	uint32_t min_io, opt_io; /* 0: nothing is known */
};

/* An opened disk image. */
struct blk_backing {
	int fd;                    /* owned; -1: none */
	uint64_t size;             /* bytes, as found when it was opened */
	bool read_only;            /* opened O_RDONLY */
	bool block_device;         /* not a regular file */
	bool can_discard;          /* space can be given back */
	struct blk_topology topology;
	enum blk_nowait nowait;
	struct cow *cow;           /* a reference; NULL: fd is the disk. Else fd is -1 and this is the disk */
	uint8_t id[BLK_ID_BYTES];  /* st_dev, st_rdev, st_ino in decimal, NUL-padded or cut; with cow the delta's */
};

/*
 * Open @path as a disk: a regular file or a block device, of any size, also none. Never blocks on a
 * FIFO (refused, as are directories, sockets and character devices).
 *
 * Returns 0 and *@out (owned), or negative errno with @e: "Error manipulating the backing file: <os
 * error> <path>".
 */
int blk_backing_open(const char *path, bool read_only, struct blk_backing *out, struct err *e) MUST_USE;

/*
 * Open a copy-on-write disk: @path as its base, read-only, and @delta_path as the file of what this
 * microVM writes, made if it does not exist (cow.h). Returns as blk_backing_open() does.
 */
int blk_backing_open_cow(const char *path, const char *delta_path, bool read_only, struct blk_backing *out,
			 struct err *e) MUST_USE;

/* Another handle on the same open disk (no open of a path). 0 and *@out (owned), or negative errno. */
int blk_backing_dup(const struct blk_backing *backing, struct blk_backing *out) MUST_USE;

/* Close; idempotent. A zero-initialised one has fd 0, so give it fd = -1 before. */
void blk_backing_close(struct blk_backing *backing);

struct blk_config {
	const char *drive_id;      /* copied; for log lines */
	bool flush;                /* cache_type Writeback: offer FLUSH */
	struct blk_ring *ring;     /* borrowed, outlives the disk: engine Async; NULL: Sync */
	struct ratelimit_bucket_config bandwidth, ops; /* size 0: no limit */
	struct evloop *loop;       /* borrowed, for the rate limiter's timer; NULL in tests */
	const struct blk_io_ops *io; /* borrowed; NULL: the host's system calls (tests bring their own) */
};

/*
 * Counters for metrics (names of CONTRACT.md section 15). Written under the device's lock, read by
 * anybody, relaxed.
 */
struct blk_stats {
	_Atomic uint64_t no_avail_buffer, execute_fails, invalid_reqs_count, flush_count, queue_event_count;
	_Atomic uint64_t rate_limiter_event_count, rate_limiter_throttled_events, update_count, update_fails;
	_Atomic uint64_t io_engine_throttled_events;
	_Atomic uint64_t read_bytes, write_bytes, read_count, write_count, vcpu_read_count;
};

struct blk;

/*
 * Make a disk on @backing (taken: its fd is -1 afterwards, also on failure). All memory that it will
 * ever need is allocated here. 0 and *@out (owned), or negative errno with @e.
 */
int blk_create(const struct blk_config *config, struct blk_backing *backing, struct blk **out, struct err *e) MUST_USE;

/* Close the backing file and free; NULL allowed. The transport is gone already. */
void blk_destroy(struct blk *blk);

/* The disk as a virtio device, for virtio_mmio_create(). Borrowed. */
struct virtio_device *blk_virtio_device(struct blk *blk);

/* Its counters, as long as it lives. Any thread. */
const struct blk_stats *blk_get_stats(const struct blk *blk);

/* Capacity that the guest sees, in 512-byte sectors. */
uint64_t blk_capacity_sectors(struct blk *blk);

/*
 * PATCH /drives: continue on @backing (taken, as in blk_create; opened in the same mode), with its
 * size, and tell the guest. The same file again means "look at its size again". What the Async engine has in flight is
 * completed first, on the old file (or fails, when more than 2 MiB of a request are left); a request that is done in part
 * begins anew on the new one. 0, or negative errno with
 * @e: -EINVAL when the mode differs; the old file stays then.
 */
int blk_update_backing(struct blk *blk, struct blk_backing *backing, struct err *e) MUST_USE;

/* PATCH /drives: replace the buckets that are not NULL (size 0 disables one). */
void blk_update_limits(struct blk *blk, const struct ratelimit_bucket_config *bandwidth,
		       const struct ratelimit_bucket_config *ops);

#endif
