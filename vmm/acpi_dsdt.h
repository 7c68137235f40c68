/* SPDX-License-Identifier: Apache-2.0 */
/* The body of the DSDT: the machine's devices in AML. acpi.h says what they promise. Threads: any; pure. */
#ifndef MAYFLY_VMM_ACPI_DSDT_H
#define MAYFLY_VMM_ACPI_DSDT_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

struct boot_config;

/* Write the AML behind the table header into @buf. Returns its bytes, or -E2BIG. */
int64_t acpi_dsdt_build(const struct boot_config *config, uint8_t *buf, size_t cap) MUST_USE;

#endif
