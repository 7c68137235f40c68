/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: every rule of CONTRACT.md section 6, every option, and what --version and --help print.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/args.h"
#include "vmm/base/cli.h"
#include "vmm/base/version.h"

#define MAX_ARGS 40

struct run {
	struct args args;
	struct err e;
	enum args_verdict verdict;
};

/* Parse the words of @line, which are separated by blanks; '_' stands for an empty word. */
static struct run parse(const char *line)
{
	static char copy[1000];
	char *argv[MAX_ARGS], *save = NULL;
	static char empty[] = "";
	struct run run = { 0 };
	int argc = 0;

	assert_true(strlen(line) < sizeof(copy));
	memcpy(copy, line, strlen(line) + 1);
	for (char *word = strtok_r(copy, " ", &save); word && argc < MAX_ARGS; word = strtok_r(NULL, " ", &save))
		argv[argc++] = strcmp(word, "_") == 0 ? empty : word;
	run.verdict = args_parse(&run.args, argc, argv, &run.e);
	return run;
}

static void assert_bad(const char *line, const char *reason)
{
	struct run r = parse(line);
	char want[600];

	(void)snprintf(want, sizeof(want), "Arguments parsing error: %s \n\nFor more information try --help.", reason);
	assert_int_equal(r.verdict, ARGS_BAD);
	assert_string_equal(r.e.msg, want);
	assert_int_equal(r.e.code, 153);
}

static void test_defaults(void **state)
{
	struct run r = parse("/usr/bin/mayfly-vmm");

	(void)state;
	assert_int_equal(r.verdict, ARGS_RUN);
	assert_string_equal(r.args.app_name, "Mayfly");
	assert_string_equal(r.args.id, "anonymous-instance");
	assert_string_equal(r.args.api_sock, "/run/firecracker.socket");
	assert_int_equal(r.args.http_api_max_payload_size, 51200);
	assert_int_equal(r.args.level, LOG_INFO);
	assert_null(r.args.config_file);
	assert_null(r.args.log_path);
	assert_null(r.args.module);
	assert_false(r.args.no_api || r.args.boot_timer || r.args.no_seccomp || r.args.show_level || r.args.show_log_origin);
	assert_int_equal(parse("firecracker-v1.9").verdict, ARGS_RUN);
	assert_string_equal(parse("./firecracker").args.app_name, "Firecracker");
	assert_string_equal(parse("/a/firecracker/x").args.app_name, "Mayfly");
}

static void test_all_options(void **state)
{
	struct run r = parse("firecracker --id a-1 --api-sock /s --config-file /c --no-api --log-path /l --level wArn --module m "
			     "--show-level --show-log-origin --boot-timer --no-seccomp --http-api-max-payload-size 99 "
			     "--start-time-us 1 --start-time-cpu-us 2 --parent-cpu-time-us 18446744073709551615");

	(void)state;
	assert_int_equal(r.verdict, ARGS_RUN);
	assert_string_equal(r.args.id, "a-1");
	assert_string_equal(r.args.api_sock, "/s");
	assert_string_equal(r.args.config_file, "/c");
	assert_string_equal(r.args.log_path, "/l");
	assert_string_equal(r.args.module, "m");
	assert_int_equal(r.args.level, LOG_WARN);
	assert_true(r.args.no_api && r.args.boot_timer && r.args.no_seccomp && r.args.show_level && r.args.show_log_origin);
	assert_int_equal(r.args.http_api_max_payload_size, 99);
	assert_int_equal(r.args.start_time_us, 1);
	assert_int_equal(r.args.start_time_cpu_us, 2);
	assert_true(r.args.parent_cpu_time_us == UINT64_MAX);
}

static void test_rules(void **state)
{
	(void)state;
	assert_bad("x --foo", "Found argument '--foo' which wasn't expected, or isn't valid in this context.");
	assert_bad("x foo", "Found argument 'foo' which wasn't expected, or isn't valid in this context.");
	assert_bad("x -x", "Found argument '-x' which wasn't expected, or isn't valid in this context.");
	assert_bad("x --id=a", "Found argument '--id=a' which wasn't expected, or isn't valid in this context. "
			       "Give the value as an argument of its own: --id ID");
	assert_bad("x --no-api=1", "Found argument '--no-api=1' which wasn't expected, or isn't valid in this context. "
				   "The option takes no value: --no-api");
	assert_bad("x --i=a", "Found argument '--i=a' which wasn't expected, or isn't valid in this context.");
	assert_bad("x --=a", "Found argument '--=a' which wasn't expected, or isn't valid in this context.");
	assert_bad("x --id", "The argument '--id' requires a value, but none was supplied.");
	assert_bad("x --id --no-api", "The argument '--id' requires a value, but none was supplied.");
	assert_bad("x --id --", "The argument '--id' requires a value, but none was supplied.");
	assert_bad("x --id a --id b", "The argument '--id' was provided more than once.");
	assert_bad("x --no-seccomp --no-seccomp", "The argument '--no-seccomp' was provided more than once.");
	assert_bad("x --no-api", "The argument '--no-api' requires '--config-file': nothing else could start the microVM.");
	assert_int_equal(parse("x --log-path -x").verdict, ARGS_RUN);
	assert_int_equal(parse("x --id a -- --id b foo").verdict, ARGS_RUN);
}

static void test_values(void **state)
{
	char line[200];
	struct run r;

	(void)state;
	assert_bad("x --start-time-us 1x", "The argument '--start-time-us' requires a whole number, not '1x'.");
	assert_bad("x --start-time-us -1", "The argument '--start-time-us' requires a whole number, not '-1'.");
	assert_bad("x --start-time-us _", "The argument '--start-time-us' requires a whole number, not ''.");
	assert_bad("x --start-time-us 18446744073709551616",
		   "The argument '--start-time-us' requires a whole number, not '18446744073709551616'.");
	assert_bad("x --id a_b", "Invalid instance ID 'a_b': it must have 1 to 64 characters, letters, digits and '-' only.");
	r = parse("x --level loud");
	assert_int_equal(r.verdict, ARGS_BAD);
	assert_int_equal(r.e.code, 152);
	assert_string_equal(r.e.msg, "Invalid log level 'loud': use Off, Error, Warn, Info, Debug or Trace.");
	(void)snprintf(line, sizeof(line), "%064d", 0);
	assert_true(cli_id_valid(line));
	(void)snprintf(line, sizeof(line), "%065d", 0);
	assert_false(cli_id_valid(line));
	assert_false(cli_id_valid(""));
	assert_false(cli_id_valid("a/b"));
}

/* What the reference has and this does not is refused, never ignored. */
static void test_not_supported(void **state)
{
	static const char *const lines[] = {
		"x --metrics-path /m", "x --metadata /m", "x --mmds-size-limit 5", "x --seccomp-filter /f",
		"x --describe-snapshot /s", "x --snapshot-version", "x --enable-pci",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		struct run r = parse(lines[i]);

		assert_int_equal(r.verdict, ARGS_BAD);
		assert_int_equal(r.e.code, 153);
		assert_non_null(strstr(r.e.msg, "' is not supported: "));
	}
}

/* What @line prints on standard output. */
static const char *printed(const char *line)
{
	static char text[8192];
	int fds[2], saved = dup(STDOUT_FILENO);
	ssize_t n;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	(void)fflush(stdout);
	(void)dup2(fds[1], STDOUT_FILENO);
	(void)close(fds[1]);
	assert_int_equal(parse(line).verdict, ARGS_DONE);
	(void)dup2(saved, STDOUT_FILENO);
	(void)close(saved);
	n = read(fds[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	(void)close(fds[0]);
	return text;
}

static void test_printing(void **state)
{
	const char *text = printed("firecracker --version");

	(void)state;
	/* Clients take the second word of the first line for a semantic version. */
	assert_memory_equal(text, "Firecracker v" MAYFLY_API_VERSION "\n\n",
			    sizeof("Firecracker v" MAYFLY_API_VERSION "\n\n") - 1);
	assert_non_null(strstr(text, "Firecracker exiting successfully. exit_code=0\n"));
	assert_memory_equal(printed("mayfly-vmm --version"), "Mayfly v" MAYFLY_VERSION "\n",
			    sizeof("Mayfly v" MAYFLY_VERSION "\n") - 1);
	text = printed("mayfly-vmm --id x -h");
	assert_non_null(strstr(text, "--api-sock PATH"));
	assert_non_null(strstr(text, "Examples:"));
	assert_null(strstr(text, "--enable-pci"));
	assert_non_null(strstr(printed("mayfly-vmm --help --version"), "Usage: mayfly-vmm"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults), cmocka_unit_test(test_all_options), cmocka_unit_test(test_rules),
		cmocka_unit_test(test_values), cmocka_unit_test(test_not_supported), cmocka_unit_test(test_printing),
	};

	return cmocka_run_group_tests_name("args", tests, NULL, NULL);
}
