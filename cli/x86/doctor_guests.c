/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of the doctor's x86 guests and the machine they run on: 2 MiB of RAM, mapped one to one, with
 *
 *     0x1000 PML4   0x2000 PDPT   0x3000 PD of RAM   0x4000 PD of 3 - 4 GiB (doorbell, IOAPIC, LAPIC)
 *     0x5000 GDT    0x5800 TSS    0x6000 IDT         0x7000 operands   0x8000 xsave area
 *     0xa000 user stack top       0xb000 kernel stack top              0x10000 the code of doctor_code.S
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "cli/doctor_guest.h"
#include "vmm/base/bytes.h"

#define RAM_SIZE (2 * MIB)
#define PML4 0x1000u
#define PDPT 0x2000u
#define PD_RAM 0x3000u
#define PD_HIGH 0x4000u
#define GDT 0x5000u
#define TSS 0x5800u
#define IDT 0x6000u
#define KERNEL_STACK 0xb000u
#define CODE 0x10000u

#define DOORBELL 0xc0001050u
#define DOORBELL_VALUE 7
#define IRQ_PIN 5
#define CPUID_SIGNATURE 0x6679614du /* "Mayf" */
#define KVM_TSS_ADDR 0xfffbd000u

#define PTE_PRESENT 0x1u
#define PTE_WRITE 0x2u
#define PTE_USER 0x4u
#define PTE_HUGE 0x80u
#define PTE_UNCACHED 0x18u
#define PTE_TABLE (PTE_PRESENT | PTE_WRITE | PTE_USER)

extern const uint8_t doctor_code[], doctor_code_end[];
extern const uint8_t doctor_long_mode[], doctor_real_mode[], doctor_protected_mode[], doctor_syscall[], doctor_int3[],
	doctor_int3_handler[], doctor_page_fault[], doctor_page_fault_handler[], doctor_popcnt[], doctor_cmpxchg16b[],
	doctor_smap[], doctor_sse[], doctor_xsave[], doctor_swapgs[], doctor_cpuid[], doctor_timer[],
	doctor_timer_handler[], doctor_irqfd[], doctor_irqfd_handler[], doctor_ioeventfd[], doctor_speed[];

static const struct doctor_guest guests[] = {
	{.id = "real_mode",
		.title = "real mode to long mode",
		.entry = doctor_real_mode,
		.mode = DOCTOR_REAL_MODE,
		.n_steps = 3,
		.step = {{0x16, "16-bit code"}, {0x32, "32-bit code"}, {0x64, "64-bit code"}}},
	{.id = "protected_mode",
		.title = "protected mode to long mode",
		.entry = doctor_protected_mode,
		.mode = DOCTOR_PROTECTED_MODE,
		.n_steps = 2,
		.step = {{0x32, "32-bit code"}, {0x64, "64-bit code"}}},
	{.id = "long_mode",
		.title = "long mode entry",
		.entry = doctor_long_mode,
		.mode = DOCTOR_LONG_MODE,
		.n_steps = 2,
		.step = {{0x11223344, "64-bit register"}, {0x500, "EFER.LME and LMA"}}},
	{.id = "syscall",
		.title = "`syscall` enters ring 0",
		.entry = doctor_syscall,
		.mode = DOCTOR_LONG_MODE,
		.n_steps = 4,
		.step = {{3, "ring in user mode"}, {0x10, "code segment after `syscall`"},
			{1, "privileged read after `syscall`"}, {3, "ring after `sysret`"}}},
	{.id = "int3",
		.title = "int3 in ring 0 reaches its handler",
		.entry = doctor_int3,
		.handler = doctor_int3_handler,
		.vector = 3,
		.mode = DOCTOR_LONG_MODE,
		.n_steps = 2,
		.step = {{3, "handler"}, {4, "return from it"}}},
	{.id = "page_fault",
		.title = "page fault reaches its handler",
		.entry = doctor_page_fault,
		.handler = doctor_page_fault_handler,
		.vector = 14,
		.mode = DOCTOR_LONG_MODE,
		.n_steps = 2,
		.step = {{0x40000000, "CR2"}, {0, "error code"}}},
	{.id = "swapgs",
		.title = "swapgs and MSRs",
		.entry = doctor_swapgs,
		.mode = DOCTOR_LONG_MODE,
		.n_steps = 1,
		.step = {{0x1234, "GS base"}}},
	{.id = "cpuid",
		.title = "CPUID as set by the monitor",
		.entry = doctor_cpuid,
		.mode = DOCTOR_LONG_MODE,
		.n_steps = 2,
		.step = {{CPUID_SIGNATURE, "signature"}, {0, "a feature that was masked"}}},
	{.id = "popcnt",
		.title = "popcnt in ring 0",
		.entry = doctor_popcnt,
		.mode = DOCTOR_LONG_MODE,
		.feature = DOCTOR_CPU_POPCNT,
		.n_steps = 1,
		.step = {{8, "result"}}},
	{.id = "cmpxchg16b",
		.title = "cmpxchg16b in ring 0",
		.entry = doctor_cmpxchg16b,
		.mode = DOCTOR_LONG_MODE,
		.feature = DOCTOR_CPU_CX16,
		.n_steps = 2,
		.step = {{1, "exchanged"}, {0x55, "memory"}}},
	{.id = "smap",
		.title = "stac and clac",
		.entry = doctor_smap,
		.mode = DOCTOR_LONG_MODE,
		.feature = DOCTOR_CPU_SMAP,
		.n_steps = 1,
		.step = {{1, "executed"}}},
	{.id = "sse",
		.title = "SSE state survives an exit",
		.entry = doctor_sse,
		.mode = DOCTOR_LONG_MODE,
		.n_steps = 2,
		.step = {{0x5a5aa5a5, "register before the exit"}, {0x5a5aa5a5, "register after it"}}},
	{.id = "xsave",
		.title = "xsave and xrstor in ring 0",
		.entry = doctor_xsave,
		.mode = DOCTOR_LONG_MODE,
		.feature = DOCTOR_CPU_XSAVE,
		.n_steps = 1,
		.step = {{0x5a5aa5a5, "restored register"}}},
	{.id = "timer",
		.title = "APIC timer wakes a halted vCPU",
		.entry = doctor_timer,
		.handler = doctor_timer_handler,
		.vector = 0x40,
		.mode = DOCTOR_LONG_MODE,
		.wiring = DOCTOR_IRQCHIP,
		.n_steps = 1,
		.step = {{0x40, "interrupt"}}},
	{.id = "irqfd",
		.title = "irqfd delivers an interrupt",
		.entry = doctor_irqfd,
		.handler = doctor_irqfd_handler,
		.vector = 0x41,
		.mode = DOCTOR_LONG_MODE,
		.wiring = DOCTOR_IRQFD,
		.n_steps = 1,
		.step = {{0x41, "interrupt"}}},
	{.id = "ioeventfd",
		.title = "ioeventfd takes a doorbell",
		.entry = doctor_ioeventfd,
		.mode = DOCTOR_LONG_MODE,
		.wiring = DOCTOR_IOEVENTFD,
		.n_steps = 1,
		.step = {{1, "code behind the store"}}},
	{.id = "speed", .title = "speed of ring 0", .entry = doctor_speed, .mode = DOCTOR_LONG_MODE, .is_speed = true},
};

const struct doctor_guest *doctor_guests(size_t *n)
{
	*n = ARRAY_SIZE(guests);
	return guests;
}

const char *doctor_exception(uint32_t report)
{
	static const char *const names[32] = {
		[0] = "divide error",
		[1] = "debug",
		[3] = "breakpoint",
		[6] = "invalid opcode",
		[7] = "device not available",
		[8] = "double fault",
		[10] = "invalid TSS",
		[11] = "segment not present",
		[12] = "stack fault",
		[13] = "general protection",
		[14] = "page fault",
		[16] = "x87 error",
		[17] = "alignment check",
		[18] = "machine check",
		[19] = "SIMD error",
	};

	if ((report & 0xffffffe0u) != 0xe000)
		return NULL;
	return names[report & 31] ? names[report & 31] : "reserved exception";
}

static uint64_t code_addr(const uint8_t *label)
{
	return CODE + (uint64_t)(label - doctor_code);
}

static void set_gate(uint8_t *ram, unsigned vector, uint64_t handler)
{
	uint8_t *gate = ram + IDT + vector * 16;

	le64_put(gate, (handler & 0xffff) | 0x10ull << 16 | 0x8e00ull << 32 | ((handler >> 16) & 0xffff) << 48);
	le64_put(gate + 8, handler >> 32);
}

static void fill_ram(uint8_t *ram, const struct doctor_guest *guest)
{
	/* Null, 32-bit code, 64-bit code, data, user data, user 64-bit code; then the TSS, two slots. */
	static const uint64_t gdt[] = {
		0, 0x00cf9b000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff};

	le64_put(ram + PML4, PDPT | PTE_TABLE);
	le64_put(ram + PDPT, PD_RAM | PTE_TABLE);
	le64_put(ram + PDPT + 3 * 8, PD_HIGH | PTE_TABLE);
	le64_put(ram + PD_RAM, PTE_TABLE | PTE_HUGE);
	for (uint64_t i = 0; i < 512; i++)
		le64_put(ram + PD_HIGH + i * 8, (3 * GIB + i * 2 * MIB) | PTE_TABLE | PTE_HUGE | PTE_UNCACHED);
	for (size_t i = 0; i < ARRAY_SIZE(gdt); i++)
		le64_put(ram + GDT + i * 8, gdt[i]);
	le64_put(ram + GDT + 0x30, 0x67ull | (uint64_t)TSS << 16 | 0x8bull << 40);
	le64_put(ram + TSS + 4, KERNEL_STACK);
	for (unsigned vector = 0; vector < 32; vector++)
		set_gate(ram, vector, CODE + vector * 16);
	if (guest->handler)
		set_gate(ram, guest->vector, code_addr(guest->handler));
	memcpy(ram + CODE, doctor_code, (size_t)(doctor_code_end - doctor_code));
}

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type, bool is_64bit, bool is_code)
{
	return (struct kvm_segment){.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.db = !is_64bit,
		.l = is_64bit && is_code};
}

static struct kvm_segment real_segment(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){.base = (uint64_t)selector << 4,
		.limit = 0xffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1};
}

static int set_registers(const struct doctor_vm *vm, const struct doctor_guest *guest)
{
	struct kvm_regs regs = {.rflags = 2, .rsp = KERNEL_STACK, .rip = code_addr(guest->entry)};
	struct kvm_sregs sregs;
	struct kvm_segment data;

	if (ioctl(vm->vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
		return -errno;
	data = flat_segment(0x18, 3, false, false);
	switch (guest->mode) {
	case DOCTOR_REAL_MODE:
		sregs.cs = real_segment(CODE >> 4, 0xb);
		data = real_segment(0, 3);
		regs.rip -= CODE;
		break;
	case DOCTOR_PROTECTED_MODE:
		sregs.cs = flat_segment(0x08, 0xb, false, true);
		sregs.cr0 = 0x11;
		break;
	case DOCTOR_LONG_MODE:
		sregs.cs = flat_segment(0x10, 0xb, true, true);
		sregs.cr0 = 0x80000033; /* PG, NE, ET, MP, PE */
		sregs.cr3 = PML4;
		sregs.cr4 = 0x620; /* OSXMMEXCPT, OSFXSR, PAE */
		sregs.efer = 0x500;
		break;
	}
	sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = data;
	if (guest->mode != DOCTOR_REAL_MODE)
		sregs.tr =
			(struct kvm_segment){.base = TSS, .limit = 0x67, .selector = 0x30, .type = 0xb, .present = 1};
	sregs.gdt = (struct kvm_dtable){.base = GDT, .limit = 0x3f};
	sregs.idt = (struct kvm_dtable){.base = IDT, .limit = 0xfff};
	if (ioctl(vm->vcpu_fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(vm->vcpu_fd, KVM_SET_REGS, &regs) < 0)
		return -errno;
	return 0;
}

static bool has_feature(const struct kvm_cpuid2 *table, enum doctor_feature feature)
{
	uint32_t leaf1_ecx = 0, leaf7_ebx = 0;

	for (uint32_t i = 0; i < table->nent; i++) {
		if (table->entries[i].function == 1)
			leaf1_ecx = table->entries[i].ecx;
		if (table->entries[i].function == 7 && table->entries[i].index == 0)
			leaf7_ebx = table->entries[i].ebx;
	}
	switch (feature) {
	case DOCTOR_ANY_CPU:
		return true;
	case DOCTOR_CPU_POPCNT:
		return leaf1_ecx & 1u << 23;
	case DOCTOR_CPU_CX16:
		return leaf1_ecx & 1u << 13;
	case DOCTOR_CPU_XSAVE:
		return leaf1_ecx & 1u << 26;
	case DOCTOR_CPU_SMAP:
		return leaf7_ebx & 1u << 20;
	}
	return false;
}

/* Give the vCPU the host's table, with a signature of our own and SSE4.2 masked for the guest that looks. */
static int set_cpuid(const struct doctor_vm *vm, enum doctor_feature feature)
{
	const uint32_t max = 256;
	struct kvm_cpuid2 *table = calloc(1, sizeof(*table) + (max + 1) * sizeof(table->entries[0]));
	bool has_signature = false;
	int rc = 0;

	if (!table)
		return -ENOMEM;
	table->nent = max;
	if (ioctl(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, table) < 0)
		rc = -errno;
	else if (!has_feature(table, feature))
		rc = -ENOTSUP;
	for (uint32_t i = 0; rc == 0 && i < table->nent; i++) {
		struct kvm_cpuid_entry2 *e = &table->entries[i];

		if (e->function == 1)
			e->ecx &= ~(1u << 20);
		if (e->function == 0x40000000) {
			e->ebx = CPUID_SIGNATURE;
			has_signature = true;
		}
	}
	if (rc == 0 && !has_signature)
		table->entries[table->nent++] =
			(struct kvm_cpuid_entry2){.function = 0x40000000, .eax = 0x40000000, .ebx = CPUID_SIGNATURE};
	if (rc == 0 && ioctl(vm->vcpu_fd, KVM_SET_CPUID2, table) < 0)
		rc = -errno;
	free(table);
	return rc;
}

static int wire(struct doctor_vm *vm, enum doctor_wiring wiring, const char **failed)
{
	struct kvm_irqfd irqfd = {.gsi = IRQ_PIN};
	struct kvm_ioeventfd doorbell = {
		.datamatch = DOORBELL_VALUE, .addr = DOORBELL, .len = 4, .flags = KVM_IOEVENTFD_FLAG_DATAMATCH};

	if (wiring == DOCTOR_NO_IRQCHIP)
		return 0;
	*failed = "KVM_CREATE_IRQCHIP";
	if (ioctl(vm->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return -errno;
	*failed = "eventfd";
	vm->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->event_fd < 0)
		return -errno;
	irqfd.fd = (uint32_t)vm->event_fd;
	doorbell.fd = vm->event_fd;
	*failed = "KVM_IRQFD";
	if (wiring == DOCTOR_IRQFD && ioctl(vm->vm_fd, KVM_IRQFD, &irqfd) < 0)
		return -errno;
	*failed = "KVM_IOEVENTFD";
	if (wiring == DOCTOR_IOEVENTFD && ioctl(vm->vm_fd, KVM_IOEVENTFD, &doorbell) < 0)
		return -errno;
	return 0;
}

int doctor_vm_prepare(struct doctor_vm *vm, const struct doctor_guest *guest, const char **failed)
{
	struct kvm_userspace_memory_region region = {.memory_size = RAM_SIZE};
	uint8_t *ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int run_size, rc, tries = 0;

	*failed = "mmap";
	if (ram == MAP_FAILED)
		return -errno;
	fill_ram(ram, guest);
	*failed = "KVM_CREATE_VM";
	do
		vm->vm_fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
	while (vm->vm_fd < 0 && errno == EINTR && ++tries < 5);
	if (vm->vm_fd < 0)
		return -errno;
	*failed = "KVM_SET_TSS_ADDR";
	if (ioctl(vm->vm_fd, KVM_SET_TSS_ADDR, (unsigned long)KVM_TSS_ADDR) < 0)
		return -errno;
	*failed = "KVM_SET_USER_MEMORY_REGION";
	region.userspace_addr = (uintptr_t)ram;
	if (ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return -errno;
	rc = wire(vm, guest->wiring, failed);
	if (rc < 0)
		return rc;
	*failed = "KVM_CREATE_VCPU";
	vm->vcpu_fd = ioctl(vm->vm_fd, KVM_CREATE_VCPU, 0);
	if (vm->vcpu_fd < 0)
		return -errno;
	*failed = "KVM_GET_VCPU_MMAP_SIZE";
	run_size = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (run_size < 0)
		return -errno;
	*failed = "mmap of the vCPU";
	vm->run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu_fd, 0);
	if (vm->run == MAP_FAILED)
		return -errno;
	*failed = "KVM_SET_CPUID2";
	rc = set_cpuid(vm, guest->feature);
	if (rc < 0)
		return rc;
	*failed = "KVM_SET_SREGS";
	return set_registers(vm, guest);
}
