/* SPDX-License-Identifier: Apache-2.0 */
/* A write to a read-only disk is an I/O error, and the disk is unchanged. `disk: ro` */
#include "blk.h"

void guest_main(void)
{
	expect("read-only-offered", features_offered() & FEATURE_RO);
	expect("start", blk_start());
	memset(data, 0x55, 512);
	expect_eq("write-refused", BLK_IOERR, blk_io(T_OUT, 3, 512));
	expect_works("unchanged");
}
