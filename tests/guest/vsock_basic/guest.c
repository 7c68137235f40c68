/* SPDX-License-Identifier: Apache-2.0 */
/* A good vsock driver, then packets and buffers that no good one sends: each has its answer. `vsock: yes` */
#include "vsock.h"

static bool sent(void)
{
	dev_desc(TX, 40, &vsock_tx, sizeof(vsock_tx), 0, 0);
	dev_put(TX, 40);
	dev_kick(TX);
	return dev_wait_used(TX, 1);
}

/* @broken: is not answered; the next good packet is. */
static void unanswered(const char *name)
{
	expect(name, sent() && vsock_rst(OP_RW));
}

static void bad_chains(void)
{
	dev_desc(TX, 0, &vsock_tx, 43, 0, 0);                           /* shorter than a header */
	dev_desc(TX, 1, vsock_data, 100, F_WRITE, 0);                   /* nothing to read */
	dev_desc(TX, 2, vsock_data, 0, 0, 0);                           /* empty */
	dev_desc(TX, 3, vsock_data, 100, F_WRITE | F_NEXT, 4);          /* wrong order */
	dev_desc(TX, 4, &vsock_tx, 44, 0, 0);
	dev_desc(RX, 0, vsock_data, 43, F_WRITE, 0);                    /* no room for a header */
	dev_desc(RX, 1, vsock_data, 100, 0, 0);                         /* not to be written */
	for (uint16_t i = 0; i < 4; i++) {
		dev_put(TX, i);
		if (i < 2)
			dev_put(RX, i);
	}
	dev_kick(RX);
	dev_kick(TX);
	expect("bad-transmit-chains-used", dev_wait_used(TX, 4) && dev_used_len(TX) == 0);
	dev_desc(RX, 41, &vsock_rx, sizeof(vsock_rx), F_WRITE, 0);
	dev_put(RX, 41);
	expect("bad-receive-chains-used", vsock_send(OP_RW) && dev_wait_used(RX, 3) && vsock_rx.op == OP_RST);
}

void guest_main(void)
{
	uint64_t features;

	expect_eq("device-id", 19, dev_read(REG_DEVICE_ID));
	dev_write(REG_DEVICE_FEATURES_SEL, 0);
	features = dev_read(REG_DEVICE_FEATURES);
	dev_write(REG_DEVICE_FEATURES_SEL, 1);
	features |= (uint64_t)dev_read(REG_DEVICE_FEATURES) << 32;
	expect_eq("features", FEATURE_VERSION_1 | FEATURE_EVENT_IDX | 1ull << 35, features);
	expect_eq("guest-cid", VSOCK_CID, dev_read(REG_CONFIG));
	expect_eq("guest-cid-high", 0, dev_read(REG_CONFIG + 4));
	expect("start-all-features", vsock_start_with(features));
	expect("rst-all-features", vsock_rst(OP_RW));
	expect("start", vsock_start());
	expect("nobody-listens", vsock_rst(OP_REQUEST));
	expect("no-connection", vsock_rst(OP_SHUTDOWN) && vsock_rst(OP_RESPONSE) && vsock_rst(OP_RW));
	expect("unknown-operation", vsock_rst(99) && vsock_rst(0) && vsock_rst(0xffff));
	(void)vsock_send(OP_RST);
	vsock_tx.src_cid = VSOCK_CID + 1;
	vsock_tx.op = OP_RW;
	unanswered("spoofed-source");
	vsock_tx.dst_cid = 1;
	unanswered("other-destination");
	vsock_tx.len = 0xffffffff;
	vsock_tx.op = OP_RST;
	unanswered("rst-is-not-answered");
	bad_chains();
	for (unsigned i = 0; i < 3000; i++) {
		if (!vsock_rst(OP_RW)) {
			expect_eq("answered-in-round", 0, i + 1);
			break;
		}
	}
	expect_eq("running", ST_RUNNING, dev_read(REG_STATUS));
}
