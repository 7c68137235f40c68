/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API socket: an AF_UNIX listener and up to API_MAX_CONNECTIONS connections in the event loop (group EV_CONTROL, so
 * that a paused microVM still answers).
 *
 * A connection has at most one reply in flight: its next request is read when the reply has gone out. A client that
 * does not read therefore costs one reply of memory, a client that does not write costs one connection.
 *
 * Trust: clients are the host's operator, but every byte is checked. Descriptors they pass are dropped by the kernel,
 * because none is asked for. Threads: the I/O thread.
 * Use: api_server_create, evloop_run, api_server_destroy.
 */
#ifndef MAYFLY_API_SERVER_H
#define MAYFLY_API_SERVER_H

#include <stddef.h>

#include "api-socket/action.h"
#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"
#include "vmm/evloop.h"

#define API_MAX_CONNECTIONS 10

struct api_server;

struct api_limits {
	size_t max_payload; /* bytes of a request body; 0: the default of 51200 */
};

/*
 * Listen on @path in @loop (borrowed, outlives the server); requests go to *@handler (copied; its ctx is borrowed).
 * @limits may be NULL. The socket file gets the process umask. A file at @path that is a socket without a listener is
 * replaced; anything else there gives -EADDRINUSE. A path that does not fit sockaddr_un gives -ENAMETOOLONG.
 *
 * Returns 0 and *@out (owned), or negative errno with @e. Clients can connect at once; they are served when @loop runs.
 */
int api_server_create(struct api_server **out, struct evloop *loop, const char *path,
		      const struct action_handler *handler, const struct api_limits *limits, struct err *e) MUST_USE;

/*
 * Close every connection and the listener; remove the socket file if it is still the one that was made. NULL allowed.
 */
void api_server_destroy(struct api_server *server);

#endif
