/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vcpu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "vmm/base/checked.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/layout.h"
#include "vmm/x86/msr.h"

#define PAUSE_TIMEOUT_S 30
#define VCPU_STACK_SIZE (128 * KIB)
#define PAGE_BYTES UINT64_C(4096)
#define EAGAIN_LIMIT 64 /* in a row */

enum want { WANT_RUN, WANT_PAUSE, WANT_STOP };

struct vcpu {
	struct vcpus *gang;
	uint32_t id;
	int fd;              /* owned */
	struct kvm_run *run; /* owned mapping of gang->kvm->run_size bytes */
	pthread_t thread;
	bool started;
};

struct vcpus {
	struct vcpus_params params;
	_Atomic enum want want; /* written under lock */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* want or n_parked changed */
	uint32_t n_parked;      /* under lock; threads that are parked or have ended */
	struct vcpu vcpu[LAYOUT_MAX_VCPUS];
};

static int vcpu_open(struct vcpu *v, struct vcpus *gang, uint32_t id, struct err *e)
{
	v->gang = gang;
	v->id = id;
	v->fd = ioctl(gang->params.kvm->vm_fd, KVM_CREATE_VCPU, (unsigned long)id);
	if (v->fd < 0)
		return err_sys(e, -errno, "KVM_CREATE_VCPU (vCPU %u)", id);
	v->run = mmap(NULL, gang->params.kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		v->run = NULL;
		return err_sys(e, -errno, "map the kvm_run area of vCPU %u", id);
	}
	return 0;
}

static int configure_all(struct vcpus *gang, struct err *e)
{
	AUTO_FREE struct kvm_cpuid2 *table = cpuid_table_create();
	const struct kvm *kvm = gang->params.kvm;
	struct cpuid_machine m = {
		.n_vcpus = gang->params.n,
		.smt = gang->params.smt,
		.tsc_deadline = kvm->has_tsc_deadline,
	};
	int rc, khz;

	if (!table)
		return err_sys(e, -ENOMEM, "CPUID table");
	rc = kvm_supported_cpuid(kvm, table, CPUID_MAX_ENTRIES);
	if (rc)
		return err_sys(e, rc, "KVM_GET_SUPPORTED_CPUID");
	khz = ioctl(gang->vcpu[0].fd, KVM_GET_TSC_KHZ, 0);
	m.tsc_khz = khz > 0 ? (uint32_t)khz : 0;
	rc = cpuid_normalise(table, &m);
	if (rc)
		return err_sys(e, rc, "CPUID table");
	for (uint32_t i = 0; i < gang->params.n; i++) {
		cpuid_set_vcpu(table, i, &m);
		if (ioctl(gang->vcpu[i].fd, KVM_SET_CPUID2, table) < 0)
			return err_sys(e, -errno, "KVM_SET_CPUID2 (vCPU %u)", i);
		rc = msr_set_boot(gang->vcpu[i].fd, e);
		if (rc)
			return rc;
	}
	return 0;
}

int vcpus_create(struct vcpus **out, const struct vcpus_params *params, struct err *e)
{
	pthread_condattr_t attr;
	struct vcpus *gang;
	int rc = 0;

	must(params->n >= 1 && params->n <= LAYOUT_MAX_VCPUS);
	gang = calloc(1, sizeof(*gang));
	if (!gang)
		return err_sys(e, -ENOMEM, "vCPUs");
	gang->params = *params;
	for (uint32_t i = 0; i < LAYOUT_MAX_VCPUS; i++)
		gang->vcpu[i].fd = -1;
	(void)pthread_mutex_init(&gang->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&gang->changed, &attr);
	(void)pthread_condattr_destroy(&attr);
	atomic_store(&gang->want, WANT_PAUSE);

	for (uint32_t i = 0; i < params->n && !rc; i++)
		rc = vcpu_open(&gang->vcpu[i], gang, i, e);
	if (!rc)
		rc = configure_all(gang, e);
	if (rc) {
		vcpus_destroy(gang);
		return rc;
	}
	*out = gang;
	return 0;
}

int vcpus_set_boot_regs(struct vcpus *vcpus, void (*fill)(const void *ctx, struct kvm_regs *, struct kvm_sregs *),
			const void *ctx, struct err *e)
{
	struct kvm_regs regs = {0};
	struct kvm_sregs sregs;

	if (ioctl(vcpus->vcpu[0].fd, KVM_GET_SREGS, &sregs) < 0)
		return err_sys(e, -errno, "KVM_GET_SREGS");
	fill(ctx, &regs, &sregs);
	if (ioctl(vcpus->vcpu[0].fd, KVM_SET_SREGS, &sregs) < 0)
		return err_sys(e, -errno, "KVM_SET_SREGS");
	if (ioctl(vcpus->vcpu[0].fd, KVM_SET_REGS, &regs) < 0)
		return err_sys(e, -errno, "KVM_SET_REGS");
	return 0;
}

struct kvm_coalesced_mmio_ring *vcpus_coalesced_ring(const struct vcpus *vcpus, uint32_t *entries)
{
	const struct kvm *kvm = vcpus->params.kvm;
	size_t off = kvm->coalesced_page * PAGE_BYTES;

	if (!kvm->has_coalesced_pio || !kvm->coalesced_page || !range_within(off, PAGE_BYTES, kvm->run_size))
		return NULL;
	*entries = (PAGE_BYTES - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio);
	return (void *)((uint8_t *)vcpus->vcpu[0].run + off);
}

static void dispatch_io(const struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT)
			bus_write(v->gang->params.pio, run->io.port, data, run->io.size);
		else
			bus_read(v->gang->params.pio, run->io.port, data, run->io.size);
	}
}

static void dispatch_mmio(const struct vcpu *v)
{
	struct kvm_run *run = v->run;

	if (run->mmio.is_write)
		bus_write(v->gang->params.mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	else
		bus_read(v->gang->params.mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
}

static void log_internal_error(const struct vcpu *v)
{
	const struct kvm_run *run = v->run;

	if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
		log_error("vCPU %u: the host's KVM failed to emulate an instruction of the guest. %s", v->id, KVM_ADVICE);
	else
		log_error("vCPU %u: KVM internal error %u.", v->id, run->internal.suberror);
}

/* Act on the exit that KVM_RUN returned with. True: go on running. False: the machine ends, *@why is set. */
static bool dispatch_exit(const struct vcpu *v, enum vcpu_stop *why)
{
	const struct kvm_run *run = v->run;

	*why = VCPU_STOP_ERROR;
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		dispatch_io(v);
		return true;
	case KVM_EXIT_MMIO:
		dispatch_mmio(v);
		return true;
	case KVM_EXIT_INTR:
		return true;
	case KVM_EXIT_SHUTDOWN:
		log_info("Received KVM_EXIT_SHUTDOWN: vCPU %u had a triple fault.", v->id);
		*why = VCPU_STOP_RESET;
		return false;
	case KVM_EXIT_SYSTEM_EVENT:
		log_info("Received KVM_EXIT_SYSTEM_EVENT %u on vCPU %u.", run->system_event.type, v->id);
		*why = VCPU_STOP_RESET;
		return false;
	case KVM_EXIT_HLT:
		log_error("Received KVM_EXIT_HLT on vCPU %u.", v->id);
		return false;
	case KVM_EXIT_FAIL_ENTRY:
		log_error("vCPU %u: the processor refused the guest's state, reason 0x%llx.", v->id,
			  (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		log_internal_error(v);
		return false;
	default:
		log_error("vCPU %u: unexpected KVM exit %u.", v->id, run->exit_reason);
		return false;
	}
}

/*
 * KVM_RUN did not run, or not yet: wait until the gang may run (again). False: it is to stop.
 * Clearing immediate_exit under the lock, only while running is wanted, keeps V1.
 */
static bool check_in(struct vcpu *v)
{
	struct vcpus *gang = v->gang;
	bool run;

	if (atomic_load(&gang->want) == WANT_PAUSE)
		(void)ioctl(v->fd, KVM_KVMCLOCK_CTRL, 0); /* tells the guest's watchdogs; EINVAL without kvmclock */
	(void)pthread_mutex_lock(&gang->lock);
	gang->n_parked++;
	(void)pthread_cond_broadcast(&gang->changed);
	while (atomic_load(&gang->want) == WANT_PAUSE)
		(void)pthread_cond_wait(&gang->changed, &gang->lock);
	run = atomic_load(&gang->want) == WANT_RUN;
	if (run) {
		gang->n_parked--;
		__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_RELAXED);
	}
	(void)pthread_mutex_unlock(&gang->lock);
	return run;
}

/* This vCPU ended the machine: it counts as parked until it is joined. */
static void wait_for_stop(struct vcpus *gang)
{
	(void)pthread_mutex_lock(&gang->lock);
	gang->n_parked++;
	(void)pthread_cond_broadcast(&gang->changed);
	while (atomic_load(&gang->want) != WANT_STOP)
		(void)pthread_cond_wait(&gang->changed, &gang->lock);
	(void)pthread_mutex_unlock(&gang->lock);
}

/* KVM_RUN failed with @error for the @n_again'th time in a row with EAGAIN. True: go on. */
static bool survive_run_error(struct vcpu *v, int error, unsigned int n_again)
{
	switch (error) {
	case EINTR:
		return true;
	case EAGAIN: /* once: a secondary vCPU got its start-up interrupt. For ever: KVM could not start its own thread */
		if (n_again < EAGAIN_LIMIT)
			return true;
		log_error("vCPU %u: KVM_RUN has no resources: a limit on processes (pids.max of the cgroup, RLIMIT_NPROC) that "
			  "leaves KVM no thread of its own? Allow one more than vCPUs + 1.",
			  v->id);
		return false;
	case ENOSYS:
		log_error("Received ENOSYS error because KVM failed to emulate an instruction.");
		return false;
	default: {
		char text[96];

		log_error("vCPU %u: KVM_RUN: %s. %s", v->id, err_os_text(error, text, sizeof(text)), KVM_ADVICE);
		return false;
	}
	}
}

static void *vcpu_main(void *arg)
{
	struct vcpu *v = arg;
	struct vcpus *gang = v->gang;
	enum vcpu_stop why = VCPU_STOP_ERROR;
	unsigned int n_again = 0;
	char name[16];

	(void)snprintf(name, sizeof(name), "fc_vcpu %u", v->id);
	(void)pthread_setname_np(pthread_self(), name);
	log_set_thread(name);
	if (!check_in(v)) /* until all threads exist */
		return NULL;
	log_debug("vCPU %u enters the guest", v->id);

	for (;;) {
		if (ioctl(v->fd, KVM_RUN, 0) < 0) {
			int error = errno;

			n_again = error == EAGAIN ? n_again + 1 : 0;
			if (!survive_run_error(v, error, n_again))
				break;
			if (!check_in(v))
				return NULL;
			continue;
		}
		n_again = 0;
		if (!dispatch_exit(v, &why)) {
			break;
		}
	}
	gang->params.stopped(gang->params.ctx, why);
	wait_for_stop(gang);
	return NULL;
}

int vcpus_start(struct vcpus *vcpus, struct err *e)
{
	pthread_attr_t attr;
	int rc = 0;

	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, VCPU_STACK_SIZE);
	for (uint32_t i = 0; i < vcpus->params.n && !rc; i++) {
		struct vcpu *v = &vcpus->vcpu[i];

		rc = pthread_create(&v->thread, &attr, vcpu_main, v);
		v->started = rc == 0;
	}
	(void)pthread_attr_destroy(&attr);
	if (rc)
		return err_sys(e, -rc, "start a vCPU thread");
	vcpus_resume(vcpus); /* all are there: none ran a guest that then could not be started */
	return 0;
}

static void want(struct vcpus *vcpus, enum want want)
{
	(void)pthread_mutex_lock(&vcpus->lock);
	atomic_store(&vcpus->want, want);
	for (uint32_t i = 0; i < vcpus->params.n; i++) {
		struct vcpu *v = &vcpus->vcpu[i];

		if (want == WANT_RUN || !v->started)
			continue;
		__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_RELAXED); /* preserves V1 */
		(void)pthread_kill(v->thread, VCPU_KICK_SIGNAL);
	}
	(void)pthread_cond_broadcast(&vcpus->changed);
	(void)pthread_mutex_unlock(&vcpus->lock);
}

int vcpus_pause(struct vcpus *vcpus, struct err *e)
{
	struct timespec deadline;
	int rc = 0;

	want(vcpus, WANT_PAUSE);
	(void)clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec += PAUSE_TIMEOUT_S;
	(void)pthread_mutex_lock(&vcpus->lock);
	while (vcpus->n_parked < vcpus->params.n && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&vcpus->changed, &vcpus->lock, &deadline);
	rc = vcpus->n_parked < vcpus->params.n ? -ETIMEDOUT : 0;
	(void)pthread_mutex_unlock(&vcpus->lock);
	if (rc) {
		vcpus_resume(vcpus);
		return err_set(e, rc, "The vCPUs did not stop within %d s.", PAUSE_TIMEOUT_S);
	}
	return 0;
}

void vcpus_resume(struct vcpus *vcpus)
{
	want(vcpus, WANT_RUN);
}

void vcpus_destroy(struct vcpus *vcpus)
{
	if (!vcpus)
		return;
	want(vcpus, WANT_STOP);
	for (uint32_t i = 0; i < vcpus->params.n; i++) {
		struct vcpu *v = &vcpus->vcpu[i];

		if (v->started)
			(void)pthread_join(v->thread, NULL);
		if (v->run)
			(void)munmap(v->run, vcpus->params.kvm->run_size);
		fd_close(&v->fd);
	}
	(void)pthread_cond_destroy(&vcpus->changed);
	(void)pthread_mutex_destroy(&vcpus->lock);
	free(vcpus);
}
