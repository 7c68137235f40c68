/* SPDX-License-Identifier: Apache-2.0 */
/* `mayfly VERB ...`: finds the verb and calls it. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "vmm/base/cdefs.h"

struct verb {
	const char *name, *summary;
	int (*run)(int argc, char **argv);
};

static const struct verb verbs[] = {
	{"doctor", "say whether this machine can run microVMs, and what is missing if not", cli_doctor},
};

static void usage(FILE *to)
{
	fputs("usage: mayfly VERB [options]\n\n", to);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		fprintf(to, "  %-10s %s\n", verbs[i].name, verbs[i].summary);
	fputs("\n`mayfly VERB --help` describes a verb.\n", to);
}

int main(int argc, char **argv)
{
	if (argc >= 2 &&
		(strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0)) {
		usage(stdout);
		return 0;
	}
	for (size_t i = 0; argc >= 2 && i < ARRAY_SIZE(verbs); i++)
		if (strcmp(argv[1], verbs[i].name) == 0)
			return verbs[i].run(argc - 1, argv + 1);
	if (argc >= 2)
		fprintf(stderr, "mayfly: there is no verb '%s'\n", argv[1]);
	usage(stderr);
	return 2;
}
