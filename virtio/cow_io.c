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
 * Write the next @len bytes of @x, whose blocks are all clear: what surrounds them in their first and last
 * block, themselves, then their bits (C1). Killed or failed before that, nothing has changed.
 */
static enum blk_io_result write_new(const struct blk_io_ops *ops, struct cow *cow, struct blk_xfer *x, uint64_t len)
{
	uint64_t from = x->offset, to = x->offset + len;
	uint64_t first = from / COW_BLOCK;
	uint64_t n = (to - 1) / COW_BLOCK - first + 1;
	uint64_t left = x->left - len;
	enum blk_io_result r;
	int rc = copy_up(ops, cow, block_start(from), from);

	if (rc == 0)
		rc = copy_up(ops, cow, to, block_end(cow, to));
	if (rc < 0) {
		x->error = rc == -ENODATA ? 0 : -rc;
		return BLK_IO_FAILED;
	}
	r = run_in(ops, cow->delta_fd, x, cow->layout.data_at, len, 0);
	if (r == BLK_IO_FAILED)
		return r;
	must(x->left == left);
	rc = cow_map_set(ops, cow, first, n);
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

enum blk_io_result cow_run(const struct blk_io_ops *ops, struct cow *cow, struct blk_xfer *x, uint64_t max_bytes, int flags)
{
	bool begun = false;

	while (x->left > 0 && max_bytes > 0) {
		uint64_t want = x->left < max_bytes ? x->left : max_bytes;
		uint64_t before = x->left;
		struct cow_extent at;
		enum blk_io_result r;

		if (x->is_write) {
			uint64_t whole = whole_blocks(x->offset, x->left, max_bytes);

			if (whole == 0 && begun)
				break; /* the next slice goes farther */
			want = whole ? whole : want;
		}
		cow_find(cow, x->offset, want, &at);
		if (x->is_write && at.where == COW_IN_BASE) {
			must(!cow->read_only && flags == 0);
			r = write_new(ops, cow, x, at.len);
		} else {
			bool in_memory = at.where == COW_IN_BASE ? cow->base_in_memory : cow->delta_in_memory;

			r = run_in(ops, at.fd, x, at.offset - x->offset, at.len, in_memory ? flags & ~RWF_NOWAIT : flags);
		}
		if (r == BLK_IO_FAILED || r == BLK_IO_WOULD_BLOCK)
			return r;
		max_bytes -= before - x->left;
		begun = true;
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
