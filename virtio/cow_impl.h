/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The insides of a copy-on-write disk, shared by cow_file.c (open, close), cow_map.c (which block is where,
 * and making that stable) and cow_io.c (reads, writes, zeros).
 *
 * Invariants (docs/cow-format.md says what follows from them):
 * (C1) A bit of the map is set only after the delta holds the whole block. What the delta has in a block
 *      whose bit is clear is never read: it may be left of a write that was lost.
 * (C2) A set bit stays set.
 * (C3) Before a write is reported as done, its bits are in the file's live map.
 * (C4) A bit gets into the file's stable map only after an fdatasync that began when the bit was set.
 * (C5) Bits behind the disk's last block are clear.
 */
#ifndef MAYFLY_VIRTIO_COW_IMPL_H
#define MAYFLY_VIRTIO_COW_IMPL_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/cow.h"
#include "virtio/cow_format.h"
#include "vmm/base/cdefs.h"

struct cow {
	uint32_t refs;
	int base_fd;            /* owned */
	int delta_fd;           /* owned, locked; -1: none */
	int dir_fd;             /* owned: the directory of a delta made here, until a flush made its name stable; -1 */
	bool read_only;
	bool punches;           /* the delta's file system can punch holes */
	bool base_in_memory;    /* on tmpfs: reads never wait */
	bool delta_in_memory;
	int broken;             /* negative errno of the fdatasync that failed; 0 */
	struct cow_layout layout;

	/*
	 * The map as in the file: bit b % 8 of byte b / 8 is block b's, so words are little-endian. An anonymous
	 * mapping of layout.map_bytes; what was never touched takes no memory.
	 */
	uint64_t *map;
	/* One bit for each page of the map that has more bits than the file's stable map. Behind the map. */
	uint64_t *dirty;
	uint64_t n_pages, n_dirty;

	uint64_t page[COW_MAP_PAGE / sizeof(uint64_t)]; /* cow_map_set(): the map's page as it was */
	uint8_t block[COW_BLOCK];                       /* cow_io.c: bytes that are copied up */
};

/* Blocks from @first on, at most @max (> 0, inside the disk), that are all set or all clear; *@set says which. Pure. */
uint64_t cow_map_run(const struct cow *cow, uint64_t first, uint64_t max, bool *set);

/*
 * Set the bits of @n blocks from @first on (C1 is the caller's), and write them to the live map (C3). 0, or
 * negative errno: then those of the map's page that failed and later ones are as they were.
 */
int cow_map_set(const struct blk_io_ops *ops, struct cow *cow, uint64_t first, uint64_t n) MUST_USE;

/* The page @page of the map has bits that the stable map lacks. */
void cow_map_mark_dirty(struct cow *cow, uint64_t page);

/*
 * Make data and map stable in the order of C4. @last: nobody waits, so that the map's own fdatasync is left
 * to the kernel. 0 or negative errno.
 */
int cow_map_persist(const struct blk_io_ops *ops, struct cow *cow, bool last) MUST_USE;

/* Read or write exactly @len bytes at @offset, over short transfers and EINTR. 0, or negative errno (-ENODATA: the file ends). */
int cow_pread(const struct blk_io_ops *ops, int fd, void *buf, uint64_t len, uint64_t offset) MUST_USE;
int cow_pwrite(const struct blk_io_ops *ops, int fd, const void *buf, uint64_t len, uint64_t offset) MUST_USE;

#endif
