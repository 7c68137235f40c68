/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a complete HTTP request to an action and from its outcome to the reply: the routing rules of CONTRACT.md 1.5,
 * the checks of each resource's path and body, and the log lines of section 14 that clients pair up.
 *
 * Trust: path and body are a client's. Threads: the I/O thread.
 */
#ifndef MAYFLY_API_ROUTES_H
#define MAYFLY_API_ROUTES_H

#include <stdbool.h>

#include "api-socket/action.h"
#include "api-socket/http.h"
#include "api-socket/json.h"

/* The outcome of one request, before it becomes bytes. */
struct route_reply {
	int status;           /* 200, 204 or 400 */
	bool deprecated;      /* the request used a deprecated field */
	struct json_out body; /* empty at 204; starts in the caller's buffer */
};

/*
 * Serve @msg: log it, parse it, let @handler carry it out, fill @reply (its body set up by the caller with
 * json_out_init, freed by the caller). Log lines carry the thread name "fc_api"; the name is "main" again on return.
 */
void route_request(const struct action_handler *handler, const struct http_msg *msg, struct route_reply *reply);

#endif
