/* SPDX-License-Identifier: Apache-2.0 */
/* The status machine: no step is skipped, no bit is cleared but by a reset, unknown bits are ignored. */
#include "blk.h"

static void stays(const char *name, uint32_t status, uint32_t write)
{
	reg_write(REG_STATUS, write);
	expect_eq(name, status, reg_read(REG_STATUS));
}

void guest_main(void)
{
	reg_write(REG_STATUS, 0);
	stays("driver-first", 0, ST_DRIVER);
	stays("all-at-once", 0, ST_RUNNING);
	stays("unknown-bits", 0, 0x30);
	stays("needs-reset-by-driver", 0, ST_NEEDS_RESET);
	stays("high-bits", 0, 0xffffff00);
	reg_write(REG_STATUS, 1);
	stays("acknowledge", 1, 1);
	stays("skip-to-features-ok", 1, 9);
	reg_write(REG_STATUS, 3);
	stays("clear-driver", 3, 1);
	stays("driver-ok-without-features", 3, 7);
	expect("start", blk_start());
	stays("clear-driver-ok", ST_RUNNING, 0xb);
	stays("clear-all-but-one", ST_RUNNING, 1);
	stays("unknown-bits-running", ST_RUNNING, ST_RUNNING | 0x30);
	expect_works("works");
	stays("failed", ST_RUNNING | ST_FAILED, ST_RUNNING | ST_FAILED);
	stays("failed-stays", ST_RUNNING | ST_FAILED, ST_RUNNING);
	stays("reset", 0, 0);
	expect("restart", blk_start());
	expect_works("works-again");
}
