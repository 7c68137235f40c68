/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The controller without KVM: which action is legal when, every semantic rule and its text (CONTRACT.md sections 3 to 5).
 */
#include "tests/lib/control_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "virtio/blk_ring.h"
#include "vmm/machine.h"

#define MAX_TEXT 200

static int tear_down(void **state)
{
	static const char *const names[] = {"disk", "kernel"};

	(void)state;
	return control_fixture_end(names, ARRAY_SIZE(names));
}

static const char *make_file(const char *name, size_t bytes)
{
	const char *path = path_of(name);
	int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	close(fd);
	return path;
}

static struct action machine(uint8_t vcpus, uint64_t mib, bool smt, enum config_huge_pages huge)
{
	return (struct action){.type = ACTION_PUT_MACHINE,
			       .machine = {.vcpu_count = vcpus, .mem_size_mib = mib, .smt = smt, .huge_pages = huge}};
}

static struct action drive(const char *id, const char *path, bool root)
{
	return (struct action){
		.type = ACTION_PUT_DRIVE,
		.drive = {.drive_id = strdup(id), .path_on_host = path ? strdup(path) : NULL, .is_root_device = root}};
}

static struct action boot(const char *kernel, const char *initrd, const char *args)
{
	return (struct action){.type = ACTION_PUT_BOOT_SOURCE,
			       .boot = {.kernel_image_path = strdup(kernel),
					.initrd_path = initrd ? strdup(initrd) : NULL,
					.boot_args = args ? strdup(args) : NULL}};
}

static const struct vm_config *config(void)
{
	struct action get = {.type = ACTION_GET_VM_CONFIG};
	struct reply r = act(&get);

	assert_int_equal(r.status, 200);
	return r.config;
}

static void test_not_before_the_start(void **state)
{
	static const enum action_type types[] = {ACTION_PATCH_DRIVE, ACTION_PATCH_NET, ACTION_FLUSH_METRICS,
						 ACTION_SEND_CTRL_ALT_DEL, ACTION_PAUSE, ACTION_RESUME};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		struct action a = {.type = types[i]};

		refuses(&a, "The requested operation is not supported before starting the microVM.");
	}
}

static void test_instance(void **state)
{
	struct action get = {.type = ACTION_GET_INSTANCE};
	struct reply r = act(&get);

	(void)state;
	assert_int_equal(r.status, 200);
	assert_int_equal(r.state, VM_NOT_STARTED);
	assert_string_equal(r.id, "test");
	assert_string_equal(r.version, "1.2.3");
}

static void test_machine_limits(void **state)
{
	static const char vcpu_text[] =
		"Machine config error: The number of vCPUs must be greater than 0, less than 32 and must be 1 or "
		"an even number if SMT is enabled.";
	static const char mem_text[] =
		"Machine config error: The memory size (MiB) is either 0, or not a multiple of the configured "
		"page size.";
	struct action a;

	(void)state;
	a = machine(0, 128, false, HUGE_PAGES_NONE);
	refuses(&a, vcpu_text);
	a = machine(33, 128, false, HUGE_PAGES_NONE);
	refuses(&a, vcpu_text);
	a = machine(3, 128, true, HUGE_PAGES_NONE);
	refuses(&a, vcpu_text);
	a = machine(1, 0, false, HUGE_PAGES_NONE);
	refuses(&a, mem_text);
	a = machine(1, 129, false, HUGE_PAGES_2M);
	refuses(&a, mem_text);
	a = machine(1, 129, false, HUGE_PAGES_TRANSPARENT);
	refuses(&a, mem_text);
	assert_int_equal(config()->machine.vcpu_count, 1);
	assert_int_equal(config()->machine.mem_size_mib, 128);
	a = machine(32, 1, true, HUGE_PAGES_NONE);
	accepts(&a);
	a = machine(1, 7, true, HUGE_PAGES_NONE);
	accepts(&a);
	assert_int_equal(config()->machine.mem_size_mib, 7);
}

static void test_patch_merges(void **state)
{
	struct action a = machine(2, 256, true, HUGE_PAGES_NONE);

	(void)state;
	accepts(&a);
	a = (struct action){.type = ACTION_PATCH_MACHINE,
			    .machine_patch = {.has_mem_size_mib = true, .machine = {.mem_size_mib = 512}}};
	accepts(&a);
	assert_int_equal(config()->machine.mem_size_mib, 512);
	assert_int_equal(config()->machine.vcpu_count, 2);
	assert_true(config()->machine.smt);
	a = (struct action){.type = ACTION_PATCH_MACHINE,
			    .machine_patch = {.has_vcpu_count = true, .machine = {.vcpu_count = 3}}};
	refuses(&a, "The number of vCPUs");
	assert_int_equal(config()->machine.vcpu_count, 2);
}

static void test_boot_source_faults_keep_the_old_one(void **state)
{
	struct action a = boot(make_file("kernel", 10), NULL, "console=ttyS0");

	(void)state;
	accepts(&a);
	a = boot("/nonexistent", NULL, NULL);
	refuses(&a, "Boot source error: The kernel file cannot be opened: No such file or directory (os error 2)");
	a = boot(path_of("kernel"), "/nonexistent", NULL);
	refuses(&a, "Boot source error: The initrd file cannot be opened due to invalid path or invalid permissions. "
		    "No such file or "
		    "directory (os error 2)");
	a = boot(path_of("kernel"), NULL, "tab\there");
	refuses(&a, "Boot source error: The kernel command line is invalid: ");
	assert_string_equal(config()->boot.boot_args, "console=ttyS0");
	assert_string_equal(config()->boot.kernel_image_path, path_of("kernel"));
}

static void test_start_without_kernel(void **state)
{
	struct action a = {.type = ACTION_INSTANCE_START};

	(void)state;
	refuses(&a, "Start microvm error: Cannot start microvm without kernel configuration.");
}

static void test_image_faults_are_told_at_the_start(void **state)
{
	struct action a = boot(make_file("kernel", 10), NULL, NULL);

	(void)state;
	accepts(&a);
	a = (struct action){.type = ACTION_INSTANCE_START};
	refuses(&a, path_of("kernel"));
	a = boot("/tmp", NULL, NULL);
	accepts(&a);
	a = (struct action){.type = ACTION_INSTANCE_START};
	refuses(&a, "directory");
}

static void test_absurd_memory_can_be_corrected(void **state)
{
	static const uint64_t sizes[] = {UINT64_MAX, UINT64_MAX / (1 << 20), UINT64_C(1) << 44, UINT64_C(1) << 40};
	struct action a = boot(make_file("kernel", 10), NULL, NULL);

	(void)state;
	accepts(&a);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		a = machine(1, sizes[i], false, HUGE_PAGES_NONE);
		accepts(&a);
		a = (struct action){.type = ACTION_INSTANCE_START};
		refuses(&a, "Start microvm error: Invalid Memory Configuration: Cannot create mmap region: Out of "
			    "memory (os error 12)");
	}
	a = machine(1, 128, false, HUGE_PAGES_NONE);
	accepts(&a);
	a = (struct action){.type = ACTION_INSTANCE_START};
	refuses(&a, path_of("kernel"));
}

static void test_drives(void **state)
{
	struct action a;

	(void)state;
	(void)make_file("disk", 4096);
	a = drive("a", path_of("disk"), false);
	accepts(&a);
	a = drive("b", path_of("disk"), true);
	accepts(&a);
	assert_int_equal(config()->n_drives, 2);
	assert_string_equal(config()->drive[0].drive_id, "b"); /* root first */
	assert_string_equal(config()->drive[1].drive_id, "a");

	a = drive("c", path_of("disk"), true);
	refuses(&a, "Drive config error: A root block device already exists!");
	a = drive("a", path_of("disk"), true);
	refuses(&a, "A root block device already exists");
	a = drive("b", path_of("disk"), false); /* may give up being root */
	accepts(&a);
	a = drive("a", path_of("disk"), true);
	accepts(&a);
	assert_string_equal(config()->drive[0].drive_id, "a");
	assert_int_equal(config()->n_drives, 2);
}

static void test_bad_drives(void **state)
{
	struct action a = drive("a", NULL, false);

	(void)state;
	refuses(&a, "Drive config error: Unable to create the virtio block device: Invalid block config.");
	a = drive("a", "/nonexistent", false);
	refuses(&a, "Unable to create the virtio block device: Virtio backend error: Error manipulating the backing "
		    "file: No such file "
		    "or directory (os error 2) /nonexistent");
	a = drive("a", "/tmp", false);
	refuses(&a, "Error manipulating the backing file: ");
	a = drive("a", make_file("disk", 512), true);
	a.drive.partuuid = strdup("0eaa91a0-01 init=/bin/sh");
	refuses(&a, "partuuid '0eaa91a0-01 init=/bin/sh'");
	assert_int_equal(config()->n_drives, 0);
}

/* A host without io_uring says so; it is never another engine in silence. */
static void test_async_drive(void **state)
{
	struct action a = drive("a", make_file("disk", 512), false);
	struct err e = {0};
	bool can = blk_ring_probe(&e) == 0;

	(void)state;
	a.drive.has_io_engine = true;
	a.drive.io_engine = IO_ENGINE_ASYNC;
	if (!can) {
		refuses(&a, e.msg);
		assert_int_equal(config()->n_drives, 0);
		return;
	}
	accepts(&a);
	assert_int_equal(config()->drive[0].io_engine, IO_ENGINE_ASYNC);
}

static void test_too_many_drives(void **state)
{
	char id[16];
	struct action a;

	(void)state;
	(void)make_file("disk", 512);
	for (int i = 0; i < CONFIG_MAX_DRIVES; i++) {
		(void)snprintf(id, sizeof(id), "d%d", i);
		a = drive(id, path_of("disk"), false);
		accepts(&a);
	}
	a = drive("more", path_of("disk"), false);
	refuses(&a, "drive 'more'");
	assert_int_equal(config()->n_drives, CONFIG_MAX_DRIVES);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_not_before_the_start),
		T(test_instance),
		T(test_machine_limits),
		T(test_patch_merges),
		T(test_boot_source_faults_keep_the_old_one),
		T(test_start_without_kernel),
		T(test_image_faults_are_told_at_the_start),
		T(test_absurd_memory_can_be_corrected),
		T(test_drives),
		T(test_bad_drives),
		T(test_async_drive),
		T(test_too_many_drives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
