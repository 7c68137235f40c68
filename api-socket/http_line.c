/* SPDX-License-Identifier: Apache-2.0 */
#include "api-socket/http_line.h"

#include <string.h>
#include <strings.h>

#include "api-socket/json.h"

#define SCHEME "http://"

bool slice_is(struct slice v, const char *text)
{
	return v.len == strlen(text) && memcmp(v.s, text, v.len) == 0;
}

bool slice_is_fold(struct slice v, const char *text)
{
	return v.len == strlen(text) && strncasecmp(v.s, text, v.len) == 0;
}

struct slice slice_trim(struct slice v)
{
	while (v.len && (v.s[0] == ' ' || v.s[0] == '\t')) {
		v.s++;
		v.len--;
	}
	while (v.len && (v.s[v.len - 1] == ' ' || v.s[v.len - 1] == '\t'))
		v.len--;
	return v;
}

bool slice_cut(struct slice *rest, char sep, struct slice *before)
{
	const char *at = rest->len ? memchr(rest->s, sep, rest->len) : NULL;

	if (!at)
		return false;
	*before = (struct slice){rest->s, (size_t)(at - rest->s)};
	rest->len -= before->len + 1;
	rest->s = at + 1;
	return true;
}

static bool verb_find(struct slice v, enum http_verb *verb)
{
	if (slice_is(v, "GET"))
		*verb = HTTP_VERB_GET;
	else if (slice_is(v, "PUT"))
		*verb = HTTP_VERB_PUT;
	else if (slice_is(v, "PATCH"))
		*verb = HTTP_VERB_PATCH;
	else if (slice_is(v, "DELETE"))
		*verb = HTTP_VERB_DELETE;
	else
		return false;
	return true;
}

/*
 * The path of a target: its scheme and authority stripped, empty if it does not start with a slash (CONTRACT.md 1.1).
 */
static struct slice target_path(struct slice target)
{
	size_t scheme = strlen(SCHEME);

	if (target.len >= scheme && memcmp(target.s, SCHEME, scheme) == 0) {
		const char *slash = memchr(target.s + scheme, '/', target.len - scheme);

		if (slash)
			return (struct slice){slash, target.len - (size_t)(slash - target.s)};
	} else if (target.s[0] == '/') {
		return target;
	}
	return (struct slice){target.s, 0};
}

static bool has_control(struct slice v)
{
	for (size_t i = 0; i < v.len; i++) {
		if ((unsigned char)v.s[i] < 0x20 || v.s[i] == 0x7f)
			return true;
	}
	return false;
}

const char *http_request_line(struct slice line, struct http_request_line *out)
{
	struct slice method, target;

	if (!slice_cut(&line, ' ', &method) || !slice_cut(&line, ' ', &target))
		return "Invalid request.";
	if (!verb_find(method, &out->verb))
		return "Invalid HTTP Method: Unsupported HTTP method.";
	if (target.len == 0)
		return "Invalid URI: Empty URI not allowed.";
	if (!json_is_utf8(target.s, target.len))
		return "Invalid URI: Cannot parse URI as UTF-8.";
	if (!slice_is(line, "HTTP/1.1") && !slice_is(line, "HTTP/1.0"))
		return "Invalid HTTP Version: Unsupported HTTP version.";
	if (has_control(target))
		return "Invalid request.";
	out->path = target_path(target);
	return NULL;
}

bool http_is_token(struct slice name)
{
	static const char others[] = "!#$%&'*+-.^_`|~";

	for (size_t i = 0; i < name.len; i++) {
		unsigned char ch = (unsigned char)name.s[i];

		if ((ch >= '0' && ch <= '9') || ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'z'))
			continue;
		if (!ch || !strchr(others, ch))
			return false;
	}
	return name.len > 0;
}

bool http_content_length(struct slice v, uint64_t *out)
{
	uint64_t n = 0;

	if (v.len == 0)
		return false;
	for (size_t i = 0; i < v.len; i++) {
		if (v.s[i] < '0' || v.s[i] > '9')
			return false;
		n = n * 10 + (uint64_t)(v.s[i] - '0');
		if (n > UINT32_MAX)
			return false;
	}
	*out = n;
	return true;
}

bool http_ends_with_chunked(struct slice value)
{
	struct slice coding;

	while (slice_cut(&value, ',', &coding))
		;
	return slice_is_fold(slice_trim(value), "chunked");
}
