/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_virtio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/blk.h"
#include "virtio/blk_ring.h"
#include "virtio/mmio.h"
#include "virtio/net.h"
#include "virtio/virtio_spec.h"
#include "virtio/vsock.h"
#include "vmm/bus.h"
#include "vmm/kvm.h"

void machine_virtio_init(struct machine_virtio *v)
{
	*v = (struct machine_virtio){.n = 0};
	for (size_t i = 0; i < LAYOUT_MAX_VIRTIO; i++)
		v->device[i].irq.fd = -1;
}

/* ---- attach ----------------------------------------------------------------------------------------------------- */

/* The next place in the list, for a device that is called @id (NULL: has no name). NULL: no memory. */
static struct machine_device *next_place(struct machine_virtio *v, enum machine_device_kind kind, const char *id)
{
	struct machine_device *d = &v->device[v->n];

	d->kind = kind;
	d->base = GPA(LAYOUT_VIRTIO_MMIO + v->n * LAYOUT_VIRTIO_MMIO_SIZE);
	d->id = id ? strdup(id) : NULL;
	if (id && !d->id)
		return NULL;
	v->n++;
	return d;
}

/* Give @dev, the virtio side of @d, its page and its interrupt, and connect its queues' kicks. */
static int attach(struct machine_virtio *v, struct machine_device *d, struct virtio_device *dev, struct err *e)
{
	struct virtio_mmio_config config = {
		.dev = dev, .mem = v->mem, .irq = &d->irq, .loop = v->loop, .kick_in_vcpu = true};
	uint32_t gsi = LAYOUT_GSI_FIRST + (uint32_t)(d - v->device);
	int rc;

	irq_init_vm(&d->irq, gsi, v->kvm->vm_fd);
	rc = virtio_mmio_create(&config, &d->transport, e);
	if (rc)
		return rc;
	rc = bus_add(v->mmio, d->base.v, LAYOUT_VIRTIO_MMIO_SIZE, &virtio_mmio_bus_ops, d->transport);
	if (rc)
		return err_sys(e, rc, "virtio-mmio page 0x%llx", (unsigned long long)d->base.v);
	if (virtio_mmio_kicks_in_vcpu(d->transport))
		return 0;
	for (uint16_t q = 0; q < virtio_mmio_n_queues(d->transport); q++) {
		rc = kvm_add_ioeventfd(v->kvm, GPA(d->base.v + VIRTIO_MMIO_QUEUE_NOTIFY), q,
				       virtio_mmio_kick_fd(d->transport, q), e);
		if (rc)
			return rc;
	}
	return 0;
}

static int add_drive(struct machine_virtio *v, const struct machine_drive *drive, struct err *e)
{
	struct machine_device *d = next_place(v, MACHINE_BLK, drive->id);
	struct blk_config config = {
		.drive_id = drive->id,
		.flush = drive->writeback,
		.ring = drive->is_async ? v->ring : NULL,
		.bandwidth = drive->limits.bandwidth,
		.ops = drive->limits.ops,
		.loop = v->loop,
	};
	struct blk_backing backing;
	int rc;

	if (!d)
		return err_sys(e, -ENOMEM, "drive '%s'", drive->id);
	rc = blk_backing_dup(drive->backing, &backing);
	if (rc)
		return err_sys(e, rc, "drive '%s'", drive->id);
	rc = blk_create(&config, &backing, &d->blk, e);
	if (rc)
		return rc;
	return attach(v, d, blk_virtio_device(d->blk), e);
}

static struct net_limits net_limits_of(const struct machine_limits *l)
{
	return (struct net_limits){.bandwidth = l->bandwidth, .ops = l->ops};
}

static int add_net(struct machine_virtio *v, const struct machine_net *net, struct err *e)
{
	struct machine_device *d = next_place(v, MACHINE_NET, net->id);
	struct net_config config = {
		.iface_id = net->id,
		.mac = net->mac,
		.mtu = net->mtu,
		.rx = net_limits_of(&net->rx),
		.tx = net_limits_of(&net->tx),
		.loop = v->loop,
	};
	struct net_backend *backend;
	int rc;

	if (!d)
		return err_sys(e, -ENOMEM, "interface '%s'", net->id);
	rc = net->backend->ops->dup(net->backend, &backend, e);
	if (rc)
		return err_wrap(e, rc, "interface '%s'", net->id);
	rc = net_create(&config, backend, &d->net, e);
	if (rc)
		return rc;
	return attach(v, d, net_virtio_device(d->net), e);
}

static int add_vsock(struct machine_virtio *v, const struct machine_vsock *vsock, struct err *e)
{
	struct machine_device *d = next_place(v, MACHINE_VSOCK, NULL);
	struct vsock_config config = {
		.guest_cid = vsock->guest_cid,
		.uds_path = vsock->uds_path,
		.listen_fd = fcntl(vsock->listen_fd, F_DUPFD_CLOEXEC, 0),
		.loop = v->loop,
	};
	int rc;

	if (config.listen_fd < 0)
		return err_sys(e, -errno, "vsock device '%.100s'", vsock->uds_path);
	rc = vsock_create(&config, &d->vsock, e);
	if (rc)
		return rc;
	return attach(v, d, vsock_virtio_device(d->vsock), e);
}

/* The I/O ring, if a drive wants it; nothing may be submitted yet. */
static int add_ring(struct machine_virtio *v, const struct machine_params *p, struct err *e)
{
	uint32_t n = 0;

	for (size_t i = 0; i < p->n_drives; i++)
		n += p->drives[i].is_async;
	return n ? blk_ring_create(v->loop, n, &v->ring, e) : 0;
}

int machine_virtio_build(struct machine_virtio *v, const struct machine_params *p, struct err *e)
{
	size_t wanted = p->n_drives + p->n_nets + (p->vsock != NULL);
	int rc;

	if (wanted > LAYOUT_MAX_VIRTIO)
		return err_set(e, -ENOSPC,
			       "Could not allocate GSI: The requested resource is not available. A microVM can have "
			       "%d virtio devices, %zu are configured.",
			       LAYOUT_MAX_VIRTIO, wanted);
	rc = add_ring(v, p, e);
	for (size_t i = 0; !rc && i < p->n_drives; i++)
		rc = add_drive(v, &p->drives[i], e);
	for (size_t i = 0; !rc && i < p->n_nets; i++)
		rc = add_net(v, &p->nets[i], e);
	if (!rc && p->vsock)
		rc = add_vsock(v, p->vsock, e);
	if (!rc && v->ring)
		rc = blk_ring_enable(v->ring, e);
	return rc;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

struct machine_device *machine_virtio_find(struct machine_virtio *v, enum machine_device_kind kind, const char *id)
{
	for (size_t i = 0; i < v->n; i++) {
		if (v->device[i].kind == kind && v->device[i].id && strcmp(v->device[i].id, id) == 0)
			return &v->device[i];
	}
	return NULL;
}

void machine_virtio_kick_all(struct machine_virtio *v)
{
	for (size_t i = 0; i < v->n; i++)
		virtio_mmio_kick_all(v->device[i].transport);
}

static void destroy_device(struct machine_device *d)
{
	switch (d->kind) {
	case MACHINE_BLK:
		blk_destroy(d->blk);
		break;
	case MACHINE_NET:
		net_destroy(d->net);
		break;
	case MACHINE_VSOCK:
		vsock_destroy(d->vsock);
		break;
	}
}

void machine_virtio_fini(struct machine_virtio *v)
{
	for (size_t i = 0; i < v->n; i++) {
		struct machine_device *d = &v->device[i];

		virtio_mmio_destroy(d->transport);
		destroy_device(d);
		irq_fini(&d->irq);
		free(d->id);
	}
	blk_ring_destroy(v->ring); /* behind the drives that use it */
	machine_virtio_init(v);
}
