/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/chain.h"

#include <string.h>

/* One piece of a stretch: at most what is left of the present segment. */
struct piece {
	gpa_t gpa;
	void *hva;
	size_t len;
};

void chain_reader_init(struct chain_cursor *c, const struct vq_chain *chain)
{
	c->chain = chain;
	c->seg = 0;
	c->end = chain->n_readable;
	c->off = 0;
	c->left = chain->readable_len;
}

void chain_writer_init(struct chain_cursor *c, const struct vq_chain *chain)
{
	c->chain = chain;
	c->seg = chain->n_readable;
	c->end = chain->n;
	c->off = 0;
	c->left = chain->writable_len;
}

/* Take the next piece of at most @len bytes (> 0, <= c->left): never empty. */
static inline struct piece next_piece(struct chain_cursor *c, uint64_t len)
{
	const struct vq_seg *seg;
	struct piece p;
	uint32_t rest;

	must(len > 0 && len <= c->left);
	/* The lengths add up to `left`, so a segment with bytes comes before the end. */
	while (c->off == c->chain->seg[c->seg].len) {
		c->seg++;
		c->off = 0;
		must(c->seg < c->end);
	}
	seg = &c->chain->seg[c->seg];
	rest = seg->len - c->off;
	p.len = len < rest ? (size_t)len : rest;
	p.gpa = GPA(seg->gpa.v + c->off);
	p.hva = (uint8_t *)seg->hva + c->off;
	c->off += (uint32_t)p.len;
	c->left -= p.len;
	return p;
}

static void observe_fetch(gpa_t gpa, uint64_t len)
{
#ifdef MAYFLY_CHECKED
	if (virtqueue_observe_fetch)
		virtqueue_observe_fetch(gpa, len, false);
#else
	(void)gpa;
	(void)len;
#endif
}

bool chain_read(struct chain_cursor *c, void *dst, size_t len)
{
	uint8_t *to = dst;

	if (len > c->left)
		return false;
	while (len > 0) {
		struct piece p = next_piece(c, len);

		memcpy(to, p.hva, p.len); /* Q3 */
		observe_fetch(p.gpa, p.len);
		to += p.len;
		len -= p.len;
	}
	/* No field of @dst is read from the guest again (Q4), whatever the compiler knows of gmem_read. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return true;
}

bool chain_write(struct chain_cursor *c, const void *src, size_t len)
{
	const uint8_t *from = src;

	if (len > c->left)
		return false;
	while (len > 0) {
		struct piece p = next_piece(c, len);

		memcpy(p.hva, from, p.len); /* Q3 */
		from += p.len;
		len -= p.len;
	}
	return true;
}

bool chain_skip(struct chain_cursor *c, uint64_t len)
{
	if (len > c->left)
		return false;
	while (len > 0)
		len -= next_piece(c, len).len;
	return true;
}

size_t chain_to_iov(struct chain_cursor *c, uint64_t len, struct iovec *iov)
{
	const struct vq_seg *seg = &c->chain->seg[c->seg];
	const struct vq_seg *end = &c->chain->seg[c->end];
	uint32_t off = c->off;
	size_t n = 0;

	/* As next_piece(), with the cursor in registers: this runs over every segment of all data. */
	must(len <= c->left);
	c->left -= len;
	while (len > 0) {
		uint32_t rest, take;

		must(seg < end);
		rest = seg->len - off;
		take = len < rest ? (uint32_t)len : rest;
		if (take > 0)
			iov[n++] = (struct iovec){ .iov_base = (uint8_t *)seg->hva + off, .iov_len = take };
		len -= take;
		off += take;
		if (take == rest) {
			seg++;
			off = 0;
		}
	}
	c->seg = (uint16_t)(seg - c->chain->seg);
	c->off = off;
	return n;
}
