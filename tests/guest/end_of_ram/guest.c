/* SPDX-License-Identifier: Apache-2.0 */
/* A buffer that begins in RAM and ends behind it. */
#include "blk.h"

void guest_main(void)
{
	expect("start", blk_start());
	request_build(T_IN, 0, 512);
	desc_table[1].addr = (128u << 20) - 256;
	avail_put(0);
	kick();
	expect_broken_then_works();
}
