// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel modules: a list of files, and a depth-first walk over their "depends" lines.
 */
#include "rootfs-builder/kernel/modules.h"

#include <elf.h>
#include <errno.h>
#include <fts.h>
#include <string.h>

#include "rootfs-builder/file.h"
#include "rootfs-builder/kernel/bzimage.h"
#include "vmm/base/checked.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"

const char *module_info(const uint8_t *elf, size_t len, const char *key)
{
	size_t key_len = strlen(key);
	Elf64_Ehdr eh;
	Elf64_Shdr sh, names;

	if (len < sizeof(eh))
		return NULL;
	memcpy(&eh, elf, sizeof(eh));
	if (memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0 || eh.e_shentsize != sizeof(sh) || eh.e_shstrndx >= eh.e_shnum ||
	    !range_within(eh.e_shoff, (uint64_t)eh.e_shnum * sizeof(sh), len))
		return NULL;
	memcpy(&names, elf + eh.e_shoff + eh.e_shstrndx * sizeof(names), sizeof(names));
	for (size_t i = 0; i < eh.e_shnum; i++) {
		uint64_t name_at;

		memcpy(&sh, elf + eh.e_shoff + i * sizeof(sh), sizeof(sh));
		if (!checked_add_u64(names.sh_offset, sh.sh_name, &name_at) || !range_within(name_at, 9, len) ||
		    memcmp(elf + name_at, ".modinfo", 9) != 0)
			continue;
		if (!range_within(sh.sh_offset, sh.sh_size, len) || sh.sh_size == 0 ||
		    elf[sh.sh_offset + sh.sh_size - 1] != '\0')
			return NULL;
		const char *p = (const char *)elf + sh.sh_offset, *end = p + sh.sh_size;
		for (; p < end; p += strlen(p) + 1)
			if (!strncmp(p, key, key_len) && p[key_len] == '=')
				return p + key_len + 1;
		return NULL;
	}
	return NULL;
}

/* The module's name from its file's: "virtio-rng.ko.xz" is virtio_rng. NULL when it is no module or memory is out. */
static char *name_of(const char *file)
{
	const char *end = strstr(file, ".ko");
	char *name;

	if (!end || (strcmp(end, ".ko") && strcmp(end, ".ko.xz") && strcmp(end, ".ko.zst") && strcmp(end, ".ko.gz")))
		return NULL;
	name = strndup(file, (size_t)(end - file));
	for (char *p = name; p && *p; p++)
		if (*p == '-')
			*p = '_';
	return name;
}

static int add_module(struct module_set *set, char *name, const char *path)
{
	struct module *more = realloc(set->all, (set->n_all + 1) * sizeof(*more));

	if (!more) {
		free(name);
		return -ENOMEM;
	}
	set->all = more;
	set->all[set->n_all] = (struct module){ .name = name, .path = strdup(path) };
	return set->all[set->n_all++].path ? 0 : -ENOMEM;
}

int module_set_open(struct module_set *set, const char *dir, struct err *e)
{
	char *const roots[] = { (char *)(uintptr_t)dir, NULL };
	FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	FTSENT *f;
	int rc = 0;

	*set = (struct module_set){ 0 };
	if (!fts)
		return err_sys(e, -errno, "read '%s'", dir);
	while (rc == 0 && (f = fts_read(fts))) {
		char *name = f->fts_info == FTS_F ? name_of(f->fts_name) : NULL;

		if (name)
			rc = add_module(set, name, f->fts_path);
	}
	fts_close(fts);
	if (rc == 0 && set->n_all == 0)
		rc = err_set(e, -ENOENT, "there are no kernel modules below '%s'", dir);
	set->order = rc == 0 ? calloc(set->n_all, sizeof(struct module *)) : NULL;
	if (rc == 0 && !set->order)
		rc = err_set(e, -ENOMEM, "no memory to list kernel modules");
	if (rc < 0)
		module_set_close(set);
	return rc;
}

static struct module *find(struct module_set *set, const char *name, size_t len)
{
	for (size_t i = 0; i < set->n_all; i++)
		if (strlen(set->all[i].name) == len && !strncmp(set->all[i].name, name, len))
			return &set->all[i];
	return NULL;
}

static int read_module(struct module *m, struct err *e)
{
	AUTO_FREE uint8_t *raw = NULL;
	size_t raw_len;
	int rc = file_read(m->path, &raw, &raw_len, e);

	if (rc < 0)
		return rc;
	if (raw_len >= SELFMAG && !memcmp(raw, ELFMAG, SELFMAG)) {
		m->data = ptr_take(&raw);
		m->len = raw_len;
		return 0;
	}
	rc = kernel_decompress(raw, raw_len, &m->data, &m->len, e);
	return rc < 0 ? err_wrap(e, rc, "module '%s'", m->path) : 0;
}

static int visit(struct module_set *set, struct module *m, struct err *e)
{
	const char *p;
	int rc;

	if (m->visited)
		return 0;
	m->visited = 1; /* before its dependencies, so that a circle ends */
	rc = read_module(m, e);
	p = rc == 0 ? module_info(m->data, m->len, "depends") : NULL;
	while (rc == 0 && p && *p) {
		size_t len = strcspn(p, ",");
		struct module *needed = find(set, p, len);

		if (needed)
			rc = visit(set, needed, e);
		p += len + (p[len] == ',');
	}
	if (rc == 0)
		set->order[set->n_order++] = m;
	return rc;
}

int module_set_want(struct module_set *set, const char *name, struct err *e)
{
	struct module *m = find(set, name, strlen(name));

	return m ? visit(set, m, e) : 0;
}

void module_set_close(struct module_set *set)
{
	for (size_t i = 0; i < set->n_all; i++) {
		free(set->all[i].name);
		free(set->all[i].path);
		free(set->all[i].data);
	}
	free(set->all);
	free(set->order);
	*set = (struct module_set){ 0 };
}
