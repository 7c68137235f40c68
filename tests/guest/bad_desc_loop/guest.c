/* SPDX-License-Identifier: Apache-2.0 */
/* A chain whose last descriptor points back to the one before: the walk ends, the queue is broken. */
#include "blk.h"

void guest_main(void)
{
	expect("start", blk_start());
	request_build(T_IN, 0, 512);
	desc_set(2, &status_byte, 1, F_WRITE | F_NEXT, 1);
	avail_put(0);
	kick();
	expect_broken_then_works();
}
