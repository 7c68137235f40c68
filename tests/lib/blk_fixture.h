/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the whole disk share: a guest ring on one side, a real file on the other, virtio-mmio
 * between, and host calls that can be told to fail. Included by the one source file of a test program, so its state
 * and functions are static.
 *
 * Use: setup() and teardown() for each test; recreate() for a disk with other options; request() for one
 * request from end to end, or offer(), kick(), run_loop(), expect_used().
 *
 * Threads: none.
 */
#ifndef MAYFLY_TESTS_BLK_FIXTURE_H
#define MAYFLY_TESTS_BLK_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/guest_ring.h"
#include "virtio/blk.h"
#include "virtio/blk_io.h"
#include "virtio/virtio_spec.h"
#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"

#define MEM_SIZE (16 * MIB)
#define RING_AT UINT64_C(0x10000)
#define HDR_AT UINT64_C(0x20000)
#define STATUS_AT UINT64_C(0x30000)
#define TABLE_AT UINT64_C(0x40000)
#define DATA_AT UINT64_C(0x100000)
#define QSIZE 256
#define SECTORS 128
#define FEATURES (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)
#define N VIRTQ_DESC_F_NEXT
#define W VIRTQ_DESC_F_WRITE
#define NO_STATUS 0xee

static UNUSED char dir[64], path[96];
static UNUSED struct gmem *mem;
static UNUSED struct irq_line irq;
static UNUSED struct evloop *loop;
static UNUSED struct blk *blk;
static UNUSED struct virtio_mmio *t;
static UNUSED struct guest_ring ring;
static UNUSED uint16_t next_slot;

/* Host calls that can be told to fail, or to say that the data is not in memory. */
static UNUSED struct {
	int fail_errno;
	bool cold;
	unsigned n_calls, n_nowait;
} host;

static UNUSED ssize_t host_preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	host.n_calls++;
	host.n_nowait += flags == RWF_NOWAIT;
	errno = host.fail_errno ? host.fail_errno : EAGAIN;
	if (host.fail_errno || (host.cold && flags == RWF_NOWAIT))
		return -1;
	return preadv2(fd, iov, n, offset, flags);
}

static UNUSED ssize_t host_pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	host.n_calls++;
	errno = host.fail_errno;
	return host.fail_errno ? -1 : pwritev2(fd, iov, n, offset, flags);
}

static UNUSED int host_fdatasync(int fd)
{
	errno = host.fail_errno;
	return host.fail_errno ? -1 : fdatasync(fd);
}

static UNUSED int host_fallocate(int fd, int mode, off_t offset, off_t len)
{
	host.n_calls++;
	errno = host.fail_errno;
	return host.fail_errno ? -1 : fallocate(fd, mode, offset, len);
}

static const struct blk_io_ops host_ops = {
	.preadv2 = host_preadv2, .pwritev2 = host_pwritev2, .fdatasync = host_fdatasync,
	.fallocate = host_fallocate,
};

static UNUSED void write_file(uint64_t n_sectors)
{
	uint8_t sector[512];
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	for (uint64_t i = 0; i < n_sectors; i++) {
		memset(sector, (int)(i & 0xff), sizeof(sector));
		assert_int_equal(write(fd, sector, sizeof(sector)), sizeof(sector));
	}
	(void)close(fd);
}

struct options {
	bool read_only, flush, in_vcpu;
	struct ratelimit_bucket_config bandwidth, ops;
	struct blk_ring *ring; /* engine Async */
	enum blk_nowait nowait; /* what the file pretends to be, if not BLK_NOWAIT_NEVER; with a ring always */
};

static UNUSED void create(struct options o)
{
	struct blk_backing backing;
	struct blk_config config = {
		.drive_id = "d", .flush = o.flush, .bandwidth = o.bandwidth, .ops = o.ops, .loop = loop, .io = &host_ops,
		.ring = o.ring,
	};
	struct virtio_mmio_config mmio = { .mem = mem, .irq = &irq, .loop = loop, .kick_in_vcpu = o.in_vcpu };

	assert_int_equal(blk_backing_open(path, o.read_only, &backing, NULL), 0);
	if (o.ring || o.nowait != BLK_NOWAIT_NEVER)
		backing.nowait = o.nowait;
	assert_int_equal(blk_create(&config, &backing, &blk, NULL), 0);
	assert_int_equal(backing.fd, -1);
	mmio.dev = blk_virtio_device(blk);
	assert_int_equal(virtio_mmio_create(&mmio, &t, NULL), 0);
}

static UNUSED void destroy(void)
{
	virtio_mmio_destroy(t);
	blk_destroy(blk);
}

static UNUSED void start(void)
{
	guest_ring_init(&ring, mem, QSIZE, RING_AT);
	next_slot = 0;
	assert_int_equal(guest_mmio_negotiate(t, FEATURES), 0xb);
	guest_mmio_set_queue(t, 0, &ring.geo);
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0xf);
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_STATUS), 0xf);
}

static UNUSED void recreate(struct options o)
{
	destroy();
	create(o);
	start();
}

static UNUSED int setup(void **state)
{
	(void)state;
	memset(&host, 0, sizeof(host));
	(void)snprintf(dir, sizeof(dir), "/tmp/test_blk.XXXXXX");
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/disk", dir);
	write_file(SECTORS);
	assert_int_equal(gmem_create(&mem, MEM_SIZE, GMEM_PAGES_DEFAULT, NULL), 0);
	assert_int_equal(irq_init(&irq, 5, NULL), 0);
	assert_int_equal(evloop_create(&loop, NULL), 0);
	create((struct options){ .read_only = false });
	start();
	(void)guest_fetched_twice();
	return 0;
}

static UNUSED int teardown(void **state)
{
	(void)state;
	destroy();
	evloop_destroy(loop);
	irq_fini(&irq);
	gmem_destroy(mem);
	(void)unlink(path);
	(void)rmdir(dir);
	return 0;
}

static UNUSED uint64_t count_of(const _Atomic uint64_t *counter)
{
	return atomic_load(counter);
}

/* Offer a request in three descriptors; slot: which header, status byte and descriptors. Returns the head. */
static UNUSED uint16_t offer(uint32_t type, uint64_t sector, uint64_t data, uint32_t len)
{
	uint16_t slot = next_slot++ % (QSIZE / 3);
	uint64_t hdr_at = HDR_AT + 16 * (uint64_t)slot, status_at = STATUS_AT + slot;
	uint16_t head = (uint16_t)(3 * slot);
	bool to_disk = type == VIRTIO_BLK_T_OUT || type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES;
	uint16_t write_flag = to_disk ? 0 : W;
	uint8_t hdr[16] = { 0 }, status = NO_STATUS;

	le32_put(hdr, type);
	le64_put(hdr + 8, sector);
	assert_int_equal(gmem_write(mem, GPA(hdr_at), hdr, sizeof(hdr)), 0);
	assert_int_equal(gmem_write(mem, GPA(status_at), &status, 1), 0);
	guest_ring_desc(&ring, head, hdr_at, 16, N, (uint16_t)(head + 1));
	guest_ring_desc(&ring, (uint16_t)(head + 1), data, len, (uint16_t)(N | write_flag), (uint16_t)(head + 2));
	guest_ring_desc(&ring, (uint16_t)(head + 2), status_at, 1, W, 0);
	guest_ring_offer(&ring, head);
	return head;
}

static UNUSED uint8_t status_of(uint16_t head)
{
	uint8_t status = NO_STATUS;

	assert_int_equal(gmem_read(mem, GPA(STATUS_AT + head / 3), &status, 1), 0);
	return status;
}

static UNUSED void kick(void)
{
	guest_mmio_write(t, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
}

/* Kick and run the loop until nothing is ready. Returns the number of turns that had something. */
static UNUSED unsigned run_loop(void)
{
	unsigned n = 0;

	while (evloop_turn(loop, 0) > 0)
		n++;
	return n;
}

static UNUSED void expect_used(uint16_t head, uint32_t len)
{
	uint32_t id, got;

	assert_true(guest_ring_take_used(&ring, &id, &got));
	assert_int_equal(id, head);
	assert_int_equal(got, len);
}

/* One request from end to end. */
static UNUSED void request(uint32_t type, uint64_t sector, uint32_t len, uint8_t status, uint32_t used)
{
	uint16_t head = offer(type, sector, DATA_AT, len);

	kick();
	(void)run_loop();
	expect_used(head, used);
	assert_int_equal(status_of(head), status);
	assert_int_equal(guest_fetched_twice(), 0);
}

static UNUSED void fill(uint64_t gpa, int byte, size_t len)
{
	memset(gmem_hva(mem, GPA(gpa), len), byte, len);
}

static UNUSED void expect_bytes(uint64_t gpa, int byte, size_t len)
{
	const uint8_t *p = gmem_hva(mem, GPA(gpa), len);

	for (size_t i = 0; i < len; i++)
		assert_int_equal(p[i], byte);
}

#endif
