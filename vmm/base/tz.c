/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/tz.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "vmm/base/checked.h"

#define DAY_S 86400
#define HEADER_SIZE 44
#define TYPE_SIZE 6
#define RULE_MAX 128

/* Years for which the rule is written out. */
#define RULE_YEARS 12

/* ---- the calendar ------------------------------------------------------------------------------------------------ */

/* Years are counted from March here, so that the leap day is their last; an era has 400 of them, 146097 days. */
#define ERA_DAYS 146097
#define DAYS_TO_1970 719468 /* from 0000-03-01 */

int64_t tz_days_of(int64_t year, int month, int day)
{
	int64_t y = month > 2 ? year : year - 1;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t of_era = y - era * 400;
	int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

	return era * ERA_DAYS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - DAYS_TO_1970;
}

void tz_date_of(int64_t days, int64_t *year, int *month, int *day)
{
	int64_t shifted = days + DAYS_TO_1970;
	int64_t era = (shifted >= 0 ? shifted : shifted - (ERA_DAYS - 1)) / ERA_DAYS;
	int64_t of_era = shifted - era * ERA_DAYS;
	int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * y + y / 4 - y / 100);
	int64_t m = (5 * of_year + 2) / 153;

	*day = (int)(of_year - (153 * m + 2) / 5 + 1);
	*month = (int)(m < 10 ? m + 3 : m - 9);
	*year = y + era * 400 + (*month <= 2);
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

/* Add a change, in order of time: one that is past replaces what held until then. */
static void add_change(struct tz_table *table, int64_t now_s, int64_t from_s, int32_t offset_s)
{
	if (table->n == 0 || from_s <= now_s) {
		table->change[0] = (struct tz_change){ .from_s = from_s, .offset_s = offset_s };
		table->n = 1;
	} else if (table->n < TZ_MAX_CHANGES) {
		table->change[table->n++] = (struct tz_change){ .from_s = from_s, .offset_s = offset_s };
	}
}

int32_t tz_offset(const struct tz_table *table, int64_t now_s)
{
	int32_t offset_s = table->n > 0 ? table->change[0].offset_s : 0;

	for (size_t i = 1; i < table->n && table->change[i].from_s <= now_s; i++)
		offset_s = table->change[i].offset_s;
	return offset_s;
}

/* ---- the rule ---------------------------------------------------------------------------------------------------- */

enum date_kind { DATE_MONTH_WEEK_DAY, DATE_JULIAN, DATE_ZERO_BASED };

struct rule_date {
	enum date_kind kind;
	int month, week, day; /* of the week for the first kind, else of the year */
	int time_s;           /* local, from midnight; may be negative or above a day */
};

struct rule {
	int32_t std_s, dst_s; /* offsets from UTC */
	bool has_dst;
	struct rule_date start, end; /* of daylight saving time */
};

static bool take_number(const char **p, int max, int *out)
{
	int v = 0, digits = 0;

	for (; **p >= '0' && **p <= '9'; (*p)++) {
		v = v * 10 + (**p - '0');
		if (++digits > 3)
			return false;
	}
	*out = v;
	return digits > 0 && v <= max;
}

/* [+-]h[h[h]][:mm[:ss]] in seconds. */
static bool take_time(const char **p, int max_hours, int *out)
{
	bool minus = **p == '-';
	int h, m = 0, s = 0;

	if (**p == '-' || **p == '+')
		(*p)++;
	if (!take_number(p, max_hours, &h))
		return false;
	if (**p == ':') {
		(*p)++;
		if (!take_number(p, 59, &m))
			return false;
		if (**p == ':') {
			(*p)++;
			if (!take_number(p, 59, &s))
				return false;
		}
	}
	*out = (h * 60 + m) * 60 + s;
	if (minus)
		*out = -*out;
	return true;
}

/* A zone's name: letters, or anything in angle brackets. */
static bool take_name(const char **p)
{
	const char *start = *p;

	if (*start == '<') {
		const char *close = strchr(start, '>');

		if (!close)
			return false;
		*p = close + 1;
		return true;
	}
	while ((**p >= 'a' && **p <= 'z') || (**p >= 'A' && **p <= 'Z'))
		(*p)++;
	return *p - start >= 3;
}

/* ,Mm.w.d[/time]  ,Jn[/time]  ,n[/time] */
static bool take_date(const char **p, struct rule_date *out)
{
	if (**p != ',')
		return false;
	(*p)++;
	out->time_s = 2 * 3600;
	if (**p == 'M') {
		out->kind = DATE_MONTH_WEEK_DAY;
		(*p)++;
		if (!take_number(p, 12, &out->month) || out->month < 1 || *(*p)++ != '.')
			return false;
		if (!take_number(p, 5, &out->week) || out->week < 1 || *(*p)++ != '.')
			return false;
		if (!take_number(p, 6, &out->day))
			return false;
	} else {
		out->kind = **p == 'J' ? DATE_JULIAN : DATE_ZERO_BASED;
		if (**p == 'J')
			(*p)++;
		if (!take_number(p, 365, &out->day) || (out->kind == DATE_JULIAN && out->day < 1))
			return false;
	}
	if (**p != '/')
		return true;
	(*p)++;
	return take_time(p, 167, &out->time_s);
}

static bool parse_rule(const char *text, struct rule *out)
{
	int west_s;

	if (!take_name(&text) || !take_time(&text, 24, &west_s))
		return false;
	*out = (struct rule){ .std_s = -west_s };
	if (*text == '\0')
		return true;
	if (!take_name(&text))
		return false;
	out->has_dst = true;
	out->dst_s = out->std_s + 3600;
	if (*text != ',') {
		if (!take_time(&text, 24, &west_s))
			return false;
		out->dst_s = -west_s;
	}
	return take_date(&text, &out->start) && take_date(&text, &out->end) && *text == '\0';
}

/* Local seconds from 1970 of @date in @year. */
static int64_t date_in_year(const struct rule_date *date, int64_t year)
{
	int64_t new_year = tz_days_of(year, 1, 1), first, day;
	bool leap = tz_days_of(year, 3, 1) - tz_days_of(year, 2, 28) == 2;

	switch (date->kind) {
	case DATE_JULIAN: /* 29 February is never counted */
		day = new_year + date->day - 1 + (leap && date->day >= 60);
		return day * DAY_S + date->time_s;
	case DATE_ZERO_BASED:
		return (new_year + date->day) * DAY_S + date->time_s;
	case DATE_MONTH_WEEK_DAY:
		break;
	}
	/* The week's day in its first week; 1970-01-01 was day 4 of a week. Week 5 is the last of the month. */
	first = tz_days_of(year, date->month, 1);
	day = first + ((date->day - (first + 4)) % 7 + 7) % 7 + (date->week - 1) * 7;
	if (day >= tz_days_of(date->month == 12 ? year + 1 : year, date->month == 12 ? 1 : date->month + 1, 1))
		day -= 7;
	return day * DAY_S + date->time_s;
}

/* Write out the changes of @rule after @after_s around and after @now_s. */
static void add_rule(const struct rule *rule, int64_t after_s, int64_t now_s, struct tz_table *table)
{
	int64_t year;
	int month, day;

	if (!rule->has_dst) {
		if (table->n == 0)
			add_change(table, now_s, INT64_MIN, rule->std_s);
		return;
	}
	if (table->n == 0)
		add_change(table, now_s, INT64_MIN, rule->std_s);
	tz_date_of(now_s / DAY_S, &year, &month, &day);
	for (int64_t y = year - 1; y < year + RULE_YEARS; y++) {
		struct tz_change a = { date_in_year(&rule->start, y) - rule->std_s, rule->dst_s };
		struct tz_change b = { date_in_year(&rule->end, y) - rule->dst_s, rule->std_s };
		bool north = a.from_s < b.from_s;
		const struct tz_change *first = north ? &a : &b, *second = north ? &b : &a;

		if (first->from_s > after_s)
			add_change(table, now_s, first->from_s, first->offset_s);
		if (second->from_s > after_s)
			add_change(table, now_s, second->from_s, second->offset_s);
	}
}

int tz_parse_rule(const char *text, int64_t now_s, struct tz_table *out)
{
	struct rule rule;

	if (now_s < 0 || now_s > INT64_C(1) << 40 || !parse_rule(text, &rule))
		return -EINVAL;
	*out = (struct tz_table){ 0 };
	add_rule(&rule, INT64_MIN, now_s, out);
	return 0;
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* One of the file's one or two data blocks. */
struct block {
	uint64_t n_times, n_types;
	uint32_t time_size; /* bytes of a time: 4 in the first block, 8 in the second */
	const uint8_t *times, *kinds, *types, *end;
};

static bool read_block(const uint8_t *data, size_t size, uint32_t time_size, struct block *out)
{
	uint64_t n_utc, n_std, n_leaps, n_chars, len;

	if (size < HEADER_SIZE || memcmp(data, "TZif", 4) != 0)
		return false;
	n_utc = be32(data + 20);
	n_std = be32(data + 24);
	n_leaps = be32(data + 28);
	out->n_times = be32(data + 32);
	out->n_types = be32(data + 36);
	n_chars = be32(data + 40);
	out->time_size = time_size;
	/* Sums of 32-bit counts times small sizes: no overflow in 64 bits. */
	len = out->n_times * (time_size + 1) + out->n_types * TYPE_SIZE + n_chars + n_leaps * (time_size + 4) + n_std + n_utc;
	if (!range_within(HEADER_SIZE, len, size) || out->n_types == 0)
		return false;
	out->times = data + HEADER_SIZE;
	out->kinds = out->times + out->n_times * time_size;
	out->types = out->kinds + out->n_times;
	out->end = data + HEADER_SIZE + len;
	return true;
}

static int64_t block_time(const struct block *block, uint64_t i)
{
	const uint8_t *p = block->times + i * block->time_size;

	if (block->time_size == 4)
		return (int32_t)be32(p);
	return (int64_t)((uint64_t)be32(p) << 32 | be32(p + 4));
}

static bool block_changes(const struct block *block, int64_t now_s, struct tz_table *table, int64_t *last_s)
{
	if (block->n_times > 0)
		add_change(table, now_s, INT64_MIN, (int32_t)be32(block->types));
	for (uint64_t i = 0; i < block->n_times; i++) {
		int64_t from_s = block_time(block, i);

		if (block->kinds[i] >= block->n_types || (i > 0 && from_s <= *last_s))
			return false;
		add_change(table, now_s, from_s, (int32_t)be32(block->types + block->kinds[i] * TYPE_SIZE));
		*last_s = from_s;
	}
	return true;
}

/* The file's last line, between two line feeds. */
static bool footer_rule(const uint8_t *p, const uint8_t *end, struct rule *rule)
{
	char text[RULE_MAX];
	const uint8_t *line_end;
	size_t len;

	if (p >= end || *p != '\n')
		return false;
	p++;
	line_end = memchr(p, '\n', (size_t)(end - p));
	len = line_end ? (size_t)(line_end - p) : RULE_MAX;
	if (len >= RULE_MAX)
		return false;
	memcpy(text, p, len);
	text[len] = '\0';
	return parse_rule(text, rule);
}

int tz_parse_file(const uint8_t *data, size_t size, int64_t now_s, struct tz_table *out)
{
	struct tz_table table = { 0 };
	const uint8_t *end = data + size;
	int64_t last_s = INT64_MIN;
	struct block block;
	struct rule rule;

	if (now_s < 0 || now_s > INT64_C(1) << 40 || !read_block(data, size, 4, &block))
		return -EINVAL;
	if (data[4] >= '2' && !read_block(block.end, (size_t)(end - block.end), 8, &block))
		return -EINVAL;
	if (!block_changes(&block, now_s, &table, &last_s))
		return -EINVAL;
	if (block.time_size == 8 && footer_rule(block.end, end, &rule))
		add_rule(&rule, last_s, now_s, &table);
	if (table.n == 0)
		add_change(&table, now_s, INT64_MIN, (int32_t)be32(block.types));
	*out = table;
	return 0;
}
