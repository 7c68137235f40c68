/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#include "vmm/base/checked.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/cmdline.h"
#include "vmm/control_impl.h"
#include "vmm/layout.h"

#define KVM_PATH "/dev/kvm"

/* ---- guest memory and kernel --------------------------------------------------------------------------------------- */

static enum gmem_pages gmem_pages_of(enum config_huge_pages huge)
{
	switch (huge) {
	case HUGE_PAGES_NONE:
		return GMEM_PAGES_DEFAULT;
	case HUGE_PAGES_TRANSPARENT:
		return GMEM_PAGES_TRANSPARENT;
	case HUGE_PAGES_2M:
		return GMEM_PAGES_2M;
	}
	return GMEM_PAGES_DEFAULT;
}

static void unload_kernel(struct control *c)
{
	gmem_destroy(c->mem);
	c->mem = NULL;
}

/* An open VM in c->kvm: 0, or negative errno with @e. */
static int prepare_vm(struct control *c, struct err *e)
{
	int rc;

	if (c->kvm.vm_fd >= 0)
		return 0;
	rc = kvm_open(&c->kvm, KVM_PATH, e);
	if (rc)
		return rc;
	rc = kvm_create_vm(&c->kvm, e);
	if (rc)
		kvm_fini(&c->kvm);
	return rc;
}

/* Map guest memory as configured into c->mem. 0, or negative errno with @e. */
static int map_memory(struct control *c, struct err *e)
{
	const struct config_machine *m = &c->config.machine;
	uint64_t size;
	struct err why = {0};
	int rc;

	if (!checked_mul_u64(m->mem_size_mib, MIB, &size))
		size = UINT64_MAX; /* no less absurd, and gmem says so */
	rc = gmem_create(&c->mem, size, gmem_pages_of(m->huge_pages), &why);
	if (!rc)
		return 0;
	if (m->huge_pages == HUGE_PAGES_2M)
		return err_set(e, rc,
			       "Invalid Memory Configuration: %.255s (mem_size_mib is %" PRIu64
			       "; with huge_pages '2M' it takes %" PRIu64 " free pages of what /proc/sys/vm/nr_hugepages reserves)",
			       why.msg, m->mem_size_mib, m->mem_size_mib / 2);
	return err_set(e, rc,
		       "Invalid Memory Configuration: %.255s (mem_size_mib is %" PRIu64 "; the host can't give that much)",
		       why.msg, m->mem_size_mib);
}

/* Map guest memory and read the kernel into it. The verdict is kept for InstanceStart. */
static void load_kernel(struct control *c)
{
	unload_kernel(c);
	if (c->kernel_fd < 0)
		return;
	c->load_err = (struct err){0};
	c->load_rc = map_memory(c, &c->load_err);
	if (c->load_rc)
		return;
	c->load_rc = boot_load_kernel(c->mem, c->kernel_fd, &c->kernel, &c->load_err);
	if (c->load_rc) {
		(void)err_wrap(&c->load_err, c->load_rc, "Cannot load kernel '%s'", c->config.boot.kernel_image_path);
		unload_kernel(c);
		return;
	}
	log_debug("%s", boot_kernel_text(&c->kernel));
	(void)prepare_vm(c, NULL); /* a head start for InstanceStart, which tries again and says what is wrong */
}

/* ---- configuration ------------------------------------------------------------------------------------------------- */

static bool machine_valid(const struct config_machine *m, struct reply *reply)
{
	bool huge = m->huge_pages != HUGE_PAGES_NONE;

	if (m->vcpu_count < 1 || m->vcpu_count > LAYOUT_MAX_VCPUS ||
	    (m->smt && m->vcpu_count > 1 && m->vcpu_count % 2)) {
		control_fault(reply,
			      "Machine config error: The number of vCPUs must be greater than 0, less than %d and must "
			      "be 1 or an even number if SMT is enabled. (vcpu_count is %u, smt is %s; 1 to %d work)",
			      LAYOUT_MAX_VCPUS, m->vcpu_count, m->smt ? "true" : "false", LAYOUT_MAX_VCPUS);
		return false;
	}
	if (m->mem_size_mib == 0 || (huge && m->mem_size_mib % 2)) {
		control_fault(reply,
			      "Machine config error: The memory size (MiB) is either 0, or not a multiple of the "
			      "configured page size. (mem_size_mib is %" PRIu64 "; %s)",
			      m->mem_size_mib, huge ? "with huge pages it must be even" : "give 1 or more");
		return false;
	}
	return true;
}

static void set_machine(struct control *c, struct config_machine next, struct reply *reply)
{
	const struct config_machine *now = &c->config.machine;
	bool reload = next.mem_size_mib != now->mem_size_mib || next.huge_pages != now->huge_pages;

	if (!machine_valid(&next, reply))
		return;
	c->config.machine = next;
	if (reload)
		load_kernel(c);
	reply->status = 204;
}

void control_put_machine(struct control *c, struct action *action, struct reply *reply)
{
	struct config_machine next = action->machine;

	if (!next.has_cpu_template) { /* an omitted template keeps the previous one (CONTRACT.md 4.5) */
		next.has_cpu_template = c->config.machine.has_cpu_template;
		next.cpu_template = c->config.machine.cpu_template;
	}
	set_machine(c, next, reply);
}

void control_patch_machine(struct control *c, struct action *action, struct reply *reply)
{
	const struct action_machine_patch *p = &action->machine_patch;
	struct config_machine next = c->config.machine;

	if (p->has_vcpu_count)
		next.vcpu_count = p->machine.vcpu_count;
	if (p->has_mem_size_mib)
		next.mem_size_mib = p->machine.mem_size_mib;
	if (p->has_smt)
		next.smt = p->machine.smt;
	if (p->has_track_dirty_pages)
		next.track_dirty_pages = p->machine.track_dirty_pages;
	if (p->has_huge_pages)
		next.huge_pages = p->machine.huge_pages;
	if (p->machine.has_cpu_template) {
		next.has_cpu_template = true;
		next.cpu_template = p->machine.cpu_template;
	}
	set_machine(c, next, reply);
}

void control_put_boot_source(struct control *c, struct action *action, struct reply *reply)
{
	struct config_boot_source *next = &action->boot;
	AUTO_FD int kernel_fd = -1;
	AUTO_FD int initrd_fd = -1;
	struct err e = {0};
	char text[96];

	/* O_NONBLOCK: a FIFO must not hold the API; what is not a kernel image is told at InstanceStart. */
	kernel_fd = open(next->kernel_image_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (kernel_fd < 0) {
		control_fault(reply, "Boot source error: The kernel file cannot be opened: %s (kernel_image_path '%.400s')",
			      err_os_text(errno, text, sizeof(text)), next->kernel_image_path);
		return;
	}
	if (next->initrd_path) {
		initrd_fd = open(next->initrd_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (initrd_fd < 0) {
			control_fault(
				reply,
				"Boot source error: The initrd file cannot be opened due to invalid path or invalid "
				"permissions. %s (initrd_path '%.400s')",
				err_os_text(errno, text, sizeof(text)), next->initrd_path);
			return;
		}
	}
	if (next->boot_args && cmdline_check_args(next->boot_args, &e)) {
		control_fault(reply, "Boot source error: The kernel command line is invalid: %s (boot_args)", e.msg);
		return;
	}
	fd_close(&c->kernel_fd);
	fd_close(&c->initrd_fd);
	c->kernel_fd = fd_take(&kernel_fd);
	c->initrd_fd = fd_take(&initrd_fd);
	config_boot_source_fini(&c->config.boot);
	c->config.boot = *next;
	*next = (struct config_boot_source){0};
	load_kernel(c);
	reply->status = 204;
}

/* ---- start --------------------------------------------------------------------------------------------------------- */

/* What the configuration says about devices, in the machine's words. */
struct device_lists {
	struct machine_drive drive[CONFIG_MAX_DRIVES];
	struct machine_net net[CONFIG_MAX_NETS];
	struct machine_vsock vsock;
};

static void list_devices(const struct control *c, struct device_lists *l)
{
	for (size_t i = 0; i < c->config.n_drives; i++) {
		const struct config_drive *d = &c->config.drive[i];

		l->drive[i] = (struct machine_drive){
			.id = d->drive_id,
			.backing = &c->backing[i],
			.is_root = d->is_root_device,
			.is_read_only = d->is_read_only,
			.writeback = d->cache_type == CACHE_WRITEBACK,
			.is_async = d->io_engine == IO_ENGINE_ASYNC,
			.partuuid = d->partuuid,
			.limits = control_limits(&d->rate_limiter),
		};
	}
	for (size_t i = 0; i < c->config.n_nets; i++) {
		const struct config_net *n = &c->config.net[i];

		l->net[i] = (struct machine_net){
			.id = n->iface_id,
			.backend = c->net_backend[i],
			.mac = n->has_guest_mac ? n->guest_mac : NULL,
			.mtu = n->mtu,
			.rx = control_limits(&n->rx_rate_limiter),
			.tx = control_limits(&n->tx_rate_limiter),
		};
	}
	l->vsock = (struct machine_vsock){.guest_cid = c->config.vsock.guest_cid,
					  .uds_path = c->config.vsock.uds_path,
					  .listen_fd = c->vsock.fd};
}

static int build_machine(struct control *c, struct err *e)
{
	struct device_lists devices;
	const struct config_bucket *serial = &c->serial.rate_limiter;
	struct machine_params p = {
		.loop = c->params.loop,
		.kvm = &c->kvm,
		.mem = &c->mem,
		.kernel = &c->kernel,
		.initrd_fd = c->initrd_fd,
		.boot_args = c->config.boot.boot_args,
		.n_vcpus = c->config.machine.vcpu_count,
		.smt = c->config.machine.smt,
		.track_dirty_pages = c->config.machine.track_dirty_pages,
		.n_drives = c->config.n_drives,
		.drives = devices.drive,
		.n_nets = c->config.n_nets,
		.nets = devices.net,
		.vsock = c->config.vsock.uds_path ? &devices.vsock : NULL,
		.serial_out_path = c->serial.serial_out_path,
		.serial_bucket_size = serial->present ? serial->size : 0,
		.serial_bucket_burst = serial->one_time_burst,
		.serial_bucket_refill_ms = serial->refill_time_ms,
		.boot_timer = c->params.boot_timer,
		.start_time_us = c->params.start_time_us,
		.start_time_cpu_us = c->params.start_time_cpu_us,
		.exit_requested = control_request_exit,
		.ctx = c,
	};

	list_devices(c, &devices);
	return machine_create(&c->machine, &p, e);
}

/* The machine has handles of its own: close those of the configuration. The vsock socket's file stays. */
static void close_devices(struct control *c)
{
	for (size_t i = 0; i < c->config.n_drives; i++)
		blk_backing_close(&c->backing[i]);
	for (size_t i = 0; i < c->config.n_nets; i++) {
		net_backend_close(c->net_backend[i]);
		c->net_backend[i] = NULL;
	}
	control_vsock_close(c, false);
}

static int start(struct control *c, struct err *e)
{
	int rc;

	if (c->kernel_fd < 0)
		return err_set(e, -EINVAL, "Cannot start microvm without kernel configuration.");
	if (c->config.machine.cpu_template != CPU_TEMPLATE_NONE)
		return err_set(e, -ENOTSUP,
			       "Configure CPU: static CPU templates are not available in this Mayfly yet: leave "
			       "cpu_template out or set it to 'None'.");
	if (!c->mem) {
		load_kernel(c); /* again: the file or the host's memory may have been put right meanwhile */
		if (c->load_rc) {
			*e = c->load_err;
			return c->load_rc;
		}
	}
	rc = prepare_vm(c, e);
	if (rc)
		return rc;
	rc = build_machine(c, e);
	if (rc)
		return rc;
	rc = machine_start(c->machine, e);
	if (rc) {
		machine_destroy(c->machine);
		c->machine = NULL;
		return rc;
	}
	close_devices(c);
	return 0;
}

void control_instance_start(struct control *c, struct reply *reply)
{
	struct err e = {0};

	log_debug("event_start: build microvm for boot");
	if (start(c, &e)) {
		control_fault(reply, "Start microvm error: %s", e.msg);
		return;
	}
	log_debug("event_end: build microvm for boot");
	c->state = VM_RUNNING;
	reply->status = 204;
}
