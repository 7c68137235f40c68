/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Executor of disk transfers, the Sync engine: preadv2, pwritev2, fdatasync, fallocate, over short transfers
 * and EINTR.
 *
 * Trust: the transfer was checked by blk_req.c. The file is the host's: it may shrink, fail or be slow.
 *
 * Threads: none of its own; the device's lock is held.
 */
#ifndef MAYFLY_VIRTIO_BLK_IO_H
#define MAYFLY_VIRTIO_BLK_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "virtio/virtqueue.h"
#include "vmm/base/cdefs.h"

/*
 * The system calls, so that tests can make each of them short or fail. Signatures and errno as in
 * preadv2(2).
 */
struct blk_io_ops {
	ssize_t (*preadv2)(int fd, const struct iovec *iov, int n, off_t offset, int flags);
	ssize_t (*pwritev2)(int fd, const struct iovec *iov, int n, off_t offset, int flags);
	int (*fdatasync)(int fd);
	int (*fallocate)(int fd, int mode, off_t offset, off_t len); /* mode: as in fallocate(2) */
	int (*block_ioctl)(int fd, unsigned long request, uint64_t range[2]); /* BLKDISCARD, BLKZEROOUT: offset, length */
};

extern const struct blk_io_ops blk_io_host;

/* A transfer in progress: what is left of it is iov[first] to iov[n - 1], none of them empty, and starts at `offset`. */
struct blk_xfer {
	bool is_write;
	uint64_t offset; /* bytes in the file, of the next byte */
	uint64_t left;   /* bytes */
	uint64_t done;   /* bytes really transferred */
	int error;       /* after BLK_IO_FAILED: errno, 0 for the end of the file */
	size_t first, n; /* elements of iov */
	struct iovec iov[VQ_CHAIN_MAX];
};

enum blk_io_result {
	BLK_IO_DONE,        /* left == 0 */
	BLK_IO_MORE,        /* the budget is used up; call again */
	BLK_IO_WOULD_BLOCK, /* only with RWF_NOWAIT: the rest is not in memory */
	BLK_IO_FAILED,      /* an error, or the file ended; `done` bytes were transferred */
};

/* Take @n transferred bytes (<= left) off the front of @x. */
void blk_xfer_advance(struct blk_xfer *x, uint64_t n);

/*
 * Shorten @x for the next @want bytes (0 < @want <= left): the element that they end in is cut. Returns the number of
 * elements from x->first on, and in *@whole what blk_xfer_uncut() needs to undo it.
 */
size_t blk_xfer_cut(struct blk_xfer *x, uint64_t want, size_t *whole);
void blk_xfer_uncut(struct blk_xfer *x, size_t n, size_t whole);

/*
 * Go on with @x on @fd for at most @max_bytes bytes (> 0).
 * @flags: 0, or RWF_NOWAIT (then EAGAIN, a file that does not know it, and a short read give
 * BLK_IO_WOULD_BLOCK). May block without it.
 */
enum blk_io_result blk_io_run(const struct blk_io_ops *ops, int fd, struct blk_xfer *x, uint64_t max_bytes,
			      int flags) MUST_USE;

/* Make what was written stable. 0 or negative errno. Blocks. */
int blk_io_flush(const struct blk_io_ops *ops, int fd) MUST_USE;

/*
 * Give the space of [@offset, @offset + @len) (@len > 0) back; what it reads as afterwards is not said. @block_device:
 * @fd is one, else a regular file. 0 or negative errno, -EOPNOTSUPP: can't. Blocks.
 */
int blk_io_discard(const struct blk_io_ops *ops, int fd, bool block_device, uint64_t offset, uint64_t len) MUST_USE;

/* Have it read as zeros. The space is kept, unless @may_unmap. As above. */
int blk_io_zero(const struct blk_io_ops *ops, int fd, bool block_device, bool may_unmap, uint64_t offset,
		uint64_t len) MUST_USE;

#endif
