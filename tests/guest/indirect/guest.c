/* SPDX-License-Identifier: Apache-2.0 */
/* A request through an indirect table, its neighbours untouched. */
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
	expect_eq("status", BLK_OK, request_run());
	expect("data", is_sector(data, 3));
	expect_eq("used-len", 513, last_used_len());
}
