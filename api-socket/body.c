/* SPDX-License-Identifier: Apache-2.0 */
#include "api-socket/body.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"

#define ECHO_MAX 200 /* bytes of a client's text that a message repeats */

/* One parse: the text, and where its fault goes. */
struct reader {
	const struct json_text *text;
	struct body_fault *fault;
};

static char first_of(const struct reader *r, struct json_span span)
{
	return r->text->data[span.start];
}

int body_fault_at(struct body_fault *fault, const struct json_text *text, size_t at, const char *fmt, ...)
{
	size_t line, column, len, room = sizeof(fault->msg) - 64;
	va_list ap;
	int n;

	json_position(text, at, &line, &column);
	va_start(ap, fmt);
	n = vsnprintf(fault->msg, room, fmt, ap);
	va_end(ap);
	len = n < 0 ? 0 : strlen(fault->msg);
	fault->field[0] = '\0';
	(void)snprintf(fault->msg + len, sizeof(fault->msg) - len, " at line %zu column %zu", line, column);
	return -EINVAL;
}

/* Length of the start of @s that a message repeats: cut between characters. */
static int echo_len(const char *s, size_t len)
{
	if (len <= ECHO_MAX)
		return (int)len;
	len = ECHO_MAX;
	while (len > 0 && ((unsigned char)s[len] & 0xc0) == 0x80)
		len--;
	return (int)len;
}

/*
 * What serde calls the value at @span: kind and, for scalars, content. Strings and numbers appear as they were
 * written.
 */
static void describe(const struct json_text *text, struct json_span span, char *buf, size_t cap)
{
	const char *s = text->data + span.start;
	size_t len = span.end - span.start;
	int echo = echo_len(s, len);

	switch (*s) {
	case '"':
		(void)snprintf(buf, cap, (size_t)echo < len ? "string %.*s\"" : "string %.*s", echo, s);
		break;
	case '{':
		(void)snprintf(buf, cap, "map");
		break;
	case '[':
		(void)snprintf(buf, cap, "sequence");
		break;
	case 't':
	case 'f':
		(void)snprintf(buf, cap, "boolean `%.*s`", echo, s);
		break;
	case 'n':
		(void)snprintf(buf, cap, "null");
		break;
	default:
		(void)snprintf(buf, cap, "%s `%.*s`",
			memchr(s, '.', len) || memchr(s, 'e', len) || memchr(s, 'E', len) ? "floating point"
											  : "integer",
			echo, s);
		break;
	}
}

int body_fault_type(struct body_fault *fault, const struct json_text *text, struct json_span span, const char *expected)
{
	char what[ECHO_MAX + 32];
	char first = text->data[span.start];

	describe(text, span, what, sizeof(what));
	/* serde's cursor: behind a scalar, but still before a container. */
	return body_fault_at(fault, text, first == '{' || first == '[' ? span.start : span.end,
		"invalid type: %s, expected %s", what, expected);
}

/* ``expected `a` or `b` ``, ``expected one of `a`, `b`, `c` `` */
static void list_expected(char *buf, size_t cap, const char *const *name, size_t n)
{
	size_t len = (size_t)snprintf(buf, cap, n > 2 ? "expected one of " : "expected ");

	for (size_t i = 0; i < n && len < cap; i++) {
		const char *before = i == 0 ? "" : n == 2 ? " or " : ", ";

		len += (size_t)snprintf(buf + len, cap - len, "%s`%s`", before, name[i]);
	}
}

#define LIST_MAX 16

static int fault_unknown_field(struct reader *r, enum config_table table, const char *name, size_t at)
{
	const char *known[LIST_MAX];
	char list[400];
	size_t n;
	const struct config_field *field = config_fields(table, &n);

	must(n <= LIST_MAX);
	for (size_t i = 0; i < n; i++)
		known[i] = field[i].name;
	list_expected(list, sizeof(list), known, n);
	return body_fault_at(
		r->fault, r->text, at, "unknown field `%.*s`, %s", echo_len(name, strlen(name)), name, list);
}

static int fault_unknown_variant(struct reader *r, enum config_names names, const char *name, size_t at)
{
	const char *known[LIST_MAX];
	char list[200];
	uint32_t value;
	size_t n = 0;

	while (n < LIST_MAX && (known[n] = config_name(names, n, &value)))
		n++;
	list_expected(list, sizeof(list), known, n);
	return body_fault_at(
		r->fault, r->text, at, "unknown variant `%.*s`, %s", echo_len(name, strlen(name)), name, list);
}

/* The integer at @span, up to @max; @type is its name in messages. */
static int parse_unsigned(struct reader *r, struct json_span span, uint64_t max, const char *type, uint64_t *out)
{
	const char *s = r->text->data + span.start;
	size_t len = span.end - span.start, i = 0;
	uint64_t v = 0;
	bool fits = true;

	if (*s != '-' && (*s < '0' || *s > '9'))
		return body_fault_type(r->fault, r->text, span, type);
	if (*s == '-')
		i++;
	for (; i < len && s[i] >= '0' && s[i] <= '9'; i++)
		fits = fits && !__builtin_mul_overflow(v, UINT64_C(10), &v) &&
		       !__builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v);
	if (i < len)
		return body_fault_type(r->fault, r->text, span, type);
	if (*s == '-' || !fits || v > max)
		return body_fault_at(r->fault, r->text, span.end, "invalid value: integer `%.*s`, expected %s",
			echo_len(s, len), s, type);
	*out = v;
	return 0;
}

static int parse_u64(struct reader *r, struct json_span span, const char *type, void *member)
{
	uint64_t v;
	int rc = parse_unsigned(r, span, UINT64_MAX, type, &v);

	if (!rc)
		memcpy(member, &v, sizeof(v));
	return rc;
}

static int parse_u8(struct reader *r, struct json_span span, void *member)
{
	uint64_t v;
	int rc = parse_unsigned(r, span, UINT8_MAX, "u8", &v);

	if (!rc)
		*(uint8_t *)member = (uint8_t)v;
	return rc;
}

static int parse_u16(struct reader *r, struct json_span span, void *member)
{
	uint64_t v;
	int rc = parse_unsigned(r, span, UINT16_MAX, "u16", &v);

	if (!rc)
		memcpy(member, &(uint16_t){(uint16_t)v}, sizeof(uint16_t));
	return rc;
}

static int parse_u32(struct reader *r, struct json_span span, void *member)
{
	uint64_t v;
	int rc = parse_unsigned(r, span, UINT32_MAX, "u32", &v);

	if (!rc)
		memcpy(member, &(uint32_t){(uint32_t)v}, sizeof(uint32_t));
	return rc;
}

static int parse_string(struct reader *r, struct json_span span, const char *type, void *member)
{
	char *copy;

	if (first_of(r, span) != '"')
		return body_fault_type(r->fault, r->text, span, type);
	copy = json_decode_string(r->text, span);
	if (!copy)
		return body_fault_at(r->fault, r->text, span.end, "out of memory");
	memcpy(member, &copy, sizeof(copy));
	return 0;
}

static int hex_digit(char ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	ch |= 0x20;
	return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

/* Six groups of two hexadecimal digits with colons between them. */
static bool decode_mac(const char *text, uint8_t mac[CONFIG_MAC_BYTES])
{
	for (size_t i = 0; i < CONFIG_MAC_BYTES; i++, text += 3) {
		int high = hex_digit(text[0]), low = high < 0 ? -1 : hex_digit(text[1]);

		if (low < 0 || text[2] != (i + 1 < CONFIG_MAC_BYTES ? ':' : '\0'))
			return false;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static int parse_mac(struct reader *r, struct json_span span, void *member)
{
	AUTO_FREE char *text = NULL;
	uint8_t mac[CONFIG_MAC_BYTES];
	char what[ECHO_MAX + 32];
	int rc = parse_string(r, span, "a string", &text);

	if (rc)
		return rc;
	if (!decode_mac(text, mac)) {
		describe(r->text, span, what, sizeof(what));
		return body_fault_at(r->fault, r->text, span.end,
				     "invalid value: %s, expected a MAC address like `06:00:ac:10:00:02`", what);
	}
	memcpy(member, mac, sizeof(mac));
	return 0;
}

static int parse_enum(struct reader *r, struct json_span span, enum config_names names, void *member)
{
	AUTO_FREE char *name = NULL;
	uint32_t v;
	int rc;

	/* serde looks for a quote here and names nothing else. */
	if (first_of(r, span) != '"')
		return body_fault_at(r->fault, r->text, span.start + 1, "expected value");
	rc = parse_string(r, span, "a string", &name);
	if (rc)
		return rc;
	if (!config_name_find(names, name, &v))
		return fault_unknown_variant(r, names, name, span.end);
	memcpy(member, &v, sizeof(v));
	return 0;
}

static int parse_bool(struct reader *r, struct json_span span, void *member)
{
	char first = first_of(r, span);

	if (first != 't' && first != 'f')
		return body_fault_type(r->fault, r->text, span, "a boolean");
	*(bool *)member = first == 't';
	return 0;
}

static int parse_object(struct reader *r, struct json_span span, enum config_table table, void *out);

static int parse_field(struct reader *r, const struct config_field *field, struct json_span span, void *member)
{
	switch ((enum config_kind)field->kind) {
	case FIELD_BOOL:
		return parse_bool(r, span, member);
	case FIELD_U8:
		return parse_u8(r, span, member);
	case FIELD_U16:
		return parse_u16(r, span, member);
	case FIELD_U32:
		return parse_u32(r, span, member);
	case FIELD_U64:
		return parse_u64(r, span, "u64", member);
	case FIELD_USIZE:
		return parse_u64(r, span, "usize", member);
	case FIELD_STRING:
		return parse_string(r, span, "a string", member);
	case FIELD_PATH:
		return parse_string(r, span, "path string", member);
	case FIELD_MAC:
		return parse_mac(r, span, member);
	case FIELD_ENUM:
		return parse_enum(r, span, field->detail, member);
	case FIELD_OBJECT:
		return parse_object(r, span, field->detail, member);
	}
	return -EINVAL;
}

/* The fault was found inside field @name: put that in front of what is inside it. */
static void fault_inside(struct body_fault *fault, const char *name)
{
	char inner[BODY_FIELD_MAX];

	(void)snprintf(inner, sizeof(inner), "%s", fault->field);
	(void)snprintf(fault->field, sizeof(fault->field), "%s%s%.*s", name, inner[0] ? "." : "",
		BODY_FIELD_MAX - (int)sizeof(((struct config_field *)0)->name) - 2, inner);
}

/* Which rows' keys were there, and which of them with a value other than null: a bit for each row. */
struct members {
	uint32_t seen, given;
};

/* One member: find its row, refuse what must not be there, store the value. */
static int parse_member(struct reader *r, enum config_table table, void *out, struct json_span key,
	struct json_span value, struct members *members)
{
	size_t n, i = 0;
	const struct config_field *field = config_fields(table, &n);
	AUTO_FREE char *name = json_decode_string(r->text, key);
	int rc;

	if (!name)
		return body_fault_at(r->fault, r->text, key.end, "out of memory");
	while (i < n && strcmp(field[i].name, name) != 0)
		i++;
	if (i == n && config_table_ignores_unknown(table)) {
		log_warn("Unknown field `%.*s` of %s is ignored.", echo_len(name, strlen(name)), name,
			config_table_name(table));
		return 0;
	}
	if (i == n)
		return fault_unknown_field(r, table, name, key.end);
	if (members->seen & 1u << i)
		return body_fault_at(r->fault, r->text, key.end, "duplicate field `%s`", name);
	members->seen |= 1u << i;
	if (first_of(r, value) == 'n' && field[i].flags & (FIELD_NULLABLE | FIELD_ONE_OF))
		return 0;
	members->given |= 1u << i;
	rc = parse_field(r, &field[i], value, (char *)out + field[i].offset);
	if (rc)
		fault_inside(r->fault, field[i].name);
	else if (field[i].given != FIELD_NO_FLAG)
		*(bool *)(void *)((char *)out + field[i].given) = true;
	return rc;
}

/* What is missing, or given in two ways, in the object that ends at @end. */
static int check_members(struct reader *r, enum config_table table, const struct members *members, size_t end)
{
	size_t n, n_given = 0, n_ways = 0;
	const struct config_field *field = config_fields(table, &n);
	const char *way[LIST_MAX];
	char list[200];

	for (size_t i = 0; i < n; i++) {
		if (field[i].flags & FIELD_REQUIRED && !(members->seen & 1u << i))
			return body_fault_at(r->fault, r->text, end, "missing field `%s`", field[i].name);
		if (field[i].flags & FIELD_ONE_OF) {
			n_given += (members->given & 1u << i) != 0;
			way[n_ways++] = field[i].name;
		}
	}
	if (n_ways == 0 || n_given == 1)
		return 0;
	if (n_given == 0) /* in the words for the way that every client knows, which is the first */
		return body_fault_at(r->fault, r->text, end, "missing field `%s`", way[0]);
	list_expected(list, sizeof(list), way, n_ways);
	return body_fault_at(r->fault, r->text, end, "too many fields: %s", list);
}

/* Recursion ends with the tables: an object row names a table of smaller objects. */
static int parse_object(struct reader *r, struct json_span span, enum config_table table, void *out)
{
	struct json_span key, value;
	struct members members = {0};
	size_t cursor = 0;

	if (first_of(r, span) != '{')
		return body_fault_type(r->fault, r->text, span, config_table_name(table));
	while (json_next_member(r->text, span, &cursor, &key, &value)) {
		int rc = parse_member(r, table, out, key, value, &members);

		if (rc)
			return rc;
	}
	return check_members(r, table, &members, span.end);
}

int body_parse_at(const struct json_text *text, struct json_span span, enum config_table table, void *out,
	struct body_fault *fault)
{
	struct reader r = {.text = text, .fault = fault};

	return parse_object(&r, span, table, out);
}

int body_parse(const char *text, size_t len, enum config_table table, void *out, struct body_fault *fault)
{
	struct json_text t = {.data = text, .len = len};
	struct json_fault syntax;

	if (!json_check(&t, &syntax))
		return body_fault_at(fault, &t, syntax.at, "%s", syntax.what);
	return body_parse_at(&t, json_root(&t), table, out, fault);
}
