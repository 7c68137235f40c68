/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP parser against CONTRACT.md 1.1, 1.2 and 1.4. Every stream of bytes is fed whole and in pieces of 1, 2, 3
 * and 7 bytes; what it is understood as must not depend on that. A transcript has one line for each event.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api-socket/http.h"

#define TRANSCRIPT_MAX 8192

/* Append to the transcript @t. */
static void note(char *t, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void note(char *t, const char *fmt, ...)
{
	size_t len = strlen(t);
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(t + len, TRANSCRIPT_MAX - len, fmt, ap);
	va_end(ap);
}

static void note_event(char *t, const struct http_parser *p, enum http_event event)
{
	struct http_msg msg;

	switch (event) {
	case HTTP_EVENT_NONE:
		break;
	case HTTP_EVENT_REQUEST:
		msg = http_parser_msg(p);
		note(t, "%s %s", http_verb_name(msg.verb), msg.path);
		if (msg.body)
			note(t, " [%.*s]", (int)msg.body_len, msg.body);
		note(t, "\n");
		break;
	case HTTP_EVENT_CONTINUE:
		note(t, "100\n");
		break;
	case HTTP_EVENT_FAULT:
		note(t, "400 %s\n", http_parser_fault(p));
		break;
	}
}

/* Feed @len bytes of @bytes in pieces of @step and write the transcript to @t. */
static void feed(const char *bytes, size_t len, size_t step, size_t limit, char *t)
{
	struct http_parser p;

	t[0] = '\0';
	http_parser_init(&p, limit);
	for (size_t at = 0; at < len;) {
		size_t n = len - at < step ? len - at : step, used;
		enum http_event event;

		used = http_parser_feed(&p, bytes + at, n, &event);
		assert_true(used > 0 && used <= n);
		assert_true(event != HTTP_EVENT_NONE || used == n);
		assert_true(p.body_len <= limit);
		note_event(t, &p, event);
		at += used;
	}
	http_parser_fini(&p);
}

static void expect_bytes(const char *bytes, size_t len, size_t limit, const char *expected)
{
	static const size_t steps[] = {1, 2, 3, 7, SIZE_MAX};
	char *t = malloc(TRANSCRIPT_MAX);

	assert_non_null(t);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		feed(bytes, len, steps[i], limit, t);
		assert_string_equal(t, expected);
	}
	free(t);
}

static void expect(const char *bytes, const char *expected)
{
	expect_bytes(bytes, strlen(bytes), 250, expected);
}

#define CRLF "\r\n"
#define GET "GET / HTTP/1.1" CRLF CRLF

static void test_methods(void **state)
{
	(void)state;
	expect(GET, "GET /\n");
	expect("PUT /a HTTP/1.1" CRLF CRLF, "PUT /a\n");
	expect("PATCH /a HTTP/1.1" CRLF CRLF, "PATCH /a\n");
	expect("DELETE /a HTTP/1.1" CRLF CRLF, "DELETE /a\n");
	expect("GET / HTTP/1.0" CRLF CRLF, "GET /\n");
}

static void test_unsupported_methods(void **state)
{
	static const char *const methods[] = {"POST", "HEAD", "OPTIONS", "get", "Get", "CONNECT", "PRI", "TRACE", ""};
	char request[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
		(void)snprintf(request, sizeof(request), "%s / HTTP/1.1" CRLF CRLF GET, methods[i]);
		expect(request, "400 Invalid HTTP Method: Unsupported HTTP method.\nGET /\n");
	}
}

static void test_request_line_faults(void **state)
{
	(void)state;
	expect("hello" CRLF CRLF, "400 Invalid request.\n");
	expect("GET /" CRLF CRLF, "400 Invalid request.\n");
	expect("GET  HTTP/1.1" CRLF CRLF, "400 Invalid URI: Empty URI not allowed.\n");
	expect("GET \xff HTTP/1.1" CRLF CRLF, "400 Invalid URI: Cannot parse URI as UTF-8.\n");
	expect("GET /\x01 HTTP/1.1" CRLF CRLF, "400 Invalid request.\n");
	expect("GET / HTTP/2.0" CRLF CRLF, "400 Invalid HTTP Version: Unsupported HTTP version.\n");
	expect("GET / http/1.1" CRLF CRLF, "400 Invalid HTTP Version: Unsupported HTTP version.\n");
	expect("GET / HTTP/1.1 " CRLF CRLF, "400 Invalid HTTP Version: Unsupported HTTP version.\n");
	/* The method counts before the target, the target before the version. */
	expect("POST  HTTP/3" CRLF CRLF, "400 Invalid HTTP Method: Unsupported HTTP method.\n");
	expect("GET  HTTP/3" CRLF CRLF, "400 Invalid URI: Empty URI not allowed.\n");
	expect_bytes("GET /\0 HTTP/1.1\r\n\r\n", 19, 250, "400 Invalid request.\n");
}

static void test_targets(void **state)
{
	(void)state;
	expect("GET foo HTTP/1.1" CRLF CRLF, "GET \n");
	expect("GET http://localhost/vm/config HTTP/1.1" CRLF CRLF, "GET /vm/config\n");
	expect("GET http://localhost HTTP/1.1" CRLF CRLF, "GET \n");
	expect("GET http:// HTTP/1.1" CRLF CRLF, "GET \n");
	expect("GET http:///x HTTP/1.1" CRLF CRLF, "GET /x\n");
	expect("GET /a?b=c HTTP/1.1" CRLF CRLF, "GET /a?b=c\n");
	expect("GET /\xc3\xa4 HTTP/1.1" CRLF CRLF, "GET /\xc3\xa4\n");
	expect("GET * HTTP/1.1" CRLF CRLF, "GET \n");
}

static void test_line_length(void **state)
{
	char request[1200], expected[1200];
	size_t fits = HTTP_LINE_MAX - strlen("GET / HTTP/1.1" CRLF);

	(void)state;
	(void)snprintf(request, sizeof(request), "GET /%0*d HTTP/1.1" CRLF CRLF GET, (int)fits, 0);
	(void)snprintf(expected, sizeof(expected), "GET /%0*d\nGET /\n", (int)fits, 0);
	expect(request, expected);
	(void)snprintf(request, sizeof(request), "GET /%0*d HTTP/1.1" CRLF CRLF GET, (int)fits + 1, 0);
	expect(request, "400 Invalid request.\nGET /\n");

	fits = HTTP_LINE_MAX - strlen("A: " CRLF);
	(void)snprintf(request, sizeof(request), "GET / HTTP/1.1" CRLF "A: %0*d" CRLF CRLF GET, (int)fits, 0);
	expect(request, "GET /\nGET /\n");
	(void)snprintf(request, sizeof(request), "GET / HTTP/1.1" CRLF "A: %0*d" CRLF CRLF GET, (int)fits + 1, 0);
	(void)snprintf(expected, sizeof(expected),
		"400 Invalid header. Reason: Invalid content length. Header: A: %0197d\nGET /\n", 0);
	expect(request, expected);
}

static void test_line_without_end_is_bounded(void **state)
{
	char big[5000];

	(void)state;
	memset(big, 'x', sizeof(big));
	expect_bytes(big, sizeof(big), 250, "400 Invalid request.\n");
}

static void test_bodies(void **state)
{
	(void)state;
	expect("PUT /a HTTP/1.1" CRLF "Content-Length: 5" CRLF CRLF "hello" GET, "PUT /a [hello]\nGET /\n");
	expect("PUT /a HTTP/1.1" CRLF "content-length:5" CRLF CRLF "hello", "PUT /a [hello]\n");
	expect("GET /a HTTP/1.1" CRLF "CONTENT-LENGTH:  5  " CRLF CRLF "hello", "GET /a [hello]\n");
	expect("PUT /a HTTP/1.1" CRLF "Content-Length: 0" CRLF CRLF GET, "PUT /a\nGET /\n");
	expect("PUT /a HTTP/1.1" CRLF "Content-Length: 00000000005" CRLF CRLF "hello", "PUT /a [hello]\n");
	expect("PUT /a HTTP/1.1" CRLF "Content-Length: 2" CRLF "Content-Length: 2" CRLF CRLF "{}", "PUT /a [{}]\n");
	expect("DELETE /a HTTP/1.1" CRLF "Content-Length: 1" CRLF CRLF "x", "DELETE /a [x]\n");
}

static void test_content_length_faults(void **state)
{
	static const char *const values[] = {
		" alpha", " -1", " 4294967296", " 99999999999999999999", " 1.5", " 0x5", "", " +5", " 5 5", " 5,5"};
	char request[128], expected[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		(void)snprintf(
			request, sizeof(request), "PUT / HTTP/1.1" CRLF "Content-Length:%s" CRLF CRLF GET, values[i]);
		(void)snprintf(expected, sizeof(expected),
			"400 Invalid header. Reason: Invalid value. Key:Content-Length; Value:%s\nGET /\n", values[i]);
		expect(request, expected);
	}
	expect("PUT / HTTP/1.1" CRLF "Content-Length: 5" CRLF "Content-Length: 6" CRLF CRLF "hello" GET,
		"400 Invalid header. Reason: Invalid value. Key:Content-Length; Value: 6\nGET /\n");
	/* Within 32 bits it is a size, and the size is what is wrong. */
	expect("PUT / HTTP/1.1" CRLF "Content-Length: 4294967295" CRLF,
		"400 Request payload with size 4294967295 is larger than the limit of 250 allowed by server.\n");
}

static void test_payload_limit(void **state)
{
	char request[700], body[300];

	(void)state;
	memset(body, 'b', sizeof(body));
	(void)snprintf(
		request, sizeof(request), "PUT / HTTP/1.1" CRLF "Content-Length: 260" CRLF CRLF "%.260s" GET, body);
	expect(request,
		"400 Request payload with size 260 is larger than the limit of 250 allowed by server.\nGET /\n");
	(void)snprintf(
		request, sizeof(request), "PUT / HTTP/1.1" CRLF "Content-Length: 250" CRLF CRLF "%.250s" GET, body);
	assert_non_null(memmem(request, strlen(request), GET, strlen(GET)));
	(void)snprintf(body + 250, 50, "]\nGET /\n");
	{
		char expected[400];

		(void)snprintf(expected, sizeof(expected), "PUT / [%s", body);
		expect(request, expected);
	}
}

static void test_fault_is_reported_before_the_body(void **state)
{
	/* The reply must not wait for bytes that a client may never send. */
	(void)state;
	expect("PUT / HTTP/1.1" CRLF "Content-Length: 251" CRLF,
		"400 Request payload with size 251 is larger than the limit of 250 allowed by server.\n");
	expect("BREW / HTTP/1.1" CRLF, "400 Invalid HTTP Method: Unsupported HTTP method.\n");
}

static void test_header_faults(void **state)
{
	(void)state;
	expect("GET / HTTP/1.1" CRLF "nonsense" CRLF CRLF GET,
		"400 Invalid header. Reason: Header is incorrectly formatted. Key: nonsense\nGET /\n");
	expect("GET / HTTP/1.1" CRLF ": x" CRLF CRLF GET,
		"400 Invalid header. Reason: Header is incorrectly formatted. Key: : x\nGET /\n");
	expect("GET / HTTP/1.1" CRLF "Content-Length : 5" CRLF CRLF GET,
		"400 Invalid header. Reason: Header is incorrectly formatted. Key: Content-Length : 5\nGET /\n");
	expect("GET / HTTP/1.1" CRLF "A: b" CRLF " folded" CRLF CRLF GET,
		"400 Invalid header. Reason: Header is incorrectly formatted. Key:  folded\nGET /\n");
	expect("PUT / HTTP/1.1" CRLF "A: \x01" CRLF "Content-Length: 2" CRLF CRLF "{}" GET,
		"400 Invalid header. Reason: Invalid value. Key:A; Value: \x01\nGET /\n");
	expect("PUT / HTTP/1.1" CRLF "Content-Length: 2" CRLF "A: \x01" CRLF CRLF "{}" GET,
		"400 Invalid header. Reason: Invalid value. Key:A; Value: \x01\nGET /\n");
	/* Only the first fault of a request is told. */
	expect("BREW / HTTP/1.1" CRLF "nonsense" CRLF "Content-Length: x" CRLF CRLF GET,
		"400 Invalid HTTP Method: Unsupported HTTP method.\nGET /\n");
}

static void test_bare_line_feeds(void **state)
{
	(void)state;
	expect("GET / HTTP/1.1\n\n" GET, "400 Invalid request.\nGET /\n");
	expect("GET / HTTP/1.1" CRLF "A: b\n" CRLF GET,
		"400 Invalid header. Reason: Header is incorrectly formatted. Key: A: b\nGET /\n");
	expect("GET / HTTP/1.1" CRLF "A: b\rc" CRLF CRLF GET,
		"400 Invalid header. Reason: Invalid value. Key:A; Value: b\rc\nGET /\n");
	expect(CRLF GET, "GET /\n");
}

static void test_ignored_headers(void **state)
{
	(void)state;
	expect("GET / HTTP/1.1" CRLF "Connection: close" CRLF CRLF GET, "GET /\nGET /\n");
	expect("GET / HTTP/1.0" CRLF "Connection: close" CRLF CRLF GET, "GET /\nGET /\n");
	expect("GET / HTTP/1.1" CRLF "Connection: upgrade" CRLF "Upgrade: h2c" CRLF CRLF GET, "GET /\nGET /\n");
	expect("GET / HTTP/1.1" CRLF "Accept: */*" CRLF "Content-Type: text/xml" CRLF "Host: x" CRLF
	       "X-A: \xff" CRLF CRLF,
		"GET /\n");
	expect("PUT / HTTP/1.1" CRLF "Transfer-Encoding: identity" CRLF "Content-Length: 1" CRLF CRLF "x",
		"PUT / [x]\n");
	expect("PUT / HTTP/1.1" CRLF "Transfer-Encoding: gzip" CRLF "Content-Length: 1" CRLF CRLF "x", "PUT / [x]\n");
	expect("GET / HTTP/1.1" CRLF "Expect: nothing" CRLF CRLF, "GET /\n");
}

static void test_accept_encoding(void **state)
{
	(void)state;
	expect("GET / HTTP/1.1" CRLF "Accept-Encoding: gzip, deflate" CRLF CRLF, "GET /\n");
	expect("GET / HTTP/1.1" CRLF "Accept-Encoding: identity" CRLF CRLF, "GET /\n");
	expect("GET / HTTP/1.1" CRLF "Accept-Encoding: *;q=0, identity" CRLF CRLF, "GET /\n");
	expect("GET / HTTP/1.1" CRLF "Accept-Encoding: identity;q=0" CRLF CRLF GET,
		"400 Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value:identity;q=0\nGET /\n");
	expect("GET / HTTP/1.1" CRLF "Accept-Encoding: *;q=0" CRLF CRLF,
		"400 Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value:*;q=0\n");
}

static void test_expect_continue(void **state)
{
	(void)state;
	expect("PUT / HTTP/1.1" CRLF "Expect: 100-continue" CRLF "Content-Length: 2" CRLF CRLF "{}",
		"100\nPUT / [{}]\n");
	expect("PUT / HTTP/1.1" CRLF "Content-Length: 2" CRLF "expect:100-continue" CRLF CRLF "{}",
		"100\nPUT / [{}]\n");
	expect("PUT / HTTP/1.1" CRLF "Expect: 100-continue" CRLF "Content-Length: 0" CRLF CRLF, "PUT /\n");
	expect("GET / HTTP/1.1" CRLF "Expect: 100-continue" CRLF CRLF GET, "GET /\nGET /\n");
	/* A client that was refused does not send the body it asked about: the next bytes are a request. */
	expect("PUT / HTTP/1.1" CRLF "Content-Length: 251" CRLF "Expect: 100-continue" CRLF CRLF GET,
		"400 Request payload with size 251 is larger than the limit of 250 allowed by server.\nGET /\n");
}

#define CHUNKED "PUT /c HTTP/1.1" CRLF "Transfer-Encoding: chunked" CRLF

static void test_chunked(void **state)
{
	(void)state;
	expect(CHUNKED CRLF "5" CRLF "hello" CRLF "0" CRLF CRLF GET, "PUT /c [hello]\nGET /\n");
	expect(CHUNKED CRLF "1;ext=\"a\"" CRLF "{" CRLF "001" CRLF "}" CRLF "0" CRLF "Trailer: x" CRLF CRLF GET,
		"PUT /c [{}]\nGET /\n");
	expect(CHUNKED CRLF "0" CRLF CRLF GET, "PUT /c\nGET /\n");
	expect("PUT /c HTTP/1.1" CRLF "TRANSFER-ENCODING: gzip, Chunked" CRLF CRLF "2" CRLF "ab" CRLF "0" CRLF CRLF,
		"PUT /c [ab]\n");
	expect(CHUNKED "Expect: 100-continue" CRLF CRLF "2" CRLF "ab" CRLF "0" CRLF CRLF, "100\nPUT /c [ab]\n");
}

static void test_chunked_limit(void **state)
{
	char request[900], x[300];

	(void)state;
	memset(x, 'x', sizeof(x));
	(void)snprintf(
		request, sizeof(request), CHUNKED CRLF "fa" CRLF "%.250s" CRLF "1" CRLF "y" CRLF "0" CRLF CRLF GET, x);
	expect(request,
		"400 Request payload with size 251 is larger than the limit of 250 allowed by server.\nGET /\n");
	(void)snprintf(request, sizeof(request), CHUNKED CRLF "fb" CRLF "%.251s" CRLF "0" CRLF CRLF GET, x);
	expect(request,
		"400 Request payload with size 251 is larger than the limit of 250 allowed by server.\nGET /\n");
	expect(CHUNKED CRLF "ffffffffffffffff" CRLF, "400 Request payload with size 18446744073709551615 is larger "
						     "than the limit of 250 allowed by server.\n");
}

static void test_chunked_faults(void **state)
{
	(void)state;
	/* Where the framing is broken, lines are skipped up to the next request line. */
	expect(CHUNKED CRLF "zz" CRLF "junk" CRLF GET, "400 Invalid request.\nGET /\n");
	expect(CHUNKED CRLF "10000000000000000" CRLF "x" CRLF GET, "400 Invalid request.\nGET /\n");
	expect(CHUNKED CRLF "2" CRLF "abc" CRLF GET, "400 Invalid request.\nGET /\n");
	expect(CHUNKED "Content-Length: 5" CRLF CRLF "0" CRLF CRLF GET,
		"400 Invalid header. Reason: Invalid value. Key:Content-Length; Value: 5\nGET /\n");
	expect("PUT / HTTP/1.1" CRLF "Content-Length: 3" CRLF "Transfer-Encoding: chunked" CRLF CRLF "abc" GET,
		"400 Invalid header. Reason: Invalid value. Key:Transfer-Encoding; Value: chunked\nGET /\n");
}

static void test_pipelining(void **state)
{
	(void)state;
	expect(GET "PUT /a HTTP/1.1" CRLF "Content-Length: 2" CRLF CRLF "{}" GET CRLF GET,
		"GET /\nPUT /a [{}]\nGET /\nGET /\n");
}

static void test_resync_at_a_request_line(void **state)
{
	/* A client that gives up on a request in the middle of its headers and starts a new one is understood. */
	(void)state;
	expect("BREW / HTTP/1.1" CRLF GET, "400 Invalid HTTP Method: Unsupported HTTP method.\nGET /\n");
	expect("GET / HTTP/1.1" CRLF "junk" CRLF "PUT /a HTTP/1.1" CRLF "Content-Length: 1" CRLF CRLF "x",
		"400 Invalid header. Reason: Header is incorrectly formatted. Key: junk\nPUT /a [x]\n");
}

static void expect_head(int status, bool deprecated, long body_len, const char *expected)
{
	char head[HTTP_HEAD_MAX];
	size_t len = http_format_head(head, status, deprecated, body_len);

	assert_int_equal(len, strlen(expected));
	assert_memory_equal(head, expected, len);
}

#define COMMON "Server: Firecracker API" CRLF "Connection: keep-alive" CRLF

static void test_reply_heads(void **state)
{
	(void)state;
	expect_head(204, false, -1, "HTTP/1.1 204 " CRLF COMMON CRLF);
	expect_head(100, false, -1, "HTTP/1.1 100 " CRLF COMMON CRLF);
	expect_head(200, false, 17,
		"HTTP/1.1 200 " CRLF COMMON "Content-Type: application/json" CRLF "Content-Length: 17" CRLF CRLF);
	expect_head(400, true, 0,
		"HTTP/1.1 400 " CRLF COMMON "Deprecation: true" CRLF "Content-Type: application/json" CRLF
		"Content-Length: 0" CRLF CRLF);
}

static void test_oversize_reply_bytes(void **state)
{
	static const struct {
		const char *reason;
		long len;
	} rows[] = {
		{"Request payload with size 260 is larger than the limit of 250 allowed by server.", 145},
		{"Request payload with size 51201 is larger than the limit of 51200 allowed by server.", 149},
	};
	char body[HTTP_FAULT_BODY_MAX], expected[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t len = http_format_fault(body, sizeof(body), rows[i].reason);

		(void)snprintf(expected, sizeof(expected),
			"{ \"error\": \"%s\nAll previous unanswered requests will be dropped.\" }", rows[i].reason);
		assert_int_equal(len, rows[i].len);
		assert_int_equal(len, strlen(expected));
		assert_memory_equal(body, expected, len);
	}
}

static void test_fault_text_is_escaped(void **state)
{
	char body[HTTP_FAULT_BODY_MAX], worst[HTTP_FAULT_MAX];
	size_t len = http_format_fault(body, sizeof(body), "a\"\\\x01\xff");
	const char *expected =
		"{ \"error\": \"a\\\"\\\\\\u0001\xef\xbf\xbd\nAll previous unanswered requests will be dropped.\" }";

	(void)state;
	assert_int_equal(len, strlen(expected));
	assert_memory_equal(body, expected, len);
	memset(worst, 1, sizeof(worst) - 1);
	worst[sizeof(worst) - 1] = '\0';
	assert_true(http_format_fault(body, sizeof(body), worst) <= sizeof(body));
}

static void test_too_many_connections_bytes(void **state)
{
	const char *expected = "HTTP/1.1 503 " CRLF "Server: Firecracker API" CRLF "Connection: close" CRLF
			       "Content-Length: 40" CRLF CRLF "{ \"error\": \"Too many open connections\" }";
	size_t len;
	const char *reply = http_too_many_connections(&len);

	(void)state;
	assert_int_equal(len, strlen(expected));
	assert_memory_equal(reply, expected, len);
	assert_int_equal(strlen(strstr(reply, CRLF CRLF) + 4), 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_methods),
		cmocka_unit_test(test_unsupported_methods),
		cmocka_unit_test(test_request_line_faults),
		cmocka_unit_test(test_targets),
		cmocka_unit_test(test_line_length),
		cmocka_unit_test(test_line_without_end_is_bounded),
		cmocka_unit_test(test_bodies),
		cmocka_unit_test(test_content_length_faults),
		cmocka_unit_test(test_payload_limit),
		cmocka_unit_test(test_fault_is_reported_before_the_body),
		cmocka_unit_test(test_header_faults),
		cmocka_unit_test(test_bare_line_feeds),
		cmocka_unit_test(test_ignored_headers),
		cmocka_unit_test(test_accept_encoding),
		cmocka_unit_test(test_expect_continue),
		cmocka_unit_test(test_chunked),
		cmocka_unit_test(test_chunked_limit),
		cmocka_unit_test(test_chunked_faults),
		cmocka_unit_test(test_pipelining),
		cmocka_unit_test(test_resync_at_a_request_line),
		cmocka_unit_test(test_reply_heads),
		cmocka_unit_test(test_oversize_reply_bytes),
		cmocka_unit_test(test_fault_text_is_escaped),
		cmocka_unit_test(test_too_many_connections_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
