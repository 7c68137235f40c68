/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both ends of the vsock tests: a server in the guest, and programs of the host. Every byte that travels is part of a known
 * pattern and is compared.
 *
 *     vsock-peer guest PORT                     in the guest: serves AF_VSOCK for ever; prints "vsock-peer: ready"
 *     vsock-peer echo UDS PORT                  on the host: echoes on UDS_PORT for ever
 *     vsock-peer stall UDS PORT                 on the host: accepts on UDS_PORT and never reads
 *     vsock-peer ask UDS PORT REQUEST...        connect to the guest's PORT and have it do REQUEST; prints its answer
 *     vsock-peer sink|source UDS PORT BYTES     send so many to the guest, which compares; or receive and compare
 *     vsock-peer half UDS PORT BYTES            send, shut down that direction, receive the echo until its end
 *     vsock-peer many UDS PORT COUNT            so many connections at once, each echoes a little, one byte at a time in turn
 *     vsock-peer churn UDS PORT COUNT           one after another
 *     vsock-peer refused UDS PORT               nobody listens there: a silent close
 *     vsock-peer pieces UDS PORT                the CONNECT line in three pieces, with the first bytes of the stream
 *     vsock-peer hold UDS PORT                  a connection on which the guest sends and nobody reads; until killed
 *
 * Requests to the guest: "sink N", "source N", "echo", "flood" (send for ever), "dial PORT N" (connect to the host, send, receive
 * the echo), "dials PORT COUNT" (so many at once), "rounds PORT COUNT" (one after another), "refused PORT".
 * Status: 0 done, 1 not (one line says why).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define CHUNK 65536
#define MAX_CONNECTIONS 1100
#define RETRY_MS 100 /* as firecracker-go-sdk: dial, wait a second for the OK, try again for 20 s */
#define ACK_MS 1000
#define RETRIES 200

static void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
static void die(const char *fmt, ...)
{
	int errnum = errno;
	va_list args;

	va_start(args, fmt);
	printf("vsock-peer: ");
	vprintf(fmt, args);
	printf(" (errno %d)\n", errnum);
	va_end(args);
	fflush(stdout);
	_exit(1);
}

static unsigned char pattern(uint64_t i)
{
	return (unsigned char)(i * 7 + (i >> 8) * 13 + (i >> 16));
}

static void send_all(int fd, const void *data, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = send(fd, (const char *)data + at, len - at, MSG_NOSIGNAL);

		if (n <= 0)
			die("send of %zu bytes ended at %zu", len, at);
		at += (size_t)n;
	}
}

static void send_pattern(int fd, uint64_t bytes)
{
	static unsigned char data[CHUNK];

	for (uint64_t at = 0; at < bytes;) {
		size_t n = bytes - at < CHUNK ? (size_t)(bytes - at) : CHUNK;

		for (size_t i = 0; i < n; i++)
			data[i] = pattern(at + i);
		send_all(fd, data, n);
		at += n;
	}
}

/* Exactly @bytes; the end of the stream behind them is not looked for. */
static void receive_pattern(int fd, uint64_t bytes)
{
	static unsigned char data[CHUNK];

	for (uint64_t at = 0; at < bytes;) {
		size_t want = bytes - at < CHUNK ? (size_t)(bytes - at) : CHUNK;
		ssize_t n = recv(fd, data, want, 0);

		if (n <= 0)
			die("expected %llu bytes, the stream ended after %llu", (unsigned long long)bytes, (unsigned long long)at);
		for (ssize_t i = 0; i < n; i++) {
			if (data[i] != pattern(at + (uint64_t)i))
				die("byte %llu differs", (unsigned long long)at + (unsigned long long)i);
		}
		at += (uint64_t)n;
	}
}

static void expect_end(int fd)
{
	char c;
	ssize_t n = recv(fd, &c, 1, 0);

	if (n != 0)
		die("expected the end of the stream, got %zd", n);
}

/* A line of at most @size - 1 bytes, byte by byte: what is behind it stays. False: the stream ended. */
static int read_line(int fd, char *line, size_t size)
{
	size_t n = 0;

	while (n < size - 1 && recv(fd, line + n, 1, 0) == 1) {
		if (line[n++] == '\n') {
			line[n - 1] = 0;
			return 1;
		}
	}
	line[n] = 0;
	return 0;
}

static void echo_until_end(int fd)
{
	static char data[CHUNK];
	ssize_t n;

	while ((n = recv(fd, data, sizeof(data), 0)) > 0)
		send_all(fd, data, (size_t)n);
	shutdown(fd, SHUT_WR);
}

/* --- Guest ------------------------------------------------------------------------------------------------------- */

static int dial_host(unsigned port)
{
	struct sockaddr_vm vm = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port };
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0)
		die("socket");
	if (connect(fd, (struct sockaddr *)&vm, sizeof(vm)) == 0)
		return fd;
	close(fd);
	return -1;
}

static int dial_host_or_die(unsigned port)
{
	int fd = dial_host(port);

	if (fd < 0)
		die("connect to the host's port %u", port);
	return fd;
}

/* Send and receive at once, because the other side echoes. */
static void dial(unsigned port, uint64_t bytes)
{
	int fd = dial_host_or_die(port);

	if (fork() == 0) {
		send_pattern(fd, bytes);
		shutdown(fd, SHUT_WR);
		_exit(0);
	}
	receive_pattern(fd, bytes);
	expect_end(fd);
	close(fd);
}

static void dials(unsigned port, unsigned count)
{
	static int fd[MAX_CONNECTIONS];
	char c;

	for (unsigned i = 0; i < count; i++)
		fd[i] = dial_host_or_die(port);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < count; i++)
			send_all(fd[i], &(char){ (char)i }, 1);
		for (unsigned i = 0; i < count; i++) {
			if (recv(fd[i], &c, 1, 0) != 1 || c != (char)i)
				die("connection %u did not echo its byte", i);
		}
	}
	for (unsigned i = 0; i < count; i++)
		close(fd[i]);
}

static void guest_serve(int fd)
{
	char line[80];
	unsigned long long n = 0;
	unsigned port = 0;

	if (!read_line(fd, line, sizeof(line)))
		return;
	if (sscanf(line, "sink %llu", &n) == 1) {
		receive_pattern(fd, n);
	} else if (sscanf(line, "source %llu", &n) == 1) {
		send_pattern(fd, n);
		return;
	} else if (strcmp(line, "echo") == 0) {
		echo_until_end(fd);
		return;
	} else if (strcmp(line, "flood") == 0) {
		send_pattern(fd, UINT64_MAX);
	} else if (sscanf(line, "dial %u %llu", &port, &n) == 2) {
		dial(port, n);
	} else if (sscanf(line, "dials %u %llu", &port, &n) == 2) {
		dials(port, (unsigned)n);
	} else if (sscanf(line, "rounds %u %llu", &port, &n) == 2) {
		while (n-- > 0)
			dials(port, 1);
	} else if (sscanf(line, "refused %u", &port) == 1) {
		if (dial_host(port) >= 0)
			die("the host's port %u accepted", port);
	} else {
		die("what is '%s'?", line);
	}
	send_all(fd, "done\n", 5);
}

static void guest(unsigned port)
{
	struct sockaddr_vm vm = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port };
	int l = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (l < 0 || bind(l, (struct sockaddr *)&vm, sizeof(vm)) != 0 || listen(l, 1024) != 0)
		die("listen on AF_VSOCK");
	signal(SIGCHLD, SIG_IGN);
	printf("vsock-peer: ready\n");
	fflush(stdout);
	for (;;) {
		int fd = accept(l, NULL, NULL);

		if (fd < 0)
			die("accept");
		if (fork() == 0) {
			signal(SIGCHLD, SIG_DFL);
			close(l);
			guest_serve(fd);
			close(fd);
			_exit(0);
		}
		close(fd);
	}
}

/* --- Host -------------------------------------------------------------------------------------------------------- */

static int unix_socket(const char *path, struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(addr->sun_path, sizeof(addr->sun_path), "%s", path);
	if (fd < 0)
		die("socket");
	return fd;
}

static int host_listen(const char *uds, const char *port)
{
	struct sockaddr_un addr;
	char path[120];
	int l;

	snprintf(path, sizeof(path), "%s_%s", uds, port);
	unlink(path);
	l = unix_socket(path, &addr);
	if (bind(l, (struct sockaddr *)&addr, sizeof(addr)) != 0 || listen(l, 128) != 0)
		die("listen on %s", path);
	return l;
}

/* As many as come, in one process. */
static void host_echo(const char *uds, const char *port)
{
	static struct pollfd set[MAX_CONNECTIONS];
	static char data[CHUNK];
	nfds_t n = 1;

	set[0] = (struct pollfd){ .fd = host_listen(uds, port), .events = POLLIN };
	for (;;) {
		if (poll(set, n, -1) < 0)
			die("poll");
		for (nfds_t i = n - 1; i > 0; i--) {
			ssize_t k;

			if (!set[i].revents)
				continue;
			k = recv(set[i].fd, data, sizeof(data), 0);
			if (k > 0) {
				send_all(set[i].fd, data, (size_t)k);
				continue;
			}
			close(set[i].fd);
			set[i] = set[--n];
		}
		if ((set[0].revents & POLLIN) && n < MAX_CONNECTIONS)
			set[n++] = (struct pollfd){ .fd = accept(set[0].fd, NULL, NULL), .events = POLLIN };
	}
}

static void host_stall(const char *uds, const char *port)
{
	int l = host_listen(uds, port);

	for (;;)
		(void)accept(l, NULL, NULL);
}

/* Write the line, wait for the OK. -1: not now. */
static int try_connect(const char *uds, const char *port)
{
	struct sockaddr_un addr;
	int fd = unix_socket(uds, &addr);
	struct timeval ack = { .tv_sec = ACK_MS / 1000 }, for_ever = { 0 };
	char line[40];

	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0) {
		snprintf(line, sizeof(line), "CONNECT %s\n", port);
		(void)send(fd, line, strlen(line), MSG_NOSIGNAL);
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &ack, sizeof(ack));
		if (read_line(fd, line, sizeof(line)) && strncmp(line, "OK ", 3) == 0) {
			setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &for_ever, sizeof(for_ever));
			return fd;
		}
	}
	close(fd);
	return -1;
}

static int host_connect(const char *uds, const char *port)
{
	for (int i = 0; i < RETRIES; i++) {
		int fd = try_connect(uds, port);

		if (fd >= 0)
			return fd;
		nanosleep(&(struct timespec){ .tv_nsec = RETRY_MS * 1000000L }, NULL);
	}
	die("no connection to port %s", port);
}

static int host_ask(const char *uds, const char *port, const char *request)
{
	int fd = host_connect(uds, port);

	send_all(fd, request, strlen(request));
	send_all(fd, "\n", 1);
	return fd;
}

static void expect_done(int fd)
{
	char line[200];

	if (!read_line(fd, line, sizeof(line)) || strcmp(line, "done") != 0)
		die("the guest answered '%s'", line);
	expect_end(fd);
}

static void host_half(const char *uds, const char *port, uint64_t bytes)
{
	int fd = host_ask(uds, port, "echo");

	if (fork() == 0) {
		send_pattern(fd, bytes);
		shutdown(fd, SHUT_WR);
		_exit(0);
	}
	receive_pattern(fd, bytes);
	expect_end(fd);
}

static void host_many(const char *uds, const char *port, unsigned count)
{
	static int fd[MAX_CONNECTIONS];
	char c;

	for (unsigned i = 0; i < count; i++)
		fd[i] = host_ask(uds, port, "echo");
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < count; i++)
			send_all(fd[i], &(char){ (char)(i + round) }, 1);
		for (unsigned i = 0; i < count; i++) {
			if (recv(fd[i], &c, 1, 0) != 1 || c != (char)(i + round))
				die("connection %u did not echo its byte", i);
		}
	}
}

static void host_refused(const char *uds, const char *port)
{
	struct sockaddr_un addr;
	int fd = unix_socket(uds, &addr);
	char line[40];

	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0)
		die("connect");
	snprintf(line, sizeof(line), "CONNECT %s\n", port);
	send_all(fd, line, strlen(line));
	expect_end(fd);
}

static void host_pieces(const char *uds, const char *port)
{
	struct sockaddr_un addr;
	int fd = unix_socket(uds, &addr);
	struct timespec pause = { .tv_nsec = 50000000 };
	char line[40], rest[40];

	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0)
		die("connect");
	send_all(fd, "conn", 4);
	nanosleep(&pause, NULL);
	send_all(fd, "ect ", 4);
	nanosleep(&pause, NULL);
	snprintf(rest, sizeof(rest), "%s\necho\nhello", port);
	send_all(fd, rest, strlen(rest));
	if (!read_line(fd, line, sizeof(line)) || strncmp(line, "OK ", 3) != 0)
		die("expected OK, got '%s'", line);
	if (recv(fd, line, 5, MSG_WAITALL) != 5 || memcmp(line, "hello", 5) != 0)
		die("the first bytes did not come back");
}

int main(int argc, char **argv)
{
	const char *verb = argc > 2 ? argv[1] : "", *uds = argc > 2 ? argv[2] : "", *port = argc > 3 ? argv[3] : "0";
	uint64_t number = argc > 4 ? strtoull(argv[4], NULL, 10) : 0;
	char request[200] = "";

	if (strcmp(verb, "guest") == 0) {
		guest((unsigned)strtoul(uds, NULL, 10));
	} else if (strcmp(verb, "echo") == 0) {
		host_echo(uds, port);
	} else if (strcmp(verb, "stall") == 0) {
		host_stall(uds, port);
	} else if (strcmp(verb, "ask") == 0) {
		for (int i = 4; i < argc; i++)
			snprintf(request + strlen(request), sizeof(request) - strlen(request), i > 4 ? " %s" : "%s", argv[i]);
		expect_done(host_ask(uds, port, request));
	} else if (strcmp(verb, "sink") == 0) {
		int fd;

		snprintf(request, sizeof(request), "sink %llu", (unsigned long long)number);
		fd = host_ask(uds, port, request);
		send_pattern(fd, number);
		expect_done(fd);
	} else if (strcmp(verb, "source") == 0) {
		int fd;

		snprintf(request, sizeof(request), "source %llu", (unsigned long long)number);
		fd = host_ask(uds, port, request);
		receive_pattern(fd, number);
		expect_end(fd);
	} else if (strcmp(verb, "half") == 0) {
		host_half(uds, port, number);
	} else if (strcmp(verb, "many") == 0) {
		host_many(uds, port, (unsigned)number);
	} else if (strcmp(verb, "churn") == 0) {
		for (uint64_t i = 0; i < number; i++) {
			int fd = host_ask(uds, port, "sink 0");

			expect_done(fd);
			close(fd);
		}
	} else if (strcmp(verb, "refused") == 0) {
		host_refused(uds, port);
	} else if (strcmp(verb, "pieces") == 0) {
		host_pieces(uds, port);
	} else if (strcmp(verb, "hold") == 0) {
		(void)host_ask(uds, port, "flood");
		pause();
	} else {
		die("what is '%s'?", verb);
	}
	printf("done\n");
	return 0;
}
