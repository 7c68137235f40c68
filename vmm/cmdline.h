/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel command line: what a client may ask for, and what the monitor adds (CONTRACT.md 16.3).
 *
 * Discovery on the command line and in ACPI: a kernel binds the ACPI devices first and then complains about each
 * `virtio_mmio.device=` twin, whose page is taken. It is not always known which of the two a kernel understands, so
 * the parameters are appended unless the image itself says that ACPI is built in and the user did not switch it off
 * (boot_wants_cmdline_devices in boot.h). ACPI is the one to keep there, because Linux with ACPI on does not route
 * GSIs above 15 that no ACPI device names.
 *
 * Trust: boot_args is the client's text, checked here. Threads: any; pure.
 */
#ifndef MAYFLY_VMM_CMDLINE_H
#define MAYFLY_VMM_CMDLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"
#include "vmm/gmem.h"
#include "vmm/layout.h"

/* The line of a client that gives no boot_args. No console: output costs more than all the rest of a boot. */
#define CMDLINE_DEFAULT                                                                                                \
	"reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce"

/*
 * Is @boot_args printable ASCII and short enough for the area in guest memory? For PUT /boot-source.
 * Returns 0 or -EINVAL with the text that follows "The kernel command line is invalid: ".
 */
int cmdline_check_args(const char *boot_args, struct err *e) MUST_USE;

/* Is @word (for example "acpi=off") one of the kernel's words of @boot_args, in front of any ` -- `? */
bool cmdline_has_word(const char *boot_args, const char *word) MUST_USE;

struct cmdline_device {
	gpa_t base; /* its MMIO page */
	uint32_t gsi;
};

/* What the monitor adds, in this order. Pointers are borrowed for the call. */
struct cmdline_additions {
	bool has_root_drive;       /* add root= and ro/rw */
	const char *root_partuuid; /* NULL: root=/dev/vda */
	bool root_read_only;
	size_t n_devices;                     /* at most LAYOUT_MAX_VIRTIO; 0 where ACPI alone lists them */
	const struct cmdline_device *devices; /* attach order */
};

/*
 * Put the finished line into @out, NUL-terminated: @boot_args (NULL: CMDLINE_DEFAULT) with @add inserted in front
 * of the first ` -- ` that separates init's arguments. Returns 0, -EINVAL as cmdline_check_args, or -E2BIG with the
 * lengths.
 */
int cmdline_build(const char *boot_args, const struct cmdline_additions *add, char out[LAYOUT_CMDLINE_MAX],
		  struct err *e) MUST_USE;

#endif
