/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_params, the "zero page" of the Linux boot protocol (Documentation/arch/x86/zero-page.rst).
 *
 * Trust: the setup header of a bzImage inside @kernel is hostile, and only copied. Threads: any; pure.
 */
#ifndef MAYFLY_VMM_BOOTPARAMS_H
#define MAYFLY_VMM_BOOTPARAMS_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/boot.h"
#include "vmm/e820.h"

#define BOOTPARAMS_LEN 4096

/*
 * Build the page for @kernel into @out. @initrd may be NULL; @cmdline_len is without the NUL; @rsdp 0: none.
 */
void bootparams_build(const struct boot_kernel *kernel, const struct e820_map *map, const struct boot_initrd *initrd,
		      size_t cmdline_len, gpa_t rsdp, uint8_t out[BOOTPARAMS_LEN]);

#endif
