/* SPDX-License-Identifier: Apache-2.0 */
/*
 * COM1: a 16550A as Linux's 8250 driver and simple polled guests use it, with an output that never waits.
 *
 * Trust: every register access is the guest's and may be anything; the guest's bytes go to the output unread. Input bytes are
 * the operator's.
 *
 * Output: a byte that the guest transmits goes into a ring of SERIAL_TX_MAX bytes and leaves with its line: the vCPU thread
 * itself writes at a line end, at a control character that is no part of text, when the guest is through with a burst (any
 * write of IER), and when SERIAL_TX_CHUNK bytes are together. What then still waits (a prompt that a raw writer left open)
 * leaves SERIAL_TX_DELAY_NS later from the I/O thread. An output that would block is left to the I/O thread and its EPOLLOUT;
 * once the ring is full, bytes are dropped and counted: a guest that writes and writes pays with its own time only.
 *
 * Coalescing: Linux's boot console reads LSR before each byte, two exits a byte. When that pattern is seen, KVM is asked to
 * collect the transmit-register writes in its own ring (serial_use_coalescing), which saves the second exit. The device takes
 * the collected bytes before every other access and at least every SERIAL_TX_DELAY_NS, and ends the mode when the pattern ends.
 *
 * Input: bytes wait on @in_fd until the guest wants them, that is, has enabled the receive interrupt or polls LSR: what was
 * typed or piped before the guest's driver came up is not lost. A full receive FIFO silences the descriptor.
 *
 * Threads: bus accesses from any vCPU thread, everything else in the I/O thread; one mutex.
 *
 * Invariants: (S1) at most SERIAL_TX_MAX bytes wait. (S2) While bytes wait, the delay timer is armed, or the output is
 * blocked and EPOLLOUT is asked for. (S3) Bytes leave in the order the guest sent them. (S4) No function blocks, except
 * serial_flush() for its time.
 *
 * Use: serial_create(), bus_add(&serial_bus_ops), serial_use_coalescing(), vCPUs run, serial_end_coalescing(), vCPUs are
 * joined and their mappings gone, serial_flush(), serial_destroy().
 */
#ifndef MAYFLY_VMM_SERIAL_H
#define MAYFLY_VMM_SERIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"
#include "vmm/bus.h"
#include "vmm/evloop.h"
#include "vmm/irq.h"

#define SERIAL_RX_MAX 64
#define SERIAL_TX_MAX 16384
#define SERIAL_TX_CHUNK 1024
#define SERIAL_TX_DELAY_NS UINT64_C(5000000)

struct serial;

struct serial_params {
	struct evloop *loop;        /* borrowed, outlives the device */
	const struct irq_line *irq; /* borrowed likewise */
	int in_fd;                  /* borrowed, O_NONBLOCK; -1: no input */
	int out_fd;                 /* borrowed, O_NONBLOCK; -1: output is discarded */
	/* One token bucket over the output, CONTRACT.md section 8; size 0 or refill 0: no limit. Bytes over it are dropped. */
	uint64_t bucket_size, bucket_burst, bucket_refill_ms;
};

/* Totals since creation; CONTRACT.md section 15, group uart. */
struct serial_stats {
	uint64_t read_count, write_count;               /* register accesses; bytes transmitted */
	uint64_t missed_read_count, missed_write_count; /* accesses of a wrong size; that and bytes dropped */
	uint64_t flush_count, error_count;              /* writes to the output; those that failed for good */
	uint64_t rate_limiter_dropped_bytes;
};

/* Create the device. Returns 0 and *@out (owned), or negative errno with @e. */
int serial_create(struct serial **out, const struct serial_params *params, struct err *e) MUST_USE;

/* Remove its sources from the loop and free it; bytes still in the ring are lost. NULL allowed. */
void serial_destroy(struct serial *serial);

/* Register accesses, for bus_add(); the device is LAYOUT_COM1_SIZE ports wide. */
extern const struct bus_ops serial_bus_ops;

/* Feed @len writes of the transmit register at once, as if each had come over the bus. Any thread. */
void serial_write_batch(struct serial *serial, const uint8_t *bytes, size_t len);

/* Write what waits, for at most @timeout_ms. True when nothing is left. After the vCPUs have stopped or are paused. */
bool serial_flush(struct serial *serial, int timeout_ms);

/* Copy the totals. Any thread. */
void serial_get_stats(struct serial *serial, struct serial_stats *out);

struct kvm_coalesced_mmio_ring;

/* How the device switches the collecting of transmit-register writes; see Coalescing above. */
struct serial_coalescing {
	/* Ask KVM to collect one-byte writes to @port, or to stop. 0 or negative errno. Called with the device locked. */
	int (*set)(void *ctx, uint16_t port, bool on);
	void *ctx;
	struct kvm_coalesced_mmio_ring *ring; /* shared with the kernel, borrowed; nobody else takes from it */
	uint32_t ring_entries;
};

/* Allow coalescing; before the vCPUs start. @c is copied. */
void serial_use_coalescing(struct serial *serial, const struct serial_coalescing *c);

/*
 * Stop coalescing for good and take what is collected; the ring is not touched afterwards. It is unmapped with the vCPUs, so
 * this comes before vcpus_destroy(); the vCPUs may still run. NULL allowed.
 */
void serial_end_coalescing(struct serial *serial);

/* The @set of a real VM; @vm_fd is the int that @ctx points to. */
int serial_kvm_coalesce(void *vm_fd, uint16_t port, bool on);

#endif
