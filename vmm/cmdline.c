/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel command line: see cmdline.h. */
#include "vmm/cmdline.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MAX_LEN (LAYOUT_CMDLINE_MAX - 1) /* characters */

int cmdline_check_args(const char *boot_args, struct err *e)
{
	size_t i, len = strlen(boot_args);

	for (i = 0; i < len; i++) {
		if (boot_args[i] < ' ' || boot_args[i] > '~')
			return err_set(e, -EINVAL,
				       "String contains a non-printable ASCII character (0x%02x at offset %zu)",
				       (unsigned int)(unsigned char)boot_args[i], i);
	}
	if (len > MAX_LEN)
		return err_set(e, -EINVAL, "String is too long: it has %zu characters, %d fit", len, MAX_LEN);
	return 0;
}

/*
 * The next word at or after *@pos, as Linux separates them: at spaces, but not inside double quotes. Returns its
 * length and sets *@pos to its start; 0 at the end.
 */
static size_t next_word(const char *line, size_t *pos)
{
	size_t start = *pos, end;
	bool quoted = false;

	while (line[start] == ' ')
		start++;
	for (end = start; line[end] != '\0' && (quoted || line[end] != ' '); end++) {
		if (line[end] == '"')
			quoted = !quoted;
	}
	*pos = start;
	return end - start;
}

/* Where the kernel's part of @line ends: at the start of the word `--`, or at its end. */
static size_t kernel_part(const char *line)
{
	size_t pos = 0, len;

	while ((len = next_word(line, &pos)) > 0) {
		if (len == 2 && memcmp(line + pos, "--", 2) == 0)
			return pos;
		pos += len;
	}
	return strlen(line);
}

bool cmdline_has_word(const char *boot_args, const char *word)
{
	size_t end = kernel_part(boot_args), pos = 0, len;

	while ((len = next_word(boot_args, &pos)) > 0 && pos < end) {
		if (len == strlen(word) && memcmp(boot_args + pos, word, len) == 0)
			return true;
		pos += len;
	}
	return false;
}

/* A line that grows; @len counts on when it has become too long, so that the error can say by how much. */
struct line {
	char text[LAYOUT_CMDLINE_MAX];
	size_t len;
};

static void append_bytes(struct line *line, const char *text, size_t len)
{
	if (line->len <= MAX_LEN && len <= MAX_LEN - line->len)
		memcpy(line->text + line->len, text, len);
	line->len += len;
}

/* Append one formatted parameter, separated by a space from what is there. */
static PRINTF_LIKE(2, 3) void append_param(struct line *line, const char *fmt, ...)
{
	char param[128]; /* the longest is root=PARTUUID= and a UUID; see append_root for one that is not */
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(param, sizeof(param), fmt, ap);
	va_end(ap);
	must(n > 0 && (size_t)n < sizeof(param));
	if (line->len > 0)
		append_bytes(line, " ", 1);
	append_bytes(line, param, (size_t)n);
}

static void append_root(struct line *line, const struct cmdline_additions *add)
{
	if (add->root_partuuid) {
		append_param(line, "root=PARTUUID=");
		append_bytes(line, add->root_partuuid, strlen(add->root_partuuid));
	} else {
		append_param(line, "root=/dev/vda");
	}
	append_param(line, add->root_read_only ? "ro" : "rw");
}

int cmdline_build(const char *boot_args, const struct cmdline_additions *add, char out[LAYOUT_CMDLINE_MAX],
		  struct err *e)
{
	const char *args = boot_args ? boot_args : CMDLINE_DEFAULT;
	struct line line = {.len = 0};
	size_t split, kernel_len, i;
	int rc;

	rc = cmdline_check_args(args, e);
	if (rc < 0)
		return rc;
	if (add->root_partuuid && cmdline_check_args(add->root_partuuid, NULL) < 0)
		return err_set(
			e, -EINVAL, "The PARTUUID of the root drive has characters that can't be on a command line");
	must(add->n_devices <= LAYOUT_MAX_VIRTIO);

	split = kernel_part(args);
	for (kernel_len = split; kernel_len > 0 && args[kernel_len - 1] == ' '; kernel_len--)
		;
	append_bytes(&line, args, kernel_len);
	append_param(&line, "pci=off");
	if (add->has_root_drive)
		append_root(&line, add);
	for (i = 0; i < add->n_devices; i++)
		append_param(&line, "virtio_mmio.device=4K@0x%" PRIx64 ":%u", add->devices[i].base.v,
			     add->devices[i].gsi);
	if (args[split] != '\0')
		append_bytes(&line, " ", 1);
	append_bytes(&line, args + split, strlen(args + split));

	if (line.len > MAX_LEN)
		return err_set(e, -E2BIG,
			"Inserting string would make command line too long: it would have %zu characters, %d fit",
			line.len, MAX_LEN);
	line.text[line.len] = '\0';
	memcpy(out, line.text, line.len + 1);
	return 0;
}
