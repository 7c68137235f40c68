/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine Async: over a kernel that this file plays, which is short, late, out of order or fails at any
 * index, and over the real io_uring.
 */
#include "tests/lib/blk_fixture.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/eventfd.h>

#include "virtio/blk_ring.h"
#include "virtio/blk_ring_impl.h"

/* --- A kernel --- */

static struct {
	unsigned n, n_submitted, n_done; /* operations held; the first n_submitted are under way; done in all */
	struct blk_ring_op op[2 * BLK_RING_DEPTH];
	unsigned n_results;
	struct blk_ring_result result[2 * BLK_RING_DEPTH];
	bool notify;
	bool late;          /* nothing is done inside submit */
	int submit_errno;   /* the next submit fails so, once */
	unsigned fail_at;   /* operation n_done == fail_at gives fail_res, so many times */
	unsigned n_fail;
	int32_t fail_res;
	size_t short_by;    /* transfers move at most so many bytes; 0: all */
	bool pretend;       /* transfers move nothing, all are counted in n_bytes */
	uint64_t n_bytes;
	int fd[2 * BLK_RING_FILES];
	int set_file_errno;
	int event_fd;
	unsigned n_waits;
	void (*wait_hook)(void); /* instead of a wait */
} kernel;

static struct blk_ring *ring_;

static void kernel_queue(void *ctx, const struct blk_ring_op *op)
{
	(void)ctx;
	assert_true(kernel.n + kernel.n_results < ARRAY_SIZE(kernel.op));
	kernel.op[kernel.n++] = *op;
}

static int32_t kernel_transfer(const struct blk_ring_op *op)
{
	struct iovec iov[VQ_CHAIN_MAX];
	size_t left = kernel.short_by ? kernel.short_by : SIZE_MAX;
	unsigned n = 0;
	ssize_t rc;

	if (kernel.pretend) {
		size_t sum = 0;

		for (; n < op->n_iov; n++)
			sum += op->iov[n].iov_len;
		kernel.n_bytes += sum;
		return (int32_t)sum;
	}
	for (; n < op->n_iov && left > 0; n++) {
		iov[n] = op->iov[n];
		if (iov[n].iov_len > left)
			iov[n].iov_len = left;
		left -= iov[n].iov_len;
	}
	rc = (op->kind == BLK_RING_WRITE ? pwritev : preadv)(kernel.fd[op->file], iov, (int)n, (off_t)op->offset);
	return rc < 0 ? -errno : (int32_t)rc;
}

/* Do operation @i of those under way. */
static void kernel_do(unsigned i)
{
	struct blk_ring_op op = kernel.op[i];
	int32_t res = 0;

	assert_true(i < kernel.n_submitted);
	memmove(&kernel.op[i], &kernel.op[i + 1], (kernel.n - i - 1) * sizeof(op));
	kernel.n--;
	kernel.n_submitted--;
	if (kernel.n_done >= kernel.fail_at && kernel.n_fail > 0) {
		kernel.n_fail--;
		res = kernel.fail_res;
	} else if (op.kind != BLK_RING_FLUSH) {
		res = kernel_transfer(&op);
	}
	kernel.n_done++;
	kernel.result[kernel.n_results++] = (struct blk_ring_result){ .tag = op.tag, .res = res };
	if (kernel.notify)
		assert_int_equal(eventfd_write(kernel.event_fd, 1), 0);
}

static int kernel_submit(void *ctx)
{
	int rc = -kernel.submit_errno;

	(void)ctx;
	kernel.submit_errno = 0;
	if (rc < 0)
		return rc;
	kernel.n_submitted = kernel.n;
	while (!kernel.late && kernel.n_submitted > 0)
		kernel_do(0);
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
	kernel.fd[file] = fd;
	return -kernel.set_file_errno;
}

static void kernel_wait(void *ctx, int timeout_ms)
{
	(void)ctx;
	(void)timeout_ms;
	kernel.n_waits++;
	if (kernel.wait_hook)
		kernel.wait_hook();
	else if (kernel.n_submitted > 0)
		kernel_do(kernel.n_submitted - 1);
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
	assert_int_equal(kernel.n + kernel.n_results, 0);
}

static const struct blk_ring_backend backend = {
	kernel_queue, kernel_submit, kernel_next, kernel_notify, kernel_set_file, kernel_wait, kernel_enable, kernel_destroy,
};

/* --- Fixture --- */

static void async(struct options o)
{
	destroy();
	blk_ring_destroy(ring_);
	memset(&kernel, 0, sizeof(kernel));
	kernel.notify = true;
	kernel.fail_at = UINT32_MAX;
	kernel.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_int_equal(blk_ring_create_on(&backend, NULL, kernel.event_fd, loop, 2, &ring_, NULL), 0);
	o.ring = ring_;
	create(o);
	start();
	assert_int_equal(blk_ring_enable(ring_, NULL), 0);
}

static int async_setup(void **state)
{
	if (setup(state) != 0)
		return -1;
	async((struct options){ .flush = true });
	return 0;
}

static int async_teardown(void **state)
{
	destroy();
	blk_ring_destroy(ring_);
	ring_ = NULL;
	create((struct options){ .flush = false }); /* what teardown() destroys */
	return teardown(state);
}

/* --- Tests --- */

static void requests(void **state)
{
	(void)state;
	for (int late = 0; late < 2; late++) {
		unsigned before = kernel.n_done;

		kernel.late = late;
		fill(DATA_AT, 0xc0 + late, 1024);
		(void)offer(VIRTIO_BLK_T_OUT, 9, DATA_AT, 1024);
		kick();
		(void)run_loop();
		while (kernel.n_submitted > 0)
			kernel_do(0);
		(void)run_loop();
		expect_used((uint16_t)(3 * (next_slot - 1)), 1);
		assert_int_equal(kernel.n_done, before + 1);
	}
	kernel.late = false;
	request(VIRTIO_BLK_T_IN, 8, 4 * 512, VIRTIO_BLK_S_OK, 4 * 512 + 1);
	expect_bytes(DATA_AT, 8, 512);
	expect_bytes(DATA_AT + 512, 0xc1, 1024);
	expect_bytes(DATA_AT + 1536, 11, 512);
	request(VIRTIO_BLK_T_FLUSH, 0, 0, VIRTIO_BLK_S_OK, 1);
	request(VIRTIO_BLK_T_GET_ID, 0, 20, VIRTIO_BLK_S_OK, 21);
	request(VIRTIO_BLK_T_IN, SECTORS, 512, NO_STATUS, 0);
	assert_int_equal(host.n_calls, 0); /* nothing by the Sync engine's calls */
	assert_int_equal(count_of(&blk_get_stats(blk)->flush_count), 1);
	assert_int_equal(count_of(&blk_get_stats(blk)->read_bytes), 4 * 512);
	assert_int_equal(count_of(&blk_get_stats(blk)->write_count), 2);
}

/* Each transfer ends after any number of bytes: nothing is lost or moved twice. */
static void short_results(void **state)
{
	(void)state;
	for (size_t n = 1; n <= 1100; n += n < 20 ? 1 : 37) {
		kernel.short_by = n;
		fill(DATA_AT, (int)(n & 0xff), 1024);
		request(VIRTIO_BLK_T_OUT, 4, 1024, VIRTIO_BLK_S_OK, 1);
		fill(DATA_AT, 0xee, 4 * 512);
		request(VIRTIO_BLK_T_IN, 3, 4 * 512, VIRTIO_BLK_S_OK, 4 * 512 + 1);
		expect_bytes(DATA_AT, 3, 512);
		expect_bytes(DATA_AT + 512, (int)(n & 0xff), 1024);
		expect_bytes(DATA_AT + 1536, 6, 512);
	}
}

/* The operation of any index fails, after any number of good ones. */
static void failures_at_every_index(void **state)
{
	static const int32_t res[] = { -EIO, -ENOSPC, 0, -EBADF };

	(void)state;
	kernel.short_by = 512;
	for (unsigned at = 0; at < 8; at++) {
		for (size_t i = 0; i < ARRAY_SIZE(res); i++) {
			kernel.fail_at = kernel.n_done + at;
			kernel.n_fail = 1;
			kernel.fail_res = res[i];
			request(VIRTIO_BLK_T_IN, 0, 8 * 512, VIRTIO_BLK_S_IOERR, at * 512 + 1);
			kernel.fail_at = kernel.n_done + at;
			kernel.n_fail = 1;
			request(VIRTIO_BLK_T_OUT, 0, 8 * 512, VIRTIO_BLK_S_IOERR, 1);
			assert_int_equal(kernel.n_fail, 0);
		}
	}
	kernel.fail_at = 0;
	kernel.n_fail = 1;
	kernel.fail_res = -EIO;
	request(VIRTIO_BLK_T_FLUSH, 0, 0, VIRTIO_BLK_S_IOERR, 1);
	assert_int_equal(count_of(&blk_get_stats(blk)->execute_fails), 8 * 4 * 2 + 1);
	request(VIRTIO_BLK_T_IN, 0, 512, VIRTIO_BLK_S_OK, 513);
}

/* EINTR and EAGAIN mean "again", but not for ever. */
static void interrupted(void **state)
{
	(void)state;
	kernel.fail_at = 0;
	kernel.n_fail = 5;
	kernel.fail_res = -EINTR;
	request(VIRTIO_BLK_T_IN, 2, 1024, VIRTIO_BLK_S_OK, 1025);
	kernel.n_fail = 5;
	kernel.fail_res = -EAGAIN;
	request(VIRTIO_BLK_T_FLUSH, 0, 0, VIRTIO_BLK_S_OK, 1);
	kernel.n_fail = 1000;
	request(VIRTIO_BLK_T_IN, 2, 1024, VIRTIO_BLK_S_IOERR, 1);
	assert_in_range(kernel.n_fail, 900, 999);
	kernel.n_fail = 0;
	request(VIRTIO_BLK_T_IN, 2, 1024, VIRTIO_BLK_S_OK, 1025);
}

/* The kernel lacks memory at submit: the request is only late. */
static void submit_fails(void **state)
{
	(void)state;
	kernel.submit_errno = EAGAIN;
	request(VIRTIO_BLK_T_IN, 2, 1024, VIRTIO_BLK_S_OK, 1025);
	kernel.submit_errno = ENOMEM;
	kernel.late = true;
	(void)offer(VIRTIO_BLK_T_IN, 2, DATA_AT, 512);
	kick();
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0);
	(void)run_loop();
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(kernel.n, 0);
}

/* Results come in any order and go to the used ring as they come. */
static void out_of_order(void **state)
{
	uint16_t head[3];

	(void)state;
	kernel.late = true;
	for (int i = 0; i < 3; i++)
		head[i] = offer(VIRTIO_BLK_T_IN, (uint64_t)i, DATA_AT + 512 * (uint64_t)i, 512);
	kick();
	(void)run_loop();
	assert_int_equal(kernel.n_submitted, 3);
	assert_int_equal(guest_ring_used_idx(&ring), 0);
	kernel_do(1);
	(void)run_loop();
	expect_used(head[1], 513);
	kernel_do(1);
	(void)run_loop();
	expect_used(head[2], 513);
	kernel_do(0);
	(void)run_loop();
	expect_used(head[0], 513);
	for (int i = 0; i < 3; i++)
		expect_bytes(DATA_AT + 512 * (uint64_t)i, i, 512);
}

/*
 * All slots busy: counted once, nothing spins, and it goes on with the first result. Two descriptors a request (the
 * status byte is the data's last), so that more fit into the queue than there are slots.
 */
static void slots_run_out(void **state)
{
	const unsigned n = QSIZE / 2;
	uint8_t hdr[16] = { 0 };

	(void)state;
	kernel.late = true;
	assert_int_equal(gmem_write(mem, GPA(HDR_AT), hdr, sizeof(hdr)), 0);
	for (uint16_t i = 0; i < n; i++) {
		guest_ring_desc(&ring, (uint16_t)(2 * i), HDR_AT, 16, N, (uint16_t)(2 * i + 1));
		guest_ring_desc(&ring, (uint16_t)(2 * i + 1), DATA_AT + 1024 * (uint64_t)i, 513, W, 0);
		guest_ring_offer(&ring, (uint16_t)(2 * i));
	}
	kick();
	(void)run_loop();
	assert_int_equal(kernel.n_submitted, BLK_RING_DEPTH);
	assert_int_equal(count_of(&blk_get_stats(blk)->io_engine_throttled_events), 0);
	/* One more, through an indirect table. */
	guest_ring_desc_at(&ring, TABLE_AT, 0, HDR_AT, 16, N, 1);
	guest_ring_desc_at(&ring, TABLE_AT, 1, DATA_AT + MIB, 513, W, 0);
	guest_ring_desc(&ring, 255, TABLE_AT, 32, VIRTQ_DESC_F_INDIRECT, 0);
	guest_ring_offer(&ring, 255);
	for (int i = 0; i < 3; i++) {
		kick();
		assert_in_range(run_loop(), 1, 2);
	}
	assert_int_equal(count_of(&blk_get_stats(blk)->io_engine_throttled_events), 1);
	assert_int_equal(guest_ring_used_idx(&ring), 0);
	kernel_do(100);
	(void)run_loop();
	assert_int_equal(guest_ring_used_idx(&ring), 1);
	assert_int_equal(kernel.n_submitted, BLK_RING_DEPTH);
	while (kernel.n_submitted > 0)
		kernel_do(0);
	(void)run_loop();
	assert_int_equal(guest_ring_used_idx(&ring), n + 1);
}

/* Offer read @i, of one sector, through an indirect table of its own. */
static void offer_indirect(unsigned i)
{
	uint64_t at = TABLE_AT + 64 * (uint64_t)i;

	guest_ring_desc_at(&ring, at, 0, HDR_AT, 16, N, 1);
	guest_ring_desc_at(&ring, at, 1, DATA_AT + 1024 * (uint64_t)i, 513, W, 0);
	guest_ring_desc(&ring, (uint16_t)i, at, 32, VIRTQ_DESC_F_INDIRECT, 0);
	guest_ring_offer(&ring, (uint16_t)i);
}

/* The slots that a turn waited for get free at its own end: nothing else will wake it. */
static void slots_get_free_at_the_end(void **state)
{
	const unsigned before = 100, n = 140;
	uint8_t hdr[16] = { 0 };

	(void)state;
	assert_int_equal(gmem_write(mem, GPA(HDR_AT), hdr, sizeof(hdr)), 0);
	kernel.late = true;
	for (unsigned i = 0; i < before; i++)
		offer_indirect(i);
	kick();
	(void)run_loop();
	assert_int_equal(kernel.n_submitted, before);
	for (unsigned i = before; i < n; i++)
		offer_indirect(i);
	kick();
	kernel.late = false;
	while (kernel.n_submitted > 0)
		kernel_do(0);
	(void)run_loop();
	assert_int_equal(guest_ring_used_idx(&ring), n);
}

/* The request that waits for a slot needs none after a PATCH: nobody goes on asking for one. */
static void slot_is_no_longer_wanted(void **state)
{
	uint8_t hdr[16] = { 0 };
	struct blk_backing backing;
	unsigned turns = 0;

	(void)state;
	assert_int_equal(gmem_write(mem, GPA(HDR_AT), hdr, sizeof(hdr)), 0);
	kernel.late = true;
	for (unsigned i = 0; i < BLK_RING_DEPTH + 1; i++)
		offer_indirect(i);
	kick();
	(void)run_loop();
	assert_int_equal(blk_backing_open(path, false, &backing, NULL), 0);
	backing.nowait = BLK_NOWAIT_MEMORY; /* as on tmpfs */
	assert_int_equal(blk_update_backing(blk, &backing, NULL), 0);
	while (turns < 100 && evloop_turn(loop, 0) > 0)
		turns++;
	assert_in_range(turns, 0, 10);
	assert_int_equal(guest_ring_used_idx(&ring), BLK_RING_DEPTH + 1);
}

/* A PATCH that begins while a vCPU's reset waits for the disk, and ends when the driver has started the device again. */
static struct {
	pthread_t vcpu;
	sem_t reset_waits, patch_waits, started;
} race;

static void race_wait(void)
{
	if (pthread_equal(pthread_self(), race.vcpu)) {
		assert_int_equal(sem_post(&race.reset_waits), 0);
		assert_int_equal(sem_wait(&race.patch_waits), 0);
		while (kernel.n_submitted > 0)
			kernel_do(0);
	} else {
		assert_int_equal(sem_post(&race.patch_waits), 0);
		assert_int_equal(sem_wait(&race.started), 0);
	}
}

static void *race_vcpu(void *arg)
{
	race.vcpu = pthread_self();
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0);
	start();
	assert_int_equal(sem_post(&race.started), 0);
	return arg;
}

static void patch_while_a_reset_waits(void **state)
{
	struct blk_backing backing;
	pthread_t thread;

	(void)state;
	assert_int_equal(sem_init(&race.reset_waits, 0, 0) | sem_init(&race.patch_waits, 0, 0) | sem_init(&race.started, 0, 0), 0);
	kernel.late = true;
	(void)offer(VIRTIO_BLK_T_IN, 5, DATA_AT, 512);
	kick();
	(void)run_loop();
	kernel.wait_hook = race_wait;
	assert_int_equal(pthread_create(&thread, NULL, race_vcpu, NULL), 0);
	assert_int_equal(sem_wait(&race.reset_waits), 0);
	assert_int_equal(blk_backing_open(path, false, &backing, NULL), 0);
	backing.nowait = BLK_NOWAIT_NEVER;
	assert_int_equal(blk_update_backing(blk, &backing, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	kernel.wait_hook = NULL;
	kernel.late = false;
	assert_true(blk_virtio_device(blk)->active);
	(void)offer(VIRTIO_BLK_T_IN, 5, DATA_AT, 512);
	kick();
	(void)run_loop();
	assert_int_equal(guest_ring_used_idx(&ring), 1);
}

/* However long the guest's requests are, and all of them in the page cache: a turn is bounded (B3). */
static void turns_are_bounded(void **state)
{
	const unsigned n = 140;
	uint8_t hdr[16] = { 0 };
	unsigned turns = 0;

	(void)state;
	assert_int_equal(truncate(path, (off_t)(4 * GIB)), 0);
	async((struct options){ .flush = false });
	kernel.pretend = true;
	assert_int_equal(gmem_write(mem, GPA(HDR_AT), hdr, sizeof(hdr)), 0);
	guest_ring_desc_at(&ring, TABLE_AT, 0, HDR_AT, 16, N, 1);
	for (unsigned i = 1; i < 255; i++)
		guest_ring_desc_at(&ring, TABLE_AT, (uint16_t)i, DATA_AT, 512 * KIB, N | W, (uint16_t)(i + 1));
	guest_ring_desc_at(&ring, TABLE_AT, 255, STATUS_AT, 1, W, 0);
	for (unsigned i = 0; i < n; i++) {
		guest_ring_desc(&ring, (uint16_t)i, TABLE_AT, 256 * 16, VIRTQ_DESC_F_INDIRECT, 0);
		guest_ring_offer(&ring, (uint16_t)i);
	}
	kick();
	while (evloop_turn(loop, 0) > 0) {
		assert_in_range(kernel.n_bytes, 0, BLK_RING_DEPTH * 128 * KIB + 4 * MIB);
		kernel.n_bytes = 0;
		turns++;
	}
	assert_int_equal(guest_ring_used_idx(&ring), n);
	assert_true(turns > 100);
}

/* A request of 8 MiB is four operations, one after the other. */
static void long_request(void **state)
{
	const uint32_t len = 8 * MIB;

	(void)state;
	write_file(len / 512);
	async((struct options){ .flush = false });
	request(VIRTIO_BLK_T_IN, 0, len, VIRTIO_BLK_S_OK, len + 1);
	assert_int_equal(kernel.n_done, 4);
	expect_bytes(DATA_AT + 2 * MIB + 512, 1, 512);
	expect_bytes(DATA_AT + 7 * MIB + 512, 1, 512);
}

/* A reset waits for what is under way; afterwards nothing of it is seen, and stale results touch nothing. */
static void reset_in_flight(void **state)
{
	uint64_t tag;

	(void)state;
	kernel.late = true;
	for (int i = 0; i < 5; i++)
		(void)offer(VIRTIO_BLK_T_IN, (uint64_t)i, DATA_AT + 512 * (uint64_t)i, 512);
	kick();
	(void)run_loop();
	tag = kernel.op[0].tag;
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(kernel.n + kernel.n_results, 0);
	assert_int_equal(virtqueue_in_flight(blk_virtio_device(blk)->vq[0]), 0);
	assert_in_range(kernel.n_waits, 1, 5);
	fill(DATA_AT, 0x77, 5 * 512);
	(void)run_loop();
	assert_int_equal(guest_ring_used_idx(&ring), 0);
	start();
	/* The kernel repeats itself: the slot is busy again, with another generation. */
	(void)offer(VIRTIO_BLK_T_IN, 7, DATA_AT, 512);
	kick();
	(void)run_loop();
	kernel.result[kernel.n_results++] = (struct blk_ring_result){ .tag = tag, .res = 512 };
	blk_ring_poke(ring_);
	(void)run_loop();
	assert_int_equal(guest_ring_used_idx(&ring), 0);
	expect_bytes(DATA_AT, 0x77, 512);
	kernel_do(0);
	(void)run_loop();
	expect_used(0, 513);
	expect_bytes(DATA_AT, 7, 512);
}

/* Requests under way when the queue breaks: the device drops them before it stops. */
static void broken_in_flight(void **state)
{
	(void)state;
	kernel.late = true;
	(void)offer(VIRTIO_BLK_T_IN, 0, DATA_AT, 512);
	(void)offer(VIRTIO_BLK_T_IN, 0, MEM_SIZE, 512);
	kick();
	(void)run_loop();
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_STATUS), 0x4f);
	assert_int_equal(kernel.n + kernel.n_results, 0);
	kernel.late = false;
	start();
	request(VIRTIO_BLK_T_IN, 1, 512, VIRTIO_BLK_S_OK, 513);
}

/* PATCH: what is under way is done on the old file and completed; what comes then is the new one's. */
static void swap_in_flight(void **state)
{
	struct blk_backing b;
	uint16_t head;
	int old;

	(void)state;
	kernel.late = true;
	head = offer(VIRTIO_BLK_T_IN, 5, DATA_AT, 512);
	(void)offer(VIRTIO_BLK_T_FLUSH, 0, DATA_AT, 0);
	kick();
	(void)run_loop();
	old = kernel.fd[0];
	assert_int_equal(truncate(path, 512 * SECTORS * 2), 0);
	assert_int_equal(blk_backing_open(path, false, &b, NULL), 0);
	b.nowait = BLK_NOWAIT_NEVER;
	assert_int_equal(blk_update_backing(blk, &b, NULL), 0);
	assert_int_not_equal(kernel.fd[0], old);
	assert_int_equal(guest_ring_used_idx(&ring), 2);
	assert_true(guest_mmio_read(t, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_INT_USED_BUFFER);
	assert_int_equal(status_of(head), VIRTIO_BLK_S_OK);
	expect_bytes(DATA_AT, 5, 512);
	expect_used((uint16_t)(head + 3), 1); /* the test's kernel does the last first */
	expect_used(head, 513);
	kernel.late = false;
	request(VIRTIO_BLK_T_IN, 2 * SECTORS - 1, 512, VIRTIO_BLK_S_OK, 513);
	/* The kernel does not take the file: the old one stays. */
	assert_int_equal(blk_backing_open(path, false, &b, NULL), 0);
	kernel.set_file_errno = ENOMEM;
	assert_int_equal(blk_update_backing(blk, &b, NULL), -ENOMEM);
	assert_int_equal(b.fd, -1);
	kernel.set_file_errno = 0;
	assert_int_equal(count_of(&blk_get_stats(blk)->update_fails), 1);
	request(VIRTIO_BLK_T_IN, 3, 512, VIRTIO_BLK_S_OK, 513);
	expect_bytes(DATA_AT, 3, 512);
}

/* Two drives on one ring: whoever empties the completion queue leaves the other's results to it. */
static void two_drives(void **state)
{
	struct blk_config config = { .drive_id = "e", .loop = loop, .io = &host_ops, .ring = ring_ };
	struct blk_backing b;
	struct blk *other;

	(void)state;
	assert_int_equal(blk_backing_open(path, true, &b, NULL), 0);
	assert_int_equal(blk_create(&config, &b, &other, NULL), 0);
	kernel.late = true;
	(void)offer(VIRTIO_BLK_T_IN, 5, DATA_AT, 512);
	kick();
	(void)run_loop();
	kernel.notify = false; /* as if the other drive had just submitted */
	kernel_do(0);
	assert_int_equal(blk_ring_collect(ring_, 1, &(struct blk_ring_result){ 0 }, 1), 0);
	assert_true(run_loop() > 0);
	expect_used(0, 513);
	blk_destroy(other);
	/* A third does not fit. */
	assert_int_equal(blk_backing_open(path, true, &b, NULL), 0);
	assert_int_equal(blk_create(&config, &b, &other, NULL), 0);
	blk_destroy(other);
}

/* tmpfs has nothing to wait for: served at once. */
static void memory_is_not_for_the_ring(void **state)
{
	(void)state;
	async((struct options){ .nowait = BLK_NOWAIT_MEMORY });
	request(VIRTIO_BLK_T_IN, 5, 512, VIRTIO_BLK_S_OK, 513);
	assert_int_equal(kernel.n_done, 0);
	assert_int_equal(host.n_calls, 1);
}

/* A copy-on-write disk: what lies in one file and needs no new block is the ring's, the rest is done at once. */
static void copy_on_write(void **state)
{
	struct blk_config config = { .drive_id = "c", .flush = true, .loop = loop, .io = &host_ops };
	struct virtio_mmio_config mmio = { .mem = mem, .irq = &irq, .loop = loop };
	struct blk_backing b;
	char delta[128];

	(void)state;
	(void)snprintf(delta, sizeof(delta), "%s/delta", dir);
	async((struct options){ .flush = true });
	destroy();
	assert_int_equal(blk_backing_open_cow(path, delta, false, &b, NULL), 0);
	b.nowait = BLK_NOWAIT_NEVER;
	config.ring = ring_;
	assert_int_equal(blk_create(&config, &b, &blk, NULL), 0);
	assert_null(b.cow);
	mmio.dev = blk_virtio_device(blk);
	assert_int_equal(virtio_mmio_create(&mmio, &t, NULL), 0);
	start();
	request(VIRTIO_BLK_T_IN, 8, 4096, VIRTIO_BLK_S_OK, 4097); /* the base */
	expect_bytes(DATA_AT + 512, 9, 512);
	assert_int_equal(kernel.n_done, 1);
	fill(DATA_AT, 0xc1, 512);
	request(VIRTIO_BLK_T_OUT, 9, 512, VIRTIO_BLK_S_OK, 1); /* a new block */
	assert_int_equal(kernel.n_done, 1);
	request(VIRTIO_BLK_T_IN, 8, 4096, VIRTIO_BLK_S_OK, 4097); /* the delta */
	expect_bytes(DATA_AT, 8, 512);
	expect_bytes(DATA_AT + 512, 0xc1, 512);
	expect_bytes(DATA_AT + 1024, 10, 512);
	assert_int_equal(kernel.n_done, 2);
	fill(DATA_AT, 0xc2, 512);
	request(VIRTIO_BLK_T_OUT, 10, 512, VIRTIO_BLK_S_OK, 1); /* in place */
	assert_int_equal(kernel.n_done, 3);
	request(VIRTIO_BLK_T_IN, 0, 16 * 512, VIRTIO_BLK_S_OK, 16 * 512 + 1); /* both files */
	assert_int_equal(kernel.n_done, 3);
	expect_bytes(DATA_AT + 7 * 512, 7, 512);
	expect_bytes(DATA_AT + 10 * 512, 0xc2, 512);
	expect_bytes(DATA_AT + 15 * 512, 15, 512);
	request(VIRTIO_BLK_T_FLUSH, 0, 0, VIRTIO_BLK_S_OK, 1); /* with its map */
	fill(DATA_AT, 0xc3, 512);
	request(VIRTIO_BLK_T_OUT, 11, 512, VIRTIO_BLK_S_OK, 1);
	kernel.short_by = 100;
	request(VIRTIO_BLK_T_IN, 8, 4096, VIRTIO_BLK_S_OK, 4097);
	expect_bytes(DATA_AT + 3 * 512, 0xc3, 512);
	assert_int_equal(unlink(delta), 0);
}

/* The real one: data, an error, a reset with requests under way, destruction. */
static void real_io_uring(void **state)
{
	struct err e = { 0 };

	(void)state;
	if (blk_ring_probe(&e) < 0) {
		print_message("%s\n", e.msg);
		skip();
	}
	destroy();
	blk_ring_destroy(ring_);
	assert_int_equal(blk_ring_create(loop, 3, &ring_, NULL), 0);
	create((struct options){ .ring = ring_, .flush = true });
	assert_int_equal(blk_ring_enable(ring_, NULL), 0);
	start();
	for (int round = 0; round < 20; round++) {
		uint16_t head[8];

		for (int i = 0; i < 8; i++)
			head[i] = offer(i == 7 ? VIRTIO_BLK_T_FLUSH : VIRTIO_BLK_T_IN, (uint64_t)i, DATA_AT + 4096 * (uint64_t)i,
					i == 7 ? 0 : 4096);
		fill(DATA_AT, 0xee, 8 * 4096);
		kick();
		if (round % 2) {
			assert_true(evloop_turn(loop, 0) >= 0);
			guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0);
			fill(DATA_AT, 0x77, 8 * 4096);
			(void)run_loop();
			expect_bytes(DATA_AT, 0x77, 8 * 4096);
			start();
			continue;
		}
		for (int i = 0; i < 1000 && guest_ring_used_idx(&ring) < 8; i++)
			assert_true(evloop_turn(loop, 10) >= 0);
		for (int i = 0; i < 8; i++) {
			uint32_t id, len;

			assert_true(guest_ring_take_used(&ring, &id, &len));
			assert_int_equal(status_of((uint16_t)id), VIRTIO_BLK_S_OK);
		}
		for (int i = 0; i < 7; i++)
			expect_bytes(DATA_AT + 4096 * (uint64_t)i, i, 512);
		assert_int_equal(status_of(head[7]), VIRTIO_BLK_S_OK);
		start();
	}
	assert_int_equal(truncate(path, 512), 0);
	(void)offer(VIRTIO_BLK_T_IN, 0, DATA_AT, 1024);
	kick();
	for (int i = 0; i < 1000 && guest_ring_used_idx(&ring) < 1; i++)
		assert_true(evloop_turn(loop, 10) >= 0);
	expect_used(0, 513);
	assert_int_equal(status_of(0), VIRTIO_BLK_S_IOERR);
	kernel.n = kernel.n_results = 0;
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, async_setup, async_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(requests), T(short_results), T(failures_at_every_index), T(interrupted), T(submit_fails), T(out_of_order),
		T(slots_run_out), T(slots_get_free_at_the_end), T(slot_is_no_longer_wanted), T(patch_while_a_reset_waits),
		T(turns_are_bounded),
		T(long_request),
		T(reset_in_flight), T(broken_in_flight), T(swap_in_flight), T(two_drives),
		T(memory_is_not_for_the_ring), T(copy_on_write), T(real_io_uring),
	};

	log_set_level(LOG_OFF);
	return cmocka_run_group_tests_name("blk_async", tests, NULL, NULL);
}
