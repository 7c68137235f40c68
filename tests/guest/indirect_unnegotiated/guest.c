/* SPDX-License-Identifier: Apache-2.0 */
/* An indirect descriptor without the feature, or one that also has a next: either breaks the queue. */
#include "blk.h"

void guest_main(void)
{
	expect("start", blk_start());
	static struct desc table[3];

	expect("start-without-indirect", blk_start_with(features_offered() & ~(FEATURE_EVENT_IDX | FEATURE_INDIRECT)));
	request_build(T_IN, 0, 512);
	memcpy(table, (const void *)desc_table, sizeof(table));
	desc_set(0, table, sizeof(table), F_INDIRECT, 0);
	avail_put(0);
	kick();
	expect_broken_then_works();
}
