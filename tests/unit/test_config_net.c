/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The field tables of network interfaces, vsock and copy-on-write drives: every field's bad input with its text, and
 * what `GET /vm/config` shows (CONTRACT.md 4.4, 4.8 to 4.10).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api-socket/body.h"
#include "api-socket/config.h"
#include "api-socket/json.h"

union object {
	struct config_net net;
	struct config_vsock vsock;
	struct config_drive drive;
};

struct row {
	enum config_table table;
	const char *text, *fault; /* NULL: accepted */
	const char *field;        /* that the fault is about; NULL: the whole object */
};

static int parse(enum config_table table, const char *text, union object *out, struct body_fault *fault)
{
	size_t len = strlen(text);
	char *copy = malloc(len ? len : 1); /* unterminated, so that a read behind the end is seen */
	int rc;

	assert_non_null(copy);
	memcpy(copy, text, len);
	*out = (union object){0};
	fault->msg[0] = '\0';
	rc = body_parse(copy, len, table, out, fault);
	free(copy);
	return rc;
}

static void check_rows(const struct row *row, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct body_fault fault;
		union object object;
		int rc = parse(row[i].table, row[i].text, &object, &fault);

		assert_string_equal(fault.msg, row[i].fault ? row[i].fault : "");
		assert_int_equal(rc == 0, row[i].fault == NULL);
		if (row[i].fault)
			assert_string_equal(fault.field, row[i].field ? row[i].field : "");
		config_fini(row[i].table, &object);
	}
}

#define CHECK(rows) check_rows(rows, ARRAY_SIZE(rows))

/* An interface with these fields more. */
#define NET(more) "{\"iface_id\":\"a\",\"host_dev_name\":\"t\"," more "}"
#define NET_FIELDS                                                                                                     \
	"expected one of `iface_id`, `host_dev_name`, `guest_mac`, `mtu`, `rx_rate_limiter`, `tx_rate_limiter`, "      \
	"`tap_fd`, `passt_socket`"

static void test_net(void **state)
{
	static const struct row rows[] = {
		{CONFIG_NET, "{\"iface_id\":\"a\",\"host_dev_name\":\"t\"}", NULL, NULL},
		{CONFIG_NET, "{\"host_dev_name\":\"t\"}", "missing field `iface_id` at line 1 column 21", NULL},
		{CONFIG_NET, "{\"iface_id\":\"a\"}", "missing field `host_dev_name` at line 1 column 16", NULL},
		{CONFIG_NET, "{\"iface_id\":1}", "invalid type: integer `1`, expected a string at line 1 column 13", "iface_id"},
		{CONFIG_NET, "{\"host_dev_name\":[]}", "invalid type: sequence, expected a string at line 1 column 17",
			"host_dev_name"},
		{CONFIG_NET, NET("\"mtu\":67"), NULL, NULL}, /* the range is the controller's business */
		{CONFIG_NET, NET("\"mtu\":65536"), "invalid value: integer `65536`, expected u16 at line 1 column 47", "mtu"},
		{CONFIG_NET, NET("\"mtu\":-1"), "invalid value: integer `-1`, expected u16 at line 1 column 44", "mtu"},
		{CONFIG_NET, NET("\"mtu\":1500.0"), "invalid type: floating point `1500.0`, expected u16 at line 1 column 48",
			"mtu"},
		{CONFIG_NET, NET("\"mtu\":\"1500\""), "invalid type: string \"1500\", expected u16 at line 1 column 48", "mtu"},
		{CONFIG_NET, NET("\"rx_rate_limiter\":{\"bytes\":1}"),
			"unknown field `bytes`, expected `bandwidth` or `ops` at line 1 column 62", "rx_rate_limiter"},
		{CONFIG_NET, NET("\"tx_rate_limiter\":{\"ops\":{\"size\":1}}"),
			"missing field `refill_time` at line 1 column 71", "tx_rate_limiter.ops"},
		{CONFIG_NET, NET("\"guest_mac\":null,\"mtu\":null,\"rx_rate_limiter\":null,\"tx_rate_limiter\":{}"), NULL, NULL},
		{CONFIG_NET, NET("\"allow_mmds_requests\":true"),
			"unknown field `allow_mmds_requests`, " NET_FIELDS " at line 1 column 57", NULL},
		{CONFIG_NET, NET("\"host_dev_name\":\"u\""), "duplicate field `host_dev_name` at line 1 column 51", NULL},
		{CONFIG_NET_PATCH, "{\"iface_id\":\"a\"}", NULL, NULL},
		{CONFIG_NET_PATCH, "{}", "missing field `iface_id` at line 1 column 2", NULL},
		{CONFIG_NET_PATCH, "{\"iface_id\":\"a\",\"host_dev_name\":\"t\"}",
			"unknown field `host_dev_name`, expected one of `iface_id`, `rx_rate_limiter`, `tx_rate_limiter` "
			"at line 1 column 31",
			NULL},
	};
	union object o;
	struct body_fault fault;

	(void)state;
	CHECK(rows);
	assert_int_equal(parse(CONFIG_NET, NET("\"mtu\":1500,\"guest_mac\":\"06:00:AC:10:00:0f\""), &o, &fault), 0);
	assert_memory_equal(o.net.guest_mac, "\x06\x00\xac\x10\x00\x0f", CONFIG_MAC_BYTES);
	assert_true(o.net.has_guest_mac && o.net.has_mtu && !o.net.has_tap_fd);
	assert_int_equal(o.net.mtu, 1500);
	config_net_fini(&o.net);
}

static void test_net_macs(void **state)
{
	static const char *const bad[] = {"", "06", "06:00:ac:10:00", "06:00:ac:10:00:02:03", "06:00:ac:10:00:2",
		"06:00:ac:10:00:0g", "06-00-ac-10-00-02", "0600ac100002", " 06:00:ac:10:00:02", "06:00:ac:10:00:02 ",
		"+6:00:ac:10:00:02", "06:00:ac:10:0002"};
	struct body_fault fault;
	union object o;
	char text[128], expected[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		(void)snprintf(text, sizeof(text), NET("\"guest_mac\":\"%s\""), bad[i]);
		(void)snprintf(expected, sizeof(expected),
			"invalid value: string \"%s\", expected a MAC address like `06:00:ac:10:00:02` at line 1 column %zu",
			bad[i], 50 + strlen(bad[i]));
		assert_int_not_equal(parse(CONFIG_NET, text, &o, &fault), 0);
		assert_string_equal(fault.msg, expected);
		assert_string_equal(fault.field, "guest_mac");
		assert_false(o.net.has_guest_mac);
		config_net_fini(&o.net);
	}
}

static void test_net_one_host_side(void **state)
{
#define ONE_OF "too many fields: expected one of `host_dev_name`, `tap_fd`, `passt_socket` at line 1 column "
	static const struct row rows[] = {
		{CONFIG_NET, "{\"iface_id\":\"a\",\"tap_fd\":0}", NULL, NULL},
		{CONFIG_NET, "{\"iface_id\":\"a\",\"passt_socket\":\"p\"}", NULL, NULL},
		{CONFIG_NET, "{\"iface_id\":\"a\",\"host_dev_name\":null,\"tap_fd\":7,\"passt_socket\":null}", NULL, NULL},
		{CONFIG_NET, NET("\"tap_fd\":7"), ONE_OF "47", NULL},
		{CONFIG_NET, NET("\"passt_socket\":\"p\""), ONE_OF "55", NULL},
		{CONFIG_NET, "{\"iface_id\":\"a\",\"tap_fd\":7,\"passt_socket\":\"p\"}", ONE_OF "46", NULL},
		{CONFIG_NET, "{\"iface_id\":\"a\",\"host_dev_name\":null}",
			"missing field `host_dev_name` at line 1 column 37", NULL},
		{CONFIG_NET, "{\"iface_id\":\"a\",\"tap_fd\":-1}", "invalid value: integer `-1`, expected u32 at line 1 column 27",
			"tap_fd"},
		{CONFIG_NET, "{\"iface_id\":\"a\",\"tap_fd\":\"tap0\"}",
			"invalid type: string \"tap0\", expected u32 at line 1 column 31", "tap_fd"},
		{CONFIG_NET, "{\"iface_id\":\"a\",\"passt_socket\":1}",
			"invalid type: integer `1`, expected a string at line 1 column 32", "passt_socket"},
	};

	(void)state;
	CHECK(rows);
}

static void test_vsock(void **state)
{
	static const struct row rows[] = {
		{CONFIG_VSOCK, "{\"guest_cid\":3,\"uds_path\":\"v\"}", NULL, NULL},
		{CONFIG_VSOCK, "{\"guest_cid\":4294967295,\"uds_path\":\"\",\"vsock_id\":\"root\"}", NULL, NULL},
		{CONFIG_VSOCK, "{\"guest_cid\":3,\"uds_path\":\"v\",\"vsock_id\":null}", NULL, NULL},
		{CONFIG_VSOCK, "{\"uds_path\":\"v\"}", "missing field `guest_cid` at line 1 column 16", NULL},
		{CONFIG_VSOCK, "{\"guest_cid\":3}", "missing field `uds_path` at line 1 column 15", NULL},
		{CONFIG_VSOCK, "{\"guest_cid\":4294967296}",
			"invalid value: integer `4294967296`, expected u32 at line 1 column 23", "guest_cid"},
		{CONFIG_VSOCK, "{\"guest_cid\":\"3\"}", "invalid type: string \"3\", expected u32 at line 1 column 16",
			"guest_cid"},
		{CONFIG_VSOCK, "{\"uds_path\":null}", "invalid type: null, expected a string at line 1 column 16", "uds_path"},
		{CONFIG_VSOCK, "{\"vsock_id\":7}", "invalid type: integer `7`, expected a string at line 1 column 13", "vsock_id"},
		{CONFIG_VSOCK, "{\"cid\":3}",
			"unknown field `cid`, expected one of `vsock_id`, `guest_cid`, `uds_path` at line 1 column 6", NULL},
		{CONFIG_VSOCK, "null", "invalid type: null, expected struct VsockDeviceConfig at line 1 column 4", NULL},
	};

	(void)state;
	CHECK(rows);
}

static void test_delta_path(void **state)
{
	static const struct row rows[] = {
		{CONFIG_DRIVE, "{\"drive_id\":\"a\",\"is_root_device\":false,\"delta_path\":null}", NULL, NULL},
		{CONFIG_DRIVE, "{\"delta_path\":true}", "invalid type: boolean `true`, expected a string at line 1 column 18",
			"delta_path"},
		{CONFIG_DRIVE_PATCH, "{\"drive_id\":\"a\",\"path_on_host\":\"b\",\"delta_path\":\"d\"}", NULL, NULL},
	};

	(void)state;
	CHECK(rows);
}

/* What stands between the two strings in `GET /vm/config` of @config. */
static void expect_between(const struct vm_config *config, const char *from, const char *to, const char *expected)
{
	char buf[8192], *begin, *end;
	struct json_out out;

	json_out_init(&out, buf, sizeof(buf) - 1);
	config_print_vm(&out, config);
	assert_false(out.failed);
	assert_true(out.data == buf);
	buf[out.len] = '\0';
	begin = strstr(buf, from);
	assert_non_null(begin);
	end = strstr(begin, to);
	assert_non_null(end);
	*end = '\0';
	assert_string_equal(begin + strlen(from), expected);
}

static void test_print(void **state)
{
	char name[] = "eth0", tap[] = "tap0", base[] = "b", delta[] = "d";
	struct vm_config *config = calloc(1, sizeof(*config));

	(void)state;
	assert_non_null(config);
	expect_between(config, "\"network-interfaces\":", ",\"entropy\"", "[],\"vsock\":null");
	config->n_nets = 3;
	config->net[0] = (struct config_net){.iface_id = name, .host_dev_name = tap};
	config->net[1] = (struct config_net){
		.iface_id = name,
		.host_dev_name = tap,
		.has_guest_mac = true,
		.guest_mac = {0x06, 0, 0xac, 0x10, 0, 0x0f},
		.has_mtu = true,
		.mtu = 1500,
		.rx_rate_limiter = {.present = true, .ops = {.present = true, .size = 1, .refill_time_ms = 2}},
		.tx_rate_limiter = {.present = true},
	};
	config->net[2] = (struct config_net){.iface_id = name, .has_tap_fd = true, .passt_socket = tap};
	config->vsock = (struct config_vsock){.vsock_id = name, .guest_cid = UINT32_MAX, .uds_path = tap};
	expect_between(config, "\"network-interfaces\":", ",\"entropy\"",
		"[{\"iface_id\":\"eth0\",\"host_dev_name\":\"tap0\",\"guest_mac\":null,\"mtu\":null,\"rx_rate_limiter\":null,"
		"\"tx_rate_limiter\":null},"
		"{\"iface_id\":\"eth0\",\"host_dev_name\":\"tap0\",\"guest_mac\":\"06:00:ac:10:00:0f\",\"mtu\":1500,"
		"\"rx_rate_limiter\":{\"bandwidth\":null,\"ops\":{\"size\":1,\"one_time_burst\":null,\"refill_time\":2}},"
		"\"tx_rate_limiter\":null},"
		"{\"iface_id\":\"eth0\",\"host_dev_name\":null,\"guest_mac\":null,\"mtu\":null,\"rx_rate_limiter\":null,"
		"\"tx_rate_limiter\":null,\"tap_fd\":0,\"passt_socket\":\"tap0\"}],"
		"\"vsock\":{\"guest_cid\":4294967295,\"uds_path\":\"tap0\"}");
	config->n_drives = 1;
	config->drive[0] = (struct config_drive){.drive_id = name, .path_on_host = base, .delta_path = delta};
	expect_between(config, "\"io_engine\":", "}],\"boot", "\"Sync\",\"socket\":null,\"delta_path\":\"d\"");
	free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_net),
		cmocka_unit_test(test_net_macs),
		cmocka_unit_test(test_net_one_host_side),
		cmocka_unit_test(test_vsock),
		cmocka_unit_test(test_delta_path),
		cmocka_unit_test(test_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
