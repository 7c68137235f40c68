// SPDX-License-Identifier: Apache-2.0
/* See drive.h. */
#define _GNU_SOURCE
#include "drive.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TAIL_MAX = 32768, WAIT_MS = 3000, SETTLE_MS = 60 };

void bench_die(const char *fmt, ...)
{
	va_list ap;

	fputs("bench: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

uint64_t bench_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void bench_sleep_ms(unsigned int ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	while (nanosleep(&t, &t) != 0 && errno == EINTR)
		;
}

void bench_copy_file(const char *from, const char *to)
{
	struct stat st;
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (in < 0 || out < 0 || fstat(in, &st) != 0)
		bench_die("copy %s to %s: %s", from, to, strerror(errno));
	for (off_t left = st.st_size; left > 0;) {
		ssize_t n = sendfile(out, in, NULL, (size_t)left);
		if (n <= 0)
			bench_die("copy %s to %s: %s", from, to, strerror(errno));
		left -= n;
	}
	close(in);
	close(out);
}

void bench_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		bench_die("write '%s' to %s: %s", text, path, strerror(errno));
	close(fd);
}

/* --- the monitor's life ------------------------------------------------------------------------------------------ */

static int inotify_fd = -1; /* closing one waits for a grace period, so one is made and kept */

static void watch_folder_of(const char *path)
{
	static char watched[108];
	char copy[108];

	snprintf(copy, sizeof(copy), "%s", path);
	char *dir = dirname(copy);
	if (inotify_fd < 0)
		inotify_fd = inotify_init1(IN_CLOEXEC);
	if (strcmp(watched, dir) != 0 && inotify_add_watch(inotify_fd, dir, IN_CREATE) < 0)
		bench_die("watch %s: %s", dir, strerror(errno));
	snprintf(watched, sizeof(watched), "%s", dir);
}

void monitor_start(struct monitor *m, char *const argv[], const char *socket)
{
	static uint64_t *exec_ns; /* shared with the child: nobody else knows when it execs */
	int out[2];

	*m = (struct monitor){ .api_fd = -1, .tail = calloc(1, TAIL_MAX + 1) };
	if (socket != NULL) {
		unlink(socket);
		watch_folder_of(socket);
	}
	if (exec_ns == NULL)
		exec_ns = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (m->tail == NULL || exec_ns == MAP_FAILED || pipe2(out, O_CLOEXEC) != 0)
		bench_die("start %s: %s", argv[0], strerror(errno));
	m->pid = fork();
	if (m->pid < 0)
		bench_die("fork: %s", strerror(errno));
	if (m->pid == 0) {
		int in = open("/dev/null", O_RDONLY);

		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a bench that dies leaves no guest to the next row */
		if (dup2(in, 0) < 0 || dup2(out[1], 1) < 0 || dup2(out[1], 2) < 0)
			_exit(126);
		*exec_ns = bench_now_ns();
		execv(argv[0], argv);
		_exit(127);
	}
	close(out[1]);
	m->out_fd = out[0];
	while (__atomic_load_n(exec_ns, __ATOMIC_RELAXED) == 0)
		sched_yield();
	m->exec_ns = *exec_ns;
	*exec_ns = 0;
}

static void tail_add(struct monitor *m, const char *data, size_t len)
{
	if (len > TAIL_MAX)
		return;
	if (m->tail_len + len > TAIL_MAX)
		m->tail_len = 0;
	memcpy(m->tail + m->tail_len, data, len);
	m->tail_len += len;
	m->tail[m->tail_len] = '\0';
}

/* The monitor did not do what it should: say why, with its own words. */
static void monitor_failed(struct monitor *m, const char *what)
{
	char buf[4096];

	kill(m->pid, SIGKILL);
	ssize_t n = read(m->out_fd, buf, sizeof(buf));
	if (n > 0)
		tail_add(m, buf, (size_t)n);
	bench_die("%s; the monitor's output:\n%s", what, m->tail);
}

void monitor_connect(struct monitor *m, const char *socket_path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct pollfd p[] = { { .fd = inotify_fd, .events = POLLIN }, { .fd = m->out_fd, .events = 0 } };
	char event[512];

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", socket_path);
	if (poll(p, 2, WAIT_MS) <= 0 || !(p[0].revents & POLLIN))
		monitor_failed(m, "no API socket appeared");
	(void)!read(inotify_fd, event, sizeof(event));
	m->api_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* It is bound now, and will listen a few system calls later. */
	for (uint64_t end = bench_now_ns() + 1000000000u; connect(m->api_fd, (struct sockaddr *)&addr, sizeof(addr)) != 0;) {
		if (errno != ECONNREFUSED || bench_now_ns() > end)
			monitor_failed(m, "no connection to the API socket");
		sched_yield();
	}
	m->connect_ns = bench_now_ns();
}

void monitor_call(struct monitor *m, const char *method, const char *path, const char *body)
{
	char buf[4096];
	size_t len = 0;
	int n = snprintf(buf, sizeof(buf), "%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n", method, path);

	if (body != NULL)
		n += snprintf(buf + n, sizeof(buf) - (size_t)n,
			"Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
	else
		n += snprintf(buf + n, sizeof(buf) - (size_t)n, "\r\n");

	if ((size_t)n >= sizeof(buf) || write(m->api_fd, buf, (size_t)n) != n)
		monitor_failed(m, "cannot send a request");
	for (;;) {
		struct pollfd p = { .fd = m->api_fd, .events = POLLIN };
		ssize_t got = poll(&p, 1, WAIT_MS) > 0 ? read(m->api_fd, buf + len, sizeof(buf) - 1 - len) : -1;
		if (got <= 0)
			monitor_failed(m, "no answer to a request");
		len += (size_t)got;
		buf[len] = '\0';
		char *end = strstr(buf, "\r\n\r\n");
		if (end == NULL)
			continue;
		char *field = strcasestr(buf, "\r\ncontent-length:");
		size_t body_len = field != NULL && field < end ? strtoul(field + 17, NULL, 10) : 0;
		if (len >= (size_t)(end + 4 - buf) + body_len)
			break;
	}
	if (strncmp(buf, "HTTP/1.1 2", 10) != 0) {
		char what[5000];

		snprintf(what, sizeof(what), "%s %s was answered:\n%s\n", method, path, buf);
		monitor_failed(m, what);
	}
}

/* The next byte of the monitor's output; @end_ns is when to give up. */
static char next_byte(struct monitor *m, uint64_t end_ns)
{
	if (m->in_at == m->in_len) {
		struct pollfd p = { .fd = m->out_fd, .events = POLLIN };
		uint64_t now = bench_now_ns();
		int wait_ms = now < end_ns ? (int)((end_ns - now) / 1000000) + 1 : 0;
		ssize_t n = poll(&p, 1, wait_ms) > 0 ? read(m->out_fd, m->in, sizeof(m->in)) : -1;

		m->in_ns = bench_now_ns();
		if (n <= 0 || m->in_ns > end_ns) /* a guest may also talk for ever */
			monitor_failed(m, "the guest did not say what it should");
		tail_add(m, m->in, (size_t)n);
		m->in_at = 0;
		m->in_len = (size_t)n;
	}
	return m->in[m->in_at++];
}

char monitor_wait_any(struct monitor *m, const char *marks, unsigned int timeout_ms, uint64_t *ns)
{
	uint64_t end_ns = bench_now_ns() + timeout_ms * 1000000ull;
	char c;

	do
		c = next_byte(m, end_ns);
	while (c == '\0' || strchr(marks, c) == NULL);
	*ns = m->in_ns;
	return c;
}

uint64_t monitor_wait_mark(struct monitor *m)
{
	static const char mark[] = { BENCH_MARK, '\0' };
	uint64_t ns;

	monitor_wait_any(m, mark, WAIT_MS, &ns);
	return ns;
}

void monitor_read_line(struct monitor *m, char *line, size_t size)
{
	uint64_t end_ns = bench_now_ns() + WAIT_MS * 1000000ull;
	size_t len = 0;

	for (char c; (c = next_byte(m, end_ns)) != '\n';)
		if (len + 1 < size)
			line[len++] = c;
	line[len] = '\0';
}

void monitor_stop(struct monitor *m)
{
	kill(m->pid, SIGKILL);
	waitpid(m->pid, NULL, 0);
	close(m->out_fd);
	if (m->api_fd >= 0)
		close(m->api_fd);
	free(m->tail);
	bench_sleep_ms(SETTLE_MS);
}

/* --- what it uses ------------------------------------------------------------------------------------------------ */

struct mapping {
	uint64_t start, end, rss_kib, dirty_kib, anon_kib;
	int has_file;
	char kind[64]; /* permissions and inode: adjoining mappings of one kind are one */
};

static unsigned int count_entries(const char *path)
{
	unsigned int n = 0;
	DIR *dir = opendir(path);

	for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
		n += e->d_name[0] != '.';
	if (dir != NULL)
		closedir(dir);
	return n;
}

static void account(const struct mapping *v, unsigned int guest_mib, struct memory_use *use)
{
	if (v->end - v->start >= (uint64_t)guest_mib << 20) {
		use->guest_kib += v->rss_kib;
		return;
	}
	uint64_t anon = v->anon_kib < v->dirty_kib ? v->anon_kib : v->dirty_kib;
	use->anon_dirty_kib += v->has_file ? anon : v->dirty_kib;
	use->file_dirty_kib += v->has_file ? v->dirty_kib - anon : 0;
}

void monitor_memory(const struct monitor *m, unsigned int guest_mib, struct memory_use *use)
{
	char path[64], line[512];
	struct mapping all = { 0 }, v = { 0 };

	*use = (struct memory_use){ 0 };
	snprintf(path, sizeof(path), "/proc/%d/smaps", m->pid);
	FILE *f = fopen(path, "re");
	if (f == NULL)
		bench_die("open %s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), f) != NULL) {
		unsigned long long start, end, kib;
		char perms[8], dev[16];
		unsigned long offset, inode;

		if (sscanf(line, "%llx-%llx %7s %lx %15s %lu", &start, &end, perms, &offset, dev, &inode) == 6) {
			v = (struct mapping){ .start = start, .end = end, .has_file = inode != 0 };
			snprintf(v.kind, sizeof(v.kind), "%s %s %lu", perms, dev, inode);
		} else if (sscanf(line, "Rss: %llu", &kib) == 1) {
			v.rss_kib = kib;
		} else if (sscanf(line, "Private_Dirty: %llu", &kib) == 1) {
			v.dirty_kib = kib;
		} else if (sscanf(line, "Anonymous: %llu", &kib) == 1) {
			v.anon_kib = kib;
		} else if (strncmp(line, "VmFlags:", 8) == 0) { /* the last line of a mapping */
			if (v.start == all.end && strcmp(v.kind, all.kind) == 0) {
				all.end = v.end;
				all.rss_kib += v.rss_kib;
				all.dirty_kib += v.dirty_kib;
				all.anon_kib += v.anon_kib;
			} else {
				account(&all, guest_mib, use);
				all = v;
			}
		}
	}
	account(&all, guest_mib, use);
	fclose(f);
	snprintf(path, sizeof(path), "/proc/%d/task", m->pid);
	use->n_threads = count_entries(path);
	snprintf(path, sizeof(path), "/proc/%d/fd", m->pid);
	use->n_fds = count_entries(path);
}

uint64_t monitor_cpu_ns(const struct monitor *m)
{
	char path[300];
	uint64_t sum = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", m->pid);
	DIR *dir = opendir(path);
	for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
		unsigned long long ns;
		FILE *f;

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", m->pid, e->d_name);
		if ((f = fopen(path, "re")) == NULL)
			continue;
		if (fscanf(f, "%llu", &ns) == 1)
			sum += ns;
		fclose(f);
	}
	if (dir != NULL)
		closedir(dir);
	return sum;
}
