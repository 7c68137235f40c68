/* SPDX-License-Identifier: Apache-2.0 */
/* Queues that can't be: each is refused at DRIVER_OK with NEEDS_RESET, and the next try works. */
#include "blk.h"

#define D ((uintptr_t)desc_table)
#define A ((uintptr_t)&avail_ring)
#define U ((uintptr_t)&used_ring)

static void refused(const char *name, uint32_t size, uint64_t desc, uint64_t driver, uint64_t device)
{
	uint64_t features = features_offered();

	if (blk_negotiate(features) != (ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK))
		expect("negotiate", false);
	queue_setup(size, desc, driver, device);
	reg_write(REG_STATUS, ST_RUNNING);
	expect_eq(name, ST_NEEDS_RESET, reg_read(REG_STATUS) & ST_NEEDS_RESET);
	kick();
}

void guest_main(void)
{
	refused("size-0", 0, D, A, U);
	refused("size-3", 3, D, A, U);
	refused("size-512", 512, D, A, U);
	refused("size-huge", 0x80000000, D, A, U);
	refused("descriptors-in-mmio", QUEUE_SIZE, BLK_BASE, A, U);
	refused("available-in-apic", QUEUE_SIZE, D, 0xfee00000, U);
	refused("used-in-gap", QUEUE_SIZE, D, A, 0xd0000000);
	refused("descriptors-at-end-of-ram", QUEUE_SIZE, (128u << 20) - 16, A, U);
	refused("used-above-ram", QUEUE_SIZE, D, A, 1ull << 40);
	refused("wraps", QUEUE_SIZE, D, A, ~0ull - 3);
	refused("descriptors-misaligned", QUEUE_SIZE, D + 8, A, U);
	refused("available-misaligned", QUEUE_SIZE, D, A + 1, U);
	refused("used-misaligned", QUEUE_SIZE, D, A, U + 2);

	blk_negotiate(features_offered());
	reg_write(REG_STATUS, ST_RUNNING);
	expect_eq("queue-not-ready", ST_NEEDS_RESET, reg_read(REG_STATUS) & ST_NEEDS_RESET);
	kick();
	expect("start", blk_start());
	expect_works("works");
}
