/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passt's stream: cut at every byte, gathered, jammed, handed from one handle to another, hostile, ended.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "virtio/net_passt.h"
#include "vmm/base/log.h"

static const size_t sizes[] = { PASST_FRAME_MIN, 60, 15, 1514 };
#define N_FRAMES ARRAY_SIZE(sizes)

static char log_path[64];
static int peer;
static struct net_backend *be;
static uint8_t frame_buf[NET_FRAME_MAX + 8], wire[4 * (PASST_FRAME_MAX + 4)];

static int setup(void **state)
{
	int fd;

	(void)state;
	(void)snprintf(log_path, sizeof(log_path), "/tmp/test_net_passt.XXXXXX");
	fd = mkstemp(log_path);
	return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
	(void)state;
	return unlink(log_path);
}

static int open_pair(void **state)
{
	int fds[2];

	(void)state;
	if (truncate(log_path, 0) < 0 || log_open(log_path, NULL) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		return -1;
	peer = fds[0];
	return net_passt_adopt(fds[1], "/run/passt.sock", &be, NULL);
}

static int close_pair(void **state)
{
	(void)state;
	if (be)
		be->ops->close(be);
	be = NULL;
	return peer < 0 ? 0 : close(peer);
}

static void end_peer(void)
{
	assert_int_equal(close(peer), 0);
	peer = -1;
}

/* Byte @i of frame @which. */
static uint8_t pattern(size_t which, size_t i)
{
	return (uint8_t)(which * 131 + i * 7 + i / 256);
}

static size_t put_frame(uint8_t *at, size_t which, size_t len)
{
	uint32_t prefix = htobe32((uint32_t)len);

	memcpy(at, &prefix, sizeof(prefix));
	for (size_t i = 0; i < len; i++)
		at[4 + i] = pattern(which, i);
	return 4 + len;
}

static size_t put_frames(void)
{
	size_t total = 0;

	for (size_t i = 0; i < N_FRAMES; i++)
		total += put_frame(wire + total, i, sizes[i]);
	return total;
}

static void peer_writes(const void *bytes, size_t len)
{
	assert_int_equal(write(peer, bytes, len), len);
}

/* Receive into iovecs that end within the header, behind it, and within the frame. */
static ssize_t receive(void)
{
	struct iovec iov[] = { { frame_buf, 5 }, { frame_buf + 5, 7 }, { frame_buf, 0 }, { frame_buf + 12, 3 },
			       { frame_buf + 15, NET_FRAME_MAX - 15 } };

	memset(frame_buf, 0xee, sizeof(frame_buf));
	return be->ops->recv(be, iov, ARRAY_SIZE(iov));
}

static void expect_frame(size_t which, size_t len)
{
	static const uint8_t zeros[NET_HDR_LEN];

	assert_int_equal(receive(), NET_HDR_LEN + len);
	assert_memory_equal(frame_buf, zeros, NET_HDR_LEN);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(frame_buf[NET_HDR_LEN + i], pattern(which, i));
	assert_int_equal(frame_buf[NET_HDR_LEN + len], 0xee);
}

static int transmit(size_t which, size_t len)
{
	struct iovec iov[] = { { frame_buf, NET_HDR_LEN - 1 }, { frame_buf + NET_HDR_LEN - 1, 4 }, { frame_buf, 0 },
			       { frame_buf + NET_HDR_LEN + 3, len - 3 } };

	memset(frame_buf, 0xdd, NET_HDR_LEN);
	for (size_t i = 0; i < len; i++)
		frame_buf[NET_HDR_LEN + i] = pattern(which, i);
	return be->ops->send(be, iov, ARRAY_SIZE(iov));
}

static unsigned log_lines(const char *text)
{
	static char buf[8192];
	int fd = open(log_path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, buf, sizeof(buf) - 1);
	unsigned lines = 0;

	assert_true(n >= 0 && close(fd) == 0);
	buf[n] = '\0';
	for (char *at = buf; (at = strchr(at, '\n')); at++)
		lines++;
	if (lines > 0)
		assert_non_null(strstr(buf, text));
	return lines;
}

/* P2: for good, said once, and passt is told. */
static void expect_ended(const char *why)
{
	char byte;

	for (int i = 0; i < 3; i++) {
		assert_int_equal(receive(), -EPIPE);
		assert_int_equal(transmit(0, 60), -EPIPE);
		assert_int_equal(be->ops->flush(be), -EPIPE);
	}
	assert_int_equal(log_lines(why), 1);
	if (peer >= 0)
		assert_int_equal(recv(peer, &byte, 1, MSG_DONTWAIT), 0);
}

/* --- From passt --- */

static void nothing_yet(void **state)
{
	(void)state;
	assert_int_equal(be->ops->features, 0);
	assert_int_equal(receive(), -EAGAIN);
	assert_int_equal(be->ops->flush(be), 0);
}

static void cut_at_every_byte(void **state)
{
	size_t total = put_frames();

	(void)state;
	for (size_t cut = 0; cut <= total; cut++) {
		size_t got = 0, end = 0;

		peer_writes(wire, cut);
		while (got < N_FRAMES && end + 4 + sizes[got] <= cut) {
			expect_frame(got, sizes[got]);
			end += 4 + sizes[got++];
		}
		assert_int_equal(receive(), -EAGAIN);
		peer_writes(wire + cut, total - cut);
		for (; got < N_FRAMES; got++)
			expect_frame(got, sizes[got]);
		assert_int_equal(receive(), -EAGAIN);
	}
}

static void byte_by_byte(void **state)
{
	size_t total = put_frames(), got = 0, end = 4 + sizes[0];

	(void)state;
	for (size_t i = 0; i < total; i++) {
		peer_writes(wire + i, 1);
		if (i + 1 < end) {
			assert_int_equal(receive(), -EAGAIN);
			continue;
		}
		expect_frame(got, sizes[got]);
		got++;
		if (got < N_FRAMES)
			end += 4 + sizes[got];
	}
	assert_int_equal(got, N_FRAMES);
}

/* One system call receives them all: the rest are given out with the socket empty. */
static void many_at_once(void **state)
{
	size_t total = put_frames();
	int left;

	(void)state;
	peer_writes(wire, total);
	for (size_t i = 0; i < N_FRAMES; i++) {
		expect_frame(i, sizes[i]);
		assert_true(recv(be->fd, &left, 1, MSG_PEEK | MSG_DONTWAIT) < 0);
	}
}

/* The largest frames, in pieces that never end where a frame or the buffer ends. */
static void largest(void **state)
{
	size_t total = 0, sent = 0, got = 0;

	(void)state;
	for (size_t i = 0; i < 4; i++)
		total += put_frame(wire + total, i, PASST_FRAME_MAX);
	for (int round = 0; round < 8; round++) {
		sent = 0;
		got = 0;
		while (got < 4) {
			size_t part = total - sent < 50021 ? total - sent : 50021;

			peer_writes(wire + sent, part);
			sent += part;
			while (got < 4 && (got + 1) * (4 + PASST_FRAME_MAX) <= sent)
				expect_frame(got++, PASST_FRAME_MAX);
			assert_int_equal(receive(), -EAGAIN);
		}
	}
}

static void does_not_fit(void **state)
{
	struct iovec iov = { frame_buf, NET_HDR_LEN + 59 };

	(void)state;
	peer_writes(wire, put_frames());
	expect_frame(0, sizes[0]);
	assert_int_equal(be->ops->recv(be, &iov, 1), -EMSGSIZE);
	expect_frame(2, sizes[2]);
	expect_frame(3, sizes[3]);
}

/* --- To passt --- */

static void peer_expects(const uint8_t *want, size_t len)
{
	static uint8_t got[sizeof(wire)];
	size_t n = 0;

	while (n < len) {
		ssize_t rc = read(peer, got + n, len - n);

		assert_true(rc > 0);
		n += (size_t)rc;
	}
	assert_memory_equal(got, want, len);
}

static void gathered(void **state)
{
	size_t total = put_frames();
	uint8_t byte;

	(void)state;
	for (size_t i = 0; i < N_FRAMES; i++)
		assert_int_equal(transmit(i, sizes[i]), 0);
	assert_int_equal(read(peer, &byte, 1), -1);
	assert_int_equal(be->ops->flush(be), 0);
	peer_expects(wire, total);
	assert_int_equal(read(peer, &byte, 1), -1);
	assert_int_equal(be->ops->flush(be), 0);
}

/* passt does not read: frames wait here, then with the caller; nothing is lost or said twice. */
static void jammed(void **state)
{
	size_t sent = 0, read_frames = 0, total = 0, got = 0;
	int small = 1;
	static uint8_t stream[40 * 9004];

	(void)state;
	assert_int_equal(setsockopt(be->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	while (transmit(sent, 9000) == 0 && sent < 40)
		sent++;
	assert_in_range(sent, 28, 39);
	assert_int_equal(transmit(sent, 9000), -EAGAIN);
	assert_int_equal(be->ops->flush(be), -EAGAIN);
	for (size_t i = 0; i < 40; i++)
		total += put_frame(stream + total, i, 9000);
	while (got < total) {
		static uint8_t part[701];
		ssize_t n = read(peer, part, sizeof(part));
		int rc;

		if (n > 0) {
			assert_memory_equal(part, stream + got, (size_t)n);
			got += (size_t)n;
		}
		rc = sent < 40 ? transmit(sent, 9000) : -EAGAIN;
		if (rc == 0)
			sent++;
		rc = be->ops->flush(be);
		assert_true(rc == 0 || rc == -EAGAIN);
		assert_true(++read_frames < 100000);
	}
	assert_int_equal(sent, 40);
	assert_int_equal(be->ops->flush(be), 0);
}

static void impossible_sends(void **state)
{
	struct iovec iov = { wire, NET_HDR_LEN + PASST_FRAME_MIN - 1 };

	(void)state;
	assert_int_equal(be->ops->send(be, &iov, 1), -EINVAL);
	iov.iov_len = 0;
	assert_int_equal(be->ops->send(be, &iov, 1), -EINVAL);
	iov.iov_len = NET_FRAME_MAX + 1;
	assert_int_equal(be->ops->send(be, &iov, 1), -EMSGSIZE);
	assert_int_equal(transmit(1, PASST_FRAME_MAX), 0);
	assert_int_equal(be->ops->flush(be), 0);
	peer_expects(wire, put_frame(wire, 1, PASST_FRAME_MAX));
}

/* --- Two handles --- */

static void second_handle(void **state)
{
	struct net_backend *second;
	size_t total = put_frames();

	(void)state;
	/* The first try of a start has received a part and sent nothing yet. */
	peer_writes(wire, 4 + sizes[0] + 6);
	assert_int_equal(be->ops->dup(be, &second, NULL), 0);
	assert_int_not_equal(second->fd, be->fd);
	expect_frame(0, sizes[0]);
	assert_int_equal(receive(), -EAGAIN);
	assert_int_equal(transmit(1, 60), 0);
	be->ops->close(be);
	be = second;
	peer_writes(wire + 4 + sizes[0] + 6, total - (4 + sizes[0] + 6));
	for (size_t i = 1; i < N_FRAMES; i++)
		expect_frame(i, sizes[i]);
	assert_int_equal(be->ops->flush(be), 0);
	peer_expects(wire, put_frame(wire, 1, 60));
	/* The last one's end is the connection's. */
	be->ops->close(be);
	be = NULL;
	assert_int_equal(read(peer, wire, 1), 0);
}

static void end_reaches_both(void **state)
{
	struct net_backend *second;

	(void)state;
	assert_int_equal(be->ops->dup(be, &second, NULL), 0);
	end_peer();
	assert_int_equal(receive(), -EPIPE);
	be->ops->close(be);
	be = second;
	expect_ended("it closed the connection");
}

/* A start is told, rather than a guest: by what was received, by a socket that is closed, by one that is not. */
static void ended_before_the_start(void **state)
{
	struct net_backend *second = NULL;
	struct err e = { 0 };

	(void)state;
	peer_writes(wire, put_frame(wire, 0, 60));
	assert_int_equal(be->ops->dup(be, &second, &e), 0);
	second->ops->close(second);
	expect_frame(0, 60);
	end_peer();
	for (int i = 0; i < 2; i++) {
		second = NULL;
		assert_int_equal(be->ops->dup(be, &second, &e), -EPIPE);
		assert_null(second);
		assert_string_equal(e.msg, "passt at '/run/passt.sock' closed the connection: it ended, or serves another client; "
				    "start one for this interface (passt --socket PATH) and configure the interface again");
		assert_int_equal(receive(), -EPIPE);
	}
}

/* --- Hostile and dead peers --- */

static void impossible_lengths(void **state)
{
	static const uint32_t bad[] = { 0, 1, PASST_FRAME_MIN - 1, PASST_FRAME_MAX + 1, 0x10000000, 0x80000000, 0xffffffff };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		uint32_t prefix = htobe32(bad[i]);
		size_t len = put_frame(wire, 0, 60);

		peer_writes(wire, len);
		peer_writes(&prefix, sizeof(prefix));
		expect_frame(0, 60);
		expect_ended("it sent a length that no frame has");
		assert_int_equal(close_pair(state), 0);
		assert_int_equal(open_pair(state), 0);
	}
}

static void ended_in_mid_frame(void **state)
{
	size_t len = put_frame(wire, 0, 60);

	for (size_t cut = 1; cut < len; cut++) {
		peer_writes(wire, cut);
		end_peer();
		assert_int_equal(receive(), -EAGAIN);
		expect_ended("in the middle of a frame");
		assert_int_equal(close_pair(state), 0);
		assert_int_equal(open_pair(state), 0);
	}
}

static void ended_between_frames(void **state)
{
	(void)state;
	peer_writes(wire, put_frame(wire, 0, 60));
	end_peer();
	expect_frame(0, 60);
	expect_ended("it closed the connection (it ended, or serves another client)");
}

static void ended_while_sending(void **state)
{
	(void)state;
	end_peer();
	assert_int_equal(transmit(0, 60), 0);
	assert_int_equal(be->ops->flush(be), -EPIPE);
	expect_ended("sending failed: Broken pipe");
}

/* The peer goes with our bytes unread. */
static void ended_by_reset(void **state)
{
	(void)state;
	assert_int_equal(transmit(0, 60), 0);
	assert_int_equal(be->ops->flush(be), 0);
	end_peer();
	expect_ended("receiving failed: Connection reset");
}

/* --- Connecting --- */

static void expect_refused(const char *path, int code, const char *text)
{
	struct net_backend *out = NULL;
	struct err e = { 0 };

	assert_int_equal(net_passt_connect(path, &out, &e), code);
	assert_null(out);
	assert_string_equal(e.msg, text);
}

static void connects(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char want[400], longest[sizeof(addr.sun_path) + 1];
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), waiting;

	assert_int_equal(close_pair(state), 0);
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%.40s.sock", log_path);
	(void)snprintf(want, sizeof(want), "connect to passt at '%s': No such file or directory (os error 2); start it first: "
		       "passt --socket %s", addr.sun_path, addr.sun_path);
	expect_refused(addr.sun_path, -ENOENT, want);
	assert_int_equal(bind(listener, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	(void)snprintf(want, sizeof(want), "connect to passt at '%s': Connection refused (os error 111); start it first: "
		       "passt --socket %s", addr.sun_path, addr.sun_path);
	expect_refused(addr.sun_path, -ECONNREFUSED, want);
	(void)snprintf(want, sizeof(want), "connect to passt at '%s': Connection refused (os error 111); start it first: "
		       "passt --socket %s", log_path, log_path);
	expect_refused(log_path, -ECONNREFUSED, want);

	assert_int_equal(listen(listener, 0), 0);
	assert_int_equal(net_passt_connect(addr.sun_path, &be, NULL), 0);
	(void)snprintf(want, sizeof(want), "connect to passt at '%s': it serves other clients; start one for each interface: "
		       "passt --socket PATH", addr.sun_path);
	expect_refused(addr.sun_path, -EAGAIN, want);
	peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(peer >= 0);
	peer_writes(wire, put_frame(wire, 3, 60));
	expect_frame(3, 60);
	waiting = fcntl(be->fd, F_GETFD);
	assert_true(waiting >= 0 && (waiting & FD_CLOEXEC));
	assert_int_equal(unlink(addr.sun_path), 0);
	assert_int_equal(close(listener), 0);

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	(void)snprintf(want, sizeof(want), "passt's socket '%s': a path has 1 to 107 bytes; start passt with --socket PATH",
		       longest);
	expect_refused(longest, -EINVAL, want);
	expect_refused("", -EINVAL, "passt's socket '': a path has 1 to 107 bytes; start passt with --socket PATH");
}

int main(void)
{
#define PAIRED(f) cmocka_unit_test_setup_teardown(f, open_pair, close_pair)
	const struct CMUnitTest tests[] = {
		PAIRED(nothing_yet),
		PAIRED(cut_at_every_byte),
		PAIRED(byte_by_byte),
		PAIRED(many_at_once),
		PAIRED(largest),
		PAIRED(does_not_fit),
		PAIRED(gathered),
		PAIRED(jammed),
		PAIRED(impossible_sends),
		PAIRED(second_handle),
		PAIRED(end_reaches_both),
		PAIRED(ended_before_the_start),
		PAIRED(impossible_lengths),
		PAIRED(ended_in_mid_frame),
		PAIRED(ended_between_frames),
		PAIRED(ended_while_sending),
		PAIRED(ended_by_reset),
		PAIRED(connects),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
