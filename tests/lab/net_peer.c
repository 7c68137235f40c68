/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both ends of the network tests: a server that runs in the guest (or on the host), and a client that asks it to send,
 * receive, echo, count or run something. Every byte that travels is part of a known pattern and is compared.
 *
 *     net-peer serve PORT [TEXT]                 TCP and UDP, all addresses, for ever; prints TEXT when it listens
 *     net-peer get ADDR PORT BYTES               receive so many; prints BYTES and milliseconds
 *     net-peer put ADDR PORT BYTES               send so many, the server compares; prints as get
 *     net-peer rate-get ADDR PORT WARM MS        what arrives here in MS milliseconds after the first WARM: bytes a second
 *     net-peer rate-put ADDR PORT WARM MS        what arrives there
 *     net-peer run ADDR PORT COMMAND             the server's shell does it; its output, its status
 *     net-peer udp ADDR PORT SIZE COUNT          datagrams there and back, each within 5 s (sent again once a second)
 *     net-peer flood ADDR PORT SIZE MS           datagrams as fast as they go; prints how many
 *     net-peer count ADDR PORT                   how many of a flood arrived since the last time
 *     net-peer dnsd ADDR PORT IP                 a name server to which every name is IP
 *     net-peer hold-socket PATH                  connect to a Unix socket and stay
 *     net-peer with-tap NAME FD COMMAND...       run COMMAND with the open tap as descriptor FD
 *
 * Status: 0 done, 1 not (one line on standard error says what was expected and what came), 2 called wrongly.
 * NET_PEER_S: seconds after which a client gives up (60).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATTERN_LEN 65521 /* a prime: no page, segment or buffer has a length that hides a shift */
#define CHUNK PATTERN_LEN

static uint8_t pattern[2 * PATTERN_LEN], buf[2 * PATTERN_LEN];

static void make_pattern(void)
{
	uint32_t x = 2463534242;

	for (size_t i = 0; i < PATTERN_LEN; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		pattern[i] = pattern[i + PATTERN_LEN] = (uint8_t)x;
	}
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	(void)fputs("net-peer: ", stderr);
	(void)vfprintf(stderr, fmt, args);
	(void)fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static struct sockaddr_in address(const char *addr, const char *port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };

	if (inet_pton(AF_INET, addr, &sa.sin_addr) != 1)
		fail("expected an IPv4 address, got '%s'", addr);
	return sa;
}

/* --- Streams --- */

/* Send @len bytes of the pattern from offset @from on. */
static int send_pattern(int fd, uint64_t from, uint64_t len)
{
	for (uint64_t done = 0; done < len;) {
		size_t part = len - done < CHUNK ? (size_t)(len - done) : CHUNK;
		ssize_t n = send(fd, pattern + (from + done) % PATTERN_LEN, part, MSG_NOSIGNAL);

		if (n <= 0)
			return -1;
		done += (uint64_t)n;
	}
	return 0;
}

struct received {
	uint64_t bytes, in_window;
	int64_t wrong_at; /* -1: nothing was */
};

/* Receive up to @max bytes of the pattern or to the end; count those that come in @ms after the first @warm. */
static void receive_pattern(int fd, uint64_t max, uint64_t warm, uint64_t ms, struct received *out)
{
	uint64_t start = 0;

	*out = (struct received){ .wrong_at = -1 };
	while (out->bytes < max) {
		size_t part = max - out->bytes < CHUNK ? (size_t)(max - out->bytes) : CHUNK;
		ssize_t n = recv(fd, buf, part, 0);
		uint64_t now = now_ms();

		if (n <= 0)
			return;
		if (memcmp(buf, pattern + out->bytes % PATTERN_LEN, (size_t)n) != 0 && out->wrong_at < 0)
			out->wrong_at = (int64_t)out->bytes;
		out->bytes += (uint64_t)n;
		if (start == 0)
			start = now;
		if (ms == 0)
			continue;
		if (now >= start + warm + ms)
			return;
		if (now >= start + warm)
			out->in_window += (uint64_t)n;
	}
}

/* --- The server --- */

static void serve_connection(int fd)
{
	unsigned long long bytes = 0, warm = 0, ms = 0;
	struct received r;
	char line[512], reply[128];
	size_t n = 0;
	int status;

	while (n < sizeof(line) - 1 && recv(fd, line + n, 1, 0) == 1 && line[n] != '\n')
		n++;
	line[n] = '\0';
	if (sscanf(line, "get %llu", &bytes) == 1) {
		(void)send_pattern(fd, 0, bytes);
		(void)shutdown(fd, SHUT_WR);
		(void)recv(fd, reply, sizeof(reply), 0);
	} else if (sscanf(line, "put %llu %llu", &warm, &ms) == 2) {
		receive_pattern(fd, UINT64_MAX, warm, ms, &r);
		(void)snprintf(reply, sizeof(reply), "%llu %llu %lld\n", (unsigned long long)r.bytes,
			       (unsigned long long)r.in_window, (long long)r.wrong_at);
		(void)send(fd, reply, strlen(reply), MSG_NOSIGNAL);
		(void)shutdown(fd, SHUT_WR);
		while (recv(fd, buf, sizeof(buf), 0) > 0) /* or a reset overtakes the reply */
			;
	} else if (strncmp(line, "run ", 4) == 0) {
		(void)signal(SIGCHLD, SIG_DFL);
		(void)dup2(fd, 1);
		(void)dup2(fd, 2);
		status = system(line + 4);
		(void)dprintf(fd, "\n%d", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	}
	_exit(0);
}

static void serve_datagram(int fd)
{
	static uint64_t n_flood, n_flood_bytes;
	struct sockaddr_in from;
	socklen_t from_len = sizeof(from);
	ssize_t n = recvfrom(fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);

	if (n <= 0)
		return;
	if (buf[0] == 'f') {
		n_flood++;
		n_flood_bytes += (uint64_t)n;
		return;
	}
	if (buf[0] == 'c') {
		n = snprintf((char *)buf, sizeof(buf), "%llu %llu", (unsigned long long)n_flood,
			     (unsigned long long)n_flood_bytes);
		n_flood = n_flood_bytes = 0;
	}
	(void)sendto(fd, buf, (size_t)n, 0, (struct sockaddr *)&from, from_len);
}

static int serve(const char *port, const char *text)
{
	struct sockaddr_in sa = address("0.0.0.0", port);
	int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1;
	struct pollfd fds[2] = { { tcp, POLLIN, 0 }, { udp, POLLIN, 0 } };

	(void)setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(tcp, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(tcp, 64) < 0 ||
	    bind(udp, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		fail("port %s: %s", port, strerror(errno));
	(void)signal(SIGCHLD, SIG_IGN);
	if (text)
		(void)dprintf(1, "%s\n", text);
	for (;;) {
		if (poll(fds, 2, -1) < 0)
			continue;
		for (int i = 0; fds[1].revents && i < 64; i++)
			serve_datagram(udp);
		if (fds[0].revents) {
			int fd = accept4(tcp, NULL, NULL, SOCK_CLOEXEC);

			if (fd >= 0 && fork() == 0)
				serve_connection(fd);
			(void)close(fd);
		}
	}
}

static int dnsd(const char *addr, const char *port, const char *ip)
{
	struct sockaddr_in sa = address(addr, port), answer = address(ip, "0"), from;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		fail("%s:%s: %s", addr, port, strerror(errno));
	for (;;) {
		socklen_t from_len = sizeof(from);
		ssize_t n = recvfrom(fd, buf, 512, 0, (struct sockaddr *)&from, &from_len);
		size_t end = 12;

		if (n < 17)
			continue;
		while (end < (size_t)n && buf[end] != 0)
			end += (size_t)buf[end] + 1;
		end += 5;                                      /* the root, the type, the class */
		if (end > (size_t)n)
			continue;
		buf[2] = 0x84, buf[3] = 0x80;                  /* an answer, authoritative, recursion available */
		memset(buf + 6, 0, 6);
		if (buf[end - 3] == 1) {                       /* A; anything else: the name has none */
			static const uint8_t record[] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4 };

			buf[7] = 1;
			memcpy(buf + end, record, sizeof(record));
			memcpy(buf + end + sizeof(record), &answer.sin_addr, 4);
			end += sizeof(record) + 4;
		}
		(void)sendto(fd, buf, end, 0, (struct sockaddr *)&from, from_len);
	}
}

/* --- Clients --- */

__attribute__((format(printf, 2, 3))) static int ask(const struct sockaddr_in *to, const char *fmt, ...)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char line[512];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0)
		fail("connect: %s", strerror(errno));
	if (send(fd, line, strlen(line), MSG_NOSIGNAL) != (ssize_t)strlen(line))
		fail("send: %s", strerror(errno));
	return fd;
}

static int get(const struct sockaddr_in *to, uint64_t bytes)
{
	uint64_t start = now_ms();
	struct received r;
	int fd = ask(to, "get %llu\n", (unsigned long long)bytes);

	receive_pattern(fd, UINT64_MAX, 0, 0, &r);
	if (r.bytes != bytes || r.wrong_at >= 0)
		fail("get: expected %llu bytes of the pattern, got %llu, the first wrong one behind %lld",
		     (unsigned long long)bytes, (unsigned long long)r.bytes, (long long)r.wrong_at);
	return printf("%llu %llu\n", (unsigned long long)bytes, (unsigned long long)(now_ms() - start)) < 0;
}

/* The server's verdict on what was put. */
static void verdict(int fd, unsigned long long *bytes, unsigned long long *in_window)
{
	long long wrong_at = 0;
	char reply[128];
	ssize_t n = 0, got;

	/* The line's end is enough: Debian 12's passt does not pass on the end of a stream whose other half was ended before. */
	while (n < (ssize_t)sizeof(reply) - 1 && !memchr(reply, '\n', (size_t)n) &&
	       (got = recv(fd, reply + n, sizeof(reply) - 1 - (size_t)n, 0)) > 0)
		n += got;
	reply[n] = '\0';
	if (sscanf(reply, "%llu %llu %lld", bytes, in_window, &wrong_at) != 3)
		fail("put: expected a verdict, got '%s' (%s)", reply, strerror(errno));
	if (wrong_at >= 0)
		fail("put: expected the pattern, the first wrong byte was behind %lld", wrong_at);
}

static int put(const struct sockaddr_in *to, uint64_t bytes)
{
	uint64_t start = now_ms();
	unsigned long long got, in_window;
	int fd = ask(to, "put 0 0\n");

	if (send_pattern(fd, 0, bytes) < 0)
		fail("put: %s", strerror(errno));
	(void)shutdown(fd, SHUT_WR);
	verdict(fd, &got, &in_window);
	if (got != bytes)
		fail("put: expected %llu bytes to arrive, got %llu", (unsigned long long)bytes, got);
	return printf("%llu %llu\n", got, (unsigned long long)(now_ms() - start)) < 0;
}

static int rate_get(const struct sockaddr_in *to, uint64_t warm, uint64_t ms)
{
	int fd = ask(to, "get %llu\n", 1ULL << 40);
	struct received r;

	receive_pattern(fd, UINT64_MAX, warm, ms, &r);
	if (r.wrong_at >= 0)
		fail("rate-get: expected the pattern, the first wrong byte was behind %lld", (long long)r.wrong_at);
	return printf("%llu\n", (unsigned long long)(r.in_window * 1000 / ms)) < 0;
}

static int rate_put(const struct sockaddr_in *to, uint64_t warm, uint64_t ms)
{
	int fd = ask(to, "put %llu %llu\n", (unsigned long long)warm, (unsigned long long)ms);
	unsigned long long bytes, in_window;
	struct linger at_once = { 1, 0 }; /* what waits here to be sent would disturb what is measured next */
	struct pollfd p = { fd, POLLIN | POLLOUT, 0 };

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	for (uint64_t done = 0; !(p.revents & POLLIN) && poll(&p, 1, -1) > 0;) {
		ssize_t n = p.revents & POLLOUT ? send(fd, pattern + done % PATTERN_LEN, CHUNK, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;

		if (n < 0 && errno != EAGAIN)
			break;
		done += n > 0 ? (uint64_t)n : 0;
	}
	verdict(fd, &bytes, &in_window);
	return printf("%llu\n", in_window * 1000 / ms) < 0;
}

static int run(const struct sockaddr_in *to, const char *command)
{
	int fd = ask(to, "run %s\n", command), status;
	ssize_t n = 0, got;
	char *last;

	while (n < (ssize_t)sizeof(buf) - 1 && (got = recv(fd, buf + n, sizeof(buf) - 1 - (size_t)n, 0)) > 0)
		n += got;
	buf[n] = '\0';
	last = strrchr((char *)buf, '\n');
	if (!last || sscanf(last, "%d", &status) != 1)
		fail("run: expected output and a status, got '%s'", buf);
	*last = '\0';
	(void)fputs((char *)buf, stdout);
	if (status != 0)
		(void)printf("(status %d)\n", status);
	return status;
}

static int udp_socket(const struct sockaddr_in *to, unsigned timeout_ms)
{
	struct timeval tv = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) < 0 ||
	    connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0)
		fail("socket: %s", strerror(errno));
	return fd;
}

static int udp(const struct sockaddr_in *to, size_t size, unsigned count)
{
	int fd = udp_socket(to, 1000);
	unsigned lost = 0;

	for (unsigned i = 0; i < count; i++) {
		uint8_t *want = pattern + i % PATTERN_LEN;
		unsigned tries = 0;

		memcpy(buf, want, size);
		buf[0] = 'e';
		for (;;) {
			ssize_t n = send(fd, buf, size, 0);
			uint8_t back[65536];

			if (n == (ssize_t)size)
				n = recv(fd, back, sizeof(back), 0);
			if (n == (ssize_t)size && memcmp(back, buf, size) == 0)
				break;
			if (n >= 0) /* one that was given up before */
				continue;
			if (++tries == 5)
				fail("udp: expected datagram %u of %zu bytes to come back within 5 s, got %s", i, size,
				     strerror(errno));
			lost++;
		}
	}
	return printf("%u %u\n", count, lost) < 0;
}

static int flood(const struct sockaddr_in *to, size_t size, uint64_t ms)
{
	int fd = udp_socket(to, 1000);
	uint64_t until = now_ms() + ms;
	unsigned long long n = 0;

	memcpy(buf, pattern, size);
	buf[0] = 'f';
	while (now_ms() < until)
		for (int i = 0; i < 32; i++)
			if (send(fd, buf, size, 0) == (ssize_t)size)
				n++;
	return printf("%llu\n", n) < 0;
}

static int count(const struct sockaddr_in *to)
{
	int fd = udp_socket(to, 1000);

	for (int i = 0; i < 5; i++) {
		ssize_t n = send(fd, "c", 1, 0) == 1 ? recv(fd, buf, sizeof(buf) - 1, 0) : -1;

		if (n > 0)
			return printf("%.*s\n", (int)n, buf) < 0;
	}
	fail("count: expected an answer within 5 s, got %s", strerror(errno));
}

static int with_tap(const char *name, int as_fd, char **command)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open("/dev/net/tun", O_RDWR);

	(void)snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0 || (fd != as_fd && dup2(fd, as_fd) < 0))
		fail("tap '%s': %s", name, strerror(errno));
	if (fd != as_fd)
		(void)close(fd);
	(void)execvp(command[0], command);
	fail("%s: %s", command[0], strerror(errno));
}

static int hold_socket(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		fail("%s: %s", path, strerror(errno));
	while (recv(fd, buf, sizeof(buf), 0) > 0)
		;
	fail("%s: expected to be served, got the end", path);
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "", *limit = getenv("NET_PEER_S");
	struct sockaddr_in to;
	uint64_t a, b;

	make_pattern();
	if ((argc == 3 || argc == 4) && strcmp(verb, "serve") == 0)
		return serve(argv[2], argv[3]);
	if (argc == 5 && strcmp(verb, "dnsd") == 0)
		return dnsd(argv[2], argv[3], argv[4]);
	if (argc == 3 && strcmp(verb, "hold-socket") == 0)
		return hold_socket(argv[2]);
	if (argc >= 5 && strcmp(verb, "with-tap") == 0)
		return with_tap(argv[2], atoi(argv[3]), argv + 4);
	if (argc < 4)
		return 2;
	(void)alarm(limit ? (unsigned)atoi(limit) : 60);
	to = address(argv[2], argv[3]);
	a = argc > 4 ? strtoull(argv[4], NULL, 10) : 0;
	b = argc > 5 ? strtoull(argv[5], NULL, 10) : 0;
	if (argc == 4 && strcmp(verb, "count") == 0)
		return count(&to);
	if (argc == 5 && strcmp(verb, "get") == 0)
		return get(&to, a);
	if (argc == 5 && strcmp(verb, "put") == 0)
		return put(&to, a);
	if (argc == 5 && strcmp(verb, "run") == 0)
		return run(&to, argv[4]);
	if (argc == 6 && strcmp(verb, "rate-get") == 0 && b > 0)
		return rate_get(&to, a, b);
	if (argc == 6 && strcmp(verb, "rate-put") == 0 && b > 0)
		return rate_put(&to, a, b);
	if (argc == 6 && strcmp(verb, "udp") == 0 && a > 0 && a <= 65507)
		return udp(&to, (size_t)a, (unsigned)b);
	if (argc == 6 && strcmp(verb, "flood") == 0 && a > 0 && a <= 65507)
		return flood(&to, (size_t)a, b);
	return 2;
}
