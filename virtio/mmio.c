/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Register file of virtio-mmio version 2. Section numbers are virtio 1.2; invariants M1 to M3 stand in
 * the header.
 */
#include "virtio/mmio.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "virtio/virtio_spec.h"
#include "vmm/base/bytes.h"
#include "vmm/base/checked.h"
#include "vmm/base/fd.h"

#define STATUS_INIT UINT32_C(0)
#define STATUS_ACKNOWLEDGED VIRTIO_STATUS_ACKNOWLEDGE
#define STATUS_DRIVER_FOUND (STATUS_ACKNOWLEDGED | VIRTIO_STATUS_DRIVER)
#define STATUS_NEGOTIATED (STATUS_DRIVER_FOUND | VIRTIO_STATUS_FEATURES_OK)
#define STATUS_RUNNING (STATUS_NEGOTIATED | VIRTIO_STATUS_DRIVER_OK)

/* CONTRACT.md 16.2 */
#define VENDOR_ID UINT32_C(0)

struct mmio_queue {
	struct vq_geometry geo; /* as the driver wrote it */
	bool ready;
};

struct mmio_kick {
	struct virtio_mmio *t;
	uint16_t q;
	int fd; /* owned eventfd; never read: the loop watches it edge-triggered */
	struct ev_source source;
};

struct virtio_mmio {
	struct virtio_device *dev; /* borrowed */
	struct evloop *loop;       /* borrowed; NULL in tests */
	bool kick_in_vcpu;
	struct mmio_kick kick[VIRTIO_MAX_QUEUES];

	/* Under dev->lock: what the driver wrote, unchecked. */
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	uint64_t driver_features;
	struct mmio_queue queue[VIRTIO_MAX_QUEUES];
};

/* --- Status (2.1, 3.1) --- */

/*
 * Every transition that adds a bit; each needs the one before. Reset and FAILED are possible from
 * everywhere.
 */
static const struct {
	uint32_t from, to;
} transitions[] = {
	{ STATUS_INIT, STATUS_ACKNOWLEDGED },
	{ STATUS_ACKNOWLEDGED, STATUS_DRIVER_FOUND },
	{ STATUS_DRIVER_FOUND, STATUS_NEGOTIATED },
	{ STATUS_NEGOTIATED, STATUS_RUNNING },
};

static bool transition_exists(uint32_t from, uint32_t to)
{
	for (size_t i = 0; i < ARRAY_SIZE(transitions); i++) {
		if (transitions[i].from == from && transitions[i].to == to)
			return true;
	}
	return false;
}

static void stop_queues(struct virtio_device *dev)
{
	for (uint16_t i = 0; i < dev->ops->n_queues; i++)
		virtqueue_stop(dev->vq[i]);
}

/* 2.4.1; M3. active goes first, so that a reset that waits for I/O lets nothing new begin. */
static void device_reset(struct virtio_mmio *t)
{
	struct virtio_device *dev = t->dev;

	dev->active = false;
	dev->ops->reset(dev);
	stop_queues(dev);
	dev->status = STATUS_INIT;
	dev->acked = 0;
	t->device_features_sel = 0;
	t->driver_features_sel = 0;
	t->queue_sel = 0;
	t->driver_features = 0;
	memset(t->queue, 0, sizeof(t->queue));
	atomic_store(&dev->interrupt_status, 0);
}

/* 2.2.2, 6.1: not what was not offered, and nothing older than virtio 1.0. */
static bool features_acceptable(const struct virtio_mmio *t)
{
	return (t->driver_features & ~t->dev->features) == 0 && (t->driver_features & VIRTIO_F_VERSION_1) != 0;
}

/* DRIVER_OK: the one place where queue geometry is checked (M2). */
static void device_activate(struct virtio_mmio *t)
{
	struct virtio_device *dev = t->dev;

	for (uint16_t i = 0; i < dev->ops->n_queues; i++) {
		const struct mmio_queue *q = &t->queue[i];

		if (!q->ready || virtqueue_start(dev->vq[i], dev->mem, &q->geo, dev->acked) != VERDICT_OK) {
			virtio_device_break(dev, "DRIVER_OK with a queue that is not set up or not in RAM");
			return;
		}
	}
	dev->active = true;
	if (dev->ops->activate)
		dev->ops->activate(dev);
}

static void status_write(struct virtio_mmio *t, uint32_t val)
{
	struct virtio_device *dev = t->dev;
	/* NEEDS_RESET is ours: a driver that reads, adds a bit and writes gives it back. */
	uint32_t cur = dev->status & ~VIRTIO_STATUS_NEEDS_RESET;
	uint32_t next = val & ~VIRTIO_STATUS_NEEDS_RESET;

	if (val == 0) {
		device_reset(t);
		return;
	}
	if (next == cur)
		return;
	if (next == (cur | VIRTIO_STATUS_FAILED)) {
		dev->status |= VIRTIO_STATUS_FAILED;
		return;
	}
	if (!transition_exists(cur, next)) {
		virtio_device_complain(dev, "change of status to", val);
		return;
	}
	if (next == STATUS_NEGOTIATED) {
		if (!features_acceptable(t)) {
			/* 2.2.2: the driver sees that FEATURES_OK did not stick. */
			virtio_device_complain(dev, "FEATURES_OK with features", t->driver_features);
			return;
		}
		dev->acked = t->driver_features;
	}
	dev->status |= next;
	if (next == STATUS_RUNNING)
		device_activate(t);
}

/* --- Registers, with the lock held --- */

/* The queue that QueueSel names, or NULL. */
static struct mmio_queue *selected_queue(struct virtio_mmio *t)
{
	return t->queue_sel < t->dev->ops->n_queues ? &t->queue[t->queue_sel] : NULL;
}

static uint32_t register_read(struct virtio_mmio *t, uint32_t off)
{
	struct virtio_device *dev = t->dev;
	const struct mmio_queue *q = selected_queue(t);

	switch (off) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return VIRTIO_MMIO_MAGIC;
	case VIRTIO_MMIO_VERSION:
		return VIRTIO_MMIO_VERSION_2;
	case VIRTIO_MMIO_DEVICE_ID:
		return dev->ops->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR_ID;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		if (t->device_features_sel > 1)
			return 0;
		return (uint32_t)(dev->features >> (32 * t->device_features_sel));
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return q ? dev->ops->queue_size : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return q && q->ready;
	case VIRTIO_MMIO_STATUS:
		return dev->status;
	case VIRTIO_MMIO_SHM_LEN_LOW: /* 4.2.2: a region that does not exist has length and base -1 */
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return UINT32_MAX;
	case VIRTIO_MMIO_QUEUE_RESET: /* RING_RESET is not offered */
		return 0;
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return dev->config_generation;
	default:
		virtio_device_complain(dev, "read of register", off);
		return 0;
	}
}

static void driver_features_write(struct virtio_mmio *t, uint32_t val)
{
	uint32_t sel = t->driver_features_sel;

	if (t->dev->status != STATUS_DRIVER_FOUND || (sel > 1 && val != 0)) {
		virtio_device_complain(t->dev, "write of features", val);
		return;
	}
	if (sel > 1)
		return;
	t->driver_features &= ~((uint64_t)UINT32_MAX << (32 * sel));
	t->driver_features |= (uint64_t)val << (32 * sel);
}

static void set_low(uint64_t *v, uint32_t low)
{
	*v = (*v & ~(uint64_t)UINT32_MAX) | low;
}

static void set_high(uint64_t *v, uint32_t high)
{
	*v = (*v & UINT32_MAX) | (uint64_t)high << 32;
}

/* M1. */
static void queue_register_write(struct virtio_mmio *t, uint32_t off, uint32_t val)
{
	struct mmio_queue *q = selected_queue(t);

	/* What Linux writes when it frees a queue of a device that was reset before: already so. */
	if (off == VIRTIO_MMIO_QUEUE_READY && val == 0 && q && !q->ready)
		return;
	if (!q || t->dev->status != STATUS_NEGOTIATED || (q->ready && off != VIRTIO_MMIO_QUEUE_READY)) {
		virtio_device_complain(t->dev, "write of queue register", off);
		return;
	}
	switch (off) {
	case VIRTIO_MMIO_QUEUE_NUM:
		q->geo.size = val;
		return;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
		set_low(&q->geo.desc, val);
		return;
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_high(&q->geo.desc, val);
		return;
	case VIRTIO_MMIO_QUEUE_DRIVER_LOW:
		set_low(&q->geo.driver, val);
		return;
	case VIRTIO_MMIO_QUEUE_DRIVER_HIGH:
		set_high(&q->geo.driver, val);
		return;
	case VIRTIO_MMIO_QUEUE_DEVICE_LOW:
		set_low(&q->geo.device, val);
		return;
	case VIRTIO_MMIO_QUEUE_DEVICE_HIGH:
		set_high(&q->geo.device, val);
		return;
	case VIRTIO_MMIO_QUEUE_READY:
		if (val > 1)
			virtio_device_complain(t->dev, "QueueReady of", val);
		else
			q->ready = val == 1;
		return;
	default:
		must(false);
	}
}

static void register_write(struct virtio_mmio *t, uint32_t off, uint32_t val)
{
	switch (off) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		t->device_features_sel = val;
		return;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		driver_features_write(t, val);
		return;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		t->driver_features_sel = val;
		return;
	case VIRTIO_MMIO_QUEUE_SEL:
		t->queue_sel = val;
		return;
	case VIRTIO_MMIO_QUEUE_NUM:
	case VIRTIO_MMIO_QUEUE_READY:
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
	case VIRTIO_MMIO_QUEUE_DRIVER_LOW:
	case VIRTIO_MMIO_QUEUE_DRIVER_HIGH:
	case VIRTIO_MMIO_QUEUE_DEVICE_LOW:
	case VIRTIO_MMIO_QUEUE_DEVICE_HIGH:
		queue_register_write(t, off, val);
		return;
	case VIRTIO_MMIO_STATUS:
		status_write(t, val);
		return;
	case VIRTIO_MMIO_SHM_SEL:
		return;
	default:
		virtio_device_complain(t->dev, "write of register", off);
	}
}

/* --- Kicks --- */

void virtio_mmio_handle_kick(struct virtio_mmio *t, uint16_t q)
{
	struct virtio_device *dev = t->dev;

	must(q < dev->ops->n_queues);
	virtio_device_lock(dev);
	if (dev->active)
		dev->ops->notify(dev, q);
	virtio_device_unlock(dev);
}

static void kick_ready(void *ctx, uint32_t ready)
{
	struct mmio_kick *kick = ctx;

	(void)ready;
	virtio_mmio_handle_kick(kick->t, kick->q);
}

/*
 * The device in the thread that kicks, if nobody holds it. The lock is only tried: its holder may be in
 * a slow system call. A holder that is about to leave does not lose this kick, because the caller then
 * writes the eventfd.
 */
static bool kick_try(struct virtio_mmio *t, uint16_t q)
{
	struct virtio_device *dev = t->dev;
	bool done;

	if (!t->kick_in_vcpu || pthread_mutex_trylock(&dev->lock) != 0)
		return false;
	done = !dev->active || dev->ops->try_notify(dev, q);
	virtio_device_unlock(dev);
	return done;
}

static void notify_write(struct virtio_mmio *t, uint32_t val)
{
	if (val >= t->dev->ops->n_queues) {
		virtio_device_complain(t->dev, "kick of queue", val);
		return;
	}
	if (!kick_try(t, (uint16_t)val))
		virtio_device_rekick(t->dev, (uint16_t)val);
}

void virtio_mmio_kick_all(struct virtio_mmio *t)
{
	for (uint16_t q = 0; q < t->dev->ops->n_queues; q++)
		virtio_device_rekick(t->dev, q);
}

/* --- The bus's side --- */

static bool config_access_ok(struct virtio_mmio *t, uint64_t off, uint32_t len)
{
	bool width = len == 1 || len == 2 || len == 4 || len == 8;

	if (width && range_within(off, len, t->dev->ops->config_len))
		return true;
	virtio_device_complain(t->dev, "configuration access at", off);
	return false;
}

static void mmio_read(void *ctx, uint64_t off, void *data, uint32_t len)
{
	struct virtio_mmio *t = ctx;
	uint32_t val;

	memset(data, 0, len);
	if (off >= VIRTIO_MMIO_CONFIG) {
		off -= VIRTIO_MMIO_CONFIG;
		if (!config_access_ok(t, off, len))
			return;
		virtio_device_lock(t->dev);
		t->dev->ops->config_read(t->dev, (uint32_t)off, data, len);
		virtio_device_unlock(t->dev);
		return;
	}
	/* 4.2.2.2: 32 bits wide and aligned. */
	if (len != 4 || off % 4 != 0) {
		virtio_device_complain(t->dev, "read that is not 32 bits wide at", off);
		return;
	}
	if (off == VIRTIO_MMIO_INTERRUPT_STATUS) {
		le32_put(data, atomic_load(&t->dev->interrupt_status));
		return;
	}
	virtio_device_lock(t->dev);
	val = register_read(t, (uint32_t)off);
	virtio_device_unlock(t->dev);
	le32_put(data, val);
}

static void config_write(struct virtio_mmio *t, uint64_t off, const void *data, uint32_t len)
{
	struct virtio_device *dev = t->dev;

	if (!config_access_ok(t, off, len))
		return;
	virtio_device_lock(dev);
	/* CONTRACT.md 16.2: once there is a driver. */
	if (!dev->ops->config_write || !(dev->status & VIRTIO_STATUS_DRIVER) || (dev->status & VIRTIO_STATUS_FAILED))
		virtio_device_complain(dev, "configuration write at", off);
	else
		dev->ops->config_write(dev, (uint32_t)off, data, len);
	virtio_device_unlock(dev);
}

static void mmio_write(void *ctx, uint64_t off, const void *data, uint32_t len)
{
	struct virtio_mmio *t = ctx;
	uint32_t val;

	if (off >= VIRTIO_MMIO_CONFIG) {
		config_write(t, off - VIRTIO_MMIO_CONFIG, data, len);
		return;
	}
	if (len != 4 || off % 4 != 0) {
		virtio_device_complain(t->dev, "write that is not 32 bits wide at", off);
		return;
	}
	val = le32_get(data);
	if (off == VIRTIO_MMIO_INTERRUPT_ACK) {
		(void)atomic_fetch_and(&t->dev->interrupt_status, ~val);
		return;
	}
	if (off == VIRTIO_MMIO_QUEUE_NOTIFY) {
		notify_write(t, val);
		return;
	}
	virtio_device_lock(t->dev);
	register_write(t, (uint32_t)off, val);
	virtio_device_unlock(t->dev);
}

const struct bus_ops virtio_mmio_bus_ops = { .read = mmio_read, .write = mmio_write };

/* --- Life --- */

static int kicks_create(struct virtio_mmio *t, struct err *e)
{
	for (uint16_t q = 0; q < t->dev->ops->n_queues; q++) {
		struct mmio_kick *kick = &t->kick[q];
		int rc = 0;

		kick->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (kick->fd < 0)
			return err_sys(e, -errno, "create the kick descriptor of %s", t->dev->name);
		kick->source = (struct ev_source){
			.fd = kick->fd,
			.events = EPOLLIN | EPOLLET, /* one call per kick without a read(2) (ANCHORS.md) */
			.group = EV_DEVICE,
			.fn = kick_ready,
			.ctx = kick,
		};
		if (t->loop)
			rc = evloop_add(t->loop, &kick->source);
		if (rc < 0)
			return err_sys(e, rc, "watch the kicks of %s", t->dev->name);
		t->dev->kick_fd[q] = kick->fd;
	}
	return 0;
}

int virtio_mmio_create(const struct virtio_mmio_config *config, struct virtio_mmio **out, struct err *e)
{
	struct virtio_device *dev = config->dev;
	struct virtio_mmio *t = calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return err_sys(e, -ENOMEM, "allocate the transport of %s", dev->name);
	t->dev = dev;
	t->loop = config->loop;
	t->kick_in_vcpu = config->kick_in_vcpu && dev->ops->try_notify;
	for (uint16_t q = 0; q < VIRTIO_MAX_QUEUES; q++)
		t->kick[q] = (struct mmio_kick){ .t = t, .q = q, .fd = -1 };
	dev->mem = config->mem;
	dev->irq = config->irq;
	dev->loop = config->loop;
	rc = kicks_create(t, e);
	if (rc < 0) {
		virtio_mmio_destroy(t);
		return rc;
	}
	*out = t;
	return 0;
}

void virtio_mmio_destroy(struct virtio_mmio *t)
{
	struct virtio_device *dev;

	if (!t)
		return;
	dev = t->dev;
	virtio_device_lock(dev);
	device_reset(t);
	virtio_device_unlock(dev);
	for (uint16_t q = 0; q < dev->ops->n_queues; q++) {
		if (t->loop)
			evloop_remove(t->loop, &t->kick[q].source);
		fd_close(&t->kick[q].fd);
		dev->kick_fd[q] = -1;
	}
	free(t);
}

uint16_t virtio_mmio_n_queues(const struct virtio_mmio *t)
{
	return t->dev->ops->n_queues;
}

int virtio_mmio_kick_fd(const struct virtio_mmio *t, uint16_t q)
{
	must(q < t->dev->ops->n_queues);
	return t->kick[q].fd;
}

bool virtio_mmio_kicks_in_vcpu(const struct virtio_mmio *t)
{
	return t->kick_in_vcpu;
}
