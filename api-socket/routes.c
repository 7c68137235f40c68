/* SPDX-License-Identifier: Apache-2.0 */
#include "api-socket/routes.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "api-socket/api_log.h"
#include "api-socket/body.h"
#include "api-socket/config_fields.h"
#include "vmm/base/log.h"

#define FAULT_BEFORE "The requested operation is not supported before starting the microVM."
#define FAULT_NO_PCI "PCI is not enabled"

/* What stands behind a path. */
enum route_kind {
	ROUTE_GET,     /* no body; the action alone */
	ROUTE_GET_VM,  /* the same, but only as /vm/config */
	ROUTE_BODY,    /* the body is the action's struct */
	ROUTE_DRIVE,   /* the same, and the path has the id */
	ROUTE_NET,     /* likewise */
	ROUTE_VSOCK,   /* the same, with a deprecated field */
	ROUTE_MACHINE, /* the same, with a deprecated field, and a PATCH has to say something */
	ROUTE_ACTIONS, /* the body names the action */
	ROUTE_VM_STATE,
	ROUTE_SNAPSHOT, /* paths below are checked before they are refused as not there yet */
	ROUTE_MMDS,
	ROUTE_LATER,  /* known to clients, not there yet */
	ROUTE_UNPLUG, /* DELETE of a device: needs PCI, which there is none of */
};

struct route {
	enum http_verb verb;
	enum route_kind kind;
	enum action_type action;
	enum config_table table;
	char path[20];
};

/* No pointers in here (config_fields.h says why). */
static const struct route routes[] = {
	{HTTP_VERB_GET, ROUTE_GET, ACTION_GET_INSTANCE, 0, ""},
	{HTTP_VERB_GET, ROUTE_GET, ACTION_GET_VERSION, 0, "version"},
	{HTTP_VERB_GET, ROUTE_GET_VM, ACTION_GET_VM_CONFIG, 0, "vm"},
	{HTTP_VERB_GET, ROUTE_GET, ACTION_GET_MACHINE, 0, "machine-config"},
	{HTTP_VERB_GET, ROUTE_LATER, 0, 0, "mmds"},
	{HTTP_VERB_PUT, ROUTE_ACTIONS, 0, CONFIG_ACTION, "actions"},
	{HTTP_VERB_PUT, ROUTE_BODY, ACTION_PUT_BOOT_SOURCE, CONFIG_BOOT_SOURCE, "boot-source"},
	{HTTP_VERB_PUT, ROUTE_LATER, 0, 0, "cpu-config"},
	{HTTP_VERB_PUT, ROUTE_DRIVE, ACTION_PUT_DRIVE, CONFIG_DRIVE, "drives"},
	{HTTP_VERB_PUT, ROUTE_BODY, ACTION_PUT_LOGGER, CONFIG_LOGGER, "logger"},
	{HTTP_VERB_PUT, ROUTE_MACHINE, ACTION_PUT_MACHINE, CONFIG_MACHINE, "machine-config"},
	{HTTP_VERB_PUT, ROUTE_LATER, 0, 0, "metrics"},
	{HTTP_VERB_PUT, ROUTE_MMDS, 0, 0, "mmds"},
	{HTTP_VERB_PUT, ROUTE_NET, ACTION_PUT_NET, CONFIG_NET, "network-interfaces"},
	{HTTP_VERB_PUT, ROUTE_BODY, ACTION_PUT_SERIAL, CONFIG_SERIAL, "serial"},
	{HTTP_VERB_PUT, ROUTE_SNAPSHOT, 0, 0, "snapshot"},
	{HTTP_VERB_PUT, ROUTE_VSOCK, ACTION_PUT_VSOCK, CONFIG_VSOCK, "vsock"},
	{HTTP_VERB_PATCH, ROUTE_DRIVE, ACTION_PATCH_DRIVE, CONFIG_DRIVE_PATCH, "drives"},
	{HTTP_VERB_PATCH, ROUTE_MACHINE, ACTION_PATCH_MACHINE, CONFIG_MACHINE_PATCH, "machine-config"},
	{HTTP_VERB_PATCH, ROUTE_LATER, 0, 0, "mmds"},
	{HTTP_VERB_PATCH, ROUTE_NET, ACTION_PATCH_NET, CONFIG_NET_PATCH, "network-interfaces"},
	{HTTP_VERB_PATCH, ROUTE_VM_STATE, 0, CONFIG_VM_STATE, "vm"},
	{HTTP_VERB_DELETE, ROUTE_UNPLUG, 0, 0, "drives"},
	{HTTP_VERB_DELETE, ROUTE_UNPLUG, 0, 0, "network-interfaces"},
};

/* One token of the path. */
struct token {
	const char *s;
	size_t len;
};

/* One request on its way. */
struct call {
	const struct action_handler *handler;
	const struct http_msg *msg;
	struct token first, second;
	bool has_second;
	struct action action;
	struct reply reply;
	const char *deprecated; /* the deprecated field that the request used, for the log; NULL: none */
};

static bool token_is(struct token t, const char *text)
{
	return t.len == strlen(text) && memcmp(t.s, text, t.len) == 0;
}

/*
 * The next token at *@path, and *@path behind the slash that ends it. False: none is left; a last slash ends the path.
 */
static bool next_token(const char **path, struct token *token)
{
	const char *s = *path;
	size_t len = strcspn(s, "/");

	if (!*s)
		return false;
	*token = (struct token){s, len};
	*path = s + len + (s[len] == '/');
	return true;
}

static void fault(struct call *c, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void fault(struct call *c, const char *fmt, ...)
{
	va_list ap;

	c->reply.status = 400;
	va_start(ap, fmt);
	(void)vsnprintf(c->reply.fault, sizeof(c->reply.fault), fmt, ap);
	va_end(ap);
}

/* ---- kinds ------------------------------------------------------------------------------------------------------- */

/* Give the action to the handler, whose log lines are the monitor's own. */
static void act(struct call *c, enum action_type type)
{
	c->action.type = type;
	log_set_thread("main");
	c->handler->handle(c->handler->ctx, &c->action, &c->reply);
	log_set_thread("fc_api");
}

/* Parse the body into the struct @out of @table. False: the fault is set. */
static bool parse(struct call *c, enum config_table table, void *out)
{
	struct body_fault bad;

	if (!body_parse(c->msg->body, c->msg->body_len, table, out, &bad))
		return true;
	fault(c, "An error occurred when deserializing the json body of a request: %s.%s%s%s", bad.msg,
	      bad.field[0] ? " (field `" : "", bad.field, bad.field[0] ? "`)" : "");
	return false;
}

static void unknown_path(struct call *c)
{
	/* Long enough for every path that could be meant. */
	int len = c->first.len < 256 ? (int)c->first.len : 256;

	fault(c, "Invalid request method and/or path: %s %.*s.", http_verb_name(c->msg->verb), len, c->first.s);
}

static void not_yet(struct call *c)
{
	fault(c, "The resource \"%.256s\" is not available in this version of Mayfly.", c->msg->path);
}

static bool id_is_valid(struct token id)
{
	for (size_t i = 0; i < id.len; i++) {
		unsigned char ch = (unsigned char)id.s[i];

		if (!((ch >= '0' && ch <= '9') || ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'z') || ch == '_'))
			return false;
	}
	return true;
}

/* Is the second token an id? False: the fault is set. */
static bool check_id(struct call *c)
{
	if (!c->has_second || c->second.len == 0) {
		fault(c, "The ID cannot be empty.");
		return false;
	}
	if (!id_is_valid(c->second)) {
		fault(c, "API Resource IDs can only contain alphanumeric characters and underscores.");
		return false;
	}
	return true;
}

static void serve_drive(struct call *c, const struct route *route)
{
	if (!check_id(c) || !parse(c, route->table, &c->action.drive))
		return;
	if (!token_is(c->second, c->action.drive.drive_id))
		fault(c, "The id from the path does not match the id from the body!");
	else
		act(c, route->action);
}

static void serve_net(struct call *c, const struct route *route)
{
	if (!check_id(c) || !parse(c, route->table, &c->action.net))
		return;
	if (!token_is(c->second, c->action.net.iface_id))
		fault(c, "The id from the path [%.*s] does not match the id from the body [%.200s]!",
		      (int)(c->second.len < 200 ? c->second.len : 200), c->second.s, c->action.net.iface_id);
	else
		act(c, route->action);
}

static void serve_vsock(struct call *c, const struct route *route)
{
	if (!parse(c, route->table, &c->action.vsock))
		return;
	if (c->action.vsock.vsock_id)
		c->deprecated = "/vsock: vsock_id";
	act(c, route->action);
}

static bool patch_is_empty(const struct action_machine_patch *patch)
{
	return !patch->has_vcpu_count && !patch->has_mem_size_mib && !patch->has_smt && !patch->has_track_dirty_pages &&
	       !patch->has_huge_pages && !patch->machine.has_cpu_template;
}

static void serve_machine(struct call *c, const struct route *route)
{
	bool patch = route->table == CONFIG_MACHINE_PATCH;

	if (!parse(c, route->table, patch ? (void *)&c->action.machine_patch : (void *)&c->action.machine))
		return;
	if (patch && patch_is_empty(&c->action.machine_patch)) {
		fault(c, "Empty PATCH request.");
		return;
	}
	if (patch ? c->action.machine_patch.machine.has_cpu_template : c->action.machine.has_cpu_template)
		c->deprecated = "/machine-config: cpu_template";
	act(c, route->action);
}

static void serve_body(struct call *c, const struct route *route)
{
	/* Every struct of a ROUTE_BODY is a member of the action's union, so they all begin where it does. */
	if (parse(c, route->table, &c->action.machine))
		act(c, route->action);
}

static void serve_actions(struct call *c)
{
	struct config_action body = {0};

	if (!parse(c, CONFIG_ACTION, &body))
		return;
	switch (body.action_type) {
	case ACTION_NAME_INSTANCE_START:
		act(c, ACTION_INSTANCE_START);
		break;
	case ACTION_NAME_FLUSH_METRICS:
		act(c, ACTION_FLUSH_METRICS);
		break;
	case ACTION_NAME_SEND_CTRL_ALT_DEL:
		act(c, ACTION_SEND_CTRL_ALT_DEL);
		break;
	}
}

static void serve_vm_state(struct call *c)
{
	struct config_vm_state body = {0};

	if (parse(c, CONFIG_VM_STATE, &body))
		act(c, body.state == VM_STATE_NAME_PAUSED ? ACTION_PAUSE : ACTION_RESUME);
}

static void serve_snapshot(struct call *c)
{
	if (!c->has_second)
		fault(c, "Missing snapshot operation type.");
	else if (token_is(c->second, "create") || token_is(c->second, "load"))
		not_yet(c);
	else
		fault(c, "Invalid request method and/or path: PUT /snapshot/%.*s.",
			(int)(c->second.len < 256 ? c->second.len : 256), c->second.s);
}

static void serve_mmds(struct call *c)
{
	if (!c->has_second || token_is(c->second, "config"))
		not_yet(c);
	else
		fault(c, "Unrecognized PUT request path `%.*s`.", (int)(c->second.len < 256 ? c->second.len : 256),
			c->second.s);
}

/*
 * Devices leave a running machine through PCI only (CONTRACT.md section 3); before the start there is nothing to
 * leave.
 */
static void serve_unplug(struct call *c)
{
	if (!check_id(c))
		return;
	act(c, ACTION_GET_INSTANCE);
	fault(c, "%s", c->reply.state == VM_NOT_STARTED ? FAULT_BEFORE : FAULT_NO_PCI);
}

static void serve(struct call *c, const struct route *route)
{
	c->action.type = route->action; /* says what action_fini frees, also if parsing stops halfway */
	switch (route->kind) {
	case ROUTE_GET:
		act(c, route->action);
		break;
	case ROUTE_GET_VM:
		if (c->has_second && token_is(c->second, "config"))
			act(c, route->action);
		else
			unknown_path(c);
		break;
	case ROUTE_BODY:
		serve_body(c, route);
		break;
	case ROUTE_DRIVE:
		serve_drive(c, route);
		break;
	case ROUTE_NET:
		serve_net(c, route);
		break;
	case ROUTE_VSOCK:
		serve_vsock(c, route);
		break;
	case ROUTE_MACHINE:
		serve_machine(c, route);
		break;
	case ROUTE_ACTIONS:
		serve_actions(c);
		break;
	case ROUTE_VM_STATE:
		serve_vm_state(c);
		break;
	case ROUTE_SNAPSHOT:
		serve_snapshot(c);
		break;
	case ROUTE_MMDS:
		serve_mmds(c);
		break;
	case ROUTE_LATER:
		not_yet(c);
		break;
	case ROUTE_UNPLUG:
		serve_unplug(c);
		break;
	}
}

/* ---- dispatch ---------------------------------------------------------------------------------------------------- */

/* GET and DELETE come without a body, PUT and PATCH with one; NULL, or the fault for the other way round. */
static const char *body_fault(const struct http_msg *msg)
{
	switch (msg->verb) {
	case HTTP_VERB_GET:
		return msg->body ? "GET request cannot have a body." : NULL;
	case HTTP_VERB_PUT:
		return msg->body ? NULL : "Empty PUT request.";
	case HTTP_VERB_PATCH:
		return msg->body ? NULL : "Empty PATCH request.";
	case HTTP_VERB_DELETE:
		return msg->body ? "Empty Delete request." : NULL;
	}
	return NULL;
}

/* The rules of CONTRACT.md 1.5, in their order. */
static void dispatch(struct call *c)
{
	const char *path = c->msg->path, *bad = body_fault(c->msg);

	path += strspn(path, "/");
	if (!next_token(&path, &c->first))
		c->first = (struct token){"", 0};
	c->has_second = next_token(&path, &c->second);
	if (bad) {
		fault(c, "%s", bad);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		if (routes[i].verb == c->msg->verb && token_is(c->first, routes[i].path)) {
			serve(c, &routes[i]);
			return;
		}
	}
	unknown_path(c);
}

/* ---- replies ----------------------------------------------------------------------------------------------------- */

static void print_fault(struct json_out *out, const char *text)
{
	out->len = 0;
	json_put_text(out, "{\"fault_message\":");
	json_put_string(out, text);
	json_put_text(out, "}");
}

static const char *state_name(enum vm_state state)
{
	switch (state) {
	case VM_NOT_STARTED:
		return "Not started";
	case VM_RUNNING:
		return "Running";
	case VM_PAUSED:
		return "Paused";
	}
	return "";
}

static void print_instance(struct json_out *out, const struct reply *reply)
{
	json_put_text(out, "{\"id\":");
	json_put_string(out, reply->id);
	json_put_text(out, ",\"state\":");
	json_put_string(out, state_name(reply->state));
	json_put_text(out, ",\"vmm_version\":");
	json_put_string(out, reply->version);
	json_put_text(out, ",\"app_name\":");
	json_put_string(out, reply->app_name);
	json_put_text(out, "}");
}

static void print_version(struct json_out *out, const struct reply *reply)
{
	json_put_text(out, "{\"firecracker_version\":");
	json_put_string(out, reply->version);
	json_put_text(out, "}");
}

static void print_result(struct json_out *out, const struct call *c)
{
	switch (c->action.type) {
	case ACTION_GET_INSTANCE:
		print_instance(out, &c->reply);
		break;
	case ACTION_GET_VERSION:
		print_version(out, &c->reply);
		break;
	case ACTION_GET_MACHINE:
		config_print_machine(out, &c->reply.config->machine);
		break;
	case ACTION_GET_VM_CONFIG:
		config_print_vm(out, c->reply.config);
		break;
	case ACTION_PUT_MACHINE:
	case ACTION_PATCH_MACHINE:
	case ACTION_PUT_BOOT_SOURCE:
	case ACTION_PUT_DRIVE:
	case ACTION_PATCH_DRIVE:
	case ACTION_PUT_NET:
	case ACTION_PATCH_NET:
	case ACTION_PUT_VSOCK:
	case ACTION_PUT_LOGGER:
	case ACTION_PUT_SERIAL:
	case ACTION_INSTANCE_START:
	case ACTION_FLUSH_METRICS:
	case ACTION_SEND_CTRL_ALT_DEL:
	case ACTION_PAUSE:
	case ACTION_RESUME:
		break;
	}
}

static void make_reply(const struct call *c, struct route_reply *reply)
{
	reply->status = c->reply.status;
	reply->deprecated = c->deprecated != NULL;
	if (reply->status == 200)
		print_result(&reply->body, c);
	else if (reply->status != 204)
		print_fault(&reply->body, c->reply.fault);
	if (reply->body.failed) {
		reply->status = 400;
		reply->body.failed = false;
		print_fault(&reply->body, "The reply does not fit into memory.");
	}
}

/* ---- one request ------------------------------------------------------------------------------------------------- */

static uint64_t now_us(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

void route_request(const struct action_handler *handler, const struct http_msg *msg, struct route_reply *reply)
{
	struct call c = {.handler = handler, .msg = msg};
	uint64_t start_us = now_us();

	log_set_thread("fc_api");
	api_log_request(msg);
	dispatch(&c);
	api_log_result(msg, c.reply.status, c.reply.fault, c.deprecated);
	make_reply(&c, reply);
	action_fini(&c.action);
	log_debug("Total previous API call duration: %" PRIu64 " us.", now_us() - start_us);
	log_set_thread("main");
}
