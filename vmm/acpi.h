/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables of the machine: RSDP, XSDT, FADT, FACS, MADT and a DSDT that lists every device.
 *
 * Why not the hardware-reduced model, which would need no register block: a Linux with ACPI but without PCI fails in
 * ACPICA while it installs the default handlers (PCI_CONFIG is in the list and compiled out), whatever the tables
 * say. It then finds devices by the command line alone, and their interrupts only if the legacy ISA lines were set
 * up from the MADT. The hardware-reduced flag makes Linux drop the legacy lines, and no device works: so the tables
 * describe fixed hardware, whose few registers are below. There is no MCFG and no PCI root.
 *
 * What the tables promise, and who keeps it:
 *   - COM1 and the keyboard controller stand at the ports and interrupts of layout.h;
 *   - each virtio device V000, V001, ... is LNRO0005 with its page and its edge-triggered interrupt;
 *   - VGEN is the VM generation device: after the 16 bytes at LAYOUT_VMGENID have changed (a restored clone), an
 *     edge on vmgenid_gsi makes the event device GED_ notify it, and Linux reseeds its random numbers;
 *   - six ports at LAYOUT_ACPI_PM: +0 status (16 bits) reads 0 and ignores writes; +2 enable (16 bits) and +4 control
 *     (16 bits) read back what was written last, initially 0. Where nothing answers, ACPI works, but Linux logs
 *     two errors about a global lock;
 *   - with has_power_off, a 16-bit write to LAYOUT_ACPI_PM + 4 with ACPI_PM_SLEEP_ENABLE set turns the machine off.
 *     Without it there is no \_S5 and `poweroff` halts (Linux would wait for ever for registers that nobody
 *     serves);
 *   - the reset register is the keyboard controller's command port: 0xfe to port 0x64.
 * No line LAYOUT_ACPI_SCI_GSI is ever raised.
 *
 * Threads: any; pure over a buffer.
 */
#ifndef MAYFLY_VMM_ACPI_H
#define MAYFLY_VMM_ACPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

#define ACPI_PM_STATUS 0  /* offsets from LAYOUT_ACPI_PM */
#define ACPI_PM_ENABLE 2
#define ACPI_PM_CONTROL 4
#define ACPI_PM_SLEEP_ENABLE (1u << 13) /* in the control register: do it */

#define ACPI_RSDP_LEN 36

struct boot_config;

/*
 * Build all tables but the RSDP into @buf (@cap bytes, at guest address @base, a multiple of 64 below 4 GiB) and the
 * RSDP into @rsdp. Only n_vcpus, the device list and the has_ members of @config are looked at.
 * Returns the bytes used in @buf, or -E2BIG when @cap does not suffice.
 */
int64_t acpi_build(const struct boot_config *config, uint64_t base, uint8_t *buf, size_t cap,
		   uint8_t rsdp[ACPI_RSDP_LEN]) MUST_USE;

#endif
