/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/guest_ring.h"

#include <string.h>

#include "virtio/virtio_spec.h"
#include "vmm/base/bytes.h"

#define MAX_FETCHES 2048

static void put16(struct guest_ring *r, uint64_t gpa, uint16_t v)
{
	uint16_t *p = gmem_hva(r->mem, GPA(gpa), sizeof(v));

	must(p);
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static uint16_t get16(const struct guest_ring *r, uint64_t gpa)
{
	const uint16_t *p = gmem_hva(r->mem, GPA(gpa), sizeof(*p));

	must(p);
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

void guest_ring_init(struct guest_ring *r, struct gmem *mem, uint16_t size, uint64_t base)
{
	void *p;

	memset(r, 0, sizeof(*r));
	r->mem = mem;
	r->geo.size = size;
	r->geo.desc = base;
	r->geo.driver = base + VIRTQ_DESC_BYTES(size);
	r->geo.device = (r->geo.driver + VIRTQ_AVAIL_BYTES(size) + 3) & ~UINT64_C(3);
	p = gmem_hva(mem, GPA(base), r->geo.device + VIRTQ_USED_BYTES(size) - base);
	must(p);
	memset(p, 0, r->geo.device + VIRTQ_USED_BYTES(size) - base);
}

void guest_ring_desc_at(struct guest_ring *r, uint64_t table, uint16_t i, uint64_t addr, uint32_t len, uint16_t flags,
			uint16_t next)
{
	uint8_t d[16];
	int rc;

	le64_put(d, addr);
	le32_put(d + 8, len);
	le16_put(d + 12, flags);
	le16_put(d + 14, next);
	rc = gmem_write(r->mem, GPA(table + 16 * (uint64_t)i), d, sizeof(d));
	must(rc == 0);
}

void guest_ring_desc(struct guest_ring *r, uint16_t i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	guest_ring_desc_at(r, r->geo.desc, i, addr, len, flags, next);
}

void guest_ring_offer(struct guest_ring *r, uint16_t head)
{
	put16(r, r->geo.driver + VIRTQ_AVAIL_RING + 2 * (uint64_t)(r->avail_idx & (r->geo.size - 1)), head);
	guest_ring_set_idx(r, (uint16_t)(r->avail_idx + 1));
}

void guest_ring_set_idx(struct guest_ring *r, uint16_t idx)
{
	r->avail_idx = idx;
	put16(r, r->geo.driver + VIRTQ_AVAIL_IDX, idx);
}

void guest_ring_set_flags(struct guest_ring *r, uint16_t flags)
{
	put16(r, r->geo.driver + VIRTQ_AVAIL_FLAGS, flags);
}

void guest_ring_set_used_event(struct guest_ring *r, uint16_t event)
{
	put16(r, r->geo.driver + VIRTQ_AVAIL_RING + 2 * (uint64_t)r->geo.size, event);
}

uint16_t guest_ring_used_idx(const struct guest_ring *r)
{
	return get16(r, r->geo.device + VIRTQ_USED_IDX);
}

uint16_t guest_ring_used_flags(const struct guest_ring *r)
{
	return get16(r, r->geo.device + VIRTQ_USED_FLAGS);
}

uint16_t guest_ring_avail_event(const struct guest_ring *r)
{
	return get16(r, r->geo.device + VIRTQ_USED_RING + 8 * (uint64_t)r->geo.size);
}

bool guest_ring_take_used(struct guest_ring *r, uint32_t *id, uint32_t *len)
{
	const uint32_t *elem;

	if (guest_ring_used_idx(r) == r->used_seen)
		return false;
	elem = gmem_hva(r->mem, GPA(r->geo.device + VIRTQ_USED_RING + 8 * (uint64_t)(r->used_seen & (r->geo.size - 1))),
			8);
	must(elem);
	*id = __atomic_load_n(&elem[0], __ATOMIC_RELAXED);
	*len = __atomic_load_n(&elem[1], __ATOMIC_RELAXED);
	r->used_seen++;
	return true;
}

uint32_t guest_mmio_read(struct virtio_mmio *t, uint64_t off)
{
	uint8_t data[4];

	virtio_mmio_bus_ops.read(t, off, data, sizeof(data));
	return le32_get(data);
}

void guest_mmio_write(struct virtio_mmio *t, uint64_t off, uint32_t val)
{
	uint8_t data[4];

	le32_put(data, val);
	virtio_mmio_bus_ops.write(t, off, data, sizeof(data));
}

uint32_t guest_mmio_negotiate(struct virtio_mmio *t, uint64_t features)
{
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0);
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0x1);
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0x3);
	guest_mmio_write(t, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	guest_mmio_write(t, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
	guest_mmio_write(t, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	guest_mmio_write(t, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0xb);
	return guest_mmio_read(t, VIRTIO_MMIO_STATUS);
}

void guest_mmio_set_queue(struct virtio_mmio *t, uint32_t q, const struct vq_geometry *geo)
{
	guest_mmio_write(t, VIRTIO_MMIO_QUEUE_SEL, q);
	guest_mmio_write(t, VIRTIO_MMIO_QUEUE_NUM, geo->size);
	guest_mmio_write(t, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)geo->desc);
	guest_mmio_write(t, VIRTIO_MMIO_QUEUE_DESC_HIGH, (uint32_t)(geo->desc >> 32));
	guest_mmio_write(t, VIRTIO_MMIO_QUEUE_DRIVER_LOW, (uint32_t)geo->driver);
	guest_mmio_write(t, VIRTIO_MMIO_QUEUE_DRIVER_HIGH, (uint32_t)(geo->driver >> 32));
	guest_mmio_write(t, VIRTIO_MMIO_QUEUE_DEVICE_LOW, (uint32_t)geo->device);
	guest_mmio_write(t, VIRTIO_MMIO_QUEUE_DEVICE_HIGH, (uint32_t)(geo->device >> 32));
	guest_mmio_write(t, VIRTIO_MMIO_QUEUE_READY, 1);
}

/* --- Double-fetch detector --- */

static __thread struct {
	uint64_t gpa, len;
} fetched[MAX_FETCHES];
static __thread unsigned n_fetched, n_twice;

#ifdef MAYFLY_CHECKED
void virtqueue_observe_fetch(gpa_t gpa, uint64_t len, bool start)
{
	if (start) {
		n_fetched = 0;
		return;
	}
	for (unsigned i = 0; i < n_fetched; i++) {
		if (gpa.v < fetched[i].gpa + fetched[i].len && fetched[i].gpa < gpa.v + len)
			n_twice++;
	}
	must(n_fetched < MAX_FETCHES);
	fetched[n_fetched].gpa = gpa.v;
	fetched[n_fetched].len = len;
	n_fetched++;
}
#endif

unsigned guest_fetched_twice(void)
{
	unsigned n = n_twice;

	n_twice = 0;
	(void)fetched;
	(void)n_fetched;
	return n;
}
