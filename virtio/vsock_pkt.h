/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header of a vsock packet: parser of what the guest sends, printer of what it gets (virtio 1.2,
 * 5.10.6; CONTRACT.md section 11). All bounds of a packet are checked here and nowhere else.
 *
 * Trust: the 44 bytes are the guest's; they were copied once. Ports are named by owner, not by direction.
 *
 * Threads: pure functions.
 */
#ifndef MAYFLY_VIRTIO_VSOCK_PKT_H
#define MAYFLY_VIRTIO_VSOCK_PKT_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

#define VSOCK_HDR_BYTES 44
#define VSOCK_PKT_DATA_MAX (64 * 1024)

/* Values of the wire. */
enum vsock_op {
	VSOCK_OP_REQUEST = 1,
	VSOCK_OP_RESPONSE = 2,
	VSOCK_OP_RST = 3,
	VSOCK_OP_SHUTDOWN = 4,
	VSOCK_OP_RW = 5,
	VSOCK_OP_CREDIT_UPDATE = 6,
	VSOCK_OP_CREDIT_REQUEST = 7,
};

/* Flags of VSOCK_OP_SHUTDOWN: what its sender will not do any more. */
#define VSOCK_NO_RECEIVE 1u
#define VSOCK_NO_SEND 2u
#define VSOCK_NO_MORE (VSOCK_NO_RECEIVE | VSOCK_NO_SEND)

struct vsock_pkt {
	uint32_t guest_port, host_port;
	uint32_t len;       /* bytes of data; 0 unless op is RW */
	uint32_t buf_alloc, fwd_cnt;
	uint16_t type;      /* of the wire: an answer repeats it */
	enum vsock_op op;
	uint8_t flags;      /* VSOCK_NO_*; 0 unless op is SHUTDOWN */
};

enum vsock_pkt_fate {
	VSOCK_PKT_OK,
	VSOCK_PKT_DROP,   /* not from this guest, or not to the host: nobody is there to answer */
	VSOCK_PKT_REFUSE, /* ports and type are set: what they name is to be reset */
};

/*
 * Parse @hdr, which @behind bytes of the same chain follow. VSOCK_PKT_REFUSE: not a stream, unknown
 * operation, or data that is longer than 64 KiB or than the chain. A RST is never refused (it would be
 * answered), only dropped.
 */
enum vsock_pkt_fate vsock_pkt_parse(const uint8_t hdr[VSOCK_HDR_BYTES], uint64_t behind, uint64_t guest_cid,
				    struct vsock_pkt *out) MUST_USE;

/* Write @pkt, from the host to the guest @guest_cid, as @hdr. */
void vsock_pkt_print(const struct vsock_pkt *pkt, uint64_t guest_cid, uint8_t hdr[VSOCK_HDR_BYTES]);

/* Make it the header of a packet with @len bytes of data. */
void vsock_pkt_set_len(uint8_t hdr[VSOCK_HDR_BYTES], uint32_t len);

#endif
