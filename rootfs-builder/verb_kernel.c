// SPDX-License-Identifier: Apache-2.0
/*
 * `mayfly-rootfs kernel`: its options, and where its results go.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rootfs-builder/cache.h"
#include "rootfs-builder/file.h"
#include "rootfs-builder/kernel/build.h"
#include "rootfs-builder/kernel/config.h"
#include "rootfs-builder/kernel/distro.h"
#include "rootfs-builder/verbs.h"
#include "vmm/base/err.h"

struct kernel_args {
	const char *config;
	const char *output;
	const char *series; /* of --distro */
	unsigned int jobs;
	int distro;
	int bzimage;
	int print_path;
	int help;
};

static void usage(FILE *to)
{
	fprintf(to,
		"Usage: mayfly-rootfs kernel [OPTIONS]            build a guest kernel from Debian's linux-source-6.12\n"
		"       mayfly-rootfs kernel --distro [OPTIONS]   prepare a stock Debian cloud kernel, in seconds\n"
		"\n"
		"Options:\n"
		"  --config NAME[+NAME...]  configuration and fragments laid over it, by name or file (./my.config)\n"
		"  --output FILE            put the kernel there; with --distro a directory for bzImage, vmlinux, initrd\n"
		"  --bzimage                the result is the bzImage instead of the ELF vmlinux\n"
		"  --jobs N                 compilers at a time (default: one per CPU)\n"
		"  --print-path             print only the path of the result, for scripts\n"
		"  --suite-version V        with --distro: the kernel series, 6.1 (default) or 6.12\n"
		"\n"
		"Configurations:\n");
	for (size_t i = 0; i < n_kernel_configs; i++)
		fprintf(to, "  %s%-12s %s\n", kernel_config_list[i].fragment ? "+" : " ", kernel_config_list[i].name,
			kernel_config_list[i].summary);
	fprintf(to, "\n"
		"Examples:\n"
		"  mayfly-rootfs kernel --output vmlinux              the shipped kernel (5 minutes; the next time at once)\n"
		"  mayfly-rootfs kernel --config default+mitigations  with the CPU's speculation mitigations\n"
		"  mayfly-rootfs kernel --distro --output stock/      Debian's own kernel with an initrd for it\n");
}

static int parse_number(const char *text, unsigned int max, unsigned int *out)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || v < 1 || v > max)
		return -EINVAL;
	*out = (unsigned int)v;
	return 0;
}

static int parse_args(int argc, char **argv, struct kernel_args *a)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },     { "output", required_argument, NULL, 'o' },
		{ "jobs", required_argument, NULL, 'j' },       { "print-path", no_argument, NULL, 'p' },
		{ "bzimage", no_argument, NULL, 'b' },          { "distro", no_argument, NULL, 'd' },
		{ "suite-version", required_argument, NULL, 's' }, { "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "hj:o:", options, NULL)) != -1) {
		switch (opt) {
		case 'c': a->config = optarg; break;
		case 'o': a->output = optarg; break;
		case 'p': a->print_path = 1; break;
		case 'b': a->bzimage = 1; break;
		case 'd': a->distro = 1; break;
		case 's': a->series = optarg; break;
		case 'h': a->help = 1; return 0;
		case 'j':
			if (parse_number(optarg, 1024, &a->jobs) == 0)
				break;
			fprintf(stderr, "mayfly-rootfs: --jobs takes a number from 1 to 1024, not '%s'\n", optarg);
			return -EINVAL;
		default: return -EINVAL; /* getopt has said what is wrong */
		}
	}
	if (optind < argc) {
		fprintf(stderr, "mayfly-rootfs: kernel takes no argument '%s'; see mayfly-rootfs kernel --help\n", argv[optind]);
		return -EINVAL;
	}
	if (a->distro ? a->config || a->bzimage : a->series != NULL) {
		fprintf(stderr, "mayfly-rootfs: --config and --bzimage are for kernels built here, --suite-version for "
				"--distro; they don't go together\n");
		return -EINVAL;
	}
	return 0;
}

/* Say where the result is: on standard output for --print-path, else in a sentence. */
static int report(const struct kernel_args *a, const char *what, const char *path)
{
	if (a->print_path)
		printf("%s\n", path);
	else
		printf("%s: %s\n", what, path);
	return fflush(stdout) == 0 ? 0 : 1;
}

static int run_build(const struct kernel_args *a)
{
	struct kernel_build_opts opts = { .config = a->config ? a->config : "default", .jobs = a->jobs };
	struct kernel_paths paths;
	struct err e = { 0 };
	const char *result;
	int rc = kernel_build(&opts, &paths, &e);

	if (rc < 0)
		return verb_fail(&e);
	result = a->bzimage ? paths.bzimage : paths.vmlinux;
	if (!a->output)
		return report(a, opts.config, result);
	rc = file_copy(result, a->output, &e);
	return rc < 0 ? verb_fail(&e) : report(a, opts.config, a->output);
}

static int run_distro(const struct kernel_args *a)
{
	static const char *const files[] = { "bzImage", "vmlinux", "initrd" };
	char from[PATH_MAX + 16], to[PATH_MAX + 16];
	struct distro_paths paths;
	struct err e = { 0 };
	int rc = distro_prepare(a->series ? a->series : "6.1", &paths, &e);

	if (rc < 0)
		return verb_fail(&e);
	if (!a->output)
		return report(a, paths.package, paths.dir);
	rc = cache_make_dirs(a->output);
	if (rc < 0) {
		err_sys(&e, rc, "create the directory '%s'", a->output);
		return verb_fail(&e);
	}
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(from, sizeof(from), "%s/%s", paths.dir, files[i]);
		if (snprintf(to, sizeof(to), "%s/%s", a->output, files[i]) >= (int)sizeof(to))
			rc = err_set(&e, -ENAMETOOLONG, "the name given to --output is too long");
		if (rc == 0)
			rc = file_copy(from, to, &e);
		if (rc < 0)
			return verb_fail(&e);
	}
	return report(a, paths.package, a->output);
}

int verb_kernel(int argc, char **argv)
{
	long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct kernel_args a = { .jobs = n_cpus > 0 ? (unsigned int)n_cpus : 1 };

	if (parse_args(argc, argv, &a) < 0)
		return EXIT_USAGE;
	if (a.help) {
		usage(stdout);
		return 0;
	}
	return a.distro ? run_distro(&a) : run_build(&a);
}
