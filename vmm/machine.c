/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "vmm/acpi_pm.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/boottimer.h"
#include "vmm/bus.h"
#include "vmm/cmdline.h"
#include "vmm/i8042.h"
#include "vmm/irq.h"
#include "vmm/kvm.h"
#include "vmm/layout.h"
#include "vmm/machine_virtio.h"
#include "vmm/serial.h"
#include "vmm/serial_console.h"
#include "vmm/vcpu.h"

/* How long the end of a machine waits for a reader to take the console's last lines. */
#define SERIAL_FLUSH_MS 500

struct machine {
	struct evloop *loop; /* borrowed */
	struct gmem *mem;    /* owned */
	struct kvm kvm;
	struct bus pio, mmio;
	struct irq_line serial_irq, keyboard_irq;
	struct serial_console console;
	struct serial *serial;
	struct i8042 *i8042;
	struct boottimer boottimer;
	struct acpi_pm acpi_pm;
	struct machine_virtio virtio;
	struct vcpus *vcpus;
	bool paused;
	_Atomic bool ended;
	void (*exit_requested)(void *ctx, int code);
	void *ctx;
};

/* ---- what ends a machine ---------------------------------------------------------------------------------------- */

/* The guest ended itself. It may say so many times before its vCPUs are stopped; once is enough. */
static void guest_ended(struct machine *m, const char *how)
{
	if (atomic_exchange(&m->ended, true))
		return;
	log_info("%s", how);
	m->exit_requested(m->ctx, EXIT_CODE_OK);
}

static void guest_reset(void *ctx)
{
	guest_ended(ctx, "The guest asked for a reset.");
}

static void guest_off(void *ctx)
{
	guest_ended(ctx, "The guest turned itself off.");
}

static void vcpu_stopped(void *ctx, enum vcpu_stop why)
{
	struct machine *m = ctx;

	m->exit_requested(m->ctx, why == VCPU_STOP_RESET ? EXIT_CODE_OK : EXIT_CODE_GENERIC);
}

/* ---- construction ----------------------------------------------------------------------------------------------- */

static int add_serial(struct machine *m, const struct machine_params *p, struct err *e)
{
	struct serial_params params = {
		.loop = m->loop,
		.irq = &m->serial_irq,
		.bucket_size = p->serial_bucket_size,
		.bucket_burst = p->serial_bucket_burst,
		.bucket_refill_ms = p->serial_bucket_refill_ms,
	};
	int rc;

	irq_init_vm(&m->serial_irq, LAYOUT_COM1_GSI, m->kvm.vm_fd);
	rc = serial_console_enter(&m->console, p->serial_out_path, e);
	if (rc)
		return rc;
	params.in_fd = m->console.in_fd;
	params.out_fd = m->console.out_fd;
	rc = serial_create(&m->serial, &params, e);
	if (rc)
		return rc;
	rc = bus_add(&m->pio, LAYOUT_COM1, LAYOUT_COM1_SIZE, &serial_bus_ops, m->serial);
	return rc ? err_sys(e, rc, "serial ports") : 0;
}

static int add_legacy_devices(struct machine *m, const struct machine_params *p, struct err *e)
{
	int rc;

	rc = add_serial(m, p, e);
	if (rc)
		return rc;
	irq_init_vm(&m->keyboard_irq, LAYOUT_I8042_GSI, m->kvm.vm_fd);
	rc = i8042_create(&m->i8042, &m->keyboard_irq, guest_reset, m, e);
	if (rc)
		return rc;
	rc = bus_add(&m->pio, LAYOUT_I8042, LAYOUT_I8042_SIZE, &i8042_bus_ops, m->i8042);
	if (rc)
		return err_sys(e, rc, "i8042 ports");
	m->acpi_pm.off = guest_off;
	m->acpi_pm.ctx = m;
	rc = bus_add(&m->pio, LAYOUT_ACPI_PM, LAYOUT_ACPI_PM_SIZE, &acpi_pm_bus_ops, &m->acpi_pm);
	if (rc)
		return err_sys(e, rc, "ACPI power management ports");
	if (p->boot_timer) {
		m->boottimer = (struct boottimer){.start_us = p->start_time_us, .start_cpu_us = p->start_time_cpu_us};
		rc = bus_add(&m->mmio, LAYOUT_BOOT_TIMER, BOOTTIMER_SIZE, &boottimer_bus_ops, &m->boottimer);
		if (rc)
			return err_sys(e, rc, "boot timer page");
	}
	return 0;
}

/* The finished kernel command line (CONTRACT.md 16.3). */
static int build_cmdline(const struct machine *m, const struct machine_params *p, char out[LAYOUT_CMDLINE_MAX],
			 struct err *e)
{
	struct cmdline_device devices[LAYOUT_MAX_VIRTIO];
	struct cmdline_additions add = {.devices = devices};
	int rc;

	if (p->n_drives && p->drives[0].is_root) {
		add.has_root_drive = true;
		add.root_partuuid = p->drives[0].partuuid;
		add.root_read_only = p->drives[0].is_read_only;
	}
	if (boot_wants_cmdline_devices(p->kernel, p->boot_args ? p->boot_args : CMDLINE_DEFAULT))
		add.n_devices = m->virtio.n;
	for (size_t i = 0; i < m->virtio.n; i++)
		devices[i] = (struct cmdline_device){.base = m->virtio.device[i].base, .gsi = m->virtio.device[i].irq.gsi};
	rc = cmdline_build(p->boot_args, &add, out, e);
	if (rc)
		return err_wrap(e, rc, "The kernel command line is invalid");
	log_debug("Kernel command line: %s", out);
	return 0;
}

static int write_boot_data(struct machine *m, const struct machine_params *p, struct err *e)
{
	struct boot_initrd initrd = {0};
	char cmdline[LAYOUT_CMDLINE_MAX];
	struct boot_config config = {
		.kernel = p->kernel,
		.initrd = &initrd,
		.cmdline = cmdline,
		.n_vcpus = p->n_vcpus,
		.n_virtio = m->virtio.n,
		.has_vmgenid = true,
		.vmgenid_gsi = LAYOUT_GSI_FIRST + (uint32_t)m->virtio.n,
		.has_power_off = true,
	};
	int rc;

	if (p->initrd_fd >= 0) {
		rc = boot_load_initrd(m->mem, p->initrd_fd, p->kernel, &initrd, e);
		if (rc)
			return err_wrap(e, rc, "Cannot load initrd");
	}
	rc = build_cmdline(m, p, cmdline, e);
	if (rc)
		return rc;
	for (size_t i = 0; i < m->virtio.n; i++)
		config.virtio[i] =
			(struct boot_virtio){.base = m->virtio.device[i].base, .gsi = m->virtio.device[i].irq.gsi};
	if (getrandom(config.vmgenid, sizeof(config.vmgenid), 0) != sizeof(config.vmgenid))
		return err_sys(e, -errno, "getrandom for the VM generation id");
	return boot_write_tables(m->mem, &config, e);
}

static void fill_boot_regs(const void *ctx, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
	boot_init_regs(ctx, regs, sregs);
}

static int add_vcpus(struct machine *m, const struct machine_params *p, struct err *e)
{
	struct vcpus_params params = {
		.kvm = &m->kvm,
		.pio = &m->pio,
		.mmio = &m->mmio,
		.n = p->n_vcpus,
		.smt = p->smt,
		.stopped = vcpu_stopped,
		.ctx = m,
	};
	struct serial_coalescing coalescing = {.set = serial_kvm_coalesce, .ctx = &m->kvm.vm_fd};
	int rc = vcpus_create(&m->vcpus, &params, e);

	if (rc)
		return rc;
	coalescing.ring = vcpus_coalesced_ring(m->vcpus, &coalescing.ring_entries);
	if (coalescing.ring)
		serial_use_coalescing(m->serial, &coalescing);
	return vcpus_set_boot_regs(m->vcpus, fill_boot_regs, p->kernel, e);
}

/* Everything in the order in which the guest sees it. m->mem is borrowed from the caller until this succeeded. */
static int build(struct machine *m, const struct machine_params *p, struct err *e)
{
	int rc;

	rc = kvm_set_memory(&m->kvm, m->mem, p->track_dirty_pages, e);
	if (rc)
		return rc;
	rc = add_legacy_devices(m, p, e);
	if (rc)
		return rc;
	rc = machine_virtio_build(&m->virtio, p, e);
	if (rc)
		return rc;
	rc = write_boot_data(m, p, e);
	if (rc)
		return rc;
	return add_vcpus(m, p, e);
}

static struct machine *machine_alloc(const struct machine_params *p)
{
	struct machine *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->loop = p->loop;
	m->mem = *p->mem;
	m->exit_requested = p->exit_requested;
	m->ctx = p->ctx;
	m->kvm = *p->kvm;
	p->kvm->dev_fd = p->kvm->vm_fd = -1;
	m->serial_irq.fd = m->keyboard_irq.fd = -1;
	m->console = (struct serial_console){.in_fd = -1, .out_fd = -1, .in_flags = -1, .out_flags = -1};
	machine_virtio_init(&m->virtio);
	m->virtio.loop = m->loop;
	m->virtio.mem = m->mem;
	m->virtio.kvm = &m->kvm;
	m->virtio.mmio = &m->mmio;
	return m;
}

int machine_create(struct machine **out, const struct machine_params *params, struct err *e)
{
	struct machine *m = machine_alloc(params);
	int rc;

	if (!m)
		return err_sys(e, -ENOMEM, "machine");
	rc = build(m, params, e);
	if (rc) {
		m->mem = NULL; /* still the caller's */
		machine_destroy(m);
		return rc;
	}
	*params->mem = NULL;
	*out = m;
	return 0;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

int machine_start(struct machine *m, struct err *e)
{
	return vcpus_start(m->vcpus, e);
}

int machine_pause(struct machine *m, struct err *e)
{
	int rc;

	if (m->paused)
		return 0;
	rc = vcpus_pause(m->vcpus, e);
	if (rc)
		return rc;
	evloop_pause_devices(m->loop);
	m->paused = true;
	return 0;
}

void machine_resume(struct machine *m)
{
	if (!m->paused)
		return;
	evloop_resume_devices(m->loop);
	machine_virtio_kick_all(&m->virtio);
	vcpus_resume(m->vcpus);
	m->paused = false;
}

int machine_send_ctrl_alt_del(struct machine *m, struct err *e)
{
	return i8042_send_ctrl_alt_del(m->i8042, e);
}

/* The drive @id; NULL with @e. */
static struct blk *find_drive(struct machine *m, const char *id, struct err *e)
{
	struct machine_device *d = machine_virtio_find(&m->virtio, MACHINE_BLK, id);

	if (!d)
		(void)err_set(e, -ENODEV, "Device not found: no drive '%s'.", id);
	return d ? d->blk : NULL;
}

int machine_update_drive(struct machine *m, const char *id, struct blk_backing *backing, struct err *e)
{
	struct blk *blk = find_drive(m, id, e);

	return blk ? blk_update_backing(blk, backing, e) : -ENODEV;
}

int machine_update_drive_limits(struct machine *m, const char *id, const struct machine_limits *limits, struct err *e)
{
	struct blk *blk = find_drive(m, id, e);

	if (!blk)
		return -ENODEV;
	blk_update_limits(blk, limits->has_bandwidth ? &limits->bandwidth : NULL, limits->has_ops ? &limits->ops : NULL);
	return 0;
}

int machine_update_net_limits(struct machine *m, const char *id, enum net_direction direction,
			      const struct machine_limits *limits, struct err *e)
{
	struct machine_device *d = machine_virtio_find(&m->virtio, MACHINE_NET, id);

	if (!d)
		return err_set(e, -ENODEV, "Device not found: no interface '%s'.", id);
	net_update_limits(d->net, direction, limits->has_bandwidth ? &limits->bandwidth : NULL,
			  limits->has_ops ? &limits->ops : NULL);
	return 0;
}

void machine_emergency(struct machine *m)
{
	serial_console_leave(&m->console);
}

void machine_destroy(struct machine *m)
{
	if (!m)
		return;
	if (m->serial)
		serial_end_coalescing(m->serial); /* its ring goes with the vCPUs */
	vcpus_destroy(m->vcpus);		  /* first: from here on nobody but this thread touches the devices */
	machine_virtio_fini(&m->virtio);
	if (m->serial)
		(void)serial_flush(m->serial, SERIAL_FLUSH_MS);
	serial_destroy(m->serial);
	serial_console_leave(&m->console);
	i8042_destroy(m->i8042);
	irq_fini(&m->serial_irq);
	irq_fini(&m->keyboard_irq);
	kvm_fini(&m->kvm);
	gmem_destroy(m->mem);
	free(m);
}
