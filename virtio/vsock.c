/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Glue of the vsock device: life, queues, turns, and the event loop of the streams. Invariants V1 to V4
 * stand in vsock_impl.h.
 */
#include "virtio/vsock.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include "virtio/virtio_spec.h"
#include "virtio/vsock_impl.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"

#define NS_PER_MS UINT64_C(1000000)
/* After accept(2) found no descriptors, and between tries to connect to a listener whose backlog is full. */
#define ACCEPT_PAUSE_MS 100
#define OPEN_PAUSE_MS 20
/* Before a guest that tells of no room is asked. */
#define STALL_MS 1000
/* How late a driver may hear that it got transmit chains back: at least, and twice that at most. */
#define LAZY_NS 2000000

#define BUF_TOTAL ((size_t)VSOCK_BUF_LARGE * VSOCK_MAX_CONNECTIONS)

_Static_assert(VSOCK_UDS_PATH_MAX + 1 <= sizeof(((struct sockaddr_un *)0)->sun_path), "unix(7)");

/* --- Streams and the event loop --- */

/* What epoll is to report of @s. */
static uint32_t wanted_events(const struct vsock_stream *s)
{
	uint32_t events = 0;

	if (s->conn.state == VSOCK_LINE)
		return EPOLLIN;
	if (s->conn.state != VSOCK_OPEN && s->conn.state != VSOCK_CLOSING && s->conn.state != VSOCK_DRAINING)
		return 0;
	if (s->hung_up)
		return 0;
	if (vsock_conn_backlog(&s->conn) > 0)
		events |= EPOLLOUT;
	/* And EPOLLHUP, which is always reported. */
	return events | EPOLLET | (vsock_conn_reads_host(&s->conn) ? EPOLLIN : 0u);
}

/* Is something wanted that the loop does not know of? What it knows too much goes when it is reported. */
static bool events_lag(const struct vsock_stream *s)
{
	uint32_t want = wanted_events(s), have = s->source.added ? s->source.events : 0;

	return (want & ~have) != 0 || ((have & ~want) & EPOLLET) != 0;
}

static bool wants_turn(const struct vsock_stream *s)
{
	return s->conn.say != 0 ||
	       (s->readable && vsock_conn_reads_host(&s->conn) && vsock_conn_may_send(&s->conn));
}

/* Host bytes wait for credit. Linux tells of room by itself; others may want to be asked. */
static bool stalled(const struct vsock_stream *s)
{
	return s->readable && vsock_conn_reads_host(&s->conn) && !vsock_conn_may_send(&s->conn);
}

static bool timer_lags(const struct vsock_stream *s)
{
	return s->timed != s->conn.state ||
	       (stalled(s) && (!s->stall_timer || (s->stall_asked && s->conn.tx_cnt != s->stall_tx_cnt)));
}

static bool wants_sync(const struct vsock_stream *s)
{
	if (s->conn.state == VSOCK_DEAD)
		return s->timed != VSOCK_DEAD || (s->conn.say == 0 && !s->in_ready);
	return timer_lags(s) || events_lag(s);
}

void vsock_settle(struct vsock_stream *s)
{
	if (s->in_table && !vsock_conn_is_keyed(&s->conn))
		vsock_table_remove(s);
	vsock_uds_shutdown(s);
	if (!s->in_ready && wants_turn(s))
		vsock_ready_push(s);
	if (!s->in_sync && wants_sync(s))
		vsock_sync_push(s);
}

static void arm(struct vsock *v, struct ev_timer *timer, uint32_t ms)
{
	int rc;

	if (!v->loop)
		return;
	rc = evloop_arm(v->loop, timer, evloop_now_ns() + ms * NS_PER_MS);
	must(rc == 0);
}

static void unwatch(struct vsock_stream *s)
{
	struct vsock *v = s->vsock;

	if (v->loop) {
		evloop_remove(v->loop, &s->source);
		evloop_disarm(v->loop, &s->timer);
	}
	s->source.added = false;
	if (s->fd >= 0)
		v->io->close(s->fd);
	s->fd = -1;
}

/* Have exactly what is wanted in the loop. */
static void watch(struct vsock_stream *s)
{
	struct vsock *v = s->vsock;
	uint32_t want = wanted_events(s);
	int rc = 0;

	if (s->fd < 0 || (!s->source.added && want == 0))
		return;
	if (!v->loop) {
		s->source.added = true;
		s->source.events = want;
	} else if (s->source.added) {
		rc = evloop_set_events(v->loop, &s->source, want);
	} else {
		s->source.fd = s->fd;
		s->source.events = want;
		rc = evloop_add(v->loop, &s->source);
	}
	if (rc < 0) {
		log_guest(LOG_ERROR, "vsock: a connection is reset: epoll_ctl failed with errno %d", -rc);
		vsock_count(&v->stats.muxer_event_fails, 1);
		vsock_conn_reset(&s->conn);
	}
}

static void set_timer(struct vsock_stream *s)
{
	struct vsock *v = s->vsock;
	uint32_t ms = vsock_conn_timeout_ms(s->conn.state);

	s->timed = s->conn.state;
	s->stall_timer = stalled(s);
	s->stall_asked = false;
	s->stall_tx_cnt = s->conn.tx_cnt;
	if (s->stall_timer)
		ms = STALL_MS;
	if (s->conn.state == VSOCK_OPENING)
		ms = OPEN_PAUSE_MS;
	if (ms > 0)
		arm(v, &s->timer, ms);
	else if (v->loop)
		evloop_disarm(v->loop, &s->timer);
}

static void sync_stream(struct vsock_stream *s)
{
	if (s->conn.state == VSOCK_OPENING && s->timed != VSOCK_OPENING)
		vsock_uds_connect(s);
	if (s->conn.state != VSOCK_DEAD && timer_lags(s))
		set_timer(s);
	if (s->conn.state != VSOCK_DEAD && events_lag(s))
		watch(s);
	if (s->conn.state == VSOCK_DEAD) {
		vsock_count(&s->vsock->stats.conns_killed, s->timed != VSOCK_DEAD);
		s->timed = VSOCK_DEAD;
		s->hung_up = true;
		unwatch(s);
		if (s->in_table)
			vsock_table_remove(s);
		if (s->conn.say == 0 && !s->in_ready) {
			vsock_stream_free(s);
			return;
		}
	}
	vsock_settle(s);
}

/* Bring the event loop, timers and descriptors to what the streams want. I/O thread. */
static void sync_all(struct vsock *v)
{
	struct vsock_stream *s;

	/* A stream comes back only in another state, so this ends. */
	while ((s = vsock_sync_pop(v)) != NULL)
		sync_stream(s);
}

/* Have sync_all() called. Any thread. */
static void wake_io(struct vsock *v)
{
	const uint64_t one = 1;

	/* EAGAIN: it was woken 2^64 times already. */
	if (v->wake_fd >= 0 && write(v->wake_fd, &one, sizeof(one)) < 0)
		return;
}

/* --- Interrupts --- */

/*
 * A driver wants an interrupt for each transmit chain that it gets back, only to free it: three exits and two thread switches
 * of the guest for nothing that anybody waits for. So these go with the next interrupt for received packets, or after LAZY_NS,
 * or when an eighth of the queue waits.
 */

static void signal_now(struct vsock *v)
{
	v->rx_used = false;
	v->tx_used = 0;
	v->lazy_over = true;
	virtio_device_signal_all(&v->vdev);
}

static void lazy_arm(struct vsock *v)
{
	const struct itimerspec delay = { .it_value.tv_nsec = LAZY_NS };

	/* A timerfd, because the loop's own timers are the I/O thread's. It runs on when an interrupt comes earlier. */
	v->lazy_armed = timerfd_settime(v->lazy_fd, 0, &delay, NULL) == 0;
	v->lazy_over = false;
}

/* Tell the driver of what it got back, at once or, of transmit chains alone, a little later. */
static void signal_driver(struct vsock *v)
{
	if (!v->vdev.active || (!v->rx_used && v->tx_used == 0))
		return;
	if (v->rx_used || v->tx_used >= virtqueue_size(v->vdev.vq[VIRTIO_VSOCK_TXQ]) / 8u || v->lazy_fd < 0)
		signal_now(v);
	else if (!v->lazy_armed)
		lazy_arm(v);
}

static void lazy_ready(void *vsock, uint32_t ready)
{
	struct vsock *v = vsock;

	(void)ready;
	virtio_device_lock(&v->vdev);
	v->lazy_armed = false;
	/* Since it was set an interrupt took what waited then: what waits now has its own time. */
	if (v->lazy_over && v->vdev.active && v->tx_used > 0)
		lazy_arm(v);
	else if (!v->lazy_over)
		signal_now(v);
	virtio_device_unlock(&v->vdev);
}

/* --- Turns --- */

/* Send what is ready, sync or wake, rekick for what is left, one interrupt. @io: this is the I/O thread. */
static void finish(struct vsock *v, bool io)
{
	struct vsock_budget budget = {
		.packets = io ? VSOCK_TURN_PACKETS : VSOCK_VCPU_TURN_PACKETS,
		.bytes = io ? VSOCK_TURN_BYTES : VSOCK_VCPU_TURN_BYTES,
	};
	bool more;

	more = vsock_rx_run(v, &budget);
	while (io && v->sync.first) {
		sync_all(v);
		if (!more)
			more = vsock_rx_run(v, &budget);
	}
	if (more)
		virtio_device_rekick(&v->vdev, VIRTIO_VSOCK_RXQ);
	if (v->tx_waits && v->n_rsts < VSOCK_MAX_RSTS)
		virtio_device_rekick(&v->vdev, VIRTIO_VSOCK_TXQ);
	if (v->sync.first)
		wake_io(v);
	signal_driver(v);
}

void vsock_break(struct vsock *v)
{
	virtio_device_signal_all(&v->vdev);
	virtio_device_break(&v->vdev, "inconsistent virtqueue");
}

/* The event queue holds buffers for the reset event of a snapshot; until then they stay with us. */
static void look_at_events(struct vsock *v)
{
	uint16_t n;

	vsock_count(&v->stats.ev_queue_event_fails, 0);
	if (virtqueue_available(v->vdev.vq[VIRTIO_VSOCK_EVENTQ], &n) != VERDICT_OK)
		vsock_break(v);
}

/* A kick of queue @q. True: there is more to do. */
static bool serve_kick(struct vsock *v, uint16_t q, bool io)
{
	struct vsock_budget budget = {
		.packets = io ? VSOCK_TURN_PACKETS : VSOCK_VCPU_TURN_PACKETS,
		.bytes = io ? VSOCK_TURN_BYTES : VSOCK_VCPU_TURN_BYTES,
	};

	switch (q) {
	case VIRTIO_VSOCK_TXQ:
		vsock_count(&v->stats.tx_queue_event_count, 1);
		return vsock_tx_run(v, &budget);
	case VIRTIO_VSOCK_RXQ:
		vsock_count(&v->stats.rx_queue_event_count, 1);
		return false; /* finish() sees the new buffers */
	case VIRTIO_VSOCK_EVENTQ:
		look_at_events(v);
		return false;
	default:
		return false;
	}
}

static void vsock_notify(struct virtio_device *dev, uint16_t q)
{
	struct vsock *v = vsock_of(dev);

	if (serve_kick(v, q, true))
		virtio_device_rekick(dev, q);
	finish(v, true);
}

/*
 * Guest packets in the thread that sent them: a host socket takes them without waiting or not at all. What is to be said
 * to the guest in return goes into its receive queue by the same interrupt.
 */
static bool vsock_try_notify(struct virtio_device *dev, uint16_t q)
{
	struct vsock *v = vsock_of(dev);
	bool more = serve_kick(v, q, false);

	finish(v, false);
	return !more;
}

void vsock_stream_ready(void *stream, uint32_t ready)
{
	struct vsock_stream *s = stream;
	struct vsock *v = s->vsock;

	virtio_device_lock(&v->vdev);
	if (s->conn.state == VSOCK_LINE) {
		vsock_uds_line(s);
	} else if (s->conn.state != VSOCK_FREE && s->conn.state != VSOCK_DEAD) {
		if (ready & EPOLLOUT)
			vsock_uds_flush(s);
		if (vsock_conn_reads_host(&s->conn) && (ready & (uint32_t)~EPOLLOUT))
			s->readable = true;
		if (ready & (EPOLLHUP | EPOLLERR)) {
			s->hung_up = true;
			/* Bytes that it left come first: the end of file tells the guest. */
			if (!vsock_conn_reads_host(&s->conn))
				vsock_conn_host_shut(&s->conn, VSOCK_NO_RECEIVE);
		}
	}
	if (s->conn.state != VSOCK_FREE)
		vsock_settle(s);
	finish(v, true);
	/* What was reported and is not wanted would be reported again and again. The slot may be another's by now: no harm. */
	if (s->source.added && (s->source.events & ~wanted_events(s)) != 0) {
		watch(s);
		vsock_settle(s);
		finish(v, true);
	}
	virtio_device_unlock(&v->vdev);
}

void vsock_stream_timer(void *stream)
{
	struct vsock_stream *s = stream;
	struct vsock *v = s->vsock;

	virtio_device_lock(&v->vdev);
	if (s->conn.state == VSOCK_OPENING)
		s->timed = VSOCK_FREE; /* try again */
	else if (s->conn.state == s->timed && s->conn.state != VSOCK_OPEN)
		vsock_conn_timeout(&s->conn);
	else if (s->stall_timer && stalled(s) && s->conn.tx_cnt == s->stall_tx_cnt)
		s->stall_asked = true; /* once, until something was sent */
	else
		s->stall_timer = false;
	if (s->stall_asked)
		vsock_conn_want_credit(&s->conn);
	vsock_settle(s);
	finish(v, true);
	virtio_device_unlock(&v->vdev);
}

/* --- The listener --- */

static void sync_listener(struct vsock *v)
{
	uint32_t want = v->vdev.active && v->accept_timer.deadline_ns == 0 ? EPOLLIN : 0;
	int rc = 0;

	if (v->loop && v->listen_fd >= 0 && v->listener.added)
		rc = evloop_set_events(v->loop, &v->listener, want);
	if (rc < 0)
		log_guest(LOG_ERROR, "vsock: can't watch uds_path: epoll_ctl failed with errno %d", -rc);
}

void vsock_listener_ready(void *vsock, uint32_t ready)
{
	struct vsock *v = vsock;

	(void)ready;
	virtio_device_lock(&v->vdev);
	if (v->vdev.active && !vsock_uds_accept(v))
		arm(v, &v->accept_timer, ACCEPT_PAUSE_MS);
	sync_listener(v);
	finish(v, true);
	virtio_device_unlock(&v->vdev);
}

static void accept_again(void *vsock)
{
	struct vsock *v = vsock;

	virtio_device_lock(&v->vdev);
	sync_listener(v);
	virtio_device_unlock(&v->vdev);
}

void vsock_wake_ready(void *vsock, uint32_t ready)
{
	struct vsock *v = vsock;

	(void)ready;
	virtio_device_lock(&v->vdev);
	sync_listener(v);
	finish(v, true);
	virtio_device_unlock(&v->vdev);
}

/* --- Device operations --- */

static void vsock_activate(struct virtio_device *dev)
{
	struct vsock *v = vsock_of(dev);

	/* Receive buffers are looked at when there is something for them. */
	virtqueue_notify_off(dev->vq[VIRTIO_VSOCK_RXQ]);
	wake_io(v);
}

/* The guest's side of everything ends here; the I/O thread closes the host's side. */
static void vsock_reset(struct virtio_device *dev)
{
	struct vsock *v = vsock_of(dev);

	for (uint16_t i = 0; i < v->n_touched; i++) {
		struct vsock_stream *s = &v->stream[i];

		if (s->conn.state == VSOCK_FREE)
			continue;
		vsock_conn_reset(&s->conn);
		s->conn.say = 0;
		s->readable = false;
	}
	while (vsock_ready_pop(v) != NULL)
		;
	for (uint16_t i = 0; i < v->n_touched; i++) {
		if (v->stream[i].conn.state != VSOCK_FREE)
			vsock_settle(&v->stream[i]);
	}
	v->n_rsts = 0;
	v->tx_waits = false;
	v->rx_used = false;
	v->tx_used = 0;
	wake_io(v);
}

static void vsock_config_read(const struct virtio_device *dev, uint32_t off, void *dst, uint32_t len)
{
	const struct vsock *v = (const struct vsock *)(const void *)dev; /* vdev is first */
	struct virtio_vsock_config_wire config = { .guest_cid = htole64(v->guest_cid) };

	memcpy(dst, (const uint8_t *)&config + off, len);
}

_Static_assert(offsetof(struct vsock, vdev) == 0, "vsock_config_read");

static const struct virtio_device_ops vsock_ops = {
	.id = VIRTIO_ID_VSOCK,
	.n_queues = 3,
	.queue_size = VSOCK_QUEUE_SIZE,
	.activate = vsock_activate,
	.reset = vsock_reset,
	.notify = vsock_notify,
	.try_notify = vsock_try_notify,
	.config_len = sizeof(struct virtio_vsock_config_wire),
	.config_read = vsock_config_read,
};

/* --- Life --- */

/* A thousand connections and what else the monitor has open need more than the usual soft limit of 1024. */
static void raise_descriptor_limit(void)
{
	const rlim_t want = VSOCK_MAX_CONNECTIONS + 512;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= want)
		return;
	limit.rlim_cur = want < limit.rlim_max ? want : limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int allocate(struct vsock *v, struct err *e)
{
	void *buf;

	v->stream = calloc(VSOCK_MAX_CONNECTIONS, sizeof(*v->stream));
	if (!v->stream)
		return err_sys(e, -ENOMEM, "allocate the connections of the vsock device");
	buf = mmap(NULL, BUF_TOTAL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (buf == MAP_FAILED)
		return err_sys(e, -errno, "map the buffers of the vsock device");
	v->buf = buf;
	/* A page that is touched must cost a page. */
	(void)madvise(buf, BUF_TOTAL, MADV_NOHUGEPAGE);
	return 0;
}

static int connect_loop(struct vsock *v, struct err *e)
{
	int rc;

	v->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (v->wake_fd < 0)
		return err_sys(e, -errno, "create the wake-up descriptor of the vsock device");
	v->waker = (struct ev_source){
		.fd = v->wake_fd, .events = EPOLLIN | EPOLLET, .group = EV_DEVICE, .fn = vsock_wake_ready, .ctx = v };
	v->lazy_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (v->lazy_fd < 0)
		return err_sys(e, -errno, "create the timer of the vsock device");
	v->lazy = (struct ev_source){
		.fd = v->lazy_fd, .events = EPOLLIN | EPOLLET, .group = EV_DEVICE, .fn = lazy_ready, .ctx = v };
	v->listener = (struct ev_source){
		.fd = v->listen_fd, .events = 0, .group = EV_DEVICE, .fn = vsock_listener_ready, .ctx = v };
	v->accept_timer = (struct ev_timer){ .group = EV_DEVICE, .fn = accept_again, .ctx = v };
	if (!v->loop)
		return 0;
	rc = evloop_add(v->loop, &v->waker);
	if (rc == 0)
		rc = evloop_add(v->loop, &v->lazy);
	if (rc == 0)
		rc = evloop_add(v->loop, &v->listener);
	return rc < 0 ? err_sys(e, rc, "watch the sockets of the vsock device") : 0;
}

int vsock_create(const struct vsock_config *config, struct vsock **out, struct err *e)
{
	struct vsock *v = NULL;
	int listen_fd = config->listen_fd, rc;

	if (strlen(config->uds_path) > VSOCK_UDS_PATH_MAX)
		rc = err_set(e, -ENAMETOOLONG, "the uds_path of the vsock device is longer than %d bytes", VSOCK_UDS_PATH_MAX);
	else
		rc = (v = calloc(1, sizeof(*v))) ? 0 : err_sys(e, -ENOMEM, "allocate the vsock device");
	if (rc < 0) {
		fd_close(&listen_fd);
		return rc;
	}
	v->listen_fd = listen_fd;
	v->wake_fd = -1;
	v->lazy_fd = -1;
	v->guest_cid = config->guest_cid;
	v->io = config->io ? config->io : &vsock_io_host;
	v->loop = config->loop;
	v->next_host_port = UINT32_C(1) << 30; /* CONTRACT.md 11.1 */
	memcpy(v->uds_path, config->uds_path, strlen(config->uds_path) + 1);
	raise_descriptor_limit();
	rc = virtio_device_init(&v->vdev, &vsock_ops, VIRTIO_F_VERSION_1 | VIRTIO_F_IN_ORDER | VIRTIO_F_EVENT_IDX, "vsock", e);
	if (rc == 0)
		rc = allocate(v, e);
	if (rc == 0)
		rc = connect_loop(v, e);
	if (rc < 0) {
		vsock_destroy(v);
		return rc;
	}
	*out = v;
	return 0;
}

void vsock_destroy(struct vsock *v)
{
	if (!v)
		return;
	for (uint16_t i = 0; i < v->n_touched; i++) {
		if (v->stream[i].conn.state != VSOCK_FREE)
			unwatch(&v->stream[i]);
	}
	if (v->loop) {
		evloop_disarm(v->loop, &v->accept_timer);
		evloop_remove(v->loop, &v->listener);
		evloop_remove(v->loop, &v->waker);
		evloop_remove(v->loop, &v->lazy);
	}
	fd_close(&v->listen_fd);
	fd_close(&v->wake_fd);
	fd_close(&v->lazy_fd);
	if (v->buf)
		(void)munmap(v->buf, BUF_TOTAL);
	free(v->stream);
	virtio_device_fini(&v->vdev);
	free(v);
}

struct virtio_device *vsock_virtio_device(struct vsock *vsock)
{
	return &vsock->vdev;
}

const struct vsock_stats *vsock_get_stats(const struct vsock *vsock)
{
	return &vsock->stats;
}
