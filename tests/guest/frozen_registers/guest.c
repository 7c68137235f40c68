/* SPDX-License-Identifier: Apache-2.0 */
/* Queue registers written after DRIVER_OK change nothing until a reset (CVE-2026-5747). */
#include "blk.h"

void guest_main(void)
{
	expect("start", blk_start());
	expect_works("before");
	reg_write(REG_QUEUE_SEL, 0);
	reg_write(REG_QUEUE_NUM, 0);
	expect_works("size-0");
	reg_write(REG_QUEUE_NUM, 0x8000);
	expect_works("size-32768");
	for (uint32_t off = REG_QUEUE_DESC; off <= REG_QUEUE_DEVICE + 4; off += 4)
		reg_write(off, 0xfffffff0);
	expect_works("addresses");
	reg_write(REG_QUEUE_READY, 0);
	expect_eq("still-ready", 1, reg_read(REG_QUEUE_READY));
	expect_works("ready");
	reg_write(REG_DRIVER_FEATURES_SEL, 0);
	reg_write(REG_DRIVER_FEATURES, 0xffffffff);
	expect_works("features");
	expect_eq("status", ST_RUNNING, reg_read(REG_STATUS));
}
