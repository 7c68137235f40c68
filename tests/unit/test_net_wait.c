/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each direction of an interface waits for (net_impl.h): every state against every event. Only the
 * one that belongs to the state makes anything happen, and it always does (CVE-2020-16843: a receive
 * side that waited for what had passed already).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/net_fixture.h"
#include "vmm/base/log.h"

#define QSIZE 64
#define ONE_IN_50_MS { .size = 1, .refill_ms = 50 }

enum event { EDGE_IN, EDGE_OUT, KICK_RX, KICK_TX, TIMER_RX, TIMER_TX, N_EVENTS };

static const struct ratelimit_bucket_config none = { .size = 0 };
static const struct net_config limited = { .rx = { .ops = ONE_IN_50_MS }, .tx = { .ops = ONE_IN_50_MS } };

static void create(const struct net_config *config, bool gathers)
{
	fix_create(config, 0, gathers);
	fix_start(FIX_PLAIN | VIRTIO_NET_F_MRG_RXBUF, QSIZE);
}

static void fire(struct ev_timer *timer)
{
	evloop_disarm(fix.loop, timer);
	timer->fn(timer->ctx);
}

/* Let @event happen, as it does when it has nothing to do with what is waited for; each may come at any time. */
static void happen(enum event event)
{
	switch (event) {
	case EDGE_IN:
		net_host_ready(fix.net, EPOLLIN);
		break;
	case EDGE_OUT:
		net_host_ready(fix.net, EPOLLOUT);
		break;
	case KICK_RX:
		virtio_mmio_handle_kick(fix.t, NET_QUEUE_RX);
		break;
	case KICK_TX:
		virtio_mmio_handle_kick(fix.t, NET_QUEUE_TX);
		break;
	case TIMER_RX:
		fire(&fix.net->rx.timer);
		break;
	case TIMER_TX:
		fire(&fix.net->tx.timer);
		break;
	case N_EVENTS:
		must(false);
	}
}

/* --- Receiving --- */

/* Bring rx into @wait, with a frame at the host that could be had if it were only asked for. */
static void bring_rx(enum net_wait wait)
{
	create(wait == WAIT_LIMIT ? &limited : NULL, false);
	switch (wait) {
	case WAIT_START:
		guest_mmio_write(fix.t, VIRTIO_MMIO_STATUS, 0);
		break;
	case WAIT_GUEST:
		break;
	case WAIT_HOST:
		fix_offer_rx(0, 8, 2000);
		fix_kick(NET_QUEUE_RX);
		break;
	case WAIT_LIMIT:
		fix_offer_rx(0, 8, 2000);
		fix_kick(NET_QUEUE_RX);
		fix_host_frame(100);
		fix_host_frame(100);
		(void)fix_run();
		net_update_limits(fix.net, NET_RX, NULL, &none); /* the running block is kept */
		break;
	case WAIT_TURN:
		fix_offer_rx(0, QSIZE, 100);
		fix_kick(NET_QUEUE_RX);
		fix.host.endless = true;
		fix.host.len[0] = NET_FRAME_MAX / 2; /* never fits: dropped again and again, until the turn is over */
		happen(EDGE_IN);
		break;
	case WAIT_NEVER:
		fix_offer_rx(0, 8, 2000);
		fix.host.recv_error = EPIPE;
		fix_kick(NET_QUEUE_RX);
		fix.host.recv_error = 0;
		break;
	}
	assert_int_equal(fix.net->rx.wait, wait);
	fix_host_frame(100);
	fix.host.n_recv = 0;
}

static bool ends_rx(enum net_wait wait, enum event event)
{
	switch (wait) {
	case WAIT_GUEST:
	case WAIT_TURN:
		return event == KICK_RX;
	case WAIT_HOST:
		return event == EDGE_IN;
	case WAIT_LIMIT:
		return event == TIMER_RX;
	case WAIT_START:
	case WAIT_NEVER:
		break;
	}
	return false;
}

static void every_rx_state(void **state)
{
	(void)state;
	for (enum net_wait wait = WAIT_START; wait <= WAIT_NEVER; wait++) {
		for (enum event event = 0; event < N_EVENTS; event++) {
			bring_rx(wait);
			if (wait == WAIT_GUEST)
				fix_offer_rx(0, 8, 2000);
			happen(event);
			if (ends_rx(wait, event))
				assert_true(fix.host.n_recv > 0);
			else if (event != KICK_TX && event != EDGE_OUT)
				assert_int_equal(fix.host.n_recv, 0);
			/* A look at the host after sending is the exception, and changes nothing else. */
			else
				assert_true(fix.host.n_recv == 0 || wait == WAIT_HOST);
			fix_destroy();
		}
	}
}

/* Whatever came before in vain: what is waited for still ends it. */
static void no_rx_wakeup_is_lost(void **state)
{
	static const enum net_wait waits[] = { WAIT_GUEST, WAIT_HOST, WAIT_LIMIT, WAIT_TURN };

	(void)state;
	for (size_t w = 0; w < ARRAY_SIZE(waits); w++) {
		bring_rx(waits[w]);
		for (enum event event = 0; event < N_EVENTS; event++) {
			if (!ends_rx(waits[w], event) && event != TIMER_TX)
				happen(event);
		}
		if (waits[w] == WAIT_GUEST)
			fix_offer_rx(0, 8, 2000);
		fix.host.endless = false;
		for (enum event event = 0; event < N_EVENTS; event++) {
			if (ends_rx(waits[w], event))
				happen(event);
		}
		(void)fix_run();
		assert_true(guest_ring_used_idx(&fix.rx) > 0);
		fix_destroy();
	}
}

/* A guest that gives no buffers: one edge is seen, then the source is silent until there are some. */
static void silent_without_buffers(void **state)
{
	(void)state;
	create(NULL, false);
	assert_int_equal(fix.net->rx.wait, WAIT_GUEST);
	fix_host_frame(100);
	assert_int_equal(fix_run(), 1);
	assert_int_equal(fix.net->source.events, 0);
	for (int i = 0; i < 20; i++)
		fix_host_frame(100);
	assert_int_equal(fix_run(), 0);
	assert_int_equal(fix.host.n_recv, 0);
	fix_offer_rx(0, 16, 2000);
	fix_kick(NET_QUEUE_RX);
	assert_int_equal(guest_ring_used_idx(&fix.rx), 16);
	assert_int_equal(fix.net->rx.wait, WAIT_GUEST);
	fix_offer_rx(16, 16, 2000);
	fix_kick(NET_QUEUE_RX);
	assert_int_equal(guest_ring_used_idx(&fix.rx), 21);
	assert_int_equal(fix.net->rx.wait, WAIT_HOST);
	assert_int_equal(fix.net->source.events, EPOLLIN | EPOLLET);
	fix_host_frame(100);
	(void)fix_run();
	assert_int_equal(guest_ring_used_idx(&fix.rx), 22);
	fix_destroy();
}

/* A flood and a guest that gives a buffer now and then: every turn ends, every buffer is used, and it recovers. */
static void flood(void **state)
{
	uint16_t given = 0;

	(void)state;
	create(NULL, false);
	fix.host.endless = true;
	fix.host.len[0] = 1000;
	for (int i = 0; i < 1000; i++) {
		uint16_t n = (uint16_t)(i % 7);

		fix_edge();
		fix_offer_rx((uint16_t)(given % QSIZE + n > QSIZE ? 0 : given % QSIZE), n, 2000);
		given = (uint16_t)(given + n);
		fix_kick(NET_QUEUE_RX);
		assert_int_equal(guest_ring_used_idx(&fix.rx), given);
		fix.host.n_recv = 0;
		(void)fix_run();
		assert_int_equal(fix.host.n_recv, 0);
	}
	fix.host.endless = false;
	fix.host.next = fix.host.n_frames;
	fix_offer_rx(0, 8, 2000);
	fix_kick(NET_QUEUE_RX);
	assert_int_equal(fix.net->rx.wait, WAIT_HOST);
	fix_host_frame(500);
	(void)fix_run();
	assert_int_equal(guest_ring_used_idx(&fix.rx), (uint16_t)(given + 1));
	fix_destroy();
}

/* A host that always has one more: a turn is bounded, and others come in between. */
static void turns_are_bounded(void **state)
{
	(void)state;
	create(NULL, false);
	fix_offer_rx(0, QSIZE, 100);
	fix.host.endless = true;
	fix.host.len[0] = 50000; /* dropped: it never fits */
	happen(KICK_RX);
	assert_in_range(fix.host.n_recv, 1, NET_TURN_LOOKS);
	assert_int_equal(fix.net->rx.wait, WAIT_TURN);
	fix.host.n_recv = 0;
	assert_int_equal(evloop_turn(fix.loop, 0), 1);
	assert_in_range(fix.host.n_recv, 1, NET_TURN_LOOKS);
	/* Empty looks at the ring cost as well: bad buffers without end can't hold the thread. */
	fix_destroy();
}

/* --- Sending --- */

static void bring_tx(enum net_wait wait)
{
	create(wait == WAIT_LIMIT ? &limited : NULL, wait == WAIT_HOST);
	switch (wait) {
	case WAIT_START:
		guest_mmio_write(fix.t, VIRTIO_MMIO_STATUS, 0);
		break;
	case WAIT_GUEST:
		break;
	case WAIT_HOST:
		fix.host.send_error = EAGAIN;
		fix_offer_tx(0, NULL, 100);
		happen(KICK_TX);
		fix.host.send_error = 0;
		break;
	case WAIT_LIMIT:
		fix_offer_tx(0, NULL, 100);
		fix_offer_tx(1, NULL, 100);
		happen(KICK_TX);
		net_update_limits(fix.net, NET_TX, NULL, &none);
		break;
	case WAIT_TURN:
		for (uint16_t i = 0; i < 32; i++)
			fix_offer_tx(i, NULL, 60000);
		happen(KICK_TX);
		break;
	case WAIT_NEVER:
		return;
	}
	assert_int_equal(fix.net->tx.wait, wait);
	fix.host.n_send = 0;
}

static bool ends_tx(enum net_wait wait, enum event event)
{
	switch (wait) {
	case WAIT_GUEST:
	case WAIT_TURN:
		return event == KICK_TX;
	case WAIT_HOST:
		return event == EDGE_OUT;
	case WAIT_LIMIT:
		return event == TIMER_TX;
	case WAIT_START:
	case WAIT_NEVER:
		break;
	}
	return false;
}

static void every_tx_state(void **state)
{
	(void)state;
	for (enum net_wait wait = WAIT_START; wait < WAIT_NEVER; wait++) {
		for (enum event event = 0; event < N_EVENTS; event++) {
			bring_tx(wait);
			if (wait == WAIT_GUEST)
				fix_offer_tx(0, NULL, 100);
			happen(event);
			assert_int_equal(fix.host.n_send > 0, ends_tx(wait, event));
			fix_destroy();
		}
	}
}

/* No room at the host: the frame keeps its place, EPOLLOUT is asked for just then, and all go in order. */
static void host_without_room(void **state)
{
	(void)state;
	create(NULL, false);
	assert_int_equal(fix.net->source.events, EPOLLIN | EPOLLET);
	fix.host.send_error = EAGAIN;
	fix.host.send_error_after = 1;
	for (uint16_t i = 0; i < 4; i++)
		fix_offer_tx(i, NULL, (uint32_t)(100 + i));
	happen(KICK_TX);
	assert_int_equal(guest_ring_used_idx(&fix.tx), 1);
	assert_int_equal(fix.host.n_send, 2);
	assert_int_equal(fix.net->source.events, EPOLLIN | EPOLLOUT | EPOLLET);
	fix.host.send_error = 0;
	(void)fix_run(); /* the descriptor is writable, which is said once */
	assert_int_equal(guest_ring_used_idx(&fix.tx), 4);
	assert_int_equal(fix.host.sent_len, 103);
	assert_int_equal(fix.net->source.events, EPOLLIN | EPOLLET);
	assert_int_equal(fix.net->tx.wait, WAIT_GUEST);
	fix_destroy();
}

/* The same when the host gathered and can't pass on. */
static void flush_without_room(void **state)
{
	(void)state;
	create(NULL, true);
	fix.host.flush_error = EAGAIN;
	fix_offer_tx(0, NULL, 100);
	happen(KICK_TX);
	assert_int_equal(guest_ring_used_idx(&fix.tx), 1);
	assert_int_equal(fix.net->tx.wait, WAIT_HOST);
	assert_int_equal(fix.host.n_flush, 1);
	happen(KICK_TX);
	assert_int_equal(fix.host.n_flush, 1);
	fix.host.flush_error = 0;
	(void)fix_run();
	assert_int_equal(fix.host.n_flush, 2);
	assert_int_equal(fix.net->tx.wait, WAIT_GUEST);
	fix_destroy();
}

/* --- Rate limiters --- */

/* A throttled direction does nothing and costs nothing until its timer; the frame in progress is the first then. */
static void throttled(void **state)
{
	uint64_t start_ns;

	(void)state;
	create(&limited, false);
	for (uint16_t i = 0; i < 3; i++)
		fix_offer_tx(i, NULL, (uint32_t)(100 + i));
	fix_offer_rx(0, 8, 2000);
	start_ns = evloop_now_ns();
	fix_kick(NET_QUEUE_TX);
	fix_kick(NET_QUEUE_RX);
	for (int i = 0; i < 3; i++)
		fix_host_frame(100);
	(void)fix_run();
	assert_int_equal(guest_ring_used_idx(&fix.tx), 1);
	assert_int_equal(guest_ring_used_idx(&fix.rx), 1);
	assert_int_equal(fix.net->tx.wait, WAIT_LIMIT);
	assert_int_equal(fix.net->rx.wait, WAIT_LIMIT);
	fix_edge();
	(void)fix_run();
	fix.host.n_recv = 0;
	fix_edge();
	assert_int_equal(fix_run(), 0); /* silent */
	while (guest_ring_used_idx(&fix.tx) < 3 || guest_ring_used_idx(&fix.rx) < 3)
		assert_true(evloop_turn(fix.loop, 1000) > 0);
	assert_true(evloop_now_ns() - start_ns >= 2 * RATELIMIT_RETRY_NS);
	assert_int_equal(fix.host.sent_len, 102);
	assert_in_range(atomic_load(&net_get_stats(fix.net)->tx_rate_limiter_throttled), 2, 4);
	assert_in_range(atomic_load(&net_get_stats(fix.net)->rx_rate_limiter_throttled), 2, 4);
	assert_true(atomic_load(&net_get_stats(fix.net)->rx_event_rate_limiter_count) >= 2);
	fix_destroy();
}

/* PATCH: the new limit holds for the next frame, and none at all once the running block is over. */
static void limits_change(void **state)
{
	const struct ratelimit_bucket_config one = ONE_IN_50_MS;

	(void)state;
	create(NULL, false);
	net_update_limits(fix.net, NET_TX, NULL, &one);
	fix_offer_tx(0, NULL, 100);
	fix_offer_tx(1, NULL, 100);
	fix_kick(NET_QUEUE_TX);
	assert_int_equal(guest_ring_used_idx(&fix.tx), 1);
	net_update_limits(fix.net, NET_TX, NULL, &none);
	while (guest_ring_used_idx(&fix.tx) < 2)
		assert_true(evloop_turn(fix.loop, 1000) > 0);
	for (uint16_t i = 2; i < 12; i++)
		fix_offer_tx(i, NULL, 100);
	fix_kick(NET_QUEUE_TX);
	assert_int_equal(guest_ring_used_idx(&fix.tx), 12);
	fix_destroy();
}

/* A reset gives no tokens, and a timer that fires behind it starts nothing. */
static void reset_while_throttled(void **state)
{
	(void)state;
	bring_tx(WAIT_LIMIT);
	guest_mmio_write(fix.t, VIRTIO_MMIO_STATUS, 0);
	fix_start(FIX_PLAIN, QSIZE);
	fix_offer_tx(0, NULL, 100);
	fix_kick(NET_QUEUE_TX);
	assert_int_equal(guest_ring_used_idx(&fix.tx), 0);
	guest_mmio_write(fix.t, VIRTIO_MMIO_STATUS, 0);
	happen(TIMER_TX);
	happen(TIMER_RX);
	assert_int_equal(fix.net->tx.wait, WAIT_START);
	fix_destroy();
}

/* A paused microVM moves nothing; afterwards nothing was forgotten. */
static void pause_and_resume(void **state)
{
	(void)state;
	create(NULL, false);
	fix_offer_rx(0, 8, 2000);
	fix_kick(NET_QUEUE_RX);
	evloop_pause_devices(fix.loop);
	fix_host_frame(100);
	fix_offer_tx(0, NULL, 100);
	fix_kick(NET_QUEUE_TX);
	assert_int_equal(guest_ring_used_idx(&fix.rx) + guest_ring_used_idx(&fix.tx), 0);
	evloop_resume_devices(fix.loop);
	virtio_mmio_kick_all(fix.t);
	(void)fix_run();
	assert_int_equal(guest_ring_used_idx(&fix.rx), 1);
	assert_int_equal(guest_ring_used_idx(&fix.tx), 1);
	fix_destroy();
}

/* The host's side ends while a frame waits for room there: nobody will say that there is room. */
static void end_while_tx_waits(void **state)
{
	struct virtio_net_hdr_wire hdr = { .flags = 0 };

	(void)state;
	create(NULL, false);
	fix_offer_rx(0, QSIZE, 2048);
	fix_kick(NET_QUEUE_RX);
	(void)fix_run();
	fix.host.send_error = EAGAIN;
	for (uint16_t i = 0; i < 4; i++)
		fix_offer_tx(i, &hdr, 100);
	fix_kick(NET_QUEUE_TX);
	(void)fix_run();
	assert_int_equal(fix.net->tx.wait, WAIT_HOST);
	fix.host.recv_error = EPIPE;
	net_host_ready(fix.net, EPOLLIN);
	(void)fix_run();
	assert_true(fix.net->dead);
	assert_int_equal(guest_ring_used_idx(&fix.tx), 4);
	assert_int_equal(fix.net->tx.wait, WAIT_GUEST);
	fix_destroy();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_rx_state), cmocka_unit_test(no_rx_wakeup_is_lost),
		cmocka_unit_test(silent_without_buffers), cmocka_unit_test(flood), cmocka_unit_test(turns_are_bounded),
		cmocka_unit_test(every_tx_state), cmocka_unit_test(host_without_room), cmocka_unit_test(flush_without_room),
		cmocka_unit_test(throttled), cmocka_unit_test(limits_change), cmocka_unit_test(reset_while_throttled),
		cmocka_unit_test(pause_and_resume), cmocka_unit_test(end_while_tx_waits),
	};

	log_set_level(LOG_OFF);
	return cmocka_run_group_tests_name("net_wait", tests, NULL, NULL);
}
