/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Field tables, bodies and their printed form, against CONTRACT.md sections 2, 4 and 8: for every field of every
 * resource one body that is right and one that is wrong, with the whole message.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api-socket/action.h"
#include "api-socket/body.h"
#include "api-socket/config.h"
#include "api-socket/config_fields.h"
#include "api-socket/json.h"
#include "vmm/base/log.h"

/* Room for the struct of any table. */
union object {
	struct config_rate_limiter limiter;
	struct config_boot_source boot;
	struct config_drive drive;
	struct config_net net;
	struct config_vsock vsock;
	struct config_machine machine;
	struct action_machine_patch patch;
	struct config_logger logger;
	struct config_serial serial;
	struct config_action action;
	struct config_vm_state state;
};

static int parse(enum config_table table, const char *text, union object *out, struct body_fault *fault)
{
	size_t len = strlen(text);
	char *copy = malloc(len ? len : 1); /* unterminated, so that a read behind the end is seen */
	int rc;

	assert_non_null(copy);
	memcpy(copy, text, len);
	memset(out, 0, sizeof(*out));
	fault->msg[0] = '\0';
	rc = body_parse(copy, len, table, out, fault);
	free(copy);
	return rc;
}

struct row {
	enum config_table table;
	const char *text, *fault; /* NULL: accepted */
};

static void check_rows(const struct row *row, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct body_fault fault;
		union object object;
		int rc = parse(row[i].table, row[i].text, &object, &fault);

		if (row[i].fault) {
			assert_string_equal(fault.msg, row[i].fault);
			assert_int_not_equal(rc, 0);
		} else {
			assert_string_equal(fault.msg, "");
			assert_int_equal(rc, 0);
		}
		config_fini(row[i].table, &object);
	}
}

#define CHECK(rows) check_rows(rows, ARRAY_SIZE(rows))

static void test_syntax(void **state)
{
	static const struct row rows[] = {
		{CONFIG_SERIAL, "", "EOF while parsing a value at line 1 column 0"},
		{CONFIG_SERIAL, "  ", "EOF while parsing a value at line 1 column 2"},
		{CONFIG_SERIAL, "foo", "expected ident at line 1 column 2"},
		{CONFIG_SERIAL, "x", "expected value at line 1 column 1"},
		{CONFIG_SERIAL, "nul", "EOF while parsing a value at line 1 column 3"},
		{CONFIG_SERIAL, "{", "EOF while parsing an object at line 1 column 1"},
		{CONFIG_SERIAL, "{\"a\"", "EOF while parsing an object at line 1 column 4"},
		{CONFIG_SERIAL, "{\"a\":", "EOF while parsing a value at line 1 column 5"},
		{CONFIG_SERIAL, "{\"a\":1", "EOF while parsing an object at line 1 column 6"},
		{CONFIG_SERIAL, "{\"a\":1,", "EOF while parsing a value at line 1 column 7"},
		{CONFIG_SERIAL, "{\"a\":1,}", "trailing comma at line 1 column 8"},
		{CONFIG_SERIAL, "{\"a\" 1}", "expected `:` at line 1 column 6"},
		{CONFIG_SERIAL, "{\"a\":1 \"b\":2}", "expected `,` or `}` at line 1 column 8"},
		{CONFIG_SERIAL, "{1:2}", "key must be a string at line 1 column 2"},
		{CONFIG_SERIAL, "{,}", "key must be a string at line 1 column 2"},
		{CONFIG_SERIAL, "{} x", "trailing characters at line 1 column 4"},
		{CONFIG_SERIAL, "{}{}", "trailing characters at line 1 column 3"},
		{CONFIG_SERIAL, "{\n\n \"a\"\n}", "expected `:` at line 4 column 1"},
		{CONFIG_SERIAL, "{\"a\":[1,2", "EOF while parsing a list at line 1 column 9"},
		{CONFIG_SERIAL, "{\"a\":[1,]}", "trailing comma at line 1 column 9"},
		{CONFIG_SERIAL, "{\"a\":[1 2]}", "expected `,` or `]` at line 1 column 9"},
		{CONFIG_SERIAL, "{\"a\":[}", "expected value at line 1 column 7"},
		{CONFIG_SERIAL, "{\"a\":01}", "invalid number at line 1 column 7"},
		{CONFIG_SERIAL, "{\"a\":-}", "invalid number at line 1 column 7"},
		{CONFIG_SERIAL, "{\"a\":1.}", "invalid number at line 1 column 8"},
		{CONFIG_SERIAL, "{\"a\":1e+}", "invalid number at line 1 column 9"},
		{CONFIG_SERIAL, "{\"a\":+1}", "expected value at line 1 column 6"},
		{CONFIG_SERIAL, "{\"a", "EOF while parsing a string at line 1 column 3"},
		{CONFIG_SERIAL, "{\"a\\", "EOF while parsing a string at line 1 column 4"},
		{CONFIG_SERIAL, "{\"\\x\":1}", "invalid escape at line 1 column 4"},
		{CONFIG_SERIAL, "{\"\\u12g4\":1}", "invalid escape at line 1 column 7"},
		{CONFIG_SERIAL, "{\"\\udc00\":1}", "lone leading surrogate in hex escape at line 1 column 8"},
		{CONFIG_SERIAL, "{\"\\ud800x\":1}", "unexpected end of hex escape at line 1 column 9"},
		{CONFIG_SERIAL, "{\"\\u0000\":1}", "NUL character in a string at line 1 column 8"},
		{CONFIG_SERIAL, "{\"\n\":1}",
			"control character (\\u0000-\\u001F) found while parsing a string at line 2 column 0"},
		{CONFIG_SERIAL, "{\"\xff\":1}", "invalid unicode code point at line 1 column 4"},
		{CONFIG_SERIAL, "{\"\xc0\xaf\":1}", "invalid unicode code point at line 1 column 5"},
		{CONFIG_SERIAL, "{\"\xed\xa0\x80\":1}", "invalid unicode code point at line 1 column 6"},
		{CONFIG_SERIAL, "[]", "invalid type: sequence, expected struct SerialConfig at line 1 column 0"},
		{CONFIG_SERIAL, "5", "invalid type: integer `5`, expected struct SerialConfig at line 1 column 1"},
		{CONFIG_SERIAL, "\"x\"", "invalid type: string \"x\", expected struct SerialConfig at line 1 column 3"},
		{CONFIG_SERIAL, "null", "invalid type: null, expected struct SerialConfig at line 1 column 4"},
		{CONFIG_SERIAL, "1.5",
			"invalid type: floating point `1.5`, expected struct SerialConfig at line 1 column 3"},
		{CONFIG_SERIAL, " {} \r\n\t", NULL},
		{CONFIG_SERIAL, "{\"serial_out\\u005fpath\":null}", NULL},
	};

	(void)state;
	CHECK(rows);
}

static void test_nesting_is_bounded(void **state)
{
	char text[2 * JSON_DEPTH_MAX + 8];
	struct json_text t = {.data = text, .len = 2 * JSON_DEPTH_MAX};
	struct json_fault fault;

	(void)state;
	memset(text, '[', JSON_DEPTH_MAX);
	memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
	assert_true(json_check(&t, &fault));
	memset(text, '[', sizeof(text));
	t.len = JSON_DEPTH_MAX + 1;
	assert_false(json_check(&t, &fault));
	assert_string_equal(fault.what, "recursion limit exceeded");
	assert_int_equal(fault.at, JSON_DEPTH_MAX + 1);
}

#define MACHINE_FIELDS                                                                                                 \
	"expected one of `vcpu_count`, `mem_size_mib`, `smt`, `cpu_template`, `track_dirty_pages`, `huge_pages`"
#define TEMPLATES "expected one of `None`, `C3`, `T2`, `T2S`, `T2CL`, `T2A`"

static void test_machine(void **state)
{
	static const struct row rows[] = {
		{CONFIG_MACHINE, "{\"mem_size_mib\": 128}", "missing field `vcpu_count` at line 1 column 21"},
		{CONFIG_MACHINE, "{\"vcpu_count\": 1}", "missing field `mem_size_mib` at line 1 column 17"},
		{CONFIG_MACHINE, "{}", "missing field `vcpu_count` at line 1 column 2"},
		{CONFIG_MACHINE, "{\n \"vcpu_count\": 1\n}", "missing field `mem_size_mib` at line 3 column 1"},
		{CONFIG_MACHINE, "{\"vcpu_count\": 256, \"mem_size_mib\": 1}",
			"invalid value: integer `256`, expected u8 at line 1 column 18"},
		{CONFIG_MACHINE, "{\"vcpu_count\": -5, \"mem_size_mib\": 1}",
			"invalid value: integer `-5`, expected u8 at line 1 column 17"},
		{CONFIG_MACHINE, "{\"vcpu_count\": \"two\"}",
			"invalid type: string \"two\", expected u8 at line 1 column 20"},
		{CONFIG_MACHINE, "{\"vcpu_count\": 1.5}",
			"invalid type: floating point `1.5`, expected u8 at line 1 column 18"},
		{CONFIG_MACHINE, "{\"vcpu_count\": null}", "invalid type: null, expected u8 at line 1 column 19"},
		{CONFIG_MACHINE, "{\"vcpu_count\": true}",
			"invalid type: boolean `true`, expected u8 at line 1 column 19"},
		{CONFIG_MACHINE, "{\"vcpu_count\": {}}", "invalid type: map, expected u8 at line 1 column 15"},
		{CONFIG_MACHINE, "{\"vcpu_count\": []}", "invalid type: sequence, expected u8 at line 1 column 15"},
		{CONFIG_MACHINE, "{\"mem_size_mib\": \"128\"}",
			"invalid type: string \"128\", expected usize at line 1 column 22"},
		{CONFIG_MACHINE, "{\"mem_size_mib\": 18446744073709551616}",
			"invalid value: integer `18446744073709551616`, expected usize at line 1 column 37"},
		{CONFIG_MACHINE, "{\"smt\": 1}", "invalid type: integer `1`, expected a boolean at line 1 column 9"},
		{CONFIG_MACHINE, "{\"smt\": null}", "invalid type: null, expected a boolean at line 1 column 12"},
		{CONFIG_MACHINE, "{\"track_dirty_pages\": null}",
			"invalid type: null, expected a boolean at line 1 column 26"},
		{CONFIG_MACHINE, "{\"cpu_template\": \"T9\"}",
			"unknown variant `T9`, " TEMPLATES " at line 1 column 21"},
		{CONFIG_MACHINE, "{\"huge_pages\": \"1G\"}",
			"unknown variant `1G`, expected one of `None`, `Transparent`, `2M` at line 1 column 19"},
		{CONFIG_MACHINE, "{\"huge_pages\": null}", "expected value at line 1 column 16"},
		{CONFIG_MACHINE, "{\"ht_enabled\": true}",
			"unknown field `ht_enabled`, " MACHINE_FIELDS " at line 1 column 13"},
		{CONFIG_MACHINE, "{\"smt\":true,\"smt\":true}", "duplicate field `smt` at line 1 column 17"},
		{CONFIG_MACHINE, "{\"smt\":true,\"s\\u006dt\":5}", "duplicate field `smt` at line 1 column 22"},
		{CONFIG_MACHINE, "{\"vcpu_count\":1,\"mem_size_mib\":18446744073709551615}", NULL},
		{CONFIG_MACHINE, "{\"vcpu_count\":0,\"mem_size_mib\":0,\"cpu_template\":null}", NULL},
	};
	struct body_fault fault;
	union object o;

	(void)state;
	CHECK(rows);
	assert_int_equal(
		parse(CONFIG_MACHINE,
			"{\"vcpu_count\":2,\"mem_size_mib\":18446744073709551615,\"smt\":true,\"cpu_template\":\"T2A\","
			"\"track_dirty_pages\":true,\"huge_pages\":\"2M\"}",
			&o, &fault),
		0);
	assert_int_equal(o.machine.vcpu_count, 2);
	assert_true(o.machine.mem_size_mib == UINT64_MAX);
	assert_true(o.machine.smt && o.machine.track_dirty_pages && o.machine.has_cpu_template);
	assert_int_equal(o.machine.cpu_template, CPU_TEMPLATE_T2A);
	assert_int_equal(o.machine.huge_pages, HUGE_PAGES_2M);
	assert_int_equal(
		parse(CONFIG_MACHINE, "{\"vcpu_count\":2,\"mem_size_mib\":2,\"cpu_template\":\"None\"}", &o, &fault),
		0);
	assert_true(o.machine.has_cpu_template);
	assert_int_equal(o.machine.huge_pages, HUGE_PAGES_NONE);
}

static void test_machine_patch(void **state)
{
	static const struct row rows[] = {
		{CONFIG_MACHINE_PATCH, "{}", NULL},
		{CONFIG_MACHINE_PATCH,
			"{\"vcpu_count\":null,\"mem_size_mib\":null,\"smt\":null,\"cpu_template\":null,"
			"\"track_dirty_pages\":null,\"huge_pages\":null}",
			NULL},
		{CONFIG_MACHINE_PATCH, "{\"vcpu_count\":\"1\"}",
			"invalid type: string \"1\", expected u8 at line 1 column 17"},
		{CONFIG_MACHINE_PATCH, "{\"mem_size_mib\":-1}",
			"invalid value: integer `-1`, expected usize at line 1 column 18"},
		{CONFIG_MACHINE_PATCH, "{\"smt\":\"x\"}",
			"invalid type: string \"x\", expected a boolean at line 1 column 10"},
		{CONFIG_MACHINE_PATCH, "{\"cpu_template\":\"x\"}",
			"unknown variant `x`, " TEMPLATES " at line 1 column 19"},
		{CONFIG_MACHINE_PATCH, "{\"track_dirty_pages\":0}",
			"invalid type: integer `0`, expected a boolean at line 1 column 22"},
		{CONFIG_MACHINE_PATCH, "{\"huge_pages\":\"x\"}",
			"unknown variant `x`, expected one of `None`, `Transparent`, `2M` at line 1 column 17"},
		{CONFIG_MACHINE_PATCH, "{\"vcpu\":1}", "unknown field `vcpu`, " MACHINE_FIELDS " at line 1 column 7"},
	};
	struct body_fault fault;
	union object o;

	(void)state;
	CHECK(rows);
	assert_int_equal(parse(CONFIG_MACHINE_PATCH, "{\"smt\":false,\"mem_size_mib\":512}", &o, &fault), 0);
	assert_true(o.patch.has_smt && o.patch.has_mem_size_mib && !o.patch.has_vcpu_count && !o.patch.has_huge_pages);
	assert_true(!o.patch.has_track_dirty_pages && !o.patch.machine.has_cpu_template && !o.patch.machine.smt);
	assert_int_equal(o.patch.machine.mem_size_mib, 512);
}

static void test_boot_source(void **state)
{
#define BOOT "{\"kernel_image_path\":\"/k\","
	static const struct row rows[] = {
		{CONFIG_BOOT_SOURCE, "{}", "missing field `kernel_image_path` at line 1 column 2"},
		{CONFIG_BOOT_SOURCE, "{\"kernel_image_path\":null}",
			"invalid type: null, expected a string at line 1 column 25"},
		{CONFIG_BOOT_SOURCE, BOOT "\"initrd_path\":1}",
			"invalid type: integer `1`, expected a string at line 1 column 41"},
		{CONFIG_BOOT_SOURCE, BOOT "\"boot_args\":[]}",
			"invalid type: sequence, expected a string at line 1 column 38"},
		{CONFIG_BOOT_SOURCE, BOOT "\"kernel\":1}",
			"unknown field `kernel`, expected one of `kernel_image_path`, `initrd_path`, `boot_args` at "
			"line 1 column 34"},
		{CONFIG_BOOT_SOURCE, BOOT "\"initrd_path\":null,\"boot_args\":null}", NULL},
	};
	struct body_fault fault;
	union object o;

	(void)state;
	CHECK(rows);
	assert_int_equal(
		parse(CONFIG_BOOT_SOURCE, BOOT "\"boot_args\":\"a \\\"b\\u00e4\\ud83d\\ude00\\/\"}", &o, &fault), 0);
	assert_string_equal(o.boot.kernel_image_path, "/k");
	assert_string_equal(o.boot.boot_args, "a \"b\xc3\xa4\xf0\x9f\x98\x80/");
	assert_null(o.boot.initrd_path);
	config_boot_source_fini(&o.boot);
	assert_null(o.boot.kernel_image_path);
	config_boot_source_fini(&o.boot);
}

#define DRIVE_FIELDS                                                                                                   \
	"expected one of `drive_id`, `partuuid`, `is_root_device`, `cache_type`, `is_read_only`, `path_on_host`, "     \
	"`rate_limiter`, `io_engine`, `socket`, `delta_path`"

static void test_drive(void **state)
{
	static const struct row rows[] = {
		{CONFIG_DRIVE, "{\"is_root_device\":true}", "missing field `drive_id` at line 1 column 23"},
		{CONFIG_DRIVE, "{\"drive_id\":\"a\"}", "missing field `is_root_device` at line 1 column 16"},
		{CONFIG_DRIVE, "{\"drive_id\":1}", "invalid type: integer `1`, expected a string at line 1 column 13"},
		{CONFIG_DRIVE, "{\"is_root_device\":null}",
			"invalid type: null, expected a boolean at line 1 column 22"},
		{CONFIG_DRIVE, "{\"is_read_only\":\"no\"}",
			"invalid type: string \"no\", expected a boolean at line 1 column 20"},
		{CONFIG_DRIVE, "{\"path_on_host\":false}",
			"invalid type: boolean `false`, expected a string at line 1 column 21"},
		{CONFIG_DRIVE, "{\"partuuid\":{}}", "invalid type: map, expected a string at line 1 column 12"},
		{CONFIG_DRIVE, "{\"cache_type\":null}", "expected value at line 1 column 15"},
		{CONFIG_DRIVE, "{\"cache_type\":\"unsafe\"}",
			"unknown variant `unsafe`, expected `Unsafe` or `Writeback` at line 1 column 22"},
		{CONFIG_DRIVE, "{\"io_engine\":\"x\"}",
			"unknown variant `x`, expected `Async` or `Sync` at line 1 column 16"},
		{CONFIG_DRIVE, "{\"socket\":0}", "invalid type: integer `0`, expected a string at line 1 column 11"},
		{CONFIG_DRIVE, "{\"rate_limiter\":1}",
			"invalid type: integer `1`, expected struct RateLimiterConfig at line 1 column 17"},
		{CONFIG_DRIVE, "{\"foo\":1}", "unknown field `foo`, " DRIVE_FIELDS " at line 1 column 6"},
		{CONFIG_DRIVE,
			"{\"drive_id\":\"a\",\"is_root_device\":false,\"is_read_only\":null,\"path_on_host\":null,"
			"\"partuuid\":null,"
			"\"io_engine\":null,\"rate_limiter\":null,\"socket\":null}",
			NULL},
	};
	struct body_fault fault;
	union object o;

	(void)state;
	CHECK(rows);
	assert_int_equal(
		parse(CONFIG_DRIVE,
			"{\"drive_id\":\"r\",\"is_root_device\":true,\"is_read_only\":false,\"path_on_host\":\"/d\","
			"\"partuuid\":\"u\",\"cache_type\":\"Writeback\",\"io_engine\":\"Async\",\"socket\":\"/s\","
			"\"rate_limiter\":{\"ops\":{\"size\":1,\"refill_time\":2,\"one_time_burst\":3}}}",
			&o, &fault),
		0);
	assert_string_equal(o.drive.drive_id, "r");
	assert_string_equal(o.drive.path_on_host, "/d");
	assert_string_equal(o.drive.partuuid, "u");
	assert_string_equal(o.drive.socket, "/s");
	assert_true(
		o.drive.is_root_device && o.drive.has_is_read_only && !o.drive.is_read_only && o.drive.has_io_engine);
	assert_int_equal(o.drive.cache_type, CACHE_WRITEBACK);
	assert_int_equal(o.drive.io_engine, IO_ENGINE_ASYNC);
	assert_true(o.drive.rate_limiter.present && o.drive.rate_limiter.ops.present);
	assert_false(o.drive.rate_limiter.bandwidth.present);
	assert_int_equal(o.drive.rate_limiter.ops.size, 1);
	assert_int_equal(o.drive.rate_limiter.ops.refill_time_ms, 2);
	assert_int_equal(o.drive.rate_limiter.ops.one_time_burst, 3);
	config_drive_fini(&o.drive);
}

static void test_drive_patch(void **state)
{
#define PATCH_FIELDS "expected one of `drive_id`, `path_on_host`, `rate_limiter`, `delta_path`"
	static const struct row rows[] = {
		{CONFIG_DRIVE_PATCH, "{}", "missing field `drive_id` at line 1 column 2"},
		{CONFIG_DRIVE_PATCH, "{\"is_read_only\":true}",
			"unknown field `is_read_only`, " PATCH_FIELDS " at line 1 column 15"},
		{CONFIG_DRIVE_PATCH, "{\"io_engine\":\"Sync\"}",
			"unknown field `io_engine`, " PATCH_FIELDS " at line 1 column 12"},
		{CONFIG_DRIVE_PATCH, "{\"is_root_device\":true}",
			"unknown field `is_root_device`, " PATCH_FIELDS " at line 1 column 17"},
		{CONFIG_DRIVE_PATCH, "{\"cache_type\":\"Unsafe\"}",
			"unknown field `cache_type`, " PATCH_FIELDS " at line 1 column 13"},
		{CONFIG_DRIVE_PATCH, "{\"partuuid\":\"x\"}",
			"unknown field `partuuid`, " PATCH_FIELDS " at line 1 column 11"},
		{CONFIG_DRIVE_PATCH, "{\"path_on_host\":1}",
			"invalid type: integer `1`, expected a string at line 1 column 17"},
		{CONFIG_DRIVE_PATCH, "{\"drive_id\":\"a\",\"path_on_host\":null,\"rate_limiter\":null}", NULL},
		{CONFIG_DRIVE_PATCH, "{\"drive_id\":\"a\",\"rate_limiter\":{}}", NULL},
	};

	(void)state;
	CHECK(rows);
}

static void test_rate_limiter(void **state)
{
	static const struct row rows[] = {
		{CONFIG_RATE_LIMITER, "{}", NULL},
		{CONFIG_RATE_LIMITER, "{\"bandwidth\":null,\"ops\":null}", NULL},
		{CONFIG_RATE_LIMITER, "{\"x\":null}",
			"unknown field `x`, expected `bandwidth` or `ops` at line 1 column 4"},
		{CONFIG_RATE_LIMITER, "{\"ops\":[]}",
			"invalid type: sequence, expected struct TokenBucketConfig at line 1 column 7"},
		{CONFIG_RATE_LIMITER, "{\"ops\":{\"size\":1}}", "missing field `refill_time` at line 1 column 17"},
		{CONFIG_RATE_LIMITER, "{\"ops\":{\"refill_time\":1}}", "missing field `size` at line 1 column 24"},
		{CONFIG_RATE_LIMITER, "{\"ops\":{\"size\":-1}}",
			"invalid value: integer `-1`, expected u64 at line 1 column 17"},
		{CONFIG_RATE_LIMITER, "{\"ops\":{\"size\":18446744073709551616}}",
			"invalid value: integer `18446744073709551616`, expected u64 at line 1 column 35"},
		{CONFIG_RATE_LIMITER, "{\"ops\":{\"refill_time\":\"1\"}}",
			"invalid type: string \"1\", expected u64 at line 1 column 25"},
		{CONFIG_RATE_LIMITER, "{\"ops\":{\"one_time_burst\":1e3}}",
			"invalid type: floating point `1e3`, expected u64 at line 1 column 28"},
		{CONFIG_RATE_LIMITER, "{\"ops\":{\"size\":1,\"size\":1}}",
			"duplicate field `size` at line 1 column 23"},
		/* Unknown fields of a bucket are ignored, also twice. */
		{CONFIG_RATE_LIMITER,
			"{\"ops\":{\"size\":1,\"refill_time\":1,\"x\":{\"y\":[]},\"x\":1,\"one_time_burst\":null}}",
			NULL},
		{CONFIG_RATE_LIMITER, "{\"ops\":{\"size\":18446744073709551615,\"refill_time\":0}}", NULL},
		/* The first value of a repeated key must not be looked for in the second. */
		{CONFIG_RATE_LIMITER, "{\"ops\":\"\\\"a\\\":1 }\",\"ops\":{\"size\":1}}",
			"invalid type: string \"\\\"a\\\":1 }\", expected struct TokenBucketConfig at line 1 column "
			"18"},
	};

	(void)state;
	CHECK(rows);
}

static void test_logger(void **state)
{
#define LEVELS "expected one of `Off`, `Trace`, `Debug`, `Info`, `Warn`, `Warning`, `Error`"
	static const struct row rows[] = {
		{CONFIG_LOGGER, "{}", NULL},
		{CONFIG_LOGGER,
			"{\"log_path\":null,\"level\":null,\"show_level\":null,\"show_log_origin\":null,\"module\":"
			"null}",
			NULL},
		{CONFIG_LOGGER, "{\"log_path\":1}",
			"invalid type: integer `1`, expected path string at line 1 column 13"},
		{CONFIG_LOGGER, "{\"level\":\"loud\"}", "unknown variant `loud`, " LEVELS " at line 1 column 15"},
		{CONFIG_LOGGER, "{\"level\":1}", "expected value at line 1 column 10"},
		{CONFIG_LOGGER, "{\"show_level\":1}",
			"invalid type: integer `1`, expected a boolean at line 1 column 15"},
		{CONFIG_LOGGER, "{\"show_log_origin\":\"\"}",
			"invalid type: string \"\", expected a boolean at line 1 column 21"},
		{CONFIG_LOGGER, "{\"module\":true}",
			"invalid type: boolean `true`, expected a string at line 1 column 14"},
		{CONFIG_LOGGER, "{\"log_fifo\":\"x\"}",
			"unknown field `log_fifo`, expected one of `log_path`, `level`, `show_level`, "
			"`show_log_origin`, `module` "
			"at line 1 column 11"},
	};
	static const struct {
		const char *name;
		enum log_level level;
	} levels[] = {{"Off", LOG_OFF}, {"trace", LOG_TRACE}, {"DEBUG", LOG_DEBUG}, {"Info", LOG_INFO},
		{"warn", LOG_WARN}, {"Warning", LOG_WARN}, {"eRRor", LOG_ERROR}};
	struct body_fault fault;
	union object o;
	char text[64];

	(void)state;
	CHECK(rows);
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		(void)snprintf(text, sizeof(text), "{\"level\":\"%s\",\"show_level\":true}", levels[i].name);
		assert_int_equal(parse(CONFIG_LOGGER, text, &o, &fault), 0);
		assert_true(o.logger.has_level && o.logger.has_show_level && o.logger.show_level);
		assert_int_equal(o.logger.level, levels[i].level);
		assert_false(o.logger.has_show_log_origin);
	}
}

static void test_serial_actions_and_state(void **state)
{
	static const struct row rows[] = {
		{CONFIG_SERIAL, "{\"serial_out_path\":1}",
			"invalid type: integer `1`, expected path string at line 1 column 20"},
		{CONFIG_SERIAL, "{\"rate_limiter\":{\"size\":1,\"refill_time\":1},\"serial_out_path\":\"/o\"}", NULL},
		{CONFIG_SERIAL, "{\"rate_limiter\":{}}", "missing field `size` at line 1 column 18"},
		{CONFIG_SERIAL, "{\"path\":1}",
			"unknown field `path`, expected `serial_out_path` or `rate_limiter` at line 1 column 7"},
		{CONFIG_ACTION, "{}", "missing field `action_type` at line 1 column 2"},
		{CONFIG_ACTION, "{\"action_type\":\"Stop\"}",
			"unknown variant `Stop`, expected one of `FlushMetrics`, `InstanceStart`, `SendCtrlAltDel` at "
			"line 1 column 21"},
		{CONFIG_ACTION, "{\"action_type\":null}", "expected value at line 1 column 16"},
		{CONFIG_ACTION, "{\"action_type\":\"FlushMetrics\",\"payload\":\"\"}",
			"unknown field `payload`, expected `action_type` at line 1 column 39"},
		{CONFIG_ACTION, "{\"action_type\":\"FlushMetrics\"}", NULL},
		{CONFIG_VM_STATE, "{}", "missing field `state` at line 1 column 2"},
		{CONFIG_VM_STATE, "{\"state\":\"Running\"}",
			"unknown variant `Running`, expected `Paused` or `Resumed` at line 1 column 18"},
		{CONFIG_VM_STATE, "{\"state\":\"Paused\",\"x\":1}",
			"unknown field `x`, expected `state` at line 1 column 21"},
		{CONFIG_VM_STATE, "{\"state\":\"Resumed\"}", NULL},
	};

	(void)state;
	CHECK(rows);
}

static void test_long_texts_are_cut_between_characters(void **state)
{
	char text[1200];
	struct body_fault fault;
	union object o;
	size_t n = 1;

	(void)state;
	text[0] = '"';
	while (n < 1000) {
		memcpy(text + n, "\xc3\xa4", 2);
		n += 2;
	}
	memcpy(text + n, "\"", 2);
	assert_int_not_equal(parse(CONFIG_SERIAL, text, &o, &fault), 0);
	assert_true(json_is_utf8(fault.msg, strlen(fault.msg)));
	assert_non_null(strstr(fault.msg, "\xc3\xa4\", expected struct SerialConfig at line 1 column"));
}

/* ---- printing ---------------------------------------------------------------------------------------------------- */

static void expect_printed(struct json_out *out, const char *expected)
{
	assert_false(out->failed);
	assert_int_equal(out->len, strlen(expected));
	assert_memory_equal(out->data, expected, out->len);
	json_out_fini(out);
}

#define OFF_LIMITS "\"balloon\":null,\"drives\":"
#define TAIL                                                                                                           \
	"\"metrics\":null,\"mmds-config\":null,\"network-interfaces\":[],\"vsock\":null,\"entropy\":null,\"pmem\":[]," \
	"\"memory-hotplug\":null}"

static void test_print_defaults(void **state)
{
	char buf[16];
	struct vm_config config;
	struct json_out out;

	(void)state;
	vm_config_init(&config);
	json_out_init(&out, buf, sizeof(buf)); /* far too small: the heap takes over */
	config_print_vm(&out, &config);
	expect_printed(&out, "{" OFF_LIMITS
			     "[],\"boot-source\":{\"kernel_image_path\":\"\",\"initrd_path\":null,\"boot_args\":null},"
			     "\"cpu-config\":null,\"logger\":null,\"machine-config\":{\"vcpu_count\":1,\"mem_size_"
			     "mib\":128,\"smt\":false,"
			     "\"track_dirty_pages\":false,\"huge_pages\":\"None\"}," TAIL);
	vm_config_fini(&config);
}

static void test_print_machine(void **state)
{
	struct config_machine m = {.vcpu_count = 32,
		.mem_size_mib = UINT64_MAX,
		.smt = true,
		.has_cpu_template = true,
		.cpu_template = CPU_TEMPLATE_T2S,
		.track_dirty_pages = true,
		.huge_pages = HUGE_PAGES_2M};
	char buf[256];
	struct json_out out;

	(void)state;
	json_out_init(&out, buf, sizeof(buf));
	config_print_machine(&out, &m);
	expect_printed(&out,
		"{\"vcpu_count\":32,\"mem_size_mib\":18446744073709551615,\"smt\":true,\"cpu_template\":\"T2S\","
		"\"track_dirty_pages\":true,\"huge_pages\":\"2M\"}");
	m = (struct config_machine){.has_cpu_template = true, .huge_pages = HUGE_PAGES_TRANSPARENT};
	json_out_init(&out, buf, sizeof(buf));
	config_print_machine(&out, &m);
	expect_printed(&out, "{\"vcpu_count\":0,\"mem_size_mib\":0,\"smt\":false,\"track_dirty_pages\":false,"
			     "\"huge_pages\":\"Transparent\"}");
}

static void test_print_drives(void **state)
{
	char id[] = "root", path[] = "/a\"b\n", second[] = "d2";
	struct vm_config *config = calloc(1, sizeof(*config));
	struct json_out out;
	char buf[64];

	(void)state;
	assert_non_null(config);
	config->n_drives = 2;
	config->drive[0] = (struct config_drive){
		.drive_id = id,
		.path_on_host = path,
		.is_root_device = true,
		.is_read_only = true,
		.cache_type = CACHE_WRITEBACK,
		.io_engine = IO_ENGINE_ASYNC,
		.rate_limiter = {.present = true,
			.bandwidth = {.present = true, .size = 1, .refill_time_ms = 2},
			.ops = {.present = true, .size = 0, .refill_time_ms = 2, .one_time_burst = 1}},
	};
	config->drive[1] = (struct config_drive){
		.drive_id = second,
		.rate_limiter = {.present = true, .ops = {.present = true, .size = 1, .refill_time_ms = UINT64_MAX}},
	};
	json_out_init(&out, buf, sizeof(buf));
	config_print_vm(&out, config);
	expect_printed(&out,
		"{" OFF_LIMITS
		"[{\"drive_id\":\"root\",\"partuuid\":null,\"is_root_device\":true,\"cache_type\":\"Writeback\","
		"\"is_read_only\":true,\"path_on_host\":\"/a\\\"b\\n\",\"rate_limiter\":{\"bandwidth\":{\"size\":1,"
		"\"one_time_burst\":null,\"refill_time\":2},\"ops\":null},\"io_engine\":\"Async\",\"socket\":null},"
		"{\"drive_id\":\"d2\",\"partuuid\":null,\"is_root_device\":false,\"cache_type\":\"Unsafe\","
		"\"is_read_only\":false,\"path_on_host\":null,\"rate_limiter\":null,\"io_engine\":\"Sync\",\"socket\":"
		"null}],"
		"\"boot-source\":{\"kernel_image_path\":\"\",\"initrd_path\":null,\"boot_args\":null},"
		"\"cpu-config\":null,\"logger\":null,\"machine-config\":{\"vcpu_count\":0,\"mem_size_mib\":0,\"smt\":"
		"false,"
		"\"track_dirty_pages\":false,\"huge_pages\":\"None\"}," TAIL);
	free(config);
}

static void test_bucket_is_off(void **state)
{
	struct config_bucket b = {.present = true, .size = 1, .refill_time_ms = 1};

	(void)state;
	assert_false(config_bucket_is_off(&b));
	b.refill_time_ms = UINT64_MAX / 1000000;
	assert_false(config_bucket_is_off(&b));
	b.refill_time_ms++;
	assert_true(config_bucket_is_off(&b));
	b.refill_time_ms = 0;
	assert_true(config_bucket_is_off(&b));
	b = (struct config_bucket){.size = 1, .refill_time_ms = 1};
	assert_true(config_bucket_is_off(&b));
}

static void test_output_is_bounded(void **state)
{
	static char piece[1 << 20];
	struct json_out out;
	char buf[4];

	(void)state;
	memset(piece, 'x', sizeof(piece));
	json_out_init(&out, buf, sizeof(buf));
	for (unsigned i = 0; i < JSON_OUT_MAX / sizeof(piece); i++)
		json_put(&out, piece, sizeof(piece));
	assert_false(out.failed);
	json_put(&out, piece, 1);
	assert_true(out.failed);
	assert_true(out.len <= JSON_OUT_MAX);
	json_out_fini(&out);
}

/* A printed drive is a body that is accepted: GET /vm/config can be fed back as a config file (CONTRACT.md 6.2). */
static void test_tables_fit_together(void **state)
{
	(void)state;
	for (int t = 0; t < N_CONFIG_TABLES; t++) {
		size_t n;
		const struct config_field *field = config_fields((enum config_table)t, &n);

		assert_true(n > 0 && n < 32);
		assert_true(config_size((enum config_table)t) <= sizeof(union object));
		for (size_t i = 0; i < n; i++) {
			assert_true(strlen(field[i].name) < sizeof(field[i].name));
			assert_true(field[i].offset < config_size((enum config_table)t));
			/* An object's rows refer to smaller tables only, so that parsing ends. */
			assert_true(field[i].kind != FIELD_OBJECT || field[i].detail < t);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_syntax),
		cmocka_unit_test(test_nesting_is_bounded),
		cmocka_unit_test(test_machine),
		cmocka_unit_test(test_machine_patch),
		cmocka_unit_test(test_boot_source),
		cmocka_unit_test(test_drive),
		cmocka_unit_test(test_drive_patch),
		cmocka_unit_test(test_rate_limiter),
		cmocka_unit_test(test_logger),
		cmocka_unit_test(test_serial_actions_and_state),
		cmocka_unit_test(test_long_texts_are_cut_between_characters),
		cmocka_unit_test(test_print_defaults),
		cmocka_unit_test(test_print_machine),
		cmocka_unit_test(test_print_drives),
		cmocka_unit_test(test_bucket_is_off),
		cmocka_unit_test(test_output_is_bounded),
		cmocka_unit_test(test_tables_fit_together),
	};

	log_set_level(LOG_OFF);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
