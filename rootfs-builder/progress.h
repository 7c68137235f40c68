/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a person sees while something takes minutes: on a terminal one line that is rewritten, elsewhere (a log, CI) a
 * whole line when a stage starts and then every 15 seconds. Standard error only; standard output is for results.
 *
 * Use: progress_start(&p, "building the kernel", 2100); progress_step(&p, "mm/slub.o"); ... progress_end(&p, "done");
 */
#ifndef MAYFLY_ROOTFS_PROGRESS_H
#define MAYFLY_ROOTFS_PROGRESS_H

#include <stdint.h>

struct progress {
	const char *stage;     /* borrowed until progress_end */
	unsigned int n_done;   /* steps so far */
	unsigned int n_total;  /* steps expected; 0 = not known */
	uint64_t start_ns;
	uint64_t shown_ns;
	int tty;
};

/* Begin @stage with about @n_total steps (0 = not known) and say so. */
void progress_start(struct progress *p, const char *stage, unsigned int n_total);

/* Count one step and show @what when it is time to. */
void progress_step(struct progress *p, const char *what);

/* End the stage with the word @result and the time it took. */
void progress_end(struct progress *p, const char *result);

#endif
