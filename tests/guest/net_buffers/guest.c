/* SPDX-License-Identifier: Apache-2.0 */
/* Receive buffers that can hold nothing come back empty; good ones between them are filled. `net: tap` */
#include "net.h"

void guest_main(void)
{
	uint32_t len;

	expect("start", net_start());
	dev_desc(RX, 10, net_rx_data[0], 2048, 0, 0);                    /* not to be written */
	dev_desc(RX, 11, net_rx_data[0], NET_HDR - 1, F_WRITE, 0);       /* no header fits */
	dev_desc(RX, 12, net_rx_data[0], 0, F_WRITE, 0);                 /* empty */
	dev_desc(RX, 13, net_rx_data[0], 100, F_WRITE | F_NEXT, 14);     /* dev_readable behind dev_writable */
	dev_desc(RX, 14, net_rx_data[0], 100, 0, 0);
	for (unsigned i = 10; i < 14; i++)
		dev_put(RX, (uint16_t)i);
	dev_kick(RX);
	for (unsigned i = 0; i < 4; i++) {
		expect("used", dev_wait_used(RX, 1));
		expect_eq("empty-length", 0, dev_used_len(RX));
	}
	/* Thousands of them: the interface goes on answering. */
	for (unsigned i = 0; i < 2000; i++) {
		dev_put(RX, 11);
		dev_kick(RX);
		if (!dev_wait_used(RX, 1)) {
			expect_eq("used-in-round", 0, i + 1);
			break;
		}
	}
	expect_eq("running", ST_RUNNING, dev_read(REG_STATUS));
	expect("arp", net_arp());
	/* An answer of 54 bytes over buffers of 16: num_buffers is 4, and all four are used together. */
	expect("restart", net_start());
	memset(net_rx_data, 0, sizeof(net_rx_data));
	for (unsigned i = 0; i < 8; i++) {
		dev_desc(RX, i, net_rx_data[i], 16, F_WRITE, 0);
		dev_put(RX, (uint16_t)i);
	}
	dev_kick(RX);
	expect("ask", net_ask());
	expect("first-used", dev_wait_used(RX, 1));
	expect_eq("num-buffers", 4, net_rx_data[0][10]);
	expect_eq("all-used", 4, dev_queue[RX].used.idx);
	expect("others-used", dev_wait_used(RX, 3));
	len = 0;
	for (unsigned i = 0; i < 4; i++)
		len += dev_queue[RX].used.ring[i].len;
	expect_eq("length", 54, len);
	expect_eq("not-behind-the-end", 0, net_rx_data[3][6]);
	net_expect_works("works");
}
