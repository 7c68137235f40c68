/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/control_impl.h"

#define FAULT_BEFORE "The requested operation is not supported before starting the microVM."
#define FAULT_AFTER "The requested operation is not supported after starting the microVM."

#define EXIT_NOT_REQUESTED (-1)

void control_fault(struct reply *reply, const char *fmt, ...)
{
	va_list ap;

	reply->status = 400;
	va_start(ap, fmt);
	(void)vsnprintf(reply->fault, sizeof(reply->fault), fmt, ap);
	va_end(ap);
}

static void put_logger(struct action *action, struct reply *reply)
{
	const struct config_logger *l = &action->logger;
	struct err e = {0};

	if (l->log_path && log_open(l->log_path, &e)) {
		control_fault(reply, "Logger error: %s (log_path '%.400s')", e.msg, l->log_path);
		return;
	}
	log_set_level(l->has_level ? (enum log_level)l->level : LOG_INFO);
	log_set_show(l->has_show_level ? l->show_level : log_shows_level(),
		     l->has_show_log_origin ? l->show_log_origin : log_shows_origin());
	if (l->module)
		log_set_module(l->module);
	reply->status = 204;
}

static void put_serial(struct control *c, struct action *action, struct reply *reply)
{
	config_serial_fini(&c->serial);
	c->serial = action->serial;
	action->serial = (struct config_serial){0};
	reply->status = 204;
}

static void pause_or_resume(struct control *c, bool pause, struct reply *reply)
{
	uint64_t begin = evloop_now_ns();
	struct err e = {0};

	if (pause && machine_pause(c->machine, &e)) {
		control_fault(reply, "Internal VMM error: %s", e.msg);
		return;
	}
	if (!pause)
		machine_resume(c->machine);
	c->state = pause ? VM_PAUSED : VM_RUNNING;
	log_info("'%s vm' VMM action took %llu us.", pause ? "pause" : "resume",
		 (unsigned long long)((evloop_now_ns() - begin) / 1000));
	reply->status = 204;
}

static void send_ctrl_alt_del(struct control *c, struct reply *reply)
{
	struct err e = {0};

	if (machine_send_ctrl_alt_del(c->machine, &e)) {
		control_fault(reply, "Internal VMM error: %s", e.msg);
		return;
	}
	reply->status = 204;
}

/* ---- dispatch ------------------------------------------------------------------------------------------------------ */

static void get(const struct control *c, struct reply *reply)
{
	reply->config = &c->config;
	reply->state = c->state;
	reply->id = c->params.id;
	reply->version = c->params.version;
	reply->app_name = c->params.app_name;
	reply->status = 200;
}

enum phase { ANY_TIME, BEFORE_START, AFTER_START };

static enum phase phase_of(enum action_type type)
{
	switch (type) {
	case ACTION_GET_INSTANCE:
	case ACTION_GET_VERSION:
	case ACTION_GET_MACHINE:
	case ACTION_GET_VM_CONFIG:
		return ANY_TIME;
	case ACTION_PUT_MACHINE:
	case ACTION_PATCH_MACHINE:
	case ACTION_PUT_BOOT_SOURCE:
	case ACTION_PUT_DRIVE:
	case ACTION_PUT_NET:
	case ACTION_PUT_VSOCK:
	case ACTION_PUT_LOGGER:
	case ACTION_PUT_SERIAL:
	case ACTION_INSTANCE_START:
		return BEFORE_START;
	case ACTION_PATCH_DRIVE:
	case ACTION_PATCH_NET:
	case ACTION_FLUSH_METRICS:
	case ACTION_SEND_CTRL_ALT_DEL:
	case ACTION_PAUSE:
	case ACTION_RESUME:
		return AFTER_START;
	}
	return ANY_TIME;
}

static bool legal_now(const struct control *c, const struct action *action, struct reply *reply)
{
	bool started = c->state != VM_NOT_STARTED;

	switch (phase_of(action->type)) {
	case ANY_TIME:
		return true;
	case BEFORE_START:
		/* What a hot-plug on an MMIO machine answers (CONTRACT.md section 3). */
		if (started && (action->type == ACTION_PUT_DRIVE || action->type == ACTION_PUT_NET))
			control_fault(reply, "PCI is not enabled");
		else if (started)
			control_fault(reply, "%s", FAULT_AFTER);
		return !started;
	case AFTER_START:
		if (!started)
			control_fault(reply, "%s", FAULT_BEFORE);
		return started;
	}
	return false;
}

static void handle(void *ctx, struct action *action, struct reply *reply)
{
	struct control *c = ctx;

	if (!legal_now(c, action, reply))
		return;
	switch (action->type) {
	case ACTION_GET_INSTANCE:
	case ACTION_GET_VERSION:
	case ACTION_GET_MACHINE:
	case ACTION_GET_VM_CONFIG:
		get(c, reply);
		break;
	case ACTION_PUT_MACHINE:
		control_put_machine(c, action, reply);
		break;
	case ACTION_PATCH_MACHINE:
		control_patch_machine(c, action, reply);
		break;
	case ACTION_PUT_BOOT_SOURCE:
		control_put_boot_source(c, action, reply);
		break;
	case ACTION_PUT_DRIVE:
		control_put_drive(c, action, reply);
		break;
	case ACTION_PATCH_DRIVE:
		control_patch_drive(c, action, reply);
		break;
	case ACTION_PUT_NET:
		control_put_net(c, action, reply);
		break;
	case ACTION_PATCH_NET:
		control_patch_net(c, action, reply);
		break;
	case ACTION_PUT_VSOCK:
		control_put_vsock(c, action, reply);
		break;
	case ACTION_PUT_LOGGER:
		put_logger(action, reply);
		break;
	case ACTION_PUT_SERIAL:
		put_serial(c, action, reply);
		break;
	case ACTION_INSTANCE_START:
		control_instance_start(c, reply);
		break;
	case ACTION_FLUSH_METRICS:
		reply->status = 204; /* no metrics sink can be configured yet: a flush is a no-op (CONTRACT.md 4.11) */
		break;
	case ACTION_SEND_CTRL_ALT_DEL:
		send_ctrl_alt_del(c, reply);
		break;
	case ACTION_PAUSE:
	case ACTION_RESUME:
		pause_or_resume(c, action->type == ACTION_PAUSE, reply);
		break;
	}
}

/* ---- life ---------------------------------------------------------------------------------------------------------- */

int control_create(struct control **out, const struct control_params *params, struct err *e)
{
	struct control *c = calloc(1, sizeof(*c));

	if (!c)
		return err_sys(e, -ENOMEM, "controller");
	c->params = *params;
	c->handler = (struct action_handler){.handle = handle, .ctx = c};
	c->kernel_fd = c->initrd_fd = c->vsock.fd = -1;
	c->kvm.dev_fd = c->kvm.vm_fd = -1;
	atomic_store(&c->exit_code, EXIT_NOT_REQUESTED);
	vm_config_init(&c->config);
	*out = c;
	return 0;
}

const struct action_handler *control_handler(struct control *c)
{
	return &c->handler;
}

void control_request_exit(void *control, int code)
{
	struct control *c = control;
	int none = EXIT_NOT_REQUESTED;

	(void)atomic_compare_exchange_strong(&c->exit_code, &none, code);
	evloop_stop(c->params.loop);
}

int control_exit_code(const struct control *c)
{
	int code = atomic_load(&c->exit_code);

	return code == EXIT_NOT_REQUESTED ? EXIT_CODE_OK : code;
}

void control_emergency(struct control *c)
{
	if (c->machine)
		machine_emergency(c->machine);
}

void control_destroy(struct control *c)
{
	if (!c)
		return;
	machine_destroy(c->machine);
	kvm_fini(&c->kvm);
	gmem_destroy(c->mem);
	for (size_t i = 0; i < c->config.n_drives; i++)
		blk_backing_close(&c->backing[i]);
	for (size_t i = 0; i < c->config.n_nets; i++)
		net_backend_close(c->net_backend[i]);
	control_vsock_close(c, true);
	fd_close(&c->kernel_fd);
	fd_close(&c->initrd_fd);
	config_serial_fini(&c->serial);
	vm_config_fini(&c->config);
	free(c);
}
