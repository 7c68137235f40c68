/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bus gives each access to the one device that owns all of it, and to nobody else; interrupt lines count edges.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vmm/bus.h"
#include "vmm/irq.h"

struct fake {
	uint64_t last_off;
	uint32_t last_len;
	uint8_t last_value;
	int reads, writes;
};

static void fake_read(void *dev, uint64_t off, void *data, uint32_t len)
{
	struct fake *f = dev;

	f->last_off = off;
	f->last_len = len;
	f->reads++;
	memset(data, 0x5a, len);
}

static void fake_write(void *dev, uint64_t off, const void *data, uint32_t len)
{
	struct fake *f = dev;

	f->last_off = off;
	f->last_len = len;
	f->last_value = *(const uint8_t *)data;
	f->writes++;
}

static const struct bus_ops fake_ops = { .read = fake_read, .write = fake_write };

static void test_dispatch(void **state)
{
	struct bus bus = { 0 };
	struct fake a = { 0 }, b = { 0 };
	uint32_t v = 0;

	(void)state;
	assert_int_equal(bus_add(&bus, 0x3f8, 8, &fake_ops, &b), 0);
	assert_int_equal(bus_add(&bus, 0x60, 5, &fake_ops, &a), 0);
	assert_true(bus_read(&bus, 0x64, &v, 1));
	assert_int_equal(a.last_off, 4);
	assert_int_equal(v, 0x5a);
	assert_true(bus_write(&bus, 0x3f8, "Z", 1));
	assert_int_equal(b.last_off, 0);
	assert_int_equal(b.last_value, 'Z');
	assert_true(bus_read(&bus, 0x3fc, &v, 4));
	assert_int_equal(b.last_off, 4);
	assert_int_equal(b.last_len, 4);
}

/* Unowned addresses, and accesses that leave a range, read as zeroes and write nowhere. */
static void test_unowned(void **state)
{
	static const uint64_t addrs[] = { 0, 0xff, 0x104, 0x1ff, 0x20d, 0x210, UINT64_MAX, UINT64_MAX - 2 };
	struct bus bus = { 0 };
	struct fake a = { 0 };

	(void)state;
	for (size_t round = 0; round < 2; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(addrs); i++) {
			uint8_t v[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
			static const uint8_t zero[8];

			assert_false(bus_read(&bus, addrs[i], v, 8));
			assert_memory_equal(v, zero, 8);
			assert_false(bus_write(&bus, addrs[i], v, 8));
		}
		if (round == 0) {
			assert_int_equal(bus_add(&bus, 0x100, 8, &fake_ops, &a), 0);
			assert_int_equal(bus_add(&bus, 0x200, 0x10, &fake_ops, &a), 0);
		}
	}
	assert_int_equal(a.reads + a.writes, 0);
}

static void test_add_refuses(void **state)
{
	struct bus bus = { 0 };
	struct fake a = { 0 };

	(void)state;
	assert_int_equal(bus_add(&bus, 0x100, 0, &fake_ops, &a), -EINVAL);
	assert_int_equal(bus_add(&bus, UINT64_MAX, 2, &fake_ops, &a), -EINVAL);
	assert_int_equal(bus_add(&bus, 0x100, 0x10, &fake_ops, &a), 0);
	assert_int_equal(bus_add(&bus, 0x100, 0x10, &fake_ops, &a), -EEXIST);
	assert_int_equal(bus_add(&bus, 0xff, 2, &fake_ops, &a), -EEXIST);
	assert_int_equal(bus_add(&bus, 0x10f, 1, &fake_ops, &a), -EEXIST);
	assert_int_equal(bus_add(&bus, 0x80, 0x1000, &fake_ops, &a), -EEXIST);
	assert_int_equal(bus_add(&bus, 0x110, 1, &fake_ops, &a), 0);
	assert_int_equal(bus_add(&bus, 0xff, 1, &fake_ops, &a), 0);
	for (uint64_t i = 3; i < BUS_MAX_DEVICES; i++)
		assert_int_equal(bus_add(&bus, 0x10000 - i, 1, &fake_ops, &a), 0);
	assert_int_equal(bus_add(&bus, 0x20000, 1, &fake_ops, &a), -ENOSPC);
	for (size_t i = 1; i < bus.n_ranges; i++)
		assert_true(bus.range[i - 1].base + bus.range[i - 1].size <= bus.range[i].base);
}

static void test_irq(void **state)
{
	struct irq_line line;
	struct err e;
	uint64_t n = 0;

	(void)state;
	assert_int_equal(irq_init(&line, 5, &e), 0);
	irq_raise(&line);
	irq_raise(&line);
	assert_int_equal(read(line.fd, &n, sizeof(n)), sizeof(n));
	assert_int_equal(n, 2);
	irq_fini(&line);
	irq_fini(&line);
	irq_raise(&line); /* not connected: nothing happens */
	assert_int_equal(line.fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dispatch),
		cmocka_unit_test(test_unowned),
		cmocka_unit_test(test_add_refuses),
		cmocka_unit_test(test_irq),
	};

	return cmocka_run_group_tests_name("bus", tests, NULL, NULL);
}
