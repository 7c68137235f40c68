/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop of the I/O thread: descriptors and timers, with safe removal while dispatching.
 *
 * Use: the owner embeds a `struct ev_source` or `struct ev_timer` in its own object, fills it, and adds it. The loop
 * borrows it until it is removed. Handlers have a bounded amount of work a turn (they return and are called again,
 * epoll is level-triggered); no handler blocks.
 *
 * Groups: EV_DEVICE sources and timers are not dispatched between evloop_pause_devices() and evloop_resume_devices() (a paused
 * microVM serves only its API); a timer that expires meanwhile fires after the resume. EV_CONTROL is always dispatched.
 *
 * Threads: everything here is called in the I/O thread (or before it starts), except evloop_stop() and evloop_wake(), any thread.
 *
 * Invariants: (E1) a source is in the epoll set exactly while it is added, its events are not 0 and its group is not paused.
 * (E2) a removed source's handler is never called again, even if its event was already fetched in this turn.
 * (E3) with nothing ready and no timer due the loop makes no system call: idle means zero CPU.
 */
#ifndef MAYFLY_VMM_EVLOOP_H
#define MAYFLY_VMM_EVLOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"

struct evloop;

enum ev_group { EV_CONTROL, EV_DEVICE };

struct ev_source {
	int fd;                                  /* borrowed while added */
	uint32_t events;                         /* EPOLLIN, EPOLLOUT...; 0: added but silent */
	enum ev_group group;
	void (*fn)(void *ctx, uint32_t ready);   /* @ready: EPOLL* bits */
	void *ctx;
	/* Private to the loop. */
	bool added;
	struct ev_source *prev, *next;
};

struct ev_timer {
	enum ev_group group;
	void (*fn)(void *ctx);
	void *ctx;
	/* Private to the loop. */
	uint64_t deadline_ns;                    /* CLOCK_MONOTONIC; 0: not armed */
	struct ev_timer *prev, *next;
};

/* Create a loop. Returns 0 and *@out (owned), or negative errno with @e. */
int evloop_create(struct evloop **out, struct err *e) MUST_USE;

/* Destroy; NULL allowed. Sources still added are forgotten, not closed. */
void evloop_destroy(struct evloop *loop);

/* Add @src (fd, events, group, fn, ctx filled). 0 or negative errno. It must not be added already. */
int evloop_add(struct evloop *loop, struct ev_source *src) MUST_USE;

/* Change the events that @src waits for; 0 silences it without removing. 0 or negative errno. */
int evloop_set_events(struct evloop *loop, struct ev_source *src, uint32_t events) MUST_USE;

/* Remove @src; not added: no-op. Allowed in any handler, also its own. The fd stays open. */
void evloop_remove(struct evloop *loop, struct ev_source *src);

/* Arm @timer to fire once at @deadline_ns of CLOCK_MONOTONIC (replaces an earlier deadline). Always 0. */
int evloop_arm(struct evloop *loop, struct ev_timer *timer, uint64_t deadline_ns) MUST_USE;

/* Disarm; not armed: no-op. */
void evloop_disarm(struct evloop *loop, struct ev_timer *timer);

/* Stop and start dispatching EV_DEVICE. Idempotent. */
void evloop_pause_devices(struct evloop *loop);
void evloop_resume_devices(struct evloop *loop);

/* Dispatch until evloop_stop(). Returns 0, or negative errno when epoll itself fails. */
int evloop_run(struct evloop *loop) MUST_USE;

/*
 * One turn: wait at most @timeout_ms (-1: for ever), dispatch what is ready. Returns the number of handlers called or
 * negative errno.
 */
int evloop_turn(struct evloop *loop, int timeout_ms) MUST_USE;

/* Make evloop_run() return after the present turn. Any thread; async-signal-safe. */
void evloop_stop(struct evloop *loop);

/* Make a turn that waits return, with nothing to dispatch. Any thread; async-signal-safe. */
void evloop_wake(struct evloop *loop);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t evloop_now_ns(void);

#endif
