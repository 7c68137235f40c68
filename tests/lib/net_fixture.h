/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network interface between a guest ring pair and a host that a test plays: frames to receive, frames
 * that were sent, and what the next call answers.
 *
 * Threads: none. One at a time (the state is static).
 */
#ifndef MAYFLY_TESTS_NET_FIXTURE_H
#define MAYFLY_TESTS_NET_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/lib/guest_ring.h"
#include "virtio/net.h"
#include "virtio/net_impl.h"
#include "vmm/evloop.h"
#include "vmm/irq.h"

#define FIX_MEM_SIZE (16 * MIB)
#define FIX_DATA UINT64_C(0x100000)
#define FIX_ALL                                                                                                        \
	(VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_NET_F_MRG_RXBUF | VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM | \
	 VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6 | VIRTIO_NET_F_GUEST_UFO | VIRTIO_NET_F_HOST_TSO4 |         \
	 VIRTIO_NET_F_HOST_TSO6 | VIRTIO_NET_F_HOST_UFO)
#define FIX_PLAIN (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX)

/* The host. Frames that wait are all made by fix_host_frame(): byte i of frame n is fix_byte(n, i). */
struct fix_host {
	uint32_t len[512];        /* of the frames that wait, header included */
	unsigned n_frames, next;  /* how many there are, and the next to be received */
	bool endless;             /* there is always one more, as long as len[0] */
	int recv_error, send_error, flush_error; /* errno; 0: none */
	int send_error_after;     /* so many sends succeed first */
	bool gathers;             /* it has a flush() */
	unsigned n_recv, n_send, n_flush, n_set_features;
	uint64_t features;
	uint8_t sent[NET_FRAME_MAX]; /* the last frame */
	uint32_t sent_len;
	int peer_fd;              /* other end of the descriptor that the loop watches */
};

struct fix {
	struct gmem *mem;
	struct irq_line irq;
	struct evloop *loop;
	struct net *net;
	struct virtio_mmio *t;
	struct guest_ring rx, tx;
	struct fix_host host;
};

extern struct fix fix;

/* Make everything, up to a running driver that acked @features. @config: limits, mac, mtu; NULL: none. */
void fix_create(const struct net_config *config, uint64_t offered, bool gathers);
void fix_start(uint64_t features, uint16_t queue_size);
void fix_destroy(void);

uint8_t fix_byte(unsigned frame, uint32_t i);

/* A frame of @len bytes, header included, comes to the host's side, with the edge that belongs to it. */
void fix_host_frame(uint32_t len);
void fix_edge(void);

/* Run the loop until nothing is ready; returns the number of turns. */
unsigned fix_run(void);
void fix_kick(uint16_t q);

/* Where receive buffer @i lies. The first 64 are 64 KiB apart. */
uint64_t fix_rx_at(uint16_t i);

/* Offer @n receive buffers of @len bytes each, from descriptor @first on. */
void fix_offer_rx(uint16_t first, uint16_t n, uint32_t len);

/* Offer a frame for sending in one descriptor at FIX_DATA + 0x800000 + 0x11000 * @slot: @len bytes, header @hdr in front. */
void fix_offer_tx(uint16_t slot, const struct virtio_net_hdr_wire *hdr, uint32_t len);

#endif
