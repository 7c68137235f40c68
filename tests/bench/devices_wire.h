/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What guest_devices.c (in the guest) and devices_in_lab.c (on the host) agree on.
 *
 * On the serial port, for each job: DEVICES_BEGIN, the work, DEVICES_END, and a line "JOB NS OPS BETWEEN_NS"; behind the
 * last one DEVICES_DONE. NS and OPS are of the measured part; BETWEEN_NS is the guest's clock from mark to mark, which the host
 * compares with its own. The guest sleeps beside the marks, so that the host has time to set up and to read its counters.
 *
 * On a connection (TCP to DEVICES_HOST, or vsock to the host, port DEVICES_PORT): any number of requests, each a
 * devices_request and what belongs to it.
 */
#ifndef MAYFLY_TESTS_BENCH_DEVICES_WIRE_H
#define MAYFLY_TESTS_BENCH_DEVICES_WIRE_H

#include <stdint.h>

#define DEVICES_BEGIN 2
#define DEVICES_END 3
#define DEVICES_DONE 4

#define DEVICES_HOST 0x0a000001u  /* 10.0.0.1 */
#define DEVICES_GUEST 0x0a000002u /* 10.0.0.2 */
#define DEVICES_PORT 5001
#define DEVICES_CHUNK (64 * 1024) /* bytes that both sides read and write at a time */

enum devices_what {
	DEVICES_SINK = 1, /* the guest sends n bytes, the host answers one byte when it has them all */
	DEVICES_SOURCE,	  /* the host sends n bytes */
	DEVICES_ECHO,	  /* n times: the guest sends one byte, the host sends it back */
};

struct devices_request {
	uint64_t what, n;
};

#endif
