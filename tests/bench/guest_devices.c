// SPDX-License-Identifier: Apache-2.0
/*
 * /init of a guest whose devices are measured: does the jobs that the kernel's command line names (bench=JOB,JOB,...), each
 * once to warm up and once measured, and reports on the first serial port, with no driver in between. devices_wire.h says
 * what it sends; README.md what the jobs are.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "devices_wire.h"

enum { SERIAL_PORT = 0x3f8, BESIDE_MARK_MS = 50, DEPTH_MAX = 32, MIB = 1 << 20 };

/* One kind of work. @run does @n operations. */
struct job {
	const char *name;
	void (*run)(const struct job *job, uint64_t n);
	uint64_t n_warm, n;
	int write;	     /* block: the direction */
	unsigned int size;   /* block: bytes of a request */
	unsigned int depth;  /* block: requests in flight */
	int family;	     /* sockets: AF_INET or AF_VSOCK */
	enum devices_what what;
};

static void out(const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		outb((unsigned char)data[i], SERIAL_PORT);
}

static void mark(char c)
{
	out(&c, 1);
}

/* Say what is wrong and stop; the host waits for something else and shows this. */
static void die(const char *what)
{
	char line[200];
	int n = snprintf(line, sizeof(line), "guest: %s: %s\n%c", what, strerror(errno), DEVICES_DONE);

	out(line, (size_t)n);
	for (;;)
		pause();
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_ms(unsigned int ms)
{
	struct timespec t = { .tv_nsec = (long)ms * 1000000 };

	nanosleep(&t, NULL);
}

/* --- disks ------------------------------------------------------------------------------------------------------- */

static int disk_fd = -1;
static uint64_t disk_bytes;
static char *buffers; /* DEPTH_MAX of 4 KiB, or one of 1 MiB */
static aio_context_t aio;

static void open_disk(void)
{
	if (disk_fd >= 0)
		return;
	disk_fd = open("/dev/vda", O_RDWR | O_DIRECT);
	if (disk_fd < 0 || ioctl(disk_fd, BLKGETSIZE64, &disk_bytes) != 0)
		die("/dev/vda");
	buffers = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (buffers == MAP_FAILED || syscall(SYS_io_setup, DEPTH_MAX, &aio) != 0)
		die("memory or AIO");
}

/* The same places in each run. */
static uint64_t random_offset(unsigned int size)
{
	static uint64_t state = 1;

	state = state * 6364136223846793005u + 1442695040888963407u;
	return (state >> 33) % (disk_bytes / size) * size;
}

/* One request at a time; those of 1 MiB one behind the other. */
static void run_disk(const struct job *job, uint64_t n)
{
	open_disk();
	for (uint64_t i = 0; i < n; i++) {
		uint64_t at = job->size == MIB ? i * MIB % disk_bytes : random_offset(job->size);
		ssize_t got = job->write ? pwrite(disk_fd, buffers, job->size, (off_t)at)
					 : pread(disk_fd, buffers, job->size, (off_t)at);
		if (got != (ssize_t)job->size)
			die(job->name);
	}
}

/* job->depth requests in flight: whatever is complete is asked for again, in one call. */
static void run_disk_deep(const struct job *job, uint64_t n)
{
	static struct iocb cb[DEPTH_MAX];
	struct iocb *next[DEPTH_MAX];
	struct io_event done[DEPTH_MAX];
	uint64_t submitted = 0, completed = 0;
	long n_next = job->depth;

	open_disk();
	for (unsigned int i = 0; i < job->depth; i++) {
		cb[i] = (struct iocb){ .aio_data = i, .aio_fildes = (uint32_t)disk_fd, .aio_nbytes = job->size,
				       .aio_lio_opcode = job->write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
				       .aio_buf = (uintptr_t)(buffers + i * job->size) };
		next[i] = &cb[i];
	}
	while (completed < n) {
		for (long i = 0; i < n_next; i++)
			next[i]->aio_offset = (int64_t)random_offset(job->size);
		if (n_next > 0 && syscall(SYS_io_submit, aio, n_next, next) != n_next)
			die(job->name);
		submitted += (uint64_t)n_next;
		long n_done = syscall(SYS_io_getevents, aio, 1, DEPTH_MAX, done, NULL);
		n_next = 0;
		for (long i = 0; i < n_done; i++) {
			if (done[i].res != job->size)
				die(job->name);
			completed++;
			if (submitted + (uint64_t)n_next < n)
				next[n_next++] = &cb[done[i].data];
		}
	}
}

/* Write the whole disk once, so that nothing on it comes from a base. */
static void run_fill(const struct job *job, uint64_t n)
{
	open_disk();
	if (n == 0)
		return;
	for (uint64_t at = 0; at < disk_bytes; at += MIB)
		if (pwrite(disk_fd, buffers, MIB, (off_t)at) != MIB)
			die(job->name);
}

/* --- sockets ----------------------------------------------------------------------------------------------------- */

static void network_up(void)
{
	static int done;
	struct ifreq ifr = { .ifr_name = "eth0" };
	struct sockaddr_in *in = (struct sockaddr_in *)&ifr.ifr_addr;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (done)
		return;
	*in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(DEVICES_GUEST) };
	if (ioctl(fd, SIOCSIFADDR, &ifr) != 0)
		die("address of eth0");
	in->sin_addr.s_addr = htonl(0xffffff00);
	if (ioctl(fd, SIOCSIFNETMASK, &ifr) != 0)
		die("netmask of eth0");
	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(fd, SIOCSIFFLAGS, &ifr) != 0)
		die("eth0 up");
	close(fd);
	done = 1;
}

/* One connection of each family serves all jobs, so the congestion window is open. */
static int connection(const struct job *job)
{
	static int inet_fd = -1, vsock_fd = -1;
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(DEVICES_PORT),
				  .sin_addr.s_addr = htonl(DEVICES_HOST) };
	struct sockaddr_vm vm = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = DEVICES_PORT };
	int inet = job->family == AF_INET, one = 1;
	int *fd = inet ? &inet_fd : &vsock_fd;

	if (*fd >= 0)
		return *fd;
	if (inet)
		network_up();
	*fd = socket(job->family, SOCK_STREAM, 0);
	if (*fd < 0 || connect(*fd, inet ? (struct sockaddr *)&in : (struct sockaddr *)&vm, inet ? sizeof(in) : sizeof(vm)) != 0)
		die("connect");
	if (inet)
		setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return *fd;
}

static void send_all(int fd, const void *data, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = write(fd, (const char *)data + at, len - at);
		if (n <= 0)
			die("send");
		at += (size_t)n;
	}
}

static size_t receive(int fd, void *data, size_t len)
{
	ssize_t n = read(fd, data, len);

	if (n <= 0)
		die("receive");
	return (size_t)n;
}

/* @n MiB, or @n times there and back. */
static void run_socket(const struct job *job, uint64_t n)
{
	static char data[DEVICES_CHUNK];
	int fd = connection(job);
	struct devices_request request = { job->what, job->what <= DEVICES_SOURCE ? n * MIB : n };

	send_all(fd, &request, sizeof(request));
	switch (job->what) {
	case DEVICES_SINK:
		for (uint64_t at = 0; at < n * MIB; at += sizeof(data))
			send_all(fd, data, sizeof(data));
		receive(fd, data, 1);
		break;
	case DEVICES_SOURCE:
		for (uint64_t left = n * MIB; left > 0;)
			left -= receive(fd, data, left < sizeof(data) ? left : sizeof(data));
		break;
	case DEVICES_PING:
		receive(fd, data, 1);
		break;
	case DEVICES_ECHO:
		for (uint64_t i = 0; i < n; i++) {
			send_all(fd, data, 1);
			receive(fd, data, 1);
		}
		break;
	}
}

static void run_ping(const struct job *job, uint64_t n)
{
	static int fd = -1;

	network_up();
	if (fd < 0)
		fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
	if (devices_ping(fd, DEVICES_HOST, n) != 0)
		die(job->name);
}

/* What the marks themselves cost, to be taken off. */
static void run_nothing(const struct job *job, uint64_t n)
{
	(void)job;
	(void)n;
}

/* --- jobs -------------------------------------------------------------------------------------------------------- */

static const struct job jobs[] = {
	{ "nothing", run_nothing, 0, 1, .size = 0 },
	{ "read4k", run_disk, 500, 2000, .size = 4096 },
	{ "write4k", run_disk, 500, 2000, .size = 4096, .write = 1 },
	{ "read4k_deep", run_disk_deep, 2000, 8000, .size = 4096, .depth = 32 },
	{ "write4k_deep", run_disk_deep, 2000, 8000, .size = 4096, .depth = 32, .write = 1 },
	{ "read1m", run_disk, 16, 64, .size = MIB },
	{ "write1m", run_disk, 16, 64, .size = MIB, .write = 1 },
	{ "fill", run_fill, 0, 64, .size = MIB, .write = 1 },
	{ "tcp_out", run_socket, 8, 32, .family = AF_INET, .what = DEVICES_SINK },
	{ "tcp_in", run_socket, 8, 32, .family = AF_INET, .what = DEVICES_SOURCE },
	{ "tcp_echo", run_socket, 200, 1000, .family = AF_INET, .what = DEVICES_ECHO },
	{ "ping", run_ping, 200, 1000, .family = AF_INET },
	{ "ping_in", run_socket, 200, 1000, .family = AF_INET, .what = DEVICES_PING },
	{ "vsock_out", run_socket, 8, 32, .family = AF_VSOCK, .what = DEVICES_SINK },
	{ "vsock_in", run_socket, 8, 32, .family = AF_VSOCK, .what = DEVICES_SOURCE },
	{ "vsock_echo", run_socket, 200, 1000, .family = AF_VSOCK, .what = DEVICES_ECHO },
};

static void do_job(const char *name)
{
	const struct job *job = NULL;
	char line[200];

	for (size_t i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++)
		if (strcmp(jobs[i].name, name) == 0)
			job = &jobs[i];
	errno = EINVAL;
	if (job == NULL)
		die(name);
	job->run(job, job->n_warm);
	sleep_ms(BESIDE_MARK_MS);
	uint64_t first_ns = now_ns();
	mark(DEVICES_BEGIN);
	sleep_ms(BESIDE_MARK_MS);
	uint64_t start_ns = now_ns();
	job->run(job, job->n);
	uint64_t end_ns = now_ns();
	sleep_ms(BESIDE_MARK_MS);
	uint64_t last_ns = now_ns();
	mark(DEVICES_END);
	sleep_ms(BESIDE_MARK_MS);
	int len = snprintf(line, sizeof(line), "%s %llu %llu %llu\n", name, (unsigned long long)(end_ns - start_ns),
			   (unsigned long long)job->n, (unsigned long long)(last_ns - first_ns));
	out(line, (size_t)len);
}

int main(void)
{
	char *list = getenv("bench");

	if (iopl(3) != 0)
		return 1;
	mkdir("/dev", 0755);
	if (mount("dev", "/dev", "devtmpfs", 0, NULL) != 0)
		die("mount /dev");
	for (char *name = list ? strtok(list, ",") : NULL; name; name = strtok(NULL, ","))
		do_job(name);
	mark(DEVICES_DONE);
	for (;;)
		pause();
}
