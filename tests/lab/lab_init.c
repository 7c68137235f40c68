// SPDX-License-Identifier: Apache-2.0
/*
 * PID 1 of the emulated host (L1): makes it look like the machine the caller sits at, with a working /dev/kvm, runs one
 * command in it and reports how it ended.
 *
 * It lives in a small initramfs beside the modules it loads, as a static binary, because every file read over virtio-fs
 * and every forked shell costs start-up time. The caller's root file system is the lower half of an overlay whose upper
 * half is a tmpfs: everything can be written and nothing lasts, and paths are the caller's own, /tmp included.
 *
 * Trust: runs whatever the caller of the lab asks for, as root of a throw-away machine.
 * Threads: one. Everything after the start is one poll loop.
 *
 * Invariants:
 *  I1 one VM (with irqchip and vCPU) exists from before CMD starts until the machine dies, so that KVM's static keys
 *     (the preempt notifier's, the APICs') never flip: the multi-threaded emulator does not order kernel text patching
 *     between its CPUs, and L1 would now and then die of a stray int3.
 *  I2 LAB_STATUS or LAB_FAIL is the last frame.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lab_wire.h"

struct config {
	char *cwd;
	char *thp;
	char *module_dir; /* under the caller's root: holds the whole module tree of L1's kernel */
	char *share[LAB_N_SHARES];
	int n_shares;
	int want_stdin;
	char **argv; /* NULL-terminated; points into the config frame, which lives for ever */
	char **envp;
};

static int port_fd = -1;

static void port_write(const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = write(port_fd, p, len);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return; /* the other end is gone, and soon so are we */
		p += n;
		len -= (size_t)n;
	}
}

static void frame_send(enum lab_frame_type type, const void *data, size_t len)
{
	char buf[sizeof(struct lab_frame) + LAB_DATA_MAX];
	struct lab_frame f = { .type = type, .len = (uint32_t)len };

	memcpy(buf, &f, sizeof(f));
	if (len > 0)
		memcpy(buf + sizeof(f), data, len);
	port_write(buf, sizeof(f) + len); /* one write: one buffer, one notification */
}

/* Nothing more can be done: say why, and stop the machine. */
__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *fmt, ...)
{
	char msg[400];
	int saved = errno;
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (saved != 0 && n > 0 && (size_t)n < sizeof(msg))
		snprintf(msg + n, sizeof(msg) - (size_t)n, ": %s", strerror(saved));
	dprintf(STDERR_FILENO, "lab_init: %s\n", msg);
	if (port_fd >= 0) {
		frame_send(LAB_FAIL, msg, strlen(msg));
		sleep(2); /* lab_run ends us when it has read this; do not outrun it */
	}
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void mount_or_fail(const char *src, const char *dir, const char *type, unsigned long flags, const char *opts)
{
	if (mkdir(dir, 0755) != 0 && errno != EEXIST)
		fail("mkdir %s", dir);
	if (mount(src, dir, type, flags, opts) != 0)
		fail("mount %s on %s", type ? type : src, dir);
}

static void mount_try(const char *type, const char *dir)
{
	(void)mkdir(dir, 0755);
	(void)mount(type, dir, type, 0, NULL);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fail("write '%s' to %s", text, path);
	close(fd);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Load every file of /modules in the order of their names, which `lab --prepare` made the order of dependence. */
static void load_modules(void)
{
	struct dirent *ent;
	char *names[64];
	size_t n = 0;
	DIR *dir = opendir("/modules");

	if (dir == NULL)
		fail("open /modules");
	while ((ent = readdir(dir)) != NULL && n < 64)
		if (ent->d_name[0] != '.')
			names[n++] = strdup(ent->d_name);
	closedir(dir);
	qsort(names, n, sizeof(names[0]), compare_names);
	for (size_t i = 0; i < n; i++) {
		char path[300];

		snprintf(path, sizeof(path), "/modules/%s", names[i]);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) != 0)
			fail("load module %s", names[i]);
		close(fd);
		free(names[i]);
	}
}

/* The port's device node appears some time after its driver has talked to the device. */
static void open_port(void)
{
	for (int i = 0; i < 1000; i++) {
		port_fd = open("/dev/vport0p1", O_RDWR | O_CLOEXEC);
		if (port_fd >= 0)
			return;
		usleep(5000);
	}
	fail("open /dev/vport0p1");
}

/* Make the overlay and everything that hangs in it, and make it the root. */
static void enter_root(void)
{
	static const char *const links[][2] = {
		{ "/proc/self/fd", "/newroot/dev/fd" },
		{ "/proc/self/fd/0", "/newroot/dev/stdin" },
		{ "/proc/self/fd/1", "/newroot/dev/stdout" },
		{ "/proc/self/fd/2", "/newroot/dev/stderr" },
	};

	mount_or_fail(LAB_ROOT_TAG, "/lower", "virtiofs", MS_RDONLY, NULL);
	mount_or_fail("tmpfs", "/upper", "tmpfs", 0, "mode=755");
	if (mkdir("/upper/up", 0755) != 0 || mkdir("/upper/work", 0755) != 0)
		fail("mkdir in /upper");
	mount_or_fail("overlay", "/newroot", "overlay", 0,
		      "lowerdir=/lower,upperdir=/upper/up,workdir=/upper/work,xino=off");
	mount_or_fail("/dev", "/newroot/dev", NULL, MS_MOVE, NULL);
	mount_or_fail("/proc", "/newroot/proc", NULL, MS_MOVE, NULL);
	mount_or_fail("/sys", "/newroot/sys", NULL, MS_MOVE, NULL);
	mount_or_fail("devpts", "/newroot/dev/pts", "devpts", 0, "mode=620,ptmxmode=666,gid=5");
	mount_or_fail("tmpfs", "/newroot/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
	mount_or_fail("cgroup2", "/newroot/sys/fs/cgroup", "cgroup2", 0, NULL);
	mount_or_fail("tmpfs", "/newroot/run", "tmpfs", 0, "mode=755");
	mount_or_fail("tmpfs", "/newroot/srv", "tmpfs", 0, "mode=1777");
	mount_try("tracefs", "/newroot/sys/kernel/tracing");
	mount_try("debugfs", "/newroot/sys/kernel/debug");
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		(void)symlink(links[i][0], links[i][1]);
	if (chdir("/newroot") != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 || chdir("/") != 0)
		fail("make the overlay the root");
}

static void loopback_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) != 0)
		fail("bring up lo");
	close(fd);
}

/* I1. The descriptors stay open on purpose. */
static void hold_vm(void)
{
	int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm_fd < 0)
		fail("open /dev/kvm");
	int vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	if (vm_fd < 0 || ioctl(vm_fd, KVM_CREATE_IRQCHIP, 0) != 0 || ioctl(vm_fd, KVM_CREATE_VCPU, 0) < 0)
		fail("create the VM that is held");
}

static void port_read(void *data, size_t len)
{
	char *p = data;

	while (len > 0) {
		ssize_t n = read(port_fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			fail("read the port");
		if (n == 0) { /* lab_run is not connected yet */
			usleep(1000);
			continue;
		}
		p += n;
		len -= (size_t)n;
	}
}

static void read_config(struct config *c)
{
	struct lab_frame f;

	port_read(&f, sizeof(f));
	errno = 0;
	if (f.type != LAB_CONFIG || f.len == 0 || f.len > LAB_CONFIG_MAX)
		fail("first frame is not a config frame");
	char *text = malloc(f.len);
	c->argv = calloc(f.len + 1, sizeof(char *));
	c->envp = calloc(f.len + 1, sizeof(char *));
	if (text == NULL || c->argv == NULL || c->envp == NULL)
		fail("memory for %u bytes of config", f.len);
	port_read(text, f.len);
	if (text[f.len - 1] != '\0')
		fail("config is not terminated");
	size_t n_args = 0, n_envs = 0;
	for (char *s = text; s < text + f.len; s += strlen(s) + 1) {
		char *value = strchr(s, '=');
		if (value == NULL)
			fail("config string without '='");
		size_t key_len = (size_t)(value++ - s);
		if (key_len == 3 && memcmp(s, "arg", 3) == 0)
			c->argv[n_args++] = value;
		else if (key_len == 3 && memcmp(s, "env", 3) == 0)
			c->envp[n_envs++] = value;
		else if (key_len == 3 && memcmp(s, "cwd", 3) == 0)
			c->cwd = value;
		else if (key_len == 3 && memcmp(s, "thp", 3) == 0)
			c->thp = value;
		else if (key_len == 5 && memcmp(s, "stdin", 5) == 0)
			c->want_stdin = value[0] == '1';
		else if (key_len == 10 && memcmp(s, "module-dir", 10) == 0)
			c->module_dir = value;
		else if (key_len == 5 && memcmp(s, "share", 5) == 0 && c->n_shares < LAB_N_SHARES)
			c->share[c->n_shares++] = value;
		else
			fail("config string '%s' is unknown", s);
	}
	if (n_args == 0 || c->cwd == NULL || c->thp == NULL || c->module_dir == NULL)
		fail("config is not complete");
}

static void apply_config(const struct config *c)
{
	char target[300];
	const char *version = strrchr(c->module_dir, '/');

	write_file("/sys/kernel/mm/transparent_hugepage/enabled", c->thp);
	/* Modules that were not loaded at the start: modprobe, and the kernel's own requests, find them here. */
	snprintf(target, sizeof(target), "/lib/modules%s", version ? version : "/none");
	(void)mkdir("/lib/modules", 0755);
	mount_or_fail(c->module_dir, target, NULL, MS_BIND, NULL);
	for (int i = 0; i < c->n_shares; i++) {
		char tag[16];

		snprintf(tag, sizeof(tag), LAB_SHARE_TAG "%d", i);
		mount_or_fail(tag, c->share[i], "virtiofs", 0, NULL);
	}
}

struct run {
	pid_t pid;
	int fd[3]; /* our ends of CMD's standard streams; -1 when closed or not wanted */
	int signal_fd;
	uint32_t status;
	int ended;
	char pending[LAB_DATA_MAX]; /* of standard input: read from the port, not yet taken by CMD */
	size_t pending_off, pending_len;
};

static void start_cmd(const struct config *c, struct run *r)
{
	/* As systemd gives it on a usual host; the kernel's own hard limit is 4096. */
	const struct rlimit files = { .rlim_cur = 1024, .rlim_max = 524288 };
	int in[2], out[2], err[2];
	sigset_t mask;

	if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
		fail("pipe");
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	r->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (r->signal_fd < 0)
		fail("signalfd");
	r->pid = fork();
	if (r->pid < 0)
		fail("fork");
	if (r->pid == 0) {
		int in_fd = c->want_stdin ? in[0] : open("/dev/null", O_RDONLY);
		const char *path = "/usr/bin:/bin";

		if (dup2(in_fd, 0) < 0 || dup2(out[1], 1) < 0 || dup2(err[1], 2) < 0)
			_exit(126);
		sigprocmask(SIG_UNBLOCK, &mask, NULL);
		signal(SIGPIPE, SIG_DFL);
		setsid();
		setrlimit(RLIMIT_NOFILE, &files);
		for (char **e = c->envp; *e != NULL; e++)
			if (strncmp(*e, "PATH=", 5) == 0)
				path = *e + 5;
		setenv("PATH", path, 1); /* for the search of execvpe */
		execvpe(c->argv[0], c->argv, c->envp);
		int status = errno == ENOENT ? 127 : 126;
		dprintf(2, "lab: cannot run %s: %s\n", c->argv[0], strerror(errno));
		_exit(status);
	}
	close(in[0]);
	close(out[1]);
	close(err[1]);
	r->fd[0] = in[1];
	r->fd[1] = out[0];
	r->fd[2] = err[0];
	if (!c->want_stdin) {
		close(r->fd[0]);
		r->fd[0] = -1;
	}
	for (int i = 0; i < 3; i++)
		if (r->fd[i] >= 0)
			fcntl(r->fd[i], F_SETFL, O_NONBLOCK);
}

/* Pass on what CMD wrote. Returns 0 when there is nothing more for now. */
static int forward_output(struct run *r, int i)
{
	static const enum lab_frame_type types[3] = { 0, LAB_STDOUT, LAB_STDERR };
	char buf[LAB_DATA_MAX - sizeof(struct lab_frame)];

	if (r->fd[i] < 0)
		return 0;
	ssize_t n = read(r->fd[i], buf, sizeof(buf));
	if (n > 0) {
		frame_send(types[i], buf, (size_t)n);
		return 1;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	close(r->fd[i]);
	r->fd[i] = -1;
	return 0;
}

static void close_stdin(struct run *r)
{
	if (r->fd[0] >= 0)
		close(r->fd[0]);
	r->fd[0] = -1;
}

static void read_stdin_frame(struct run *r)
{
	struct lab_frame f;

	port_read(&f, sizeof(f));
	errno = 0;
	if (f.len > sizeof(r->pending) || (f.type != LAB_STDIN && f.type != LAB_STDIN_EOF))
		fail("frame of type %u and length %u where standard input was expected", f.type, f.len);
	port_read(r->pending, f.len);
	r->pending_off = 0;
	r->pending_len = f.len;
	if (f.type == LAB_STDIN_EOF)
		close_stdin(r);
}

static void write_stdin(struct run *r)
{
	ssize_t n = write(r->fd[0], r->pending + r->pending_off, r->pending_len);

	if (n >= 0) {
		r->pending_off += (size_t)n;
		r->pending_len -= (size_t)n;
	} else if (errno != EAGAIN && errno != EINTR) {
		close_stdin(r); /* CMD closed it; the rest is for nobody */
	}
}

/* As PID 1 we are everybody's reaper; only CMD's end matters. */
static void reap(struct run *r)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	(void)!read(r->signal_fd, &info, sizeof(info));
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != r->pid)
			continue;
		r->ended = 1;
		r->status = WIFSIGNALED(status) ? 128u + (uint32_t)WTERMSIG(status) : (uint32_t)WEXITSTATUS(status);
	}
}

static void run_cmd(const struct config *c)
{
	static struct run r;

	frame_send(LAB_START, NULL, 0);
	start_cmd(c, &r);
	while (!r.ended) {
		int stdin_open = r.fd[0] >= 0;
		struct pollfd p[] = {
			{ .fd = r.signal_fd, .events = POLLIN },
			{ .fd = r.fd[1], .events = POLLIN },
			{ .fd = r.fd[2], .events = POLLIN },
			{ .fd = stdin_open && r.pending_len > 0 ? r.fd[0] : -1, .events = POLLOUT },
			{ .fd = stdin_open && r.pending_len == 0 ? port_fd : -1, .events = POLLIN },
		};

		if (poll(p, sizeof(p) / sizeof(p[0]), -1) < 0 && errno != EINTR)
			fail("poll");
		if (p[1].revents)
			forward_output(&r, 1);
		if (p[2].revents)
			forward_output(&r, 2);
		if (p[3].revents)
			write_stdin(&r);
		if (p[4].revents & POLLIN)
			read_stdin_frame(&r);
		if (p[0].revents)
			reap(&r);
	}
	/* What CMD wrote is in the pipes by now. What a process it left behind may still write is not waited for. */
	while (forward_output(&r, 1) || forward_output(&r, 2))
		;
	for (int i = 0; i < c->n_shares; i++) {
		int fd = open(c->share[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0)
			syncfs(fd); /* mapped pages; plain writes have reached the other side already */
	}
	frame_send(LAB_STATUS, &r.status, sizeof(r.status));
}

int main(void)
{
	struct config c = { 0 };

	signal(SIGPIPE, SIG_IGN);
	umask(0);
	mount_or_fail("devtmpfs", "/dev", "devtmpfs", 0, "mode=755");
	int console_fd = open("/dev/console", O_RDWR | O_NOCTTY);
	for (int i = 0; i < 3 && console_fd >= 0; i++)
		dup2(console_fd, i);
	if (console_fd > 2)
		close(console_fd);
	mount_or_fail("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_or_fail("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	load_modules();
	hold_vm();
	open_port();
	enter_root();
	loopback_up();
	sethostname("lab", 3);
	read_config(&c);
	apply_config(&c);
	umask(022);
	if (chdir(c.cwd) != 0)
		fail("the working directory %s is not to be seen in the lab (/run, /srv, /dev, /proc and /sys are the lab's own)",
		     c.cwd);
	run_cmd(&c);
	sleep(5); /* lab_run ends us when it has read the status */
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}
