/* SPDX-License-Identifier: Apache-2.0 */
/* MSRs at boot, and unknown ones: a fault for the guest, never an end of the machine. */
#include "guest.h"

void guest_main(void)
{
	static const uint32_t zero[] = {0x174, 0x175, 0x176, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102};
	uint64_t v = 0;
	uint64_t sum = 0;

	expect("mtrr-readable", msr_read(0x2ff, &v));
	expect_eq("mtrr-default-type", 0x806, v);
	expect("misc-enable-readable", msr_read(0x1a0, &v));
	expect_eq("fast-strings", 1, v & 1);
	for (unsigned i = 0; i < sizeof(zero) / sizeof(zero[0]); i++) {
		v = 1;
		(void)msr_read(zero[i], &v);
		sum |= v;
	}
	expect_eq("syscall-msrs-zero", 0, sum);
	for (uint32_t msr = 0x12340000; msr < 0x12340100; msr++)
		(void)msr_read(msr, &v);
	expect("alive-after-unknown-msrs", true);
}
