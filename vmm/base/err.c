/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/*
 * glibc's untranslated text, with the two words that differ from musl's where the contract shows them: the reference is
 * linked with musl and clients compare its texts.
 */
static const char *os_text(int errnum)
{
	const char *text;

	if (errnum == EBUSY)
		return "Resource busy";
	if (errnum == EMFILE)
		return "No file descriptors available";
	text = strerrordesc_np(errnum);
	return text ? text : "Unknown error";
}

const char *err_os_text(int errnum, char *buf, size_t len)
{
	(void)snprintf(buf, len, "%s (os error %d)", os_text(errnum), errnum);
	return buf;
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return code;
	e->code = code;
	va_start(ap, fmt);
	(void)vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	return code;
}

int err_sys(struct err *e, int code, const char *fmt, ...)
{
	size_t used;
	va_list ap;

	if (!e)
		return code;
	e->code = code;
	va_start(ap, fmt);
	(void)vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	used = strlen(e->msg);
	(void)snprintf(e->msg + used, sizeof(e->msg) - used, ": %s (os error %d)", os_text(-code), -code);
	return code;
}

int err_wrap(struct err *e, int code, const char *fmt, ...)
{
	char old[ERR_MSG_MAX];
	size_t used;
	va_list ap;

	if (!e)
		return code;
	e->code = code;
	memcpy(old, e->msg, sizeof(old));
	old[sizeof(old) - 1] = '\0';
	va_start(ap, fmt);
	(void)vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	used = strlen(e->msg);
	(void)snprintf(e->msg + used, sizeof(e->msg) - used, ": %s", old);
	return code;
}
