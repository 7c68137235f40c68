/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All products go through 128 bits, so no configuration and no clock can overflow them, and divisions keep
 * their rest: the results are exact.
 */
#include "virtio/ratelimit.h"

#include "vmm/base/checked.h"

#define NS_PER_MS UINT64_C(1000000)

/* What taking from one bucket would come to. */
struct take {
	bool allowed;
	uint64_t block_ns; /* > 0: allowed at the price of blocking the limiter */
};

static uint64_t gcd(uint64_t a, uint64_t b)
{
	while (b != 0) {
		uint64_t r = a % b;

		a = b;
		b = r;
	}
	return a;
}

/* @a * @b / @c, UINT64_MAX when that does not fit. @c is not 0. */
static uint64_t mul_div(uint64_t a, uint64_t b, uint64_t c)
{
	unsigned __int128 r = (unsigned __int128)a * b / c;

	return r > UINT64_MAX ? UINT64_MAX : (uint64_t)r;
}

static void bucket_init(struct token_bucket *b, const struct ratelimit_bucket_config *config, uint64_t now_ns)
{
	uint64_t refill_ns, common;

	*b = (struct token_bucket){ .size = 0 };
	/* CONTRACT.md section 8, row "Disabled". */
	if (config->size == 0 || config->refill_ms == 0 || !checked_mul_u64(config->refill_ms, NS_PER_MS, &refill_ns))
		return;
	common = gcd(config->size, refill_ns);
	b->size = config->size;
	b->budget = config->size;
	b->burst = config->one_time_burst;
	b->refill_ns = refill_ns;
	b->num = config->size / common;
	b->den = refill_ns / common;
	b->last_ns = now_ns;
}

/*
 * Credit the time since last_ns. What is left of a token is kept, so that neither frequent nor rare calls lose or win
 * anything over any time.
 */
static void bucket_refill(struct token_bucket *b, uint64_t now_ns)
{
	unsigned __int128 credit, tokens;

	if (now_ns <= b->last_ns)
		return;
	/* No overflow: (2^64 - 1)^2 + 2^64 - 1 < 2^128. */
	credit = (unsigned __int128)(now_ns - b->last_ns) * b->num + b->rem;
	tokens = credit / b->den;
	b->last_ns = now_ns;
	if (tokens >= b->size - b->budget) {
		b->budget = b->size;
		b->rem = 0;
		return;
	}
	b->budget += (uint64_t)tokens;
	b->rem = (uint64_t)(credit % b->den);
}

/* Take @n tokens, or nothing. */
static struct take bucket_take(struct token_bucket *b, uint64_t n, uint64_t now_ns)
{
	struct take t = { .allowed = true };
	uint64_t rest;

	if (b->size == 0)
		return t;
	if (b->burst > 0 && b->burst >= n) {
		b->burst -= n;
		b->last_ns = now_ns; /* the refill clock does not run while the burst pays */
		return t;
	}
	rest = n - b->burst;
	if (rest > b->budget)
		bucket_refill(b, now_ns);
	if (rest > b->size) {
		/* Over-consumption: allowed at once, paid for afterwards. */
		t.block_ns = mul_div(rest - b->budget, b->refill_ns, b->size);
		b->burst = 0;
		b->budget = 0;
		return t;
	}
	if (rest > b->budget) {
		t.allowed = false;
		return t;
	}
	b->burst = 0;
	b->budget -= rest;
	return t;
}

/* Give @n tokens back that were taken a moment ago. */
static void bucket_return(struct token_bucket *b, uint64_t n)
{
	if (b->size == 0)
		return;
	if (b->burst > 0)
		b->burst = n <= UINT64_MAX - b->burst ? b->burst + n : UINT64_MAX;
	else
		b->budget = n < b->size - b->budget ? b->budget + n : b->size;
}

static void block_for(struct ratelimit *rl, uint64_t ns, uint64_t now_ns)
{
	uint64_t until;

	if (!checked_add_u64(now_ns, ns, &until))
		until = UINT64_MAX;
	if (until > rl->blocked_until_ns)
		rl->blocked_until_ns = until;
}

void ratelimit_init(struct ratelimit *rl, const struct ratelimit_bucket_config *bytes,
		    const struct ratelimit_bucket_config *ops, uint64_t now_ns)
{
	*rl = (struct ratelimit){ .blocked_until_ns = 0 };
	ratelimit_update(rl, bytes, ops, now_ns);
}

void ratelimit_update(struct ratelimit *rl, const struct ratelimit_bucket_config *bytes,
		      const struct ratelimit_bucket_config *ops, uint64_t now_ns)
{
	if (bytes)
		bucket_init(&rl->bytes, bytes, now_ns);
	if (ops)
		bucket_init(&rl->ops, ops, now_ns);
}

bool ratelimit_enabled(const struct ratelimit *rl)
{
	return rl->bytes.size != 0 || rl->ops.size != 0;
}

bool ratelimit_concerned(const struct ratelimit *rl)
{
	return ratelimit_enabled(rl) || rl->blocked_until_ns != 0;
}

bool ratelimit_take(struct ratelimit *rl, uint64_t ops, uint64_t bytes, uint64_t now_ns)
{
	struct take t_ops, t_bytes;

	if (rl->blocked_until_ns != 0)
		return false;
	t_ops = bucket_take(&rl->ops, ops, now_ns);
	if (!t_ops.allowed) {
		block_for(rl, RATELIMIT_RETRY_NS, now_ns);
		return false;
	}
	t_bytes = bucket_take(&rl->bytes, bytes, now_ns);
	if (!t_bytes.allowed) {
		bucket_return(&rl->ops, ops);
		block_for(rl, RATELIMIT_RETRY_NS, now_ns);
		return false;
	}
	if (t_ops.block_ns > 0)
		block_for(rl, t_ops.block_ns, now_ns);
	if (t_bytes.block_ns > 0)
		block_for(rl, t_bytes.block_ns, now_ns);
	return true;
}

uint64_t ratelimit_deadline(const struct ratelimit *rl)
{
	return rl->blocked_until_ns;
}

void ratelimit_expire(struct ratelimit *rl)
{
	rl->blocked_until_ns = 0;
}
