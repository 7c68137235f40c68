/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol between lab_run (on this machine) and lab_init (PID 1 of the emulated host, "L1").
 *
 * Both ends are built from the same checkout and started together, so there is no version: a stream of frames, each a
 * struct lab_frame followed by @len bytes, over one virtio-serial port. One stream for everything keeps the order: the
 * exit status is the last frame, so when it arrives every byte CMD wrote has arrived before it.
 *
 * Trust: both ends are ours. Lengths are still checked, so that a bug shows as an error and not as a crash.
 */
#ifndef MAYFLY_TESTS_LAB_LAB_WIRE_H
#define MAYFLY_TESTS_LAB_LAB_WIRE_H

#include <stdint.h>

#define LAB_DATA_MAX (32u * 1024) /* of a data frame: one write of the port's driver */
#define LAB_CONFIG_MAX (8u << 20) /* of a config frame: argv and environment, ARG_MAX and a bit */
#define LAB_PORT_NAME "mayfly.lab"
#define LAB_ROOT_TAG "hostroot"
#define LAB_SHARE_TAG "share" /* and a number, from 0 */
#define LAB_N_SHARES 4

enum lab_frame_type {
	/* lab_run -> lab_init */
	LAB_CONFIG = 'c',    /* "key=value" strings, each with its NUL: cwd, thp, stdin, module-dir, share, arg, env */
	LAB_STDIN = 'i',     /* bytes for CMD's standard input */
	LAB_STDIN_EOF = 'I', /* no more of them */
	/* lab_init -> lab_run */
	LAB_START = 's',  /* L1 is up, CMD starts now */
	LAB_STDOUT = 'o', /* bytes CMD wrote */
	LAB_STDERR = 'e',
	LAB_STATUS = 'x', /* uint32_t: CMD's exit status as a shell shows it; the last frame */
	LAB_FAIL = 'f',   /* text: why L1 could not run CMD; the last frame */
};

struct lab_frame {
	uint32_t type; /* enum lab_frame_type */
	uint32_t len;  /* bytes that follow */
};
_Static_assert(sizeof(struct lab_frame) == 8, "the same on both ends");

#endif
