// SPDX-License-Identifier: Apache-2.0
/* See counts.h. */
#define _GNU_SOURCE
#include "counts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "drive.h"

enum { N_NUMBERS = 2048 }; /* of system calls, exit reasons, vectors */

enum event { EXITS, CALLS, INTERRUPTS, SWITCHES, N_EVENTS };

static const struct {
	const char *folder, *keys;
} events[N_EVENTS] = {
	[EXITS] = { TRACE "/events/kvm/kvm_exit", "hist:keys=exit_reason" },
	[CALLS] = { TRACE "/events/raw_syscalls/sys_enter", "hist:keys=common_pid,id" },
	[INTERRUPTS] = { TRACE "/events/kvm/kvm_inj_virq", "hist:keys=vector" },
	[SWITCHES] = { TRACE "/events/sched/sched_switch", "hist:keys=common_pid" },
};

struct number_name {
	unsigned int number;
	const char *name;
};

/* What SVM calls the reasons. */
static const struct number_name exit_names[] = {
	{ 0x400, "npf" },      { 0x72, "cpuid" },     { 0x7c, "msr" },	     { 0x7b, "io" },
	{ 0x78, "hlt" },       { 0x60, "intr" },      { 0x64, "vintr" },     { 0x81, "vmmcall" },
	{ 0x8d, "xsetbv" },    { 0x77, "pause" },     { 0x76, "invd" },	     { 0x89, "wbinvd" },
	{ 0x00, "read_cr0" },  { 0x10, "write_cr0" }, { 0x65, "write_cr0_bits" }, { 0x04, "read_cr4" },
	{ 0x14, "write_cr4" }, { 0x18, "write_cr8" }, { 0x37, "write_dr7" }, { 0x6e, "rdtsc" },
	{ 0x74, "iret" },      { 0x79, "invlpg" },    { 0, NULL },
};

static const struct number_name call_names[] = {
	{ SYS_ioctl, "ioctl" },		    { SYS_read, "read" },	    { SYS_write, "write" },
	{ SYS_readv, "readv" },		    { SYS_writev, "writev" },	    { SYS_pread64, "pread64" },
	{ SYS_pwrite64, "pwrite64" },	    { SYS_preadv, "preadv" },	    { SYS_pwritev, "pwritev" },
	{ SYS_preadv2, "preadv2" },	    { SYS_pwritev2, "pwritev2" },   { SYS_lseek, "lseek" },
	{ SYS_epoll_wait, "epoll_wait" },   { SYS_epoll_pwait, "epoll_pwait" }, { SYS_epoll_pwait2, "epoll_pwait2" },
	{ SYS_epoll_ctl, "epoll_ctl" },	    { SYS_poll, "poll" },	    { SYS_ppoll, "ppoll" },
	{ SYS_io_uring_enter, "io_uring_enter" }, { SYS_futex, "futex" },   { SYS_fdatasync, "fdatasync" },
	{ SYS_fallocate, "fallocate" },	    { SYS_timerfd_settime, "timerfd_settime" }, { SYS_sendto, "sendto" },
	{ SYS_recvfrom, "recvfrom" },	    { SYS_sendmsg, "sendmsg" },	    { SYS_recvmsg, "recvmsg" },
	{ SYS_sched_yield, "sched_yield" }, { 0, NULL },
};

static void name_of(const char *kind, const struct number_name *names, unsigned int number, char *out, size_t size)
{
	for (; names->name != NULL; names++) {
		if (names->number != number)
			continue;
		snprintf(out, size, "%s_%s", kind, names->name);
		return;
	}
	snprintf(out, size, "%s_%u", kind, number);
}

void trace_open(void)
{
	if (mkdir(TRACE, 0755) != 0 && errno != EEXIST)
		bench_die("mkdir " TRACE ": %s", strerror(errno));
	bench_write(TRACE "/tracing_on", "0");
	bench_write(TRACE "/trace_clock", "mono");
	bench_write(TRACE "/buffer_size_kb", "64");
}

/* Give every event's trigger file one line. Opening it with O_TRUNC would remove the triggers that are there. */
static void trigger_all(const char *before, const char *after)
{
	char path[128];

	for (int e = 0; e < N_EVENTS; e++) {
		snprintf(path, sizeof(path), "%s/trigger", events[e].folder);
		int fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || dprintf(fd, "%s%s%s\n", before, events[e].keys, after) < 0)
			bench_die("%s: %s", path, strerror(errno));
		close(fd);
	}
}

void counts_open(void)
{
	trace_open();
	trigger_all("", "");
}

void counts_clear(void)
{
	trigger_all("", ":clear");
}

void counts_close(void)
{
	trigger_all("!", "");
}

static int is_thread_of(pid_t pid, unsigned int tid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%u", pid, tid);
	return access(path, F_OK) == 0;
}

/* One line of a histogram: the keys' values and how often, or 0. */
static int parse_line(enum event e, const char *line, unsigned int *key, unsigned int *tid, unsigned long long *n)
{
	*key = *tid = 0;
	switch (e) {
	case EXITS: return sscanf(line, "{ exit_reason: %u } hitcount: %llu", key, n) == 2;
	case CALLS: return sscanf(line, "{ common_pid: %u, id: %u } hitcount: %llu", tid, key, n) == 3;
	case INTERRUPTS: return sscanf(line, "{ vector: %u } hitcount: %llu", key, n) == 2;
	case SWITCHES: return sscanf(line, "{ common_pid: %u } hitcount: %llu", tid, n) == 2;
	case N_EVENTS: break;
	}
	return 0;
}

void counts_each(pid_t pid, void (*fn)(void *ctx, const char *name, double n), void *ctx)
{
	static double sum[N_EVENTS][N_NUMBERS];
	double total[N_EVENTS] = { 0 };
	char path[128], line[256], name[64];

	memset(sum, 0, sizeof(sum));
	for (int e = 0; e < N_EVENTS; e++) {
		snprintf(path, sizeof(path), "%s/hist", events[e].folder);
		FILE *f = fopen(path, "re");
		while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
			unsigned int key, tid;
			unsigned long long n;

			if (!parse_line(e, line, &key, &tid, &n) || (tid != 0 && !is_thread_of(pid, tid)))
				continue;
			sum[e][key % (N_NUMBERS)] += (double)n;
			total[e] += (double)n;
		}
		if (f == NULL)
			bench_die("open %s: %s", path, strerror(errno));
		fclose(f);
	}
	for (unsigned int key = 0; key < N_NUMBERS; key++) {
		if (sum[EXITS][key] > 0) {
			name_of("exits", exit_names, key, name, sizeof(name));
			fn(ctx, name, sum[EXITS][key]);
		}
		if (sum[CALLS][key] > 0) {
			name_of("calls", call_names, key, name, sizeof(name));
			fn(ctx, name, sum[CALLS][key]);
		}
	}
	fn(ctx, "exits_total", total[EXITS]);
	fn(ctx, "calls_total", total[CALLS]);
	fn(ctx, "interrupts", total[INTERRUPTS]);
	fn(ctx, "switches", total[SWITCHES]);
}
