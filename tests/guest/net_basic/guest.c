/* SPDX-License-Identifier: Apache-2.0 */
/* A good network driver: identity, features, configuration, a frame there and back with and without offloads. `net: tap` */
#include "net.h"

void guest_main(void)
{
	uint64_t features;

	expect_eq("magic", 0x74726976, dev_read(REG_MAGIC));
	expect_eq("device-id", 1, dev_read(REG_DEVICE_ID));
	dev_write(REG_DEVICE_FEATURES_SEL, 0);
	features = dev_read(REG_DEVICE_FEATURES);
	dev_write(REG_DEVICE_FEATURES_SEL, 1);
	features |= (uint64_t)dev_read(REG_DEVICE_FEATURES) << 32;
	expect_eq("features", FEATURE_VERSION_1 | FEATURE_EVENT_IDX | NET_MRG_RXBUF | NET_OFFLOADS | 1u << 5 | 1u << 3, features);
	expect("start", net_start());
	expect("arp", net_arp());
	expect_eq("mac", 0x00000002, dev_read(REG_CONFIG));
	expect_eq("mac-end", 0x0209, dev_read(REG_CONFIG + 4) & 0xffff);
	expect_eq("mtu", 1400, dev_read(REG_CONFIG + 8) >> 16);
	dev_write(REG_CONFIG, 0xffffffff);
	expect_eq("mac-is-fixed", 0x00000002, dev_read(REG_CONFIG));
	expect("start-plain", net_start_with(0));
	expect("arp-plain", net_arp());
	expect("start-event-idx", net_start_with(FEATURE_EVENT_IDX | NET_MRG_RXBUF | NET_OFFLOADS));
	expect("arp-event-idx", net_arp());
	expect_eq("not-offered", ST_ACKNOWLEDGE | ST_DRIVER, dev_negotiate(1ull << 17)); /* CTRL_VQ */
}
