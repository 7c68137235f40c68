// SPDX-License-Identifier: Apache-2.0
/*
 * The cache's promises (complete or absent, one builder at a time, leftovers removed), digests, and the cpio writer's bytes.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rootfs-builder/cache.h"
#include "rootfs-builder/cpio.h"
#include "rootfs-builder/file.h"
#include "rootfs-builder/sha256.h"
#include "vmm/base/err.h"

static char root[] = "/tmp/mayfly-test-cache-XXXXXX";

static int make_root(void **state)
{
	(void)state;
	if (!mkdtemp(root))
		return -1;
	return setenv("MAYFLY_CACHE", root, 1);
}

static int drop_root(void **state)
{
	(void)state;
	return cache_remove_tree(root);
}

static void entries_are_complete_or_absent(void **state)
{
	struct err e = { 0 };
	struct cache_entry c;
	char file[PATH_MAX + 16];

	(void)state;
	assert_int_equal(cache_open(&c, "kind", "key", &e), CACHE_MISS);
	snprintf(file, sizeof(file), "%s/content", c.scratch);
	assert_int_equal(file_write(file, "abc", 3, &e), 0);
	cache_close(&c); /* given up: nothing may be left */
	assert_int_not_equal(access(c.path, F_OK), 0);

	assert_int_equal(cache_open(&c, "kind", "key", &e), CACHE_MISS);
	snprintf(file, sizeof(file), "%s/content", c.scratch);
	assert_int_not_equal(access(file, F_OK), 0);
	assert_int_equal(file_write(file, "abc", 3, &e), 0);
	assert_int_equal(cache_publish(&c, &e), 0);
	cache_close(&c);
	cache_close(&c);
	snprintf(file, sizeof(file), "%s/content", c.path);
	assert_int_equal(access(file, F_OK), 0);
	assert_int_equal(cache_open(&c, "kind", "key", &e), CACHE_HIT);
	cache_close(&c);
}

static void leftovers_are_removed(void **state)
{
	struct err e = { 0 };
	struct cache_entry c;
	char old[PATH_MAX];
	int status;

	(void)state;
	pid_t pid = fork();
	if (pid == 0) { /* a builder that dies with the lock held */
		_exit(cache_open(&c, "kind", "killed", &e) == CACHE_MISS ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(cache_open(&c, "kind", "killed", &e), CACHE_MISS);
	snprintf(old, sizeof(old), "%s/kind", root);
	struct stat st;
	assert_int_equal(stat(old, &st), 0);
	/* ".", "..", the published entry of the first test and one scratch directory, not two */
	assert_int_equal(st.st_nlink, 4);
	cache_close(&c);
}

static void one_builds_and_the_other_waits(void **state)
{
	struct err e = { 0 };
	struct cache_entry c, other;
	int status;

	(void)state;
	assert_int_equal(cache_open(&c, "kind", "both", &e), CACHE_MISS);
	pid_t pid = fork();
	if (pid == 0) {
		close(2);
		close(c.lock_fd);
		_exit(cache_open(&other, "kind", "both", &e) == CACHE_HIT ? 0 : 1);
	}
	usleep(50000);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	assert_int_equal(cache_publish(&c, &e), 0);
	cache_close(&c);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void digests_are_right(void **state)
{
	char hex[SHA256_HEX_LEN], file[PATH_MAX];
	struct sha256 h;

	(void)state;
	sha256_init(&h);
	sha256_final_hex(&h, hex);
	assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	sha256_init(&h); /* FIPS 180-4's second example, in uneven parts */
	sha256_update(&h, "abcdbcdecdefdefgefghfghighijhij", 31);
	sha256_update(&h, "kijkljklmklmnlmnomnopnopq" + 2, 0);
	sha256_update(&h, "hijkijkljklmklmnlmnomnopnopq" + 3, 25);
	sha256_final_hex(&h, hex);
	assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	sha256_init(&h);
	for (int i = 0; i < 1000; i++)
		sha256_update(&h, "aaaaaaaaaa", 10);
	sha256_final_hex(&h, hex);
	assert_string_equal(hex, "27dd1f61b867b6a0f6e9d8a41c43231de52107e53ae424de8f847b821db4b711");

	snprintf(file, sizeof(file), "%s/file", root);
	assert_int_equal(file_write(file, "abc", 3, NULL), 0);
	for (int i = 0; i < 2; i++) { /* read, then remembered */
		assert_int_equal(cache_file_digest(file, hex, NULL), 0);
		assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	}
	assert_int_equal(file_write(file, "abcd", 4, NULL), 0);
	assert_int_equal(cache_file_digest(file, hex, NULL), 0);
	assert_string_equal(hex, "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589");
	assert_true(cache_file_digest("/nonexistent", hex, NULL) < 0);
}

static void cpio_has_the_newc_form(void **state)
{
	static const char first[] = "070701" "00000001" "000081ed" "00000000" "00000000" "00000001" "00000000" "00000003"
				    "00000000" "00000000" "00000000" "00000000" "00000005" "00000000" "init\0\0abc\0";
	char file[PATH_MAX];
	uint8_t *data;
	struct cpio c;
	size_t len;

	(void)state;
	snprintf(file, sizeof(file), "%s/cpio", root);
	int fd = open(file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	cpio_start(&c, fd);
	cpio_add_file(&c, "init", 0755, "abc", 3);
	cpio_add_dir(&c, "dev", 0755);
	cpio_add_chardev(&c, "dev/console", 0600, 5, 1);
	cpio_add_symlink(&c, "sh", "busybox");
	assert_int_equal(cpio_finish(&c), 0);
	close(fd);
	assert_int_equal(file_read(file, &data, &len, NULL), 0);
	assert_int_equal(len % 512, 0);
	assert_int_equal(len, c.offset);
	assert_memory_equal(data, first, sizeof(first) - 1);
	assert_memory_equal(data + sizeof(first) - 1, "07070100000002000041ed", 22);
	assert_non_null(memmem(data, len, "TRAILER!!!", 11));
	free(data);
	cpio_start(&c, -1); /* an error stays */
	cpio_add_dir(&c, "dev", 0755);
	assert_true(cpio_finish(&c) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_are_complete_or_absent),
		cmocka_unit_test(leftovers_are_removed),
		cmocka_unit_test(one_builds_and_the_other_waits),
		cmocka_unit_test(digests_are_right),
		cmocka_unit_test(cpio_has_the_newc_form),
	};

	return cmocka_run_group_tests_name("rootfs_cache", tests, make_root, drop_root);
}
