/* SPDX-License-Identifier: Apache-2.0 */
/* Every way to break a ring, on each queue: DEVICE_NEEDS_RESET, and after a reset the device works. `vsock: yes` */
#include "vsock.h"

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
	uint8_t *buf = vsock_data;

	vsock_desc(q, 0, buf, 1000, w, 0);
	switch (fault) {
	case AVAIL_JUMP:
		vsock_queue[q].avail.idx = VSOCK_QUEUE + 1;
		return;
	case AVAIL_BACK:
		vsock_queue[q].avail.idx = 0xffff;
		return;
	case HEAD_OUT_OF_RANGE:
		vsock_put(q, VSOCK_QUEUE);
		return;
	case HEAD_HUGE:
		vsock_put(q, 0xffff);
		return;
	case SELF_LOOP:
		vsock_desc(q, 0, buf, 100, (uint16_t)(w | F_NEXT), 0);
		break;
	case LOOP_OF_TWO:
		vsock_desc(q, 0, buf, 100, (uint16_t)(w | F_NEXT), 1);
		vsock_desc(q, 1, buf, 100, (uint16_t)(w | F_NEXT), 0);
		break;
	case NEXT_OUT_OF_RANGE:
		vsock_desc(q, 0, buf, 100, (uint16_t)(w | F_NEXT), VSOCK_QUEUE);
		break;
	case BEYOND_RAM:
		vsock_desc(q, 0, at(RAM_END), 1000, w, 0);
		break;
	case ACROSS_RAM_END:
		vsock_desc(q, 0, at(RAM_END - 999), 1000, w, 0);
		break;
	case IN_MMIO:
		vsock_desc(q, 0, at(VSOCK_BASE), 100, w, 0);
		break;
	case IN_GAP:
		vsock_desc(q, 0, at(0xd0000000), 1000, w, 0);
		break;
	case ADDRESS_OVERFLOW:
		vsock_desc(q, 0, at(~0ull - 10), 1000, w, 0);
		break;
	case TOO_LONG:
		vsock_desc(q, 0, at(0x100000), 0xffffffff, w, 0);
		break;
	case INDIRECT: /* not offered */
		vsock_desc(q, 0, buf, 16, F_INDIRECT, 0);
		break;
	case TWICE_IN_FLIGHT:
		vsock_put(q, 0);
		break;
	case N_FAULTS:
		return;
	}
	vsock_put(q, 0);
}

static const char *const parts[VSOCK_QUEUES] = {"rx", "tx", "event"};

void guest_main(void)
{
	for (unsigned q = 0; q < VSOCK_QUEUES; q++) {
		for (unsigned fault = 0; fault < N_FAULTS; fault++) {
			/* What is sent is used at once, and the first of two buffers, too: neither is in flight then. */
			if (fault == TWICE_IN_FLIGHT)
				continue;
			/* Event buffers are not looked at before there is an event. */
			if (q == EVENT && fault != AVAIL_JUMP && fault != AVAIL_BACK)
				continue;
			if (!vsock_start()) {
				expect(names[fault], false);
				continue;
			}
			commit(q, (enum fault)fault);
			vsock_kick(q);
			if (q == RX)
				(void)vsock_send(OP_RW); /* its answer takes a receive buffer */
			vsock_expect_broken(names[fault], parts[q]);
		}
	}
	/* Queues that are not there, not set up, or in ROM. */
	expect("negotiate", vsock_negotiate(0) == (ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK));
	vsock_write(REG_STATUS, ST_RUNNING);
	vsock_expect_broken("no-queues", "all");
	(void)vsock_negotiate(0);
	for (unsigned q = 0; q < VSOCK_QUEUES; q++)
		vsock_queue_setup(q, VSOCK_QUEUE, (uintptr_t)vsock_queue[q].desc, (uintptr_t)&vsock_queue[q].avail, RAM_END);
	vsock_write(REG_STATUS, ST_RUNNING);
	vsock_expect_broken("used-outside-ram", "all");
	expect("start", vsock_start());
	vsock_write(REG_QUEUE_NOTIFY, VSOCK_QUEUES);
	vsock_write(REG_QUEUE_NOTIFY, 0xffffffff);
	vsock_write(REG_QUEUE_SEL, TX);
	vsock_write(REG_QUEUE_NUM, 1);
	vsock_write(REG_QUEUE_DESC, 0xffffffff);
	expect_eq("frozen", ST_RUNNING, vsock_read(REG_STATUS));
	expect("works", vsock_rst(OP_RW));
}
