// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel configurations as text: finding an option, laying one text on another, resolving names.
 */
#include "rootfs-builder/kernel/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"

#define MAX_CONFIG_LEN (4 * MIB)

/* One line of a configuration, borrowed from its text. */
struct option_line {
	const char *name;  /* CONFIG_X */
	size_t name_len;
	const char *value; /* after '='; "n" for "is not set" */
	size_t value_len;
};

enum line_kind { LINE_OPTION, LINE_OTHER, LINE_BAD };

static size_t line_len(const char *p)
{
	return strcspn(p, "\n");
}

/* Read the line at @p (not past its newline). */
static enum line_kind parse_line(const char *p, struct option_line *o)
{
	static const char not_set[] = " is not set";
	size_t len = line_len(p);
	int off = len > 2 && p[0] == '#' && !strncmp(p + 2, "CONFIG_", 7);
	const char *name = off ? p + 2 : p;

	while (len && (p[len - 1] == ' ' || p[len - 1] == '\r' || p[len - 1] == '\t'))
		len--;
	if (len == 0)
		return LINE_OTHER;
	if (p[0] == '#' && !off)
		return LINE_OTHER;
	if (strncmp(name, "CONFIG_", 7) != 0)
		return LINE_BAD;
	o->name = name;
	o->name_len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
	o->value = name + o->name_len;
	o->value_len = (size_t)(p + len - o->value);
	if (off) {
		if (o->value_len != strlen(not_set) || strncmp(o->value, not_set, o->value_len) != 0)
			return LINE_OTHER; /* a comment that begins with an option's name */
		o->value = "n";
		o->value_len = 1;
		return LINE_OPTION;
	}
	if (o->value_len < 2 || o->value[0] != '=')
		return LINE_BAD;
	o->value++;
	o->value_len--;
	return LINE_OPTION;
}

static const char *next_line(const char *p)
{
	p += line_len(p);
	return *p ? p + 1 : p;
}

/* The last line of @text, from @p on, that sets the option of @o; writes it to @found. Returns whether there is one. */
static int find_option(const char *p, const char *name, size_t name_len, struct option_line *found)
{
	struct option_line o;
	int have = 0;

	for (; *p; p = next_line(p)) {
		if (parse_line(p, &o) != LINE_OPTION || o.name_len != name_len || memcmp(o.name, name, name_len) != 0)
			continue;
		*found = o;
		have = 1;
	}
	return have;
}

int kernel_config_get(const char *text, const char *option, char *out, size_t len)
{
	struct option_line o;

	if (!find_option(text, option, strlen(option), &o))
		return 0;
	snprintf(out, len, "%.*s", (int)o.value_len, o.value);
	return 1;
}

/* A text being written: @fill of @size bytes are in use. */
struct text_buf {
	char *text;
	size_t fill;
	size_t size;
};

/* Append to @out the options of @text that neither its own later lines nor @over set. */
static int append_options(struct text_buf *out, const char *text, const char *over, struct err *e)
{
	struct option_line o, later;

	for (const char *p = text; *p; p = next_line(p)) {
		switch (parse_line(p, &o)) {
		case LINE_OTHER:
			continue;
		case LINE_BAD:
			return err_set(e, -EINVAL, "'%.*s' is neither CONFIG_NAME=value nor a comment",
				       (int)(line_len(p) > 80 ? 80 : line_len(p)), p);
		case LINE_OPTION:
			break;
		}
		if (find_option(next_line(p), o.name, o.name_len, &later) ||
		    find_option(over, o.name, o.name_len, &later))
			continue;
		out->fill += (size_t)snprintf(out->text + out->fill, out->size - out->fill, "%.*s=%.*s\n",
					      (int)o.name_len, o.name, (int)o.value_len, o.value);
	}
	return 0;
}

int kernel_config_merge(const char *base, const char *over, char **out, struct err *e)
{
	/* A line never gets longer: "# CONFIG_X is not set" becomes "CONFIG_X=n"; the last may gain its newline. */
	size_t size = strlen(base) + strlen(over) + 3;
	AUTO_FREE char *text = malloc(size);
	struct text_buf buf = { .text = text, .size = size };
	int rc;

	if (!text)
		return err_set(e, -ENOMEM, "no memory for a kernel configuration");
	text[0] = '\0';
	rc = append_options(&buf, base, over, e);
	if (rc == 0)
		rc = append_options(&buf, over, "", e);
	if (rc == 0)
		*out = ptr_take(&text);
	return rc;
}

int kernel_config_read(const char *path, char **out, struct err *e)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	AUTO_FREE char *text = NULL;
	struct stat st;
	int rc;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, -errno, "read the kernel configuration '%s'", path);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > MAX_CONFIG_LEN)
		return err_set(e, -EINVAL, "'%s' is no kernel configuration: not a file of at most 4 MiB", path);
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return err_set(e, -ENOMEM, "no memory to read '%s'", path);
	rc = fd_pread_full(fd, text, (size_t)st.st_size, 0);
	if (rc < 0)
		return err_sys(e, rc, "read the kernel configuration '%s'", path);
	text[st.st_size] = '\0';
	if (strlen(text) != (size_t)st.st_size)
		return err_set(e, -EINVAL, "'%s' is no kernel configuration: it holds a NUL byte", path);
	*out = ptr_take(&text);
	return 0;
}

static int unknown_name(const char *name, struct err *e)
{
	char list[256] = "";
	size_t fill = 0;

	for (size_t i = 0; i < n_kernel_configs && fill < sizeof(list); i++)
		fill += (size_t)snprintf(list + fill, sizeof(list) - fill, " %s", kernel_config_list[i].name);
	return err_set(e, -ENOENT, "no kernel configuration is called '%.100s'; there are:%s; a file is written with a "
		       "'/' or '.', as in ./my.config", name, list);
}

/* The text of one part of a --config argument, allocated. */
static int resolve_part(const char *part, char **out, struct err *e)
{
	if (strpbrk(part, "/."))
		return kernel_config_read(part, out, e);
	for (size_t i = 0; i < n_kernel_configs; i++) {
		if (strcmp(part, kernel_config_list[i].name) != 0)
			continue;
		*out = strdup(kernel_config_list[i].text);
		return *out ? 0 : err_set(e, -ENOMEM, "no memory for a kernel configuration");
	}
	return unknown_name(part, e);
}

unsigned int kernel_config_steps(const char *spec)
{
	size_t len = strcspn(spec, "+");

	for (size_t i = 0; i < n_kernel_configs; i++) {
		const struct kernel_config *c = &kernel_config_list[i];

		if (strlen(c->name) == len && !strncmp(c->name, spec, len))
			return c->n_steps;
	}
	return 0;
}

int kernel_config_resolve(const char *spec, char **out, struct err *e)
{
	AUTO_FREE char *parts = strdup(spec);
	AUTO_FREE char *text = strdup("");
	char *save, *rest = parts;

	if (!parts || !text)
		return err_set(e, -ENOMEM, "no memory for a kernel configuration");
	if (!*spec)
		return unknown_name(spec, e);
	while ((save = rest)) {
		AUTO_FREE char *over = NULL;
		char *merged;
		int rc;

		rest = strchr(save, '+');
		if (rest)
			*rest++ = '\0';
		rc = resolve_part(save, &over, e);
		if (rc == 0)
			rc = kernel_config_merge(text, over, &merged, e);
		if (rc < 0)
			return err_wrap(e, rc, "--config '%.100s'", spec);
		free(text);
		text = merged;
	}
	*out = ptr_take(&text);
	return 0;
}

unsigned int kernel_config_check(const char *wanted, const char *got,
				 void (*report)(void *ctx, const char *option, const char *want, const char *have), void *ctx)
{
	unsigned int n_different = 0;
	struct option_line o;

	for (const char *p = wanted; *p; p = next_line(p)) {
		char name[128], want[256], have[256] = "n";

		if (parse_line(p, &o) != LINE_OPTION || o.name_len >= sizeof(name))
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)o.name_len, o.name);
		snprintf(want, sizeof(want), "%.*s", (int)o.value_len, o.value);
		(void)kernel_config_get(got, name, have, sizeof(have));
		if (strcmp(want, have) == 0)
			continue;
		n_different++;
		report(ctx, name, want, have);
	}
	return n_different;
}
