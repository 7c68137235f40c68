/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver over virtio-mmio for the device behind the disk, whatever it is: it can do everything right and, piece by piece,
 * everything wrong. net.h and vsock.h say what goes through its queues.
 */
#ifndef MAYFLY_TEST_DEV_H
#define MAYFLY_TEST_DEV_H

#include "blk.h"

#define DEV_BASE 0xc0002000ull
#define DEV_QUEUE QUEUE_SIZE
#define DEV_QUEUES_MAX 3
#define RX 0
#define TX 1

struct dev_queue {
	volatile struct desc desc[DEV_QUEUE];
	volatile struct avail avail __attribute__((aligned(4096)));
	volatile struct used used __attribute__((aligned(4096)));
};

extern struct dev_queue dev_queue[DEV_QUEUES_MAX];

uint32_t dev_read(uint32_t off);
void dev_write(uint32_t off, uint32_t v);

/* Reset, negotiate @features and VERSION_1, set up @n_queues queues (cleared) and go to DRIVER_OK. True: it runs. */
bool dev_start(unsigned n_queues, uint64_t features);
/* The parts of it. */
uint32_t dev_negotiate(uint64_t features);
void dev_queue_setup(unsigned q, uint32_t size, uint64_t desc, uint64_t driver, uint64_t device);

void dev_desc(unsigned q, unsigned i, const volatile void *addr, uint32_t len, uint16_t flags, uint16_t next);
void dev_put(unsigned q, uint16_t head);
void dev_kick(unsigned q);

/* Wait until the device has used @n more chains of @q than before the last call, or has given up. False: neither. */
bool dev_wait_used(unsigned q, unsigned n);
uint32_t dev_used_len(unsigned q); /* of the last of these */

/* The device must be broken now: NEEDS_RESET, and then @works. @name, and @part ("rx", "tx"...), for the results. */
void dev_expect_broken(const char *name, const char *part, bool (*works)(void));

/* Ways to break a ring. */
enum dev_fault {
	AVAIL_JUMP, AVAIL_BACK, HEAD_OUT_OF_RANGE, HEAD_HUGE, SELF_LOOP, LOOP_OF_TWO, NEXT_OUT_OF_RANGE, BEYOND_RAM, ACROSS_RAM_END,
	IN_MMIO, IN_GAP, ADDRESS_OVERFLOW, TOO_LONG, INDIRECT, TWICE_IN_FLIGHT, N_FAULTS
};

#define RAM_END (128ull << 20)

extern const char *const dev_fault_names[N_FAULTS];

/* Break queue @q so, with the buffer @buf of 1000 bytes, which the device is to write when @writable. */
void dev_break(unsigned q, enum dev_fault fault, uint8_t *buf, bool writable);

#endif
