// SPDX-License-Identifier: Apache-2.0
/*
 * Run one command in an emulated KVM host and end with its exit status. Called by the script `lab`, which fills the
 * cache first; `lab --help` describes the options.
 *
 * Starts virtiofsd (once for the root, once for each --share) and QEMU, speaks lab_wire.h with PID 1 of the emulated
 * host (L1), and kills all of them when the command has ended, when the time is over, or when it is itself told to end.
 *
 * Nothing can be left behind, whatever kills this process (SIGKILL too):
 *  - it makes no file: virtiofsd and QEMU inherit connected or listening sockets (an abstract one, whose name goes with
 *    it), guest memory is a memfd, the console log is memory;
 *  - every process it starts has PR_SET_PDEATHSIG, and virtiofsd ends with QEMU's connection anyway.
 *
 * Threads: one poll loop. Trust: the caller's; L1 is the caller's own command.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lab_wire.h"

/* What the EPYC model has and the emulator has not; saying so spares its warnings. */
#define EPYC_WITHOUT                                                                                               \
	"rdseed=off,sha-ni=off,fxsr-opt=off,misalignsse=off,3dnowprefetch=off,osvw=off,topoext=off,nrip-save=off,xsavec=off"

/*
 * An oops ends the machine at once, so that the caller hears of it. The rest is start-up time: without it the kernel tests
 * its ciphers, makes entropy from jitter (rdrand is trusted), checks certificates, and waits out RCU's normal periods.
 */
#define L1_COMMAND_LINE                                                                                              \
	"rdinit=/init console=ttyS0 quiet mitigations=off panic=-1 oops=panic nokaslr tsc=reliable random.trust_cpu=on " \
	"lsm=landlock cryptomgr.notests=1 rcupdate.rcu_expedited=1 "                                                  \
	"initcall_blacklist=jent_mod_init,load_system_certificate_list,init_encrypted,crypto_kdf108_init,nvme_core_init"

enum { STATUS_TIMEOUT = 124, STATUS_LAB = 125 };
enum { BOOT_LIMIT_S = 120, BOOT_TRIES = 3, LOG_MAX = 1 << 20, LOG_TAIL = 3000, N_CHILDREN = 1 + 1 + LAB_N_SHARES };

struct options {
	const char *kernel, *initrd, *module_dir; /* from the script */
	unsigned int n_cpus, mem_mib, timeout_s;
	int single, icount, want_stdin, verbose;
	const char *thp, *append, *keep_log;
	char *share[LAB_N_SHARES];
	int n_shares;
	char **cmd;
};

struct lab {
	const struct options *opt;
	char *config; /* the config frame, ready to send */
	size_t config_len;

	/* of one attempt */
	pid_t child[N_CHILDREN];
	int n_children;
	int qemu_index;
	int port_fd, console_fd, messages_fd; /* our ends; -1 = closed */
	int started;                          /* LAB_START was seen */
	int finished;                         /* LAB_STATUS or LAB_FAIL was seen */
	uint32_t status;
	char fail_text[512];

	char *log; /* what the console and the programs' own messages said, the last LOG_MAX bytes */
	size_t log_len;

	/* bytes on their way; each is filled only when it is empty */
	char to_port[sizeof(struct lab_frame) + LAB_DATA_MAX];
	size_t to_port_off, to_port_len;
	size_t config_off;
	int stdin_done;
	char from_port[2 * LAB_DATA_MAX];
	size_t from_port_len;
	char to_user[LAB_DATA_MAX];
	size_t to_user_off, to_user_len;
	int to_user_fd;
	int user_gone[3]; /* the reader of our stdout / stderr closed it */
};

/* --- small things ------------------------------------------------------------------------------------------------ */

__attribute__((format(printf, 1, 2))) static void say(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("lab: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *fmt, ...)
{
	char msg[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	say("%s", msg);
	exit(STATUS_LAB);
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

__attribute__((format(printf, 1, 2))) static char *text(const char *fmt, ...)
{
	char *s;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		die("no memory");
	va_end(ap);
	return s;
}

static void log_add(struct lab *lab, const char *data, size_t len)
{
	if (lab->opt->verbose)
		(void)!write(STDERR_FILENO, data, len);
	if (len > LOG_MAX / 2)
		return;
	if (lab->log_len + len > LOG_MAX) {
		memmove(lab->log, lab->log + LOG_MAX / 2, lab->log_len - LOG_MAX / 2);
		lab->log_len -= LOG_MAX / 2;
	}
	memcpy(lab->log + lab->log_len, data, len);
	lab->log_len += len;
}

static void log_show_tail(const struct lab *lab)
{
	size_t off = lab->log_len > LOG_TAIL ? lab->log_len - LOG_TAIL : 0;

	if (lab->opt->verbose)
		return; /* seen already */
	if (lab->log_len == 0) {
		say("its console said nothing");
		return;
	}
	say("the end of its console:");
	fwrite(lab->log + off, 1, lab->log_len - off, stderr);
	if (lab->log[lab->log_len - 1] != '\n')
		fputc('\n', stderr);
}

static void log_keep(const struct lab *lab)
{
	if (lab->opt->keep_log == NULL)
		return;
	FILE *f = fopen(lab->opt->keep_log, "we");
	if (f == NULL || fwrite(lab->log, 1, lab->log_len, f) != lab->log_len || fclose(f) != 0)
		say("cannot write the log to %s: %s", lab->opt->keep_log, strerror(errno));
}

/* --- options ----------------------------------------------------------------------------------------------------- */

static unsigned int parse_number(const char *name, const char *s, unsigned int min, unsigned int max)
{
	char *end;

	errno = 0;
	unsigned long v = strtoul(s, &end, 10);
	if (errno != 0 || *s < '0' || *s > '9' || *end != '\0' || v < min || v > max)
		die("--%s takes a number from %u to %u, not '%s'", name, min, max, s);
	return (unsigned int)v;
}

static void parse_options(int argc, char **argv, struct options *o)
{
	enum { KERNEL = 1, INITRD, MODULES, CPUS, MEM, TIMEOUT, SINGLE, ICOUNT, STDIN, VERBOSE, THP, SHARE, APPEND, KEEP };
	static const struct option table[] = {
		{ "kernel", 1, 0, KERNEL },   { "initrd", 1, 0, INITRD },    { "module-dir", 1, 0, MODULES },
		{ "cpus", 1, 0, CPUS },	      { "mem", 1, 0, MEM },	     { "timeout", 1, 0, TIMEOUT },
		{ "single", 0, 0, SINGLE },   { "icount", 0, 0, ICOUNT },    { "stdin", 0, 0, STDIN },
		{ "verbose", 0, 0, VERBOSE }, { "thp", 1, 0, THP },	     { "share", 1, 0, SHARE },
		{ "append", 1, 0, APPEND },   { "keep-log", 1, 0, KEEP },    { 0 },
	};
	int c, cpus_given = 0;

	*o = (struct options){ .n_cpus = 2, .mem_mib = 4096, .timeout_s = 300, .thp = "always", .append = "" };
	while ((c = getopt_long(argc, argv, "+", table, NULL)) != -1) {
		switch (c) {
		case KERNEL: o->kernel = optarg; break;
		case INITRD: o->initrd = optarg; break;
		case MODULES: o->module_dir = optarg; break;
		case CPUS: o->n_cpus = parse_number("cpus", optarg, 1, 64); cpus_given = 1; break;
		case MEM: o->mem_mib = parse_number("mem", optarg, 512, 1 << 20); break;
		case TIMEOUT: o->timeout_s = parse_number("timeout", optarg, 1, 7 * 86400); break;
		case SINGLE: o->single = 1; break;
		case ICOUNT: o->icount = 1; break;
		case STDIN: o->want_stdin = 1; break;
		case VERBOSE: o->verbose = 1; break;
		case APPEND: o->append = optarg; break;
		case KEEP: o->keep_log = optarg; break;
		case THP:
			if (strcmp(optarg, "always") != 0 && strcmp(optarg, "madvise") != 0 && strcmp(optarg, "never") != 0)
				die("--thp takes always, madvise or never, not '%s'", optarg);
			o->thp = optarg;
			break;
		case SHARE:
			if (o->n_shares == LAB_N_SHARES)
				die("more than %d --share", LAB_N_SHARES);
			o->share[o->n_shares] = realpath(optarg, NULL);
			if (o->share[o->n_shares++] == NULL)
				die("--share %s: %s", optarg, strerror(errno));
			break;
		default:
			die("see lab --help");
		}
	}
	o->cmd = argv + optind;
	if (o->cmd[0] == NULL)
		die("no command; see lab --help");
	if (o->icount && cpus_given && o->n_cpus != 1)
		die("--icount has one cpu");
	if (o->icount)
		o->n_cpus = 1;
	if (o->kernel == NULL || o->initrd == NULL || o->module_dir == NULL)
		die("to be called by the script 'lab'");
}

static void config_add(struct lab *lab, const char *key, const char *value)
{
	size_t len = strlen(key) + 1 + strlen(value) + 1;

	lab->config = realloc(lab->config, lab->config_len + len + 1);
	if (lab->config == NULL)
		die("no memory");
	snprintf(lab->config + lab->config_len, len, "%s=%s", key, value);
	lab->config_len += len;
}

static void make_config(struct lab *lab)
{
	const struct options *o = lab->opt;
	char cwd[PATH_MAX];
	extern char **environ;

	lab->config_len = sizeof(struct lab_frame);
	lab->config = calloc(1, lab->config_len);
	if (lab->config == NULL || getcwd(cwd, sizeof(cwd)) == NULL)
		die("working directory: %s", strerror(errno));
	config_add(lab, "cwd", cwd);
	config_add(lab, "thp", o->thp);
	config_add(lab, "module-dir", o->module_dir);
	config_add(lab, "stdin", o->want_stdin ? "1" : "0");
	for (int i = 0; i < o->n_shares; i++)
		config_add(lab, "share", o->share[i]);
	for (char **a = o->cmd; *a != NULL; a++)
		config_add(lab, "arg", *a);
	for (char **e = environ; *e != NULL; e++)
		config_add(lab, "env", *e);
	config_add(lab, "env", "MAYFLY_LAB=1");
	struct lab_frame f = { .type = LAB_CONFIG, .len = (uint32_t)(lab->config_len - sizeof(f)) };
	if (f.len > LAB_CONFIG_MAX)
		die("command and environment are too large");
	memcpy(lab->config, &f, sizeof(f));
}

/* --- processes --------------------------------------------------------------------------------------------------- */

/* Start @argv with the descriptors of @keep (-1 ends) inherited, and its own messages going to @messages_fd. */
static pid_t spawn(char **argv, const int *keep, int messages_fd)
{
	pid_t parent = getpid();
	pid_t pid = fork();
	sigset_t none;

	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(STATUS_LAB); /* it died before the line above */
	setpgid(0, 0); /* the terminal's signals are for us alone */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	int null_fd = open("/dev/null", O_RDWR);
	if (dup2(null_fd, 0) < 0 || dup2(messages_fd, 1) < 0 || dup2(messages_fd, 2) < 0)
		_exit(STATUS_LAB);
	syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
	for (; *keep >= 0; keep++)
		fcntl(*keep, F_SETFD, 0);
	execvp(argv[0], argv);
	dprintf(2, "cannot run %s: %s\n", argv[0], strerror(errno));
	_exit(STATUS_LAB);
}

static void socket_pair(int fd[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) != 0)
		die("socketpair: %s", strerror(errno));
}

/* Start one virtiofsd over @source. Returns a socket connected to it, for QEMU. */
static int start_virtiofsd(struct lab *lab, const char *source, const char *cache, int messages_fd)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(sa_family_t); /* no name: the kernel gives an abstract one */
	int listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const char *path = access("/usr/lib/qemu/virtiofsd", X_OK) == 0 ? "/usr/lib/qemu/virtiofsd" :
									 "/usr/libexec/virtiofsd";

	if (listen_fd < 0 || fd < 0 || bind(listen_fd, (struct sockaddr *)&addr, len) != 0 || listen(listen_fd, 1) != 0)
		die("socket for virtiofsd: %s", strerror(errno));
	len = sizeof(addr);
	if (getsockname(listen_fd, (struct sockaddr *)&addr, &len) != 0 || connect(fd, (struct sockaddr *)&addr, len) != 0)
		die("connect to the socket for virtiofsd: %s", strerror(errno));
	char *argv[] = { (char *)path, text("--fd=%d", listen_fd), "-o", text("source=%s", source), "-o",
			 text("sandbox=chroot,cache=%s,log_level=err", cache), NULL };
	const int keep[] = { listen_fd, -1 };
	lab->child[lab->n_children++] = spawn(argv, keep, messages_fd);
	close(listen_fd);
	return fd;
}

/* The time stamp counter and the time at one moment; the closest pair of several, as we may lose the CPU in between. */
static uint64_t tsc_at(uint64_t *ns)
{
	uint64_t best = UINT64_MAX, tsc = 0;

	for (int i = 0; i < 20; i++) {
		struct timespec t;
		uint64_t before = __builtin_ia32_rdtsc(), took;

		clock_gettime(CLOCK_MONOTONIC_RAW, &t);
		took = __builtin_ia32_rdtsc() - before;
		if (took < best) {
			best = took;
			tsc = before + took / 2;
			*ns = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
		}
	}
	return tsc;
}

/*
 * The frequency of the counter, which is L1's too unless time is virtual. L1 would measure it against an emulated timer, and
 * on a busy machine it was wrong by a factor of four: its clock ran fast, and every time limit in it was too short.
 */
static unsigned long tsc_khz(void)
{
	uint64_t ns_first, ns_last, first = tsc_at(&ns_first), last;

	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	last = tsc_at(&ns_last);
	return (unsigned long)((last - first) * 1000000 / (ns_last - ns_first));
}

static void start_machine(struct lab *lab)
{
	const struct options *o = lab->opt;
	char *argv[64];
	int n = 0, keep[4 + LAB_N_SHARES], n_keep = 0;
	int port[2], console[2], messages[2];

	socket_pair(port);
	socket_pair(console);
	socket_pair(messages);
	argv[n++] = "qemu-system-x86_64";
	argv[n++] = "-nodefaults";
	argv[n++] = "-no-user-config";
	argv[n++] = "-no-reboot";
	argv[n++] = "-display";
	argv[n++] = "none";
	argv[n++] = "-object";
	argv[n++] = text("memory-backend-memfd,id=mem,size=%uM,share=on", o->mem_mib);
	argv[n++] = "-M";
	argv[n++] = "q35,memory-backend=mem,smm=off,vmport=off,sata=off,smbus=off";
	argv[n++] = "-m";
	argv[n++] = text("%uM", o->mem_mib);
	argv[n++] = "-cpu";
	argv[n++] = "EPYC,+svm,+npt," EPYC_WITHOUT;
	argv[n++] = "-smp";
	argv[n++] = text("%u", o->n_cpus);
	argv[n++] = "-accel";
	argv[n++] = o->single || o->icount ? "tcg,thread=single" : "tcg,thread=multi";
	if (o->icount) {
		argv[n++] = "-icount";
		argv[n++] = "shift=0,sleep=off";
	}
	argv[n++] = "-kernel";
	argv[n++] = (char *)o->kernel;
	argv[n++] = "-initrd";
	argv[n++] = (char *)o->initrd;
	argv[n++] = "-append";
	argv[n++] = o->icount ? text(L1_COMMAND_LINE " %s", o->append) :
				text(L1_COMMAND_LINE " tsc_early_khz=%lu %s", tsc_khz(), o->append);
	argv[n++] = "-chardev";
	argv[n++] = text("socket,id=console,fd=%d", console[1]);
	argv[n++] = "-serial";
	argv[n++] = "chardev:console";
	argv[n++] = "-chardev";
	argv[n++] = text("socket,id=port,fd=%d", port[1]);
	argv[n++] = "-device";
	argv[n++] = "virtio-serial-pci";
	argv[n++] = "-device";
	argv[n++] = "virtserialport,nr=1,chardev=port,name=" LAB_PORT_NAME;
	keep[n_keep++] = console[1];
	keep[n_keep++] = port[1];
	for (int i = 0; i <= o->n_shares; i++) { /* the root, and then the shares */
		int fd = start_virtiofsd(lab, i == 0 ? "/" : o->share[i - 1], i == 0 ? "always" : "auto", messages[1]);

		keep[n_keep++] = fd;
		argv[n++] = "-chardev";
		argv[n++] = text("socket,id=fs%d,fd=%d", i, fd);
		argv[n++] = "-device";
		argv[n++] = i == 0 ? text("vhost-user-fs-pci,chardev=fs0,tag=" LAB_ROOT_TAG) :
				     text("vhost-user-fs-pci,chardev=fs%d,tag=" LAB_SHARE_TAG "%d", i, i - 1);
	}
	argv[n] = NULL;
	keep[n_keep] = -1;
	lab->qemu_index = lab->n_children;
	lab->child[lab->n_children++] = spawn(argv, keep, messages[1]);
	for (int i = 0; i < n_keep; i++)
		close(keep[i]);
	close(messages[1]);
	lab->port_fd = port[0];
	lab->console_fd = console[0];
	lab->messages_fd = messages[0];
	fcntl(lab->port_fd, F_SETFL, O_NONBLOCK);
}

static void stop_machine(struct lab *lab)
{
	for (int i = 0; i < lab->n_children; i++)
		if (lab->child[i] > 0)
			kill(lab->child[i], SIGKILL);
	for (int i = 0; i < lab->n_children; i++)
		if (lab->child[i] > 0)
			waitpid(lab->child[i], NULL, 0);
	lab->n_children = 0;
	close_fd(&lab->port_fd);
	close_fd(&lab->console_fd);
	close_fd(&lab->messages_fd);
}

/* --- the loop ---------------------------------------------------------------------------------------------------- */

static void read_log(struct lab *lab, int *fd)
{
	char buf[4096];
	ssize_t n = read(*fd, buf, sizeof(buf));

	if (n > 0)
		log_add(lab, buf, (size_t)n);
	else if (n == 0 || errno != EINTR)
		close_fd(fd);
}

/* Take the next frame out of from_port. Returns 0 when it is not complete, or must wait for the user to read. */
static int take_frame(struct lab *lab)
{
	struct lab_frame f;

	if (lab->from_port_len < sizeof(f) || lab->to_user_len > 0 || lab->finished)
		return 0;
	memcpy(&f, lab->from_port, sizeof(f));
	if (f.len > LAB_DATA_MAX)
		die("a frame of type %u and length %u came from L1", f.type, f.len);
	if (lab->from_port_len < sizeof(f) + f.len)
		return 0;
	const char *data = lab->from_port + sizeof(f);
	switch ((enum lab_frame_type)f.type) {
	case LAB_START:
		lab->started = 1;
		break;
	case LAB_STDOUT:
	case LAB_STDERR:
		lab->to_user_fd = f.type == LAB_STDOUT ? STDOUT_FILENO : STDERR_FILENO;
		memcpy(lab->to_user, data, f.len);
		lab->to_user_off = 0;
		lab->to_user_len = lab->user_gone[lab->to_user_fd] ? 0 : f.len;
		break;
	case LAB_STATUS:
		if (f.len == sizeof(lab->status))
			memcpy(&lab->status, data, f.len);
		lab->finished = 1;
		break;
	case LAB_FAIL:
		snprintf(lab->fail_text, sizeof(lab->fail_text), "%.*s", (int)f.len, data);
		lab->finished = 1;
		break;
	case LAB_CONFIG:
	case LAB_STDIN:
	case LAB_STDIN_EOF:
		die("a frame of the wrong direction came from L1");
	}
	lab->from_port_len -= sizeof(f) + f.len;
	memmove(lab->from_port, data + f.len, lab->from_port_len);
	return 1;
}

static void read_port(struct lab *lab)
{
	ssize_t n = read(lab->port_fd, lab->from_port + lab->from_port_len, sizeof(lab->from_port) - lab->from_port_len);

	if (n > 0)
		lab->from_port_len += (size_t)n;
	else if (n == 0 || (errno != EINTR && errno != EAGAIN))
		close_fd(&lab->port_fd);
}

/* The config first, then what came from standard input. */
static void write_port(struct lab *lab)
{
	int in_config = lab->config_off < lab->config_len;
	const char *data = in_config ? lab->config + lab->config_off : lab->to_port + lab->to_port_off;
	size_t len = in_config ? lab->config_len - lab->config_off : lab->to_port_len;
	ssize_t n = send(lab->port_fd, data, len, MSG_NOSIGNAL);

	if (n <= 0)
		return; /* when QEMU is gone, read_port sees it */
	if (in_config) {
		lab->config_off += (size_t)n;
	} else {
		lab->to_port_off += (size_t)n;
		lab->to_port_len -= (size_t)n;
	}
}

static void read_stdin(struct lab *lab)
{
	struct lab_frame f = { .type = LAB_STDIN };
	ssize_t n = read(STDIN_FILENO, lab->to_port + sizeof(f), LAB_DATA_MAX);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		f.type = LAB_STDIN_EOF;
		lab->stdin_done = 1;
		n = 0;
	}
	f.len = (uint32_t)n;
	memcpy(lab->to_port, &f, sizeof(f));
	lab->to_port_off = 0;
	lab->to_port_len = sizeof(f) + (size_t)n;
}

/* Not more than PIPE_BUF at a time: poll promises that so much does not block, and the descriptor's flags are shared
 * with other processes, so it can't be made non-blocking. */
static void write_user(struct lab *lab)
{
	size_t len = lab->to_user_len < PIPE_BUF ? lab->to_user_len : PIPE_BUF;
	ssize_t n = write(lab->to_user_fd, lab->to_user + lab->to_user_off, len);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n < 0) { /* nobody reads it; CMD goes on, as its status is still of interest */
		lab->user_gone[lab->to_user_fd] = 1;
		lab->to_user_len = 0;
		return;
	}
	lab->to_user_off += (size_t)n;
	lab->to_user_len -= (size_t)n;
}

static int qemu_alive(struct lab *lab)
{
	pid_t *pid = &lab->child[lab->qemu_index];

	if (*pid > 0 && waitpid(*pid, NULL, WNOHANG) == *pid)
		*pid = -1;
	return *pid > 0;
}

enum outcome { OUT_STATUS, OUT_FAIL, OUT_DIED, OUT_BOOT_LIMIT, OUT_TIMEOUT, OUT_SIGNAL };

/* Drive one attempt to its end. Returns how it ended; on OUT_SIGNAL *@signo is the signal. */
static enum outcome drive(struct lab *lab, int signal_fd, uint64_t end_ms, int *signo)
{
	uint64_t boot_end_ms = now_ms() + BOOT_LIMIT_S * 1000ull;

	for (;;) {
		while (take_frame(lab))
			;
		if (lab->finished && lab->to_user_len == 0)
			return lab->fail_text[0] ? OUT_FAIL : OUT_STATUS;
		int user_full = lab->to_user_len > 0;
		int port_full = lab->config_off < lab->config_len || lab->to_port_len > 0;
		int want_stdin = lab->opt->want_stdin && lab->started && !lab->stdin_done && !port_full;
		int want_frame = !user_full && lab->from_port_len < sizeof(lab->from_port);
		struct pollfd p[] = {
			{ .fd = signal_fd, .events = POLLIN },
			{ .fd = lab->console_fd, .events = POLLIN },
			{ .fd = lab->messages_fd, .events = POLLIN },
			{ .fd = lab->port_fd, .events = (short)((want_frame ? POLLIN : 0) | (port_full ? POLLOUT : 0)) },
			{ .fd = want_stdin ? STDIN_FILENO : -1, .events = POLLIN },
			{ .fd = user_full ? lab->to_user_fd : -1, .events = POLLOUT },
		};
		uint64_t now = now_ms();
		uint64_t limit = !lab->started && boot_end_ms < end_ms ? boot_end_ms : end_ms;

		if (now >= limit)
			return limit == end_ms ? OUT_TIMEOUT : OUT_BOOT_LIMIT;
		if (lab->port_fd < 0 && !user_full)
			return OUT_DIED;
		int wait_ms = limit - now > 1000 ? 1000 : (int)(limit - now);
		if (poll(p, sizeof(p) / sizeof(p[0]), wait_ms) < 0 && errno != EINTR)
			die("poll: %s", strerror(errno));
		if (p[0].revents) {
			struct signalfd_siginfo info;

			if (read(signal_fd, &info, sizeof(info)) == sizeof(info)) {
				*signo = (int)info.ssi_signo;
				return OUT_SIGNAL;
			}
		}
		if (p[1].revents)
			read_log(lab, &lab->console_fd);
		if (p[2].revents)
			read_log(lab, &lab->messages_fd);
		if (p[3].revents & POLLOUT)
			write_port(lab);
		if (want_frame && p[3].revents & (POLLIN | POLLHUP | POLLERR))
			read_port(lab);
		if (p[4].revents)
			read_stdin(lab);
		if (p[5].revents)
			write_user(lab);
		if (!qemu_alive(lab) && lab->port_fd >= 0 && !(p[3].revents & POLLIN) && !user_full)
			close_fd(&lab->port_fd); /* its last bytes have been read */
	}
}

static void drain_log(struct lab *lab)
{
	for (int i = 0; i < 2; i++) {
		int *fd = i == 0 ? &lab->console_fd : &lab->messages_fd;

		while (*fd >= 0) {
			struct pollfd p = { .fd = *fd, .events = POLLIN };
			if (poll(&p, 1, 20) <= 0)
				break;
			read_log(lab, fd);
		}
	}
}

int main(int argc, char **argv)
{
	static struct lab lab;
	struct options opt;
	sigset_t mask;
	enum outcome out = OUT_DIED;
	int signo = 0;

	parse_options(argc, argv, &opt);
	lab.opt = &opt;
	lab.log = malloc(LOG_MAX);
	if (lab.log == NULL)
		die("no memory");
	make_config(&lab);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGHUP);
	sigaddset(&mask, SIGQUIT);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	int signal_fd = signalfd(-1, &mask, SFD_CLOEXEC);
	if (signal_fd < 0)
		die("signalfd: %s", strerror(errno));

	/* L1 may die while it boots (the emulator's fault, see LAB in README.md); CMD has not been seen then, so try again. */
	uint64_t end_ms = now_ms() + opt.timeout_s * 1000ull;
	for (int i = 0; i < BOOT_TRIES; i++) {
		lab.config_off = lab.from_port_len = 0;
		lab.log_len = 0;
		start_machine(&lab);
		out = drive(&lab, signal_fd, end_ms, &signo);
		if (out == OUT_DIED)
			drain_log(&lab);
		stop_machine(&lab);
		if (lab.started || (out != OUT_DIED && out != OUT_BOOT_LIMIT))
			break;
		if (opt.verbose)
			say("attempt %d: L1 did not come up", i + 1);
	}
	log_keep(&lab);
	switch (out) {
	case OUT_STATUS:
		return (int)lab.status;
	case OUT_TIMEOUT:
		say("the time limit of %u s is over%s: %s", opt.timeout_s, lab.started ? "" : " before the command could start",
		    opt.cmd[0]);
		log_show_tail(&lab);
		return STATUS_TIMEOUT;
	case OUT_SIGNAL:
		return 128 + signo;
	case OUT_FAIL:
		say("L1 could not run the command: %s", lab.fail_text);
		break;
	case OUT_DIED:
		say("L1 died %s", lab.started ? "while the command ran" : "before the command could start");
		break;
	case OUT_BOOT_LIMIT:
		say("L1 was not up after %d s", BOOT_LIMIT_S);
		break;
	}
	log_show_tail(&lab);
	return STATUS_LAB;
}
