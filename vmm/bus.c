/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bus.h"

#include <errno.h>
#include <string.h>

#include "vmm/base/checked.h"

int bus_add(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops, void *dev)
{
	uint64_t end;
	size_t at = 0;

	if (size == 0 || !checked_add_u64(base, size, &end))
		return -EINVAL;
	while (at < bus->n_ranges && bus->range[at].base < base)
		at++;
	if (at > 0 && base - bus->range[at - 1].base < bus->range[at - 1].size)
		return -EEXIST;
	if (at < bus->n_ranges && bus->range[at].base < end)
		return -EEXIST;
	if (bus->n_ranges == BUS_MAX_DEVICES)
		return -ENOSPC;
	memmove(&bus->range[at + 1], &bus->range[at], (bus->n_ranges - at) * sizeof(bus->range[0]));
	bus->range[at] = (struct bus_range){ .base = base, .size = size, .ops = ops, .dev = dev };
	bus->n_ranges++;
	return 0;
}

/* The range that owns all of [@addr, @addr + @len), or NULL. */
static const struct bus_range *bus_find(const struct bus *bus, uint64_t addr, uint32_t len)
{
	const struct bus_range *found;
	size_t low = 0, high = bus->n_ranges;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (bus->range[mid].base <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == 0)
		return NULL;
	found = &bus->range[low - 1];
	return range_within(addr - found->base, len, found->size) ? found : NULL;
}

bool bus_read(const struct bus *bus, uint64_t addr, void *data, uint32_t len)
{
	const struct bus_range *r = bus_find(bus, addr, len);

	if (!r) {
		memset(data, 0, len);
		return false;
	}
	r->ops->read(r->dev, addr - r->base, data, len);
	return true;
}

bool bus_write(const struct bus *bus, uint64_t addr, const void *data, uint32_t len)
{
	const struct bus_range *r = bus_find(bus, addr, len);

	if (!r)
		return false;
	r->ops->write(r->dev, addr - r->base, data, len);
	return true;
}
