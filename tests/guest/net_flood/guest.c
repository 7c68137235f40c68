/* SPDX-License-Identifier: Apache-2.0 */
/* Tens of thousands of kicks, bad frames and configuration writes: the log stays small and the interface works. `net: tap` */
#include "net.h"

void guest_main(void)
{
	unsigned lost = 0;

	expect("start", net_start());
	for (unsigned i = 0; i < 20000; i++)
		dev_kick(i & 1);
	for (unsigned i = 0; i < 2000; i++)
		dev_write(REG_CONFIG, i);
	for (unsigned i = 0; i < 100; i++) {
		for (unsigned k = 0; k < DEV_QUEUE; k++) {
			dev_desc(TX, k, net_tx_data, k % 20, 0, 0);
			dev_put(TX, (uint16_t)k);
		}
		dev_kick(TX);
		lost += !dev_wait_used(TX, DEV_QUEUE);
	}
	expect_eq("all-used", 0, lost);
	expect_eq("running", ST_RUNNING, dev_read(REG_STATUS));
	expect("arp", net_arp());
}
