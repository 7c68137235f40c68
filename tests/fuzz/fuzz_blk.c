/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole disk with a host made of memory: requests, kicks on both paths, resets, other files, short
 * and failing host calls; engine Sync, or Async with a kernel that answers late, out of order, in part or not as asked.
 *
 * Asserted: no host call outside the disk or outside guest RAM, no write to a read-only disk; each head
 * is used at most once for each time it was offered, with at most as many bytes as its dev_writable
 * part has; bytes that a successful transfer moved are those of the disk; nothing is fetched twice;
 * turns end; after a reset no state remains.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/lib/fuzz_input.h"
#include "tests/lib/guest_ring.h"
#include "virtio/blk_impl.h"
#include "virtio/blk_ring_impl.h"
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
static struct evloop *loop;
static struct blk_ring *ring; /* NULL: engine Sync */
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
static struct blk_backing other; /* what PATCH brings */
static bool swapping;

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

static int host_fallocate(int fd, int mode, off_t offset, off_t len)
{
	static const int errors[] = { EIO, EINTR, EOPNOTSUPP, ENOSPC };

	must(fd == -1 && mode != 0 && !run.backing.read_only && run.backing.can_discard && len > 0);
	must(range_within((uint64_t)offset, (uint64_t)len, run.backing.size & ~UINT64_C(511)));
	if (fuzz_rarely(&run.in)) {
		errno = errors[fuzz_below(&run.in, ARRAY_SIZE(errors))];
		return -1;
	}
	memset(disk + offset, 0, (size_t)len);
	return 0;
}

static const struct blk_io_ops host_ops = {
	.preadv2 = host_preadv2, .pwritev2 = host_pwritev2, .fdatasync = host_fdatasync,
	.fallocate = host_fallocate,
};

/* --- A kernel with an io_uring: what is submitted is done when it likes --- */

static struct {
	unsigned n, n_submitted; /* the first n_submitted are under way */
	struct blk_ring_op op[BLK_RING_DEPTH];
	unsigned n_results;
	struct blk_ring_result result[BLK_RING_DEPTH];
	bool notify;
	int event_fd;
} kernel;

static void kernel_queue(void *ctx, const struct blk_ring_op *op)
{
	(void)ctx;
	must(kernel.n + kernel.n_results < BLK_RING_DEPTH && op->file == 0);
	kernel.op[kernel.n++] = *op;
}

/* Do operation @i, which is under way. */
static void kernel_do(unsigned i)
{
	struct blk_ring_op op = kernel.op[i];
	int32_t res = 0;

	must(i < kernel.n_submitted);
	memmove(&kernel.op[i], &kernel.op[i + 1], (kernel.n - i - 1) * sizeof(op));
	kernel.n--;
	kernel.n_submitted--;
	if (op.kind == BLK_RING_FLUSH) {
		if (host_fdatasync(-1) < 0)
			res = -errno;
	} else {
		ssize_t n = host_transfer(op.iov, (int)op.n_iov, (off_t)op.offset, op.kind == BLK_RING_WRITE);

		res = n < 0 ? -errno : (int32_t)n;
	}
	kernel.result[kernel.n_results++] = (struct blk_ring_result){ .tag = op.tag, .res = res };
	if (kernel.notify)
		(void)eventfd_write(kernel.event_fd, 1);
}

static int kernel_submit(void *ctx)
{
	(void)ctx;
	if (fuzz_rarely(&run.in))
		return -EAGAIN;
	kernel.n_submitted = kernel.n;
	if (fuzz_u8(&run.in) & 1)
		return 0;
	while (kernel.n_submitted > 0 && !fuzz_rarely(&run.in))
		kernel_do(fuzz_below(&run.in, kernel.n_submitted));
	return 0;
}

static bool kernel_next(void *ctx, struct blk_ring_result *out)
{
	(void)ctx;
	if (kernel.n_results == 0)
		return false;
	*out = kernel.result[--kernel.n_results];
	return true;
}

static void kernel_notify(void *ctx, bool on)
{
	(void)ctx;
	kernel.notify = on;
}

static int kernel_set_file(void *ctx, uint32_t file, int fd)
{
	(void)ctx;
	must(kernel.n == 0 && kernel.n_results == 0 && file < BLK_RING_FILES && fd == -1);
	/* The old file is in use up to here. */
	if (swapping)
		run.backing = other;
	swapping = false;
	return 0;
}

static void kernel_wait(void *ctx, int timeout_ms)
{
	(void)ctx;
	(void)timeout_ms;
	if (kernel.n_submitted > 0)
		kernel_do(0);
}

static int kernel_enable(void *ctx, struct err *e)
{
	(void)ctx;
	(void)e;
	return 0;
}

static void kernel_destroy(void *ctx)
{
	(void)ctx;
	must(kernel.n == 0 && kernel.n_results == 0);
}

static const struct blk_ring_backend kernel_backend = {
	kernel_queue, kernel_submit, kernel_next, kernel_notify, kernel_set_file, kernel_wait, kernel_enable, kernel_destroy,
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

/* @n ranges of a DISCARD or WRITE_ZEROES. */
static void put_ranges(uint64_t at, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint8_t wire[16];

		le64_put(wire, fuzz_rarely(&run.in) ? fuzz_u64(&run.in) : fuzz_below(&run.in, 100));
		le32_put(wire + 8, fuzz_rarely(&run.in) ? fuzz_u32(&run.in) : fuzz_below(&run.in, 20));
		le32_put(wire + 12, fuzz_rarely(&run.in) ? fuzz_u32(&run.in) : 0);
		must(gmem_write(mem, GPA(at + 16 * i), wire, sizeof(wire)) == 0);
	}
}

/* Header, up to three pieces of data, status: in the ring's table or in an indirect one. */
static void offer_request(void)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID,
					  VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES };
	uint32_t slot = fuzz_u8(&run.in) % (QSIZE / 8);
	uint32_t type = fuzz_rarely(&run.in) ? fuzz_u32(&run.in) : types[fuzz_below(&run.in, ARRAY_SIZE(types))];
	uint32_t n_data = 1 + fuzz_below(&run.in, 3);
	bool indirect = fuzz_u8(&run.in) & 1;
	uint16_t head = (uint16_t)(8 * slot), i = indirect ? 0 : head;
	uint64_t table = indirect ? TABLE_AT + 0x1000 * slot : run.ring.geo.desc;
	bool ranges = type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES;
	bool writable = type != VIRTIO_BLK_T_OUT && !ranges;
	uint64_t sum = 0;
	uint8_t hdr[16] = { 0 };

	if (run.offered[head] > 0 && !fuzz_rarely(&run.in))
		return;
	le32_put(hdr, type);
	le64_put(hdr + 8, fuzz_rarely(&run.in) ? fuzz_u64(&run.in) : fuzz_u8(&run.in));
	must(gmem_write(mem, GPA(HDR_AT + 16 * slot), hdr, sizeof(hdr)) == 0);
	put_desc(table, i++, HDR_AT + 16 * slot, 16, false, false, &sum);
	if (ranges) {
		put_ranges(DATA_AT + 0x8000 * slot, n_data);
		put_desc(table, i++, DATA_AT + 0x8000 * slot, 16 * n_data, false, false, &sum);
		n_data = 0;
	}
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
	bool any = true;
	uint64_t n;

	for (int turns = 0; any; turns++) {
		must(turns < MAX_TURNS);
		any = read(virtio_mmio_kick_fd(t, 0), &n, sizeof(n)) == sizeof(n);
		if (any)
			virtio_mmio_handle_kick(t, 0);
		any |= ring && evloop_turn(loop, 0) > 0;
	}
}

/* The kernel gets on with what it has. */
static void run_kernel(void)
{
	for (uint32_t i = fuzz_u8(&run.in) % 8; i > 0 && kernel.n_submitted > 0; i--)
		kernel_do(fuzz_below(&run.in, kernel.n_submitted));
}

static void check_in_flight(void)
{
	must(virtqueue_in_flight(blk->vdev.vq[0]) == (blk->has_req ? 1 : 0) + blk_async_in_flight(blk));
	must(kernel.n + kernel.n_results <= blk_async_in_flight(blk));
}

static void check_no_state(void)
{
	must(!blk->has_req && !blk->vdev.active && blk->vdev.status == 0);
	must(blk_async_in_flight(blk) == 0 && kernel.n == 0 && kernel.n_results == 0);
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
	b.can_discard = !b.read_only && !(fuzz_u8(&run.in) & 1);
	other = b;
	swapping = true;
	if (!ring)
		run.backing = b;
	must(blk_update_backing(blk, &b, NULL) == 0);
	must(!swapping || !ring);
	swapping = false;
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
	b.can_discard = !b.read_only;
	run.backing = b;
	mmio.kick_in_vcpu = !(choice & 0x80);
	memset(&kernel, 0, sizeof(kernel));
	kernel.notify = true;
	ring = NULL;
	if (choice & 0x40) {
		kernel.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (blk_ring_create_on(&kernel_backend, NULL, kernel.event_fd, loop, 1, &ring, NULL) < 0)
			abort();
	}
	config.ring = ring;
	if (blk_create(&config, &b, &blk, NULL) < 0)
		abort();
	mmio.dev = blk_virtio_device(blk);
	if (virtio_mmio_create(&mmio, &t, NULL) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	log_set_level(LOG_OFF);
	if (!mem && (gmem_create(&mem, MEM_SIZE, GMEM_PAGES_DEFAULT, NULL) < 0 || evloop_create(&loop, NULL) < 0))
		abort();
	memset(&run, 0, sizeof(run));
	run.in = (struct fuzz_input){ data, size };
	create();
	restart();
	for (int i = 0; i < MAX_STEPS && !fuzz_empty(&run.in); i++) {
		switch (fuzz_below(&run.in, 13)) {
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
		case 12:
			run_kernel();
			break;
		case 11:
			guest_ring_set_used_event(&run.ring, fuzz_u16(&run.in));
			break;
		default:
			offer_request();
			break;
		}
		check_in_flight();
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
	blk_ring_destroy(ring);
	return 0;
}
