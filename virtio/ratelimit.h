/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Token bucket rate limiter (CONTRACT.md section 8): two buckets, bytes and operations, in front of one
 * queue.
 *
 * Pure: the time is an argument and the timer belongs to the caller. Nothing here depends on the guest
 * except the sizes it asks for, which may be any number.
 *
 * Threads: none; the device's lock is held.
 *
 * Use: ratelimit_init() with what the client gave; before each request ratelimit_take(). When it
 * refuses, or has let an oversized request through, ratelimit_deadline() is not 0: arm a timer for it,
 * stop, and call ratelimit_expire() when it fires.
 */
#ifndef MAYFLY_VIRTIO_RATELIMIT_H
#define MAYFLY_VIRTIO_RATELIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

/* How long a refused request waits for its next try. */
#define RATELIMIT_RETRY_NS UINT64_C(100000000)

/* A bucket as a client describes it. size 0 or refill_ms 0 (or one too large to compute with): no limit. */
struct ratelimit_bucket_config {
	uint64_t size;           /* bytes or operations */
	uint64_t one_time_burst; /* the same unit */
	uint64_t refill_ms;      /* time that fills an empty bucket */
};

struct token_bucket {
	uint64_t size;      /* 0: no limit */
	uint64_t budget;    /* tokens now, <= size */
	uint64_t burst;     /* what is left of the one-time burst */
	uint64_t refill_ns; /* time for size tokens */
	uint64_t num, den;  /* size / refill_ns, reduced */
	uint64_t last_ns;   /* up to when refilling is accounted */
	uint64_t rem;       /* what is left of a token at that time, in units of 1 / den; < den */
};

struct ratelimit {
	struct token_bucket bytes, ops;
	uint64_t blocked_until_ns; /* 0: not blocked */
};

/* Start with full buckets at time @now_ns. NULL: no limit of that kind. */
void ratelimit_init(struct ratelimit *rl, const struct ratelimit_bucket_config *bytes,
		    const struct ratelimit_bucket_config *ops, uint64_t now_ns);

/* PATCH: a bucket that is given replaces its predecessor, full; NULL keeps it. A running block is kept. */
void ratelimit_update(struct ratelimit *rl, const struct ratelimit_bucket_config *bytes,
		      const struct ratelimit_bucket_config *ops, uint64_t now_ns);

/* Is there any limit at all? */
bool ratelimit_enabled(const struct ratelimit *rl);

/* Has it a say in the next request: is there a limit, or does a block run that a removed limit has left? */
bool ratelimit_concerned(const struct ratelimit *rl);

/*
 * Take @ops operations and @bytes bytes at @now_ns (monotonic, never less than before). True: the
 * request may go on. False: nothing was taken; blocked_until_ns is set (now + RATELIMIT_RETRY_NS unless
 * it was set already).
 *
 * A request larger than a whole bucket is let through whatever the level, and blocks the limiter for
 * the time that its excess costs.
 */
bool ratelimit_take(struct ratelimit *rl, uint64_t ops, uint64_t bytes, uint64_t now_ns) MUST_USE;

/* When the block ends, CLOCK_MONOTONIC; 0: not blocked. */
uint64_t ratelimit_deadline(const struct ratelimit *rl);

/* The timer fired. */
void ratelimit_expire(struct ratelimit *rl);

#endif
