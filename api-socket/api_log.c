/* SPDX-License-Identifier: Apache-2.0 */
#include "api-socket/api_log.h"

#include <stdio.h>
#include <string.h>

#include "api-socket/json.h"
#include "vmm/base/log.h"

static const char *verb_title(enum http_verb verb)
{
	switch (verb) {
	case HTTP_VERB_GET:
		return "Get";
	case HTTP_VERB_PUT:
		return "Put";
	case HTTP_VERB_PATCH:
		return "Patch";
	case HTTP_VERB_DELETE:
		return "Delete";
	}
	return "";
}

/* @s between quotes as the reference's log has it: quotes, backslashes and control bytes escaped. */
static void put_quoted(struct json_out *out, const char *s, size_t len)
{
	size_t from = 0;

	json_put_text(out, "\"");
	for (size_t i = 0; i < len; i++) {
		static const char plain[] = "\"\\\n\r\t", short_form[] = "\"\\nrt";
		const char *at = s[i] ? strchr(plain, s[i]) : NULL;
		char esc[12];
		int n;

		if (at)
			n = snprintf(esc, sizeof(esc), "\\%c", short_form[at - plain]);
		else if (s[i] == '\0')
			n = snprintf(esc, sizeof(esc), "\\0");
		else if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			n = snprintf(esc, sizeof(esc), "\\u{%x}", (unsigned char)s[i]);
		else
			continue;
		json_put(out, s + from, i - from);
		json_put(out, esc, (size_t)n);
		from = i + 1;
	}
	json_put(out, s + from, len - from);
	json_put_text(out, "\"");
}

void api_log_request(const struct http_msg *msg)
{
	char buf[1024];
	struct json_out line;
	bool is_cpu_config = strcmp(msg->path, "/cpu-config") == 0;

	if (!log_enabled(LOG_INFO))
		return;
	json_out_init(&line, buf, sizeof(buf));
	put_quoted(&line, msg->path, strlen(msg->path));
	if (msg->body && is_cpu_config && !log_enabled(LOG_DEBUG)) {
		json_put_text(&line, ". To view the body of the request, set the log level to Debug");
	} else if (msg->body && strcmp(msg->path, "/mmds") != 0) {
		json_put_text(&line, " with body ");
		if (json_is_utf8(msg->body, msg->body_len))
			put_quoted(&line, msg->body, msg->body_len);
		else
			json_put_text(&line, "\"inconvertible to UTF-8\"");
	}
	log_info("The API server received a %s request on %.*s.", verb_title(msg->verb), (int)line.len, line.data);
	json_out_fini(&line);
}

static const char *status_text(int status)
{
	if (status == 200)
		return "200 OK";
	return status == 204 ? "204 No Content" : "400 Bad Request";
}

void api_log_result(const struct http_msg *msg, int status, const char *fault, const char *deprecated)
{
	if (status == 200 || status == 204)
		log_info("The request was executed successfully. Status code: %s.", status_text(status));
	else
		log_error("Received Error. Status code: %s. Message: %s", status_text(status), fault);
	if (deprecated)
		log_warn("%s %s field is deprecated.", http_verb_name(msg->verb), deprecated);
}

void api_log_refusal(const char *reason)
{
	char buf[1024];
	struct json_out line;

	json_out_init(&line, buf, sizeof(buf));
	put_quoted(&line, reason, strlen(reason));
	log_warn("A request on the API socket was refused: %.*s", (int)line.len, line.data);
	json_out_fini(&line);
}
