/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: one line, one write(2), in the shape that Firecracker's clients parse (CONTRACT.md section 14):
 *
 *     2026-11-21T10:00:00.123456789 [id:thread:LEVEL:file:line] message
 *
 * The sink is one of the two mutable globals of the monitor (the other is the metrics array). A line that the sink does
 * not take is dropped and counted; logging never blocks on a full FIFO, never allocates, never fails its caller.
 *
 * Threads: any, also signal handlers. log_open/log_set_* only from the thread that owns the configuration.
 */
#ifndef MAYFLY_BASE_LOG_H
#define MAYFLY_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"

enum log_level { LOG_OFF, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };

/* Instance id that every line carries; copied, cut to 64 bytes. */
void log_set_id(const char *id);

/* Level filter; @show_level and @show_origin switch the decorations. */
void log_set_level(enum log_level level);
void log_set_show(bool show_level, bool show_origin);
bool log_shows_level(void);
bool log_shows_origin(void);

/* Only lines whose source file path starts with @prefix are written; NULL: all. Copied, cut to 128 bytes. */
void log_set_module(const char *prefix);

/*
 * Send the log to @path: opened O_RDWR|O_CREAT|O_NONBLOCK|O_CLOEXEC without O_APPEND (CONTRACT.md 4.14), replacing the
 * present sink. Returns 0, or negative errno with @e set and the old sink still in use. Initially: standard output.
 */
int log_open(const char *path, struct err *e) MUST_USE;

/* Name of the calling thread in log lines: "main" until set, at most 15 bytes, copied. */
void log_set_thread(const char *name);

/* Parse "Off", "Error", "Warn", "Warning", "Info", "Debug", "Trace" in any case. Returns false for anything else. */
bool log_parse_level(const char *text, enum log_level *out) MUST_USE;

/* Is @level written at present? For callers that would otherwise compute an argument in vain. */
bool log_enabled(enum log_level level);

/* Lines that a sink did not take since the last call, and lines that log_site_allow() refused since the last call. */
uint64_t log_take_missed(void);
uint64_t log_take_limited(void);

/*
 * Write one line. A message of up to LOG_LINE_MAX bytes is whole; the rest of a longer one is cut off and marked
 * " [cut]". Two threads (or a handler and its thread) with a message above LOG_SHORT_MAX at the same time: the second is cut
 * at LOG_SHORT_MAX. errno is kept.
 */
#define LOG_SHORT_MAX 1500
#define LOG_LINE_MAX (128 * 1024)
void log_write(enum log_level level, const char *origin, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Limiter of one call site that a guest can trigger: 10 lines in 5 s, then silence and one line with the count. */
struct log_site {
	uint64_t window_start_ns;
	uint32_t in_window;
	uint32_t suppressed;
};

/* True if the site may write now. Takes the log's own lock; any thread, not signal handlers. */
bool log_site_allow(struct log_site *site, const char *origin);

#define LOG_ORIGIN __FILE__ ":" MUST_STR(__LINE__)
#define log_error(...) log_write(LOG_ERROR, LOG_ORIGIN, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, LOG_ORIGIN, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, LOG_ORIGIN, __VA_ARGS__)
#define log_debug(...) log_write(LOG_DEBUG, LOG_ORIGIN, __VA_ARGS__)

/* For every line that a guest can cause. */
#define log_guest(level, ...)                                                                                           \
	do {                                                                                                            \
		static struct log_site site_;                                                                           \
		if (log_enabled(level) && log_site_allow(&site_, LOG_ORIGIN))                                           \
			log_write((level), LOG_ORIGIN, __VA_ARGS__);                                                    \
	} while (0)

#endif
