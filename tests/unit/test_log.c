/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: shape of a line, filters, long lines, sinks that refuse, the limit of guest-caused lines, use in signal handlers.
 *
 * The log is one object of the process, so each test opens a file of its own as sink.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"

#define STAMP "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{9} "

static char dir[] = "/tmp/mayfly-log-XXXXXX", path[64];
static char text[2 * LOG_LINE_MAX];

static int setup(void **state)
{
	struct err e = { 0 };

	(void)state;
	(void)unlink(path);
	log_set_id("x1");
	log_set_level(LOG_INFO);
	log_set_show(false, false);
	log_set_module(NULL);
	assert_int_equal(log_open(path, &e), 0);
	(void)log_take_missed();
	(void)log_take_limited();
	return 0;
}

/* All that has been logged in this test. */
static const char *logged(void)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void assert_matches(const char *line, const char *pattern)
{
	regex_t re;

	assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
	if (regexec(&re, line, 0, NULL, 0) != 0) {
		print_error("'%s' does not match '%s'\n", line, pattern);
		fail();
	}
	regfree(&re);
}

static void test_shape(void **state)
{
	(void)state;
	log_info("Running Firecracker v%s", "1.17.0");
	assert_matches(logged(), STAMP "\\[x1:main\\] Running Firecracker v1\\.17\\.0\n$");
}

static void test_decorations(void **state)
{
	(void)state;
	log_set_show(true, true);
	log_warn("w");
	assert_matches(logged(), STAMP "\\[x1:main:WARN:[^:]+/test_log.c:[0-9]+\\] w\n$");
	assert_true(log_shows_level() && log_shows_origin());
}

static void test_level(void **state)
{
	enum log_level level = LOG_OFF;

	(void)state;
	log_debug("no");
	log_set_level(LOG_ERROR);
	log_warn("no");
	log_error("yes");
	log_set_level(LOG_OFF);
	log_error("no");
	assert_matches(logged(), "^[^\n]* yes\n$");
	assert_true(log_parse_level("wArNing", &level) && level == LOG_WARN);
	assert_true(log_parse_level("OFF", &level) && level == LOG_OFF);
	assert_true(log_parse_level("trace", &level) && level == LOG_TRACE);
	assert_false(log_parse_level("loud", &level));
	assert_int_equal(level, LOG_TRACE);
}

static void test_module(void **state)
{
	(void)state;
	log_set_module("virtio/");
	log_info("no");
	log_write(LOG_INFO, "virtio/blk.c:1", "yes");
	assert_matches(logged(), "^[^\n]* yes\n$");
}

static void test_identity_is_cut(void **state)
{
	char id[200];

	(void)state;
	memset(id, 'i', sizeof(id));
	id[sizeof(id) - 1] = '\0';
	log_set_id(id);
	log_set_thread("a name that is longer than fifteen");
	log_info("m");
	log_set_thread("main");
	assert_matches(logged(), STAMP "\\[i{64}:a name that is \\] m\n$");
}

/* Around both bounds: what fits is whole, what does not is marked; one line, one write. */
static void test_long_lines(void **state)
{
	static char message[LOG_LINE_MAX + 1000];
	static const size_t sizes[] = { LOG_SHORT_MAX - 1, LOG_SHORT_MAX, LOG_SHORT_MAX + 600, 51200, LOG_LINE_MAX - 1 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		setup(NULL);
		memset(message, 'm', sizes[i]);
		message[sizes[i]] = '\0';
		log_info("%s|", message);
		(void)logged();
		assert_memory_equal(strstr(text, "] ") + 2, message, sizes[i]);
		assert_string_equal(text + strlen(text) - 2, "|\n");
	}
	setup(NULL);
	memset(message, 'm', sizeof(message));
	message[sizeof(message) - 1] = '\0';
	log_info("%s", message);
	(void)logged();
	assert_true(strlen(text) > LOG_LINE_MAX);
	assert_string_equal(text + strlen(text) - 8, "m [cut]\n");
	assert_int_equal(log_take_missed(), 0);
}

/* A FIFO without reader is opened at once and takes lines until it is full; then lines are dropped whole and counted. */
static void test_full_fifo(void **state)
{
	char fifo[80], line[1001];
	struct err e = { 0 };
	uint64_t missed;

	(void)state;
	(void)snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(log_open(fifo, &e), 0);
	memset(line, 'f', sizeof(line));
	line[1000] = '\0';
	errno = EXDEV;
	for (int i = 0; i < 200; i++)
		log_info("%s", line);
	assert_int_equal(errno, EXDEV);
	missed = log_take_missed();
	assert_in_range(missed, 100, 199);
	assert_int_equal(log_take_missed(), 0);
	(void)unlink(fifo);
}

/* A path that can't be opened leaves the old sink in use. */
static void test_open_fails(void **state)
{
	struct err e = { 0 };

	(void)state;
	assert_int_equal(log_open("/nonexistent/log", &e), -ENOENT);
	assert_string_equal(e.msg, "Failed to open target file: No such file or directory (os error 2)");
	log_info("still here");
	assert_matches(logged(), " still here\n$");
}

/* The contract: not appended, not truncated. */
static void test_overwrites_from_start(void **state)
{
	struct err e = { 0 };

	(void)state;
	log_info("first");
	assert_int_equal(log_open(path, &e), 0);
	log_info("2");
	assert_non_null(strstr(logged(), "] 2\nrst\n"));
}

static void guest_line(int n)
{
	log_guest(LOG_WARN, "guest %d", n);
}

static void test_guest_limit(void **state)
{
	struct log_site site = { 0 };
	int lines = 0;

	(void)state;
	for (int i = 0; i < 1000; i++)
		guest_line(i);
	for (const char *p = logged(); (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, 10);
	assert_int_equal(log_take_limited(), 990);
	/* The window is over: the next line comes after one that tells how many did not. */
	for (int i = 0; i < 13; i++)
		(void)log_site_allow(&site, "a/b.c:1");
	site.window_start_ns -= UINT64_C(5000000000);
	assert_true(log_site_allow(&site, "a/b.c:1"));
	assert_non_null(strstr(logged(), "] 3 messages were suppressed here by the rate limit.\n"));
}

static void on_alarm(int signo)
{
	(void)signo;
	log_info("in the handler");
}

/* A handler logs while its thread is in the middle of logging, thousands of times: no deadlock, no torn line. */
static void test_in_signal_handler(void **state)
{
	struct itimerspec often = { .it_value = { .tv_nsec = 50000 }, .it_interval = { .tv_nsec = 50000 } };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
	static char message[4000];
	timer_t timer;

	(void)state;
	memset(message, 's', sizeof(message) - 1);
	(void)signal(SIGALRM, on_alarm);
	assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	assert_int_equal(timer_settime(timer, 0, &often, NULL), 0);
	for (int i = 0; i < 3000; i++) {
		if (i % 20 == 0)
			setup(NULL);
		log_info("%s", i & 1 ? message : "short");
	}
	assert_int_equal(timer_delete(timer), 0);
	(void)logged();
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		assert_matches(line, STAMP "\\[x1:main\\] (short|in the handler|s+( \\[cut\\])?)$");
	assert_int_equal(log_take_missed(), 0);
}

static int make_dir(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/log", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	(void)unlink(path);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_shape, setup), cmocka_unit_test_setup(test_decorations, setup),
		cmocka_unit_test_setup(test_level, setup), cmocka_unit_test_setup(test_module, setup),
		cmocka_unit_test_setup(test_identity_is_cut, setup), cmocka_unit_test_setup(test_long_lines, setup),
		cmocka_unit_test_setup(test_full_fifo, setup), cmocka_unit_test_setup(test_open_fails, setup),
		cmocka_unit_test_setup(test_overwrites_from_start, setup), cmocka_unit_test_setup(test_guest_limit, setup),
		cmocka_unit_test_setup(test_in_signal_handler, setup),
	};

	return cmocka_run_group_tests_name("log", tests, make_dir, remove_dir);
}
