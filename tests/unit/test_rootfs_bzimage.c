// SPDX-License-Identifier: Apache-2.0
/*
 * The bzImage's payload and the ELF in it, with images of every wrong shape; package names; a module's own information.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "rootfs-builder/kernel/bzimage.h"
#include "rootfs-builder/kernel/distro.h"
#include "rootfs-builder/kernel/modules.h"
#include "vmm/base/bytes.h"
#include "vmm/base/err.h"

#define IMAGE_LEN 8192

static uint8_t image[IMAGE_LEN];

static void good_image(void)
{
	memset(image, 0, sizeof(image));
	image[0x1f1] = 3;
	le16_put(image + 0x1fe, 0xaa55);
	memcpy(image + 0x202, "HdrS", 4);
	le16_put(image + 0x206, 0x020f);
	le32_put(image + 0x248, 100);
	le32_put(image + 0x24c, 1000);
}

static int locate(size_t len, struct bzimage_payload *p)
{
	struct err e = { 0 };
	int rc = kernel_bzimage_locate(image, len, p, &e);

	assert_int_equal(e.code, rc);
	return rc;
}

static void payload_is_located(void **state)
{
	struct bzimage_payload p;

	(void)state;
	good_image();
	assert_int_equal(locate(IMAGE_LEN, &p), 0);
	assert_int_equal(p.offset, 4 * 512 + 100);
	assert_int_equal(p.len, 1000);
	assert_int_equal(locate(4 * 512 + 1100, &p), 0);
	image[0x1f1] = 0;
	assert_int_equal(locate(IMAGE_LEN, &p), 0);
	assert_int_equal(p.offset, 5 * 512 + 100);
}

static void damaged_images_are_refused(void **state)
{
	struct bzimage_payload p = { 7, 7 };

	(void)state;
	good_image();
	for (size_t len = 0; len < 4 * 512 + 1100; len++)
		assert_int_equal(locate(len, &p), -EINVAL);
	image[0x1fe]++;
	assert_int_equal(locate(IMAGE_LEN, &p), -EINVAL);
	good_image();
	image[0x202] = 'h';
	assert_int_equal(locate(IMAGE_LEN, &p), -EINVAL);
	good_image();
	le16_put(image + 0x206, 0x0207);
	assert_int_equal(locate(IMAGE_LEN, &p), -EINVAL);
	good_image();
	le32_put(image + 0x248, 0xffffffff);
	assert_int_equal(locate(IMAGE_LEN, &p), -EINVAL);
	good_image();
	le32_put(image + 0x24c, 0xffffffff);
	assert_int_equal(locate(IMAGE_LEN, &p), -EINVAL);
	le32_put(image + 0x24c, 0);
	assert_int_equal(locate(IMAGE_LEN, &p), -EINVAL);
	assert_int_equal(p.offset, 7); /* outputs only on success */
}

/* An ELF file with one segment and one section, each of 16 bytes, and 8 bytes behind them that are no part of it. */
static size_t make_elf(uint8_t *out)
{
	Elf64_Ehdr eh = { .e_ident = ELFMAG "\2\1\1", .e_machine = EM_X86_64, .e_phoff = 64, .e_phentsize = 56, .e_phnum = 1,
			  .e_shoff = 136, .e_shentsize = 64, .e_shnum = 1 };
	Elf64_Phdr ph = { .p_type = PT_LOAD, .p_offset = 120, .p_filesz = 16 };
	Elf64_Shdr sh = { .sh_type = SHT_PROGBITS, .sh_offset = 120, .sh_size = 16 };

	memset(out, 0, 208);
	memcpy(out, &eh, sizeof(eh));
	memcpy(out + 64, &ph, sizeof(ph));
	memcpy(out + 136, &sh, sizeof(sh));
	return 208;
}

static void elf_size_is_found(void **state)
{
	uint8_t elf[256];
	size_t size = 0, len = make_elf(elf);
	Elf64_Phdr ph;
	Elf64_Shdr sh;

	(void)state;
	assert_int_equal(kernel_elf_size(elf, len, &size, NULL), 0);
	assert_int_equal(size, 200);
	for (size_t cut = 0; cut < 200; cut++)
		assert_int_equal(kernel_elf_size(elf, cut, &size, NULL), -EINVAL);
	memcpy(&ph, elf + 64, sizeof(ph));
	ph.p_filesz = UINT64_MAX;
	memcpy(elf + 64, &ph, sizeof(ph));
	assert_int_equal(kernel_elf_size(elf, len, &size, NULL), -EINVAL);
	make_elf(elf);
	memcpy(&sh, elf + 136, sizeof(sh));
	sh.sh_offset = UINT64_MAX;
	memcpy(elf + 136, &sh, sizeof(sh));
	assert_int_equal(kernel_elf_size(elf, len, &size, NULL), -EINVAL);
	sh.sh_type = SHT_NOBITS;
	memcpy(elf + 136, &sh, sizeof(sh));
	assert_int_equal(kernel_elf_size(elf, len, &size, NULL), 0);
}

/* Put @len bytes at @data, gzipped, into the image as its payload. */
static void set_payload(const void *data, size_t len)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)len, .next_out = image + 2048,
		       .avail_out = IMAGE_LEN - 2048 };

	good_image();
	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	le32_put(image + 0x248, 0);
	le32_put(image + 0x24c, (uint32_t)z.total_out);
}

static void vmlinux_comes_out(void **state)
{
	uint8_t elf[256], *out = NULL;
	size_t len = make_elf(elf), out_len = 0;
	struct err e = { 0 };

	(void)state;
	set_payload(elf, len);
	assert_int_equal(kernel_bzimage_unpack(image, IMAGE_LEN, &out, &out_len, &e), 0);
	assert_int_equal(out_len, 200);
	assert_memory_equal(out, elf, 200);
	free(out);
	image[2048 + 20] ^= 0xff;
	assert_int_equal(kernel_bzimage_unpack(image, IMAGE_LEN, &out, &out_len, &e), -EINVAL);
	set_payload("no ELF file at all", 18);
	assert_int_equal(kernel_bzimage_unpack(image, IMAGE_LEN, &out, &out_len, &e), -EINVAL);
	good_image(); /* a payload of zeros is no compressed stream */
	assert_int_equal(kernel_bzimage_unpack(image, IMAGE_LEN, &out, &out_len, &e), -EINVAL);
}

static void packages_are_ranked(void **state)
{
	(void)state;
	assert_int_equal(distro_package_rank("linux-image-6.1.0-56-cloud-amd64", "6.1"), 2);
	assert_int_equal(distro_package_rank("linux-image-6.1.0-56-cloud-amd64-unsigned", "6.1"), 1);
	assert_int_equal(distro_package_rank("linux-image-6.12.117+deb12-cloud-amd64", "6.12"), 2);
	assert_int_equal(distro_package_rank("linux-image-6.12.117+deb12-cloud-amd64", "6.1"), 0);
	assert_int_equal(distro_package_rank("linux-image-6.12-cloud-amd64", "6.12"), 0);
	assert_int_equal(distro_package_rank("linux-image-6.1.0-56-cloud-amd64-dbg", "6.1"), 0);
	assert_int_equal(distro_package_rank("linux-image-6.1.0-56-amd64", "6.1"), 0);
	assert_int_equal(distro_package_rank("linux-image-cloud-amd64", "6.1"), 0);
	assert_int_equal(distro_package_rank("linux-image-6.1.0;x-cloud-amd64", "6.1"), 0);
	assert_int_equal(distro_package_rank("", "6.1"), 0);
}

static void module_information_is_read(void **state)
{
	static const char names[] = "\0.modinfo", info[] = "license=GPL\0depends=a,b-c\0";
	uint8_t elf[512] = { 0 };
	Elf64_Ehdr eh = { .e_ident = ELFMAG "\2\1\1", .e_machine = EM_X86_64, .e_shoff = 128, .e_shentsize = 64, .e_shnum = 2,
			  .e_shstrndx = 0 };
	Elf64_Shdr sh[2] = { { .sh_offset = 64, .sh_size = sizeof(names) },
			     { .sh_name = 1, .sh_offset = 80, .sh_size = sizeof(info) - 1 } };

	(void)state;
	memcpy(elf, &eh, sizeof(eh));
	memcpy(elf + 64, names, sizeof(names));
	memcpy(elf + 80, info, sizeof(info));
	memcpy(elf + 128, sh, sizeof(sh));
	assert_string_equal(module_info(elf, sizeof(elf), "depends"), "a,b-c");
	assert_null(module_info(elf, sizeof(elf), "depend"));
	for (size_t len = 0; len < 256; len++)
		assert_null(module_info(elf, len, "depends"));
	sh[1].sh_size = UINT64_MAX;
	memcpy(elf + 128, sh, sizeof(sh));
	assert_null(module_info(elf, sizeof(elf), "depends"));
	sh[0].sh_offset = UINT64_MAX;
	memcpy(elf + 128, sh, sizeof(sh));
	assert_null(module_info(elf, sizeof(elf), "depends"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(payload_is_located),
		cmocka_unit_test(damaged_images_are_refused),
		cmocka_unit_test(elf_size_is_found),
		cmocka_unit_test(vmlinux_comes_out),
		cmocka_unit_test(packages_are_ranked),
		cmocka_unit_test(module_information_is_read),
	};

	return cmocka_run_group_tests_name("rootfs_bzimage", tests, NULL, NULL);
}
