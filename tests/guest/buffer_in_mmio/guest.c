/* SPDX-License-Identifier: Apache-2.0 */
/* A buffer in device memory: the disk does not reach its own registers (CVE-2021-20255). */
#include "blk.h"

void guest_main(void)
{
	expect("start", blk_start());
	request_build(T_OUT, 0, 512);
	desc_table[1].addr = BLK_BASE;
	avail_put(0);
	kick();
	expect_broken_then_works();
}
