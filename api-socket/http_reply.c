/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of replies (CONTRACT.md 1.3, 1.4). Functional tests compare them whole. */
#include <stdio.h>
#include <string.h>

#include "api-socket/http.h"
#include "api-socket/json.h"

#define CRLF "\r\n"

const char *http_verb_name(enum http_verb verb)
{
	switch (verb) {
	case HTTP_VERB_GET:
		return "GET";
	case HTTP_VERB_PUT:
		return "PUT";
	case HTTP_VERB_PATCH:
		return "PATCH";
	case HTTP_VERB_DELETE:
		return "DELETE";
	}
	return "";
}

size_t http_format_head(char buf[HTTP_HEAD_MAX], int status, bool deprecated, long body_len)
{
	int n = snprintf(buf, HTTP_HEAD_MAX,
		"HTTP/1.1 %d " CRLF "Server: Firecracker API" CRLF "Connection: keep-alive" CRLF "%s", status,
		deprecated ? "Deprecation: true" CRLF : "");

	if (body_len >= 0)
		n += snprintf(buf + n, HTTP_HEAD_MAX - (size_t)n,
			"Content-Type: application/json" CRLF "Content-Length: %ld" CRLF, body_len);
	n += snprintf(buf + n, HTTP_HEAD_MAX - (size_t)n, CRLF);
	must(n > 0 && n < HTTP_HEAD_MAX);
	return (size_t)n;
}

size_t http_format_fault(char *buf, size_t cap, const char *reason)
{
	struct json_out out;
	size_t len;

	json_out_init(&out, buf, cap);
	json_put_text(&out, "{ \"error\": \"");
	json_put_escaped(&out, reason, strlen(reason));
	json_put_text(&out, "\nAll previous unanswered requests will be dropped.\" }");
	must(!out.heap && !out.failed);
	len = out.len;
	json_out_fini(&out);
	return len;
}

const char *http_too_many_connections(size_t *len)
{
	static const char reply[] = "HTTP/1.1 503 " CRLF "Server: Firecracker API" CRLF "Connection: close" CRLF
				    "Content-Length: 40" CRLF CRLF "{ \"error\": \"Too many open connections\" }";

	*len = sizeof(reply) - 1;
	return reply;
}
