/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the JSON text of a request to a checked struct, by the field tables of config_fields.h. The message for a bad
 * field reads as serde's would (CONTRACT.md section 2), with line and column.
 *
 * What is checked here is the type: object or not, known and required fields, null, integer width, enum names. What a
 * value may be (vCPU limits, paths that open) is the action handler's business.
 *
 * Trust: the text is hostile. Threads: the I/O thread.
 */
#ifndef MAYFLY_API_BODY_H
#define MAYFLY_API_BODY_H

#include <stddef.h>

#include "api-socket/config_fields.h"
#include "api-socket/json.h"
#include "vmm/base/cdefs.h"

#define BODY_FAULT_MAX 768
#define BODY_FIELD_MAX 80

/*
 * The serde-like message: "missing field `x` at line 1 column 2", without prefix and full stop, and for people the field
 * whose value it is about ("rate_limiter.ops", "": the whole).
 */
struct body_fault {
	char msg[BODY_FAULT_MAX];
	char field[BODY_FIELD_MAX];
};

/*
 * Parse @text (@len bytes) as an object of table @table into @out, the struct of that table, zeroed by the caller.
 * Returns 0, or -EINVAL and *@fault. Strings in @out are owned by @out also after a failure: free with config_fini().
 */
int body_parse(const char *text, size_t len, enum config_table table, void *out, struct body_fault *fault) MUST_USE;

/* The same for the value at @span of a larger text that json_check accepted. */
int body_parse_at(const struct json_text *text, struct json_span span, enum config_table table, void *out,
		  struct body_fault *fault) MUST_USE;

/* Set @fault to the formatted message plus the position of byte @at of @text. Returns -EINVAL. */
int body_fault_at(struct body_fault *fault, const struct json_text *text, size_t at, const char *fmt, ...)
	PRINTF_LIKE(4, 5);

/* Set @fault to ``invalid type: <what is at @span>, expected <@expected>`` with its position. Returns -EINVAL. */
int body_fault_type(struct body_fault *fault, const struct json_text *text, struct json_span span,
		    const char *expected);

#endif
