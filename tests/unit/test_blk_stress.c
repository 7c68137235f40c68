/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk between two threads: a guest that reads, writes, checks and resets, and an I/O thread with
 * kicks, PATCHes and a rate limiter. Meant for ThreadSanitizer; elsewhere it shows that no request is
 * lost and no byte is wrong, on both kick paths.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/guest_ring.h"
#include "virtio/blk.h"
#include "virtio/blk_ring.h"
#include "virtio/virtio_spec.h"
#include "vmm/base/bytes.h"
#include "vmm/base/log.h"

#define MEM_SIZE (4 * MIB)
#define RING_AT UINT64_C(0x10000)
#define HDR_AT UINT64_C(0x20000)
#define STATUS_AT UINT64_C(0x30000)
#define DATA_AT UINT64_C(0x100000)
#define QSIZE 64
#define SLOTS 16
#define SECTORS 256
#define ROUNDS 400
#define N VIRTQ_DESC_F_NEXT
#define W VIRTQ_DESC_F_WRITE

struct machine {
	char path[96];
	struct gmem *mem;
	struct irq_line irq;
	struct evloop *loop;
	struct blk *blk;
	struct virtio_mmio *t;
	struct guest_ring ring;
	uint8_t expected[SECTORS]; /* the byte that fills each sector */
	_Atomic bool stop;
};

static void *io_thread(void *arg)
{
	struct machine *m = arg;
	const struct ratelimit_bucket_config some = { 1000000, 0, 100 }, none = { 0, 0, 0 };

	for (unsigned i = 0; !atomic_load(&m->stop); i++) {
		int rc = evloop_turn(m->loop, 1);

		must(rc >= 0);
		if (i % 64 == 63) {
			struct blk_backing b;

			rc = blk_backing_open(m->path, false, &b, NULL);
			must(rc == 0);
			rc = blk_update_backing(m->blk, &b, NULL);
			must(rc == 0);
		}
		if (i % 100 == 99)
			blk_update_limits(m->blk, i % 200 == 199 ? &none : &some, &none);
	}
	return NULL;
}

static void start(struct machine *m)
{
	guest_ring_init(&m->ring, m->mem, QSIZE, RING_AT);
	assert_int_equal(guest_mmio_negotiate(m->t, VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX), 0xb);
	guest_mmio_set_queue(m->t, 0, &m->ring.geo);
	guest_mmio_write(m->t, VIRTIO_MMIO_STATUS, 0xf);
	assert_int_equal(guest_mmio_read(m->t, VIRTIO_MMIO_STATUS), 0xf);
}

static void offer(struct machine *m, uint16_t slot, bool write, uint64_t sector)
{
	uint64_t data = DATA_AT + 512 * (uint64_t)slot;
	uint16_t head = (uint16_t)(3 * slot);
	uint8_t hdr[16] = { 0 }, status = 0xee;

	le32_put(hdr, write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN);
	le64_put(hdr + 8, sector);
	assert_int_equal(gmem_write(m->mem, GPA(HDR_AT + 16 * (uint64_t)slot), hdr, sizeof(hdr)), 0);
	assert_int_equal(gmem_write(m->mem, GPA(STATUS_AT + slot), &status, 1), 0);
	memset(gmem_hva(m->mem, GPA(data), 512), write ? m->expected[sector] : 0xee, 512);
	guest_ring_desc(&m->ring, head, HDR_AT + 16 * (uint64_t)slot, 16, N, (uint16_t)(head + 1));
	guest_ring_desc(&m->ring, (uint16_t)(head + 1), data, 512, (uint16_t)(N | (write ? 0 : W)), (uint16_t)(head + 2));
	guest_ring_desc(&m->ring, (uint16_t)(head + 2), STATUS_AT + slot, 1, W, 0);
	guest_ring_offer(&m->ring, head);
}

/* Wait for @n used elements and check them: their sectors are @sector of their slot. */
static void reap(struct machine *m, unsigned n, const uint64_t *sector, const bool *write)
{
	uint32_t id, len;

	for (unsigned patience = 0; n > 0; patience++) {
		const uint8_t *data;
		uint8_t status;

		assert_true(patience < 20000);
		if (!guest_ring_take_used(&m->ring, &id, &len)) {
			(void)usleep(200);
			continue;
		}
		n--;
		id /= 3;
		assert_true(id < SLOTS);
		assert_int_equal(gmem_read(m->mem, GPA(STATUS_AT + id), &status, 1), 0);
		assert_int_equal(status, VIRTIO_BLK_S_OK);
		data = gmem_hva(m->mem, GPA(DATA_AT + 512 * (uint64_t)id), 512);
		if (!write[id]) {
			assert_int_equal(data[0], m->expected[sector[id]]);
			assert_int_equal(data[511], m->expected[sector[id]]);
		}
	}
}

/* One round of the guest: a few requests to different sectors, all awaited or cut off by a reset. */
static void guest_round(struct machine *m, unsigned round, unsigned *seed)
{
	unsigned n = round % 4 == 0 ? SLOTS : 1;
	uint64_t sector[SLOTS];
	bool write[SLOTS];

	for (uint16_t slot = 0; slot < n; slot++) {
		sector[slot] = (uint64_t)slot * (SECTORS / SLOTS) + (unsigned)rand_r(seed) % (SECTORS / SLOTS);
		write[slot] = rand_r(seed) % 3 == 0 && round % 20 != 19;
		if (write[slot])
			m->expected[sector[slot]]++;
		offer(m, slot, write[slot], sector[slot]);
		if (round % 8 != 0)
			guest_mmio_write(m->t, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	}
	guest_mmio_write(m->t, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	guest_mmio_write(m->t, VIRTIO_MMIO_INTERRUPT_ACK, guest_mmio_read(m->t, VIRTIO_MMIO_INTERRUPT_STATUS));
	(void)guest_mmio_read(m->t, VIRTIO_MMIO_CONFIG);
	if (round % 20 == 19) {
		/* Reads only are under way. After the reset the memory is the guest's again. */
		guest_mmio_write(m->t, VIRTIO_MMIO_STATUS, 0);
		memset(gmem_hva(m->mem, GPA(DATA_AT), 512 * SLOTS), 0x55, 512 * SLOTS);
		start(m);
		for (unsigned i = 0; i < 512 * SLOTS; i += 512)
			assert_int_equal(*(uint8_t *)gmem_hva(m->mem, GPA(DATA_AT + i), 1), 0x55);
		return;
	}
	reap(m, n, sector, write);
}

static void stress(const char *folder, bool in_vcpu, bool async)
{
	struct machine m = { .stop = false };
	struct blk_config config = { .drive_id = "stress" };
	struct virtio_mmio_config mmio = { .kick_in_vcpu = in_vcpu };
	struct blk_ring *uring = NULL;
	struct blk_backing backing;
	unsigned seed = 1;
	pthread_t thread;
	int fd;

	(void)snprintf(m.path, sizeof(m.path), "%s/blk_stress.XXXXXX", folder);
	fd = mkstemp(m.path);
	if (fd < 0)
		skip();
	assert_int_equal(ftruncate(fd, SECTORS * 512), 0);
	(void)close(fd);
	assert_int_equal(gmem_create(&m.mem, MEM_SIZE, GMEM_PAGES_DEFAULT, NULL), 0);
	assert_int_equal(irq_init(&m.irq, 5, NULL), 0);
	assert_int_equal(evloop_create(&m.loop, NULL), 0);
	assert_int_equal(blk_backing_open(m.path, false, &backing, NULL), 0);
	config.loop = m.loop;
	if (async)
		assert_int_equal(blk_ring_create(m.loop, 1, &uring, NULL), 0);
	config.ring = uring;
	assert_int_equal(blk_create(&config, &backing, &m.blk, NULL), 0);
	mmio.dev = blk_virtio_device(m.blk);
	mmio.mem = m.mem;
	mmio.irq = &m.irq;
	mmio.loop = m.loop;
	assert_int_equal(virtio_mmio_create(&mmio, &m.t, NULL), 0);
	if (async)
		assert_int_equal(blk_ring_enable(uring, NULL), 0);
	start(&m);
	assert_int_equal(pthread_create(&thread, NULL, io_thread, &m), 0);

	for (unsigned round = 0; round < ROUNDS; round++)
		guest_round(&m, round, &seed);

	atomic_store(&m.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	virtio_mmio_destroy(m.t);
	blk_destroy(m.blk);
	blk_ring_destroy(uring);
	evloop_destroy(m.loop);
	irq_fini(&m.irq);
	gmem_destroy(m.mem);
	(void)unlink(m.path);
}

static void disk_file(void **state)
{
	(void)state;
	stress("/tmp", false, false);
}

static void disk_file_in_vcpu(void **state)
{
	(void)state;
	stress("/tmp", true, false);
}

static void tmpfs_in_vcpu(void **state)
{
	(void)state;
	stress("/dev/shm", true, false);
}

/* On a file system with a page cache, so that requests go to the io_uring. */
static void async(void **state)
{
	(void)state;
	if (blk_ring_probe(NULL) < 0)
		skip();
	stress("/var/tmp", false, true);
}

static void async_in_vcpu(void **state)
{
	(void)state;
	if (blk_ring_probe(NULL) < 0)
		skip();
	stress("/var/tmp", true, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(disk_file), cmocka_unit_test(disk_file_in_vcpu), cmocka_unit_test(tmpfs_in_vcpu),
		cmocka_unit_test(async), cmocka_unit_test(async_in_vcpu),
	};

	log_set_level(LOG_OFF);
	return cmocka_run_group_tests_name("blk_stress", tests, NULL, NULL);
}
