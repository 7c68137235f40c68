/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tiny guests of `mayfly doctor`: each does one thing that Linux needs and reports what it saw. doctor_guests.c
 * loads this whole block at DOCTOR_CODE of a small guest, starts at one label, and compares the reports.
 *
 * Ports: a 32-bit write to REPORT is one report, a write to DONE ends the guest, a write to HOST asks the doctor to raise
 * the interrupt under test. The memory map (page tables, GDT, TSS, stacks) is in doctor_guests.c.
 */
#define REPORT 0xf0
#define DONE 0xf1
#define HOST 0xf2

#define CODE 0x10000
#define DATA 0x7000
#define XSAVE_AREA 0x8000
#define USER_STACK 0xa000
#define ADDR(label) (label - doctor_code + CODE)

#define KERNEL_CS64 0x10
#define KERNEL_CS32 0x08
#define KERNEL_DS 0x18
#define USER_DS 0x23
#define USER_CS64 0x2b

#define MSR_EFER 0xc0000080
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_SFMASK 0xc0000084
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102

#define LAPIC 0xfee00000
#define IOAPIC 0xfec00000

	.section .rodata.doctor_guests, "a", @progbits
	.balign 16
	.globl doctor_code, doctor_code_end
doctor_code:

/* Default handlers, 16 bytes apart: report 0xe000 + vector and end. */
	.code64
	vector = 0
	.rept 32
	.balign 16
	mov $(0xe000 + vector), %eax
	jmp report_and_finish
	vector = vector + 1
	.endr

report_and_finish:
	out %eax, $REPORT
finish:
	out %al, $DONE
	hlt
	jmp finish

/* 64-bit registers and the mode itself. Reports: 0x11223344, EFER.LME|LMA. */
	.globl doctor_long_mode
doctor_long_mode:
	movabs $0x1122334455667788, %r15
	mov %r15, %rax
	shr $32, %rax
	out %eax, $REPORT
	mov $MSR_EFER, %ecx
	rdmsr
	and $0x500, %eax
	jmp report_and_finish

/* Real mode, as an application processor wakes up: into protected mode and on. Reports: 0x16, 0x32, 0x64. */
	.globl doctor_real_mode
	.code16
doctor_real_mode:
	mov $0x16, %eax
	out %eax, $REPORT
	mov %cr0, %eax
	or $1, %eax
	mov %eax, %cr0
	ljmpl $KERNEL_CS32, $ADDR(doctor_protected_mode)

/* 32-bit protected mode without paging, as a PVH kernel starts: into long mode. Reports: 0x32, 0x64. */
	.globl doctor_protected_mode
	.code32
doctor_protected_mode:
	mov $KERNEL_DS, %eax
	mov %eax, %ds
	mov %eax, %ss
	mov $0x32, %eax
	out %eax, $REPORT
	mov %cr4, %eax
	or $0x20, %eax /* PAE */
	mov %eax, %cr4
	mov $0x1000, %eax
	mov %eax, %cr3
	mov $MSR_EFER, %ecx
	rdmsr
	or $0x100, %eax /* LME */
	wrmsr
	mov %cr0, %eax
	or $0x80000000, %eax /* PG */
	mov %eax, %cr0
	ljmp $KERNEL_CS64, $ADDR(in_long_mode)
	.code64
in_long_mode:
	mov $0x64, %eax
	jmp report_and_finish

/* Ring 3 and `syscall`. Reports: CPL 3, CS in the handler (ring 0), 1 after a privileged read, CPL 3 after sysret. */
	.globl doctor_syscall
doctor_syscall:
	mov $MSR_STAR, %ecx
	xor %eax, %eax
	mov $(((USER_DS - 8) << 16) | KERNEL_CS64), %edx
	wrmsr
	mov $MSR_LSTAR, %ecx
	mov $ADDR(syscall_entry), %eax
	xor %edx, %edx
	wrmsr
	mov $MSR_SFMASK, %ecx
	xor %eax, %eax
	wrmsr
	mov $MSR_EFER, %ecx
	rdmsr
	or $1, %eax /* SCE */
	wrmsr
	pushq $USER_DS
	pushq $USER_STACK
	pushq $0x3002 /* IOPL 3: a guest that stays in ring 3 can still report it */
	pushq $USER_CS64
	pushq $ADDR(in_user_mode)
	iretq
in_user_mode:
	mov %cs, %eax
	and $3, %eax
	out %eax, $REPORT
	syscall
	mov %cs, %eax
	and $3, %eax
	jmp report_and_finish
syscall_entry:
	mov %cs, %eax
	out %eax, $REPORT
	mov %cr0, %rax /* #GP outside ring 0 */
	and $1, %eax
	out %eax, $REPORT
	sysretq

/* A breakpoint in ring 0 goes through the IDT and comes back. Reports: 3, 4. */
	.globl doctor_int3, doctor_int3_handler
doctor_int3:
	int3
	mov $4, %eax
	jmp report_and_finish
doctor_int3_handler:
	mov $3, %eax
	out %eax, $REPORT
	iretq

/* A page fault delivers CR2 and its error code. Reports: 0x40000000, 0. */
	.globl doctor_page_fault, doctor_page_fault_handler
doctor_page_fault:
	mov 0x40000000, %eax
	jmp finish
doctor_page_fault_handler:
	mov %cr2, %rax
	out %eax, $REPORT
	pop %rax
	jmp report_and_finish

/* Instructions that compilers and Linux use as soon as CPUID offers them. Reports: 8. */
	.globl doctor_popcnt
doctor_popcnt:
	mov $0xf0f0, %ecx
	popcnt %rcx, %rax
	jmp report_and_finish

/* Reports: 1 (exchanged), 0x55. */
	.globl doctor_cmpxchg16b
doctor_cmpxchg16b:
	xor %eax, %eax
	xor %edx, %edx
	mov $0x55, %ebx
	mov $0x66, %ecx
	lock cmpxchg16b DATA
	setz %al
	movzbl %al, %eax
	out %eax, $REPORT
	mov DATA, %eax
	jmp report_and_finish

/* Reports: 1. */
	.globl doctor_smap
doctor_smap:
	stac
	clac
	mov $1, %eax
	jmp report_and_finish

/* Vector state survives an exit to the monitor. Reports: 0x5a5aa5a5 before and after one. */
	.globl doctor_sse
doctor_sse:
	mov $0x5a5aa5a5, %eax
	movd %eax, %xmm3
	out %eax, $REPORT
	movd %xmm3, %eax
	jmp report_and_finish

/* xsave and xrstor as the kernel's context switch uses them. Reports: 0x5a5aa5a5. */
	.globl doctor_xsave
doctor_xsave:
	mov %cr4, %rax
	or $0x40000, %rax /* OSXSAVE */
	mov %rax, %cr4
	xor %ecx, %ecx
	mov $3, %eax
	xor %edx, %edx
	xsetbv
	mov $0x5a5aa5a5, %eax
	movd %eax, %xmm3
	mov $3, %eax
	xsave XSAVE_AREA
	pxor %xmm3, %xmm3
	xrstor XSAVE_AREA
	movd %xmm3, %eax
	jmp report_and_finish

/* Per-CPU data of a kernel: swapgs. Reports: 0x1234. */
	.globl doctor_swapgs
doctor_swapgs:
	mov $MSR_KERNEL_GS_BASE, %ecx
	mov $0x1234, %eax
	xor %edx, %edx
	wrmsr
	swapgs
	mov $MSR_GS_BASE, %ecx
	rdmsr
	jmp report_and_finish

/* The CPUID table that the monitor set is the one the guest sees. Reports: the signature, and leaf 1 without SSE4.2. */
	.globl doctor_cpuid
doctor_cpuid:
	mov $0x40000000, %eax
	cpuid
	mov %ebx, %eax
	out %eax, $REPORT
	mov $1, %eax
	cpuid
	mov %ecx, %eax
	and $0x100000, %eax
	jmp report_and_finish

/* The local APIC's timer wakes a halted processor. Reports: 0x40. */
	.globl doctor_timer, doctor_timer_handler
doctor_timer:
	mov $LAPIC, %ebx
	movl $0x1ff, 0xf0(%rbx)
	movl $0x40, 0x320(%rbx)
	movl $0xb, 0x3e0(%rbx)
	movl $100000, 0x380(%rbx)
halt:
	sti
	hlt
	jmp halt
doctor_timer_handler:
	mov $LAPIC, %ebx
	movl $0, 0xb0(%rbx)
	mov $0x40, %eax
	jmp report_and_finish

/* An eventfd of the host raises IOAPIC pin 5. Reports: 0x41. */
	.globl doctor_irqfd, doctor_irqfd_handler
doctor_irqfd:
	mov $0xff, %al /* the PIC listens to the same pin: mask it */
	out %al, $0x21
	out %al, $0xa1
	mov $LAPIC, %ebx
	movl $0x1ff, 0xf0(%rbx)
	mov $IOAPIC, %ebx
	movl $0x1b, (%rbx)
	movl $0, 0x10(%rbx)
	movl $0x1a, (%rbx)
	movl $0x41, 0x10(%rbx)
	out %al, $HOST
	jmp halt
doctor_irqfd_handler:
	mov $LAPIC, %ebx
	movl $0, 0xb0(%rbx)
	mov $0x41, %eax
	jmp report_and_finish

/* A doorbell: a store that an eventfd of the host takes. Reports: 1, behind the store. */
	.globl doctor_ioeventfd
doctor_ioeventfd:
	mov $0xc0001050, %ebx
	movl $7, (%rbx)
	mov $1, %eax
	jmp report_and_finish

/* 100,000 turns of two instructions in ring 0. */
	.globl doctor_speed
doctor_speed:
	mov $100000, %ecx
1:	dec %ecx
	jnz 1b
	jmp finish
doctor_code_end:

	.section .note.GNU-stack, "", @progbits
