/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One microVM: its KVM VM, memory, buses, devices and vCPUs, built in one readable order (machine_create in machine.c).
 *
 * In the words of the classic reference model of a virtual machine monitor: the bus is the dispatcher, this file is the
 * allocator (it alone gives out guest memory, addresses and interrupts), and the devices are the interpreter routines.
 *
 * Ownership: machine_create() takes the guest memory only when it succeeds, and works on handles of its own to the
 * drives' files, the interfaces' back ends and the vsock listener; after a failed start the caller still has its own
 * and may correct the configuration and try again.
 *
 * Threads: the I/O thread. @exit_requested is also called in vCPU threads, and only asks: the I/O thread then destroys.
 */
#ifndef MAYFLY_VMM_MACHINE_H
#define MAYFLY_VMM_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/blk.h"
#include "virtio/net.h"
#include "vmm/base/err.h"
#include "vmm/boot.h"
#include "vmm/evloop.h"
#include "vmm/gmem.h"

/* Process exit codes (CONTRACT.md section 17). */
#define EXIT_CODE_OK 0
#define EXIT_CODE_GENERIC 1

struct kvm;
struct machine;

/* Which buckets of a rate limiter are given; one that is not keeps what it is. */
struct machine_limits {
	bool has_bandwidth, has_ops;
	struct ratelimit_bucket_config bandwidth, ops;
};

struct machine_drive {
	const char *id;
	const struct blk_backing *backing; /* borrowed for the call */
	bool is_root, is_read_only, writeback, is_async;
	const char *partuuid;        /* NULL: none */
	struct machine_limits limits;
};

struct machine_net {
	const char *id;
	const struct net_backend *backend; /* borrowed for the call */
	const uint8_t *mac;                /* NET_MAC_BYTES; NULL: the guest chooses */
	uint16_t mtu;                      /* 0: the guest is not told */
	struct machine_limits rx, tx;
};

struct machine_vsock {
	uint32_t guest_cid;
	const char *uds_path;
	int listen_fd; /* borrowed for the call */
};

struct machine_params {
	struct evloop *loop;             /* borrowed, outlives the machine */
	struct kvm *kvm;                 /* an open VM (kvm_create_vm); taken, also on failure: then it is closed */
	struct gmem **mem;               /* holds the loaded kernel; taken on success (then NULL) */
	const struct boot_kernel *kernel;
	int initrd_fd;                   /* borrowed for the call; -1: none */
	const char *boot_args;           /* borrowed for the call; NULL: the default line */
	uint32_t n_vcpus;
	bool smt, track_dirty_pages;
	size_t n_drives;
	const struct machine_drive *drives; /* root first */
	size_t n_nets;
	const struct machine_net *nets;
	const struct machine_vsock *vsock; /* NULL: none */
	const char *serial_out_path;     /* NULL: standard input and output */
	uint64_t serial_bucket_size, serial_bucket_burst, serial_bucket_refill_ms; /* size or refill 0: no limit */
	bool boot_timer;
	uint64_t start_time_us, start_time_cpu_us; /* CLOCK_MONOTONIC and CPU time at process start, for the boot timer */
	void (*exit_requested)(void *ctx, int code);
	void *ctx;
};

/* Build everything up to the first instruction; nothing runs yet. 0 and *@out (owned), or negative errno with @e. */
int machine_create(struct machine **out, const struct machine_params *params, struct err *e) MUST_USE;

/* Start the vCPUs. On failure destroy the machine. */
int machine_start(struct machine *m, struct err *e) MUST_USE;

/* Park the vCPUs and stop device work, and the reverse. Idempotent. */
int machine_pause(struct machine *m, struct err *e) MUST_USE;
void machine_resume(struct machine *m);

/* Press Ctrl-Alt-Del. -ENOSPC with @e when the keyboard's buffer is full. */
int machine_send_ctrl_alt_del(struct machine *m, struct err *e) MUST_USE;

/* Swap the file behind drive @id for @backing (taken on success) or read its size again. -ENODEV when there is no such drive. */
int machine_update_drive(struct machine *m, const char *id, struct blk_backing *backing, struct err *e) MUST_USE;

/* Replace the rate limits of drive @id, bucket by bucket (CONTRACT.md section 8). -ENODEV when there is no such drive. */
int machine_update_drive_limits(struct machine *m, const char *id, const struct machine_limits *limits,
				struct err *e) MUST_USE;

/* Replace the rate limits of interface @id in one direction, likewise. -ENODEV when there is no such interface. */
int machine_update_net_limits(struct machine *m, const char *id, enum net_direction direction,
			      const struct machine_limits *limits, struct err *e) MUST_USE;

/* The process is about to end without machine_destroy(): give the terminal back. Async-signal-safe. */
void machine_emergency(struct machine *m);

/* Stop and join the vCPUs, flush the console, free everything. NULL allowed. */
void machine_destroy(struct machine *m);

#endif
