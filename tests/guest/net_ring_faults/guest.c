/* SPDX-License-Identifier: Apache-2.0 */
/* Every way to break a ring, on both queues: DEVICE_NEEDS_RESET, and after a reset the interface works. `net: tap` */
#include "net.h"

#define RAM_END (128ull << 20)

enum fault {
	AVAIL_JUMP, AVAIL_BACK, HEAD_OUT_OF_RANGE, HEAD_HUGE, SELF_LOOP, LOOP_OF_TWO, NEXT_OUT_OF_RANGE, BEYOND_RAM, ACROSS_RAM_END,
	IN_MMIO, IN_GAP, ADDRESS_OVERFLOW, TOO_LONG, INDIRECT, TWICE_IN_FLIGHT, N_FAULTS
};

static const char *const names[N_FAULTS] = {
	"avail-jump", "avail-back", "head-out-of-range", "head-huge", "self-loop", "loop-of-two", "next-out-of-range", "beyond-ram",
	"across-ram-end", "in-mmio", "in-gap", "address-overflow", "too-long", "indirect", "twice-in-flight",
};

static const volatile void *at(uint64_t addr)
{
	return (const volatile void *)(uintptr_t)addr;
}

static void commit(unsigned q, enum fault fault)
{
	uint16_t w = q == RX ? F_WRITE : 0;
	uint8_t *buf = q == RX ? net_rx_data[0] : net_tx_data;

	net_desc(q, 0, buf, 1000, w, 0);
	switch (fault) {
	case AVAIL_JUMP:
		net_queue[q].avail.idx = NET_QUEUE + 1;
		return;
	case AVAIL_BACK:
		net_queue[q].avail.idx = 0xffff;
		return;
	case HEAD_OUT_OF_RANGE:
		net_put(q, NET_QUEUE);
		return;
	case HEAD_HUGE:
		net_put(q, 0xffff);
		return;
	case SELF_LOOP:
		net_desc(q, 0, buf, 100, (uint16_t)(w | F_NEXT), 0);
		break;
	case LOOP_OF_TWO:
		net_desc(q, 0, buf, 100, (uint16_t)(w | F_NEXT), 1);
		net_desc(q, 1, buf, 100, (uint16_t)(w | F_NEXT), 0);
		break;
	case NEXT_OUT_OF_RANGE:
		net_desc(q, 0, buf, 100, (uint16_t)(w | F_NEXT), NET_QUEUE);
		break;
	case BEYOND_RAM:
		net_desc(q, 0, at(RAM_END), 1000, w, 0);
		break;
	case ACROSS_RAM_END:
		net_desc(q, 0, at(RAM_END - 999), 1000, w, 0);
		break;
	case IN_MMIO:
		net_desc(q, 0, at(NET_BASE), 100, w, 0);
		break;
	case IN_GAP:
		net_desc(q, 0, at(0xd0000000), 1000, w, 0);
		break;
	case ADDRESS_OVERFLOW:
		net_desc(q, 0, at(~0ull - 10), 1000, w, 0);
		break;
	case TOO_LONG:
		net_desc(q, 0, at(0x100000), 0xffffffff, w, 0);
		break;
	case INDIRECT: /* not offered */
		net_desc(q, 0, buf, 16, F_INDIRECT, 0);
		break;
	case TWICE_IN_FLIGHT:
		net_put(q, 0);
		break;
	case N_FAULTS:
		return;
	}
	net_put(q, 0);
}

void guest_main(void)
{
	for (unsigned q = 0; q < 2; q++) {
		for (unsigned fault = 0; fault < N_FAULTS; fault++) {
			/* What was sent is used at once: only a buffer can be in flight when it comes again. */
			if (q == TX && fault == TWICE_IN_FLIGHT)
				continue;
			if (!net_start()) {
				expect(names[fault], false);
				continue;
			}
			memset(net_tx_data, 0, 2048);
			commit(q, (enum fault)fault);
			net_kick(q);
			net_expect_broken(names[fault], q == RX ? "rx" : "tx");
		}
	}
	/* Queues that are not there, not set up, or in ROM. */
	expect("negotiate", net_negotiate(0) == (ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK));
	net_write(REG_STATUS, ST_RUNNING);
	net_expect_broken("no-queues", "both");
	(void)net_negotiate(0);
	net_queue_setup(RX, NET_QUEUE, (uintptr_t)net_queue[RX].desc, (uintptr_t)&net_queue[RX].avail, RAM_END);
	net_queue_setup(TX, NET_QUEUE, (uintptr_t)net_queue[TX].desc, (uintptr_t)&net_queue[TX].avail, NET_BASE);
	net_write(REG_STATUS, ST_RUNNING);
	net_expect_broken("used-outside-ram", "both");
	expect("start", net_start());
	net_write(REG_QUEUE_NOTIFY, 2);
	net_write(REG_QUEUE_NOTIFY, 0xffffffff);
	net_write(REG_QUEUE_SEL, TX);
	net_write(REG_QUEUE_NUM, 1);
	net_write(REG_QUEUE_DESC, 0xffffffff);
	expect_eq("frozen", ST_RUNNING, net_read(REG_STATUS));
	expect("works", net_arp());
}
