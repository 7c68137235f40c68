/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --clean ID: remove what a microVM that has ended left behind. Works on descriptors, follows no symbolic link, crosses no
 * mount, and refuses while anything of the microVM lives.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jailer/jail.h"
#include "jailer/path.h"
#include "vmm/base/fd.h"

/* Deeper than any jail; the attacker's depth is not our stack's. */
#define DEPTH_MAX 64

/* Remove the directory @name in @dir_fd with everything in it. */
static int remove_tree(int dir_fd, const char *name, unsigned int depth, struct err *e)
{
	int fd = path_open_dir_same_mount(dir_fd, name);
	struct dirent *entry;
	DIR *dir;
	int rc = 0;

	if (fd < 0)
		return err_sys(e, fd, "Failed to open '%.200s'%s", name,
			       fd == -EXDEV ? ", something is mounted there: unmount it first" : "");
	dir = fdopendir(fd);
	if (!dir) {
		fd_close(&fd);
		return err_sys(e, -ENOMEM, "Failed to read '%.200s'", name);
	}
	if (depth == DEPTH_MAX)
		rc = err_set(e, -ELOOP, "Directories in '%.200s' are nested more than %d deep", name, DEPTH_MAX);
	while (!rc && (entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (unlinkat(fd, entry->d_name, 0) == 0)
			continue;
		rc = errno == EISDIR ? remove_tree(fd, entry->d_name, depth + 1, e)
				     : err_sys(e, -errno, "Failed to remove '%.200s'", entry->d_name);
	}
	(void)closedir(dir);
	if (!rc && unlinkat(dir_fd, name, AT_REMOVEDIR) < 0)
		rc = err_sys(e, -errno, "Failed to remove '%.200s'", name);
	return rc;
}

/* Is a process alive whose root directory is the one at @root_fd? /proc/PID/root shows it also for another namespace. */
static bool somebody_lives_in(int root_fd)
{
	struct stat root, st;
	struct dirent *entry;
	bool found = false;
	DIR *proc;

	if (fstat(root_fd, &root) < 0)
		return false;
	proc = opendir("/proc");
	while (proc && !found && (entry = readdir(proc))) {
		char path[300];

		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		(void)snprintf(path, sizeof(path), "/proc/%s/root/", entry->d_name);
		found = stat(path, &st) == 0 && st.st_dev == root.st_dev && st.st_ino == root.st_ino;
	}
	if (proc)
		(void)closedir(proc);
	return found;
}

/* Remove the cgroup at j->cgroup_path[i]; rmdir refuses one that has a process. */
static int remove_cgroups(struct jail *j, struct err *e)
{
	int rc = jail_find_cgroups(j, e);

	for (size_t i = 0; !rc && i < j->n_cgroups; i++) {
		if (rmdir(j->cgroup_path[i]) == 0 || errno == ENOENT)
			continue;
		rc = errno == EBUSY ? err_set(e, -EBUSY, "The microVM '%s' is alive: cgroup %.300s has processes. Stop it first.",
					      j->opt->id, j->cgroup_path[i])
				    : err_sys(e, -errno, "Failed to remove cgroup %.300s", j->cgroup_path[i]);
	}
	return rc;
}

int jail_clean(struct jail *j, struct err *e)
{
	AUTO_FD int program_fd = -1;
	AUTO_FD int id_fd = -1;
	int rc = jail_resolve(j, e);

	if (rc)
		return rc;
	program_fd = path_open(j->base_fd, j->exec_name, O_RDONLY | O_DIRECTORY, 0);
	if (program_fd >= 0)
		id_fd = path_open(program_fd, j->opt->id, O_RDONLY | O_DIRECTORY, 0);
	if (program_fd < 0 || id_fd < 0)
		return err_set(e, -ENOENT, "There is no jail '%s': %.300s does not exist", j->opt->id, j->root_path);
	j->root_fd = path_open(id_fd, "root", O_RDONLY | O_DIRECTORY, 0);
	if (j->root_fd >= 0 && somebody_lives_in(j->root_fd))
		return err_set(e, -EBUSY, "The microVM '%s' is alive: a process runs in %.300s. Stop it first.", j->opt->id,
			       j->root_path);
	rc = remove_cgroups(j, e);
	return rc ? rc : remove_tree(program_fd, j->opt->id, 0, e);
}
