/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the controller share: its state and its refusals. Nobody else includes this.
 *
 *     control.c        life, which action is legal when, dispatch, the small actions
 *     control_boot.c   machine and boot source, the loaded kernel, InstanceStart
 *     control_drive.c  drives
 */
#ifndef MAYFLY_VMM_CONTROL_IMPL_H
#define MAYFLY_VMM_CONTROL_IMPL_H

#include <stdatomic.h>

#include "virtio/blk.h"
#include "vmm/boot.h"
#include "vmm/control.h"
#include "vmm/gmem.h"
#include "vmm/kvm.h"
#include "vmm/machine.h"

struct control {
	struct control_params params;
	struct action_handler handler;
	struct vm_config config;
	struct config_serial serial;
	enum vm_state state;
	_Atomic int exit_code;

	/* Opened when they were configured, so that a path is resolved once. Owned. */
	int kernel_fd, initrd_fd;
	struct blk_backing backing[CONFIG_MAX_DRIVES]; /* of config.drive[i] */

	/* The kernel, loaded before it is asked to start; what was wrong with it is reported at InstanceStart. */
	struct gmem *mem;
	struct boot_kernel kernel;
	int load_rc;
	struct err load_err;

	struct kvm kvm; /* the VM, made ready with the kernel; closed (vm_fd -1) when there is none yet */

	struct machine *machine;
};

/* Refuse: status 400 and the whole fault message. */
void control_fault(struct reply *reply, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The actions; each fills @reply and may take what @action owns. */
void control_put_machine(struct control *c, struct action *action, struct reply *reply);
void control_patch_machine(struct control *c, struct action *action, struct reply *reply);
void control_put_boot_source(struct control *c, struct action *action, struct reply *reply);
void control_instance_start(struct control *c, struct reply *reply);
void control_put_drive(struct control *c, struct action *action, struct reply *reply);
void control_patch_drive(struct control *c, struct action *action, struct reply *reply);

/* The limits of a drive as the machine takes them. */
struct machine_limits control_drive_limits(const struct config_rate_limiter *limiter);

#endif
