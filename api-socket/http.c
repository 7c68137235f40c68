/* SPDX-License-Identifier: Apache-2.0 */
#include "api-socket/http.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api-socket/http_line.h"

#define ECHO_MAX 200 /* bytes of a client's line that a fault repeats */
#define BODY_FIRST_CAP 1024
#define CHUNKED "Transfer-Encoding: chunked"

static int echo(struct slice v)
{
	return (int)(v.len < ECHO_MAX ? v.len : ECHO_MAX);
}

/* Refuse the present request, once: later faults of the same request follow from the first. */
static void refuse(struct http_parser *p, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void refuse(struct http_parser *p, const char *fmt, ...)
{
	va_list ap;

	if (p->refused)
		return;
	p->refused = true;
	p->pending = HTTP_EVENT_FAULT;
	p->body_len = 0;
	va_start(ap, fmt);
	(void)vsnprintf(p->fault, sizeof(p->fault), fmt, ap);
	va_end(ap);
}

static void refuse_size(struct http_parser *p, uint64_t size)
{
	refuse(p, "Request payload with size %" PRIu64 " is larger than the limit of %zu allowed by server.", size,
		p->limit);
}

/* ---- llhttp's callbacks ------------------------------------------------------------------------------------------ */

/* Append to the body; the capacity doubles with what has really arrived, up to the limit. */
static void body_append(struct http_parser *p, const char *data, size_t len)
{
	if (p->refused)
		return;
	if (len > p->limit - p->body_len) {
		refuse_size(p, (uint64_t)p->body_len + len);
		return;
	}
	if (p->body_len + len + 1 > p->body_cap) {
		size_t cap = p->body_cap ? p->body_cap : BODY_FIRST_CAP;
		char *bigger;

		while (cap < p->body_len + len + 1)
			cap *= 2;
		if (cap > p->limit + 1)
			cap = p->limit + 1;
		bigger = realloc(p->body, cap);
		if (!bigger) {
			refuse(p, "Invalid request.");
			return;
		}
		p->body = bigger;
		p->body_cap = cap;
	}
	memcpy(p->body + p->body_len, data, len);
	p->body_len += len;
	p->body[p->body_len] = '\0';
}

static int on_body(llhttp_t *ll, const char *at, size_t len)
{
	body_append(ll->data, at, len);
	return 0;
}

static int on_chunk_header(llhttp_t *ll)
{
	struct http_parser *p = ll->data;
	uint64_t size;

	if (__builtin_add_overflow(p->body_len, ll->content_length, &size))
		size = UINT64_MAX;
	if (size > p->limit)
		refuse_size(p, size);
	return 0;
}

static int on_headers_complete(llhttp_t *ll)
{
	struct http_parser *p = ll->data;

	p->state = HTTP_IN_BODY;
	return 0;
}

static int on_message_complete(llhttp_t *ll)
{
	struct http_parser *p = ll->data;

	p->done = true;
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
	.on_body = on_body,
	.on_chunk_header = on_chunk_header,
	.on_headers_complete = on_headers_complete,
	.on_message_complete = on_message_complete,
};

/* Give bytes to llhttp. Returns how many it consumed; *@ok: it found nothing wrong. */
static size_t llhttp_give(struct http_parser *p, const char *data, size_t len, bool *ok)
{
	llhttp_errno_t rc = llhttp_execute(&p->llhttp, data, len);
	const char *stop = llhttp_get_error_pos(&p->llhttp);

	*ok = rc == HPE_OK || (rc == HPE_PAUSED && p->done);
	if (rc == HPE_OK || !stop || stop < data || stop > data + len)
		return len;
	return (size_t)(stop - data);
}

/* Give one line without its end; for what is checked already or written here. */
static bool llhttp_give_line(struct http_parser *p, struct slice line)
{
	bool ok = true;

	if (line.len)
		(void)llhttp_give(p, line.s, line.len, &ok);
	if (ok)
		(void)llhttp_give(p, "\r\n", 2, &ok);
	return ok;
}

/*
 * Begin a message in llhttp with a request line of our own (what it thinks of targets, and of the connection's end
 * after HTTP/1.0, differs from the contract) and with the framing that is known so far: after an error it takes
 * nothing more.
 */
static void start_llhttp(struct http_parser *p)
{
	char length[48];

	llhttp_init(&p->llhttp, HTTP_REQUEST, &settings);
	p->llhttp.data = p;
	must(llhttp_give_line(p, (struct slice){"PUT / HTTP/1.1", 14}));
	if (p->chunked)
		must(llhttp_give_line(p, (struct slice){CHUNKED, sizeof(CHUNKED) - 1}));
	if (p->has_length) {
		int n = snprintf(length, sizeof(length), "Content-Length: %" PRIu64, p->announced);

		must(llhttp_give_line(p, (struct slice){length, (size_t)n}));
	}
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */

static void reset_request(struct http_parser *p)
{
	p->state = HTTP_IN_REQUEST_LINE;
	p->refused = p->expect = p->chunked = p->has_length = p->done = false;
	p->body_len = 0;
	p->announced = 0;
	free(p->body);
	p->body = NULL;
	p->body_cap = 0;
}

/* Begin the request of @line. If it is no request line, the headers and the body behind it are still followed. */
static void begin_request(struct http_parser *p, struct slice line)
{
	struct http_request_line parsed = {.verb = HTTP_VERB_GET, .path = {"", 0}};
	const char *fault = http_request_line(line, &parsed);

	reset_request(p);
	p->state = HTTP_IN_HEADERS;
	p->verb = parsed.verb;
	memcpy(p->path, parsed.path.s, parsed.path.len);
	p->path[parsed.path.len] = '\0';
	start_llhttp(p);
	if (fault)
		refuse(p, "%s", fault);
}

/* ---- header lines ------------------------------------------------------------------------------------------------ */

static void refuse_value(struct http_parser *p, struct slice name, struct slice value)
{
	refuse(p, "Invalid header. Reason: Invalid value. Key:%.*s; Value:%.*s", echo(name), name.s, echo(value),
		value.s);
}

/* A refused length is followed as well, so that the body behind it is not taken for a request. */
static void header_content_length(struct http_parser *p, struct slice name, struct slice value)
{
	uint64_t n;

	if (!http_content_length(slice_trim(value), &n) || p->chunked || (p->has_length && n != p->announced)) {
		refuse_value(p, name, value);
		return;
	}
	if (n > p->limit)
		refuse_size(p, n);
	if (p->has_length)
		return;
	p->has_length = true;
	p->announced = n;
	start_llhttp(p);
}

static void header_transfer_encoding(struct http_parser *p, struct slice name, struct slice value)
{
	if (!http_ends_with_chunked(value) || p->chunked)
		return;
	/* Two framings of one body are how requests are smuggled; nobody sends both in good faith. */
	if (p->has_length) {
		refuse_value(p, name, value);
		return;
	}
	p->chunked = true;
	start_llhttp(p);
}

/* Refused only where the client excludes plain bytes, the one encoding there is. */
static void header_accept_encoding(struct http_parser *p, struct slice name, struct slice value)
{
	struct slice rest = slice_trim(value), token;
	bool more = true, names_identity = memmem(rest.s, rest.len, "identity", 8) != NULL;

	if (rest.len == 0)
		refuse(p, "Invalid request.");
	while (more) {
		more = slice_cut(&rest, ',', &token);
		if (!more)
			token = rest;
		if (slice_is(slice_trim(token), "identity;q=0") ||
			(slice_is(slice_trim(token), "*;q=0") && !names_identity))
			refuse_value(p, name, token);
	}
}

/* What a header means here. Returns whether llhttp has to see it: not where its framing or its meaning is not ours. */
static bool judge_header(struct http_parser *p, struct slice name, struct slice value)
{
	if (slice_is_fold(name, "Content-Length")) {
		header_content_length(p, name, value);
		return false;
	}
	if (slice_is_fold(name, "Transfer-Encoding")) {
		header_transfer_encoding(p, name, value);
		return false;
	}
	if (slice_is_fold(name, "Accept-Encoding"))
		header_accept_encoding(p, name, value);
	if (slice_is_fold(name, "Expect"))
		p->expect = p->expect || slice_is(slice_trim(value), "100-continue");
	/* The connection stays open and stays HTTP, whatever the client says (CONTRACT.md 1.1). */
	return !slice_is_fold(name, "Connection") && !slice_is_fold(name, "Proxy-Connection") &&
	       !slice_is_fold(name, "Upgrade");
}

static void take_header(struct http_parser *p, struct slice line)
{
	struct slice value = line, name;

	if (!slice_cut(&value, ':', &name) || !http_is_token(name)) {
		refuse(p, "Invalid header. Reason: Header is incorrectly formatted. Key: %.*s", echo(line), line.s);
		return;
	}
	if (judge_header(p, name, value) && !llhttp_give_line(p, line)) {
		refuse_value(p, name, value);
		start_llhttp(p);
	}
}

/* ---- lines to requests ------------------------------------------------------------------------------------------- */

/* The empty line behind the headers. */
static void end_headers(struct http_parser *p)
{
	/* The client that waits for a 100 and gets a 400 does not send its body. */
	if (p->refused && p->expect) {
		reset_request(p);
		p->state = HTTP_IN_RESYNC;
		p->refused = true;
		return;
	}
	if (!llhttp_give_line(p, (struct slice){"", 0})) {
		refuse(p, "Invalid request.");
		p->state = HTTP_IN_RESYNC;
		return;
	}
	if (p->state == HTTP_IN_BODY && !p->done && p->expect)
		p->pending = HTTP_EVENT_CONTINUE;
}

static void take_line(struct http_parser *p, struct slice line)
{
	struct http_request_line ignored;

	switch (p->state) {
	case HTTP_IN_REQUEST_LINE:
		if (line.len) /* RFC 9112 2.2: an empty line before a request is not one */
			begin_request(p, line);
		break;
	case HTTP_IN_HEADERS:
		if (p->refused && !http_request_line(line, &ignored))
			begin_request(p, line);
		else if (line.len)
			take_header(p, line);
		else
			end_headers(p);
		break;
	case HTTP_IN_RESYNC:
		if (!http_request_line(line, &ignored))
			begin_request(p, line);
		break;
	case HTTP_IN_BODY:
		break;
	}
}

static void refuse_long_line(struct http_parser *p)
{
	struct slice line = {p->line, p->line_len};

	if (p->state == HTTP_IN_HEADERS)
		refuse(p, "Invalid header. Reason: Invalid content length. Header: %.*s", echo(line), line.s);
	else if (p->state == HTTP_IN_REQUEST_LINE)
		begin_request(p, (struct slice){"", 0});
	p->skip_line = true;
	p->line_len = 0;
}

/* A line that LF ended, in p->line without the LF. */
static void end_line(struct http_parser *p)
{
	struct slice line = {p->line, p->line_len};

	p->line_len = 0;
	if (p->skip_line) {
		p->skip_line = false;
	} else if (line.len && line.s[line.len - 1] == '\r') {
		line.len--;
		take_line(p, line);
	} else if (p->state == HTTP_IN_HEADERS) {
		refuse(p, "Invalid header. Reason: Header is incorrectly formatted. Key: %.*s", echo(line), line.s);
		if (line.len == 0)
			end_headers(p); /* the end, in the wrong form */
	} else if (p->state == HTTP_IN_REQUEST_LINE && line.len) {
		begin_request(p, (struct slice){"", 0});
	}
}

/* Collect bytes up to and with the next LF. Returns how many were consumed. */
static size_t feed_line(struct http_parser *p, const char *data, size_t len)
{
	const char *lf = memchr(data, '\n', len);
	size_t n = lf ? (size_t)(lf - data) : len, room = HTTP_LINE_MAX - 1 - p->line_len;

	if (!p->skip_line && n > room) {
		memcpy(p->line + p->line_len, data, room);
		p->line_len += room;
		refuse_long_line(p);
		return room + (room == 0);
	}
	if (!p->skip_line) {
		memcpy(p->line + p->line_len, data, n);
		p->line_len += n;
	}
	if (!lf)
		return n;
	end_line(p);
	return n + 1;
}

static size_t feed_body(struct http_parser *p, const char *data, size_t len)
{
	bool ok;
	size_t n = llhttp_give(p, data, len, &ok);

	if (ok)
		return n;
	/* The framing is lost: from the line behind this one on, look for a request. */
	refuse(p, "Invalid request.");
	p->state = HTTP_IN_RESYNC;
	p->skip_line = true;
	return n < len ? n + feed_line(p, data + n, len - n) : n;
}

void http_parser_init(struct http_parser *p, size_t limit)
{
	p->limit = limit < UINT32_MAX ? limit : UINT32_MAX; /* Content-Length has 32 bits */
	p->line_len = 0;
	p->skip_line = false;
	p->pending = HTTP_EVENT_NONE;
	p->body = NULL;
	reset_request(p);
}

void http_parser_fini(struct http_parser *p)
{
	reset_request(p);
}

size_t http_parser_feed(struct http_parser *p, const char *data, size_t len, enum http_event *event)
{
	size_t used = 0;

	*event = HTTP_EVENT_NONE;
	while (used < len) {
		/* The request that was reported last is over; its memory goes with the first byte of the next one. */
		if (p->done)
			reset_request(p);
		if (p->state == HTTP_IN_BODY)
			used += feed_body(p, data + used, len - used);
		else
			used += feed_line(p, data + used, len - used);
		if (p->done && !p->refused)
			p->pending = HTTP_EVENT_REQUEST;
		if (p->pending != HTTP_EVENT_NONE) {
			*event = p->pending;
			p->pending = HTTP_EVENT_NONE;
			return used;
		}
	}
	return used;
}

struct http_msg http_parser_msg(const struct http_parser *p)
{
	return (struct http_msg){
		.verb = p->verb,
		.path = p->path,
		.body = p->body_len ? p->body : NULL,
		.body_len = p->body_len,
	};
}

const char *http_parser_fault(const struct http_parser *p)
{
	return p->fault;
}
