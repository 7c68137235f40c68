/* SPDX-License-Identifier: Apache-2.0 */
/* A triple fault ends the monitor like a reset: status 0. No END is printed: `expect: no-end`. */
#include "guest.h"

void guest_main(void)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) empty = {0, 0};

	expect("before-the-fault", true);
	__asm__ volatile("lidt %0; int3" : : "m"(empty));
	expect("not-reached", false);
}
