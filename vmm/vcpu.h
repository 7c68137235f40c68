/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vCPUs of a machine: one thread each, KVM_RUN and the dispatch of its exits.
 *
 *     created --start--> running <--resume-- parked        vcpus_pause() parks every thread with its pending
 *                           |  \---pause--->  |            port or MMIO access completed, so that registers are whole
 *                           +-----stop--------+--> joined
 *
 * A vCPU thread does KVM_RUN and nothing else but exits: port and MMIO accesses go to the buses (devices lock for
 * themselves), everything that ends the machine goes to @stopped once, and the thread then waits to be joined.
 *
 * Threads: all functions are called by the I/O thread. @stopped is called in a vCPU thread.
 *
 * Invariant (V1): a vCPU whose gang is wanted paused or stopped has immediate_exit set, so its next KVM_RUN completes
 * the pending access and returns without entering the guest.
 */
#ifndef MAYFLY_VMM_VCPU_H
#define MAYFLY_VMM_VCPU_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/bus.h"
#include "vmm/kvm.h"
#include "vmm/x86/cpuid.h"

/* The signal that takes a vCPU out of KVM_RUN; the number that musl calls SIGRTMIN, which clients send too (CONTRACT.md 17). */
#define VCPU_KICK_SIGNAL 35

enum vcpu_stop {
	VCPU_STOP_RESET, /* triple fault or a KVM reset event: the guest rebooted */
	VCPU_STOP_ERROR, /* KVM could not run the guest; logged */
};

struct vcpus;

struct vcpus_params {
	struct kvm *kvm;            /* borrowed; the VM has its memory */
	const struct bus *pio, *mmio; /* borrowed, constant from vcpus_start() on */
	uint32_t n;                 /* 1 to LAYOUT_MAX_VCPUS */
	bool smt;
	void (*stopped)(void *ctx, enum vcpu_stop why);
	void *ctx;
};

/* Create @params->n vCPUs with their CPUID and MSRs. 0 and *@out (owned), or negative errno with @e. */
int vcpus_create(struct vcpus **out, const struct vcpus_params *params, struct err *e) MUST_USE;

/*
 * Set the registers of vCPU 0 for the first instruction: @fill gets KVM's reset values and changes them. The other
 * vCPUs wait for their start-up interrupt.
 */
struct kvm_regs;
struct kvm_sregs;
int vcpus_set_boot_regs(struct vcpus *vcpus, void (*fill)(const void *ctx, struct kvm_regs *, struct kvm_sregs *),
			const void *ctx, struct err *e) MUST_USE;

/*
 * The ring in which KVM collects coalesced writes, shared by all vCPUs, or NULL when KVM can't collect port writes. Lives
 * as long as the gang; *@entries is set.
 */
struct kvm_coalesced_mmio_ring;
struct kvm_coalesced_mmio_ring *vcpus_coalesced_ring(const struct vcpus *vcpus, uint32_t *entries);

/*
 * Start the threads, and when all exist let them run the guest. The handler of VCPU_KICK_SIGNAL is installed (signals.h).
 * On failure destroy the gang: threads that did start are stopped there and never ran the guest.
 */
int vcpus_start(struct vcpus *vcpus, struct err *e) MUST_USE;

/* Park all vCPUs; returns when all are, or -ETIMEDOUT after 30 s (they are then running again). Parked already: 0. */
int vcpus_pause(struct vcpus *vcpus, struct err *e) MUST_USE;

/* Let parked vCPUs run. */
void vcpus_resume(struct vcpus *vcpus);

/* Stop and join all threads, free. NULL allowed. */
void vcpus_destroy(struct vcpus *vcpus);

#endif
