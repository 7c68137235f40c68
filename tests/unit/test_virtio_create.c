/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Creation that fails half-way (QEMU gitlab #2440: use after free when a device could not be realised):
 * the n-th descriptor can't be had, everything made before is undone, and the same call works
 * afterwards.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/lib/guest_ring.h"
#include "virtio/blk.h"
#include "virtio/mmio.h"
#include "vmm/base/log.h"

#define N_QUEUES 3

static unsigned n_reset;

static void fake_reset(struct virtio_device *dev)
{
	(void)dev;
	n_reset++;
}

static void fake_notify(struct virtio_device *dev, uint16_t q)
{
	(void)dev;
	(void)q;
}

static void fake_config_read(const struct virtio_device *dev, uint32_t off, void *dst, uint32_t len)
{
	(void)dev;
	(void)off;
	memset(dst, 0, len);
}

static const struct virtio_device_ops ops = {
	.id = 9, .n_queues = N_QUEUES, .queue_size = 8, .reset = fake_reset, .notify = fake_notify,
	.config_len = 4, .config_read = fake_config_read,
};

/* The lowest descriptor that is free. */
static int first_free(void)
{
	int fd = dup(0);

	assert_true(fd >= 0);
	(void)close(fd);
	return fd;
}

/* From now on only @n more descriptors can be opened; the old limit comes back with unlimit(). */
static struct rlimit old_limit;

static void limit(unsigned n)
{
	struct rlimit l;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old_limit), 0);
	l = old_limit;
	l.rlim_cur = (rlim_t)first_free() + n;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &l), 0);
}

static void unlimit(void)
{
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old_limit), 0);
}

static void transport(void **state)
{
	struct evloop *loop;
	struct virtio_mmio_config config = { .kick_in_vcpu = true };
	int before;

	(void)state;
	assert_int_equal(evloop_create(&loop, NULL), 0);
	config.loop = loop;
	before = first_free();
	for (unsigned n = 0; n <= N_QUEUES; n++) {
		struct virtio_device dev;
		struct virtio_mmio *t = NULL;
		struct err e = { 0 };
		int rc;

		memset(&dev, 0, sizeof(dev));
		assert_int_equal(virtio_device_init(&dev, &ops, 0, "fake", NULL), 0);
		config.dev = &dev;
		limit(n);
		rc = virtio_mmio_create(&config, &t, &e);
		unlimit();
		if (n < N_QUEUES) {
			assert_int_equal(rc, -EMFILE);
			assert_null(t);
			assert_non_null(strstr(e.msg, "fake"));
			for (int q = 0; q < N_QUEUES; q++)
				assert_int_equal(dev.kick_fd[q], -1);
		} else {
			assert_int_equal(rc, 0);
			/* There is no try_notify, so the option has no effect. */
			assert_false(virtio_mmio_kicks_in_vcpu(t));
			virtio_mmio_destroy(t);
		}
		virtio_device_fini(&dev);
		virtio_device_fini(&dev); /* idempotent */
		assert_int_equal(evloop_turn(loop, 0), 0);
		assert_int_equal(first_free(), before);
	}
	virtio_mmio_destroy(NULL);
	evloop_destroy(loop);
}

static void backing(void **state)
{
	char path[] = "/tmp/virtio_create.XXXXXX";
	struct blk_backing b = { .fd = -1 };
	struct blk_config config = { .drive_id = "x" };
	struct blk *blk;
	struct err e = { 0 };
	int fd = mkstemp(path), before;

	(void)state;
	assert_true(fd >= 0);
	(void)close(fd);
	before = first_free();
	limit(0);
	assert_int_equal(blk_backing_open(path, false, &b, &e), -EMFILE);
	unlimit();
	assert_int_equal(b.fd, -1);
	assert_int_equal(blk_backing_open(path, false, &b, NULL), 0);
	assert_int_equal(blk_create(&config, &b, &blk, NULL), 0);
	blk_destroy(blk);
	blk_destroy(NULL);
	assert_int_equal(first_free(), before);
	(void)unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(transport), cmocka_unit_test(backing) };

	log_set_level(LOG_OFF);
	return cmocka_run_group_tests_name("virtio_create", tests, NULL, NULL);
}
