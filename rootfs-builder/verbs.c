// SPDX-License-Identifier: Apache-2.0
/*
 * What the verbs share.
 */
#include "rootfs-builder/verbs.h"

#include <stdio.h>

#include "rootfs-builder/run.h"
#include "vmm/base/err.h"

int verb_fail(const struct err *e)
{
	fprintf(stderr, "mayfly-rootfs: %s\n", e->msg);
	return run_stop_signal() ? 128 + run_stop_signal() : 1;
}
