/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/undo.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/fd.h"

void undo_add(struct undo *u, int dir_fd, const char *name, bool is_dir)
{
	struct undo_entry *entry;
	size_t len = strlen(name);

	if (u->n == UNDO_MAX || len > NAME_MAX)
		return;
	entry = &u->entry[u->n];
	entry->dir_fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);
	if (entry->dir_fd < 0)
		return;
	memcpy(entry->name, name, len + 1);
	entry->is_dir = is_dir;
	u->n++;
}

void undo_run(struct undo *u)
{
	while (u->n > 0) {
		struct undo_entry *entry = &u->entry[--u->n];

		/* A directory that somebody else put something into stays. */
		if (unlinkat(entry->dir_fd, entry->name, entry->is_dir ? AT_REMOVEDIR : 0) < 0)
			errno = 0;
		fd_close(&entry->dir_fd);
	}
}

void undo_forget(struct undo *u)
{
	while (u->n > 0)
		fd_close(&u->entry[--u->n].dir_fd);
}
