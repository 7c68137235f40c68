/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line of an HTTP request head, judged by itself: slices of its bytes, the request line, and the header values that
 * decide about framing. For http.c only.
 *
 * Trust: the bytes are a client's. Pure. Threads: any.
 */
#ifndef MAYFLY_API_HTTP_LINE_H
#define MAYFLY_API_HTTP_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api-socket/http.h"
#include "vmm/base/cdefs.h"

/* A run of bytes, borrowed. */
struct slice {
	const char *s;
	size_t len;
};

/* Is @v the text @text? */
bool slice_is(struct slice v, const char *text);
bool slice_is_fold(struct slice v, const char *text); /* without regard to case */

/* @v without the spaces and tabs around it. */
struct slice slice_trim(struct slice v);

/* Cut *@rest at the first @sep: *@before is what is before it, *@rest what is behind it. False, unchanged: no @sep. */
bool slice_cut(struct slice *rest, char sep, struct slice *before);

struct http_request_line {
	enum http_verb verb;
	struct slice path; /* as in struct http_msg; inside the line */
};

/*
 * Parse the request line @line (without its end): method, target, version, in the order in which the contract's faults
 * take precedence. Returns NULL, or the fault, which has static storage; *@out is undefined then.
 */
const char *http_request_line(struct slice line, struct http_request_line *out) MUST_USE;

/* Is @name a header name as RFC 9110 5.1 has it? */
bool http_is_token(struct slice name);

/* An unsigned 32-bit decimal. */
bool http_content_length(struct slice v, uint64_t *out) MUST_USE;

/* Is `chunked` the last coding of the list @value? */
bool http_ends_with_chunked(struct slice value);

#endif
