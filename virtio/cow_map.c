/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block map: looking things up, setting bits, and the two copies in the file. Invariants C1 to C5 stand in
 * cow_impl.h.
 */
#include "virtio/cow_impl.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define WORD_BITS 64
#define PAGE_WORDS (COW_MAP_PAGE / sizeof(uint64_t))

/* --- Bits --- */

uint64_t cow_map_run(const struct cow *cow, uint64_t first, uint64_t max, bool *set)
{
	uint64_t in_word = first % WORD_BITS;
	uint64_t at = first - in_word; /* the block of the present word's bit 0 */
	uint64_t word, flip, differing;

	must(max > 0 && first < cow->layout.n_blocks && max <= cow->layout.n_blocks - first);
	word = le64toh(cow->map[at / WORD_BITS]);
	*set = word >> in_word & 1;
	flip = *set ? UINT64_MAX : 0;
	differing = (word ^ flip) & UINT64_MAX << in_word;
	while (differing == 0) {
		at += WORD_BITS;
		if (at - first >= max)
			return max;
		differing = le64toh(cow->map[at / WORD_BITS]) ^ flip;
	}
	at += (uint64_t)__builtin_ctzll(differing);
	return at - first < max ? at - first : max;
}

void cow_map_mark_dirty(struct cow *cow, uint64_t page)
{
	uint64_t bit = UINT64_C(1) << page % WORD_BITS;

	must(page < cow->n_pages);
	if (!(cow->dirty[page / WORD_BITS] & bit)) {
		cow->dirty[page / WORD_BITS] |= bit;
		cow->n_dirty++;
	}
}

/* The bits [@from, @to) of a word; 0 <= from < to <= 64. */
static uint64_t word_mask(uint64_t from, uint64_t to)
{
	return UINT64_MAX << from & UINT64_MAX >> (WORD_BITS - to);
}

/* Set the bits [@from, @to), which are in one page of the map. True if one of them was clear. */
static bool set_bits(struct cow *cow, uint64_t from, uint64_t to)
{
	uint64_t changed = 0;

	while (from < to) {
		uint64_t base = from - from % WORD_BITS;
		uint64_t end = to - base < WORD_BITS ? to - base : WORD_BITS;
		uint64_t mask = htole64(word_mask(from - base, end));
		uint64_t *word = &cow->map[base / WORD_BITS];

		changed |= mask & ~*word;
		*word |= mask;
		from = base + end;
	}
	return changed != 0;
}

/* The part [@first, @end) of cow_map_set() that is in one page of the map. */
static int set_in_page(const struct blk_io_ops *ops, struct cow *cow, uint64_t first, uint64_t end)
{
	uint64_t word = first / WORD_BITS;
	uint64_t n_words = (end - 1) / WORD_BITS - word + 1;
	uint64_t bytes = n_words * sizeof(uint64_t);
	int rc;

	memcpy(cow->page, &cow->map[word], bytes);
	if (!set_bits(cow, first, end))
		return 0;
	rc = cow_pwrite(ops, cow->delta_fd, &cow->map[word], bytes, cow->layout.live_at + word * sizeof(uint64_t));
	if (rc < 0) {
		/* The file may have some of the bits: they say the truth after C1, and nobody was told. */
		memcpy(&cow->map[word], cow->page, bytes);
		return rc;
	}
	cow_map_mark_dirty(cow, first / COW_MAP_PAGE_BLOCKS);
	return 0;
}

int cow_map_set(const struct blk_io_ops *ops, struct cow *cow, uint64_t first, uint64_t n)
{
	uint64_t end = first + n;
	bool set;

	must(!cow->read_only && end <= cow->layout.n_blocks);
	if (cow_map_run(cow, first, n, &set) == n && set)
		return 0;
	while (first < end) {
		uint64_t page_end = (first / COW_MAP_PAGE_BLOCKS + 1) * COW_MAP_PAGE_BLOCKS;
		uint64_t stop = end < page_end ? end : page_end;
		int rc = set_in_page(ops, cow, first, stop);

		if (rc < 0)
			return rc;
		first = stop;
	}
	return 0;
}

/* --- Stability --- */

/* fdatasync(); one that failed breaks the disk's flushes for good (cow.h). */
static int sync_delta(const struct blk_io_ops *ops, struct cow *cow)
{
	int rc = blk_io_flush(ops, cow->delta_fd);

	if (rc < 0)
		cow->broken = rc;
	return rc;
}

/* The name of a delta that was made here. */
static int sync_name(struct cow *cow)
{
	if (cow->dir_fd < 0)
		return 0;
	if (fsync(cow->dir_fd) < 0)
		return -errno;
	(void)close(cow->dir_fd);
	cow->dir_fd = -1;
	return 0;
}

static bool is_dirty(const struct cow *cow, uint64_t page)
{
	return cow->dirty[page / WORD_BITS] >> page % WORD_BITS & 1;
}

/* Write the dirty pages to the stable map, those that lie together at once. */
static int write_dirty(const struct blk_io_ops *ops, struct cow *cow)
{
	uint64_t page = 0;

	while (page < cow->n_pages) {
		uint64_t n = 0;
		int rc;

		if (page % WORD_BITS == 0 && cow->dirty[page / WORD_BITS] == 0) {
			page += WORD_BITS;
			continue;
		}
		while (page + n < cow->n_pages && is_dirty(cow, page + n))
			n++;
		if (n == 0) {
			page++;
			continue;
		}
		rc = cow_pwrite(ops, cow->delta_fd, &cow->map[page * PAGE_WORDS], n * COW_MAP_PAGE,
				COW_MAP_AT + page * COW_MAP_PAGE);
		if (rc < 0)
			return rc;
		page += n;
	}
	return 0;
}

int cow_map_persist(const struct blk_io_ops *ops, struct cow *cow, bool last)
{
	int rc;

	if (cow->broken)
		return cow->broken;
	rc = sync_delta(ops, cow);
	if (rc == 0)
		rc = sync_name(cow);
	if (rc < 0 || cow->n_dirty == 0)
		return rc;
	rc = write_dirty(ops, cow);
	if (rc == 0 && !last)
		rc = sync_delta(ops, cow);
	if (rc < 0)
		return rc;
	memset(cow->dirty, 0, (cow->n_pages + WORD_BITS - 1) / WORD_BITS * sizeof(uint64_t));
	cow->n_dirty = 0;
	return 0;
}

bool cow_flush_is_plain(const struct cow *cow)
{
	return cow->delta_fd >= 0 && cow->n_dirty == 0 && cow->dir_fd < 0 && !cow->broken;
}

void cow_flush_failed(struct cow *cow, int error)
{
	must(error < 0);
	cow->broken = error;
}

int cow_flush(const struct blk_io_ops *ops, struct cow *cow)
{
	return cow->read_only ? 0 : cow_map_persist(ops, cow, false);
}

/* --- Places --- */

void cow_find(const struct cow *cow, uint64_t offset, uint64_t len, struct cow_extent *out)
{
	uint64_t first = offset / COW_BLOCK;
	uint64_t in_block = offset % COW_BLOCK;
	uint64_t max = (in_block + len + COW_BLOCK - 1) / COW_BLOCK;
	uint64_t found;
	bool set;

	must(len > 0 && offset < cow->layout.size && len <= cow->layout.size - offset);
	found = cow_map_run(cow, first, max, &set) * COW_BLOCK - in_block;
	*out = (struct cow_extent){
		.where = set ? COW_IN_DELTA : COW_IN_BASE,
		.fd = set ? cow->delta_fd : cow->base_fd,
		.offset = set ? cow->layout.data_at + offset : offset,
		.len = found < len ? found : len,
	};
}

/* --- Whole transfers --- */

static int transfer(const struct blk_io_ops *ops, int fd, struct iovec v, uint64_t offset, bool write)
{
	while (v.iov_len > 0) {
		ssize_t n = (write ? ops->pwritev2 : ops->preadv2)(fd, &v, 1, (off_t)offset, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return write ? -ENOSPC : -ENODATA;
		v.iov_base = (uint8_t *)v.iov_base + n;
		v.iov_len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int cow_pread(const struct blk_io_ops *ops, int fd, void *buf, uint64_t len, uint64_t offset)
{
	return transfer(ops, fd, (struct iovec){ .iov_base = buf, .iov_len = len }, offset, false);
}

int cow_pwrite(const struct blk_io_ops *ops, int fd, const void *buf, uint64_t len, uint64_t offset)
{
	union {
		const void *from;
		void *base;
	} u = { .from = buf }; /* an iovec has no const */

	return transfer(ops, fd, (struct iovec){ .iov_base = u.base, .iov_len = len }, offset, true);
}
