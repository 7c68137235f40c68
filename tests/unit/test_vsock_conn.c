/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One vsock connection: every packet in every state, credit with counters that wrap, half-close, timeouts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "virtio/virtio_spec.h"
#include "virtio/vsock_conn.h"

#define BUF VSOCK_BUF_SMALL

static struct vsock_pkt packet(enum vsock_op op)
{
	return (struct vsock_pkt){
		.guest_port = 7, .host_port = 9, .type = VIRTIO_VSOCK_TYPE_STREAM, .op = op, .buf_alloc = 1000,
	};
}

/* A connection in @st as the guest made it know, nothing left to say. */
static struct vsock_conn in_state(enum vsock_conn_state st)
{
	struct vsock_pkt pkt = packet(VSOCK_OP_REQUEST);
	struct vsock_conn c;

	if (st == VSOCK_LINE || st == VSOCK_REQUESTED) {
		vsock_conn_init_line(&c, BUF);
		if (st == VSOCK_REQUESTED) {
			vsock_conn_request(&c, 7, 9);
			assert_true(vsock_conn_next(&c, &pkt));
			assert_int_equal(pkt.op, VSOCK_OP_REQUEST);
		}
		return c;
	}
	vsock_conn_init_guest(&c, BUF, &pkt);
	if (st == VSOCK_OPENING)
		return c;
	vsock_conn_opened(&c);
	assert_true(vsock_conn_next(&c, &pkt));
	assert_int_equal(pkt.op, VSOCK_OP_RESPONSE);
	assert_int_equal(pkt.buf_alloc, BUF);
	if (st == VSOCK_CLOSING) {
		vsock_conn_host_shut(&c, VSOCK_NO_MORE);
		assert_true(vsock_conn_next(&c, &pkt));
		assert_int_equal(pkt.op, VSOCK_OP_SHUTDOWN);
		assert_int_equal(pkt.flags, VSOCK_NO_MORE);
	}
	assert_int_equal(c.state, st);
	assert_false(vsock_conn_next(&c, &pkt));
	return c;
}

static void expect_say(struct vsock_conn *c, enum vsock_op op)
{
	struct vsock_pkt pkt;

	assert_true(vsock_conn_next(c, &pkt));
	assert_int_equal(pkt.op, op);
	assert_int_equal(pkt.guest_port, 7);
	assert_int_equal(pkt.host_port, 9);
	assert_int_equal(pkt.len, 0);
}

static void expect_silence(struct vsock_conn *c)
{
	struct vsock_pkt pkt;

	assert_false(vsock_conn_next(c, &pkt));
}

/* What each packet does in each state that a guest knows of. RST: the connection is reset, the guest hears so. */
static void every_packet_in_every_state(void **state)
{
	enum what { KEEP, OPENED, DATA, END, RST };
	static const enum vsock_conn_state states[] = { VSOCK_REQUESTED, VSOCK_OPENING, VSOCK_OPEN, VSOCK_CLOSING };
	static const enum what table[4][8] = {
		/* -, REQUEST, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST */
		{ KEEP, RST, OPENED, END, RST, RST, KEEP, KEEP },
		{ KEEP, RST, RST, END, RST, RST, KEEP, KEEP },
		{ KEEP, RST, RST, END, RST, DATA, KEEP, KEEP },
		{ KEEP, RST, RST, END, RST, KEEP, KEEP, KEEP },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		for (int op = VSOCK_OP_REQUEST; op <= VSOCK_OP_CREDIT_REQUEST; op++) {
			struct vsock_conn c = in_state(states[i]);
			struct vsock_pkt pkt = packet((enum vsock_op)op);
			enum vsock_conn_event event;

			pkt.len = op == VSOCK_OP_RW ? 10 : 0;
			pkt.flags = op == VSOCK_OP_SHUTDOWN ? VSOCK_NO_MORE : 0;
			event = vsock_conn_packet(&c, &pkt);
			switch (table[i][op]) {
			case KEEP:
				assert_int_equal(event, VSOCK_EVENT_NONE);
				assert_int_equal(c.state, states[i]);
				break;
			case OPENED:
				assert_int_equal(event, VSOCK_EVENT_ESTABLISHED);
				assert_int_equal(c.state, VSOCK_OPEN);
				break;
			case DATA:
				assert_int_equal(event, VSOCK_EVENT_DATA);
				assert_int_equal(vsock_conn_backlog(&c), 10);
				break;
			case END:
				assert_int_equal(c.state, VSOCK_DEAD);
				expect_silence(&c);
				break;
			case RST:
				assert_int_equal(event, VSOCK_EVENT_NONE);
				assert_int_equal(c.state, VSOCK_DEAD);
				expect_say(&c, VSOCK_OP_RST);
				break;
			}
			if (op == VSOCK_OP_CREDIT_REQUEST && states[i] >= VSOCK_OPEN)
				expect_say(&c, VSOCK_OP_CREDIT_UPDATE);
			expect_silence(&c);
		}
	}
}

/* The guest may not answer before it was asked. */
static void response_before_request(void **state)
{
	struct vsock_pkt pkt = packet(VSOCK_OP_RESPONSE);
	struct vsock_conn c;

	(void)state;
	vsock_conn_init_line(&c, BUF);
	vsock_conn_request(&c, 7, 9);
	assert_int_equal(vsock_conn_packet(&c, &pkt), VSOCK_EVENT_NONE);
	assert_int_equal(c.state, VSOCK_DEAD);
	expect_silence(&c); /* it never heard of the connection */
}

/* --- Guest to host --- */

static void send_rw(struct vsock_conn *c, uint32_t len)
{
	struct vsock_pkt pkt = packet(VSOCK_OP_RW);

	pkt.len = len;
	assert_int_equal(vsock_conn_packet(c, &pkt), VSOCK_EVENT_DATA);
}

/* The guest, whose own buffer has @buf_alloc bytes, sends @len bytes, and the host takes them. */
static void pass_rw(struct vsock_conn *c, uint32_t len, uint32_t buf_alloc)
{
	struct vsock_pkt pkt = packet(VSOCK_OP_RW);

	pkt.len = len;
	pkt.buf_alloc = buf_alloc;
	assert_int_equal(vsock_conn_packet(c, &pkt), VSOCK_EVENT_DATA);
	vsock_conn_forwarded(c, len);
}

static void credit_to_the_guest(void **state)
{
	struct vsock_conn c = in_state(VSOCK_OPEN);

	(void)state;
	pass_rw(&c, BUF / 4 * 3, 2 * BUF);
	expect_silence(&c); /* it still believes in a quarter of its room */
	pass_rw(&c, 1, 2 * BUF);
	expect_say(&c, VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(c.fwd_told, BUF / 4 * 3 + 1);
	expect_silence(&c);
}

/* Newer Linux has no more in flight than its own buffer holds: then it waits to hear of room, however much it was given. */
static void credit_to_a_guest_with_a_small_buffer(void **state)
{
	struct vsock_conn c = in_state(VSOCK_OPEN);

	(void)state;
	pass_rw(&c, 3072, 4096);
	expect_silence(&c);
	pass_rw(&c, 1024, 4096);
	expect_say(&c, VSOCK_OP_CREDIT_UPDATE);
	pass_rw(&c, 1, 0);
	expect_say(&c, VSOCK_OP_CREDIT_UPDATE);
	expect_silence(&c);
}

static void guest_exceeds_its_credit(void **state)
{
	struct vsock_pkt pkt = packet(VSOCK_OP_RW);
	struct vsock_conn c = in_state(VSOCK_OPEN);

	(void)state;
	send_rw(&c, BUF - 1);
	send_rw(&c, 1);
	pkt.len = 1;
	assert_int_equal(vsock_conn_packet(&c, &pkt), VSOCK_EVENT_NONE);
	assert_int_equal(c.state, VSOCK_DEAD);
	expect_say(&c, VSOCK_OP_RST);
}

/* 2^32 and more bytes each way; the counters wrap where it is worst. */
static void counters_wrap(void **state)
{
	static const uint32_t steps[] = { 1, 17, 4096, BUF / 2, BUF - 1, BUF };
	static const uint32_t starts[] = { 0, UINT32_MAX - 1, UINT32_MAX - BUF, UINT32_MAX - BUF / 2, 0x7fffffff };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
		struct vsock_conn c = in_state(VSOCK_OPEN);
		struct vsock_pkt pkt, news = packet(VSOCK_OP_CREDIT_UPDATE);

		c.rx_cnt = c.fwd_cnt = c.fwd_told = starts[i];
		c.tx_cnt = c.peer_fwd_cnt = starts[i];
		news.buf_alloc = 1000;
		news.fwd_cnt = starts[i];
		for (unsigned k = 0; k < 300; k++) {
			uint32_t n = steps[k % ARRAY_SIZE(steps)];

			send_rw(&c, n);
			assert_int_equal(vsock_conn_backlog(&c), n);
			vsock_conn_forwarded(&c, n / 2);
			vsock_conn_forwarded(&c, n - n / 2);
			assert_int_equal(vsock_conn_backlog(&c), 0);
			/* What the guest believes is never more than there is. */
			assert_true(c.rx_cnt - c.fwd_told <= BUF / 2 || (c.say & VSOCK_SAY_CREDIT_UPDATE));
			while (vsock_conn_next(&c, &pkt))
				assert_int_equal(pkt.fwd_cnt, c.fwd_cnt);
			n = 1 + k % 1000;
			assert_int_equal(vsock_conn_credit(&c), 1000);
			vsock_conn_send(&c, n, &pkt);
			assert_int_equal(pkt.len, n);
			assert_int_equal(vsock_conn_credit(&c), 1000 - n);
			news.fwd_cnt += n;
			assert_int_equal(vsock_conn_packet(&c, &news), VSOCK_EVENT_NONE);
		}
	}
}

/* --- Host to guest --- */

/* CVE-2026-23086: what the guest promises is not believed without bound. */
static void peer_credit_is_clamped(void **state)
{
	struct vsock_pkt pkt = packet(VSOCK_OP_CREDIT_UPDATE);
	struct vsock_conn c = in_state(VSOCK_OPEN);

	(void)state;
	pkt.buf_alloc = UINT32_MAX;
	assert_int_equal(vsock_conn_packet(&c, &pkt), VSOCK_EVENT_NONE);
	assert_int_equal(vsock_conn_credit(&c), VSOCK_PEER_CREDIT_MAX);
}

/* CVE-2026-23069: absurd fwd_cnt and a buffer smaller than what is in flight never give credit. */
static void absurd_peer_credit(void **state)
{
	static const uint32_t absurd[] = { 601, 602, 1000, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffe00 };
	struct vsock_pkt pkt = packet(VSOCK_OP_CREDIT_UPDATE), sent;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(absurd); i++) {
		struct vsock_conn c = in_state(VSOCK_OPEN);

		vsock_conn_send(&c, 600, &sent);
		pkt.buf_alloc = 1000;
		pkt.fwd_cnt = absurd[i]; /* more than was sent */
		assert_int_equal(vsock_conn_packet(&c, &pkt), VSOCK_EVENT_NONE);
		assert_int_equal(vsock_conn_credit(&c), 400);
		pkt.fwd_cnt = 600;
		assert_int_equal(vsock_conn_packet(&c, &pkt), VSOCK_EVENT_NONE);
		assert_int_equal(vsock_conn_credit(&c), 1000);
		pkt.fwd_cnt = 100; /* older news */
		assert_int_equal(vsock_conn_packet(&c, &pkt), VSOCK_EVENT_NONE);
		assert_int_equal(vsock_conn_credit(&c), 1000);
		vsock_conn_send(&c, 900, &sent);
		pkt.buf_alloc = 10; /* it shrinks */
		assert_int_equal(vsock_conn_packet(&c, &pkt), VSOCK_EVENT_NONE);
		assert_int_equal(vsock_conn_credit(&c), 0);
	}
}

/* Credit that was used up is worth nothing until a quarter is back, or the guest was asked. */
static void credit_that_trickles(void **state)
{
	struct vsock_pkt pkt = packet(VSOCK_OP_CREDIT_UPDATE), sent;
	struct vsock_conn c = in_state(VSOCK_OPEN);

	(void)state;
	vsock_conn_want_credit(&c);
	expect_silence(&c); /* there is some */
	vsock_conn_send(&c, 999, &sent);
	assert_true(vsock_conn_may_send(&c));
	vsock_conn_send(&c, 1, &sent);
	assert_false(vsock_conn_may_send(&c));
	pkt.fwd_cnt = 249;
	assert_int_equal(vsock_conn_packet(&c, &pkt), VSOCK_EVENT_NONE);
	assert_false(vsock_conn_may_send(&c));
	pkt.fwd_cnt = 250;
	assert_int_equal(vsock_conn_packet(&c, &pkt), VSOCK_EVENT_NONE);
	assert_true(vsock_conn_may_send(&c));
	vsock_conn_send(&c, 250, &sent);
	pkt.fwd_cnt = 251;
	assert_int_equal(vsock_conn_packet(&c, &pkt), VSOCK_EVENT_NONE);
	assert_false(vsock_conn_may_send(&c));
	vsock_conn_want_credit(&c);
	expect_say(&c, VSOCK_OP_CREDIT_REQUEST);
	assert_true(vsock_conn_may_send(&c));
	vsock_conn_send(&c, 1, &sent);
	assert_false(vsock_conn_may_send(&c));
}

/* --- Half-close --- */

static void guest_shuts(struct vsock_conn *c, uint8_t flags)
{
	struct vsock_pkt pkt = packet(VSOCK_OP_SHUTDOWN);

	pkt.flags = flags;
	assert_int_equal(vsock_conn_packet(c, &pkt), VSOCK_EVENT_NONE);
}

static void expect_shutdown(struct vsock_conn *c, uint8_t flags)
{
	struct vsock_pkt pkt;

	assert_true(vsock_conn_next(c, &pkt));
	assert_int_equal(pkt.op, VSOCK_OP_SHUTDOWN);
	assert_int_equal(pkt.flags, flags);
}

static void host_closes_one_direction(void **state)
{
	struct vsock_conn c = in_state(VSOCK_OPEN);

	(void)state;
	vsock_conn_host_shut(&c, VSOCK_NO_SEND);
	assert_int_equal(c.state, VSOCK_OPEN);
	assert_false(vsock_conn_reads_host(&c));
	expect_shutdown(&c, VSOCK_NO_SEND);
	send_rw(&c, 10); /* the other one goes on */
	vsock_conn_forwarded(&c, 10);
	vsock_conn_host_shut(&c, VSOCK_NO_RECEIVE);
	assert_int_equal(c.state, VSOCK_CLOSING);
	expect_shutdown(&c, VSOCK_NO_MORE);
	guest_shuts(&c, VSOCK_NO_MORE); /* crossed ours */
	assert_int_equal(c.state, VSOCK_DEAD);
	expect_say(&c, VSOCK_OP_RST);
}

static void guest_closes_one_direction(void **state)
{
	struct vsock_pkt pkt = packet(VSOCK_OP_RW);
	struct vsock_conn c = in_state(VSOCK_OPEN);

	(void)state;
	guest_shuts(&c, VSOCK_NO_SEND);
	assert_int_equal(c.state, VSOCK_OPEN);
	assert_true(vsock_conn_reads_host(&c));
	expect_silence(&c);
	vsock_conn_host_shut(&c, VSOCK_NO_SEND); /* both directions are over */
	assert_int_equal(c.state, VSOCK_CLOSING);
	expect_shutdown(&c, VSOCK_NO_MORE);

	c = in_state(VSOCK_OPEN);
	guest_shuts(&c, VSOCK_NO_SEND);
	pkt.len = 1;
	assert_int_equal(vsock_conn_packet(&c, &pkt), VSOCK_EVENT_NONE); /* it said that it would not */
	assert_int_equal(c.state, VSOCK_DEAD);
	expect_say(&c, VSOCK_OP_RST);

	c = in_state(VSOCK_OPEN);
	guest_shuts(&c, VSOCK_NO_RECEIVE);
	assert_false(vsock_conn_reads_host(&c));
	send_rw(&c, 5);
	guest_shuts(&c, VSOCK_NO_SEND); /* one after the other is both */
	assert_int_equal(c.state, VSOCK_DRAINING);
	expect_say(&c, VSOCK_OP_RST);
}

/* What the guest sent before it closed reaches the host. */
static void backlog_outlives_the_guest(void **state)
{
	struct vsock_pkt rst = packet(VSOCK_OP_RST);
	struct vsock_conn c = in_state(VSOCK_OPEN);

	(void)state;
	send_rw(&c, 100);
	guest_shuts(&c, VSOCK_NO_MORE);
	assert_int_equal(c.state, VSOCK_DRAINING);
	assert_false(vsock_conn_is_keyed(&c));
	expect_say(&c, VSOCK_OP_RST);
	vsock_conn_forwarded(&c, 60);
	assert_int_equal(c.state, VSOCK_DRAINING);
	vsock_conn_forwarded(&c, 40);
	assert_int_equal(c.state, VSOCK_DEAD);
	expect_silence(&c);

	c = in_state(VSOCK_OPEN);
	send_rw(&c, 100);
	assert_int_equal(vsock_conn_packet(&c, &rst), VSOCK_EVENT_NONE);
	assert_int_equal(c.state, VSOCK_DRAINING);
	expect_silence(&c);
	vsock_conn_host_shut(&c, VSOCK_NO_RECEIVE);
	assert_int_equal(c.state, VSOCK_DEAD);
}

/* A host that is gone takes nothing, and the guest does not get stuck. */
static void data_for_nobody(void **state)
{
	struct vsock_pkt pkt = packet(VSOCK_OP_RW);
	struct vsock_conn c = in_state(VSOCK_OPEN);

	(void)state;
	send_rw(&c, 100);
	vsock_conn_host_shut(&c, VSOCK_NO_RECEIVE);
	assert_int_equal(vsock_conn_backlog(&c), 0);
	expect_shutdown(&c, VSOCK_NO_RECEIVE);
	pkt.len = BUF;
	for (int i = 0; i < 5; i++) {
		assert_int_equal(vsock_conn_packet(&c, &pkt), VSOCK_EVENT_NONE);
		assert_int_equal(c.state, VSOCK_OPEN);
		expect_say(&c, VSOCK_OP_CREDIT_UPDATE);
	}
}

static void timeouts(void **state)
{
	struct vsock_conn c;

	(void)state;
	assert_int_equal(vsock_conn_timeout_ms(VSOCK_REQUESTED), 2000);
	assert_int_equal(vsock_conn_timeout_ms(VSOCK_CLOSING), 2000);
	assert_int_equal(vsock_conn_timeout_ms(VSOCK_OPEN), 0);
	c = in_state(VSOCK_REQUESTED);
	vsock_conn_timeout(&c);
	assert_int_equal(c.state, VSOCK_DEAD);
	expect_say(&c, VSOCK_OP_RST);
	c = in_state(VSOCK_CLOSING);
	vsock_conn_timeout(&c);
	assert_int_equal(c.state, VSOCK_DEAD);
	expect_say(&c, VSOCK_OP_RST);
	c = in_state(VSOCK_LINE);
	vsock_conn_timeout(&c);
	assert_int_equal(c.state, VSOCK_DEAD);
	expect_silence(&c);
	c = in_state(VSOCK_OPEN);
	vsock_conn_timeout(&c);
	assert_int_equal(c.state, VSOCK_OPEN);
	c = in_state(VSOCK_OPEN);
	send_rw(&c, 1);
	guest_shuts(&c, VSOCK_NO_MORE);
	expect_say(&c, VSOCK_OP_RST);
	vsock_conn_timeout(&c);
	assert_int_equal(c.state, VSOCK_DEAD);
	expect_silence(&c);
}

static void host_goes_in_every_state(void **state)
{
	struct vsock_conn c;

	(void)state;
	c = in_state(VSOCK_LINE);
	vsock_conn_host_shut(&c, VSOCK_NO_MORE);
	assert_int_equal(c.state, VSOCK_DEAD);
	expect_silence(&c);
	c = in_state(VSOCK_REQUESTED);
	vsock_conn_host_shut(&c, VSOCK_NO_MORE);
	assert_int_equal(c.state, VSOCK_DEAD);
	expect_say(&c, VSOCK_OP_RST);
	vsock_conn_host_shut(&c, VSOCK_NO_MORE);
	assert_int_equal(c.state, VSOCK_DEAD);
	expect_silence(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_packet_in_every_state),
		cmocka_unit_test(response_before_request),
		cmocka_unit_test(credit_to_the_guest),
		cmocka_unit_test(credit_to_a_guest_with_a_small_buffer),
		cmocka_unit_test(guest_exceeds_its_credit),
		cmocka_unit_test(counters_wrap),
		cmocka_unit_test(peer_credit_is_clamped),
		cmocka_unit_test(absurd_peer_credit),
		cmocka_unit_test(credit_that_trickles),
		cmocka_unit_test(host_closes_one_direction),
		cmocka_unit_test(guest_closes_one_direction),
		cmocka_unit_test(backlog_outlives_the_guest),
		cmocka_unit_test(data_for_nobody),
		cmocka_unit_test(timeouts),
		cmocka_unit_test(host_goes_in_every_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
