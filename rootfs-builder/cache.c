// SPDX-License-Identifier: Apache-2.0
/*
 * The cache of built things. See cache.h for the promises; the order here is what keeps them:
 * lock, look, make the scratch directory, (the caller fills it), sync, rename, unlock.
 */
#include "rootfs-builder/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"

int cache_make_dirs(const char *path)
{
	char part[PATH_MAX];
	size_t len = strlen(path);

	if (len >= sizeof(part))
		return -ENAMETOOLONG;
	memcpy(part, path, len + 1);
	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		part[i] = '\0';
		if (mkdir(part, 0777) < 0 && errno != EEXIST)
			return -errno;
		part[i] = path[i];
	}
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path) < 0 && errno != ENOENT ? -errno : 0;
}

int cache_remove_tree(const char *path)
{
	int rc = nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);

	return rc == -1 && errno == ENOENT ? 0 : rc;
}

int cache_root(char buf[PATH_MAX], struct err *e)
{
	const char *own = getenv("MAYFLY_CACHE");
	const char *xdg = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");
	int n, rc;

	if (own && *own)
		n = snprintf(buf, PATH_MAX, "%s", own);
	else if (xdg && *xdg)
		n = snprintf(buf, PATH_MAX, "%s/mayfly", xdg);
	else if (home && *home)
		n = snprintf(buf, PATH_MAX, "%s/.cache/mayfly", home);
	else
		return err_set(e, -ENOENT, "no cache directory: set MAYFLY_CACHE to a directory with 3 GiB free");
	if (n >= PATH_MAX)
		return err_set(e, -ENAMETOOLONG, "the cache directory's name is too long");
	rc = cache_make_dirs(buf);
	if (rc < 0)
		return err_sys(e, rc, "create the cache directory '%s' (MAYFLY_CACHE chooses another)", buf);
	return 0;
}

/* The hidden neighbour of the entry @path that is called "." KEY @suffix, into @out. */
static void neighbour(const char *path, const char *suffix, char *out, size_t len)
{
	const char *key = strrchr(path, '/') + 1;

	snprintf(out, len, "%.*s.%s%s", (int)(key - path), path, key, suffix);
}

/* Remove scratch directories that a killed builder of this entry left. The lock is held, so none is in use. */
static void remove_stale(const char *path)
{
	char part[PATH_MAX], stale[2 * PATH_MAX], dir[PATH_MAX];
	struct dirent *d;
	size_t len;
	DIR *dh;

	neighbour(path, ".part-", part, sizeof(part));
	snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(path, '/') - path), path);
	len = strlen(part) - strlen(dir) - 1;
	dh = opendir(dir);
	if (!dh)
		return;
	while ((d = readdir(dh))) {
		if (strncmp(d->d_name, part + strlen(dir) + 1, len) != 0)
			continue;
		snprintf(stale, sizeof(stale), "%s/%s", dir, d->d_name);
		(void)cache_remove_tree(stale);
	}
	closedir(dh);
}

/* Open and lock the entry's lock file, waiting for another builder. Returns the descriptor or a negative errno. */
static int take_lock(const char *path, struct err *e)
{
	char name[PATH_MAX];
	AUTO_FD int fd = -1;

	neighbour(path, ".lock", name, sizeof(name));
	fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		return err_sys(e, -errno, "open the cache lock '%s'", name);
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd_take(&fd);
	if (errno == EWOULDBLOCK) {
		fprintf(stderr, "mayfly-rootfs: another process is building this; waiting for it\n");
		if (flock(fd, LOCK_EX) == 0)
			return fd_take(&fd);
	}
	return err_sys(e, -errno, "lock '%s'", name);
}

int cache_open(struct cache_entry *c, const char *kind, const char *key, struct err *e)
{
	char dir[PATH_MAX];
	int rc = cache_root(dir, e);

	*c = (struct cache_entry){ .lock_fd = -1 };
	if (rc < 0)
		return rc;
	if (snprintf(c->path, sizeof(c->path) - 32, "%s/%s/%s", dir, kind, key) >= (int)sizeof(c->path) - 32)
		return err_set(e, -ENAMETOOLONG, "the name of cache entry %s is too long", key);
	if (access(c->path, F_OK) == 0)
		return CACHE_HIT;
	*strrchr(c->path, '/') = '\0';
	rc = cache_make_dirs(c->path);
	if (rc < 0)
		return err_sys(e, rc, "create '%s'", c->path);
	c->path[strlen(c->path)] = '/';
	c->lock_fd = take_lock(c->path, e);
	if (c->lock_fd < 0)
		return c->lock_fd;
	if (access(c->path, F_OK) == 0) { /* the other process made it */
		cache_close(c);
		return CACHE_HIT;
	}
	remove_stale(c->path);
	neighbour(c->path, ".part-XXXXXX", c->scratch, sizeof(c->scratch));
	if (!mkdtemp(c->scratch)) {
		rc = err_sys(e, -errno, "create '%s'", c->scratch);
		c->scratch[0] = '\0';
		cache_close(c);
		return rc;
	}
	(void)chmod(c->scratch, 0755);
	return CACHE_MISS;
}

int cache_publish(struct cache_entry *c, struct err *e)
{
	AUTO_FD int fd = open(c->scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	/* An entry that a power cut left half-written would be believed for ever. */
	if (fd < 0 || syncfs(fd) < 0)
		return err_sys(e, -errno, "write '%s' to disk", c->scratch);
	if (rename(c->scratch, c->path) < 0)
		return err_sys(e, -errno, "rename '%s' to '%s'", c->scratch, c->path);
	c->scratch[0] = '\0';
	return 0;
}

void cache_close(struct cache_entry *c)
{
	if (c->scratch[0])
		(void)cache_remove_tree(c->scratch);
	c->scratch[0] = '\0';
	fd_close(&c->lock_fd);
}

void cache_key_add(struct sha256 *h, const char *s)
{
	sha256_update(h, s, strlen(s) + 1);
}

/* Read the digest remembered in @memo. Returns whether it is there and has the right form. */
static int memo_read(const char *memo, char out[SHA256_HEX_LEN])
{
	char hex[SHA256_HEX_LEN];
	AUTO_FD int fd = open(memo, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fd_pread_full(fd, hex, SHA256_HEX_LEN - 1, 0) < 0)
		return 0;
	hex[SHA256_HEX_LEN - 1] = '\0';
	if (strspn(hex, "0123456789abcdef") != SHA256_HEX_LEN - 1)
		return 0;
	memcpy(out, hex, SHA256_HEX_LEN);
	return 1;
}

int cache_file_digest(const char *path, char out[SHA256_HEX_LEN], struct err *e)
{
	char root[PATH_MAX], memo[PATH_MAX + 128], part[PATH_MAX + 160];
	struct stat st;
	int rc;

	if (stat(path, &st) < 0)
		return err_sys(e, -errno, "read '%s'", path);
	rc = cache_root(root, e);
	if (rc < 0)
		return rc;
	snprintf(memo, sizeof(memo), "%s/digest", root);
	rc = cache_make_dirs(memo);
	if (rc < 0)
		return err_sys(e, rc, "create '%s'", memo);
	snprintf(memo, sizeof(memo), "%s/digest/%lx-%lx-%lx-%lx.%lx-%lx.%lx", root, st.st_dev, st.st_ino, st.st_size,
		 st.st_mtim.tv_sec, st.st_mtim.tv_nsec, st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
	if (memo_read(memo, out))
		return 0;
	rc = sha256_file(path, out, e);
	if (rc < 0)
		return rc;
	/* Losing the memo costs a second read of the file, nothing else: errors are left alone. */
	snprintf(part, sizeof(part), "%s.%d", memo, (int)getpid());
	AUTO_FD int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd >= 0 && (fd_write_full(fd, out, SHA256_HEX_LEN - 1) < 0 || rename(part, memo) < 0))
		(void)unlink(part);
	return 0;
}
