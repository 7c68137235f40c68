/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/net_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio/virtio_spec.h"
#include "vmm/base/fd.h"

#define RX_RING UINT64_C(0x10000)
#define TX_RING UINT64_C(0x20000)
#define TX_DATA (FIX_DATA + 0x800000)

struct fix fix;
static struct net_backend backend;

uint8_t fix_byte(unsigned frame, uint32_t i)
{
	return (uint8_t)(i * 7 + i / 251 + frame * 13 + 1);
}

/* --- The host --- */

static ssize_t host_recv(struct net_backend *be, const struct iovec *iov, int n)
{
	struct fix_host *h = &fix.host;
	uint32_t len, done = 0;
	uint8_t drain[64];

	h->n_recv++;
	if (h->recv_error)
		return -h->recv_error;
	if (!h->endless && h->next >= h->n_frames) {
		while (read(be->fd, drain, sizeof(drain)) > 0)
			;
		return -EAGAIN;
	}
	len = h->len[h->endless ? 0 : h->next];
	must(n > 0 && n <= 1024);
	for (int k = 0; k < n; k++) {
		uint8_t *p = iov[k].iov_base;

		must(iov[k].iov_len > 0);
		for (size_t i = 0; i < iov[k].iov_len && done < len; i++, done++) {
			/* As the kernel: it leaves num_buffers alone. */
			if (done != 10 && done != 11)
				p[i] = fix_byte(h->next, done);
		}
	}
	if (!h->endless)
		h->next++;
	must(done == len);
	return len;
}

static int host_send(struct net_backend *be, const struct iovec *iov, int n)
{
	struct fix_host *h = &fix.host;

	(void)be;
	h->n_send++;
	if (h->send_error && h->send_error_after-- <= 0)
		return -h->send_error;
	h->sent_len = 0;
	for (int k = 0; k < n; k++) {
		must(iov[k].iov_len > 0 && h->sent_len + iov[k].iov_len <= sizeof(h->sent));
		memcpy(h->sent + h->sent_len, iov[k].iov_base, iov[k].iov_len);
		h->sent_len += (uint32_t)iov[k].iov_len;
	}
	return 0;
}

static int host_flush(struct net_backend *be)
{
	(void)be;
	fix.host.n_flush++;
	return -fix.host.flush_error;
}

static int host_set_features(struct net_backend *be, uint64_t acked)
{
	(void)be;
	fix.host.n_set_features++;
	fix.host.features = acked;
	return 0;
}

static void host_close(struct net_backend *be)
{
	fd_close(&be->fd);
}

#define HOST_OPS .name = "fake", .recv = host_recv, .send = host_send, .set_features = host_set_features, .close = host_close

void fix_edge(void)
{
	uint8_t old[64];
	ssize_t n;

	while (read(backend.fd, old, sizeof(old)) > 0)
		; /* or it is full one day, since a device may leave it unread */
	n = write(fix.host.peer_fd, "", 1);
	must(n == 1);
}

void fix_host_frame(uint32_t len)
{
	must(fix.host.n_frames < ARRAY_SIZE(fix.host.len));
	fix.host.len[fix.host.n_frames++] = len;
	fix_edge();
}

/* --- Life --- */

void fix_create(const struct net_config *config, uint64_t offered, bool gathers)
{
	static struct net_backend_ops ops;
	struct net_config c = { .iface_id = "eth0" };
	struct virtio_mmio_config mmio = { .kick_in_vcpu = true };
	int fds[2], rc;

	memset(&fix, 0, sizeof(fix));
	ops = (struct net_backend_ops){ HOST_OPS, .features = offered, .flush = gathers ? host_flush : NULL };
	rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
	must(rc == 0);
	backend = (struct net_backend){ .ops = &ops, .fd = fds[0] };
	fix.host.peer_fd = fds[1];
	rc = gmem_create(&fix.mem, FIX_MEM_SIZE, GMEM_PAGES_DEFAULT, NULL);
	must(rc == 0);
	rc = irq_init(&fix.irq, 5, NULL);
	must(rc == 0);
	rc = evloop_create(&fix.loop, NULL);
	must(rc == 0);
	if (config)
		c = *config;
	c.iface_id = "eth0";
	c.loop = fix.loop;
	rc = net_create(&c, &backend, &fix.net, NULL);
	must(rc == 0);
	mmio.dev = net_virtio_device(fix.net);
	mmio.mem = fix.mem;
	mmio.irq = &fix.irq;
	mmio.loop = fix.loop;
	rc = virtio_mmio_create(&mmio, &fix.t, NULL);
	must(rc == 0);
}

void fix_start(uint64_t features, uint16_t queue_size)
{
	uint32_t status = guest_mmio_negotiate(fix.t, features);

	must(status == 0xb);
	guest_ring_init(&fix.rx, fix.mem, queue_size, RX_RING);
	guest_ring_init(&fix.tx, fix.mem, queue_size, TX_RING);
	guest_mmio_set_queue(fix.t, NET_QUEUE_RX, &fix.rx.geo);
	guest_mmio_set_queue(fix.t, NET_QUEUE_TX, &fix.tx.geo);
	guest_mmio_write(fix.t, VIRTIO_MMIO_STATUS, 0xf);
	must(fix.net->vdev.active);
	(void)fix_run();
}

void fix_destroy(void)
{
	virtio_mmio_destroy(fix.t);
	net_destroy(fix.net);
	evloop_destroy(fix.loop);
	irq_fini(&fix.irq);
	gmem_destroy(fix.mem);
	(void)close(fix.host.peer_fd);
}

unsigned fix_run(void)
{
	unsigned n = 0;

	while (evloop_turn(fix.loop, 0) > 0)
		n++;
	return n;
}

void fix_kick(uint16_t q)
{
	guest_mmio_write(fix.t, VIRTIO_MMIO_QUEUE_NOTIFY, q);
	(void)fix_run();
}

/* --- The guest --- */

uint64_t fix_rx_at(uint16_t i)
{
	return FIX_DATA + UINT64_C(0x10000) * (i % 64) + UINT64_C(0x100) * (i / 64);
}

void fix_offer_rx(uint16_t first, uint16_t n, uint32_t len)
{
	for (uint16_t i = first; i < first + n; i++) {
		guest_ring_desc(&fix.rx, i, fix_rx_at(i), len, VIRTQ_DESC_F_WRITE, 0);
		guest_ring_offer(&fix.rx, i);
	}
}

void fix_offer_tx(uint16_t slot, const struct virtio_net_hdr_wire *hdr, uint32_t len)
{
	uint64_t at = TX_DATA + UINT64_C(0x11000) * slot;
	uint8_t *p = gmem_hva(fix.mem, GPA(at), len);

	must(p);
	for (uint32_t i = 0; i < len; i++)
		p[i] = fix_byte(slot, i);
	memset(p, 0, len < NET_HDR_LEN ? len : NET_HDR_LEN);
	if (hdr)
		memcpy(p, hdr, len < NET_HDR_LEN ? len : NET_HDR_LEN);
	guest_ring_desc(&fix.tx, slot, at, len, 0, 0);
	guest_ring_offer(&fix.tx, slot);
}
