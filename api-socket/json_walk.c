/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks over texts that json_check accepted, so nothing is checked twice: a string ends at the next quote that is not
 * escaped, a container where its brackets are even, anything else before the next of `,]}` or whitespace.
 */
#include <jansson.h>
#include <string.h>

#include "api-socket/json.h"

static size_t skip_space(const struct json_text *text, size_t at)
{
	while (at < text->len && memchr(" \n\t\r", text->data[at], 4))
		at++;
	return at;
}

static size_t string_end(const struct json_text *text, size_t at)
{
	for (at++; at < text->len && text->data[at] != '"'; at++) {
		if (text->data[at] == '\\')
			at++;
	}
	return at < text->len ? at + 1 : text->len;
}

static size_t container_end(const struct json_text *text, size_t at)
{
	size_t depth = 0;

	while (at < text->len) {
		char ch = text->data[at];

		if (ch == '"') {
			at = string_end(text, at);
			continue;
		}
		at++;
		if (ch == '{' || ch == '[')
			depth++;
		else if ((ch == '}' || ch == ']') && --depth == 0)
			break;
	}
	return at;
}

static size_t value_end(const struct json_text *text, size_t at)
{
	if (at >= text->len)
		return at;
	if (text->data[at] == '"')
		return string_end(text, at);
	if (text->data[at] == '{' || text->data[at] == '[')
		return container_end(text, at);
	while (at < text->len && !memchr(",]} \n\t\r", text->data[at], 7))
		at++;
	return at;
}

struct json_span json_root(const struct json_text *text)
{
	struct json_span span;

	span.start = skip_space(text, 0);
	span.end = value_end(text, span.start);
	return span;
}

/* To the first byte of the next member or element; false at the closing bracket. */
static bool next_item(const struct json_text *text, struct json_span container, size_t *cursor)
{
	size_t at = *cursor ? *cursor : container.start + 1;

	at = skip_space(text, at);
	if (*cursor && at < container.end && text->data[at] == ',')
		at = skip_space(text, at + 1);
	*cursor = at;
	return at + 1 < container.end;
}

bool json_next_member(const struct json_text *text, struct json_span object, size_t *cursor, struct json_span *key,
	struct json_span *value)
{
	if (!next_item(text, object, cursor))
		return false;
	key->start = *cursor;
	key->end = string_end(text, key->start);
	value->start = skip_space(text, skip_space(text, key->end) + 1); /* over the colon */
	value->end = value_end(text, value->start);
	*cursor = value->end;
	return true;
}

bool json_next_element(const struct json_text *text, struct json_span array, size_t *cursor, struct json_span *value)
{
	if (!next_item(text, array, cursor))
		return false;
	value->start = *cursor;
	value->end = value_end(text, value->start);
	*cursor = value->end;
	return true;
}

char *json_decode_string(const struct json_text *text, struct json_span span)
{
	json_t *value = json_loadb(text->data + span.start, span.end - span.start, JSON_DECODE_ANY, NULL);
	char *copy = json_is_string(value) ? strdup(json_string_value(value)) : NULL;

	json_decref(value);
	return copy;
}
