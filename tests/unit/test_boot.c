/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading from open files, the initrd's place, boot_params and start_info, and the rule for huge pages.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/fake_image.h"
#include "vmm/acpi.h"
#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/boot.h"
#include "vmm/boot_huge.h"

static struct gmem *make_mem(uint64_t size)
{
	struct gmem *mem = NULL;

	assert_int_equal(gmem_create(&mem, size, GMEM_PAGES_DEFAULT, NULL), 0);
	return mem;
}

static uint32_t read32(const struct gmem *mem, uint64_t gpa)
{
	uint8_t bytes[4] = { 0 };

	assert_int_equal(gmem_read(mem, GPA(gpa), bytes, 4), 0);
	return le32_get(bytes);
}

static uint64_t read64(const struct gmem *mem, uint64_t gpa)
{
	return read32(mem, gpa) | (uint64_t)read32(mem, gpa + 4) << 32;
}

/*
 * ---- kernels ----------------------------------------------------------------------------------------------------
 */

static void load_elf(struct gmem *mem, bool pvh, struct boot_kernel *kernel)
{
	uint8_t elf[FAKE_ELF_LEN];
	struct err e = {0};

	fake_elf(elf, pvh);
	AUTO_FD int fd = fake_file(elf, sizeof(elf));
	assert_int_equal(boot_load_kernel(mem, fd, kernel, &e), 0);
}

static void elf_in_memory(void **state)
{
	struct gmem *mem = make_mem(64 * MIB);
	struct boot_kernel kernel;

	(void)state;
	load_elf(mem, false, &kernel);
	assert_int_equal(kernel.protocol, BOOT_PROTOCOL_LINUX64);
	assert_int_equal(kernel.entry.v, FAKE_ELF_TEXT);
	assert_int_equal(kernel.start.v, FAKE_ELF_TEXT);
	assert_int_equal(kernel.end.v, FAKE_ELF_DATA + 0x3000);
	assert_int_equal(kernel.acpi, BOOT_ACPI_UNKNOWN);
	assert_string_equal(boot_kernel_text(&kernel), "Kernel loaded using Linux 64-bit boot protocol");
	assert_int_equal(read32(mem, FAKE_ELF_TEXT), 0xcccccccc);
	assert_int_equal(read32(mem, FAKE_ELF_TEXT + 0xffc), 0xcccccccc);
	assert_int_equal(read32(mem, FAKE_ELF_TEXT + 0x1000), 0);
	assert_int_equal(read32(mem, FAKE_ELF_DATA + 0x7fc), 0xdddddddd);
	assert_int_equal(read32(mem, FAKE_ELF_DATA + 0x800), 0); /* bss */
	gmem_destroy(mem);
}

static void pvh_preferred(void **state)
{
	struct gmem *mem = make_mem(64 * MIB);
	struct boot_kernel kernel;
	struct kvm_sregs sregs = {0};
	struct kvm_regs regs;

	(void)state;
	load_elf(mem, true, &kernel);
	assert_int_equal(kernel.protocol, BOOT_PROTOCOL_PVH);
	assert_int_equal(kernel.entry.v, FAKE_ELF_PVH_ENTRY);
	assert_string_equal(boot_kernel_text(&kernel), "Kernel loaded using PVH boot protocol");
	boot_init_regs(&kernel, &regs, &sregs);
	assert_int_equal(regs.rip, FAKE_ELF_PVH_ENTRY);
	assert_int_equal(regs.rbx, LAYOUT_PVH_START_INFO);
	gmem_destroy(mem);
}

static void pvh_entry_outside(void **state)
{
	struct gmem *mem = make_mem(64 * MIB);
	uint8_t elf[FAKE_ELF_LEN];
	struct boot_kernel kernel;
	struct err e = {0};

	(void)state;
	fake_elf(elf, true);
	le32_put(elf + FAKE_ELF_NOTES + 32 + 16, 0x7000);
	AUTO_FD int fd = fake_file(elf, sizeof(elf));
	assert_int_equal(boot_load_kernel(mem, fd, &kernel, &e), -ENOEXEC);
	assert_non_null(strstr(e.msg, "entry point 0x7000"));
	gmem_destroy(mem);
}

/* Above 1 GiB there are no page tables at a 64-bit entry; PVH has none anyway. */
static void beyond_the_identity_map(void **state)
{
	struct gmem *mem = make_mem(2 * GIB);
	uint8_t elf[FAKE_ELF_LEN];
	struct boot_kernel kernel;
	struct err e = {0};
	int pvh;

	(void)state;
	for (pvh = 0; pvh < 2; pvh++) {
		fake_elf(elf, pvh);
		le64_put(elf + ELF_P(1, ELF_P_PADDR), GIB - 0x2000);
		AUTO_FD int fd = fake_file(elf, sizeof(elf));
		assert_int_equal(boot_load_kernel(mem, fd, &kernel, &e), pvh ? 0 : -ENOEXEC);
	}
	assert_non_null(strstr(e.msg, "first GiB"));
	gmem_destroy(mem);
}

static void bzimage_in_memory(void **state)
{
	struct gmem *mem = make_mem(64 * MIB), *small = make_mem(18 * MIB);
	uint8_t image[FAKE_BZIMAGE_LEN];
	struct kvm_sregs sregs = {0};
	struct boot_kernel kernel;
	struct kvm_regs regs;
	struct err e = {0};

	(void)state;
	fake_bzimage(image);
	AUTO_FD int fd = fake_file(image, sizeof(image));
	assert_int_equal(boot_load_kernel(mem, fd, &kernel, &e), 0);
	assert_string_equal(boot_kernel_text(&kernel), "Kernel loaded using Linux 64-bit boot protocol (bzImage)");
	assert_int_equal(read32(mem, 0x100000), 0xeeeeeeee);
	assert_int_equal(read32(mem, 0x100000 + FAKE_BZIMAGE_PAYLOAD), 0);
	boot_init_regs(&kernel, &regs, &sregs);
	assert_int_equal(regs.rip, 0x100200);
	assert_int_equal(regs.rsi, LAYOUT_ZERO_PAGE);
	assert_int_equal(boot_load_kernel(small, fd, &kernel, &e), -E2BIG);
	assert_non_null(strstr(e.msg, "0x1300000"));
	assert_non_null(strstr(e.msg, "has 18 MiB"));
	gmem_destroy(mem);
	gmem_destroy(small);
}

static void wrong_files(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		const char *text;
	} table[] = {
		{"\x1f\x8b\x08", 3, "gzip"},
		{"\x28\xb5\x2f\xfd", 4, "zstd"},
		{"\xfd\x37zXZ\0", 6, "xz data"},
		{"\x04\x22\x4d\x18", 4, "lz4"},
		{"BZh9", 4, "bzip2"},
		{"\x5d\0\0\0", 4, "lzma"},
		{"#!/bin/sh\n", 10, "script"},
		{"hello\n", 6, "text file"},
		{"070701", 6, "cpio"},
		{"!<arch>\n", 8, "archive"},
		{"MZ\0\0", 4, "EFI program"},
		{"\0", 1, "neither"},
		{"\x7f" "ELF", 4, "shorter than its header"},
		{"\x7f" "EL", 3, "neither"},
	};
	struct gmem *mem = make_mem(64 * MIB);
	struct boot_kernel kernel;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		AUTO_FD int fd = fake_file(table[i].bytes, table[i].len);
		struct err e = {0};

		assert_int_equal(boot_load_kernel(mem, fd, &kernel, &e), -ENOEXEC);
		if (!strstr(e.msg, table[i].text))
			fail_msg("row %zu says: %s", i, e.msg);
	}
	gmem_destroy(mem);
}

static void filesystem_and_arm64(void **state)
{
	struct gmem *mem = make_mem(64 * MIB);
	uint8_t bytes[2048] = {0};
	struct boot_kernel kernel;
	struct err e = {0};

	(void)state;
	memcpy(bytes + 0x438, "\x53\xef", 2);
	AUTO_FD int ext4 = fake_file(bytes, sizeof(bytes));
	assert_int_equal(boot_load_kernel(mem, ext4, &kernel, &e), -ENOEXEC);
	assert_non_null(strstr(e.msg, "ext4"));
	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes + 56, "ARM\x64", 4);
	AUTO_FD int arm = fake_file(bytes, sizeof(bytes));
	assert_int_equal(boot_load_kernel(mem, arm, &kernel, &e), -ENOEXEC);
	assert_non_null(strstr(e.msg, "arm64"));
	gmem_destroy(mem);
}

static void not_files(void **state)
{
	struct gmem *mem = make_mem(64 * MIB);
	AUTO_FD int dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_FD int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	AUTO_FD int empty = fake_file("", 0);
	struct boot_kernel kernel;
	struct boot_initrd initrd;
	struct err e = {0};
	int pipe_fd[2];

	(void)state;
	assert_int_equal(boot_load_kernel(mem, dir, &kernel, &e), -EISDIR);
	assert_non_null(strstr(e.msg, "kernel image is a directory"));
	assert_int_equal(boot_load_kernel(mem, null, &kernel, &e), -EINVAL);
	assert_int_equal(boot_load_kernel(mem, empty, &kernel, &e), -ENODATA);
	assert_non_null(strstr(e.msg, "empty"));
	assert_int_equal(boot_load_kernel(mem, -1, &kernel, &e), -EBADF);
	assert_int_equal(pipe(pipe_fd), 0);
	assert_int_equal(boot_load_kernel(mem, pipe_fd[0], &kernel, &e), -EINVAL);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	load_elf(mem, false, &kernel);
	assert_int_equal(boot_load_initrd(mem, empty, &kernel, &initrd, &e), -ENODATA);
	assert_non_null(strstr(e.msg, "initrd is empty"));
	assert_int_equal(boot_load_initrd(mem, dir, &kernel, &initrd, &e), -EISDIR);
	gmem_destroy(mem);
}

/*
 * ---- initrd -----------------------------------------------------------------------------------------------------
 */

static int load_initrd(struct gmem *mem, uint64_t len, const struct boot_kernel *kernel, struct boot_initrd *out,
		       struct err *e)
{
	AUTO_FD int fd = fake_file("RAMDISK", 7);

	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	return boot_load_initrd(mem, fd, kernel, out, e);
}

static void initrd_place(void **state)
{
	struct gmem *mem = make_mem(3 * GIB + 64 * MIB);
	struct boot_kernel kernel;
	struct boot_initrd initrd;

	(void)state;
	load_elf(mem, false, &kernel);
	assert_int_equal(load_initrd(mem, 5000, &kernel, &initrd, NULL), 0);
	assert_int_equal(initrd.base.v, 3 * GIB - 8192); /* the end of the first region, down to a page */
	assert_int_equal(initrd.len, 5000);
	assert_int_equal(read32(mem, initrd.base.v), 0x444d4152);
	assert_int_equal(load_initrd(mem, 4096, &kernel, &initrd, NULL), 0);
	assert_int_equal(initrd.base.v, 3 * GIB - 4096);
	kernel.initrd_addr_max = 0x7fffffff;
	assert_int_equal(load_initrd(mem, 4097, &kernel, &initrd, NULL), 0);
	assert_int_equal(initrd.base.v, 2 * GIB - 8192);
	gmem_destroy(mem);
}

static void initrd_limits(void **state)
{
	struct gmem *mem = make_mem(32 * MIB);
	struct boot_kernel kernel;
	struct boot_initrd initrd = {.len = 77};
	struct err e = {0};
	uint64_t room;

	(void)state;
	load_elf(mem, false, &kernel);
	room = 32 * MIB - kernel.end.v;
	assert_int_equal(load_initrd(mem, room + 1, &kernel, &initrd, &e), -E2BIG);
	assert_non_null(strstr(e.msg, "has 32 MiB"));
	assert_int_equal(load_initrd(mem, UINT64_C(1) << 40, &kernel, &initrd, &e), -E2BIG);
	kernel.initrd_addr_max = 0xfff;
	assert_int_equal(load_initrd(mem, 1, &kernel, &initrd, &e), -E2BIG);
	kernel.initrd_addr_max = 0;
	assert_int_equal(load_initrd(mem, 1, &kernel, &initrd, &e), -E2BIG);
	assert_int_equal(initrd.len, 77);
	kernel.initrd_addr_max = UINT64_MAX;
	assert_int_equal(load_initrd(mem, room, &kernel, &initrd, &e), 0);
	assert_int_equal(initrd.base.v, kernel.end.v);
	gmem_destroy(mem);
}

/*
 * ---- tables -----------------------------------------------------------------------------------------------------
 */

static const struct boot_initrd some_initrd = {.base = {0x3000000}, .len = 12345};

static struct boot_config make_config(const struct boot_kernel *kernel)
{
	struct boot_config config = {
		.kernel = kernel,
		.initrd = &some_initrd,
		.cmdline = "quiet pci=off",
		.n_vcpus = 2,
		.n_virtio = 1,
		.has_vmgenid = true,
		.vmgenid_gsi = 22,
		.vmgenid = "0123456789abcde",
	};

	config.virtio[0] = (struct boot_virtio){GPA(LAYOUT_VIRTIO_MMIO), 5};
	return config;
}

static void check_common(const struct gmem *mem)
{
	char line[14];

	assert_int_equal(gmem_read(mem, GPA(LAYOUT_CMDLINE), line, sizeof(line)), 0);
	assert_string_equal(line, "quiet pci=off");
	assert_int_equal(read32(mem, LAYOUT_MPTABLE), 0x5f504d5f); /* _MP_ */
	assert_int_equal(read32(mem, LAYOUT_RSDP), 0x20445352);    /* "RSD " */
	assert_int_equal(read32(mem, LAYOUT_VMGENID), 0x33323130);
}

static void tables_64(void **state)
{
	struct gmem *mem = make_mem(5 * GIB);
	struct boot_kernel kernel;
	struct boot_config config;
	const uint64_t zp = LAYOUT_ZERO_PAGE;

	(void)state;
	load_elf(mem, false, &kernel);
	config = make_config(&kernel);
	assert_int_equal(boot_write_tables(mem, &config, NULL), 0);
	check_common(mem);
	assert_int_equal(read64(mem, zp + 0x70), LAYOUT_RSDP);
	assert_int_equal(read32(mem, zp + 0x1fe) & 0xffff, 0xaa55);
	assert_int_equal(read32(mem, zp + 0x202), 0x53726448);
	assert_int_equal(read32(mem, zp + 0x210) & 0xff, 0xff);
	assert_int_equal(read32(mem, zp + 0x218), some_initrd.base.v);
	assert_int_equal(read32(mem, zp + 0x21c), some_initrd.len);
	assert_int_equal(read32(mem, zp + 0x228), LAYOUT_CMDLINE);
	assert_int_equal(read32(mem, zp + 0x230), 0x01000000);
	assert_int_equal(read32(mem, zp + 0x238), strlen("quiet pci=off"));
	assert_int_equal(read32(mem, zp + 0x1e8) & 0xff, 5);
	assert_int_equal(read64(mem, zp + 0x2d0 + 2 * 20), 0x100000);
	assert_int_equal(read64(mem, zp + 0x2d0 + 2 * 20 + 8), 3 * GIB - 0x100000);
	assert_int_equal(read32(mem, zp + 0x2d0 + 2 * 20 + 16), 1);
	assert_int_equal(read64(mem, zp + 0x2d0 + 4 * 20), 4 * GIB);
	assert_int_equal(read64(mem, LAYOUT_PML4), LAYOUT_PDPT | 3);
	gmem_destroy(mem);
}

static void tables_bzimage(void **state)
{
	struct gmem *mem = make_mem(64 * MIB);
	uint8_t image[FAKE_BZIMAGE_LEN];
	struct boot_kernel kernel;
	struct boot_config config;
	struct err e = {0};
	const uint64_t zp = LAYOUT_ZERO_PAGE;

	(void)state;
	fake_bzimage(image);
	AUTO_FD int fd = fake_file(image, sizeof(image));
	assert_int_equal(boot_load_kernel(mem, fd, &kernel, NULL), 0);
	config = make_config(&kernel);
	config.initrd = NULL;
	assert_int_equal(boot_write_tables(mem, &config, NULL), 0);
	check_common(mem);
	assert_int_equal(read32(mem, zp + 0x206) & 0xffff, 0x020f); /* the image's own header */
	assert_int_equal(read32(mem, zp + 0x258), FAKE_BZIMAGE_PREF);
	assert_int_equal(read32(mem, zp + 0x210) & 0xffff, 0x01ff); /* no heap */
	assert_int_equal(read32(mem, zp + 0x214), 0x100000);
	assert_int_equal(read64(mem, zp + 0x250), 0); /* the file's setup_data is not followed */
	assert_int_equal(read32(mem, zp + 0x218), 0);
	assert_int_equal(read32(mem, zp + 0x21c), 0);
	kernel.cmdline_max = 12;
	assert_int_equal(boot_write_tables(mem, &config, &e), -E2BIG);
	assert_non_null(strstr(e.msg, "13 characters; this kernel takes at most 12"));
	gmem_destroy(mem);
}

static void tables_pvh(void **state)
{
	struct gmem *mem = make_mem(64 * MIB);
	struct boot_kernel kernel;
	struct boot_config config;
	const uint64_t si = LAYOUT_PVH_START_INFO, map = LAYOUT_PVH_MEMMAP;

	(void)state;
	load_elf(mem, true, &kernel);
	config = make_config(&kernel);
	assert_int_equal(boot_write_tables(mem, &config, NULL), 0);
	check_common(mem);
	assert_int_equal(read32(mem, si), 0x336ec578);
	assert_int_equal(read32(mem, si + 4), 1);
	assert_int_equal(read32(mem, si + 12), 1);
	assert_int_equal(read64(mem, si + 16), LAYOUT_PVH_MODLIST);
	assert_int_equal(read64(mem, si + 24), LAYOUT_CMDLINE);
	assert_int_equal(read64(mem, si + 32), LAYOUT_RSDP);
	assert_int_equal(read64(mem, si + 40), map);
	assert_int_equal(read32(mem, si + 48), 4);
	assert_int_equal(read64(mem, LAYOUT_PVH_MODLIST), some_initrd.base.v);
	assert_int_equal(read64(mem, LAYOUT_PVH_MODLIST + 8), some_initrd.len);
	assert_int_equal(read64(mem, map + 8), 0x9fc00);
	assert_int_equal(read32(mem, map + 16), 1);
	assert_int_equal(read64(mem, map + 24), 0x9fc00);
	assert_int_equal(read32(mem, map + 24 + 16), 2);
	gmem_destroy(mem);
}

/* A kernel whose ACPI can't start gets none, and its devices on the command line (acpi.h). */
static void kernel_without_working_acpi(void **state)
{
	struct gmem *mem = make_mem(64 * MIB);
	struct boot_kernel kernel;
	struct boot_config config;

	(void)state;
	load_elf(mem, true, &kernel);
	kernel.acpi = BOOT_ACPI_NEEDS_PCI;
	config = make_config(&kernel);
	assert_int_equal(boot_write_tables(mem, &config, NULL), 0);
	assert_int_equal(read64(mem, LAYOUT_PVH_START_INFO + 32), 0);
	assert_int_equal(read64(mem, LAYOUT_RSDP), 0);
	assert_true(boot_wants_cmdline_devices(&kernel, ""));
	kernel.acpi = BOOT_ACPI_ABSENT;
	assert_true(boot_wants_cmdline_devices(&kernel, NULL));
	kernel.acpi = BOOT_ACPI_UNKNOWN;
	assert_true(boot_wants_cmdline_devices(&kernel, NULL));
	kernel.acpi = BOOT_ACPI_USABLE;
	assert_false(boot_wants_cmdline_devices(&kernel, NULL));
	assert_false(boot_wants_cmdline_devices(&kernel, "quiet"));
	assert_true(boot_wants_cmdline_devices(&kernel, "quiet acpi=off"));
	assert_true(boot_wants_cmdline_devices(&kernel, "acpi=noirq"));
	assert_false(boot_wants_cmdline_devices(&kernel, "acpi=force"));
	gmem_destroy(mem);
}

static void no_room_for_tables(void **state)
{
	const struct boot_kernel kernel = {.protocol = BOOT_PROTOCOL_LINUX64, .cmdline_max = 2047};
	struct boot_config config = make_config(&kernel);
	struct gmem *mem = make_mem(MIB);
	struct err e = {0};

	(void)state;
	assert_int_equal(boot_write_tables(mem, &config, &e), -EFAULT);
	assert_non_null(strstr(e.msg, "first MiB"));
	gmem_destroy(mem);
}

/*
 * ---- huge pages -------------------------------------------------------------------------------------------------
 */

#define BLOCK (2 * MIB)

static void check_plan(uint64_t size, const struct boot_range *loaded, size_t n, const struct boot_range *initrd,
		       const uint64_t (*want)[2], size_t n_want)
{
	struct gmem *mem = make_mem(size);
	struct boot_huge_plan plan;
	size_t i;

	boot_huge_plan(mem, &boot_huge_default, loaded, n, initrd, &plan);
	assert_int_equal(plan.n_ranges, n_want);
	for (i = 0; i < n_want; i++) {
		assert_int_equal(plan.range[i].base.v / BLOCK, want[i][0]);
		assert_int_equal((plan.range[i].base.v + plan.range[i].len) / BLOCK, want[i][1]);
		assert_true(gmem_contains(mem, plan.range[i].base, plan.range[i].len));
	}
	boot_huge_apply(&plan, mem);
	gmem_destroy(mem);
}

/* The block numbers are those that boots were seen to fill, in the lab, by mincore on guests without huge pages. */
static void huge_seen(void **state)
{
	const struct boot_range kernel[] = {{GPA(0x1000000), 0x685234}, {GPA(0x1800000), 0x218000}};
	static const uint64_t at_128[][2] = {{1, 2}, {8, 11}, {12, 13}, {61, 63}};
	static const uint64_t at_256[][2] = {{1, 2}, {8, 11}, {12, 13}, {124, 127}};
	static const uint64_t at_1024[][2] = {{1, 2}, {8, 11}, {12, 13}, {502, 511}};
	static const uint64_t at_3584[][2] = {{2048, 2050}, {8, 11}, {12, 13}, {2274, 2303}};

	(void)state;
	check_plan(128 * MIB, kernel, 2, NULL, at_128, ARRAY_SIZE(at_128));
	check_plan(256 * MIB, kernel, 2, NULL, at_256, ARRAY_SIZE(at_256));
	check_plan(1024 * MIB, kernel, 2, NULL, at_1024, ARRAY_SIZE(at_1024));
	check_plan(3584 * MIB, kernel, 2, NULL, at_3584, ARRAY_SIZE(at_3584));
}

static void huge_borders(void **state)
{
	const struct boot_range half = {GPA(20 * MIB), MIB}, more = {GPA(20 * MIB), MIB + 1};
	const struct boot_range initrd = {GPA(120 * MIB - 4096), 8 * MIB};
	const struct boot_range all = {GPA(MIB), 127 * MIB};
	static const uint64_t without[][2] = {{1, 2}, {61, 63}};
	static const uint64_t with[][2] = {{1, 2}, {10, 11}, {61, 63}};
	static const uint64_t below_initrd[][2] = {{1, 2}, {57, 59}};
	static const uint64_t everything[][2] = {{1, 64}};
	static const uint64_t tiny[][2] = {{1, 2}, {0, 1}};

	(void)state;
	check_plan(128 * MIB, &half, 1, NULL, without, 2); /* exactly half is not more than half */
	check_plan(128 * MIB, &more, 1, NULL, with, 3);
	check_plan(128 * MIB, NULL, 0, &initrd, below_initrd, 2);
	check_plan(128 * MIB, &all, 1, NULL, everything, 1);
	check_plan(4 * MIB, NULL, 0, NULL, tiny, 2);
	check_plan(2 * MIB, NULL, 0, NULL, NULL, 0); /* no room for anything */
	check_plan(MIB, NULL, 0, NULL, NULL, 0);
}

/* A few MiB beyond the gap do not hold the page array: it goes below the gap. */
static void huge_second_region_too_small(void **state)
{
	static const uint64_t want[][2] = {{2048, 2050}, {1509, 1535}};

	(void)state;
	check_plan(3 * GIB + 8 * MIB, NULL, 0, NULL, want, ARRAY_SIZE(want));
}

static void huge_many_pieces(void **state)
{
	struct boot_range piece[40];
	struct gmem *mem = make_mem(512 * MIB);
	struct boot_huge_plan plan;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(piece); i++)
		piece[i] = (struct boot_range){GPA((2 * i + 10) * BLOCK), BLOCK};
	boot_huge_plan(mem, &boot_huge_default, piece, ARRAY_SIZE(piece), NULL, &plan);
	assert_int_equal(plan.n_ranges, BOOT_HUGE_MAX_RANGES);
	gmem_destroy(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(elf_in_memory),
		cmocka_unit_test(pvh_preferred),
		cmocka_unit_test(pvh_entry_outside),
		cmocka_unit_test(beyond_the_identity_map),
		cmocka_unit_test(bzimage_in_memory),
		cmocka_unit_test(wrong_files),
		cmocka_unit_test(filesystem_and_arm64),
		cmocka_unit_test(not_files),
		cmocka_unit_test(initrd_place),
		cmocka_unit_test(initrd_limits),
		cmocka_unit_test(tables_64),
		cmocka_unit_test(tables_bzimage),
		cmocka_unit_test(tables_pvh),
		cmocka_unit_test(kernel_without_working_acpi),
		cmocka_unit_test(no_room_for_tables),
		cmocka_unit_test(huge_seen),
		cmocka_unit_test(huge_borders),
		cmocka_unit_test(huge_second_region_too_small),
		cmocka_unit_test(huge_many_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
