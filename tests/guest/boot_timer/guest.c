/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Only the byte 123 at offset 0 of the boot timer's page says that the guest has booted.
 * `args: --boot-timer` `log: Guest-boot-time`
 */
#include "guest.h"

void guest_main(void)
{
	volatile uint8_t *page = (volatile uint8_t *)0xc0000000ull;

	page[1] = 123;
	page[0] = 122;
	page[0] = 123;
	expect_eq("reads-zero", 0, page[0]);
}
