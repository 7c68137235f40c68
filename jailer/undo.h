/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What has been made so far, so that a failed start leaves the host as it was: names relative to descriptors, removed in
 * reverse order.
 */
#ifndef MAYFLY_JAILER_UNDO_H
#define MAYFLY_JAILER_UNDO_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#define UNDO_MAX 64

struct undo {
	size_t n;
	struct undo_entry {
		int dir_fd; /* owned */
		char name[NAME_MAX + 1];
		bool is_dir;
	} entry[UNDO_MAX];
};

/*
 * Remember that @name in the directory @dir_fd (not taken) was made. When there is no room or no descriptor left the entry
 * is forgotten: then a failed start leaves that name behind.
 */
void undo_add(struct undo *u, int dir_fd, const char *name, bool is_dir);

/* Remove everything that was added, latest first, as far as possible. */
void undo_run(struct undo *u);

/* Forget everything: the start succeeded. */
void undo_forget(struct undo *u);

#endif
