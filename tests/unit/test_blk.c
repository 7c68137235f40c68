/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole disk, engine Sync: requests, resets, the vCPU's fast path, the rate limiter.
 */
#include "tests/lib/blk_fixture.h"

/* --- Requests --- */

static void features_and_config(void **state)
{
	uint64_t features;

	(void)state;
	features = blk_virtio_device(blk)->features;
	assert_int_equal(features, FEATURES | VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_TOPOLOGY | VIRTIO_BLK_F_DISCARD |
				   VIRTIO_BLK_F_WRITE_ZEROES);
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_CONFIG + 20), 0);            /* blk_size: not offered */
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_CONFIG + 24), 3 | 8 << 16);  /* 4096 = 512 << 3, min_io 8 */
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_CONFIG + 28), 0);
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_CONFIG + 36), 64 * MIB / 512);
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_CONFIG + 40), 16);
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_CONFIG + 44), 8);
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_CONFIG + 48), 64 * MIB / 512);
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_CONFIG + 52), 16);
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_CONFIG + 56), 1);
	recreate((struct options){ .read_only = true, .flush = true });
	features = blk_virtio_device(blk)->features;
	assert_int_equal(features, FEATURES | VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_RO | VIRTIO_BLK_F_FLUSH);
	for (uint64_t off = 16; off < 60; off += 4)
		assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_CONFIG + off), 0);
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_DEVICE_ID), 2);
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_QUEUE_NUM_MAX), 256);
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_CONFIG), SECTORS);
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_CONFIG + 4), 0);
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_CONFIG + 12), 254);
	assert_int_equal(blk_capacity_sectors(blk), SECTORS);
}

static void read_and_write(void **state)
{
	(void)state;
	request(VIRTIO_BLK_T_IN, 5, 1024, VIRTIO_BLK_S_OK, 1025);
	expect_bytes(DATA_AT, 5, 512);
	expect_bytes(DATA_AT + 512, 6, 512);
	fill(DATA_AT, 0xaa, 512);
	request(VIRTIO_BLK_T_OUT, 6, 512, VIRTIO_BLK_S_OK, 1);
	request(VIRTIO_BLK_T_IN, 5, 1536, VIRTIO_BLK_S_OK, 1537);
	expect_bytes(DATA_AT, 5, 512);
	expect_bytes(DATA_AT + 512, 0xaa, 512);
	expect_bytes(DATA_AT + 1024, 7, 512);
	assert_int_equal(count_of(&blk_get_stats(blk)->read_bytes), 2560);
	assert_int_equal(count_of(&blk_get_stats(blk)->write_bytes), 512);
	assert_int_equal(count_of(&blk_get_stats(blk)->read_count), 2);
	assert_int_equal(count_of(&blk_get_stats(blk)->write_count), 1);
}

static void flush_and_others(void **state)
{
	struct stat st;
	char id[64];

	(void)state;
	/* Not offered, executed all the same. */
	request(VIRTIO_BLK_T_FLUSH, 0, 0, VIRTIO_BLK_S_OK, 1);
	assert_int_equal(count_of(&blk_get_stats(blk)->flush_count), 1);
	request(99, 0, 512, VIRTIO_BLK_S_UNSUPP, 1);
	assert_int_equal(count_of(&blk_get_stats(blk)->invalid_reqs_count), 1);
	fill(DATA_AT, 0xee, 64);
	request(VIRTIO_BLK_T_GET_ID, 0, 64, VIRTIO_BLK_S_OK, 21);
	assert_int_equal(stat(path, &st), 0);
	memset(id, 0, sizeof(id));
	(void)snprintf(id, sizeof(id), "%ju%ju%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_rdev, (uintmax_t)st.st_ino);
	assert_memory_equal(gmem_hva(mem, GPA(DATA_AT), 20), id, 20);
	expect_bytes(DATA_AT + 20, 0xee, 44);
}

static void read_only(void **state)
{
	(void)state;
	recreate((struct options){ .read_only = true });
	request(VIRTIO_BLK_T_OUT, 0, 512, VIRTIO_BLK_S_IOERR, 1);
	assert_int_equal(host.n_calls, 0);
	request(VIRTIO_BLK_T_IN, 0, 512, VIRTIO_BLK_S_OK, 513);
}

/* CONTRACT.md section 9: used length 0, no status byte, counted; the next request is served. */
static void malformed(void **state)
{
	(void)state;
	request(VIRTIO_BLK_T_IN, SECTORS, 512, NO_STATUS, 0);
	request(VIRTIO_BLK_T_OUT, SECTORS - 1, 1024, NO_STATUS, 0);
	request(VIRTIO_BLK_T_IN, 0, 100, NO_STATUS, 0);
	request(VIRTIO_BLK_T_GET_ID, 0, 19, NO_STATUS, 0);
	assert_int_equal(count_of(&blk_get_stats(blk)->execute_fails), 4);
	assert_int_equal(host.n_calls, 0);
	request(VIRTIO_BLK_T_IN, 0, 512, VIRTIO_BLK_S_OK, 513);
}

/* dev_readable behind dev_writable: the ring is sound, so the request alone fails. */
static void misordered(void **state)
{
	(void)state;
	guest_ring_desc(&ring, 0, HDR_AT, 16, N | W, 1);
	guest_ring_desc(&ring, 1, DATA_AT, 512, N, 2);
	guest_ring_desc(&ring, 2, STATUS_AT, 1, W, 0);
	guest_ring_offer(&ring, 0);
	kick();
	(void)run_loop();
	expect_used(0, 0);
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_STATUS), 0xf);
	next_slot = 1;
	request(VIRTIO_BLK_T_IN, 0, 512, VIRTIO_BLK_S_OK, 513);
}

static void host_errors(void **state)
{
	(void)state;
	host.fail_errno = EIO;
	request(VIRTIO_BLK_T_IN, 0, 512, VIRTIO_BLK_S_IOERR, 1);
	request(VIRTIO_BLK_T_OUT, 0, 512, VIRTIO_BLK_S_IOERR, 1);
	request(VIRTIO_BLK_T_FLUSH, 0, 0, VIRTIO_BLK_S_IOERR, 1);
	assert_int_equal(count_of(&blk_get_stats(blk)->execute_fails), 3);
	assert_int_equal(count_of(&blk_get_stats(blk)->read_count), 0);
	host.fail_errno = 0;
	/* The file shrank behind our back: 512 of 1024 bytes are there. */
	assert_int_equal(truncate(path, 512), 0);
	request(VIRTIO_BLK_T_IN, 0, 1024, VIRTIO_BLK_S_IOERR, 513);
	request(VIRTIO_BLK_T_IN, 0, 512, VIRTIO_BLK_S_OK, 513);
}

/* 1 MiB in 254 segments of an indirect table is one request. */
static void large_request(void **state)
{
	const uint32_t seg = 4 * KIB;
	uint8_t hdr[16] = { 0 };

	(void)state;
	write_file(4096);
	recreate((struct options){ .read_only = false });
	assert_int_equal(gmem_write(mem, GPA(HDR_AT), hdr, sizeof(hdr)), 0);
	guest_ring_desc_at(&ring, TABLE_AT, 0, HDR_AT, 16, N, 1);
	for (uint16_t i = 0; i < 254; i++)
		guest_ring_desc_at(&ring, TABLE_AT, (uint16_t)(i + 1), DATA_AT + i * (seg + UINT64_C(64)), seg, N | W,
				   (uint16_t)(i + 2));
	guest_ring_desc_at(&ring, TABLE_AT, 255, STATUS_AT, 1, W, 0);
	guest_ring_desc(&ring, 0, TABLE_AT, 256 * 16, VIRTQ_DESC_F_INDIRECT, 0);
	guest_ring_offer(&ring, 0);
	kick();
	(void)run_loop();
	expect_used(0, 254 * seg + 1);
	assert_int_equal(host.n_calls, 1);
	expect_bytes(DATA_AT, 0, 512);
	expect_bytes(DATA_AT + 253 * (seg + UINT64_C(64)) + 512, (253 * 8 + 1) & 0xff, 512);
	expect_bytes(DATA_AT + seg, 0, 64);
}

/* A request of 8 MiB takes several turns, and others get theirs in between (FC#5794). */
static void long_request_in_slices(void **state)
{
	uint32_t len = 8 * MIB;
	uint16_t head;
	unsigned turns;

	(void)state;
	write_file(len / 512);
	recreate((struct options){ .read_only = false });
	head = offer(VIRTIO_BLK_T_IN, 0, DATA_AT, len);
	kick();
	turns = run_loop();
	assert_true(turns >= 4);
	expect_used(head, len + 1);
	expect_bytes(DATA_AT + 7 * MIB + 512, 1, 512);
	assert_int_equal(count_of(&blk_get_stats(blk)->read_bytes), len);
}

/* A full ring is served in turns of 64 requests, with one interrupt where the driver asked for one. */
static void many_requests(void **state)
{
	uint64_t edges = 0;
	unsigned turns;

	(void)state;
	guest_ring_set_used_event(&ring, 84);
	for (uint16_t i = 0; i < 85; i++)
		(void)offer(VIRTIO_BLK_T_IN, i, DATA_AT + 512 * (uint64_t)i, 512);
	kick();
	turns = run_loop();
	assert_in_range(turns, 2, 3);
	for (uint16_t i = 0; i < 85; i++) {
		expect_used((uint16_t)(3 * i), 513);
		expect_bytes(DATA_AT + 512 * (uint64_t)i, i, 512);
	}
	assert_int_equal(read(irq.fd, &edges, sizeof(edges)), sizeof(edges));
	assert_int_equal(edges, 1);
	assert_int_equal(guest_ring_avail_event(&ring), 85);
}

/* A flush may take long, so it ends a turn. */
static void flush_ends_a_turn(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		(void)offer(VIRTIO_BLK_T_FLUSH, 0, DATA_AT, 0);
	kick();
	assert_int_equal(evloop_turn(loop, 0), 1);
	assert_int_equal(guest_ring_used_idx(&ring), 1);
	assert_int_equal(run_loop(), 2);
	assert_int_equal(guest_ring_used_idx(&ring), 3);
}

/* --- Broken queue, reset --- */

static void broken_queue(void **state)
{
	(void)state;
	(void)offer(VIRTIO_BLK_T_IN, 0, DATA_AT, 512);
	(void)offer(VIRTIO_BLK_T_IN, 0, MEM_SIZE, 512);
	kick();
	(void)run_loop();
	expect_used(0, 513); /* what came before is done */
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_STATUS), 0x4f);
	assert_true(guest_mmio_read(t, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_INT_CONFIG_CHANGE);
	start();
	request(VIRTIO_BLK_T_IN, 1, 512, VIRTIO_BLK_S_OK, 513);
}

/* Reset in the middle of a request that takes several turns: nothing of it happens afterwards. */
static void reset_with_a_request(void **state)
{
	(void)state;
	write_file(8 * MIB / 512);
	recreate((struct options){ .read_only = false });
	(void)offer(VIRTIO_BLK_T_IN, 0, DATA_AT, 8 * MIB);
	kick();
	assert_int_equal(evloop_turn(loop, 0), 1);
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0);
	fill(DATA_AT, 0x77, 8 * MIB);
	(void)run_loop();
	expect_bytes(DATA_AT, 0x77, 8 * MIB);
	assert_int_equal(guest_ring_used_idx(&ring), 0);
	start();
	(void)run_loop();
	request(VIRTIO_BLK_T_IN, 1, 512, VIRTIO_BLK_S_OK, 513);
}

/* --- vCPU fast path --- */

static void fast_path(void **state)
{
	const struct blk_stats *st;
	uint16_t head;

	(void)state;
	recreate((struct options){ .in_vcpu = true });
	st = blk_get_stats(blk);
	if (!virtio_mmio_kicks_in_vcpu(t))
		skip();
	head = offer(VIRTIO_BLK_T_IN, 9, DATA_AT, 512);
	kick();
	expect_used(head, 513); /* no turn of the loop was needed */
	expect_bytes(DATA_AT, 9, 512);
	assert_int_equal(count_of(&st->vcpu_read_count), 1);
	assert_int_equal(run_loop(), 0);

	/* Not in the page cache: the I/O thread goes on with the same request. */
	host.cold = true;
	head = offer(VIRTIO_BLK_T_IN, 10, DATA_AT, 512);
	kick();
	if (host.n_nowait > 0) { /* tmpfs knows no cold */
		assert_int_equal(guest_ring_used_idx(&ring), 1);
		assert_int_equal(run_loop(), 1);
	}
	expect_used(head, 513);
	expect_bytes(DATA_AT, 10, 512);
	host.cold = false;

	/* Writes, flushes, long reads, several at once: the I/O thread. */
	head = offer(VIRTIO_BLK_T_OUT, 20, DATA_AT, 512);
	kick();
	assert_false(guest_ring_take_used(&ring, &(uint32_t){ 0 }, &(uint32_t){ 0 }));
	(void)run_loop();
	expect_used(head, 1);
	head = offer(VIRTIO_BLK_T_FLUSH, 0, DATA_AT, 0);
	kick();
	(void)run_loop();
	expect_used(head, 1);
	head = offer(VIRTIO_BLK_T_IN, 0, DATA_AT, 512);
	(void)offer(VIRTIO_BLK_T_IN, 1, DATA_AT, 512);
	kick();
	assert_false(guest_ring_take_used(&ring, &(uint32_t){ 0 }, &(uint32_t){ 0 }));
	(void)run_loop();
	expect_used(head, 513);
	expect_used((uint16_t)(head + 3), 513);

	/* What needs no disk is answered at once, also nonsense. */
	head = offer(VIRTIO_BLK_T_GET_ID, 0, DATA_AT, 20);
	kick();
	expect_used(head, 21);
	head = offer(VIRTIO_BLK_T_IN, SECTORS, DATA_AT, 512);
	kick();
	expect_used(head, 0);
	head = offer(VIRTIO_BLK_T_IN, 1, DATA_AT, 512);
	kick();
	expect_used(head, 513);
	assert_int_equal(guest_fetched_twice(), 0);
}

/* Kicks that find nothing, too much, or a request that waits for the I/O thread already. */
static void fast_path_odd_kicks(void **state)
{
	uint16_t head;

	(void)state;
	recreate((struct options){ .in_vcpu = true });
	kick();
	assert_int_equal(run_loop(), 0);
	assert_int_equal(guest_ring_avail_event(&ring), 0);
	head = offer(VIRTIO_BLK_T_OUT, 0, DATA_AT, 512);
	kick();
	(void)offer(VIRTIO_BLK_T_IN, 1, DATA_AT, 512);
	kick();
	assert_int_equal(guest_ring_used_idx(&ring), 0);
	(void)run_loop();
	expect_used(head, 1);
	expect_used((uint16_t)(head + 3), 513);
	/* Reset between the hand-over and the I/O thread: the request is gone. */
	(void)offer(VIRTIO_BLK_T_OUT, 0, DATA_AT, 512);
	host.n_calls = 0;
	kick();
	start();
	(void)run_loop();
	assert_int_equal(host.n_calls, 0);
	assert_int_equal(guest_ring_used_idx(&ring), 0);
	/* A broken ring is seen by the I/O thread. */
	(void)offer(VIRTIO_BLK_T_IN, 0, MEM_SIZE, 512);
	kick();
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_STATUS), 0xf);
	(void)run_loop();
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_STATUS), 0x4f);
	start();
	guest_ring_set_idx(&ring, 5000);
	kick();
	(void)run_loop();
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_STATUS), 0x4f);
}

static void fast_path_host_error(void **state)
{
	uint16_t head;

	(void)state;
	recreate((struct options){ .in_vcpu = true });
	host.fail_errno = EIO;
	head = offer(VIRTIO_BLK_T_IN, 10, DATA_AT, 512);
	kick();
	(void)run_loop();
	expect_used(head, 1);
	assert_int_equal(status_of(head), VIRTIO_BLK_S_IOERR);
}

/* --- Rate limiter --- */

static void limited(void **state)
{
	const struct ratelimit_bucket_config off = { 0, 0, 0 };
	uint16_t first, second;

	(void)state;
	/* Two operations, then one in 50 ms; also in the vCPU's fast path. */
	recreate((struct options){ .ops = { 2, 0, 100 }, .in_vcpu = true });
	first = offer(VIRTIO_BLK_T_IN, 0, DATA_AT, 512);
	(void)offer(VIRTIO_BLK_T_IN, 1, DATA_AT, 512);
	second = offer(VIRTIO_BLK_T_IN, 2, DATA_AT, 512);
	kick();
	assert_int_equal(count_of(&blk_get_stats(blk)->vcpu_read_count), 0);
	(void)run_loop();
	expect_used(first, 513);
	expect_used((uint16_t)(first + 3), 513);
	assert_false(guest_ring_take_used(&ring, &(uint32_t){ 0 }, &(uint32_t){ 0 }));
	assert_int_equal(count_of(&blk_get_stats(blk)->rate_limiter_throttled_events), 1);
	/* Kicks do not help; the timer does. */
	kick();
	(void)run_loop();
	assert_int_equal(guest_ring_used_idx(&ring), 2);
	assert_true(evloop_turn(loop, 1000) > 0);
	expect_used(second, 513);
	assert_int_equal(count_of(&blk_get_stats(blk)->rate_limiter_event_count), 1);

	/*
	 * A reset does not fill the buckets; one request alone does not go past the limiter in the vCPU
	 * thread.
	 */
	start();
	(void)offer(VIRTIO_BLK_T_IN, 0, DATA_AT, 512);
	kick();
	assert_int_equal(guest_ring_used_idx(&ring), 0);
	start();
	for (int i = 0; i < 3; i++)
		(void)offer(VIRTIO_BLK_T_IN, 0, DATA_AT, 512);
	kick();
	(void)run_loop();
	assert_in_range(guest_ring_used_idx(&ring), 0, 2);
	blk_update_limits(blk, NULL, &off);
	for (int i = 0; i < 20 && guest_ring_used_idx(&ring) < 3; i++)
		assert_true(evloop_turn(loop, 100) >= 0);
	for (uint16_t i = 0; i < 3; i++)
		expect_used((uint16_t)(3 * i), 513);
	request(VIRTIO_BLK_T_IN, 0, 512, VIRTIO_BLK_S_OK, 513);
}

/* Bytes count for reads and writes only; a reset while the timer runs is not forgotten by the limiter. */
static void limited_bytes(void **state)
{
	uint16_t head;

	(void)state;
	recreate((struct options){ .bandwidth = { 1024, 0, 100 } });
	request(VIRTIO_BLK_T_OUT, 0, 1024, VIRTIO_BLK_S_OK, 1);
	request(VIRTIO_BLK_T_GET_ID, 0, 512, VIRTIO_BLK_S_OK, 21);
	request(VIRTIO_BLK_T_FLUSH, 0, 0, VIRTIO_BLK_S_OK, 1);
	(void)offer(VIRTIO_BLK_T_IN, 0, DATA_AT, 1024);
	kick();
	(void)run_loop();
	assert_int_equal(guest_ring_used_idx(&ring), 3);
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0);
	for (int i = 0; i < 20 && count_of(&blk_get_stats(blk)->rate_limiter_event_count) == 0; i++)
		assert_true(evloop_turn(loop, 100) >= 0);
	assert_int_equal(count_of(&blk_get_stats(blk)->rate_limiter_event_count), 1);
	start();
	/* More than the bucket holds: at once, and then a long wait. */
	head = offer(VIRTIO_BLK_T_IN, 0, DATA_AT, 2048);
	kick();
	(void)run_loop();
	expect_used(head, 2049);
	(void)offer(VIRTIO_BLK_T_IN, 0, DATA_AT, 512);
	kick();
	(void)run_loop();
	assert_int_equal(guest_ring_used_idx(&ring), 1);
}

/* --- Backing files --- */

static void empty_disk(void **state)
{
	(void)state;
	write_file(0);
	recreate((struct options){ .read_only = false });
	assert_int_equal(blk_capacity_sectors(blk), 0);
	request(VIRTIO_BLK_T_IN, 0, 512, NO_STATUS, 0);
	assert_int_equal(truncate(path, 511), 0);
	recreate((struct options){ .read_only = false });
	assert_int_equal(blk_capacity_sectors(blk), 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(features_and_config), T(read_and_write), T(flush_and_others), T(read_only),
		T(malformed), T(misordered), T(host_errors), T(large_request),
		T(long_request_in_slices), T(many_requests), T(flush_ends_a_turn), T(broken_queue),
		T(reset_with_a_request), T(fast_path), T(fast_path_odd_kicks), T(fast_path_host_error),
		T(limited), T(limited_bytes), T(empty_disk),
	};

	log_set_level(LOG_OFF);
	return cmocka_run_group_tests_name("blk", tests, NULL, NULL);
}
