/* SPDX-License-Identifier: Apache-2.0 */
static int counter;
static const int fine = 3;
static int function(void);
static int explained; /* global: the one signal handler needs it */
