/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the controller share: its state and its refusals. Nobody else includes this.
 *
 *     control.c        life, which action is legal when, dispatch, the small actions
 *     control_boot.c   machine and boot source, the loaded kernel, InstanceStart
 *     control_drive.c  drives
 *     control_net.c    network interfaces
 *     control_vsock.c  the vsock device
 *     control_limits.c rate limiters of all of them
 */
#ifndef MAYFLY_VMM_CONTROL_IMPL_H
#define MAYFLY_VMM_CONTROL_IMPL_H

#include <stdatomic.h>
#include <sys/types.h>

#include "virtio/blk.h"
#include "virtio/net.h"
#include "vmm/boot.h"
#include "vmm/control.h"
#include "vmm/gmem.h"
#include "vmm/kvm.h"
#include "vmm/machine.h"

/* The vsock device's listener, and the file that its bind() made: who binds also removes. */
struct control_vsock {
	int fd;     /* owned; -1: none, or the machine has taken over */
	bool bound; /* there is a file, this one: */
	dev_t dev;
	ino_t ino;
};

struct control {
	struct control_params params;
	struct action_handler handler;
	struct vm_config config;
	struct config_serial serial;
	enum vm_state state;
	_Atomic int exit_code;

	/* Opened when they were configured, so that a name is resolved once. Owned; closed when the machine has its own. */
	int kernel_fd, initrd_fd;
	struct blk_backing backing[CONFIG_MAX_DRIVES]; /* of config.drive[i] */
	struct net_backend *net_backend[CONFIG_MAX_NETS]; /* of config.net[i] */
	struct control_vsock vsock;                       /* of config.vsock */

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
void control_put_net(struct control *c, struct action *action, struct reply *reply);
void control_patch_net(struct control *c, struct action *action, struct reply *reply);
void control_put_vsock(struct control *c, struct action *action, struct reply *reply);

/* Close the listener; with @unlink_too remove its socket file, if that is still the same file. Idempotent. */
void control_vsock_close(struct control *c, bool unlink_too);

/* A rate limiter as the machine takes it. */
struct machine_limits control_limits(const struct config_rate_limiter *limiter);

/* Write the buckets that @patch gives into @limiter: what `GET /vm/config` shows afterwards. */
void control_remember_limits(struct config_rate_limiter *limiter, const struct config_rate_limiter *patch);

#endif
