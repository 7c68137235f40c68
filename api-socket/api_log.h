/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log lines of API requests that clients and tests parse (CONTRACT.md section 14).
 *
 * Trust: path and body are a client's; they appear escaped, so that one request is one line. Threads: the I/O thread.
 */
#ifndef MAYFLY_API_LOG_H
#define MAYFLY_API_LOG_H

#include "api-socket/http.h"

/* `The API server received a Put request on "/x" with body "…".` at Info, without bodies that may hold secrets. */
void api_log_request(const struct http_msg *msg);

/*
 * The outcome: success at Info, or @fault at Error; and a warning if the request used the field that @deprecated names
 * as "/machine-config: cpu_template" (NULL: none).
 */
void api_log_result(const struct http_msg *msg, int status, const char *fault, const char *deprecated);

/* A request that was no HTTP request, for @reason, at Warn. */
void api_log_refusal(const char *reason);

#endif
