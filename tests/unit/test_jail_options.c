/* SPDX-License-Identifier: Apache-2.0 */
/* The jailer's command line, and undoing what a failed start has made. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "jailer/options.h"
#include "jailer/path.h"
#include "jailer/undo.h"
#include "vmm/base/fd.h"

#define NEEDED "--id", "a", "--exec-file", "/bin/true", "--uid", "1", "--gid", "2"
#define PARSE(o, e, ...)                                                                                                \
	({                                                                                                              \
		static char *const argv_[] = { "jailer", __VA_ARGS__, NULL };                                           \
		jail_options_parse(o, (int)ARRAY_SIZE(argv_) - 1, argv_, e);                                            \
	})

static void plain_paths(void **state)
{
	(void)state;
	assert_true(jail_path_plain("a"));
	assert_true(jail_path_plain("a/b.c/..d"));
	assert_false(jail_path_plain(""));
	assert_false(jail_path_plain("/a"));
	assert_false(jail_path_plain("a/"));
	assert_false(jail_path_plain("a//b"));
	assert_false(jail_path_plain("."));
	assert_false(jail_path_plain("a/../b"));
	assert_false(jail_path_plain("a/."));
}

static void everything_given(void **state)
{
	struct jail_options o;
	struct err e = {0};

	(void)state;
	assert_int_equal(PARSE(&o, &e, NEEDED, "--cgroup", "cpuset.cpus=0-3", "--cgroup", "memory.max=1", "--cgroup-version", "2",
			       "--parent-cgroup", "p/q", "--resource-limit", "no-file=9", "--resource-limit", "fsize=10",
			       "--netns", "/n",
			       "--daemonize", "--new-pid-ns", "--", "--no-api", "x"), JAIL_OPTIONS_RUN);
	assert_string_equal(o.app_name, "Jailer");
	assert_int_equal(o.uid, 1);
	assert_int_equal(o.gid, 2);
	assert_int_equal(o.n_cgroup, 2);
	assert_string_equal(o.cgroup[0].controller, "cpuset");
	assert_string_equal(o.cgroup[0].file, "cpuset.cpus");
	assert_string_equal(o.cgroup[0].value, "0-3");
	assert_int_equal(o.cgroup_version, 2);
	assert_string_equal(o.parent_cgroup, "p/q");
	assert_int_equal(o.no_file, 9);
	assert_true(o.has_fsize);
	assert_int_equal(o.fsize, 10);
	assert_true(o.daemonize && o.new_pid_ns);
	assert_int_equal(o.n_rest, 2);
	assert_string_equal(o.rest[0], "--no-api");
}

static void defaults(void **state)
{
	struct jail_options o;
	struct err e = {0};

	(void)state;
	assert_int_equal(PARSE(&o, &e, NEEDED), JAIL_OPTIONS_RUN);
	assert_string_equal(o.base_dir, "/srv/jailer");
	assert_int_equal(o.no_file, 2048);
	assert_false(o.has_fsize);
	assert_int_equal(o.cgroup_version, 0);
	assert_int_equal(o.n_rest, 0);
	assert_null(o.netns);
}

static void refused(void **state)
{
	struct jail_options o;
	struct err e = {0};

	(void)state;
	assert_int_equal(PARSE(&o, &e, NEEDED, "--cgroup", "cpu.max"), JAIL_OPTIONS_BAD);
	assert_int_equal(PARSE(&o, &e, NEEDED, "--cgroup", "cpu=1"), JAIL_OPTIONS_BAD);
	assert_int_equal(PARSE(&o, &e, NEEDED, "--cgroup", ".max=1"), JAIL_OPTIONS_BAD);
	assert_int_equal(PARSE(&o, &e, NEEDED, "--cgroup", "cpu.=1"), JAIL_OPTIONS_BAD);
	assert_int_equal(PARSE(&o, &e, NEEDED, "--cgroup", "cpu.max="), JAIL_OPTIONS_BAD);
	assert_int_equal(PARSE(&o, &e, NEEDED, "--cgroup", "a.b/c=1"), JAIL_OPTIONS_BAD);
	assert_int_equal(PARSE(&o, &e, NEEDED, "--resource-limit", "no-file=x"), JAIL_OPTIONS_BAD);
	assert_int_equal(PARSE(&o, &e, "--id", "a", "--uid", "1"), JAIL_OPTIONS_BAD);
	assert_non_null(strstr(e.msg, "exec-file"));
	assert_int_equal(PARSE(&o, &e, NEEDED, "--gid", "3"), JAIL_OPTIONS_BAD);
	assert_non_null(strstr(e.msg, "more than once"));
	assert_int_equal(PARSE(&o, &e, "--id", "", "--exec-file", "/bin/true", "--uid", "1", "--gid", "1"), JAIL_OPTIONS_BAD);
	assert_non_null(strstr(e.msg, "Invalid instance ID: Invalid len (0);  the length must be between 1 and 64"));
}

static void undone_in_reverse(void **state)
{
	char dir[] = "/tmp/mayfly-test-undo-XXXXXX";
	struct undo undo = { .n = 0 };
	AUTO_FD int top = -1;
	AUTO_FD int sub = -1;

	(void)state;
	assert_non_null(mkdtemp(dir));
	top = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	sub = path_make_dir(top, "sub", 0755, &undo);
	assert_true(sub >= 0);
	assert_int_equal(mknodat(sub, "file", S_IFREG | 0600, 0), 0);
	undo_add(&undo, sub, "file", false);
	assert_int_equal(faccessat(top, "sub/file", F_OK, 0), 0);
	undo_run(&undo);
	assert_int_equal(undo.n, 0);
	assert_int_not_equal(faccessat(top, "sub", F_OK, 0), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void no_symbolic_links(void **state)
{
	char dir[] = "/tmp/mayfly-test-path-XXXXXX";
	AUTO_FD int top = -1;

	(void)state;
	assert_non_null(mkdtemp(dir));
	top = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(symlinkat("/etc", top, "link"), 0);
	assert_true(path_open(top, "link", O_RDONLY, 0) < 0);
	assert_true(path_open(top, "link/passwd", O_RDONLY, 0) < 0);
	assert_true(path_open(top, "..", O_RDONLY, 0) < 0);
	assert_true(path_open(top, "/etc", O_RDONLY, 0) < 0);
	assert_true(path_make_dir(top, "link", 0755, NULL) < 0);
	assert_int_equal(unlinkat(top, "link", 0), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_paths),	   cmocka_unit_test(everything_given),	 cmocka_unit_test(defaults),
		cmocka_unit_test(refused),	   cmocka_unit_test(undone_in_reverse), cmocka_unit_test(no_symbolic_links),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
