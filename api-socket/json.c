/* SPDX-License-Identifier: Apache-2.0 */
#include "api-socket/json.h"

#include <string.h>

/*
 * The checker is a loop over one byte cursor with a bit per open container. It gives up at the first byte that no JSON
 * text could have there, with the words and the cursor that serde_json has at that byte: "peek" faults point behind the
 * offending byte that was not consumed, others stand where the cursor stopped.
 */
struct checker {
	const char *s;
	size_t len, at;
	struct json_fault *fault;
};

static bool fail_at(struct checker *c, const char *what, size_t at)
{
	c->fault->what = what;
	c->fault->at = at < c->len ? at : c->len;
	return false;
}

/* The byte at the cursor is wrong and not consumed. */
static bool fail_peek(struct checker *c, const char *what)
{
	return fail_at(c, what, c->at + 1);
}

static bool is_space(char ch)
{
	return ch == ' ' || ch == '\n' || ch == '\t' || ch == '\r';
}

static bool is_digit(char ch)
{
	return ch >= '0' && ch <= '9';
}

static bool at_end(const struct checker *c)
{
	return c->at == c->len;
}

static void skip_space(struct checker *c)
{
	while (!at_end(c) && is_space(c->s[c->at]))
		c->at++;
}

static bool check_word(struct checker *c, const char *word)
{
	for (; *word; word++) {
		if (at_end(c))
			return fail_at(c, "EOF while parsing a value", c->at);
		if (c->s[c->at++] != *word)
			return fail_at(c, "expected ident", c->at);
	}
	return true;
}

static bool check_digits(struct checker *c)
{
	if (at_end(c))
		return fail_at(c, "EOF while parsing a value", c->at);
	if (!is_digit(c->s[c->at]))
		return fail_peek(c, "invalid number");
	while (!at_end(c) && is_digit(c->s[c->at]))
		c->at++;
	return true;
}

static bool check_number(struct checker *c)
{
	if (c->s[c->at] == '-')
		c->at++;
	if (!at_end(c) && c->s[c->at] == '0') {
		c->at++;
		if (!at_end(c) && is_digit(c->s[c->at]))
			return fail_peek(c, "invalid number");
	} else if (!check_digits(c)) {
		return false;
	}
	if (!at_end(c) && c->s[c->at] == '.') {
		c->at++;
		if (!check_digits(c))
			return false;
	}
	if (!at_end(c) && (c->s[c->at] == 'e' || c->s[c->at] == 'E')) {
		c->at++;
		if (!at_end(c) && (c->s[c->at] == '+' || c->s[c->at] == '-'))
			c->at++;
		return check_digits(c);
	}
	return true;
}

static int hex_value(char ch)
{
	if (is_digit(ch))
		return ch - '0';
	if (ch >= 'a' && ch <= 'f')
		return ch - 'a' + 10;
	if (ch >= 'A' && ch <= 'F')
		return ch - 'A' + 10;
	return -1;
}

static bool check_hex4(struct checker *c, unsigned *out)
{
	*out = 0;
	for (int i = 0; i < 4; i++) {
		if (at_end(c))
			return fail_at(c, "EOF while parsing a string", c->at);
		if (hex_value(c->s[c->at]) < 0)
			return fail_at(c, "invalid escape", c->at + 1);
		*out = *out << 4 | (unsigned)hex_value(c->s[c->at++]);
	}
	return true;
}

/* Behind "\u". Surrogates come in pairs; a NUL has no place in any string of this API. */
static bool check_unicode_escape(struct checker *c)
{
	unsigned unit;

	if (!check_hex4(c, &unit))
		return false;
	if (unit == 0)
		return fail_at(c, "NUL character in a string", c->at);
	if (unit >= 0xdc00 && unit <= 0xdfff)
		return fail_at(c, "lone leading surrogate in hex escape", c->at);
	if (unit < 0xd800 || unit > 0xdbff)
		return true;
	if (c->len - c->at < 2 || c->s[c->at] != '\\' || c->s[c->at + 1] != 'u')
		return fail_at(c, "unexpected end of hex escape", c->at + 1);
	c->at += 2;
	if (!check_hex4(c, &unit))
		return false;
	if (unit < 0xdc00 || unit > 0xdfff)
		return fail_at(c, "lone leading surrogate in hex escape", c->at);
	return true;
}

static bool check_string(struct checker *c)
{
	size_t start = ++c->at;

	for (;;) {
		char ch;

		if (at_end(c))
			return fail_at(c, "EOF while parsing a string", c->at);
		ch = c->s[c->at++];
		if (ch == '"')
			break;
		if ((unsigned char)ch < 0x20)
			return fail_at(c, "control character (\\u0000-\\u001F) found while parsing a string", c->at);
		if (ch != '\\')
			continue;
		if (at_end(c))
			return fail_at(c, "EOF while parsing a string", c->at);
		ch = c->s[c->at++];
		if (ch == 'u') {
			if (!check_unicode_escape(c))
				return false;
		} else if (!ch || !strchr("\"\\/bfnrt", ch)) {
			return fail_at(c, "invalid escape", c->at);
		}
	}
	if (!json_is_utf8(c->s + start, c->at - 1 - start))
		return fail_at(c, "invalid unicode code point", c->at);
	return true;
}

static bool check_scalar(struct checker *c)
{
	char ch = c->s[c->at];

	if (ch == '"')
		return check_string(c);
	if (ch == '-' || is_digit(ch))
		return check_number(c);
	if (ch == 't')
		return check_word(c, "true");
	if (ch == 'f')
		return check_word(c, "false");
	if (ch == 'n')
		return check_word(c, "null");
	return fail_peek(c, "expected value");
}

/* The cursor is at the first byte of a key, or at what stands in its place. Leaves it behind the colon. */
static bool check_key(struct checker *c)
{
	if (at_end(c))
		return fail_at(c, "EOF while parsing a value", c->at);
	if (c->s[c->at] != '"')
		return fail_peek(c, c->s[c->at] == '}' ? "trailing comma" : "key must be a string");
	if (!check_string(c))
		return false;
	skip_space(c);
	if (at_end(c))
		return fail_at(c, "EOF while parsing an object", c->at);
	if (c->s[c->at] != ':')
		return fail_peek(c, "expected `:`");
	c->at++;
	return true;
}

/* The containers that are open, innermost last: a bit for each, set for an object. */
struct nesting {
	uint64_t bits[JSON_DEPTH_MAX / 64];
	unsigned depth;
};

static bool in_object(const struct nesting *n)
{
	return n->bits[(n->depth - 1) / 64] >> ((n->depth - 1) % 64) & 1;
}

static void enter(struct nesting *n, bool object)
{
	uint64_t bit = UINT64_C(1) << (n->depth % 64);

	if (object)
		n->bits[n->depth / 64] |= bit;
	else
		n->bits[n->depth / 64] &= ~bit;
	n->depth++;
}

/* Behind a value: close containers and pass the comma before the next value. *@more: there is a next one. */
static bool check_after_value(struct checker *c, struct nesting *n, bool *more)
{
	while (n->depth > 0) {
		bool object = in_object(n);

		skip_space(c);
		if (at_end(c))
			return fail_at(c, object ? "EOF while parsing an object" : "EOF while parsing a list", c->at);
		if (c->s[c->at] == ',') {
			c->at++;
			skip_space(c);
			*more = true;
			if (object)
				return check_key(c);
			if (!at_end(c) && c->s[c->at] == ']')
				return fail_peek(c, "trailing comma");
			return true;
		}
		if (c->s[c->at] != (object ? '}' : ']'))
			return fail_peek(c, object ? "expected `,` or `}`" : "expected `,` or `]`");
		c->at++;
		n->depth--;
	}
	*more = false;
	return true;
}

/* At a bracket: open the container, up to its first value if it has one. *@empty: it has none and is closed again. */
static bool check_open(struct checker *c, struct nesting *n, bool *empty)
{
	bool object = c->s[c->at] == '{';

	if (n->depth == JSON_DEPTH_MAX)
		return fail_peek(c, "recursion limit exceeded");
	c->at++;
	skip_space(c);
	if (at_end(c))
		return fail_at(c, object ? "EOF while parsing an object" : "EOF while parsing a list", c->at);
	*empty = c->s[c->at] == (object ? '}' : ']');
	if (*empty) {
		c->at++;
		return true;
	}
	enter(n, object);
	return !object || check_key(c);
}

bool json_check(const struct json_text *text, struct json_fault *fault)
{
	struct checker c = {.s = text->data, .len = text->len, .fault = fault};
	struct nesting n = {.depth = 0};
	bool more = true;

	while (more) {
		bool whole = true;

		skip_space(&c);
		if (at_end(&c))
			return fail_at(&c, "EOF while parsing a value", c.at);
		if (c.s[c.at] == '{' || c.s[c.at] == '[') {
			if (!check_open(&c, &n, &whole))
				return false;
		} else if (!check_scalar(&c)) {
			return false;
		}
		if (whole && !check_after_value(&c, &n, &more))
			return false;
	}
	skip_space(&c);
	return at_end(&c) || fail_peek(&c, "trailing characters");
}

void json_position(const struct json_text *text, size_t at, size_t *line, size_t *column)
{
	size_t line_start = 0, n = 1;

	if (at > text->len)
		at = text->len;
	for (size_t i = 0; i < at; i++) {
		if (text->data[i] == '\n') {
			n++;
			line_start = i + 1;
		}
	}
	*line = n;
	*column = at - line_start;
}
