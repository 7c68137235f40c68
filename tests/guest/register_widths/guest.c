/* SPDX-License-Identifier: Apache-2.0 */
/* Registers in odd widths and at odd addresses, configuration space to its end and beyond. */
#include "blk.h"

void guest_main(void)
{
	volatile uint8_t *page = (volatile uint8_t *)BLK_BASE;
	uint64_t sum = 0;

	expect_eq("byte-of-magic", 0, page[0]);
	expect_eq("half-of-magic", 0, *(volatile uint16_t *)page);
	expect_eq("unaligned", 0, *(volatile uint32_t *)(page + 2));
	for (unsigned i = 0; i < 0x100; i++)
		page[i] = 0xff;
	for (unsigned i = 0; i < 0x100; i += 8)
		*(volatile uint64_t *)(page + i) = ~0ull;
	expect_eq("narrow-writes-ignored", 0, reg_read(REG_STATUS));
	expect_eq("config-byte", 0x08, page[REG_CONFIG + 1]);
	expect_eq("config-half", 0x0800, *(volatile uint16_t *)(page + REG_CONFIG));
	expect_eq("config-quad", 2048, *(volatile uint64_t *)(page + REG_CONFIG));
	for (unsigned i = 0x200; i < 0xff8; i += 4)
		sum |= *(volatile uint32_t *)(page + i);
	sum |= *(volatile uint64_t *)(page + 0xff8) | page[0xfff];
	expect_eq("beyond-config", 0, sum);
	for (unsigned i = REG_CONFIG; i < 0x1000; i += 4)
		*(volatile uint32_t *)(page + i) = 0xffffffff;
	expect_eq("config-read-only", 2048, read32(BLK_BASE + REG_CONFIG));
	(void)*(volatile uint32_t *)(page + 0xffe); /* leaves the page */
	for (unsigned off = 0; off < 0x100; off += 4)
		if (off != REG_STATUS && off != REG_QUEUE_NOTIFY)
			reg_write(off, 0xffffffff);
	expect("start", blk_start());
	expect_works("works");
}
