/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time zones, against libc: every zone of a list, years ahead of the moment of reading; and files and rules that are wrong.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/tz.h"

#define DAY INT64_C(86400)

static const char *const zones[] = {
	"UTC", "Europe/Berlin", "America/New_York", "Australia/Sydney", "Asia/Kolkata", "America/Sao_Paulo", "Europe/Dublin",
	"Africa/Casablanca", "Pacific/Chatham", "America/Nuuk", "Asia/Tehran", "Antarctica/Troll", "Asia/Kathmandu",
	"Pacific/Kiritimati", "America/St_Johns", "Africa/Abidjan", "Atlantic/Azores", "Australia/Lord_Howe",
};

static size_t read_zone(const char *zone, uint8_t *data, size_t max)
{
	char path[200];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/usr/share/zoneinfo/%s", zone);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, data, max);
	(void)close(fd);
	return n > 0 ? (size_t)n : 0;
}

static int32_t libc_offset(int64_t t)
{
	time_t when = (time_t)t;
	struct tm tm;

	assert_non_null(localtime_r(&when, &tm));
	return (int32_t)tm.tm_gmtoff;
}

static void compare(const struct tz_table *table, int64_t from, int64_t until, const char *what)
{
	for (int64_t t = from; t < until; t += 7 * 3600) {
		if (tz_offset(table, t) != libc_offset(t)) {
			print_error("%s at %lld: %d, libc says %d\n", what, (long long)t, tz_offset(table, t), libc_offset(t));
			fail();
		}
	}
}

/* Reading moments: files list the years up to 2037, the rule at their end gives the rest (2045). */
static void test_zones(void **state)
{
	static const int64_t moments[] = { 1000000000, 1700000000, 1793000000, 2130000000, 2370000000 };
	uint8_t data[8192];
	size_t found = 0;

	(void)state;
	for (size_t z = 0; z < ARRAY_SIZE(zones); z++) {
		size_t size = read_zone(zones[z], data, sizeof(data));
		struct tz_table table;

		if (size == 0)
			continue;
		found++;
		(void)setenv("TZ", zones[z], 1);
		tzset();
		for (size_t m = 0; m < ARRAY_SIZE(moments); m++) {
			assert_int_equal(tz_parse_file(data, size, moments[m], &table), 0);
			assert_in_range(table.n, 1, TZ_MAX_CHANGES);
			compare(&table, moments[m], moments[m] + 5 * 365 * DAY, zones[z]);
		}
	}
	if (found == 0)
		skip();
}

static void test_rules(void **state)
{
	static const char *const rules[] = {
		"CET-1CEST,M3.5.0,M10.5.0/3", "EST5EDT,M3.2.0,M11.1.0", "AEST-10AEDT,M10.1.0,M4.1.0/3", "IST-5:30", "<+0545>-5:45",
		"IST-1GMT0,M10.5.0,M3.5.0/1", "<-02>2<-01>,M3.5.0/-1,M10.5.0/0", "XST3XDT,J60,J300/4", "YST-3YDT,59,300",
		"<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
	};
	static const int64_t moments[] = { 0, 951800000, 1793000000, 4000000000 };

	(void)state;
	for (size_t r = 0; r < ARRAY_SIZE(rules); r++) {
		(void)setenv("TZ", rules[r], 1);
		tzset();
		for (size_t m = 0; m < ARRAY_SIZE(moments); m++) {
			struct tz_table table;

			assert_int_equal(tz_parse_rule(rules[r], moments[m], &table), 0);
			compare(&table, moments[m], moments[m] + 9 * 365 * DAY, rules[r]);
		}
	}
}

static void test_bad_rules(void **state)
{
	static const char *const bad[] = {
		"", "UTC", "EST5EDT", "AB3", "<+01", "CET-1CEST,M3.5.0", "CET-1CEST,M13.5.0,M10.5.0", "CET-1CEST,M3.6.0,M10.5.0",
		"CET-1CEST,M3.5.7,M10.5.0", "CET-25", "CET-1CEST,M3.5.0,M10.5.0x", "CET-1CEST,J0,J5", "CET-1CEST,366,5", "CET-1:60",
		"CET-9999999999999", "CET-1CEST,M3.5.0/168,M10.5.0", "CET-1CEST,,",
	};
	struct tz_table table;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(tz_parse_rule(bad[i], 1793000000, &table), -EINVAL);
	assert_int_equal(tz_parse_rule("CET-1", -1, &table), -EINVAL);
	assert_int_equal(tz_parse_rule("CET-1", INT64_MAX, &table), -EINVAL);
}

/* Every prefix of a file, and the file with each byte changed: refused or read, never beyond its end (run under ASan). */
static void test_bad_files(void **state)
{
	uint8_t data[8192], *copy;
	size_t size = read_zone("Europe/Berlin", data, sizeof(data));
	struct tz_table table;

	(void)state;
	if (size == 0)
		skip();
	for (size_t len = 0; len < size; len += len < 100 ? 1 : 13) {
		copy = malloc(len + 1);
		assert_non_null(copy);
		memcpy(copy, data, len);
		assert_in_range(-tz_parse_file(copy, len, 1793000000, &table), 0, EINVAL);
		free(copy);
	}
	copy = malloc(size);
	assert_non_null(copy);
	for (size_t i = 0; i < size; i++) {
		memcpy(copy, data, size);
		copy[i] = 0xff;
		assert_in_range(-tz_parse_file(copy, size, 1793000000, &table), 0, EINVAL);
	}
	free(copy);
	assert_int_equal(tz_parse_file(data, 43, 0, &table), -EINVAL);
	assert_int_equal(tz_parse_file((const uint8_t *)"root:x:0:0:root:/root:/bin/bash and more text here", 50, 0, &table),
			 -EINVAL);
}

static void test_calendar(void **state)
{
	(void)state;
	for (int64_t days = -800000; days < 800000; days += 17) {
		int64_t year;
		int month, day;

		tz_date_of(days, &year, &month, &day);
		assert_in_range(month, 1, 12);
		assert_in_range(day, 1, 31);
		assert_true(tz_days_of(year, month, day) == days);
	}
	assert_int_equal(tz_days_of(1970, 1, 1), 0);
	assert_int_equal(tz_days_of(2000, 2, 29), 11016);
}

static void test_empty_is_utc(void **state)
{
	struct tz_table table = { 0 };

	(void)state;
	assert_int_equal(tz_offset(&table, 1793000000), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_zones), cmocka_unit_test(test_rules), cmocka_unit_test(test_bad_rules),
		cmocka_unit_test(test_bad_files), cmocka_unit_test(test_calendar), cmocka_unit_test(test_empty_is_utc),
	};

	return cmocka_run_group_tests_name("tz", tests, NULL, NULL);
}
