/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command lines of the monitor and the jailer: one table of options, one parser, one help text.
 *
 * Rules (CONTRACT.md section 6): long options and -h; the value is the next argument and does not begin with "--"; no
 * option twice unless it is a list; "--" ends the options.
 *
 * Threads: none; called once, before everything else.
 */
#ifndef MAYFLY_BASE_CLI_H
#define MAYFLY_BASE_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"

/* Values that a list option can have. */
#define CLI_LIST_MAX 64

/* All strings are borrowed from argv. */
struct cli_list {
	size_t n;
	const char *value[CLI_LIST_MAX];
};

enum cli_kind {
	CLI_FLAG,    /* bool */
	CLI_TEXT,    /* const char * */
	CLI_NUMBER,  /* uint64_t, decimal */
	CLI_LIST,    /* struct cli_list */
	CLI_REFUSED, /* known and refused; `help` says why. With a value when `value` is not NULL */
};

struct cli_option {
	const char *name;  /* without the two dashes */
	const char *value; /* what the help calls its value; NULL: a flag */
	const char *help;
	enum cli_kind kind;
	uint32_t offset;   /* of the member in the caller's struct */
};

#define CLI_ROW(type_, kind_, name_, value_, member_, help_)                                                            \
	{                                                                                                               \
		.name = (name_), .value = (value_), .help = (help_), .kind = (kind_), .offset = offsetof(type_, member_) \
	}

/*
 * Store the options of @argv[1...] into @out as @options (@n rows, at most 64) say. *@rest is the index of the argument
 * behind "--", or @argc. 0, or -EINVAL with @e: the reason alone, without a frame.
 */
int cli_parse(const struct cli_option *options, size_t n, void *out, int argc, char *const *argv, int *rest,
	      struct err *e) MUST_USE;

/* Print a line of the help for each option that is not refused, to standard output. */
void cli_print_options(const struct cli_option *options, size_t n);

/* Print @text to standard output; a reader that went away is no error. */
void cli_print(const char *text);

/* Is @text a decimal number of 64 bits? Then *@out. */
bool cli_number(const char *text, uint64_t *out) MUST_USE;

/* Is @id an instance id: 1 to 64 letters, digits and '-'? */
bool cli_id_valid(const char *id) MUST_USE;

#endif
