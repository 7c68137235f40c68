/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest must and must not see of the processor. */
#include "guest.h"

void guest_main(void)
{
	uint32_t r[4];

	cpuid(1, 0, r);
	expect_eq("hypervisor-bit", 1, r[2] >> 31);
	expect_eq("no-vmx", 0, r[2] >> 5 & 1);
	expect_eq("tsc-deadline", 1, r[2] >> 24 & 1);
	expect_eq("apic-id", 0, r[1] >> 24);
	cpuid(0x80000001, 0, r);
	expect_eq("no-svm", 0, r[2] >> 2 & 1);
	cpuid(0x40000000, 0, r);
	expect("kvm-signature", r[1] == 0x4b4d564b && r[2] == 0x564b4d56 && r[3] == 0x4d);
	cpuid(0xb, 0, r);
	expect_eq("x2apic-id", 0, r[3]);
	cpuid(0xa, 0, r);
	expect_eq("no-pmu", 0, r[0]);
}
