/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One vsock connection: states, credit and what is still to be said to the guest (virtio 1.2, 5.10.6;
 * CONTRACT.md section 11). No I/O, no time, no memory of its own: the device around it moves the bytes.
 *
 *                        vsock_conn_init_line()          vsock_conn_init_guest()
 *                                 |                                |
 *                                 v                                v
 *        timeout, bad line      LINE                            OPENING     host socket refused:
 *       .-----------------------  |                                |  -----------------------------.
 *       |          vsock_conn_request()                            |   reset                       |
 *       |                         v                                |                               |
 *       |   timeout, RST      REQUESTED                            |                               |
 *       |  .--------------------  |                                |                               |
 *       |  |  vsock_conn_packet(RESPONSE)              vsock_conn_opened()                         |
 *       |  |                      '------------> OPEN <------------'                               |
 *       |  |                                     |  |                                              |
 *       |  |  vsock_conn_host_shut() or packet(SHUTDOWN): | | packet(RST), packet(SHUTDOWN of both) |
 *       |  |  nothing flows either way any more  |  |                                              |
 *       |  |                                     v  |                                              |
 *       |  |                               CLOSING  |                                              |
 *       |  |        packet(RST), timeout         |  |                                              |
 *       |  |                                     +--+---> DRAINING (while the host has not taken what the guest sent)
 *       |  |                                     |  |        |  vsock_conn_forwarded() the last byte, host gone, timeout
 *       v  v                                     v  v        v                                     v
 *     DEAD <-----------------------------------------------------------------------------------------  vsock_conn_reset(),
 *                                                                       vsock_conn_packet() that breaks the rules: any state
 *
 * A DEAD connection may still have a RST to say; a DRAINING one is over for the guest.
 *
 * Trust: packets were checked by vsock_pkt_parse(), one by one; here it is checked that they are allowed now.
 *
 * Threads: pure functions over one object.
 *
 * Invariants:
 * (C1) rx_cnt - fwd_cnt, the bytes that the guest sent and the host has not taken, is at most buf_alloc. A guest that
 *      sends more than it was allowed to is reset. All arithmetic of counters is modulo 2^32.
 * (C2) peer_fwd_cnt only moves forward and never past tx_cnt, whatever the guest says.
 * (C3) Never more than peer_buf_alloc (and VSOCK_PEER_CREDIT_MAX) bytes are sent and not yet taken by the guest.
 * (C4) At most one packet of each kind is waiting to be said.
 */
#ifndef MAYFLY_VIRTIO_VSOCK_CONN_H
#define MAYFLY_VIRTIO_VSOCK_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/vsock_pkt.h"
#include "vmm/base/cdefs.h"

/*
 * What a guest may send before the host takes it: the credit that it is given, and the buffer behind it. Powers of two. With the
 * small one (11.2) a sender of 64 KiB packets stops after each of them; so connections get the large one while few have it.
 */
#define VSOCK_BUF_SMALL (64u * 1024)
#define VSOCK_BUF_LARGE (256u * 1024)

/* Credit beyond this, more than a whole receive ring of Linux, is not believed. It costs us no memory either way. */
#define VSOCK_PEER_CREDIT_MAX (1024u * 1024)

enum vsock_conn_state {
	VSOCK_FREE,
	VSOCK_LINE,      /* a host program connected; it has not said to which port */
	VSOCK_REQUESTED, /* the guest was asked, or will be */
	VSOCK_OPENING,   /* the guest asks; the host's socket is not connected yet */
	VSOCK_OPEN,
	VSOCK_CLOSING,   /* nothing flows any more; the guest is to confirm by a RST */
	VSOCK_DRAINING,  /* gone for the guest; what it sent is still to be taken by the host */
	VSOCK_DEAD,
};

/* Packets that wait to be said (C4). */
#define VSOCK_SAY_REQUEST 0x01u
#define VSOCK_SAY_RESPONSE 0x02u
#define VSOCK_SAY_SHUTDOWN 0x04u
#define VSOCK_SAY_CREDIT_UPDATE 0x08u
#define VSOCK_SAY_CREDIT_REQUEST 0x10u
#define VSOCK_SAY_RST 0x20u

struct vsock_conn {
	enum vsock_conn_state state;
	uint32_t guest_port, host_port;
	uint32_t buf_alloc;      /* VSOCK_BUF_*, constant */
	/* Guest to host. */
	uint32_t rx_cnt;         /* bytes that came */
	uint32_t fwd_cnt;        /* bytes of them that the host took */
	uint32_t fwd_told;       /* fwd_cnt as the guest knows it */
	/* Host to guest. */
	uint32_t tx_cnt;         /* bytes sent */
	uint32_t peer_fwd_cnt;   /* bytes of them that the guest's program took, as far as we know */
	uint32_t peer_buf_alloc; /* its buffer, clamped */
	uint8_t guest_shut;      /* VSOCK_NO_*: what the guest will not do any more */
	uint8_t host_shut;       /* what the host program will not do any more */
	uint8_t told_shut;       /* what the guest was told */
	uint8_t say;             /* VSOCK_SAY_* */
	bool dry;                /* the credit was used up; what trickles in since is too little to go on with */
};

/* Begin: a host program connected, or the guest sent @pkt, a REQUEST. The buffer for the host has @buf_alloc bytes. */
void vsock_conn_init_line(struct vsock_conn *c, uint32_t buf_alloc);
void vsock_conn_init_guest(struct vsock_conn *c, uint32_t buf_alloc, const struct vsock_pkt *pkt);

/* The host program asked for @guest_port; its own will be @host_port. LINE. */
void vsock_conn_request(struct vsock_conn *c, uint32_t guest_port, uint32_t host_port);

/* The host's socket is connected. OPENING. */
void vsock_conn_opened(struct vsock_conn *c);

enum vsock_conn_event {
	VSOCK_EVENT_NONE,
	VSOCK_EVENT_ESTABLISHED, /* the guest accepted: tell the host program */
	VSOCK_EVENT_DATA,        /* pkt->len bytes are to be taken into the buffer or given to the host; rx_cnt counts them */
};

/*
 * The guest sent @pkt over this connection, which is in one of the states that a guest knows of (REQUESTED, OPENING, OPEN,
 * CLOSING). What is not allowed resets it.
 */
enum vsock_conn_event vsock_conn_packet(struct vsock_conn *c, const struct vsock_pkt *pkt) MUST_USE;

/* The host took @n of the bytes of vsock_conn_backlog(). */
void vsock_conn_forwarded(struct vsock_conn *c, uint32_t n);

/* The host program will not send (end of file), not receive (broken pipe), or neither: VSOCK_NO_*. */
void vsock_conn_host_shut(struct vsock_conn *c, uint8_t flags);

/* End it at once, with a RST if the guest knows of it. Any state but FREE. */
void vsock_conn_reset(struct vsock_conn *c);

/* The time of the present state is over (vsock_conn_timeout_ms()). */
void vsock_conn_timeout(struct vsock_conn *c);

/* How long a connection may stay in @state; 0: for ever. DRAINING: since the host took the last byte. */
uint32_t vsock_conn_timeout_ms(enum vsock_conn_state state) MUST_USE;

/* Bytes that the guest sent and the host has not taken. */
uint32_t vsock_conn_backlog(const struct vsock_conn *c) MUST_USE;

/* May bytes from the host program be read and sent to the guest, now or when there is credit? */
bool vsock_conn_reads_host(const struct vsock_conn *c) MUST_USE;

/* How many bytes may be sent to the guest now. */
uint32_t vsock_conn_credit(const struct vsock_conn *c) MUST_USE;

/*
 * May bytes be sent now? There is credit; and once it was used up, a quarter of the guest's buffer is free again: a slow reader
 * would else get its bytes in ever smaller packets.
 */
bool vsock_conn_may_send(const struct vsock_conn *c) MUST_USE;

/* The host has had data for long and the guest tells of no room: ask, and take what there is. */
void vsock_conn_want_credit(struct vsock_conn *c);

/* The header of the next @n bytes (> 0, within the credit) to the guest. */
void vsock_conn_send(struct vsock_conn *c, uint32_t n, struct vsock_pkt *pkt);

/* Take the next packet without data that is to be said. False: there is none. */
bool vsock_conn_next(struct vsock_conn *c, struct vsock_pkt *pkt) MUST_USE;

/* Does the guest know of it, so that packets find it? */
bool vsock_conn_is_keyed(const struct vsock_conn *c) MUST_USE;

#endif
