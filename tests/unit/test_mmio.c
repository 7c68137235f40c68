/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The register file: every register, every status transition (the illegal ones exhaustively), what is
 * frozen when, widths and bounds, kicks, interrupts, reset. The last test runs guest and device in two
 * threads, for ThreadSanitizer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/guest_ring.h"
#include "virtio/mmio.h"
#include "virtio/virtio_spec.h"
#include "vmm/base/log.h"

#define MEM_SIZE (2 * MIB)
#define OFFERED (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_BLK_F_RO)
#define CONFIG_LEN 12
#define N_QUEUES 2
#define QSIZE 64
#define DATA_AT UINT64_C(0x100000)

/* A device that pops and pushes, and counts what it is told. */
struct fake {
	struct virtio_device vdev;
	uint8_t config[CONFIG_LEN];
	unsigned n_activate, n_reset, n_notify[N_QUEUES], n_try, n_config_write;
	bool try_result, break_on_notify;
	struct vq_chain chain;
};

static void fake_activate(struct virtio_device *dev)
{
	container_of(dev, struct fake, vdev)->n_activate++;
}

static void fake_reset(struct virtio_device *dev)
{
	container_of(dev, struct fake, vdev)->n_reset++;
	assert_false(dev->active);
}

static void fake_notify(struct virtio_device *dev, uint16_t q)
{
	struct fake *f = container_of(dev, struct fake, vdev);
	struct virtqueue *vq = dev->vq[q];

	assert_true(dev->active);
	f->n_notify[q]++;
	if (f->break_on_notify) {
		virtio_device_break(dev, "test");
		return;
	}
	do {
		virtqueue_notify_off(vq);
		for (;;) {
			if (virtqueue_pop(vq, &f->chain) != VERDICT_OK) {
				virtio_device_break(dev, "test");
				return;
			}
			if (f->chain.n == 0)
				break;
			virtqueue_push(vq, f->chain.head, 0);
		}
	} while (virtqueue_notify_on(vq));
	virtio_device_signal_used(dev, q);
}

static bool fake_try_notify(struct virtio_device *dev, uint16_t q)
{
	struct fake *f = container_of(dev, struct fake, vdev);

	(void)q;
	f->n_try++;
	return f->try_result;
}

static void fake_config_read(const struct virtio_device *dev, uint32_t off, void *dst, uint32_t len)
{
	const struct fake *f = (const struct fake *)(const void *)dev;

	assert_true(off + len <= CONFIG_LEN);
	memcpy(dst, f->config + off, len);
}

static void fake_config_write(struct virtio_device *dev, uint32_t off, const void *src, uint32_t len)
{
	struct fake *f = container_of(dev, struct fake, vdev);

	assert_true(off + len <= CONFIG_LEN);
	f->n_config_write++;
	memcpy(f->config + off, src, len);
}

static const struct virtio_device_ops fake_ops = {
	.id = 42, .n_queues = N_QUEUES, .queue_size = QSIZE,
	.activate = fake_activate, .reset = fake_reset, .notify = fake_notify, .try_notify = fake_try_notify,
	.config_len = CONFIG_LEN, .config_read = fake_config_read, .config_write = fake_config_write,
};

static struct fake dev;
static struct gmem *mem;
static struct irq_line irq;
static struct evloop *loop;
static struct virtio_mmio *t;
static struct guest_ring ring[N_QUEUES];

static void create(bool kick_in_vcpu, struct evloop *with_loop)
{
	struct virtio_mmio_config config = {
		.dev = &dev.vdev, .mem = mem, .irq = &irq, .loop = with_loop, .kick_in_vcpu = kick_in_vcpu,
	};

	memset(&dev, 0, sizeof(dev));
	assert_int_equal(virtio_device_init(&dev.vdev, &fake_ops, OFFERED, "fake", NULL), 0);
	for (int i = 0; i < CONFIG_LEN; i++)
		dev.config[i] = (uint8_t)(0xa0 + i);
	assert_int_equal(virtio_mmio_create(&config, &t, NULL), 0);
}

static void destroy(void)
{
	virtio_mmio_destroy(t);
	virtio_device_fini(&dev.vdev);
}

static int setup(void **state)
{
	(void)state;
	assert_int_equal(gmem_create(&mem, MEM_SIZE, GMEM_PAGES_DEFAULT, NULL), 0);
	assert_int_equal(irq_init(&irq, 5, NULL), 0);
	assert_int_equal(evloop_create(&loop, NULL), 0);
	create(false, loop);
	for (uint16_t q = 0; q < N_QUEUES; q++)
		guest_ring_init(&ring[q], mem, QSIZE, 0x10000 * (q + UINT64_C(1)));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	destroy();
	evloop_destroy(loop);
	irq_fini(&irq);
	gmem_destroy(mem);
	return 0;
}

static uint32_t rd(uint64_t off)
{
	return guest_mmio_read(t, off);
}

static void wr(uint64_t off, uint32_t val)
{
	guest_mmio_write(t, off, val);
}

static uint64_t faults(void)
{
	return atomic_load(&dev.vdev.n_guest_faults);
}

/* Interrupt edges since the last call. */
static uint64_t edges(void)
{
	uint64_t n = 0;

	return read(irq.fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static void set_queues(void)
{
	for (uint16_t q = 0; q < N_QUEUES; q++)
		guest_mmio_set_queue(t, q, &ring[q].geo);
}

static void start(void)
{
	assert_int_equal(guest_mmio_negotiate(t, OFFERED), 0xb);
	set_queues();
	wr(VIRTIO_MMIO_STATUS, 0xf);
	assert_int_equal(rd(VIRTIO_MMIO_STATUS), 0xf);
	assert_true(dev.vdev.active);
}

static void offer(uint16_t q, uint16_t head)
{
	guest_ring_desc(&ring[q], head, DATA_AT, 16, 0, 0);
	guest_ring_offer(&ring[q], head);
}

/* --- Identity, features --- */

static void identity(void **state)
{
	(void)state;
	assert_int_equal(rd(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	assert_int_equal(rd(VIRTIO_MMIO_VERSION), 2);
	assert_int_equal(rd(VIRTIO_MMIO_DEVICE_ID), 42);
	assert_int_equal(rd(VIRTIO_MMIO_VENDOR_ID), 0);
	assert_int_equal(rd(VIRTIO_MMIO_STATUS), 0);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_NUM_MAX), QSIZE);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 0);
	assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	assert_int_equal(rd(VIRTIO_MMIO_CONFIG_GENERATION), 0);
	assert_int_equal(rd(VIRTIO_MMIO_SHM_LEN_LOW), UINT32_MAX);
	assert_int_equal(rd(VIRTIO_MMIO_SHM_LEN_HIGH), UINT32_MAX);
	assert_int_equal(rd(VIRTIO_MMIO_SHM_BASE_LOW), UINT32_MAX);
	assert_int_equal(rd(VIRTIO_MMIO_SHM_BASE_HIGH), UINT32_MAX);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_RESET), 0);
	assert_int_equal(virtio_mmio_n_queues(t), N_QUEUES);
	assert_false(virtio_mmio_kicks_in_vcpu(t));
	assert_int_equal(faults(), 0);
}

static void offered_features(void **state)
{
	(void)state;
	wr(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	assert_int_equal(rd(VIRTIO_MMIO_DEVICE_FEATURES), (uint32_t)OFFERED);
	wr(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	assert_int_equal(rd(VIRTIO_MMIO_DEVICE_FEATURES), 1);
	wr(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	assert_int_equal(rd(VIRTIO_MMIO_DEVICE_FEATURES), 0);
	wr(VIRTIO_MMIO_DEVICE_FEATURES_SEL, UINT32_MAX);
	assert_int_equal(rd(VIRTIO_MMIO_DEVICE_FEATURES), 0);
}

static void features_ok_refused(void **state)
{
	(void)state;
	assert_int_equal(guest_mmio_negotiate(t, 0), 0x3);                          /* no VERSION_1 */
	assert_int_equal(guest_mmio_negotiate(t, OFFERED | VIRTIO_BLK_F_FLUSH), 0x3); /* not offered */
	assert_int_equal(guest_mmio_negotiate(t, OFFERED | UINT64_C(1) << 63), 0x3);
	assert_int_equal(faults(), 3);
	/* The driver may think again. */
	wr(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	wr(VIRTIO_MMIO_DRIVER_FEATURES, 1);
	wr(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	wr(VIRTIO_MMIO_DRIVER_FEATURES, 0);
	wr(VIRTIO_MMIO_STATUS, 0xb);
	assert_int_equal(rd(VIRTIO_MMIO_STATUS), 0xb);
	assert_int_equal(dev.vdev.acked, VIRTIO_F_VERSION_1);
}

static void features_selector(void **state)
{
	(void)state;
	wr(VIRTIO_MMIO_STATUS, 1);
	wr(VIRTIO_MMIO_STATUS, 3);
	wr(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 2);
	wr(VIRTIO_MMIO_DRIVER_FEATURES, 0);
	assert_int_equal(faults(), 0);
	wr(VIRTIO_MMIO_DRIVER_FEATURES, 1);
	assert_int_equal(faults(), 1);
}

static void features_frozen(void **state)
{
	(void)state;
	/* Not before DRIVER, */
	wr(VIRTIO_MMIO_DRIVER_FEATURES, 1);
	assert_int_equal(faults(), 1);
	/* nor from FEATURES_OK on. */
	start();
	wr(VIRTIO_MMIO_DRIVER_FEATURES, 0);
	assert_int_equal(faults(), 2);
	assert_int_equal(dev.vdev.acked, OFFERED);
}

/* --- Status --- */

/* From every legal state, every value of the register: only the listed ones have an effect. */
static void status_transitions(void **state)
{
	static const uint32_t path[] = { 0, 1, 3, 0xb, 0xf };

	(void)state;
	for (size_t at = 0; at < ARRAY_SIZE(path); at++) {
		for (uint32_t val = 1; val < 0x200; val++) {
			uint32_t want = path[at];
			uint32_t got;

			(void)guest_mmio_negotiate(t, OFFERED);
			if (at < 3) {
				wr(VIRTIO_MMIO_STATUS, 0);
				for (size_t i = 1; i <= at; i++)
					wr(VIRTIO_MMIO_STATUS, path[i]);
				/*
				 * Features were given before the reset: give them again where that
				 * leads on.
				 */
				if (path[at] == 3) {
					wr(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
					wr(VIRTIO_MMIO_DRIVER_FEATURES, 1);
				}
			} else {
				set_queues();
				wr(VIRTIO_MMIO_STATUS, path[at]);
			}
			assert_int_equal(rd(VIRTIO_MMIO_STATUS), path[at]);
			wr(VIRTIO_MMIO_STATUS, val);
			got = rd(VIRTIO_MMIO_STATUS);
			/* NEEDS_RESET in what the driver writes is not looked at. */
			if ((val & ~0x40u) == (path[at] | 0x80))
				want = path[at] | 0x80;
			else if (at + 1 < ARRAY_SIZE(path) && (val & ~0x40u) == path[at + 1])
				want = path[at + 1];
			assert_int_equal(got, want);
			assert_int_equal(dev.vdev.active, got == 0xf || got == 0x8f);
		}
		wr(VIRTIO_MMIO_STATUS, 0);
		assert_int_equal(rd(VIRTIO_MMIO_STATUS), 0);
	}
}

static void failed_is_final(void **state)
{
	(void)state;
	wr(VIRTIO_MMIO_STATUS, 1);
	wr(VIRTIO_MMIO_STATUS, 0x81);
	wr(VIRTIO_MMIO_STATUS, 0x83);
	assert_int_equal(rd(VIRTIO_MMIO_STATUS), 0x81);
	wr(VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(rd(VIRTIO_MMIO_STATUS), 0);
}

static void activation(void **state)
{
	(void)state;
	start();
	assert_int_equal(dev.n_activate, 1);
	wr(VIRTIO_MMIO_STATUS, 0xf); /* once more: nothing */
	assert_int_equal(dev.n_activate, 1);
	assert_int_equal(faults(), 0);
	assert_int_equal(edges(), 0);
}

/* DRIVER_OK with a queue missing or wrong: NEEDS_RESET and a configuration interrupt, no activation. */
static void activation_refused(void **state)
{
	struct vq_geometry geo;

	(void)state;
	for (int wrong = 0; wrong < 5; wrong++) {
		assert_int_equal(guest_mmio_negotiate(t, OFFERED), 0xb);
		guest_mmio_set_queue(t, 0, &ring[0].geo);
		geo = ring[1].geo;
		if (wrong == 1)
			geo.size = 65;
		if (wrong == 2)
			geo.desc += 1;
		if (wrong == 3)
			geo.device = MEM_SIZE;
		if (wrong != 0)
			guest_mmio_set_queue(t, 1, &geo);
		if (wrong == 4)
			wr(VIRTIO_MMIO_QUEUE_READY, 0); /* all right but for this */
		wr(VIRTIO_MMIO_STATUS, 0xf);
		assert_int_equal(rd(VIRTIO_MMIO_STATUS), 0x4f);
		assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_INT_CONFIG_CHANGE);
		assert_int_equal(edges(), 1);
		assert_false(dev.vdev.active);
		assert_false(virtqueue_started(dev.vdev.vq[0]));
		virtio_mmio_handle_kick(t, 0);
		assert_int_equal(dev.n_notify[0], 0);
	}
	assert_int_equal(dev.n_activate, 0);
	start();
	assert_int_equal(dev.n_activate, 1);
}

/* --- Queue registers --- */

static void queue_selector(void **state)
{
	(void)state;
	assert_int_equal(guest_mmio_negotiate(t, OFFERED), 0xb);
	wr(VIRTIO_MMIO_QUEUE_SEL, N_QUEUES);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 0);
	wr(VIRTIO_MMIO_QUEUE_READY, 1);
	wr(VIRTIO_MMIO_QUEUE_NUM, 8);
	wr(VIRTIO_MMIO_QUEUE_SEL, UINT32_MAX);
	wr(VIRTIO_MMIO_QUEUE_DESC_LOW, 8);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 0);
	assert_int_equal(faults(), 3);
	wr(VIRTIO_MMIO_QUEUE_SEL, 1);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_NUM_MAX), QSIZE);
	wr(VIRTIO_MMIO_QUEUE_READY, 1);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 1);
	wr(VIRTIO_MMIO_QUEUE_SEL, 0);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 0);
	assert_int_equal(faults(), 3);
}

static const uint32_t queue_registers[] = {
	VIRTIO_MMIO_QUEUE_NUM, VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_DESC_HIGH, VIRTIO_MMIO_QUEUE_DRIVER_LOW,
	VIRTIO_MMIO_QUEUE_DRIVER_HIGH, VIRTIO_MMIO_QUEUE_DEVICE_LOW, VIRTIO_MMIO_QUEUE_DEVICE_HIGH,
};

static void expect_queue_frozen(void)
{
	uint64_t before = faults();

	for (size_t i = 0; i < ARRAY_SIZE(queue_registers); i++)
		wr(queue_registers[i], 0xffff0000);
	assert_int_equal(faults(), before + ARRAY_SIZE(queue_registers));
}

/* Writable only in state 0xb while not ready (CVE-2026-5747). */
static void queue_registers_frozen(void **state)
{
	(void)state;
	expect_queue_frozen();
	wr(VIRTIO_MMIO_STATUS, 1);
	expect_queue_frozen();
	wr(VIRTIO_MMIO_STATUS, 3);
	expect_queue_frozen();
	assert_int_equal(guest_mmio_negotiate(t, OFFERED), 0xb);
	set_queues();
	expect_queue_frozen(); /* QueueReady is 1 */
	wr(VIRTIO_MMIO_STATUS, 0xf);
	assert_int_equal(rd(VIRTIO_MMIO_STATUS), 0xf); /* so the geometry was still right */
	expect_queue_frozen();
	wr(VIRTIO_MMIO_QUEUE_READY, 0);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 1);
	/* And the queue still works with what it was started with. */
	offer(1, 0);
	virtio_mmio_handle_kick(t, 1);
	assert_int_equal(guest_ring_used_idx(&ring[1]), 1);
}

static void queue_ready_back_and_forth(void **state)
{
	(void)state;
	wr(VIRTIO_MMIO_QUEUE_READY, 0); /* as Linux does after a reset */
	assert_int_equal(faults(), 0);
	wr(VIRTIO_MMIO_QUEUE_READY, 1);
	assert_int_equal(faults(), 1);
	assert_int_equal(guest_mmio_negotiate(t, OFFERED), 0xb);
	wr(VIRTIO_MMIO_QUEUE_READY, 2);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 0);
	wr(VIRTIO_MMIO_QUEUE_READY, 1);
	wr(VIRTIO_MMIO_QUEUE_READY, 0);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 0);
	wr(VIRTIO_MMIO_QUEUE_NUM, 8);
	assert_int_equal(faults(), 2);
}

/* Both halves of an address count. */
static void queue_address_halves(void **state)
{
	(void)state;
	assert_int_equal(guest_mmio_negotiate(t, OFFERED), 0xb);
	set_queues();
	wr(VIRTIO_MMIO_QUEUE_READY, 0);
	wr(VIRTIO_MMIO_QUEUE_DEVICE_HIGH, 1);
	wr(VIRTIO_MMIO_QUEUE_READY, 1);
	wr(VIRTIO_MMIO_STATUS, 0xf);
	assert_int_equal(rd(VIRTIO_MMIO_STATUS), 0x4f);
}

/* --- Accesses --- */

static void widths(void **state)
{
	uint8_t data[8];
	static const uint32_t wrong[] = { 1, 2, 8 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		memset(data, 0xee, sizeof(data));
		virtio_mmio_bus_ops.read(t, VIRTIO_MMIO_MAGIC_VALUE, data, wrong[i]);
		for (uint32_t k = 0; k < wrong[i]; k++)
			assert_int_equal(data[k], 0);
		memset(data, 1, sizeof(data));
		virtio_mmio_bus_ops.write(t, VIRTIO_MMIO_STATUS, data, wrong[i]);
	}
	virtio_mmio_bus_ops.read(t, 2, data, 4);
	virtio_mmio_bus_ops.write(t, VIRTIO_MMIO_STATUS + 1, data, 4);
	assert_int_equal(faults(), 2 * ARRAY_SIZE(wrong) + 2);
	assert_int_equal(rd(VIRTIO_MMIO_STATUS), 0);
}

/* Every offset of the page can be read and written in every width; nothing happens but counting. */
static void every_offset(void **state)
{
	uint8_t data[8];

	(void)state;
	start();
	for (uint64_t off = 0; off < 0x1000; off++) {
		for (uint32_t len = 1; len <= 8; len++) {
			if (off + len > 0x1000 || off == VIRTIO_MMIO_STATUS)
				continue;
			virtio_mmio_bus_ops.read(t, off, data, len);
			memset(data, 0xff, sizeof(data));
			virtio_mmio_bus_ops.write(t, off, data, len);
		}
	}
	assert_int_equal(rd(VIRTIO_MMIO_STATUS), 0xf);
	assert_true(faults() > 1000);
}

static void config_access(void **state)
{
	uint8_t data[8];

	(void)state;
	for (uint32_t len = 1; len <= 8; len *= 2) {
		for (uint32_t off = 0; off <= CONFIG_LEN + 8; off++) {
			uint64_t before = faults();

			memset(data, 0xee, sizeof(data));
			virtio_mmio_bus_ops.read(t, VIRTIO_MMIO_CONFIG + off, data, len);
			for (uint32_t k = 0; k < len; k++)
				assert_int_equal(data[k], off + len <= CONFIG_LEN ? 0xa0 + off + k : 0);
			assert_int_equal(faults(), before + (off + len > CONFIG_LEN));
		}
	}
	/* 3 is no width. */
	virtio_mmio_bus_ops.read(t, VIRTIO_MMIO_CONFIG, data, 3);
	assert_int_equal(data[0], 0);
}

/* Writes only once there is a driver (CONTRACT.md 16.2), inside the bounds (CVE-2021-45464). */
static void config_write(void **state)
{
	uint8_t data[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };

	(void)state;
	virtio_mmio_bus_ops.write(t, VIRTIO_MMIO_CONFIG, data, 4);
	assert_int_equal(dev.n_config_write, 0);
	start();
	virtio_mmio_bus_ops.write(t, VIRTIO_MMIO_CONFIG + CONFIG_LEN - 4, data, 8);
	virtio_mmio_bus_ops.write(t, VIRTIO_MMIO_CONFIG + CONFIG_LEN, data, 1);
	virtio_mmio_bus_ops.write(t, 0xff8, data, 8);
	assert_int_equal(dev.n_config_write, 0);
	virtio_mmio_bus_ops.write(t, VIRTIO_MMIO_CONFIG + 4, data, 8);
	assert_int_equal(dev.n_config_write, 1);
	assert_int_equal(dev.config[11], 8);
	wr(VIRTIO_MMIO_STATUS, 0x8f);
	virtio_mmio_bus_ops.write(t, VIRTIO_MMIO_CONFIG, data, 4);
	assert_int_equal(dev.n_config_write, 1);
}

static void generation(void **state)
{
	(void)state;
	virtio_device_lock(&dev.vdev);
	virtio_device_signal_config(&dev.vdev);
	virtio_device_unlock(&dev.vdev);
	assert_int_equal(rd(VIRTIO_MMIO_CONFIG_GENERATION), 1);
	assert_int_equal(edges(), 0); /* nobody is there yet */
	start();
	virtio_device_lock(&dev.vdev);
	virtio_device_signal_config(&dev.vdev);
	virtio_device_unlock(&dev.vdev);
	assert_int_equal(rd(VIRTIO_MMIO_CONFIG_GENERATION), 2);
	assert_int_equal(edges(), 1);
	assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_INT_CONFIG_CHANGE);
}

/* --- Kicks and interrupts --- */

static void kick_through_the_register(void **state)
{
	(void)state;
	start();
	assert_int_equal(evloop_turn(loop, 0), 0);
	offer(1, 3);
	wr(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
	assert_int_equal(evloop_turn(loop, 0), 1);
	assert_int_equal(dev.n_notify[1], 1);
	assert_int_equal(dev.n_notify[0], 0);
	assert_int_equal(guest_ring_used_idx(&ring[1]), 1);
	assert_int_equal(edges(), 1);
	assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_INT_USED_BUFFER);
	/* Edge-triggered: not again without another kick, and the descriptor is never read. */
	assert_int_equal(evloop_turn(loop, 0), 0);
	wr(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
	wr(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
	assert_int_equal(evloop_turn(loop, 0), 1);
	assert_int_equal(dev.n_notify[1], 2);
}

/* kvmtool e48563f5, CVE-2011-2512: a queue number that does not exist. */
static void kick_out_of_range(void **state)
{
	(void)state;
	start();
	wr(VIRTIO_MMIO_QUEUE_NOTIFY, N_QUEUES);
	wr(VIRTIO_MMIO_QUEUE_NOTIFY, 0x10000);
	wr(VIRTIO_MMIO_QUEUE_NOTIFY, UINT32_MAX);
	assert_int_equal(faults(), 3);
	assert_int_equal(evloop_turn(loop, 0), 0);
}

static void kick_while_paused(void **state)
{
	(void)state;
	start();
	evloop_pause_devices(loop);
	offer(0, 0);
	wr(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	assert_int_equal(evloop_turn(loop, 0), 0);
	assert_int_equal(dev.n_notify[0], 0);
	evloop_resume_devices(loop);
	assert_true(evloop_turn(loop, 0) > 0);
	assert_int_equal(guest_ring_used_idx(&ring[0]), 1);
	/* Also without a kick of the driver. */
	virtio_mmio_kick_all(t);
	assert_int_equal(evloop_turn(loop, 0), N_QUEUES);
	assert_int_equal(dev.n_notify[1], 1);
}

static void kick_in_vcpu(void **state)
{
	(void)state;
	destroy();
	create(true, loop);
	assert_true(virtio_mmio_kicks_in_vcpu(t));
	/* Not started: nobody is asked. */
	wr(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	assert_int_equal(dev.n_try, 0);
	start();
	dev.try_result = true;
	wr(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	assert_int_equal(dev.n_try, 1);
	assert_int_equal(evloop_turn(loop, 0), 0);
	dev.try_result = false;
	wr(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	assert_int_equal(dev.n_try, 2);
	assert_int_equal(evloop_turn(loop, 0), 1);
	/* Somebody holds the device: not asked, handed over, no waiting. */
	virtio_device_lock(&dev.vdev);
	wr(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	virtio_device_unlock(&dev.vdev);
	assert_int_equal(dev.n_try, 2);
	assert_int_equal(evloop_turn(loop, 0), 1);
}

/* Status and acknowledgement of interrupts never wait for the device. */
static void interrupt_registers_take_no_lock(void **state)
{
	(void)state;
	start();
	atomic_store(&dev.vdev.interrupt_status, 3);
	virtio_device_lock(&dev.vdev);
	assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), 3);
	wr(VIRTIO_MMIO_INTERRUPT_ACK, 1);
	assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), 2);
	wr(VIRTIO_MMIO_INTERRUPT_ACK, 0xfffffffc);
	assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), 2);
	wr(VIRTIO_MMIO_INTERRUPT_ACK, 0xffffffff);
	assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	virtio_device_unlock(&dev.vdev);
}

/* --- Broken queues and reset --- */

static void broken_queue(void **state)
{
	(void)state;
	start();
	guest_ring_set_idx(&ring[0], QSIZE + 1);
	virtio_mmio_handle_kick(t, 0);
	assert_int_equal(rd(VIRTIO_MMIO_STATUS), 0x4f);
	assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_INT_CONFIG_CHANGE);
	assert_int_equal(edges(), 1);
	assert_int_equal(faults(), 1);
	/* Dead until reset, also its other queue. */
	offer(1, 0);
	virtio_mmio_handle_kick(t, 1);
	assert_int_equal(dev.n_notify[1], 0);
	wr(VIRTIO_MMIO_STATUS, 0x4f); /* what a driver reads it may write */
	assert_int_equal(faults(), 1);
	guest_ring_init(&ring[0], mem, QSIZE, 0x10000);
	guest_ring_init(&ring[1], mem, QSIZE, 0x20000);
	start();
	offer(0, 0);
	virtio_mmio_handle_kick(t, 0);
	assert_int_equal(guest_ring_used_idx(&ring[0]), 1);
}

static void reset(void **state)
{
	unsigned before;

	(void)state;
	start();
	offer(0, 0);
	virtio_mmio_handle_kick(t, 0);
	wr(VIRTIO_MMIO_QUEUE_SEL, 1);
	before = dev.n_reset;
	wr(VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(dev.n_reset, before + 1);
	assert_int_equal(rd(VIRTIO_MMIO_STATUS), 0);
	assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 0);
	assert_int_equal(dev.vdev.acked, 0);
	assert_false(virtqueue_started(dev.vdev.vq[0]));
	assert_false(virtqueue_started(dev.vdev.vq[1]));
	/* A late kick finds nothing. */
	offer(0, 1);
	virtio_mmio_handle_kick(t, 0);
	assert_int_equal(guest_ring_used_idx(&ring[0]), 1);
	/* Old features and addresses are gone. */
	wr(VIRTIO_MMIO_STATUS, 1);
	wr(VIRTIO_MMIO_STATUS, 3);
	wr(VIRTIO_MMIO_STATUS, 0xb);
	assert_int_equal(rd(VIRTIO_MMIO_STATUS), 3);
}

/* --- Two threads --- */

#define STRESS_ROUNDS 300

static void *io_thread(void *stop)
{
	while (!atomic_load((_Atomic bool *)stop)) {
		int rc = evloop_turn(loop, 1);

		must(rc >= 0);
	}
	return NULL;
}

static void stress_with(bool in_vcpu)
{
	_Atomic bool stop = false;
	pthread_t thread;

	destroy();
	create(in_vcpu, loop);
	assert_int_equal(pthread_create(&thread, NULL, io_thread, &stop), 0);
	for (unsigned i = 0; i < STRESS_ROUNDS; i++) {
		for (uint16_t q = 0; q < N_QUEUES; q++)
			guest_ring_init(&ring[q], mem, QSIZE, 0x10000 * (q + UINT64_C(1)));
		start();
		for (uint16_t k = 0; k < 20; k++) {
			offer((uint16_t)(k % 2), (uint16_t)(k / 2));
			wr(VIRTIO_MMIO_QUEUE_NOTIFY, k % 2);
			wr(VIRTIO_MMIO_INTERRUPT_ACK, rd(VIRTIO_MMIO_INTERRUPT_STATUS));
			(void)rd(VIRTIO_MMIO_CONFIG_GENERATION);
			(void)rd(VIRTIO_MMIO_STATUS);
		}
		if (i % 3 == 0)
			guest_ring_set_idx(&ring[0], 5000);
		wr(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
		wr(VIRTIO_MMIO_STATUS, 0);
		assert_int_equal(rd(VIRTIO_MMIO_STATUS), 0);
	}
	/* Liveness: whatever was lost in resets, a request of a quiet device is served. */
	for (uint16_t q = 0; q < N_QUEUES; q++)
		guest_ring_init(&ring[q], mem, QSIZE, 0x10000 * (q + UINT64_C(1)));
	start();
	offer(0, 0);
	wr(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	for (int i = 0; i < 5000 && guest_ring_used_idx(&ring[0]) == 0; i++)
		(void)usleep(1000);
	assert_int_equal(guest_ring_used_idx(&ring[0]), 1);
	atomic_store(&stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void stress(void **state)
{
	(void)state;
	stress_with(false);
	stress_with(true);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(identity), T(offered_features), T(features_ok_refused), T(features_selector), T(features_frozen),
		T(status_transitions), T(failed_is_final), T(activation), T(activation_refused), T(queue_selector),
		T(queue_registers_frozen), T(queue_ready_back_and_forth), T(queue_address_halves), T(widths),
		T(every_offset), T(config_access), T(config_write), T(generation), T(kick_through_the_register),
		T(kick_out_of_range), T(kick_while_paused), T(kick_in_vcpu), T(interrupt_registers_take_no_lock),
		T(broken_queue), T(reset), T(stress),
	};

	log_set_level(LOG_OFF);
	return cmocka_run_group_tests_name("mmio", tests, NULL, NULL);
}
