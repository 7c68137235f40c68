/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON text: syntax errors in serde's words with their position, a walk over members that knows where each one is, and
 * an output buffer. Values are decoded by jansson; it has no positions, and this is all that is added to it.
 *
 * Trust: the text is hostile. Nothing here recurses; nesting is bounded by JSON_DEPTH_MAX.
 * Threads: none of its own; json_prepare() once before the first json_load().
 * Use: json_load(text) -> json_members/json_elements on spans of the same text -> json_decref.
 */
#ifndef MAYFLY_API_JSON_H
#define MAYFLY_API_JSON_H

#include <jansson.h>
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

/*
 * Check @text, then decode it. Returns an owned value, or NULL and *@fault. Integers beyond int64 become reals: read
 * integers from their span.
 */
json_t *json_load(const struct json_text *text, struct json_fault *fault) MUST_USE;

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

/* Decode the string token at @span, escapes and all. Returns an owned json string or NULL. */
json_t *json_decode_string(const struct json_text *text, struct json_span span) MUST_USE;

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

void json_out_init(struct json_out *out, char *buf, size_t cap);
void json_out_fini(struct json_out *out);
void json_put(struct json_out *out, const char *s, size_t len);
void json_put_text(struct json_out *out, const char *literal);
void json_put_u64(struct json_out *out, uint64_t v);
/* A JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. NULL: null. */
void json_put_string(struct json_out *out, const char *s);

#endif
