/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole interface: guest rings on one side, a played host on the other, virtio-mmio between. What
 * each direction waits for is in test_net_wait.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "tests/lib/net_fixture.h"
#include "virtio/virtio_spec.h"
#include "vmm/base/bytes.h"
#include "vmm/base/log.h"

#define QSIZE 64
#define OFFLOADS (FIX_ALL & ~(VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_NET_F_MRG_RXBUF))
#define N VIRTQ_DESC_F_NEXT
#define W VIRTQ_DESC_F_WRITE

static const uint8_t mac[NET_MAC_BYTES] = { 2, 0, 0, 0, 0, 1 };

static int setup(void **state)
{
	(void)state;
	fix_create(NULL, OFFLOADS, false);
	fix_start(FIX_ALL, QSIZE);
	(void)guest_fetched_twice();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fix_destroy();
	return 0;
}

static void recreate(const struct net_config *config, uint64_t offered, uint64_t acked, bool gathers)
{
	fix_destroy();
	fix_create(config, offered, gathers);
	fix_start(acked, QSIZE);
}

static uint64_t stat_of(const _Atomic uint64_t *counter)
{
	return atomic_load(counter);
}

#define STAT(name) stat_of(&net_get_stats(fix.net)->name)

static void expect_used(struct guest_ring *r, uint16_t head, uint32_t len)
{
	uint32_t id, got;

	assert_true(guest_ring_take_used(r, &id, &got));
	assert_int_equal(id, head);
	assert_int_equal(got, len);
}

static void expect_none_used(struct guest_ring *r)
{
	uint32_t id, got;

	assert_false(guest_ring_take_used(r, &id, &got));
}

static const uint8_t *guest_at(uint64_t gpa, uint64_t len)
{
	const uint8_t *p = gmem_hva(fix.mem, GPA(gpa), len);

	assert_non_null(p);
	return p;
}

/* --- Configuration --- */

static void features_and_config(void **state)
{
	static const struct {
		uint32_t len;
		uint64_t want;
	} widths[] = { { 1, 0x02 }, { 2, 0x0002 }, { 4, 0x00000002 }, { 8, UINT64_C(0x0000010000000002) } };
	const struct net_config c = { .mac = mac, .mtu = 1500 };
	uint8_t data[8];

	(void)state;
	assert_int_equal(fix.net->vdev.features, FIX_ALL);
	assert_int_equal(fix.host.features, FIX_ALL);
	recreate(&c, 0, FIX_PLAIN, false);
	assert_int_equal(fix.net->vdev.features, FIX_PLAIN | VIRTIO_NET_F_MRG_RXBUF | VIRTIO_NET_F_MAC | VIRTIO_NET_F_MTU);
	assert_int_equal(fix.host.features, FIX_PLAIN);
	assert_int_equal(guest_mmio_read(fix.t, VIRTIO_MMIO_DEVICE_ID), 1);
	assert_int_equal(guest_mmio_read(fix.t, VIRTIO_MMIO_QUEUE_NUM_MAX), 256);
	for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
		memset(data, 0, sizeof(data));
		virtio_mmio_bus_ops.read(fix.t, VIRTIO_MMIO_CONFIG, data, widths[i].len);
		assert_int_equal(le64_get(data), widths[i].want);
	}
	assert_int_equal(guest_mmio_read(fix.t, VIRTIO_MMIO_CONFIG + 8) >> 16, 1500);
	assert_int_equal(STAT(cfg_fails), 0);
	for (uint64_t off = 0; off < 12; off += 4)
		guest_mmio_write(fix.t, VIRTIO_MMIO_CONFIG + off, UINT32_MAX);
	assert_int_equal(STAT(cfg_fails), 3);
	assert_int_equal(guest_mmio_read(fix.t, VIRTIO_MMIO_CONFIG), 2);
	/* Behind the end. */
	assert_int_equal(guest_mmio_read(fix.t, VIRTIO_MMIO_CONFIG + 12), 0);
	guest_mmio_write(fix.t, VIRTIO_MMIO_CONFIG + 12, 1);
	assert_int_equal(STAT(cfg_fails), 3);
}

/* --- Guest to host --- */

static void send_one(uint16_t slot, uint32_t len)
{
	fix_offer_tx(slot, NULL, len);
	fix_kick(NET_QUEUE_TX);
	expect_used(&fix.tx, slot, 0);
}

static void sends(void **state)
{
	static const uint32_t lens[] = { NET_TX_HEAD, NET_TX_HEAD + 1, 1526, 9000, NET_FRAME_MAX };
	static const uint8_t no_hdr[NET_HDR_LEN];

	(void)state;
	for (uint16_t i = 0; i < ARRAY_SIZE(lens); i++) {
		send_one(i, lens[i]);
		assert_int_equal(fix.host.sent_len, lens[i]);
		assert_memory_equal(fix.host.sent, no_hdr, NET_HDR_LEN);
		for (uint32_t k = NET_HDR_LEN; k < lens[i]; k++)
			assert_int_equal(fix.host.sent[k], fix_byte(i, k));
	}
	assert_int_equal(fix.host.n_send, ARRAY_SIZE(lens));
	assert_int_equal(STAT(tx_packets_count), ARRAY_SIZE(lens));
	assert_int_equal(STAT(tx_malformed_frames), 0);
	assert_int_equal(guest_fetched_twice(), 0);
}

/* Descriptor boundaries mean nothing (2.7.4.1): a frame cut at every place of its head. */
static void sends_in_pieces(void **state)
{
	(void)state;
	for (uint32_t cut = 0; cut <= 40; cut++) {
		uint64_t at = FIX_DATA + 0x800000;

		fix_offer_tx(0, NULL, 100);
		guest_ring_desc(&fix.tx, 0, at, cut, N, 1);
		guest_ring_desc(&fix.tx, 1, at + cut, 1, N, 2);
		guest_ring_desc(&fix.tx, 2, at + cut + 1, 100 - cut - 1, 0, 0);
		fix_kick(NET_QUEUE_TX);
		expect_used(&fix.tx, 0, 0);
		assert_int_equal(fix.host.sent_len, 100);
		for (uint32_t k = NET_HDR_LEN; k < 100; k++)
			assert_int_equal(fix.host.sent[k], fix_byte(0, k));
	}
	assert_int_equal(guest_fetched_twice(), 0);
}

/* What is sent is the checked copy. */
static void sends_checked_header(void **state)
{
	struct virtio_net_hdr_wire hdr = { .flags = 0xff, .gso_type = 1, .gso_size = 1448, .hdr_len = 0xffff,
					   .csum_start = 34, .csum_offset = 16, .num_buffers = 5 };
	struct virtio_net_hdr_wire want = { .flags = 1, .gso_type = 1, .gso_size = 1448, .hdr_len = 4000 - 12,
					    .csum_start = 34, .csum_offset = 16 };

	(void)state;
	fix_offer_tx(0, &hdr, 4000);
	fix_kick(NET_QUEUE_TX);
	expect_used(&fix.tx, 0, 0);
	assert_memory_equal(fix.host.sent, &want, sizeof(want));
}

static void malformed_frames(void **state)
{
	struct virtio_net_hdr_wire bad = { .flags = 1, .csum_start = 0xffff };
	uint16_t n = 0;

	(void)state;
	send_one(n++, 1);
	send_one(n++, NET_HDR_LEN);
	send_one(n++, NET_TX_HEAD - 1);
	send_one(n++, NET_FRAME_MAX + 1);
	fix_offer_tx(n, &bad, 100);
	fix_kick(NET_QUEUE_TX);
	expect_used(&fix.tx, n++, 0);
	/* A dev_writable descriptor: alone, behind, and in front. */
	for (int k = 0; k < 3; k++) {
		uint16_t first = k == 1 ? N : k == 0 ? W : N | W;

		guest_ring_desc(&fix.tx, n, FIX_DATA, 100, first, 63);
		guest_ring_desc(&fix.tx, 63, FIX_DATA, 100, k == 1 ? W : 0, 0);
		guest_ring_offer(&fix.tx, n);
		fix_kick(NET_QUEUE_TX);
		expect_used(&fix.tx, n++, 0);
	}
	assert_int_equal(fix.host.n_send, 0);
	assert_int_equal(STAT(tx_malformed_frames), n);
	send_one(n, 100);
	assert_int_equal(fix.host.n_send, 1);
}

static void other_source_address(void **state)
{
	const struct net_config c = { .mac = mac };
	uint8_t *frame;

	(void)state;
	send_one(0, 100);
	assert_int_equal(STAT(tx_spoofed_mac_count), 0);
	recreate(&c, OFFLOADS, FIX_ALL, false);
	send_one(0, 100);
	assert_int_equal(STAT(tx_spoofed_mac_count), 1);
	assert_int_equal(fix.host.n_send, 1);
	fix_offer_tx(1, NULL, 100);
	frame = gmem_hva(fix.mem, GPA(FIX_DATA + 0x800000 + 0x11000), 100);
	memcpy(frame + NET_HDR_LEN + 6, mac, sizeof(mac));
	fix_kick(NET_QUEUE_TX);
	assert_int_equal(fix.host.n_send, 2);
	assert_int_equal(STAT(tx_spoofed_mac_count), 1);
}

/* A failing host at every index of a batch: each frame is completed once, in order. */
static void send_fails(void **state)
{
	static const int errors[] = { EIO, EINVAL, ENOBUFS, EPIPE };

	(void)state;
	for (size_t e = 0; e < ARRAY_SIZE(errors); e++) {
		for (int after = 0; after < 4; after++) {
			recreate(NULL, OFFLOADS, FIX_ALL, false);
			fix.host.send_error = errors[e];
			fix.host.send_error_after = after;
			for (uint16_t i = 0; i < 4; i++)
				fix_offer_tx(i, NULL, 100);
			fix_kick(NET_QUEUE_TX);
			for (uint16_t i = 0; i < 4; i++)
				expect_used(&fix.tx, i, 0);
			assert_int_equal(STAT(tx_packets_count), after);
			assert_int_equal(STAT(tx_fails), 4 - after);
			assert_int_equal(fix.net->dead, errors[e] == EPIPE);
			/* A host that has ended is not asked again. */
			assert_int_equal(fix.host.n_send, errors[e] == EPIPE ? after + 1 : 4);
		}
	}
}

static void gathers(void **state)
{
	(void)state;
	recreate(NULL, 0, FIX_PLAIN, true);
	for (uint16_t i = 0; i < 5; i++)
		fix_offer_tx(i, NULL, 100);
	fix_kick(NET_QUEUE_TX);
	assert_int_equal(fix.host.n_send, 5);
	assert_int_equal(fix.host.n_flush, 1);
	for (uint16_t i = 0; i < 5; i++)
		expect_used(&fix.tx, i, 0);
	fix.host.flush_error = EPIPE;
	send_one(5, 100);
	assert_true(fix.net->dead);
	send_one(6, 100);
	assert_int_equal(fix.host.n_flush, 2);
	assert_int_equal(fix.host.n_send, 6);
}

/* --- Host to guest --- */

/* The frame @n of @len bytes in the buffers of @buf_len from descriptor @first on; consumes their used elements. */
static void expect_frame(unsigned n, uint32_t len, uint16_t first, uint32_t buf_len)
{
	uint16_t n_bufs = (uint16_t)((len + buf_len - 1) / buf_len);

	for (uint32_t done = 0, i = first; done < len; i++) {
		uint32_t part = len - done < buf_len ? len - done : buf_len;
		const uint8_t *p = guest_at(fix_rx_at((uint16_t)i), part);

		expect_used(&fix.rx, (uint16_t)i, part);
		for (uint32_t k = 0; k < part; k++, done++) {
			if (done == 10)
				assert_int_equal(p[k], n_bufs & 0xff);
			else if (done == 11)
				assert_int_equal(p[k], n_bufs >> 8);
			else
				assert_int_equal(p[k], fix_byte(n, done));
		}
	}
}

static void receives(void **state)
{
	static const uint32_t lens[] = { NET_TX_HEAD, 1526, 9000, NET_FRAME_MAX };

	(void)state;
	fix_offer_rx(0, 8, 0x10000);
	fix_kick(NET_QUEUE_RX);
	for (unsigned i = 0; i < 3; i++) {
		fix_host_frame(lens[i]);
		(void)fix_run();
		expect_frame(i, lens[i], (uint16_t)i, 0x10000);
	}
	fix_host_frame(lens[3]);
	(void)fix_run();
	expect_frame(3, lens[3], 3, 0x10000);
	assert_int_equal(STAT(rx_packets_count), 4);
	assert_int_equal(guest_fetched_twice(), 0);
}

/* Every size of frame against every size of buffer, with all buffers at hand and with buffers that come one by one. */
static void mergeable(void **state)
{
	static const uint32_t bufs[] = { 12, 13, 64, 1514, 1526, 4096 };
	static const uint32_t lens[] = { 26, 27, 64, 65, 1514, 1526, 1527, 4097, 20000, NET_FRAME_MAX };

	(void)state;
	for (size_t b = 0; b < ARRAY_SIZE(bufs); b++) {
		for (size_t l = 0; l < ARRAY_SIZE(lens); l++) {
			uint16_t need = (uint16_t)((lens[l] + bufs[b] - 1) / bufs[b]);

			if (need > QSIZE)
				continue;
			fix_start(FIX_ALL, QSIZE);
			fix_offer_rx(0, QSIZE, bufs[b]);
			fix_kick(NET_QUEUE_RX);
			fix_host_frame(lens[l]);
			(void)fix_run();
			expect_frame(fix.host.next - 1, lens[l], 0, bufs[b]);
			expect_none_used(&fix.rx);

			fix_start(FIX_ALL, QSIZE);
			fix_host_frame(lens[l]);
			for (uint16_t i = 0; i < need; i++) {
				expect_none_used(&fix.rx);
				fix_offer_rx(i, 1, bufs[b]);
				fix_kick(NET_QUEUE_RX);
			}
			expect_frame(fix.host.next - 1, lens[l], 0, bufs[b]);
			expect_none_used(&fix.rx);
			fix.host.next = 0;
			fix.host.n_frames = 0;
		}
	}
}

/* The header over many descriptors: num_buffers is found wherever it is. */
static void header_in_pieces(void **state)
{
	(void)state;
	for (uint32_t cut = 0; cut <= 14; cut++) {
		const uint8_t *p;

		fix_start(FIX_ALL, QSIZE);
		guest_ring_desc(&fix.rx, 0, FIX_DATA, cut, W | N, 1);
		guest_ring_desc(&fix.rx, 1, FIX_DATA + cut, 1, W | N, 2);
		guest_ring_desc(&fix.rx, 2, FIX_DATA + cut + 1, 0x10000, W, 0);
		guest_ring_offer(&fix.rx, 0);
		fix_kick(NET_QUEUE_RX);
		fix_host_frame(100);
		(void)fix_run();
		expect_used(&fix.rx, 0, 100);
		p = guest_at(FIX_DATA, 100);
		assert_int_equal(p[9], fix_byte(cut, 9));
		assert_int_equal(p[10], 1);
		assert_int_equal(p[11], 0);
		assert_int_equal(p[12], fix_byte(cut, 12));
	}
}

/* Without mergeable buffers: one buffer a frame, num_buffers 1, no word on checksums; what does not fit is dropped. */
static void not_mergeable(void **state)
{
	(void)state;
	recreate(NULL, 0, FIX_PLAIN, false);
	fix_offer_rx(0, 4, 1526);
	fix_kick(NET_QUEUE_RX);
	fix_host_frame(1526);
	fix_host_frame(1527);
	fix_host_frame(26);
	(void)fix_run();
	expect_used(&fix.rx, 0, 1526);
	assert_int_equal(guest_at(FIX_DATA, 1)[0], 0);
	assert_int_equal(guest_at(FIX_DATA, 12)[10], 1);
	assert_int_equal(guest_at(FIX_DATA, 1526)[1525], fix_byte(0, 1525));
	expect_used(&fix.rx, 1, 26);
	assert_int_equal(guest_at(FIX_DATA + 0x10000, 26)[25], fix_byte(2, 25));
	expect_none_used(&fix.rx);
	assert_int_equal(STAT(rx_fails), 1);
	assert_int_equal(STAT(rx_packets_count), 2);
}

/* A frame that all buffers of a full ring can't hold is dropped; the next one comes through. */
static void too_long_for_the_ring(void **state)
{
	(void)state;
	fix_start(FIX_ALL, 4);
	fix_offer_rx(0, 4, 1000);
	fix_kick(NET_QUEUE_RX);
	fix_host_frame(4001);
	fix_host_frame(4000);
	(void)fix_run();
	assert_int_equal(STAT(rx_fails), 1);
	expect_frame(1, 4000, 0, 1000);
}

static void bad_buffers(void **state)
{
	(void)state;
	/* dev_readable; too short for a header; none that is dev_writable behind one that is not. */
	guest_ring_desc(&fix.rx, 0, FIX_DATA, 2000, 0, 0);
	guest_ring_offer(&fix.rx, 0);
	guest_ring_desc(&fix.rx, 1, FIX_DATA, 11, W, 0);
	guest_ring_offer(&fix.rx, 1);
	guest_ring_desc(&fix.rx, 2, FIX_DATA, 100, W | N, 3);
	guest_ring_desc(&fix.rx, 3, FIX_DATA, 100, 0, 0);
	guest_ring_offer(&fix.rx, 2);
	fix_offer_rx(4, 1, 2000);
	fix_kick(NET_QUEUE_RX);
	for (uint16_t i = 0; i < 3; i++)
		expect_used(&fix.rx, i, 0);
	fix_host_frame(1000);
	(void)fix_run();
	expect_used(&fix.rx, 4, 1000);
	assert_int_equal(STAT(rx_fails), 3);
}

static void receive_fails(void **state)
{
	(void)state;
	fix_offer_rx(0, 8, 2000);
	fix_kick(NET_QUEUE_RX);
	/* One was lost: the next is asked for. It does not go on for ever. */
	fix.host.recv_error = EMSGSIZE;
	fix_edge();
	for (int i = 0; i < 10; i++)
		assert_int_equal(evloop_turn(fix.loop, 0) >= 0, 1);
	fix.host.recv_error = EIO;
	(void)fix_run();
	assert_int_equal(fix.net->rx.wait, WAIT_HOST);
	fix.host.recv_error = 0;
	fix_host_frame(100);
	(void)fix_run();
	expect_used(&fix.rx, 0, 100);
	fix.host.recv_error = EPIPE;
	fix_edge();
	(void)fix_run();
	assert_true(fix.net->dead);
	assert_int_equal(fix.net->rx.wait, WAIT_NEVER);
	assert_int_equal(fix.net->source.events, 0);
	fix.host.n_recv = 0;
	fix_edge();
	(void)fix_run();
	assert_int_equal(fix.host.n_recv, 0);
	/* The guest's frames are dropped, and it can start over without getting an answer. */
	send_one(0, 100);
	assert_int_equal(fix.host.n_send, 0);
	fix_start(FIX_ALL, QSIZE);
	send_one(0, 100);
	assert_int_equal(fix.host.n_send + fix.host.n_recv, 0);
}

/* --- Rings, resets --- */

static void broken_ring(void **state)
{
	(void)state;
	for (uint16_t q = 0; q < 2; q++) {
		fix_start(FIX_ALL, QSIZE);
		fix_offer_rx(0, 4, 2000);
		fix_kick(NET_QUEUE_RX);
		guest_ring_set_idx(q == 0 ? &fix.rx : &fix.tx, 1000);
		if (q == 0) {
			fix_host_frame(5000); /* needs more than the four */
			fix_host_frame(5000);
			(void)fix_run();
		}
		fix_kick(q);
		assert_int_equal(guest_mmio_read(fix.t, VIRTIO_MMIO_STATUS), 0x4f);
		assert_int_equal(fix.net->rx.wait, WAIT_START);
		assert_int_equal(fix.net->tx.wait, WAIT_START);
		fix_edge();
		fix_kick(0);
		fix_kick(1);
	}
	fix.host.next = fix.host.n_frames;
	fix_start(FIX_ALL, QSIZE);
	send_one(3, 100);
}

/* After a reset, in the middle of whatever, nothing of the guest's is left, and the next driver is served. */
static void resets(void **state)
{
	(void)state;
	for (int k = 0; k < 4; k++) {
		fix_start(FIX_ALL, QSIZE);
		fix.host.send_error = 0;
		if (k & 1) {
			fix.host.send_error = EAGAIN;
			fix_offer_tx(0, NULL, 100);
			fix_kick(NET_QUEUE_TX);
			assert_true(fix.net->tx.has_frame);
		}
		if (k & 2) {
			fix_offer_rx(0, 2, 1000);
			fix_kick(NET_QUEUE_RX);
			fix_host_frame(3000);
			(void)fix_run();
			assert_int_equal(fix.net->rx.frame_len, 3000);
		}
		guest_mmio_write(fix.t, VIRTIO_MMIO_STATUS, 0);
		assert_int_equal(fix.net->rx.n_bufs + fix.net->rx.n_iov + fix.net->rx.frame_len, 0);
		assert_false(fix.net->tx.has_frame);
		assert_int_equal(virtqueue_in_flight(fix.net->vdev.vq[0]) + virtqueue_in_flight(fix.net->vdev.vq[1]), 0);
		fix_edge();
		(void)fix_run();
		fix.host.send_error = 0;
		fix_start(FIX_ALL, QSIZE);
		send_one(0, 100);
		fix_offer_rx(0, 2, 1000);
		fix_kick(NET_QUEUE_RX);
		fix_host_frame(500);
		(void)fix_run();
		expect_used(&fix.rx, 0, 500);
	}
}

/* One interrupt for a batch, none for a driver that does not want one. */
static void interrupts(void **state)
{
	uint64_t before = fix.net->vdev.n_interrupts;

	(void)state;
	fix_offer_rx(0, 8, 2000);
	fix_kick(NET_QUEUE_RX);
	for (unsigned i = 0; i < 4; i++)
		fix_host_frame(100);
	for (uint16_t i = 0; i < 4; i++)
		fix_offer_tx(i, NULL, 100);
	fix_kick(NET_QUEUE_TX);
	assert_int_equal(guest_ring_used_idx(&fix.rx), 4);
	assert_int_equal(guest_ring_used_idx(&fix.tx), 4);
	assert_in_range(fix.net->vdev.n_interrupts - before, 1, 2);
	before = fix.net->vdev.n_interrupts;
	guest_ring_set_used_event(&fix.rx, 100);
	fix_host_frame(100);
	(void)fix_run();
	assert_int_equal(guest_ring_used_idx(&fix.rx), 5);
	assert_int_equal(fix.net->vdev.n_interrupts, before);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(features_and_config), TEST(sends), TEST(sends_in_pieces), TEST(sends_checked_header), TEST(malformed_frames),
		TEST(other_source_address), TEST(send_fails), TEST(gathers), TEST(receives), TEST(mergeable),
		TEST(header_in_pieces), TEST(not_mergeable), TEST(too_long_for_the_ring), TEST(bad_buffers),
		TEST(receive_fails), TEST(broken_ring), TEST(resets), TEST(interrupts),
	};

	log_set_level(LOG_OFF);
	return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
