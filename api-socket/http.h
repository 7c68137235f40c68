/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 on the API socket: bytes in, one bounded request at a time out, and the exact bytes of a reply.
 *
 * The request line and the header lines are cut and judged here, because CONTRACT.md 1.2 and 1.4 fix which error comes
 * first and how it reads; every line that passes, and the body with its framing (Content-Length or chunked), then goes
 * through llhttp, with none of its lenient modes.
 *
 * A request that is refused is still followed to its end, headers and announced body, so that the next request on the
 * connection is read from its first byte (CONTRACT.md 20 point 3). If even the framing was broken, lines are skipped
 * until one is a request line.
 *
 * Trust: every byte is a client's. The parser is pure: no I/O, no time, no logging; heap only for the body.
 * Threads: one owner at a time (the I/O thread).
 * Use: http_parser_init, then http_parser_feed until the connection ends, then http_parser_fini.
 *
 * Invariants: (H1) a line is at most HTTP_LINE_MAX bytes with its CR LF; (H2) the body never holds more than the limit;
 * (H3) http_parser_feed consumes at least one byte unless it was given none; (H4) of one refused request, exactly one
 * HTTP_EVENT_FAULT and no HTTP_EVENT_REQUEST is reported.
 */
#ifndef MAYFLY_API_HTTP_H
#define MAYFLY_API_HTTP_H

#include <llhttp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

#define HTTP_LINE_MAX 1024
#define HTTP_FAULT_MAX 512
#define HTTP_HEAD_MAX 256
#define HTTP_PAYLOAD_DEFAULT 51200

enum http_verb { HTTP_VERB_GET, HTTP_VERB_PUT, HTTP_VERB_PATCH, HTTP_VERB_DELETE };

/* One complete request; borrowed from the parser until it is fed again. */
struct http_msg {
	enum http_verb verb;
	const char *path; /* absolute path of the target, "" for a target without one; UTF-8, no control bytes */
	const char *body; /* NULL: none (also when it was announced as empty); NUL-terminated behind its last byte */
	size_t body_len;
};

enum http_event {
	HTTP_EVENT_NONE,     /* all bytes consumed, nothing to do */
	HTTP_EVENT_REQUEST,  /* a request is complete: http_parser_msg() */
	HTTP_EVENT_CONTINUE, /* the client waits for the interim reply 100 */
	HTTP_EVENT_FAULT,    /* a request is refused: http_parser_fault() */
};

enum http_state { HTTP_IN_REQUEST_LINE, HTTP_IN_HEADERS, HTTP_IN_BODY, HTTP_IN_RESYNC };

/* Owner: one connection. Open only so that it can be embedded; private to http.c. */
struct http_parser {
	size_t limit;              /* bytes of body at most */
	enum http_state state;
	bool refused;              /* the fault was reported: follow the rest silently */
	bool skip_line;            /* drop bytes up to the next LF */
	bool expect, chunked, has_length, done;
	enum http_event pending;   /* reported with the byte that raised it */
	enum http_verb verb;
	size_t line_len, body_len, body_cap;
	uint64_t announced;        /* Content-Length */
	char *body;                /* owned; NULL: none */
	llhttp_t llhttp;
	char line[HTTP_LINE_MAX];
	char path[HTTP_LINE_MAX];
	char fault[HTTP_FAULT_MAX];
};

/* "GET", "PUT", "PATCH", "DELETE". */
const char *http_verb_name(enum http_verb verb);

/* Make @p ready for the first byte; bodies of more than @limit bytes are refused. */
void http_parser_init(struct http_parser *p, size_t limit);

/* Free what @p holds; idempotent. */
void http_parser_fini(struct http_parser *p);

/*
 * Feed @len bytes of @data. Stops behind the byte that completes an event and stores it in *@event.
 * Returns the number of bytes consumed; the caller acts on the event, then feeds the rest.
 */
size_t http_parser_feed(struct http_parser *p, const char *data, size_t len, enum http_event *event) MUST_USE;

/* The request of the HTTP_EVENT_REQUEST just reported. */
struct http_msg http_parser_msg(const struct http_parser *p);

/* Why the request of the HTTP_EVENT_FAULT just reported is refused: <reason> of CONTRACT.md 1.4, not JSON-escaped. */
const char *http_parser_fault(const struct http_parser *p);

/*
 * Write the head of a reply (CONTRACT.md 1.3) to @buf, HTTP_HEAD_MAX bytes, not terminated. @body_len < 0: a reply
 * without a body (100, 204), which has no Content-Type and no Content-Length. Returns the length.
 */
size_t http_format_head(char buf[HTTP_HEAD_MAX], int status, bool deprecated, long body_len) MUST_USE;

/*
 * Write the body of the 400 that answers HTTP_EVENT_FAULT to @buf of @cap bytes: @reason JSON-escaped, then the raw LF
 * of CONTRACT.md 1.4. Returns the length. @cap >= HTTP_FAULT_BODY_MAX always suffices.
 */
#define HTTP_FAULT_BODY_MAX (HTTP_FAULT_MAX * 6 + 128)
size_t http_format_fault(char *buf, size_t cap, const char *reason) MUST_USE;

/* The whole reply to a connection too many. */
const char *http_too_many_connections(size_t *len);

#endif
