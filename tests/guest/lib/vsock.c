/* SPDX-License-Identifier: Apache-2.0 */
#include "vsock.h"

struct vsock_header vsock_tx, vsock_rx;
uint8_t vsock_data[65536];

bool vsock_start_with(uint64_t features)
{
	return dev_start(VSOCK_QUEUES, features);
}

bool vsock_start(void)
{
	return vsock_start_with(0);
}

bool vsock_send(uint16_t op)
{
	vsock_tx = (struct vsock_header){
		.src_cid = VSOCK_CID, .dst_cid = 2, .src_port = 1, .dst_port = 2, .type = 1, .op = op, .buf_alloc = 65536};
	dev_desc(TX, 40, &vsock_tx, sizeof(vsock_tx), 0, 0);
	dev_put(TX, 40);
	dev_kick(TX);
	return dev_wait_used(TX, 1);
}

bool vsock_rst(uint16_t op)
{
	memset(&vsock_rx, 0, sizeof(vsock_rx));
	dev_desc(RX, 41, &vsock_rx, sizeof(vsock_rx), F_WRITE, 0);
	dev_put(RX, 41);
	dev_kick(RX);
	return vsock_send(op) && dev_wait_used(RX, 1) && dev_used_len(RX) == sizeof(vsock_rx) && vsock_rx.op == OP_RST &&
	       vsock_rx.src_cid == 2 && vsock_rx.dst_cid == VSOCK_CID && vsock_rx.src_port == 2 && vsock_rx.dst_port == 1;
}

bool vsock_start_and_rst(void)
{
	return vsock_start() && vsock_rst(OP_RW);
}
