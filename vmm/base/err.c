/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/*
 * The reference is linked with musl and clients compare its texts. So are our static programs; for the others, musl's
 * words stand here where glibc's untranslated ones differ for an error that a monitor meets.
 */
static const struct {
	int errnum;
	const char *text;
} musl_texts[] = {
	{EBUSY, "Resource busy"},
	{EMFILE, "No file descriptors available"},
	{ENFILE, "Too many open files in system"},
	{ENOMEM, "Out of memory"},
	{EIO, "I/O error"},
	{EADDRINUSE, "Address in use"},
	{EADDRNOTAVAIL, "Address not available"},
	{ELOOP, "Symbolic link loop"},
	{ENAMETOOLONG, "Filename too long"},
	{ETXTBSY, "Text file busy"},
	{EXDEV, "Cross-device link"},
	{ENOTTY, "Not a tty"},
	{EAGAIN, "Resource temporarily unavailable"},
	{ENOTSUP, "Not supported"},
	{ETIMEDOUT, "Operation timed out"},
	{EPROTO, "Protocol error"},
	{ENOTCONN, "Socket not connected"},
	{ENOBUFS, "No buffer space available"},
};

static const char *libc_text(int errnum)
{
#ifdef __GLIBC__
	return strerrordesc_np(errnum); /* without translation, and without the locale machinery */
#else
	return strerror(errnum);
#endif
}

static const char *os_text(int errnum)
{
	const char *text;

	for (size_t i = 0; i < ARRAY_SIZE(musl_texts); i++) {
		if (musl_texts[i].errnum == errnum)
			return musl_texts[i].text;
	}
	text = libc_text(errnum);
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
