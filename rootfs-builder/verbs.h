/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verbs of mayfly-rootfs. Each takes the arguments from its own name on, and returns the program's exit status:
 * 0 done, 1 failed (the reason is on standard error), 2 wrong usage, 128 + n ended by signal n.
 */
#ifndef MAYFLY_ROOTFS_VERBS_H
#define MAYFLY_ROOTFS_VERBS_H

#define EXIT_USAGE 2

struct err;

/* `mayfly-rootfs kernel ...`: build a guest kernel, or prepare a stock one. */
int verb_kernel(int argc, char **argv);

/* Print "mayfly-rootfs: " and @e's text on standard error. Returns the exit status for it. */
int verb_fail(const struct err *e);

#endif
