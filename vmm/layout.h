/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every guest-physical address, port and interrupt of the machine in one table (CONTRACT.md 16.1 and 16.2).
 *
 * The tables that describe the machine to the guest (e820, MP, ACPI, the command line) and the code that builds it both
 * take their numbers from here, so they can't disagree.
 */
#ifndef MAYFLY_VMM_LAYOUT_H
#define MAYFLY_VMM_LAYOUT_H

#include <stdint.h>

/* Low memory: what the monitor writes before the first instruction. */
#define LAYOUT_GDT UINT64_C(0x500)
#define LAYOUT_IDT UINT64_C(0x520)
#define LAYOUT_PVH_START_INFO UINT64_C(0x6000)
#define LAYOUT_PVH_MODLIST UINT64_C(0x6040)
#define LAYOUT_PVH_MEMMAP UINT64_C(0x7000)
#define LAYOUT_ZERO_PAGE UINT64_C(0x7000) /* shares the page with the PVH map: a boot uses one of them */
#define LAYOUT_BOOT_STACK UINT64_C(0x8ff0)
#define LAYOUT_PML4 UINT64_C(0x9000)
#define LAYOUT_PDPT UINT64_C(0xa000)
#define LAYOUT_PD UINT64_C(0xb000)
#define LAYOUT_IDENTITY_MAPPED (UINT64_C(1) << 30) /* bytes from 0 that the entry page tables map */
#define LAYOUT_CMDLINE UINT64_C(0x20000)
#define LAYOUT_CMDLINE_MAX 2048 /* bytes, NUL included */

/* The "system" area: MP table at its start, ACPI tables behind it, device pages from its top down. */
#define LAYOUT_SYSTEM UINT64_C(0x9fc00)
#define LAYOUT_MPTABLE LAYOUT_SYSTEM
#define LAYOUT_MPTABLE_MAX UINT64_C(0x400)
#define LAYOUT_ACPI (LAYOUT_MPTABLE + LAYOUT_MPTABLE_MAX)
#define LAYOUT_SYSTEM_END UINT64_C(0xe0000)
#define LAYOUT_VMGENID (LAYOUT_SYSTEM_END - UINT64_C(0x1000))
#define LAYOUT_ACPI_MAX UINT64_C(0x4000) /* bytes for all tables but the RSDP */
#define LAYOUT_RSDP UINT64_C(0xe0000)
#define LAYOUT_HIGH_MEMORY UINT64_C(0x100000)

/* The 32-bit device gap. */
#define LAYOUT_MMIO32 UINT64_C(0xc0000000)
#define LAYOUT_MMIO32_END UINT64_C(0x100000000)
#define LAYOUT_BOOT_TIMER UINT64_C(0xc0000000)
#define LAYOUT_VIRTIO_MMIO UINT64_C(0xc0001000)
#define LAYOUT_VIRTIO_MMIO_SIZE UINT64_C(0x1000)
#define LAYOUT_MMCONFIG UINT64_C(0xeec00000)
#define LAYOUT_MMCONFIG_SIZE (UINT64_C(256) << 20)
#define LAYOUT_IOAPIC UINT64_C(0xfec00000)
#define LAYOUT_LAPIC UINT64_C(0xfee00000)
#define LAYOUT_TSS UINT64_C(0xfffbd000)
#define LAYOUT_IDENTITY_MAP UINT64_C(0xfffbc000)

/* The 64-bit device window. */
#define LAYOUT_MMIO64 (UINT64_C(256) << 30)
#define LAYOUT_MMIO64_END (UINT64_C(512) << 30)

/* Ports and ISA interrupts. */
#define LAYOUT_COM1 0x3f8
#define LAYOUT_COM1_SIZE 8
#define LAYOUT_COM1_GSI 4
#define LAYOUT_I8042 0x60
#define LAYOUT_I8042_SIZE 5
#define LAYOUT_I8042_GSI 1

/* ACPI power management registers, 16 bits each: status, enable, control (acpi.h says how they answer). */
#define LAYOUT_ACPI_PM 0x600
#define LAYOUT_ACPI_PM_SIZE 6
#define LAYOUT_ACPI_SCI_GSI 3 /* nobody raises it; COM2's line, which no virtio device can get */

/* GSIs for virtio devices and, behind them, the VMGenID device. */
#define LAYOUT_GSI_FIRST 5
#define LAYOUT_GSI_LAST 23
#define LAYOUT_N_IOAPIC_PINS 24

/* One GSI each for VMGenID and VMClock leaves this many for virtio (CONTRACT.md 16.2). */
#define LAYOUT_MAX_VIRTIO 17
#define LAYOUT_MAX_VCPUS 32

_Static_assert(LAYOUT_GSI_FIRST + LAYOUT_MAX_VIRTIO + 2 == LAYOUT_GSI_LAST + 1, "GSIs add up");
_Static_assert(LAYOUT_VIRTIO_MMIO + LAYOUT_MAX_VIRTIO * LAYOUT_VIRTIO_MMIO_SIZE < LAYOUT_MMCONFIG, "virtio pages fit");
_Static_assert(LAYOUT_ACPI + LAYOUT_ACPI_MAX <= LAYOUT_VMGENID, "ACPI tables fit");
_Static_assert(LAYOUT_CMDLINE + LAYOUT_CMDLINE_MAX <= LAYOUT_SYSTEM, "command line fits");

#endif
