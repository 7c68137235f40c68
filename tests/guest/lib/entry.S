/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a test guest starts: 64-bit boot protocol, or out of entry_pvh.S. Own stack, own page tables (4 GiB one to one,
 * so that device memory is mapped), own GDT and an IDT whose handlers report the exception; then guest_main().
 */
	.section .text.entry, "ax"
	.code64
	.globl _start
_start:
	lea stack_top(%rip), %rsp
	/* 2048 entries of 2 MiB behind four page directory pointers. */
	lea page_directories(%rip), %rdi
	mov $0x83, %eax
	mov $2048, %ecx
1:	mov %rax, (%rdi)
	add $8, %rdi
	add $0x200000, %rax
	dec %ecx
	jnz 1b
	lea page_directories(%rip), %rax
	or $3, %rax
	lea pdpt(%rip), %rdi
	mov $4, %ecx
2:	mov %rax, (%rdi)
	add $8, %rdi
	add $0x1000, %rax
	dec %ecx
	jnz 2b
	lea pdpt(%rip), %rax
	or $3, %rax
	mov %rax, pml4(%rip)
	lea pml4(%rip), %rax
	mov %rax, %cr3
	lgdt gdt_pointer(%rip)
	pushq $8
	lea 3f(%rip), %rax
	push %rax
	lretq
3:	mov $16, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	/* IDT: 32 handlers, 16 bytes apart. */
	lea handlers(%rip), %rax
	lea idt(%rip), %rdi
	mov $32, %ecx
4:	mov %ax, (%rdi)
	movw $8, 2(%rdi)
	movw $0x8e00, 4(%rdi)
	mov %rax, %rdx
	shr $16, %rdx
	mov %dx, 6(%rdi)
	add $16, %rdi
	add $16, %rax
	dec %ecx
	jnz 4b
	lidt idt_pointer(%rip)
	/* The PIC listens to the devices' lines as well, with vectors that are exceptions. */
	mov $0xff, %al
	out %al, $0x21
	out %al, $0xa1
	call guest_main
	call guest_end

	.balign 16
handlers:
	vector = 0
	.rept 32
	.balign 16
	mov $vector, %edi
	jmp exception
	vector = vector + 1
	.endr
exception:
	mov (%rsp), %rsi
	mov 8(%rsp), %rdx
	cmpq $0, msr_fault_expected(%rip)
	jne msr_fault
	call guest_exception
/* rdmsr and wrmsr are two bytes; the error code of #GP lies on top. */
msr_fault:
	movq $2, msr_fault_expected(%rip)
	add $8, %rsp
	addq $2, (%rsp)
	iretq

	.section .data
	.balign 8
	.globl msr_fault_expected
msr_fault_expected:
	.quad 0
gdt:
	.quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
	.word . - gdt - 1
	.quad gdt
idt_pointer:
	.word 32 * 16 - 1
	.quad idt

	.section .bss
	.balign 4096
pml4:	.skip 4096
pdpt:	.skip 4096
page_directories: .skip 4 * 4096
idt:	.skip 32 * 16
	.balign 16
	.skip 16384
stack_top:

	.section .note.GNU-stack, "", @progbits
