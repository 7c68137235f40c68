/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/x86/msr.h"


#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/base/cdefs.h"

/*
 * KVM resets a vCPU's MSRs to the processor's reset values, which already are what the contract lists (SYSENTER*, STAR,
 * LSTAR, CSTAR, SYSCALL_MASK, KERNEL_GS_BASE: 0, TSC: starts at 0). Only what differs from reset is set here.
 */
static const struct kvm_msr_entry boot_msrs[] = {
	{.index = 0x1a0 /* IA32_MISC_ENABLE */, .data = 1 /* fast strings */},
	{.index = 0x2ff /* IA32_MTRR_DEF_TYPE */, .data = 0x806 /* MTRRs on, everything write-back */},
};

int msr_set_boot(int vcpu_fd, struct err *e)
{
	_Alignas(struct kvm_msrs) uint8_t buf[sizeof(struct kvm_msrs) + sizeof(boot_msrs)] = {0};
	struct kvm_msrs *msrs = (struct kvm_msrs *)(void *)buf;
	int done;

	msrs->nmsrs = ARRAY_SIZE(boot_msrs);
	memcpy(msrs->entries, boot_msrs, sizeof(boot_msrs));
	done = ioctl(vcpu_fd, KVM_SET_MSRS, msrs);
	if (done < 0)
		return err_sys(e, -errno, "KVM_SET_MSRS");
	if (done < (int)ARRAY_SIZE(boot_msrs))
		return err_set(e, -EINVAL, "KVM_SET_MSRS: the host's KVM refuses MSR 0x%x", boot_msrs[done].index);
	return 0;
}
