/* SPDX-License-Identifier: Apache-2.0 */
/* A chain of more than 4 GiB in all, out of the same memory again and again. */
#include "blk.h"

void guest_main(void)
{
	expect("start", blk_start());
	request_build(T_IN, 0, 512);
	for (unsigned i = 1; i < QUEUE_SIZE - 1; i++)
		desc_set(i, (void *)0x100000, 100u << 20, F_NEXT | F_WRITE, (uint16_t)(i + 1));
	desc_set(QUEUE_SIZE - 1, &status_byte, 1, F_WRITE, 0);
	avail_put(0);
	kick();
	expect_broken_then_works();
}
