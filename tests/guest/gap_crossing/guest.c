/* SPDX-License-Identifier: Apache-2.0 */
/* A buffer that begins in RAM below the 32-bit gap and ends inside it; there is RAM again above. `mem: 3100` */
#include "blk.h"

void guest_main(void)
{
	expect("start", blk_start());
	request_build(T_IN, 0, 512);
	desc_table[1].addr = 0xc0000000 - 256;
	desc_table[1].len = 0x40000200;
	avail_put(0);
	kick();
	expect_broken_then_works();
}
