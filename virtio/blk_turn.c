/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk's requests: turns of the I/O thread, the fast path of the vCPU thread, the rate limiter.
 * Section numbers are virtio 1.2; invariants B1 to B3 stand in blk_impl.h.
 */
#include "virtio/blk_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include "virtio/chain.h"
#include "virtio/cow.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/sys.h"

/* What is left of a turn. */
struct turn {
	uint32_t requests;
	uint64_t bytes;
	uint64_t start_ns; /* 0: not looked yet */
	bool timed;        /* false: nothing here can be slow, bytes and requests are limit enough */
};

enum taken {
	TAKEN_NONE,   /* the ring is empty */
	TAKEN_REQ,    /* has_req */
	TAKEN_BAD,    /* completed at once */
	TAKEN_BROKEN,
};

/* --- Completion --- */

static void complete(struct blk *blk, const struct blk_req *req, uint32_t written)
{
	if (req == &blk->req)
		blk->has_req = false;
	virtqueue_push(blk->vdev.vq[BLK_QUEUE], req->head, written);
}

void blk_complete_status(struct blk *blk, const struct blk_req *req, uint8_t status, uint64_t data)
{
	int rc = gmem_write(blk->vdev.mem, req->status, &status, sizeof(status));

	must(rc == 0); /* Q3 */
	complete(blk, req, (uint32_t)(data + sizeof(status)));
}

/* The operator's disk, not the guest, is at fault; but a guest decides how often, so the log is limited. */
static void host_failed(struct blk *blk, const char *what, int errnum)
{
	char text[96];

	blk_stat_add(&blk->stats.execute_fails, 1);
	log_guest(LOG_ERROR, "%s: %s failed: %s", blk->vdev.name, what,
		  errnum ? err_os_text(errnum, text, sizeof(text)) : "the file ends before the disk does");
}

void blk_complete_transfer(struct blk *blk, const struct blk_req *req, const struct blk_xfer *x, bool ok)
{
	struct blk_stats *st = &blk->stats;

	if (!ok)
		host_failed(blk, x->is_write ? "write" : "read", x->error);
	if (x->is_write) {
		blk_stat_add(&st->write_bytes, x->done);
		blk_stat_add(&st->write_count, ok);
	} else {
		blk_stat_add(&st->read_bytes, x->done);
		blk_stat_add(&st->read_count, ok);
	}
	blk_complete_status(blk, req, ok ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR, x->is_write ? 0 : x->done);
}

void blk_complete_flush(struct blk *blk, const struct blk_req *req, int rc)
{
	if (rc == 0)
		blk_stat_add(&blk->stats.flush_count, 1);
	else
		host_failed(blk, "flush", -rc);
	blk_complete_status(blk, req, rc == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR, 0);
}

/* --- Requests --- */

/* Pop and parse one request. */
static enum taken take_request(struct blk *blk)
{
	const struct blk_limits limits = blk_limits_of(blk);
	enum verdict v = virtqueue_pop(blk->vdev.vq[BLK_QUEUE], &blk->chain);

	if (v == VERDICT_QUEUE_BROKEN)
		return TAKEN_BROKEN;
	if (v == VERDICT_OK && blk->chain.n == 0)
		return TAKEN_NONE;
	if (v == VERDICT_OK)
		v = blk_req_parse(&blk->chain, &limits, &blk->req, &blk->ranges);
	if (v != VERDICT_OK) {
		/* CONTRACT.md section 9: used length 0 and no status byte. */
		blk_stat_add(&blk->stats.execute_fails, 1);
		log_guest(LOG_WARN, "%s: malformed request", blk->vdev.name);
		blk->req.head = blk->chain.head;
		complete(blk, &blk->req, 0);
		return TAKEN_BAD;
	}
	blk->has_req = true;
	blk->charged = false;
	blk->begun = false;
	return TAKEN_REQ;
}

/* READ and WRITE: describe the data to the executor. */
static void begin_transfer(struct blk *blk)
{
	const struct blk_req *req = &blk->req;
	struct blk_xfer *x = &blk->xfer;
	struct chain_cursor data;

	x->is_write = req->op == BLK_OP_WRITE;
	x->offset = req->offset;
	x->left = req->data_len;
	x->done = 0;
	x->first = 0;
	if (x->is_write) {
		bool header;

		chain_reader_init(&data, &blk->chain);
		header = chain_skip(&data, sizeof(struct virtio_blk_req_wire));
		must(header);
	} else {
		chain_writer_init(&data, &blk->chain);
	}
	x->n = chain_to_iov(&data, req->data_len, x->iov);
	blk->begun = true;
}

static void do_get_id(struct blk *blk)
{
	struct chain_cursor data;
	bool ok;

	chain_writer_init(&data, &blk->chain);
	ok = chain_write(&data, blk->backing.id, BLK_ID_BYTES);
	must(ok); /* blk_req.c saw room for it */
	blk_complete_status(blk, &blk->req, VIRTIO_BLK_S_OK, BLK_ID_BYTES);
}

/* Requests that touch neither disk nor budget. True when @blk's request was one and is completed. */
static bool do_immediate(struct blk *blk)
{
	switch (blk->req.op) {
	case BLK_OP_GET_ID:
		do_get_id(blk);
		return true;
	case BLK_OP_UNSUPPORTED:
		blk_stat_add(&blk->stats.invalid_reqs_count, 1);
		blk_complete_status(blk, &blk->req, VIRTIO_BLK_S_UNSUPP, 0);
		return true;
	case BLK_OP_REFUSED:
		blk_stat_add(&blk->stats.execute_fails, 1);
		blk_complete_status(blk, &blk->req, VIRTIO_BLK_S_IOERR, 0);
		return true;
	case BLK_OP_READ:
	case BLK_OP_WRITE:
	case BLK_OP_FLUSH:
	case BLK_OP_DISCARD:
	case BLK_OP_WRITE_ZEROES:
		break;
	}
	return false;
}

/* The next range of a DISCARD or WRITE_ZEROES. All of them were found right when the request was parsed. */
static void do_range(struct blk *blk)
{
	const struct blk_backing *b = &blk->backing;
	const struct blk_range *r;
	int rc = 0;

	if (!blk->begun)
		blk->next_range = 0;
	blk->begun = true;
	r = &blk->ranges.range[blk->next_range];
	if (blk->next_range++ < blk->ranges.n) {
		if (b->cow)
			rc = cow_zero(blk->io, b->cow, r->offset, r->len);
		else if (blk->req.op == BLK_OP_DISCARD)
			rc = blk_io_discard(blk->io, b->fd, b->block_device, r->offset, r->len);
		else
			rc = blk_io_zero(blk->io, b->fd, b->block_device, r->may_unmap, r->offset, r->len);
	}
	if (rc < 0) {
		host_failed(blk, blk->req.op == BLK_OP_DISCARD ? "discard" : "write of zeroes", -rc);
		blk_complete_status(blk, &blk->req, rc == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR, 0);
	} else if (blk->next_range >= blk->ranges.n) {
		blk_complete_status(blk, &blk->req, VIRTIO_BLK_S_OK, 0);
	}
}

/* As blk_io_run() and blk_io_flush(), whatever the disk consists of. */
static enum blk_io_result run_transfer(struct blk *blk, uint64_t max_bytes, int flags)
{
	if (blk->backing.cow)
		return cow_run(blk->io, blk->backing.cow, &blk->xfer, max_bytes, flags);
	return blk_io_run(blk->io, blk->backing.fd, &blk->xfer, max_bytes, flags);
}

static int flush(struct blk *blk)
{
	if (blk->backing.cow)
		return cow_flush(blk->io, blk->backing.cow);
	return blk_io_flush(blk->io, blk->backing.fd);
}

/*
 * Do the present request, or as much of it as the turn allows; completed or not is seen in has_req. False: it waits for
 * a slot.
 */
static bool do_request(struct blk *blk, struct turn *turn)
{
	bool transfer = blk->req.op == BLK_OP_READ || blk->req.op == BLK_OP_WRITE;
	enum blk_async_taken taken = BLK_ASYNC_NO;
	struct blk_xfer *x = &blk->xfer;
	enum blk_io_result r;
	uint64_t before;

	if (!transfer && do_immediate(blk))
		return true;
	if (transfer && !blk->begun)
		begin_transfer(blk);
	before = x->left;
	if (blk->async)
		taken = blk_async_take(blk);
	if (taken == BLK_ASYNC_FULL)
		return false;
	if (taken == BLK_ASYNC_TAKEN) {
		if (transfer)
			turn->bytes -= before < turn->bytes ? before : turn->bytes;
		return true;
	}
	if (transfer) {
		r = run_transfer(blk, turn->bytes, 0);
		turn->bytes -= before - x->left;
		if (r != BLK_IO_MORE)
			blk_complete_transfer(blk, &blk->req, x, r == BLK_IO_DONE);
		return true;
	}
	if (blk->req.op == BLK_OP_FLUSH)
		blk_complete_flush(blk, &blk->req, flush(blk));
	else
		do_range(blk);
	turn->bytes = 0;
	return true;
}

/* --- Rate limiter (CONTRACT.md section 8) --- */

static void arm_timer(struct blk *blk)
{
	uint64_t deadline = ratelimit_deadline(&blk->limit);

	if (deadline != 0 && blk->loop) {
		int rc = evloop_arm(blk->loop, &blk->timer, deadline);

		must(rc == 0);
	}
}

/* Bytes that the present request costs: what it moves, and zeros that have to be written. */
static uint64_t cost_of(const struct blk *blk)
{
	uint64_t bytes = 0;

	if (blk->req.op == BLK_OP_READ || blk->req.op == BLK_OP_WRITE)
		return blk->req.data_len;
	if (blk->req.op != BLK_OP_WRITE_ZEROES)
		return 0;
	for (uint32_t i = 0; i < blk->ranges.n; i++) {
		if (!blk->ranges.range[i].may_unmap)
			bytes += blk->ranges.range[i].len;
	}
	return bytes;
}

/* May the present request go on? I/O thread. */
static bool charge(struct blk *blk)
{
	uint64_t cost;

	if (blk->charged || !ratelimit_concerned(&blk->limit))
		return true;
	cost = cost_of(blk);
	blk->charged = ratelimit_take(&blk->limit, 1, cost, evloop_now_ns());
	if (!blk->charged)
		blk_stat_add(&blk->stats.rate_limiter_throttled_events, 1);
	else if (ratelimit_deadline(&blk->limit) != 0)
		log_guest(LOG_ERROR, "%s: a request of %" PRIu64 " bytes is larger than the rate limiter's bucket; "
			  "the next waits for it", blk->vdev.name, cost);
	arm_timer(blk);
	return blk->charged;
}

/* --- Turns --- */

static uint64_t coarse_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* Is there something left of the turn? The first request asks no clock. */
static bool turn_goes_on(struct turn *turn)
{
	if (turn->bytes == 0 || turn->requests == 0)
		return false;
	turn->requests--;
	if (turn->requests == BLK_TURN_REQUESTS - 1 || !turn->timed)
		return true;
	if (turn->start_ns == 0) {
		turn->start_ns = coarse_now_ns();
		return true;
	}
	return coarse_now_ns() - turn->start_ns < BLK_TURN_NS;
}

/*
 * One turn of the I/O thread. Every look at the ring costs a request of the budget, also an empty one:
 * a guest that moves avail.idx to and fro would otherwise keep us here.
 */
void blk_process(struct blk *blk)
{
	struct virtqueue *vq = blk->vdev.vq[BLK_QUEUE];
	struct turn turn = {
		.requests = BLK_TURN_REQUESTS,
		.bytes = BLK_TURN_BYTES,
		.timed = blk->backing.nowait != BLK_NOWAIT_MEMORY,
	};

	virtqueue_notify_off(vq);
	for (;;) {
		enum taken taken = TAKEN_REQ;

		if (!turn_goes_on(&turn)) {
			if (blk->has_req || virtqueue_notify_on(vq))
				virtio_device_rekick(&blk->vdev, BLK_QUEUE);
			break;
		}
		if (!blk->has_req)
			taken = take_request(blk);
		if (taken == TAKEN_BROKEN) {
			virtio_device_signal_used(&blk->vdev, BLK_QUEUE);
			virtio_device_break(&blk->vdev, "inconsistent virtqueue");
			return;
		}
		if (taken == TAKEN_NONE) {
			if (turn.requests == BLK_TURN_REQUESTS - 1)
				blk_stat_add(&blk->stats.no_avail_buffer, 1);
			if (!virtqueue_notify_on(vq))
				break;
			virtqueue_notify_off(vq);
		}
		if (taken == TAKEN_REQ) {
			if (!charge(blk) || !do_request(blk, &turn))
				break;
		}
	}
	if (blk->async)
		blk_async_work(blk);
	virtio_device_signal_used(&blk->vdev, BLK_QUEUE);
}

void blk_notify(struct virtio_device *dev, uint16_t q)
{
	struct blk *blk = blk_of(dev);

	(void)q;
	blk_stat_add(&blk->stats.queue_event_count, 1);
	blk_process(blk);
}

/*
 * A read that needs no waiting, in the vCPU thread. True when it is completed; else it goes on where it
 * stopped.
 */
static bool try_read(struct blk *blk)
{
	int flags = blk->backing.nowait == BLK_NOWAIT_FLAG ? RWF_NOWAIT : 0;

	if (blk->req.op != BLK_OP_READ || blk->req.data_len > BLK_VCPU_READ_MAX)
		return false;
	begin_transfer(blk);
	if (run_transfer(blk, BLK_VCPU_READ_MAX, flags) != BLK_IO_DONE)
		return false;
	blk_stat_add(&blk->stats.vcpu_read_count, 1);
	blk_complete_transfer(blk, &blk->req, &blk->xfer, true);
	return true;
}

/*
 * A single read that the page cache holds saves two thread switches when it is served in the vCPU
 * thread (ANCHORS.md). Whatever else comes is left to the I/O thread, as the present request if it was
 * popped already: writes, flushes, long or cold reads, several requests at once (the guest should go on
 * running meanwhile), a limited disk (timers are the I/O thread's).
 */
bool blk_try_notify(struct virtio_device *dev, uint16_t q)
{
	struct blk *blk = blk_of(dev);
	struct virtqueue *vq = dev->vq[q];
	bool more;
	uint16_t n;

	if (blk->has_req || ratelimit_concerned(&blk->limit) || blk->backing.nowait == BLK_NOWAIT_NEVER)
		return false;
	if (virtqueue_available(vq, &n) != VERDICT_OK || n > 1)
		return false;
	if (n == 0)
		return !virtqueue_notify_on(vq);
	switch (take_request(blk)) {
	case TAKEN_NONE:
	case TAKEN_BAD:
		break;
	case TAKEN_BROKEN:
		return false;
	case TAKEN_REQ:
		if (!do_immediate(blk) && !try_read(blk))
			return false;
		break;
	}
	more = virtqueue_notify_on(vq);
	virtio_device_signal_used(dev, q);
	return !more;
}

void blk_timer_fired(void *ctx)
{
	struct blk *blk = ctx;

	virtio_device_lock(&blk->vdev);
	blk_stat_add(&blk->stats.rate_limiter_event_count, 1);
	ratelimit_expire(&blk->limit);
	if (blk->vdev.active)
		blk_process(blk);
	virtio_device_unlock(&blk->vdev);
}
