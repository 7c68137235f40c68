/* SPDX-License-Identifier: Apache-2.0 */
/* avail.idx runs ahead by more than the queue has elements. */
#include "blk.h"

void guest_main(void)
{
	expect("start", blk_start());
	request_build(T_IN, 0, 512);
	avail_ring.idx = (uint16_t)(avail_ring.idx + QUEUE_SIZE + 1);
	kick();
	expect_broken_then_works();
}
