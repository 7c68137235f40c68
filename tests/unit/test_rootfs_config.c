// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel configurations: laying one on another, names and files, and what is reported as not honoured.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rootfs-builder/kernel/config.h"
#include "vmm/base/err.h"

static void merged(const char *base, const char *over, const char *want)
{
	struct err e = { 0 };
	char *got;

	assert_int_equal(kernel_config_merge(base, over, &got, &e), 0);
	assert_string_equal(got, want);
	free(got);
}

static void later_lines_win(void **state)
{
	(void)state;
	merged("CONFIG_A=y\n# words\n\nCONFIG_B=\"x y\"\n", "", "CONFIG_A=y\nCONFIG_B=\"x y\"\n");
	merged("CONFIG_A=y\nCONFIG_B=y\n", "CONFIG_A=n\n", "CONFIG_B=y\nCONFIG_A=n\n");
	merged("CONFIG_A=y\nCONFIG_A=3\n", "", "CONFIG_A=3\n");
	merged("CONFIG_A=y\n", "# CONFIG_A is not set\n", "CONFIG_A=n\n");
	merged("CONFIG_AB=y\n", "CONFIG_A=y", "CONFIG_AB=y\nCONFIG_A=y\n");
	merged("# CONFIG_A is what this is about\n", "CONFIG_B=0x10 \r\n", "CONFIG_B=0x10\n");
}

static void other_lines_are_refused(void **state)
{
	static const char *const bad[] = { "config_a=y", "CONFIG_A", "CONFIG_A=", "A=y", "CONFIG_A is not set" };
	char *got;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err e = { 0 };

		assert_int_equal(kernel_config_merge("CONFIG_X=y\n", bad[i], &got, &e), -EINVAL);
		assert_non_null(strstr(e.msg, bad[i]));
	}
}

static void names_are_resolved(void **state)
{
	struct err e = { 0 };
	char value[32], *got;

	(void)state;
	assert_int_equal(kernel_config_resolve("default", &got, &e), 0);
	assert_int_equal(kernel_config_get(got, "CONFIG_VIRTIO_BLK", value, sizeof(value)), 1);
	assert_string_equal(value, "y");
	assert_int_equal(kernel_config_get(got, "CONFIG_PCI", value, sizeof(value)), 0);
	free(got);
	assert_int_equal(kernel_config_resolve("minimal+nopvh", &got, &e), 0);
	assert_int_equal(kernel_config_get(got, "CONFIG_PVH", value, sizeof(value)), 1);
	assert_string_equal(value, "n");
	free(got);
}

static void unknown_names_are_listed(void **state)
{
	static const char *const bad[] = { "", "nope", "default+", "default+nope", "+nopvh" };
	char *got;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err e = { 0 };

		assert_int_equal(kernel_config_resolve(bad[i], &got, &e), -ENOENT);
		assert_non_null(strstr(e.msg, "minimal"));
	}
	assert_int_equal(kernel_config_resolve("/nonexistent/x.config", &got, NULL), -ENOENT);
	assert_int_equal(kernel_config_resolve("/dev/zero", &got, NULL), -EINVAL);
}

static void note(void *ctx, const char *option, const char *want, const char *have)
{
	(void)ctx;
	check_expected(option);
	check_expected(want);
	check_expected(have);
}

static void differences_are_reported(void **state)
{
	(void)state;
	expect_string(note, option, "CONFIG_B");
	expect_string(note, want, "y");
	expect_string(note, have, "n");
	expect_string(note, option, "CONFIG_C");
	expect_string(note, want, "n");
	expect_string(note, have, "y");
	assert_int_equal(kernel_config_check("CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\n# CONFIG_D is not set\n",
					     "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=y\n", note, NULL), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(later_lines_win),
		cmocka_unit_test(other_lines_are_refused),
		cmocka_unit_test(names_are_resolved),
		cmocka_unit_test(unknown_names_are_listed),
		cmocka_unit_test(differences_are_reported),
	};

	return cmocka_run_group_tests_name("rootfs_config", tests, NULL, NULL);
}
