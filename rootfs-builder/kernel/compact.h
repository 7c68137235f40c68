/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a vmlinux dense. Linux aligns its text, its entry code and its read-only data to 2 MiB, and what lies between is
 * filler that a loader would copy into guest memory and thereby use up. Here each segment is cut into the parts that hold
 * something.
 */
#ifndef MAYFLY_ROOTFS_KERNEL_COMPACT_H
#define MAYFLY_ROOTFS_KERNEL_COMPACT_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

struct err;

/*
 * Write the 64-bit x86 ELF program of @len bytes at @elf again, without runs of at least 16 pages of filler (all 0x00, or
 * all 0xcc in what is not writable) in its loadable segments: guest memory that nothing was loaded into reads as zero.
 * Addresses, entry, notes and sizes in memory stay; sections keep their headers, one with a gap inside becomes NOBITS.
 *
 * 0 with *@out allocated and *@out_len its size, or a negative errno with @e set: -EINVAL for a file that is no such
 * program, -ENOMEM. The same input gives the same bytes.
 */
int kernel_compact(const uint8_t *elf, size_t len, uint8_t **out, size_t *out_len, struct err *e) MUST_USE;

#endif
