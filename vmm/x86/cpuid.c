/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/x86/cpuid.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E. */
#define LEAF_VENDOR 0x0
#define LEAF_FEATURES 0x1
#define LEAF_CACHE 0x4
#define LEAF_POWER 0x6
#define LEAF_FEATURES_EXT 0x7
#define LEAF_PERF 0xa
#define LEAF_TOPOLOGY 0xb
#define LEAF_TOPOLOGY_V2 0x1f
#define LEAF_EXT_FEATURES 0x80000001
#define LEAF_BRAND 0x80000002
#define LEAF_EXT_SIZES 0x80000008
#define LEAF_SVM 0x8000000a
#define LEAF_AMD_CACHE 0x8000001d
#define LEAF_AMD_TOPOLOGY 0x8000001e

#define F1_ECX_VMX (1u << 5)
#define F1_ECX_TSC_DEADLINE (1u << 24)
#define F1_ECX_HYPERVISOR (1u << 31)
#define F1_EDX_HTT (1u << 28)
#define F6_EAX_TURBO (1u << 1)
#define F6_ECX_EPB (1u << 3)
#define F7_ECX_WAITPKG (1u << 5)
#define FE1_ECX_CMP_LEGACY (1u << 1)
#define FE1_ECX_SVM (1u << 2)
#define FE1_ECX_TOPOEXT (1u << 22)

#define TOPOLOGY_SMT (1u << 8)
#define TOPOLOGY_CORE (2u << 8)

struct kvm_cpuid2 *cpuid_table_create(void)
{
	struct kvm_cpuid2 *table;

	table = calloc(1, sizeof(*table) + CPUID_MAX_ENTRIES * sizeof(table->entries[0]));
	if (table)
		table->nent = CPUID_MAX_ENTRIES;
	return table;
}

struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *table, uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < table->nent; i++) {
		struct kvm_cpuid_entry2 *e = &table->entries[i];
		bool indexed = e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;

		if (e->function == leaf && (!indexed || e->index == subleaf))
			return e;
	}
	return NULL;
}

/* Is this an AMD (or Hygon) table? */
static bool is_amd(struct kvm_cpuid2 *table)
{
	const struct kvm_cpuid_entry2 *v = cpuid_find(table, LEAF_VENDOR, 0);

	return v && (v->ebx == 0x68747541 /* Auth */ || v->ebx == 0x6f677948 /* Hygo */);
}

/* Number of bits that hold the ids 0 to @n - 1. */
static uint32_t id_bits(uint32_t n)
{
	return n <= 1 ? 0 : 32 - (uint32_t)__builtin_clz(n - 1);
}

static uint32_t threads_per_core(const struct cpuid_machine *m)
{
	return m->smt && m->n_vcpus > 1 ? 2 : 1;
}

static void remove_leaf(struct kvm_cpuid2 *table, uint32_t leaf)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < table->nent; i++) {
		if (table->entries[i].function != leaf)
			table->entries[kept++] = table->entries[i];
	}
	memset(&table->entries[kept], 0, (table->nent - kept) * sizeof(table->entries[0]));
	table->nent = kept;
}

static int append(struct kvm_cpuid2 *table, const struct kvm_cpuid_entry2 *entry)
{
	if (table->nent >= CPUID_MAX_ENTRIES)
		return -E2BIG;
	table->entries[table->nent++] = *entry;
	return 0;
}

/* Leaves 0xb and 0x1f: threads of a core, vCPUs of the package, end of list. */
static int build_topology_leaf(struct kvm_cpuid2 *table, uint32_t leaf, const struct cpuid_machine *m)
{
	uint32_t threads = threads_per_core(m);
	struct kvm_cpuid_entry2 e = {.function = leaf, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
	int rc;

	remove_leaf(table, leaf);
	e.index = 0;
	e.eax = id_bits(threads);
	e.ebx = threads;
	e.ecx = TOPOLOGY_SMT | 0;
	rc = append(table, &e);
	if (rc)
		return rc;
	e.index = 1;
	e.eax = id_bits(m->n_vcpus);
	e.ebx = m->n_vcpus;
	e.ecx = TOPOLOGY_CORE | 1;
	rc = append(table, &e);
	if (rc)
		return rc;
	e.index = 2;
	e.eax = 0;
	e.ebx = 0;
	e.ecx = 2;
	return append(table, &e);
}

/* How many vCPUs share the cache of @level (1, 2: a core's; 3 and up: the package's). */
static uint32_t cache_sharers(uint32_t level, const struct cpuid_machine *m)
{
	return level <= 2 ? threads_per_core(m) : m->n_vcpus;
}

/* Deterministic cache parameters: leaf 4 of Intel, 0x8000001d of AMD. Same layout of eax in both. */
static void fix_cache_entry(struct kvm_cpuid_entry2 *e, const struct cpuid_machine *m, bool intel)
{
	uint32_t level = (e->eax >> 5) & 0x7;

	if (!(e->eax & 0x1f))
		return; /* no more caches */
	e->eax &= intel ? 0x3fffu : ~(0xfffu << 14);
	e->eax |= (cache_sharers(level, m) - 1) << 14;
	if (intel)
		e->eax |= (m->n_vcpus / threads_per_core(m) - 1) << 26;
}

/* Contract 16.4: a fixed name, on Intel with the frequency, so that guests do not tell the host model apart by it. */
static void set_brand(struct kvm_cpuid2 *table, const struct cpuid_machine *m)
{
	char name[49] = "AMD EPYC";

	if (!is_amd(table)) {
		if (m->tsc_khz)
			(void)snprintf(name, sizeof(name), "Intel(R) Xeon(R) Processor @ %u.%02uGHz", m->tsc_khz / 1000000,
				       m->tsc_khz / 10000 % 100);
		else
			(void)snprintf(name, sizeof(name), "Intel(R) Xeon(R) Processor");
	}
	for (uint32_t i = 0; i < 3; i++) {
		struct kvm_cpuid_entry2 *e = cpuid_find(table, LEAF_BRAND + i, 0);

		if (!e)
			continue;
		memcpy(&e->eax, name + 16 * i, 4);
		memcpy(&e->ebx, name + 16 * i + 4, 4);
		memcpy(&e->ecx, name + 16 * i + 8, 4);
		memcpy(&e->edx, name + 16 * i + 12, 4);
	}
}

static void fix_entry(struct kvm_cpuid_entry2 *e, const struct cpuid_machine *m, bool amd)
{
	uint32_t n = m->n_vcpus;

	switch (e->function) {
	case LEAF_FEATURES:
		e->ebx &= 0x0000ffff; /* APIC id: cpuid_set_vcpu */
		e->ebx |= (n > 1 ? 1u << id_bits(n) : 1u) << 16;
		e->ecx &= ~(F1_ECX_VMX | F1_ECX_TSC_DEADLINE);
		e->ecx |= F1_ECX_HYPERVISOR | (m->tsc_deadline ? F1_ECX_TSC_DEADLINE : 0);
		e->edx &= ~F1_EDX_HTT;
		e->edx |= n > 1 ? F1_EDX_HTT : 0;
		break;
	case LEAF_CACHE:
		fix_cache_entry(e, m, true);
		break;
	case LEAF_POWER:
		e->eax &= ~F6_EAX_TURBO;
		e->ecx &= ~F6_ECX_EPB;
		break;
	case LEAF_FEATURES_EXT:
		if (e->index == 0)
			e->ecx &= ~F7_ECX_WAITPKG;
		break;
	case LEAF_PERF:
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	case LEAF_EXT_FEATURES:
		e->ecx &= ~(FE1_ECX_SVM | FE1_ECX_CMP_LEGACY);
		if (amd) {
			e->ecx |= FE1_ECX_TOPOEXT;
			e->ecx |= n > 1 ? FE1_ECX_CMP_LEGACY : 0;
		}
		break;
	case LEAF_EXT_SIZES:
		e->ecx = amd ? id_bits(n) << 12 | (n - 1) : 0;
		break;
	case LEAF_SVM:
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	case LEAF_AMD_CACHE:
		fix_cache_entry(e, m, false);
		break;
	default:
		break;
	}
}

int cpuid_normalise(struct kvm_cpuid2 *table, const struct cpuid_machine *machine)
{
	bool amd = is_amd(table);
	struct kvm_cpuid_entry2 *vendor = cpuid_find(table, LEAF_VENDOR, 0);
	int rc;

	for (uint32_t i = 0; i < table->nent; i++)
		fix_entry(&table->entries[i], machine, amd);

	if (amd && !cpuid_find(table, LEAF_AMD_TOPOLOGY, 0)) {
		struct kvm_cpuid_entry2 e = {.function = LEAF_AMD_TOPOLOGY};
		struct kvm_cpuid_entry2 *ext = cpuid_find(table, 0x80000000, 0);

		rc = append(table, &e);
		if (rc)
			return rc;
		if (ext && ext->eax < LEAF_AMD_TOPOLOGY)
			ext->eax = LEAF_AMD_TOPOLOGY;
	}
	if (vendor && vendor->eax < LEAF_TOPOLOGY)
		vendor->eax = LEAF_TOPOLOGY;
	rc = build_topology_leaf(table, LEAF_TOPOLOGY, machine);
	if (rc)
		return rc;
	if (vendor && vendor->eax >= LEAF_TOPOLOGY_V2) {
		rc = build_topology_leaf(table, LEAF_TOPOLOGY_V2, machine);
		if (rc)
			return rc;
	}
	set_brand(table, machine);
	return 0;
}

void cpuid_set_vcpu(struct kvm_cpuid2 *table, uint32_t id, const struct cpuid_machine *machine)
{
	uint32_t threads = threads_per_core(machine);

	for (uint32_t i = 0; i < table->nent; i++) {
		struct kvm_cpuid_entry2 *e = &table->entries[i];

		switch (e->function) {
		case LEAF_FEATURES:
			e->ebx = (e->ebx & 0x00ffffff) | id << 24;
			break;
		case LEAF_TOPOLOGY:
		case LEAF_TOPOLOGY_V2:
			e->edx = id;
			break;
		case LEAF_AMD_TOPOLOGY:
			e->eax = id;
			e->ebx = (id / threads) | (threads - 1) << 8;
			e->ecx = 0;
			e->edx = 0;
			break;
		default:
			break;
		}
	}
}
