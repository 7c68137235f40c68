/* SPDX-License-Identifier: Apache-2.0 */
/* Requests beyond the end of the disk: completed with nothing written and no status, whatever the arithmetic. */
#include "blk.h"

static void refused(const char *name, uint32_t type, uint64_t sector, uint32_t len)
{
	expect_eq(name, BLK_UNTOUCHED, blk_io(type, sector, len));
	expect_eq("used-len", 0, last_used_len());
}

void guest_main(void)
{
	expect("start", blk_start());
	memset(data, 0x55, sizeof(data));
	refused("at-the-end", T_IN, 2048, 512);
	refused("straddles-the-end", T_IN, 2047, 1024);
	refused("far-away", T_IN, 1ull << 40, 512);
	refused("byte-offset-overflows", T_IN, 1ull << 55, 512);
	refused("sector-wraps", T_IN, ~0ull, 1024);
	refused("write-at-the-end", T_OUT, 2048, 512);
	refused("write-straddles", T_OUT, 2047, 1024);
	refused("write-wraps", T_OUT, ~0ull, 512);
	expect("nothing-read", data[0] == 0x55 && data[512] == 0x55);
	expect_works("works");
	expect_eq("last-sector-status", BLK_OK, blk_io(T_IN, 2047, 512));
	expect("last-sector-untouched", is_sector(data, 2047));
}
