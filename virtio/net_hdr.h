/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header that a driver puts in front of a frame: bytes in, a header that may be passed on out
 * (virtio 1.2, 5.1.6.2).
 *
 * Trust: the header is hostile. What leaves this file keeps the rules of 5.1.6.2.1 for its frame and the
 * features that were negotiated, and has zeros wherever a field means nothing.
 *
 * Threads: pure functions, any. No I/O, time, logging or allocation.
 */
#ifndef MAYFLY_VIRTIO_NET_HDR_H
#define MAYFLY_VIRTIO_NET_HDR_H

#include <stdint.h>

#include "virtio/virtio_spec.h"
#include "virtio/virtqueue.h"
#include "vmm/base/cdefs.h"

/*
 * Judge the header @wire of a frame of @frame_len bytes (header not counted) under the features @acked.
 *
 * Returns VERDICT_OK and in *@out what the backend is to get (little-endian, as @wire), or
 * VERDICT_REQ_ERROR: drop the frame.
 */
enum verdict net_hdr_check(const struct virtio_net_hdr_wire *wire, uint32_t frame_len, uint64_t acked,
			   struct virtio_net_hdr_wire *out) MUST_USE;

#endif
