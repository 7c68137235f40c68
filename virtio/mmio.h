/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-mmio transport, version 2 (virtio 1.2, 4.2.2): register file, status machine, kicks.
 *
 * Trust: every access is the guest's, in any order, width and at any offset of the page. What is not
 * allowed reads as zero or has no effect, is counted and logged within limits; nothing else happens.
 *
 * Threads: registers are read and written by any vCPU thread. The device's lock serialises them with
 * the queue handlers, except InterruptStatus, InterruptACK and QueueNotify, which take no lock
 * (try_notify tries it).
 *
 * Use: virtio_mmio_create() in the I/O thread before the vCPUs run; the machine puts it on the bus
 * (virtio_mmio_bus_ops, the struct virtio_mmio as device) and, unless virtio_mmio_kicks_in_vcpu(),
 * registers each kick descriptor with KVM_IOEVENTFD (address base + VIRTIO_MMIO_QUEUE_NOTIFY, length 4,
 * datamatch = queue index). virtio_mmio_destroy() after the vCPUs stopped.
 *
 * The status machine (values of the Status register; FAILED, 0x80, may be added to each and then only 0
 * leads on):
 *
 *     0 --ACKNOWLEDGE--> 1 --DRIVER--> 3 --FEATURES_OK--> 0xb --DRIVER_OK--> 0xf
 *     ^                  |             | (refused: stays 3)   (queues wrong: 0x4f)
 *     +-------0----------+------0------+--------0----------+--------0---------+
 *
 * Invariants:
 * (M1) Queue registers change only in state 0xb, and only while that queue's QueueReady is 0; features
 *      only in state 3.
 * (M2) The geometry that a queue works with was checked once, at 0xb -> 0xf; nothing reads the
 *      registers after it.
 * (M3) A write of 0 to Status returns with the device reset, all queues stopped, and no I/O in flight.
 */
#ifndef MAYFLY_VIRTIO_MMIO_H
#define MAYFLY_VIRTIO_MMIO_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/device.h"
#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"
#include "vmm/bus.h"
#include "vmm/evloop.h"
#include "vmm/gmem.h"
#include "vmm/irq.h"

struct virtio_mmio;

/* What virtio_mmio_create() connects. All are borrowed and outlive the transport. */
struct virtio_mmio_config {
	struct virtio_device *dev;
	struct gmem *mem;
	const struct irq_line *irq;
	struct evloop *loop;   /* NULL: no event sources; the owner calls virtio_mmio_handle_kick() (tests) */
	bool kick_in_vcpu;     /* serve kicks in the vCPU thread where the device can (ops->try_notify) */
};

/*
 * Make the transport of config->dev in its reset state; each queue gets a kick eventfd, watched by the
 * loop (EV_DEVICE). 0 and *@out (owned), or negative errno with @e. I/O thread, before the vCPUs run.
 */
int virtio_mmio_create(const struct virtio_mmio_config *config, struct virtio_mmio **out, struct err *e) MUST_USE;

/*
 * Reset the device, remove the event sources, free; NULL allowed. I/O thread, after the vCPUs stopped.
 * The device stays.
 */
void virtio_mmio_destroy(struct virtio_mmio *t);

/* Register accesses: device is the struct virtio_mmio. */
extern const struct bus_ops virtio_mmio_bus_ops;

/* Queues of the device, and the eventfd that kicks queue @q (below that number); owned by @t. */
uint16_t virtio_mmio_n_queues(const struct virtio_mmio *t);
int virtio_mmio_kick_fd(const struct virtio_mmio *t, uint16_t q);

/* True: kicks are to reach the register file as exits, so register no KVM_IOEVENTFD. */
bool virtio_mmio_kicks_in_vcpu(const struct virtio_mmio *t);

/* What the event source of queue @q does: have the device look at it. I/O thread. */
void virtio_mmio_handle_kick(struct virtio_mmio *t, uint16_t q);

/* Kick every queue, as if the driver had: after a resume or a restore. Any thread. */
void virtio_mmio_kick_all(struct virtio_mmio *t);

#endif
