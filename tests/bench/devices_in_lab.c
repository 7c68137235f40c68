// SPDX-License-Identifier: Apache-2.0
/*
 * The part of the device bench that runs in the lab: boots a guest (guest_devices.c) that does some jobs with its devices,
 * once to warm up and then RUNS times, and prints a line "NAME VALUE" for each figure of each run. `devices` calls it, in a
 * chroot on tmpfs; README.md says what the figures mean.
 *
 *     devices_in_lab RUNS --jobs JOB,... --kernel F --initrd F [--disk MIB] [--remove FILE]... [--tap]
 *                    (--monitor F [--put PATH BODY]... | -- PROGRAM ARG...)
 *
 * After those runs comes one that counts instead of timing. BENCH_WALL in the environment: time is real.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "counts.h"
#include "devices_wire.h"
#include "drive.h"

#define SOCKET "/run/api.socket"
#define DISK "/disk"			/* what the guest has as /dev/vda */
#define VSOCK "/vsock"			/* the Unix socket of the vsock device; not in /run, which drive.c watches */
#define TAP "tap0"

enum {
	WARM_UPS = 1,
	N_MAX = 16,
	TIMEOUT_MS = 3000, /* virtual: one second of it can be ten of ours */
	WALL_TIMEOUT_MS = 60000,
	N_COUNTED = 128,
	MIB = 1 << 20,
};

struct setup {
	const char *monitor, *kernel, *initrd, *jobs;
	int wall;		 /* not virtual time: other programs run, too */
	unsigned int timeout_ms; /* for a boot or a job */
	const char *remove[N_MAX];
	const char *path[N_MAX], *body[N_MAX]; /* API calls */
	int n_remove, n_put;
	char **argv; /* PROGRAM; argv[0] == NULL: none */
};

/* --- the host's side of connections ------------------------------------------------------------------------------ */

static size_t receive(int fd, void *data, size_t len)
{
	ssize_t n = read(fd, data, len);

	if (n <= 0)
		_exit(0); /* the guest is gone */
	return (size_t)n;
}

static void send_all(int fd, const char *data, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = write(fd, data + at, len - at);
		if (n <= 0)
			_exit(0);
		at += (size_t)n;
	}
}

static void serve(int fd)
{
	static char data[DEVICES_CHUNK];
	struct devices_request r;

	for (;;) {
		for (size_t at = 0; at < sizeof(r);)
			at += receive(fd, (char *)&r + at, sizeof(r) - at);
		switch ((enum devices_what)r.what) {
		case DEVICES_SINK:
			for (uint64_t left = r.n; left > 0;)
				left -= receive(fd, data, left < sizeof(data) ? left : sizeof(data));
			send_all(fd, data, 1);
			break;
		case DEVICES_SOURCE:
			for (uint64_t at = 0; at < r.n; at += sizeof(data))
				send_all(fd, data, sizeof(data));
			break;
		case DEVICES_PING:
			if (devices_ping(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP), DEVICES_GUEST, r.n) != 0)
				bench_die("ping: %s", strerror(errno));
			send_all(fd, data, 1);
			break;
		case DEVICES_ECHO:
			for (uint64_t i = 0; i < r.n; i++) {
				receive(fd, data, 1);
				send_all(fd, data, 1);
			}
			break;
		}
	}
}

/* Start a process that serves the connections which come to @fd, each in a process of its own. Returns its id. */
static pid_t listen_forever(int fd, const struct sockaddr *addr, socklen_t len)
{
	int one = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 || bind(fd, addr, len) != 0 || listen(fd, 8) != 0)
		bench_die("listen: %s", strerror(errno));
	pid_t pid = fork();
	if (pid < 0)
		bench_die("fork: %s", strerror(errno));
	if (pid > 0) {
		close(fd);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int conn = accept(fd, NULL, NULL);

		if (conn < 0)
			_exit(1);
		if (addr->sa_family == AF_INET)
			setsockopt(conn, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL); /* a dead guest's TCP connection never ends by itself */
			close(fd);
			serve(conn);
		}
		close(conn);
	}
}

static void start_peers(pid_t pid[2])
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(DEVICES_PORT) };
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	snprintf(un.sun_path, sizeof(un.sun_path), VSOCK "_%d", DEVICES_PORT);
	unlink(un.sun_path);
	pid[0] = listen_forever(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), (struct sockaddr *)&in, sizeof(in));
	pid[1] = listen_forever(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), (struct sockaddr *)&un, sizeof(un));
}

/* --- what the guest needs ---------------------------------------------------------------------------------------- */

/* A tap device that outlives the monitors, without IPv6's chatter. */
static void make_tap(void)
{
	struct ifreq ifr = { .ifr_name = TAP, .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	struct sockaddr_in *in = (struct sockaddr_in *)&ifr.ifr_addr;
	int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC), fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (tun < 0 || ioctl(tun, TUNSETIFF, &ifr) != 0 || ioctl(tun, TUNSETPERSIST, 1) != 0)
		bench_die("make " TAP ": %s", strerror(errno));
	close(tun);
	bench_write("/proc/sys/net/ipv6/conf/" TAP "/disable_ipv6", "1");
	*in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(DEVICES_HOST) };
	if (ioctl(fd, SIOCSIFADDR, &ifr) != 0)
		bench_die("address of " TAP ": %s", strerror(errno));
	in->sin_addr.s_addr = htonl(0xffffff00);
	if (ioctl(fd, SIOCSIFNETMASK, &ifr) != 0)
		bench_die("netmask of " TAP ": %s", strerror(errno));
	ifr.ifr_flags = IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &ifr) != 0)
		bench_die(TAP " up: %s", strerror(errno));
	close(fd);
}

/* A file without holes, on tmpfs. */
static void make_disk(unsigned int mib)
{
	static char data[MIB];
	int fd = open(DISK, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	memset(data, 0x5a, sizeof(data));
	for (unsigned int i = 0; i < mib; i++)
		if (write(fd, data, sizeof(data)) != sizeof(data))
			bench_die("write " DISK ": %s", strerror(errno));
	close(fd);
}

static void launch(const struct setup *s, const char *jobs, struct monitor *m)
{
	char *argv[] = { (char *)s->monitor, "--api-sock", SOCKET, "--id", "bench", "--level", "Off", NULL };
	char body[1000], args[500];

	for (int i = 0; i < s->n_remove; i++)
		unlink(s->remove[i]);
	snprintf(args, sizeof(args), "quiet 8250.nr_uarts=0 ipv6.disable=1 bench=%s", jobs);
	if (s->argv[0] != NULL) { /* its last argument is -append */
		char *with_args[100];
		int n = 0;

		for (; s->argv[n] != NULL && n < 98; n++)
			with_args[n] = s->argv[n];
		with_args[n++] = args;
		with_args[n] = NULL;
		monitor_start(m, with_args, NULL);
		return;
	}
	monitor_start(m, argv, SOCKET);
	monitor_connect(m, SOCKET);
	monitor_call(m, "PUT", "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":128}");
	snprintf(body, sizeof(body), "{\"kernel_image_path\":\"%s\",\"initrd_path\":\"%s\",\"boot_args\":\"%s\"}", s->kernel,
		 s->initrd, args);
	monitor_call(m, "PUT", "/boot-source", body);
	for (int i = 0; i < s->n_put; i++)
		monitor_call(m, "PUT", s->path[i], s->body[i]);
	monitor_call(m, "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}");
}

/* --- measuring --------------------------------------------------------------------------------------------------- */

/*
 * Guest and host must see the same time pass, or the guest's figures mean nothing. The marks are seen a little late, and on a
 * busy machine with real time as late as it likes.
 */
static void check_clock(const struct setup *s, const char *job, uint64_t guest_ns, uint64_t host_ns)
{
	uint64_t diff = guest_ns > host_ns ? guest_ns - host_ns : host_ns - guest_ns;

	if (diff <= host_ns / 100 + 100000)
		return;
	if (!s->wall)
		bench_die("%s: the guest's clock says %llu us, the host's %llu us", job, (unsigned long long)guest_ns / 1000,
			  (unsigned long long)host_ns / 1000);
	fprintf(stderr, "bench: %s: guest's and host's clock differ by %llu us (a busy machine?)\n", job,
		(unsigned long long)diff / 1000);
}

struct counted {
	struct {
		char name[64];
		double n;
	} what[N_COUNTED];
	int n;
};

static void take_count(void *ctx, const char *name, double n)
{
	struct counted *c = ctx;

	if (c->n == N_COUNTED)
		return;
	snprintf(c->what[c->n].name, sizeof(c->what[0].name), "%s", name);
	c->what[c->n++].n = n;
}

/* Per operation, without @base: what a job that does nothing costs. */
static void print_counts(const char *job, const struct counted *c, const struct counted *base, double ops)
{
	for (int i = 0; i < c->n; i++) {
		double n = c->what[i].n;

		for (int k = 0; k < base->n; k++)
			if (strcmp(base->what[k].name, c->what[i].name) == 0)
				n -= base->what[k].n;
		if (n >= 0.005 * ops)
			printf("%s.%s %.2f\n", job, c->what[i].name, n / ops);
	}
}

enum kind { WARM_UP, TIMED, COUNTED };

/* One guest. Its first job, when it counts, is to do nothing. */
static void run(const struct setup *s, enum kind kind)
{
	static const char begin_or_done[] = { DEVICES_BEGIN, DEVICES_DONE, '\0' };
	static const char end_or_done[] = { DEVICES_END, DEVICES_DONE, '\0' };
	struct counted now, base = { .n = 0 };
	struct monitor m;
	uint64_t begin_ns, end_ns;
	char line[200], jobs[300], job[64];
	unsigned long long ns, ops, between_ns;

	snprintf(jobs, sizeof(jobs), "%s%s", kind == COUNTED ? "nothing," : "", s->jobs);
	if (kind == COUNTED)
		counts_open();
	launch(s, jobs, &m);
	while (monitor_wait_any(&m, begin_or_done, s->timeout_ms, &begin_ns) == DEVICES_BEGIN) {
		if (kind == COUNTED)
			counts_clear();
		if (monitor_wait_any(&m, end_or_done, s->timeout_ms, &end_ns) != DEVICES_END)
			break;
		now.n = 0;
		if (kind == COUNTED)
			counts_each(m.pid, take_count, &now);
		monitor_read_line(&m, line, sizeof(line));
		if (sscanf(line, "%63s %llu %llu %llu", job, &ns, &ops, &between_ns) != 4)
			bench_die("not a result: %s", line);
		if (kind == COUNTED && base.n == 0)
			base = now;
		else if (kind == COUNTED)
			print_counts(job, &now, &base, (double)ops);
		if (kind == TIMED) {
			check_clock(s, job, between_ns, end_ns - begin_ns);
			printf("%s %.3f\n", job, (double)ns / (double)ops / 1000);
		}
		jobs[0] = '\0'; /* one was done */
	}
	if (jobs[0] != '\0' || strstr(m.tail, "guest: ") != NULL)
		bench_die("the guest's jobs failed; its output:\n%s", m.tail);
	if (kind == COUNTED)
		counts_close();
	monitor_stop(&m);
}

int main(int argc, char **argv)
{
	static const struct option table[] = {
		{ "monitor", 1, 0, 'm' }, { "kernel", 1, 0, 'k' }, { "initrd", 1, 0, 'i' }, { "jobs", 1, 0, 'j' },
		{ "disk", 1, 0, 'd' },	  { "remove", 1, 0, 'r' }, { "put", 1, 0, 'p' },    { "tap", 0, 0, 't' }, { 0 },
	};
	struct setup s = { 0 };
	static char out_buf[1 << 16];
	pid_t peer[2];
	int c;

	setvbuf(stdout, out_buf, _IOFBF, sizeof(out_buf));
	if (argc < 3)
		bench_die("see the top of devices_in_lab.c");
	int n_runs = atoi(argv[1]);
	optind = 2;
	while ((c = getopt_long(argc, argv, "+", table, NULL)) != -1) {
		switch (c) {
		case 'm': s.monitor = optarg; break;
		case 'k': s.kernel = optarg; break;
		case 'i': s.initrd = optarg; break;
		case 'j': s.jobs = optarg; break;
		case 'd': make_disk((unsigned int)strtoul(optarg, NULL, 10)); break;
		case 't': make_tap(); break;
		case 'r':
			if (s.n_remove < N_MAX)
				s.remove[s.n_remove++] = optarg;
			break;
		case 'p':
			if (s.n_put == N_MAX || optind >= argc)
				bench_die("--put PATH BODY");
			s.path[s.n_put] = optarg;
			s.body[s.n_put++] = argv[optind++];
			break;
		default: return 2;
		}
	}
	s.wall = getenv("BENCH_WALL") != NULL;
	s.timeout_ms = s.wall ? WALL_TIMEOUT_MS : TIMEOUT_MS;
	s.argv = argv + optind;
	start_peers(peer);
	for (int i = 0; i < WARM_UPS + n_runs; i++)
		run(&s, i < WARM_UPS ? WARM_UP : TIMED);
	run(&s, COUNTED);
	for (int i = 0; i < 2; i++) { /* the next row wants the same port */
		kill(peer[i], SIGKILL);
		waitpid(peer[i], NULL, 0);
	}
	return 0;
}
