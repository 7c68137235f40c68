/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/cow_disk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/fd.h"

uint8_t cow_disk_byte(uint64_t i)
{
	return (uint8_t)(i * 7 + i / 512 * 13 + i / 65536 + 1);
}

const char *cow_disk_fast_parent(void)
{
	return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

void cow_disk_make(struct cow_disk *d, const char *parent, uint64_t size)
{
	uint8_t buf[65536];
	char *made;
	int fd;

	*d = (struct cow_disk){ .size = size };
	(void)snprintf(d->dir, sizeof(d->dir), "%s/test_cow.XXXXXX", parent);
	made = mkdtemp(d->dir);
	must(made);
	(void)snprintf(d->base, sizeof(d->base), "%s/base", d->dir);
	(void)snprintf(d->delta, sizeof(d->delta), "%s/delta", d->dir);
	fd = open(d->base, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	must(fd >= 0);
	for (uint64_t at = 0; at < size; at += sizeof(buf)) {
		uint64_t n = size - at < sizeof(buf) ? size - at : sizeof(buf);
		int rc;

		for (uint64_t i = 0; i < n; i++)
			buf[i] = cow_disk_byte(at + i);
		rc = fd_write_full(fd, buf, n);
		must(rc == 0);
	}
	(void)close(fd);
}

void cow_disk_remove(struct cow_disk *d)
{
	cow_disk_close(d);
	(void)unlink(d->delta);
	(void)unlink(d->base);
	(void)rmdir(d->dir);
}

int cow_disk_open(struct cow_disk *d, bool read_only)
{
	int fd = open(d->base, O_RDONLY | O_CLOEXEC);

	must(fd >= 0 && !d->cow);
	return cow_open(fd, d->size, d->delta, read_only, &d->cow, &d->err);
}

void cow_disk_close(struct cow_disk *d)
{
	cow_unref(d->cow);
	d->cow = NULL;
}

static int run(struct cow_disk *d, const struct blk_io_ops *ops, struct blk_xfer *x, uint8_t *buf, uint64_t slice,
	       unsigned n_iov)
{
	enum blk_io_result r;
	uint64_t len = x->left;

	must(n_iov > 0 && n_iov <= VQ_CHAIN_MAX && slice > 0);
	for (x->n = 0; x->n < n_iov; x->n++) {
		uint64_t part = x->n == n_iov - 1 ? len : len / 2;

		x->iov[x->n] = (struct iovec){ .iov_base = buf, .iov_len = part };
		buf += part;
		len -= part;
	}
	do {
		uint64_t before = x->left;

		r = cow_run(ops, d->cow, x, slice, 0);
		must(before - x->left <= slice);
	} while (r == BLK_IO_MORE);
	must(r == BLK_IO_DONE || r == BLK_IO_FAILED);
	if (r == BLK_IO_DONE)
		return 0;
	return x->error ? x->error : -1;
}

int cow_disk_read(struct cow_disk *d, const struct blk_io_ops *ops, void *buf, uint64_t len, uint64_t offset,
		  uint64_t slice, unsigned n_iov)
{
	struct blk_xfer x = { .offset = offset, .left = len };

	return run(d, ops, &x, buf, slice, n_iov);
}

int cow_disk_write(struct cow_disk *d, const struct blk_io_ops *ops, const void *buf, uint64_t len, uint64_t offset,
		   uint64_t slice, unsigned n_iov)
{
	struct blk_xfer x = { .is_write = true, .offset = offset, .left = len };
	union {
		const void *from;
		uint8_t *base;
	} u = { .from = buf }; /* an iovec has no const */

	return run(d, ops, &x, u.base, slice, n_iov);
}

uint64_t cow_disk_random(uint64_t *state, uint64_t n)
{
	must(*state != 0 && n > 0);
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (*state >> 11) % n;
}
