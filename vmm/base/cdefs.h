/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiler vocabulary that every folder may use: attributes, array sizes, and must(), the check for our own bugs.
 *
 * must() is for what we can prove: when it fails the program is wrong, whatever the guest or the user did. Everything
 * that a guest, a file or a client can cause is a verdict or an error instead (STYLE.md B4).
 */
#ifndef MAYFLY_BASE_CDEFS_H
#define MAYFLY_BASE_CDEFS_H

#include <stddef.h>
#include <stdint.h>

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt_arg, first_arg) __attribute__((format(printf, fmt_arg, first_arg)))
#define NORETURN __attribute__((noreturn))
#define UNUSED __attribute__((unused))
#define COLD __attribute__((cold))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* The object of type @type whose member @member is at @ptr. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#define KIB UINT64_C(1024)
#define MIB (UINT64_C(1024) * KIB)
#define GIB (UINT64_C(1024) * MIB)

/*
 * Write one line to standard error and abort. Async-signal-safe: no allocation, no stdio.
 * @what is the failed condition, @where "file:line". Any thread.
 */
NORETURN COLD void must_failed(const char *what, const char *where);

#define MUST_STR_(x) #x
#define MUST_STR(x) MUST_STR_(x)

/* Abort, in every build, when @cond is false. Never put a side effect that the program needs into @cond. */
#define must(cond)                                                                                                      \
	do {                                                                                                            \
		if (unlikely(!(cond)))                                                                                  \
			must_failed(#cond, __FILE__ ":" MUST_STR(__LINE__));                                            \
	} while (0)

#endif
