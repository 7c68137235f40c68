/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bzImage files: one valid image, then one field of its setup header changed at a time.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/fake_image.h"
#include "vmm/base/bytes.h"
#include "vmm/bzimage.h"
#include "vmm/layout.h"

static int parse(const uint8_t *image, uint64_t len, struct image_plan *plan, struct boot_kernel *kernel, struct err *e)
{
	return bzimage_parse(image, len < 4096 ? len : 4096, len, plan, kernel, e);
}

static void valid(void **state)
{
	uint8_t image[FAKE_BZIMAGE_LEN];
	struct boot_kernel kernel;
	struct image_plan plan;

	(void)state;
	fake_bzimage(image);
	assert_true(bzimage_is_bzimage(image, sizeof(image)));
	assert_int_equal(parse(image, sizeof(image), &plan, &kernel, NULL), 0);
	assert_int_equal(plan.n_segments, 1);
	assert_int_equal(plan.segment[0].file_off, FAKE_BZIMAGE_SETUP);
	assert_int_equal(plan.segment[0].file_len, FAKE_BZIMAGE_PAYLOAD);
	assert_int_equal(plan.segment[0].gpa.v, LAYOUT_HIGH_MEMORY);
	assert_int_equal(kernel.protocol, BOOT_PROTOCOL_LINUX64);
	assert_true(kernel.is_bzimage);
	assert_int_equal(kernel.entry.v, 0x100200);
	assert_int_equal(kernel.start.v, 0x100000);
	assert_int_equal(kernel.work_start.v, FAKE_BZIMAGE_PREF);
	assert_int_equal(kernel.end.v, FAKE_BZIMAGE_PREF + FAKE_BZIMAGE_INIT_SIZE);
	assert_int_equal(kernel.initrd_addr_max, 0x7fffffff);
	assert_int_equal(kernel.cmdline_max, 2047);
	assert_int_equal(kernel.setup_header_len, 0x26c - 0x1f1);
	assert_memory_equal(kernel.setup_header, image + 0x1f1, kernel.setup_header_len);
	assert_int_equal(kernel.acpi, BOOT_ACPI_UNKNOWN);
}

enum width { W8 = 1, W16 = 2, W32 = 4, W64 = 8 };

static const struct {
	size_t off;
	enum width width;
	uint64_t value;
	const char *text; /* part of the message */
} broken[] = {
	{0x206, W16, 0x020b, "boot protocol 2.11"},
	{0x206, W16, 0, "boot protocol 0.00"},
	{0x211, W8, 0, "zImage"},
	{0x236, W16, 0, "32-bit bzImage"},
	{0x1f1, W8, 255, "cut off"},                     /* more setup sectors than file */
	{0x1f4, W32, 0x1010 / 16, "cut off"},            /* a payload one paragraph too long */
	{0x1f4, W32, UINT32_MAX, "cut off"},
	{0x1f4, W32, 0, "no contents"},
	{0x1f4, W32, 0x200 / 16, "no contents"},         /* its entry would be behind it */
	{0x260, W32, 0, "init_size"},
	{0x260, W32, UINT32_MAX, "between 1 MiB and 1 GiB"},
	{0x258, W64, UINT64_MAX, "between 1 MiB and 1 GiB"},
	{0x258, W64, UINT64_C(1) << 30, "between 1 MiB and 1 GiB"},
	{0x230, W32, 0, "alignment"},
	{0x230, W32, 0x300000, "alignment"},
};

static void one_field_broken(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(broken); i++) {
		uint8_t image[FAKE_BZIMAGE_LEN], value[8];
		struct boot_kernel kernel;
		struct image_plan plan;
		struct err e = {0};

		fake_bzimage(image);
		le64_put(value, broken[i].value);
		memcpy(image + broken[i].off, value, broken[i].width);
		assert_int_equal(parse(image, sizeof(image), &plan, &kernel, &e), -ENOEXEC);
		if (!strstr(e.msg, broken[i].text))
			fail_msg("row %zu says: %s", i, e.msg);
	}
}

static void accepted_variants(void **state)
{
	uint8_t image[FAKE_BZIMAGE_LEN];
	struct boot_kernel kernel;
	struct image_plan plan;

	(void)state;
	/* The last paragraph of the file may be incomplete. */
	fake_bzimage(image);
	assert_int_equal(parse(image, sizeof(image) - 15, &plan, &kernel, NULL), 0);
	assert_int_equal(plan.segment[0].file_len, FAKE_BZIMAGE_PAYLOAD - 15);
	assert_int_equal(parse(image, sizeof(image) - 16, &plan, &kernel, NULL), -ENOEXEC);

	/* What follows the payload is not loaded. */
	le32_put(image + 0x1f4, (FAKE_BZIMAGE_PAYLOAD - 0x100) / 16);
	assert_int_equal(parse(image, sizeof(image), &plan, &kernel, NULL), 0);
	assert_int_equal(plan.segment[0].file_len, FAKE_BZIMAGE_PAYLOAD - 0x100);

	/* Loadable above 4 GiB: takes its initrd from anywhere. */
	fake_bzimage(image);
	le16_put(image + 0x236, 3);
	assert_int_equal(parse(image, sizeof(image), &plan, &kernel, NULL), 0);
	assert_true(kernel.initrd_addr_max == UINT64_MAX);

	/* A preferred address below the load address moves a relocatable image to the next aligned one. */
	fake_bzimage(image);
	le64_put(image + 0x258, 0x100000);
	assert_int_equal(parse(image, sizeof(image), &plan, &kernel, NULL), 0);
	assert_int_equal(kernel.work_start.v, 0x200000);
	image[0x234] = 0;
	assert_int_equal(parse(image, sizeof(image), &plan, &kernel, NULL), 0);
	assert_int_equal(kernel.work_start.v, 0x100000);

	/* A header longer than the room in boot_params is cut. */
	fake_bzimage(image);
	image[0x201] = 0xff;
	assert_int_equal(parse(image, sizeof(image), &plan, &kernel, NULL), 0);
	assert_int_equal(kernel.setup_header_len, BOOT_SETUP_HEADER_MAX);

	/* A short command line limit is respected. */
	fake_bzimage(image);
	le32_put(image + 0x238, 255);
	assert_int_equal(parse(image, sizeof(image), &plan, &kernel, NULL), 0);
	assert_int_equal(kernel.cmdline_max, 255);

	/* 0 setup sectors mean 4. */
	fake_bzimage(image);
	image[0x1f1] = 0;
	le32_put(image + 0x1f4, 0x400 / 16);
	assert_int_equal(parse(image, sizeof(image), &plan, &kernel, NULL), 0);
	assert_int_equal(plan.segment[0].file_off, 5 * 512);
}

static void cut_off_anywhere(void **state)
{
	uint8_t image[FAKE_BZIMAGE_LEN];
	size_t len;

	(void)state;
	fake_bzimage(image);
	for (len = 0; len <= sizeof(image) - 16; len++) {
		uint8_t *exact = malloc(len + 1);
		struct boot_kernel kernel;
		struct image_plan plan;

		memcpy(exact, image, len);
		if (bzimage_is_bzimage(exact, len))
			assert_int_equal(parse(exact, len, &plan, &kernel, NULL), -ENOEXEC);
		else
			assert_true(len < 0x208);
		free(exact);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(valid),
		cmocka_unit_test(one_field_broken),
		cmocka_unit_test(accepted_variants),
		cmocka_unit_test(cut_off_anywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
