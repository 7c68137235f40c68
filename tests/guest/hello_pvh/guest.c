/* SPDX-License-Identifier: Apache-2.0 */
/* The same through the PVH entry; the start_info is where the contract puts it. */
#include "guest.h"

extern uint64_t pvh_start_info;

void guest_main(void)
{
	expect_eq("start-info-address", 0x6000, pvh_start_info);
	expect_eq("start-info-magic", 0x336ec578, read32(pvh_start_info));
}
