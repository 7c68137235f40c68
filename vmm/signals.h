/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals of the monitor (CONTRACT.md section 17).
 *
 *   TERM, INT, QUIT               the first asks for an orderly end (@terminate); the process then dies of the same signal,
 *                                 so that its parent sees what it expects. A second one kills at once.
 *   PIPE                          counted, survived
 *   HUP BUS SEGV ILL XCPU XFSZ    logged, then _exit() with the signal's own code
 *   SYS                           a forbidden system call: logged with its number, exit code 148; from kill(2): 2
 *   ABRT                          gives the terminal back and dies of it
 *   VCPU_KICK_SIGNAL              does nothing but interrupt KVM_RUN
 *
 * Threads: installed once by main; handlers run in any thread and are async-signal-safe.
 */
#ifndef MAYFLY_VMM_SIGNALS_H
#define MAYFLY_VMM_SIGNALS_H

#include "vmm/base/err.h"

/*
 * Install all handlers. @terminate is called, in signal context, with the first TERM, INT or QUIT; it must be
 * async-signal-safe. @emergency is called likewise before the process ends from a fatal signal, to put the terminal right.
 * 0, or negative errno with @e.
 */
int signals_install(void (*terminate)(void *ctx, int signo), void (*emergency)(void *ctx), void *ctx, struct err *e) MUST_USE;

/* The TERM, INT or QUIT that asked for the end, or 0. */
int signals_terminated_by(void);

/* Die of @signo as if it had never been handled. Returns only if that fails. */
void signals_die_of(int signo);

#endif
