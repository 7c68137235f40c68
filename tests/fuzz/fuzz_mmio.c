/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sequences of register accesses and kicks, against a device that pops and pushes whatever comes.
 *
 * Asserted: Status only takes values of the state machine and bits disappear only by reset; acked
 * features were offered; queues run exactly while the device is active, with the geometry that was
 * written before DRIVER_OK; after a reset nothing is left.
 */
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/fuzz_input.h"
#include "tests/lib/guest_ring.h"
#include "virtio/mmio.h"
#include "virtio/virtio_spec.h"
#include "vmm/base/log.h"

#define MEM_SIZE (2 * MIB)
#define OFFERED (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)
#define CONFIG_LEN 20
#define N_QUEUES 2
#define QSIZE 16
#define MAX_STEPS 500

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fake {
	struct virtio_device vdev;
	uint8_t config[CONFIG_LEN];
	struct vq_chain chain;
	uint16_t held[N_QUEUES]; /* one head of each queue is kept in flight */
	bool holds[N_QUEUES];
};

static struct gmem *mem;
static struct fake dev;
static struct virtio_mmio *t;
static struct guest_ring ring[N_QUEUES];

static struct fake *fake_of(struct virtio_device *vdev)
{
	return container_of(vdev, struct fake, vdev);
}

static void fake_activate(struct virtio_device *vdev)
{
	must(vdev->active && (vdev->acked & ~OFFERED) == 0 && (vdev->acked & VIRTIO_F_VERSION_1));
}

static void fake_reset(struct virtio_device *vdev)
{
	must(!vdev->active);
	memset(fake_of(vdev)->holds, 0, sizeof(fake_of(vdev)->holds));
}

static void fake_notify(struct virtio_device *vdev, uint16_t q)
{
	struct fake *f = fake_of(vdev);
	struct virtqueue *vq = vdev->vq[q];

	must(vdev->active && q < N_QUEUES && virtqueue_started(vq));
	for (int budget = 40; budget > 0; budget--) {
		enum verdict v = virtqueue_pop(vq, &f->chain);

		if (v == VERDICT_QUEUE_BROKEN) {
			virtio_device_break(vdev, "fuzz");
			return;
		}
		if (v == VERDICT_OK && f->chain.n == 0)
			break;
		if (f->holds[q])
			virtqueue_push(vq, f->held[q], 0);
		f->held[q] = f->chain.head;
		f->holds[q] = true;
	}
	(void)!virtqueue_notify_on(vq);
	virtio_device_signal_used(vdev, q);
}

static bool fake_try_notify(struct virtio_device *vdev, uint16_t q)
{
	(void)vdev;
	return q == 0;
}

static void fake_config_read(const struct virtio_device *vdev, uint32_t off, void *dst, uint32_t len)
{
	const struct fake *f = (const struct fake *)(const void *)vdev;

	must(off <= CONFIG_LEN && len <= CONFIG_LEN - off);
	memcpy(dst, f->config + off, len);
}

static void fake_config_write(struct virtio_device *vdev, uint32_t off, const void *src, uint32_t len)
{
	must(off <= CONFIG_LEN && len <= CONFIG_LEN - off && (vdev->status & VIRTIO_STATUS_DRIVER));
	memcpy(fake_of(vdev)->config + off, src, len);
}

static const struct virtio_device_ops fake_ops = {
	.id = 1, .n_queues = N_QUEUES, .queue_size = QSIZE,
	.activate = fake_activate, .reset = fake_reset, .notify = fake_notify, .try_notify = fake_try_notify,
	.config_len = CONFIG_LEN, .config_read = fake_config_read, .config_write = fake_config_write,
};

static void check_after_reset(void)
{
	must(!dev.vdev.active && dev.vdev.acked == 0 && atomic_load(&dev.vdev.interrupt_status) == 0);
	for (uint16_t q = 0; q < N_QUEUES; q++) {
		must(!dev.holds[q] && !virtqueue_started(dev.vdev.vq[q]) && virtqueue_in_flight(dev.vdev.vq[q]) == 0);
		guest_mmio_write(t, VIRTIO_MMIO_QUEUE_SEL, q);
		must(guest_mmio_read(t, VIRTIO_MMIO_QUEUE_READY) == 0);
	}
	guest_mmio_write(t, VIRTIO_MMIO_QUEUE_SEL, 0);
}

static void check_state(uint32_t before)
{
	uint32_t now = dev.vdev.status;
	uint32_t steps = now & ~(VIRTIO_STATUS_NEEDS_RESET | VIRTIO_STATUS_FAILED);

	must(steps == 0 || steps == 1 || steps == 3 || steps == 0xb || steps == 0xf);
	must(now == 0 || (before & ~now) == 0);
	must(!(now & VIRTIO_STATUS_NEEDS_RESET) || steps == 0xf);
	must(dev.vdev.active == (steps == 0xf && !(now & VIRTIO_STATUS_NEEDS_RESET)));
	for (uint16_t q = 0; q < N_QUEUES; q++)
		must(virtqueue_started(dev.vdev.vq[q]) == dev.vdev.active);
	must((dev.vdev.acked & ~OFFERED) == 0);
}

/* The next step that a driver would take. */
static void step_forward(void)
{
	switch (dev.vdev.status) {
	case 0:
		guest_mmio_write(t, VIRTIO_MMIO_STATUS, 1);
		return;
	case 1:
		guest_mmio_write(t, VIRTIO_MMIO_STATUS, 3);
		return;
	case 3:
		guest_mmio_write(t, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
		guest_mmio_write(t, VIRTIO_MMIO_DRIVER_FEATURES, 1);
		guest_mmio_write(t, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
		guest_mmio_write(t, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)OFFERED);
		guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0xb);
		return;
	case 0xb:
		for (uint16_t q = 0; q < N_QUEUES; q++) {
			guest_ring_init(&ring[q], mem, QSIZE, 0x10000 * (q + UINT64_C(1)));
			guest_mmio_set_queue(t, q, &ring[q].geo);
		}
		guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0xf);
		return;
	default:
		return;
	}
}

static void access_register(struct fuzz_input *in)
{
	uint64_t off = fuzz_rarely(in) ? fuzz_u16(in) % 0x1000 : 4 * (uint64_t)fuzz_below(in, 0x48);
	uint32_t len = fuzz_rarely(in) ? 1 + fuzz_below(in, 8) : 4;
	uint64_t val = fuzz_rarely(in) ? fuzz_u64(in) : fuzz_u8(in);
	uint8_t data[8];

	if (off + len > 0x1000)
		return;
	if (fuzz_u8(in) & 1) {
		memcpy(data, &val, sizeof(data));
		virtio_mmio_bus_ops.write(t, off, data, len);
		if (off == VIRTIO_MMIO_STATUS && len == 4 && (uint32_t)val == 0)
			check_after_reset();
	} else {
		virtio_mmio_bus_ops.read(t, off, data, len);
	}
}

static void offer(struct fuzz_input *in)
{
	struct guest_ring *r = &ring[fuzz_u8(in) % N_QUEUES];
	uint16_t head = (uint16_t)(fuzz_u8(in) % QSIZE);

	if (!r->mem)
		return;
	guest_ring_desc(r, head, fuzz_rarely(in) ? fuzz_u64(in) : 0x100000, fuzz_u8(in), 0, 0);
	guest_ring_offer(r, head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct virtio_mmio_config config = { .dev = &dev.vdev };

	log_set_level(LOG_OFF);
	if (!mem && gmem_create(&mem, MEM_SIZE, GMEM_PAGES_DEFAULT, NULL) < 0)
		abort();
	memset(&dev, 0, sizeof(dev));
	memset(ring, 0, sizeof(ring));
	config.mem = mem;
	config.kick_in_vcpu = fuzz_u8(&in) & 1;
	if (virtio_device_init(&dev.vdev, &fake_ops, OFFERED, "fuzz", NULL) < 0 ||
	    virtio_mmio_create(&config, &t, NULL) < 0)
		abort();
	for (int i = 0; i < MAX_STEPS && !fuzz_empty(&in); i++) {
		uint32_t before = dev.vdev.status;

		switch (fuzz_below(&in, 8)) {
		case 0:
		case 1:
		case 2:
			step_forward();
			break;
		case 3:
			offer(&in);
			break;
		case 4:
			virtio_mmio_handle_kick(t, (uint16_t)(fuzz_u8(&in) % N_QUEUES));
			break;
		default:
			access_register(&in);
			break;
		}
		check_state(before);
	}
	guest_mmio_write(t, VIRTIO_MMIO_STATUS, 0);
	check_after_reset();
	virtio_mmio_destroy(t);
	virtio_device_fini(&dev.vdev);
	return 0;
}
