/* SPDX-License-Identifier: Apache-2.0 */
/* Ten thousand illegal accesses and fifty broken queues: the log stays small. */
#include "blk.h"

void guest_main(void)
{
	for (unsigned i = 0; i < 10000; i++)
		reg_write(REG_QUEUE_NUM, i);
	for (unsigned i = 0; i < 50; i++) {
		if (!blk_start())
			expect_eq("start", ~0ull, i);
		avail_put(0xffff);
		kick();
		while (!(reg_read(REG_STATUS) & ST_NEEDS_RESET))
			wait_turns(1);
	}
	expect("start", blk_start());
	expect_works("works");
}
