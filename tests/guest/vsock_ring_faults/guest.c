/* SPDX-License-Identifier: Apache-2.0 */
/* Every way to break a ring, on each queue: DEVICE_NEEDS_RESET, and after a reset the device works. `vsock: yes` */
#include "vsock.h"

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
				expect(dev_fault_names[fault], false);
				continue;
			}
			dev_break(q, (enum dev_fault)fault, vsock_data, q == RX);
			dev_kick(q);
			if (q == RX)
				(void)vsock_send(OP_RW); /* its answer takes a receive buffer */
			dev_expect_broken(dev_fault_names[fault], parts[q], vsock_start_and_rst);
		}
	}
	/* Queues that are not there, not set up, or in ROM. */
	expect("negotiate", dev_negotiate(0) == (ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK));
	dev_write(REG_STATUS, ST_RUNNING);
	dev_expect_broken("no-queues", "all", vsock_start_and_rst);
	(void)dev_negotiate(0);
	for (unsigned q = 0; q < VSOCK_QUEUES; q++)
		dev_queue_setup(q, DEV_QUEUE, (uintptr_t)dev_queue[q].desc, (uintptr_t)&dev_queue[q].avail, RAM_END);
	dev_write(REG_STATUS, ST_RUNNING);
	dev_expect_broken("used-outside-ram", "all", vsock_start_and_rst);
	expect("start", vsock_start());
	dev_write(REG_QUEUE_NOTIFY, VSOCK_QUEUES);
	dev_write(REG_QUEUE_NOTIFY, 0xffffffff);
	dev_write(REG_QUEUE_SEL, TX);
	dev_write(REG_QUEUE_NUM, 1);
	dev_write(REG_QUEUE_DESC, 0xffffffff);
	expect_eq("frozen", ST_RUNNING, dev_read(REG_STATUS));
	expect("works", vsock_rst(OP_RW));
}
