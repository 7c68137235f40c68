/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The boot timer: a page in which the guest's init writes one magic byte, and the log tells how long it took to get there
 * (CONTRACT.md section 14, `Guest-boot-time`).
 *
 * Trust: the guest may write at any time and any number of times; the log line is limited like every one that it can cause.
 *
 * Threads: any vCPU thread; the struct is constant.
 */
#ifndef MAYFLY_VMM_BOOTTIMER_H
#define MAYFLY_VMM_BOOTTIMER_H

#include <stdint.h>

#include "vmm/bus.h"

#define BOOTTIMER_SIZE 0x1000

/* The byte that means "init runs", at offset 0. */
#define BOOTTIMER_MAGIC 123

struct boottimer {
	uint64_t start_us;     /* CLOCK_MONOTONIC when the process started */
	uint64_t start_cpu_us; /* CPU time that the process had used then */
};

/* For bus_add() with a struct boottimer as device. */
extern const struct bus_ops boottimer_bus_ops;

#endif
