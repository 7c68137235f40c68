/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/cli.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/fd.h"

#define OPTIONS_MAX 64
#define ID_MAX 64

void cli_print(const char *text)
{
	if (fd_write_full(STDOUT_FILENO, text, strlen(text)) < 0)
		return;
}

void cli_print_options(const struct cli_option *options, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char left[64], line[256];

		if (options[i].kind == CLI_REFUSED)
			continue;
		(void)snprintf(left, sizeof(left), "  --%s%s%s", options[i].name, options[i].value ? " " : "",
			       options[i].value ? options[i].value : "");
		(void)snprintf(line, sizeof(line), "%-38s %s\n", left, options[i].help);
		cli_print(line);
	}
}

bool cli_number(const char *text, uint64_t *out)
{
	uint64_t v = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*text - '0'), &v))
			return false;
	}
	*out = v;
	return true;
}

bool cli_id_valid(const char *id)
{
	size_t len = strnlen(id, ID_MAX + 1);

	if (len == 0 || len > ID_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = id[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-'))
			return false;
	}
	return true;
}

/* An argument that is no option: say what it looks like. */
static int unexpected(const struct cli_option *options, size_t n, const char *arg, struct err *e)
{
	const char *equals = strchr(arg, '=');

	for (size_t i = 0; equals && strncmp(arg, "--", 2) == 0 && i < n; i++) {
		const struct cli_option *row = &options[i];
		size_t len = (size_t)(equals - arg) - 2;

		if (strlen(row->name) != len || strncmp(arg + 2, row->name, len) != 0)
			continue;
		return err_set(e, -EINVAL,
			       "Found argument '%.80s' which wasn't expected, or isn't valid in this context. %s--%s%s%s", arg,
			       row->value ? "Give the value as an argument of its own: " : "The option takes no value: ",
			       row->name, row->value ? " " : "", row->value ? row->value : "");
	}
	return err_set(e, -EINVAL, "Found argument '%.80s' which wasn't expected, or isn't valid in this context.", arg);
}

static const struct cli_option *find(const struct cli_option *options, size_t n, const char *arg)
{
	if (strcmp(arg, "-h") == 0)
		arg = "--help";
	if (strncmp(arg, "--", 2) != 0)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		if (strcmp(arg + 2, options[i].name) == 0)
			return &options[i];
	}
	return NULL;
}

/* Store @value, which is NULL for flags. */
static int store(void *out, const struct cli_option *row, const char *value, struct err *e)
{
	char *member = (char *)out + row->offset;
	struct cli_list *list;

	switch (row->kind) {
	case CLI_FLAG:
		*(bool *)member = true;
		return 0;
	case CLI_TEXT:
		*(const char **)(void *)member = value;
		return 0;
	case CLI_NUMBER:
		if (cli_number(value, (uint64_t *)(void *)member))
			return 0;
		return err_set(e, -EINVAL, "The argument '--%s' requires a whole number, not '%.80s'.", row->name, value);
	case CLI_LIST:
		list = (struct cli_list *)(void *)member;
		if (list->n == CLI_LIST_MAX)
			return err_set(e, -EINVAL, "The argument '--%s' was provided more than %d times.", row->name,
				       CLI_LIST_MAX);
		list->value[list->n++] = value;
		return 0;
	case CLI_REFUSED:
		return err_set(e, -EINVAL, "The argument '--%s' is not supported: %s.", row->name, row->help);
	}
	return 0;
}

int cli_parse(const struct cli_option *options, size_t n, void *out, int argc, char *const *argv, int *rest, struct err *e)
{
	bool seen[OPTIONS_MAX] = { false };

	must(n <= OPTIONS_MAX);
	*rest = argc;
	for (int i = 1; i < argc; i++) {
		const struct cli_option *row;
		const char *value = NULL;
		int rc;

		if (strcmp(argv[i], "--") == 0) {
			*rest = i + 1;
			return 0;
		}
		row = find(options, n, argv[i]);
		if (!row)
			return unexpected(options, n, argv[i], e);
		if (seen[row - options] && row->kind != CLI_LIST)
			return err_set(e, -EINVAL, "The argument '--%s' was provided more than once.", row->name);
		seen[row - options] = true;
		if (row->value) {
			if (i + 1 >= argc || strncmp(argv[i + 1], "--", 2) == 0)
				return err_set(e, -EINVAL, "The argument '--%s' requires a value, but none was supplied.",
					       row->name);
			value = argv[++i];
		}
		rc = store(out, row, value, e);
		if (rc)
			return rc;
	}
	return 0;
}
