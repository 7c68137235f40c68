/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's CPUID: topology for every vCPU count with and without SMT, identification, and what is masked.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/layout.h"
#include "vmm/x86/cpuid.h"

#define INDEXED KVM_CPUID_FLAG_SIGNIFCANT_INDEX

static const struct kvm_cpuid_entry2 amd_host[] = {
	{.function = 0x0, .eax = 0x10, .ebx = 0x68747541, .edx = 0x69746e65, .ecx = 0x444d4163},
	{.function = 0x1, .eax = 0x800f12, .ebx = 0x07100800, .ecx = 0x76f8320b | 1u << 5, .edx = 0x178bfbff},
	{.function = 0x6, .eax = 0x6, .ecx = 0x9},
	{.function = 0x7, .index = 0, .flags = INDEXED, .ebx = 0x209c01a9, .ecx = 1u << 5},
	{.function = 0xa, .eax = 0x07300404},
	{.function = 0xb, .index = 0, .flags = INDEXED, .eax = 1, .ebx = 2, .ecx = 0x100},
	{.function = 0x40000000, .eax = 0x40000001},
	{.function = 0x80000000, .eax = 0x8000001f},
	{.function = 0x80000001, .ecx = 0x004003f3 | 1u << 2, .edx = 0x2fd3fbff},
	{.function = 0x80000002, .eax = 0x11111111},
	{.function = 0x80000003, .eax = 0x11111111},
	{.function = 0x80000004, .eax = 0x11111111},
	{.function = 0x80000008, .eax = 0x3030, .ecx = 0x703f},
	{.function = 0x8000000a, .eax = 1, .ebx = 0x8000, .edx = 0x1},
	{.function = 0x8000001d, .index = 0, .flags = INDEXED, .eax = 0x4121},
	{.function = 0x8000001d, .index = 3, .flags = INDEXED, .eax = 0x163},
	{.function = 0x8000001d, .index = 4, .flags = INDEXED, .eax = 0},
};

static const struct kvm_cpuid_entry2 intel_host[] = {
	{.function = 0x0, .eax = 0x1f, .ebx = 0x756e6547, .edx = 0x49656e69, .ecx = 0x6c65746e},
	{.function = 0x1, .eax = 0x606a6, .ebx = 0x12345678, .ecx = 0x7ffafbff, .edx = 0xbfebfbff},
	{.function = 0x4, .index = 0, .flags = INDEXED, .eax = 0xfc004121},
	{.function = 0x4, .index = 3, .flags = INDEXED, .eax = 0xfc1fc163},
	{.function = 0x4, .index = 4, .flags = INDEXED, .eax = 0},
	{.function = 0x80000001, .edx = 0x2c100800},
	{.function = 0x80000002},
	{.function = 0x80000003},
	{.function = 0x80000004},
	{.function = 0x80000008, .eax = 0x3030, .ecx = 0x55},
};

static struct kvm_cpuid2 *table_of(const struct kvm_cpuid_entry2 *entries, size_t n)
{
	struct kvm_cpuid2 *t = cpuid_table_create();

	assert_non_null(t);
	memcpy(t->entries, entries, n * sizeof(*entries));
	t->nent = (uint32_t)n;
	return t;
}

static struct kvm_cpuid2 *guest(const struct kvm_cpuid_entry2 *entries, size_t n, const struct cpuid_machine *m)
{
	struct kvm_cpuid2 *t = table_of(entries, n);

	assert_int_equal(cpuid_normalise(t, m), 0);
	return t;
}

static const struct kvm_cpuid_entry2 *leaf(struct kvm_cpuid2 *t, uint32_t function, uint32_t index)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(t, function, index);

	assert_non_null(e);
	return e;
}

static void topology_holds(struct kvm_cpuid2 *t, const struct cpuid_machine *m, bool amd)
{
	uint32_t threads = m->smt && m->n_vcpus > 1 ? 2 : 1;

	for (uint32_t id = 0; id < m->n_vcpus; id++) {
		cpuid_set_vcpu(t, id, m);
		assert_int_equal(leaf(t, 1, 0)->ebx >> 24, id);
		assert_int_equal(leaf(t, 0xb, 0)->edx, id);
		assert_int_equal(leaf(t, 0xb, 1)->edx, id);
		if (amd) {
			assert_int_equal(leaf(t, 0x8000001e, 0)->eax, id);
			assert_int_equal(leaf(t, 0x8000001e, 0)->ebx & 0xff, id / threads);
		}
	}
	assert_int_equal(leaf(t, 0xb, 0)->ebx, threads);
	assert_int_equal(leaf(t, 0xb, 0)->eax, threads - 1);
	assert_int_equal(leaf(t, 0xb, 1)->ebx, m->n_vcpus);
	assert_true(1u << leaf(t, 0xb, 1)->eax >= m->n_vcpus);
	assert_int_equal(leaf(t, 0xb, 1)->ecx, 0x201);
	assert_int_equal(leaf(t, 0xb, 2)->ecx, 2);
	assert_int_equal(!!(leaf(t, 1, 0)->edx & 1u << 28), m->n_vcpus > 1);
	assert_true((leaf(t, 1, 0)->ebx >> 16 & 0xff) >= m->n_vcpus);
}

static void test_topology_of_every_size(void **state)
{
	(void)state;
	for (uint32_t n = 1; n <= LAYOUT_MAX_VCPUS; n++) {
		for (int smt = 0; smt <= 1; smt++) {
			struct cpuid_machine m = {.n_vcpus = n, .smt = smt, .tsc_deadline = true, .tsc_khz = 2500000};
			struct kvm_cpuid2 *t;

			if (smt && n > 1 && n % 2)
				continue;
			t = guest(amd_host, ARRAY_SIZE(amd_host), &m);
			topology_holds(t, &m, true);
			assert_int_equal(leaf(t, 0x80000008, 0)->ecx & 0xff, n - 1);
			assert_int_equal(leaf(t, 0x8000001d, 3)->eax >> 14 & 0xfff, n - 1);
			free(t);
			t = guest(intel_host, ARRAY_SIZE(intel_host), &m);
			topology_holds(t, &m, false);
			assert_int_equal(leaf(t, 0x1f, 1)->ebx, n);
			assert_int_equal(leaf(t, 4, 3)->eax >> 14 & 0xfff, n - 1);
			assert_int_equal(leaf(t, 4, 0)->eax >> 26, n / (smt && n > 1 ? 2 : 1) - 1);
			free(t);
		}
	}
}

static void test_virtualization_is_masked(void **state)
{
	struct cpuid_machine m = {.n_vcpus = 1, .tsc_deadline = true};
	struct kvm_cpuid2 *t = guest(amd_host, ARRAY_SIZE(amd_host), &m);

	(void)state;
	assert_int_equal(leaf(t, 1, 0)->ecx & 1u << 5, 0);          /* VMX (THREATS.md CVE-2026-46032) */
	assert_int_equal(leaf(t, 0x80000001, 0)->ecx & 1u << 2, 0); /* SVM */
	assert_int_equal(leaf(t, 0x8000000a, 0)->ebx, 0);
	assert_int_equal(leaf(t, 0x8000000a, 0)->edx, 0);
	free(t);
}

static void test_bits_of_the_contract(void **state)
{
	struct cpuid_machine m = {.n_vcpus = 2, .tsc_deadline = true};
	struct kvm_cpuid2 *t = guest(amd_host, ARRAY_SIZE(amd_host), &m);

	(void)state;
	assert_true(leaf(t, 1, 0)->ecx & 1u << 31); /* hypervisor */
	assert_true(leaf(t, 1, 0)->ecx & 1u << 24); /* TSC deadline */
	assert_int_equal(leaf(t, 6, 0)->eax & 2, 0);
	assert_int_equal(leaf(t, 6, 0)->ecx & 8, 0);
	assert_int_equal(leaf(t, 7, 0)->ecx & 1u << 5, 0);
	assert_int_equal(leaf(t, 0xa, 0)->eax, 0);
	assert_true(leaf(t, 0x80000001, 0)->ecx & 1u << 22); /* TOPOEXT, so that 0x8000001e counts */
	assert_int_equal(leaf(t, 0x40000000, 0)->eax, 0x40000001);
	free(t);

	m.tsc_deadline = false;
	t = guest(amd_host, ARRAY_SIZE(amd_host), &m);
	assert_int_equal(leaf(t, 1, 0)->ecx & 1u << 24, 0);
	free(t);
}

static void test_brand(void **state)
{
	struct cpuid_machine m = {.n_vcpus = 1, .tsc_khz = 2893123};
	struct kvm_cpuid2 *t = guest(intel_host, ARRAY_SIZE(intel_host), &m);
	char brand[49] = "";

	(void)state;
	for (uint32_t i = 0; i < 3; i++)
		memcpy(brand + 16 * i, &leaf(t, 0x80000002 + i, 0)->eax, 16);
	assert_string_equal(brand, "Intel(R) Xeon(R) Processor @ 2.89GHz");
	free(t);
	t = guest(amd_host, ARRAY_SIZE(amd_host), &m);
	memcpy(brand, &leaf(t, 0x80000002, 0)->eax, 16);
	assert_string_equal(brand, "AMD EPYC");
	assert_int_equal(leaf(t, 0x80000004, 0)->eax, 0);
	free(t);
}

static void test_full_table_is_refused_not_overrun(void **state)
{
	struct cpuid_machine m = {.n_vcpus = 4};
	struct kvm_cpuid2 *t = cpuid_table_create();

	(void)state;
	assert_non_null(t);
	memcpy(t->entries, intel_host, sizeof(intel_host));
	for (uint32_t i = ARRAY_SIZE(intel_host); i < CPUID_MAX_ENTRIES; i++)
		t->entries[i].function = 0x90000000 + i;
	t->nent = CPUID_MAX_ENTRIES;
	assert_int_equal(cpuid_normalise(t, &m), -7 /* E2BIG */);
	assert_true(t->nent <= CPUID_MAX_ENTRIES);
	free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_topology_of_every_size),
		cmocka_unit_test(test_virtualization_is_masked),
		cmocka_unit_test(test_bits_of_the_contract),
		cmocka_unit_test(test_brand),
		cmocka_unit_test(test_full_table_is_refused_not_overrun),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
