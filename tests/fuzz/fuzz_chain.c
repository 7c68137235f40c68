/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split ring: chains of every shape, mostly valid, popped and pushed in any order.
 *
 * Asserted: what pop lets through is what its header promises (in RAM, in order, sums, bounds); nothing
 * is fetched twice; at most `size` chains are in flight; each is pushed once; cursors over a chain see
 * exactly its bytes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "tests/lib/fuzz_input.h"
#include "tests/lib/guest_ring.h"
#include "virtio/chain.h"
#include "virtio/virtio_spec.h"
#include "virtio/virtqueue.h"

#define MEM_SIZE (4 * MIB)
#define RING_AT UINT64_C(0x10000)
#define TABLE_AT UINT64_C(0x20000)
#define DATA_AT UINT64_C(0x100000)
#define MAX_STEPS 400

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct gmem *mem;
static struct virtqueue *vq;

/* Everything of one run. */
struct run {
	struct fuzz_input in;
	struct guest_ring ring;
	uint16_t size;
	bool aliased; /* a descriptor may point to other descriptors: the detector of double fetches means nothing then */
	uint16_t popped[VQ_SIZE_MAX];
	uint16_t n_popped;
	struct vq_chain chain;
};

static uint64_t some_address(struct run *r)
{
	if (fuzz_rarely(&r->in)) {
		r->aliased = true;
		return fuzz_u64(&r->in);
	}
	if (fuzz_rarely(&r->in))
		return MEM_SIZE - fuzz_u8(&r->in);
	return DATA_AT + fuzz_u16(&r->in);
}

static uint32_t some_length(struct run *r)
{
	return fuzz_rarely(&r->in) ? fuzz_u32(&r->in) : fuzz_u8(&r->in);
}

/* Fill table @table of @n entries with a chain of @len descriptors from @first on. */
static void fill_chain(struct run *r, uint64_t table, uint16_t n, uint16_t first, uint16_t len)
{
	uint16_t writable_from = (uint16_t)fuzz_below(&r->in, len + 1u);

	for (uint16_t i = 0; i < len; i++) {
		uint16_t at = (uint16_t)((first + i) % n);
		uint16_t flags = i + 1 < len ? VIRTQ_DESC_F_NEXT : 0;
		uint16_t next = (uint16_t)((at + 1) % n);

		if (i >= writable_from)
			flags |= VIRTQ_DESC_F_WRITE;
		if (fuzz_rarely(&r->in))
			flags = fuzz_u16(&r->in);
		if (fuzz_rarely(&r->in))
			next = fuzz_u16(&r->in);
		guest_ring_desc_at(&r->ring, table, at, some_address(r), some_length(r), flags, next);
	}
}

static void offer(struct run *r)
{
	uint16_t head = (uint16_t)(fuzz_u8(&r->in) % r->size);
	uint16_t len = (uint16_t)(1 + fuzz_below(&r->in, 4));

	if (len > r->size)
		len = r->size;
	if (fuzz_below(&r->in, 3) == 2) {
		uint16_t n = (uint16_t)(len + fuzz_below(&r->in, 4));
		uint64_t table = TABLE_AT + 16 * 64 * (uint64_t)head;
		uint32_t bytes = 16u * n;

		if (fuzz_rarely(&r->in))
			bytes = fuzz_u32(&r->in);
		if (fuzz_rarely(&r->in)) {
			table = fuzz_u64(&r->in);
			r->aliased = true;
		} else {
			fill_chain(r, table, n, 0, len);
		}
		guest_ring_desc(&r->ring, head, table, bytes, VIRTQ_DESC_F_INDIRECT, 0);
	} else {
		fill_chain(r, r->ring.geo.desc, r->size, head, len);
	}
	guest_ring_offer(&r->ring, fuzz_rarely(&r->in) ? fuzz_u16(&r->in) : head);
	if (fuzz_rarely(&r->in))
		guest_ring_set_idx(&r->ring, fuzz_u16(&r->in));
}

static void check_cursors(const struct run *r)
{
	static struct iovec iov[VQ_CHAIN_MAX];
	const struct vq_chain *chain = &r->chain;
	struct chain_cursor c;
	uint64_t sum = 0;
	uint8_t bytes[40];
	size_t n;

	chain_reader_init(&c, chain);
	must(chain_read(&c, bytes, sizeof(bytes)) == (chain->readable_len >= sizeof(bytes)));
	must(c.left == chain->readable_len - (chain->readable_len >= sizeof(bytes) ? sizeof(bytes) : 0));
	chain_writer_init(&c, chain);
	n = chain_to_iov(&c, chain->writable_len, iov);
	must(n <= VQ_CHAIN_MAX && c.left == 0);
	for (size_t i = 0; i < n; i++) {
		must(iov[i].iov_len > 0);
		sum += iov[i].iov_len;
	}
	must(sum == chain->writable_len);
	must(!chain_skip(&c, 1));
}

static void check_chain(const struct run *r)
{
	const struct vq_chain *chain = &r->chain;
	uint64_t readable = 0, writable = 0;

	must(chain->head < r->size && chain->n <= VQ_CHAIN_MAX && chain->n_readable <= chain->n);
	for (uint16_t i = 0; i < chain->n; i++) {
		const struct vq_seg *seg = &chain->seg[i];

		must(seg->dev_writable == (i >= chain->n_readable));
		must(seg->len == 0 || gmem_contains(mem, seg->gpa, seg->len));
		must(seg->len == 0 || seg->hva == gmem_hva(mem, seg->gpa, seg->len));
		if (seg->dev_writable)
			writable += seg->len;
		else
			readable += seg->len;
	}
	must(readable == chain->readable_len && writable == chain->writable_len && readable + writable <= UINT32_MAX);
	must(guest_fetched_twice() == 0 || r->aliased);
	check_cursors(r);
	(void)guest_fetched_twice(); /* the header that check_cursors() read may lie over what came before */
}

/* False: the queue is broken and the run ends. */
static bool pop(struct run *r)
{
	uint16_t before = virtqueue_in_flight(vq);
	enum verdict v = virtqueue_pop(vq, &r->chain);

	if (v == VERDICT_QUEUE_BROKEN) {
		must(r->chain.n == 0 && virtqueue_in_flight(vq) == before);
		return false;
	}
	if (v == VERDICT_OK && r->chain.n == 0)
		return true;
	if (v == VERDICT_OK)
		check_chain(r);
	(void)guest_fetched_twice();
	must(virtqueue_in_flight(vq) == before + 1 && before < r->size);
	for (uint16_t i = 0; i < r->n_popped; i++)
		must(r->popped[i] != r->chain.head);
	r->popped[r->n_popped++] = r->chain.head;
	return true;
}

static void push(struct run *r)
{
	uint32_t id, len, written = fuzz_u8(&r->in);
	uint16_t i;

	if (r->n_popped == 0)
		return;
	i = (uint16_t)(fuzz_u8(&r->in) % r->n_popped);
	virtqueue_push(vq, r->popped[i], written);
	must(guest_ring_take_used(&r->ring, &id, &len) && id == r->popped[i] && len == written);
	r->popped[i] = r->popped[--r->n_popped];
}

static void start(struct run *r)
{
	uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
	uint8_t choice = fuzz_u8(&r->in);
	struct vq_geometry geo;

	r->size = (uint16_t)(1u << (8 - choice % 9));
	if (choice & 0x80)
		features &= ~VIRTIO_F_EVENT_IDX;
	guest_ring_init(&r->ring, mem, r->size, RING_AT);
	geo = r->ring.geo;
	if (fuzz_rarely(&r->in)) {
		geo.size = fuzz_u32(&r->in);
		geo.desc += fuzz_u64(&r->in);
		geo.driver += fuzz_u64(&r->in);
		geo.device += fuzz_u64(&r->in);
		if (virtqueue_start(vq, mem, &geo, features) == VERDICT_OK) {
			must(geo.size <= VQ_SIZE_MAX && geo.size > 0);
			must(gmem_contains(mem, GPA(geo.desc), VIRTQ_DESC_BYTES(geo.size)));
			must(gmem_contains(mem, GPA(geo.device), VIRTQ_USED_BYTES(geo.size)));
			virtqueue_stop(vq);
		}
	}
	must(virtqueue_start(vq, mem, &r->ring.geo, features) == VERDICT_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct run r;
	int steps = 0;

	if (!mem && gmem_create(&mem, MEM_SIZE, GMEM_PAGES_DEFAULT, NULL) < 0)
		abort();
	if (!vq && virtqueue_create(VQ_SIZE_MAX, &vq) < 0)
		abort();
	memset(&r, 0, sizeof(r));
	r.in = (struct fuzz_input){ data, size };
	(void)guest_fetched_twice();
	start(&r);
	while (!fuzz_empty(&r.in) && steps++ < MAX_STEPS) {
		switch (fuzz_below(&r.in, 6)) {
		case 0:
		case 1:
			offer(&r);
			break;
		case 2:
			if (!pop(&r))
				goto out;
			break;
		case 3:
			push(&r);
			break;
		case 4:
			guest_ring_set_used_event(&r.ring, fuzz_u16(&r.in));
			(void)!virtqueue_needs_interrupt(vq);
			must(!virtqueue_needs_interrupt(vq));
			break;
		default:
			virtqueue_notify_off(vq);
			(void)!virtqueue_notify_on(vq);
			break;
		}
	}
out:
	virtqueue_stop(vq);
	must(virtqueue_in_flight(vq) == 0 && !virtqueue_started(vq));
	return 0;
}
