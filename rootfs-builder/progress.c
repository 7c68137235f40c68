// SPDX-License-Identifier: Apache-2.0
/*
 * Progress on standard error. A terminal is rewritten at most ten times a second, a log gets a line every 15 seconds.
 */
#include "rootfs-builder/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define TTY_INTERVAL_NS UINT64_C(100000000)
#define LOG_INTERVAL_NS UINT64_C(15000000000)

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static int terminal_width(void)
{
	struct winsize ws;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) < 0 || ws.ws_col < 20)
		return 80;
	return ws.ws_col;
}

static void show(struct progress *p, const char *what)
{
	unsigned int s = (unsigned int)((p->shown_ns - p->start_ns) / 1000000000);
	char line[512], count[64] = "";

	if (p->n_total && p->n_done <= p->n_total)
		snprintf(count, sizeof(count), "%u %%, ", p->n_done * 100 / p->n_total);
	else if (p->n_done)
		snprintf(count, sizeof(count), "%u steps, ", p->n_done);
	snprintf(line, sizeof(line), "%s: %s%u:%02u  %s", p->stage, count, s / 60, s % 60, what);
	if (p->tty)
		fprintf(stderr, "\r\033[K%.*s", terminal_width() - 1, line);
	else
		fprintf(stderr, "%s\n", line);
	fflush(stderr);
}

void progress_start(struct progress *p, const char *stage, unsigned int n_total)
{
	const char *term = getenv("TERM");

	*p = (struct progress){ .stage = stage, .n_total = n_total };
	p->start_ns = p->shown_ns = now_ns();
	p->tty = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
	show(p, "");
}

void progress_step(struct progress *p, const char *what)
{
	uint64_t now = now_ns();

	p->n_done++;
	if (now - p->shown_ns < (p->tty ? TTY_INTERVAL_NS : LOG_INTERVAL_NS))
		return;
	p->shown_ns = now;
	show(p, what);
}

void progress_end(struct progress *p, const char *result)
{
	unsigned int s = (unsigned int)((now_ns() - p->start_ns + 500000000) / 1000000000);

	fprintf(stderr, "%s%s: %s after %u:%02u\n", p->tty ? "\r\033[K" : "", p->stage, result, s / 60, s % 60);
}
