/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory: see gmem.h.
 *
 * Each region is a private anonymous mapping inside a larger reservation without access rights, so that at least one
 * page in front of it and one behind it faults: an overrun in the host kernel's or our own iovecs never reaches
 * another mapping. The region starts at a multiple of 2 MiB, as its guest address does, which is what KVM needs to
 * map a huge page of the host as a huge page of the guest.
 *
 * Invariants: (1) regions are ascending and never adjacent; (2) base + size of each fits 64 bits.
 */
#include "vmm/gmem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/base/checked.h"
#include "vmm/layout.h"

#define HUGE_PAGE (2 * MIB)
#define GUARD HUGE_PAGE /* a whole huge page, so that alignment and guard are one sum */

/* More than any processor's physical address space; keeps all sums below small. */
#define SIZE_LIMIT (UINT64_C(1) << 52)

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif

struct span {
	uint64_t base, end; /* RAM may stand in [base, end) */
};

/* Where RAM may stand: around the 32-bit gap and the 64-bit window (CONTRACT.md 16.1). */
static const struct span ram_span[] = {
	{0, LAYOUT_MMIO32},
	{LAYOUT_MMIO32_END, LAYOUT_MMIO64},
	{LAYOUT_MMIO64_END, SIZE_LIMIT},
};

_Static_assert(ARRAY_SIZE(ram_span) <= GMEM_MAX_REGIONS, "every span can be a region");

/* The whole mapping of a region of @size bytes: guard, room to align, the bytes, guard. */
static uint64_t reservation_size(uint64_t size)
{
	return size + 3 * GUARD;
}

/* Map the bytes of @region, whose base and size are set. */
static int region_map(struct gmem_region *region, enum gmem_pages pages)
{
	uint64_t bytes = (region->size + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	uint8_t *reserved, *hva;
	uint64_t usable;
	uintptr_t start;
	int saved;

	/* hugetlbfs is reserved at once: a short pool fails here, not by SIGBUS later. */
	if (pages == GMEM_PAGES_2M)
		flags |= MAP_HUGETLB | MAP_HUGE_2MB;
	else
		flags |= MAP_NORESERVE; /* guests are overcommitted on purpose; touched pages are what counts */

	reserved = mmap(NULL, reservation_size(bytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (reserved == MAP_FAILED)
		return -errno;
	start = ((uintptr_t)reserved + GUARD + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1);
	hva = reserved + (start - (uintptr_t)reserved);
	usable = pages == GMEM_PAGES_2M ? bytes : region->size;
	if (mmap(hva, usable, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) {
		saved = errno;
		(void)munmap(reserved, reservation_size(bytes));
		return -saved;
	}

	/*
	 * Give back what the alignment left over, so that both guards are exactly GUARD long and unmapping needs no
	 * memory.
	 */
	if (hva - GUARD > reserved)
		(void)munmap(reserved, (size_t)(hva - GUARD - reserved));
	(void)munmap(hva + bytes + GUARD, (size_t)(reserved + reservation_size(bytes) - (hva + bytes + GUARD)));

	/* A core dump of the monitor must not carry a tenant's memory. Both are advice: an old kernel may say no. */
	(void)madvise(hva, region->size, MADV_DONTDUMP);
	if (pages == GMEM_PAGES_TRANSPARENT)
		(void)madvise(hva, region->size, MADV_HUGEPAGE);
	region->hva = hva;
	return 0;
}

static void region_unmap(struct gmem_region *region)
{
	uint64_t bytes = (region->size + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);

	if (region->hva)
		(void)munmap(region->hva - GUARD, bytes + 2 * GUARD);
	region->hva = NULL;
}

int gmem_create(struct gmem **out, uint64_t size, enum gmem_pages pages, struct err *e)
{
	uint64_t left = size;
	struct gmem *mem;
	size_t i;
	int rc;

	must(size > 0);
	mem = calloc(1, sizeof(*mem));
	if (!mem || size >= SIZE_LIMIT) {
		free(mem);
		return err_sys(e, -ENOMEM, "Cannot create mmap region");
	}
	must(size % MIB == 0);
	mem->pages = pages;

	for (i = 0; i < ARRAY_SIZE(ram_span) && left > 0; i++) {
		uint64_t room = ram_span[i].end - ram_span[i].base;
		struct gmem_region *region = &mem->region[i];

		region->base = GPA(ram_span[i].base);
		region->size = left < room ? left : room;
		rc = region_map(region, pages);
		if (rc < 0) {
			gmem_destroy(mem);
			return err_sys(e, rc, "Cannot create mmap region");
		}
		mem->n_regions++;
		mem->size += region->size;
		left -= region->size;
	}
	must(left == 0);
	*out = mem;
	return 0;
}

void gmem_destroy(struct gmem *mem)
{
	size_t i;

	if (!mem)
		return;
	for (i = 0; i < GMEM_MAX_REGIONS; i++)
		region_unmap(&mem->region[i]);
	free(mem);
}

/* The region that holds the whole range, or NULL. @len 0 at a region's end is inside it. */
static const struct gmem_region *find_region(const struct gmem *mem, gpa_t gpa, uint64_t len)
{
	size_t i;

	for (i = 0; i < mem->n_regions; i++) {
		const struct gmem_region *region = &mem->region[i];

		if (gpa.v >= region->base.v && range_within(gpa.v - region->base.v, len, region->size))
			return region;
	}
	return NULL;
}

bool gmem_contains(const struct gmem *mem, gpa_t gpa, uint64_t len)
{
	return find_region(mem, gpa, len) != NULL;
}

void *gmem_hva_beyond(const struct gmem *mem, gpa_t gpa, uint64_t len)
{
	const struct gmem_region *region = find_region(mem, gpa, len);

	return region ? region->hva + (gpa.v - region->base.v) : NULL;
}

void gmem_advise_huge(struct gmem *mem, gpa_t gpa, uint64_t len)
{
	uint64_t first, end;
	uint8_t *hva;

	if (mem->pages != GMEM_PAGES_DEFAULT || !gmem_contains(mem, gpa, len))
		return;
	if (!checked_align_up(gpa.v, HUGE_PAGE, &first))
		return;
	end = (gpa.v + len) & ~(HUGE_PAGE - 1);
	if (first >= end)
		return;
	hva = gmem_hva(mem, GPA(first), end - first);
	if (hva)
		(void)madvise(hva, end - first, MADV_HUGEPAGE);
}

gpa_t gmem_end(const struct gmem *mem)
{
	const struct gmem_region *last = &mem->region[mem->n_regions - 1];

	return GPA(last->base.v + last->size);
}
