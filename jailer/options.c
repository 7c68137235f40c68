/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/options.h"

#include <errno.h>
#include <string.h>

#include "vmm/base/version.h"

/* As the command line has it. */
struct raw {
	const char *id, *exec_file, *uid, *gid, *base_dir, *netns, *parent_cgroup, *cgroup_version, *clean;
	bool daemonize, new_pid_ns, version, help;
	struct cli_list cgroup, limit;
};

#define ROW(kind, name, value, member, help) CLI_ROW(struct raw, kind, name, value, member, help)

static const struct cli_option options[] = {
	ROW(CLI_TEXT, "id", "ID", id, "Name of the microVM: 1 to 64 letters, digits, '-' (required)"),
	ROW(CLI_TEXT, "exec-file", "PATH", exec_file, "The program to jail, mayfly-vmm (required)"),
	ROW(CLI_TEXT, "uid", "N", uid, "User that it runs as (required)"),
	ROW(CLI_TEXT, "gid", "N", gid, "Group that it runs as (required)"),
	ROW(CLI_TEXT, "chroot-base-dir", "DIR", base_dir, "Where jails are made (default " JAIL_DEFAULT_BASE "); must exist"),
	ROW(CLI_TEXT, "netns", "PATH", netns, "Network namespace to join"),
	ROW(CLI_FLAG, "daemonize", NULL, daemonize, "Detach: new session, /dev/null for standard input and output"),
	ROW(CLI_FLAG, "new-pid-ns", NULL, new_pid_ns, "Run the program as PID 1 of a new PID namespace"),
	ROW(CLI_LIST, "cgroup", "FILE=VALUE", cgroup, "Set a cgroup value, such as cpu.max=50000 (repeatable)"),
	ROW(CLI_TEXT, "cgroup-version", "1|2", cgroup_version, "Cgroup hierarchy (default: 1 where the host has it, else 2)"),
	ROW(CLI_TEXT, "parent-cgroup", "PATH", parent_cgroup, "Parent of the jail's cgroup (default: the program's name)"),
	ROW(CLI_LIST, "resource-limit", "NAME=N", limit, "fsize=BYTES or no-file=N (default no-file=2048; repeatable)"),
	ROW(CLI_TEXT, "clean", "ID", clean, "Remove jail and cgroup of a microVM that has ended; needs --exec-file"),
	ROW(CLI_FLAG, "version", NULL, version, "Print the version and end"),
	ROW(CLI_FLAG, "help", NULL, help, "Print this text and end (also -h)"),
};

static void print_version(const struct jail_options *o)
{
	if (strcmp(o->app_name, "Jailer") == 0)
		cli_print("Jailer v" MAYFLY_API_VERSION "\n\n");
	else
		cli_print("Mayfly jailer v" MAYFLY_VERSION "\nSame options and layout as Firecracker's jailer v"
			  MAYFLY_API_VERSION "\n\n");
}

static void print_help(const struct jail_options *o, const char *program)
{
	print_version(o);
	cli_print("Puts a microVM monitor into a jail of its own and runs it there: chroot, namespaces, cgroup, limits, no\n"
		  "capabilities, an unprivileged user. Needs root.\n\nUsage: ");
	cli_print(program);
	cli_print(" --id ID --exec-file PATH --uid N --gid N [OPTIONS] [-- ARGUMENTS OF THE PROGRAM]\n\nOptions:\n");
	cli_print_options(options, ARRAY_SIZE(options));
	cli_print("\nThe jail is DIR/<name of the program>/ID/root; files for the microVM may be put there before.\n"
		  "\nExamples:\n  ");
	cli_print(program);
	cli_print(" --id vm1 --exec-file /usr/bin/mayfly-vmm --uid 1234 --gid 1234 \\\n"
		  "      --cgroup-version 2 --cgroup memory.max=268435456 -- --config-file /vm.json --no-api\n  ");
	cli_print(program);
	cli_print(" --clean vm1 --exec-file /usr/bin/mayfly-vmm\n");
}

bool jail_path_plain(const char *path)
{
	if (*path == '/' || !*path)
		return false;
	while (*path) {
		size_t len = strcspn(path, "/");

		if (len == 0 || (len == 1 && path[0] == '.') || (len == 2 && path[0] == '.' && path[1] == '.'))
			return false;
		path += len;
		if (*path == '/' && path[1])
			path++;
		else if (*path == '/')
			return false;
	}
	return true;
}

static int parse_u32(const char *option, const char *text, uint32_t *out, struct err *e)
{
	uint64_t v;

	if (!cli_number(text, &v) || v > UINT32_MAX)
		return err_set(e, -EINVAL, "Invalid %s '%.40s': it must be a number from 0 to 4294967295.", option, text);
	*out = (uint32_t)v;
	return 0;
}

static int parse_id(const char *id, struct err *e)
{
	size_t len = strlen(id);

	if (len == 0 || len > 64)
		return err_set(e, -EINVAL, "Invalid instance ID: Invalid len (%zu);  the length must be between 1 and 64", len);
	if (!cli_id_valid(id))
		return err_set(e, -EINVAL, "Invalid instance ID: Invalid char in '%.64s': use letters, digits and '-'.", id);
	return 0;
}

static int parse_cgroup(const char *text, struct jail_cgroup_value *out, struct err *e)
{
	const char *equals = strchr(text, '=');
	const char *dot = strchr(text, '.');
	size_t len = equals ? (size_t)(equals - text) : 0;

	if (!equals || strchr(equals + 1, '=') || !equals[1])
		return err_set(e, -EINVAL, "Invalid --cgroup '%.100s': write it as FILE=VALUE, for example cpu.shares=512.", text);
	if (!dot || dot > equals || dot == text || dot + 1 == equals || (size_t)(dot - text) >= sizeof(out->controller) ||
	    len >= sizeof(out->file))
		return err_set(e, -EINVAL,
			       "Invalid --cgroup file '%.*s': it must be named CONTROLLER.FILE, for example memory.max.",
			       (int)(len < 100 ? len : 100), text);
	memcpy(out->file, text, len);
	out->file[len] = '\0';
	memcpy(out->controller, text, (size_t)(dot - text));
	out->controller[dot - text] = '\0';
	if (strchr(out->file, '/') || strstr(out->file, ".."))
		return err_set(e, -EINVAL, "Invalid --cgroup file '%.96s': it must be a plain file name.", out->file);
	out->value = equals + 1;
	return 0;
}

static int parse_limit(const char *text, struct jail_options *o, struct err *e)
{
	uint64_t v;

	if (strncmp(text, "no-file=", 8) == 0 && cli_number(text + 8, &v)) {
		o->no_file = v;
		return 0;
	}
	if (strncmp(text, "fsize=", 6) == 0 && cli_number(text + 6, &v)) {
		o->fsize = v;
		o->has_fsize = true;
		return 0;
	}
	return err_set(e, -EINVAL, "Invalid --resource-limit '%.100s': use fsize=BYTES or no-file=NUMBER.", text);
}

static int require(const char *value, const char *option, struct err *e)
{
	return value ? 0 : err_set(e, -EINVAL, "The '--%s' argument is required, but it was not provided.", option);
}

static int parse_ids(const struct raw *raw, struct jail_options *o, struct err *e)
{
	int rc;

	rc = require(raw->id, "id", e);
	if (!rc)
		rc = parse_id(raw->id, e);
	if (!rc)
		rc = require(raw->uid, "uid", e);
	if (!rc)
		rc = parse_u32("--uid", raw->uid, &o->uid, e);
	if (!rc)
		rc = require(raw->gid, "gid", e);
	return rc ? rc : parse_u32("--gid", raw->gid, &o->gid, e);
}

/* From text to values. */
static int check(const struct raw *raw, struct jail_options *o, struct err *e)
{
	int rc;

	rc = require(raw->exec_file, "exec-file", e);
	if (!rc)
		rc = raw->clean ? parse_id(raw->clean, e) : parse_ids(raw, o, e);
	if (rc)
		return rc;
	if (raw->parent_cgroup && !jail_path_plain(raw->parent_cgroup))
		return err_set(e, -EINVAL, "Invalid --parent-cgroup '%.100s': it must be a relative path without '.' and '..'.",
			       raw->parent_cgroup);
	if (raw->cgroup_version && strcmp(raw->cgroup_version, "1") != 0 && strcmp(raw->cgroup_version, "2") != 0)
		return err_set(e, -EINVAL, "Invalid --cgroup-version '%.20s': use 1 or 2.", raw->cgroup_version);
	o->cgroup_version = raw->cgroup_version ? (unsigned int)(raw->cgroup_version[0] - '0') : 0;
	for (size_t i = 0; i < raw->cgroup.n; i++) {
		rc = parse_cgroup(raw->cgroup.value[i], &o->cgroup[o->n_cgroup++], e);
		if (rc)
			return rc;
	}
	for (size_t i = 0; i < raw->limit.n; i++) {
		rc = parse_limit(raw->limit.value[i], o, e);
		if (rc)
			return rc;
	}
	return 0;
}

enum jail_options_verdict jail_options_parse(struct jail_options *o, int argc, char *const *argv, struct err *e)
{
	const char *program = argc > 0 ? argv[0] : "mayfly-jailer";
	const char *slash = strrchr(program, '/');
	struct raw raw = { .base_dir = JAIL_DEFAULT_BASE };
	int rest;

	*o = (struct jail_options){ .no_file = JAIL_DEFAULT_NO_FILE };
	o->app_name = strncmp(slash ? slash + 1 : program, "jailer", 6) == 0 ? "Jailer" : "Mayfly jailer";
	if (cli_parse(options, ARRAY_SIZE(options), &raw, argc, argv, &rest, e)) {
		(void)err_wrap(e, -EINVAL, "Arguments parsing error");
		return JAIL_OPTIONS_BAD;
	}
	if (raw.help || raw.version) {
		if (raw.help)
			print_help(o, program);
		else
			print_version(o);
		return JAIL_OPTIONS_DONE;
	}
	o->id = raw.clean ? raw.clean : raw.id;
	o->clean = raw.clean;
	o->exec_file = raw.exec_file;
	o->base_dir = raw.base_dir;
	o->netns = raw.netns;
	o->parent_cgroup = raw.parent_cgroup;
	o->daemonize = raw.daemonize;
	o->new_pid_ns = raw.new_pid_ns;
	o->n_rest = argc - rest;
	o->rest = argv + rest;
	return check(&raw, o, e) ? JAIL_OPTIONS_BAD : JAIL_OPTIONS_RUN;
}
