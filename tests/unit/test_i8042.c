/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keyboard controller: reset, Ctrl-Alt-Del, and Linux's probes, none of which may run into a timeout.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/i8042.h"

#define DATA 0
#define COMMAND 4

struct keyboard {
	struct irq_line irq;
	struct i8042 *dev;
	int resets;
};

static void on_reset(void *ctx)
{
	struct keyboard *k = ctx;

	k->resets++;
}

static int setup(void **state)
{
	struct keyboard *k = calloc(1, sizeof(*k));
	struct err e;

	assert_non_null(k);
	assert_int_equal(irq_init(&k->irq, 1, &e), 0);
	assert_int_equal(i8042_create(&k->dev, &k->irq, on_reset, k, &e), 0);
	*state = k;
	return 0;
}

static int teardown(void **state)
{
	struct keyboard *k = *state;

	i8042_destroy(k->dev);
	i8042_destroy(NULL);
	irq_fini(&k->irq);
	free(k);
	return 0;
}

static void out(struct keyboard *k, uint64_t port, uint8_t v)
{
	i8042_bus_ops.write(k->dev, port, &v, 1);
}

static uint8_t in(struct keyboard *k, uint64_t port)
{
	uint8_t v = 0xee;

	i8042_bus_ops.read(k->dev, port, &v, 1);
	return v;
}

static bool has_data(struct keyboard *k)
{
	return in(k, COMMAND) & 0x01;
}

/* The answer to a controller command, which must be there at once. */
static uint8_t ask(struct keyboard *k, uint8_t command)
{
	out(k, COMMAND, command);
	assert_int_equal(in(k, COMMAND) & 0x02, 0);
	assert_true(has_data(k));
	return in(k, DATA);
}

static uint64_t edges(struct keyboard *k)
{
	uint64_t n = 0;

	return read(k->irq.fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

/* Bytes as Linux's handler takes them: one for each interrupt. */
static size_t by_interrupt(struct keyboard *k, uint8_t *bytes, size_t max)
{
	size_t n = 0;

	while (edges(k) > 0 && n < max) {
		assert_true(has_data(k));
		bytes[n++] = in(k, DATA);
	}
	return n;
}

static void test_reset(void **state)
{
	struct keyboard *k = *state;
	struct i8042_stats stats;

	assert_int_equal(in(k, COMMAND) & 0x02, 0); /* Linux waits for an empty input buffer first */
	out(k, COMMAND, 0xfe);
	assert_int_equal(k->resets, 1);
	out(k, COMMAND, 0xd1);
	out(k, DATA, 0xff);
	assert_int_equal(k->resets, 1);
	out(k, COMMAND, 0xd1);
	out(k, DATA, 0xfe);
	assert_int_equal(k->resets, 2);
	out(k, DATA, 0xfe); /* a keyboard command: no reset */
	assert_int_equal(k->resets, 2);
	i8042_get_stats(k->dev, &stats);
	assert_int_equal(stats.reset_count, 2);
}

/* i8042_probe(): the controller is there, not translated, without mouse port; no question stays unanswered. */
static void test_linux_controller_probe(void **state)
{
	struct keyboard *k = *state;
	uint8_t ctr;

	assert_false(has_data(k));
	ctr = ask(k, 0x20);
	assert_int_equal(ask(k, 0x20), ctr);
	assert_int_equal(ctr & 0x40, 0);
	assert_true(in(k, COMMAND) & 0x10); /* not locked */
	out(k, COMMAND, 0x60);
	out(k, DATA, (ctr | 0x10) & 0xfe);
	assert_int_equal(ask(k, 0x20), (ctr | 0x10) & 0xfe);
	/* i8042_check_aux(): the loop's answer comes without mark, and the test says that the port is broken. */
	out(k, COMMAND, 0xd3);
	out(k, DATA, 0x5a);
	assert_int_equal(in(k, COMMAND) & 0x21, 0x01);
	assert_int_equal(in(k, DATA), 0x5a);
	assert_int_equal(ask(k, 0xa9), 0x01);
	assert_int_equal(ask(k, 0xaa), 0x55);
	assert_int_equal(ask(k, 0xab), 0x00);
	assert_int_equal(ask(k, 0xd0) & 0x03, 0x03);
	out(k, COMMAND, 0xa8);
	assert_int_equal(ask(k, 0x20) & 0x20, 0);
	out(k, COMMAND, 0xa7);
	assert_int_equal(ask(k, 0x20) & 0x20, 0x20);
	out(k, COMMAND, 0xad);
	assert_int_equal(ask(k, 0x20) & 0x10, 0x10);
	out(k, COMMAND, 0xae);
	assert_int_equal(ask(k, 0x20) & 0x10, 0);
	assert_int_equal(ask(k, 0xc0), 0);
	assert_int_equal(edges(k), 0);
	assert_int_equal(k->resets, 0);
}

/* atkbd_probe() and atkbd_activate(): every byte is acknowledged by interrupt. */
static void test_linux_keyboard_probe(void **state)
{
	struct keyboard *k = *state;
	static const struct {
		uint8_t command, answer[3];
		size_t n;
	} steps[] = {
		{ 0xf2, { 0xfa, 0xab, 0x83 }, 3 }, { 0xf5, { 0xfa }, 1 }, { 0xed, { 0xfa }, 1 }, { 0x00, { 0xfa }, 1 },
		{ 0xf3, { 0xfa }, 1 }, { 0x00, { 0xfa }, 1 }, { 0xf0, { 0xfa }, 1 }, { 0x00, { 0xfa, 0x02 }, 2 },
		{ 0xf0, { 0xfa }, 1 }, { 0x02, { 0xfa }, 1 }, { 0xf4, { 0xfa }, 1 }, { 0xff, { 0xfa, 0xaa }, 2 },
		{ 0xf6, { 0xfa }, 1 }, { 0xee, { 0xee }, 1 }, { 0x12, { 0xfa }, 1 },
	};
	uint8_t got[I8042_BUFFER_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		out(k, DATA, steps[i].command);
		assert_int_equal(by_interrupt(k, got, sizeof(got)), steps[i].n);
		assert_memory_equal(got, steps[i].answer, steps[i].n);
	}
	assert_false(has_data(k));
}

static void test_ctrl_alt_del(void **state)
{
	struct keyboard *k = *state;
	static const uint8_t keys[] = { 0x14, 0x11, 0xe0, 0x71 }, translated[] = { 0x1d, 0x38, 0xe0, 0x53 };
	struct err e = { 0 };
	uint8_t got[I8042_BUFFER_MAX];

	assert_int_equal(i8042_send_ctrl_alt_del(k->dev, &e), 0);
	assert_int_equal(by_interrupt(k, got, sizeof(got)), 4);
	assert_memory_equal(got, keys, 4);
	out(k, COMMAND, 0x60);
	out(k, DATA, 0x45);
	assert_int_equal(i8042_send_ctrl_alt_del(k->dev, &e), 0);
	assert_int_equal(by_interrupt(k, got, sizeof(got)), 4);
	assert_memory_equal(got, translated, 4);
}

/* Keys wait while the guest has the keyboard off or its interrupt masked; four fit, the fifth press is refused. */
static void test_keys_wait(void **state)
{
	struct keyboard *k = *state;
	struct err e = { 0 };
	uint8_t got[I8042_BUFFER_MAX];

	out(k, COMMAND, 0x60);
	out(k, DATA, 0x14);
	for (int i = 0; i < 4; i++)
		assert_int_equal(i8042_send_ctrl_alt_del(k->dev, &e), 0);
	assert_int_equal(i8042_send_ctrl_alt_del(k->dev, &e), -ENOSPC);
	assert_string_equal(e.msg, "i8042 internal buffer full.");
	assert_int_equal(edges(k), 0);
	assert_false(has_data(k));
	assert_int_equal(in(k, DATA), 0);
	out(k, COMMAND, 0xae);
	assert_true(has_data(k));
	assert_int_equal(edges(k), 0);
	/* An answer of the controller goes before the keys. */
	assert_int_equal(ask(k, 0xaa), 0x55);
	out(k, COMMAND, 0x60);
	out(k, DATA, 0x05);
	assert_int_equal(by_interrupt(k, got, sizeof(got)), 16);
	assert_int_equal(got[15], 0x71);
	assert_int_equal(i8042_send_ctrl_alt_del(k->dev, &e), 0);
}

static void test_overflow_and_sizes(void **state)
{
	struct keyboard *k = *state;
	struct i8042_stats stats;
	uint8_t word[4] = { 0xfe, 0xfe, 0xfe, 0xfe };

	for (int i = 0; i < 1000; i++)
		out(k, DATA, 0xf2);
	i8042_bus_ops.write(k->dev, COMMAND, word, 4);
	i8042_bus_ops.write(k->dev, 1, word, 1);
	i8042_bus_ops.read(k->dev, COMMAND, word, 4);
	assert_int_equal(word[0] | word[1] | word[2] | word[3], 0);
	i8042_get_stats(k->dev, &stats);
	assert_int_equal(stats.error_count, 995);
	assert_int_equal(stats.missed_write_count, 2);
	assert_int_equal(stats.missed_read_count, 1);
	assert_int_equal(k->resets, 0);
	for (int i = 0; i < 15; i++)
		assert_int_equal(in(k, DATA), i % 3 == 0 ? 0xfa : i % 3 == 1 ? 0xab : 0x83);
	assert_false(has_data(k));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
		cmocka_unit_test_setup_teardown(test_linux_controller_probe, setup, teardown),
		cmocka_unit_test_setup_teardown(test_linux_keyboard_probe, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ctrl_alt_del, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keys_wait, setup, teardown),
		cmocka_unit_test_setup_teardown(test_overflow_and_sizes, setup, teardown),
	};

	return cmocka_run_group_tests_name("i8042", tests, NULL, NULL);
}
