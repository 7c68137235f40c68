/* SPDX-License-Identifier: Apache-2.0 */
#include "vsock.h"

#define PATIENCE 20000

struct vsock_queue vsock_queue[VSOCK_QUEUES] __attribute__((aligned(4096)));
struct vsock_header vsock_tx, vsock_rx;
uint8_t vsock_data[65536];
static uint16_t seen[VSOCK_QUEUES];

uint32_t vsock_read(uint32_t off)
{
	return read32(VSOCK_BASE + off);
}

void vsock_write(uint32_t off, uint32_t v)
{
	write32(VSOCK_BASE + off, v);
}

uint32_t vsock_negotiate(uint64_t features)
{
	vsock_write(REG_STATUS, 0);
	vsock_write(REG_STATUS, ST_ACKNOWLEDGE);
	vsock_write(REG_STATUS, ST_ACKNOWLEDGE | ST_DRIVER);
	vsock_write(REG_DRIVER_FEATURES_SEL, 0);
	vsock_write(REG_DRIVER_FEATURES, (uint32_t)features);
	vsock_write(REG_DRIVER_FEATURES_SEL, 1);
	vsock_write(REG_DRIVER_FEATURES, (uint32_t)((features | FEATURE_VERSION_1) >> 32));
	vsock_write(REG_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK);
	return vsock_read(REG_STATUS);
}

void vsock_queue_setup(unsigned q, uint32_t size, uint64_t desc, uint64_t driver, uint64_t device)
{
	memset((void *)&vsock_queue[q], 0, sizeof(vsock_queue[q]));
	seen[q] = 0;
	vsock_write(REG_QUEUE_SEL, q);
	vsock_write(REG_QUEUE_NUM, size);
	vsock_write(REG_QUEUE_DESC, (uint32_t)desc);
	vsock_write(REG_QUEUE_DESC + 4, (uint32_t)(desc >> 32));
	vsock_write(REG_QUEUE_DRIVER, (uint32_t)driver);
	vsock_write(REG_QUEUE_DRIVER + 4, (uint32_t)(driver >> 32));
	vsock_write(REG_QUEUE_DEVICE, (uint32_t)device);
	vsock_write(REG_QUEUE_DEVICE + 4, (uint32_t)(device >> 32));
	vsock_write(REG_QUEUE_READY, 1);
}

bool vsock_start_with(uint64_t features)
{
	if (vsock_negotiate(features) != (ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK))
		return false;
	for (unsigned q = 0; q < VSOCK_QUEUES; q++) {
		struct vsock_queue *vq = &vsock_queue[q];

		vsock_queue_setup(q, VSOCK_QUEUE, (uintptr_t)vq->desc, (uintptr_t)&vq->avail, (uintptr_t)&vq->used);
	}
	vsock_write(REG_STATUS, ST_RUNNING);
	return vsock_read(REG_STATUS) == ST_RUNNING;
}

bool vsock_start(void)
{
	return vsock_start_with(0);
}

void vsock_desc(unsigned q, unsigned i, const volatile void *addr, uint32_t len, uint16_t flags, uint16_t next)
{
	vsock_queue[q].desc[i].addr = (uintptr_t)addr;
	vsock_queue[q].desc[i].len = len;
	vsock_queue[q].desc[i].flags = flags;
	vsock_queue[q].desc[i].next = next;
}

void vsock_put(unsigned q, uint16_t head)
{
	volatile struct avail *avail = &vsock_queue[q].avail;

	avail->ring[avail->idx % VSOCK_QUEUE] = head;
	__asm__ volatile("" : : : "memory");
	avail->idx++;
}

void vsock_kick(unsigned q)
{
	__asm__ volatile("" : : : "memory");
	vsock_write(REG_QUEUE_NOTIFY, q);
}

bool vsock_wait_used(unsigned q, unsigned n)
{
	for (unsigned turn = 0; turn < PATIENCE; turn++) {
		if ((uint16_t)(vsock_queue[q].used.idx - seen[q]) >= n) {
			seen[q] = (uint16_t)(seen[q] + n);
			return true;
		}
		if (turn % 64 == 63 && (vsock_read(REG_STATUS) & ST_NEEDS_RESET))
			return false;
		wait_turns(1);
	}
	return false;
}

uint32_t vsock_used_len(unsigned q)
{
	return vsock_queue[q].used.ring[(uint16_t)(seen[q] - 1) % VSOCK_QUEUE].len;
}

bool vsock_send(uint16_t op)
{
	vsock_tx = (struct vsock_header){
		.src_cid = VSOCK_CID, .dst_cid = 2, .src_port = 1, .dst_port = 2, .type = 1, .op = op, .buf_alloc = 65536};
	vsock_desc(TX, 40, &vsock_tx, sizeof(vsock_tx), 0, 0);
	vsock_put(TX, 40);
	vsock_kick(TX);
	return vsock_wait_used(TX, 1);
}

bool vsock_rst(uint16_t op)
{
	memset(&vsock_rx, 0, sizeof(vsock_rx));
	vsock_desc(RX, 41, &vsock_rx, sizeof(vsock_rx), F_WRITE, 0);
	vsock_put(RX, 41);
	vsock_kick(RX);
	return vsock_send(op) && vsock_wait_used(RX, 1) && vsock_used_len(RX) == sizeof(vsock_rx) && vsock_rx.op == OP_RST &&
	       vsock_rx.src_cid == 2 && vsock_rx.dst_cid == VSOCK_CID && vsock_rx.src_port == 2 && vsock_rx.dst_port == 1;
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

void vsock_expect_broken(const char *name, const char *part)
{
	for (unsigned turn = 0; turn < PATIENCE && !(vsock_read(REG_STATUS) & ST_NEEDS_RESET); turn++)
		;
	result(name, part, "needs-reset", (vsock_read(REG_STATUS) & ST_NEEDS_RESET) && (vsock_read(REG_INTERRUPT_STATUS) & 2));
	result(name, part, "works-after-reset", vsock_start() && vsock_rst(OP_RW));
}
