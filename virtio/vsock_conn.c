/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Section numbers are virtio 1.2; the diagram and the invariants C1 to C4 stand in the header.
 */
#include "virtio/vsock_conn.h"

#include "virtio/virtio_spec.h"

/* CONTRACT.md 11.2. */
#define REQUEST_MS 2000
#define CLOSING_MS 2000
/* The host's listener may have a full backlog for a moment. Linux guests give up after 2 s. */
#define OPENING_MS 2000
/* A person may type the line. */
#define LINE_MS 60000
#define DRAINING_MS 30000

/* So that the place of a byte in the buffer goes on counting when the counters wrap. */
_Static_assert((VSOCK_BUF_SMALL & (VSOCK_BUF_SMALL - 1)) == 0 && (VSOCK_BUF_LARGE & (VSOCK_BUF_LARGE - 1)) == 0, "rings");

void vsock_conn_init_line(struct vsock_conn *c, uint32_t buf_alloc)
{
	*c = (struct vsock_conn){ .state = VSOCK_LINE, .buf_alloc = buf_alloc };
}

/* C2 and C3. Two threads of a guest may say the older value last, so going back is no crime: it just has no effect. */
static void credit_learn(struct vsock_conn *c, const struct vsock_pkt *pkt)
{
	c->peer_buf_alloc = pkt->buf_alloc < VSOCK_PEER_CREDIT_MAX ? pkt->buf_alloc : VSOCK_PEER_CREDIT_MAX;
	if (c->tx_cnt - pkt->fwd_cnt < c->tx_cnt - c->peer_fwd_cnt)
		c->peer_fwd_cnt = pkt->fwd_cnt;
	if (vsock_conn_credit(c) >= c->peer_buf_alloc / 4 && c->peer_buf_alloc > 0)
		c->dry = false;
}

void vsock_conn_init_guest(struct vsock_conn *c, uint32_t buf_alloc, const struct vsock_pkt *pkt)
{
	*c = (struct vsock_conn){
		.state = VSOCK_OPENING,
		.buf_alloc = buf_alloc,
		.guest_port = pkt->guest_port,
		.host_port = pkt->host_port,
	};
	credit_learn(c, pkt);
}

void vsock_conn_request(struct vsock_conn *c, uint32_t guest_port, uint32_t host_port)
{
	must(c->state == VSOCK_LINE);
	c->state = VSOCK_REQUESTED;
	c->guest_port = guest_port;
	c->host_port = host_port;
	c->say = VSOCK_SAY_REQUEST;
}

void vsock_conn_opened(struct vsock_conn *c)
{
	must(c->state == VSOCK_OPENING);
	c->state = VSOCK_OPEN;
	c->say |= VSOCK_SAY_RESPONSE;
}

/* --- The end --- */

/* It is over for the guest, without a fault: what it sent before must still reach the host. */
static void finish(struct vsock_conn *c, bool rst)
{
	c->say = rst ? VSOCK_SAY_RST : 0;
	c->state = vsock_conn_backlog(c) > 0 ? VSOCK_DRAINING : VSOCK_DEAD;
}

void vsock_conn_reset(struct vsock_conn *c)
{
	must(c->state != VSOCK_FREE);
	if (vsock_conn_is_keyed(c))
		/* A REQUEST that was not said needs no RST. */
		c->say = (c->say & VSOCK_SAY_REQUEST) ? 0 : VSOCK_SAY_RST;
	c->state = VSOCK_DEAD;
}

/* 5.10.6.6: tell the guest what the host's side will not do any more, and see whether anything is left that can flow. */
static void shut_settle(struct vsock_conn *c)
{
	bool to_guest_over = (c->guest_shut & VSOCK_NO_RECEIVE) || (c->host_shut & VSOCK_NO_SEND);
	bool to_host_over = (c->guest_shut & VSOCK_NO_SEND) || (c->host_shut & VSOCK_NO_RECEIVE);
	uint8_t tell = to_guest_over && to_host_over ? VSOCK_NO_MORE : c->host_shut;

	if (tell == VSOCK_NO_MORE)
		c->state = VSOCK_CLOSING;
	if (tell != c->told_shut) {
		c->told_shut = tell;
		c->say |= VSOCK_SAY_SHUTDOWN;
	}
}

void vsock_conn_host_shut(struct vsock_conn *c, uint8_t flags)
{
	switch (c->state) {
	case VSOCK_OPEN:
	case VSOCK_CLOSING:
		c->host_shut |= flags;
		if (flags & VSOCK_NO_RECEIVE)
			c->fwd_cnt = c->rx_cnt;
		shut_settle(c);
		return;
	case VSOCK_DRAINING:
		if (flags & VSOCK_NO_RECEIVE) {
			c->fwd_cnt = c->rx_cnt;
			c->state = VSOCK_DEAD;
		}
		return;
	case VSOCK_LINE:
	case VSOCK_REQUESTED:
	case VSOCK_OPENING:
		vsock_conn_reset(c);
		return;
	case VSOCK_DEAD:
		return;
	case VSOCK_FREE:
		break;
	}
	must(false);
}

void vsock_conn_timeout(struct vsock_conn *c)
{
	if (c->state == VSOCK_CLOSING)
		finish(c, true);
	else if (vsock_conn_timeout_ms(c->state) != 0)
		vsock_conn_reset(c);
}

uint32_t vsock_conn_timeout_ms(enum vsock_conn_state state)
{
	switch (state) {
	case VSOCK_LINE:
		return LINE_MS;
	case VSOCK_REQUESTED:
		return REQUEST_MS;
	case VSOCK_OPENING:
		return OPENING_MS;
	case VSOCK_CLOSING:
		return CLOSING_MS;
	case VSOCK_DRAINING:
		return DRAINING_MS;
	case VSOCK_FREE:
	case VSOCK_OPEN:
	case VSOCK_DEAD:
		break;
	}
	return 0;
}

/* --- Packets of the guest --- */

static enum vsock_conn_event packet_data(struct vsock_conn *c, uint32_t len)
{
	/* 5.10.6.3.1: not after its own SHUTDOWN, and not more than it was allowed (C1). */
	if ((c->guest_shut & VSOCK_NO_SEND) || len > c->buf_alloc - vsock_conn_backlog(c)) {
		vsock_conn_reset(c);
		return VSOCK_EVENT_NONE;
	}
	if (len == 0)
		return VSOCK_EVENT_NONE;
	c->rx_cnt += len;
	if (!(c->host_shut & VSOCK_NO_RECEIVE))
		return VSOCK_EVENT_DATA;
	/* Nobody is there to take it. */
	vsock_conn_forwarded(c, len);
	return VSOCK_EVENT_NONE;
}

/* OPEN and CLOSING. */
static enum vsock_conn_event packet_connected(struct vsock_conn *c, const struct vsock_pkt *pkt)
{
	switch (pkt->op) {
	case VSOCK_OP_RW:
		return packet_data(c, pkt->len);
	case VSOCK_OP_SHUTDOWN:
		c->guest_shut |= pkt->flags;
		if (c->guest_shut == VSOCK_NO_MORE)
			finish(c, true);
		else
			shut_settle(c);
		return VSOCK_EVENT_NONE;
	case VSOCK_OP_RST:
		finish(c, false);
		return VSOCK_EVENT_NONE;
	case VSOCK_OP_CREDIT_REQUEST:
		c->say |= VSOCK_SAY_CREDIT_UPDATE;
		return VSOCK_EVENT_NONE;
	case VSOCK_OP_CREDIT_UPDATE:
		return VSOCK_EVENT_NONE;
	case VSOCK_OP_REQUEST:
	case VSOCK_OP_RESPONSE:
		vsock_conn_reset(c);
		return VSOCK_EVENT_NONE;
	}
	must(false);
	return VSOCK_EVENT_NONE;
}

/* REQUESTED and OPENING. */
static enum vsock_conn_event packet_handshake(struct vsock_conn *c, const struct vsock_pkt *pkt)
{
	switch (pkt->op) {
	case VSOCK_OP_RESPONSE:
		/* Only an answer to what was asked. */
		if (c->state == VSOCK_REQUESTED && !(c->say & VSOCK_SAY_REQUEST)) {
			c->state = VSOCK_OPEN;
			return VSOCK_EVENT_ESTABLISHED;
		}
		vsock_conn_reset(c);
		return VSOCK_EVENT_NONE;
	case VSOCK_OP_RST:
		c->say = 0;
		c->state = VSOCK_DEAD;
		return VSOCK_EVENT_NONE;
	case VSOCK_OP_CREDIT_UPDATE:
	case VSOCK_OP_CREDIT_REQUEST: /* the RESPONSE tells */
		return VSOCK_EVENT_NONE;
	case VSOCK_OP_REQUEST:
	case VSOCK_OP_SHUTDOWN:
	case VSOCK_OP_RW:
		vsock_conn_reset(c);
		return VSOCK_EVENT_NONE;
	}
	must(false);
	return VSOCK_EVENT_NONE;
}

enum vsock_conn_event vsock_conn_packet(struct vsock_conn *c, const struct vsock_pkt *pkt)
{
	must(vsock_conn_is_keyed(c));
	credit_learn(c, pkt);
	if (c->state == VSOCK_OPEN || c->state == VSOCK_CLOSING)
		return packet_connected(c, pkt);
	return packet_handshake(c, pkt);
}

/* --- Guest to host --- */

uint32_t vsock_conn_backlog(const struct vsock_conn *c)
{
	return c->rx_cnt - c->fwd_cnt;
}

void vsock_conn_forwarded(struct vsock_conn *c, uint32_t n)
{
	/* Newer Linux keeps no more in flight than its own buffer holds, whatever room it is given. */
	uint32_t window = c->buf_alloc < c->peer_buf_alloc ? c->buf_alloc : c->peer_buf_alloc;

	must(n <= vsock_conn_backlog(c));
	c->fwd_cnt += n;
	/*
	 * 5.10.6.3: a sender that believes that three quarters of its room are gone hears how much it has got back. Sooner would
	 * be more packets and interrupts, later would stop it.
	 */
	if ((c->state == VSOCK_OPEN || c->state == VSOCK_CLOSING) && !(c->guest_shut & VSOCK_NO_SEND) &&
	    c->fwd_cnt != c->fwd_told && c->rx_cnt - c->fwd_told > window - window / 4)
		c->say |= VSOCK_SAY_CREDIT_UPDATE;
	if (c->state == VSOCK_DRAINING && vsock_conn_backlog(c) == 0)
		c->state = VSOCK_DEAD;
}

/* --- Host to guest --- */

bool vsock_conn_reads_host(const struct vsock_conn *c)
{
	return c->state == VSOCK_OPEN && !(c->guest_shut & VSOCK_NO_RECEIVE) && !(c->host_shut & VSOCK_NO_SEND);
}

uint32_t vsock_conn_credit(const struct vsock_conn *c)
{
	uint32_t in_flight = c->tx_cnt - c->peer_fwd_cnt;

	/* The guest may have made its buffer smaller than what is in flight (CVE-2026-23069). */
	return in_flight < c->peer_buf_alloc ? c->peer_buf_alloc - in_flight : 0;
}

void vsock_conn_want_credit(struct vsock_conn *c)
{
	if (c->state != VSOCK_OPEN || vsock_conn_may_send(c))
		return;
	c->dry = false;
	c->say |= VSOCK_SAY_CREDIT_REQUEST;
}

bool vsock_conn_may_send(const struct vsock_conn *c)
{
	return !c->dry && vsock_conn_credit(c) > 0;
}

static void header(struct vsock_conn *c, enum vsock_op op, struct vsock_pkt *pkt)
{
	*pkt = (struct vsock_pkt){
		.guest_port = c->guest_port,
		.host_port = c->host_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.buf_alloc = c->buf_alloc,
		.fwd_cnt = c->fwd_cnt,
	};
	c->fwd_told = c->fwd_cnt;
	c->say &= (uint8_t)~VSOCK_SAY_CREDIT_UPDATE;
}

void vsock_conn_send(struct vsock_conn *c, uint32_t n, struct vsock_pkt *pkt)
{
	must(n > 0 && n <= vsock_conn_credit(c));
	header(c, VSOCK_OP_RW, pkt);
	pkt->len = n;
	c->tx_cnt += n;
	if (vsock_conn_credit(c) == 0)
		c->dry = true;
}

bool vsock_conn_next(struct vsock_conn *c, struct vsock_pkt *pkt)
{
	static const struct {
		uint8_t say;
		enum vsock_op op;
	} order[] = {
		{ VSOCK_SAY_RST, VSOCK_OP_RST },
		{ VSOCK_SAY_REQUEST, VSOCK_OP_REQUEST },
		{ VSOCK_SAY_RESPONSE, VSOCK_OP_RESPONSE },
		{ VSOCK_SAY_SHUTDOWN, VSOCK_OP_SHUTDOWN },
		{ VSOCK_SAY_CREDIT_REQUEST, VSOCK_OP_CREDIT_REQUEST },
		{ VSOCK_SAY_CREDIT_UPDATE, VSOCK_OP_CREDIT_UPDATE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		if (!(c->say & order[i].say))
			continue;
		c->say &= (uint8_t)~order[i].say;
		header(c, order[i].op, pkt);
		if (order[i].op == VSOCK_OP_SHUTDOWN)
			pkt->flags = c->told_shut;
		return true;
	}
	return false;
}

bool vsock_conn_is_keyed(const struct vsock_conn *c)
{
	return c->state == VSOCK_REQUESTED || c->state == VSOCK_OPENING || c->state == VSOCK_OPEN ||
	       c->state == VSOCK_CLOSING;
}
