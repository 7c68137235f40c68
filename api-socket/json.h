/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON text: syntax errors in serde's words with their position, a walk over members that knows where each one is, and
 * an output buffer.
 *
 * jansson's trees have no positions and keep one of two equal keys, and both have to be reported (CONTRACT.md section
 * 2). So a text is checked as a whole and then walked in its own order; jansson decodes the tokens.
 *
 * Trust: the text is hostile. Nothing here recurses; nesting is bounded by JSON_DEPTH_MAX.
 * Threads: none of its own.
 * Use: json_check(text), then json_root, json_next_member, json_next_element, json_decode_string on that text only.
 */
#ifndef MAYFLY_API_JSON_H
#define MAYFLY_API_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

#define JSON_DEPTH_MAX 128

/* A text, not terminated. Spans are byte ranges [start, end) of it. */
struct json_text {
	const char *data;
	size_t len;
};

struct json_span {
	size_t start, end;
};

/* What is wrong with a text, and at which byte: `what` has static storage. */
struct json_fault {
	const char *what;
	size_t at;
};

/* Line (from 1) and column (bytes since the line began) of the cursor at byte @at, as serde counts. */
void json_position(const struct json_text *text, size_t at, size_t *line, size_t *column);

/* Is all of @text one JSON value? Returns false and *@fault if not. */
bool json_check(const struct json_text *text, struct json_fault *fault) MUST_USE;

/* The span of the one value in a text that json_check accepted, without the whitespace around it. */
struct json_span json_root(const struct json_text *text);

/*
 * Step through the members of the object at @object (of a text that json_check accepted). *@cursor starts as 0.
 * Writes the span of the key with its quotes and of the value. Returns false behind the last member.
 */
bool json_next_member(const struct json_text *text, struct json_span object, size_t *cursor, struct json_span *key,
		      struct json_span *value) MUST_USE;

/* The same for the elements of the array at @array. */
bool json_next_element(const struct json_text *text, struct json_span array, size_t *cursor,
		       struct json_span *value) MUST_USE;

/* Decode the string token at @span, escapes and all. Returns an owned text or NULL: no memory. */
char *json_decode_string(const struct json_text *text, struct json_span span) MUST_USE;

/* Is @s valid UTF-8? */
bool json_is_utf8(const char *s, size_t len) MUST_USE;

/* Growing output. Starts in the caller's buffer, moves to the heap when that is full, fails beyond JSON_OUT_MAX. */
#define JSON_OUT_MAX (16u << 20)
struct json_out {
	char *data;    /* not terminated */
	size_t len, cap;
	char *heap;    /* owned; NULL while the caller's buffer is enough */
	bool failed;   /* too long or no memory: the content is cut */
};

/* Begin in @buf of @cap bytes (borrowed); free what was moved to the heap. */
void json_out_init(struct json_out *out, char *buf, size_t cap);
void json_out_fini(struct json_out *out);

/* Append bytes, a terminated text, a number in decimal, all as they are. */
void json_put(struct json_out *out, const char *s, size_t len);
void json_put_text(struct json_out *out, const char *text);
void json_put_u64(struct json_out *out, uint64_t v);

/* @s escaped for the inside of a JSON string; bytes that are not UTF-8 become U+FFFD. */
void json_put_escaped(struct json_out *out, const char *s, size_t len);

/* A JSON string with its quotes. NULL: null. */
void json_put_string(struct json_out *out, const char *s);

#endif
