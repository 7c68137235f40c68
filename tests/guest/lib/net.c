/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

#define ARP_LEN 42

uint8_t net_rx_data[8][2048], net_tx_data[65536 + 4096];

bool net_start_with(uint64_t features)
{
	return dev_start(NET_QUEUES, features);
}

bool net_start(void)
{
	return net_start_with(NET_MRG_RXBUF);
}

bool net_send(uint32_t len)
{
	dev_desc(TX, 0, net_tx_data, len, 0, 0);
	dev_put(TX, 0);
	dev_kick(TX);
	return dev_wait_used(TX, 1);
}

static void arp_request(uint8_t *p)
{
	static const uint8_t head[] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 9, 2, 8, 6, /* Ethernet: broadcast, ARP */
		0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 9, 2, 10, 0, 9, 2, 0, 0, 0, 0, 0, 0, 10, 0, 9, 1,
	};

	memset(p, 0, NET_HDR);
	memcpy(p + NET_HDR, head, sizeof(head));
}

bool net_ask(void)
{
	arp_request(net_tx_data);
	return net_send(NET_HDR + ARP_LEN);
}

bool net_arp(void)
{
	for (unsigned i = 0; i < 8; i++) {
		dev_desc(RX, i, net_rx_data[i], sizeof(net_rx_data[i]), F_WRITE, 0);
		dev_put(RX, (uint16_t)i);
	}
	dev_kick(RX);
	if (!net_ask())
		return false;
	/* Other frames of the host's may come first. */
	for (unsigned i = 0; i < 8; i++) {
		const uint8_t *frame = net_rx_data[i] + NET_HDR;

		if (!dev_wait_used(RX, 1))
			return false;
		if (frame[12] == 8 && frame[13] == 6 && frame[21] == 2 && frame[28] == 10 && frame[31] == 1)
			return dev_used_len(RX) == NET_HDR + ARP_LEN && net_rx_data[i][10] == 1 && net_rx_data[i][11] == 0;
	}
	return false;
}

bool net_start_and_arp(void)
{
	return net_start() && net_arp();
}

void net_expect_works(const char *name)
{
	expect(name, net_start_and_arp());
}
