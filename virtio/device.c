/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every virtio device has in common: lock, queues, notifications to the driver, and the two verdicts.
 */
#include "virtio/device.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "virtio/virtio_spec.h"
#include "vmm/base/log.h"

int virtio_device_init(struct virtio_device *dev, const struct virtio_device_ops *ops, uint64_t features,
		       const char *name, struct err *e)
{
	int rc;

	must(ops->n_queues > 0 && ops->n_queues <= VIRTIO_MAX_QUEUES);
	(void)snprintf(dev->name, sizeof(dev->name), "%s", name);
	dev->features = features | VIRTIO_F_VERSION_1;
	for (int i = 0; i < VIRTIO_MAX_QUEUES; i++)
		dev->kick_fd[i] = -1;
	rc = pthread_mutex_init(&dev->lock, NULL);
	if (rc != 0)
		return err_sys(e, -rc, "make the lock of %s", name);
	dev->ops = ops;
	for (uint16_t i = 0; i < ops->n_queues; i++) {
		rc = virtqueue_create(ops->queue_size, &dev->vq[i]);
		if (rc < 0)
			return err_sys(e, rc, "make the queues of %s", name);
	}
	return 0;
}

void virtio_device_fini(struct virtio_device *dev)
{
	if (!dev->ops)
		return;
	for (int i = 0; i < VIRTIO_MAX_QUEUES; i++) {
		virtqueue_destroy(dev->vq[i]);
		dev->vq[i] = NULL;
	}
	(void)pthread_mutex_destroy(&dev->lock);
	dev->ops = NULL;
}

void virtio_device_lock(struct virtio_device *dev)
{
	int rc = pthread_mutex_lock(&dev->lock);

	must(rc == 0);
}

void virtio_device_unlock(struct virtio_device *dev)
{
	int rc = pthread_mutex_unlock(&dev->lock);

	must(rc == 0);
}

static void count(_Atomic uint64_t *counter)
{
	(void)atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* The bit first, then the edge: a driver that gets the interrupt finds its reason. */
static void interrupt(struct virtio_device *dev, uint32_t bit)
{
	(void)atomic_fetch_or(&dev->interrupt_status, bit);
	if (dev->irq)
		irq_raise(dev->irq);
}

void virtio_device_signal_used(struct virtio_device *dev, uint16_t q)
{
	if (!dev->active || !virtqueue_needs_interrupt(dev->vq[q]))
		return;
	count(&dev->n_interrupts);
	interrupt(dev, VIRTIO_INT_USED_BUFFER);
}

void virtio_device_signal_all(struct virtio_device *dev)
{
	bool wanted = false;

	if (!dev->active)
		return;
	for (uint16_t i = 0; i < dev->ops->n_queues; i++)
		wanted |= virtqueue_needs_interrupt(dev->vq[i]);
	if (!wanted)
		return;
	count(&dev->n_interrupts);
	interrupt(dev, VIRTIO_INT_USED_BUFFER);
}

void virtio_device_signal_config(struct virtio_device *dev)
{
	dev->config_generation++;
	/* 2.1.2 and 2.3: no notification before the driver is there. */
	if (!(dev->status & VIRTIO_STATUS_DRIVER_OK))
		return;
	count(&dev->n_config_changes);
	interrupt(dev, VIRTIO_INT_CONFIG_CHANGE);
}

void virtio_device_rekick(struct virtio_device *dev, uint16_t q)
{
	const uint64_t one = 1;

	/* It can fail only with EAGAIN, when 2^64 - 2 kicks are pending: one is enough. */
	if (dev->kick_fd[q] >= 0 && write(dev->kick_fd[q], &one, sizeof(one)) < 0)
		return;
}

void virtio_device_break(struct virtio_device *dev, const char *what)
{
	dev->active = false;
	dev->ops->reset(dev);
	for (uint16_t i = 0; i < dev->ops->n_queues; i++)
		virtqueue_stop(dev->vq[i]);
	dev->status |= VIRTIO_STATUS_NEEDS_RESET;
	count(&dev->n_guest_faults);
	log_guest(LOG_WARN, "%s: %s; the device needs a reset", dev->name, what);
	if (dev->status & VIRTIO_STATUS_DRIVER_OK)
		interrupt(dev, VIRTIO_INT_CONFIG_CHANGE);
}

void virtio_device_complain(struct virtio_device *dev, const char *what, uint64_t value)
{
	count(&dev->n_guest_faults);
	log_guest(LOG_WARN, "%s: ignored: %s 0x%" PRIx64, dev->name, what, value);
}
