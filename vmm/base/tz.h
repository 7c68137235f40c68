/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local time for the log, without libc's tzset(): that takes locks and allocates, a signal handler must do neither.
 *
 * A time zone file (TZif, RFC 8536) is read once and boiled down to the changes of the UTC offset around now and in the next
 * years, so that a log line of next spring knows of daylight saving when no file can be opened any more.
 *
 * Trust: the file is the operator's, but may be any bytes (a jail holds a copy): every count is checked against its size.
 *
 * Threads: pure functions.
 */
#ifndef MAYFLY_BASE_TZ_H
#define MAYFLY_BASE_TZ_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

#define TZ_MAX_CHANGES 24

struct tz_change {
	int64_t from_s;   /* Unix time */
	int32_t offset_s; /* local time minus UTC */
};

/* In order of time; the first holds since ever. Zero-initialised: UTC. */
struct tz_table {
	size_t n;
	struct tz_change change[TZ_MAX_CHANGES];
};

/*
 * Fill @out from the @size bytes of a time zone file: the offset at @now_s and the changes after it. 0, or -EINVAL when it is
 * no such file.
 */
int tz_parse_file(const uint8_t *data, size_t size, int64_t now_s, struct tz_table *out) MUST_USE;

/* The same from a rule as the TZ variable and the file's last line have it, for example "CET-1CEST,M3.5.0,M10.5.0/3". */
int tz_parse_rule(const char *rule, int64_t now_s, struct tz_table *out) MUST_USE;

/* Local time minus UTC, in seconds, at @now_s. */
int32_t tz_offset(const struct tz_table *table, int64_t now_s);

/* Days from 1970-01-01 to day @day (1 to 31) of month @month (1 to 12) of @year, and back. */
int64_t tz_days_of(int64_t year, int month, int day);
void tz_date_of(int64_t days, int64_t *year, int *month, int *day);

#endif
