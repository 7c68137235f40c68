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
	BLK_OP_UNSUPPORTED, /* answer VIRTIO_BLK_S_UNSUPP */
	BLK_OP_REFUSED,     /* answer VIRTIO_BLK_S_IOERR: a write to a read-only disk */
};

/* What the disk allows. */
struct blk_limits {
	uint64_t n_sectors; /* of 512 bytes */
	bool read_only;
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
 * Judge @chain (n > 0) and copy its header out of @mem. Returns VERDICT_OK, or VERDICT_REQ_ERROR:
 * complete the chain with 0 bytes written and no status byte (CONTRACT.md section 9, which departs
 * there from virtio 1.2 5.2.6.2).
 */
enum verdict blk_req_parse(const struct vq_chain *chain, const struct gmem *mem, const struct blk_limits *limits,
			   struct blk_req *out) MUST_USE;

/* Does a READ or WRITE that was parsed under other limits fit into @limits? Other requests do. */
bool blk_req_within(const struct blk_req *req, const struct blk_limits *limits) MUST_USE;

#endif
