/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Features that were not offered, resets with packets under way, and a flood of malformed packets: the device works afterwards, and
 * the log does not grow with them. `vsock: yes`
 */
#include "vsock.h"

#define PACKETS 32
#define ROUNDS 200
#define FLOOD 5000

static void features_not_offered(void)
{
	static const unsigned bits[] = {0, 1, 5, 28, 34, 38, 63}; /* seqpacket, indirect, packed ring, ... */

	for (unsigned i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
		expect_eq("feature-not-offered", ST_ACKNOWLEDGE | ST_DRIVER, dev_negotiate(1ull << bits[i]));
}

/* Packets that make the device work and answer, some of them for connections that it would open on the host's side. */
static void send_many(unsigned round)
{
	for (uint16_t i = 0; i < PACKETS; i++) {
		dev_desc(TX, i, &vsock_tx, sizeof(vsock_tx), 0, 0);
		dev_desc(RX, i, vsock_data + 1024 * i, 1024, F_WRITE, 0);
		if (round & 1)
			dev_put(RX, i);
		dev_put(TX, i);
	}
	vsock_tx.op = round % 3 ? OP_REQUEST : OP_RW;
	dev_kick(RX);
	dev_kick(TX);
}

static void reset_under_way(void)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		if (!vsock_start()) {
			expect_eq("started-in-round", 0, round + 1);
			return;
		}
		(void)vsock_send(OP_RST); /* fills in a good header */
		send_many(round);
		dev_write(REG_STATUS, 0);
		if (dev_read(REG_STATUS) != 0 || dev_read(REG_INTERRUPT_STATUS) != 0)
			expect_eq("reset-in-round", 0, round + 1);
	}
	expect("start-after-resets", vsock_start());
	expect("works-after-resets", vsock_rst(OP_RW));
}

static void flood(void)
{
	for (unsigned i = 0; i < FLOOD; i++) {
		dev_desc(TX, 0, &vsock_tx, i % 44, 0, 0);
		dev_put(TX, 0);
		dev_kick(TX);
		if (!dev_wait_used(TX, 1)) {
			expect_eq("flood-used", FLOOD, i);
			return;
		}
	}
	expect("works-after-flood", vsock_rst(OP_RW));
}

void guest_main(void)
{
	features_not_offered();
	reset_under_way();
	flood();
	expect_eq("running", ST_RUNNING, dev_read(REG_STATUS));
}
