/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's command line (CONTRACT.md section 6): one table of options, a parser, and what --version and --help print.
 *
 * Rules: long options and -h; the value is the next argument and does not begin with "--"; no option twice; "--" ends the
 * options, what follows is ignored.
 *
 * Threads: none; called once, before everything else.
 */
#ifndef MAYFLY_VMM_ARGS_H
#define MAYFLY_VMM_ARGS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"

/* Process exit codes for a command line that can't be used. */
#define ARGS_EXIT_BAD_LEVEL 152
#define ARGS_EXIT_BAD_ARGUMENT 153

/* All strings are borrowed from argv or constant. */
struct args {
	const char *app_name;    /* "Firecracker" when invoked under a name that begins so, else "Mayfly" */
	const char *id;
	const char *api_sock;
	const char *config_file; /* NULL: none */
	const char *log_path;    /* NULL: standard output */
	const char *module;      /* NULL: no filter */
	enum log_level level;
	bool show_level, show_log_origin;
	bool no_api;
	bool boot_timer;
	bool no_seccomp;
	uint64_t http_api_max_payload_size;
	uint64_t start_time_us, start_time_cpu_us, parent_cpu_time_us; /* 0: not given */
};

enum args_verdict {
	ARGS_RUN,  /* go on with *args */
	ARGS_DONE, /* --version or --help: it was printed to standard output; exit 0 */
	ARGS_BAD,  /* e->msg says why; exit with e->code, which is here the positive process exit code */
};

/* Fill @args from the command line. @e must not be NULL. */
enum args_verdict args_parse(struct args *args, int argc, char *const *argv, struct err *e) MUST_USE;

#endif
