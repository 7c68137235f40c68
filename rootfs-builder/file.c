// SPDX-License-Identifier: Apache-2.0
/*
 * Whole files. Temporary names end in the process's number, so that two processes never share one.
 */
#include "rootfs-builder/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"

int file_read(const char *path, uint8_t **data, size_t *len, struct err *e)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	AUTO_FREE uint8_t *buf = NULL;
	struct stat st;
	int rc;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, -errno, "read '%s'", path);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > GIB)
		return err_set(e, -EINVAL, "'%s' is not a file of at most 1 GiB", path);
	buf = malloc((size_t)st.st_size + 1);
	if (!buf)
		return err_set(e, -ENOMEM, "no memory to read '%s'", path);
	rc = fd_pread_full(fd, buf, (size_t)st.st_size, 0);
	if (rc < 0)
		return err_sys(e, rc, "read '%s'", path);
	buf[st.st_size] = '\0';
	*data = ptr_take(&buf);
	*len = (size_t)st.st_size;
	return 0;
}

/* Write @path's temporary file, to be renamed. Returns 0 or a negative errno; nothing is left behind then. */
static int write_part(const char *part, const void *data, size_t len)
{
	AUTO_FD int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	int rc = fd < 0 ? -errno : fd_write_full(fd, data, len);

	if (rc < 0)
		(void)unlink(part);
	return rc;
}

int file_write(const char *path, const void *data, size_t len, struct err *e)
{
	char part[PATH_MAX];
	int rc;

	if (snprintf(part, sizeof(part), "%s.%d.part", path, (int)getpid()) >= (int)sizeof(part))
		return err_set(e, -ENAMETOOLONG, "the name '%.80s...' is too long", path);
	rc = write_part(part, data, len);
	if (rc < 0)
		return err_sys(e, rc, "write '%s'", path);
	if (rename(part, path) < 0) {
		rc = err_sys(e, -errno, "write '%s'", path);
		(void)unlink(part);
		return rc;
	}
	return 0;
}

int file_copy(const char *from, const char *path, struct err *e)
{
	AUTO_FREE uint8_t *data = NULL;
	size_t len;
	int rc = file_read(from, &data, &len, e);

	return rc < 0 ? rc : file_write(path, data, len, e);
}
