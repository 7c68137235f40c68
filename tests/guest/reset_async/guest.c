/* SPDX-License-Identifier: Apache-2.0 */
/* As reset_during_io, with the engine Async. `engine: Async` */
#include "blk.h"

#define ROUNDS 40

void guest_main(void)
{
	static struct blk_header headers[5];
	static volatile uint8_t status[5];
	unsigned late = 0;

	for (unsigned round = 0; round < ROUNDS; round++) {
		if (!blk_start()) {
			expect_eq("start-in-round", 0, round + 1);
			return;
		}
		for (unsigned i = 0; i < 5; i++) {
			headers[i] = (struct blk_header){.type = T_IN, .sector = 16 * i};
			desc_set(3 * i, &headers[i], 16, F_NEXT, (uint16_t)(3 * i + 1));
			desc_set(3 * i + 1, data + 8192 * i, 8192, F_NEXT | F_WRITE, (uint16_t)(3 * i + 2));
			desc_set(3 * i + 2, &status[i], 1, F_WRITE, 0);
			avail_put((uint16_t)(3 * i));
		}
		kick();
		wait_turns(round);
		reg_write(REG_STATUS, 0);
		memset(data, 0x77, 5 * 8192);
		memset((void *)&used_ring, 0x77, sizeof(used_ring));
		memset((void *)status, 0x77, sizeof(status));
		wait_turns(50);
		for (unsigned i = 0; i < 5 * 8192; i += 512)
			late += data[i] != 0x77;
		late += used_ring.idx != 0x7777;
		for (unsigned i = 0; i < 5; i++)
			late += status[i] != 0x77;
	}
	expect_eq("nothing-after-reset", 0, late);
	expect_eq("status-after-reset", 0, reg_read(REG_STATUS));
	expect("start", blk_start());
	expect_works("works");
}
