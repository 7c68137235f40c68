/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel command line: what is appended, where, and what is refused (CONTRACT.md 16.3).
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cmdline.h"

static const struct cmdline_device two_devices[] = {
	{{LAYOUT_VIRTIO_MMIO}, 5},
	{{LAYOUT_VIRTIO_MMIO + 0x1000}, 6},
};

#define DEVICES " virtio_mmio.device=4K@0xc0001000:5 virtio_mmio.device=4K@0xc0002000:6"

static const struct cmdline_additions nothing = {0};
static const struct cmdline_additions root_rw = {.has_root_drive = true};
static const struct cmdline_additions root_ro = {.has_root_drive = true, .root_read_only = true};
static const struct cmdline_additions partuuid = {
	.has_root_drive = true, .root_partuuid = "0eaa91a0-01", .root_read_only = true};
static const struct cmdline_additions all = {
	.has_root_drive = true, .root_read_only = false, .n_devices = 2, .devices = two_devices};

static void built(void **state)
{
	static const struct {
		const char *args;
		const struct cmdline_additions *add;
		const char *want;
	} table[] = {
		{NULL, &nothing,
		 "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce"
		 " pci=off"},
		{"", &nothing, "pci=off"},
		{"", &all, "pci=off root=/dev/vda rw" DEVICES},
		{"quiet", &root_rw, "quiet pci=off root=/dev/vda rw"},
		{"quiet pci=off", &root_ro, "quiet pci=off pci=off root=/dev/vda ro"},
		{"quiet", &partuuid, "quiet pci=off root=PARTUUID=0eaa91a0-01 ro"},
		{"quiet", &all, "quiet pci=off root=/dev/vda rw" DEVICES},
		/* In front of the separator, once, and the rest as it was. */
		{"quiet -- --flag  x", &all, "quiet pci=off root=/dev/vda rw" DEVICES " -- --flag  x"},
		{"quiet   -- a -- b", &nothing, "quiet pci=off -- a -- b"},
		{"-- a", &nothing, "pci=off -- a"},
		{"--", &nothing, "pci=off --"},
		{"quiet --", &nothing, "quiet pci=off --"},
		{"quiet  ", &nothing, "quiet pci=off"},
		{"   ", &nothing, "pci=off"},
		/* Not the separator. */
		{"x=-- y--  --z", &nothing, "x=-- y--  --z pci=off"},
		{"init=\"/bin/sh -- x\" y", &nothing, "init=\"/bin/sh -- x\" y pci=off"},
		{"a=\" -- b", &nothing, "a=\" -- b pci=off"},
	};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		char out[LAYOUT_CMDLINE_MAX];

		assert_int_equal(cmdline_build(table[i].args, table[i].add, out, NULL), 0);
		assert_string_equal(out, table[i].want);
	}
}

static void characters(void **state)
{
	static const char *const bad[] = {"a\nb", "a\tb", "\x01", "caf\xc3\xa9", "x\x7f"};
	char out[LAYOUT_CMDLINE_MAX] = "untouched";
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err e = {0};

		assert_int_equal(cmdline_check_args(bad[i], &e), -EINVAL);
		assert_non_null(strstr(e.msg, "non-printable ASCII"));
		assert_int_equal(cmdline_build(bad[i], &nothing, out, NULL), -EINVAL);
	}
	assert_string_equal(out, "untouched");
	assert_int_equal(cmdline_check_args("", NULL), 0);
	assert_int_equal(cmdline_check_args(" !\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~", NULL), 0);
}

/* 2047 characters fit, 2048 do not, wherever the surplus comes from. */
static void lengths(void **state)
{
	char args[LAYOUT_CMDLINE_MAX + 64], out[LAYOUT_CMDLINE_MAX];
	struct cmdline_device device[LAYOUT_MAX_VIRTIO];
	struct cmdline_additions add = {.has_root_drive = true, .n_devices = LAYOUT_MAX_VIRTIO, .devices = device};
	struct err e = {0};
	size_t i, base;

	(void)state;
	memset(args, 'a', sizeof(args));
	args[2047] = '\0';
	assert_int_equal(cmdline_check_args(args, NULL), 0);
	args[2047] = 'a';
	args[2048] = '\0';
	assert_int_equal(cmdline_check_args(args, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "2048"));

	for (i = 0; i < LAYOUT_MAX_VIRTIO; i++)
		device[i] = (struct cmdline_device){GPA(LAYOUT_VIRTIO_MMIO + i * 0x1000), (uint32_t)(5 + i)};
	assert_int_equal(cmdline_build("", &add, out, NULL), 0);
	base = strlen(out) + 1; /* and the space behind the arguments */
	assert_true(base < 1024);
	for (i = 2040; i < 2056; i++) {
		memset(args, 'b', i - base);
		args[i - base] = '\0';
		assert_int_equal(cmdline_build(args, &add, out, &e), i <= 2047 ? 0 : -E2BIG);
		if (i <= 2047)
			assert_int_equal(strlen(out), i);
		else
			assert_non_null(strstr(e.msg, "Inserting string would make command line too long"));
	}
	/* The separator's part counts too. */
	memset(args, 'c', 2043);
	memcpy(args, "x -- ", 5);
	args[2043] = '\0';
	assert_int_equal(cmdline_build(args, &nothing, out, &e), -E2BIG);
}

static void long_partuuid(void **state)
{
	char uuid[3000], out[LAYOUT_CMDLINE_MAX];
	struct cmdline_additions add = {.has_root_drive = true, .root_partuuid = uuid};

	(void)state;
	memset(uuid, '7', sizeof(uuid));
	uuid[200] = '\0';
	assert_int_equal(cmdline_build("", &add, out, NULL), 0);
	assert_int_equal(strlen(out), strlen("pci=off root=PARTUUID= rw") + 200);
	uuid[200] = '7';
	uuid[2047] = '\0';
	assert_int_equal(cmdline_build("", &add, out, NULL), -E2BIG);
	memcpy(uuid, "a\nb", 4);
	assert_int_equal(cmdline_build("", &add, out, NULL), -EINVAL);
}

static void words(void **state)
{
	(void)state;
	assert_true(cmdline_has_word("acpi=off", "acpi=off"));
	assert_true(cmdline_has_word("quiet acpi=off panic=1", "acpi=off"));
	assert_true(cmdline_has_word("  acpi=off  ", "acpi=off"));
	assert_false(cmdline_has_word("acpi=offf", "acpi=off"));
	assert_false(cmdline_has_word("xacpi=off", "acpi=off"));
	assert_false(cmdline_has_word("", "acpi=off"));
	assert_false(cmdline_has_word("quiet -- acpi=off", "acpi=off"));
	assert_false(cmdline_has_word("a=\" acpi=off \"", "acpi=off"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(built),
		cmocka_unit_test(characters),
		cmocka_unit_test(lengths),
		cmocka_unit_test(long_partuuid),
		cmocka_unit_test(words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
