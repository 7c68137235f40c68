/* SPDX-License-Identifier: Apache-2.0 */
/* Resets while frames are under way: when one returns, nothing touches memory any more. `net: tap` */
#include "net.h"

#define ROUNDS 40

void guest_main(void)
{
	unsigned late = 0;

	for (unsigned round = 0; round < ROUNDS; round++) {
		if (!net_start_with(round & 1 ? NET_MRG_RXBUF : 0)) {
			expect_eq("start-in-round", 0, round + 1);
			return;
		}
		memset(net_tx_data, 0, 60);
		for (unsigned i = 0; i < 8; i++) {
			dev_desc(RX, i, net_rx_data[i], sizeof(net_rx_data[i]), F_WRITE, 0);
			dev_put(RX, (uint16_t)i);
			dev_desc(TX, i, net_tx_data, 60, 0, 0);
			dev_put(TX, (uint16_t)i);
		}
		dev_kick(RX);
		dev_kick(TX);
		wait_turns(round);
		dev_write(REG_STATUS, 0);
		memset(net_rx_data, 0x77, sizeof(net_rx_data));
		memset(dev_queue, 0x77, sizeof(dev_queue));
		wait_turns(50);
		for (unsigned i = 0; i < 8; i++)
			late += net_rx_data[i][0] != 0x77 || net_rx_data[i][12] != 0x77;
		late += dev_queue[RX].used.idx != 0x7777 || dev_queue[TX].used.idx != 0x7777;
	}
	expect_eq("nothing-after-reset", 0, late);
	expect_eq("status-after-reset", 0, dev_read(REG_STATUS));
	net_expect_works("works");
}
