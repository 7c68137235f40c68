// SPDX-License-Identifier: Apache-2.0
/*
 * The part of the boot bench that runs in the lab: measures one kind of thing, once to warm up and then RUNS times, and
 * prints a line "NAME VALUE" for each figure of each run. `boot` calls it, in a chroot on tmpfs; README.md says what the
 * figures mean.
 *
 *     boot_in_lab KIND RUNS [--monitor F] [--kernel F] [--disk F] [--initrd F] [--args TEXT] [--mem MIB] [-- PROGRAM ARG...]
 *
 * KIND: api    exec -> API accepts, exec -> first reply
 *       boot   exec -> /init, start -> /init
 *       first  start -> first guest instruction, from KVM's tracepoint
 *       exits  KVM exits from the start to /init, by reason
 *       idle   memory and CPU of an idle guest
 * With a PROGRAM, all but api measure that instead of the monitor, and "start" is its execve.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "counts.h"
#include "drive.h"

#define SOCKET "/run/api.socket"
#define DISK "/run-disk.ext4" /* what the guest writes to; a fresh copy for each run */

enum { WARM_UPS = 2, IDLE_SETTLE_MS = 3000, IDLE_MS = 10000 };

struct setup {
	const char *monitor, *kernel, *disk, *initrd, *args;
	unsigned int mem_mib;
	char **argv; /* PROGRAM; argv[0] == NULL: none */
};

static double ms(uint64_t from_ns, uint64_t to_ns)
{
	return (double)(int64_t)(to_ns - from_ns) / 1e6;
}

/* Standard output is a pipe that the lab empties: filling it would cost time in the middle. It is flushed at the end. */
static void print(const char *name, double value)
{
	printf("%s %.4f\n", name, value);
}

static void start_api(const struct setup *s, struct monitor *m)
{
	char *argv[] = { (char *)s->monitor, "--api-sock", SOCKET, "--id", "bench", "--level", "Off", NULL };

	monitor_start(m, argv, SOCKET);
	monitor_connect(m, SOCKET);
}

/* Start a guest: a program given after `--` by its command line, the monitor through its API. Returns when the request to
 * start was made; for a program that is its execve. */
static uint64_t launch(const struct setup *s, struct monitor *m)
{
	char body[1500];

	if (s->disk != NULL)
		bench_copy_file(s->disk, DISK);
	if (s->argv[0] != NULL) {
		monitor_start(m, s->argv, NULL);
		return m->exec_ns;
	}
	start_api(s, m);
	snprintf(body, sizeof(body), "{\"vcpu_count\":1,\"mem_size_mib\":%u}", s->mem_mib);
	monitor_call(m, "PUT", "/machine-config", body);
	snprintf(body, sizeof(body), "{\"kernel_image_path\":\"%s\",\"boot_args\":\"%s\"%s%s%s}", s->kernel, s->args,
		 s->initrd ? ",\"initrd_path\":\"" : "", s->initrd ? s->initrd : "", s->initrd ? "\"" : "");
	monitor_call(m, "PUT", "/boot-source", body);
	if (s->disk != NULL)
		monitor_call(m, "PUT", "/drives/rootfs",
			     "{\"drive_id\":\"rootfs\",\"path_on_host\":\"" DISK "\",\"is_root_device\":true,"
			     "\"is_read_only\":false}");
	uint64_t start_ns = bench_now_ns();
	monitor_call(m, "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}");
	return start_ns;
}

static void run_api(const struct setup *s, int report)
{
	struct monitor m;

	start_api(s, &m);
	monitor_call(&m, "GET", "/", NULL);
	uint64_t reply_ns = bench_now_ns();
	if (report) {
		print("exec_to_accept_ms", ms(m.exec_ns, m.connect_ns));
		print("exec_to_reply_ms", ms(m.exec_ns, reply_ns));
	}
	monitor_stop(&m);
}

static void run_boot(const struct setup *s, int report)
{
	struct monitor m;
	uint64_t start_ns = launch(s, &m);
	uint64_t mark_ns = monitor_wait_mark(&m);

	if (report && start_ns != m.exec_ns)
		print("start_to_init_ms", ms(start_ns, mark_ns));
	if (report)
		print("exec_to_init_ms", ms(m.exec_ns, mark_ns));
	monitor_stop(&m);
}

/* --- tracing ----------------------------------------------------------------------------------------------------- */

/* The time of the first event in the trace buffer, in ns of CLOCK_MONOTONIC; the text has microseconds. */
static uint64_t trace_first_event_ns(const char *event)
{
	char line[512];
	uint64_t ns = 0;
	FILE *f = fopen(TRACE "/trace", "re");

	while (f != NULL && ns == 0 && fgets(line, sizeof(line), f) != NULL) {
		unsigned long long s, us;
		char *at = line[0] == '#' ? NULL : strstr(line, event);

		if (at == NULL)
			continue;
		while (at > line && *at != '.') /* back to the point of "  12.345678: kvm_entry:" */
			at--;
		while (at > line && at[-1] != ' ')
			at--;
		if (sscanf(at, "%llu.%llu", &s, &us) == 2)
			ns = s * 1000000000u + us * 1000;
	}
	if (f != NULL)
		fclose(f);
	if (ns == 0)
		bench_die("no %s in the trace", event);
	return ns;
}

/* The event ends the tracing by itself, so what follows runs at its usual speed. */
static void run_first(const struct setup *s, int report)
{
	static const char *const trigger = TRACE "/events/kvm/kvm_entry/trigger";
	struct monitor m;

	trace_open();
	bench_write(TRACE "/trace", "");
	bench_write(trigger, "traceoff:1");
	bench_write(TRACE "/events/kvm/kvm_entry/enable", "1");
	bench_write(TRACE "/tracing_on", "1");
	uint64_t start_ns = launch(s, &m);
	uint64_t mark_ns = monitor_wait_mark(&m);
	bench_write(TRACE "/tracing_on", "0");
	uint64_t first_ns = trace_first_event_ns("kvm_entry:");
	bench_write(TRACE "/events/kvm/kvm_entry/enable", "0");
	bench_write(trigger, "!traceoff:1");
	if (report) {
		print("start_to_first_instruction_ms", ms(start_ns, first_ns));
		print("first_instruction_to_init_ms", ms(first_ns, mark_ns));
	}
	monitor_stop(&m);
}

static void print_exits(void *ctx, const char *name, double n)
{
	const int *report = ctx;

	if (*report && strncmp(name, "exits_", 6) == 0)
		print(name, n);
}

static void run_exits(const struct setup *s, int report)
{
	struct monitor m;

	counts_open();
	launch(s, &m);
	monitor_wait_mark(&m);
	counts_each(m.pid, print_exits, &report); /* the guest does not run meanwhile: one CPU */
	counts_close();
	monitor_stop(&m);
}

static void run_idle(const struct setup *s, int report)
{
	struct memory_use use;
	struct monitor m;

	launch(s, &m);
	monitor_wait_mark(&m);
	bench_sleep_ms(IDLE_SETTLE_MS);
	uint64_t cpu_ns = monitor_cpu_ns(&m);
	bench_sleep_ms(IDLE_MS);
	cpu_ns = monitor_cpu_ns(&m) - cpu_ns;
	monitor_memory(&m, s->mem_mib, &use);
	if (report) {
		print("idle_cpu_ms_per_s", (double)cpu_ns / 1e6 / (IDLE_MS / 1000.0));
		print("monitor_anon_dirty_kib", (double)use.anon_dirty_kib);
		print("monitor_file_dirty_kib", (double)use.file_dirty_kib);
		print("guest_resident_mib", (double)use.guest_kib / 1024);
		print("threads", use.n_threads);
		print("descriptors", use.n_fds);
	}
	monitor_stop(&m);
}

int main(int argc, char **argv)
{
	static const struct option table[] = {
		{ "monitor", 1, 0, 'm' }, { "kernel", 1, 0, 'k' }, { "disk", 1, 0, 'd' },
		{ "initrd", 1, 0, 'i' },  { "args", 1, 0, 'a' },   { "mem", 1, 0, 'M' }, { 0 },
	};
	static const struct {
		const char *name;
		void (*run)(const struct setup *s, int report);
	} kinds[] = {
		{ "api", run_api },	{ "boot", run_boot }, { "first", run_first },
		{ "exits", run_exits }, { "idle", run_idle },
	};
	struct setup s = { .mem_mib = 128, .args = "" };
	static char out_buf[1 << 16];
	int c;

	setvbuf(stdout, out_buf, _IOFBF, sizeof(out_buf));
	if (argc < 3)
		bench_die("see the top of boot_in_lab.c");
	const char *kind = argv[1];
	int n_runs = atoi(argv[2]);
	optind = 3;
	while ((c = getopt_long(argc, argv, "+", table, NULL)) != -1) {
		switch (c) {
		case 'm': s.monitor = optarg; break;
		case 'k': s.kernel = optarg; break;
		case 'd': s.disk = optarg; break;
		case 'i': s.initrd = optarg; break;
		case 'a': s.args = optarg; break;
		case 'M': s.mem_mib = (unsigned int)strtoul(optarg, NULL, 10); break;
		default: return 2;
		}
	}
	s.argv = argv + optind;
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		if (strcmp(kinds[k].name, kind) != 0)
			continue;
		for (int i = 0; i < WARM_UPS + n_runs; i++)
			kinds[k].run(&s, i >= WARM_UPS);
		return 0;
	}
	bench_die("no kind '%s'", kind);
}
