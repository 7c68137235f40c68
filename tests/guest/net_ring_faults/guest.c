/* SPDX-License-Identifier: Apache-2.0 */
/* Every way to break a ring, on both queues: DEVICE_NEEDS_RESET, and after a reset the interface works. `net: tap` */
#include "net.h"

void guest_main(void)
{
	for (unsigned q = 0; q < 2; q++) {
		for (unsigned fault = 0; fault < N_FAULTS; fault++) {
			/* What was sent is used at once: only a buffer can be in flight when it comes again. */
			if (q == TX && fault == TWICE_IN_FLIGHT)
				continue;
			if (!net_start()) {
				expect(dev_fault_names[fault], false);
				continue;
			}
			memset(net_tx_data, 0, 2048);
			dev_break(q, (enum dev_fault)fault, q == RX ? net_rx_data[0] : net_tx_data, q == RX);
			dev_kick(q);
			dev_expect_broken(dev_fault_names[fault], q == RX ? "rx" : "tx", net_start_and_arp);
		}
	}
	/* Queues that are not there, not set up, or in ROM. */
	expect("negotiate", dev_negotiate(0) == (ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK));
	dev_write(REG_STATUS, ST_RUNNING);
	dev_expect_broken("no-queues", "both", net_start_and_arp);
	(void)dev_negotiate(0);
	dev_queue_setup(RX, DEV_QUEUE, (uintptr_t)dev_queue[RX].desc, (uintptr_t)&dev_queue[RX].avail, RAM_END);
	dev_queue_setup(TX, DEV_QUEUE, (uintptr_t)dev_queue[TX].desc, (uintptr_t)&dev_queue[TX].avail, DEV_BASE);
	dev_write(REG_STATUS, ST_RUNNING);
	dev_expect_broken("used-outside-ram", "both", net_start_and_arp);
	expect("start", net_start());
	dev_write(REG_QUEUE_NOTIFY, 2);
	dev_write(REG_QUEUE_NOTIFY, 0xffffffff);
	dev_write(REG_QUEUE_SEL, TX);
	dev_write(REG_QUEUE_NUM, 1);
	dev_write(REG_QUEUE_DESC, 0xffffffff);
	expect_eq("frozen", ST_RUNNING, dev_read(REG_STATUS));
	expect("works", net_arp());
}
