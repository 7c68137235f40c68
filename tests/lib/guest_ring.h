/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's side of a split virtqueue and of virtio-mmio, as unit tests and fuzz targets need it:
 * every field can be set to anything, nothing is checked.
 *
 * Threads: none; a test that plays guest in one thread and device in another has one of these in the
 * guest's.
 */
#ifndef MAYFLY_TESTS_GUEST_RING_H
#define MAYFLY_TESTS_GUEST_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/mmio.h"
#include "virtio/virtqueue.h"
#include "vmm/gmem.h"

struct guest_ring {
	struct gmem *mem; /* borrowed */
	struct vq_geometry geo;
	uint16_t avail_idx; /* published */
	uint16_t used_seen;
};

/* Lay out an empty ring of @size elements from @base on (16-aligned): table, available ring, used ring. */
void guest_ring_init(struct guest_ring *r, struct gmem *mem, uint16_t size, uint64_t base);

/* Fill descriptor @i of the table at @table (the ring's own: r->geo.desc). */
void guest_ring_desc_at(struct guest_ring *r, uint64_t table, uint16_t i, uint64_t addr, uint32_t len, uint16_t flags,
			uint16_t next);
void guest_ring_desc(struct guest_ring *r, uint16_t i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next);

/* Make @head available: ring element, then idx. */
void guest_ring_offer(struct guest_ring *r, uint16_t head);

/* Set avail.idx alone, avail.flags, used_event. */
void guest_ring_set_idx(struct guest_ring *r, uint16_t idx);
void guest_ring_set_flags(struct guest_ring *r, uint16_t flags);
void guest_ring_set_used_event(struct guest_ring *r, uint16_t event);

/* used.idx, used.flags, avail_event as the device wrote them. */
uint16_t guest_ring_used_idx(const struct guest_ring *r);
uint16_t guest_ring_used_flags(const struct guest_ring *r);
uint16_t guest_ring_avail_event(const struct guest_ring *r);

/* Take the next used element; false: none. */
bool guest_ring_take_used(struct guest_ring *r, uint32_t *id, uint32_t *len);

/* One 32-bit register access. */
uint32_t guest_mmio_read(struct virtio_mmio *t, uint64_t off);
void guest_mmio_write(struct virtio_mmio *t, uint64_t off, uint32_t val);

/* Bring the device up to FEATURES_OK with @features; returns the status read back. */
uint32_t guest_mmio_negotiate(struct virtio_mmio *t, uint64_t features);

/* Tell queue @q's registers where @geo is and set QueueReady. */
void guest_mmio_set_queue(struct virtio_mmio *t, uint32_t q, const struct vq_geometry *geo);

/*
 * Double-fetch detector (MAYFLY_CHECKED builds; elsewhere it sees nothing): ranges that were copied
 * more than once since their chain began, summed up since the last call.
 */
unsigned guest_fetched_twice(void);

#endif
