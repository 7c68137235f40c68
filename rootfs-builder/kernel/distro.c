// SPDX-License-Identifier: Apache-2.0
/*
 * A stock Debian cloud kernel: choose the package, download, unpack, make the three files, publish them in the cache.
 */
#include "rootfs-builder/kernel/distro.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "rootfs-builder/cache.h"
#include "rootfs-builder/cpio.h"
#include "rootfs-builder/file.h"
#include "rootfs-builder/kernel/bzimage.h"
#include "rootfs-builder/kernel/modules.h"
#include "rootfs-builder/progress.h"
#include "rootfs-builder/run.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"

/* Part of every key: raise it when the files made from a package change. */
#define RECIPE "mayfly distro kernel 1"

#define BUSYBOX "/bin/busybox"

/* What a microVM's root needs when it is a module: the transport, the three devices, file systems. */
static const char *const wanted_modules[] = {
	"virtio_mmio", "virtio_blk", "virtio_net", "vmw_vsock_virtio_transport", "ext4", "erofs", "squashfs", "overlay",
};

__asm__(".pushsection .rodata\n"
	"distro_init_text:\n"
	".incbin \"rootfs-builder/kernel/distro-init.sh\"\n"
	"distro_init_text_end:\n"
	".popsection\n");
extern const char distro_init_text[] __attribute__((visibility("hidden")));
extern const char distro_init_text_end[] __attribute__((visibility("hidden")));

int distro_package_rank(const char *name, const char *series)
{
	static const char prefix[] = "linux-image-", suffix[] = "-cloud-amd64";
	size_t series_len = strlen(series);
	const char *p = name + strlen(prefix), *end;

	if (strncmp(name, prefix, strlen(prefix)) != 0 || strncmp(p, series, series_len) != 0 || p[series_len] != '.')
		return 0;
	p += series_len + 1;
	end = p + strspn(p, "0123456789.+-abcdefghijklmnopqrstuvwxyz~");
	if (*p < '0' || *p > '9' || *end)
		return 0;
	end = strstr(p, suffix);
	if (!end)
		return 0;
	end += strlen(suffix);
	return !*end ? 2 : !strcmp(end, "-unsigned") ? 1 : 0;
}

/* The best package seen so far. */
struct choice {
	const char *series;
	char name[128];
	int rank;
};

static void consider(void *ctx, const char *line)
{
	struct choice *c = ctx;
	char base[128], best[128];
	int rank = distro_package_rank(line, c->series), order;

	if (!rank || strlen(line) >= sizeof(c->name))
		return;
	/* Compare versions without "-unsigned", so that the newest wins and among equals the signed one. */
	snprintf(base, sizeof(base), "%.*s", (int)(strlen(line) - (rank == 1 ? strlen("-unsigned") : 0)), line);
	snprintf(best, sizeof(best), "%.*s", (int)(strlen(c->name) - (c->rank == 1 ? strlen("-unsigned") : 0)), c->name);
	order = c->rank ? strverscmp(base, best) : 1;
	if (order < 0 || (order == 0 && rank < c->rank))
		return;
	snprintf(c->name, sizeof(c->name), "%s", line);
	c->rank = rank;
}

static int choose_package(const char *series, char *name, size_t len, struct err *e)
{
	const char *const argv[] = { "apt-cache", "pkgnames", "linux-image-", NULL };
	struct choice c = { .series = series };
	struct run_opts o = { .line = consider, .ctx = &c, .quiet_errors = 1 };
	int rc = run_command(argv, &o, e);

	if (rc < 0)
		return err_wrap(e, rc, "a stock kernel is taken from Debian's archive, with apt");
	if (!c.rank)
		return err_set(e, -ENOENT, "apt knows no cloud kernel of series '%s': run 'apt-get update', or choose another "
			       "with --suite-version (Debian 12 has 6.1 and 6.12)", series);
	snprintf(name, len, "%s", c.name);
	return 0;
}

struct version_line {
	char *out;
	size_t len;
};

static void keep_version(void *ctx, const char *line)
{
	struct version_line *v = ctx;

	if (!strncmp(line, "Version: ", 9) && !v->out[0])
		snprintf(v->out, v->len, "%s", line + 9);
}

/* The version apt would download, so that a new build of the same package gives a new cache entry. */
static int package_version(const char *name, char *version, size_t len, struct err *e)
{
	const char *const argv[] = { "apt-cache", "show", "--no-all-versions", name, NULL };
	struct version_line v = { version, len };
	struct run_opts o = { .line = keep_version, .ctx = &v, .quiet_errors = 1 };

	version[0] = '\0';
	return run_command(argv, &o, e);
}

/* The only entry of @dir whose name starts with @prefix, as a path into @out. */
static int find_entry(const char *dir, const char *prefix, char *out, size_t len, struct err *e)
{
	struct dirent *d;
	DIR *dh = opendir(dir);
	int found = 0;

	if (!dh)
		return err_sys(e, -errno, "read '%s'", dir);
	while (!found && (d = readdir(dh)))
		if (d->d_name[0] != '.' && !strncmp(d->d_name, prefix, strlen(prefix)))
			found = snprintf(out, len, "%s/%s", dir, d->d_name) < (int)len;
	closedir(dh);
	return found ? 0 : err_set(e, -ENOENT, "the package has no '%s...' in '%s'", prefix, dir);
}

static int fetch(const char *package, const char *dir, const char *root, struct err *e)
{
	const char *const download[] = { "apt-get", "download", package, NULL };
	char deb[PATH_MAX];
	const char *const unpack[] = { "dpkg", "-x", deb, root, NULL };
	struct run_opts o = { .dir = dir };
	struct progress p;
	int rc;

	progress_start(&p, "downloading the kernel package", 0);
	rc = run_command(download, &o, e);
	progress_end(&p, rc < 0 ? "failed" : "done");
	if (rc < 0)
		return err_wrap(e, rc, "download %s ('apt-get update' may be needed)", package);
	rc = find_entry(dir, "linux-image-", deb, sizeof(deb), e);
	if (rc == 0)
		rc = run_command(unpack, &o, e);
	return rc;
}

static int make_vmlinux(const char *bzimage, const char *vmlinux, struct err *e)
{
	AUTO_FREE uint8_t *image = NULL;
	AUTO_FREE uint8_t *elf = NULL;
	size_t image_len, elf_len;
	int rc = file_read(bzimage, &image, &image_len, e);

	if (rc == 0)
		rc = kernel_bzimage_unpack(image, image_len, &elf, &elf_len, e);
	if (rc == 0)
		rc = file_write(vmlinux, elf, elf_len, e);
	return rc < 0 ? err_wrap(e, rc, "take the vmlinux out of '%s'", bzimage) : 0;
}

static void add_modules(struct cpio *c, const struct module_set *set)
{
	char path[160], order[4096];
	size_t fill = 0;

	cpio_add_dir(c, "modules", 0755);
	for (size_t i = 0; i < set->n_order; i++) {
		const struct module *m = set->order[i];

		snprintf(path, sizeof(path), "modules/%.100s.ko", m->name);
		cpio_add_file(c, path, 0644, m->data, m->len);
		if (fill < sizeof(order))
			fill += (size_t)snprintf(order + fill, sizeof(order) - fill, "%.100s\n", m->name);
	}
	if (fill >= sizeof(order))
		c->rc = c->rc ? c->rc : -EFBIG;
	else
		cpio_add_file(c, "modules/order", 0644, order, fill);
}

static int write_initrd(const char *path, const struct module_set *set, struct err *e)
{
	static const char *const dirs[] = { "bin", "dev", "proc", "root", "sys", "tmp" };
	AUTO_FREE uint8_t *busybox = NULL;
	AUTO_FD int fd = -1;
	struct cpio c;
	size_t len;
	int rc;

	rc = file_read(BUSYBOX, &busybox, &len, e);
	if (rc < 0)
		return rc;
	if (!kernel_elf_is_static(busybox, len))
		return err_set(e, -EINVAL, "%s needs shared libraries; the initrd needs a static one: apt-get install "
			       "busybox-static", BUSYBOX);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return err_sys(e, -errno, "write '%s'", path);
	cpio_start(&c, fd);
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		cpio_add_dir(&c, dirs[i], 0755);
	cpio_add_chardev(&c, "dev/console", 0600, 5, 1);
	cpio_add_file(&c, "bin/busybox", 0755, busybox, len);
	cpio_add_symlink(&c, "bin/sh", "busybox");
	cpio_add_file(&c, "init", 0755, distro_init_text, (size_t)(distro_init_text_end - distro_init_text));
	add_modules(&c, set);
	rc = cpio_finish(&c);
	return rc < 0 ? err_sys(e, rc, "write '%s'", path) : 0;
}

static int make_initrd(const char *root, const char *initrd, struct err *e)
{
	char dir[PATH_MAX], release[PATH_MAX];
	struct module_set set;
	int rc;

	snprintf(dir, sizeof(dir), "%.*s/lib/modules", PATH_MAX - 32, root);
	rc = find_entry(dir, "", release, sizeof(release), e);
	if (rc == 0)
		rc = module_set_open(&set, release, e);
	if (rc < 0)
		return rc;
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(wanted_modules); i++)
		rc = module_set_want(&set, wanted_modules[i], e);
	if (rc == 0)
		rc = write_initrd(initrd, &set, e);
	module_set_close(&set);
	return rc;
}

/* Fill the cache entry's scratch directory @dir with bzImage, vmlinux and initrd of @package. */
static int fill_entry(const char *package, const char *dir, struct err *e)
{
	char work[PATH_MAX], root[PATH_MAX], boot[PATH_MAX], from[PATH_MAX], to[PATH_MAX];
	int rc;

	snprintf(work, sizeof(work), "%.*s/work", PATH_MAX - 64, dir);
	snprintf(root, sizeof(root), "%.*s/root", PATH_MAX - 64, work);
	snprintf(boot, sizeof(boot), "%.*s/boot", PATH_MAX - 64, root);
	if (mkdir(work, 0777) < 0)
		return err_sys(e, -errno, "create '%s'", work);
	rc = fetch(package, work, root, e);
	if (rc == 0)
		rc = find_entry(boot, "vmlinuz-", from, sizeof(from), e);
	if (rc < 0)
		return rc;
	snprintf(to, sizeof(to), "%.*s/bzImage", PATH_MAX - 64, dir);
	if (rename(from, to) < 0)
		return err_sys(e, -errno, "keep '%s'", from);
	snprintf(from, sizeof(from), "%.*s/vmlinux", PATH_MAX - 64, dir);
	rc = make_vmlinux(to, from, e);
	snprintf(to, sizeof(to), "%.*s/initrd", PATH_MAX - 64, dir);
	if (rc == 0)
		rc = make_initrd(root, to, e);
	if (rc == 0)
		rc = cache_remove_tree(work);
	return rc;
}

int distro_prepare(const char *series, struct distro_paths *out, struct err *e)
{
	char version[128], busybox[SHA256_HEX_LEN], digest[SHA256_HEX_LEN], key[256];
	struct cache_entry c;
	struct sha256 h;
	int rc = choose_package(series, out->package, sizeof(out->package), e);

	if (rc == 0)
		rc = package_version(out->package, version, sizeof(version), e);
	if (rc < 0)
		return rc;
	if (cache_file_digest(BUSYBOX, busybox, NULL) < 0)
		return err_set(e, -ENOENT, "the initrd needs %s: apt-get install busybox-static", BUSYBOX);
	sha256_init(&h);
	cache_key_add(&h, RECIPE);
	cache_key_add(&h, version);
	cache_key_add(&h, busybox);
	sha256_update(&h, distro_init_text, (size_t)(distro_init_text_end - distro_init_text));
	sha256_final_hex(&h, digest);
	snprintf(key, sizeof(key), "%s-%.12s", out->package, digest);
	rc = cache_open(&c, "distro", key, e);
	if (rc == CACHE_MISS) {
		rc = fill_entry(out->package, c.scratch, e);
		if (rc == 0)
			rc = cache_publish(&c, e);
	}
	if (rc == 0)
		snprintf(out->dir, sizeof(out->dir), "%s", c.path);
	cache_close(&c);
	return rc;
}
