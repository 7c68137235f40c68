/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The field tables: one row for each field of each API object. Parsing (body.c), printing (config.c), freeing and the
 * text for every bad field come from these rows; nothing else knows a field's name.
 *
 * A new resource is a new enum config_table value, its row in `tables`, and an array of rows. Rows hold no pointers, so
 * that a position-independent program has nothing to relocate before its first API reply.
 */
#ifndef MAYFLY_API_CONFIG_FIELDS_H
#define MAYFLY_API_CONFIG_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api-socket/config.h"
#include "vmm/base/cdefs.h"

/* The objects that have rows, each with the struct that it fills. */
enum config_table {
	CONFIG_BUCKET,        /* struct config_bucket */
	CONFIG_RATE_LIMITER,  /* struct config_rate_limiter */
	CONFIG_BOOT_SOURCE,   /* struct config_boot_source */
	CONFIG_DRIVE,         /* struct config_drive */
	CONFIG_DRIVE_PATCH,   /* struct config_drive */
	CONFIG_MACHINE,       /* struct config_machine */
	CONFIG_MACHINE_PATCH, /* struct action_machine_patch */
	CONFIG_LOGGER,        /* struct config_logger */
	CONFIG_SERIAL,        /* struct config_serial */
	CONFIG_ACTION,        /* struct config_action */
	CONFIG_VM_STATE,      /* struct config_vm_state */
	CONFIG_NET,           /* struct config_net */
	CONFIG_NET_PATCH,     /* struct config_net */
	CONFIG_VSOCK,         /* struct config_vsock */
};
#define N_CONFIG_TABLES 14

/* The sets of names that an enum field knows. */
enum config_names {
	NAMES_CPU_TEMPLATE,
	NAMES_HUGE_PAGES,
	NAMES_CACHE_TYPE,
	NAMES_IO_ENGINE,
	NAMES_LOG_LEVEL,
	NAMES_ACTION,
	NAMES_VM_STATE,
};
#define N_CONFIG_NAMES 7

enum config_action_name { ACTION_NAME_INSTANCE_START, ACTION_NAME_FLUSH_METRICS, ACTION_NAME_SEND_CTRL_ALT_DEL };
enum config_vm_state_name { VM_STATE_NAME_PAUSED, VM_STATE_NAME_RESUMED };

/* PUT /actions and PATCH /vm: objects with one field that names what to do. */
struct config_action {
	enum config_action_name action_type;
};
struct config_vm_state {
	enum config_vm_state_name state;
};

enum config_kind {
	FIELD_BOOL,
	FIELD_U8,
	FIELD_U16,
	FIELD_U32,
	FIELD_U64,
	FIELD_USIZE,  /* as u64, but called usize in messages */
	FIELD_STRING, /* char *, owned */
	FIELD_PATH,   /* the same, but called a path in messages */
	FIELD_MAC,    /* CONFIG_MAC_BYTES bytes, written as a text */
	FIELD_ENUM,   /* four bytes; detail: enum config_names */
	FIELD_OBJECT, /* a struct in place; detail: enum config_table */
};

/* Flags of a row. */
#define FIELD_REQUIRED 0x01     /* the key must be there */
#define FIELD_NULLABLE 0x02     /* null is the same as absent */
#define FIELD_OMIT_ZERO 0x04    /* printed only when not zero */
#define FIELD_NULL_ZERO 0x08    /* printed as null when zero */
#define FIELD_OMIT_ABSENT 0x10  /* printed only when it was given: fields that Firecracker's clients do not know */
#define FIELD_HIDDEN 0x20       /* never printed */
#define FIELD_ONE_OF 0x40       /* exactly one of the rows with this flag must be given; null is the same as absent */
#define FIELD_NO_FLAG UINT16_MAX

struct config_field {
	char name[20];
	uint8_t kind;      /* enum config_kind */
	uint8_t flags;
	uint8_t detail;
	uint16_t offset;   /* of the member in its struct */
	uint16_t given;    /* offset of the bool that says that the client gave it; FIELD_NO_FLAG: none */
};

/* The rows of @table, *@n of them, in the order in which they are printed and listed in messages. */
const struct config_field *config_fields(enum config_table table, size_t *n);

/* The name that messages give the object: "struct MachineConfig". */
const char *config_table_name(enum config_table table);

/* Are unknown keys ignored (with a warning in the log) instead of refused? */
bool config_table_ignores_unknown(enum config_table table);

/* The @i-th name of set @names, or NULL behind the last; *@value is the enum value that it stands for. */
const char *config_name(enum config_names names, size_t i, uint32_t *value);

/* Find @text in set @names (log levels: in any case). Returns false if it is not there. */
bool config_name_find(enum config_names names, const char *text, uint32_t *value) MUST_USE;

/* Free the strings of @object, the struct of @table, and zero it. */
void config_fini(enum config_table table, void *object);

/* Size in bytes of the struct of @table. */
size_t config_size(enum config_table table);

#endif
