/* SPDX-License-Identifier: Apache-2.0 */
/* Malformed frames are dropped one by one, and the next good one goes out. `net: tap` `log: malformed frame` */
#include "net.h"

static void put_header(uint8_t flags, uint8_t gso, uint16_t hdr_len, uint16_t gso_size, uint16_t start, uint16_t offset)
{
	const uint16_t words[5] = { (uint16_t)(flags | gso << 8), hdr_len, gso_size, start, offset };

	memset(net_tx_data, 0, sizeof(net_tx_data));
	memcpy(net_tx_data, words, sizeof(words));
}

static void dropped(const char *name, uint32_t len)
{
	expect(name, net_send(len) && dev_used_len(TX) == 0);
	expect_eq("still-running", ST_RUNNING, dev_read(REG_STATUS));
}

void guest_main(void)
{
	expect("start", net_start_with(NET_MRG_RXBUF));
	put_header(0, 0, 0, 0, 0, 0);
	dropped("no-byte-behind-header", NET_HDR);
	dropped("half-header", 5);
	dropped("empty", 0);
	dropped("half-ethernet", NET_HDR + 13);
	dropped("too-long", 65563);
	put_header(1, 0, 0, 0, 34, 16);
	dropped("csum-not-negotiated", 100);
	put_header(1, 1, 54, 1448, 34, 16);
	dropped("tso-not-negotiated", 3000);
	dev_desc(TX, 0, net_tx_data, 100, F_WRITE, 0);
	dev_put(TX, 0);
	dev_kick(TX);
	expect("writable", dev_wait_used(TX, 1) && dev_used_len(TX) == 0);
	expect("start-offloads", net_start_with(NET_MRG_RXBUF | NET_OFFLOADS));
	put_header(1, 0, 0, 0, 0xffff, 0xffff);
	dropped("csum-outside", 100);
	put_header(1, 0, 0, 0, 98, 0);
	dropped("csum-at-end", 100 + NET_HDR - 13);
	put_header(1, 1, 54, 0, 34, 16);
	dropped("gso-size-0", 3000);
	put_header(0, 1, 54, 1448, 0, 0);
	dropped("gso-without-csum", 3000);
	put_header(1, 0x81, 54, 1448, 34, 16);
	dropped("ecn", 3000);
	put_header(1, 77, 54, 1448, 34, 16);
	dropped("gso-unknown", 3000);
	/* Headers that keep the rules over bytes that are no such packet: the host's kernel refuses them. */
	put_header(1, 4, 0xffff, 1448, 34, 16);
	dropped("not-a-packet", 3000);
	put_header(1, 3, 42, 1, 34, 6);
	dropped("tiny-segments", 60000);
	expect("arp", net_arp());
}
