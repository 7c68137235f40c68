/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of a stream: accept and the CONNECT line, connect, what goes to the host socket and what
 * it does not take yet.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>

#include "virtio/vsock_impl.h"
#include "vmm/base/log.h"

/* Host programs accepted in one turn. */
#define ACCEPTS 32
/* Tries to connect, 20 ms apart (vsock.c), while the listener's backlog is full. */
#define OPEN_TRIES 100

/* --- From the host --- */

bool vsock_uds_accept(struct vsock *v)
{
	for (int i = 0; i < ACCEPTS; i++) {
		struct vsock_stream *s;
		int fd = v->io->accept(v->listen_fd);

		if (fd < 0) {
			vsock_count(&v->stats.muxer_event_fails, errno != EAGAIN && errno != ECONNABORTED && errno != EINTR);
			return errno == EAGAIN || errno == ECONNABORTED || errno == EINTR;
		}
		s = vsock_stream_alloc(v);
		if (!s) {
			/* CONTRACT.md 11.1: a refusal is a silent close. */
			v->io->close(fd);
			log_guest(LOG_WARN, "vsock: a host program is refused: all %d connections are in use",
				  VSOCK_MAX_CONNECTIONS);
			continue;
		}
		s->fd = fd;
		vsock_conn_init_line(&s->conn, vsock_stream_buf_alloc(s));
		vsock_uds_line(s);
		vsock_settle(s);
	}
	return true;
}

static bool is_transient(int errnum)
{
	return errnum == EAGAIN || errnum == EWOULDBLOCK || errnum == EINTR;
}

void vsock_uds_line(struct vsock_stream *s)
{
	struct vsock *v = s->vsock;
	char bytes[VSOCK_LINE_MAX];
	uint32_t port;
	ssize_t n;

	/* Look first, then take up to the LF: what is behind it is the stream's. */
	n = v->io->recv(s->fd, bytes, sizeof(bytes) - s->line.len, MSG_PEEK);
	if (n > 0)
		n = v->io->recv(s->fd, bytes, vsock_line_scan(&s->line, bytes, (size_t)n), 0);
	if (n < 0 && is_transient(errno))
		return;
	if (n <= 0) {
		vsock_conn_reset(&s->conn);
		return;
	}
	vsock_line_add(&s->line, bytes, (size_t)n);
	switch (vsock_line_parse(&s->line, &port)) {
	case VSOCK_LINE_PART:
		return;
	case VSOCK_LINE_PORT:
		vsock_conn_request(&s->conn, port, vsock_table_host_port(v, port));
		vsock_table_insert(s);
		return;
	case VSOCK_LINE_BAD:
		vsock_conn_reset(&s->conn);
		return;
	}
}

void vsock_uds_greet(struct vsock_stream *s)
{
	char text[24];
	int len = snprintf(text, sizeof(text), "OK %" PRIu32 "\n", s->conn.host_port);
	const struct iovec iov = { .iov_base = text, .iov_len = (size_t)len };
	ssize_t n = s->vsock->io->writev(s->fd, &iov, 1);

	/* The first bytes on a fresh socket: they go as a whole or the program is gone. */
	if (n != len) {
		vsock_count(&s->vsock->stats.conn_event_fails, 1);
		vsock_conn_reset(&s->conn);
	}
}

void vsock_uds_read_failed(struct vsock_stream *s, int errnum)
{
	if (errnum == EINTR)
		return;
	s->readable = false;
	if (is_transient(errnum))
		return;
	/* ECONNRESET: the program went away without reading all; nobody is left at that end. */
	vsock_count(&s->vsock->stats.rx_read_fails, 1);
	vsock_conn_reset(&s->conn);
}

/* --- From the guest --- */

void vsock_uds_connect(struct vsock_stream *s)
{
	struct vsock *v = s->vsock;
	char path[VSOCK_UDS_PATH_MAX + 1];
	int len = snprintf(path, sizeof(path), "%s_%" PRIu32, v->uds_path, s->conn.host_port);

	if (len < 0 || (size_t)len >= sizeof(path)) {
		log_guest(LOG_WARN, "vsock: the guest can't reach port %" PRIu32 ": with it uds_path is longer than %d bytes",
			  s->conn.host_port, VSOCK_UDS_PATH_MAX);
		vsock_conn_reset(&s->conn);
		return;
	}
	s->fd = v->io->connect(path);
	if (s->fd >= 0)
		vsock_conn_opened(&s->conn);
	else if (!is_transient(errno) || ++s->open_tries >= OPEN_TRIES)
		vsock_conn_reset(&s->conn);
}

/* Writing to the socket of @s failed with @errnum. */
static void write_failed(struct vsock_stream *s, int errnum)
{
	if (is_transient(errnum))
		return;
	vsock_count(&s->vsock->stats.tx_write_fails, 1);
	/* A program that went away may have left bytes for the guest: they are still read. */
	if (errnum == EPIPE || errnum == ECONNRESET)
		vsock_conn_host_shut(&s->conn, VSOCK_NO_RECEIVE);
	else
		vsock_conn_reset(&s->conn);
}

void vsock_uds_flush(struct vsock_stream *s)
{
	struct vsock *v = s->vsock;
	struct iovec iov[2];
	size_t n_iov;

	/* Until it takes no more; at most the buffer, so bounded. */
	while ((n_iov = vsock_stream_backlog_iov(s, iov)) > 0) {
		ssize_t n = v->io->writev(s->fd, iov, (int)n_iov);

		if (n <= 0) {
			vsock_count(&v->stats.tx_flush_fails, n < 0 && !is_transient(errno));
			write_failed(s, n < 0 ? errno : EAGAIN);
			return;
		}
		if (s->conn.state == VSOCK_DRAINING)
			s->timed = VSOCK_FREE; /* its time begins anew */
		vsock_conn_forwarded(&s->conn, (uint32_t)n);
	}
}

void vsock_uds_data(struct vsock_stream *s, struct chain_cursor *data, uint32_t len)
{
	struct vsock *v = s->vsock;
	struct iovec iov[2];
	uint32_t taken = 0;
	size_t n_iov;

	vsock_count(&v->stats.tx_bytes_count, len);
	/* Straight out of guest memory, unless something waits already. */
	if (vsock_conn_backlog(&s->conn) == len) {
		struct chain_cursor whole = *data;
		ssize_t n = v->io->writev(s->fd, v->iov, (int)chain_to_iov(&whole, len, v->iov));

		if (n < 0)
			write_failed(s, errno);
		if (s->conn.state == VSOCK_DEAD || (s->conn.host_shut & VSOCK_NO_RECEIVE))
			return;
		if (n > 0) {
			taken = (uint32_t)n;
			vsock_conn_forwarded(&s->conn, taken);
		}
	}
	n_iov = vsock_stream_room_iov(s, len - taken, iov);
	if (!chain_skip(data, taken))
		must(false);
	for (size_t i = 0; i < n_iov; i++) {
		bool whole = chain_read(data, iov[i].iov_base, iov[i].iov_len);

		must(whole); /* vsock_pkt.c saw that the bytes are there */
	}
}

void vsock_uds_shutdown(struct vsock_stream *s)
{
	const struct vsock_conn *c = &s->conn;

	if (s->fd < 0)
		return;
	if ((c->guest_shut & VSOCK_NO_RECEIVE) && !s->shut_rd) {
		s->shut_rd = true;
		s->readable = false;
		s->vsock->io->shutdown(s->fd, SHUT_RD);
		if (s->hung_up)
			vsock_conn_host_shut(&s->conn, VSOCK_NO_RECEIVE);
	}
	if ((c->guest_shut & VSOCK_NO_SEND) && !s->shut_wr && vsock_conn_backlog(c) == 0) {
		s->shut_wr = true;
		s->vsock->io->shutdown(s->fd, SHUT_WR);
	}
}
