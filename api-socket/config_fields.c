/* SPDX-License-Identifier: Apache-2.0 */
#include "api-socket/config_fields.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api-socket/action.h"
#include "vmm/base/log.h"

/* A row whose key is not called as its member. */
#define ROW_AS(key, type, member, kind_, flags_, detail_)                                                              \
	{                                                                                                              \
		.name = key, .kind = kind_, .flags = flags_, .detail = detail_,                                        \
		.offset = offsetof(struct type, member), .given = FIELD_NO_FLAG                                        \
	}
#define ROW(type, member, kind_, flags_, detail_) ROW_AS(#member, type, member, kind_, flags_, detail_)
/* A row whose struct has a bool member that says that the client gave it. */
#define ROW_GIVEN(type, member, kind_, flags_, detail_)                                                                \
	{                                                                                                              \
		.name = #member, .kind = kind_, .flags = flags_, .detail = detail_,                                    \
		.offset = offsetof(struct type, member), .given = offsetof(struct type, has_##member)                  \
	}
#define ROW_PATCH(member, has_member, kind_, detail_)                                                                  \
	{                                                                                                              \
		.name = #member, .kind = kind_, .flags = FIELD_NULLABLE, .detail = detail_,                            \
		.offset = offsetof(struct action_machine_patch, machine.member),                                       \
		.given = offsetof(struct action_machine_patch, has_member)                                             \
	}
/* The struct of an object row begins to count when its own `present` is set. */
#define ROW_OBJECT(type, member, flags_, table)                                                                        \
	{                                                                                                              \
		.name = #member, .kind = FIELD_OBJECT, .flags = flags_, .detail = table,                               \
		.offset = offsetof(struct type, member), .given = offsetof(struct type, member.present)                \
	}

static const struct config_field bucket_fields[] = {
	ROW(config_bucket, size, FIELD_U64, FIELD_REQUIRED, 0),
	ROW(config_bucket, one_time_burst, FIELD_U64, FIELD_NULLABLE | FIELD_NULL_ZERO, 0),
	ROW_AS("refill_time", config_bucket, refill_time_ms, FIELD_U64, FIELD_REQUIRED, 0),
};

static const struct config_field rate_limiter_fields[] = {
	ROW_OBJECT(config_rate_limiter, bandwidth, FIELD_NULLABLE, CONFIG_BUCKET),
	ROW_OBJECT(config_rate_limiter, ops, FIELD_NULLABLE, CONFIG_BUCKET),
};

static const struct config_field boot_source_fields[] = {
	ROW(config_boot_source, kernel_image_path, FIELD_STRING, FIELD_REQUIRED, 0),
	ROW(config_boot_source, initrd_path, FIELD_STRING, FIELD_NULLABLE, 0),
	ROW(config_boot_source, boot_args, FIELD_STRING, FIELD_NULLABLE, 0),
};

static const struct config_field drive_fields[] = {
	ROW(config_drive, drive_id, FIELD_STRING, FIELD_REQUIRED, 0),
	ROW(config_drive, partuuid, FIELD_STRING, FIELD_NULLABLE, 0),
	ROW(config_drive, is_root_device, FIELD_BOOL, FIELD_REQUIRED, 0),
	ROW(config_drive, cache_type, FIELD_ENUM, 0, NAMES_CACHE_TYPE),
	ROW_GIVEN(config_drive, is_read_only, FIELD_BOOL, FIELD_NULLABLE, 0),
	ROW(config_drive, path_on_host, FIELD_STRING, FIELD_NULLABLE, 0),
	ROW_OBJECT(config_drive, rate_limiter, FIELD_NULLABLE, CONFIG_RATE_LIMITER),
	ROW_GIVEN(config_drive, io_engine, FIELD_ENUM, FIELD_NULLABLE, NAMES_IO_ENGINE),
	ROW(config_drive, socket, FIELD_STRING, FIELD_NULLABLE, 0),
	ROW(config_drive, delta_path, FIELD_STRING, FIELD_NULLABLE | FIELD_OMIT_ABSENT, 0),
};

static const struct config_field drive_patch_fields[] = {
	ROW(config_drive, drive_id, FIELD_STRING, FIELD_REQUIRED, 0),
	ROW(config_drive, path_on_host, FIELD_STRING, FIELD_NULLABLE, 0),
	ROW_OBJECT(config_drive, rate_limiter, FIELD_NULLABLE, CONFIG_RATE_LIMITER),
	ROW(config_drive, delta_path, FIELD_STRING, FIELD_NULLABLE, 0),
};

static const struct config_field net_fields[] = {
	ROW(config_net, iface_id, FIELD_STRING, FIELD_REQUIRED, 0),
	ROW(config_net, host_dev_name, FIELD_STRING, FIELD_ONE_OF, 0),
	ROW_GIVEN(config_net, guest_mac, FIELD_MAC, FIELD_NULLABLE, 0),
	ROW_GIVEN(config_net, mtu, FIELD_U16, FIELD_NULLABLE | FIELD_NULL_ZERO, 0),
	ROW_OBJECT(config_net, rx_rate_limiter, FIELD_NULLABLE, CONFIG_RATE_LIMITER),
	ROW_OBJECT(config_net, tx_rate_limiter, FIELD_NULLABLE, CONFIG_RATE_LIMITER),
	ROW_GIVEN(config_net, tap_fd, FIELD_U32, FIELD_ONE_OF | FIELD_OMIT_ABSENT, 0),
	ROW(config_net, passt_socket, FIELD_STRING, FIELD_ONE_OF | FIELD_OMIT_ABSENT, 0),
};

static const struct config_field net_patch_fields[] = {
	ROW(config_net, iface_id, FIELD_STRING, FIELD_REQUIRED, 0),
	ROW_OBJECT(config_net, rx_rate_limiter, FIELD_NULLABLE, CONFIG_RATE_LIMITER),
	ROW_OBJECT(config_net, tx_rate_limiter, FIELD_NULLABLE, CONFIG_RATE_LIMITER),
};

static const struct config_field vsock_fields[] = {
	ROW(config_vsock, vsock_id, FIELD_STRING, FIELD_NULLABLE | FIELD_HIDDEN, 0),
	ROW(config_vsock, guest_cid, FIELD_U32, FIELD_REQUIRED, 0),
	ROW(config_vsock, uds_path, FIELD_STRING, FIELD_REQUIRED, 0),
};

static const struct config_field machine_fields[] = {
	ROW(config_machine, vcpu_count, FIELD_U8, FIELD_REQUIRED, 0),
	ROW(config_machine, mem_size_mib, FIELD_USIZE, FIELD_REQUIRED, 0),
	ROW(config_machine, smt, FIELD_BOOL, 0, 0),
	ROW_GIVEN(config_machine, cpu_template, FIELD_ENUM, FIELD_NULLABLE | FIELD_OMIT_ZERO, NAMES_CPU_TEMPLATE),
	ROW(config_machine, track_dirty_pages, FIELD_BOOL, 0, 0),
	ROW(config_machine, huge_pages, FIELD_ENUM, 0, NAMES_HUGE_PAGES),
};

static const struct config_field machine_patch_fields[] = {
	ROW_PATCH(vcpu_count, has_vcpu_count, FIELD_U8, 0),
	ROW_PATCH(mem_size_mib, has_mem_size_mib, FIELD_USIZE, 0),
	ROW_PATCH(smt, has_smt, FIELD_BOOL, 0),
	ROW_PATCH(cpu_template, machine.has_cpu_template, FIELD_ENUM, NAMES_CPU_TEMPLATE),
	ROW_PATCH(track_dirty_pages, has_track_dirty_pages, FIELD_BOOL, 0),
	ROW_PATCH(huge_pages, has_huge_pages, FIELD_ENUM, NAMES_HUGE_PAGES),
};

static const struct config_field logger_fields[] = {
	ROW(config_logger, log_path, FIELD_PATH, FIELD_NULLABLE, 0),
	ROW_GIVEN(config_logger, level, FIELD_ENUM, FIELD_NULLABLE, NAMES_LOG_LEVEL),
	ROW_GIVEN(config_logger, show_level, FIELD_BOOL, FIELD_NULLABLE, 0),
	ROW_GIVEN(config_logger, show_log_origin, FIELD_BOOL, FIELD_NULLABLE, 0),
	ROW(config_logger, module, FIELD_STRING, FIELD_NULLABLE, 0),
};

static const struct config_field serial_fields[] = {
	ROW(config_serial, serial_out_path, FIELD_PATH, FIELD_NULLABLE, 0),
	ROW_OBJECT(config_serial, rate_limiter, FIELD_NULLABLE, CONFIG_BUCKET),
};

static const struct config_field action_fields[] = {
	ROW(config_action, action_type, FIELD_ENUM, FIELD_REQUIRED, NAMES_ACTION),
};

static const struct config_field vm_state_fields[] = {
	ROW(config_vm_state, state, FIELD_ENUM, FIELD_REQUIRED, NAMES_VM_STATE),
};

/* An enum member is four bytes, which is what FIELD_ENUM stores. */
_Static_assert(sizeof(enum config_huge_pages) == 4 && sizeof(((struct config_logger *)0)->level) == 4, "FIELD_ENUM");

const struct config_field *config_fields(enum config_table table, size_t *n)
{
#define ROWS(array) return *n = ARRAY_SIZE(array), array
	switch (table) {
	case CONFIG_BUCKET:
		ROWS(bucket_fields);
	case CONFIG_RATE_LIMITER:
		ROWS(rate_limiter_fields);
	case CONFIG_BOOT_SOURCE:
		ROWS(boot_source_fields);
	case CONFIG_DRIVE:
		ROWS(drive_fields);
	case CONFIG_DRIVE_PATCH:
		ROWS(drive_patch_fields);
	case CONFIG_NET:
		ROWS(net_fields);
	case CONFIG_NET_PATCH:
		ROWS(net_patch_fields);
	case CONFIG_VSOCK:
		ROWS(vsock_fields);
	case CONFIG_MACHINE:
		ROWS(machine_fields);
	case CONFIG_MACHINE_PATCH:
		ROWS(machine_patch_fields);
	case CONFIG_LOGGER:
		ROWS(logger_fields);
	case CONFIG_SERIAL:
		ROWS(serial_fields);
	case CONFIG_ACTION:
		ROWS(action_fields);
	case CONFIG_VM_STATE:
		ROWS(vm_state_fields);
	}
#undef ROWS
	*n = 0;
	return NULL;
}

/* What is known of a whole object. */
struct table_row {
	char name[36];
	uint16_t size;
	bool ignores_unknown;
};

static const struct table_row tables[N_CONFIG_TABLES] = {
	[CONFIG_BUCKET] = {"struct TokenBucketConfig", sizeof(struct config_bucket), true},
	[CONFIG_RATE_LIMITER] = {"struct RateLimiterConfig", sizeof(struct config_rate_limiter), false},
	[CONFIG_BOOT_SOURCE] = {"struct BootSourceConfig", sizeof(struct config_boot_source), false},
	[CONFIG_DRIVE] = {"struct BlockDeviceConfig", sizeof(struct config_drive), false},
	[CONFIG_DRIVE_PATCH] = {"struct BlockDeviceUpdateConfig", sizeof(struct config_drive), false},
	[CONFIG_NET] = {"struct NetworkInterfaceConfig", sizeof(struct config_net), false},
	[CONFIG_NET_PATCH] = {"struct NetworkInterfaceUpdateConfig", sizeof(struct config_net), false},
	[CONFIG_VSOCK] = {"struct VsockDeviceConfig", sizeof(struct config_vsock), false},
	[CONFIG_MACHINE] = {"struct MachineConfig", sizeof(struct config_machine), false},
	[CONFIG_MACHINE_PATCH] = {"struct MachineConfigUpdate", sizeof(struct action_machine_patch), false},
	[CONFIG_LOGGER] = {"struct LoggerConfig", sizeof(struct config_logger), false},
	[CONFIG_SERIAL] = {"struct SerialConfig", sizeof(struct config_serial), false},
	[CONFIG_ACTION] = {"struct ActionBody", sizeof(struct config_action), false},
	[CONFIG_VM_STATE] = {"struct Vm", sizeof(struct config_vm_state), false},
};

const char *config_table_name(enum config_table table)
{
	return tables[table].name;
}

bool config_table_ignores_unknown(enum config_table table)
{
	return tables[table].ignores_unknown;
}

size_t config_size(enum config_table table)
{
	return tables[table].size;
}

#define N_NAMES_MAX 7

struct name_row {
	char name[18];
	uint8_t value;
};

/* The sets; a row with an empty name ends one that is not full. */
static const struct name_row names_of[N_CONFIG_NAMES][N_NAMES_MAX] = {
	[NAMES_CPU_TEMPLATE] = {{"None", CPU_TEMPLATE_NONE}, {"C3", CPU_TEMPLATE_C3}, {"T2", CPU_TEMPLATE_T2},
		{"T2S", CPU_TEMPLATE_T2S}, {"T2CL", CPU_TEMPLATE_T2CL}, {"T2A", CPU_TEMPLATE_T2A}},
	[NAMES_HUGE_PAGES] = {{"None", HUGE_PAGES_NONE}, {"Transparent", HUGE_PAGES_TRANSPARENT},
		{"2M", HUGE_PAGES_2M}},
	[NAMES_CACHE_TYPE] = {{"Unsafe", CACHE_UNSAFE}, {"Writeback", CACHE_WRITEBACK}},
	[NAMES_IO_ENGINE] = {{"Async", IO_ENGINE_ASYNC}, {"Sync", IO_ENGINE_SYNC}},
	[NAMES_LOG_LEVEL] = {{"Off", LOG_OFF}, {"Trace", LOG_TRACE}, {"Debug", LOG_DEBUG}, {"Info", LOG_INFO},
		{"Warn", LOG_WARN}, {"Warning", LOG_WARN}, {"Error", LOG_ERROR}},
	[NAMES_ACTION] = {{"FlushMetrics", ACTION_NAME_FLUSH_METRICS}, {"InstanceStart", ACTION_NAME_INSTANCE_START},
		{"SendCtrlAltDel", ACTION_NAME_SEND_CTRL_ALT_DEL}},
	[NAMES_VM_STATE] = {{"Paused", VM_STATE_NAME_PAUSED}, {"Resumed", VM_STATE_NAME_RESUMED}},
};

const char *config_name(enum config_names names, size_t i, uint32_t *value)
{
	if (i >= N_NAMES_MAX || !names_of[names][i].name[0])
		return NULL;
	*value = names_of[names][i].value;
	return names_of[names][i].name;
}

bool config_name_find(enum config_names names, const char *text, uint32_t *value)
{
	uint32_t v;
	const char *name;

	for (size_t i = 0; (name = config_name(names, i, &v)); i++) {
		if (strcmp(name, text) == 0 || (names == NAMES_LOG_LEVEL && strcasecmp(name, text) == 0)) {
			*value = v;
			return true;
		}
	}
	return false;
}

void config_fini(enum config_table table, void *object)
{
	size_t n;
	const struct config_field *field = config_fields(table, &n);

	for (size_t i = 0; i < n; i++) {
		char *member = (char *)object + field[i].offset;

		if (field[i].kind == FIELD_STRING || field[i].kind == FIELD_PATH)
			free(*(char **)(void *)member);
		else if (field[i].kind == FIELD_OBJECT)
			config_fini(field[i].detail, member);
	}
	memset(object, 0, config_size(table));
}
