/* SPDX-License-Identifier: Apache-2.0 */
#include "api-socket/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "api-socket/api_log.h"
#include "api-socket/http.h"
#include "api-socket/routes.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"

#define IN_MAX 2048	 /* bytes read at a time; also what a client can have pipelined here */
#define READS_PER_TURN 8 /* then other sources have their turn */
#define BACKLOG 128
#define ACCEPT_RETRY_NS 100000000 /* after accept failed for want of descriptors */
#define REPLY_BUF 2048		  /* bigger replies go to the heap */

/*
 * Invariants: (S1) out != NULL exactly while a reply waits for the client to read; then nothing is read or parsed.
 * (S2) every conn is in its server's slots exactly while its source is added to the loop.
 */
struct conn {
	struct api_server *server; /* borrowed */
	size_t slot;
	int fd; /* owned */
	struct ev_source source;
	char *out; /* owned: the rest of a reply that the socket did not take */
	size_t out_at, out_len;
	size_t in_at, in_len;
	struct http_parser parser;
	char in[IN_MAX];
};

/* Owner: the I/O thread. */
struct api_server {
	struct evloop *loop; /* borrowed */
	struct action_handler handler;
	size_t max_payload;
	int listen_fd; /* owned */
	struct ev_source listener;
	struct ev_timer accept_timer;
	struct conn *conn[API_MAX_CONNECTIONS]; /* owned */
	struct sockaddr_un addr;
	bool bound; /* addr.sun_path is ours while it is this file: */
	dev_t dev;
	ino_t ino;
};

/* ---- connections ------------------------------------------------------------------------------------------------- */

static void conn_close(struct conn *c)
{
	struct api_server *s = c->server;

	evloop_remove(s->loop, &c->source);
	s->conn[c->slot] = NULL;
	fd_close(&c->fd);
	http_parser_fini(&c->parser);
	free(c->out);
	free(c);
}

/* Write what waits. False: the connection is broken. */
static bool conn_flush(struct conn *c)
{
	while (c->out) {
		ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		c->out_at += (size_t)n;
		if (c->out_at == c->out_len) {
			free(c->out);
			c->out = NULL;
		}
	}
	return true;
}

/* Keep what of @iov the socket did not take, @sent bytes being gone. False: no memory. */
static bool conn_keep(struct conn *c, const struct iovec *iov, size_t n_iov, size_t sent)
{
	size_t total = 0;

	for (size_t i = 0; i < n_iov; i++)
		total += iov[i].iov_len;
	if (sent == total)
		return true;
	c->out = malloc(total - sent);
	if (!c->out)
		return false;
	c->out_at = 0;
	c->out_len = 0;
	for (size_t i = 0; i < n_iov; i++) {
		size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;

		memcpy(c->out + c->out_len, (const char *)iov[i].iov_base + skip, iov[i].iov_len - skip);
		c->out_len += iov[i].iov_len - skip;
		sent -= skip;
	}
	return true;
}

/* Send a reply, @body_len < 0: without a body. Nothing waits (S1). False: the connection is broken. */
static bool conn_send(struct conn *c, int status, bool deprecated, char *body, long body_len)
{
	char head[HTTP_HEAD_MAX];
	struct iovec iov[2] = {
		{head, http_format_head(head, status, deprecated, body_len)},
		{body, body_len > 0 ? (size_t)body_len : 0},
	};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = body_len > 0 ? 2 : 1};
	ssize_t n;

	must(!c->out);
	do {
		n = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN)
		return false;
	return conn_keep(c, iov, msg.msg_iovlen, n < 0 ? 0 : (size_t)n);
}

static bool conn_serve_request(struct conn *c)
{
	struct http_msg msg = http_parser_msg(&c->parser);
	struct route_reply reply = {.status = 0};
	char buf[REPLY_BUF];
	bool alive;

	json_out_init(&reply.body, buf, sizeof(buf));
	route_request(&c->server->handler, &msg, &reply);
	alive = conn_send(
		c, reply.status, reply.deprecated, reply.body.data, reply.status == 204 ? -1 : (long)reply.body.len);
	json_out_fini(&reply.body);
	return alive;
}

static bool conn_serve_fault(struct conn *c)
{
	char body[HTTP_FAULT_BODY_MAX];
	size_t len = http_format_fault(body, sizeof(body), http_parser_fault(&c->parser));

	api_log_refusal(http_parser_fault(&c->parser));
	return conn_send(c, 400, false, body, (long)len);
}

/* Parse and serve what is in the buffer, until it is empty or a reply has to wait. False: the connection is broken. */
static bool conn_serve_input(struct conn *c)
{
	while (!c->out && c->in_at < c->in_len) {
		enum http_event event;
		bool alive = true;

		c->in_at += http_parser_feed(&c->parser, c->in + c->in_at, c->in_len - c->in_at, &event);
		switch (event) {
		case HTTP_EVENT_NONE:
			break;
		case HTTP_EVENT_REQUEST:
			alive = conn_serve_request(c);
			break;
		case HTTP_EVENT_CONTINUE:
			alive = conn_send(c, 100, false, NULL, -1);
			break;
		case HTTP_EVENT_FAULT:
			alive = conn_serve_fault(c);
			break;
		}
		if (!alive)
			return false;
	}
	return true;
}

/*
 * Read once into the empty buffer. recv() without room for control data makes the kernel drop passed descriptors.
 * False: the client has closed, or the connection is broken. *@more: the socket may hold more.
 */
static bool conn_read(struct conn *c, bool *more)
{
	ssize_t n = recv(c->fd, c->in, sizeof(c->in), MSG_DONTWAIT);

	*more = n == (ssize_t)sizeof(c->in) || (n < 0 && errno == EINTR);
	c->in_at = 0;
	c->in_len = n > 0 ? (size_t)n : 0;
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* One turn: write, then serve, then read and serve, until the client has to do something or the budget is used up. */
static bool conn_turn(struct conn *c)
{
	bool more = true;

	if (!conn_flush(c) || !conn_serve_input(c))
		return false;
	for (unsigned i = 0; i < READS_PER_TURN && more && !c->out; i++) {
		if (!conn_read(c, &more) || !conn_serve_input(c))
			return false;
	}
	return true;
}

static void conn_ready(void *ctx, uint32_t ready)
{
	struct conn *c = ctx;
	uint32_t wanted;

	/* A client that is gone reads no reply; what it sent before it went is still served if nothing waits. */
	if (c->out && ready & (EPOLLHUP | EPOLLERR)) {
		conn_close(c);
		return;
	}
	if (!conn_turn(c)) {
		conn_close(c);
		return;
	}
	wanted = c->out ? EPOLLOUT : EPOLLIN;
	if (wanted != c->source.events && evloop_set_events(c->server->loop, &c->source, wanted))
		conn_close(c);
}

/* ---- the listener ------------------------------------------------------------------------------------------------ */

/*
 * Tell the client that it is one too many. What it has sent already is read, or the close would look like an error to
 * it.
 */
static void refuse_connection(int fd)
{
	char ignored[IN_MAX];
	size_t len;
	const char *reply = http_too_many_connections(&len);

	(void)recv(fd, ignored, sizeof(ignored), MSG_DONTWAIT);
	if (send(fd, reply, len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)len)
		log_warn("The API connection that was one too many could not be told so.");
}

/* Give @fd an owner. Takes @fd, also on failure. */
static void add_connection(struct api_server *s, int fd, size_t slot)
{
	struct conn *c = malloc(sizeof(*c));

	if (!c) {
		fd_close(&fd);
		return;
	}
	c->server = s;
	c->slot = slot;
	c->fd = fd;
	c->source = (struct ev_source){.fd = fd, .events = EPOLLIN, .group = EV_CONTROL, .fn = conn_ready, .ctx = c};
	c->out = NULL;
	c->in_at = c->in_len = 0;
	http_parser_init(&c->parser, s->max_payload);
	s->conn[slot] = c;
	if (evloop_add(s->loop, &c->source)) {
		conn_close(c);
		return;
	}
	/* The first request is usually there already; asking the loop first would be a system call more. */
	conn_ready(c, 0);
}

static void accept_again(void *ctx)
{
	struct api_server *s = ctx;

	if (evloop_set_events(s->loop, &s->listener, EPOLLIN))
		log_error("The API socket can't accept connections any more.");
}

/* accept() failed for want of something: a listener that stays readable would spin, so look away for a while. */
static void pause_accepting(struct api_server *s)
{
	if (evloop_arm(s->loop, &s->accept_timer, evloop_now_ns() + ACCEPT_RETRY_NS))
		return;
	if (evloop_set_events(s->loop, &s->listener, 0))
		evloop_disarm(s->loop, &s->accept_timer);
}

static void listener_ready(void *ctx, uint32_t ready)
{
	struct api_server *s = ctx;
	size_t slot = 0;
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)ready;
	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			pause_accepting(s);
		return;
	}
	while (slot < API_MAX_CONNECTIONS && s->conn[slot])
		slot++;
	if (slot == API_MAX_CONNECTIONS) {
		refuse_connection(fd);
		fd_close(&fd);
		return;
	}
	add_connection(s, fd, slot);
}

/* ---- the socket file --------------------------------------------------------------------------------------------- */

/*
 * Is there a socket at the address that nobody listens on? Between this look and the unlink another monitor could take
 * the path; comparing the inode shortly before leaves microseconds, and clients give every monitor a path of its own.
 */
static bool unlink_stale(const struct sockaddr_un *addr)
{
	AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct stat before, after;

	if (fd < 0 || lstat(addr->sun_path, &before) || !S_ISSOCK(before.st_mode))
		return false;
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno != ECONNREFUSED)
		return false;
	if (lstat(addr->sun_path, &after) || after.st_dev != before.st_dev || after.st_ino != before.st_ino)
		return false;
	return unlink(addr->sun_path) == 0;
}

/* bind() failed with @errnum: say it, and what stands in the way. */
static int bind_fault(const struct sockaddr_un *addr, int errnum, struct err *e)
{
	struct stat st;
	char text[96];
	const char *why = "";

	if (errnum == ENOENT)
		why = ": its folder does not exist";
	else if (errnum == EADDRINUSE && lstat(addr->sun_path, &st) == 0)
		why = S_ISSOCK(st.st_mode) ? ": another process listens there, choose another path or end that process"
					   : ": there is something that is not a socket, choose another path or remove it";
	return err_set(e, -errnum, "bind the API socket '%s': %s%s", addr->sun_path,
		       err_os_text(errnum, text, sizeof(text)), why);
}

static int bind_path(struct api_server *s, struct err *e)
{
	const struct sockaddr *addr = (const struct sockaddr *)&s->addr;
	struct stat st;
	int rc = bind(s->listen_fd, addr, sizeof(s->addr));

	if (rc && errno == EADDRINUSE && unlink_stale(&s->addr)) {
		log_info("Removed the stale API socket \"%s\".", s->addr.sun_path);
		rc = bind(s->listen_fd, addr, sizeof(s->addr));
	}
	if (rc)
		return bind_fault(&s->addr, errno, e);
	if (lstat(s->addr.sun_path, &st) == 0) {
		s->bound = true;
		s->dev = st.st_dev;
		s->ino = st.st_ino;
	}
	return 0;
}

static int open_listener(struct api_server *s, const char *path, struct err *e)
{
	size_t len = strlen(path);
	int rc;

	if (len == 0 || len >= sizeof(s->addr.sun_path))
		return err_set(e, -ENAMETOOLONG, "the API socket path '%s' has %zu bytes; it takes 1 to %zu", path, len,
			sizeof(s->addr.sun_path) - 1);
	s->addr.sun_family = AF_UNIX;
	memcpy(s->addr.sun_path, path, len + 1);
	s->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->listen_fd < 0)
		return err_sys(e, -errno, "create the API socket");
	rc = bind_path(s, e);
	if (rc)
		return rc;
	if (listen(s->listen_fd, BACKLOG))
		return err_sys(e, -errno, "listen on the API socket '%s'", path);
	s->listener = (struct ev_source){
		.fd = s->listen_fd, .events = EPOLLIN, .group = EV_CONTROL, .fn = listener_ready, .ctx = s};
	rc = evloop_add(s->loop, &s->listener);
	if (rc)
		return err_sys(e, rc, "watch the API socket");
	return 0;
}

int api_server_create(struct api_server **out, struct evloop *loop, const char *path,
	const struct action_handler *handler, const struct api_limits *limits, struct err *e)
{
	struct api_server *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_sys(e, -ENOMEM, "create the API server");
	s->loop = loop;
	s->handler = *handler;
	s->max_payload = limits && limits->max_payload ? limits->max_payload : HTTP_PAYLOAD_DEFAULT;
	s->listen_fd = -1;
	s->accept_timer = (struct ev_timer){.group = EV_CONTROL, .fn = accept_again, .ctx = s};
	rc = open_listener(s, path, e);
	if (rc) {
		api_server_destroy(s);
		return rc;
	}
	*out = s;
	return 0;
}

void api_server_destroy(struct api_server *server)
{
	struct stat st;

	if (!server)
		return;
	for (size_t i = 0; i < API_MAX_CONNECTIONS; i++) {
		if (server->conn[i])
			conn_close(server->conn[i]);
	}
	evloop_disarm(server->loop, &server->accept_timer);
	evloop_remove(server->loop, &server->listener);
	if (server->bound && lstat(server->addr.sun_path, &st) == 0 && st.st_dev == server->dev &&
		st.st_ino == server->ino)
		(void)unlink(server->addr.sun_path);
	fd_close(&server->listen_fd);
	free(server);
}
