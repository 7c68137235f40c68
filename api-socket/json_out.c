/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api-socket/json.h"

/* Length of the UTF-8 sequence at @s, of which @len bytes are left; 0: it is not one (RFC 3629, table of section 4). */
static size_t utf8_sequence(const unsigned char *s, size_t len)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t n;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		n = 2;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		n = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		n = 4;
	else
		return 0;
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	if (n > len || s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	return n;
}

bool json_is_utf8(const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s;

	for (size_t i = 0; i < len;) {
		size_t n = utf8_sequence(p + i, len - i);

		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

void json_out_init(struct json_out *out, char *buf, size_t cap)
{
	*out = (struct json_out){.data = buf, .cap = cap};
}

void json_out_fini(struct json_out *out)
{
	free(out->heap);
	*out = (struct json_out){.failed = true};
}

/* Make room for @more bytes. */
static bool reserve(struct json_out *out, size_t more)
{
	size_t cap = out->cap ? out->cap : 256;
	char *bigger;

	if (out->failed)
		return false;
	if (more <= out->cap - out->len)
		return true;
	while (cap < JSON_OUT_MAX && cap - out->len < more)
		cap *= 2;
	bigger = cap - out->len < more ? NULL : realloc(out->heap, cap);
	if (!bigger) {
		out->failed = true;
		return false;
	}
	if (!out->heap && out->len)
		memcpy(bigger, out->data, out->len);
	out->heap = bigger;
	out->data = bigger;
	out->cap = cap;
	return true;
}

void json_put(struct json_out *out, const char *s, size_t len)
{
	if (!len || !reserve(out, len))
		return;
	memcpy(out->data + out->len, s, len);
	out->len += len;
}

void json_put_text(struct json_out *out, const char *text)
{
	json_put(out, text, strlen(text));
}

void json_put_u64(struct json_out *out, uint64_t v)
{
	char buf[24];

	json_put(out, buf, (size_t)snprintf(buf, sizeof(buf), "%" PRIu64, v));
}

/* The escaped form of the byte @ch into @buf; 0: it needs none. */
static size_t escape(unsigned char ch, char buf[8])
{
	static const char plain[] = "\"\\\b\f\n\r\t", short_form[] = "\"\\bfnrt";
	const char *at = ch ? strchr(plain, ch) : NULL;

	if (at) {
		buf[0] = '\\';
		buf[1] = short_form[at - plain];
		return 2;
	}
	if (ch < 0x20)
		return (size_t)snprintf(buf, 8, "\\u%04x", ch);
	return 0;
}

void json_put_escaped(struct json_out *out, const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t from = 0, i = 0;

	while (i < len) {
		size_t n = utf8_sequence(p + i, len - i), esc = 0;
		char buf[8];

		if (n == 1)
			esc = escape(p[i], buf);
		if (n != 0 && esc == 0) {
			i += n;
			continue;
		}
		json_put(out, s + from, i - from);
		if (n == 0)
			json_put_text(out, "\xef\xbf\xbd");
		else
			json_put(out, buf, esc);
		from = ++i;
	}
	json_put(out, s + from, len - from);
}

void json_put_string(struct json_out *out, const char *s)
{
	if (!s) {
		json_put_text(out, "null");
		return;
	}
	json_put_text(out, "\"");
	json_put_escaped(out, s, strlen(s));
	json_put_text(out, "\"");
}
