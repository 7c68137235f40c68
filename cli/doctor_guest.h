/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One tiny guest of `mayfly doctor`: what to run and what it must report, and what came of it.
 *
 * The architecture's folder (x86/doctor_guests.c) has the table of guests and prepares a VM for one; doctor_kvm.c runs it
 * in a child process and judges the outcome.
 */
#ifndef MAYFLY_CLI_DOCTOR_GUEST_H
#define MAYFLY_CLI_DOCTOR_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

struct kvm_run;

#define DOCTOR_MAX_STEPS 4

enum doctor_mode { DOCTOR_REAL_MODE, DOCTOR_PROTECTED_MODE, DOCTOR_LONG_MODE };

/* What the processor must offer, else the guest is skipped. */
enum doctor_feature { DOCTOR_ANY_CPU, DOCTOR_CPU_POPCNT, DOCTOR_CPU_CX16, DOCTOR_CPU_XSAVE, DOCTOR_CPU_SMAP };

/* Interrupts and doorbells that the guest needs. */
enum doctor_wiring { DOCTOR_NO_IRQCHIP, DOCTOR_IRQCHIP, DOCTOR_IRQFD, DOCTOR_IOEVENTFD };

struct doctor_step {
	uint32_t value;   /* what the guest must report */
	const char *what; /* what that is */
};

struct doctor_guest {
	const char *id, *title;
	const uint8_t *entry;
	const uint8_t *handler; /* of interrupt or exception @vector; NULL: none */
	uint8_t vector;
	enum doctor_mode mode;
	enum doctor_feature feature;
	enum doctor_wiring wiring;
	size_t n_steps;
	struct doctor_step step[DOCTOR_MAX_STEPS];
	bool is_speed; /* judged by its time */
};

/* How far a guest came. Lives in memory shared with the child that runs it, which may die at any point. */
enum doctor_end {
	DOCTOR_END_RUNNING, /* no answer (yet) */
	DOCTOR_END_DONE,    /* the guest said so */
	DOCTOR_END_EXIT,    /* an exit that no guest here makes: exit_reason */
	DOCTOR_END_HOST,    /* a call failed: failed_call, err */
	DOCTOR_END_NO_CPU,  /* the feature is not offered */
};

struct doctor_outcome {
	enum doctor_end end;
	uint32_t n_reports;
	uint32_t report[DOCTOR_MAX_STEPS];
	uint32_t exit_reason, suberror;
	uint8_t insn[15], n_insn; /* internal error: the bytes that KVM gave up on, if it said so */
	uint64_t doorbell;        /* DOCTOR_IOEVENTFD: count of the eventfd */
	uint64_t took_ns;
	int err;
	const char *failed_call; /* static text; valid in the parent as well */
};

/* A VM with one vCPU, made for one guest. */
struct doctor_vm {
	int kvm_fd, vm_fd, vcpu_fd, event_fd;
	struct kvm_run *run;
};

/* The guests of this architecture; @n gets their number. */
const struct doctor_guest *doctor_guests(size_t *n);

/*
 * Make @vm for @guest, ready to run; vm->kvm_fd is open. 0, -ENOTSUP when the processor does not offer what the guest
 * needs, or negative errno with the failed call's name in *@failed. Never undone: the child exits.
 */
int doctor_vm_prepare(struct doctor_vm *vm, const struct doctor_guest *guest, const char **failed) MUST_USE;

/* The exception's name if @report is the report of an unexpected exception, else NULL. */
const char *doctor_exception(uint32_t report);

/* Ports the guests write to. */
#define DOCTOR_PORT_REPORT 0xf0
#define DOCTOR_PORT_DONE 0xf1
#define DOCTOR_PORT_HOST 0xf2

#endif
