/* SPDX-License-Identifier: Apache-2.0 */
#include "blk.h"

#define PATIENCE 20000 /* turns through the monitor; each takes microseconds, in the lab tens of them */

volatile struct desc desc_table[QUEUE_SIZE] __attribute__((aligned(4096)));
volatile struct avail avail_ring __attribute__((aligned(4096)));
volatile struct used used_ring __attribute__((aligned(4096)));
struct blk_header header;
volatile uint8_t status_byte;
uint8_t data[65536] __attribute__((aligned(4096)));

static uint16_t seen_used;

uint32_t reg_read(uint32_t off)
{
	return read32(BLK_BASE + off);
}

void reg_write(uint32_t off, uint32_t v)
{
	write32(BLK_BASE + off, v);
}

uint64_t features_offered(void)
{
	uint64_t low, high;

	reg_write(REG_DEVICE_FEATURES_SEL, 0);
	low = reg_read(REG_DEVICE_FEATURES);
	reg_write(REG_DEVICE_FEATURES_SEL, 1);
	high = reg_read(REG_DEVICE_FEATURES);
	return high << 32 | low;
}

uint32_t blk_negotiate(uint64_t features)
{
	reg_write(REG_STATUS, 0);
	reg_write(REG_STATUS, ST_ACKNOWLEDGE);
	reg_write(REG_STATUS, ST_ACKNOWLEDGE | ST_DRIVER);
	reg_write(REG_DRIVER_FEATURES_SEL, 0);
	reg_write(REG_DRIVER_FEATURES, (uint32_t)features);
	reg_write(REG_DRIVER_FEATURES_SEL, 1);
	reg_write(REG_DRIVER_FEATURES, (uint32_t)(features >> 32));
	reg_write(REG_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK);
	return reg_read(REG_STATUS);
}

void queue_setup(uint32_t size, uint64_t desc, uint64_t driver, uint64_t device)
{
	memset((void *)desc_table, 0, sizeof(desc_table));
	memset((void *)&avail_ring, 0, sizeof(avail_ring));
	memset((void *)&used_ring, 0, sizeof(used_ring));
	seen_used = 0;
	reg_write(REG_QUEUE_SEL, 0);
	reg_write(REG_QUEUE_NUM, size);
	reg_write(REG_QUEUE_DESC, (uint32_t)desc);
	reg_write(REG_QUEUE_DESC + 4, (uint32_t)(desc >> 32));
	reg_write(REG_QUEUE_DRIVER, (uint32_t)driver);
	reg_write(REG_QUEUE_DRIVER + 4, (uint32_t)(driver >> 32));
	reg_write(REG_QUEUE_DEVICE, (uint32_t)device);
	reg_write(REG_QUEUE_DEVICE + 4, (uint32_t)(device >> 32));
	reg_write(REG_QUEUE_READY, 1);
}

bool blk_start_with(uint64_t features)
{
	if (blk_negotiate(features) != (ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK))
		return false;
	queue_setup(QUEUE_SIZE, (uintptr_t)desc_table, (uintptr_t)&avail_ring, (uintptr_t)&used_ring);
	reg_write(REG_STATUS, ST_RUNNING);
	return reg_read(REG_STATUS) == ST_RUNNING;
}

bool blk_start(void)
{
	/* Without EVENT_IDX, so that every kick and every interrupt is wanted. */
	return blk_start_with(features_offered() & ~FEATURE_EVENT_IDX);
}

void desc_set(unsigned i, const volatile void *addr, uint32_t len, uint16_t flags, uint16_t next)
{
	desc_table[i].addr = (uintptr_t)addr;
	desc_table[i].len = len;
	desc_table[i].flags = flags;
	desc_table[i].next = next;
}

void avail_put(uint16_t head)
{
	avail_ring.ring[avail_ring.idx % QUEUE_SIZE] = head;
	__asm__ volatile("" : : : "memory");
	avail_ring.idx++;
}

void kick(void)
{
	__asm__ volatile("" : : : "memory");
	reg_write(REG_QUEUE_NOTIFY, 0);
}

bool wait_used(unsigned n)
{
	for (unsigned turn = 0; turn < PATIENCE; turn++) {
		if ((uint16_t)(used_ring.idx - seen_used) >= n) {
			seen_used = (uint16_t)(seen_used + n);
			return true;
		}
		if (turn % 64 == 63 && (reg_read(REG_STATUS) & ST_NEEDS_RESET))
			return false;
		wait_turns(1);
	}
	return false;
}

uint32_t last_used_len(void)
{
	return used_ring.ring[(uint16_t)(seen_used - 1) % QUEUE_SIZE].len;
}

uint32_t last_used_id(void)
{
	return used_ring.ring[(uint16_t)(seen_used - 1) % QUEUE_SIZE].id;
}

void request_build(uint32_t type, uint64_t sector, uint32_t len)
{
	header = (struct blk_header){.type = type, .sector = sector};
	status_byte = BLK_UNTOUCHED;
	desc_set(0, &header, sizeof(header), F_NEXT, 1);
	desc_set(1, data, len, type == T_OUT || type == T_DISCARD || type == T_WRITE_ZEROES ? F_NEXT : F_NEXT | F_WRITE, 2);
	desc_set(2, &status_byte, 1, F_WRITE, 0);
}

uint32_t request_run(void)
{
	avail_put(0);
	kick();
	if (!wait_used(1))
		return BLK_NO_ANSWER;
	return status_byte;
}

uint32_t blk_io(uint32_t type, uint64_t sector, uint32_t len)
{
	request_build(type, sector, len);
	return request_run();
}

bool is_sector(const uint8_t *bytes, uint32_t sector)
{
	char text[] = "sector 00000000\n";

	for (int i = 14; sector; i--, sector /= 10)
		text[i] = (char)('0' + sector % 10);
	return memcmp(bytes, text, 16) == 0;
}

void expect_works(const char *name)
{
	uint32_t status;

	memset(data, 0xaa, 512);
	status = blk_io(T_IN, 3, 512);
	expect_eq(name, BLK_OK, status == BLK_OK && !is_sector(data, 3) ? 0xbad : status);
}

void expect_broken_then_works(void)
{
	expect_broken_in_flight(0);
}

void expect_broken_in_flight(unsigned n)
{
	unsigned turn = 0;

	while (turn++ < PATIENCE && !(reg_read(REG_STATUS) & ST_NEEDS_RESET))
		;
	expect_eq("needs-reset", ST_NEEDS_RESET, reg_read(REG_STATUS) & ST_NEEDS_RESET);
	expect_eq("config-interrupt", 2, reg_read(REG_INTERRUPT_STATUS) & 2);
	if (n == 0)
		expect_eq("nothing-used", seen_used, used_ring.idx);
	else
		expect("no-more-used", (uint16_t)(used_ring.idx - seen_used) <= n);
	expect("restart-after-reset", blk_start());
	expect_works("works-after-reset");
}
