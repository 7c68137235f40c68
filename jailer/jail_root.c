/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail's directory: BASE/<program>/ID/root with the program, the device nodes and the pid file (CONTRACT.md 7.2).
 *
 * Clients make it before and put files, FIFOs and mounts into it, so whatever exists stays; but nothing that exists is
 * trusted. While the jailer works, the directories below the root belong to root with mode 0700, so that a process of the
 * jail's user (an earlier microVM, say) can't exchange names under our hands; they get their owner last.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "jailer/jail.h"
#include "jailer/path.h"
#include "vmm/base/fd.h"

#define DIR_MODE 0700
#define NODE_MODE 0600
#define MISC_MAJOR 10
#define TUN_MINOR 200
#define KVM_MINOR 232
#define MEM_MAJOR 1
#define URANDOM_MINOR 9

int jail_resolve(struct jail *j, struct err *e)
{
	const struct jail_options *o = j->opt;
	char base[PATH_MAX];
	struct stat st;

	if (!realpath(o->exec_file, j->exec_path))
		return err_sys(e, -errno, "Failed to canonicalize path %.300s", o->exec_file);
	if (stat(j->exec_path, &st) < 0)
		return err_sys(e, -errno, "Failed to look at %.300s", j->exec_path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%.300s is not a file", o->exec_file);
	j->exec_name = strrchr(j->exec_path, '/') + 1;
	if (!realpath(o->base_dir, base))
		return err_sys(e, -errno, "Failed to canonicalize path %.300s", o->base_dir);
	j->base_fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (j->base_fd < 0 && errno == ENOTDIR)
		return err_set(e, -ENOTDIR, "%.300s is not a directory", o->base_dir);
	if (j->base_fd < 0)
		return err_sys(e, -errno, "Failed to open %.300s", base);
	if ((size_t)snprintf(j->root_path, sizeof(j->root_path), "%s/%s/%s/root", base, j->exec_name, o->id) >=
	    sizeof(j->root_path))
		return err_set(e, -ENAMETOOLONG, "The path of the jail is too long: %.300s/...", base);
	return 0;
}

int jail_make_root(struct jail *j, struct err *e)
{
	const char *const names[] = { j->exec_name, j->opt->id, "root" };
	int fd = fcntl(j->base_fd, F_DUPFD_CLOEXEC, 3);

	for (size_t i = 0; i < ARRAY_SIZE(names) && fd >= 0; i++) {
		int next = path_make_dir(fd, names[i], i < 2 ? 0755 : DIR_MODE, &j->undo);

		fd_close(&fd);
		if (next < 0)
			return err_sys(e, next, "Failed to create directory '%s' of %.300s", names[i], j->root_path);
		fd = next;
	}
	if (fd < 0)
		return err_sys(e, -errno, "Failed to open the base directory");
	j->root_fd = fd;
	return 0;
}

/* What lies under the program's name already goes, if it is a plain file that lies nowhere else. */
static int remove_old_program(struct jail *j, struct err *e)
{
	struct stat st;
	AUTO_FD int fd = path_open(j->root_fd, j->exec_name, O_WRONLY | O_NONBLOCK, 0);

	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return err_sys(e, fd, "Failed to open %.300s/%s", j->root_path, j->exec_name);
	if (fstat(fd, &st) < 0)
		return err_sys(e, -errno, "Failed to look at %.300s/%s", j->root_path, j->exec_name);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%.300s/%s is not a file", j->root_path, j->exec_name);
	if (st.st_nlink > 1)
		return err_set(e, -EMLINK, "Detected hard link at: %.300s/%s", j->root_path, j->exec_name);
	if (unlinkat(j->root_fd, j->exec_name, 0) < 0)
		return err_sys(e, -errno, "Failed to replace %.300s/%s", j->root_path, j->exec_name);
	return 0;
}

static int copy_bytes(int from, int to, off_t size)
{
	while (size > 0) {
		ssize_t n = sendfile(to, from, NULL, (size_t)size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		size -= n;
	}
	return 0;
}

int jail_copy_program(struct jail *j, struct err *e)
{
	const struct jail_options *o = j->opt;
	AUTO_FD int from = open(j->exec_path, O_RDONLY | O_CLOEXEC);
	AUTO_FD int to = -1;
	struct stat st;
	int rc;

	if (from < 0 || fstat(from, &st) < 0)
		return err_sys(e, -errno, "Failed to open %.300s", j->exec_path);
	rc = remove_old_program(j, e);
	if (rc)
		return rc;
	to = path_open(j->root_fd, j->exec_name, O_WRONLY | O_CREAT | O_EXCL, DIR_MODE);
	if (to < 0)
		return err_sys(e, to, "Failed to open %.300s/%s", j->root_path, j->exec_name);
	undo_add(&j->undo, j->root_fd, j->exec_name, false);
	rc = copy_bytes(from, to, st.st_size);
	if (rc)
		return err_sys(e, rc, "Failed to copy %.200s to %.200s/%s", j->exec_path, j->root_path, j->exec_name);
	/* No set-id bits: the mode is the program's, the owner is another. */
	if (fchown(to, o->uid, o->gid) < 0 || fchmod(to, st.st_mode & 0777) < 0)
		return err_sys(e, -errno, "Failed to set owner and mode of %.300s/%s", j->root_path, j->exec_name);
	return 0;
}

/* Make the device node @name in @dir_fd for the jail's user. */
static int make_node(struct jail *j, int dir_fd, const char *name, unsigned int major_nr, unsigned int minor_nr, struct err *e)
{
	if (mknodat(dir_fd, name, S_IFCHR | NODE_MODE, makedev(major_nr, minor_nr)) < 0)
		return err_sys(e, -errno, "Failed to create %s via mknod inside the jail %.200s%s", name, j->root_path,
			       errno == EEXIST ? " (the remains of an earlier microVM go with --clean)" : "");
	undo_add(&j->undo, dir_fd, name, false);
	/* The directory is root's alone until later: nobody can have exchanged the name. */
	if (fchownat(dir_fd, name, j->opt->uid, j->opt->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, -errno, "Failed to set the owner of %s inside the jail", name);
	return 0;
}

/* Minor number of /dev/userfaultfd on this host; -1: it has none. */
static int userfaultfd_minor(void)
{
	char text[4096], *line, *next;
	AUTO_FD int fd = open("/proc/misc", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n < 0)
		return -1;
	text[n] = '\0';
	for (line = text; line; line = next) {
		int minor_nr;
		char name[32];

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (sscanf(line, "%d %31s", &minor_nr, name) == 2 && strcmp(name, "userfaultfd") == 0)
			return minor_nr;
	}
	return -1;
}

static int make_nodes(struct jail *j, int dev_fd, int net_fd, struct err *e)
{
	int uffd = userfaultfd_minor();
	struct err warning = {0};
	int rc;

	rc = make_node(j, net_fd, "tun", MISC_MAJOR, TUN_MINOR, e);
	if (!rc)
		rc = make_node(j, dev_fd, "kvm", MISC_MAJOR, KVM_MINOR, e);
	if (!rc && make_node(j, dev_fd, "urandom", MEM_MAJOR, URANDOM_MINOR, &warning))
		printf("WARNING! Could not create /dev/urandom device inside jailer: %s.\n"
		       "MMDS version 2 will not be available to the guest.\n", warning.msg);
	if (!rc && uffd >= 0)
		rc = make_node(j, dev_fd, "userfaultfd", MISC_MAJOR, (unsigned int)uffd, e);
	return rc;
}

/* @fd is the directory @name. Root's with mode 0700 while we work, the jail user's afterwards. */
static int own_dir(struct jail *j, int fd, const char *name, uid_t uid, gid_t gid, struct err *e)
{
	if (fchown(fd, uid, gid) < 0 || fchmod(fd, DIR_MODE) < 0)
		return err_sys(e, -errno, "Failed to set owner and mode of %.300s%s", j->root_path, name);
	return 0;
}

int jail_make_devices(struct jail *j, struct err *e)
{
	static const struct { const char *path, *name; int parent; } dirs[] = {
		{ "", "", 0 }, { "/dev", "dev", 0 }, { "/dev/net", "net", 1 }, { "/run", "run", 0 } };
	int fd[ARRAY_SIZE(dirs)] = { j->root_fd, -1, -1, -1 };
	int rc = own_dir(j, j->root_fd, "", 0, 0, e);

	for (size_t i = 1; !rc && i < ARRAY_SIZE(dirs); i++) {
		fd[i] = path_make_dir(fd[dirs[i].parent], dirs[i].name, DIR_MODE, &j->undo);
		rc = fd[i] < 0 ? err_sys(e, fd[i], "Failed to create %.300s%s", j->root_path, dirs[i].path)
			       : own_dir(j, fd[i], dirs[i].path, 0, 0, e);
	}
	if (!rc)
		rc = make_nodes(j, fd[1], fd[2], e);
	for (size_t i = ARRAY_SIZE(dirs); !rc && i > 0; i--)
		rc = own_dir(j, fd[i - 1], dirs[i - 1].path, j->opt->uid, j->opt->gid, e);
	for (size_t i = 1; i < ARRAY_SIZE(dirs); i++)
		fd_close(&fd[i]);
	return rc;
}

int jail_write_pid(struct jail *j, pid_t pid, struct err *e)
{
	char name[NAME_MAX + 1], text[16];
	AUTO_FD int fd = -1;
	int rc;

	if ((size_t)snprintf(name, sizeof(name), "%s.pid", j->exec_name) >= sizeof(name))
		return err_set(e, -ENAMETOOLONG, "The name of the program is too long for a pid file: %.200s", j->exec_name);
	fd = path_open(j->root_fd, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
	if (fd < 0)
		return err_sys(e, fd, "Failed to create the pid file %.300s/%s%s", j->root_path, name,
			       fd == -EEXIST ? " (the remains of an earlier microVM go with --clean)" : "");
	undo_add(&j->undo, j->root_fd, name, false);
	(void)snprintf(text, sizeof(text), "%d", (int)pid);
	rc = fd_write_full(fd, text, strlen(text));
	return rc ? err_sys(e, rc, "Failed to write the pid file %.300s/%s", j->root_path, name) : 0;
}
