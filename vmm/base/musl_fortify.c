/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Debian builds libjansson.a with glibc's fortified headers, so it calls checked variants of three functions. musl has no
 * such variants: these do the check (a buffer smaller than what is promised is our bug) and call the plain function.
 *
 * Only for programs linked with musl; empty elsewhere.
 */
#include <features.h>

#ifndef __GLIBC__
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/cdefs.h"

int __vsnprintf_chk(char *buf, size_t len, int flag, size_t room, const char *fmt, va_list ap);
int __snprintf_chk(char *buf, size_t len, int flag, size_t room, const char *fmt, ...);
char *__strncpy_chk(char *dst, const char *src, size_t len, size_t room);

int __vsnprintf_chk(char *buf, size_t len, int flag, size_t room, const char *fmt, va_list ap)
{
	(void)flag;
	must(len <= room);
	return vsnprintf(buf, len, fmt, ap);
}

int __snprintf_chk(char *buf, size_t len, int flag, size_t room, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = __vsnprintf_chk(buf, len, flag, room, fmt, ap);
	va_end(ap);
	return n;
}

char *__strncpy_chk(char *dst, const char *src, size_t len, size_t room)
{
	must(len <= room);
	return strncpy(dst, src, len);
}
#endif
