/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache of built things (kernels, unpacked packages, images), outside the source tree.
 *
 * An entry is a directory <root>/<kind>/<key>; the key is a digest of everything that went into it. It is filled in a
 * scratch directory beside it and appears by one rename, so an entry is complete or absent. Its lock file lets one
 * process build while others wait; a builder that is killed leaves a scratch directory that the next one removes.
 *
 * Use: rc = cache_open(&c, "kernel", key, &e);   0: c.path is there; 1: fill c.scratch, then cache_publish(&c, &e)
 *      ... cache_close(&c) in every case.
 */
#ifndef MAYFLY_ROOTFS_CACHE_H
#define MAYFLY_ROOTFS_CACHE_H

#include <limits.h>

#include "rootfs-builder/sha256.h"
#include "vmm/base/cdefs.h"

struct err;

#define CACHE_HIT 0
#define CACHE_MISS 1

struct cache_entry {
	char path[PATH_MAX];    /* where the entry is, or will be */
	char scratch[PATH_MAX]; /* the directory to fill; empty when there is nothing to fill */
	int lock_fd;            /* owned; -1 = not locked */
};

/*
 * The cache's root directory into @buf: $MAYFLY_CACHE, else $XDG_CACHE_HOME/mayfly, else $HOME/.cache/mayfly. It is
 * created when missing. 0 or a negative errno with @e set (for example when none of the variables is set).
 */
int cache_root(char buf[PATH_MAX], struct err *e) MUST_USE;

/*
 * Look for the entry @key of @kind (both plain names). Waits while another process builds it, after a note on standard
 * error. Returns CACHE_HIT, CACHE_MISS with the lock held and an empty @c->scratch made, or a negative errno with
 * @e set. @c is to be given to cache_close() unless the result is negative.
 */
int cache_open(struct cache_entry *c, const char *kind, const char *key, struct err *e) MUST_USE;

/* Make the filled scratch directory the entry, durably and atomically. 0 or a negative errno with @e set. */
int cache_publish(struct cache_entry *c, struct err *e) MUST_USE;

/* Remove what was not published, release the lock. May be called again. */
void cache_close(struct cache_entry *c);

/* Add the string @s, with its NUL so that neighbours can't merge, to a key. */
void cache_key_add(struct sha256 *h, const char *s);

/*
 * The SHA-256 of the file @path (hexadecimal) into @out, remembered in the cache under the file's device, inode, size and
 * times so that a large file is read once. 0 or a negative errno with @e set.
 */
int cache_file_digest(const char *path, char out[SHA256_HEX_LEN], struct err *e) MUST_USE;

/* Remove the directory @path and all below it, without following symbolic links. Returns 0 or a negative errno. */
int cache_remove_tree(const char *path);

/* Create @path and the directories above it that are missing (mode 0777 less the umask). 0 or a negative errno. */
int cache_make_dirs(const char *path) MUST_USE;

#endif
