// SPDX-License-Identifier: Apache-2.0
/*
 * mayfly-rootfs: makes guest kernels and guest images. This file chooses the verb; each verb has a file of its own.
 */
#include <stdio.h>
#include <string.h>

#include "rootfs-builder/run.h"
#include "rootfs-builder/verbs.h"
#include "vmm/base/cdefs.h"

static const struct {
	const char *name;
	const char *summary;
	int (*run)(int argc, char **argv);
} verbs[] = {
	{ "kernel", "build the guest kernel, or prepare a stock Debian one", verb_kernel },
};

static void usage(FILE *to)
{
	fprintf(to, "Usage: mayfly-rootfs VERB [OPTIONS]\n\nVerbs (each has --help):\n");
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		fprintf(to, "  %-10s %s\n", verbs[i].name, verbs[i].summary);
	fprintf(to, "\nWhat is built is kept in $MAYFLY_CACHE (default: ~/.cache/mayfly) and made once.\n");
}

int main(int argc, char **argv)
{
	run_catch_signals();
	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		usage(stdout);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (!strcmp(argv[1], verbs[i].name))
			return verbs[i].run(argc - 1, argv + 1);
	fprintf(stderr, "mayfly-rootfs: there is no verb '%s'\n", argv[1]);
	usage(stderr);
	return EXIT_USAGE;
}
