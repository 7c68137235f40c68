/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening disk images. Formats are never probed: a disk is the raw bytes of its file (THREATS.md,
 * GHSA-jmr4-g2hv-mjj6).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#include "virtio/blk.h"
#include "virtio/cow.h"
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

/* A device set read-only can be opened to write all the same; its writes fail one by one. */
static bool device_read_only(int fd, const struct stat *st)
{
	int ro = 0;

	return S_ISBLK(st->st_mode) && ioctl(fd, BLKROGET, &ro) == 0 && ro != 0;
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

/*
 * Can space be given back? Asked where the answer changes nothing: behind the end. A host that can takes the file's
 * hole as done, and finds the block device's range wrong, which it checks later. The file's time of modification, which
 * a hole of no effect moves all the same, is put back where we may: deltas know their base by it (cow.h).
 */
static bool backing_can_discard(int fd, const struct stat *st, uint64_t size)
{
	const uint64_t block = 4096;
	uint64_t end = (size + block - 1) & ~(block - 1);
	uint64_t range[2] = { end, block };
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, st->st_mtim };

	if (size > INT64_MAX - 2 * block)
		return false;
	if (S_ISBLK(st->st_mode))
		return ioctl(fd, BLKDISCARD, range) < 0 && errno == EINVAL;
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)end, (off_t)block) < 0)
		return false;
	if (futimens(fd, times) < 0)
		errno = 0;
	return true;
}

static uint32_t positive(int v)
{
	return v > 0 ? (uint32_t)v : 0;
}

/*
 * A file lies in the page cache, in pages: what is smaller may cost a read. A block device says it itself, and
 * what it does not say is left to the guest.
 */
static void backing_topology(int fd, const struct stat *st, struct blk_topology *t)
{
	int logical = 0, align = 0;
	unsigned physical = 0, min_io = 0, opt_io = 0;

	*t = (struct blk_topology){ .logical = 512, .physical = 4096, .min_io = 4096 };
	if (!S_ISBLK(st->st_mode))
		return;
	if (ioctl(fd, BLKSSZGET, &logical) < 0 || ioctl(fd, BLKPBSZGET, &physical) < 0 ||
	    ioctl(fd, BLKALIGNOFF, &align) < 0 || ioctl(fd, BLKIOMIN, &min_io) < 0 || ioctl(fd, BLKIOOPT, &opt_io) < 0 ||
	    logical < 512 || align < 0) {
		*t = (struct blk_topology){ .logical = logical > 512 ? positive(logical) : 512 };
		return;
	}
	*t = (struct blk_topology){
		.logical = positive(logical),
		.physical = physical,
		.alignment = positive(align),
		.min_io = min_io,
		.opt_io = opt_io,
	};
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

/* Reads need not note the time of access, which costs a tenth of a small one. Only an owner may say so. */
static void forget_access_time(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NOATIME) < 0)
		return;
}

/* Open @path into @out, with its stat. 0, or negative errno with @e. */
static int open_file(const char *path, bool read_only, struct blk_backing *out, struct stat *st, struct err *e)
{
	AUTO_FD int fd = -1;
	uint64_t size = 0;
	int flags, errnum;

	/* Before open(), which rewinds a tape or wakes a terminal; fstat() below is the check that counts. */
	if (stat(path, st) < 0)
		return backing_error(e, errno, path);
	errnum = type_check(st);
	if (errnum != 0)
		return backing_error(e, errnum, path);
	/* O_NONBLOCK: a FIFO put there meanwhile must not hang us. */
	fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return backing_error(e, errno, path);
	if (fstat(fd, st) < 0)
		return backing_error(e, errno, path);
	errnum = type_check(st);
	if (errnum == 0 && !read_only && device_read_only(fd, st))
		errnum = EROFS;
	if (errnum == 0)
		errnum = backing_size(fd, st, &size);
	if (errnum != 0)
		return backing_error(e, errnum, path);
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
		return backing_error(e, errno, path);
	forget_access_time(fd);
	*out = (struct blk_backing){ .size = size, .read_only = read_only, .block_device = S_ISBLK(st->st_mode) };
	out->nowait = backing_nowait(fd, st);
	backing_topology(fd, st, &out->topology);
	backing_id(st, out->id);
	out->fd = fd_take(&fd);
	return 0;
}

int blk_backing_open(const char *path, bool read_only, struct blk_backing *out, struct err *e)
{
	struct blk_backing backing;
	struct stat st;
	int rc = open_file(path, read_only, &backing, &st, e);

	if (rc < 0)
		return rc;
	backing.can_discard = !read_only && backing_can_discard(backing.fd, &st, backing.size);
	*out = backing;
	return 0;
}

int blk_backing_open_cow(const char *path, const char *delta_path, bool read_only, struct blk_backing *out, struct err *e)
{
	struct blk_backing base;
	struct stat st;
	struct cow *cow;
	int delta_fd, rc;

	rc = open_file(path, true, &base, &st, e);
	if (rc < 0)
		return rc;
	rc = cow_open(fd_take(&base.fd), base.size, delta_path, read_only, &cow, e);
	if (rc < 0)
		return rc;
	*out = (struct blk_backing){
		.fd = -1,
		.size = cow_size(cow),
		.read_only = read_only,
		.can_discard = !read_only && cow_can_discard(cow),
		.topology = { .logical = 512, .physical = COW_BLOCK, .min_io = COW_BLOCK },
		.nowait = base.nowait,
		.cow = cow,
	};
	memcpy(out->id, base.id, sizeof(out->id));
	delta_fd = cow_delta_fd(cow);
	if (delta_fd >= 0 && fstat(delta_fd, &st) == 0) {
		enum blk_nowait nowait = backing_nowait(delta_fd, &st);

		forget_access_time(delta_fd);
		backing_id(&st, out->id);
		/* cow_run() knows which of the two is on tmpfs. */
		if (nowait == BLK_NOWAIT_NEVER || base.nowait == BLK_NOWAIT_NEVER)
			out->nowait = BLK_NOWAIT_NEVER;
		else if (nowait != base.nowait)
			out->nowait = BLK_NOWAIT_FLAG;
	}
	return 0;
}

int blk_backing_dup(const struct blk_backing *backing, struct blk_backing *out)
{
	struct blk_backing copy = *backing;

	if (backing->fd >= 0) {
		copy.fd = fcntl(backing->fd, F_DUPFD_CLOEXEC, 0);
		if (copy.fd < 0)
			return -errno;
	}
	if (backing->cow)
		copy.cow = cow_ref(backing->cow);
	*out = copy;
	return 0;
}

void blk_backing_close(struct blk_backing *backing)
{
	fd_close(&backing->fd);
	cow_unref(backing->cow);
	backing->cow = NULL;
}
