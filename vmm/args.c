/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/args.h"

#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/version.h"

#define DEFAULT_SOCKET "/run/firecracker.socket"
#define DEFAULT_ID "anonymous-instance"
#define DEFAULT_PAYLOAD 51200
#define ID_MAX 64

enum option_kind {
	OPT_FLAG,    /* bool */
	OPT_TEXT,    /* const char * */
	OPT_NUMBER,  /* uint64_t */
	OPT_ID,      /* const char *, an instance id */
	OPT_LEVEL,   /* enum log_level */
	OPT_VERSION, /* print and end */
	OPT_HELP,
	OPT_NOT_YET, /* Firecracker's, with a value; refused, never ignored */
	OPT_NOT_YET_FLAG,
};

struct option_row {
	const char *name;  /* without the two dashes */
	const char *value; /* what the help calls its value; NULL: a flag */
	const char *help;  /* for OPT_NOT_YET*: what is not there */
	enum option_kind kind;
	uint32_t offset;   /* of the member of struct args */
};

#define ROW(kind_, name_, value_, member_, help_) \
	{ .name = (name_), .value = (value_), .help = (help_), .kind = (kind_), .offset = offsetof(struct args, member_) }
#define ROW_PLAIN(kind_, name_, value_, help_) { .name = (name_), .value = (value_), .help = (help_), .kind = (kind_) }

static const struct option_row options[] = {
	ROW(OPT_TEXT, "api-sock", "PATH", api_sock, "API socket (default " DEFAULT_SOCKET ")"),
	ROW(OPT_ID, "id", "ID", id, "Name of this microVM in the API and the log: 1 to 64 letters, digits, '-'"),
	ROW(OPT_TEXT, "config-file", "PATH", config_file, "Configure and start the microVM from this JSON file"),
	ROW(OPT_FLAG, "no-api", NULL, no_api, "Serve no API; needs --config-file"),
	ROW(OPT_NUMBER, "http-api-max-payload-size", "BYTES", http_api_max_payload_size,
	    "Largest body of an API request (default 51200)"),
	ROW(OPT_TEXT, "log-path", "PATH", log_path, "Log to this file or FIFO (default: standard output)"),
	ROW(OPT_LEVEL, "level", "LEVEL", level, "Off, Error, Warn, Info (default), Debug or Trace"),
	ROW(OPT_TEXT, "module", "PREFIX", module, "Log only what comes from source files whose path begins so"),
	ROW(OPT_FLAG, "show-level", NULL, show_level, "Show the level in log lines"),
	ROW(OPT_FLAG, "show-log-origin", NULL, show_log_origin, "Show source file and line in log lines"),
	ROW(OPT_FLAG, "boot-timer", NULL, boot_timer, "Let the guest's init report the boot time"),
	ROW(OPT_FLAG, "no-seccomp", NULL, no_seccomp, "Run without system call filters"),
	ROW(OPT_NUMBER, "start-time-us", "N", start_time_us, "Set by the jailer: its start, CLOCK_MONOTONIC"),
	ROW(OPT_NUMBER, "start-time-cpu-us", "N", start_time_cpu_us, "Set by the jailer: CPU time used at its start"),
	ROW(OPT_NUMBER, "parent-cpu-time-us", "N", parent_cpu_time_us, "Set by the jailer: CPU time it used itself"),
	ROW_PLAIN(OPT_VERSION, "version", NULL, "Print the version and end"),
	ROW_PLAIN(OPT_HELP, "help", NULL, "Print this text and end (also -h)"),
	ROW_PLAIN(OPT_NOT_YET, "metrics-path", "PATH", "metrics are not implemented in this version"),
	ROW_PLAIN(OPT_NOT_YET, "metadata", "PATH", "the metadata service is not implemented in this version"),
	ROW_PLAIN(OPT_NOT_YET, "mmds-size-limit", "BYTES", "the metadata service is not implemented in this version"),
	ROW_PLAIN(OPT_NOT_YET, "seccomp-filter", "PATH", "custom filters are not implemented in this version"),
	ROW_PLAIN(OPT_NOT_YET, "describe-snapshot", "PATH", "snapshots are not implemented in this version"),
	ROW_PLAIN(OPT_NOT_YET_FLAG, "snapshot-version", NULL, "snapshots are not implemented in this version"),
	ROW_PLAIN(OPT_NOT_YET_FLAG, "enable-pci", NULL, "there is no PCI transport, devices are virtio-mmio"),
};

/* ---- output ------------------------------------------------------------------------------------------------------ */

static void print(const char *text)
{
	/* A reader that went away needs no help. */
	if (fd_write_full(STDOUT_FILENO, text, strlen(text)) < 0)
		return;
}

static bool is_firecracker(const struct args *args)
{
	return strcmp(args->app_name, "Firecracker") == 0;
}

static void print_version(const struct args *args)
{
	if (is_firecracker(args))
		print("Firecracker v" MAYFLY_API_VERSION "\n\n");
	else
		print("Mayfly v" MAYFLY_VERSION "\nSpeaks the API of Firecracker v" MAYFLY_API_VERSION "\n\n");
}

static void print_help(const struct args *args, const char *program)
{
	print_version(args);
	print("One microVM: configured and controlled through an HTTP API on a Unix socket, or from a file.\n\n"
	      "Usage: ");
	print(program);
	print(" [OPTIONS]\n\nOptions:\n");
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option_row *row = &options[i];
		char left[40] = "  --";
		size_t len;

		if (row->kind == OPT_NOT_YET || row->kind == OPT_NOT_YET_FLAG)
			continue;
		len = strlen(left);
		memcpy(left + len, row->name, strlen(row->name));
		len += strlen(row->name);
		if (row->value) {
			left[len++] = ' ';
			memcpy(left + len, row->value, strlen(row->value));
			len += strlen(row->value);
		}
		memset(left + len, ' ', sizeof(left) - 1 - len);
		left[sizeof(left) - 1] = '\0';
		print(left);
		print(row->help);
		print("\n");
	}
	print("\nExamples:\n"
	      "  Boot what a file describes, with the guest's console on this terminal:\n    ");
	print(program);
	print(" --no-api --config-file vm.json\n"
	      "  Wait for requests, then set the kernel through the API:\n    ");
	print(program);
	print(" --api-sock /tmp/vm.sock &\n"
	      "    curl --unix-socket /tmp/vm.sock -X PUT http://localhost/boot-source \\\n"
	      "         -d '{\"kernel_image_path\":\"vmlinux\",\"boot_args\":\"console=ttyS0 reboot=k panic=1\"}'\n");
}

/* ---- parsing ----------------------------------------------------------------------------------------------------- */

bool args_id_valid(const char *id)
{
	size_t len = strnlen(id, ID_MAX + 1);

	if (len == 0 || len > ID_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = id[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-'))
			return false;
	}
	return true;
}

static bool parse_number(const char *text, uint64_t *out)
{
	uint64_t v = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*text - '0'), &v))
			return false;
	}
	*out = v;
	return true;
}

/* Put the common frame around the reason that stands in @e. */
static enum args_verdict bad(struct err *e)
{
	char reason[ERR_MSG_MAX];

	memcpy(reason, e->msg, sizeof(reason));
	(void)err_set(e, ARGS_EXIT_BAD_ARGUMENT, "Arguments parsing error: %.400s \n\nFor more information try --help.",
		      reason);
	return ARGS_BAD;
}

/* An argument that is no option: say what it looks like. */
static void set_unexpected(const char *arg, struct err *e)
{
	const char *equals = strchr(arg, '=');

	for (size_t i = 0; equals && strncmp(arg, "--", 2) == 0 && i < ARRAY_SIZE(options); i++) {
		const struct option_row *row = &options[i];
		size_t len = (size_t)(equals - arg) - 2;

		if (strlen(row->name) != len || strncmp(arg + 2, row->name, len) != 0)
			continue;
		(void)err_set(e, 0, "Found argument '%.80s' which wasn't expected, or isn't valid in this context. %s--%s%s%s",
			      arg, row->value ? "Give the value as an argument of its own: " : "The option takes no value: ",
			      row->name, row->value ? " " : "", row->value ? row->value : "");
		return;
	}
	(void)err_set(e, 0, "Found argument '%.80s' which wasn't expected, or isn't valid in this context.", arg);
}

static const struct option_row *find_option(const char *arg)
{
	if (strcmp(arg, "-h") == 0)
		arg = "--help";
	if (strncmp(arg, "--", 2) != 0)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		if (strcmp(arg + 2, options[i].name) == 0)
			return &options[i];
	}
	return NULL;
}

/* Store @value, which is NULL for flags. False: refused, with the reason in @e. */
static bool store(struct args *args, const struct option_row *row, const char *value, struct err *e)
{
	char *member = (char *)args + row->offset;

	switch (row->kind) {
	case OPT_FLAG:
		*(bool *)member = true;
		return true;
	case OPT_ID:
		if (!args_id_valid(value)) {
			(void)err_set(e, 0, "Invalid instance ID '%.80s': it must have 1 to 64 characters, letters, "
				      "digits and '-' only.", value);
			return false;
		}
		*(const char **)(void *)member = value;
		return true;
	case OPT_TEXT:
		*(const char **)(void *)member = value;
		return true;
	case OPT_NUMBER:
		if (parse_number(value, (uint64_t *)(void *)member))
			return true;
		(void)err_set(e, 0, "The argument '--%s' requires a whole number, not '%.80s'.", row->name, value);
		return false;
	case OPT_LEVEL:
		return true; /* looked at last: it has an exit code of its own */
	case OPT_NOT_YET:
	case OPT_NOT_YET_FLAG:
		(void)err_set(e, 0, "The argument '--%s' is not supported: %s.", row->name, row->help);
		return false;
	case OPT_VERSION:
	case OPT_HELP:
		return true;
	}
	return true;
}

/* Rules that concern more than one option. */
static bool check_together(const struct args *args, struct err *e)
{
	if (args->no_api && !args->config_file) {
		(void)err_set(e, 0, "The argument '--no-api' requires '--config-file': nothing else could start the microVM.");
		return false;
	}
	return true;
}

static void set_defaults(struct args *args, const char *program)
{
	const char *slash = strrchr(program, '/');
	const char *base = slash ? slash + 1 : program;

	*args = (struct args){
		.app_name = strncmp(base, "firecracker", 11) == 0 ? "Firecracker" : "Mayfly",
		.id = DEFAULT_ID,
		.api_sock = DEFAULT_SOCKET,
		.level = LOG_INFO,
		.http_api_max_payload_size = DEFAULT_PAYLOAD,
	};
}

enum args_verdict args_parse(struct args *args, int argc, char *const *argv, struct err *e)
{
	const char *program = argc > 0 ? argv[0] : "mayfly-vmm";
	const char *level = NULL;
	bool seen[ARRAY_SIZE(options)] = { false };
	bool version = false, help = false;

	set_defaults(args, program);
	for (int i = 1; i < argc; i++) {
		const struct option_row *row;
		const char *value = NULL;

		if (strcmp(argv[i], "--") == 0)
			break;
		row = find_option(argv[i]);
		if (!row) {
			set_unexpected(argv[i], e);
			return bad(e);
		}
		if (seen[row - options]) {
			(void)err_set(e, 0, "The argument '--%s' was provided more than once.", row->name);
			return bad(e);
		}
		seen[row - options] = true;
		if (row->value) {
			if (i + 1 >= argc || strncmp(argv[i + 1], "--", 2) == 0) {
				(void)err_set(e, 0, "The argument '--%s' requires a value, but none was supplied.", row->name);
				return bad(e);
			}
			value = argv[++i];
		}
		if (!store(args, row, value, e))
			return bad(e);
		level = row->kind == OPT_LEVEL ? value : level;
		version |= row->kind == OPT_VERSION;
		help |= row->kind == OPT_HELP;
	}
	if (help || version) {
		if (help)
			print_help(args, program);
		else
			print_version(args);
		if (!help && is_firecracker(args))
			log_info("Firecracker exiting successfully. exit_code=0");
		return ARGS_DONE;
	}
	if (!check_together(args, e))
		return bad(e);
	if (level && !log_parse_level(level, &args->level)) {
		(void)err_set(e, ARGS_EXIT_BAD_LEVEL, "Invalid log level '%.80s': use Off, Error, Warn, Info, Debug "
			      "or Trace.", level);
		return ARGS_BAD;
	}
	return ARGS_RUN;
}
