/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The boot of a guest kernel, from an open image file to the bytes and registers of the first instruction.
 *
 * Trust: kernel and initrd files are hostile (THREATS.md GHSA-52h2-m2cf-9jh6): every size and offset in them is
 * checked before it is used, loops are bounded by constants, and what does not fit is refused with a text that says
 * what was found and what would be right. The command line and the device list come from the configuration model.
 *
 * Threads: the thread that builds the machine, before a vCPU runs. Nothing here needs KVM.
 *
 * Use, in this order:
 *     boot_load_kernel(mem, kernel_fd, &kernel, e);        as early as /boot-source is accepted
 *     boot_load_initrd(mem, initrd_fd, &kernel, &initrd, e);        at InstanceStart
 *     boot_write_tables(mem, &config, e);                  command line, memory map, MP and ACPI tables, entry tables
 *     boot_init_regs(&kernel, &regs, &sregs);              for vCPU 0; the others wait for SIPI
 *
 * Memory must be fresh (all zero) when the kernel is loaded: bss and the gaps of an image are never written. To
 * load a second image the caller destroys the gmem and creates a new one; loading twice into one gmem leaves the
 * first image's bytes there.
 */
#ifndef MAYFLY_VMM_BOOT_H
#define MAYFLY_VMM_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"
#include "vmm/base/err.h"
#include "vmm/gmem.h"
#include "vmm/layout.h"

struct kvm_regs;
struct kvm_sregs;

#define BOOT_SETUP_HEADER_MAX 144 /* bytes; offsets 0x1f1 to 0x281 of the image, the room that boot_params has */

enum boot_protocol {
	BOOT_PROTOCOL_PVH,     /* 32-bit protected mode, rbx = start_info */
	BOOT_PROTOCOL_LINUX64, /* long mode, rsi = boot_params */
};

/* What an image says about its ACPI support without being run. */
enum boot_acpi {
	BOOT_ACPI_UNKNOWN,   /* compressed, or without section headers */
	BOOT_ACPI_ABSENT,    /* not built in */
	BOOT_ACPI_NEEDS_PCI, /* built in, but without PCI, and then Linux's never starts (acpi.h) */
	BOOT_ACPI_USABLE,
};

/* A kernel that stands in guest memory. Plain data; may be copied. */
struct boot_kernel {
	enum boot_protocol protocol;
	bool is_bzimage;
	gpa_t entry;
	gpa_t start, end;             /* [start, end): all it takes, bss and a bzImage's decompression area included */
	gpa_t work_start;             /* a bzImage uncompresses itself to [work_start, end) */
	uint64_t initrd_addr_max;     /* highest address that a byte of the initrd may have */
	uint32_t cmdline_max;         /* longest command line it takes, in characters, at most LAYOUT_CMDLINE_MAX - 1 */
	enum boot_acpi acpi;
	uint32_t setup_header_len;    /* bytes; 0 unless is_bzimage */
	uint8_t setup_header[BOOT_SETUP_HEADER_MAX]; /* from offset 0x1f1 of the image */
};

/*
 * Load the image that @kernel_fd is open on (any file position; pread only) into @mem, which must be fresh.
 * Blocks for the time of the read. On failure @mem may hold parts of the image: do not run it.
 * Returns 0 and *@out, or negative errno with @e: -ENOEXEC for an image that can't be booted, -E2BIG for one that
 * the RAM can't hold, else what the file system said.
 */
int boot_load_kernel(struct gmem *mem, int kernel_fd, struct boot_kernel *out, struct err *e) MUST_USE;

/* The line to log at Debug for @kernel, for example "Kernel loaded using PVH boot protocol". Static text. */
const char *boot_kernel_text(const struct boot_kernel *kernel);

struct boot_initrd {
	gpa_t base;
	uint64_t len; /* bytes; 0: no initrd */
};

/*
 * Load the file behind @initrd_fd as the initial RAM disk of @kernel: at the end of the first RAM region, rounded
 * down to a page, lower when the kernel demands it. As boot_load_kernel otherwise.
 */
int boot_load_initrd(struct gmem *mem, int initrd_fd, const struct boot_kernel *kernel, struct boot_initrd *out,
		     struct err *e) MUST_USE;

struct boot_virtio {
	gpa_t base; /* its MMIO page */
	uint32_t gsi;
};

/* Everything that the tables tell the guest. Borrowed pointers need to live for the call only. */
struct boot_config {
	const struct boot_kernel *kernel;
	const struct boot_initrd *initrd; /* NULL or len 0: none */
	const char *cmdline;              /* the finished line (cmdline.h) */
	uint32_t n_vcpus;                 /* 1 to LAYOUT_MAX_VCPUS; APIC ids 0 to n_vcpus - 1 */
	size_t n_virtio;                  /* at most LAYOUT_MAX_VIRTIO */
	struct boot_virtio virtio[LAYOUT_MAX_VIRTIO]; /* attach order */
	bool has_vmgenid;
	uint32_t vmgenid_gsi;
	uint8_t vmgenid[16]; /* the generation id to start with: random, never the same twice */
	bool has_power_off;  /* a device at LAYOUT_ACPI_PM turns the machine off (acpi.h) */
};

/*
 * Write into @mem everything that @config->kernel finds at its entry: command line, boot_params or start_info with
 * the memory map, GDT, page tables, MP table, ACPI tables, the generation id. Pure: the same @config gives the same
 * bytes. Returns 0, or negative errno with @e (-E2BIG: the command line is too long; -EFAULT: too little RAM for
 * the tables).
 */
int boot_write_tables(struct gmem *mem, const struct boot_config *config, struct err *e) MUST_USE;

/* Should `virtio_mmio.device=` be on the command line of @kernel, given the user's @boot_args? See cmdline.h. */
bool boot_wants_cmdline_devices(const struct boot_kernel *kernel, const char *boot_args) MUST_USE;

/*
 * Set the registers of vCPU 0 for @kernel's entry. @sregs comes from KVM_GET_SREGS and keeps what the entry does not
 * define (APIC base); @regs is overwritten whole.
 */
void boot_init_regs(const struct boot_kernel *kernel, struct kvm_regs *regs, struct kvm_sregs *sregs);

#endif
