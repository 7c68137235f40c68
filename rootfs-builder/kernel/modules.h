/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel modules of a package that was unpacked but never installed: which exist, what they depend on (their own .modinfo
 * says it, as modules.dep is made only by an installation) and in which order to load them.
 *
 * Use: module_set_open(&set, "<dir>/lib/modules/<release>", &e); module_set_want(&set, "virtio_blk", &e); ...
 *      for i < set.n_order: set.order[i]->name, ->data, ->len; module_set_close(&set).
 */
#ifndef MAYFLY_ROOTFS_KERNEL_MODULES_H
#define MAYFLY_ROOTFS_KERNEL_MODULES_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

struct err;

struct module {
	char *name;     /* with '_' for '-'; owned */
	char *path;     /* owned */
	uint8_t *data;  /* the module's ELF file, uncompressed; NULL until wanted; owned */
	size_t len;
	int visited;
};

struct module_set {
	struct module *all;    /* owned */
	size_t n_all;
	struct module **order; /* wanted modules, each after those it needs; owned array */
	size_t n_order;
};

/* List the modules below @dir. 0 with @set to be closed, or a negative errno with @e set. */
int module_set_open(struct module_set *set, const char *dir, struct err *e) MUST_USE;

/*
 * Want the module @name and all it depends on: they are read, uncompressed and put into the order. A name without a module is
 * fine (it is built into the kernel). Returns 0 or a negative errno with @e set.
 */
int module_set_want(struct module_set *set, const char *name, struct err *e) MUST_USE;

/* Free what @set holds. */
void module_set_close(struct module_set *set);

/*
 * The value of @key ("depends") in the .modinfo section of the @len bytes at @elf, borrowed from them, or NULL when there is
 * none or the file is no well-formed module.
 */
const char *module_info(const uint8_t *elf, size_t len, const char *key);

#endif
