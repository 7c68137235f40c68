/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole disk with a host made of memory: requests, kicks on both paths, resets, other files, short
 * and failing host calls.
 *
 * Asserted: no host call outside the disk or outside guest RAM, no write to a read-only disk; each head
 * is used at most once for each time it was offered, with at most as many bytes as its dev_writable
 * part has; bytes that a successful transfer moved are those of the disk; nothing is fetched twice;
 * turns end; after a reset no state remains.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/fuzz_input.h"
#include "tests/lib/guest_ring.h"
#include "virtio/blk_impl.h"
#include "virtio/mmio.h"
#include "vmm/base/bytes.h"
#include "vmm/base/checked.h"
#include "vmm/base/log.h"

#define MEM_SIZE (2 * MIB)
#define RING_AT UINT64_C(0x10000)
#define HDR_AT UINT64_C(0x20000)
#define STATUS_AT UINT64_C(0x30000)
#define TABLE_AT UINT64_C(0x40000)
#define DATA_AT UINT64_C(0x80000)
#define QSIZE 32
#define DISK_MAX 65536
#define MAX_STEPS 300
#define MAX_TURNS 20000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct gmem *mem;
static struct blk *blk;
static struct virtio_mmio *t;

/* One run. */
static struct run {
	struct fuzz_input in;
	struct guest_ring ring;
	struct blk_backing backing; /* as the device has it */
	bool aliased;               /* descriptors may overlap: the detector of double fetches means nothing */
	bool lawless;               /* ring entries were written that no chain belongs to */
	unsigned offered[QSIZE];    /* times that head was offered and not yet used */
	uint64_t writable[QSIZE];   /* most bytes that a chain of this head can take */
} run;
static uint8_t disk[DISK_MAX];

/* --- Host --- */

static ssize_t host_transfer(const struct iovec *iov, int n, off_t offset, bool write)
{
	size_t done = 0, want = 0, max = SIZE_MAX;
	uint64_t off = (uint64_t)offset;

	must(n > 0 && n <= VQ_CHAIN_MAX && !(write && run.backing.read_only));
	for (int i = 0; i < n; i++)
		want += iov[i].iov_len;
	must(want > 0 && range_within(off, want, run.backing.size & ~UINT64_C(511)));
	if (fuzz_rarely(&run.in)) {
		static const int errors[] = { EIO, EINTR, EAGAIN, ENOSPC };

		errno = errors[fuzz_below(&run.in, ARRAY_SIZE(errors))];
		return -1;
	}
	if (fuzz_rarely(&run.in))
		max = fuzz_u16(&run.in);
	for (int i = 0; i < n; i++) {
		size_t len = iov[i].iov_len;
		uint8_t *hva = iov[i].iov_base;
		uint8_t *ram = mem->region[0].hva;

		must(len > 0 && hva >= ram && hva + len <= ram + MEM_SIZE);
		if (len > max - done)
			len = max - done;
		if (write)
			memcpy(disk + off + done, hva, len);
		else
			memcpy(hva, disk + off + done, len);
		done += len;
		if (done == max)
			break;
	}
	return (ssize_t)done;
}

static ssize_t host_preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	must(fd == -1 && (flags == 0 || (flags == RWF_NOWAIT && run.backing.nowait == BLK_NOWAIT_FLAG)));
	return host_transfer(iov, n, offset, false);
}

static ssize_t host_pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	must(fd == -1 && flags == 0);
	return host_transfer(iov, n, offset, true);
}

static int host_fdatasync(int fd)
{
	must(fd == -1);
	errno = EIO;
	return fuzz_rarely(&run.in) ? -1 : 0;
}

static const struct blk_io_ops host_ops = {
	.preadv2 = host_preadv2, .pwritev2 = host_pwritev2, .fdatasync = host_fdatasync,
};

/* --- Guest --- */

/* One descriptor of a request; its place in the table is @i of @table. */
static void put_desc(uint64_t table, uint16_t i, uint64_t addr, uint32_t len, bool writable, bool last, uint64_t *sum)
{
	uint16_t flags = (uint16_t)((last ? 0 : VIRTQ_DESC_F_NEXT) | (writable ? VIRTQ_DESC_F_WRITE : 0));

	if (fuzz_rarely(&run.in)) {
		addr = fuzz_u64(&run.in);
		run.aliased = true;
		run.lawless = true; /* data may land in the rings */
	}
	if (fuzz_rarely(&run.in)) {
		flags = fuzz_u16(&run.in);
		run.aliased = true;
		run.lawless = true; /* the chain may go on anywhere */
	}
	if (fuzz_rarely(&run.in)) {
		len = fuzz_u32(&run.in);
		run.aliased = true;
	}
	guest_ring_desc_at(&run.ring, table, i, addr, len, flags, (uint16_t)(i + 1));
	if (flags & VIRTQ_DESC_F_WRITE)
		*sum += len;
}

/* Header, up to three pieces of data, status: in the ring's table or in an indirect one. */
static void offer_request(void)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID };
	uint32_t slot = fuzz_u8(&run.in) % (QSIZE / 8);
	uint32_t type = fuzz_rarely(&run.in) ? fuzz_u32(&run.in) : types[fuzz_below(&run.in, 4)];
	uint32_t n_data = 1 + fuzz_below(&run.in, 3);
	bool indirect = fuzz_u8(&run.in) & 1;
	uint16_t head = (uint16_t)(8 * slot), i = indirect ? 0 : head;
	uint64_t table = indirect ? TABLE_AT + 0x1000 * slot : run.ring.geo.desc;
	bool writable = type != VIRTIO_BLK_T_OUT;
	uint64_t sum = 0;
	uint8_t hdr[16] = { 0 };

	if (run.offered[head] > 0 && !fuzz_rarely(&run.in))
		return;
	le32_put(hdr, type);
	le64_put(hdr + 8, fuzz_rarely(&run.in) ? fuzz_u64(&run.in) : fuzz_u8(&run.in));
	must(gmem_write(mem, GPA(HDR_AT + 16 * slot), hdr, sizeof(hdr)) == 0);
	put_desc(table, i++, HDR_AT + 16 * slot, 16, false, false, &sum);
	for (uint32_t k = 0; k < n_data; k++)
		put_desc(table, i++, DATA_AT + 0x8000 * slot + fuzz_u16(&run.in) % 0x4000,
			 fuzz_rarely(&run.in) ? fuzz_u16(&run.in) : 512 * (1 + fuzz_below(&run.in, 4)), writable, false,
			 &sum);
	put_desc(table, i++, STATUS_AT + slot, 1, true, true, &sum);
	if (indirect)
		guest_ring_desc(&run.ring, head, table, 16u * i, VIRTQ_DESC_F_INDIRECT, 0);
	/* A chain that is offered again while the old one is out: either may be meant. */
	run.writable[head] = run.offered[head] > 0 && run.writable[head] > sum ? run.writable[head] : sum;
	run.offered[head]++;
	guest_ring_offer(&run.ring, head);
}

static void mess_with_the_ring(void)
{
	run.lawless = true;
	run.aliased = true;
	switch (fuzz_below(&run.in, 3)) {
	case 0:
		guest_ring_set_idx(&run.ring, fuzz_u16(&run.in));
		return;
	case 1:
		guest_ring_offer(&run.ring, fuzz_u16(&run.in));
		return;
	default:
		guest_ring_desc(&run.ring, (uint16_t)(fuzz_u8(&run.in) % QSIZE), fuzz_u64(&run.in), fuzz_u32(&run.in),
				fuzz_u16(&run.in), fuzz_u16(&run.in));
		return;
	}
}

static void look_at_used(void)
{
	uint32_t id, len;

	for (unsigned n = 0; guest_ring_take_used(&run.ring, &id, &len); n++) {
		must(n <= UINT16_MAX);
		must(id < QSIZE);
		if (run.lawless)
			continue;
		must(run.offered[id] > 0 && len <= run.writable[id]);
		run.offered[id]--;
	}
	if (!run.aliased)
		must(guest_fetched_twice() == 0);
	(void)guest_fetched_twice();
}

/* What the I/O thread does with its kicks until none is left. */
static void run_io_thread(void)
{
	uint64_t n;

	for (int turns = 0; read(virtio_mmio_kick_fd(t, 0), &n, sizeof(n)) == sizeof(n); turns++) {
		must(turns < MAX_TURNS);
		virtio_mmio_handle_kick(t, 0);
	}
}

static void check_no_state(void)
{
	must(!blk->has_req && !blk->vdev.active && blk->vdev.status == 0);
	must(!virtqueue_started(blk->vdev.vq[0]) && virtqueue_in_flight(blk->vdev.vq[0]) == 0);
}

static void restart(void)
{
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0);
	check_no_state();
	guest_ring_init(&run.ring, mem, QSIZE, RING_AT);
	memset(run.offered, 0, sizeof(run.offered));
	memset(run.writable, 0, sizeof(run.writable));
	run.lawless = false;
	run.aliased = false;
	must(guest_mmio_negotiate(t, blk->vdev.features) == 0xb);
	guest_mmio_set_queue(t, 0, &run.ring.geo);
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0xf);
	must(blk->vdev.active);
}

static void other_file(void)
{
	struct blk_backing b = run.backing;

	b.size = fuzz_u16(&run.in);
	run.backing = b;
	must(blk_update_backing(blk, &b, NULL) == 0);
}

static void create(void)
{
	struct blk_config config = { .drive_id = "fuzz", .flush = true, .io = &host_ops };
	struct virtio_mmio_config mmio = { .mem = mem };
	uint8_t choice = fuzz_u8(&run.in);
	struct blk_backing b = { .fd = -1, .size = DISK_MAX, .read_only = choice & 1 };

	b.nowait = (enum blk_nowait)((choice >> 1) % 3);
	if (fuzz_rarely(&run.in))
		b.size = fuzz_u16(&run.in);
	run.backing = b;
	mmio.kick_in_vcpu = !(choice & 0x80);
	if (blk_create(&config, &b, &blk, NULL) < 0)
		abort();
	mmio.dev = blk_virtio_device(blk);
	if (virtio_mmio_create(&mmio, &t, NULL) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	log_set_level(LOG_OFF);
	if (!mem && gmem_create(&mem, MEM_SIZE, GMEM_PAGES_DEFAULT, NULL) < 0)
		abort();
	memset(&run, 0, sizeof(run));
	run.in = (struct fuzz_input){ data, size };
	create();
	restart();
	for (int i = 0; i < MAX_STEPS && !fuzz_empty(&run.in); i++) {
		switch (fuzz_below(&run.in, 12)) {
		case 8:
			if (fuzz_rarely(&run.in))
				mess_with_the_ring();
			break;
		case 9:
			if (fuzz_rarely(&run.in))
				other_file();
			break;
		case 10:
			if (fuzz_rarely(&run.in) || !blk->vdev.active)
				restart();
			break;
		case 5:
		case 6:
			guest_mmio_write(t, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
			break;
		case 7:
			run_io_thread();
			break;
		case 11:
			guest_ring_set_used_event(&run.ring, fuzz_u16(&run.in));
			break;
		default:
			offer_request();
			break;
		}
		must(virtqueue_in_flight(blk->vdev.vq[0]) == (blk->has_req ? 1 : 0));
		look_at_used();
	}
	/* Liveness: whatever happened, a driver that starts over is served. */
	run.in.left = 0;
	restart();
	offer_request();
	guest_mmio_write(t, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	run_io_thread();
	must(guest_ring_used_idx(&run.ring) == 1);
	look_at_used();
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0);
	check_no_state();
	virtio_mmio_destroy(t);
	blk_destroy(blk);
	return 0;
}
