/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy-on-write disks: a read-only base that any number of microVMs share, and a sparse delta file of
 * one microVM that holds what it wrote.
 *
 * A map in the delta says for each block of COW_BLOCK bytes whether the delta or the base has it; the data
 * of the disk's byte N is at a fixed distance from N, so that the host's file system keeps the sizes and
 * finds the places. docs/cow-format.md has the file's format and why it survives a crash: what the guest's
 * flush has made stable is there after the host lost power, and what it has only written is there
 * after the process was killed, at any moment.
 *
 * Trust: the delta may come from anywhere and is checked whole when it is opened. The base is raw, never
 * probed. What the guest writes is data only: it can't reach the header or the map.
 *
 * Threads: the disk's lock is held for each call, except open, ref and unref: the I/O thread, before the
 * disk runs or after it stopped.
 *
 * Memory: allocated in cow_open() only, 1/32768 of the disk's size, and of that what is not zero.
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
	enum { COW_IN_BASE, COW_IN_DELTA } where;
	int fd;          /* borrowed */
	uint64_t offset; /* in fd */
	uint64_t len;    /* bytes from the asked offset on that lie together */
};

/*
 * Open or make the delta @delta_path over the open base @base_fd (taken, also on failure) of @base_size
 * bytes. A delta that another process has open is refused, and so is one that was made over another base.
 * @read_only: the delta is not written; if there is none, the base alone is the disk.
 *
 * Returns 0 and *@out (owned: one reference), or negative errno with @e. A delta that was made here and
 * could not be completed is removed again.
 */
int cow_open(int base_fd, uint64_t base_size, const char *delta_path, bool read_only, struct cow **out,
	     struct err *e) MUST_USE;

/*
 * Share @cow, and give a share back. The last one makes the map stable, if it is not (blocks then, for an
 * fdatasync), and closes the files. NULL allowed in unref.
 */
struct cow *cow_ref(struct cow *cow);
void cow_unref(struct cow *cow);

/* Bytes of the disk: those of the base. */
uint64_t cow_size(const struct cow *cow);

/*
 * The descriptors (borrowed): what they are on says which fast paths and io_uring files there are. The
 * delta's is -1 on a read-only disk without one.
 */
int cow_delta_fd(const struct cow *cow);
int cow_base_fd(const struct cow *cow);

/* Can cow_zero() give space back (the delta's file system can punch holes)? Constant. */
bool cow_can_discard(const struct cow *cow);

/*
 * Where the bytes from @offset on lie; at most @len of them (> 0, inside the disk). What is in the delta
 * stays there and may be read and written in place; what is in the base may be read. Pure.
 */
void cow_find(const struct cow *cow, uint64_t offset, uint64_t len, struct cow_extent *out);

/*
 * Go on with @x for at most @max_bytes bytes, as blk_io_run() does for a raw disk, across extents; a write
 * to a block of the base copies what it does not overwrite. With RWF_NOWAIT: reads only; files on tmpfs,
 * which knows no such flag and needs none, are read without it.
 */
enum blk_io_result cow_run(const struct blk_io_ops *ops, struct cow *cow, struct blk_xfer *x, uint64_t max_bytes,
			   int flags) MUST_USE;

/*
 * Make everything written so far stable, and the map that says so. 0 or negative errno. Blocks. After a
 * failed fdatasync every later flush fails as well: the kernel may have dropped what it could not write.
 */
int cow_flush(const struct blk_io_ops *ops, struct cow *cow) MUST_USE;

/*
 * Would cow_flush() do no more than fdatasync(cow_delta_fd())? Then an engine may do that by itself, and says
 * when it failed (@error: negative errno): every later flush fails then, as above.
 */
bool cow_flush_is_plain(const struct cow *cow);
void cow_flush_failed(struct cow *cow, int error);

/*
 * Have [@offset, @offset + @len) (multiples of 512, inside the disk) read as zeros and give its space back
 * as far as whole blocks go. 0 or negative errno. May block: two system calls and one more for each 128
 * MiB, or where holes can't be punched, as long as writing zeros takes.
 */
int cow_zero(const struct blk_io_ops *ops, struct cow *cow, uint64_t offset, uint64_t len) MUST_USE;

#endif
