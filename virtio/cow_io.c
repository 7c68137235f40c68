/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads, writes and zeros of a copy-on-write disk. Invariants C1 to C3 stand in cow_impl.h.
 */
#include "virtio/cow_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "vmm/base/sys.h"

/* Elements of one write of zeros: 1 MiB. */
#define ZERO_IOV_MAX 256

static bool is_set(const struct cow *cow, uint64_t block)
{
	bool set;

	(void)cow_map_run(cow, block, 1, &set);
	return set;
}

/* Transfer at most @max_bytes bytes of @x in one of the files, where they lie @shift bytes behind their place on the disk. */
static enum blk_io_result run_in(const struct blk_io_ops *ops, int fd, struct blk_xfer *x, uint64_t shift, uint64_t max_bytes,
				 int flags)
{
	enum blk_io_result r;

	x->offset += shift;
	r = blk_io_run(ops, fd, x, max_bytes, flags);
	x->offset -= shift;
	return r;
}

/* --- Copying up --- */

/* Copy the bytes [@from, @to) of the base, of one block, to their place in the delta. 0 or negative errno. */
static int copy_up(const struct blk_io_ops *ops, struct cow *cow, uint64_t from, uint64_t to)
{
	int rc;

	must(from <= to && to - from < COW_BLOCK);
	if (from == to)
		return 0;
	rc = cow_pread(ops, cow->base_fd, cow->block, to - from, from);
	return rc < 0 ? rc : cow_pwrite(ops, cow->delta_fd, cow->block, to - from, cow->layout.data_at + from);
}

static uint64_t block_start(uint64_t offset)
{
	return offset - offset % COW_BLOCK;
}

/* The end of the block that byte @offset - 1 is in, or of the disk. */
static uint64_t block_end(const struct cow *cow, uint64_t offset)
{
	uint64_t end = block_start(offset + COW_BLOCK - 1);

	return end < cow->layout.size ? end : cow->layout.size;
}

/*
 * Write the next @len bytes of @x, which is one call whatever the map says of their blocks: first what surrounds
 * them in their first and last block, if those are new, then themselves, then the bits (C1). Killed or failed before
 * that, new blocks have not changed.
 */
static enum blk_io_result write_slice(const struct blk_io_ops *ops, struct cow *cow, struct blk_xfer *x, uint64_t len)
{
	uint64_t from = x->offset, to = x->offset + len;
	uint64_t first = from / COW_BLOCK;
	uint64_t last = (to - 1) / COW_BLOCK;
	enum blk_io_result r;
	int rc = 0;

	must(!cow->read_only);
	if (from % COW_BLOCK != 0 && !is_set(cow, first))
		rc = copy_up(ops, cow, block_start(from), from);
	if (rc == 0 && to % COW_BLOCK != 0 && !is_set(cow, last))
		rc = copy_up(ops, cow, to, block_end(cow, to));
	if (rc < 0) {
		x->error = rc == -ENODATA ? 0 : -rc;
		return BLK_IO_FAILED;
	}
	r = run_in(ops, cow->delta_fd, x, cow->layout.data_at, len, 0);
	if (r == BLK_IO_FAILED)
		return r;
	rc = cow_map_set(ops, cow, first, last - first + 1);
	if (rc < 0) {
		x->error = -rc;
		return BLK_IO_FAILED;
	}
	return r;
}

/*
 * How much of a write of @left bytes at @offset to do with a budget of @max_bytes: whole blocks if it goes on
 * behind them, so that no byte is copied up only to be overwritten by the next slice. 0: not even one.
 */
static uint64_t whole_blocks(uint64_t offset, uint64_t left, uint64_t max_bytes)
{
	uint64_t end = block_start(offset + max_bytes);

	if (left <= max_bytes)
		return left;
	return end > offset ? end - offset : 0;
}

/* --- Transfers --- */

static enum blk_io_result run_write(const struct blk_io_ops *ops, struct cow *cow, struct blk_xfer *x, uint64_t max_bytes)
{
	uint64_t len = whole_blocks(x->offset, x->left, max_bytes);

	if (len == 0) /* a budget of less than a block: go on all the same */
		len = x->left < max_bytes ? x->left : max_bytes;
	return len == 0 ? BLK_IO_DONE : write_slice(ops, cow, x, len);
}

enum blk_io_result cow_run(const struct blk_io_ops *ops, struct cow *cow, struct blk_xfer *x, uint64_t max_bytes, int flags)
{
	if (x->is_write) {
		must(flags == 0);
		return run_write(ops, cow, x, max_bytes);
	}
	while (x->left > 0 && max_bytes > 0) {
		uint64_t before = x->left;
		struct cow_extent at;
		enum blk_io_result r;
		bool in_memory;

		cow_find(cow, x->offset, x->left < max_bytes ? x->left : max_bytes, &at);
		in_memory = at.where == COW_IN_BASE ? cow->base_in_memory : cow->delta_in_memory;
		r = run_in(ops, at.fd, x, at.offset - x->offset, at.len, in_memory ? flags & ~RWF_NOWAIT : flags);
		if (r == BLK_IO_FAILED || r == BLK_IO_WOULD_BLOCK)
			return r;
		max_bytes -= before - x->left;
	}
	return x->left == 0 ? BLK_IO_DONE : BLK_IO_MORE;
}

/* --- Zeros --- */

/* Write zeros to [@from, @to) of the delta's data area, where holes can't be punched. */
static int write_zeros(const struct blk_io_ops *ops, struct cow *cow, uint64_t from, uint64_t to)
{
	struct iovec v[ZERO_IOV_MAX];

	memset(cow->block, 0, sizeof(cow->block));
	while (from < to) {
		uint64_t len = 0;
		int n_iov = 0;
		ssize_t n;

		while (n_iov < ZERO_IOV_MAX && from + len < to) {
			uint64_t part = to - from - len < COW_BLOCK ? to - from - len : COW_BLOCK;

			v[n_iov++] = (struct iovec){ .iov_base = cow->block, .iov_len = part };
			len += part;
		}
		n = ops->pwritev2(cow->delta_fd, v, n_iov, (off_t)(cow->layout.data_at + from), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		from += (uint64_t)n;
	}
	return 0;
}

/* Have [@from, @to) of the delta's data area read as zeros; parts of blocks of the file system are zeroed by it. */
static int erase(const struct blk_io_ops *ops, struct cow *cow, uint64_t from, uint64_t to)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	off_t at = (off_t)(cow->layout.data_at + from);

	while (cow->punches) {
		if (ops->fallocate(cow->delta_fd, punch, at, (off_t)(to - from)) == 0)
			return 0;
		if (errno == EOPNOTSUPP)
			break;
		if (errno != EINTR)
			return -errno;
	}
	return write_zeros(ops, cow, from, to);
}

int cow_zero(const struct blk_io_ops *ops, struct cow *cow, uint64_t offset, uint64_t len)
{
	uint64_t from = offset, to = offset + len;
	uint64_t first, last, end;
	int rc = 0;

	must(!cow->read_only && offset <= cow->layout.size && len <= cow->layout.size - offset);
	if (len == 0)
		return 0;
	/* A last block that the disk's end cuts is whole as far as anybody can see, but for less than a sector. */
	first = from / COW_BLOCK;
	last = (to - 1) / COW_BLOCK;
	end = block_end(cow, to);
	if (!is_set(cow, first))
		rc = copy_up(ops, cow, block_start(from), from);
	if (rc == 0 && !is_set(cow, last))
		rc = copy_up(ops, cow, to, end);
	if (rc == 0)
		rc = erase(ops, cow, from, to == end ? block_start(to + COW_BLOCK - 1) : to);
	return rc < 0 ? rc : cow_map_set(ops, cow, first, last - first + 1);
}
