/* SPDX-License-Identifier: Apache-2.0 */
/* The PVH way in: 32-bit protected mode without paging, %ebx = start_info. Linked into guests named *_pvh only. */
	.section .note.Xen, "a", @note
	.balign 4
	.long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long pvh_start

	.section .text.entry, "ax"
	.code32
pvh_start:
	mov %ebx, pvh_start_info
	mov %cr4, %eax
	or $0x20, %eax
	mov %eax, %cr4
	/* One gigabyte one to one is enough until _start has its own tables. */
	movl $0x83, early_pd
	movl $early_pd + 3, early_pdpt
	movl $early_pdpt + 3, early_pml4
	mov $early_pml4, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx
	rdmsr
	or $0x100, %eax
	wrmsr
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	lgdt early_gdt_pointer
	ljmp $8, $_start

	.section .data
	.balign 8
	.globl pvh_start_info
pvh_start_info:
	.quad 0
early_gdt:
	.quad 0, 0x00af9b000000ffff
early_gdt_pointer:
	.word . - early_gdt - 1
	.long early_gdt

	.section .bss
	.balign 4096
early_pml4: .skip 4096
early_pdpt: .skip 4096
early_pd: .skip 4096

	.section .note.GNU-stack, "", @progbits
