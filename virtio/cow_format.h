/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The delta file's format (docs/cow-format.md): where things lie, and the header's fields.
 *
 * Trust: bytes of a delta come from anywhere. Every field of the header is checked here; everything else
 * in the file is a bit or data. Pure.
 */
#ifndef MAYFLY_VIRTIO_COW_FORMAT_H
#define MAYFLY_VIRTIO_COW_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/cow.h"
#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"

#define COW_MAP_PAGE UINT64_C(4096)                    /* what is read and written of a map at once */
#define COW_MAP_PAGE_BLOCKS (COW_MAP_PAGE * 8)         /* 128 MiB of the disk */
#define COW_DATA_ALIGN (2 * MIB)                       /* so that huge pages of a file system fit the disk's */
#define COW_SIZE_MAX (UINT64_C(64) << 40)              /* 64 TiB: a map of 2 GiB */
#define COW_HEADER_BYTES 512                           /* a sector: written whole or not at all */
#define COW_BOOT_ID_BYTES 16

/* Offsets in the file that do not depend on the disk's size. */
#define COW_HEADER_AT UINT64_C(0)
#define COW_SESSION_AT UINT64_C(4096)
#define COW_MAP_AT UINT64_C(8192)

/* Where things lie. All follows from the disk's size. */
struct cow_layout {
	uint64_t size;      /* of the disk, bytes */
	uint64_t n_blocks;  /* the last one may be cut by the disk's end */
	uint64_t map_bytes; /* of one map: whole pages, at least one */
	uint64_t live_at;   /* offset of the second map; the first is at COW_MAP_AT */
	uint64_t data_at;   /* offset of the disk's byte 0 */
	uint64_t file_size; /* of the delta, exactly */
};

/* The base's modification time. Zero for a host block device: its node's time says nothing about its data. */
struct cow_mtime {
	int64_t s;
	uint32_t ns;
};

struct cow_header {
	uint64_t size; /* bytes of the base and of the disk */
	struct cow_mtime mtime;
};

/* Lay out a delta for a disk of @size bytes. False: larger than COW_SIZE_MAX. */
bool cow_layout(uint64_t size, struct cow_layout *out) MUST_USE;

/* The header's sector. */
void cow_header_encode(const struct cow_header *header, uint8_t sector[COW_HEADER_BYTES]);

/* Check @sector. 0 and *@out, or -EINVAL with @e: what is wrong with it. */
int cow_header_decode(const uint8_t sector[COW_HEADER_BYTES], struct cow_header *out, struct err *e) MUST_USE;

#endif
