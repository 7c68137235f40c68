/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/net_passt.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"

/* The number in front of each frame. */
#define LEN_BYTES sizeof(uint32_t)

/* Bytes [head, tail) of data are in use. */
struct stream_buf {
	size_t head, tail;
	uint8_t *data; /* PASST_BUF_BYTES, inside the connection */
};

/*
 * A stream has one reader and one writer, whatever the number of handles on it: the second try of a
 * start goes on with the bytes where the first one stopped.
 */
struct passt_conn {
	int n_handles;
	int fd; /* owned */
	bool dead;
	struct stream_buf rx, tx; /* P1 */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	uint8_t rx_data[PASST_BUF_BYTES], tx_data[PASST_BUF_BYTES];
};

struct passt_handle {
	struct net_backend be; /* first; its fd is the connection's, duplicated: the event loop knows handles apart */
	struct passt_conn *conn;
};

static struct passt_conn *conn_of(const struct net_backend *be)
{
	return ((const struct passt_handle *)(const void *)be)->conn;
}

_Static_assert(offsetof(struct passt_handle, be) == 0, "conn_of");
_Static_assert(PASST_BUF_BYTES >= 2 * (LEN_BYTES + PASST_FRAME_MAX), "a frame always fits behind a part of another");

/* --- Buffers --- */

static size_t buf_len(const struct stream_buf *b)
{
	return b->tail - b->head;
}

/* Room behind the data for @need bytes or more, which moves the data to the front when that helps. */
static size_t buf_room(struct stream_buf *b, size_t need)
{
	if (b->head == b->tail) {
		b->head = 0;
		b->tail = 0;
	} else if (PASST_BUF_BYTES - b->tail < need && b->head > 0) {
		memmove(b->data, b->data + b->head, buf_len(b));
		b->tail = buf_len(b);
		b->head = 0;
	}
	return PASST_BUF_BYTES - b->tail;
}

static size_t iov_bytes(const struct iovec *iov, int n)
{
	size_t len = 0;

	for (int i = 0; i < n; i++)
		len += iov[i].iov_len;
	return len;
}

/* Step over @skip bytes of @iov: the rest of the element where that ends. */
static struct iovec iov_seek(const struct iovec **iov, size_t skip)
{
	while (skip >= (*iov)->iov_len) {
		skip -= (*iov)->iov_len;
		(*iov)++;
	}
	return (struct iovec){ (uint8_t *)(*iov)->iov_base + skip, (*iov)->iov_len - skip };
}

/* Copy @len (> 0) bytes of @src to the bytes of @iov behind the first @skip; it has them. */
static void iov_fill(const struct iovec *iov, size_t skip, const uint8_t *src, size_t len)
{
	struct iovec part = iov_seek(&iov, skip);

	for (;;) {
		size_t n = part.iov_len < len ? part.iov_len : len;

		memcpy(part.iov_base, src, n);
		src += n;
		len -= n;
		if (len == 0)
			return;
		part = *++iov;
	}
}

/* The other way. */
static void iov_take(const struct iovec *iov, size_t skip, uint8_t *dst, size_t len)
{
	struct iovec part = iov_seek(&iov, skip);

	for (;;) {
		size_t n = part.iov_len < len ? part.iov_len : len;

		memcpy(dst, part.iov_base, n);
		dst += n;
		len -= n;
		if (len == 0)
			return;
		part = *++iov;
	}
}

/* --- The end of a connection (P2) --- */

static int conn_end(struct passt_conn *conn, const char *why)
{
	log_error("passt at '%s': %s; the network interface stays without a link", conn->path, why);
	conn->dead = true;
	conn->rx.head = conn->rx.tail;
	conn->tx.head = conn->tx.tail;
	(void)shutdown(conn->fd, SHUT_RDWR); /* passt learns of it, too */
	return -EPIPE;
}

static int conn_end_errno(struct passt_conn *conn, const char *what, int errnum)
{
	char why[160], text[96];

	(void)snprintf(why, sizeof(why), "%s failed: %s", what, err_os_text(errnum, text, sizeof(text)));
	return conn_end(conn, why);
}

/* --- Receive --- */

/* The frame in front of rx: its bytes, 0 when it is not complete, -EBADMSG when no frame is that long. */
static ssize_t next_frame(const struct passt_conn *conn)
{
	uint32_t len;

	if (buf_len(&conn->rx) < LEN_BYTES)
		return 0;
	memcpy(&len, conn->rx.data + conn->rx.head, sizeof(len));
	len = be32toh(len);
	if (len < PASST_FRAME_MIN || len > PASST_FRAME_MAX)
		return -EBADMSG;
	return buf_len(&conn->rx) - LEN_BYTES < len ? 0 : (ssize_t)len;
}

static int receive_more(struct passt_conn *conn)
{
	/* A whole frame fits, or it would have been given out. */
	size_t room = buf_room(&conn->rx, PASST_BUF_BYTES);
	ssize_t n = recv(conn->fd, conn->rx.data + conn->rx.tail, room, MSG_DONTWAIT);

	if (n > 0) { /* with room left the socket is empty now: the next byte is a new edge for epoll */
		conn->rx.tail += (size_t)n;
		return 0;
	}
	if (n == 0)
		return conn_end(conn, buf_len(&conn->rx) > 0 ? "it closed the connection in the middle of a frame" :
				"it closed the connection (it ended, or serves another client)");
	if (errno == EAGAIN || errno == EINTR)
		return -EAGAIN;
	return conn_end_errno(conn, "receiving", errno);
}

static ssize_t passt_recv(struct net_backend *be, const struct iovec *iov, int n)
{
	static const uint8_t no_offloads[NET_HDR_LEN];
	struct passt_conn *conn = conn_of(be);
	ssize_t len;
	int rc;

	if (conn->dead)
		return -EPIPE;
	len = next_frame(conn);
	if (len == 0) {
		rc = receive_more(conn);
		if (rc < 0)
			return rc;
		len = next_frame(conn);
	}
	if (len < 0)
		return conn_end(conn, "it sent a length that no frame has");
	if (len == 0)
		return -EAGAIN;
	if (iov_bytes(iov, n) < NET_HDR_LEN + (size_t)len) {
		conn->rx.head += LEN_BYTES + (size_t)len;
		return -EMSGSIZE;
	}
	iov_fill(iov, 0, no_offloads, NET_HDR_LEN);
	iov_fill(iov, NET_HDR_LEN, conn->rx.data + conn->rx.head + LEN_BYTES, (size_t)len);
	conn->rx.head += LEN_BYTES + (size_t)len;
	return NET_HDR_LEN + len;
}

/* --- Send --- */

static int passt_flush(struct net_backend *be)
{
	struct passt_conn *conn = conn_of(be);
	ssize_t n;

	if (conn->dead)
		return -EPIPE;
	if (buf_len(&conn->tx) == 0)
		return 0;
	n = send(conn->fd, conn->tx.data + conn->tx.head, buf_len(&conn->tx), MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return conn_end_errno(conn, "sending", errno);
	if (n > 0)
		conn->tx.head += (size_t)n;
	return buf_len(&conn->tx) > 0 ? -EAGAIN : 0;
}

static int passt_send(struct net_backend *be, const struct iovec *iov, int n)
{
	struct passt_conn *conn = conn_of(be);
	size_t len = iov_bytes(iov, n);
	uint32_t prefix;

	if (conn->dead)
		return -EPIPE;
	if (len < NET_HDR_LEN + PASST_FRAME_MIN)
		return -EINVAL;
	len -= NET_HDR_LEN;
	if (len > PASST_FRAME_MAX)
		return -EMSGSIZE;
	if (buf_room(&conn->tx, LEN_BYTES + len) < LEN_BYTES + len) {
		int rc = passt_flush(be);

		if (rc == -EPIPE)
			return rc;
		if (buf_room(&conn->tx, LEN_BYTES + len) < LEN_BYTES + len)
			return -EAGAIN;
	}
	prefix = htobe32((uint32_t)len);
	memcpy(conn->tx.data + conn->tx.tail, &prefix, sizeof(prefix));
	iov_take(iov, NET_HDR_LEN, conn->tx.data + conn->tx.tail + LEN_BYTES, len);
	conn->tx.tail += LEN_BYTES + len;
	return 0;
}

/* --- Life --- */

static void passt_close(struct net_backend *be)
{
	struct passt_conn *conn = conn_of(be);

	fd_close(&be->fd);
	free(be);
	if (--conn->n_handles > 0)
		return;
	fd_close(&conn->fd);
	free(conn);
}

static int passt_dup(const struct net_backend *be, struct net_backend **out, struct err *e);

static const struct net_backend_ops passt_ops = {
	.name = "passt",
	.features = 0,
	.recv = passt_recv,
	.send = passt_send,
	.flush = passt_flush,
	.dup = passt_dup,
	.close = passt_close,
};

/* One more handle on @conn. */
static int handle_create(struct passt_conn *conn, struct net_backend **out, struct err *e)
{
	struct passt_handle *handle = calloc(1, sizeof(*handle));
	int fd;

	if (!handle)
		return err_sys(e, -ENOMEM, "passt at '%s'", conn->path);
	fd = fcntl(conn->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0) {
		int rc = -errno;

		free(handle);
		return err_sys(e, rc, "passt at '%s': duplicate its socket", conn->path);
	}
	handle->be.ops = &passt_ops;
	handle->be.fd = fd;
	handle->conn = conn;
	conn->n_handles++;
	*out = &handle->be;
	return 0;
}

/*
 * Has passt gone? One that serves somebody else accepts every connection and ends it at once, which is
 * seen here, when the machine is about to start, and not yet in connect().
 */
static bool conn_has_ended(const struct passt_conn *conn)
{
	uint8_t byte;
	ssize_t n = recv(conn->fd, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT);

	return conn->dead || n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static int passt_dup(const struct net_backend *be, struct net_backend **out, struct err *e)
{
	struct passt_conn *conn = conn_of(be);

	if (conn_has_ended(conn))
		return err_set(e, -EPIPE, "passt at '%s' closed the connection: it ended, or serves another client; start one for "
			       "this interface (passt --socket PATH) and configure the interface again", conn->path);
	return handle_create(conn, out, e);
}

int net_passt_adopt(int fd, const char *path, struct net_backend **out, struct err *e)
{
	struct passt_conn *conn = calloc(1, sizeof(*conn));
	int rc;

	if (!conn)
		return err_sys(e, -ENOMEM, "allocate the buffers for passt at '%s'", path);
	(void)snprintf(conn->path, sizeof(conn->path), "%s", path);
	conn->fd = fd;
	conn->rx.data = conn->rx_data;
	conn->tx.data = conn->tx_data;
	rc = handle_create(conn, out, e);
	if (rc < 0)
		free(conn);
	return rc;
}

static int connect_failed(const char *path, int errnum, struct err *e)
{
	char text[96];

	if (errnum == EAGAIN) /* the queue of its listening socket is full */
		return err_set(e, -errnum, "connect to passt at '%s': it serves other clients; start one for each interface: "
			       "passt --socket PATH", path);
	if (errnum == ENOENT || errnum == ECONNREFUSED)
		return err_set(e, -errnum, "connect to passt at '%s': %s; start it first: passt --socket %s", path,
			       err_os_text(errnum, text, sizeof(text)), path);
	return err_sys(e, -errnum, "connect to passt at '%s'", path);
}

int net_passt_connect(const char *path, struct net_backend **out, struct err *e)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	AUTO_FD int fd = -1;
	int rc;

	if (path[0] == '\0' || strlen(path) >= sizeof(addr.sun_path))
		return err_set(e, -EINVAL, "passt's socket '%s': a path has 1 to %zu bytes; start passt with --socket PATH", path,
			       sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(e, -errno, "passt at '%s': make a socket", path);
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return connect_failed(path, errno, e);
	rc = net_passt_adopt(fd, path, out, e);
	if (rc == 0)
		(void)fd_take(&fd);
	return rc;
}
