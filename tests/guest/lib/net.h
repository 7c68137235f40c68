/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-net driver over virtio-mmio that can do everything right and, piece by piece, everything wrong.
 *
 * Two queues of NET_QUEUE elements on the device at NET_BASE (behind the disk). The runner gives the interface a tap whose
 * host has the address 10.0.9.1: net_arp() asks for it, and the answer proves both directions.
 */
#ifndef MAYFLY_TEST_NET_H
#define MAYFLY_TEST_NET_H

#include "blk.h"

#define NET_BASE 0xc0002000ull
#define NET_QUEUE QUEUE_SIZE
#define NET_HDR 12
#define RX 0
#define TX 1

#define NET_MRG_RXBUF (1ull << 15)
#define NET_OFFLOADS 0x5d83ull /* CSUM, GUEST_CSUM, TSO4, TSO6 and UFO in both directions */

struct net_queue {
	volatile struct desc desc[NET_QUEUE];
	volatile struct avail avail __attribute__((aligned(4096)));
	volatile struct used used __attribute__((aligned(4096)));
};

extern struct net_queue net_queue[2];
extern uint8_t net_rx_data[8][2048], net_tx_data[65536 + 4096];

uint32_t net_read(uint32_t off);
void net_write(uint32_t off, uint32_t v);

/* Reset, negotiate @features and VERSION_1, set up both queues (cleared) and go to DRIVER_OK. True: it runs. */
bool net_start_with(uint64_t features);
bool net_start(void);
/* The parts of it. */
uint32_t net_negotiate(uint64_t features);
void net_queue_setup(unsigned q, uint32_t size, uint64_t desc, uint64_t driver, uint64_t device);

void net_desc(unsigned q, unsigned i, const volatile void *addr, uint32_t len, uint16_t flags, uint16_t next);
void net_put(unsigned q, uint16_t head);
void net_kick(unsigned q);

/* Wait until the device has used @n more chains of @q than before the last call, or has given up. False: neither. */
bool net_wait_used(unsigned q, unsigned n);
uint32_t net_used_len(unsigned q); /* of the last of these */

/* A frame in net_tx_data, header included, as descriptor 0: sent and used. */
bool net_send(uint32_t len);
/* Ask for the host's address; and wait for the answer, too, in buffers 0 to 7. */
bool net_ask(void);
bool net_arp(void);

/* The device must be broken now: NEEDS_RESET, and after a reset it works. @name, and @part ("rx", "tx"), for the results. */
void net_expect_broken(const char *name, const char *part);
void net_expect_works(const char *name);

#endif
