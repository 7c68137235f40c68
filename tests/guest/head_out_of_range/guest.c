/* SPDX-License-Identifier: Apache-2.0 */
/* The available ring names a descriptor that does not exist. */
#include "blk.h"

void guest_main(void)
{
	expect("start", blk_start());
	request_build(T_IN, 0, 512);
	avail_put(QUEUE_SIZE);
	kick();
	expect_broken_then_works();
}
