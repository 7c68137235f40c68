/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/path.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/fd.h"

#ifndef SYS_openat2
#define SYS_openat2 437
#endif

static int open_beneath(int dir_fd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
	struct open_how how = {
		.flags = (uint64_t)flags | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY,
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | resolve,
	};
	long fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

int path_open(int dir_fd, const char *path, int flags, mode_t mode)
{
	return open_beneath(dir_fd, path, flags, mode, 0);
}

int path_open_dir_same_mount(int dir_fd, const char *path)
{
	return open_beneath(dir_fd, path, O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_XDEV);
}

int path_make_dir(int dir_fd, const char *name, mode_t mode, struct undo *undo)
{
	bool made = mkdirat(dir_fd, name, mode) == 0;

	if (!made && errno != EEXIST)
		return -errno;
	if (made && undo)
		undo_add(undo, dir_fd, name, true);
	return path_open(dir_fd, name, O_RDONLY | O_DIRECTORY, 0);
}

int path_write(int dir_fd, const char *path, const char *text)
{
	size_t len = strlen(text);
	AUTO_FD int fd = path_open(dir_fd, path, O_WRONLY, 0);
	ssize_t n;

	if (fd < 0)
		return fd;
	n = write(fd, text, len);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

ssize_t path_read(int dir_fd, const char *path, char *buf, size_t len)
{
	AUTO_FD int fd = path_open(dir_fd, path, O_RDONLY, 0);
	size_t used = 0;

	if (fd < 0)
		return fd;
	while (used + 1 < len) {
		ssize_t n = read(fd, buf + used, len - 1 - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		used += (size_t)n;
	}
	buf[used] = '\0';
	return (ssize_t)used;
}
