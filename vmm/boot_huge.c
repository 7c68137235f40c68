/* SPDX-License-Identifier: Apache-2.0 */
/* Huge pages for what a boot fills: see boot_huge.h. */
#include "vmm/boot_huge.h"

#include "vmm/base/checked.h"

#define BLOCK (2 * MIB)
#define SECTION (128 * MIB) /* Linux: SECTION_SIZE_BITS 27 on x86-64 */
#define PAGE_ARRAY_PER_SECTION (SECTION / 4096 * 64)

_Static_assert(PAGE_ARRAY_PER_SECTION % BLOCK == 0, "the array of a section is whole blocks");

const struct boot_huge_rule boot_huge_default = {.fill_percent = 50, .low_blocks = 2, .page_array = true};

/* Add the blocks of [@base, @end), joining them to the range before when they follow it. */
static void add(struct boot_huge_plan *plan, uint64_t base, uint64_t end)
{
	struct boot_range *last = plan->n_ranges > 0 ? &plan->range[plan->n_ranges - 1] : NULL;

	if (last && base >= last->base.v && base <= last->base.v + last->len) {
		if (end > last->base.v + last->len)
			last->len = end - last->base.v;
		return;
	}
	if (plan->n_ranges == BOOT_HUGE_MAX_RANGES)
		return;
	plan->range[plan->n_ranges++] = (struct boot_range){.base = GPA(base), .len = end - base};
}

/* How many bytes of [@base, @base + BLOCK) the ranges cover. */
static uint64_t covered(uint64_t base, const struct boot_range *loaded, size_t n_loaded)
{
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < n_loaded; i++) {
		uint64_t start = loaded[i].base.v > base ? loaded[i].base.v : base;
		uint64_t end = loaded[i].base.v + loaded[i].len;

		if (end > base + BLOCK)
			end = base + BLOCK;
		if (start < end)
			sum += end - start;
	}
	return sum;
}

/* Rule 1. Everything loaded is in the first region. */
static void add_filled(const struct gmem *mem, uint32_t percent, const struct boot_range *loaded, size_t n_loaded,
		       struct boot_huge_plan *plan)
{
	uint64_t low = UINT64_MAX, high = 0, base;
	size_t i;

	for (i = 0; i < n_loaded; i++) {
		if (loaded[i].base.v < low)
			low = loaded[i].base.v;
		if (loaded[i].base.v + loaded[i].len > high)
			high = loaded[i].base.v + loaded[i].len;
	}
	for (base = low & ~(BLOCK - 1); low < high && base < high; base += BLOCK) {
		if (range_within(base, BLOCK, mem->region[0].size) &&
		    covered(base, loaded, n_loaded) * 100 > BLOCK * percent)
			add(plan, base, base + BLOCK);
	}
}

/* Bytes of page array for all RAM: one entry for each section that holds some. */
static uint64_t page_array_len(const struct gmem *mem)
{
	uint64_t sections = 0, next = 0; /* next: first section not yet counted */
	size_t i;

	for (i = 0; i < mem->n_regions; i++) {
		uint64_t first = mem->region[i].base.v / SECTION;
		uint64_t end = (mem->region[i].base.v + mem->region[i].size + SECTION - 1) / SECTION;

		if (first < next)
			first = next;
		if (end > first) {
			sections += end - first;
			next = end;
		}
	}
	return sections * PAGE_ARRAY_PER_SECTION;
}

/* Rule 3. */
static void add_page_array(const struct gmem *mem, const struct boot_range *initrd, struct boot_huge_plan *plan)
{
	uint64_t len = page_array_len(mem);
	size_t i;

	for (i = mem->n_regions; i-- > 0;) {
		const struct gmem_region *region = &mem->region[i];
		uint64_t top = region->base.v + region->size;
		uint64_t end;

		if (initrd && initrd->len > 0 && initrd->base.v >= region->base.v && initrd->base.v < top)
			top = initrd->base.v;
		/* Something small always comes first, so a top on a block's border is not the array's end. */
		end = (top - 1) & ~(BLOCK - 1);
		if (end > region->base.v && end - region->base.v >= len) {
			bool slack = end - region->base.v >= len + BLOCK;

			add(plan, end - len - (slack ? BLOCK : 0), end);
			return;
		}
	}
}

void boot_huge_plan(const struct gmem *mem, const struct boot_huge_rule *rule, const struct boot_range *loaded,
		    size_t n_loaded, const struct boot_range *initrd, struct boot_huge_plan *out)
{
	const struct gmem_region *last = &mem->region[mem->n_regions - 1];
	struct boot_huge_plan plan = {0};

	if (rule->low_blocks > 0 && rule->low_blocks * BLOCK <= last->size)
		add(&plan, last->base.v > 0 ? last->base.v : BLOCK, last->base.v + rule->low_blocks * BLOCK);
	add_filled(mem, rule->fill_percent, loaded, n_loaded, &plan);
	if (rule->page_array)
		add_page_array(mem, initrd, &plan);
	*out = plan;
}

void boot_huge_apply(const struct boot_huge_plan *plan, struct gmem *mem)
{
	size_t i;

	for (i = 0; i < plan->n_ranges; i++)
		gmem_advise_huge(mem, plan->range[i].base, plan->range[i].len);
}
