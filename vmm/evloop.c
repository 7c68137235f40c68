/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One system call a turn: epoll_pwait2 takes the nearest deadline as its timeout in nanoseconds, so that arming and
 * disarming a timer costs list work only. Kernels before 5.11 lack it: then epoll_wait, rounded up to milliseconds.
 *
 * Removal while dispatching (E2): a removed source is struck out of the events that were fetched and not yet dispatched.
 */
#include "vmm/evloop.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/sys.h"

/* Handlers called in one turn before the timers are looked at and the set is asked again; epoll rotates what is ready. */
#define TURN_EVENTS 32
#define TURN_TIMERS 64

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define NO_DEADLINE UINT64_MAX
#define N_GROUPS 2

struct evloop {
	int epoll_fd;                       /* owned */
	int wake_fd;                        /* owned eventfd, in the set edge-triggered: it is never read */
	bool devices_paused;
	bool no_pwait2;
	_Atomic bool stop;
	struct ev_source *sources;          /* all that are added */
	struct ev_timer *first[N_GROUPS];   /* armed timers of a group, nearest deadline first */
	struct ev_timer *last[N_GROUPS];
	int n_ready, next_ready;            /* fetched events; those before next_ready are dispatched */
	struct epoll_event ready[TURN_EVENTS];
};

uint64_t evloop_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

int evloop_create(struct evloop **out, struct err *e)
{
	struct epoll_event wake = { .events = EPOLLIN | EPOLLET, .data.ptr = NULL };
	struct evloop *loop = calloc(1, sizeof(*loop));
	int rc;

	if (!loop)
		return err_sys(e, -ENOMEM, "allocate the event loop");
	loop->wake_fd = -1;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		goto fail;
	loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (loop->wake_fd < 0)
		goto fail;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &wake) < 0)
		goto fail;
	*out = loop;
	return 0;
fail:
	rc = err_sys(e, -errno, "create the event loop");
	evloop_destroy(loop);
	return rc;
}

void evloop_destroy(struct evloop *loop)
{
	if (!loop)
		return;
	fd_close(&loop->wake_fd);
	fd_close(&loop->epoll_fd);
	free(loop);
}

static bool group_paused(const struct evloop *loop, enum ev_group group)
{
	return group == EV_DEVICE && loop->devices_paused;
}

/* Does E1 say that the source belongs into the epoll set, were its events @events? */
static bool wants_set(const struct evloop *loop, const struct ev_source *src, uint32_t events)
{
	return events != 0 && !group_paused(loop, src->group);
}

static int epoll_change(struct evloop *loop, int op, struct ev_source *src, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = src };

	return epoll_ctl(loop->epoll_fd, op, src->fd, &ev) < 0 ? -errno : 0;
}

int evloop_add(struct evloop *loop, struct ev_source *src)
{
	must(!src->added);
	if (wants_set(loop, src, src->events)) {
		int rc = epoll_change(loop, EPOLL_CTL_ADD, src, src->events);

		if (rc < 0)
			return rc;
	}
	src->prev = NULL;
	src->next = loop->sources;
	if (src->next)
		src->next->prev = src;
	loop->sources = src;
	src->added = true;
	return 0;
}

int evloop_set_events(struct evloop *loop, struct ev_source *src, uint32_t events)
{
	bool in_set = wants_set(loop, src, src->events);
	bool want = wants_set(loop, src, events);
	int rc = 0;

	must(src->added);
	if (src->events == events)
		return 0;
	if (in_set && want)
		rc = epoll_change(loop, EPOLL_CTL_MOD, src, events);
	else if (in_set)
		rc = epoll_change(loop, EPOLL_CTL_DEL, src, 0);
	else if (want)
		rc = epoll_change(loop, EPOLL_CTL_ADD, src, events);
	if (rc == 0)
		src->events = events;
	return rc;
}

void evloop_remove(struct evloop *loop, struct ev_source *src)
{
	if (!src->added)
		return;
	if (wants_set(loop, src, src->events))
		(void)epoll_change(loop, EPOLL_CTL_DEL, src, 0);
	if (src->prev)
		src->prev->next = src->next;
	else
		loop->sources = src->next;
	if (src->next)
		src->next->prev = src->prev;
	src->prev = NULL;
	src->next = NULL;
	src->added = false;
	for (int i = loop->next_ready; i < loop->n_ready; i++) {
		if (loop->ready[i].data.ptr == src)
			loop->ready[i].data.ptr = NULL;
	}
}

static void timer_unlink(struct evloop *loop, struct ev_timer *timer)
{
	if (timer->prev)
		timer->prev->next = timer->next;
	else
		loop->first[timer->group] = timer->next;
	if (timer->next)
		timer->next->prev = timer->prev;
	else
		loop->last[timer->group] = timer->prev;
	timer->prev = NULL;
	timer->next = NULL;
	timer->deadline_ns = 0;
}

int evloop_arm(struct evloop *loop, struct ev_timer *timer, uint64_t deadline_ns)
{
	struct ev_timer *after;

	if (timer->deadline_ns != 0)
		timer_unlink(loop, timer);
	timer->deadline_ns = deadline_ns > 0 ? deadline_ns : 1;
	/* From the end: most timers have the same length, so the newest is the last. */
	after = loop->last[timer->group];
	while (after && after->deadline_ns > timer->deadline_ns)
		after = after->prev;
	timer->prev = after;
	timer->next = after ? after->next : loop->first[timer->group];
	if (timer->prev)
		timer->prev->next = timer;
	else
		loop->first[timer->group] = timer;
	if (timer->next)
		timer->next->prev = timer;
	else
		loop->last[timer->group] = timer;
	return 0;
}

void evloop_disarm(struct evloop *loop, struct ev_timer *timer)
{
	if (timer->deadline_ns != 0)
		timer_unlink(loop, timer);
}

void evloop_pause_devices(struct evloop *loop)
{
	if (loop->devices_paused)
		return;
	for (struct ev_source *src = loop->sources; src; src = src->next) {
		if (src->group == EV_DEVICE && src->events != 0)
			(void)epoll_change(loop, EPOLL_CTL_DEL, src, 0);
	}
	loop->devices_paused = true;
}

void evloop_resume_devices(struct evloop *loop)
{
	if (!loop->devices_paused)
		return;
	loop->devices_paused = false;
	for (struct ev_source *src = loop->sources; src; src = src->next) {
		int rc;

		if (src->group != EV_DEVICE || src->events == 0)
			continue;
		rc = epoll_change(loop, EPOLL_CTL_ADD, src, src->events);
		if (rc < 0)
			log_error("A device stays deaf after the resume: epoll_ctl failed with errno %d.", -rc);
	}
}

/* The armed timer that is due first and may fire now; NULL: none. */
static struct ev_timer *nearest_timer(const struct evloop *loop)
{
	struct ev_timer *control = loop->first[EV_CONTROL];
	struct ev_timer *device = loop->devices_paused ? NULL : loop->first[EV_DEVICE];

	if (!control || !device)
		return control ? control : device;
	return device->deadline_ns < control->deadline_ns ? device : control;
}

/* Fetch events, waiting @wait_ns at most (NO_DEADLINE: for ever). Returns their number or negative errno. */
static int wait_ready(struct evloop *loop, uint64_t wait_ns)
{
	struct timespec ts = { .tv_sec = (time_t)(wait_ns / NS_PER_S), .tv_nsec = (long)(wait_ns % NS_PER_S) };
	int n, wait_ms = -1;

	if (!loop->no_pwait2) {
		n = sys_epoll_pwait2(loop->epoll_fd, loop->ready, TURN_EVENTS, wait_ns == NO_DEADLINE ? NULL : &ts);
		if (n >= 0 || errno != ENOSYS)
			return n < 0 ? -errno : n;
		loop->no_pwait2 = true;
	}
	if (wait_ns != NO_DEADLINE) {
		uint64_t ms = (wait_ns + NS_PER_MS - 1) / NS_PER_MS;

		wait_ms = ms > INT32_MAX ? INT32_MAX : (int)ms;
	}
	n = epoll_wait(loop->epoll_fd, loop->ready, TURN_EVENTS, wait_ms);
	return n < 0 ? -errno : n;
}

static int dispatch_sources(struct evloop *loop)
{
	int called = 0;

	while (loop->next_ready < loop->n_ready) {
		const struct epoll_event *ev = &loop->ready[loop->next_ready++];
		struct ev_source *src = ev->data.ptr;
		uint32_t ready;

		/* NULL: the wake descriptor, or removed in this turn. */
		if (!src || group_paused(loop, src->group) || src->events == 0)
			continue;
		ready = ev->events & (src->events | EPOLLERR | EPOLLHUP);
		if (ready == 0)
			continue;
		called++;
		src->fn(src->ctx, ready);
	}
	return called;
}

static int dispatch_timers(struct evloop *loop, uint64_t now_ns)
{
	int called = 0;

	while (called < TURN_TIMERS) {
		struct ev_timer *timer = nearest_timer(loop);

		if (!timer || timer->deadline_ns > now_ns)
			break;
		timer_unlink(loop, timer);
		called++;
		timer->fn(timer->ctx);
	}
	return called;
}

int evloop_turn(struct evloop *loop, int timeout_ms)
{
	uint64_t wait_ns = timeout_ms < 0 ? NO_DEADLINE : (uint64_t)timeout_ms * NS_PER_MS;
	const struct ev_timer *timer = nearest_timer(loop);
	uint64_t now_ns = 0;
	int n, called;

	if (timer) {
		uint64_t left_ns;

		now_ns = evloop_now_ns();
		left_ns = timer->deadline_ns > now_ns ? timer->deadline_ns - now_ns : 0;
		if (left_ns < wait_ns)
			wait_ns = left_ns;
	}
	n = wait_ready(loop, wait_ns);
	if (n < 0)
		return n == -EINTR ? 0 : n;
	/* A turn that slept needs the new time; a busy one uses the old and sees the timer in its next turn. */
	if (timer && n == 0)
		now_ns = evloop_now_ns();
	loop->n_ready = n;
	loop->next_ready = 0;
	called = dispatch_sources(loop);
	loop->n_ready = 0;
	if (timer)
		called += dispatch_timers(loop, now_ns);
	return called;
}

int evloop_run(struct evloop *loop)
{
	while (!atomic_load_explicit(&loop->stop, memory_order_acquire)) {
		int rc = evloop_turn(loop, -1);

		if (rc < 0)
			return rc;
	}
	atomic_store_explicit(&loop->stop, false, memory_order_relaxed);
	return 0;
}

void evloop_wake(struct evloop *loop)
{
	const uint64_t one = 1;

	if (write(loop->wake_fd, &one, sizeof(one)) < 0)
		return; /* EAGAIN: woken 2^64 times already */
}

void evloop_stop(struct evloop *loop)
{
	int saved = errno;

	atomic_store_explicit(&loop->stop, true, memory_order_release);
	evloop_wake(loop);
	errno = saved;
}
