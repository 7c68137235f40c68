/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Routing, faults and log lines against CONTRACT.md 1.5, 2, 4 and 14. The action handler is a fake that records what
 * it was asked and answers what the test wants.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api-socket/action.h"
#include "api-socket/routes.h"
#include "vmm/base/log.h"

#define DESERIALIZE "An error occurred when deserializing the json body of a request: "
#define NONE ((enum action_type) - 1)

struct fake {
	unsigned n_calls;
	enum action_type type;	   /* of the last action */
	struct config_drive drive; /* of the last drive action, taken over */
	struct vm_config config;
	enum vm_state state;
	const char *fault; /* answer this to writes instead of 204 */
};

static void fake_handle(void *ctx, struct action *action, struct reply *reply)
{
	struct fake *f = ctx;

	f->n_calls++;
	f->type = action->type;
	reply->status = 204;
	if (action->type <= ACTION_GET_VM_CONFIG) {
		reply->status = 200;
		reply->config = &f->config;
		reply->state = f->state;
		reply->id = "anonymous-instance";
		reply->version = "1.17.0";
		reply->app_name = "Firecracker";
	} else if (f->fault) {
		reply->status = 400;
		(void)snprintf(reply->fault, sizeof(reply->fault), "%s", f->fault);
	} else if (action->type == ACTION_PUT_DRIVE || action->type == ACTION_PATCH_DRIVE) {
		config_drive_fini(&f->drive);
		f->drive = action->drive;
		action->drive = (struct config_drive){0};
	}
}

/* The outcome of one request: the text is terminated. */
struct outcome {
	int status;
	bool deprecated;
	char body[4096];
};

static void send_to(struct fake *f, enum http_verb verb, const char *path, const char *body, struct outcome *o)
{
	struct action_handler handler = {.handle = fake_handle, .ctx = f};
	struct http_msg msg = {.verb = verb, .path = path, .body = body, .body_len = body ? strlen(body) : 0};
	struct route_reply reply = {.status = 0};
	char buf[32];

	json_out_init(&reply.body, buf, sizeof(buf));
	route_request(&handler, &msg, &reply);
	assert_true(reply.body.len < sizeof(o->body));
	o->status = reply.status;
	o->deprecated = reply.deprecated;
	memcpy(o->body, reply.body.data, reply.body.len);
	o->body[reply.body.len] = '\0';
	json_out_fini(&reply.body);
}

/* The request gives @fault, and the handler is not asked. */
static void expect_fault(enum http_verb verb, const char *path, const char *body, const char *fault)
{
	struct fake f = {.type = NONE};
	struct outcome o;
	char expected[4096];

	send_to(&f, verb, path, body, &o);
	(void)snprintf(expected, sizeof(expected), "{\"fault_message\":\"%s\"}", fault);
	assert_string_equal(o.body, expected);
	assert_int_equal(o.status, 400);
	assert_int_equal(f.n_calls, 0);
	assert_false(o.deprecated);
}

/* The request reaches the handler as @type and succeeds. */
static void expect_action(enum http_verb verb, const char *path, const char *body, enum action_type type)
{
	struct fake f = {.type = NONE};
	struct outcome o;

	send_to(&f, verb, path, body, &o);
	if (type > ACTION_GET_VM_CONFIG)
		assert_string_equal(o.body, "");
	assert_int_equal(o.status, type > ACTION_GET_VM_CONFIG ? 204 : 200);
	assert_int_equal(f.n_calls, 1);
	assert_int_equal(f.type, type);
	config_drive_fini(&f.drive);
}

#define GET HTTP_VERB_GET
#define PUT HTTP_VERB_PUT
#define PATCH HTTP_VERB_PATCH
#define DELETE HTTP_VERB_DELETE

#define MACHINE "{\"vcpu_count\":1,\"mem_size_mib\":128}"
#define BOOT "{\"kernel_image_path\":\"/k\"}"
#define DRIVE "{\"drive_id\":\"root_1\",\"is_root_device\":true,\"path_on_host\":\"/d\"}"
#define NET "{\"iface_id\":\"eth0\",\"host_dev_name\":\"tap0\"}"
#define VSOCK "{\"guest_cid\":3,\"uds_path\":\"v\"}"
#define VSOCK_WITH_ID "{\"guest_cid\":3,\"uds_path\":\"v\",\"vsock_id\":\"root\"}"

static void test_gets(void **state)
{
	(void)state;
	expect_action(GET, "", NULL, ACTION_GET_INSTANCE);
	expect_action(GET, "/", NULL, ACTION_GET_INSTANCE);
	expect_action(GET, "///", NULL, ACTION_GET_INSTANCE);
	expect_action(GET, "/version", NULL, ACTION_GET_VERSION);
	expect_action(GET, "/version/", NULL, ACTION_GET_VERSION);
	expect_action(GET, "//version/extra", NULL, ACTION_GET_VERSION);
	expect_action(GET, "/machine-config/foo", NULL, ACTION_GET_MACHINE);
	expect_action(GET, "/vm/config", NULL, ACTION_GET_VM_CONFIG);
	expect_action(GET, "/vm/config/x", NULL, ACTION_GET_VM_CONFIG);
}

static void test_writes(void **state)
{
	(void)state;
	expect_action(PUT, "/machine-config", MACHINE, ACTION_PUT_MACHINE);
	expect_action(PUT, "/machine-config/x/y", MACHINE, ACTION_PUT_MACHINE);
	expect_action(PATCH, "/machine-config", "{\"smt\":false}", ACTION_PATCH_MACHINE);
	expect_action(PUT, "/boot-source", BOOT, ACTION_PUT_BOOT_SOURCE);
	expect_action(PUT, "/drives/root_1", DRIVE, ACTION_PUT_DRIVE);
	expect_action(PUT, "/drives/root_1/", DRIVE, ACTION_PUT_DRIVE);
	expect_action(PUT, "/drives/root_1/x", DRIVE, ACTION_PUT_DRIVE);
	expect_action(PATCH, "/drives/a", "{\"drive_id\":\"a\",\"path_on_host\":\"/x\"}", ACTION_PATCH_DRIVE);
	expect_action(PUT, "/network-interfaces/eth0", NET, ACTION_PUT_NET);
	expect_action(PATCH, "/network-interfaces/eth0", "{\"iface_id\":\"eth0\"}", ACTION_PATCH_NET);
	expect_action(PUT, "/vsock", VSOCK, ACTION_PUT_VSOCK);
	expect_action(PUT, "/logger", "{\"level\":\"Info\"}", ACTION_PUT_LOGGER);
	expect_action(PUT, "/serial", "{\"serial_out_path\":\"/s\"}", ACTION_PUT_SERIAL);
	expect_action(PUT, "/actions", "{\"action_type\":\"InstanceStart\"}", ACTION_INSTANCE_START);
	expect_action(PUT, "/actions", "{\"action_type\":\"FlushMetrics\"}", ACTION_FLUSH_METRICS);
	expect_action(PUT, "/actions", "{\"action_type\":\"SendCtrlAltDel\"}", ACTION_SEND_CTRL_ALT_DEL);
	expect_action(PATCH, "/vm", "{\"state\":\"Paused\"}", ACTION_PAUSE);
	expect_action(PATCH, "/vm", "{\"state\":\"Resumed\"}", ACTION_RESUME);
}

static void test_body_rules_come_first(void **state)
{
	static const char *const paths[] = {"/", "/version", "/machine-config", "/vm", "/drives/a", "/nothing", "/mmds",
		"/snapshot", "/snapshot/foo"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		expect_fault(GET, paths[i], "x", "GET request cannot have a body.");
		expect_fault(PUT, paths[i], NULL, "Empty PUT request.");
		expect_fault(PATCH, paths[i], NULL, "Empty PATCH request.");
		expect_fault(DELETE, paths[i], "x", "Empty Delete request.");
	}
	expect_fault(PATCH, "/machine-config", "{}", "Empty PATCH request.");
	expect_fault(PATCH, "/machine-config", "{\"smt\":null}", "Empty PATCH request.");
}

static void test_unknown_paths(void **state)
{
	(void)state;
	expect_fault(GET, "/foo", NULL, "Invalid request method and/or path: GET foo.");
	expect_fault(GET, "/foo/bar", NULL, "Invalid request method and/or path: GET foo.");
	expect_fault(GET, "/version?x=y", NULL, "Invalid request method and/or path: GET version?x=y.");
	expect_fault(GET, "/a\"b", NULL, "Invalid request method and/or path: GET a\\\"b.");
	expect_fault(GET, "/vm", NULL, "Invalid request method and/or path: GET vm.");
	expect_fault(GET, "/vm/foo", NULL, "Invalid request method and/or path: GET vm.");
	expect_fault(GET, "/actions", NULL, "Invalid request method and/or path: GET actions.");
	expect_fault(GET, "/drives/a", NULL, "Invalid request method and/or path: GET drives.");
	expect_fault(GET, "/Version", NULL, "Invalid request method and/or path: GET Version.");
	expect_fault(PUT, "/", "{}", "Invalid request method and/or path: PUT .");
	expect_fault(PUT, "/vm", "{}", "Invalid request method and/or path: PUT vm.");
	expect_fault(PUT, "/balloon", "{}", "Invalid request method and/or path: PUT balloon.");
	expect_fault(PUT, "/entropy", "{}", "Invalid request method and/or path: PUT entropy.");
	expect_fault(PUT, "/pmem/p", "{}", "Invalid request method and/or path: PUT pmem.");
	expect_fault(PATCH, "/balloon/statistics", "{}", "Invalid request method and/or path: PATCH balloon.");
	expect_fault(PATCH, "/hotplug/memory", "{}", "Invalid request method and/or path: PATCH hotplug.");
	expect_fault(PATCH, "/boot-source", "{}", "Invalid request method and/or path: PATCH boot-source.");
	expect_fault(DELETE, "/machine-config", NULL, "Invalid request method and/or path: DELETE machine-config.");
	expect_fault(GET, "/balloon", NULL, "Invalid request method and/or path: GET balloon.");
}

static void test_snapshot_and_mmds_paths(void **state)
{
	(void)state;
	expect_fault(PUT, "/snapshot", "{}", "Missing snapshot operation type.");
	expect_fault(PUT, "/snapshot/", "{}", "Missing snapshot operation type.");
	expect_fault(PUT, "/snapshot/foo", "{}", "Invalid request method and/or path: PUT /snapshot/foo.");
	expect_fault(PUT, "/mmds/foo", "{}", "Unrecognized PUT request path `foo`.");
}

static void expect_later(enum http_verb verb, const char *path)
{
	char expected[256];

	(void)snprintf(expected, sizeof(expected),
		"The resource \\\"%s\\\" is not available in this version of Mayfly.", path);
	expect_fault(verb, path, verb == GET ? NULL : "{}", expected);
}

static void test_known_resources_that_come_later(void **state)
{
	(void)state;
	expect_later(PUT, "/metrics");
	expect_later(PUT, "/cpu-config");
	expect_later(PUT, "/snapshot/create");
	expect_later(PUT, "/snapshot/load");
	expect_later(PUT, "/mmds");
	expect_later(PUT, "/mmds/config");
	expect_later(PATCH, "/mmds/anything");
	expect_later(GET, "/mmds");
}

static void test_ids(void **state)
{
#define BAD_ID "API Resource IDs can only contain alphanumeric characters and underscores."
	(void)state;
	expect_fault(PUT, "/drives", DRIVE, "The ID cannot be empty.");
	expect_fault(PUT, "/drives/", DRIVE, "The ID cannot be empty.");
	expect_fault(PUT, "/drives//x", DRIVE, "The ID cannot be empty.");
	expect_fault(PATCH, "/drives", "{}", "The ID cannot be empty.");
	expect_fault(PUT, "/drives/root-1", DRIVE, BAD_ID);
	expect_fault(PUT, "/drives/a b", DRIVE, BAD_ID);
	expect_fault(PUT, "/drives/a.b", DRIVE, BAD_ID);
	expect_fault(PUT, "/drives/@", DRIVE, BAD_ID);
	expect_fault(PUT, "/drives/root_2", DRIVE, "The id from the path does not match the id from the body!");
	expect_fault(PUT, "/drives/root_", DRIVE, "The id from the path does not match the id from the body!");
	expect_fault(PATCH, "/drives/b", "{\"drive_id\":\"a\"}",
		"The id from the path does not match the id from the body!");
	/* The id is looked at before the body. */
	expect_fault(PUT, "/drives/root-1", "{", BAD_ID);
}

static void test_network_ids(void **state)
{
	(void)state;
	expect_fault(PUT, "/network-interfaces", NET, "The ID cannot be empty.");
	expect_fault(PATCH, "/network-interfaces/", NET, "The ID cannot be empty.");
	expect_fault(PUT, "/network-interfaces/eth-0", NET, BAD_ID);
	expect_fault(PUT, "/network-interfaces/eth1", NET,
		"The id from the path [eth1] does not match the id from the body [eth0]!");
	expect_fault(PATCH, "/network-interfaces/a", "{\"iface_id\":\"b\"}",
		"The id from the path [a] does not match the id from the body [b]!");
}

static void test_bad_bodies(void **state)
{
	(void)state;
	expect_fault(PUT, "/machine-config", "{\"mem_size_mib\": 128}",
		DESERIALIZE "missing field `vcpu_count` at line 1 column 21.");
	expect_fault(PUT, "/machine-config", "{\"vcpu_count\": 1}",
		DESERIALIZE "missing field `mem_size_mib` at line 1 column 17.");
	expect_fault(PUT, "/machine-config", "{\"vcpu_count\": 1, \"mem_size_mib\": \"128\"}",
		DESERIALIZE "invalid type: string \\\"128\\\", expected usize at line 1 column 39. (field `mem_size_mib`)");
	expect_fault(PATCH, "/machine-config", "{\"a\":1}",
		DESERIALIZE "unknown field `a`, expected one of `vcpu_count`, `mem_size_mib`, `smt`, `cpu_template`, "
			    "`track_dirty_pages`, `huge_pages` at line 1 column 4.");
	expect_fault(PUT, "/boot-source", "{", DESERIALIZE "EOF while parsing an object at line 1 column 1.");
	expect_fault(PUT, "/drives/a", "[]",
		DESERIALIZE "invalid type: sequence, expected struct BlockDeviceConfig at line 1 column 0.");
	expect_fault(PATCH, "/drives/a", "{\"drive_id\":\"a\",\"io_engine\":\"Sync\"}",
		DESERIALIZE "unknown field `io_engine`, expected one of `drive_id`, `path_on_host`, `rate_limiter`, "
			    "`delta_path` at line 1 column 27.");
	expect_fault(PUT, "/network-interfaces/a", "{\"iface_id\":\"a\"}",
		DESERIALIZE "missing field `host_dev_name` at line 1 column 16.");
	expect_fault(PUT, "/network-interfaces/a",
		"{\"iface_id\":\"a\",\"host_dev_name\":\"t\",\"guest_mac\":\"6:0:0:0:0:0\"}",
		DESERIALIZE "invalid value: string \\\"6:0:0:0:0:0\\\", expected a MAC address like `06:00:ac:10:00:02` "
			    "at line 1 column 61. (field `guest_mac`)");
	expect_fault(PUT, "/network-interfaces/a", "{\"iface_id\":\"a\",\"allow_mmds_requests\":true}",
		DESERIALIZE "unknown field `allow_mmds_requests`, expected one of `iface_id`, `host_dev_name`, `guest_mac`, "
			    "`mtu`, `rx_rate_limiter`, `tx_rate_limiter`, `tap_fd`, `passt_socket` at line 1 column 37.");
	expect_fault(PATCH, "/network-interfaces/a", "{\"iface_id\":\"a\",\"mtu\":1500}",
		DESERIALIZE "unknown field `mtu`, expected one of `iface_id`, `rx_rate_limiter`, `tx_rate_limiter` "
			    "at line 1 column 21.");
	expect_fault(PUT, "/vsock", "{\"guest_cid\":3}", DESERIALIZE "missing field `uds_path` at line 1 column 15.");
	expect_fault(PUT, "/vsock", "{\"uds_path\":\"v\"}", DESERIALIZE "missing field `guest_cid` at line 1 column 16.");
	expect_fault(PUT, "/vsock", "{\"guest_cid\":-1,\"uds_path\":\"v\"}",
		DESERIALIZE "invalid value: integer `-1`, expected u32 at line 1 column 15. (field `guest_cid`)");
	expect_fault(PUT, "/vsock", "{\"cid\":3}",
		DESERIALIZE "unknown field `cid`, expected one of `vsock_id`, `guest_cid`, `uds_path` at line 1 column 6.");
	expect_fault(PUT, "/logger", "{}x", DESERIALIZE "trailing characters at line 1 column 3.");
	expect_fault(PUT, "/serial", "x", DESERIALIZE "expected value at line 1 column 1.");
	expect_fault(PUT, "/actions", "{\"action_type\":\"Reboot\"}",
		DESERIALIZE
		"unknown variant `Reboot`, expected one of `FlushMetrics`, `InstanceStart`, `SendCtrlAltDel` "
		"at line 1 column 23. (field `action_type`)");
	expect_fault(PATCH, "/vm", "{\"state\":\"Running\"}",
		DESERIALIZE "unknown variant `Running`, expected `Paused` or `Resumed` at line 1 column 18. (field `state`)");
}

static void test_unplug(void **state)
{
	static const char *const paths[] = {"/drives/a", "/network-interfaces/eth0"};
	struct outcome o;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		struct fake f = {.state = VM_NOT_STARTED};

		send_to(&f, DELETE, paths[i], NULL, &o);
		assert_string_equal(o.body, "{\"fault_message\":\"The requested operation is not supported before "
					    "starting the microVM.\"}");
		f.state = VM_PAUSED;
		send_to(&f, DELETE, paths[i], NULL, &o);
		assert_string_equal(o.body, "{\"fault_message\":\"PCI is not enabled\"}");
		assert_int_equal(o.status, 400);
	}
	expect_fault(DELETE, "/drives", NULL, "The ID cannot be empty.");
}

static void test_reply_bodies(void **state)
{
	struct fake f = {.state = VM_NOT_STARTED};
	struct outcome o;

	(void)state;
	vm_config_init(&f.config);
	send_to(&f, GET, "/", NULL, &o);
	assert_string_equal(o.body,
		"{\"id\":\"anonymous-instance\",\"state\":\"Not started\",\"vmm_version\":\"1.17.0\","
		"\"app_name\":\"Firecracker\"}");
	f.state = VM_RUNNING;
	send_to(&f, GET, "/", NULL, &o);
	assert_non_null(strstr(o.body, "\"state\":\"Running\""));
	f.state = VM_PAUSED;
	send_to(&f, GET, "/", NULL, &o);
	assert_non_null(strstr(o.body, "\"state\":\"Paused\""));
	send_to(&f, GET, "/version", NULL, &o);
	assert_string_equal(o.body, "{\"firecracker_version\":\"1.17.0\"}");
	send_to(&f, GET, "/machine-config", NULL, &o);
	assert_string_equal(o.body, "{\"vcpu_count\":1,\"mem_size_mib\":128,\"smt\":false,\"track_dirty_pages\":false,"
				    "\"huge_pages\":\"None\"}");
	send_to(&f, GET, "/vm/config", NULL, &o);
	assert_memory_equal(o.body, "{\"balloon\":null,\"drives\":[]", 27);
}

static void test_handler_fault(void **state)
{
	struct fake f = {.fault = "Boot source error: \"x\""};
	struct outcome o;

	(void)state;
	send_to(&f, PUT, "/boot-source", BOOT, &o);
	assert_int_equal(o.status, 400);
	assert_string_equal(o.body, "{\"fault_message\":\"Boot source error: \\\"x\\\"\"}");
}

static void test_handler_may_take_what_the_action_owns(void **state)
{
	struct fake f = {.type = NONE};
	struct outcome o;

	(void)state;
	send_to(&f, PUT, "/drives/root_1", DRIVE, &o);
	assert_string_equal(f.drive.path_on_host, "/d");
	config_drive_fini(&f.drive);
}

static void test_deprecation(void **state)
{
#define WITH_TEMPLATE "{\"vcpu_count\":1,\"mem_size_mib\":128,\"cpu_template\":"
	struct fake f = {.type = NONE};
	struct outcome o;

	(void)state;
	send_to(&f, PUT, "/machine-config", WITH_TEMPLATE "\"None\"}", &o);
	assert_true(o.deprecated && o.status == 204);
	send_to(&f, PUT, "/machine-config", WITH_TEMPLATE "null}", &o);
	assert_false(o.deprecated);
	send_to(&f, PATCH, "/machine-config", "{\"cpu_template\":\"T2\"}", &o);
	assert_true(o.deprecated && o.status == 204);
	f.fault = "no";
	send_to(&f, PUT, "/machine-config", WITH_TEMPLATE "\"T2\"}", &o);
	assert_true(o.deprecated && o.status == 400);
	f.fault = NULL;
	send_to(&f, PUT, "/vsock", VSOCK, &o);
	assert_true(!o.deprecated && o.status == 204);
	send_to(&f, PUT, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"v\",\"vsock_id\":null}", &o);
	assert_true(!o.deprecated && o.status == 204);
	send_to(&f, PUT, "/vsock", VSOCK_WITH_ID, &o);
	assert_true(o.deprecated && o.status == 204);
	f.fault = "Vsock config error: x";
	send_to(&f, PUT, "/vsock", VSOCK_WITH_ID, &o);
	assert_true(o.deprecated && o.status == 400);
}

/* ---- log lines --------------------------------------------------------------------------------------------------- */

/* Read the log that @send_to wrote to a file, without the changing parts: only thread, level and message. */
static void read_log(const char *path, char *out, size_t cap)
{
	FILE *file = fopen(path, "r");
	char line[4096];

	assert_non_null(file);
	out[0] = '\0';
	while (fgets(line, sizeof(line), file)) {
		const char *from = strstr(line, "[t:");
		size_t len = strlen(out);

		assert_non_null(from);
		(void)snprintf(out + len, cap - len, "%s", from + 3);
	}
	(void)fclose(file);
}

static void log_of(enum http_verb verb, const char *path, const char *body, enum log_level level, char *out, size_t cap)
{
	char file[] = "/tmp/mayfly-test-routes-XXXXXX";
	int fd = mkstemp(file);
	struct fake f = {.type = NONE};
	struct outcome o;
	struct err e;

	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(log_open(file, &e), 0);
	log_set_id("t");
	log_set_show(true, false);
	log_set_level(level);
	send_to(&f, verb, path, body, &o);
	log_set_level(LOG_OFF);
	read_log(file, out, cap);
	(void)unlink(file);
	config_drive_fini(&f.drive);
}

static void test_log_lines(void **state)
{
	static const struct {
		enum http_verb verb;
		const char *path, *body, *lines;
	} rows[] = {
		{GET, "/", NULL,
			"fc_api:INFO] The API server received a Get request on \"/\".\n"
			"fc_api:INFO] The request was executed successfully. Status code: 200 OK.\n"},
		{PUT, "/boot-source", BOOT,
			"fc_api:INFO] The API server received a Put request on \"/boot-source\" with body "
			"\"{\\\"kernel_image_path\\\":\\\"/k\\\"}\".\n"
			"fc_api:INFO] The request was executed successfully. Status code: 204 No Content.\n"},
		{PATCH, "/vm", "{\n\t\x01\x7f\\'\xc3\xa4",
			"fc_api:INFO] The API server received a Patch request on \"/vm\" with body "
			"\"{\\n\\t\\u{1}\\u{7f}\\\\'\xc3\xa4\".\n"
			"fc_api:ERROR] Received Error. Status code: 400 Bad Request. Message: " DESERIALIZE
			"key must be a string at line 2 column 2.\n"},
		{PUT, "/x", "\xff",
			"fc_api:INFO] The API server received a Put request on \"/x\" with body \"inconvertible to "
			"UTF-8\".\n"
			"fc_api:ERROR] Received Error. Status code: 400 Bad Request. Message: Invalid request method "
			"and/or path: PUT x.\n"},
		{PUT, "/mmds", "{}",
			"fc_api:INFO] The API server received a Put request on \"/mmds\".\n"
			"fc_api:ERROR] Received Error. Status code: 400 Bad Request. Message: The resource \"/mmds\" "
			"is not available in "
			"this version of Mayfly.\n"},
		{PATCH, "/machine-config", "{\"cpu_template\":\"None\"}",
			"fc_api:INFO] The API server received a Patch request on \"/machine-config\" with body "
			"\"{\\\"cpu_template\\\":\\\"None\\\"}\".\n"
			"fc_api:INFO] The request was executed successfully. Status code: 204 No Content.\n"
			"fc_api:WARN] PATCH /machine-config: cpu_template field is deprecated.\n"},
		{PUT, "/vsock/x", VSOCK_WITH_ID,
			"fc_api:INFO] The API server received a Put request on \"/vsock/x\" with body "
			"\"{\\\"guest_cid\\\":3,\\\"uds_path\\\":\\\"v\\\",\\\"vsock_id\\\":\\\"root\\\"}\".\n"
			"fc_api:INFO] The request was executed successfully. Status code: 204 No Content.\n"
			"fc_api:WARN] PUT /vsock: vsock_id field is deprecated.\n"},
	};
	char lines[4096];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		log_of(rows[i].verb, rows[i].path, rows[i].body, LOG_INFO, lines, sizeof(lines));
		assert_string_equal(lines, rows[i].lines);
	}
	log_of(PUT, "/cpu-config", "{secret}", LOG_INFO, lines, sizeof(lines));
	assert_null(strstr(lines, "secret"));
	log_of(PUT, "/cpu-config", "{secret}", LOG_DEBUG, lines, sizeof(lines));
	assert_non_null(strstr(lines, "with body \"{secret}\".\n"));
}

static void test_one_duration_line_for_each_request(void **state)
{
	static const char *const paths[] = {"/", "/nothing", "/vm/config"};
	char lines[4096], *last, *end;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		log_of(GET, paths[i], NULL, LOG_DEBUG, lines, sizeof(lines));
		last = strstr(lines, "fc_api:DEBUG] Total previous API call duration: ");
		assert_non_null(last);
		(void)strtoul(strrchr(last, ':') + 2, &end, 10);
		assert_string_equal(end, " us.\n");
		assert_null(strstr(end, "Total"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gets),
		cmocka_unit_test(test_writes),
		cmocka_unit_test(test_body_rules_come_first),
		cmocka_unit_test(test_unknown_paths),
		cmocka_unit_test(test_snapshot_and_mmds_paths),
		cmocka_unit_test(test_known_resources_that_come_later),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_network_ids),
		cmocka_unit_test(test_bad_bodies),
		cmocka_unit_test(test_unplug),
		cmocka_unit_test(test_reply_bodies),
		cmocka_unit_test(test_handler_fault),
		cmocka_unit_test(test_handler_may_take_what_the_action_owns),
		cmocka_unit_test(test_deprecation),
		cmocka_unit_test(test_log_lines),
		cmocka_unit_test(test_one_duration_line_for_each_request),
	};

	log_set_level(LOG_OFF);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
