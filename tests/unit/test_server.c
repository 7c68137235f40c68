/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API socket from outside: real sockets in a temporary folder, the event loop turned by the test itself. What
 * clients of CONTRACT.md 1.1 to 1.4 do and what goes wrong with them: too many, too slow, too big, gone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "api-socket/action.h"
#include "api-socket/server.h"
#include "vmm/base/log.h"
#include "vmm/evloop.h"

#define CRLF "\r\n"
#define COMMON "Server: Firecracker API" CRLF "Connection: keep-alive" CRLF
#define REPLY_204 "HTTP/1.1 204 " CRLF COMMON CRLF
#define GET_VERSION "GET /version HTTP/1.1" CRLF CRLF
#define VERSION_BODY "{\"firecracker_version\":\"1.17.0\"}"
#define REPLY_VERSION                                                                                                  \
	"HTTP/1.1 200 " CRLF COMMON "Content-Type: application/json" CRLF "Content-Length: 32" CRLF CRLF VERSION_BODY
#define PUT_SERIAL "PUT /serial HTTP/1.1" CRLF "Content-Length: 2" CRLF CRLF "{}"
#define REPLY_503                                                                                                      \
	"HTTP/1.1 503 " CRLF "Server: Firecracker API" CRLF "Connection: close" CRLF "Content-Length: 40" CRLF CRLF    \
	"{ \"error\": \"Too many open connections\" }"

struct fixture {
	char folder[64], path[96];
	struct evloop *loop;
	struct api_server *server;
	struct vm_config config;
	char *boot_args; /* owned; what GET /vm/config is made big with */
	unsigned n_calls;
};

static void handle(void *ctx, struct action *action, struct reply *reply)
{
	struct fixture *f = ctx;

	f->n_calls++;
	reply->status = action->type <= ACTION_GET_VM_CONFIG ? 200 : 204;
	reply->config = &f->config;
	reply->id = "i";
	reply->version = "1.17.0";
	reply->app_name = "Firecracker";
}

static int create(struct fixture *f, size_t max_payload, struct err *e)
{
	struct action_handler handler = {.handle = handle, .ctx = f};
	struct api_limits limits = {.max_payload = max_payload};

	return api_server_create(&f->server, f->loop, f->path, &handler, &limits, e);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err e = {0};

	assert_non_null(f);
	(void)snprintf(f->folder, sizeof(f->folder), "/tmp/mayfly-test-server-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	(void)snprintf(f->path, sizeof(f->path), "%s/api.sock", f->folder);
	assert_int_equal(evloop_create(&f->loop, &e), 0);
	vm_config_init(&f->config);
	assert_int_equal(create(f, 0, &e), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	api_server_destroy(f->server);
	evloop_destroy(f->loop);
	(void)unlink(f->path);
	(void)rmdir(f->folder);
	free(f->boot_args);
	free(f);
	return 0;
}

/* ---- a client ---------------------------------------------------------------------------------------------------- */

static void pump(struct fixture *f)
{
	while (evloop_turn(f->loop, 0) > 0)
		;
}

static int client(struct fixture *f)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", f->path);
	assert_int_equal(connect(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void say(struct fixture *f, int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	pump(f);
}

/* Exactly @text is there to be read. */
static void expect(int fd, const char *text)
{
	char buf[8192];
	ssize_t n = recv(fd, buf, sizeof(buf) - 1, 0);

	if (n < 0)
		assert_int_equal(errno, EAGAIN);
	buf[n < 0 ? 0 : n] = '\0';
	assert_string_equal(buf, text);
}

static void expect_closed(int fd)
{
	char c;

	assert_int_equal(recv(fd, &c, 1, 0), 0);
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static void test_get_and_put(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);

	assert_int_equal(strlen(VERSION_BODY), 32);
	say(f, fd, GET_VERSION);
	expect(fd, REPLY_VERSION);
	say(f, fd, PUT_SERIAL);
	expect(fd, REPLY_204);
	(void)close(fd);
	pump(f);
	assert_int_equal(f->n_calls, 2);
}

static void test_keep_alive_whatever_the_client_says(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);

	for (int i = 0; i < 3; i++) {
		say(f, fd, "GET /version HTTP/1.0" CRLF "Connection: close" CRLF CRLF);
		expect(fd, REPLY_VERSION);
	}
	(void)close(fd);
}

static void test_pipelining(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);

	say(f, fd, GET_VERSION PUT_SERIAL GET_VERSION);
	expect(fd, REPLY_VERSION REPLY_204 REPLY_VERSION);
	(void)close(fd);
}

/* Many requests at once are served in order; other connections have their turn in between. */
static void test_flood(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);
	size_t n = 0, len = strlen(GET_VERSION), want = 3000, got = 0;
	char buf[8192];

	while (n < want || got < want * strlen(REPLY_VERSION)) {
		ssize_t rc;

		while (n < want && send(fd, GET_VERSION, len, MSG_NOSIGNAL) == (ssize_t)len)
			n++;
		assert_true(evloop_turn(f->loop, 0) >= 0);
		while ((rc = recv(fd, buf, sizeof(buf), 0)) > 0)
			got += (size_t)rc;
	}
	assert_int_equal(got, want * strlen(REPLY_VERSION));
	assert_int_equal(f->n_calls, want);
	(void)close(fd);
}

static void test_a_byte_at_a_time(void **state)
{
	struct fixture *f = *state;
	int fd = client(f), other = client(f);
	const char *request = PUT_SERIAL;

	for (size_t i = 0; request[i]; i++) {
		char one[2] = {request[i], '\0'};

		expect(fd, "");
		say(f, fd, one);
		/* Nobody waits for a slow client. */
		say(f, other, GET_VERSION);
		expect(other, REPLY_VERSION);
	}
	expect(fd, REPLY_204);
	(void)close(fd);
	(void)close(other);
}

static void test_half_closed_client_gets_its_reply(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);

	assert_int_equal(send(fd, GET_VERSION, strlen(GET_VERSION), MSG_NOSIGNAL), strlen(GET_VERSION));
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	pump(f);
	expect(fd, REPLY_VERSION);
	expect_closed(fd);
	(void)close(fd);
}

static void test_client_that_leaves_early(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 30; i++) {
		int fd = client(f);

		assert_true(send(fd, GET_VERSION "PUT /x HTT", strlen(GET_VERSION) + 10, MSG_NOSIGNAL) > 0);
		(void)close(fd);
		pump(f);
	}
	assert_int_equal(f->n_calls, 30);
}

static void test_eleventh_connection(void **state)
{
	struct fixture *f = *state;
	int fd[API_MAX_CONNECTIONS], extra;

	for (int i = 0; i < API_MAX_CONNECTIONS; i++)
		fd[i] = client(f);
	pump(f);
	extra = client(f);
	say(f, extra, GET_VERSION);
	expect(extra, REPLY_503);
	expect_closed(extra);
	(void)close(extra);
	/* The ten go on, and a place that is free again is given away. */
	for (int i = 0; i < API_MAX_CONNECTIONS; i++) {
		say(f, fd[i], GET_VERSION);
		expect(fd[i], REPLY_VERSION);
	}
	(void)close(fd[3]);
	pump(f);
	fd[3] = client(f);
	say(f, fd[3], GET_VERSION);
	expect(fd[3], REPLY_VERSION);
	for (int i = 0; i < API_MAX_CONNECTIONS; i++)
		(void)close(fd[i]);
}

/* The reply to an oversize request, with its announced body sent or not: the whole bytes are pinned. */
static void oversize(struct fixture *f, size_t limit, size_t size, const char *length)
{
	char head[128], body[512], expected[1024];
	int fd = client(f);

	(void)snprintf(head, sizeof(head), "PUT /mmds HTTP/1.1" CRLF "Content-Length: %zu" CRLF CRLF, size);
	(void)snprintf(body, sizeof(body),
		"{ \"error\": \"Request payload with size %zu is larger than the limit of %zu allowed by server.\n"
		"All previous unanswered requests will be dropped.\" }",
		size, limit);
	(void)snprintf(expected, sizeof(expected),
		"HTTP/1.1 400 " CRLF COMMON "Content-Type: application/json" CRLF "Content-Length: %s" CRLF CRLF "%s",
		length, body);
	say(f, fd, head);
	expect(fd, expected);
	memset(body, 'x', sizeof(body) - 1);
	body[sizeof(body) - 1] = '\0';
	for (size_t left = size; left > 0;) {
		size_t n = left < sizeof(body) - 1 ? left : sizeof(body) - 1;

		body[n] = '\0';
		say(f, fd, body);
		left -= n;
	}
	expect(fd, "");
	say(f, fd, GET_VERSION);
	expect(fd, REPLY_VERSION);
	(void)close(fd);
	pump(f);
}

static void test_oversize(void **state)
{
	struct fixture *f = *state;
	struct err e = {0};

	oversize(f, 51200, 51201, "149");
	api_server_destroy(f->server);
	f->server = NULL;
	assert_int_equal(create(f, 250, &e), 0);
	oversize(f, 250, 260, "145");
}

static void test_biggest_body(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);
	char *request = malloc(60000);
	int n;

	assert_non_null(request);
	n = snprintf(request, 60000,
		"PUT /serial HTTP/1.1" CRLF "Content-Length: 51200" CRLF CRLF "%-51200s" GET_VERSION, "{}");
	for (int at = 0; at < n;) {
		ssize_t sent = send(fd, request + at, (size_t)(n - at), MSG_NOSIGNAL);

		assert_true(sent > 0);
		at += (int)sent;
		pump(f);
	}
	expect(fd, REPLY_204 REPLY_VERSION);
	(void)close(fd);
	free(request);
}

static void test_expect_continue(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);

	say(f, fd, "PUT /serial HTTP/1.1" CRLF "Expect: 100-continue" CRLF "Content-Length: 2" CRLF CRLF);
	expect(fd, "HTTP/1.1 100 " CRLF COMMON CRLF);
	say(f, fd, "{}");
	expect(fd, REPLY_204);
	(void)close(fd);
}

static void test_chunked(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);

	say(f, fd,
		"PUT /serial HTTP/1.1" CRLF "Transfer-Encoding: chunked" CRLF CRLF "1" CRLF "{" CRLF "1" CRLF "}" CRLF
		"0" CRLF CRLF);
	expect(fd, REPLY_204);
	(void)close(fd);
}

static void test_malformed_request_leaves_the_connection_usable(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);

	say(f, fd, "POST / HTTP/1.1" CRLF "Content-Length: 4" CRLF CRLF "abcd" GET_VERSION);
	expect(fd, "HTTP/1.1 400 " CRLF COMMON "Content-Type: application/json" CRLF "Content-Length: 110" CRLF CRLF
		   "{ \"error\": \"Invalid HTTP Method: Unsupported HTTP method.\nAll previous unanswered requests "
		   "will be dropped.\" }" REPLY_VERSION);
	(void)close(fd);
}

static void test_deprecation_header(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);

	say(f, fd, "PATCH /machine-config HTTP/1.1" CRLF "Content-Length: 23" CRLF CRLF "{\"cpu_template\":\"None\"}");
	expect(fd, "HTTP/1.1 204 " CRLF COMMON "Deprecation: true" CRLF CRLF);
	(void)close(fd);
}

/*
 * A client that sends and never reads fills its socket, then costs one reply; the others are served. When it reads at
 * last it finds every reply, whole and in order.
 */
static void test_client_that_never_reads(void **state)
{
	struct fixture *f = *state;
	int fd = client(f), other, small = 4096, n_sent = 0;
	size_t got = 0, reply_len;
	char *buf;

	f->boot_args = malloc(40001);
	assert_non_null(f->boot_args);
	memset(f->boot_args, 'a', 40000);
	f->boot_args[40000] = '\0';
	f->config.boot.boot_args = f->boot_args;
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	while (n_sent < 2000) {
		const char *get = "GET /vm/config HTTP/1.1" CRLF CRLF;
		ssize_t n = send(fd, get, strlen(get), MSG_NOSIGNAL);

		if (n < 0)
			break;
		assert_int_equal(n, strlen(get));
		n_sent++;
		pump(f);
	}
	assert_true(n_sent < 2000);
	assert_true(f->n_calls < (unsigned)n_sent);
	other = client(f);
	say(f, other, GET_VERSION);
	expect(other, REPLY_VERSION);
	(void)close(other);
	pump(f);
	assert_int_equal(evloop_turn(f->loop, 0), 0); /* waiting costs no CPU */

	buf = malloc(100000);
	assert_non_null(buf);
	reply_len = 0;
	for (;;) {
		ssize_t n = recv(fd, buf, 99999, 0);

		if (n < 0) {
			unsigned before = f->n_calls;

			pump(f);
			if (before == f->n_calls && recv(fd, buf, 1, MSG_PEEK) < 0)
				break;
			continue;
		}
		buf[n] = '\0';
		if (!reply_len)
			reply_len = strlen("HTTP/1.1 200 " CRLF COMMON "Content-Type: application/json" CRLF
					   "Content-Length: 40454" CRLF CRLF) +
				    (size_t)strtoul(strstr(buf, "Content-Length: ") + 16, NULL, 10);
		got += (size_t)n;
	}
	assert_int_equal(got, reply_len * (size_t)n_sent);
	free(buf);
	(void)close(fd);
	f->config.boot.boot_args = NULL;
}

static void test_client_that_never_reads_and_leaves(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);

	f->boot_args = calloc(1, 2000001);
	assert_non_null(f->boot_args);
	memset(f->boot_args, 'a', 2000000);
	f->config.boot.boot_args = f->boot_args;
	say(f, fd, "GET /vm/config HTTP/1.1" CRLF CRLF);
	(void)close(fd);
	pump(f);
	f->config.boot.boot_args = NULL;
	fd = client(f);
	say(f, fd, GET_VERSION);
	expect(fd, REPLY_VERSION);
	(void)close(fd);
}

/* Without free descriptors accept fails and the listener stays readable: that must not become a busy loop. */
static void test_no_descriptors_left(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, none;
	int fd = client(f);

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = (struct rlimit){.rlim_cur = 3, .rlim_max = old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(evloop_turn(f->loop, 0), 1);
	assert_int_equal(evloop_turn(f->loop, 0), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	/* A tenth of a second later it looks again. */
	assert_int_equal(send(fd, GET_VERSION, strlen(GET_VERSION), MSG_NOSIGNAL), strlen(GET_VERSION));
	while (f->n_calls == 0)
		assert_true(evloop_turn(f->loop, 2000) > 0);
	expect(fd, REPLY_VERSION);
	(void)close(fd);
}

static unsigned count_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void test_passed_descriptors_are_dropped(void **state)
{
	struct fixture *f = *state;
	int fd = client(f), passed = 0;
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	char request[] = GET_VERSION;
	struct iovec iov = {request, strlen(request)};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	unsigned before;

	pump(f);
	before = count_fds();
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &passed, sizeof(int));
	assert_int_equal(sendmsg(fd, &msg, 0), strlen(request));
	pump(f);
	expect(fd, REPLY_VERSION);
	assert_int_equal(count_fds(), before);
	(void)close(fd);
}

/* ---- the socket file --------------------------------------------------------------------------------------------- */

static void test_socket_file_is_removed(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(access(f->path, F_OK), 0);
	api_server_destroy(f->server);
	f->server = NULL;
	assert_int_not_equal(access(f->path, F_OK), 0);
}

static void test_somebody_elses_file_is_not_removed(void **state)
{
	struct fixture *f = *state;
	int fd;

	assert_int_equal(unlink(f->path), 0);
	fd = open(f->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	api_server_destroy(f->server);
	f->server = NULL;
	assert_int_equal(access(f->path, F_OK), 0);
}

static void test_mode_follows_umask(void **state)
{
	struct fixture *f = *state;
	struct err e = {0};
	struct stat st;
	mode_t old;

	api_server_destroy(f->server);
	f->server = NULL;
	old = umask(022);
	assert_int_equal(create(f, 0, &e), 0);
	(void)umask(old);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
}

static void test_path_in_use(void **state)
{
	struct fixture *f = *state;
	struct api_server *first = f->server;
	struct err e = {0};

	f->server = NULL;
	assert_int_equal(create(f, 0, &e), -EADDRINUSE);
	assert_null(f->server);
	assert_non_null(strstr(e.msg, f->path));
	f->server = first;
	pump(f);
	{
		int fd = client(f);

		say(f, fd, GET_VERSION);
		expect(fd, REPLY_VERSION);
		(void)close(fd);
	}
}

static void test_stale_socket_is_replaced(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct err e = {0};
	int fd, stale;

	api_server_destroy(f->server);
	f->server = NULL;
	stale = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", f->path);
	assert_int_equal(bind(stale, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	(void)close(stale);
	assert_int_equal(create(f, 0, &e), 0);
	fd = client(f);
	say(f, fd, GET_VERSION);
	expect(fd, REPLY_VERSION);
	(void)close(fd);
}

static void test_file_that_is_no_socket_is_kept(void **state)
{
	struct fixture *f = *state;
	struct err e = {0};
	int fd;

	api_server_destroy(f->server);
	f->server = NULL;
	fd = open(f->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(create(f, 0, &e), -EADDRINUSE);
	assert_int_equal(access(f->path, F_OK), 0);
}

static void test_bad_paths(void **state)
{
	struct fixture *f = *state;
	struct action_handler handler = {.handle = handle, .ctx = f};
	struct api_server *server = NULL;
	char path[200];
	struct err e = {0};

	memset(path, 'p', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(api_server_create(&server, f->loop, path, &handler, NULL, &e), -ENAMETOOLONG);
	assert_non_null(strstr(e.msg, "has 199 bytes; it takes 1 to 107"));
	assert_int_equal(api_server_create(&server, f->loop, "", &handler, NULL, &e), -ENAMETOOLONG);
	assert_int_equal(api_server_create(&server, f->loop, "/nonexistent/dir/s", &handler, NULL, &e), -ENOENT);
	assert_null(server);
	api_server_destroy(NULL);
}

static void test_destroy_with_open_connections(void **state)
{
	struct fixture *f = *state;
	int fd = client(f), half = client(f);

	say(f, fd, GET_VERSION);
	say(f, half, "PUT /serial HTTP/1.1" CRLF "Content-Length: 100" CRLF CRLF "half of it");
	api_server_destroy(f->server);
	f->server = NULL;
	expect(fd, REPLY_VERSION);
	expect_closed(fd);
	(void)close(fd);
	(void)close(half);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_get_and_put),
		TEST(test_keep_alive_whatever_the_client_says),
		TEST(test_pipelining),
		TEST(test_flood),
		TEST(test_a_byte_at_a_time),
		TEST(test_half_closed_client_gets_its_reply),
		TEST(test_client_that_leaves_early),
		TEST(test_eleventh_connection),
		TEST(test_oversize),
		TEST(test_biggest_body),
		TEST(test_expect_continue),
		TEST(test_chunked),
		TEST(test_malformed_request_leaves_the_connection_usable),
		TEST(test_deprecation_header),
		TEST(test_client_that_never_reads),
		TEST(test_client_that_never_reads_and_leaves),
		TEST(test_no_descriptors_left),
		TEST(test_passed_descriptors_are_dropped),
		TEST(test_socket_file_is_removed),
		TEST(test_somebody_elses_file_is_not_removed),
		TEST(test_mode_follows_umask),
		TEST(test_path_in_use),
		TEST(test_stale_socket_is_replaced),
		TEST(test_file_that_is_no_socket_is_kept),
		TEST(test_bad_paths),
		TEST(test_destroy_with_open_connections),
	};

	log_set_level(LOG_OFF);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
