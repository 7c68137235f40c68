/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory: the RAM regions of one microVM behind one checked accessor.
 *
 * A guest-physical address is its own type, so that the compiler refuses to mix it with lengths and host pointers.
 * Every access names a range that must lie whole in one region (RAM around the 32-bit gap is two regions, see
 * layout.h): no access crosses a gap, overflows, or reaches device space (THREATS.md CVE-2019-18960, DMA
 * re-entrancy).
 *
 * Trust: every gpa and length passed in may be the guest's. Host pointers (hva) leave this file only through
 * gmem_hva(), for virtqueue rings, for iovecs that the kernel fills, and for image loading.
 *
 * Threads: a gmem does not change after creation; the bytes are shared with running vCPUs, so a reader copies once.
 */
#ifndef MAYFLY_VMM_GMEM_H
#define MAYFLY_VMM_GMEM_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"

/* A guest-physical address. */
typedef struct {
	uint64_t v;
} gpa_t;

#define GPA(x) ((gpa_t){.v = (x)})

#define GMEM_MAX_REGIONS 4

enum gmem_pages {
	GMEM_PAGES_DEFAULT,     /* 4 KiB pages; the host's transparent huge page setting applies */
	GMEM_PAGES_TRANSPARENT, /* MADV_HUGEPAGE on all RAM */
	GMEM_PAGES_2M,          /* hugetlbfs, 2 MiB */
};

struct gmem_region {
	gpa_t base;
	uint64_t size; /* bytes, multiple of 4096 */
	uint8_t *hva;  /* owned mapping */
};

struct gmem {
	size_t n_regions;
	uint64_t size; /* bytes in all regions */
	enum gmem_pages pages;
	struct gmem_region region[GMEM_MAX_REGIONS]; /* ascending, not adjacent */
};

/*
 * Map @size bytes (multiple of 1 MiB, > 0) of guest RAM, split around the gaps of layout.h. Nothing is populated.
 * Returns 0 and *@out (owned), or negative errno (-ENOMEM for absurd sizes) with @e. A caller whose MiB figure does
 * not fit into bytes passes UINT64_MAX and gets the same answer as for any other size that no host has.
 */
int gmem_create(struct gmem **out, uint64_t size, enum gmem_pages pages, struct err *e) MUST_USE;

/* Unmap and free; NULL allowed. */
void gmem_destroy(struct gmem *mem);

/* Does [@gpa, @gpa + @len) lie whole in one RAM region? @len 0 needs @gpa to lie in RAM or at a region's end. */
bool gmem_contains(const struct gmem *mem, gpa_t gpa, uint64_t len) MUST_USE;

/* gmem_hva() for a range that is not in the first region. */
void *gmem_hva_beyond(const struct gmem *mem, gpa_t gpa, uint64_t len) MUST_USE;

/*
 * Host address of the range, or NULL when it is not RAM. Valid as long as @mem. See the file comment for who may
 * ask. Inline, because every descriptor of every request comes here, and nearly all lie in the first region.
 */
static inline void *gmem_hva(const struct gmem *mem, gpa_t gpa, uint64_t len)
{
	const struct gmem_region *low = &mem->region[0];
	uint64_t off = gpa.v - low->base.v; /* below the base: larger than any size */

	if (likely(off <= low->size && len <= low->size - off))
		return low->hva + off;
	return gmem_hva_beyond(mem, gpa, len);
}

/*
 * Copy @len bytes out of or into guest RAM. 0, or -EFAULT (nothing copied) when the range is not RAM. Inline, because
 * most are a few bytes of known number.
 */
static inline MUST_USE int gmem_read(const struct gmem *mem, gpa_t gpa, void *dst, uint64_t len)
{
	const void *src = gmem_hva(mem, gpa, len);

	if (!src)
		return -EFAULT;
	memcpy(dst, src, len);
	return 0;
}

static inline MUST_USE int gmem_write(struct gmem *mem, gpa_t gpa, const void *src, uint64_t len)
{
	void *dst = gmem_hva(mem, gpa, len);

	if (!dst)
		return -EFAULT;
	memcpy(dst, src, len);
	return 0;
}

/*
 * Ask for a huge page for every whole 2 MiB block inside [@gpa, @gpa + @len). Advice only; never fails. No-op
 * unless pages are default.
 */
void gmem_advise_huge(struct gmem *mem, gpa_t gpa, uint64_t len);

/* First address behind the last region. */
gpa_t gmem_end(const struct gmem *mem);

#endif
