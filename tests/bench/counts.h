/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a monitor costs the host besides time: system calls by number, VM exits by reason, interrupts, thread switches.
 *
 * KVM's and the scheduler's tracepoints with `hist` triggers: the kernel counts, nothing is written per event. That slows the
 * events down, so runs that count are not runs that are timed. Needs tracefs on /tracing.
 *
 * Use: counts_open() before the monitor is started; counts_clear(); the work; counts_each(); counts_close().
 */
#ifndef MAYFLY_TESTS_BENCH_COUNTS_H
#define MAYFLY_TESTS_BENCH_COUNTS_H

#include <sys/types.h>

#define TRACE "/tracing/instances/bench" /* our own, so that nobody else's tracing is touched */

/* Make the instance, with tracing off: histograms need no buffer. */
void trace_open(void);

void counts_open(void);
void counts_clear(void);
void counts_close(void);

/*
 * Call @fn for each thing counted since counts_clear(): "exits_npf", "calls_ioctl", "interrupts", "switches", and the totals
 * "exits_total" and "calls_total". Calls and switches are those of the threads that process @pid has now.
 */
void counts_each(pid_t pid, void (*fn)(void *ctx, const char *name, double n), void *ctx);

#endif
