/* SPDX-License-Identifier: Apache-2.0 */
/* The engine Async under a driver that keeps the rules and then does not. `disk: written` `engine: Async` */
#include "blk.h"

#define BATCH 20

static struct blk_header headers[BATCH];
static volatile uint8_t status[BATCH];

static void batch(unsigned n, uint32_t type)
{
	for (unsigned i = 0; i < n; i++) {
		headers[i] = (struct blk_header){.type = type, .sector = 200 + 4 * i};
		status[i] = BLK_UNTOUCHED;
		desc_set(3 * i, &headers[i], 16, F_NEXT, (uint16_t)(3 * i + 1));
		desc_set(3 * i + 1, data + 2048 * i, 2048, type == T_OUT ? F_NEXT : F_NEXT | F_WRITE, (uint16_t)(3 * i + 2));
		desc_set(3 * i + 2, &status[i], 1, F_WRITE, 0);
		avail_put((uint16_t)(3 * i));
	}
	kick();
}

void guest_main(void)
{
	unsigned bad = 0;

	expect("start", blk_start());
	batch(BATCH, T_IN);
	expect("reads-used", wait_used(BATCH));
	for (unsigned i = 0; i < BATCH; i++)
		bad += status[i] != BLK_OK || !is_sector(data + 2048 * i, 200 + 4 * i) ||
		       !is_sector(data + 2048 * i + 1536, 203 + 4 * i);
	expect_eq("reads", 0, bad);
	for (unsigned i = 0; i < BATCH * 2048; i++)
		data[i] = (uint8_t)(i * 13 + (i >> 9));
	batch(BATCH, T_OUT);
	expect("writes-used", wait_used(BATCH));
	expect_eq("flush", BLK_OK, blk_io(T_FLUSH, 0, 0));
	memset(data, 0, BATCH * 2048);
	batch(BATCH, T_IN);
	expect("reads-back-used", wait_used(BATCH));
	bad = 0;
	for (unsigned i = 0; i < BATCH * 2048; i++)
		bad += data[i] != (uint8_t)(i * 13 + (i >> 9));
	expect_eq("reads-back", 0, bad);
	expect_eq("past-the-end", BLK_UNTOUCHED, blk_io(T_IN, 2047, 1024));
	expect_eq("last-sector", BLK_OK, blk_io(T_IN, 2047, 512));

	/* The ring breaks with requests under way. */
	batch(BATCH, T_IN);
	avail_put(QUEUE_SIZE);
	kick();
	expect_broken_in_flight(BATCH); /* what was done before the break stays so */
}
