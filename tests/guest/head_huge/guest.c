/* SPDX-License-Identifier: Apache-2.0 */
/* The available ring names descriptor 65535. */
#include "blk.h"

void guest_main(void)
{
	expect("start", blk_start());
	avail_put(0xffff);
	kick();
	expect_broken_then_works();
}
