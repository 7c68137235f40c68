/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPUID that the guest sees: what KVM supports, made to describe this microVM instead of the host.
 *
 * Pure over the table, so that topology, identification and masks are unit-tested for every vCPU count without KVM.
 *
 * Topology: one package; vCPU n has APIC id n. With SMT two neighbours (2k, 2k+1) are threads of one core, without it
 * every vCPU is a core of its own.
 */
#ifndef MAYFLY_VMM_X86_CPUID_H
#define MAYFLY_VMM_X86_CPUID_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

/* Linux' own limit for KVM_GET_SUPPORTED_CPUID is 256 entries; topology leaves may add a few. */
#define CPUID_MAX_ENTRIES 280

struct kvm_cpuid2;
struct kvm_cpuid_entry2;

struct cpuid_machine {
	uint32_t n_vcpus; /* 1 to LAYOUT_MAX_VCPUS */
	bool smt;         /* n_vcpus is then 1 or even */
	bool tsc_deadline; /* the in-kernel local APIC has the TSC deadline timer */
	uint32_t tsc_khz; /* of the vCPUs; 0: unknown. For the brand string */
};

/* A kvm_cpuid2 with room for CPUID_MAX_ENTRIES entries. Returned owned (free), or NULL when out of memory. */
struct kvm_cpuid2 *cpuid_table_create(void) MUST_USE;

/*
 * Rewrite @table, as KVM_GET_SUPPORTED_CPUID filled it, into the guest's table: everything that is the same for all vCPUs.
 * 0, or -E2BIG when the topology leaves do not fit into CPUID_MAX_ENTRIES.
 */
int cpuid_normalise(struct kvm_cpuid2 *table, const struct cpuid_machine *machine) MUST_USE;

/* Put vCPU @id's own numbers (APIC ids) into a normalised @table. */
void cpuid_set_vcpu(struct kvm_cpuid2 *table, uint32_t id, const struct cpuid_machine *machine);

/* The entry of @leaf and @subleaf, or NULL. */
struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *table, uint32_t leaf, uint32_t subleaf);

#endif
