/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory: the regions around the gaps, and that no access leaves a region (THREATS.md CVE-2019-18960).
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/gmem.h"
#include "vmm/layout.h"

static struct gmem *make(uint64_t size)
{
	struct gmem *mem = NULL;
	struct err e = {0};

	assert_int_equal(gmem_create(&mem, size, GMEM_PAGES_DEFAULT, &e), 0);
	assert_non_null(mem);
	assert_int_equal(mem->size, size);
	return mem;
}

static void one_region(void **state)
{
	struct gmem *mem = make(128 * MIB);

	(void)state;
	assert_int_equal(mem->n_regions, 1);
	assert_int_equal(mem->region[0].base.v, 0);
	assert_int_equal(mem->region[0].size, 128 * MIB);
	assert_int_equal((uintptr_t)mem->region[0].hva % (2 * MIB), 0);
	assert_int_equal(gmem_end(mem).v, 128 * MIB);
	gmem_destroy(mem);
}

static void regions_around_the_gaps(void **state)
{
	static const struct {
		uint64_t size;
		size_t n;
		uint64_t base[3], len[3];
	} table[] = {
		{1 * MIB, 1, {0}, {1 * MIB}},
		{3 * MIB, 1, {0}, {3 * MIB}},
		{3 * GIB, 1, {0}, {3 * GIB}},
		{3 * GIB + MIB, 2, {0, 4 * GIB}, {3 * GIB, MIB}},
		{5 * GIB, 2, {0, 4 * GIB}, {3 * GIB, 2 * GIB}},
		{255 * GIB, 2, {0, 4 * GIB}, {3 * GIB, 252 * GIB}},
		{256 * GIB, 3, {0, 4 * GIB, 512 * GIB}, {3 * GIB, 252 * GIB, GIB}},
		{1024 * GIB, 3, {0, 4 * GIB, 512 * GIB}, {3 * GIB, 252 * GIB, 769 * GIB}},
	};
	size_t i, k;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		struct gmem *mem = make(table[i].size);

		assert_int_equal(mem->n_regions, table[i].n);
		for (k = 0; k < table[i].n; k++) {
			assert_int_equal(mem->region[k].base.v, table[i].base[k]);
			assert_int_equal(mem->region[k].size, table[i].len[k]);
			assert_int_equal((uintptr_t)mem->region[k].hva % (2 * MIB), 0);
		}
		assert_int_equal(gmem_end(mem).v, table[i].base[k - 1] + table[i].len[k - 1]);
		gmem_destroy(mem);
	}
}

/* FC#6076: a size that overflows must not become a small one. */
static void absurd_sizes(void **state)
{
	static const uint64_t size[] = {UINT64_MAX, UINT64_C(1) << 52, UINT64_C(1) << 63, (UINT64_C(1) << 52) - MIB,
					UINT64_C(1) << 47};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(size); i++) {
		struct gmem *mem = (struct gmem *)(uintptr_t)1;
		struct err e = {0};

		assert_int_equal(gmem_create(&mem, size[i], GMEM_PAGES_DEFAULT, &e), -ENOMEM);
		assert_string_equal(e.msg, "Cannot create mmap region: Out of memory (os error 12)");
		assert_int_equal((uintptr_t)mem, 1);
	}
}

static void ranges(void **state)
{
	struct gmem *mem = make(3 * GIB + 8 * MIB);
	static const struct {
		uint64_t gpa, len;
		bool inside;
	} table[] = {
		{0, 0, true},
		{0, 1, true},
		{0, 3 * GIB, true},
		{0, 3 * GIB + 1, false},
		{3 * GIB - 1, 1, true},
		{3 * GIB - 1, 2, false},
		{3 * GIB, 0, true},
		{3 * GIB, 1, false},
		{3 * GIB + 1, 0, false},
		{4 * GIB - 1, 1, false},
		{4 * GIB - 1, 2, false},
		{4 * GIB, 8 * MIB, true},
		{4 * GIB, 8 * MIB + 1, false},
		{4 * GIB + 8 * MIB, 0, true},
		{4 * GIB + 8 * MIB, 1, false},
		{3 * GIB - 1, GIB + 2, false}, /* from region to region over the gap */
		{0, UINT64_MAX, false},
		{1, UINT64_MAX, false},
		{UINT64_MAX, 0, false},
		{UINT64_MAX, 1, false},
		{UINT64_MAX, UINT64_MAX, false},
		{4 * GIB + 1, UINT64_MAX - 4 * GIB, false},
	};
	uint8_t byte = 0x5a;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		assert_int_equal(gmem_contains(mem, GPA(table[i].gpa), table[i].len), table[i].inside);
		assert_int_equal(gmem_hva(mem, GPA(table[i].gpa), table[i].len) != NULL, table[i].inside);
		if (!table[i].inside) {
			assert_int_equal(gmem_read(mem, GPA(table[i].gpa), &byte, table[i].len), -EFAULT);
			assert_int_equal(gmem_write(mem, GPA(table[i].gpa), &byte, table[i].len), -EFAULT);
			assert_int_equal(byte, 0x5a);
		}
	}
	gmem_destroy(mem);
}

static void copies(void **state)
{
	struct gmem *mem = make(3 * GIB + MIB);
	uint8_t got[8] = {0};

	(void)state;
	assert_int_equal(gmem_read(mem, GPA(4 * GIB + MIB - 8), got, 8), 0);
	assert_memory_equal(got, "\0\0\0\0\0\0\0\0", 8);
	assert_int_equal(gmem_write(mem, GPA(4 * GIB + MIB - 8), "mayflies", 8), 0);
	assert_int_equal(gmem_read(mem, GPA(4 * GIB + MIB - 8), got, 8), 0);
	assert_memory_equal(got, "mayflies", 8);
	assert_memory_equal(gmem_hva(mem, GPA(4 * GIB + MIB - 8), 8), "mayflies", 8);
	assert_ptr_equal(gmem_hva(mem, GPA(0x1234), 1), mem->region[0].hva + 0x1234);
	gmem_destroy(mem);
}

/* Does reading the byte at @p end a child by a memory fault? */
static bool faults(const volatile uint8_t *p)
{
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		_exit(*p & 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status);
}

static void guards(void **state)
{
	struct gmem *mem = make(3 * MIB); /* ends in the middle of a 2 MiB block */
	const uint8_t *hva = mem->region[0].hva;

	(void)state;
	assert_false(faults(hva));
	assert_false(faults(hva + 3 * MIB - 1));
	assert_true(faults(hva - 1));
	assert_true(faults(hva - 2 * MIB));
	assert_true(faults(hva + 3 * MIB));
	assert_true(faults(hva + 6 * MIB - 1));
	gmem_destroy(mem);
}

/* Destroying gives back the whole reservation: many more than fit the address space. */
static void destroy_unmaps_all(void **state)
{
	int i;

	(void)state;
	gmem_destroy(NULL);
	for (i = 0; i < 300; i++)
		gmem_destroy(make(1024 * GIB));
}

static void advice_is_harmless(void **state)
{
	struct gmem *mem = make(3 * GIB + 3 * MIB);

	(void)state;
	gmem_advise_huge(mem, GPA(0), 4 * MIB);
	gmem_advise_huge(mem, GPA(MIB), 2 * MIB); /* no whole block */
	gmem_advise_huge(mem, GPA(0), 0);
	gmem_advise_huge(mem, GPA(3 * GIB - 1), 2); /* not RAM */
	gmem_advise_huge(mem, GPA(UINT64_MAX), UINT64_MAX);
	gmem_advise_huge(mem, GPA(4 * GIB), 3 * MIB);
	gmem_destroy(mem);
}

static void transparent_pages(void **state)
{
	struct gmem *mem = NULL;
	uint8_t one = 1;

	(void)state;
	assert_int_equal(gmem_create(&mem, 8 * MIB, GMEM_PAGES_TRANSPARENT, NULL), 0);
	gmem_advise_huge(mem, GPA(0), 8 * MIB);
	assert_int_equal(gmem_write(mem, GPA(8 * MIB - 1), &one, 1), 0);
	gmem_destroy(mem);
}

/* Either the host has huge pages to spare, or the answer is a clear error at once. */
static void hugetlb(void **state)
{
	struct gmem *mem = NULL;
	struct err e = {0};
	uint8_t one = 1;
	int rc = gmem_create(&mem, 2 * MIB, GMEM_PAGES_2M, &e);

	(void)state;
	if (rc < 0) {
		assert_non_null(strstr(e.msg, "Cannot create mmap region: "));
		return;
	}
	assert_int_equal(gmem_write(mem, GPA(2 * MIB - 1), &one, 1), 0);
	gmem_destroy(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_region),
		cmocka_unit_test(regions_around_the_gaps),
		cmocka_unit_test(absurd_sizes),
		cmocka_unit_test(ranges),
		cmocka_unit_test(copies),
		cmocka_unit_test(guards),
		cmocka_unit_test(destroy_unmaps_all),
		cmocka_unit_test(advice_is_harmless),
		cmocka_unit_test(transparent_pages),
		cmocka_unit_test(hugetlb),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
