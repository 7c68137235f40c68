/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole control surface of a microVM on one page: what a request, once parsed, asks the monitor to do.
 *
 * api-socket makes actions (from HTTP requests and from the configuration file) and prints replies; vmm/control.c
 * carries them out. Neither knows the other's insides.
 *
 * Ownership: the handler may take what an action owns (set the pointer to NULL); action_fini() frees the rest.
 */
#ifndef MAYFLY_API_ACTION_H
#define MAYFLY_API_ACTION_H

#include "api-socket/config.h"
#include "vmm/base/cdefs.h"

enum action_type {
	ACTION_GET_INSTANCE,      /* GET / */
	ACTION_GET_VERSION,       /* GET /version */
	ACTION_GET_MACHINE,       /* GET /machine-config */
	ACTION_GET_VM_CONFIG,     /* GET /vm/config */
	ACTION_PUT_MACHINE,       /* machine: complete */
	ACTION_PATCH_MACHINE,     /* machine_patch: which members are set */
	ACTION_PUT_BOOT_SOURCE,
	ACTION_PUT_DRIVE,
	ACTION_PATCH_DRIVE,       /* drive_id, path_on_host, delta_path and rate_limiter only */
	ACTION_PUT_NET,
	ACTION_PATCH_NET,         /* iface_id and the rate limiters only */
	ACTION_PUT_VSOCK,
	ACTION_PUT_LOGGER,
	ACTION_PUT_SERIAL,
	ACTION_INSTANCE_START,    /* PUT /actions */
	ACTION_FLUSH_METRICS,
	ACTION_SEND_CTRL_ALT_DEL,
	ACTION_PAUSE,             /* PATCH /vm */
	ACTION_RESUME,
};

struct action_machine_patch {
	bool has_vcpu_count, has_mem_size_mib, has_smt, has_track_dirty_pages, has_huge_pages;
	struct config_machine machine; /* has_cpu_template stands in it */
};

struct action {
	enum action_type type;
	union {
		struct config_machine machine;
		struct action_machine_patch machine_patch;
		struct config_boot_source boot;
		struct config_drive drive;
		struct config_net net;
		struct config_vsock vsock;
		struct config_logger logger;
		struct config_serial serial;
	};
};

enum vm_state { VM_NOT_STARTED, VM_RUNNING, VM_PAUSED };

#define REPLY_FAULT_MAX 1024

/* What the handler answers. Zero-initialised by the caller. */
struct reply {
	int status;                        /* 200, 204 or 400 (CONTRACT.md section 2) */
	char fault[REPLY_FAULT_MAX];       /* status >= 400: the fault_message, whole, with the prefix of its action */
	/* status 200: which of these depends on the action's type; borrowed until the next action */
	const struct vm_config *config;
	enum vm_state state;
	const char *id, *version, *app_name; /* ACTION_GET_INSTANCE and _VERSION */
};

/*
 * Who carries actions out. Called in the I/O thread, one at a time; may take milliseconds (InstanceStart) but returns.
 */
struct action_handler {
	void (*handle)(void *ctx, struct action *action, struct reply *reply);
	void *ctx;
};

/* Free what @action still owns; idempotent. */
void action_fini(struct action *action);

#endif
