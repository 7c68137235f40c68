/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line is put together on the stack and leaves with one write(2); nothing here allocates or holds a lock while it writes,
 * so that a signal handler may log whatever its thread was doing. What the line is made of (id, prefix filter, time zone) is
 * set before other threads exist and constant afterwards; the few words that change are atomic.
 *
 * A message too long for the stack is formatted into one static buffer, whose pages cost nothing until the first such line.
 * Its user claims it with an atomic flag; who finds it taken cuts the message instead of waiting.
 */
#include "vmm/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/tz.h"

#define ID_MAX 64
#define MODULE_MAX 128
#define PREFIX_MAX 384 /* time, id, thread, level, origin */
#define CUT_MARK " [cut]\n"

#define SITE_WINDOW_NS UINT64_C(5000000000)
#define SITE_WINDOW_LINES 10

static struct {
	_Atomic int fd;
	_Atomic int level;
	_Atomic bool show_level, show_origin;
	bool fd_is_ours; /* standard output is not */
	char id[ID_MAX + 1];
	char module[MODULE_MAX + 1];
	_Atomic uint64_t missed, limited;
	atomic_flag long_line_taken;
	pthread_mutex_t site_lock;
} log_sink = {
	.fd = STDOUT_FILENO,
	.level = LOG_INFO,
	.id = "anonymous-instance",
	.long_line_taken = ATOMIC_FLAG_INIT,
	.site_lock = PTHREAD_MUTEX_INITIALIZER,
};

enum { ZONE_UNKNOWN, ZONE_BUSY, ZONE_KNOWN };

static struct {
	_Atomic int state;
	struct tz_table table; /* constant once state is ZONE_KNOWN */
} log_zone;

static char log_long_line[PREFIX_MAX + LOG_LINE_MAX + sizeof(CUT_MARK)];
static __thread char log_thread[16] = "main";

/* A bounded cursor over the line: what does not fit is dropped. */
struct line {
	char *buf;
	size_t len, max;
};

static const char *const level_names[] = {
	[LOG_OFF] = "OFF", [LOG_ERROR] = "ERROR", [LOG_WARN] = "WARN",
	[LOG_INFO] = "INFO", [LOG_DEBUG] = "DEBUG", [LOG_TRACE] = "TRACE",
};

/* Copy @text to @out of @max bytes, cut to fit. */
static void copy_text(char *out, size_t max, const char *text)
{
	size_t len = strnlen(text, max - 1);

	memcpy(out, text, len);
	out[len] = '\0';
}

void log_set_id(const char *id)
{
	copy_text(log_sink.id, sizeof(log_sink.id), id);
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&log_sink.level, (int)level, memory_order_relaxed);
}

void log_set_show(bool show_level, bool show_origin)
{
	atomic_store_explicit(&log_sink.show_level, show_level, memory_order_relaxed);
	atomic_store_explicit(&log_sink.show_origin, show_origin, memory_order_relaxed);
}

bool log_shows_level(void)
{
	return atomic_load_explicit(&log_sink.show_level, memory_order_relaxed);
}

bool log_shows_origin(void)
{
	return atomic_load_explicit(&log_sink.show_origin, memory_order_relaxed);
}

void log_set_module(const char *prefix)
{
	copy_text(log_sink.module, sizeof(log_sink.module), prefix ? prefix : "");
}

void log_set_thread(const char *name)
{
	copy_text(log_thread, sizeof(log_thread), name);
}

int log_open(const char *path, struct err *e)
{
	AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0644);

	if (fd < 0)
		return err_sys(e, -errno, "Failed to open target file");
	/* Over the old number, so that a thread that writes at this moment reaches the one file or the other. */
	if (log_sink.fd_is_ours) {
		if (dup3(fd, log_sink.fd, O_CLOEXEC) < 0)
			return err_sys(e, -errno, "Failed to open target file");
		return 0;
	}
	log_sink.fd = fd_take(&fd);
	log_sink.fd_is_ours = true;
	return 0;
}

bool log_parse_level(const char *text, enum log_level *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(level_names); i++) {
		if (strcasecmp(text, level_names[i]) == 0) {
			*out = (enum log_level)i;
			return true;
		}
	}
	if (strcasecmp(text, "Warning") != 0)
		return false;
	*out = LOG_WARN;
	return true;
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&log_sink.level, memory_order_relaxed);
}

uint64_t log_take_missed(void)
{
	return atomic_exchange(&log_sink.missed, 0);
}

uint64_t log_take_limited(void)
{
	return atomic_exchange(&log_sink.limited, 0);
}

static void put_char(struct line *line, char c)
{
	if (line->len < line->max)
		line->buf[line->len++] = c;
}

static void put_text(struct line *line, const char *text)
{
	while (*text)
		put_char(line, *text++);
}

/* @v in decimal as @digits digits, at most 9. */
static void put_number(struct line *line, uint64_t v, int digits)
{
	char text[10] = "";

	for (int i = digits; i-- > 0; v /= 10)
		text[i] = (char)('0' + v % 10);
	put_text(line, text);
}

/*
 * Read the time zone: of $TZ (a rule, a file, or a name), else of /etc/localtime; none: UTC, as in a jail without the file.
 * Only open, read and close, so that even a signal handler could be first.
 */
static void load_zone(int64_t now_s)
{
	uint8_t data[8192];
	char path[160] = "/etc/localtime";
	const char *name = getenv("TZ");
	ssize_t n = -1;
	int fd;

	if (name && *name == ':')
		name++;
	if (name && tz_parse_rule(name, now_s, &log_zone.table) == 0)
		return;
	if (name)
		(void)snprintf(path, sizeof(path), "%s%s", *name == '/' ? "" : "/usr/share/zoneinfo/", name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0)
		n = read(fd, data, sizeof(data));
	fd_close(&fd);
	if (n > 0 && tz_parse_file(data, (size_t)n, now_s, &log_zone.table) < 0)
		log_zone.table.n = 0;
}

/* Local time minus UTC. The first caller reads the zone; who comes while it does gets UTC. */
static int32_t zone_offset(int64_t now_s)
{
	int state = ZONE_UNKNOWN;

	if (atomic_load_explicit(&log_zone.state, memory_order_acquire) != ZONE_KNOWN) {
		if (!atomic_compare_exchange_strong(&log_zone.state, &state, ZONE_BUSY))
			return 0;
		load_zone(now_s);
		atomic_store_explicit(&log_zone.state, ZONE_KNOWN, memory_order_release);
	}
	return tz_offset(&log_zone.table, now_s);
}

static void put_time(struct line *line)
{
	struct timespec now;
	int64_t year, local_s;
	int month, day;
	uint64_t second;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	local_s = now.tv_sec + zone_offset(now.tv_sec);
	tz_date_of(local_s / 86400, &year, &month, &day);
	second = (uint64_t)local_s % 86400;

	put_number(line, (uint64_t)year, 4);
	put_char(line, '-');
	put_number(line, (uint64_t)month, 2);
	put_char(line, '-');
	put_number(line, (uint64_t)day, 2);
	put_char(line, 'T');
	put_number(line, second / 3600, 2);
	put_char(line, ':');
	put_number(line, second / 60 % 60, 2);
	put_char(line, ':');
	put_number(line, second % 60, 2);
	put_char(line, '.');
	put_number(line, (uint64_t)now.tv_nsec, 9);
}

static void put_prefix(struct line *line, enum log_level level, const char *origin)
{
	put_time(line);
	put_text(line, " [");
	put_text(line, log_sink.id);
	put_char(line, ':');
	put_text(line, log_thread);
	if (atomic_load_explicit(&log_sink.show_level, memory_order_relaxed)) {
		put_char(line, ':');
		put_text(line, level_names[level]);
	}
	if (atomic_load_explicit(&log_sink.show_origin, memory_order_relaxed)) {
		put_char(line, ':');
		put_text(line, origin);
	}
	put_text(line, "] ");
}

/* End the line, whose message vsnprintf gave @len bytes of, and write it. */
static void end_and_write(struct line *line, int len)
{
	size_t room = line->max - line->len, wanted = len > 0 ? (size_t)len : 0;
	ssize_t n;

	/* The buffer has sizeof(CUT_MARK) bytes behind max. */
	line->len += wanted < room ? wanted : room - 1;
	if (wanted < room) {
		line->buf[line->len++] = '\n';
	} else {
		memcpy(line->buf + line->len, CUT_MARK, sizeof(CUT_MARK) - 1);
		line->len += sizeof(CUT_MARK) - 1;
	}
	do {
		n = write(atomic_load_explicit(&log_sink.fd, memory_order_relaxed), line->buf, line->len);
	} while (n < 0 && errno == EINTR);
	if (n < 0 || (size_t)n < line->len)
		atomic_fetch_add_explicit(&log_sink.missed, 1, memory_order_relaxed);
}

void log_write(enum log_level level, const char *origin, const char *fmt, ...)
{
	char buf[PREFIX_MAX + LOG_SHORT_MAX + sizeof(CUT_MARK)];
	struct line line = { .buf = buf, .max = PREFIX_MAX };
	int saved = errno, len;
	va_list ap;

	if (!log_enabled(level) || level == LOG_OFF)
		return;
	if (log_sink.module[0] && strncmp(origin, log_sink.module, strlen(log_sink.module)) != 0)
		return;
	put_prefix(&line, level, origin);
	line.max = sizeof(buf) - sizeof(CUT_MARK);
	va_start(ap, fmt);
	len = vsnprintf(buf + line.len, line.max - line.len, fmt, ap);
	va_end(ap);
	if (len >= (int)(line.max - line.len) && !atomic_flag_test_and_set(&log_sink.long_line_taken)) {
		memcpy(log_long_line, buf, line.len);
		line.buf = log_long_line;
		line.max = sizeof(log_long_line) - sizeof(CUT_MARK);
		va_start(ap, fmt);
		len = vsnprintf(line.buf + line.len, line.max - line.len, fmt, ap);
		va_end(ap);
		end_and_write(&line, len);
		atomic_flag_clear(&log_sink.long_line_taken);
	} else {
		end_and_write(&line, len);
	}
	errno = saved;
}

bool log_site_allow(struct log_site *site, const char *origin)
{
	struct timespec ts;
	uint64_t now_ns;
	uint32_t suppressed = 0;
	bool allow;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	now_ns = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
	(void)pthread_mutex_lock(&log_sink.site_lock);
	if (site->window_start_ns == 0 || now_ns - site->window_start_ns >= SITE_WINDOW_NS) {
		suppressed = site->suppressed;
		*site = (struct log_site){ .window_start_ns = now_ns };
	}
	allow = site->in_window < SITE_WINDOW_LINES;
	if (allow)
		site->in_window++;
	else
		site->suppressed++;
	(void)pthread_mutex_unlock(&log_sink.site_lock);

	if (!allow)
		atomic_fetch_add_explicit(&log_sink.limited, 1, memory_order_relaxed);
	if (suppressed > 0)
		log_write(LOG_WARN, origin, "%u messages were suppressed here by the rate limit.", suppressed);
	return allow;
}
