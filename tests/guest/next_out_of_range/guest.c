/* SPDX-License-Identifier: Apache-2.0 */
/* A descriptor is followed by one that does not exist. */
#include "blk.h"

void guest_main(void)
{
	expect("start", blk_start());
	request_build(T_IN, 0, 512);
	desc_set(0, &header, 16, F_NEXT, QUEUE_SIZE);
	avail_put(0);
	kick();
	expect_broken_then_works();
}
