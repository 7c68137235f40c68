/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole vsock device between a guest that may do anything and a host made of choices: programs come, write,
 * stop reading and go; every system call may fail or come short.
 *
 * Asserted: what the guest gets are packets for it; no more bytes wait for a host than the guest was allowed to
 * send; the table holds exactly what is connected; descriptors are closed exactly once; nothing is fetched twice;
 * turns end; after a reset no state remains, and a driver that starts over is served.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/lib/fuzz_input.h"
#include "tests/lib/guest_vsock.h"
#include "virtio/vsock_impl.h"
#include "vmm/base/log.h"

#define QSIZE 32
#define FIRST_FD 100000
#define MAX_FDS 64
#define MAX_STEPS 400
#define MAX_TURNS 20000
#define FEATURES (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_IN_ORDER)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct gmem *mem;
static struct vsock *vs;
static struct virtio_mmio *t;
static struct guest_vsock g;
static uint8_t got[GUEST_VSOCK_BUF];

static struct run {
	struct fuzz_input in;
	bool open[MAX_FDS];
	unsigned n_fds;
	bool broken; /* the guest wrote into its rings what no driver would */
} run;

/* --- Host --- */

static bool host_fails(void)
{
	static const int errors[] = { EAGAIN, EINTR, EPIPE, ECONNRESET, EIO, ENOMEM, EMFILE };

	errno = EAGAIN;
	if (!fuzz_rarely(&run.in))
		return false;
	errno = errors[fuzz_below(&run.in, ARRAY_SIZE(errors))];
	return true;
}

static int new_fd(void)
{
	if (host_fails() || run.n_fds == MAX_FDS)
		return -1;
	run.open[run.n_fds] = true;
	return FIRST_FD + (int)run.n_fds++;
}

static void check_fd(int fd)
{
	must(fd >= FIRST_FD && fd < FIRST_FD + (int)run.n_fds && run.open[fd - FIRST_FD]);
}

static int fake_accept(int fd)
{
	(void)fd;
	errno = EAGAIN;
	return fuzz_u8(&run.in) % 4 == 3 ? new_fd() : -1;
}

static int fake_connect(const char *path)
{
	must(path[0] == 'u');
	return new_fd();
}

static ssize_t fake_recv(int fd, void *buf, size_t len, int flags)
{
	static const char line[] = "CONNECT 52\nstream";
	size_t n = fuzz_below(&run.in, sizeof(line));

	check_fd(fd);
	(void)flags;
	must(len > 0 && len <= VSOCK_LINE_MAX);
	if (host_fails())
		return -1;
	n = n == 0 || n > len ? (len < sizeof(line) - 1 ? len : sizeof(line) - 1) : n;
	for (size_t i = 0; i < n; i++)
		((char *)buf)[i] = fuzz_rarely(&run.in) ? (char)fuzz_u8(&run.in) : line[i];
	return (ssize_t)n;
}

static size_t total(const struct iovec *iov, int n, bool guest)
{
	size_t sum = 0;

	must(n > 0 && n <= VSOCK_IOV_MAX);
	for (int i = 0; i < n; i++) {
		const uint8_t *p = iov[i].iov_base, *ram = mem->region[0].hva;

		must(iov[i].iov_len > 0);
		must(!guest || (p >= ram && p + iov[i].iov_len <= ram + GUEST_VSOCK_MEM));
		sum += iov[i].iov_len;
	}
	return sum;
}

static ssize_t fake_readv(int fd, const struct iovec *iov, int n)
{
	size_t sum = total(iov, n, true), take = fuzz_u16(&run.in);

	check_fd(fd);
	if (host_fails() || take % 8 == 7)
		return -1;
	if (take % 64 == 62)
		return 0;
	take = take < sum ? take : sum;
	for (size_t left = take; left > 0; iov++) {
		size_t k = left < iov->iov_len ? left : iov->iov_len;

		memset(iov->iov_base, 'h', k);
		left -= k;
	}
	return (ssize_t)take;
}

static ssize_t fake_writev(int fd, const struct iovec *iov, int n)
{
	size_t sum = total(iov, n, false), take = fuzz_u8(&run.in);

	check_fd(fd);
	if (host_fails() || take % 16 == 15)
		return -1;
	take = take % 4 == 3 ? 1 + take : sum;
	return (ssize_t)(take < sum ? take : sum);
}

static void fake_shutdown(int fd, int how)
{
	(void)how;
	check_fd(fd);
}

static void fake_close(int fd)
{
	check_fd(fd);
	run.open[fd - FIRST_FD] = false;
}

static const struct vsock_io_ops fake = {
	fake_accept, fake_connect, fake_recv, fake_readv, fake_writev, fake_shutdown, fake_close,
};

/* --- Steps --- */

static void check(void)
{
	for (uint16_t i = 0; i < vs->n_touched; i++) {
		const struct vsock_stream *s = &vs->stream[i];

		if (s->conn.state == VSOCK_FREE)
			continue;
		must(vsock_conn_backlog(&s->conn) <= s->conn.buf_alloc);
		must(s->in_table == vsock_conn_is_keyed(&s->conn));
		must(!s->in_table || vsock_table_find(vs, s->conn.guest_port, s->conn.host_port) == s);
		must(s->conn.say == 0 || s->in_ready || !vs->vdev.active);
	}
	if (!run.broken)
		must(guest_fetched_twice() == 0);
	(void)guest_fetched_twice();
}

/* What the I/O thread does until nothing is left. */
static void run_io_thread(void)
{
	uint64_t n;
	bool more = true;

	for (int turns = 0; more; turns++) {
		must(turns < MAX_TURNS);
		more = false;
		for (uint16_t q = 0; q < 3; q++) {
			if (read(virtio_mmio_kick_fd(t, q), &n, sizeof(n)) == sizeof(n)) {
				virtio_mmio_handle_kick(t, q);
				more = true;
			}
		}
		if (read(vs->wake_fd, &n, sizeof(n)) == sizeof(n)) {
			vsock_wake_ready(vs, EPOLLIN);
			more = true;
		}
	}
}

static void check_no_state(void)
{
	run_io_thread();
	vsock_wake_ready(vs, EPOLLIN);
	must(vs->n_used == 0 && vs->n_large == 0 && vs->n_rsts == 0 && !vs->ready.first && !vs->sync.first);
	for (unsigned i = 0; i < run.n_fds; i++)
		must(!run.open[i]);
	for (size_t i = 0; i < VSOCK_BUCKETS; i++)
		must(!vs->bucket[i]);
}

static void restart(void)
{
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0);
	check_no_state();
	run.n_fds = 0;
	run.broken = false;
	must(guest_vsock_start(&g, mem, t, QSIZE, FEATURES));
	(void)guest_fetched_twice();
}

static void receive(void)
{
	struct guest_vsock_pkt pkt;

	/* Rings that were written over say anything. */
	while (!run.broken && guest_vsock_receive(&g, &pkt, got))
		must(pkt.op >= 1 && pkt.op <= 7 && (pkt.len == 0 || pkt.op == VIRTIO_VSOCK_OP_RW));
}

static void guest_packet(void)
{
	static uint8_t bytes[VSOCK_PKT_DATA_MAX];
	struct vsock_stream *s = vs->n_touched > 0 ? &vs->stream[fuzz_u8(&run.in) % vs->n_touched] : NULL;
	struct guest_vsock_pkt pkt = guest_vsock_pkt((uint16_t)(1 + fuzz_below(&run.in, 7)), 1 + fuzz_below(&run.in, 3), 7);
	uint32_t len = pkt.op == VIRTIO_VSOCK_OP_RW ? fuzz_u16(&run.in) : 0;

	if (!run.broken && !guest_vsock_sent(&g))
		return;
	if (s && s->conn.state != VSOCK_FREE && fuzz_u8(&run.in) % 4 != 3) {
		pkt.src_port = s->conn.guest_port;
		pkt.dst_port = s->conn.host_port;
		pkt.fwd_cnt = s->conn.tx_cnt - fuzz_u8(&run.in);
	}
	pkt.flags = fuzz_u8(&run.in) & 3;
	pkt.len = fuzz_rarely(&run.in) ? fuzz_u32(&run.in) : len;
	if (fuzz_rarely(&run.in))
		pkt.buf_alloc = fuzz_u32(&run.in);
	if (fuzz_rarely(&run.in))
		pkt.fwd_cnt = fuzz_u32(&run.in);
	if (fuzz_rarely(&run.in))
		pkt.type = fuzz_u8(&run.in);
	if (fuzz_rarely(&run.in))
		pkt.src_cid = fuzz_u8(&run.in);
	guest_vsock_send(&g, &pkt, bytes, len);
}

static void mess_with_a_ring(void)
{
	struct guest_ring *r = &g.ring[fuzz_below(&run.in, 3)];

	run.broken = true;
	switch (fuzz_below(&run.in, 3)) {
	case 0:
		guest_ring_set_idx(r, fuzz_u16(&run.in));
		return;
	case 1:
		guest_ring_offer(r, fuzz_u16(&run.in));
		return;
	default:
		guest_ring_desc(r, (uint16_t)(fuzz_u8(&run.in) % QSIZE), fuzz_u64(&run.in), fuzz_u32(&run.in), fuzz_u16(&run.in),
				fuzz_u16(&run.in));
		return;
	}
}

static void host_event(void)
{
	static const uint32_t events[] = { EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT, EPOLLIN | EPOLLHUP, EPOLLHUP | EPOLLERR };
	struct vsock_stream *s = vs->n_touched > 0 ? &vs->stream[fuzz_u8(&run.in) % vs->n_touched] : NULL;

	if (s && s->conn.state != VSOCK_FREE && s->fd >= 0)
		vsock_stream_ready(s, events[fuzz_below(&run.in, ARRAY_SIZE(events))]);
}

static void step(void)
{
	switch (fuzz_below(&run.in, 12)) {
	case 0:
	case 1:
	case 2:
		guest_packet();
		break;
	case 3:
		if (g.n_posted < QSIZE && g.ring[0].avail_idx < QSIZE)
			guest_vsock_post(&g, g.ring[0].avail_idx, true);
		break;
	case 4:
		vsock_listener_ready(vs, EPOLLIN);
		break;
	case 5:
	case 6:
		host_event();
		break;
	case 7:
		receive();
		break;
	case 8:
		if (fuzz_rarely(&run.in) && vs->n_touched > 0 && vs->stream[0].conn.state != VSOCK_FREE)
			vsock_stream_timer(&vs->stream[0]);
		break;
	case 9:
		if (fuzz_rarely(&run.in))
			mess_with_a_ring();
		break;
	case 10:
		if (fuzz_rarely(&run.in) || !vs->vdev.active)
			restart();
		break;
	default:
		run_io_thread();
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vsock_config config = { .guest_cid = GUEST_VSOCK_CID, .uds_path = "u", .listen_fd = -1, .io = &fake };
	struct virtio_mmio_config mmio = { .kick_in_vcpu = size > 0 && (data[0] & 1) };
	struct guest_vsock_pkt pkt;

	log_set_level(LOG_OFF);
	if (!mem && gmem_create(&mem, GUEST_VSOCK_MEM, GMEM_PAGES_DEFAULT, NULL) < 0)
		abort();
	memset(&run, 0, sizeof(run));
	run.in = (struct fuzz_input){ data, size };
	if (vsock_create(&config, &vs, NULL) < 0)
		abort();
	mmio.mem = mem;
	mmio.dev = vsock_virtio_device(vs);
	if (virtio_mmio_create(&mmio, &t, NULL) < 0)
		abort();
	restart();
	for (int i = 0; i < MAX_STEPS && !fuzz_empty(&run.in); i++) {
		step();
		run_io_thread();
		check();
	}
	/* Liveness: whatever happened, a driver that starts over is served. */
	run.in.left = 0;
	restart();
	guest_vsock_post(&g, 0, true);
	pkt = guest_vsock_pkt(VIRTIO_VSOCK_OP_REQUEST, 9, 9);
	guest_vsock_send(&g, &pkt, NULL, 0);
	run_io_thread();
	must(guest_vsock_sent(&g) && guest_vsock_receive(&g, &pkt, got) && pkt.op == VIRTIO_VSOCK_OP_RESPONSE);
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0);
	check_no_state();
	virtio_mmio_destroy(t);
	vsock_destroy(vs);
	return 0;
}
