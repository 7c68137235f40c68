/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verbs of `mayfly`, one file each. A verb gets its own arguments (argv[0] is its name) and returns the exit status.
 */
#ifndef MAYFLY_CLI_CLI_H
#define MAYFLY_CLI_CLI_H

/* Examine this host's KVM. 0: it can run Linux guests, 1: it can't (or the question could not be answered), 2: usage. */
int cli_doctor(int argc, char **argv);

#endif
