/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parser of disk requests over chains of any shape. Asserted: an accepted transfer lies inside the
 * disk, in whole sectors, in the right direction; the status byte is the last writable one; the parser
 * fetches the header once and changes nothing.
 */
#include <stdint.h>
#include <stdlib.h>

#include "tests/lib/fuzz_input.h"
#include "tests/lib/guest_ring.h"
#include "virtio/blk_req.h"
#include "virtio/virtio_spec.h"
#include "vmm/base/bytes.h"

#define MEM_SIZE MIB
#define HDR_AT UINT64_C(0x1000)
#define DATA_AT UINT64_C(0x10000)
#define STATUS_AT UINT64_C(0x2000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct gmem *mem;
static struct vq_chain chain, before;
static bool spilled; /* the header goes on in data segments, which may overlap: no statement about fetches */

static void add(uint64_t gpa, uint32_t len, bool writable)
{
	if (!gmem_contains(mem, GPA(gpa), len) || chain.n == VQ_CHAIN_MAX || (!writable && chain.n > chain.n_readable))
		return;
	chain.seg[chain.n++] = (struct vq_seg){
		.gpa = GPA(gpa), .len = len, .dev_writable = writable, .hva = len ? gmem_hva(mem, GPA(gpa), len) : NULL,
	};
	if (writable) {
		chain.writable_len += len;
	} else {
		chain.n_readable++;
		chain.readable_len += len;
	}
}

static uint32_t data_length(struct fuzz_input *in)
{
	return fuzz_rarely(in) ? fuzz_u16(in) : 512 * (1 + fuzz_below(in, 4));
}

/* Up to 20 ranges of a DISCARD or WRITE_ZEROES. */
static void add_ranges(struct fuzz_input *in)
{
	uint32_t n = fuzz_below(in, 20);
	uint64_t at = DATA_AT + fuzz_u8(in);

	for (uint32_t i = 0; i < n; i++) {
		uint8_t wire[16];

		le64_put(wire, fuzz_rarely(in) ? fuzz_u64(in) : fuzz_u8(in) / 2);
		le32_put(wire + 8, fuzz_rarely(in) ? fuzz_u32(in) : fuzz_u8(in) / 4);
		le32_put(wire + 12, fuzz_rarely(in) ? fuzz_u32(in) : fuzz_below(in, 2));
		must(gmem_write(mem, GPA(at + 16 * i), wire, sizeof(wire)) == 0);
	}
	add(at, fuzz_rarely(in) ? fuzz_u8(in) : 16 * n, false);
}

/* Header, data, status; the header may come in pieces, each part may be missing or wrong. */
static void build(struct fuzz_input *in)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID,
					  VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES };
	uint32_t type = fuzz_rarely(in) ? fuzz_u32(in) : types[fuzz_below(in, ARRAY_SIZE(types))];
	bool ranges = type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES;
	bool to_disk = type == VIRTIO_BLK_T_OUT || ranges;
	uint8_t hdr[16] = { 0 };
	uint32_t split;

	le32_put(hdr, type);
	le64_put(hdr + 8, fuzz_rarely(in) ? fuzz_u64(in) : fuzz_u8(in));
	must(gmem_write(mem, GPA(HDR_AT), hdr, sizeof(hdr)) == 0);
	memset(&chain, 0, sizeof(chain));
	chain.head = fuzz_u8(in);
	split = fuzz_rarely(in) ? fuzz_below(in, 20) : 16;
	add(HDR_AT, split, fuzz_rarely(in));
	if (split < 16)
		add(HDR_AT + split, fuzz_rarely(in) ? fuzz_below(in, 600) : 16 - split, false);
	spilled = chain.readable_len < 16;
	if (ranges)
		add_ranges(in);
	for (uint32_t i = fuzz_below(in, 4); i > 0 && (!ranges || fuzz_rarely(in)); i--)
		add(DATA_AT + fuzz_u16(in), data_length(in), fuzz_rarely(in) ? to_disk : !to_disk);
	if (!fuzz_rarely(in))
		add(STATUS_AT, fuzz_rarely(in) ? fuzz_below(in, 4) : 1, true);
}

static gpa_t last_byte(void)
{
	for (uint16_t i = chain.n; i > 0; i--) {
		if (chain.seg[i - 1].len > 0)
			return GPA(chain.seg[i - 1].gpa.v + chain.seg[i - 1].len - 1);
	}
	return GPA(0);
}

static void check_ranges(const struct blk_req *req, const struct blk_ranges *r, const struct blk_limits *limits)
{
	must(limits->discard && req->data_len == 0 && r->n <= BLK_RANGES_MAX && chain.readable_len >= 32);
	for (uint32_t i = 0; i < r->n; i++) {
		uint64_t sector = r->range[i].offset / 512, n = r->range[i].len / 512;

		must(r->range[i].offset % 512 == 0 && r->range[i].len % 512 == 0 && n > 0);
		must(n <= limits->max_range_sectors && sector <= limits->n_sectors && n <= limits->n_sectors - sector);
		must(r->range[i].may_unmap || req->op == BLK_OP_WRITE_ZEROES);
	}
	must(blk_req_within(req, r, limits));
}

static void check(const struct blk_req *req, const struct blk_ranges *ranges, const struct blk_limits *limits)
{
	must(req->head == chain.head && chain.writable_len > 0 && chain.readable_len >= 16);
	must(req->status.v == last_byte().v);
	switch (req->op) {
	case BLK_OP_READ:
		must(chain.readable_len == 16 && req->data_len == chain.writable_len - 1);
		break;
	case BLK_OP_WRITE:
		must(!limits->read_only);
		must(chain.writable_len == 1 && req->data_len == chain.readable_len - 16);
		break;
	case BLK_OP_REFUSED:
		must(limits->read_only || limits->discard);
		return;
	case BLK_OP_DISCARD:
	case BLK_OP_WRITE_ZEROES:
		check_ranges(req, ranges, limits);
		return;
	case BLK_OP_GET_ID:
		must(req->data_len == 20 && chain.writable_len >= 21);
		return;
	case BLK_OP_FLUSH:
	case BLK_OP_UNSUPPORTED:
		must(req->data_len == 0);
		return;
	}
	must(req->offset % 512 == 0 && req->data_len % 512 == 0);
	must(req->offset / 512 <= limits->n_sectors && req->data_len / 512 <= limits->n_sectors - req->offset / 512);
	must(blk_req_within(req, ranges, limits));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct blk_limits limits;
	struct blk_ranges ranges;
	struct blk_req req;

	if (!mem && gmem_create(&mem, MEM_SIZE, GMEM_PAGES_DEFAULT, NULL) < 0)
		abort();
	limits.read_only = fuzz_u8(&in) & 1;
	limits.discard = !limits.read_only && !fuzz_rarely(&in);
	limits.max_range_sectors = fuzz_rarely(&in) ? fuzz_u32(&in) : 40;
	limits.n_sectors = fuzz_rarely(&in) ? fuzz_u64(&in) : fuzz_u8(&in);
	while (!fuzz_empty(&in)) {
		enum verdict v;

		build(&in);
		before = chain;
#ifdef MAYFLY_CHECKED
		virtqueue_observe_fetch(GPA(0), 0, true);
#endif
		(void)guest_fetched_twice();
		v = blk_req_parse(&chain, &limits, &req, &ranges);
		must(v == VERDICT_OK || v == VERDICT_REQ_ERROR);
		must(memcmp(&before, &chain, sizeof(chain)) == 0 && (guest_fetched_twice() == 0 || spilled));
		if (v == VERDICT_OK)
			check(&req, &ranges, &limits);
	}
	return 0;
}
