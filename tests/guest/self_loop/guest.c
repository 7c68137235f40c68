/* SPDX-License-Identifier: Apache-2.0 */
/* A descriptor that points to itself. */
#include "blk.h"

void guest_main(void)
{
	expect("start", blk_start());
	desc_set(0, &header, 16, F_NEXT, 0);
	avail_put(0);
	kick();
	expect_broken_then_works();
}
