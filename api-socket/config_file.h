/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `--config-file`: a whole microVM as one JSON document, in the shape that `GET /vm/config` prints (CONTRACT.md 6.2).
 *
 * The document is read and checked as a whole first, through the same field tables as the API; then its sections are
 * applied in the contract's order through the same action handler; then the microVM is started.
 *
 * Trust: the file is hostile (size, depth, content are bounded). Threads: the I/O thread, before or while the loop
 * runs.
 */
#ifndef MAYFLY_API_CONFIG_FILE_H
#define MAYFLY_API_CONFIG_FILE_H

#include <stddef.h>

#include "api-socket/action.h"
#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"

#define CONFIG_FILE_MAX (4u << 20) /* bytes; the largest legal content is a small fraction of it */

/*
 * Read @path, apply it and start the microVM. Returns 0 and logs the success line, or negative errno with @e:
 * "Unable to open or read from the configuration file: ..." (the errno of it), "Configuration for VMM from one single
 * json failed: ..." (-EINVAL, naming section, field and reason; -EFBIG), "Could not Start MicroVM from one single
 * json: ..." (-ECANCELED).
 * May block while it reads @path.
 */
int config_file_apply(const char *path, const struct action_handler *handler, struct err *e) MUST_USE;

/* The same for @text of @len bytes. */
int config_file_apply_text(const char *text, size_t len, const struct action_handler *handler, struct err *e) MUST_USE;

#endif
