/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The error that a person reads: one bounded text, owned by the caller, no heap.
 *
 * Functions on paths that a human waits for (configuration, boot, jail) take a `struct err *` as last argument and
 * return a negative errno. On success the err is untouched. NULL is allowed everywhere: the text is then dropped.
 *
 * Use: return err_set(e, -ENOENT, "open kernel image '%s'", path);
 *      return err_wrap(e, rc, "drive '%s'", id);            -> "drive 'rootfs': open ..."
 */
#ifndef MAYFLY_BASE_ERR_H
#define MAYFLY_BASE_ERR_H

#include "vmm/base/cdefs.h"

#define ERR_MSG_MAX 512

struct err {
	int code; /* negative errno, 0 when never set */
	char msg[ERR_MSG_MAX];
};

/* Set @e to the formatted text (cut to fit) and @code (negative errno). Returns @code. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* As err_set, and append ": " and the system's text for -@code with its number: "No such file or directory (os error 2)". */
int err_sys(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Put the formatted text and ": " in front of the message that @e already has. Returns @code. */
int err_wrap(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/*
 * The text of errno value @errnum (positive) as the Firecracker contract spells it, into @buf of @len bytes:
 * "No such file or directory (os error 2)". The words are those of musl (CONTRACT.md, conventions). Returns @buf.
 */
const char *err_os_text(int errnum, char *buf, size_t len);

#endif
