/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request is: 16 bytes of header, dev_readable; data; 1 byte of status, the last dev_writable one.
 * Descriptor boundaries mean nothing (virtio 1.2, 2.7.4.1), except that CONTRACT.md section 9 asks for
 * three descriptors (two for FLUSH): a request that has no data needs an empty data descriptor.
 */
#include "virtio/blk_req.h"

#include <endian.h>

#include "virtio/chain.h"
#include "virtio/virtio_spec.h"
#include "vmm/base/checked.h"

#define STATUS_LEN 1
#define MIN_DESCRIPTORS 3

/* Address of the last dev_writable byte. There is one. */
static gpa_t last_writable_byte(const struct vq_chain *chain)
{
	for (uint16_t i = chain->n; i > chain->n_readable; i--) {
		const struct vq_seg *seg = &chain->seg[i - 1];

		if (seg->len > 0)
			return GPA(seg->gpa.v + seg->len - 1);
	}
	must(false);
}

static bool range_ok(uint64_t sector, uint64_t len, uint64_t n_sectors)
{
	return len % VIRTIO_BLK_SECTOR_SIZE == 0 && range_within(sector, len >> VIRTIO_BLK_SECTOR_SHIFT, n_sectors);
}

/* READ and WRITE: @len bytes from @sector on, 5.2.6.1 and 5.2.6.2. */
static enum verdict parse_transfer(uint64_t sector, uint64_t len, const struct blk_limits *limits, struct blk_req *out)
{
	uint64_t offset;

	/* A multiple of 512 bytes, and inside the disk. */
	if (!range_ok(sector, len, limits->n_sectors))
		return VERDICT_REQ_ERROR;
	/* A capacity comes from a file size, so this fits; proven here, not there. */
	if (!checked_mul_u64(sector, VIRTIO_BLK_SECTOR_SIZE, &offset))
		return VERDICT_REQ_ERROR;
	out->offset = offset;
	out->data_len = len;
	return VERDICT_OK;
}

/*
 * The ranges of DISCARD and WRITE_ZEROES, 5.2.6.1 and 5.2.6.2, from what @reader has left. Returns @op when all are in
 * order, BLK_OP_UNSUPPORTED for flags that are not defined (for DISCARD: all), else BLK_OP_REFUSED.
 */
static COLD enum blk_op parse_ranges(enum blk_op op, struct chain_cursor *reader,
				const struct blk_limits *limits, struct blk_ranges *out)
{
	const uint32_t known = op == BLK_OP_DISCARD ? 0 : VIRTIO_BLK_RANGE_F_UNMAP;
	struct blk_range range[BLK_RANGES_MAX];
	struct virtio_blk_range_wire wire;
	uint32_t n = 0;

	if (reader->left == 0 || reader->left % sizeof(wire) != 0 || reader->left / sizeof(wire) > BLK_RANGES_MAX)
		return BLK_OP_REFUSED;
	while (chain_read(reader, &wire, sizeof(wire))) {
		uint64_t sector = le64toh(wire.sector);
		uint32_t n_sectors = le32toh(wire.num_sectors), flags = le32toh(wire.flags);

		if (flags & ~known)
			return BLK_OP_UNSUPPORTED;
		if (n_sectors > limits->max_range_sectors || !range_within(sector, n_sectors, limits->n_sectors))
			return BLK_OP_REFUSED;
		if (n_sectors == 0)
			continue;
		/* No overflow: the end of the disk is a file size. */
		range[n++] = (struct blk_range){
			.offset = sector << VIRTIO_BLK_SECTOR_SHIFT,
			.len = (uint64_t)n_sectors << VIRTIO_BLK_SECTOR_SHIFT,
			.may_unmap = op == BLK_OP_DISCARD || flags != 0,
		};
	}
	out->n = n;
	for (uint32_t i = 0; i < n; i++)
		out->range[i] = range[i];
	return op;
}

enum verdict blk_req_parse(const struct vq_chain *chain, const struct blk_limits *limits,
			   struct blk_req *out, struct blk_ranges *ranges)
{
	struct virtio_blk_req_wire hdr;
	struct chain_cursor reader;
	uint64_t data_out, data_in;
	struct blk_req req = { .head = chain->head };
	enum verdict v = VERDICT_OK;

	/* 5.2.6: a whole header, dev_readable. */
	chain_reader_init(&reader, chain);
	if (!chain_read(&reader, &hdr, sizeof(hdr)))
		return VERDICT_REQ_ERROR;
	/* 5.2.6: a status byte, dev_writable. */
	if (chain->writable_len < STATUS_LEN)
		return VERDICT_REQ_ERROR;
	data_out = reader.left;
	data_in = chain->writable_len - STATUS_LEN;
	req.status = last_writable_byte(chain);

	switch (le32toh(hdr.type)) {
	case VIRTIO_BLK_T_FLUSH:
		req.op = BLK_OP_FLUSH;
		*out = req;
		return VERDICT_OK;
	case VIRTIO_BLK_T_IN:
		req.op = BLK_OP_READ;
		/* Data in the wrong direction. */
		if (data_out != 0)
			return VERDICT_REQ_ERROR;
		v = parse_transfer(le64toh(hdr.sector), data_in, limits, &req);
		break;
	case VIRTIO_BLK_T_OUT:
		req.op = limits->read_only ? BLK_OP_REFUSED : BLK_OP_WRITE;
		if (data_in != 0)
			return VERDICT_REQ_ERROR;
		v = parse_transfer(le64toh(hdr.sector), data_out, limits, &req);
		break;
	case VIRTIO_BLK_T_GET_ID:
		req.op = BLK_OP_GET_ID;
		/* 5.2.6: 20 bytes; more are left alone. */
		if (data_out != 0 || data_in < VIRTIO_BLK_ID_BYTES)
			return VERDICT_REQ_ERROR;
		req.data_len = VIRTIO_BLK_ID_BYTES;
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		if (!limits->discard) {
			req.op = BLK_OP_UNSUPPORTED;
			break;
		}
		req.op = le32toh(hdr.type) == VIRTIO_BLK_T_DISCARD ? BLK_OP_DISCARD : BLK_OP_WRITE_ZEROES;
		if (data_in != 0)
			return VERDICT_REQ_ERROR;
		req.op = parse_ranges(req.op, &reader, limits, ranges);
		break;
	default:
		req.op = BLK_OP_UNSUPPORTED;
		break;
	}
	/* A chain too short to have had a data descriptor. */
	if (data_out == 0 && data_in == 0 && chain->n < MIN_DESCRIPTORS)
		return VERDICT_REQ_ERROR;
	if (v == VERDICT_OK)
		*out = req;
	return v;
}

bool blk_req_within(const struct blk_req *req, const struct blk_ranges *ranges, const struct blk_limits *limits)
{
	bool ok = true;

	switch (req->op) {
	case BLK_OP_READ:
	case BLK_OP_WRITE:
		return range_ok(req->offset >> VIRTIO_BLK_SECTOR_SHIFT, req->data_len, limits->n_sectors);
	case BLK_OP_DISCARD:
	case BLK_OP_WRITE_ZEROES:
		for (uint32_t i = 0; i < ranges->n; i++)
			ok = ok && range_ok(ranges->range[i].offset >> VIRTIO_BLK_SECTOR_SHIFT, ranges->range[i].len,
					    limits->n_sectors);
		return ok;
	case BLK_OP_FLUSH:
	case BLK_OP_GET_ID:
	case BLK_OP_UNSUPPORTED:
	case BLK_OP_REFUSED:
		break;
	}
	return true;
}
