/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model-specific registers at the first instruction (CONTRACT.md 16.4).
 */
#ifndef MAYFLY_VMM_X86_MSR_H
#define MAYFLY_VMM_X86_MSR_H

#include "vmm/base/err.h"

/* Set the boot values of vCPU @vcpu_fd with one ioctl. 0, or negative errno with @e naming the MSR that KVM refused. */
int msr_set_boot(int vcpu_fd, struct err *e) MUST_USE;

#endif
