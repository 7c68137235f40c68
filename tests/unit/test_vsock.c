/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vsock device: connections both ways, data, half-close, ends.
 */
#include "tests/lib/vsock_rig.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* A generator whose byte @i is known. */
static uint8_t pattern(uint64_t i)
{
	return (uint8_t)(i * 7 + (i >> 8) * 13 + (i >> 16));
}

static void host_connects(void **state)
{
	struct guest_vsock_pkt conn;
	int fd;

	(void)state;
	fd = rig_connected(&conn);
	assert_int_equal(conn.src_port, FIRST_PORT);
	assert_int_equal(conn.buf_alloc, VSOCK_BUF_LARGE);
	rig_put(fd, "question");
	assert_int_equal(rig_expect(RW).len, 8);
	assert_memory_equal(rig_data, "question", 8);
	rig_send_text(&conn, "answer");
	assert_string_equal(rig_get(fd), "answer");
	(void)close(fd);
	assert_int_equal(rig_expect(SHUTDOWN).flags, VSOCK_NO_MORE);
	rig_reply(&conn, RST);
	rig_expect_sleep();
	assert_int_equal(rig_vsock->n_used, 0);
	fd = rig_connected(&conn);
	assert_int_equal(conn.src_port, FIRST_PORT + 1);
	(void)close(fd);
}

/* A program that writes and goes at once: the bytes come before the end, and the end comes. */
static void last_bytes_and_gone(void **state)
{
	struct guest_vsock_pkt conn;

	(void)state;
	for (int i = 0; i < 2; i++) {
		int fd = rig_connected(&conn);

		if (i == 1) { /* the guest's direction is over already */
			struct guest_vsock_pkt pkt = guest_vsock_pkt(SHUTDOWN, conn.dst_port, conn.src_port);

			pkt.flags = VSOCK_NO_SEND;
			guest_vsock_send(&rig_guest, &pkt, NULL, 0);
		}
		rig_put(fd, "last bytes");
		(void)close(fd);
		assert_int_equal(rig_expect(RW).len, 10);
		assert_int_equal(rig_expect(SHUTDOWN).flags, VSOCK_NO_MORE);
		rig_reply(&conn, RST);
		rig_expect_sleep();
		assert_int_equal(rig_vsock->n_used, 0);
	}
}

/* The line in pieces, with the first bytes of the stream behind it. */
static void line_in_pieces(void **state)
{
	const char *line = "connect \t52\nearly bytes";
	struct guest_vsock_pkt conn;
	int fd = rig_connect(rig_path);

	(void)state;
	for (const char *p = line; *p; p++) {
		assert_int_equal(write(fd, p, 1), 1);
		(void)rig_settle();
	}
	conn = rig_expect(REQUEST);
	rig_expect_sleep();
	rig_expect_nothing(); /* nothing before the guest accepts */
	rig_reply(&conn, RESPONSE);
	assert_int_equal(rig_expect(RW).len, 11);
	assert_memory_equal(rig_data, "early bytes", 11);
	(void)close(fd);
}

static void refusals_are_silent(void **state)
{
	static const char *const lines[] = { "CONNECT x\n", "GET /\n", "\n", "CONNECT 4294967296\n",
					     "0123456789012345678901234567890123456789" };
	struct guest_vsock_pkt conn;
	int fd;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		fd = rig_connect(rig_path);
		rig_put(fd, lines[i]);
		rig_expect_nothing();
		assert_true(rig_is_closed(fd));
		(void)close(fd);
	}
	fd = rig_connect(rig_path); /* nobody listens in the guest */
	rig_put(fd, "CONNECT 52\n");
	conn = rig_expect(REQUEST);
	rig_reply(&conn, RST);
	rig_expect_nothing();
	assert_string_equal(rig_get(fd), "(end)");
	(void)close(fd);
	fd = rig_connect(rig_path); /* goes away in the middle of its line */
	rig_put(fd, "CONN");
	(void)rig_settle();
	(void)close(fd);
	rig_expect_sleep();
	assert_int_equal(rig_vsock->n_used, 0);
}

static void not_accepted_before_activation(void **state)
{
	struct guest_vsock_pkt conn;
	int fd;

	(void)state;
	guest_mmio_write(rig_mmio, VIRTIO_MMIO_STATUS, 0);
	fd = rig_connect(rig_path);
	rig_put(fd, "CONNECT 52\n");
	rig_expect_sleep();
	assert_int_equal(rig_vsock->n_used, 0);
	rig_restart(QSIZE, true);
	conn = rig_expect(REQUEST);
	rig_reply(&conn, RESPONSE);
	assert_int_equal(strncmp(rig_get(fd), "OK ", 3), 0);
	(void)close(fd);
}

static void guest_connects(void **state)
{
	struct guest_vsock_pkt req = guest_vsock_pkt(REQUEST, 1234, 77), answer;
	int l = rig_listen(77), fd;

	(void)state;
	guest_vsock_send(&rig_guest, &req, NULL, 0);
	answer = rig_expect(RESPONSE);
	assert_int_equal(answer.src_port, 77);
	assert_int_equal(answer.dst_port, 1234);
	fd = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0);
	assert_string_equal(rig_get(fd), ""); /* no handshake bytes */
	rig_send_text(&answer, "hello");
	assert_string_equal(rig_get(fd), "hello");
	rig_put(fd, "world");
	assert_int_equal(rig_expect(RW).len, 5);
	rig_reply(&answer, SHUTDOWN);
	(void)rig_expect(RST);
	assert_string_equal(rig_get(fd), "(end)");
	assert_int_equal(rig_vsock->n_used, 0);
	(void)close(fd);
	rig_unlisten(l, 77);
	guest_vsock_send(&rig_guest, &req, NULL, 0); /* nobody listens on the host */
	(void)rig_expect(RST);
	rig_expect_sleep();
	assert_int_equal(rig_vsock->n_used, 0);
	guest_vsock_send(&rig_guest, &req, NULL, 0);
	(void)rig_expect(RST);
}

/* A listener whose backlog is full is asked again, and does not hold up anybody. */
static void full_backlog_is_retried(void **state)
{
	struct guest_vsock_pkt req = guest_vsock_pkt(REQUEST, 1, 78);
	int l = rig_listen(78), fd;

	(void)state;
	assert_int_equal(listen(l, 0), 0);
	guest_vsock_send(&rig_guest, &req, NULL, 0);
	(void)rig_expect(RESPONSE);
	req.src_port = 2;
	guest_vsock_send(&rig_guest, &req, NULL, 0);
	rig_expect_nothing();
	fd = accept(l, NULL, NULL);
	for (int i = 0; i < 20 && rig_vsock->stream[1].conn.state == VSOCK_OPENING; i++)
		assert_true(evloop_turn(rig_loop, 10) >= 0);
	assert_int_equal(rig_expect(RESPONSE).dst_port, 2);
	(void)close(fd);
	rig_unlisten(l, 78);
}

static void path_too_long_for_the_port(void **state)
{
	struct guest_vsock_pkt req = guest_vsock_pkt(REQUEST, 1, UINT32_MAX);
	size_t len = strlen(rig_vsock->uds_path);

	(void)state;
	memset(rig_vsock->uds_path + len, 'x', VSOCK_UDS_PATH_MAX - len);
	guest_vsock_send(&rig_guest, &req, NULL, 0);
	(void)rig_expect(RST);
	rig_vsock->uds_path[len] = 0;
}

static void half_close(void **state)
{
	struct guest_vsock_pkt conn, pkt;
	int fd = rig_connected(&conn);

	(void)state;
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	assert_int_equal(rig_expect(SHUTDOWN).flags, VSOCK_NO_SEND);
	rig_expect_sleep();
	rig_send_text(&conn, "still here");
	assert_string_equal(rig_get(fd), "still here");
	(void)close(fd);
	assert_int_equal(rig_expect(SHUTDOWN).flags, VSOCK_NO_MORE);
	rig_reply(&conn, RST);
	assert_int_equal(rig_vsock->n_used, 0);

	fd = rig_connected(&conn);
	pkt = guest_vsock_pkt(SHUTDOWN, conn.dst_port, conn.src_port);
	pkt.flags = VSOCK_NO_SEND;
	guest_vsock_send(&rig_guest, &pkt, NULL, 0);
	rig_expect_sleep();
	assert_string_equal(rig_get(fd), "(end)");
	rig_put(fd, "other way");
	assert_int_equal(rig_expect(RW).len, 9);
	(void)close(fd);
	assert_int_equal(rig_expect(SHUTDOWN).flags, VSOCK_NO_MORE);
	rig_reply(&conn, RST);
	assert_int_equal(rig_vsock->n_used, 0);

	fd = rig_connected(&conn);
	pkt = guest_vsock_pkt(SHUTDOWN, conn.dst_port, conn.src_port);
	pkt.flags = VSOCK_NO_RECEIVE;
	guest_vsock_send(&rig_guest, &pkt, NULL, 0);
	rig_expect_sleep();
	assert_int_equal(write(fd, "x", 1), -1);
	assert_int_equal(errno, EPIPE);
	rig_send_text(&conn, "last words");
	assert_string_equal(rig_get(fd), "last words");
	rig_reply(&conn, RST);
	assert_string_equal(rig_get(fd), "(end)");
	(void)close(fd);
}

/* Sockets are watched for edges: what one edge stands for is worked off to its end. */
static void one_edge_for_much(void **state)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct iovec iov = { .iov_base = "first", .iov_len = 5 };
	const struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes) };
	struct guest_vsock_pkt conn;
	int fd = rig_connected(&conn);

	(void)state;
	/* A read stops behind a descriptor that was passed along. */
	memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	assert_int_equal(sendmsg(fd, &msg, 0), 5);
	rig_put(fd, "second");
	assert_int_equal(rig_expect(RW).len, 5);
	assert_int_equal(rig_expect(RW).len, 6);
	/* And before the end of file. */
	rig_put(fd, "last");
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	assert_int_equal(rig_expect(RW).len, 4);
	assert_int_equal(rig_expect(SHUTDOWN).flags, VSOCK_NO_SEND);
	rig_expect_sleep();
	(void)close(fd);
	assert_int_equal(rig_expect(SHUTDOWN).flags, VSOCK_NO_MORE);
	rig_reply(&conn, RST);
	assert_int_equal(rig_vsock->n_used, 0);
}

/* Bytes wait for room, the program is gone, and then the guest says that it takes no more. */
static void gone_with_bytes_unread(void **state)
{
	struct guest_vsock_pkt conn, pkt;
	int fd = rig_connected(&conn);

	(void)state;
	pkt = guest_vsock_pkt(CREDIT_UPDATE, conn.dst_port, conn.src_port);
	pkt.buf_alloc = 0;
	guest_vsock_send(&rig_guest, &pkt, NULL, 0);
	(void)rig_settle();
	rig_put(fd, "waits");
	(void)close(fd);
	rig_expect_nothing();
	rig_expect_sleep();
	pkt.op = SHUTDOWN;
	pkt.flags = VSOCK_NO_RECEIVE;
	guest_vsock_send(&rig_guest, &pkt, NULL, 0);
	assert_int_equal(rig_expect(SHUTDOWN).flags, VSOCK_NO_MORE);
	rig_reply(&conn, RST);
	assert_int_equal(rig_vsock->n_used, 0);
}

/* Two seconds each, then a RST; the timers are made to fire. */
static void timeouts(void **state)
{
	struct guest_vsock_pkt conn;
	int fd = rig_connect(rig_path);

	(void)state;
	rig_put(fd, "CONNECT 52\n");
	(void)rig_expect(REQUEST);
	assert_true(rig_vsock->stream[0].timer.deadline_ns != 0);
	vsock_stream_timer(&rig_vsock->stream[0]);
	(void)rig_expect(RST);
	assert_string_equal(rig_get(fd), "(end)");
	(void)close(fd);
	assert_int_equal(rig_vsock->n_used, 0);

	fd = rig_connected(&conn);
	assert_true(rig_vsock->stream[0].timer.deadline_ns == 0);
	(void)close(fd);
	(void)rig_expect(SHUTDOWN);
	assert_true(rig_vsock->stream[0].timer.deadline_ns != 0);
	vsock_stream_timer(&rig_vsock->stream[0]);
	(void)rig_expect(RST);
	rig_expect_sleep();
	assert_int_equal(rig_vsock->n_used, 0);

	fd = rig_connect(rig_path);
	rig_put(fd, "CONN");
	(void)rig_settle();
	vsock_stream_timer(&rig_vsock->stream[0]);
	(void)rig_settle();
	assert_string_equal(rig_get(fd), "(end)");
	(void)close(fd);
	assert_int_equal(rig_vsock->n_used, 0);
}

/* Bulk both ways at once with checksums; the host program reads in odd pieces, the guest's credit is small. */
static void bulk(void **state)
{
	const uint64_t total = 3 * MIB + 12345;
	uint64_t out = 0, out_read = 0, in = 0, in_read = 0, fwd = 0;
	uint32_t window = 50000, seen_fwd = 0, room = VSOCK_BUF_LARGE;
	struct guest_vsock_pkt conn, pkt;
	int fd = rig_connected(&conn);
	uint8_t chunk[9000];

	(void)state;
	for (unsigned round = 0; in_read < total || out_read < total; round++) {
		uint32_t n = 1 + (round * 977) % VSOCK_PKT_DATA_MAX;
		ssize_t k;

		assert_true(round < 100000);
		if (n > total - out)
			n = (uint32_t)(total - out);
		if (n > 0 && out + n - seen_fwd <= room) {
			for (uint32_t i = 0; i < n; i++)
				rig_data[i] = pattern(out + i);
			pkt = guest_vsock_pkt(RW, conn.dst_port, conn.src_port);
			pkt.len = n;
			pkt.buf_alloc = window;
			pkt.fwd_cnt = (uint32_t)fwd;
			guest_vsock_send(&rig_guest, &pkt, rig_data, n);
			out += n;
		}
		n = 1 + (round * 331) % sizeof(chunk);
		if (n > total - in)
			n = (uint32_t)(total - in);
		for (uint32_t i = 0; i < n; i++)
			chunk[i] = pattern(in + i);
		k = n > 0 ? write(fd, chunk, n) : 0;
		in += k > 0 ? (uint64_t)k : 0;
		k = round % 3 == 0 ? read(fd, chunk, 1 + (round * 119) % sizeof(chunk)) : 0;
		for (ssize_t i = 0; i < k; i++)
			assert_int_equal(chunk[i], pattern(out_read++));
		(void)rig_settle();
		while (guest_vsock_receive(&rig_guest, &pkt, rig_data)) {
			seen_fwd = pkt.fwd_cnt;
			assert_true(pkt.op == RW || pkt.op == CREDIT_UPDATE || pkt.op == CREDIT_REQUEST);
			for (uint32_t i = 0; i < pkt.len; i++)
				assert_int_equal(rig_data[i], pattern(in_read++));
			assert_true(in_read - fwd <= window);
			fwd = in_read;
			if (pkt.op == CREDIT_REQUEST || round % 2 == 0) {
				pkt = guest_vsock_pkt(CREDIT_UPDATE, conn.dst_port, conn.src_port);
				pkt.buf_alloc = window;
				pkt.fwd_cnt = (uint32_t)fwd;
				guest_vsock_send(&rig_guest, &pkt, NULL, 0);
			}
			(void)rig_settle();
		}
		assert_true(guest_vsock_sent(&rig_guest));
	}
	(void)close(fd);
}

/* One program does not read; the other's connection does not notice. What was sent is kept, even past the guest's end. */
static void stalled_reader(void **state)
{
	struct guest_vsock_pkt dead, live, pkt;
	int stalled = rig_connected(&dead), fd = rig_connected(&live);
	uint64_t sent = 0, got = 0;
	ssize_t n;

	(void)state;
	pkt = guest_vsock_pkt(RW, dead.dst_port, dead.src_port);
	pkt.len = VSOCK_PKT_DATA_MAX;
	while (vsock_conn_backlog(&rig_vsock->stream[0].conn) + pkt.len <= VSOCK_BUF_LARGE) {
		for (uint32_t i = 0; i < pkt.len; i++)
			rig_data[i] = pattern(sent + i);
		guest_vsock_send(&rig_guest, &pkt, rig_data, pkt.len);
		sent += pkt.len;
		rig_expect_sleep();
		assert_true(guest_vsock_sent(&rig_guest));
	}
	assert_true(vsock_conn_backlog(&rig_vsock->stream[0].conn) > 0);
	while (guest_vsock_receive(&rig_guest, &pkt, rig_data))
		assert_int_equal(pkt.op, CREDIT_UPDATE);
	rig_send_text(&live, "live");
	assert_string_equal(rig_get(fd), "live");
	rig_put(fd, "live");
	assert_int_equal(rig_expect(RW).len, 4);
	rig_reply(&dead, SHUTDOWN);
	(void)rig_expect(RST);
	while ((n = read(stalled, rig_data, 30000)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(rig_data[i], pattern(got++));
		(void)rig_settle();
	}
	assert_int_equal(n, 0);
	assert_int_equal(got, sent);
	assert_int_equal(rig_vsock->n_used, 1);
	(void)close(stalled);
	(void)close(fd);
}

static void reset_ends_everything(void **state)
{
	struct guest_vsock_pkt conn;
	int fd, other;

	(void)state;
	for (int i = 0; i < 3; i++) {
		fd = rig_connected(&conn);
		other = rig_connect(rig_path);
		rig_put(other, "CONNECT 1");
		(void)rig_settle();
		guest_mmio_write(rig_mmio, VIRTIO_MMIO_STATUS, 0);
		rig_expect_sleep();
		assert_string_equal(rig_get(fd), "(end)");
		assert_true(rig_is_closed(other));
		assert_int_equal(rig_vsock->n_used, 0);
		assert_null(rig_vsock->ready.first);
		assert_null(rig_vsock->sync.first);
		(void)close(fd);
		(void)close(other);
		rig_restart(QSIZE, true);
	}
	fd = rig_connected(&conn);
	assert_int_equal(conn.src_port, FIRST_PORT + 3); /* never reused */
	(void)close(fd);
}

static void pause_keeps_connections(void **state)
{
	struct guest_vsock_pkt conn;
	int fd = rig_connected(&conn), waiting;

	(void)state;
	evloop_pause_devices(rig_loop);
	rig_put(fd, "during the pause");
	waiting = rig_connect(rig_path);
	rig_put(waiting, "CONNECT 52\n");
	rig_expect_nothing();
	evloop_resume_devices(rig_loop);
	virtio_mmio_kick_all(rig_mmio);
	for (int i = 0; i < 2; i++) {
		struct guest_vsock_pkt pkt;

		(void)rig_settle();
		assert_true(guest_vsock_receive(&rig_guest, &pkt, rig_data));
		assert_true(pkt.op == RW || pkt.op == REQUEST);
	}
	rig_send_text(&conn, "after it");
	assert_string_equal(rig_get(fd), "after it");
	(void)close(fd);
	(void)close(waiting);
}

static void configuration(void **state)
{
	uint8_t bytes[8];

	(void)state;
	virtio_mmio_bus_ops.read(rig_mmio, VIRTIO_MMIO_CONFIG, bytes, 8);
	assert_memory_equal(bytes, "\3\0\0\0\0\0\0\0", 8);
	assert_int_equal(guest_mmio_read(rig_mmio, VIRTIO_MMIO_DEVICE_ID), 19);
	assert_int_equal(rig_vsock->vdev.features, VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_IN_ORDER);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(host_connects),
		TEST(last_bytes_and_gone),
		TEST(line_in_pieces),
		TEST(refusals_are_silent),
		TEST(not_accepted_before_activation),
		TEST(guest_connects),
		TEST(full_backlog_is_retried),
		TEST(path_too_long_for_the_port),
		TEST(half_close),
		TEST(one_edge_for_much),
		TEST(gone_with_bytes_unread),
		TEST(timeouts),
		TEST(bulk),
		TEST(stalled_reader),
		TEST(reset_ends_everything),
		TEST(pause_keeps_connections),
		TEST(configuration),
	};

	return cmocka_run_group_tests(tests, rig_group_setup, rig_group_teardown);
}
