/* SPDX-License-Identifier: Apache-2.0 */
/* Entry state: see entry.h. Bit positions: AMD64 Architecture Programmer's Manual, volume 2, chapters 3 to 5. */
#include "vmm/x86/entry.h"

#include <errno.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/layout.h"

#define CR0_PE UINT64_C(0x1)
#define CR0_ET UINT64_C(0x10)
#define CR0_PG UINT64_C(0x80000000)
#define CR4_PAE UINT64_C(0x20)
#define EFER_LME UINT64_C(0x100)
#define EFER_LMA UINT64_C(0x400)
#define RFLAGS_FIXED UINT64_C(0x2)

#define PTE_PRESENT UINT64_C(0x1)
#define PTE_WRITE UINT64_C(0x2)
#define PTE_HUGE UINT64_C(0x80)

#define SELECTOR_TSS 0x08
#define SELECTOR_CODE 0x10
#define SELECTOR_DATA 0x18
#define N_DESCRIPTORS 4

#define TYPE_DATA 0x3 /* read/write, accessed */
#define TYPE_CODE 0xb /* execute/read, accessed */
#define TYPE_TSS 0xb  /* busy */

#define PAGE 4096
#define HUGE_PAGE (UINT64_C(2) << 20)
#define ENTRIES (PAGE / 8)

_Static_assert(LAYOUT_GDT + N_DESCRIPTORS * 8 <= LAYOUT_IDT, "GDT ends before the IDT");
_Static_assert(ENTRIES * HUGE_PAGE == LAYOUT_IDENTITY_MAPPED, "one page directory maps it all");
_Static_assert(LAYOUT_PDPT == LAYOUT_PML4 + PAGE && LAYOUT_PD == LAYOUT_PDPT + PAGE, "the tables are written at once");

static struct kvm_segment segment_code(bool is_64)
{
	return (struct kvm_segment){
		.limit = UINT32_MAX, .selector = SELECTOR_CODE, .type = TYPE_CODE, .present = 1, .s = 1, .g = 1,
		.l = is_64, .db = !is_64,
	};
}

static struct kvm_segment segment_data(void)
{
	return (struct kvm_segment){
		.limit = UINT32_MAX,
		.selector = SELECTOR_DATA,
		.type = TYPE_DATA,
		.present = 1,
		.s = 1,
		.g = 1,
		.db = 1,
	};
}

static struct kvm_segment segment_tss(void)
{
	return (struct kvm_segment){.limit = 0x67, .selector = SELECTOR_TSS, .type = TYPE_TSS, .present = 1};
}

/* The descriptor that loads @seg: limit and base are scattered over its 8 bytes. */
static uint64_t descriptor(const struct kvm_segment *seg)
{
	uint64_t limit = seg->g ? seg->limit >> 12 : seg->limit;
	uint64_t access = (uint64_t)(seg->present << 7 | seg->dpl << 5 | seg->s << 4 | seg->type);
	uint64_t flags = (uint64_t)(seg->g << 3 | seg->db << 2 | seg->l << 1);

	return (limit & 0xffff) | (seg->base & 0xffffff) << 16 | access << 40 | (limit >> 16 & 0xf) << 48 |
	       flags << 52 | (seg->base >> 24 & 0xff) << 56;
}

static int write_gdt(struct gmem *mem, bool is_64)
{
	struct kvm_segment code = segment_code(is_64), data = segment_data(), tss = segment_tss();
	uint8_t gdt[N_DESCRIPTORS * 8] = {0};

	le64_put(gdt + SELECTOR_TSS, descriptor(&tss));
	le64_put(gdt + SELECTOR_CODE, descriptor(&code));
	le64_put(gdt + SELECTOR_DATA, descriptor(&data));
	return gmem_write(mem, GPA(LAYOUT_GDT), gdt, sizeof(gdt));
}

int entry_write_tables_64(struct gmem *mem)
{
	uint8_t tables[3 * PAGE] = {0}; /* PML4, PDPT, PD */
	uint8_t *pd = tables + 2 * PAGE;
	uint64_t i;

	le64_put(tables, LAYOUT_PDPT | PTE_PRESENT | PTE_WRITE);
	le64_put(tables + PAGE, LAYOUT_PD | PTE_PRESENT | PTE_WRITE);
	for (i = 0; i < ENTRIES; i++)
		le64_put(pd + i * 8, i * HUGE_PAGE | PTE_PRESENT | PTE_WRITE | PTE_HUGE);
	if (gmem_write(mem, GPA(LAYOUT_PML4), tables, sizeof(tables)) < 0)
		return -EFAULT;
	return write_gdt(mem, true);
}

int entry_write_tables_pvh(struct gmem *mem)
{
	return write_gdt(mem, false);
}

/* What both entries share. KVM's own reset value of CR0 has caching off, so nothing of it is kept. */
static void init_sregs(struct kvm_sregs *sregs, bool is_64)
{
	sregs->cs = segment_code(is_64);
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = segment_data();
	sregs->tr = segment_tss();
	memset(&sregs->ldt, 0, sizeof(sregs->ldt));
	sregs->ldt.unusable = 1;
	memset(&sregs->gdt, 0, sizeof(sregs->gdt));
	sregs->gdt.base = LAYOUT_GDT;
	sregs->gdt.limit = N_DESCRIPTORS * 8 - 1;
	memset(&sregs->idt, 0, sizeof(sregs->idt));
	sregs->idt.base = LAYOUT_IDT; /* empty: a fault before the kernel has its own is a triple fault */
	sregs->cr0 = CR0_PE | CR0_ET | (is_64 ? CR0_PG : 0);
	sregs->cr2 = 0;
	sregs->cr3 = is_64 ? LAYOUT_PML4 : 0;
	sregs->cr4 = is_64 ? CR4_PAE : 0;
	sregs->cr8 = 0;
	sregs->efer = is_64 ? EFER_LME | EFER_LMA : 0;
}

void entry_init_regs_64(gpa_t rip, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
	*regs = (struct kvm_regs){
		.rip = rip.v,
		.rsi = LAYOUT_ZERO_PAGE,
		.rsp = LAYOUT_BOOT_STACK,
		.rbp = LAYOUT_BOOT_STACK,
		.rflags = RFLAGS_FIXED,
	};
	init_sregs(sregs, true);
}

void entry_init_regs_pvh(gpa_t rip, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
	*regs = (struct kvm_regs){.rip = rip.v, .rbx = LAYOUT_PVH_START_INFO, .rflags = RFLAGS_FIXED};
	init_sregs(sregs, false);
}
