/* SPDX-License-Identifier: Apache-2.0 */
/* A driver that keeps every rule: identification, read, write, flush, get-id, unknown request. `disk: written` */
#include "blk.h"

void guest_main(void)
{
	static uint8_t copy[4096];
	uint64_t features;

	expect_eq("magic", 0x74726976, reg_read(REG_MAGIC));
	expect_eq("version", 2, reg_read(REG_VERSION));
	expect_eq("device-id", 2, reg_read(REG_DEVICE_ID));
	features = features_offered();
	expect("version-1-offered", features & FEATURE_VERSION_1);
	expect("not-read-only", !(features & FEATURE_RO));
	expect_eq("queue-num-max", 256, reg_read(REG_QUEUE_NUM_MAX));
	expect_eq("capacity", 2048, read32(BLK_BASE + REG_CONFIG));
	expect_eq("capacity-high", 0, read32(BLK_BASE + REG_CONFIG + 4));
	expect("start", blk_start());

	expect_eq("read-status", BLK_OK, blk_io(T_IN, 5, 1024));
	expect_eq("read-used-len", 1025, last_used_len());
	expect_eq("read-used-id", 0, last_used_id());
	expect("read-data", is_sector(data, 5) && is_sector(data + 512, 6));
	expect_eq("interrupt-status", 1, reg_read(REG_INTERRUPT_STATUS));
	reg_write(REG_INTERRUPT_ACK, 1);
	expect_eq("interrupt-acked", 0, reg_read(REG_INTERRUPT_STATUS));

	for (unsigned i = 0; i < sizeof(copy); i++)
		copy[i] = (uint8_t)(i * 7);
	memcpy(data, copy, sizeof(copy));
	expect_eq("write-status", BLK_OK, blk_io(T_OUT, 100, sizeof(copy)));
	expect_eq("write-used-len", 1, last_used_len());
	expect_eq("flush-status", BLK_OK, blk_io(T_FLUSH, 0, 0));
	memset(data, 0, sizeof(copy));
	expect_eq("read-back-status", BLK_OK, blk_io(T_IN, 100, sizeof(copy)));
	expect("read-back-data", memcmp(data, copy, sizeof(copy)) == 0);
	expect_eq("neighbour-status", BLK_OK, blk_io(T_IN, 108, 512));
	expect("neighbour-untouched", is_sector(data, 108));

	memset(data, 0xff, 64);
	expect_eq("get-id-status", BLK_OK, blk_io(T_GET_ID, 0, 20));
	expect("get-id-digits", data[0] >= '0' && data[0] <= '9');
	expect_eq("get-id-20-bytes", 0xff, data[20]);
	expect_eq("unknown-type", BLK_UNSUPP, blk_io(77, 0, 512));
	expect_eq("last-sector", BLK_OK, blk_io(T_IN, 2047, 512));
	expect("last-sector-data", is_sector(data, 2047));

	/* Five requests at once, one kick. */
	for (unsigned i = 0; i < 5; i++) {
		static struct blk_header headers[5];
		static volatile uint8_t status[5];

		headers[i] = (struct blk_header){.type = T_IN, .sector = 200 + i};
		desc_set(3 * i, &headers[i], 16, F_NEXT, (uint16_t)(3 * i + 1));
		desc_set(3 * i + 1, data + 512 * i, 512, F_NEXT | F_WRITE, (uint16_t)(3 * i + 2));
		desc_set(3 * i + 2, &status[i], 1, F_WRITE, 0);
		avail_put((uint16_t)(3 * i));
	}
	kick();
	expect("batch-used", wait_used(5));
	for (unsigned i = 0; i < 5; i++)
		if (!is_sector(data + 512 * i, 200 + i))
			expect_eq("batch-data", 0, i + 1);
}
