/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/irq.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/base/fd.h"

int irq_init(struct irq_line *line, uint32_t gsi, struct err *e)
{
	line->gsi = gsi;
	line->is_vm = false;
	line->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (line->fd < 0)
		return err_sys(e, -errno, "create the event descriptor of interrupt %u", gsi);
	return 0;
}

void irq_init_vm(struct irq_line *line, uint32_t gsi, int vm_fd)
{
	line->gsi = gsi;
	line->fd = vm_fd;
	line->is_vm = true;
}

void irq_fini(struct irq_line *line)
{
	if (!line->is_vm)
		fd_close(&line->fd);
	line->fd = -1;
}

/* It can fail only for a VM without interrupt controllers, and those are made before any line is used. */
static void set_level(const struct irq_line *line, uint32_t level)
{
	struct kvm_irq_level irq = {.irq = line->gsi, .level = level};

	(void)ioctl(line->fd, KVM_IRQ_LINE, &irq);
}

void irq_raise(const struct irq_line *line)
{
	const uint64_t one = 1;

	if (line->fd < 0)
		return;
	if (line->is_vm) {
		set_level(line, 1);
		set_level(line, 0);
		return;
	}
	/* It can fail only with EAGAIN: 2^64 - 2 edges are pending already, and one more changes nothing. */
	if (write(line->fd, &one, sizeof(one)) < 0)
		return;
}
