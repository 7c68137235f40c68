/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MultiProcessor table (Intel, MultiProcessor Specification 1.4) for guests without ACPI: processors, one ISA
 * bus, one I/O APIC with 24 identity-mapped inputs. Kata Containers boots its guests with acpi=off and needs it.
 *
 * Threads: any; pure.
 */
#ifndef MAYFLY_VMM_MPTABLE_H
#define MAYFLY_VMM_MPTABLE_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"
#include "vmm/layout.h"

/*
 * Build the floating pointer and behind it the configuration table for @n_vcpus (1 to LAYOUT_MAX_VCPUS) into @out,
 * which will stand at LAYOUT_MPTABLE. Returns the bytes used.
 */
size_t mptable_build(uint32_t n_vcpus, uint8_t out[LAYOUT_MPTABLE_MAX]);

#endif
