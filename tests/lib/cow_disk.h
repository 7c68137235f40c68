/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy-on-write disk for tests: a directory with a base of known bytes and a delta, and transfers of plain
 * buffers cut into iovecs and slices. Aborts when something of the test itself goes wrong.
 */
#ifndef MAYFLY_TESTS_COW_DISK_H
#define MAYFLY_TESTS_COW_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/cow.h"
#include "vmm/base/err.h"

struct cow_disk {
	char dir[64], base[80], delta[80];
	uint64_t size;
	struct cow *cow; /* owned; NULL: closed */
	struct err err;  /* of the last cow_disk_open() */
};

/* A parent for disks that are synced often: a tmpfs where there is one. */
const char *cow_disk_fast_parent(void);

/* Make a directory in @parent and a base of @size bytes, where byte i is cow_disk_byte(i). Nothing is opened. */
void cow_disk_make(struct cow_disk *d, const char *parent, uint64_t size);
uint8_t cow_disk_byte(uint64_t i);

/* Close, and remove the directory. */
void cow_disk_remove(struct cow_disk *d);

/* Open the delta over the base. What cow_open() returns. */
int cow_disk_open(struct cow_disk *d, bool read_only);
void cow_disk_close(struct cow_disk *d);

/*
 * Read or write in slices of @slice bytes, with an iovec of @n_iov elements. 0, or what blk_xfer.error says
 * (-1 for 0: the file ended).
 */
int cow_disk_read(struct cow_disk *d, const struct blk_io_ops *ops, void *buf, uint64_t len, uint64_t offset,
		  uint64_t slice, unsigned n_iov);
int cow_disk_write(struct cow_disk *d, const struct blk_io_ops *ops, const void *buf, uint64_t len, uint64_t offset,
		   uint64_t slice, unsigned n_iov);

/* A small generator of random numbers that a seed repeats (xorshift); *@state is not 0. A number below @n. */
uint64_t cow_disk_random(uint64_t *state, uint64_t n);

#endif
