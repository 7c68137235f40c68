/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP parser. The first byte chooses the payload limit and how the rest is cut into reads.
 *
 * Asserted: progress (H3), bounds of body and line (H1, H2), a reported request is well-formed text, a reply's length
 * is what its head says, and the events do not depend on how the bytes were cut: the same stream is fed whole and in
 * pieces.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api-socket/http.h"
#include "api-socket/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was seen: a running hash (FNV-1a) of events and their content. */
struct seen {
	uint64_t hash;
	unsigned n_events;
};

static void mix(struct seen *seen, const void *bytes, size_t len)
{
	const unsigned char *p = bytes;

	for (size_t i = 0; i < len; i++)
		seen->hash = (seen->hash ^ p[i]) * UINT64_C(0x100000001b3);
}

static void check_request(const struct http_parser *p, struct seen *seen)
{
	struct http_msg msg = http_parser_msg(p);
	size_t len = strlen(msg.path);

	must(len < HTTP_LINE_MAX && json_is_utf8(msg.path, len));
	must(len == 0 || msg.path[0] == '/');
	for (size_t i = 0; i < len; i++)
		must((unsigned char)msg.path[i] >= 0x20);
	must((msg.body != NULL) == (msg.body_len > 0));
	must(msg.body_len <= p->limit);
	must(!msg.body || msg.body[msg.body_len] == '\0');
	mix(seen, &msg.verb, sizeof(msg.verb));
	mix(seen, msg.path, len);
	if (msg.body)
		mix(seen, msg.body, msg.body_len);
}

static void check_fault(const struct http_parser *p, struct seen *seen)
{
	const char *reason = http_parser_fault(p);
	char body[HTTP_FAULT_BODY_MAX], head[HTTP_HEAD_MAX];
	size_t len = http_format_fault(body, sizeof(body), reason), head_len;
	char announced[32];

	must(strlen(reason) > 0 && strlen(reason) < HTTP_FAULT_MAX);
	must(json_is_utf8(body, len));
	head_len = http_format_head(head, 400, false, (long)len);
	(void)snprintf(announced, sizeof(announced), "Content-Length: %zu\r\n\r\n", len);
	must(head_len > strlen(announced) &&
		memcmp(head + head_len - strlen(announced), announced, strlen(announced)) == 0);
	mix(seen, reason, strlen(reason));
}

static struct seen feed(const uint8_t *data, size_t size, size_t limit, size_t step)
{
	struct seen seen = {.hash = UINT64_C(0xcbf29ce484222325)};
	struct http_parser *p = malloc(sizeof(*p));

	must(p);
	http_parser_init(p, limit);
	for (size_t at = 0; at < size;) {
		size_t n = size - at < step ? size - at : step, used;
		enum http_event event;
		char *piece = malloc(n);

		must(piece);
		memcpy(piece, data + at, n);
		used = http_parser_feed(p, piece, n, &event);
		free(piece);
		must(used > 0 && used <= n);
		must(event != HTTP_EVENT_NONE || used == n);
		must(p->body_len <= limit && p->body_cap <= limit + 1 && p->line_len < HTTP_LINE_MAX);
		at += used;
		if (event == HTTP_EVENT_REQUEST)
			check_request(p, &seen);
		if (event == HTTP_EVENT_FAULT)
			check_fault(p, &seen);
		if (event != HTTP_EVENT_NONE) {
			mix(&seen, &event, sizeof(event));
			seen.n_events++;
		}
	}
	http_parser_fini(p);
	free(p);
	return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seen whole, pieces;
	size_t limit, step;

	if (size < 1)
		return 0;
	limit = (data[0] & 0x80) ? 51200 : 16;
	step = (data[0] & 0x7f) ? data[0] & 0x7f : 1;
	whole = feed(data + 1, size - 1, limit, SIZE_MAX);
	pieces = feed(data + 1, size - 1, limit, step);
	must(whole.n_events == pieces.n_events && whole.hash == pieces.hash);
	return 0;
}
