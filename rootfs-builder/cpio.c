// SPDX-License-Identifier: Apache-2.0
/*
 * The newc cpio form: a header of 13 eight-digit hexadecimal numbers behind "070701", the name, padding to four bytes, the
 * data, padding to four bytes; at the end an entry called TRAILER!!!.
 */
#include "rootfs-builder/cpio.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/fd.h"

#define HEADER_LEN 110

static void put(struct cpio *c, const void *data, size_t len)
{
	if (c->rc == 0)
		c->rc = fd_write_full(c->fd, data, len);
	c->offset += len;
}

static void pad(struct cpio *c, unsigned int align)
{
	static const char zeros[512];

	put(c, zeros, (align - c->offset % align) % align);
}

static void add(struct cpio *c, const char *path, uint32_t mode, const void *data, size_t len, uint32_t major, uint32_t minor)
{
	char header[HEADER_LEN + 1];
	size_t name_len = strlen(path) + 1;

	if (len > UINT32_MAX || name_len > 4096) {
		c->rc = c->rc ? c->rc : -EFBIG;
		return;
	}
	snprintf(header, sizeof(header), "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", ++c->n_files, mode, 0,
		 0, S_ISDIR(mode) ? 2 : 1, 0, (uint32_t)len, 0, 0, major, minor, (uint32_t)name_len, 0);
	put(c, header, HEADER_LEN);
	put(c, path, name_len);
	pad(c, 4);
	put(c, data, len);
	pad(c, 4);
}

void cpio_start(struct cpio *c, int fd)
{
	*c = (struct cpio){ .fd = fd };
}

void cpio_add_dir(struct cpio *c, const char *path, uint32_t mode)
{
	add(c, path, S_IFDIR | mode, "", 0, 0, 0);
}

void cpio_add_file(struct cpio *c, const char *path, uint32_t mode, const void *data, size_t len)
{
	add(c, path, S_IFREG | mode, data, len, 0, 0);
}

void cpio_add_symlink(struct cpio *c, const char *path, const char *target)
{
	add(c, path, S_IFLNK | 0777, target, strlen(target), 0, 0);
}

void cpio_add_chardev(struct cpio *c, const char *path, uint32_t mode, uint32_t major, uint32_t minor)
{
	add(c, path, S_IFCHR | mode, "", 0, major, minor);
}

int cpio_finish(struct cpio *c)
{
	c->n_files = UINT32_MAX; /* the trailer's inode number is 0 */
	add(c, "TRAILER!!!", 0, "", 0, 0, 0);
	pad(c, 512);
	return c->rc;
}
