/* SPDX-License-Identifier: Apache-2.0 */
/* Doorbells of queues that do not exist, and of a device that does not run. */
#include "blk.h"

void guest_main(void)
{
	kick();
	reg_write(REG_QUEUE_NOTIFY, 0xffffffff);
	expect_eq("before-start", 0, reg_read(REG_STATUS));
	expect("start", blk_start());
	reg_write(REG_QUEUE_NOTIFY, 1);
	reg_write(REG_QUEUE_NOTIFY, 255);
	reg_write(REG_QUEUE_NOTIFY, 0x10000);
	reg_write(REG_QUEUE_NOTIFY, 0x80000000);
	reg_write(REG_QUEUE_NOTIFY, 0xffffffff);
	for (unsigned i = 0; i < 1000; i++)
		kick(); /* with nothing available */
	expect_eq("running", ST_RUNNING, reg_read(REG_STATUS));
	expect_works("works");
	reg_write(REG_QUEUE_SEL, 1);
	expect_eq("missing-queue-max", 0, reg_read(REG_QUEUE_NUM_MAX));
	expect_eq("missing-queue-ready", 0, reg_read(REG_QUEUE_READY));
	reg_write(REG_QUEUE_SEL, 0xffffffff);
	reg_write(REG_QUEUE_NUM, 16);
	reg_write(REG_QUEUE_READY, 1);
	expect_eq("far-queue-ready", 0, reg_read(REG_QUEUE_READY));
	expect_works("still-works");
}
