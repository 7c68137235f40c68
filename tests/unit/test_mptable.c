/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MP table, read back as a kernel reads it (MultiProcessor Specification 1.4, chapter 4; CONTRACT.md 16.4).
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/mptable.h"

static uint8_t sum(const uint8_t *bytes, size_t len)
{
	unsigned int s = 0;

	while (len-- > 0)
		s += *bytes++;
	return (uint8_t)s;
}

static void pointer_and_header(void **state)
{
	uint8_t out[LAYOUT_MPTABLE_MAX];
	const uint8_t *table = out + 16;
	size_t len = mptable_build(1, out);

	(void)state;
	assert_memory_equal(out, "_MP_", 4);
	assert_int_equal(le32_get(out + 4), 0x9fc10);
	assert_int_equal(out[8], 1);
	assert_int_equal(out[9], 4);
	assert_int_equal(sum(out, 16), 0);
	assert_memory_equal(table, "PCMP", 4);
	assert_int_equal(le16_get(table + 4), len - 16);
	assert_int_equal(table[6], 4);
	assert_int_equal(sum(table, len - 16), 0);
	assert_int_equal(le32_get(table + 36), 0xfee00000);
}

/* Walk the entries as Linux does: by type and length. */
static void entries(void **state)
{
	uint32_t n_vcpus;

	(void)state;
	for (n_vcpus = 1; n_vcpus <= LAYOUT_MAX_VCPUS; n_vcpus++) {
		uint8_t out[LAYOUT_MPTABLE_MAX];
		const uint8_t *p = out + 16 + 44, *end = out + mptable_build(n_vcpus, out);
		unsigned int n[5] = {0}, count = 0;

		assert_int_equal(sum(out + 16, (size_t)(end - out) - 16), 0);
		for (; p < end; count++) {
			assert_true(p[0] < 5);
			switch (p[0]) {
			case 0:
				assert_int_equal(p[1], n[0]);
				assert_int_equal(p[3], n[0] == 0 ? 3 : 1);
				break;
			case 1:
				assert_memory_equal(p + 2, "ISA   ", 6);
				break;
			case 2:
				assert_int_equal(p[1], n_vcpus + 1);
				assert_int_equal(p[3], 1);
				assert_int_equal(le32_get(p + 4), 0xfec00000);
				break;
			case 3:
				assert_int_equal(p[1], 0);
				assert_int_equal(p[5], n[3]);
				assert_int_equal(p[6], n_vcpus + 1);
				assert_int_equal(p[7], n[3]);
				break;
			default:
				assert_int_equal(p[1], n[4] == 0 ? 3 : 1); /* ExtINT at LINT0, NMI at LINT1 */
				assert_int_equal(p[7], n[4]);
				break;
			}
			n[p[0]]++;
			p += p[0] == 0 ? 20 : 8;
		}
		assert_ptr_equal(p, end);
		assert_int_equal(n[0], n_vcpus);
		assert_int_equal(n[1], 1);
		assert_int_equal(n[2], 1);
		assert_int_equal(n[3], 24);
		assert_int_equal(n[4], 2);
		assert_int_equal(le16_get(out + 16 + 34), count);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pointer_and_header),
		cmocka_unit_test(entries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
