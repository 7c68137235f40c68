/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's vsock driver over guest_ring.h, for unit tests and fuzz targets: three rings, receive buffers, packets with any header.
 */
#ifndef MAYFLY_TESTS_GUEST_VSOCK_H
#define MAYFLY_TESTS_GUEST_VSOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/lib/guest_ring.h"
#include "virtio/virtio_spec.h"
#include "vmm/gmem.h"

#define GUEST_VSOCK_CID 3
#define GUEST_VSOCK_MEM (8 * MIB)
#define GUEST_VSOCK_BUF 4096u /* a receive buffer, header included */

/* Host order. */
struct guest_vsock_pkt {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
};

struct guest_vsock {
	struct gmem *mem;       /* borrowed, GUEST_VSOCK_MEM */
	struct virtio_mmio *t;  /* borrowed */
	uint16_t qsize;
	struct guest_ring ring[3];
	uint32_t n_posted;      /* receive buffers with the device */
};

/* Reset the device and bring it up with @features; no receive buffers yet. False: it refused. */
bool guest_vsock_start(struct guest_vsock *g, struct gmem *mem, struct virtio_mmio *t, uint16_t qsize, uint64_t features);

/* Make receive buffer @i (below the queue's size) available, and kick when @kick. */
void guest_vsock_post(struct guest_vsock *g, uint16_t i, bool kick);
void guest_vsock_post_all(struct guest_vsock *g);

/* A packet from the guest to the host, as a correct driver fills it. */
struct guest_vsock_pkt guest_vsock_pkt(uint16_t op, uint32_t guest_port, uint32_t host_port);

/* Send @pkt with @len bytes of data and kick; pkt->len is sent as it is. One packet at a time: its chain must be used before. */
void guest_vsock_send(struct guest_vsock *g, const struct guest_vsock_pkt *pkt, const void *data, uint32_t len);

/* Was every packet that was sent used? */
bool guest_vsock_sent(struct guest_vsock *g);

/* Take the next packet of the host, at most GUEST_VSOCK_BUF bytes of data into @data, and post its buffer again. */
bool guest_vsock_receive(struct guest_vsock *g, struct guest_vsock_pkt *pkt, uint8_t *data);

#endif
