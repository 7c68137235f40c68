/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the controller share: a controller with its event loop and a directory, and actions that are accepted or
 * refused. Included by the one source file of a test program, so its state and functions are static.
 *
 * Use: set_up() before each test, control_fixture_end() after it.
 *
 * Threads: none.
 */
#ifndef MAYFLY_TESTS_CONTROL_FIXTURE_H
#define MAYFLY_TESTS_CONTROL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/control.h"

static UNUSED struct evloop *loop;
static UNUSED struct control *control;
static UNUSED char dir[64];

static UNUSED int set_up(void **state)
{
	struct control_params p = {.id = "test", .version = "1.2.3", .app_name = "Mayfly"};
	struct err e = {0};

	(void)state;
	(void)snprintf(dir, sizeof(dir), "/tmp/test_control.XXXXXX");
	if (!mkdtemp(dir) || evloop_create(&loop, &e))
		return -1;
	p.loop = loop;
	return control_create(&control, &p, &e);
}

static UNUSED const char *path_of(const char *name)
{
	static char path[4][128]; /* as many as one expression needs */
	static unsigned turn;
	char *p = path[turn++ % 4];

	(void)snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

/* End the controller, remove the files @names (@n) of the directory, and the directory, which must then be empty. */
static UNUSED int control_fixture_end(const char *const *names, size_t n)
{
	control_destroy(control);
	evloop_destroy(loop);
	for (size_t i = 0; i < n; i++)
		(void)unlink(path_of(names[i]));
	return rmdir(dir);
}

static UNUSED struct reply act(struct action *action)
{
	const struct action_handler *h = control_handler(control);
	struct reply reply = {0};

	h->handle(h->ctx, action, &reply);
	action_fini(action);
	return reply;
}

static UNUSED void refuses(struct action *action, const char *text)
{
	struct reply r = act(action);

	assert_int_equal(r.status, 400);
	if (!strstr(r.fault, text))
		fail_msg("expected a fault with \"%s\", got \"%s\"", text, r.fault);
}

static UNUSED void accepts(struct action *action)
{
	struct reply r = act(action);

	if (r.status != 204)
		fail_msg("expected 204, got %d \"%s\"", r.status, r.fault);
}

#endif
