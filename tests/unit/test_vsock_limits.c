/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vsock device and what goes wrong: limits, hostile guests, a host that fails.
 */
#include "tests/lib/vsock_rig.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static void packets_of_others(void **state)
{
	struct guest_vsock_pkt conn, pkt;
	int fd = rig_connected(&conn);

	(void)state;
	pkt = guest_vsock_pkt(RST, conn.dst_port, conn.src_port);
	pkt.src_cid = GUEST_VSOCK_CID + 1; /* spoofed: nothing happens */
	guest_vsock_send(&rig_guest, &pkt, NULL, 0);
	pkt.src_cid = GUEST_VSOCK_CID;
	pkt.dst_cid = 1;
	guest_vsock_send(&rig_guest, &pkt, NULL, 0);
	rig_expect_nothing();
	rig_send_text(&conn, "alive");
	assert_string_equal(rig_get(fd), "alive");
	pkt = guest_vsock_pkt(RW, 99, 99); /* nobody's ports */
	guest_vsock_send(&rig_guest, &pkt, NULL, 0);
	assert_int_equal(rig_expect(RST).src_port, 99);
	pkt = guest_vsock_pkt(RST, 99, 99); /* no answer to a RST */
	guest_vsock_send(&rig_guest, &pkt, NULL, 0);
	rig_expect_nothing();
	pkt = guest_vsock_pkt(REQUEST, 5, 6);
	pkt.type = 2;
	guest_vsock_send(&rig_guest, &pkt, NULL, 0);
	assert_int_equal(rig_expect(RST).type, 2);
	pkt = guest_vsock_pkt(77, conn.dst_port, conn.src_port); /* an operation that does not exist */
	guest_vsock_send(&rig_guest, &pkt, NULL, 0);
	(void)rig_expect(RST);
	assert_string_equal(rig_get(fd), "(end)");
	(void)close(fd);
}

static void guest_exceeds_its_credit(void **state)
{
	struct guest_vsock_pkt conn, pkt;
	int fd = rig_connected(&conn);

	(void)state;
	pkt = guest_vsock_pkt(RW, conn.dst_port, conn.src_port);
	pkt.len = VSOCK_PKT_DATA_MAX;
	for (int i = 0; i < 20 && rig_vsock->n_used > 0; i++)
		guest_vsock_send(&rig_guest, &pkt, rig_data, pkt.len);
	while (guest_vsock_receive(&rig_guest, &pkt, rig_data) && pkt.op == CREDIT_UPDATE)
		;
	assert_int_equal(pkt.op, RST);
	rig_expect_sleep();
	assert_int_equal(rig_vsock->n_used, 0);
	(void)close(fd);
}

/* FC#6031: whatever waits for whatever, the loop sleeps. */
static void nothing_spins(void **state)
{
	struct guest_vsock_pkt conn, pkt, asked[40];
	int fd, many[40];

	(void)state;
	/* No credit. */
	fd = rig_connect(rig_path);
	rig_put(fd, "CONNECT 52\n");
	conn = rig_expect(REQUEST);
	pkt = guest_vsock_pkt(RESPONSE, conn.dst_port, conn.src_port);
	pkt.buf_alloc = 0;
	guest_vsock_send(&rig_guest, &pkt, NULL, 0);
	(void)rig_settle();
	assert_int_equal(strncmp(rig_get(fd), "OK ", 3), 0); /* to close with bytes unread would be a RST */
	rig_put(fd, "waits");
	rig_expect_nothing();
	vsock_stream_timer(&rig_vsock->stream[0]); /* a second later */
	(void)rig_expect(CREDIT_REQUEST);
	rig_expect_sleep();
	rig_put(fd, " and waits");
	rig_expect_sleep();
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	rig_expect_sleep();
	(void)close(fd);
	rig_expect_nothing(); /* the bytes come first */
	rig_expect_sleep();
	pkt = guest_vsock_pkt(CREDIT_UPDATE, conn.dst_port, conn.src_port);
	guest_vsock_send(&rig_guest, &pkt, NULL, 0);
	assert_int_equal(rig_expect(RW).len, 15);
	assert_int_equal(rig_expect(SHUTDOWN).flags, VSOCK_NO_MORE);
	rig_reply(&conn, RST);
	assert_int_equal(rig_vsock->n_used, 0);
	/* No receive buffers: the guest posts none from here on. */
	guest_mmio_write(rig_mmio, VIRTIO_MMIO_STATUS, 0);
	(void)rig_settle();
	rig_restart(QSIZE, false);
	for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
		many[i] = rig_connect(rig_path);
		rig_put(many[i], "CONNECT 52\nfirst bytes");
	}
	rig_expect_sleep();
	for (size_t i = 0; i < 10; i++)
		(void)close(many[i]);
	rig_expect_sleep();
	guest_vsock_post_all(&rig_guest);
	/* All of them: that the first are gone is seen when the guest answers. */
	for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
		conn = rig_expect(REQUEST);
		assert_in_range(conn.src_port, FIRST_PORT + 1, FIRST_PORT + ARRAY_SIZE(many));
		asked[conn.src_port - FIRST_PORT - 1] = conn;
	}
	for (size_t i = 10; i < ARRAY_SIZE(many); i++) {
		conn = asked[i];
		rig_reply(&conn, RESPONSE);
		assert_int_equal(rig_expect(RW).len, 11);
		assert_int_equal(strncmp(rig_get(many[i]), "OK ", 3), 0);
		(void)close(many[i]);
		(void)rig_expect(SHUTDOWN);
		rig_expect_sleep();
		rig_reply(&conn, RST);
	}
}

/* A guest that sends rubbish and takes no answers: the answers are bounded, its packets wait, nothing is lost. */
static void replies_are_bounded(void **state)
{
	struct guest_vsock_pkt pkt;
	unsigned n = 0;

	(void)state;
	guest_mmio_write(rig_mmio, VIRTIO_MMIO_STATUS, 0);
	rig_restart(256, false);
	for (uint32_t i = 0; i < 100; i++) {
		pkt = guest_vsock_pkt(RW, i, 5);
		guest_vsock_send(&rig_guest, &pkt, NULL, 0);
	}
	rig_expect_sleep();
	assert_int_equal(rig_vsock->n_rsts, VSOCK_MAX_RSTS);
	assert_false(guest_vsock_sent(&rig_guest));
	for (uint16_t i = 0; i < 256; i++) {
		guest_vsock_post(&rig_guest, i, true);
		(void)rig_settle();
	}
	while (guest_vsock_receive(&rig_guest, &pkt, rig_data)) {
		assert_int_equal(pkt.op, RST);
		assert_int_equal(pkt.dst_port, n++);
	}
	assert_int_equal(n, 100);
	assert_true(guest_vsock_sent(&rig_guest));
}

/* 1023 connections, and no more; then all of them end. CVE-2026-46214: no slot leaks, whoever fails. */
static void table_full(void **state)
{
	static int fds[VSOCK_MAX_CONNECTIONS];
	struct guest_vsock_pkt conn, pkt;
	unsigned before = rig_open_descriptors();
	struct rlimit limit;
	int extra;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur < 2 * VSOCK_MAX_CONNECTIONS + 64)
		skip();
	for (unsigned i = 0; i < VSOCK_MAX_CONNECTIONS; i++)
		fds[i] = rig_connected(&conn);
	assert_int_equal(rig_vsock->n_used, VSOCK_MAX_CONNECTIONS);
	extra = rig_connect(rig_path);
	rig_put(extra, "CONNECT 52\n");
	rig_expect_nothing();
	assert_true(rig_is_closed(extra));
	(void)close(extra);
	pkt = guest_vsock_pkt(REQUEST, 1, 2);
	guest_vsock_send(&rig_guest, &pkt, NULL, 0);
	(void)rig_expect(RST);
	rig_expect_sleep();
	for (unsigned i = 0; i < VSOCK_MAX_CONNECTIONS; i++)
		(void)close(fds[i]);
	for (unsigned i = 0; i < VSOCK_MAX_CONNECTIONS; i++) {
		conn = rig_expect(SHUTDOWN);
		rig_reply(&conn, RST);
	}
	rig_expect_sleep();
	assert_int_equal(rig_vsock->n_used, 0);
	assert_int_equal(rig_vsock->n_large, 0);
	assert_int_equal(rig_open_descriptors(), before);
}

static void thousands_one_after_another(void **state)
{
	struct guest_vsock_pkt conn, req;
	unsigned before = rig_open_descriptors();
	int l = rig_listen(80);

	(void)state;
	for (unsigned i = 0; i < 3000; i++) {
		int fd;

		switch (i % 4) {
		case 0: /* refused by the host: nobody listens at 81 */
			req = guest_vsock_pkt(REQUEST, i, 81);
			guest_vsock_send(&rig_guest, &req, NULL, 0);
			(void)rig_expect(RST);
			break;
		case 1:
			req = guest_vsock_pkt(REQUEST, i, 80);
			guest_vsock_send(&rig_guest, &req, NULL, 0);
			conn = rig_expect(RESPONSE);
			fd = accept(l, NULL, NULL);
			(void)close(fd);
			(void)rig_expect(SHUTDOWN);
			rig_reply(&conn, RST);
			break;
		case 2: /* refused by the guest */
			fd = rig_connect(rig_path);
			rig_put(fd, "CONNECT 52\n");
			conn = rig_expect(REQUEST);
			rig_reply(&conn, RST);
			(void)close(fd);
			break;
		default:
			fd = rig_connected(&conn);
			rig_reply(&conn, SHUTDOWN);
			(void)rig_expect(RST);
			(void)close(fd);
			break;
		}
	}
	rig_expect_sleep();
	rig_unlisten(l, 80);
	assert_int_equal(rig_vsock->n_used, 0);
	assert_true(rig_vsock->n_touched <= 2);
	assert_int_equal(rig_open_descriptors(), before);
	for (size_t i = 0; i < VSOCK_BUCKETS; i++)
		assert_null(rig_vsock->bucket[i]);
}

/* Receive buffers in odd shapes: the header over several descriptors, many small ones, some too small, some dev_readable. */
static void odd_receive_buffers(void **state)
{
	struct guest_ring *r = &rig_guest.ring[0];
	struct guest_vsock_pkt conn = { .dst_port = 52, .src_port = FIRST_PORT };
	struct guest_vsock_pkt pkt;
	const uint64_t at = 0x700000;
	uint32_t id, len;
	uint8_t hdr[44], text[40];
	int fd;

	(void)state;
	guest_mmio_write(rig_mmio, VIRTIO_MMIO_STATUS, 0);
	(void)rig_settle();
	rig_restart(QSIZE, false);
	guest_ring_desc(r, 0, at, 43, VIRTQ_DESC_F_WRITE, 0); /* too small */
	guest_ring_offer(r, 0);
	guest_ring_desc(r, 1, at, 100, 0, 0); /* dev_readable */
	guest_ring_offer(r, 1);
	for (uint16_t i = 0; i < 20; i++) /* 20 pieces of 3 bytes: for the REQUEST */
		guest_ring_desc(r, (uint16_t)(2 + i), at + 0x100u * i, 3,
				VIRTQ_DESC_F_WRITE | (i < 19 ? VIRTQ_DESC_F_NEXT : 0), (uint16_t)(3 + i));
	guest_ring_offer(r, 2);
	fd = rig_connect(rig_path);
	rig_put(fd, "CONNECT 52\nabcdefghijklmnopqrstuvwxyz0123456789");
	(void)rig_settle();
	assert_true(guest_ring_take_used(r, &id, &len));
	assert_int_equal(len, 0);
	assert_true(guest_ring_take_used(r, &id, &len));
	assert_int_equal(id, 1);
	assert_int_equal(len, 0);
	assert_true(guest_ring_take_used(r, &id, &len));
	assert_int_equal(id, 2);
	assert_int_equal(len, 44);
	pkt = guest_vsock_pkt(RESPONSE, conn.dst_port, conn.src_port);
	guest_vsock_send(&rig_guest, &pkt, NULL, 0);
	/* For the data: 46 bytes in two (two bytes of it), then 10 pieces of 5 (six), then one that has only a header, one good. */
	guest_ring_desc(r, 30, at + 0x4000, 45, VIRTQ_DESC_F_WRITE | VIRTQ_DESC_F_NEXT, 31);
	guest_ring_desc(r, 31, at + 0x4100, 1, VIRTQ_DESC_F_WRITE, 0);
	guest_ring_offer(r, 30);
	for (uint16_t i = 0; i < 10; i++)
		guest_ring_desc(r, (uint16_t)(32 + i), at + 0x5000 + 0x10u * i, 5,
				VIRTQ_DESC_F_WRITE | (i < 9 ? VIRTQ_DESC_F_NEXT : 0), (uint16_t)(33 + i));
	guest_ring_offer(r, 32);
	guest_ring_desc(r, 50, at + 0x6000, 44, VIRTQ_DESC_F_WRITE, 0);
	guest_ring_offer(r, 50);
	guest_ring_desc(r, 51, at + 0x7000, 1000, VIRTQ_DESC_F_WRITE, 0);
	guest_ring_offer(r, 51);
	guest_mmio_write(rig_mmio, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	(void)rig_settle();
	assert_true(guest_ring_take_used(r, &id, &len));
	assert_true(id == 30 && len == 46);
	assert_int_equal(gmem_read(rig_mem, GPA(at + 0x4000), hdr, 44), 0);
	assert_int_equal(hdr[24], 2);
	assert_int_equal(gmem_read(rig_mem, GPA(at + 0x4000 + 44), text, 1), 0);
	assert_int_equal(text[0], 'a');
	assert_true(guest_ring_take_used(r, &id, &len));
	assert_true(id == 32 && len == 50);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(gmem_read(rig_mem, GPA(at + 0x5000 + 0x10u * i), (i < 9 ? hdr + 5 * (i % 8) : text), 5), 0);
	assert_memory_equal(text, "defgh", 5);
	assert_true(guest_ring_take_used(r, &id, &len));
	assert_true(id == 50 && len == 0);
	assert_true(guest_ring_take_used(r, &id, &len));
	assert_true(id == 51 && len == 44 + 28);
	assert_int_equal(gmem_read(rig_mem, GPA(at + 0x7000 + 44), text, 28), 0);
	assert_memory_equal(text, "ijklmnopqrstuvwxyz0123456789", 28);
	(void)close(fd);
}

static void odd_transmit_chains(void **state)
{
	struct guest_ring *r = &rig_guest.ring[1];
	struct guest_vsock_pkt conn;
	int fd = rig_connected(&conn);
	uint32_t id, len;

	(void)state;
	while (guest_ring_take_used(r, &id, &len))
		;
	guest_ring_desc(r, 60, 0x100000, 20, 0, 0); /* shorter than a header */
	guest_ring_offer(r, 60);
	guest_ring_desc(r, 61, 0x100000, 100, VIRTQ_DESC_F_WRITE, 0); /* nothing to read */
	guest_ring_offer(r, 61);
	guest_ring_desc(r, 62, 0x100000, 100, VIRTQ_DESC_F_WRITE | VIRTQ_DESC_F_NEXT, 63);
	guest_ring_desc(r, 63, 0x100000, 100, 0, 0); /* wrong order */
	guest_ring_offer(r, 62);
	guest_mmio_write(rig_mmio, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
	(void)rig_settle();
	for (uint32_t i = 60; i < 63; i++) {
		assert_true(guest_ring_take_used(r, &id, &len));
		assert_true(id == i && len == 0);
	}
	rig_send_text(&conn, "alive");
	assert_string_equal(rig_get(fd), "alive");
	assert_int_equal(guest_fetched_twice(), 0);
	(void)close(fd);
}

static void broken_queues(void **state)
{
	struct guest_vsock_pkt conn;

	(void)state;
	for (uint16_t q = 0; q < 3; q++) {
		int fd = rig_connected(&conn);

		rig_put(fd, "x"); /* so that the receive queue is looked at */
		(void)rig_settle();
		guest_ring_set_idx(&rig_guest.ring[q], (uint16_t)(rig_guest.ring[q].avail_idx + QSIZE + 1));
		guest_mmio_write(rig_mmio, VIRTIO_MMIO_QUEUE_NOTIFY, q);
		for (int i = 0; i < 2 * QSIZE && guest_mmio_read(rig_mmio, VIRTIO_MMIO_STATUS) == 0xf; i++) {
			rig_put(fd, "x");
			(void)rig_settle();
		}
		rig_expect_sleep();
		assert_int_equal(guest_mmio_read(rig_mmio, VIRTIO_MMIO_STATUS), 0x4f);
		assert_true(rig_is_closed(fd));
		assert_int_equal(rig_vsock->n_used, 0);
		(void)close(fd);
		guest_mmio_write(rig_mmio, VIRTIO_MMIO_STATUS, 0);
		rig_restart(QSIZE, true);
	}
}

static void listener_refusals(void **state)
{
	char long_path[VSOCK_UDS_PATH_MAX + 2];
	struct err e = { .code = 0 };
	int fd = -1;

	(void)state;
	assert_int_equal(vsock_listener_open(rig_path, &fd, &e), -EADDRINUSE);
	assert_string_equal(e.msg, "Error binding to the host-side Unix socket: Address in use (os error 98)");
	memset(long_path, 'a', sizeof(long_path));
	long_path[sizeof(long_path) - 1] = 0;
	assert_int_equal(vsock_listener_open(long_path, &fd, &e), -ENAMETOOLONG);
	assert_int_equal(vsock_listener_open("", &fd, &e), -EINVAL);
	assert_int_equal(vsock_listener_open("/no/such/folder/v.sock", &fd, &e), -ENOENT);
	assert_int_equal(fd, -1);
}

/* Something of everything, whatever fails on the way. */
static void scenario(void)
{
	struct guest_vsock_pkt pkt, conn = { .op = 0 }, req = guest_vsock_pkt(REQUEST, 500, 90);
	int l = rig_listen(90), fd = rig_connect(rig_path), accepted;

	rig_put(fd, "CONNECT 52\nfrom the host");
	(void)rig_settle();
	guest_vsock_send(&rig_guest, &req, NULL, 0);
	for (int round = 0; round < 6; round++) {
		(void)rig_settle();
		while (guest_vsock_receive(&rig_guest, &pkt, rig_data)) {
			if (pkt.op == REQUEST || pkt.op == RESPONSE)
				conn = pkt;
			if (pkt.op == REQUEST)
				rig_reply(&pkt, RESPONSE);
			if (pkt.op == REQUEST || pkt.op == RESPONSE)
				rig_send_text(&pkt, "from the guest");
			if (pkt.op == SHUTDOWN && pkt.flags == VSOCK_NO_MORE)
				rig_reply(&pkt, RST);
			(void)rig_settle();
		}
		if (round == 2)
			(void)close(fd);
		if (round == 3 && conn.op != 0)
			rig_reply(&conn, SHUTDOWN);
		assert_true(guest_vsock_sent(&rig_guest));
	}
	accepted = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (accepted >= 0)
		(void)close(accepted);
	rig_unlisten(l, 90);
}

/* Each system call fails or comes short, in turn. Afterwards the device works and holds nothing. */
static void host_fails_at_every_call(void **state)
{
	static const int errors[] = { 0, EAGAIN, EINTR, EIO, EPIPE, ECONNRESET, ENOMEM, EMFILE };
	struct guest_vsock_pkt conn;

	(void)state;
	for (size_t e = 0; e < ARRAY_SIZE(errors); e++) {
		unsigned calls = 1;

		for (unsigned i = 1; i <= calls; i++) {
			int fd;

			rig_host.errnum = errors[e];
			rig_host.n_calls = 0;
			rig_host.countdown = i;
			scenario();
			calls = rig_host.n_calls > calls ? rig_host.n_calls : calls;
			rig_host.countdown = 0;
			/* A timer brings back a listener without descriptors and a connect that waits. */
			vsock_listener_ready(rig_vsock, EPOLLIN);
			evloop_disarm(rig_loop, &rig_vsock->accept_timer);
			vsock_wake_ready(rig_vsock, EPOLLIN);
			guest_mmio_write(rig_mmio, VIRTIO_MMIO_STATUS, 0);
			rig_expect_sleep();
			assert_int_equal(rig_vsock->n_used, 0);
			rig_restart(QSIZE, true);
			fd = rig_connected(&conn);
			(void)close(fd);
			(void)rig_expect(SHUTDOWN);
			rig_reply(&conn, RST);
		}
		assert_in_range(calls, 10, 200);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(packets_of_others),
		TEST(guest_exceeds_its_credit),
		TEST(nothing_spins),
		TEST(replies_are_bounded),
		TEST(table_full),
		TEST(thousands_one_after_another),
		TEST(odd_receive_buffers),
		TEST(odd_transmit_chains),
		TEST(broken_queues),
		TEST(listener_refusals),
		TEST(host_fails_at_every_call),
	};

	return cmocka_run_group_tests(tests, rig_group_setup, rig_group_teardown);
}
