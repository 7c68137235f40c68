/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entry state: the descriptors as bytes, the page tables walked as a processor walks them, the registers.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/layout.h"
#include "vmm/x86/entry.h"

static struct gmem *make_mem(uint64_t size)
{
	struct gmem *mem = NULL;

	assert_int_equal(gmem_create(&mem, size, GMEM_PAGES_DEFAULT, NULL), 0);
	return mem;
}

static uint64_t read64(const struct gmem *mem, uint64_t gpa)
{
	uint8_t bytes[8] = { 0 };

	assert_int_equal(gmem_read(mem, GPA(gpa), bytes, 8), 0);
	return le64_get(bytes);
}

static void gdt(void **state)
{
	struct gmem *mem = make_mem(2 * MIB);

	(void)state;
	assert_int_equal(entry_write_tables_64(mem), 0);
	assert_true(read64(mem, 0x500) == 0);
	assert_true(read64(mem, 0x508) == UINT64_C(0x00008b0000000067)); /* busy TSS */
	assert_true(read64(mem, 0x510) == UINT64_C(0x00af9b000000ffff)); /* 64-bit code */
	assert_true(read64(mem, 0x518) == UINT64_C(0x00cf93000000ffff)); /* data */
	assert_true(read64(mem, 0x520) == 0);                            /* IDT */
	assert_int_equal(entry_write_tables_pvh(mem), 0);
	assert_true(read64(mem, 0x510) == UINT64_C(0x00cf9b000000ffff)); /* 32-bit code */
	assert_true(read64(mem, 0x518) == UINT64_C(0x00cf93000000ffff));
	gmem_destroy(mem);
}

static void identity_map(void **state)
{
	struct gmem *mem = make_mem(2 * MIB);
	uint64_t va;
	int i;

	(void)state;
	assert_int_equal(entry_write_tables_64(mem), 0);
	for (va = 0; va < GIB; va += 2 * MIB) {
		uint64_t pml4e = read64(mem, 0x9000 + (va >> 39 & 511) * 8);
		uint64_t pdpte = read64(mem, (pml4e & ~UINT64_C(0xfff)) + (va >> 30 & 511) * 8);
		uint64_t pde = read64(mem, (pdpte & ~UINT64_C(0xfff)) + (va >> 21 & 511) * 8);

		assert_int_equal(pml4e & 0xfff, 3);
		assert_int_equal(pdpte & 0xfff, 3);
		assert_int_equal(pde, va | 0x83);
	}
	for (i = 1; i < 512; i++) {
		assert_true(read64(mem, 0x9000 + (uint64_t)i * 8) == 0);
		assert_true(read64(mem, 0xa000 + (uint64_t)i * 8) == 0);
	}
	gmem_destroy(mem);
}

static void fill(struct kvm_regs *regs, struct kvm_sregs *sregs)
{
	memset(regs, 0xa5, sizeof(*regs));
	memset(sregs, 0xa5, sizeof(*sregs));
	sregs->apic_base = 0xfee00900;
}

static void regs_64(void **state)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	(void)state;
	fill(&regs, &sregs);
	entry_init_regs_64(GPA(0x1000123), &regs, &sregs);
	assert_int_equal(regs.rip, 0x1000123);
	assert_int_equal(regs.rsi, 0x7000);
	assert_int_equal(regs.rsp, 0x8ff0);
	assert_int_equal(regs.rbp, 0x8ff0);
	assert_int_equal(regs.rflags, 2);
	assert_int_equal(regs.rbx, 0);
	assert_int_equal(sregs.cr0, 0x80000011);
	assert_int_equal(sregs.cr3, 0x9000);
	assert_int_equal(sregs.cr4, 0x20);
	assert_int_equal(sregs.efer, 0x500);
	assert_int_equal(sregs.cs.selector, 0x10);
	assert_int_equal(sregs.cs.l, 1);
	assert_int_equal(sregs.cs.db, 0);
	assert_int_equal(sregs.ss.selector, 0x18);
	assert_int_equal(sregs.gdt.base, 0x500);
	assert_int_equal(sregs.gdt.limit, 31);
	assert_int_equal(sregs.idt.base, 0x520);
	assert_int_equal(sregs.idt.limit, 0);
	assert_int_equal(sregs.apic_base, 0xfee00900);
}

static void regs_pvh(void **state)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	(void)state;
	fill(&regs, &sregs);
	entry_init_regs_pvh(GPA(0x1000000), &regs, &sregs);
	assert_int_equal(regs.rip, 0x1000000);
	assert_int_equal(regs.rbx, 0x6000);
	assert_int_equal(regs.rsi, 0);
	assert_int_equal(regs.rflags, 2);
	assert_int_equal(sregs.cr0, 0x11);
	assert_int_equal(sregs.cr4, 0);
	assert_int_equal(sregs.efer, 0);
	assert_int_equal(sregs.cs.l, 0);
	assert_int_equal(sregs.cs.db, 1);
	assert_int_equal(sregs.cs.limit, 0xffffffff);
	assert_int_equal(sregs.tr.type, 0xb);
	assert_int_equal(sregs.tr.limit, 0x67);
	assert_int_equal(sregs.ldt.unusable, 1);
	assert_int_equal(sregs.apic_base, 0xfee00900);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gdt),
		cmocka_unit_test(identity_map),
		cmocka_unit_test(regs_64),
		cmocka_unit_test(regs_pvh),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
