// SPDX-License-Identifier: Apache-2.0
/*
 * Building a guest kernel: unpack the source into a scratch directory, configure, make, strip, publish.
 *
 * What makes the bytes repeatable: kbuild's time stamp, user, host and build number are fixed, the environment's own
 * settings for make and kbuild are dropped, and the build runs in the source tree, so that every path in it is relative.
 */
#include "rootfs-builder/kernel/build.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rootfs-builder/cache.h"
#include "rootfs-builder/file.h"
#include "rootfs-builder/kernel/compact.h"
#include "rootfs-builder/kernel/config.h"
#include "rootfs-builder/progress.h"
#include "rootfs-builder/run.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"

#define DEFAULT_SOURCE "/usr/src/linux-source-6.12.tar.xz"

/* Part of every key: raise it when this file changes what is made from the same inputs. */
#define RECIPE "mayfly kernel 2"

/* A name without '=' is removed from the environment. */
static const char *const build_env[] = {
	"KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970", "KBUILD_BUILD_USER=mayfly", "KBUILD_BUILD_HOST=mayfly",
	"KBUILD_BUILD_VERSION=1", "SOURCE_DATE_EPOCH=0", "KCONFIG_ALLCONFIG=mayfly.config", "KCONFIG_NOTIMESTAMP=1",
	"LC_ALL=C", "TZ=UTC", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARCH", "CROSS_COMPILE", "LLVM",
	"KCFLAGS", "KAFLAGS", "KCPPFLAGS", "KBUILD_OUTPUT", "LOCALVERSION", "CFLAGS", "LDFLAGS", "V", "CC", "LD", NULL
};

static const char *source_path(void)
{
	const char *own = getenv("MAYFLY_KERNEL_SOURCE");

	return own && *own ? own : DEFAULT_SOURCE;
}

/* The cache key: everything that can change a byte of the result. */
static int make_key(const char *spec, const char *config, char *key, size_t len, struct err *e)
{
	const char *const gcc[] = { "gcc", "--version", NULL };
	const char *const ld[] = { "ld", "--version", NULL };
	char digest[SHA256_HEX_LEN], version[256], name[33];
	size_t n = 0;
	struct sha256 h;
	int rc;

	if (access(source_path(), R_OK) < 0)
		return err_set(e, -ENOENT, "the kernel source '%s' is missing: apt-get install linux-source-6.12 (or set "
			       "MAYFLY_KERNEL_SOURCE to a linux-source tarball)", source_path());
	sha256_init(&h);
	cache_key_add(&h, RECIPE);
	rc = cache_file_digest(source_path(), digest, e);
	if (rc < 0)
		return rc;
	cache_key_add(&h, digest);
	for (const char *const *env = build_env; *env; env++)
		cache_key_add(&h, *env);
	rc = run_first_line(gcc, version, sizeof(version), e);
	if (rc < 0)
		return err_wrap(e, rc, "compiling a kernel needs gcc and make (apt-get install gcc make)");
	cache_key_add(&h, version);
	rc = run_first_line(ld, version, sizeof(version), e);
	if (rc < 0)
		return rc;
	cache_key_add(&h, version);
	cache_key_add(&h, config);
	sha256_final_hex(&h, digest);
	for (const char *p = spec; *p && n < sizeof(name) - 1; p++) /* a readable name in front */
		name[n++] = strchr("abcdefghijklmnopqrstuvwxyz0123456789", *p) ? *p : '-';
	name[n] = '\0';
	snprintf(key, len, "%s-%.20s", name, digest);
	return 0;
}

static int write_text(const char *path, const char *text, struct err *e)
{
	AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	int rc = fd < 0 ? -errno : fd_write_full(fd, text, strlen(text));

	return rc < 0 ? err_sys(e, rc, "write '%s'", path) : 0;
}

static void count_line(void *ctx, const char *line)
{
	const char *what = strrchr(line, ' ');

	/* "  CC      mm/slub.o": make's own messages are no steps. */
	if (line[0] == ' ' && line[1] == ' ')
		progress_step(ctx, what ? what + 1 : line);
}

static void report_difference(void *ctx, const char *option, const char *want, const char *have)
{
	unsigned int *n = ctx;

	if ((*n)++ < 8)
		fprintf(stderr, "mayfly-rootfs: warning: %s=%s was asked for, this kernel makes it %s\n", option, want, have);
}

/* Unpack the source and bring its configuration to what @config asks for. */
static int prepare_source(const char *src, const char *log, const char *config, struct err *e)
{
	const char *const tar[] = { "tar", "-x", "--strip-components=1", "-C", src, "-f", source_path(), NULL };
	const char *const configure[] = { "make", "allnoconfig", NULL };
	struct run_opts o = { .env = build_env, .log = log };
	AUTO_FREE char *got = NULL;
	char path[PATH_MAX + 32];
	unsigned int n_different = 0;
	struct progress p;
	int rc;

	if (mkdir(src, 0777) < 0)
		return err_sys(e, -errno, "create '%s'", src);
	progress_start(&p, "unpacking the kernel source", 0);
	rc = run_command(tar, &o, e);
	progress_end(&p, rc < 0 ? "failed" : "done");
	if (rc < 0)
		return err_wrap(e, rc, "unpack '%s'", source_path());
	snprintf(path, sizeof(path), "%s/mayfly.config", src);
	rc = write_text(path, config, e);
	if (rc < 0)
		return rc;
	o.dir = src;
	rc = run_command(configure, &o, e);
	if (rc < 0)
		return err_wrap(e, rc, "configure the kernel");
	snprintf(path, sizeof(path), "%s/.config", src);
	rc = kernel_config_read(path, &got, e);
	if (rc < 0)
		return rc;
	(void)kernel_config_check(config, got, report_difference, &n_different);
	return 0;
}

/* Strip the vmlinux in @src and write it, made dense, as @to. */
static int finish_vmlinux(const char *src, const char *to, struct err *e)
{
	const char *const strip[] = { "strip", "-s", "-R", ".comment", "-o", "vmlinux.stripped", "vmlinux", NULL };
	struct run_opts o = { .dir = src, .env = build_env };
	AUTO_FREE uint8_t *elf = NULL;
	AUTO_FREE uint8_t *dense = NULL;
	char stripped[PATH_MAX + 32];
	size_t len, dense_len;
	int rc = run_command(strip, &o, e);

	if (rc < 0)
		return err_wrap(e, rc, "strip the kernel");
	snprintf(stripped, sizeof(stripped), "%s/vmlinux.stripped", src);
	rc = file_read(stripped, &elf, &len, e);
	if (rc == 0)
		rc = kernel_compact(elf, len, &dense, &dense_len, e);
	if (rc == 0)
		rc = file_write(to, dense, dense_len, e);
	return rc;
}

/* Move the results out of the source tree into @dir and drop the tree. */
static int collect_results(const char *dir, const char *src, struct err *e)
{
	static const struct {
		const char *from;
		const char *to;
	} files[] = {
		{ "arch/x86/boot/bzImage", "bzImage" },
		{ "System.map", "System.map" },
		{ ".config", "config" },
	};
	char from[PATH_MAX + 64], to[PATH_MAX + 64];
	int rc;

	snprintf(to, sizeof(to), "%s/vmlinux", dir);
	rc = finish_vmlinux(src, to, e);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(from, sizeof(from), "%s/%s", src, files[i].from);
		snprintf(to, sizeof(to), "%s/%s", dir, files[i].to);
		if (rename(from, to) < 0)
			return err_sys(e, -errno, "keep '%s'", from);
	}
	rc = cache_remove_tree(src);
	return rc < 0 ? err_sys(e, rc, "remove '%s'", src) : 0;
}

static int build_in(const char *dir, const char *log, const struct kernel_build_opts *opts, const char *config,
		    struct err *e)
{
	char src[PATH_MAX + 8], jobs[16];
	const char *const make[] = { "make", jobs, "vmlinux", "bzImage", NULL };
	struct progress p;
	struct run_opts o = { .dir = src, .env = build_env, .log = log, .line = count_line, .ctx = &p };
	int rc;

	snprintf(src, sizeof(src), "%s/src", dir);
	snprintf(jobs, sizeof(jobs), "-j%u", opts->jobs);
	rc = prepare_source(src, log, config, e);
	if (rc < 0)
		return rc;
	progress_start(&p, "building the kernel", kernel_config_steps(opts->config));
	rc = run_command(make, &o, e);
	progress_end(&p, rc < 0 ? "stopped" : "done");
	if (rc < 0)
		return err_wrap(e, rc, "build the kernel");
	return collect_results(dir, src, e);
}

int kernel_build(const struct kernel_build_opts *opts, struct kernel_paths *out, struct err *e)
{
	AUTO_FREE char *config = NULL;
	char key[64], log[PATH_MAX + 8];
	struct cache_entry c;
	int rc = kernel_config_resolve(opts->config, &config, e);

	if (rc < 0)
		return rc;
	rc = make_key(opts->config, config, key, sizeof(key), e);
	if (rc < 0)
		return rc;
	rc = cache_open(&c, "kernel", key, e);
	if (rc == CACHE_MISS) {
		snprintf(log, sizeof(log), "%s.log", c.path);
		rc = build_in(c.scratch, log, opts, config, e);
		if (rc == 0)
			rc = cache_publish(&c, e);
		if (rc == 0)
			(void)unlink(log);
	}
	if (rc == 0 && (snprintf(out->vmlinux, PATH_MAX, "%s/vmlinux", c.path) >= PATH_MAX ||
			snprintf(out->bzimage, PATH_MAX, "%s/bzImage", c.path) >= PATH_MAX))
		rc = err_set(e, -ENAMETOOLONG, "the cache directory's name is too long");
	cache_close(&c);
	return rc;
}
