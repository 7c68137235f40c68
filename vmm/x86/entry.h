/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processor state at a kernel's first instruction: GDT and page tables in guest memory, and the registers of
 * vCPU 0.
 *
 * Two entries: long mode with the first 1 GiB identity-mapped (Linux 64-bit boot protocol), and 32-bit protected
 * mode without paging (PVH). Both use the selectors that Linux documents: code 0x10, data 0x18.
 *
 * Threads: any; pure but for the writes into guest memory.
 */
#ifndef MAYFLY_VMM_X86_ENTRY_H
#define MAYFLY_VMM_X86_ENTRY_H

#include <linux/kvm.h>

#include "vmm/base/cdefs.h"
#include "vmm/gmem.h"

/*
 * Write the GDT and page tables of the 64-bit entry, or the GDT of the PVH entry. 0, or -EFAULT when there is no
 * RAM.
 */
int entry_write_tables_64(struct gmem *mem) MUST_USE;
int entry_write_tables_pvh(struct gmem *mem) MUST_USE;

/*
 * Registers for a 64-bit entry at @rip with boot_params at LAYOUT_ZERO_PAGE. @sregs is what KVM reported; all but the
 * APIC base and pending interrupts is overwritten. @regs is overwritten whole.
 */
void entry_init_regs_64(gpa_t rip, struct kvm_regs *regs, struct kvm_sregs *sregs);

/* The same for a PVH entry with start_info at LAYOUT_PVH_START_INFO. */
void entry_init_regs_pvh(gpa_t rip, struct kvm_regs *regs, struct kvm_sregs *sregs);

#endif
