/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each row of CONTRACT.md section 8 that is not the timer's or the API's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "virtio/ratelimit.h"

#define MS UINT64_C(1000000)
#define T0 (UINT64_C(5000) * MS) /* the clock does not start at 0 */

static struct ratelimit rl;

static void init_bytes(uint64_t size, uint64_t burst, uint64_t refill_ms)
{
	const struct ratelimit_bucket_config bytes = { size, burst, refill_ms };

	ratelimit_init(&rl, &bytes, NULL, T0);
}

static bool bytes(uint64_t n, uint64_t at)
{
	return ratelimit_take(&rl, 1, n, at);
}

/* Refused now, and blocked for 100 ms. */
static void refused(uint64_t n, uint64_t at)
{
	assert_false(bytes(n, at));
	assert_int_equal(ratelimit_deadline(&rl), at + RATELIMIT_RETRY_NS);
	ratelimit_expire(&rl);
}

static void disabled(void **state)
{
	(void)state;
	ratelimit_init(&rl, NULL, NULL, T0);
	assert_false(ratelimit_enabled(&rl));
	assert_true(bytes(UINT64_MAX, T0));
	init_bytes(0, 7, 100);
	assert_false(ratelimit_enabled(&rl));
	init_bytes(100, 7, 0);
	assert_false(ratelimit_enabled(&rl));
	init_bytes(100, 7, UINT64_MAX); /* overflows in nanoseconds */
	assert_false(ratelimit_enabled(&rl));
	assert_true(bytes(UINT64_MAX, T0));
	assert_int_equal(ratelimit_deadline(&rl), 0);
}

static void starts_full(void **state)
{
	(void)state;
	init_bytes(1000, 0, 1000);
	assert_true(ratelimit_enabled(&rl));
	assert_true(bytes(999, T0));
	assert_true(bytes(1, T0));
	refused(1, T0);
}

static void burst_first(void **state)
{
	(void)state;
	init_bytes(1000, 500, 1000);
	assert_true(bytes(500, T0));        /* burst only */
	assert_true(bytes(1000, T0));       /* then the bucket */
	refused(1, T0);
	init_bytes(1000, 500, 1000);
	assert_true(bytes(700, T0));        /* burst and 200 of the bucket */
	assert_true(bytes(800, T0));
	refused(1, T0);
	/* The burst is never refilled. */
	assert_true(bytes(1000, T0 + 10000 * MS));
	refused(1, T0 + 10000 * MS);
}

static void refused_takes_nothing(void **state)
{
	(void)state;
	init_bytes(1000, 0, 1000);
	assert_true(bytes(600, T0));
	refused(500, T0);
	assert_true(bytes(400, T0));
	/* Also not the burst: 100 of burst and 900 that are not there yet. */
	init_bytes(1000, 100, 1000);
	rl.bytes.budget = 0;
	refused(900, T0);
	assert_true(bytes(100, T0));
	refused(1, T0);
}

static void burst_does_not_refill(void **state)
{
	(void)state;
	init_bytes(1000, 10, 1000);
	rl.bytes.budget = 0;
	/* While the burst pays the clock stands still: the 500 ms before it are not credited. */
	assert_true(bytes(10, T0 + 500 * MS));
	refused(1, T0 + 500 * MS);
	assert_true(bytes(1, T0 + 501 * MS));
	refused(1, T0 + 501 * MS);
}

static void continuous_refill(void **state)
{
	(void)state;
	init_bytes(1000, 0, 1000); /* one token a millisecond */
	assert_true(bytes(1000, T0));
	refused(1, T0 + MS - 1);
	assert_true(bytes(1, T0 + MS));
	refused(1, T0 + MS);
	assert_true(bytes(250, T0 + 251 * MS));
	/* Capped at the size. */
	assert_true(bytes(1000, T0 + 100000 * MS));
	refused(1, T0 + 100000 * MS);
}

/* Asking often loses nothing: 3 tokens in 10 ms, asked every microsecond, give 300 in a second. */
static void no_loss_in_rounding(void **state)
{
	uint64_t got = 0;

	(void)state;
	init_bytes(3, 0, 10);
	assert_true(bytes(3, T0));
	for (uint64_t t = T0; t <= T0 + 1000 * MS; t += MS / 1000) {
		if (bytes(1, t))
			got++;
		else
			ratelimit_expire(&rl);
	}
	assert_in_range(got, 299, 300);
}

/*
 * No drift: over ten hours, asked at odd times, exactly what the rate is worth is let through, to the token. Rates whose
 * token takes no whole number of nanoseconds, and more than one token a nanosecond.
 */
static void no_drift_over_hours(void **state)
{
	static const struct {
		uint64_t size, refill_ms;
	} rates[] = { { 3, 1000 }, { 7, 1300 }, { 1000003, 9970 }, { UINT64_C(1) << 36, 10000 }, { 48000, 1000 } };
	const uint64_t end = T0 + UINT64_C(36000000) * MS;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		const uint64_t refill_ns = rates[i].refill_ms * MS;
		uint64_t seed = 1, got, t = T0;

		init_bytes(rates[i].size, 0, rates[i].refill_ms);
		assert_true(bytes(rates[i].size, t));
		got = 0;
		/* Take all that is there, at times that have nothing to do with the rate. */
		while (t < end) {
			uint64_t want;

			seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
			t += 1 + (seed >> 33) % (refill_ns / 2);
			if (t > end)
				t = end;
			want = (uint64_t)((unsigned __int128)(t - T0) * rates[i].size / refill_ns) - got;
			assert_true(want <= rates[i].size);
			/* One more is not there; what is due is. */
			if (want < rates[i].size) {
				assert_false(bytes(want + 1, t));
				ratelimit_expire(&rl);
			}
			if (want > 0)
				assert_true(bytes(want, t));
			got += want;
		}
	}
}

/* A new bucket while requests wait: full at once, but the block that runs goes on; the other bucket keeps its level. */
static void update_while_blocked(void **state)
{
	const struct ratelimit_bucket_config b = { 1000, 0, 1000 }, o = { 10, 0, 1000 }, faster = { 5000, 100, 1000 };

	(void)state;
	ratelimit_init(&rl, &b, &o, T0);
	assert_true(ratelimit_take(&rl, 1, 1000, T0));
	assert_false(ratelimit_take(&rl, 1, 1, T0));
	ratelimit_update(&rl, &faster, NULL, T0 + 10 * MS);
	assert_int_equal(ratelimit_deadline(&rl), T0 + RATELIMIT_RETRY_NS);
	assert_false(ratelimit_take(&rl, 1, 1, T0 + 10 * MS));
	ratelimit_expire(&rl);
	assert_true(ratelimit_take(&rl, 1, 5100, T0 + RATELIMIT_RETRY_NS));
	assert_int_equal(rl.ops.budget, 8);
	/* Half a second for 2500 of the new rate. */
	assert_false(ratelimit_take(&rl, 1, 2500, T0 + RATELIMIT_RETRY_NS));
	ratelimit_expire(&rl);
	assert_true(ratelimit_take(&rl, 1, 2500, T0 + RATELIMIT_RETRY_NS + 500 * MS));
}

static void over_consumption(void **state)
{
	(void)state;
	init_bytes(1000, 0, 100);
	assert_true(bytes(400, T0));
	/* 3000 wanted, 600 there: (3000 - 600) / 1000 * 100 ms. */
	assert_true(bytes(3000, T0));
	assert_int_equal(ratelimit_deadline(&rl), T0 + 240 * MS);
	assert_int_equal(rl.bytes.budget, 0);
	assert_false(bytes(1, T0 + 100 * MS));
	assert_int_equal(ratelimit_deadline(&rl), T0 + 240 * MS);
	ratelimit_expire(&rl);
	assert_true(bytes(1000, T0 + 240 * MS));
	/* Larger than the size only because of the burst: the burst pays first. */
	init_bytes(1000, 2500, 100);
	assert_true(bytes(3000, T0));
	assert_int_equal(ratelimit_deadline(&rl), 0);
	assert_int_equal(rl.bytes.budget, 500);
}

static void blocks_both(void **state)
{
	const struct ratelimit_bucket_config b = { 1000, 0, 1000 }, o = { 10, 0, 1000 };

	(void)state;
	ratelimit_init(&rl, &b, &o, T0);
	assert_true(ratelimit_take(&rl, 1, 1000, T0));
	assert_false(ratelimit_take(&rl, 1, 1, T0));
	/* The operation's token came back, and while the timer runs everything is refused. */
	assert_int_equal(rl.ops.budget, 9);
	assert_false(ratelimit_take(&rl, 1, 0, T0 + 5000 * MS));
	ratelimit_expire(&rl);
	assert_true(ratelimit_take(&rl, 9, 0, T0));
	assert_false(ratelimit_take(&rl, 1, 0, T0));
	ratelimit_expire(&rl);
}

static void returned_to_the_burst(void **state)
{
	const struct ratelimit_bucket_config b = { 10, 0, 1000 }, o = { 10, 5, 1000 };

	(void)state;
	ratelimit_init(&rl, &b, &o, T0);
	assert_true(ratelimit_take(&rl, 1, 10, T0));
	assert_false(ratelimit_take(&rl, 1, 10, T0));
	assert_int_equal(rl.ops.burst, 4);
	assert_int_equal(rl.ops.budget, 10);
}

static void patch(void **state)
{
	const struct ratelimit_bucket_config b = { 1000, 50, 1000 }, o = { 10, 0, 1000 }, off = { 0, 0, 0 };

	(void)state;
	ratelimit_init(&rl, &b, &o, T0);
	assert_true(ratelimit_take(&rl, 7, 800, T0));
	ratelimit_update(&rl, NULL, NULL, T0);
	assert_int_equal(rl.bytes.budget, 250);
	assert_int_equal(rl.ops.budget, 3);
	ratelimit_update(&rl, &b, NULL, T0);
	assert_int_equal(rl.bytes.budget, 1000);
	assert_int_equal(rl.bytes.burst, 50);
	assert_int_equal(rl.ops.budget, 3);
	ratelimit_update(&rl, &off, &off, T0);
	assert_false(ratelimit_enabled(&rl));
	assert_true(ratelimit_take(&rl, 1000, UINT64_MAX, T0));
}

/* Absurd numbers do not overflow. */
static void extremes(void **state)
{
	(void)state;
	init_bytes(UINT64_MAX, UINT64_MAX, UINT64_MAX / MS);
	assert_true(bytes(UINT64_MAX, T0));
	assert_true(bytes(UINT64_MAX, T0));
	assert_false(bytes(UINT64_MAX, UINT64_MAX - RATELIMIT_RETRY_NS));
	assert_int_equal(ratelimit_deadline(&rl), UINT64_MAX);
	init_bytes(1, 0, UINT64_MAX / MS);
	assert_true(bytes(UINT64_MAX, UINT64_MAX));
	assert_int_equal(ratelimit_deadline(&rl), UINT64_MAX);
	init_bytes(UINT64_MAX, 0, 1);
	assert_true(bytes(UINT64_MAX, T0));
	assert_true(bytes(UINT64_MAX, T0 + 10 * MS));
	/* A clock that goes backwards gives nothing and takes nothing. */
	assert_false(bytes(1, T0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(disabled), cmocka_unit_test(starts_full), cmocka_unit_test(burst_first),
		cmocka_unit_test(refused_takes_nothing), cmocka_unit_test(burst_does_not_refill),
		cmocka_unit_test(continuous_refill), cmocka_unit_test(no_loss_in_rounding),
		cmocka_unit_test(over_consumption), cmocka_unit_test(no_drift_over_hours),
		cmocka_unit_test(update_while_blocked), cmocka_unit_test(blocks_both),
		cmocka_unit_test(returned_to_the_burst), cmocka_unit_test(patch), cmocka_unit_test(extremes),
	};

	return cmocka_run_group_tests_name("ratelimit", tests, NULL, NULL);
}
