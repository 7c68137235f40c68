/* SPDX-License-Identifier: Apache-2.0 */
/* The status byte lies outside RAM. */
#include "blk.h"

void guest_main(void)
{
	expect("start", blk_start());
	request_build(T_IN, 0, 512);
	desc_table[2].addr = 0xd0000000;
	avail_put(0);
	kick();
	expect_broken_then_works();
}
