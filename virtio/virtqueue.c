/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The split ring. Section numbers are virtio 1.2.
 *
 * Barriers, each with its partner in the driver:
 * - load-acquire of avail.idx pairs with the driver's write barrier between ring element and idx
 *   (2.7.13.2).
 * - store-release of used.idx publishes the element before it; pairs with the driver's read barrier
 *   (2.7.8.2, 2.7.14).
 * - full fence between publishing used.idx and reading used_event or the NO_INTERRUPT flag, and between
 *   writing avail_event or clearing NO_NOTIFY and reading avail.idx again: each side writes its own
 *   word and then reads the other's, and one of the two must see the other's write (2.7.13.4.1,
 *   2.7.14).
 */
#include "virtio/virtqueue.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/virtio_spec.h"
#include "vmm/base/bytes.h"
#include "vmm/base/checked.h"

#define BITS_PER_WORD 64

struct virtqueue {
	uint16_t max_size;
	bool started;

	/* From virtqueue_start(): checked, constant until virtqueue_stop(). */
	const struct gmem *mem;      /* borrowed */
	uint16_t size;               /* a power of two */
	bool event_idx, indirect;
	gpa_t desc_gpa;
	const uint8_t *desc;         /* hva of the descriptor table */
	const uint8_t *avail;        /* hva of the available ring */
	uint8_t *used;               /* hva of the used ring */

	/* Q1: ours alone. */
	uint16_t next_avail;         /* of the next element to take */
	uint16_t avail_seen;         /* avail.idx when we last looked; next_avail <= it <= next_avail + size */
	uint16_t next_used;          /* of the next element to fill */
	uint16_t signalled_used;     /* next_used when an interrupt was last decided upon */
	uint16_t n_in_flight;
	uint64_t in_flight[VQ_SIZE_MAX / BITS_PER_WORD]; /* Q2: by head */
};

/* --- Guest memory --- */

static void observe_fetch(gpa_t gpa, uint64_t len, bool start)
{
#ifdef MAYFLY_CHECKED
	if (virtqueue_observe_fetch)
		virtqueue_observe_fetch(gpa, len, start);
#else
	(void)gpa;
	(void)len;
	(void)start;
#endif
}

static uint16_t ring_load16(const uint8_t *p)
{
	return le16toh(__atomic_load_n((const uint16_t *)(const void *)p, __ATOMIC_RELAXED));
}

static void ring_store16(uint8_t *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)(void *)p, htole16(v), __ATOMIC_RELAXED);
}

static void ring_store32(uint8_t *p, uint32_t v)
{
	__atomic_store_n((uint32_t *)(void *)p, htole32(v), __ATOMIC_RELAXED);
}

/* A descriptor in registers. */
struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/*
 * Copy the descriptor at @hva (@gpa) once, as its two words. The fence forbids the compiler to read a field from the
 * guest again when it runs out of registers (Q4).
 */
static inline struct desc desc_fetch(const uint8_t *hva, gpa_t gpa)
{
	uint64_t word[2];

	_Static_assert(sizeof(struct virtq_desc_wire) == sizeof(word), "2.7.5");
	memcpy(word, hva, sizeof(word));
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	observe_fetch(gpa, sizeof(word), false);
	word[1] = le64toh(word[1]);
	return (struct desc){
		.addr = le64toh(word[0]),
		.len = (uint32_t)word[1],
		.flags = (uint16_t)(word[1] >> 32),
		.next = (uint16_t)(word[1] >> 48),
	};
}

static const uint8_t *used_event_at(const struct virtqueue *vq)
{
	return vq->avail + VIRTQ_AVAIL_RING + 2 * (size_t)vq->size;
}

static uint8_t *avail_event_at(const struct virtqueue *vq)
{
	return vq->used + VIRTQ_USED_RING + sizeof(struct virtq_used_elem_wire) * vq->size;
}

/* --- Life --- */

int virtqueue_create(uint16_t max_size, struct virtqueue **out)
{
	struct virtqueue *vq;

	must(max_size > 0 && max_size <= VQ_SIZE_MAX && (max_size & (max_size - 1)) == 0);
	vq = calloc(1, sizeof(*vq));
	if (!vq)
		return -ENOMEM;
	vq->max_size = max_size;
	*out = vq;
	return 0;
}

void virtqueue_destroy(struct virtqueue *vq)
{
	free(vq);
}

uint16_t virtqueue_max_size(const struct virtqueue *vq)
{
	return vq->max_size;
}

enum verdict virtqueue_start(struct virtqueue *vq, const struct gmem *mem, const struct vq_geometry *geo,
			     uint64_t features)
{
	const void *desc, *avail;
	void *used;

	must(!vq->started);
	/* 2.7: a power of two, at most what QueueNumMax said. */
	if (geo->size == 0 || geo->size > vq->max_size || (geo->size & (geo->size - 1)) != 0)
		return VERDICT_QUEUE_BROKEN;
	/* 2.7: the table of alignments. */
	if (geo->desc % VIRTQ_DESC_ALIGN != 0 || geo->driver % VIRTQ_AVAIL_ALIGN != 0 ||
	    geo->device % VIRTQ_USED_ALIGN != 0)
		return VERDICT_QUEUE_BROKEN;
	/*
	 * Each part whole in one region, the event words counted whether they are used or not (2.7.6,
	 * 2.7.8).
	 */
	desc = gmem_hva(mem, GPA(geo->desc), VIRTQ_DESC_BYTES(geo->size));
	avail = gmem_hva(mem, GPA(geo->driver), VIRTQ_AVAIL_BYTES(geo->size));
	used = gmem_hva(mem, GPA(geo->device), VIRTQ_USED_BYTES(geo->size));
	if (!desc || !avail || !used)
		return VERDICT_QUEUE_BROKEN;

	vq->mem = mem;
	vq->size = (uint16_t)geo->size;
	vq->event_idx = (features & VIRTIO_F_EVENT_IDX) != 0;
	vq->indirect = (features & VIRTIO_F_INDIRECT_DESC) != 0;
	vq->desc_gpa = GPA(geo->desc);
	vq->desc = desc;
	vq->avail = avail;
	vq->used = used;
	vq->started = true;
	return VERDICT_OK;
}

void virtqueue_stop(struct virtqueue *vq)
{
	uint16_t max_size = vq->max_size;

	memset(vq, 0, sizeof(*vq));
	vq->max_size = max_size;
}

bool virtqueue_started(const struct virtqueue *vq)
{
	return vq->started;
}

uint16_t virtqueue_size(const struct virtqueue *vq)
{
	return vq->size;
}

uint16_t virtqueue_in_flight(const struct virtqueue *vq)
{
	return vq->n_in_flight;
}

/* --- In flight (Q2) --- */

static bool head_in_flight(const struct virtqueue *vq, uint16_t head)
{
	return (vq->in_flight[head / BITS_PER_WORD] >> (head % BITS_PER_WORD)) & 1;
}

static void head_set(struct virtqueue *vq, uint16_t head)
{
	vq->in_flight[head / BITS_PER_WORD] |= UINT64_C(1) << (head % BITS_PER_WORD);
	vq->n_in_flight++;
}

static void head_clear(struct virtqueue *vq, uint16_t head)
{
	vq->in_flight[head / BITS_PER_WORD] &= ~(UINT64_C(1) << (head % BITS_PER_WORD));
	vq->n_in_flight--;
}

/* --- Pop --- */

/*
 * Look at avail.idx anew. A driver can't have more than `size` chains available, so a longer jump is a
 * lie.
 */
static enum verdict avail_refresh(struct virtqueue *vq)
{
	const uint16_t *p = (const uint16_t *)(const void *)(vq->avail + VIRTQ_AVAIL_IDX);
	uint16_t idx = le16toh(__atomic_load_n(p, __ATOMIC_ACQUIRE));

	if ((uint16_t)(idx - vq->next_avail) > vq->size)
		return VERDICT_QUEUE_BROKEN;
	vq->avail_seen = idx;
	return VERDICT_OK;
}

/* A table of descriptors: the queue's, or an indirect one. */
struct desc_table {
	const uint8_t *hva;
	gpa_t gpa;
	uint32_t n;
};

static inline struct desc table_fetch(const struct desc_table *t, uint32_t i)
{
	size_t at = (size_t)i * sizeof(struct virtq_desc_wire);

	return desc_fetch(t->hva + at, GPA(t->gpa.v + at));
}

/* The table that @d refers to (2.7.5.3). Its WRITE flag is ignored, as 2.7.5.3.2 says. */
static enum verdict indirect_table(const struct virtqueue *vq, struct desc d, struct desc_table *out)
{
	uint32_t n = d.len / (uint32_t)sizeof(struct virtq_desc_wire);

	/* 2.7.5.3.1: not with NEXT. */
	if (!vq->indirect || (d.flags & VIRTQ_DESC_F_NEXT) || n == 0 || d.len % sizeof(struct virtq_desc_wire) != 0)
		return VERDICT_QUEUE_BROKEN;
	/* next has 16 bits; longer tables (65536 is the most that could be reached) are nobody's. */
	if (n > UINT16_MAX)
		return VERDICT_QUEUE_BROKEN;
	*out = (struct desc_table){ .hva = gmem_hva(vq->mem, GPA(d.addr), d.len), .gpa = GPA(d.addr), .n = n };
	return out->hva ? VERDICT_OK : VERDICT_QUEUE_BROKEN;
}

/* A descriptor becomes a segment here and nowhere else (Q3). False: it is not RAM. */
static inline bool seg_set(const struct virtqueue *vq, struct desc d, struct vq_seg *seg)
{
	seg->hva = gmem_hva(vq->mem, GPA(d.addr), d.len);
	seg->gpa = GPA(d.addr);
	seg->len = d.len;
	seg->dev_writable = (d.flags & VIRTQ_DESC_F_WRITE) != 0;
	/*
	 * An empty segment is harmless wherever it points (CVE-2023-5158 was a device that thought
	 * otherwise).
	 */
	return likely(seg->hva) || d.len == 0;
}

/* The chain of the one descriptor @d: every receive buffer of a network interface is one. */
static inline enum verdict chain_of_one(const struct virtqueue *vq, struct desc d, struct vq_chain *out)
{
	bool writable = (d.flags & VIRTQ_DESC_F_WRITE) != 0;

	if (!seg_set(vq, d, &out->seg[0]))
		return VERDICT_QUEUE_BROKEN;
	out->n = 1;
	out->n_readable = writable ? 0 : 1;
	out->readable_len = writable ? 0 : d.len;
	out->writable_len = writable ? d.len : 0;
	return VERDICT_OK;
}

/*
 * Follow the chain that begins with @d until a descriptor without NEXT, through an indirect table where there is one.
 * At most VQ_CHAIN_MAX steps, so a loop ends as a broken queue.
 *
 * This loop is most of what a request costs of our own time: it works on locals, and out's members are set at its end.
 */
static __attribute__((noinline)) enum verdict chain_walk(const struct virtqueue *vq, struct desc d, struct vq_chain *out)
{
	struct desc_table table = { .hva = vq->desc, .gpa = vq->desc_gpa, .n = vq->size };
	const struct vq_seg *first_writable = NULL;
	struct vq_seg *seg = out->seg;
	uint64_t len = 0, readable_len = 0;
	bool nested = false;

	for (;;) {
		if (unlikely(d.flags & VIRTQ_DESC_F_INDIRECT)) {
			/* 2.7.5.3.1: not inside another. */
			if (nested || indirect_table(vq, d, &table) != VERDICT_OK)
				return VERDICT_QUEUE_BROKEN;
			nested = true;
			d = table_fetch(&table, 0);
			continue;
		}
		/*
		 * 2.7.5.2: a chain of more than 2^32 bytes is forbidden (it could only loop), and used.len
		 * has 32 bits.
		 */
		if (seg == out->seg + VQ_CHAIN_MAX || len + d.len > UINT32_MAX)
			return VERDICT_QUEUE_BROKEN;
		if ((d.flags & VIRTQ_DESC_F_WRITE) && !first_writable) {
			first_writable = seg;
			readable_len = len;
		}
		/*
		 * 2.7.4.2: dev_readable before dev_writable. Wrong, but the ring is sound: the request alone
		 * fails.
		 */
		if (!(d.flags & VIRTQ_DESC_F_WRITE) && first_writable)
			return VERDICT_REQ_ERROR;
		if (!seg_set(vq, d, seg))
			return VERDICT_QUEUE_BROKEN;
		seg++;
		len += d.len;
		if (!(d.flags & VIRTQ_DESC_F_NEXT))
			break;
		if (d.next >= table.n)
			return VERDICT_QUEUE_BROKEN;
		d = table_fetch(&table, d.next);
	}
	out->n = (uint16_t)(seg - out->seg);
	out->n_readable = first_writable ? (uint16_t)(first_writable - out->seg) : out->n;
	out->readable_len = first_writable ? readable_len : len;
	out->writable_len = len - out->readable_len;
	return VERDICT_OK;
}

enum verdict virtqueue_available(struct virtqueue *vq, uint16_t *n)
{
	enum verdict v;

	*n = 0;
	if (!vq->started)
		return VERDICT_OK;
	v = avail_refresh(vq);
	if (v == VERDICT_OK)
		*n = (uint16_t)(vq->avail_seen - vq->next_avail);
	return v;
}

enum verdict virtqueue_pop(struct virtqueue *vq, struct vq_chain *out)
{
	enum verdict v = VERDICT_OK;
	size_t slot, at;
	struct desc d;
	uint16_t head;

	out->n = 0;
	if (!vq->started)
		return VERDICT_OK;
	if (vq->next_avail == vq->avail_seen)
		v = avail_refresh(vq);
	if (v != VERDICT_OK || vq->next_avail == vq->avail_seen)
		return v;

	slot = vq->next_avail & (vq->size - 1u);
	head = ring_load16(vq->avail + VIRTQ_AVAIL_RING + 2 * slot);
	if (head >= vq->size || head_in_flight(vq, head))
		return VERDICT_QUEUE_BROKEN;
	observe_fetch(vq->desc_gpa, 0, true);
	out->head = head;
	at = head * sizeof(struct virtq_desc_wire);
	d = desc_fetch(vq->desc + at, GPA(vq->desc_gpa.v + at));
	v = d.flags & (VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_INDIRECT) ? chain_walk(vq, d, out) : chain_of_one(vq, d, out);
	if (v == VERDICT_QUEUE_BROKEN) {
		out->n = 0;
		return v;
	}
	vq->next_avail++;
	head_set(vq, head);
	return v;
}

void virtqueue_unpop(struct virtqueue *vq, uint16_t head)
{
	must(vq->started && head < vq->size && head_in_flight(vq, head));
	head_clear(vq, head);
	vq->next_avail--;
}

/* --- Push --- */

/* Fill the next used element; not yet published. */
static void used_put(struct virtqueue *vq, const struct vq_done *done)
{
	uint8_t *elem;

	must(vq->started && done->head < vq->size && head_in_flight(vq, done->head));
	head_clear(vq, done->head);
	elem = vq->used + VIRTQ_USED_RING +
	       sizeof(struct virtq_used_elem_wire) * (vq->next_used & (vq->size - 1u));
	ring_store32(elem, done->head);
	ring_store32(elem + 4, done->written);
	vq->next_used++;
}

void virtqueue_push_many(struct virtqueue *vq, const struct vq_done *done, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		used_put(vq, &done[i]);
	__atomic_store_n((uint16_t *)(void *)(vq->used + VIRTQ_USED_IDX), htole16(vq->next_used), __ATOMIC_RELEASE);
}

void virtqueue_push(struct virtqueue *vq, uint16_t head, uint32_t written)
{
	virtqueue_push_many(vq, &(struct vq_done){ .head = head, .written = written }, 1);
}

bool virtqueue_needs_interrupt(struct virtqueue *vq)
{
	uint16_t from = vq->signalled_used;
	uint16_t to = vq->next_used;
	uint16_t event;

	if (!vq->started || from == to)
		return false;
	vq->signalled_used = to;
	__sync_synchronize();
	if (!vq->event_idx)
		return !(ring_load16(vq->avail + VIRTQ_AVAIL_FLAGS) & VIRTQ_AVAIL_F_NO_INTERRUPT);
	/* 2.7.7.2: when one of the elements from..to-1 is the one that used_event names. */
	event = ring_load16(used_event_at(vq));
	return (uint16_t)(to - event - 1) < (uint16_t)(to - from);
}

/* --- Kick suppression --- */

void virtqueue_notify_off(struct virtqueue *vq)
{
	/*
	 * With event idx there is nothing to write: avail_event stays where it is, behind us, until
	 * notify_on moves it.
	 */
	if (vq->started && !vq->event_idx)
		ring_store16(vq->used + VIRTQ_USED_FLAGS, VIRTQ_USED_F_NO_NOTIFY);
}

bool virtqueue_notify_on(struct virtqueue *vq)
{
	if (!vq->started)
		return false;
	if (vq->event_idx)
		ring_store16(avail_event_at(vq), vq->next_avail);
	else
		ring_store16(vq->used + VIRTQ_USED_FLAGS, 0);
	__sync_synchronize();
	return ring_load16(vq->avail + VIRTQ_AVAIL_IDX) != vq->next_avail;
}
