/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dev.h's driver on a virtio-net device, with two queues. The runner gives the interface a tap whose
 * host has the address 10.0.9.1: net_arp() asks for it, and the answer proves both directions.
 */
#ifndef MAYFLY_TEST_NET_H
#define MAYFLY_TEST_NET_H

#include "dev.h"

#define NET_QUEUES 2
#define NET_HDR 12

#define NET_MRG_RXBUF (1ull << 15)
#define NET_OFFLOADS 0x5d83ull /* CSUM, GUEST_CSUM, TSO4, TSO6 and UFO in both directions */

extern uint8_t net_rx_data[8][2048], net_tx_data[65536 + 4096];

/* Reset, negotiate @features and VERSION_1, set up both queues (cleared) and go to DRIVER_OK. True: it runs. */
bool net_start_with(uint64_t features);
bool net_start(void);

/* A frame in net_tx_data, header included, as descriptor 0: sent and used. */
bool net_send(uint32_t len);
/* Ask for the host's address; and wait for the answer, too, in buffers 0 to 7. */
bool net_ask(void);
bool net_arp(void);

/* Start it and ask: it works. */
bool net_start_and_arp(void);
void net_expect_works(const char *name);

#endif
