/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/irq.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/base/fd.h"

int irq_init(struct irq_line *line, uint32_t gsi, struct err *e)
{
	line->gsi = gsi;
	line->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (line->fd < 0)
		return err_sys(e, -errno, "create the event descriptor of interrupt %u", gsi);
	return 0;
}

void irq_fini(struct irq_line *line)
{
	fd_close(&line->fd);
}

void irq_raise(const struct irq_line *line)
{
	const uint64_t one = 1;

	if (line->fd < 0)
		return;
	/* It can fail only with EAGAIN: 2^64 - 2 edges are pending already, and one more changes nothing. */
	if (write(line->fd, &one, sizeof(one)) < 0)
		return;
}
