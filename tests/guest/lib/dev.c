/* SPDX-License-Identifier: Apache-2.0 */
#include "dev.h"

#define PATIENCE 20000

struct dev_queue dev_queue[DEV_QUEUES_MAX] __attribute__((aligned(4096)));
static uint16_t seen[DEV_QUEUES_MAX];

uint32_t dev_read(uint32_t off)
{
	return read32(DEV_BASE + off);
}

void dev_write(uint32_t off, uint32_t v)
{
	write32(DEV_BASE + off, v);
}

uint32_t dev_negotiate(uint64_t features)
{
	dev_write(REG_STATUS, 0);
	dev_write(REG_STATUS, ST_ACKNOWLEDGE);
	dev_write(REG_STATUS, ST_ACKNOWLEDGE | ST_DRIVER);
	dev_write(REG_DRIVER_FEATURES_SEL, 0);
	dev_write(REG_DRIVER_FEATURES, (uint32_t)features);
	dev_write(REG_DRIVER_FEATURES_SEL, 1);
	dev_write(REG_DRIVER_FEATURES, (uint32_t)((features | FEATURE_VERSION_1) >> 32));
	dev_write(REG_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK);
	return dev_read(REG_STATUS);
}

void dev_queue_setup(unsigned q, uint32_t size, uint64_t desc, uint64_t driver, uint64_t device)
{
	memset((void *)&dev_queue[q], 0, sizeof(dev_queue[q]));
	seen[q] = 0;
	dev_write(REG_QUEUE_SEL, q);
	dev_write(REG_QUEUE_NUM, size);
	dev_write(REG_QUEUE_DESC, (uint32_t)desc);
	dev_write(REG_QUEUE_DESC + 4, (uint32_t)(desc >> 32));
	dev_write(REG_QUEUE_DRIVER, (uint32_t)driver);
	dev_write(REG_QUEUE_DRIVER + 4, (uint32_t)(driver >> 32));
	dev_write(REG_QUEUE_DEVICE, (uint32_t)device);
	dev_write(REG_QUEUE_DEVICE + 4, (uint32_t)(device >> 32));
	dev_write(REG_QUEUE_READY, 1);
}

bool dev_start(unsigned n_queues, uint64_t features)
{
	if (dev_negotiate(features) != (ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK))
		return false;
	for (unsigned q = 0; q < n_queues; q++) {
		struct dev_queue *dq = &dev_queue[q];

		dev_queue_setup(q, DEV_QUEUE, (uintptr_t)dq->desc, (uintptr_t)&dq->avail, (uintptr_t)&dq->used);
	}
	dev_write(REG_STATUS, ST_RUNNING);
	return dev_read(REG_STATUS) == ST_RUNNING;
}

void dev_desc(unsigned q, unsigned i, const volatile void *addr, uint32_t len, uint16_t flags, uint16_t next)
{
	dev_queue[q].desc[i].addr = (uintptr_t)addr;
	dev_queue[q].desc[i].len = len;
	dev_queue[q].desc[i].flags = flags;
	dev_queue[q].desc[i].next = next;
}

void dev_put(unsigned q, uint16_t head)
{
	volatile struct avail *avail = &dev_queue[q].avail;

	avail->ring[avail->idx % DEV_QUEUE] = head;
	__asm__ volatile("" : : : "memory");
	avail->idx++;
}

void dev_kick(unsigned q)
{
	__asm__ volatile("" : : : "memory");
	dev_write(REG_QUEUE_NOTIFY, q);
}

bool dev_wait_used(unsigned q, unsigned n)
{
	for (unsigned turn = 0; turn < PATIENCE; turn++) {
		if ((uint16_t)(dev_queue[q].used.idx - seen[q]) >= n) {
			seen[q] = (uint16_t)(seen[q] + n);
			return true;
		}
		if (turn % 64 == 63 && (dev_read(REG_STATUS) & ST_NEEDS_RESET))
			return false;
		wait_turns(1);
	}
	return false;
}

uint32_t dev_used_len(unsigned q)
{
	return dev_queue[q].used.ring[(uint16_t)(seen[q] - 1) % DEV_QUEUE].len;
}

static void result(const char *name, const char *part, const char *what, bool passed)
{
	static char text[96];
	const char *const words[] = { name, "-", part, "-", what };
	size_t n = 0;

	for (unsigned i = 0; i < 5; i++) {
		for (const char *c = words[i]; *c && n < sizeof(text) - 1; c++)
			text[n++] = *c;
	}
	text[n] = '\0';
	expect(text, passed);
}

void dev_expect_broken(const char *name, const char *part, bool (*works)(void))
{
	for (unsigned turn = 0; turn < PATIENCE && !(dev_read(REG_STATUS) & ST_NEEDS_RESET); turn++)
		;
	result(name, part, "needs-reset", (dev_read(REG_STATUS) & ST_NEEDS_RESET) && (dev_read(REG_INTERRUPT_STATUS) & 2));
	result(name, part, "works-after-reset", works());
}

const char *const dev_fault_names[N_FAULTS] = {
	"avail-jump", "avail-back", "head-out-of-range", "head-huge", "self-loop", "loop-of-two", "next-out-of-range", "beyond-ram",
	"across-ram-end", "in-mmio", "in-gap", "address-overflow", "too-long", "indirect", "twice-in-flight",
};

static const volatile void *at(uint64_t addr)
{
	return (const volatile void *)(uintptr_t)addr;
}

void dev_break(unsigned q, enum dev_fault fault, uint8_t *buf, bool writable)
{
	uint16_t w = writable ? F_WRITE : 0;

	dev_desc(q, 0, buf, 1000, w, 0);
	switch (fault) {
	case AVAIL_JUMP:
		dev_queue[q].avail.idx = DEV_QUEUE + 1;
		return;
	case AVAIL_BACK:
		dev_queue[q].avail.idx = 0xffff;
		return;
	case HEAD_OUT_OF_RANGE:
		dev_put(q, DEV_QUEUE);
		return;
	case HEAD_HUGE:
		dev_put(q, 0xffff);
		return;
	case SELF_LOOP:
		dev_desc(q, 0, buf, 100, (uint16_t)(w | F_NEXT), 0);
		break;
	case LOOP_OF_TWO:
		dev_desc(q, 0, buf, 100, (uint16_t)(w | F_NEXT), 1);
		dev_desc(q, 1, buf, 100, (uint16_t)(w | F_NEXT), 0);
		break;
	case NEXT_OUT_OF_RANGE:
		dev_desc(q, 0, buf, 100, (uint16_t)(w | F_NEXT), DEV_QUEUE);
		break;
	case BEYOND_RAM:
		dev_desc(q, 0, at(RAM_END), 1000, w, 0);
		break;
	case ACROSS_RAM_END:
		dev_desc(q, 0, at(RAM_END - 999), 1000, w, 0);
		break;
	case IN_MMIO:
		dev_desc(q, 0, at(DEV_BASE), 100, w, 0);
		break;
	case IN_GAP:
		dev_desc(q, 0, at(0xd0000000), 1000, w, 0);
		break;
	case ADDRESS_OVERFLOW:
		dev_desc(q, 0, at(~0ull - 10), 1000, w, 0);
		break;
	case TOO_LONG:
		dev_desc(q, 0, at(0x100000), 0xffffffff, w, 0);
		break;
	case INDIRECT: /* not offered */
		dev_desc(q, 0, buf, 16, F_INDIRECT, 0);
		break;
	case TWICE_IN_FLIGHT:
		dev_put(q, 0);
		break;
	case N_FAULTS:
		return;
	}
	dev_put(q, 0);
}
