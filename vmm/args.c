/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/args.h"

#include <errno.h>
#include <string.h>

#include "vmm/base/cli.h"
#include "vmm/base/version.h"

#define DEFAULT_SOCKET "/run/firecracker.socket"
#define DEFAULT_ID "anonymous-instance"
#define DEFAULT_PAYLOAD 51200

/* What the command line can hold besides `struct args`. */
struct raw {
	struct args args;
	const char *level;
	bool version, help;
};

#define ROW(kind, name, value, member, help) CLI_ROW(struct raw, kind, name, value, member, help)
/* Firecracker's; refused, never ignored. */
#define ROW_REFUSED(name_, value_, why) { .name = (name_), .value = (value_), .help = (why), .kind = CLI_REFUSED }

static const struct cli_option options[] = {
	ROW(CLI_TEXT, "api-sock", "PATH", args.api_sock, "API socket (default " DEFAULT_SOCKET ")"),
	ROW(CLI_TEXT, "id", "ID", args.id, "Name of this microVM in the API and the log: 1 to 64 letters, digits, '-'"),
	ROW(CLI_TEXT, "config-file", "PATH", args.config_file, "Configure and start the microVM from this JSON file"),
	ROW(CLI_FLAG, "no-api", NULL, args.no_api, "Serve no API; needs --config-file"),
	ROW(CLI_NUMBER, "http-api-max-payload-size", "BYTES", args.http_api_max_payload_size,
	    "Largest body of an API request (default 51200)"),
	ROW(CLI_TEXT, "log-path", "PATH", args.log_path, "Log to this file or FIFO (default: standard output)"),
	ROW(CLI_TEXT, "level", "LEVEL", level, "Off, Error, Warn, Info (default), Debug or Trace"),
	ROW(CLI_TEXT, "module", "PREFIX", args.module, "Log only what comes from source files whose path begins so"),
	ROW(CLI_FLAG, "show-level", NULL, args.show_level, "Show the level in log lines"),
	ROW(CLI_FLAG, "show-log-origin", NULL, args.show_log_origin, "Show source file and line in log lines"),
	ROW(CLI_FLAG, "boot-timer", NULL, args.boot_timer, "Let the guest's init report the boot time"),
	ROW(CLI_FLAG, "no-seccomp", NULL, args.no_seccomp, "Run without system call filters"),
	ROW(CLI_NUMBER, "start-time-us", "N", args.start_time_us, "Set by the jailer: its start, CLOCK_MONOTONIC"),
	ROW(CLI_NUMBER, "start-time-cpu-us", "N", args.start_time_cpu_us, "Set by the jailer: CPU time used at its start"),
	ROW(CLI_NUMBER, "parent-cpu-time-us", "N", args.parent_cpu_time_us, "Set by the jailer: CPU time it used itself"),
	ROW(CLI_FLAG, "version", NULL, version, "Print the version and end"),
	ROW(CLI_FLAG, "help", NULL, help, "Print this text and end (also -h)"),
	ROW_REFUSED("metrics-path", "PATH", "metrics are not implemented in this version"),
	ROW_REFUSED("metadata", "PATH", "the metadata service is not implemented in this version"),
	ROW_REFUSED("mmds-size-limit", "BYTES", "the metadata service is not implemented in this version"),
	ROW_REFUSED("seccomp-filter", "PATH", "custom filters are not implemented in this version"),
	ROW_REFUSED("describe-snapshot", "PATH", "snapshots are not implemented in this version"),
	ROW_REFUSED("snapshot-version", NULL, "snapshots are not implemented in this version"),
	ROW_REFUSED("enable-pci", NULL, "there is no PCI transport, devices are virtio-mmio"),
};

/* ---- output ------------------------------------------------------------------------------------------------------ */

static bool is_firecracker(const struct args *args)
{
	return strcmp(args->app_name, "Firecracker") == 0;
}

static void print_version(const struct args *args)
{
	if (is_firecracker(args))
		cli_print("Firecracker v" MAYFLY_API_VERSION "\n\n");
	else
		cli_print("Mayfly v" MAYFLY_VERSION "\nSpeaks the API of Firecracker v" MAYFLY_API_VERSION "\n\n");
}

static void print_help(const struct args *args, const char *program)
{
	print_version(args);
	cli_print("One microVM: configured and controlled through an HTTP API on a Unix socket, or from a file.\n\n"
	      "Usage: ");
	cli_print(program);
	cli_print(" [OPTIONS]\n\nOptions:\n");
	cli_print_options(options, ARRAY_SIZE(options));
	cli_print("\nExamples:\n"
	      "  Boot what a file describes, with the guest's console on this terminal:\n    ");
	cli_print(program);
	cli_print(" --no-api --config-file vm.json\n"
	      "  Wait for requests, then set the kernel through the API:\n    ");
	cli_print(program);
	cli_print(" --api-sock /tmp/vm.sock &\n"
	      "    curl --unix-socket /tmp/vm.sock -X PUT http://localhost/boot-source \\\n"
	      "         -d '{\"kernel_image_path\":\"vmlinux\",\"boot_args\":\"console=ttyS0 reboot=k panic=1\"}'\n");
}

/* ---- parsing ----------------------------------------------------------------------------------------------------- */

/* Put the common frame around the reason that stands in @e. */
static enum args_verdict bad(struct err *e)
{
	char reason[ERR_MSG_MAX];

	memcpy(reason, e->msg, sizeof(reason));
	(void)err_set(e, ARGS_EXIT_BAD_ARGUMENT, "Arguments parsing error: %.400s \n\nFor more information try --help.",
		      reason);
	return ARGS_BAD;
}

static bool check_id(const struct args *args, struct err *e)
{
	if (cli_id_valid(args->id))
		return true;
	(void)err_set(e, -EINVAL, "Invalid instance ID '%.80s': it must have 1 to 64 characters, letters, digits and '-' only.",
		      args->id);
	return false;
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
	struct raw raw = { .level = NULL };
	int rest, rc;

	set_defaults(&raw.args, program);
	rc = cli_parse(options, ARRAY_SIZE(options), &raw, argc, argv, &rest, e);
	*args = raw.args;
	if (rc || !check_id(args, e))
		return bad(e);
	if (raw.help || raw.version) {
		if (raw.help)
			print_help(args, program);
		else
			print_version(args);
		if (!raw.help && is_firecracker(args))
			log_info("Firecracker exiting successfully. exit_code=0");
		return ARGS_DONE;
	}
	if (!check_together(args, e))
		return bad(e);
	if (raw.level && !log_parse_level(raw.level, &args->level)) {
		(void)err_set(e, ARGS_EXIT_BAD_LEVEL, "Invalid log level '%.80s': use Off, Error, Warn, Info, Debug "
			      "or Trace.", raw.level);
		return ARGS_BAD;
	}
	return ARGS_RUN;
}
