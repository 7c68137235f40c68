/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dev.h's driver on a virtio-vsock device, with three queues. Nobody listens on the host: what is sent
 * to any of its ports is answered with a RST, which proves both directions (vsock_rst()).
 */
#ifndef MAYFLY_TEST_VSOCK_H
#define MAYFLY_TEST_VSOCK_H

#include "dev.h"

#define VSOCK_QUEUES 3
#define EVENT 2
#define VSOCK_CID 3

#define OP_REQUEST 1
#define OP_RESPONSE 2
#define OP_RST 3
#define OP_SHUTDOWN 4
#define OP_RW 5

struct vsock_header {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

extern struct vsock_header vsock_tx, vsock_rx;
extern uint8_t vsock_data[65536];

/* Reset, negotiate @features and VERSION_1, set up all queues (cleared) and go to DRIVER_OK. True: it runs. */
bool vsock_start_with(uint64_t features);
bool vsock_start(void);

/* A packet of operation @op from port 1 to port 2, as descriptor 40. Sent and used. */
bool vsock_send(uint16_t op);
/* The same, and a RST comes back in vsock_rx (descriptor 41). */
bool vsock_rst(uint16_t op);

/* Start it and ask: it works. */
bool vsock_start_and_rst(void);

#endif
