/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split ring: geometry, every rule of a chain with the verdict of its breach, suppression both ways,
 * wrap-around.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/guest_ring.h"
#include "virtio/virtio_spec.h"
#include "virtio/virtqueue.h"

#define MEM_SIZE (2 * MIB)
#define RING_AT UINT64_C(0x10000)
#define DATA_AT UINT64_C(0x40000)
#define TABLE_AT UINT64_C(0x80000) /* indirect tables */
#define SIZE 16
#define ALL (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)

#define N VIRTQ_DESC_F_NEXT
#define W VIRTQ_DESC_F_WRITE
#define I VIRTQ_DESC_F_INDIRECT

struct fixture {
	struct gmem *mem;
	struct virtqueue *vq;
	struct guest_ring ring;
	struct vq_chain chain;
};

static void setup_features(struct fixture *f, uint64_t features)
{
	memset(f, 0, sizeof(*f));
	assert_int_equal(gmem_create(&f->mem, MEM_SIZE, GMEM_PAGES_DEFAULT, NULL), 0);
	assert_int_equal(virtqueue_create(VQ_SIZE_MAX, &f->vq), 0);
	guest_ring_init(&f->ring, f->mem, SIZE, RING_AT);
	assert_int_equal(virtqueue_start(f->vq, f->mem, &f->ring.geo, features), VERDICT_OK);
	(void)guest_fetched_twice();
}

static int setup(void **state)
{
	static struct fixture f;

	setup_features(&f, ALL);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	virtqueue_destroy(f->vq);
	gmem_destroy(f->mem);
	return 0;
}

/* Restart the fixture's queue with other features. */
static void restart(struct fixture *f, uint64_t features)
{
	virtqueue_stop(f->vq);
	guest_ring_init(&f->ring, f->mem, SIZE, RING_AT);
	assert_int_equal(virtqueue_start(f->vq, f->mem, &f->ring.geo, features), VERDICT_OK);
}

static enum verdict pop(struct fixture *f)
{
	return virtqueue_pop(f->vq, &f->chain);
}

static void expect_broken(struct fixture *f)
{
	assert_int_equal(pop(f), VERDICT_QUEUE_BROKEN);
	assert_int_equal(f->chain.n, 0);
	assert_int_equal(virtqueue_in_flight(f->vq), 0);
}

/* --- Geometry --- */

static enum verdict start_with(struct fixture *f, struct vq_geometry geo)
{
	enum verdict v;

	virtqueue_stop(f->vq);
	v = virtqueue_start(f->vq, f->mem, &geo, ALL);
	assert_int_equal(virtqueue_started(f->vq), v == VERDICT_OK);
	return v;
}

static void geometry_sizes(void **state)
{
	struct fixture *f = *state;
	struct vq_geometry geo = f->ring.geo;
	static const uint32_t bad[] = { 0, 3, 255, 257, 512, 32768, 65536, 0x80000000, UINT32_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		geo.size = bad[i];
		assert_int_equal(start_with(f, geo), VERDICT_QUEUE_BROKEN);
	}
	for (uint32_t size = 1; size <= VQ_SIZE_MAX; size *= 2) {
		geo.size = size;
		geo.driver = 0x20000;
		geo.device = 0x30000;
		assert_int_equal(start_with(f, geo), VERDICT_OK);
	}
}

static void geometry_alignment(void **state)
{
	struct fixture *f = *state;
	struct vq_geometry geo = f->ring.geo;

	geo.desc += 8;
	assert_int_equal(start_with(f, geo), VERDICT_QUEUE_BROKEN);
	geo = f->ring.geo;
	geo.driver += 1;
	assert_int_equal(start_with(f, geo), VERDICT_QUEUE_BROKEN);
	geo = f->ring.geo;
	geo.device += 2;
	assert_int_equal(start_with(f, geo), VERDICT_QUEUE_BROKEN);
}

/* Each part must lie whole in RAM: the last byte inside is accepted, one more is not, a wrap is not. */
static void geometry_range(void **state)
{
	struct fixture *f = *state;
	struct vq_geometry geo = f->ring.geo;

	geo.desc = MEM_SIZE - VIRTQ_DESC_BYTES(SIZE);
	assert_int_equal(start_with(f, geo), VERDICT_OK);
	geo.desc += 16;
	assert_int_equal(start_with(f, geo), VERDICT_QUEUE_BROKEN);
	geo.desc = UINT64_MAX - 15;
	assert_int_equal(start_with(f, geo), VERDICT_QUEUE_BROKEN);
	geo = f->ring.geo;
	geo.driver = MEM_SIZE - VIRTQ_AVAIL_BYTES(SIZE);
	assert_int_equal(start_with(f, geo), VERDICT_OK);
	geo.driver += 2;
	assert_int_equal(start_with(f, geo), VERDICT_QUEUE_BROKEN);
	geo.driver = UINT64_MAX - 1;
	assert_int_equal(start_with(f, geo), VERDICT_QUEUE_BROKEN);
	geo = f->ring.geo;
	geo.device = (MEM_SIZE - VIRTQ_USED_BYTES(SIZE)) & ~UINT64_C(3);
	assert_int_equal(start_with(f, geo), VERDICT_OK);
	geo.device += 4;
	assert_int_equal(start_with(f, geo), VERDICT_QUEUE_BROKEN);
	geo.device = UINT64_C(0xd0000000);
	assert_int_equal(start_with(f, geo), VERDICT_QUEUE_BROKEN);
}

/* --- Chains that are right --- */

static void empty_ring(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(pop(f), VERDICT_OK);
	assert_int_equal(f->chain.n, 0);
}

static void stopped_queue_is_empty(void **state)
{
	struct fixture *f = *state;
	uint16_t n = 7;

	guest_ring_desc(&f->ring, 0, DATA_AT, 16, 0, 0);
	guest_ring_offer(&f->ring, 0);
	virtqueue_stop(f->vq);
	assert_int_equal(pop(f), VERDICT_OK);
	assert_int_equal(f->chain.n, 0);
	assert_int_equal(virtqueue_available(f->vq, &n), VERDICT_OK);
	assert_int_equal(n, 0);
	assert_false(virtqueue_notify_on(f->vq));
	assert_false(virtqueue_needs_interrupt(f->vq));
}

static void direct_chain(void **state)
{
	struct fixture *f = *state;
	uint32_t id, len;

	guest_ring_desc(&f->ring, 3, DATA_AT, 16, N, 7);
	guest_ring_desc(&f->ring, 7, DATA_AT + 0x1000, 512, N | W, 1);
	guest_ring_desc(&f->ring, 1, DATA_AT + 0x2000, 1, W, 999);
	guest_ring_offer(&f->ring, 3);
	assert_int_equal(pop(f), VERDICT_OK);
	assert_int_equal(f->chain.head, 3);
	assert_int_equal(f->chain.n, 3);
	assert_int_equal(f->chain.n_readable, 1);
	assert_int_equal(f->chain.readable_len, 16);
	assert_int_equal(f->chain.writable_len, 513);
	assert_ptr_equal(f->chain.seg[1].hva, gmem_hva(f->mem, GPA(DATA_AT + 0x1000), 512));
	assert_int_equal(guest_fetched_twice(), 0);
	assert_int_equal(virtqueue_in_flight(f->vq), 1);

	assert_false(guest_ring_take_used(&f->ring, &id, &len));
	virtqueue_push(f->vq, 3, 513);
	assert_true(guest_ring_take_used(&f->ring, &id, &len));
	assert_int_equal(id, 3);
	assert_int_equal(len, 513);
	assert_int_equal(virtqueue_in_flight(f->vq), 0);
}

static void zero_length_descriptors(void **state)
{
	struct fixture *f = *state;

	/* CVE-2023-5158: an empty descriptor, here outside RAM, is allowed. */
	guest_ring_desc(&f->ring, 0, DATA_AT, 16, N, 1);
	guest_ring_desc(&f->ring, 1, UINT64_MAX, 0, N | W, 2);
	guest_ring_desc(&f->ring, 2, DATA_AT, 1, W, 0);
	guest_ring_offer(&f->ring, 0);
	assert_int_equal(pop(f), VERDICT_OK);
	assert_int_equal(f->chain.n, 3);
	assert_null(f->chain.seg[1].hva);
	assert_int_equal(f->chain.writable_len, 1);
}

static void chain_as_long_as_the_queue(void **state)
{
	struct fixture *f = *state;

	for (uint16_t i = 0; i < SIZE; i++)
		guest_ring_desc(&f->ring, i, DATA_AT, 4, i < SIZE - 1 ? N : 0, (uint16_t)(i + 1));
	guest_ring_offer(&f->ring, 0);
	assert_int_equal(pop(f), VERDICT_OK);
	assert_int_equal(f->chain.n, SIZE);
}

static void indirect_chain(void **state)
{
	struct fixture *f = *state;

	/*
	 * 2.7.5.3.2: direct ones first, then an indirect one, whose WRITE flag means nothing; table
	 * unaligned.
	 */
	guest_ring_desc(&f->ring, 0, DATA_AT, 8, N, 1);
	guest_ring_desc(&f->ring, 1, TABLE_AT + 1, 3 * 16, I | W, 0);
	guest_ring_desc_at(&f->ring, TABLE_AT + 1, 0, DATA_AT + 8, 8, N, 2);
	guest_ring_desc_at(&f->ring, TABLE_AT + 1, 2, DATA_AT + 0x100, 512, N | W, 1);
	guest_ring_desc_at(&f->ring, TABLE_AT + 1, 1, DATA_AT + 0x1000, 1, W, 0);
	guest_ring_offer(&f->ring, 0);
	assert_int_equal(pop(f), VERDICT_OK);
	assert_int_equal(f->chain.n, 4);
	assert_int_equal(f->chain.n_readable, 2);
	assert_int_equal(f->chain.readable_len, 16);
	assert_int_equal(f->chain.writable_len, 513);
	assert_int_equal(guest_fetched_twice(), 0);
}

static void indirect_longest(void **state)
{
	struct fixture *f = *state;

	/*
	 * A queue of 16, and 256 descriptors in the table: more than the queue, as drivers with seg_max
	 * do.
	 */
	for (uint16_t i = 0; i < VQ_CHAIN_MAX; i++)
		guest_ring_desc_at(&f->ring, TABLE_AT, i, DATA_AT, 1, i < VQ_CHAIN_MAX - 1 ? N : 0, (uint16_t)(i + 1));
	guest_ring_desc(&f->ring, 0, TABLE_AT, VQ_CHAIN_MAX * 16, I, 0);
	guest_ring_offer(&f->ring, 0);
	assert_int_equal(pop(f), VERDICT_OK);
	assert_int_equal(f->chain.n, VQ_CHAIN_MAX);
}

/* --- Chains that break the queue --- */

static void head_out_of_range(void **state)
{
	struct fixture *f = *state;

	guest_ring_offer(&f->ring, SIZE);
	expect_broken(f);
}

static void next_out_of_range(void **state)
{
	struct fixture *f = *state;

	guest_ring_desc(&f->ring, 0, DATA_AT, 4, N, SIZE);
	guest_ring_offer(&f->ring, 0);
	expect_broken(f);
}

static void loop_of_one_and_two(void **state)
{
	struct fixture *f = *state;

	guest_ring_desc(&f->ring, 0, DATA_AT, 0, N, 0);
	guest_ring_offer(&f->ring, 0);
	expect_broken(f);
	guest_ring_desc(&f->ring, 0, DATA_AT, 4, N, 1);
	guest_ring_desc(&f->ring, 1, DATA_AT, 4, N, 0);
	expect_broken(f);
}

static void range_outside_ram(void **state)
{
	struct fixture *f = *state;
	static const struct {
		uint64_t addr;
		uint32_t len;
	} bad[] = {
		{ MEM_SIZE, 1 }, { MEM_SIZE - 4, 5 }, { UINT64_MAX, 1 }, { UINT64_MAX, 2 }, { UINT64_MAX - 3, 16 },
		{ UINT64_C(0xc0001000), 4 }, { DATA_AT, UINT32_MAX }, { UINT64_C(1) << 63, 16 },
	};

	guest_ring_offer(&f->ring, 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		guest_ring_desc(&f->ring, 0, bad[i].addr, bad[i].len, 0, 0);
		expect_broken(f);
	}
	/* The last byte is still RAM. */
	guest_ring_desc(&f->ring, 0, MEM_SIZE - 4, 4, 0, 0);
	assert_int_equal(pop(f), VERDICT_OK);
	assert_int_equal(f->chain.n, 1);
}

/* RAM around the 32-bit gap is two regions: no segment may span them (CVE-2019-18960). */
static void range_across_the_gap(void **state)
{
	struct fixture *f = *state;
	struct gmem *big;

	assert_int_equal(gmem_create(&big, 4 * GIB, GMEM_PAGES_DEFAULT, NULL), 0);
	virtqueue_stop(f->vq);
	guest_ring_init(&f->ring, big, SIZE, RING_AT);
	assert_int_equal(virtqueue_start(f->vq, big, &f->ring.geo, ALL), VERDICT_OK);
	guest_ring_offer(&f->ring, 0);
	guest_ring_desc(&f->ring, 0, UINT64_C(0xbffffff0), 32, 0, 0);
	expect_broken(f);
	guest_ring_desc(&f->ring, 0, UINT64_C(0xfffffff0), 32, 0, 0);
	expect_broken(f);
	guest_ring_desc(&f->ring, 0, UINT64_C(0xbffffff0), 16, N, 1);
	guest_ring_desc(&f->ring, 1, UINT64_C(0x100000000), 16, 0, 0);
	assert_int_equal(pop(f), VERDICT_OK);
	assert_int_equal(f->chain.n, 2);
	virtqueue_stop(f->vq);
	gmem_destroy(big);
}

static void sum_of_lengths(void **state)
{
	struct fixture *f = *state;
	struct gmem *big;

	assert_int_equal(gmem_create(&big, 3 * GIB, GMEM_PAGES_DEFAULT, NULL), 0);
	virtqueue_stop(f->vq);
	guest_ring_init(&f->ring, big, SIZE, RING_AT);
	assert_int_equal(virtqueue_start(f->vq, big, &f->ring.geo, ALL), VERDICT_OK);
	guest_ring_offer(&f->ring, 0);
	/* 2^32 - 1 in all is the most that used.len can say. */
	guest_ring_desc(&f->ring, 0, 0, 0x80000000, N | W, 1);
	guest_ring_desc(&f->ring, 1, 0, 0x80000000, W, 0);
	expect_broken(f);
	guest_ring_desc(&f->ring, 1, 0, 0x7fffffff, W, 0);
	assert_int_equal(pop(f), VERDICT_OK);
	assert_int_equal(f->chain.writable_len, UINT32_MAX);
	virtqueue_stop(f->vq);
	gmem_destroy(big);
}

static void avail_idx_jumps(void **state)
{
	struct fixture *f = *state;
	uint16_t n;

	guest_ring_desc(&f->ring, 0, DATA_AT, 4, 0, 0);
	guest_ring_set_idx(&f->ring, SIZE + 1);
	assert_int_equal(virtqueue_available(f->vq, &n), VERDICT_QUEUE_BROKEN);
	expect_broken(f);
	/* Backwards. */
	guest_ring_set_idx(&f->ring, 0xffff);
	expect_broken(f);
	guest_ring_set_idx(&f->ring, SIZE);
	assert_int_equal(virtqueue_available(f->vq, &n), VERDICT_OK);
	assert_int_equal(n, SIZE);
}

static void head_twice_in_flight(void **state)
{
	struct fixture *f = *state;

	guest_ring_desc(&f->ring, 2, DATA_AT, 4, 0, 0);
	guest_ring_offer(&f->ring, 2);
	guest_ring_offer(&f->ring, 2);
	assert_int_equal(pop(f), VERDICT_OK);
	assert_int_equal(pop(f), VERDICT_QUEUE_BROKEN);
	assert_int_equal(virtqueue_in_flight(f->vq), 1);
	/* Given back, it may come again. */
	virtqueue_push(f->vq, 2, 0);
	assert_int_equal(pop(f), VERDICT_OK);
	assert_int_equal(f->chain.n, 1);
}

static void indirect_breaches(void **state)
{
	struct fixture *f = *state;

	guest_ring_offer(&f->ring, 0);
	guest_ring_desc_at(&f->ring, TABLE_AT, 0, DATA_AT, 4, 0, 0);
	/* Empty, not a multiple of 16, with NEXT, outside RAM, longer than any chain. */
	guest_ring_desc(&f->ring, 0, TABLE_AT, 0, I, 0);
	expect_broken(f);
	guest_ring_desc(&f->ring, 0, TABLE_AT, 24, I, 0);
	expect_broken(f);
	guest_ring_desc(&f->ring, 0, TABLE_AT, 16, I | N, 1);
	expect_broken(f);
	guest_ring_desc(&f->ring, 0, MEM_SIZE - 16, 32, I, 0);
	expect_broken(f);
	guest_ring_desc(&f->ring, 0, 0, 0x100000, I, 0);
	expect_broken(f);
	/* Next leaves the table. */
	guest_ring_desc(&f->ring, 0, TABLE_AT, 16, I, 0);
	guest_ring_desc_at(&f->ring, TABLE_AT, 0, DATA_AT, 4, N, 1);
	expect_broken(f);
	/* A loop in the table. */
	guest_ring_desc_at(&f->ring, TABLE_AT, 0, DATA_AT, 4, N, 0);
	expect_broken(f);
	/* Indirect inside indirect. */
	guest_ring_desc_at(&f->ring, TABLE_AT, 0, TABLE_AT + 0x1000, 16, I, 0);
	expect_broken(f);
	/* A segment of the table outside RAM. */
	guest_ring_desc_at(&f->ring, TABLE_AT, 0, MEM_SIZE, 4, 0, 0);
	expect_broken(f);
}

static void indirect_too_long(void **state)
{
	struct fixture *f = *state;

	for (uint16_t i = 0; i < VQ_CHAIN_MAX + 1; i++)
		guest_ring_desc_at(&f->ring, TABLE_AT, i, DATA_AT, 1, i < VQ_CHAIN_MAX ? N : 0, (uint16_t)(i + 1));
	guest_ring_desc(&f->ring, 0, TABLE_AT, (VQ_CHAIN_MAX + 1) * 16, I, 0);
	guest_ring_offer(&f->ring, 0);
	expect_broken(f);
}

static void indirect_not_negotiated(void **state)
{
	struct fixture *f = *state;

	restart(f, VIRTIO_F_VERSION_1);
	guest_ring_desc(&f->ring, 0, TABLE_AT, 16, I, 0);
	guest_ring_desc_at(&f->ring, TABLE_AT, 0, DATA_AT, 4, 0, 0);
	guest_ring_offer(&f->ring, 0);
	expect_broken(f);
}

/* Wrong order fails the request, not the queue. */
static void readable_behind_writable(void **state)
{
	struct fixture *f = *state;
	uint32_t id, len;

	guest_ring_desc(&f->ring, 5, DATA_AT, 4, N | W, 6);
	guest_ring_desc(&f->ring, 6, DATA_AT, 4, 0, 0);
	guest_ring_offer(&f->ring, 5);
	assert_int_equal(pop(f), VERDICT_REQ_ERROR);
	assert_int_equal(f->chain.head, 5);
	virtqueue_push(f->vq, f->chain.head, 0);
	assert_true(guest_ring_take_used(&f->ring, &id, &len));
	assert_int_equal(id, 5);
	assert_int_equal(len, 0);
	assert_int_equal(pop(f), VERDICT_OK);
	assert_int_equal(f->chain.n, 0);
}

/* --- Suppression --- */

static void cycle(struct fixture *f)
{
	guest_ring_desc(&f->ring, 0, DATA_AT, 4, 0, 0);
	guest_ring_offer(&f->ring, 0);
	assert_int_equal(pop(f), VERDICT_OK);
	assert_int_equal(f->chain.n, 1);
	virtqueue_push(f->vq, 0, 0);
}

static void interrupts_with_event_idx(void **state)
{
	struct fixture *f = *state;

	assert_false(virtqueue_needs_interrupt(f->vq));
	guest_ring_set_used_event(&f->ring, 0);
	cycle(f);
	assert_true(virtqueue_needs_interrupt(f->vq));
	assert_false(virtqueue_needs_interrupt(f->vq)); /* asked and answered */
	/*
	 * The driver waits for the fourth: three pushes are silent, then one question for two pushes
	 * finds it.
	 */
	guest_ring_set_used_event(&f->ring, 3);
	cycle(f);
	assert_false(virtqueue_needs_interrupt(f->vq));
	cycle(f);
	assert_false(virtqueue_needs_interrupt(f->vq));
	cycle(f);
	cycle(f);
	assert_true(virtqueue_needs_interrupt(f->vq));
	/* An event that is behind us. */
	guest_ring_set_used_event(&f->ring, 1);
	cycle(f);
	assert_false(virtqueue_needs_interrupt(f->vq));
}

static void interrupts_with_flags(void **state)
{
	struct fixture *f = *state;

	restart(f, VIRTIO_F_VERSION_1);
	cycle(f);
	assert_true(virtqueue_needs_interrupt(f->vq));
	guest_ring_set_flags(&f->ring, VIRTQ_AVAIL_F_NO_INTERRUPT);
	cycle(f);
	assert_false(virtqueue_needs_interrupt(f->vq));
	guest_ring_set_flags(&f->ring, 0);
	assert_false(virtqueue_needs_interrupt(f->vq));
	cycle(f);
	assert_true(virtqueue_needs_interrupt(f->vq));
}

static void kicks_with_event_idx(void **state)
{
	struct fixture *f = *state;

	virtqueue_notify_off(f->vq);
	assert_int_equal(guest_ring_used_flags(&f->ring), 0);
	cycle(f);
	assert_int_equal(guest_ring_avail_event(&f->ring), 0);
	assert_false(virtqueue_notify_on(f->vq));
	assert_int_equal(guest_ring_avail_event(&f->ring), 1);
	/* A chain that came between the last look and notify_on is not lost. */
	guest_ring_offer(&f->ring, 0);
	assert_true(virtqueue_notify_on(f->vq));
	assert_int_equal(pop(f), VERDICT_OK);
	assert_int_equal(f->chain.n, 1);
}

static void kicks_with_flags(void **state)
{
	struct fixture *f = *state;

	restart(f, VIRTIO_F_VERSION_1);
	virtqueue_notify_off(f->vq);
	assert_int_equal(guest_ring_used_flags(&f->ring), VIRTQ_USED_F_NO_NOTIFY);
	assert_false(virtqueue_notify_on(f->vq));
	assert_int_equal(guest_ring_used_flags(&f->ring), 0);
}

/* Indices run through 65536, in a ring of 16; used elements land where the driver looks. */
static void wrap_around(void **state)
{
	struct fixture *f = *state;
	uint32_t id, len;

	for (uint32_t i = 0; i < 140000; i++) {
		uint16_t head = (uint16_t)(i % SIZE);

		guest_ring_desc(&f->ring, head, DATA_AT, 4, W, 0);
		guest_ring_offer(&f->ring, head);
		assert_int_equal(pop(f), VERDICT_OK);
		assert_int_equal(f->chain.head, head);
		guest_ring_set_used_event(&f->ring, (uint16_t)i);
		virtqueue_push(f->vq, head, i);
		assert_true(virtqueue_needs_interrupt(f->vq));
		assert_true(guest_ring_take_used(&f->ring, &id, &len));
		assert_int_equal(id, head);
		assert_int_equal(len, i);
	}
}

/* Q1: what the guest writes into used.idx and the used elements changes nothing. */
static void own_indices(void **state)
{
	struct fixture *f = *state;
	uint16_t lie = 0x1234;

	cycle(f);
	assert_int_equal(gmem_write(f->mem, GPA(f->ring.geo.device + VIRTQ_USED_IDX), &lie, 2), 0);
	cycle(f);
	assert_int_equal(guest_ring_used_idx(&f->ring), 2);
}

/* Out of order completion, all in flight at once. */
static void full_flight(void **state)
{
	struct fixture *f = *state;
	uint32_t id, len;

	for (uint16_t i = 0; i < SIZE; i++) {
		guest_ring_desc(&f->ring, i, DATA_AT, 4, 0, 0);
		guest_ring_offer(&f->ring, i);
	}
	for (uint16_t i = 0; i < SIZE; i++)
		assert_int_equal(pop(f), VERDICT_OK);
	assert_int_equal(virtqueue_in_flight(f->vq), SIZE);
	assert_int_equal(pop(f), VERDICT_OK);
	assert_int_equal(f->chain.n, 0);
	for (uint16_t i = SIZE; i > 0; i--)
		virtqueue_push(f->vq, (uint16_t)(i - 1), i);
	for (uint16_t i = SIZE; i > 0; i--) {
		assert_true(guest_ring_take_used(&f->ring, &id, &len));
		assert_int_equal(id, i - 1);
		assert_int_equal(len, i);
	}
	virtqueue_stop(f->vq);
	assert_int_equal(virtqueue_in_flight(f->vq), 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(geometry_sizes), T(geometry_alignment), T(geometry_range), T(empty_ring), T(stopped_queue_is_empty),
		T(direct_chain), T(zero_length_descriptors), T(chain_as_long_as_the_queue), T(indirect_chain),
		T(indirect_longest), T(head_out_of_range), T(next_out_of_range), T(loop_of_one_and_two),
		T(range_outside_ram), T(range_across_the_gap), T(sum_of_lengths), T(avail_idx_jumps),
		T(head_twice_in_flight), T(indirect_breaches), T(indirect_too_long), T(indirect_not_negotiated),
		T(readable_behind_writable), T(interrupts_with_event_idx), T(interrupts_with_flags),
		T(kicks_with_event_idx), T(kicks_with_flags), T(wrap_around), T(own_indices), T(full_flight),
	};

	return cmocka_run_group_tests_name("virtqueue", tests, NULL, NULL);
}
