/* SPDX-License-Identifier: Apache-2.0 */
/* The used ring belongs to the device: what the driver writes there changes nothing. Empty descriptors may point anywhere. */
#include "blk.h"

void guest_main(void)
{
	expect("start", blk_start());
	expect_works("before");
	used_ring.idx = 0x4000;
	used_ring.flags = 0xffff;
	request_build(T_IN, 3, 512);
	avail_put(0);
	kick();
	for (unsigned i = 0; i < 20000 && used_ring.idx == 0x4000; i++)
		wait_turns(1);
	expect_eq("index-is-the-device's", 2, used_ring.idx);
	expect_eq("status", BLK_OK, status_byte);

	expect("restart", blk_start());
	request_build(T_IN, 3, 512);
	desc_set(1, data, 512, F_NEXT | F_WRITE, 3);
	desc_set(3, (void *)0xd0000000, 0, F_NEXT | F_WRITE, 2);
	expect_eq("empty-descriptor", BLK_OK, request_run());
	expect("empty-descriptor-data", is_sector(data, 3));
}
