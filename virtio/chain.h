/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cursors over a descriptor chain: copy bytes out of its dev_readable part or into its dev_writable
 * part, or turn a stretch of it into iovecs for the kernel. Where descriptors begin and end carries no
 * meaning (virtio 1.2, 2.7.4.1).
 *
 * Trust: the chain was checked by virtqueue_pop(), so its segments are RAM (Q3); the bytes behind it are the guest's and may change
 * at any time, so each is read once, into a local.
 *
 * Threads: none of its own. The chain is borrowed and outlives the cursor.
 */
#ifndef MAYFLY_VIRTIO_CHAIN_H
#define MAYFLY_VIRTIO_CHAIN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtio/virtqueue.h"
#include "vmm/base/cdefs.h"
#include "vmm/gmem.h"

struct chain_cursor {
	const struct vq_chain *chain; /* borrowed */
	uint16_t seg, end; /* next segment, and the first one that does not belong to this part */
	uint32_t off;      /* bytes of `seg` consumed */
	uint64_t left;     /* bytes until the end of this part */
};

/* At the first byte of the dev_readable or the dev_writable part of @chain. */
void chain_reader_init(struct chain_cursor *c, const struct vq_chain *chain);
void chain_writer_init(struct chain_cursor *c, const struct vq_chain *chain);

/*
 * Copy @len bytes from a reader into @dst and advance. False (nothing copied, not advanced) when fewer
 * are left.
 */
bool chain_read(struct chain_cursor *c, void *dst, size_t len) MUST_USE;

/*
 * Copy @len bytes from @src through a writer and advance. False (nothing written, not advanced) when
 * fewer are left.
 */
bool chain_write(struct chain_cursor *c, const void *src, size_t len) MUST_USE;

/* Advance by @len bytes. False (not advanced) when fewer are left. */
bool chain_skip(struct chain_cursor *c, uint64_t len) MUST_USE;

/*
 * Describe the next @len bytes by at most VQ_CHAIN_MAX elements of @iov, none of them empty, and
 * advance. @len must not be more than c->left. Returns the number of elements.
 */
size_t chain_to_iov(struct chain_cursor *c, uint64_t len, struct iovec *iov) MUST_USE;

#endif
