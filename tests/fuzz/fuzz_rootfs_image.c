/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What mayfly-rootfs reads of a kernel package: the bzImage's header, an ELF's tables, a module's own information, and the
 * dense vmlinux made of it.
 *
 * Asserted: a located payload lies inside the image; the ELF's size inside the file; a module's value ends inside the file; a
 * dense file is one whose tables are right again, and is not larger than the headers it adds.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rootfs-builder/kernel/bzimage.h"
#include "rootfs-builder/kernel/compact.h"
#include "rootfs-builder/kernel/modules.h"
#include "vmm/base/cdefs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bzimage_payload payload;
	size_t elf_size, dense_size;
	const char *depends;
	uint8_t *dense;

	if (kernel_bzimage_locate(data, size, &payload, NULL) == 0)
		must(payload.len > 0 && payload.offset < size && payload.len <= size - payload.offset);
	if (kernel_elf_size(data, size, &elf_size, NULL) == 0)
		must(elf_size <= size);
	(void)kernel_elf_is_static(data, size);
	depends = module_info(data, size, "depends");
	if (depends)
		must(strlen(depends) < size - (size_t)((const uint8_t *)depends - data));
	if (kernel_compact(data, size, &dense, &dense_size, NULL) == 0) {
		must(kernel_elf_size(dense, dense_size, &elf_size, NULL) == 0);
		free(dense);
	}
	return 0;
}
