/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's memory map, entry by entry (CONTRACT.md 16.1).
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <stdlib.h>

#include "vmm/e820.h"
#include "vmm/layout.h"

struct row {
	uint64_t base, end;
	enum e820_type type;
};

static void check(uint64_t size, const struct row *want, size_t n)
{
	struct gmem *mem = NULL;
	struct e820_map map;
	uint64_t ram = 0;
	size_t i;

	assert_int_equal(gmem_create(&mem, size, GMEM_PAGES_DEFAULT, NULL), 0);
	e820_build(mem, &map);
	assert_int_equal(map.n_entries, n);
	for (i = 0; i < n; i++) {
		assert_int_equal(map.entry[i].base.v, want[i].base);
		assert_int_equal(map.entry[i].len, want[i].end - want[i].base);
		assert_int_equal(map.entry[i].type, want[i].type);
		if (i > 0)
			assert_true(want[i].base >= want[i - 1].end);
		/* What is called RAM is RAM. */
		if (map.entry[i].type == E820_RAM) {
			assert_true(gmem_contains(mem, map.entry[i].base, map.entry[i].len));
			ram += map.entry[i].len;
		}
	}
	assert_int_equal(ram, size - (LAYOUT_HIGH_MEMORY - LAYOUT_SYSTEM));
	gmem_destroy(mem);
}

#define LOW {0, 0x9fc00, E820_RAM}, {0x9fc00, 0xe0000, E820_RESERVED}
#define MMCONFIG {0xeec00000, 0xfec00000, E820_RESERVED}

static void maps(void **state)
{
	static const struct row small[] = {LOW, {0x100000, 128 * MIB, E820_RAM}, MMCONFIG};
	static const struct row smallest[] = {LOW, {0x100000, 2 * MIB, E820_RAM}, MMCONFIG};
	static const struct row to_gap[] = {LOW, {0x100000, 3 * GIB, E820_RAM}, MMCONFIG};
	static const struct row over_gap[] = {
		LOW, {0x100000, 3 * GIB, E820_RAM}, MMCONFIG, {4 * GIB, 6 * GIB, E820_RAM}};
	static const struct row over_window[] = {LOW, {0x100000, 3 * GIB, E820_RAM}, MMCONFIG,
						 {4 * GIB, 256 * GIB, E820_RAM}, {512 * GIB, 513 * GIB, E820_RAM}};

	(void)state;
	check(128 * MIB, small, ARRAY_SIZE(small));
	check(2 * MIB, smallest, ARRAY_SIZE(smallest));
	check(3 * GIB, to_gap, ARRAY_SIZE(to_gap));
	check(5 * GIB, over_gap, ARRAY_SIZE(over_gap));
	check(256 * GIB, over_window, ARRAY_SIZE(over_window));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(maps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
