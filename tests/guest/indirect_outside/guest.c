/* SPDX-License-Identifier: Apache-2.0 */
/* An indirect table in device memory. */
#include "blk.h"

static struct desc table[QUEUE_SIZE];

void guest_main(void)
{
	expect("start", blk_start());
	if (!(features_offered() & FEATURE_INDIRECT)) {
		print("skip indirect the device does not offer it\n");
		return;
	}
	request_build(T_IN, 3, 512);
	memcpy(table, (const void *)desc_table, sizeof(table));
	desc_set(0, table, 3 * sizeof(table[0]), F_INDIRECT, 0);
	desc_table[0].addr = BLK_BASE;
	avail_put(0);
	kick();
	expect_broken_then_works();
}
