/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `--config-file` against CONTRACT.md 6.2 and 6.1 step 5: order of application, what is ignored, what is refused and
 * how the refusal reads, and how much of a hostile file is read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api-socket/action.h"
#include "api-socket/config_file.h"
#include "vmm/base/log.h"

#define CONTENT "Configuration for VMM from one single json failed: "

/* The fake handler writes down the order of what it is asked, one letter or id an action. */
struct fake {
	char order[512];
	enum action_type refuse; /* answer this action with 400 */
	bool refuses;
	struct config_machine machine;
};

static void fake_handle(void *ctx, struct action *action, struct reply *reply)
{
	struct fake *f = ctx;
	size_t len = strlen(f->order), room = sizeof(f->order) - len;

	reply->status = 204;
	if (f->refuses && action->type == f->refuse) {
		reply->status = 400;
		(void)snprintf(reply->fault, sizeof(reply->fault), "Some error: the reason.");
	}
	if (action->type == ACTION_PUT_LOGGER) {
		(void)snprintf(f->order + len, room, "logger ");
	} else if (action->type == ACTION_PUT_MACHINE) {
		f->machine = action->machine;
		(void)snprintf(f->order + len, room, "machine ");
	} else if (action->type == ACTION_PUT_BOOT_SOURCE) {
		(void)snprintf(f->order + len, room, "boot(%s) ", action->boot.kernel_image_path);
	} else if (action->type == ACTION_PUT_DRIVE) {
		(void)snprintf(f->order + len, room, "drive(%s) ", action->drive.drive_id);
	} else if (action->type == ACTION_PUT_NET) {
		(void)snprintf(f->order + len, room, "net(%s) ", action->net.iface_id);
	} else if (action->type == ACTION_PUT_VSOCK) {
		(void)snprintf(f->order + len, room, "vsock(%s) ", action->vsock.uds_path);
	} else if (action->type == ACTION_INSTANCE_START) {
		(void)snprintf(f->order + len, room, "start");
	} else {
		fail();
	}
}

static int apply(struct fake *f, const char *text, struct err *e)
{
	struct action_handler handler = {.handle = fake_handle, .ctx = f};
	size_t len = strlen(text);
	char *copy = malloc(len ? len : 1); /* unterminated, so that a read behind the end is seen */
	int rc;

	assert_non_null(copy);
	memcpy(copy, text, len);
	e->msg[0] = '\0';
	rc = config_file_apply_text(copy, len, &handler, e);
	free(copy);
	return rc;
}

static void expect_order(const char *text, const char *order)
{
	struct fake f = {.order = ""};
	struct err e;
	int rc = apply(&f, text, &e);

	assert_string_equal(e.msg, "");
	assert_int_equal(rc, 0);
	assert_string_equal(f.order, order);
}

/* @text is refused with @message, and nothing of it was applied. */
static void expect_refused(const char *text, const char *message)
{
	struct fake f = {.order = ""};
	struct err e;
	int rc = apply(&f, text, &e);

	assert_string_equal(e.msg, message);
	assert_int_equal(rc, -EINVAL);
	assert_string_equal(f.order, "");
}

#define BOOT "\"boot-source\":{\"kernel_image_path\":\"k\"}"
#define DRIVES "\"drives\":[]"
#define MIN BOOT "," DRIVES

static void test_smallest(void **state)
{
	(void)state;
	expect_order("{" MIN "}", "boot(k) start");
	expect_order(" \n{" DRIVES "," BOOT "}\n", "boot(k) start");
}

static void test_order_of_application(void **state)
{
	(void)state;
	expect_order("{\"vsock\":{\"guest_cid\":3,\"uds_path\":\"v\"},\"network-interfaces\":[{\"iface_id\":\"b\","
		     "\"host_dev_name\":\"t\"},{\"iface_id\":\"a\",\"tap_fd\":7}],\"drives\":[{\"drive_id\":\"d\","
		     "\"is_root_device\":false}]," BOOT "}",
		"boot(k) drive(d) net(b) net(a) vsock(v) start");
	expect_order("{\"drives\":[{\"drive_id\":\"b\",\"is_root_device\":false},{\"drive_id\":\"a\",\"is_root_"
		     "device\":true}]," BOOT
		     ",\"machine-config\":{\"vcpu_count\":2,\"mem_size_mib\":256},\"logger\":{\"level\":\"Debug\"}}",
		"logger machine boot(k) drive(b) drive(a) start");
}

/* The stock sample of the reference, which clients copy: nulls and empty arrays for what is not used. */
static void test_nulls_and_empty_sections(void **state)
{
	(void)state;
	expect_order("{" MIN ",\"machine-config\":null,\"cpu-config\":null,\"balloon\":null,\"network-interfaces\":[],"
		     "\"vsock\":null,"
		     "\"logger\":null,\"metrics\":null,\"mmds-config\":null,\"entropy\":null,\"pmem\":[],\"memory-"
		     "hotplug\":null}",
		"boot(k) start");
	expect_order("{" MIN ",\"network-interfaces\":null,\"pmem\":null,\"balloon\":[ ]}", "boot(k) start");
}

/* What GET /vm/config prints is a configuration file. */
static void test_printed_configuration_is_accepted(void **state)
{
	(void)state;
	expect_order("{\"balloon\":null,\"drives\":[{\"drive_id\":\"root\",\"partuuid\":null,\"is_root_device\":true,"
		     "\"cache_type\":\"Unsafe\",\"is_read_only\":true,\"path_on_host\":\"/"
		     "d\",\"rate_limiter\":{\"bandwidth\":null,"
		     "\"ops\":{\"size\":1,\"one_time_burst\":null,\"refill_time\":2}},\"io_engine\":\"Sync\","
		     "\"socket\":null}],"
		     "\"boot-source\":{\"kernel_image_path\":\"k\",\"initrd_path\":null,\"boot_args\":null},\"cpu-"
		     "config\":null,"
		     "\"logger\":null,\"machine-config\":{\"vcpu_count\":1,\"mem_size_mib\":128,\"smt\":false,"
		     "\"track_dirty_pages\":false,\"huge_pages\":\"None\"},\"metrics\":null,\"mmds-config\":null,"
		     "\"network-interfaces\":[],\"vsock\":null,\"entropy\":null,\"pmem\":[],\"memory-hotplug\":null}",
		"machine boot(k) drive(root) start");
}

static void test_unknown_sections_are_ignored(void **state)
{
	(void)state;
	expect_order("{" MIN ",\"serial\":{\"serial_out_path\":\"x\"},\"x\":[{}],\"x\":1}", "boot(k) start");
}

static void test_missing_sections(void **state)
{
	(void)state;
	expect_refused("{}", CONTENT "missing field `boot-source` at line 1 column 2 (it names the kernel to boot)");
	expect_refused("{\"drives\":[]}",
		CONTENT "missing field `boot-source` at line 1 column 13 (it names the kernel to boot)");
	expect_refused("{\n" BOOT "\n}",
		CONTENT "missing field `drives` at line 3 column 1 (`\"drives\": []` for a guest without disks)");
	expect_refused("{" DRIVES ",\"boot-source\":null}",
		CONTENT "boot-source: invalid type: null, expected struct BootSourceConfig at line 1 column 31");
	expect_refused("{" BOOT ",\"drives\":null}",
		CONTENT "drives: invalid type: null, expected a sequence at line 1 column 54");
	expect_refused("{" BOOT ",\"drives\":{}}",
		CONTENT "drives: invalid type: map, expected a sequence at line 1 column 50");
}

/* One wrong file for each field, named with its section. */
static void test_bad_fields(void **state)
{
	static const struct {
		const char *section, *message;
	} rows[] = {
		{"\"logger\":{\"level\":\"x\"}", "logger.level: unknown variant `x`, expected one of `Off`, `Trace`, "
						 "`Debug`, `Info`, `Warn`, `Warning`, `Error` "
						 "at line 2 column 21"},
		{"\"logger\":{\"log_path\":1}",
			"logger.log_path: invalid type: integer `1`, expected path string at line 2 column 22"},
		{"\"logger\":{\"show_level\":1}",
			"logger.show_level: invalid type: integer `1`, expected a boolean at line 2 column 24"},
		{"\"logger\":{\"show_log_origin\":1}",
			"logger.show_log_origin: invalid type: integer `1`, expected a boolean at line 2 column 29"},
		{"\"logger\":{\"module\":1}",
			"logger.module: invalid type: integer `1`, expected a string at line 2 column 20"},
		{"\"logger\":[]", "logger: invalid type: sequence, expected struct LoggerConfig at line 2 column 9"},
		{"\"machine-config\":{}", "machine-config: missing field `vcpu_count` at line 2 column 19"},
		{"\"machine-config\":{\"vcpu_count\":1}",
			"machine-config: missing field `mem_size_mib` at line 2 column 33"},
		{"\"machine-config\":{\"vcpu_count\":999}",
			"machine-config.vcpu_count: invalid value: integer `999`, expected u8 at line 2 column 34"},
		{"\"machine-config\":{\"mem_size_mib\":\"1\"}",
			"machine-config.mem_size_mib: invalid type: string \"1\", expected usize at line 2 column 36"},
		{"\"machine-config\":{\"smt\":null}",
			"machine-config.smt: invalid type: null, expected a boolean at line 2 column 28"},
		{"\"machine-config\":{\"track_dirty_pages\":3}", "machine-config.track_dirty_pages: invalid type: "
								 "integer `3`, expected a boolean at line 2 column 39"},
		{"\"machine-config\":{\"huge_pages\":\"4M\"}",
			"machine-config.huge_pages: unknown variant `4M`, expected one of "
			"`None`, `Transparent`, `2M` at line 2 column 35"},
		{"\"machine-config\":{\"x\":0}", "machine-config: unknown field `x`, expected one of `vcpu_count`, "
						 "`mem_size_mib`, `smt`, `cpu_template`, "
						 "`track_dirty_pages`, `huge_pages` at line 2 column 21"},
		{"\"machine-config\":{},\"machine-config\":{}", "duplicate field `machine-config` at line 2 column 36"},
		{"\"network-interfaces\":{}", "network-interfaces: invalid type: map, expected a sequence at line 2 column 21"},
		{"\"network-interfaces\":[{\"iface_id\":\"a\",\"host_dev_name\":\"t\"},{}]",
			"network-interfaces[1]: missing field `iface_id` at line 2 column 61"},
		{"\"network-interfaces\":[{\"iface_id\":\"a\",\"mtu\":65536}]",
			"network-interfaces[0].mtu: invalid value: integer `65536`, expected u16 at line 2 column 49"},
		{"\"vsock\":{\"guest_cid\":3}", "vsock: missing field `uds_path` at line 2 column 23"},
		{"\"vsock\":[]", "vsock: invalid type: sequence, expected struct VsockDeviceConfig at line 2 column 8"},
		{"\"metrics\":{\"metrics_path\":\"m\"}", "metrics: not available in this version of Mayfly"},
		{"\"mmds-config\":{}", "mmds-config: not available in this version of Mayfly"},
		{"\"cpu-config\":\"path\"", "cpu-config: not available in this version of Mayfly"},
		{"\"balloon\":{\"amount_mib\":1}", "balloon: Mayfly does not have this device"},
		{"\"entropy\":{}", "entropy: Mayfly does not have this device"},
		{"\"pmem\":[{}]", "pmem: Mayfly does not have this device"},
		{"\"memory-hotplug\":{}", "memory-hotplug: Mayfly does not have this device"},
		{"\"drives\":[]", "duplicate field `drives` at line 2 column 8"},
	};
	char text[512], message[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		(void)snprintf(text, sizeof(text), "{" MIN ",\n%s}", rows[i].section);
		(void)snprintf(message, sizeof(message), CONTENT "%s", rows[i].message);
		expect_refused(text, message);
	}
}

static void test_bad_boot_source(void **state)
{
	(void)state;
	expect_refused("{\"boot-source\":{}," DRIVES "}",
		CONTENT "boot-source: missing field `kernel_image_path` at line 1 column 17");
	expect_refused("{\"boot-source\":{\"kernel_image_path\":1}," DRIVES "}", CONTENT
		"boot-source.kernel_image_path: invalid type: integer `1`, expected a string at line 1 column 37");
	expect_refused("{\"boot-source\":{\"initrd_path\":1}," DRIVES "}",
		CONTENT "boot-source.initrd_path: invalid type: integer `1`, expected a string at line 1 column 31");
	expect_refused("{\"boot-source\":{\"boot_args\":1}," DRIVES "}",
		CONTENT "boot-source.boot_args: invalid type: integer `1`, expected a string at line 1 column 29");
}

static void test_bad_drives(void **state)
{
	(void)state;
	expect_refused("{" BOOT ",\"drives\":[{\"drive_id\":\"a\",\"is_root_device\":true},{\"drive_id\":5}]}",
		CONTENT "drives[1].drive_id: invalid type: integer `5`, expected a string at line 1 column 103");
	expect_refused("{" BOOT ",\"drives\":[1]}",
		CONTENT "drives[0]: invalid type: integer `1`, expected struct BlockDeviceConfig at line 1 column 52");
	expect_refused("{" BOOT ",\"drives\":[{\"drive_id\":\"a\"}]}",
		CONTENT "drives[0]: missing field `is_root_device` at line 1 column 67");
}

static void test_syntax(void **state)
{
	(void)state;
	expect_refused("", CONTENT "EOF while parsing a value at line 1 column 0");
	expect_refused("{" MIN, CONTENT "EOF while parsing an object at line 1 column 52");
	expect_refused("{" MIN "}}", CONTENT "trailing characters at line 1 column 54");
	expect_refused("[]", CONTENT "invalid type: sequence, expected struct VmmConfig at line 1 column 0");
}

static void test_depth_is_bounded(void **state)
{
	char *text = malloc(100001);

	(void)state;
	assert_non_null(text);
	memset(text, '[', 100000);
	text[100000] = '\0';
	expect_refused(text, CONTENT "recursion limit exceeded at line 1 column 129");
	free(text);
}

static void test_too_many_drives(void **state)
{
	char text[8192] = "{" BOOT ",\"drives\":[";

	(void)state;
	for (int i = 0; i <= CONFIG_MAX_DRIVES; i++) {
		size_t len = strlen(text);

		(void)snprintf(text + len, sizeof(text) - len, "%s{\"drive_id\":\"d%d\",\"is_root_device\":false}",
			i ? "," : "", i);
	}
	{
		size_t len = strlen(text);

		(void)snprintf(text + len, sizeof(text) - len, "]}");
	}
	expect_refused(text, CONTENT "drives: more than 32 elements");
}

static void test_refusals_of_the_handler(void **state)
{
	static const char *const text =
		"{\"drives\":[{\"drive_id\":\"a\",\"is_root_device\":true}]," BOOT
		",\"machine-config\":{\"vcpu_count\":2,\n  \"mem_size_mib\":256},\"logger\":{}}";
	static const struct {
		enum action_type refuse;
		const char *where, *given, *order;
	} rows[] = {
		{ACTION_PUT_LOGGER, "logger", "{}", "logger "},
		{ACTION_PUT_MACHINE, "machine-config", "{\"vcpu_count\":2, \"mem_size_mib\":256}", "logger machine "},
		{ACTION_PUT_BOOT_SOURCE, "boot-source", "{\"kernel_image_path\":\"k\"}", "logger machine boot(k) "},
		{ACTION_PUT_DRIVE, "drives[0]", "{\"drive_id\":\"a\",\"is_root_device\":true}",
			"logger machine boot(k) drive(a) "},
	};
	char message[256];
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fake f = {.refuse = rows[i].refuse, .refuses = true};

		assert_int_equal(apply(&f, text, &e), -EINVAL);
		(void)snprintf(message, sizeof(message), CONTENT "%s: Some error: the reason. (given: %s)",
			rows[i].where, rows[i].given);
		assert_string_equal(e.msg, message);
		assert_string_equal(f.order, rows[i].order);
	}
	{
		struct fake f = {.refuse = ACTION_INSTANCE_START, .refuses = true};

		assert_int_equal(apply(&f, text, &e), -ECANCELED);
		assert_string_equal(e.msg, "Could not Start MicroVM from one single json: Some error: the reason.");
	}
}

static void test_long_sections_are_cut(void **state)
{
	struct fake f = {.refuse = ACTION_PUT_BOOT_SOURCE, .refuses = true};
	char text[2000];
	struct err e;

	(void)state;
	(void)snprintf(text, sizeof(text), "{\"boot-source\":{\"kernel_image_path\":\"%01500d\"}," DRIVES "}", 0);
	assert_int_equal(apply(&f, text, &e), -EINVAL);
	assert_true(strlen(e.msg) < 320);
	assert_non_null(strstr(e.msg, "(given: {\"kernel_image_path\":\"000"));
	assert_non_null(strstr(e.msg, "000...)"));
}

static void test_nested_fields_are_named(void **state)
{
	(void)state;
	expect_refused("{" BOOT ",\"drives\":[{\"drive_id\":\"a\",\"is_root_device\":true,\"rate_limiter\":{\"ops\":{"
				"\"size\":\"x\"}}}]}",
		CONTENT
		"drives[0].rate_limiter.ops.size: invalid type: string \"x\", expected u64 at line 1 column 122");
	expect_refused(
		"{" BOOT
		",\"drives\":[{\"drive_id\":\"a\",\"is_root_device\":true,\"rate_limiter\":{\"ops\":{\"size\":1}}}]}",
		CONTENT "drives[0].rate_limiter.ops: missing field `refill_time` at line 1 column 121");
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static int apply_path(const char *path, struct err *e)
{
	struct fake f = {.order = ""};
	struct action_handler handler = {.handle = fake_handle, .ctx = &f};

	e->msg[0] = '\0';
	return config_file_apply(path, &handler, e);
}

static void make_file(char *path, const char *text)
{
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	(void)close(fd);
}

static void test_file(void **state)
{
	char path[] = "/tmp/mayfly-test-config-XXXXXX";
	struct err e;

	(void)state;
	make_file(path, "{" MIN "}");
	assert_int_equal(apply_path(path, &e), 0);
	(void)unlink(path);
}

static void test_unreadable_files(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(apply_path("/nonexistent/config", &e), -ENOENT);
	assert_string_equal(e.msg, "Unable to open or read from the configuration file: '/nonexistent/config': "
				   "No such file or directory (os error 2)");
	assert_int_equal(apply_path("/tmp", &e), -EISDIR);
}

/* A 100 MB file is refused by its size alone, in the time of a stat. */
static void test_huge_file_is_not_read(void **state)
{
	char path[] = "/tmp/mayfly-test-config-XXXXXX", message[256];
	struct err e;

	(void)state;
	make_file(path, "{");
	assert_int_equal(truncate(path, 100 << 20), 0);
	assert_int_equal(apply_path(path, &e), -EFBIG);
	(void)snprintf(message, sizeof(message),
		CONTENT "'%s' has 104857600 bytes, more than the 4194304 that a configuration file may have", path);
	assert_string_equal(e.msg, message);
	(void)unlink(path);
}

static void test_endless_file_is_bounded(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(apply_path("/dev/zero", &e), -EFBIG);
	assert_string_equal(
		e.msg, CONTENT "'/dev/zero' has more than the 4194304 bytes that a configuration file may have");
}

static void test_pipe(void **state)
{
	struct err e;
	char path[32];
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(write(fds[1], "{" MIN "}", strlen("{" MIN "}")), strlen("{" MIN "}"));
	(void)close(fds[1]);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[0]);
	assert_int_equal(apply_path(path, &e), 0);
	(void)close(fds[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_smallest),
		cmocka_unit_test(test_order_of_application),
		cmocka_unit_test(test_nulls_and_empty_sections),
		cmocka_unit_test(test_printed_configuration_is_accepted),
		cmocka_unit_test(test_unknown_sections_are_ignored),
		cmocka_unit_test(test_missing_sections),
		cmocka_unit_test(test_bad_fields),
		cmocka_unit_test(test_bad_boot_source),
		cmocka_unit_test(test_bad_drives),
		cmocka_unit_test(test_nested_fields_are_named),
		cmocka_unit_test(test_syntax),
		cmocka_unit_test(test_depth_is_bounded),
		cmocka_unit_test(test_too_many_drives),
		cmocka_unit_test(test_refusals_of_the_handler),
		cmocka_unit_test(test_long_sections_are_cut),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_unreadable_files),
		cmocka_unit_test(test_huge_file_is_not_read),
		cmocka_unit_test(test_endless_file_is_bounded),
		cmocka_unit_test(test_pipe),
	};

	log_set_level(LOG_OFF);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
