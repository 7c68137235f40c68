/* SPDX-License-Identifier: Apache-2.0 */
/* A buffer whose end wraps around the address space. */
#include "blk.h"

void guest_main(void)
{
	expect("start", blk_start());
	request_build(T_IN, 0, 512);
	desc_table[1].addr = ~0ull - 255;
	avail_put(0);
	kick();
	expect_broken_then_works();
}
