/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

#define PATIENCE 20000
#define ARP_LEN 42

struct net_queue net_queue[2] __attribute__((aligned(4096)));
uint8_t net_rx_data[8][2048], net_tx_data[65536 + 4096];
static uint16_t seen[2];

uint32_t net_read(uint32_t off)
{
	return read32(NET_BASE + off);
}

void net_write(uint32_t off, uint32_t v)
{
	write32(NET_BASE + off, v);
}

uint32_t net_negotiate(uint64_t features)
{
	net_write(REG_STATUS, 0);
	net_write(REG_STATUS, ST_ACKNOWLEDGE);
	net_write(REG_STATUS, ST_ACKNOWLEDGE | ST_DRIVER);
	net_write(REG_DRIVER_FEATURES_SEL, 0);
	net_write(REG_DRIVER_FEATURES, (uint32_t)features);
	net_write(REG_DRIVER_FEATURES_SEL, 1);
	net_write(REG_DRIVER_FEATURES, (uint32_t)((features | FEATURE_VERSION_1) >> 32));
	net_write(REG_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK);
	return net_read(REG_STATUS);
}

void net_queue_setup(unsigned q, uint32_t size, uint64_t desc, uint64_t driver, uint64_t device)
{
	memset((void *)&net_queue[q], 0, sizeof(net_queue[q]));
	seen[q] = 0;
	net_write(REG_QUEUE_SEL, q);
	net_write(REG_QUEUE_NUM, size);
	net_write(REG_QUEUE_DESC, (uint32_t)desc);
	net_write(REG_QUEUE_DESC + 4, (uint32_t)(desc >> 32));
	net_write(REG_QUEUE_DRIVER, (uint32_t)driver);
	net_write(REG_QUEUE_DRIVER + 4, (uint32_t)(driver >> 32));
	net_write(REG_QUEUE_DEVICE, (uint32_t)device);
	net_write(REG_QUEUE_DEVICE + 4, (uint32_t)(device >> 32));
	net_write(REG_QUEUE_READY, 1);
}

bool net_start_with(uint64_t features)
{
	if (net_negotiate(features) != (ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK))
		return false;
	for (unsigned q = 0; q < 2; q++) {
		struct net_queue *nq = &net_queue[q];

		net_queue_setup(q, NET_QUEUE, (uintptr_t)nq->desc, (uintptr_t)&nq->avail, (uintptr_t)&nq->used);
	}
	net_write(REG_STATUS, ST_RUNNING);
	return net_read(REG_STATUS) == ST_RUNNING;
}

bool net_start(void)
{
	return net_start_with(NET_MRG_RXBUF);
}

void net_desc(unsigned q, unsigned i, const volatile void *addr, uint32_t len, uint16_t flags, uint16_t next)
{
	net_queue[q].desc[i].addr = (uintptr_t)addr;
	net_queue[q].desc[i].len = len;
	net_queue[q].desc[i].flags = flags;
	net_queue[q].desc[i].next = next;
}

void net_put(unsigned q, uint16_t head)
{
	volatile struct avail *avail = &net_queue[q].avail;

	avail->ring[avail->idx % NET_QUEUE] = head;
	__asm__ volatile("" : : : "memory");
	avail->idx++;
}

void net_kick(unsigned q)
{
	__asm__ volatile("" : : : "memory");
	net_write(REG_QUEUE_NOTIFY, q);
}

bool net_wait_used(unsigned q, unsigned n)
{
	for (unsigned turn = 0; turn < PATIENCE; turn++) {
		if ((uint16_t)(net_queue[q].used.idx - seen[q]) >= n) {
			seen[q] = (uint16_t)(seen[q] + n);
			return true;
		}
		if (turn % 64 == 63 && (net_read(REG_STATUS) & ST_NEEDS_RESET))
			return false;
		wait_turns(1);
	}
	return false;
}

uint32_t net_used_len(unsigned q)
{
	return net_queue[q].used.ring[(uint16_t)(seen[q] - 1) % NET_QUEUE].len;
}

bool net_send(uint32_t len)
{
	net_desc(TX, 0, net_tx_data, len, 0, 0);
	net_put(TX, 0);
	net_kick(TX);
	return net_wait_used(TX, 1);
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
		net_desc(RX, i, net_rx_data[i], sizeof(net_rx_data[i]), F_WRITE, 0);
		net_put(RX, (uint16_t)i);
	}
	net_kick(RX);
	if (!net_ask())
		return false;
	/* Other frames of the host's may come first. */
	for (unsigned i = 0; i < 8; i++) {
		const uint8_t *frame = net_rx_data[i] + NET_HDR;

		if (!net_wait_used(RX, 1))
			return false;
		if (frame[12] == 8 && frame[13] == 6 && frame[21] == 2 && frame[28] == 10 && frame[31] == 1)
			return net_used_len(RX) == NET_HDR + ARP_LEN && net_rx_data[i][10] == 1 && net_rx_data[i][11] == 0;
	}
	return false;
}

void net_expect_works(const char *name)
{
	expect(name, net_start() && net_arp());
}

static void result(const char *name, const char *part, const char *what, bool passed)
{
	static char text[96];
	const char *const words[] = { name, "-", part, "-", what };
	size_t n = 0;

	for (unsigned i = 0; i < 5; i++) {
		for (const char *c = words[i]; *c && n < sizeof(text) - 1; c++)
			text[n++] = *c;
	}
	text[n] = '\0';
	expect(text, passed);
}

void net_expect_broken(const char *name, const char *part)
{
	for (unsigned turn = 0; turn < PATIENCE && !(net_read(REG_STATUS) & ST_NEEDS_RESET); turn++)
		;
	result(name, part, "needs-reset", (net_read(REG_STATUS) & ST_NEEDS_RESET) && (net_read(REG_INTERRUPT_STATUS) & 2));
	result(name, part, "works-after-reset", net_start() && net_arp());
}
