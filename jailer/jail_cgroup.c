/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail's cgroups (CONTRACT.md 7.2, steps 3 and 8): MOUNT/PARENT/ID in the hierarchy of v2, or in each hierarchy of v1
 * that a value is for.
 *
 * Section names are those of the kernel's Documentation/admin-guide/cgroup-v2.rst.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#include "jailer/jail.h"
#include "jailer/path.h"
#include "vmm/base/fd.h"

#define V2_USUAL_MOUNT "/sys/fs/cgroup"
#define VALUE_MAX 4096

static const char *parent_of(const struct jail *j)
{
	return j->opt->parent_cgroup ? j->opt->parent_cgroup : j->exec_name;
}

/* ---- where hierarchies are mounted ------------------------------------------------------------------------------- */

/* Mount point of the v1 hierarchy that has @controller, or of v2 when @controller is NULL. 0 or -ENOENT. */
static int find_mount(const char *controller, char out[PATH_MAX])
{
	FILE *mounts;
	struct mntent entry;
	char text[PATH_MAX];
	int rc = -ENOENT;

	mounts = setmntent("/proc/self/mounts", "re");
	if (!mounts)
		return -errno;
	while (rc && getmntent_r(mounts, &entry, text, sizeof(text))) {
		if (controller ? strcmp(entry.mnt_type, "cgroup") != 0 || !hasmntopt(&entry, controller)
			       : strcmp(entry.mnt_type, "cgroup2") != 0)
			continue;
		if ((size_t)snprintf(out, PATH_MAX, "%s", entry.mnt_dir) < PATH_MAX)
			rc = 0;
	}
	(void)endmntent(mounts);
	return rc;
}

/* The same for v2: nearly always where everybody looks, which spares reading all of the host's mounts. */
static int find_v2(char out[PATH_MAX])
{
	struct statfs fs;

	if (statfs(V2_USUAL_MOUNT, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC) {
		memcpy(out, V2_USUAL_MOUNT, sizeof(V2_USUAL_MOUNT));
		return 0;
	}
	return find_mount(NULL, out);
}

/* Without --cgroup-version: v1 where the host has it for the first value's controller, else v2. */
static unsigned int choose_version(const struct jail *j)
{
	char path[PATH_MAX];

	if (j->opt->cgroup_version)
		return j->opt->cgroup_version;
	return j->opt->n_cgroup && find_mount(j->opt->cgroup[0].controller, path) == 0 ? 1 : 2;
}

/* ---- making the directories -------------------------------------------------------------------------------------- */

/* v1: cpuset.cpus and cpuset.mems begin empty, and nobody can enter such a cgroup; take the parent's. */
static int inherit_cpuset(int parent_fd, int fd)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };
	char value[VALUE_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		ssize_t n = path_read(fd, files[i], value, sizeof(value));
		int rc;

		if (n < 0)
			return (int)n;
		if (n > 1 || (n == 1 && value[0] != '\n'))
			continue;
		n = path_read(parent_fd, files[i], value, sizeof(value));
		if (n < 0)
			return (int)n;
		rc = path_write(fd, files[i], value);
		if (rc)
			return rc;
	}
	return 0;
}

/* v2: what stands in cgroup.subtree_control is what the children can limit. */
static int delegate(const struct jail *j, int fd)
{
	for (size_t i = 0; i < j->opt->n_cgroup; i++) {
		char text[sizeof(j->opt->cgroup[i].controller) + 1];
		int rc;

		(void)snprintf(text, sizeof(text), "+%s", j->opt->cgroup[i].controller);
		rc = path_write(fd, "cgroup.subtree_control", text);
		if (rc)
			return rc;
	}
	return 0;
}

/* Make @mount/PARENT/ID and open it into the next cgroup of @j. @v1_controller: NULL for v2. */
static int make_leaf(struct jail *j, const char *mount, const char *v1_controller, struct err *e)
{
	bool cpuset = v1_controller && strcmp(v1_controller, "cpuset") == 0;
	char *path = j->cgroup_path[j->n_cgroups];
	char parent[PATH_MAX];
	char *name, *save = NULL;
	int fd, rc = 0;

	if ((size_t)snprintf(path, PATH_MAX, "%s/%s/%s", mount, parent_of(j), j->opt->id) >= PATH_MAX ||
	    (size_t)snprintf(parent, sizeof(parent), "%s/%s", parent_of(j), j->opt->id) >= sizeof(parent))
		return err_set(e, -ENAMETOOLONG, "The cgroup path %.200s/%.200s is too long", mount, parent_of(j));
	fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "Failed to open %.300s", mount);
	for (name = strtok_r(parent, "/", &save); name && !rc; name = strtok_r(NULL, "/", &save)) {
		int next;

		rc = v1_controller ? 0 : delegate(j, fd);
		next = rc ? rc : path_make_dir(fd, name, 0755, &j->undo);
		if (next >= 0 && cpuset)
			rc = inherit_cpuset(fd, next);
		fd_close(&fd);
		fd = next;
		rc = next < 0 ? next : rc;
	}
	if (rc) {
		fd_close(&fd);
		return err_sys(e, rc, "Failed to make cgroup %.300s", path);
	}
	j->cgroup_fd[j->n_cgroups++] = fd;
	return 0;
}

static int write_value(const struct jail *j, size_t cgroup, const struct jail_cgroup_value *v, struct err *e)
{
	char text[VALUE_MAX];
	int rc;

	if ((size_t)snprintf(text, sizeof(text), "%s\n", v->value) >= sizeof(text))
		return err_set(e, -E2BIG, "The value of --cgroup %s is longer than %d bytes", v->file, VALUE_MAX - 2);
	rc = path_write(j->cgroup_fd[cgroup], v->file, text);
	return rc ? err_sys(e, rc, "Failed to write '%.100s' to cgroup file %.250s/%s", v->value, j->cgroup_path[cgroup],
			    v->file)
		  : 0;
}

/* ---- v2 ---------------------------------------------------------------------------------------------------------- */

/* Does the space-separated list @text have the word @word? */
static bool has_word(const char *text, const char *word)
{
	size_t len = strlen(word);

	while (*text) {
		size_t n = strcspn(text, " \n");

		if (n == len && strncmp(text, word, len) == 0)
			return true;
		text += n;
		text += strspn(text, " \n");
	}
	return false;
}

static int check_controllers(const struct jail *j, const char *mount, struct err *e)
{
	char list[VALUE_MAX];
	AUTO_FD int fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -errno : path_read(fd, "cgroup.controllers", list, sizeof(list));

	if (n < 0)
		return err_sys(e, (int)n, "Failed to read %.300s/cgroup.controllers", mount);
	for (size_t i = 0; i < j->opt->n_cgroup; i++) {
		if (!has_word(list, j->opt->cgroup[i].controller))
			return err_set(e, -ENOENT, "Controller %s is unavailable: %.200s/cgroup.controllers has: %.200s",
				       j->opt->cgroup[i].controller, mount, list);
	}
	return 0;
}

static int make_v2(struct jail *j, struct err *e)
{
	char mount[PATH_MAX];
	int rc = find_v2(mount);

	if (rc)
		return err_set(e, rc, "No cgroup v2 hierarchy is mounted on this host: use --cgroup-version 1, or mount one");
	if (j->opt->n_cgroup == 0) {
		/* Only with the parent that the caller made, if he made it. */
		size_t len = strlen(mount);
		int fd;

		if ((size_t)snprintf(mount + len, sizeof(mount) - len, "/%s", parent_of(j)) >= sizeof(mount) - len)
			return 0;
		fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0) {
			memcpy(j->cgroup_path[0], mount, sizeof(mount));
			j->cgroup_fd[j->n_cgroups++] = fd;
		}
		return 0;
	}
	rc = check_controllers(j, mount, e);
	if (!rc)
		rc = make_leaf(j, mount, NULL, e);
	for (size_t i = 0; !rc && i < j->opt->n_cgroup; i++)
		rc = write_value(j, 0, &j->opt->cgroup[i], e);
	return rc;
}

/* ---- v1 ---------------------------------------------------------------------------------------------------------- */

static int make_v1(struct jail *j, struct err *e)
{
	for (size_t i = 0; i < j->opt->n_cgroup; i++) {
		const struct jail_cgroup_value *v = &j->opt->cgroup[i];
		char mount[PATH_MAX], leaf[PATH_MAX];
		size_t place;
		int rc = find_mount(v->controller, mount);

		if (rc)
			return err_set(e, rc, "Controller %s is unavailable: no cgroup v1 hierarchy has it; for v2 say "
				       "--cgroup-version 2", v->controller);
		if ((size_t)snprintf(leaf, sizeof(leaf), "%s/%s/%s", mount, parent_of(j), j->opt->id) >= sizeof(leaf))
			return err_set(e, -ENAMETOOLONG, "The cgroup path %.200s/%.200s is too long", mount, parent_of(j));
		for (place = 0; place < j->n_cgroups && strcmp(j->cgroup_path[place], leaf) != 0; place++)
			;
		if (place == JAIL_CGROUPS_MAX)
			return err_set(e, -E2BIG, "More than %d cgroup hierarchies", JAIL_CGROUPS_MAX);
		if (place == j->n_cgroups)
			rc = make_leaf(j, mount, v->controller, e);
		if (!rc)
			rc = write_value(j, place, v, e);
		if (rc)
			return rc;
	}
	return 0;
}

int jail_make_cgroups(struct jail *j, struct err *e)
{
	j->cgroup_version = choose_version(j);
	if (j->cgroup_version == 1)
		return make_v1(j, e);
	/* Without values only somebody who asks for v2 can mean the parent's cgroup. */
	return j->opt->n_cgroup || j->opt->cgroup_version == 2 ? make_v2(j, e) : 0;
}

int jail_find_cgroups(struct jail *j, struct err *e)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	struct mntent entry;
	char text[PATH_MAX];

	if (!mounts)
		return err_sys(e, -errno, "Failed to read /proc/self/mounts");
	while (j->n_cgroups < JAIL_CGROUPS_MAX && getmntent_r(mounts, &entry, text, sizeof(text))) {
		char *path = j->cgroup_path[j->n_cgroups];

		if (strcmp(entry.mnt_type, "cgroup") != 0 && strcmp(entry.mnt_type, "cgroup2") != 0)
			continue;
		if ((size_t)snprintf(path, PATH_MAX, "%s/%s/%s", entry.mnt_dir, parent_of(j), j->opt->id) < PATH_MAX)
			j->n_cgroups++;
	}
	(void)endmntent(mounts);
	return 0;
}

int jail_enter_cgroups(struct jail *j, bool all, struct err *e)
{
	if (j->cgroup_version == 2 && !all)
		return 0;
	for (size_t i = 0; i < j->n_cgroups; i++) {
		/* "0" is the writer itself. */
		int rc = path_write(j->cgroup_fd[i], j->cgroup_version == 1 ? "tasks" : "cgroup.procs", "0");

		if (rc)
			return err_sys(e, rc, "Failed to move process to cgroup (%.350s)", j->cgroup_path[i]);
	}
	return 0;
}
