// SPDX-License-Identifier: Apache-2.0
/*
 * The configurations that the program carries, so that it needs no files beside it. The assembler reads them from the
 * source tree (the build runs at its root); a NUL ends each.
 */
#include "rootfs-builder/kernel/config.h"

#define EMBED(symbol, file)                                                                                             \
	__asm__(".pushsection .rodata\n"                                                                                \
		".globl " #symbol "\n" #symbol ":\n"                                                                    \
		".incbin \"rootfs-builder/" file "\"\n"                                                                 \
		".byte 0\n"                                                                                             \
		".popsection\n");                                                                                       \
	extern const char symbol[]

EMBED(kernel_config_text_default, "kernel.config");
EMBED(kernel_config_text_minimal, "kernel/minimal.config");
EMBED(kernel_config_text_mitigations, "kernel/mitigations.config");
EMBED(kernel_config_text_sysfs, "kernel/sysfs.config");
EMBED(kernel_config_text_acpi, "kernel/acpi.config");
EMBED(kernel_config_text_acpi_nopci, "kernel/acpi-nopci.config");
EMBED(kernel_config_text_nopvh, "kernel/nopvh.config");

const struct kernel_config kernel_config_list[] = {
	{ "default", "the shipped guest kernel, tuned for start-up", kernel_config_text_default, 0, 2220 },
	{ "minimal", "the small kernel that other monitors were measured with", kernel_config_text_minimal, 0, 1590 },
	{ "mitigations", "add the CPU's speculation mitigations", kernel_config_text_mitigations, 1, 0 },
	{ "sysfs", "bring back the parts of sysfs that the shipped kernel leaves out", kernel_config_text_sysfs, 1, 0 },
	{ "acpi", "add ACPI and with it the VM generation id", kernel_config_text_acpi, 1, 0 },
	{ "acpi-nopci", "for tests: ACPI without PCI, which never starts", kernel_config_text_acpi_nopci, 1, 0 },
	{ "nopvh", "for tests: leave out the PVH entry note", kernel_config_text_nopvh, 1, 0 },
};

const size_t n_kernel_configs = ARRAY_SIZE(kernel_config_list);
