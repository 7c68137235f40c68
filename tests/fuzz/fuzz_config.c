/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON to configuration. The first byte chooses a field table, or the configuration file; the rest is the text.
 *
 * Asserted: a text is refused with a message or accepted, never both; jansson agrees that what is accepted is JSON;
 * what was accepted is printed as JSON, and a configuration that a file gave and `GET /vm/config` printed gives the
 * same again.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api-socket/action.h"
#include "api-socket/body.h"
#include "api-socket/config_file.h"
#include "api-socket/json.h"
#include "vmm/base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The handler keeps what it is given, as the monitor does, but refuses nothing. */
struct keeper {
	struct vm_config config;
	bool started;
};

static void keep_drive(struct vm_config *config, struct action *action)
{
	if (config->n_drives == CONFIG_MAX_DRIVES)
		return;
	config->drive[config->n_drives++] = action->drive;
	action->drive = (struct config_drive){0};
}

static void keep_net(struct vm_config *config, struct action *action)
{
	if (config->n_nets == CONFIG_MAX_NETS)
		return;
	config->net[config->n_nets++] = action->net;
	action->net = (struct config_net){0};
}

static void handle(void *ctx, struct action *action, struct reply *reply)
{
	struct keeper *k = ctx;

	reply->status = 204;
	if (action->type == ACTION_PUT_MACHINE) {
		k->config.machine = action->machine;
	} else if (action->type == ACTION_PUT_BOOT_SOURCE) {
		config_boot_source_fini(&k->config.boot);
		k->config.boot = action->boot;
		action->boot = (struct config_boot_source){0};
	} else if (action->type == ACTION_PUT_DRIVE) {
		keep_drive(&k->config, action);
	} else if (action->type == ACTION_PUT_NET) {
		keep_net(&k->config, action);
	} else if (action->type == ACTION_PUT_VSOCK) {
		config_vsock_fini(&k->config.vsock);
		k->config.vsock = action->vsock;
		action->vsock = (struct config_vsock){0};
	} else if (action->type == ACTION_INSTANCE_START) {
		k->started = true;
	} else {
		must(action->type == ACTION_PUT_LOGGER);
	}
}

static void apply(struct keeper *k, const char *text, size_t len)
{
	struct action_handler handler = {.handle = handle, .ctx = k};
	struct err e = {0};
	int rc;

	vm_config_init(&k->config);
	k->started = false;
	rc = config_file_apply_text(text, len, &handler, &e);
	must((rc == 0) == k->started);
	must((rc == 0) == (e.msg[0] == '\0'));
}

static void must_be_json(const char *text, size_t len)
{
	json_t *value = json_loadb(text, len, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);

	must(value);
	json_decref(value);
}

static void try_file(const char *text, size_t len)
{
	struct keeper *first = malloc(sizeof(*first)), *second = malloc(sizeof(*second));
	struct json_out one, two;
	char buf[64], buf2[4096];

	must(first && second);
	apply(first, text, len);
	if (first->started) {
		json_out_init(&one, buf, sizeof(buf));
		json_out_init(&two, buf2, sizeof(buf2));
		config_print_vm(&one, &first->config);
		must(!one.failed);
		must_be_json(one.data, one.len);
		apply(second, one.data, one.len);
		must(second->started);
		config_print_vm(&two, &second->config);
		must(one.len == two.len && memcmp(one.data, two.data, one.len) == 0);
		json_out_fini(&one);
		json_out_fini(&two);
		vm_config_fini(&second->config);
	}
	vm_config_fini(&first->config);
	free(first);
	free(second);
}

static void try_body(const char *text, size_t len, enum config_table table)
{
	union {
		struct action action;
		struct config_rate_limiter limiter;
	} object = {0};
	struct body_fault fault = {.msg = ""};
	int rc = body_parse(text, len, table, &object, &fault);

	must(config_size(table) <= sizeof(object));
	must((rc == 0) == (fault.msg[0] == '\0'));
	must(json_is_utf8(fault.msg, strlen(fault.msg)));
	if (rc == 0) {
		json_t *value = json_loadb(text, len, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);

		/* The one thing that jansson refuses and a field table may ignore: a real beyond double. */
		must(value || config_table_ignores_unknown(table) || memchr(text, 'e', len) || memchr(text, 'E', len));
		json_decref(value);
	}
	config_fini(table, &object);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (size < 1)
		return 0;
	log_set_level(LOG_OFF);
	text = malloc(size);
	must(text);
	memcpy(text, data + 1, size - 1);
	text = realloc(text, size - 1 ? size - 1 : 1);
	must(text);
	if (data[0] % 16 < N_CONFIG_TABLES)
		try_body(text, size - 1, (enum config_table)(data[0] % 16));
	else
		try_file(text, size - 1);
	free(text);
	return 0;
}
