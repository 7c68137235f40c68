/* SPDX-License-Identifier: Apache-2.0 */
/* DISCARD and WRITE_ZEROES, right and in every way wrong. `disk: written` */
#include "blk.h"

static void range(unsigned i, uint64_t sector, uint32_t n, uint32_t flags)
{
	((struct blk_range *)data)[i] = (struct blk_range){.sector = sector, .n_sectors = n, .flags = flags};
}

/* Sectors @from to @to - 1 are zeros (@zero) or as the runner made them. */
static bool sectors_are(uint32_t from, uint32_t to, bool zero)
{
	if (blk_io(T_IN, from, (to - from) * 512) != BLK_OK)
		return false;
	for (uint32_t i = from; i < to; i++) {
		const uint8_t *s = data + 512 * (i - from);
		bool same = is_sector(s, i);

		for (unsigned k = 0; zero && k < 512; k++)
			if (s[k] != 0)
				return false;
		if (!zero && !same)
			return false;
	}
	return true;
}

static void refused(const char *name, uint32_t type, unsigned n, uint32_t answer)
{
	expect_eq(name, answer, blk_io(type, 0, 16 * n));
	expect("nothing-done", sectors_are(512, 544, false));
}

static void wrong(uint32_t type)
{
	range(0, 512, 8, 0);
	range(1, 2047, 2, 0);
	refused("past-the-end", type, 2, BLK_IOERR);
	range(0, 512, 8, 0);
	range(1, ~0ull, 1, 0);
	refused("sector-wraps", type, 2, BLK_IOERR);
	range(0, 512, 0xffffffff, 0);
	refused("too-long", type, 1, BLK_IOERR);
	range(0, 512, 8, 0);
	range(1, 520, 8, 0x80000000);
	refused("unknown-flag", type, 2, BLK_UNSUPP);
	for (unsigned i = 0; i < 40; i++)
		range(i, 512, 1, 0);
	refused("too-many", type, 40, BLK_IOERR);
	request_build(type, 0, 24);
	range(0, 512, 8, 0);
	expect_eq("half-a-range", BLK_IOERR, request_run());
	request_build(type, 0, 16);
	desc_set(1, data, 16, F_NEXT | F_WRITE, 2);
	expect_eq("range-writable", BLK_UNTOUCHED, request_run());
	request_build(type, 0, 16);
	desc_set(1, data, 0, F_NEXT, 2);
	expect_eq("no-range", BLK_IOERR, request_run());
	expect("untouched", sectors_are(512, 544, false));
}

void guest_main(void)
{
	uint64_t features = features_offered();

	if (!(features & FEATURE_DISCARD)) {
		/* Then both are unknown types. */
		expect("start", blk_start());
		range(0, 0, 8, 0);
		expect_eq("discard-not-offered", BLK_UNSUPP, blk_io(T_DISCARD, 0, 16));
		return;
	}
	expect("write-zeroes-offered", features & FEATURE_WRITE_ZEROES);
	expect_eq("max-ranges", 16, read32(BLK_BASE + REG_CONFIG + 40));
	expect("max-sectors", read32(BLK_BASE + REG_CONFIG + 36) >= 2048);
	expect("start", blk_start());

	range(0, 64, 8, 0);
	range(1, 80, 16, 0);
	expect_eq("discard", BLK_OK, blk_io(T_DISCARD, 0, 32));
	expect_eq("discard-used-len", 1, last_used_len());
	expect("before", sectors_are(56, 64, false));
	expect("between", sectors_are(72, 80, false));
	expect("behind", sectors_are(96, 104, false));
	expect("discarded", sectors_are(80, 96, true));
	range(0, 129, 3, 0);
	range(1, 160, 8, 1);
	range(2, 2048, 0, 0);
	expect_eq("write-zeroes", BLK_OK, blk_io(T_WRITE_ZEROES, 0, 48));
	expect("zeroed", sectors_are(129, 132, true) && sectors_are(160, 168, true));
	expect("zeroed-not-more", sectors_are(128, 129, false) && sectors_are(132, 160, false) && sectors_are(168, 170, false));

	range(0, 512, 8, 1);
	refused("discard-with-unmap", T_DISCARD, 1, BLK_UNSUPP);
	wrong(T_DISCARD);
	wrong(T_WRITE_ZEROES);
	expect_works("works");
}
