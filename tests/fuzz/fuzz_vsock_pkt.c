/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pure parts of vsock: header parser, CONNECT line, and one connection fed with packets and host events.
 *
 * Asserted: what the parser accepts keeps the limits; a line is the same in any pieces; C1 to C3 of vsock_conn.h after each step; a
 * connection that is over says at most a RST.
 */
#include <stdlib.h>

#include "tests/lib/fuzz_input.h"
#include "virtio/vsock_conn.h"
#include "virtio/vsock_line.h"
#include "virtio/vsock_pkt.h"
#include "vmm/base/cdefs.h"

#define MAX_STEPS 2000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void header(struct fuzz_input *in)
{
	uint8_t hdr[VSOCK_HDR_BYTES] = { 3, [8] = 2, [28] = 1, [30] = 5 };
	uint64_t behind;
	struct vsock_pkt pkt;

	for (size_t i = 0; i < sizeof(hdr); i++) {
		if (fuzz_rarely(in))
			hdr[i] = fuzz_u8(in);
	}
	hdr[24] = fuzz_u8(in);
	behind = fuzz_u16(in);
	if (vsock_pkt_parse(hdr, behind, 3, &pkt) != VSOCK_PKT_OK)
		return;
	must(pkt.len <= VSOCK_PKT_DATA_MAX && pkt.len <= behind && pkt.type == 1);
	must(pkt.op >= VSOCK_OP_REQUEST && pkt.op <= VSOCK_OP_CREDIT_REQUEST && (pkt.flags & ~VSOCK_NO_MORE) == 0);
	must(pkt.len == 0 || pkt.op == VSOCK_OP_RW);
}

static enum vsock_line_state feed(const char *text, size_t len, size_t piece, uint32_t *port, size_t *taken)
{
	struct vsock_line line = { .len = 0 };
	enum vsock_line_state st = VSOCK_LINE_PART;

	for (*taken = 0; st == VSOCK_LINE_PART && *taken < len;) {
		size_t n = vsock_line_scan(&line, text + *taken, len - *taken < piece ? len - *taken : piece);

		must(n > 0 && n <= piece && *taken + n <= VSOCK_LINE_MAX);
		vsock_line_add(&line, text + *taken, n);
		*taken += n;
		st = vsock_line_parse(&line, port);
	}
	return st;
}

static void line(const uint8_t *data, size_t size)
{
	uint32_t port = 0, port1 = 0;
	size_t taken, taken1;
	enum vsock_line_state st = feed((const char *)data, size, SIZE_MAX, &port, &taken);

	must(feed((const char *)data, size, 1, &port1, &taken1) == st && port == port1);
	must(st == VSOCK_LINE_BAD || taken == taken1);
}

static void check(const struct vsock_conn *c)
{
	uint32_t in_flight = c->tx_cnt - c->peer_fwd_cnt;

	must(vsock_conn_backlog(c) <= c->buf_alloc);
	must(in_flight <= VSOCK_PEER_CREDIT_MAX && vsock_conn_credit(c) <= VSOCK_PEER_CREDIT_MAX);
	/* A guest may send more than it was told, if there is room; but then it is to be told. */
	must(c->fwd_cnt - c->fwd_told <= c->buf_alloc || c->state == VSOCK_DEAD || c->state == VSOCK_DRAINING ||
	     (c->host_shut & VSOCK_NO_RECEIVE) || (c->guest_shut & VSOCK_NO_SEND) || (c->say & VSOCK_SAY_CREDIT_UPDATE));
	must((c->state != VSOCK_DEAD && c->state != VSOCK_DRAINING) || (c->say & ~VSOCK_SAY_RST) == 0);
	must(c->state != VSOCK_DRAINING || vsock_conn_backlog(c) > 0);
}

static void connection(struct fuzz_input *in)
{
	struct vsock_conn c;
	struct vsock_pkt pkt = { .guest_port = 1, .host_port = 2, .type = 1, .op = VSOCK_OP_REQUEST, .buf_alloc = 1000 };

	if (fuzz_u8(in) & 1) {
		vsock_conn_init_line(&c, VSOCK_BUF_SMALL);
		vsock_conn_request(&c, 1, 2);
	} else {
		vsock_conn_init_guest(&c, VSOCK_BUF_SMALL, &pkt);
	}
	for (int i = 0; i < MAX_STEPS && !fuzz_empty(in) && c.state != VSOCK_DEAD; i++) {
		uint32_t n;

		switch (fuzz_below(in, 9)) {
		case 0:
			pkt.op = (enum vsock_op)(1 + fuzz_below(in, 7));
			pkt.len = pkt.op == VSOCK_OP_RW ? fuzz_u16(in) : 0;
			pkt.flags = pkt.op == VSOCK_OP_SHUTDOWN ? fuzz_u8(in) & VSOCK_NO_MORE : 0;
			pkt.fwd_cnt = fuzz_rarely(in) ? fuzz_u32(in) : c.tx_cnt - fuzz_u8(in);
			pkt.buf_alloc = fuzz_rarely(in) ? fuzz_u32(in) : fuzz_u16(in);
			if (vsock_conn_is_keyed(&c))
				(void)(vsock_conn_packet(&c, &pkt) == VSOCK_EVENT_DATA);
			break;
		case 1:
			if (c.state == VSOCK_OPENING)
				vsock_conn_opened(&c);
			break;
		case 2:
			n = fuzz_u16(in);
			vsock_conn_forwarded(&c, n < vsock_conn_backlog(&c) ? n : vsock_conn_backlog(&c));
			break;
		case 3:
			if (fuzz_rarely(in))
				vsock_conn_host_shut(&c, 1 + (uint8_t)fuzz_below(in, 3));
			break;
		case 4:
			if (fuzz_rarely(in))
				vsock_conn_timeout(&c);
			break;
		case 5:
			vsock_conn_want_credit(&c);
			break;
		case 6:
			n = fuzz_u16(in) % (vsock_conn_credit(&c) + 1);
			if (n > 0 && vsock_conn_reads_host(&c) && vsock_conn_may_send(&c))
				vsock_conn_send(&c, n, &pkt);
			break;
		default:
			if (vsock_conn_next(&c, &pkt))
				must(pkt.len == 0 && pkt.fwd_cnt == c.fwd_cnt);
			break;
		}
		check(&c);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };

	line(data, size);
	header(&in);
	connection(&in);
	return 0;
}
