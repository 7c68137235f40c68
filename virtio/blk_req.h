/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parser of virtio-blk requests (virtio 1.2, 5.2.6; CONTRACT.md section 9). Pure: no I/O, time,
 * logging, allocation or globals. All bounds reasoning of the disk is in blk_req.c.
 *
 * Trust: the chain's shape and the header's bytes are the guest's. What comes out, a `struct blk_req`,
 * is trusted by the executor.
 *
 * Threads: none.
 */
#ifndef MAYFLY_VIRTIO_BLK_REQ_H
#define MAYFLY_VIRTIO_BLK_REQ_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/virtqueue.h"
#include "vmm/base/cdefs.h"
#include "vmm/gmem.h"

enum blk_op {
	BLK_OP_READ,
	BLK_OP_WRITE,
	BLK_OP_FLUSH,
	BLK_OP_GET_ID,
	BLK_OP_DISCARD,
	BLK_OP_WRITE_ZEROES,
	BLK_OP_UNSUPPORTED, /* answer VIRTIO_BLK_S_UNSUPP */
	BLK_OP_REFUSED,     /* answer VIRTIO_BLK_S_IOERR: a write to a read-only disk, ranges that are not on the disk */
};

/* Ranges in a DISCARD or WRITE_ZEROES, and sectors in a range, at most (so says the configuration space). */
#define BLK_RANGES_MAX 16

/* What the disk allows. */
struct blk_limits {
	uint64_t n_sectors; /* of 512 bytes */
	bool read_only;
	bool discard;               /* DISCARD and WRITE_ZEROES are offered and possible */
	uint32_t max_range_sectors; /* of DISCARD and WRITE_ZEROES */
};

/* What a DISCARD or WRITE_ZEROES is about: each range lies inside the disk, is not empty, a multiple of 512. */
struct blk_ranges {
	uint32_t n; /* may be 0: all were empty */
	struct blk_range {
		uint64_t offset, len; /* bytes */
		bool may_unmap;       /* space may be given back: DISCARD; WRITE_ZEROES if the driver says so */
	} range[BLK_RANGES_MAX];
};

/*
 * A checked request. READ and WRITE: [offset, offset + data_len) lies inside the disk and both are
 * multiples of 512.
 */
struct blk_req {
	enum blk_op op;
	uint16_t head;
	uint64_t offset;   /* bytes; READ and WRITE */
	uint64_t data_len; /* bytes between header and status: READ, GET_ID dev_writable; WRITE dev_readable; else 0 */
	gpa_t status;      /* the status byte, in RAM */
};

/*
 * Judge @chain (n > 0) and copy its header, and the ranges of DISCARD and WRITE_ZEROES, out of guest RAM: all of
 * them are checked before any is in @ranges, which other requests leave alone.
 *
 * Returns VERDICT_OK, or VERDICT_REQ_ERROR: complete the chain with 0 bytes written and no status byte
 * (CONTRACT.md section 9, which departs there from virtio 1.2 5.2.6.2).
 */
enum verdict blk_req_parse(const struct vq_chain *chain, const struct blk_limits *limits,
			   struct blk_req *out, struct blk_ranges *ranges) MUST_USE;

/* Does a request that was parsed under other limits fit into @limits? @ranges: of DISCARD and WRITE_ZEROES. */
bool blk_req_within(const struct blk_req *req, const struct blk_ranges *ranges, const struct blk_limits *limits) MUST_USE;

#endif
