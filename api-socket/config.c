/* SPDX-License-Identifier: Apache-2.0 */
#include "api-socket/config.h"

#include <stdio.h>
#include <string.h>

#include "api-socket/action.h"
#include "api-socket/config_fields.h"
#include "api-socket/json.h"

void vm_config_init(struct vm_config *config)
{
	*config = (struct vm_config){.machine = {.vcpu_count = 1, .mem_size_mib = 128}};
}

void vm_config_fini(struct vm_config *config)
{
	config_boot_source_fini(&config->boot);
	for (size_t i = 0; i < config->n_drives; i++)
		config_drive_fini(&config->drive[i]);
	for (size_t i = 0; i < config->n_nets; i++)
		config_net_fini(&config->net[i]);
	config_vsock_fini(&config->vsock);
	*config = (struct vm_config){0};
}

void config_boot_source_fini(struct config_boot_source *boot)
{
	config_fini(CONFIG_BOOT_SOURCE, boot);
}

void config_drive_fini(struct config_drive *drive)
{
	config_fini(CONFIG_DRIVE, drive);
}

void config_net_fini(struct config_net *net)
{
	config_fini(CONFIG_NET, net);
}

void config_vsock_fini(struct config_vsock *vsock)
{
	config_fini(CONFIG_VSOCK, vsock);
}

void config_logger_fini(struct config_logger *logger)
{
	config_fini(CONFIG_LOGGER, logger);
}

void config_serial_fini(struct config_serial *serial)
{
	config_fini(CONFIG_SERIAL, serial);
}

void action_fini(struct action *action)
{
	switch (action->type) {
	case ACTION_PUT_BOOT_SOURCE:
		config_boot_source_fini(&action->boot);
		break;
	case ACTION_PUT_DRIVE:
	case ACTION_PATCH_DRIVE:
		config_drive_fini(&action->drive);
		break;
	case ACTION_PUT_NET:
	case ACTION_PATCH_NET:
		config_net_fini(&action->net);
		break;
	case ACTION_PUT_VSOCK:
		config_vsock_fini(&action->vsock);
		break;
	case ACTION_PUT_LOGGER:
		config_logger_fini(&action->logger);
		break;
	case ACTION_PUT_SERIAL:
		config_serial_fini(&action->serial);
		break;
	case ACTION_GET_INSTANCE:
	case ACTION_GET_VERSION:
	case ACTION_GET_MACHINE:
	case ACTION_GET_VM_CONFIG:
	case ACTION_PUT_MACHINE:
	case ACTION_PATCH_MACHINE:
	case ACTION_INSTANCE_START:
	case ACTION_FLUSH_METRICS:
	case ACTION_SEND_CTRL_ALT_DEL:
	case ACTION_PAUSE:
	case ACTION_RESUME:
		break;
	}
}

bool config_bucket_is_off(const struct config_bucket *bucket)
{
	return !bucket->present || bucket->size == 0 || bucket->refill_time_ms == 0 ||
	       bucket->refill_time_ms > UINT64_MAX / 1000000;
}

/* Objects that limit nothing are printed as null, whatever the client wrote. */
static bool object_is_off(enum config_table table, const void *object)
{
	const struct config_rate_limiter *limiter = object;

	if (table == CONFIG_BUCKET)
		return config_bucket_is_off(object);
	if (table == CONFIG_RATE_LIMITER)
		return config_bucket_is_off(&limiter->bandwidth) && config_bucket_is_off(&limiter->ops);
	return false;
}

void config_mac_text(const uint8_t mac[CONFIG_MAC_BYTES], char text[CONFIG_MAC_TEXT])
{
	(void)snprintf(text, CONFIG_MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
		       mac[5]);
}

/* A row whose struct has no such bool counts as given. */
static bool is_given(const struct config_field *field, const void *object)
{
	return field->given == FIELD_NO_FLAG || *((const bool *)object + field->given);
}

static void print_u64(struct json_out *out, const struct config_field *field, uint64_t v)
{
	if (v == 0 && field->flags & FIELD_NULL_ZERO)
		json_put_text(out, "null");
	else
		json_put_u64(out, v);
}

static void print_enum(struct json_out *out, enum config_names names, uint32_t wanted)
{
	uint32_t value;
	const char *name;

	for (size_t i = 0; (name = config_name(names, i, &value)); i++) {
		if (value == wanted) {
			json_put_string(out, name);
			return;
		}
	}
	json_put_text(out, "null");
}

static void print_table(struct json_out *out, enum config_table table, const void *object);

static void print_mac(struct json_out *out, const uint8_t *mac)
{
	char text[CONFIG_MAC_TEXT];

	config_mac_text(mac, text);
	json_put_string(out, text);
}

static void print_field(struct json_out *out, const struct config_field *field, const void *object)
{
	const void *member = (const char *)object + field->offset;
	const char *text;
	uint64_t u64;
	uint32_t u32;
	uint16_t u16;

	switch ((enum config_kind)field->kind) {
	case FIELD_BOOL:
		json_put_text(out, *(const bool *)member ? "true" : "false");
		break;
	case FIELD_U8:
		json_put_u64(out, *(const uint8_t *)member);
		break;
	case FIELD_U16:
		memcpy(&u16, member, sizeof(u16));
		print_u64(out, field, u16);
		break;
	case FIELD_U32:
		memcpy(&u32, member, sizeof(u32));
		print_u64(out, field, u32);
		break;
	case FIELD_MAC:
		if (is_given(field, object))
			print_mac(out, member);
		else
			json_put_text(out, "null");
		break;
	case FIELD_U64:
	case FIELD_USIZE:
		memcpy(&u64, member, sizeof(u64));
		print_u64(out, field, u64);
		break;
	case FIELD_STRING:
	case FIELD_PATH:
		memcpy(&text, member, sizeof(text));
		/* A required string that was never given is empty, not null (CONTRACT.md 4.4, before PUT). */
		json_put_string(out, !text && field->flags & FIELD_REQUIRED ? "" : text);
		break;
	case FIELD_ENUM:
		memcpy(&u32, member, sizeof(u32));
		print_enum(out, field->detail, u32);
		break;
	case FIELD_OBJECT:
		if (object_is_off(field->detail, member))
			json_put_text(out, "null");
		else
			print_table(out, field->detail, member);
		break;
	}
}

static bool is_omitted(const struct config_field *field, const void *object)
{
	const char *member = (const char *)object + field->offset;
	const char *text;
	uint32_t u32;

	if (field->flags & FIELD_HIDDEN)
		return true;
	if (field->flags & FIELD_OMIT_ABSENT) {
		if (field->kind != FIELD_STRING)
			return !is_given(field, object);
		memcpy(&text, member, sizeof(text));
		return !text;
	}
	if (!(field->flags & FIELD_OMIT_ZERO))
		return false;
	must(field->kind == FIELD_ENUM);
	memcpy(&u32, member, sizeof(u32));
	return u32 == 0;
}

static void print_table(struct json_out *out, enum config_table table, const void *object)
{
	size_t n;
	const struct config_field *field = config_fields(table, &n);
	bool first = true;

	json_put_text(out, "{");
	for (size_t i = 0; i < n; i++) {
		if (is_omitted(&field[i], object))
			continue;
		json_put_text(out, first ? "\"" : ",\"");
		json_put_text(out, field[i].name);
		json_put_text(out, "\":");
		print_field(out, &field[i], object);
		first = false;
	}
	json_put_text(out, "}");
}

void config_print_machine(struct json_out *out, const struct config_machine *machine)
{
	print_table(out, CONFIG_MACHINE, machine);
}

void config_print_vm(struct json_out *out, const struct vm_config *config)
{
	json_put_text(out, "{\"balloon\":null,\"drives\":[");
	for (size_t i = 0; i < config->n_drives; i++) {
		if (i > 0)
			json_put_text(out, ",");
		print_table(out, CONFIG_DRIVE, &config->drive[i]);
	}
	json_put_text(out, "],\"boot-source\":");
	print_table(out, CONFIG_BOOT_SOURCE, &config->boot);
	json_put_text(out, ",\"cpu-config\":null,\"logger\":null,\"machine-config\":");
	config_print_machine(out, &config->machine);
	json_put_text(out, ",\"metrics\":null,\"mmds-config\":null,\"network-interfaces\":[");
	for (size_t i = 0; i < config->n_nets; i++) {
		if (i > 0)
			json_put_text(out, ",");
		print_table(out, CONFIG_NET, &config->net[i]);
	}
	json_put_text(out, "],\"vsock\":");
	if (config->vsock.uds_path)
		print_table(out, CONFIG_VSOCK, &config->vsock);
	else
		json_put_text(out, "null");
	json_put_text(out, ",\"entropy\":null,\"pmem\":[],\"memory-hotplug\":null}");
}
