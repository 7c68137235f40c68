/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the jailed program can no longer do: see the host's files, use its network, exceed limits, be privileged.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jailer/jail.h"
#include "vmm/base/fd.h"

/* sys/mount.h and linux/mount.h do not go together in every libc. */
#define MS_REC_ 16384UL
#define MS_SLAVE_ (1UL << 19)
#define MNT_DETACH_ 2
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

int jail_enter_netns(struct jail *j, struct err *e)
{
	AUTO_FD int fd = -1;

	if (!j->opt->netns)
		return 0;
	fd = open(j->opt->netns, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "Failed to open the network namespace %.300s", j->opt->netns);
	if (setns(fd, CLONE_NEWNET) < 0)
		return err_sys(e, -errno, "Failed to join the network namespace %.300s", j->opt->netns);
	return 0;
}

static int set_limit(int resource, const char *name, rlim_t value, struct err *e)
{
	struct rlimit limit = { .rlim_cur = value, .rlim_max = value };

	return setrlimit(resource, &limit) < 0 ? err_sys(e, -errno, "Failed to set --resource-limit %s=%llu", name,
							 (unsigned long long)value) : 0;
}

int jail_set_limits(struct jail *j, struct err *e)
{
	int rc = set_limit(RLIMIT_NOFILE, "no-file", j->opt->no_file, e);

	return rc || !j->opt->has_fsize ? rc : set_limit(RLIMIT_FSIZE, "fsize", j->opt->fsize, e);
}

int jail_enter_root(struct jail *j, struct err *e)
{
	AUTO_FD int tree = -1;

	/* Before the new namespace: it takes the working directory along, but not descriptors. */
	if (fchdir(j->root_fd) < 0)
		return err_sys(e, -errno, "Failed to change to %.300s", j->root_path);
	if (unshare(CLONE_NEWNS) < 0)
		return err_sys(e, -errno, "Failed to make a mount namespace");
	/* Slave, not private: clients mount files into a running jail from outside. */
	if (syscall(SYS_mount, NULL, "/", NULL, MS_SLAVE_ | MS_REC_, NULL) < 0)
		return err_sys(e, -errno, "Failed to make the mounts slaves");
	/*
	 * The root must be a mount for pivot_root(2). By descriptor: no path is walked again. What clients mounted inside comes
	 * along (AT_RECURSIVE).
	 */
	tree = (int)syscall(SYS_open_tree, AT_FDCWD, ".", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (tree < 0)
		return err_sys(e, -errno, "Failed to clone the mount of %.300s", j->root_path);
	if (syscall(SYS_move_mount, tree, "", AT_FDCWD, ".", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys(e, -errno, "Failed to mount %.300s on itself", j->root_path);
	if (fchdir(tree) < 0)
		return err_sys(e, -errno, "Failed to change to the mount of %.300s", j->root_path);
	/* The old root comes to lie over the new one, and goes: no directory has to be made for it (pivot_root(2), NOTES). */
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return err_sys(e, -errno, "Failed to pivot to %.300s", j->root_path);
	if (syscall(SYS_umount2, ".", MNT_DETACH_) < 0)
		return err_sys(e, -errno, "Failed to unmount the old root");
	if (chdir("/") < 0)
		return err_sys(e, -errno, "Failed to change to the new root");
	fd_close(&j->root_fd);
	j->root_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return j->root_fd < 0 ? err_sys(e, -errno, "Failed to open the new root") : 0;
}

/* No capability is left in any set, nor can one be gained by running a program. */
static int drop_capabilities(struct err *e)
{
	cap_t none = cap_init(); /* all sets empty */
	int rc;

	if (!none)
		return err_sys(e, -errno, "Failed to make a capability set");
	rc = cap_set_proc(none) < 0 ? -errno : 0;
	(void)cap_free(none);
	if (!rc && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		rc = -errno;
	return rc ? err_sys(e, rc, "Failed to drop all capabilities") : 0;
}

int jail_drop_privileges(struct jail *j, struct err *e)
{
	uid_t uid = j->opt->uid;
	gid_t gid = j->opt->gid;

	/* Groups first, while we may; the bounding set before the capability to change it goes. */
	if (setgroups(0, NULL) < 0)
		return err_sys(e, -errno, "Failed to leave the supplementary groups");
	if (setresgid(gid, gid, gid) < 0)
		return err_sys(e, -errno, "Failed to change to group %u", gid);
	for (cap_value_t cap = 0; cap_get_bound(cap) >= 0; cap++) {
		if (cap_drop_bound(cap) < 0)
			return err_sys(e, -errno, "Failed to drop capability %d from the bounding set", cap);
	}
	if (cap_reset_ambient() < 0)
		return err_sys(e, -errno, "Failed to empty the ambient capabilities");
	if (setresuid(uid, uid, uid) < 0)
		return err_sys(e, -errno, "Failed to change to user %u", uid);
	return drop_capabilities(e);
}
