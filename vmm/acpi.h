/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables of the machine: RSDP, XSDT, FADT (hardware-reduced), MADT and a DSDT that lists every device.
 *
 * There is no MCFG and no PCI root: the machine has no PCI, and a kernel built without it must take these tables too.
 *
 * What the DSDT promises, and who keeps it:
 *   - COM1 and the keyboard controller stand at the ports and interrupts of layout.h;
 *   - each virtio device V000, V001, ... is LNRO0005 with its page and its edge-triggered interrupt;
 *   - VGEN is the VM generation device: after the 16 bytes at LAYOUT_VMGENID have changed (a restored clone), an edge on
 *     vmgenid_gsi makes the event device GED_ notify it, and Linux reseeds its random numbers;
 *   - with has_power_off, writing ACPI_SLEEP_ENABLE | ACPI_SLEEP_TYPE_S5 to the byte at port LAYOUT_ACPI_SLEEP_CONTROL
 *     turns the machine off. The device answers all reads of its two bytes with 0 and ignores every other write;
 *   - the reset register is the keyboard controller's command port: 0xfe to port 0x64.
 *
 * Threads: any; pure over a buffer.
 */
#ifndef MAYFLY_VMM_ACPI_H
#define MAYFLY_VMM_ACPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

#define ACPI_SLEEP_ENABLE 0x20
#define ACPI_SLEEP_TYPE_S5 (5 << 2)
#define ACPI_POWER_OFF (ACPI_SLEEP_ENABLE | ACPI_SLEEP_TYPE_S5) /* the byte that means power-off */

#define ACPI_RSDP_LEN 36

struct boot_config;

/*
 * Build all tables but the RSDP into @buf (@cap bytes, at guest address @base, both multiples of 16 for @base) and the
 * RSDP into @rsdp. Only n_vcpus, the device list and the has_ members of @config are looked at.
 * Returns the bytes used in @buf, or -E2BIG when @cap does not suffice.
 */
int64_t acpi_build(const struct boot_config *config, uint64_t base, uint8_t *buf, size_t cap,
		   uint8_t rsdp[ACPI_RSDP_LEN]) MUST_USE;

#endif
