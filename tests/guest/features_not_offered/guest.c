/* SPDX-License-Identifier: Apache-2.0 */
/* FEATURES_OK does not stick when the driver accepts what was not offered, or no modern device. */
#include "blk.h"

#define ST_DRIVER_FOUND (ST_ACKNOWLEDGE | ST_DRIVER)

void guest_main(void)
{
	uint64_t offered = features_offered();

	for (unsigned bit = 0; bit < 64; bit++)
		if (!(offered >> bit & 1) && blk_negotiate(offered | 1ull << bit) != ST_DRIVER_FOUND)
			expect_eq("accepted-bit", ~0ull, bit);
	expect_eq("without-version-1", ST_DRIVER_FOUND, blk_negotiate(offered & ~FEATURE_VERSION_1));
	expect_eq("all-ones", ST_DRIVER_FOUND, blk_negotiate(~0ull));
	reg_write(REG_STATUS, ST_RUNNING);
	expect_eq("no-driver-ok-then", 0, reg_read(REG_STATUS) & ST_DRIVER_OK);
	expect("start", blk_start());
	expect_works("works");
	expect("minimum", blk_start_with(FEATURE_VERSION_1));
	expect_works("works-with-minimum");
	expect("event-idx", blk_start_with(offered));
	expect_works("works-with-all");
}
