/* SPDX-License-Identifier: Apache-2.0 */
/* avail.idx goes backwards. */
#include "blk.h"

void guest_main(void)
{
	expect("start", blk_start());
	expect_works("before");
	avail_ring.idx--;
	kick();
	expect_broken_then_works();
}
