/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Async engine: one io_uring for all drives of a microVM (DESIGN.md section 5), made only when a
 * drive asks for it.
 *
 * The ring is created disabled, gets the drives' files registered, is restricted
 * (IORING_REGISTER_RESTRICTIONS) to registered files and the opcodes for disk I/O, and enabled before the
 * guest runs. A completion carries a slot number and the generation of that slot, never a pointer: one that
 * comes after a reset or a swap of the file finds nothing to touch.
 *
 * Threads: create, enable, destroy: the I/O thread. docs/device-model.md has the lock order.
 *
 * Use: blk_ring_create(); blk_create() of each Async drive with it; blk_ring_enable(); run;
 * blk_destroy() of the drives; blk_ring_destroy().
 */
#ifndef MAYFLY_VIRTIO_BLK_RING_H
#define MAYFLY_VIRTIO_BLK_RING_H

#include <stdint.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"
#include "vmm/evloop.h"

struct blk_ring;

/* Can this host do it? 0, or negative errno with @e: what is missing and the way out (a kernel setting, or the Sync engine). */
int blk_ring_probe(struct err *e) MUST_USE;

/* Make a disabled ring for @n_drives drives (> 0). 0 and *@out (owned), or negative errno with @e. */
int blk_ring_create(struct evloop *loop, uint32_t n_drives, struct blk_ring **out, struct err *e) MUST_USE;

/* Restrict it and let it run: after the last blk_create(), before the vCPUs. 0, or negative errno with @e. */
int blk_ring_enable(struct blk_ring *ring, struct err *e) MUST_USE;

/* Free; NULL allowed. Nothing is in flight: the drives are gone. */
void blk_ring_destroy(struct blk_ring *ring);

#endif
