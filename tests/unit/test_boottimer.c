/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The boot timer logs its one line for the magic byte and nothing else.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/boottimer.h"

static void test_boot_time(void **state)
{
	struct timespec now;
	struct boottimer timer = { .start_cpu_us = 0 };
	uint8_t bytes[8] = { BOOTTIMER_MAGIC, 1, 1, 1, 1, 1, 1, 1 };
	char path[] = "/tmp/mayfly-boot-XXXXXX", text[4096], *at;
	unsigned long long us, ms, cpu_us, cpu_ms;
	int fd = mkstemp(path), lines = 0;
	struct err e;
	ssize_t n;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(log_open(path, &e), 0);
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	timer.start_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000 - 7000;

	boottimer_bus_ops.write(&timer, 1, bytes, 1);
	boottimer_bus_ops.write(&timer, 0, bytes, 4);
	boottimer_bus_ops.write(&timer, 0, bytes + 1, 1);
	assert_int_equal(read(fd, text, sizeof(text)), 0);
	boottimer_bus_ops.read(&timer, 0, bytes + 1, 4);
	assert_int_equal(bytes[1] | bytes[2] | bytes[3] | bytes[4], 0);

	for (int i = 0; i < 100; i++)
		boottimer_bus_ops.write(&timer, 0, bytes, 1);
	n = read(fd, text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	at = strstr(text, "] Guest-boot-time = ");
	assert_non_null(at);
	assert_int_equal(sscanf(at, "] Guest-boot-time = %llu us %llu ms, %llu CPU us %llu CPU ms\n", &us, &ms, &cpu_us,
				&cpu_ms), 4);
	assert_in_range(us, 7000, 5000000);
	assert_int_equal(ms, us / 1000);
	assert_int_equal(cpu_ms, cpu_us / 1000);
	for (char *p = text; (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, 10); /* the limit of what a guest may log */
	(void)close(fd);
	(void)unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_boot_time) };

	return cmocka_run_group_tests_name("boottimer", tests, NULL, NULL);
}
