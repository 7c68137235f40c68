/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/blk_io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/base/sys.h"

static int block_ioctl(int fd, unsigned long request, uint64_t range[2])
{
	/* musl's request is an int; the kernel looks at 32 bits. */
	return request == BLKDISCARD ? ioctl(fd, BLKDISCARD, range) : ioctl(fd, BLKZEROOUT, range);
}

/* One buffer, nothing special: the plain calls are a tenth cheaper. */
static ssize_t host_preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	if (n == 1 && flags == 0)
		return pread(fd, iov->iov_base, iov->iov_len, offset);
	return sys_preadv2(fd, iov, n, offset, flags);
}

static ssize_t host_pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	if (n == 1 && flags == 0)
		return pwrite(fd, iov->iov_base, iov->iov_len, offset);
	return sys_pwritev2(fd, iov, n, offset, flags);
}

const struct blk_io_ops blk_io_host = {
	.preadv2 = host_preadv2,
	.pwritev2 = host_pwritev2,
	.fdatasync = fdatasync,
	.fallocate = fallocate,
	.block_ioctl = block_ioctl,
};

/* They may end at any byte of any element (FC#5485: none is transferred twice). */
void blk_xfer_advance(struct blk_xfer *x, uint64_t n)
{
	must(n <= x->left);
	x->offset += n;
	x->done += n;
	x->left -= n;
	if (x->left == 0) {
		x->first = x->n;
		return;
	}
	while (n > 0) {
		struct iovec *v = &x->iov[x->first];

		must(x->first < x->n);
		if (n < v->iov_len) {
			v->iov_base = (uint8_t *)v->iov_base + n;
			v->iov_len -= n;
			return;
		}
		n -= v->iov_len;
		x->first++;
	}
}

size_t blk_xfer_cut(struct blk_xfer *x, uint64_t want, size_t *whole)
{
	size_t last = x->first;
	uint64_t sum = 0;

	must(want > 0 && want <= x->left);
	if (want == x->left) {
		*whole = x->iov[x->n - 1].iov_len;
		return x->n - x->first;
	}
	while (sum + x->iov[last].iov_len < want) {
		sum += x->iov[last].iov_len;
		last++;
		must(last < x->n);
	}
	*whole = x->iov[last].iov_len;
	x->iov[last].iov_len = want - sum;
	return last - x->first + 1;
}

void blk_xfer_uncut(struct blk_xfer *x, size_t n, size_t whole)
{
	x->iov[x->first + n - 1].iov_len = whole;
}

/* One system call for the next @want bytes (0 < @want <= left). */
static ssize_t xfer_call(const struct blk_io_ops *ops, int fd, struct blk_xfer *x, uint64_t want, int flags)
{
	size_t whole;
	size_t n_iov = blk_xfer_cut(x, want, &whole);
	ssize_t n = (x->is_write ? ops->pwritev2 : ops->preadv2)(fd, &x->iov[x->first], (int)n_iov, (off_t)x->offset,
								 flags);

	blk_xfer_uncut(x, n_iov, whole);
	return n;
}

enum blk_io_result blk_io_run(const struct blk_io_ops *ops, int fd, struct blk_xfer *x, uint64_t max_bytes, int flags)
{
	while (x->left > 0 && max_bytes > 0) {
		uint64_t want = x->left < max_bytes ? x->left : max_bytes;
		ssize_t n = xfer_call(ops, fd, x, want, flags);

		if (n < 0 && errno == EINTR)
			continue;
		x->error = n < 0 ? errno : 0;
		if (n < 0)
			return flags != 0 && (x->error == EAGAIN || x->error == EOPNOTSUPP) ? BLK_IO_WOULD_BLOCK :
											      BLK_IO_FAILED;
		/* Capacity said that the bytes are there: the file shrank, or the disk is full. */
		if (n == 0)
			return flags != 0 ? BLK_IO_WOULD_BLOCK : BLK_IO_FAILED;
		blk_xfer_advance(x, (uint64_t)n);
		max_bytes -= (uint64_t)n;
		if (flags != 0 && (uint64_t)n < want)
			return BLK_IO_WOULD_BLOCK;
	}
	return x->left == 0 ? BLK_IO_DONE : BLK_IO_MORE;
}

int blk_io_flush(const struct blk_io_ops *ops, int fd)
{
	for (;;) {
		if (ops->fdatasync(fd) == 0)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
}

static int range_ioctl(const struct blk_io_ops *ops, int fd, unsigned long request, uint64_t offset, uint64_t len)
{
	uint64_t range[2] = { offset, len };
	int rc;

	do {
		rc = ops->block_ioctl(fd, request, range);
	} while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

static int change_space(const struct blk_io_ops *ops, int fd, int mode, uint64_t offset, uint64_t len)
{
	int rc;

	do {
		rc = ops->fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len);
	} while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

int blk_io_discard(const struct blk_io_ops *ops, int fd, bool block_device, uint64_t offset, uint64_t len)
{
	if (block_device)
		return range_ioctl(ops, fd, BLKDISCARD, offset, len);
	return change_space(ops, fd, FALLOC_FL_PUNCH_HOLE, offset, len);
}

int blk_io_zero(const struct blk_io_ops *ops, int fd, bool block_device, bool may_unmap, uint64_t offset, uint64_t len)
{
	int rc;

	if (block_device)
		return range_ioctl(ops, fd, BLKZEROOUT, offset, len);
	if (may_unmap)
		return change_space(ops, fd, FALLOC_FL_PUNCH_HOLE, offset, len);
	rc = change_space(ops, fd, FALLOC_FL_ZERO_RANGE, offset, len);
	if (rc != -EOPNOTSUPP)
		return rc;
	/* tmpfs has no such call: give the space back and take it again. */
	rc = change_space(ops, fd, FALLOC_FL_PUNCH_HOLE, offset, len);
	return rc < 0 ? rc : change_space(ops, fd, 0, offset, len);
}
