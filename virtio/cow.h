/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy-on-write disks: a read-only base that any number of microVMs share, and a sparse delta file of
 * one microVM that holds what it wrote.
 *
 * Data lies in the delta at the offset that it has on the disk, so that the host's file system keeps the
 * sizes and finds the places; a map behind it says for each block of COW_BLOCK bytes whether the delta
 * or the base has it. docs/cow-format.md has the file's format and why it survives a crash:
 * what a flush has made stable is there after the process is killed or the host loses power, at any
 * moment.
 *
 * Trust: the delta may come from anywhere and is checked whole when it is opened. The base is raw, never
 * probed. What the guest writes is data only: it can't reach the header or the map.
 *
 * Threads: the disk's lock is held for each call, except open, ref and unref: the I/O thread, before the
 * disk runs or after it stopped.
 */
#ifndef MAYFLY_VIRTIO_COW_H
#define MAYFLY_VIRTIO_COW_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/blk_io.h"
#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"

#define COW_BLOCK 4096

struct cow;

/* Where a stretch of a disk lies now. */
struct cow_extent {
	enum { COW_IN_BASE, COW_IN_DELTA, COW_ZERO } where; /* COW_ZERO: behind the end of the base; there is no file */
	int fd;          /* borrowed; -1 with COW_ZERO */
	uint64_t offset; /* in fd */
	uint64_t len;    /* bytes from the asked offset on that lie together */
};

/*
 * Open or make the delta @delta_path over the open base @base_fd (taken, also on failure) of @base_size
 * bytes. A delta that another process has open is refused, and so is one that was made over another base.
 *
 * Returns 0 and *@out (owned: one reference), or negative errno with @e. A delta that was made here and
 * could not be completed is removed again.
 */
int cow_open(int base_fd, uint64_t base_size, const char *delta_path, struct cow **out, struct err *e) MUST_USE;

/* Share @cow, and give a share back; the last one closes the files (without a flush). NULL allowed in unref. */
struct cow *cow_ref(struct cow *cow);
void cow_unref(struct cow *cow);

/* Bytes of the disk: those of the base. */
uint64_t cow_size(const struct cow *cow);

/* The delta's descriptor (borrowed): what it is on says which fast paths and io_uring files there are. */
int cow_delta_fd(const struct cow *cow);
int cow_base_fd(const struct cow *cow);

/* Where the bytes from @offset on lie; at most @len of them. Pure. */
void cow_find(const struct cow *cow, uint64_t offset, uint64_t len, struct cow_extent *out);

/*
 * Go on with @x for at most @max_bytes bytes, as blk_io_run() does for a raw disk, across extents; a write
 * to a block of the base copies what it does not overwrite. With RWF_NOWAIT: reads only.
 */
enum blk_io_result cow_run(const struct blk_io_ops *ops, struct cow *cow, struct blk_xfer *x, uint64_t max_bytes,
			   int flags) MUST_USE;

/* Make everything written so far stable, and the map that says so. 0 or negative errno. Blocks. */
int cow_flush(const struct blk_io_ops *ops, struct cow *cow) MUST_USE;

/*
 * Have [@offset, @offset + @len) (multiples of 512) read as zeros and give its space back as far as whole
 * blocks go. 0 or negative errno. May block.
 */
int cow_zero(const struct blk_io_ops *ops, struct cow *cow, uint64_t offset, uint64_t len) MUST_USE;

#endif
