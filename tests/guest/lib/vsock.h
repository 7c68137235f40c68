/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-vsock driver over virtio-mmio that can do everything right and, piece by piece, everything wrong.
 *
 * Three queues of VSOCK_QUEUE elements on the device at VSOCK_BASE (behind the disk). Nobody listens on the host: what is sent
 * to any of its ports is answered with a RST, which proves both directions (vsock_rst()).
 */
#ifndef MAYFLY_TEST_VSOCK_H
#define MAYFLY_TEST_VSOCK_H

#include "blk.h"

#define VSOCK_BASE 0xc0002000ull
#define VSOCK_QUEUE QUEUE_SIZE
#define VSOCK_QUEUES 3
#define RX 0
#define TX 1
#define EVENT 2
#define VSOCK_CID 3

#define OP_REQUEST 1
#define OP_RESPONSE 2
#define OP_RST 3
#define OP_SHUTDOWN 4
#define OP_RW 5

struct vsock_queue {
	volatile struct desc desc[VSOCK_QUEUE];
	volatile struct avail avail __attribute__((aligned(4096)));
	volatile struct used used __attribute__((aligned(4096)));
};

struct vsock_header {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

extern struct vsock_queue vsock_queue[VSOCK_QUEUES];
extern struct vsock_header vsock_tx, vsock_rx;
extern uint8_t vsock_data[65536];

uint32_t vsock_read(uint32_t off);
void vsock_write(uint32_t off, uint32_t v);

/* Reset, negotiate @features and VERSION_1, set up all queues (cleared) and go to DRIVER_OK. True: it runs. */
bool vsock_start_with(uint64_t features);
bool vsock_start(void);
/* The parts of it. */
uint32_t vsock_negotiate(uint64_t features);
void vsock_queue_setup(unsigned q, uint32_t size, uint64_t desc, uint64_t driver, uint64_t device);

void vsock_desc(unsigned q, unsigned i, const volatile void *addr, uint32_t len, uint16_t flags, uint16_t next);
void vsock_put(unsigned q, uint16_t head);
void vsock_kick(unsigned q);

/* Wait until the device has used @n more chains of @q than before the last call, or has given up. False: neither. */
bool vsock_wait_used(unsigned q, unsigned n);
uint32_t vsock_used_len(unsigned q); /* of the last of these */

/* A packet of operation @op from port 1 to port 2, as descriptor 40. Sent and used. */
bool vsock_send(uint16_t op);
/* The same, and a RST comes back in vsock_rx (descriptor 41). */
bool vsock_rst(uint16_t op);

/* The device must be broken now: NEEDS_RESET, and after a reset it works. @name, and @part ("rx", "tx"...), for the results. */
void vsock_expect_broken(const char *name, const char *part);

#endif
