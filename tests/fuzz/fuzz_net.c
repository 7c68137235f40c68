/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole interface with a host made of memory: both queues, kicks, edges, timers, resets, a host that
 * is empty, full, failing or gone.
 *
 * Asserted: iovecs lie in guest RAM or in the interface; each head is used at most once for each time it
 * was offered, with at most as many bytes as it can take; what receive buffers report adds up to the
 * frames that came through; sent headers keep the rules; nothing is fetched twice; turns end; N1 and N3
 * hold; after a reset no state remains; a driver that starts over is served.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/lib/fuzz_input.h"
#include "tests/lib/guest_ring.h"
#include "virtio/net_hdr.h"
#include "virtio/net_impl.h"
#include "vmm/base/log.h"

#define MEM_SIZE (2 * MIB)
#define RING_AT(q) (UINT64_C(0x10000) * ((q) + 1u))
#define DATA_AT UINT64_C(0x80000)
#define QSIZE 32
#define MAX_STEPS 300
#define MAX_TURNS 20000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct gmem *mem;
static struct net *net;
static struct virtio_mmio *t;

/* One run. */
static struct run {
	struct fuzz_input in;
	struct guest_ring ring[2];
	bool aliased; /* descriptors may overlap: the detector of double fetches means nothing */
	bool lawless; /* the rings were written over */
	unsigned offered[2][QSIZE];  /* times that head was offered and not yet used */
	uint64_t writable[2][QSIZE]; /* most bytes that a chain of this head can take */
	uint64_t rx_used;            /* bytes that were reported in used receive buffers */
	bool dead;
} run;

/* --- Host --- */

static void check_place(const struct iovec *iov)
{
	const uint8_t *p = iov->iov_base, *ram = mem->region[0].hva, *own = (const uint8_t *)net;

	must(iov->iov_len > 0);
	must((p >= ram && p + iov->iov_len <= ram + MEM_SIZE) || (p >= own && p + iov->iov_len <= own + sizeof(*net)));
}

static ssize_t host_recv(struct net_backend *be, const struct iovec *iov, int n)
{
	uint32_t len = NET_TX_HEAD + fuzz_u16(&run.in), done = 0;
	uint64_t room = 0;

	(void)be;
	must(!run.dead && n > 0 && n <= NET_RX_IOV);
	for (int i = 0; i < n; i++) {
		check_place(&iov[i]);
		room += iov[i].iov_len;
	}
	must(room >= NET_FRAME_MAX);
	/* With nothing left of the input the host is silent. */
	if (fuzz_empty(&run.in))
		return -EAGAIN;
	switch (fuzz_below(&run.in, 64)) {
	case 1:
	case 2:
		return -EAGAIN;
	case 3:
		return -EMSGSIZE;
	case 4:
		return -EIO;
	case 5:
		run.dead = true;
		return -EPIPE;
	default:
		break;
	}
	if (len > NET_FRAME_MAX)
		len = NET_FRAME_MAX;
	for (int i = 0; i < n && done < len; i++) {
		uint32_t part = iov[i].iov_len < len - done ? (uint32_t)iov[i].iov_len : len - done;

		memset(iov[i].iov_base, 0x11, part);
		done += part;
	}
	return len;
}

static int host_send(struct net_backend *be, const struct iovec *iov, int n)
{
	struct virtio_net_hdr_wire hdr, again;
	uint64_t len = 0;

	(void)be;
	must(!run.dead && n > 0 && n <= VQ_CHAIN_MAX + 1);
	for (int i = 0; i < n; i++) {
		check_place(&iov[i]);
		len += iov[i].iov_len;
	}
	must(len >= NET_TX_HEAD && len <= NET_FRAME_MAX && iov[0].iov_len >= sizeof(hdr));
	memcpy(&hdr, iov[0].iov_base, sizeof(hdr));
	must(net_hdr_check(&hdr, (uint32_t)len - NET_HDR_LEN, net->vdev.acked, &again) == VERDICT_OK);
	must(memcmp(&hdr, &again, sizeof(hdr)) == 0);
	switch (fuzz_below(&run.in, 64)) {
	case 1:
	case 2:
		return -EAGAIN;
	case 3:
		return -EINVAL;
	case 4:
		run.dead = true;
		return -EPIPE;
	default:
		return 0;
	}
}

static int host_flush(struct net_backend *be)
{
	(void)be;
	must(!run.dead);
	return fuzz_rarely(&run.in) ? -EAGAIN : 0;
}

static void host_close(struct net_backend *be)
{
	(void)be;
}

/* --- Guest --- */

static void put_desc(uint16_t q, uint64_t table, uint16_t i, uint64_t addr, uint32_t len, bool last, uint64_t *writable)
{
	uint16_t flags = (uint16_t)((last ? 0 : VIRTQ_DESC_F_NEXT) | (q == NET_QUEUE_RX ? VIRTQ_DESC_F_WRITE : 0));

	if (fuzz_rarely(&run.in)) {
		addr = fuzz_u64(&run.in);
		run.aliased = true;
		run.lawless = true; /* data may land in the rings */
	}
	if (fuzz_rarely(&run.in)) {
		flags = fuzz_u16(&run.in);
		run.aliased = true;
		run.lawless = true;
	}
	if (fuzz_rarely(&run.in)) {
		len = fuzz_u32(&run.in);
		run.aliased = true;
		run.lawless = true;
	}
	guest_ring_desc_at(&run.ring[q], table, i, addr, len, flags, (uint16_t)(i + 1));
	if (flags & VIRTQ_DESC_F_WRITE)
		*writable += len;
}

/* A frame or a receive buffer in up to four pieces. */
static void offer(uint16_t q)
{
	struct guest_ring *r = &run.ring[q];
	uint16_t slot = (uint16_t)fuzz_below(&run.in, QSIZE / 4), head = (uint16_t)(4 * slot);
	uint16_t n = (uint16_t)(1 + fuzz_below(&run.in, 4));
	uint64_t at = DATA_AT + UINT64_C(0x80000) * q + UINT64_C(0x10000) * slot, writable = 0;
	uint8_t hdr[NET_HDR_LEN] = { 0 };

	if (run.offered[q][head] > 0 && !fuzz_rarely(&run.in))
		return;
	if (q == NET_QUEUE_TX) {
		if (fuzz_rarely(&run.in)) {
			for (size_t i = 0; i < sizeof(hdr); i++)
				hdr[i] = fuzz_u8(&run.in);
		}
		must(gmem_write(mem, GPA(at), hdr, sizeof(hdr)) == 0);
	}
	for (uint16_t i = 0; i < n; i++) {
		uint32_t len = 1 + fuzz_u16(&run.in) % 0x3fff;

		put_desc(q, r->geo.desc, (uint16_t)(head + i), at, len, i == n - 1, &writable);
		at += len;
	}
	/* A chain that is offered again while the old one is out: either may be meant. */
	if (run.offered[q][head] == 0 || writable > run.writable[q][head])
		run.writable[q][head] = writable;
	run.offered[q][head]++;
	guest_ring_offer(r, head);
}

static void mess_with_the_rings(void)
{
	struct guest_ring *r = &run.ring[fuzz_below(&run.in, 2)];

	run.lawless = true;
	run.aliased = true;
	switch (fuzz_below(&run.in, 3)) {
	case 0:
		guest_ring_set_idx(r, fuzz_u16(&run.in));
		return;
	case 1:
		guest_ring_offer(r, fuzz_u16(&run.in));
		return;
	default:
		guest_ring_desc(r, (uint16_t)(fuzz_u8(&run.in) % QSIZE), fuzz_u64(&run.in), fuzz_u32(&run.in),
				fuzz_u16(&run.in), fuzz_u16(&run.in));
		return;
	}
}

static void look_at_used(void)
{
	uint32_t id, len;

	for (uint16_t q = 0; q < 2; q++) {
		for (unsigned n = 0; guest_ring_take_used(&run.ring[q], &id, &len); n++) {
			must(n <= UINT16_MAX);
			if (run.lawless)
				continue;
			must(id < QSIZE && run.offered[q][id] > 0 && len <= run.writable[q][id]);
			run.offered[q][id]--;
			run.rx_used += len;
		}
	}
	if (!run.lawless)
		must(run.rx_used == atomic_load(&net->stats.rx_bytes_count));
	if (!run.aliased)
		must(guest_fetched_twice() == 0);
	(void)guest_fetched_twice();
}

static void check_invariants(void)
{
	uint32_t n_iov = 0;

	for (uint16_t i = 0; i < net->rx.n_bufs; i++)
		n_iov += net->rx.bufs[i].n_iov;
	must(n_iov == net->rx.n_iov && n_iov < NET_RX_IOV);
	must(virtqueue_in_flight(net->vdev.vq[NET_QUEUE_RX]) == net->rx.n_bufs);
	must(virtqueue_in_flight(net->vdev.vq[NET_QUEUE_TX]) == (net->tx.has_frame ? 1 : 0));
	must(net->vdev.active == (net->rx.wait != WAIT_START) && net->vdev.active == (net->tx.wait != WAIT_START));
}

/* What the I/O thread does with its kicks until none is left. */
static void run_io_thread(void)
{
	uint64_t n;

	for (int turns = 0, more = 1; more; turns++) {
		must(turns < MAX_TURNS);
		more = 0;
		for (uint16_t q = 0; q < 2; q++) {
			if (read(virtio_mmio_kick_fd(t, q), &n, sizeof(n)) == sizeof(n)) {
				more = 1;
				virtio_mmio_handle_kick(t, q);
			}
		}
	}
}

static void check_no_state(void)
{
	check_invariants();
	must(!net->vdev.active && net->rx.n_bufs == 0 && net->rx.frame_len == 0 && !net->tx.has_frame);
	for (uint16_t q = 0; q < 2; q++)
		must(!virtqueue_started(net->vdev.vq[q]) && virtqueue_in_flight(net->vdev.vq[q]) == 0);
}

static void restart(uint64_t features)
{
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0);
	check_no_state();
	for (uint16_t q = 0; q < 2; q++)
		guest_ring_init(&run.ring[q], mem, QSIZE, RING_AT(q));
	memset(run.offered, 0, sizeof(run.offered));
	memset(run.writable, 0, sizeof(run.writable));
	run.rx_used = atomic_load(&net->stats.rx_bytes_count);
	run.lawless = false;
	run.aliased = false;
	must(guest_mmio_negotiate(t, features) == 0xb);
	for (uint16_t q = 0; q < 2; q++)
		guest_mmio_set_queue(t, q, &run.ring[q].geo);
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0xf);
	must(net->vdev.active);
}

static void timers(void)
{
	net->rx.timer.fn(net);
	net->tx.timer.fn(net);
}

static void create(void)
{
	static struct net_backend_ops ops;
	static struct net_backend be;
	static const uint8_t mac[NET_MAC_BYTES] = { 2, 0, 0, 0, 0, 1 };
	struct net_config config = { .iface_id = "fuzz", .mtu = 1500 };
	struct virtio_mmio_config mmio = { .mem = mem };
	uint8_t choice = fuzz_u8(&run.in);

	ops = (struct net_backend_ops){ .name = "fake", .recv = host_recv, .send = host_send, .close = host_close };
	if (!(choice & 1))
		ops.features = VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_HOST_TSO4 |
			       VIRTIO_NET_F_HOST_TSO6 | VIRTIO_NET_F_HOST_UFO;
	if (choice & 2)
		ops.flush = host_flush;
	if (choice & 4)
		config.mac = mac;
	if (choice & 8)
		config.rx.ops = config.tx.bandwidth = (struct ratelimit_bucket_config){ .size = 5, .refill_ms = 1 };
	be = (struct net_backend){ .ops = &ops, .fd = -1 };
	if (net_create(&config, &be, &net, NULL) < 0)
		abort();
	mmio.dev = net_virtio_device(net);
	if (virtio_mmio_create(&mmio, &t, NULL) < 0)
		abort();
}

static void step(void)
{
	switch (fuzz_below(&run.in, 12)) {
	case 0:
	case 1:
		offer(NET_QUEUE_RX);
		break;
	case 2:
	case 3:
		offer(NET_QUEUE_TX);
		break;
	case 4:
	case 5:
		guest_mmio_write(t, VIRTIO_MMIO_QUEUE_NOTIFY, fuzz_below(&run.in, 2));
		break;
	case 6:
		net_host_ready(net, EPOLLIN);
		break;
	case 7:
		net_host_ready(net, fuzz_below(&run.in, 2) ? EPOLLIN | EPOLLOUT : EPOLLOUT);
		break;
	case 8:
		if (fuzz_rarely(&run.in))
			mess_with_the_rings();
		break;
	case 9:
		timers();
		break;
	case 10:
		if (fuzz_rarely(&run.in) || !net->vdev.active)
			restart(fuzz_below(&run.in, 2) ? VIRTIO_F_VERSION_1 : net->vdev.features);
		break;
	default:
		run_io_thread();
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	log_set_level(LOG_OFF);
	if (!mem && gmem_create(&mem, MEM_SIZE, GMEM_PAGES_DEFAULT, NULL) < 0)
		abort();
	memset(&run, 0, sizeof(run));
	run.in = (struct fuzz_input){ data, size };
	create();
	restart(net->vdev.features);
	for (int i = 0; i < MAX_STEPS && !fuzz_empty(&run.in); i++) {
		step();
		check_invariants();
		look_at_used();
	}
	/* Liveness: whatever happened, a driver that starts over is served. */
	run.in.left = 0;
	restart(net->vdev.features);
	run.lawless = true;
	guest_ring_desc(&run.ring[NET_QUEUE_TX], 0, DATA_AT, 100, 0, 0);
	guest_ring_offer(&run.ring[NET_QUEUE_TX], 0);
	guest_mmio_write(t, VIRTIO_MMIO_QUEUE_NOTIFY, NET_QUEUE_TX);
	run_io_thread();
	for (int i = 0; i < 100 && guest_ring_used_idx(&run.ring[NET_QUEUE_TX]) == 0; i++) {
		(void)usleep(1000);
		timers();
		run_io_thread();
	}
	must(guest_ring_used_idx(&run.ring[NET_QUEUE_TX]) == 1);
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0);
	check_no_state();
	virtio_mmio_destroy(t);
	net_destroy(net);
	return 0;
}
