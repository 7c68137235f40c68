/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The streams: slots, the table that finds them by their ports, the lists that hold them, and their buffers.
 */
#include <string.h>
#include <sys/mman.h>

#include "virtio/vsock_impl.h"

/* CONTRACT.md 11.1. */
#define HOST_PORT_FIRST (UINT32_C(1) << 30)
#define HOST_PORT_END (UINT32_C(1) << 31)

/* --- Slots --- */

struct vsock_stream *vsock_stream_alloc(struct vsock *v)
{
	struct vsock_stream *s = v->free;

	if (s) {
		v->free = s->next_sync;
	} else if (v->n_touched < VSOCK_MAX_CONNECTIONS) {
		/* Memory that was never needed is never touched. */
		s = &v->stream[v->n_touched++];
	} else {
		return NULL;
	}
	*s = (struct vsock_stream){
		.vsock = v,
		.fd = -1,
		.source = { .group = EV_DEVICE, .fn = vsock_stream_ready, .ctx = s },
		.timer = { .group = EV_DEVICE, .fn = vsock_stream_timer, .ctx = s },
		.read_guess = VSOCK_READ_FIRST,
	};
	v->n_used++;
	vsock_count(&v->stats.conns_added, 1);
	return s;
}

static uint8_t *buf_of(const struct vsock_stream *s)
{
	const struct vsock *v = s->vsock;

	return v->buf + (size_t)VSOCK_BUF_LARGE * (size_t)(s - v->stream);
}

uint32_t vsock_stream_buf_alloc(struct vsock_stream *s)
{
	struct vsock *v = s->vsock;

	if (v->n_large == VSOCK_MAX_LARGE)
		return VSOCK_BUF_SMALL;
	v->n_large++;
	return VSOCK_BUF_LARGE;
}

void vsock_stream_free(struct vsock_stream *s)
{
	struct vsock *v = s->vsock;

	must(s->fd < 0 && !s->in_table && !s->in_ready && !s->in_sync && !s->source.added && s->timer.deadline_ns == 0);
	if (s->buf_touched)
		(void)madvise(buf_of(s), s->conn.buf_alloc, MADV_DONTNEED);
	v->n_large = (uint16_t)(v->n_large - (s->conn.buf_alloc == VSOCK_BUF_LARGE));
	s->conn.state = VSOCK_FREE;
	s->next_sync = v->free;
	v->free = s;
	v->n_used--;
	vsock_count(&v->stats.conns_removed, 1);
}

/* --- Table (V1) --- */

static size_t bucket_of(uint32_t guest_port, uint32_t host_port)
{
	/* Host ports count up, guest ports nearly so: any mixing will do. A guest that makes them collide walks a longer list. */
	return (guest_port * UINT32_C(2654435761) ^ host_port) % VSOCK_BUCKETS;
}

struct vsock_stream *vsock_table_find(const struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_stream *s = v->bucket[bucket_of(guest_port, host_port)];

	while (s && (s->conn.guest_port != guest_port || s->conn.host_port != host_port))
		s = s->next_in_bucket;
	return s;
}

void vsock_table_insert(struct vsock_stream *s)
{
	struct vsock_stream **head = &s->vsock->bucket[bucket_of(s->conn.guest_port, s->conn.host_port)];

	must(!s->in_table);
	s->next_in_bucket = *head;
	*head = s;
	s->in_table = true;
}

void vsock_table_remove(struct vsock_stream *s)
{
	struct vsock_stream **at = &s->vsock->bucket[bucket_of(s->conn.guest_port, s->conn.host_port)];

	while (*at != s) {
		must(*at);
		at = &(*at)->next_in_bucket;
	}
	*at = s->next_in_bucket;
	s->in_table = false;
}

uint32_t vsock_table_host_port(struct vsock *v, uint32_t guest_port)
{
	uint32_t port;

	/* At most VSOCK_MAX_CONNECTIONS ports are taken, so this ends. */
	do {
		port = v->next_host_port++;
		if (v->next_host_port == HOST_PORT_END)
			v->next_host_port = HOST_PORT_FIRST;
	} while (vsock_table_find(v, guest_port, port));
	return port;
}

/* --- Lists --- */

void vsock_ready_push(struct vsock_stream *s)
{
	struct vsock_fifo *f = &s->vsock->ready;

	must(!s->in_ready);
	s->in_ready = true;
	s->next_ready = NULL;
	if (f->last)
		f->last->next_ready = s;
	else
		f->first = s;
	f->last = s;
}

struct vsock_stream *vsock_ready_pop(struct vsock *v)
{
	struct vsock_stream *s = v->ready.first;

	if (!s)
		return NULL;
	v->ready.first = s->next_ready;
	if (!v->ready.first)
		v->ready.last = NULL;
	s->in_ready = false;
	return s;
}

void vsock_sync_push(struct vsock_stream *s)
{
	struct vsock_fifo *f = &s->vsock->sync;

	must(!s->in_sync);
	s->in_sync = true;
	s->next_sync = NULL;
	if (f->last)
		f->last->next_sync = s;
	else
		f->first = s;
	f->last = s;
}

struct vsock_stream *vsock_sync_pop(struct vsock *v)
{
	struct vsock_stream *s = v->sync.first;

	if (!s)
		return NULL;
	v->sync.first = s->next_sync;
	if (!v->sync.first)
		v->sync.last = NULL;
	s->in_sync = false;
	return s;
}

/* --- Buffers --- */

/* The @len bytes of the stream from byte @from on: one piece, or two around the end. */
static size_t ring_iov(const struct vsock_stream *s, uint32_t from, uint32_t len, struct iovec iov[2])
{
	uint32_t size = s->conn.buf_alloc, at = from % size;
	uint32_t first = len < size - at ? len : size - at;

	must(len <= size);
	if (len == 0)
		return 0;
	iov[0] = (struct iovec){ .iov_base = buf_of(s) + at, .iov_len = first };
	if (first == len)
		return 1;
	iov[1] = (struct iovec){ .iov_base = buf_of(s), .iov_len = len - first };
	return 2;
}

size_t vsock_stream_backlog_iov(const struct vsock_stream *s, struct iovec iov[2])
{
	return ring_iov(s, s->conn.fwd_cnt, vsock_conn_backlog(&s->conn), iov);
}

size_t vsock_stream_room_iov(struct vsock_stream *s, uint32_t len, struct iovec iov[2])
{
	s->buf_touched = true;
	return ring_iov(s, s->conn.rx_cnt - len, len, iov);
}
