/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening disk images. Formats are never probed: a disk is the raw bytes of its file (THREATS.md,
 * GHSA-jmr4-g2hv-mjj6).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#include "virtio/blk.h"
#include "vmm/base/fd.h"
#include "vmm/base/sys.h"

#define ERR_TEXT_MAX 96

static int backing_error(struct err *e, int errnum, const char *path)
{
	char text[ERR_TEXT_MAX];

	return err_set(e, -errnum, "Error manipulating the backing file: %s %s",
		       err_os_text(errnum, text, sizeof(text)), path);
}

/* 0 when @st can be a disk, else an errno. */
static int type_check(const struct stat *st)
{
	if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode))
		return 0;
	return S_ISDIR(st->st_mode) ? EISDIR : EINVAL;
}

/* Bytes of the open file @fd. 0 or an errno. */
static int backing_size(int fd, const struct stat *st, uint64_t *size)
{
	if (S_ISBLK(st->st_mode))
		return ioctl(fd, BLKGETSIZE64, size) < 0 ? errno : 0;
	*size = (uint64_t)st->st_size;
	return 0;
}

/* Can a read of what is in memory be told from one that must wait? Asked once, with one byte. */
static enum blk_nowait backing_nowait(int fd, const struct stat *st)
{
	struct statfs fs;
	uint8_t byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = sizeof(byte) };

	if (S_ISREG(st->st_mode) && fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC)
		return BLK_NOWAIT_MEMORY;
	if (sys_preadv2(fd, &iov, 1, 0, RWF_NOWAIT) >= 0 || errno == EAGAIN)
		return BLK_NOWAIT_FLAG;
	return BLK_NOWAIT_NEVER;
}

/* CONTRACT.md section 9, GET_ID. */
static void backing_id(const struct stat *st, uint8_t id[BLK_ID_BYTES])
{
	char text[64];

	(void)snprintf(text, sizeof(text), "%" PRIuMAX "%" PRIuMAX "%" PRIuMAX, (uintmax_t)st->st_dev,
		       (uintmax_t)st->st_rdev, (uintmax_t)st->st_ino);
	memset(id, 0, BLK_ID_BYTES);
	memcpy(id, text, strnlen(text, BLK_ID_BYTES));
}

int blk_backing_open(const char *path, bool read_only, struct blk_backing *out, struct err *e)
{
	struct blk_backing backing = { .read_only = read_only };
	struct stat st;
	AUTO_FD int fd = -1;
	int flags, errnum;

	/* Before open(), which rewinds a tape or wakes a terminal; fstat() below is the check that counts. */
	if (stat(path, &st) < 0)
		return backing_error(e, errno, path);
	errnum = type_check(&st);
	if (errnum != 0)
		return backing_error(e, errnum, path);
	/* O_NONBLOCK: a FIFO put there meanwhile must not hang us. */
	fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return backing_error(e, errno, path);
	if (fstat(fd, &st) < 0)
		return backing_error(e, errno, path);
	errnum = type_check(&st);
	if (errnum == 0)
		errnum = backing_size(fd, &st, &backing.size);
	if (errnum != 0)
		return backing_error(e, errnum, path);
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
		return backing_error(e, errno, path);
	backing.nowait = backing_nowait(fd, &st);
	backing_id(&st, backing.id);
	backing.fd = fd_take(&fd);
	*out = backing;
	return 0;
}

int blk_backing_open_cow(const char *path, const char *delta_path, bool read_only, struct blk_backing *out, struct err *e)
{
	(void)path;
	(void)read_only;
	(void)out;
	return err_set(e, -ENOTSUP, "copy-on-write disks are not there yet: '%s'", delta_path);
}

int blk_backing_dup(const struct blk_backing *backing, struct blk_backing *out)
{
	struct blk_backing copy = *backing;

	if (backing->fd >= 0) {
		copy.fd = fcntl(backing->fd, F_DUPFD_CLOEXEC, 0);
		if (copy.fd < 0)
			return -errno;
	}
	*out = copy;
	return 0;
}

void blk_backing_close(struct blk_backing *backing)
{
	fd_close(&backing->fd);
}
