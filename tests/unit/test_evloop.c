/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: order of timers, removal while dispatching (E2), pause of devices, idleness (E3), stop from elsewhere.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/evloop.h"

#define MS UINT64_C(1000000)

struct bell {
	struct evloop *loop;
	struct ev_source src;
	struct ev_timer timer;
	int calls;
	uint32_t ready;
	struct bell *remove; /* in the handler */
	int order, *counter; /* place in the order of calls */
	bool drain, rearm;
};

static void ring(const struct bell *b)
{
	const uint64_t one = 1;

	assert_int_equal(write(b->src.fd, &one, sizeof(one)), sizeof(one));
}

static void on_bell(void *ctx, uint32_t ready)
{
	struct bell *b = ctx;
	uint64_t n;

	b->calls++;
	b->ready = ready;
	if (b->drain)
		assert_int_equal(read(b->src.fd, &n, sizeof(n)), sizeof(n));
	if (b->remove)
		evloop_remove(b->loop, &b->remove->src);
}

static void on_time(void *ctx)
{
	struct bell *b = ctx;

	b->calls++;
	if (b->counter)
		b->order = ++*b->counter;
	if (b->rearm)
		assert_int_equal(evloop_arm(b->loop, &b->timer, 1), 0);
}

static struct evloop *new_loop(void)
{
	struct evloop *loop = NULL;
	struct err e;

	assert_int_equal(evloop_create(&loop, &e), 0);
	return loop;
}

static void add_bell(struct evloop *loop, struct bell *b, enum ev_group group, uint32_t events)
{
	b->loop = loop;
	b->src = (struct ev_source){ .fd = eventfd(0, EFD_NONBLOCK), .events = events, .group = group, .fn = on_bell, .ctx = b };
	b->timer = (struct ev_timer){ .group = group, .fn = on_time, .ctx = b };
	assert_true(b->src.fd >= 0);
	assert_int_equal(evloop_add(loop, &b->src), 0);
}

static void drop_bell(struct bell *b)
{
	evloop_remove(b->loop, &b->src);
	evloop_remove(b->loop, &b->src);
	(void)close(b->src.fd);
}

static void test_level_triggered(void **state)
{
	struct evloop *loop = new_loop();
	struct bell b = { 0 };

	(void)state;
	add_bell(loop, &b, EV_CONTROL, EPOLLIN);
	assert_int_equal(evloop_turn(loop, 0), 0);
	ring(&b);
	assert_int_equal(evloop_turn(loop, 0), 1);
	assert_int_equal(evloop_turn(loop, 0), 1);
	assert_int_equal(b.ready, EPOLLIN);
	b.drain = true;
	assert_int_equal(evloop_turn(loop, 0), 1);
	assert_int_equal(evloop_turn(loop, 0), 0);
	drop_bell(&b);
	evloop_destroy(loop);
	evloop_destroy(NULL);
}

static void test_set_events(void **state)
{
	struct evloop *loop = new_loop();
	struct bell b = { 0 };

	(void)state;
	add_bell(loop, &b, EV_CONTROL, 0);
	ring(&b);
	assert_int_equal(evloop_turn(loop, 0), 0);
	assert_int_equal(evloop_set_events(loop, &b.src, EPOLLIN), 0);
	assert_int_equal(evloop_set_events(loop, &b.src, EPOLLIN), 0);
	assert_int_equal(evloop_turn(loop, 0), 1);
	assert_int_equal(evloop_set_events(loop, &b.src, EPOLLOUT), 0);
	assert_int_equal(evloop_turn(loop, 0), 1);
	assert_int_equal(b.ready, EPOLLOUT);
	assert_int_equal(evloop_set_events(loop, &b.src, 0), 0);
	assert_int_equal(evloop_turn(loop, 0), 0);
	drop_bell(&b);
	evloop_destroy(loop);
}

static void test_cannot_be_polled(void **state)
{
	struct evloop *loop = new_loop();
	FILE *file = tmpfile();
	struct ev_source src = { .fd = fileno(file), .events = EPOLLIN, .fn = on_bell };

	(void)state;
	assert_int_equal(evloop_add(loop, &src), -EPERM);
	assert_false(src.added);
	evloop_remove(loop, &src);
	(void)fclose(file);
	evloop_destroy(loop);
}

/* Both are ready in one turn, each removes the other: exactly one is called. */
static void test_remove_while_dispatching(void **state)
{
	struct evloop *loop = new_loop();
	struct bell a = { 0 }, b = { 0 };

	(void)state;
	add_bell(loop, &a, EV_CONTROL, EPOLLIN);
	add_bell(loop, &b, EV_CONTROL, EPOLLIN);
	a.remove = &b;
	b.remove = &a;
	ring(&a);
	ring(&b);
	assert_int_equal(evloop_turn(loop, 0), 1);
	assert_int_equal(a.calls + b.calls, 1);
	/* And itself. */
	if (a.calls)
		a.remove = &a;
	else
		b.remove = &b;
	assert_int_equal(evloop_turn(loop, 0), 1);
	assert_int_equal(evloop_turn(loop, 0), 0);
	drop_bell(&a);
	drop_bell(&b);
	evloop_destroy(loop);
}

static void test_timers_in_order(void **state)
{
	struct evloop *loop = new_loop();
	struct bell b[4] = { { 0 } };
	static const uint64_t after_ms[] = { 6, 2, 9, 4 };
	uint64_t start = evloop_now_ns();
	int counter = 0;

	(void)state;
	for (int i = 0; i < 4; i++) {
		b[i] = (struct bell){ .loop = loop, .counter = &counter };
		b[i].timer = (struct ev_timer){ .group = i & 1 ? EV_DEVICE : EV_CONTROL, .fn = on_time, .ctx = &b[i] };
		assert_int_equal(evloop_arm(loop, &b[i].timer, start + after_ms[i] * MS), 0);
	}
	evloop_disarm(loop, &b[2].timer);
	evloop_disarm(loop, &b[2].timer);
	assert_int_equal(evloop_arm(loop, &b[0].timer, start + 3 * MS), 0);
	while (counter < 3)
		assert_true(evloop_turn(loop, 1000) >= 0);
	assert_true(evloop_now_ns() - start >= 4 * MS);
	assert_int_equal(b[1].order, 1);
	assert_int_equal(b[0].order, 2);
	assert_int_equal(b[3].order, 3);
	assert_int_equal(b[2].calls, 0);
	assert_int_equal(evloop_turn(loop, 15), 0);
	evloop_destroy(loop);
}

/* A timer that arms itself for the past must not keep the turn from ending, nor starve a descriptor. */
static void test_timer_fairness(void **state)
{
	struct evloop *loop = new_loop();
	struct bell t = { .rearm = true }, b = { .drain = true };

	(void)state;
	add_bell(loop, &t, EV_CONTROL, 0);
	add_bell(loop, &b, EV_CONTROL, EPOLLIN);
	assert_int_equal(evloop_arm(loop, &t.timer, 1), 0);
	ring(&b);
	assert_true(evloop_turn(loop, -1) > 0);
	assert_true(evloop_turn(loop, -1) > 0);
	assert_int_equal(b.calls, 1);
	assert_true(t.calls > 1);
	drop_bell(&t);
	drop_bell(&b);
	evloop_destroy(loop);
}

static void test_pause(void **state)
{
	struct evloop *loop = new_loop();
	struct bell dev = { .drain = true }, late = { .drain = true }, ctl = { .drain = true };

	(void)state;
	add_bell(loop, &dev, EV_DEVICE, EPOLLIN);
	add_bell(loop, &ctl, EV_CONTROL, EPOLLIN);
	evloop_pause_devices(loop);
	evloop_pause_devices(loop);
	add_bell(loop, &late, EV_DEVICE, 0);
	assert_int_equal(evloop_set_events(loop, &late.src, EPOLLIN), 0);
	assert_int_equal(evloop_arm(loop, &dev.timer, 1), 0);
	ring(&dev);
	ring(&late);
	ring(&ctl);
	assert_int_equal(evloop_turn(loop, 0), 1);
	assert_int_equal(evloop_turn(loop, 5), 0);
	assert_int_equal(ctl.calls, 1);
	evloop_resume_devices(loop);
	evloop_resume_devices(loop);
	assert_int_equal(evloop_turn(loop, 0) + evloop_turn(loop, 0), 3);
	assert_int_equal(dev.calls, 2);
	assert_int_equal(late.calls, 1);
	drop_bell(&dev);
	drop_bell(&late);
	drop_bell(&ctl);
	evloop_destroy(loop);
}

static void pause_from_handler(void *ctx, uint32_t ready)
{
	struct bell *b = ctx;

	(void)ready;
	b->calls++;
	evloop_pause_devices(b->loop);
}

/* A device whose event was fetched in the turn that pauses is not called any more. */
static void test_pause_while_dispatching(void **state)
{
	struct evloop *loop = new_loop();
	struct bell a = { 0 }, b = { 0 };

	(void)state;
	add_bell(loop, &a, EV_DEVICE, EPOLLIN);
	add_bell(loop, &b, EV_DEVICE, EPOLLIN);
	a.src.fn = pause_from_handler;
	b.src.fn = pause_from_handler;
	ring(&a);
	ring(&b);
	assert_int_equal(evloop_turn(loop, 0), 1);
	assert_int_equal(a.calls + b.calls, 1);
	drop_bell(&a);
	drop_bell(&b);
	evloop_destroy(loop);
}

static void *stopper(void *loop)
{
	(void)usleep(5000);
	evloop_stop(loop);
	return NULL;
}

static void test_run_and_stop(void **state)
{
	struct evloop *loop = new_loop();
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, stopper, loop), 0);
	assert_int_equal(evloop_run(loop), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	/* A stop before the run counts too. */
	evloop_stop(loop);
	assert_int_equal(evloop_run(loop), 0);
	evloop_wake(loop);
	assert_int_equal(evloop_turn(loop, 1000), 0);
	evloop_destroy(loop);
}

/* From here on epoll_pwait2 does not exist for this process, as on kernels before 5.11. */
static void forbid_pwait2(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = ARRAY_SIZE(filter), .filter = filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		_exit(77);
}

/* The same tests pass without it; run in a child, since a filter is for ever. */
static void test_old_kernel(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0) {
		forbid_pwait2();
		test_level_triggered(NULL);
		test_timers_in_order(NULL);
		test_timer_fairness(NULL);
		test_pause(NULL);
		test_run_and_stop(NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_level_triggered), cmocka_unit_test(test_set_events),
		cmocka_unit_test(test_cannot_be_polled), cmocka_unit_test(test_remove_while_dispatching),
		cmocka_unit_test(test_timers_in_order), cmocka_unit_test(test_timer_fairness), cmocka_unit_test(test_pause),
		cmocka_unit_test(test_pause_while_dispatching), cmocka_unit_test(test_run_and_stop),
		cmocka_unit_test(test_old_kernel),
	};

	return cmocka_run_group_tests_name("evloop", tests, NULL, NULL);
}
