/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /dev/kvm and one VM: required capabilities and thin, typed wrappers of the ioctls that the monitor uses.
 *
 * Every required capability stands in one table (kvm.c) with the reason why Mayfly can't do without it; a KVM that
 * lacks one is refused with one message that names what is missing and what to do.
 *
 * Threads: the I/O thread, before the vCPUs start; kvm_add_* also afterwards.
 */
#ifndef MAYFLY_VMM_KVM_H
#define MAYFLY_VMM_KVM_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/gmem.h"

struct kvm_cpuid2;

struct kvm {
	int dev_fd;             /* owned: /dev/kvm */
	int vm_fd;              /* owned: the VM */
	size_t run_size;        /* bytes of a vCPU's shared kvm_run mapping */
	bool has_tsc_deadline;
	bool has_coalesced_pio; /* port writes too can be collected in the ring of the next line */
	uint32_t coalesced_page; /* where that ring stands in a vCPU's mapping, in pages; 0: KVM has none */
};

/* What to tell a person whose KVM can't be used. */
#define KVM_ADVICE "Run 'mayfly doctor' to see what this host's KVM lacks and how to mend it."

/* Open @path (/dev/kvm) and check API version and capabilities. 0, or negative errno with @e; @kvm is then closed. */
int kvm_open(struct kvm *kvm, const char *path, struct err *e) MUST_USE;

/*
 * Create the VM: vm_fd, TSS and identity-map pages, in-kernel PIC, IOAPIC, LAPICs and PIT. KVM_CREATE_VM is retried on EINTR (a
 * pending signal, seen under load) a limited number of times. After kvm_open. 0 or negative errno with @e.
 */
int kvm_create_vm(struct kvm *kvm, struct err *e) MUST_USE;

/* Close everything; idempotent, accepts half-made ones. */
void kvm_fini(struct kvm *kvm);

/* Give every region of @mem to the VM as a memory slot. @mem must outlive the VM. */
int kvm_set_memory(struct kvm *kvm, const struct gmem *mem, bool log_dirty, struct err *e) MUST_USE;

/* Let a guest write of the 32-bit value @datamatch to @gpa signal @fd without an exit. */
int kvm_add_ioeventfd(struct kvm *kvm, gpa_t gpa, uint32_t datamatch, int fd, struct err *e) MUST_USE;

/*
 * Read the CPUID table that KVM can offer into @table (room for @max entries; table->nent is set).
 * 0, -E2BIG when it has more entries than @max.
 */
int kvm_supported_cpuid(const struct kvm *kvm, struct kvm_cpuid2 *table, uint32_t max) MUST_USE;

#endif
