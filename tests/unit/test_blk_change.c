/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole disk when it changes: DISCARD, WRITE_ZEROES, and another file by PATCH.
 */
#include "tests/lib/blk_fixture.h"

/* --- Discard, write zeroes --- */

static void put_range(unsigned i, uint64_t sector, uint32_t n, uint32_t flags)
{
	uint8_t wire[16];

	le64_put(wire, sector);
	le32_put(wire + 8, n);
	le32_put(wire + 12, flags);
	assert_int_equal(gmem_write(mem, GPA(DATA_AT + 16 * (uint64_t)i), wire, sizeof(wire)), 0);
}

static blkcnt_t blocks(void)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, SECTORS * 512);
	return st.st_blocks;
}

static void discard(void **state)
{
	blkcnt_t before;

	(void)state;
	before = blocks();
	put_range(0, 8, 16, 0);
	put_range(1, 40, 8, 0);
	request(VIRTIO_BLK_T_DISCARD, 0, 2 * 16, VIRTIO_BLK_S_OK, 1);
	assert_int_equal(host.n_calls, 2);
	assert_true(blocks() <= before - 24);
	request(VIRTIO_BLK_T_IN, 7, 18 * 512, VIRTIO_BLK_S_OK, 18 * 512 + 1);
	expect_bytes(DATA_AT, 7, 512);
	expect_bytes(DATA_AT + 512, 0, 16 * 512);
	expect_bytes(DATA_AT + 17 * 512, 24, 512);
	/* One wrong range among good ones: nothing is punched. */
	host.n_calls = 0;
	before = blocks();
	put_range(0, 64, 8, 0);
	put_range(1, SECTORS - 1, 2, 0);
	request(VIRTIO_BLK_T_DISCARD, 0, 2 * 16, VIRTIO_BLK_S_IOERR, 1);
	put_range(1, 80, 8, 1);
	request(VIRTIO_BLK_T_DISCARD, 0, 2 * 16, VIRTIO_BLK_S_UNSUPP, 1);
	assert_int_equal(host.n_calls, 0);
	assert_int_equal(blocks(), before);
	/* Each range ends a turn. */
	for (unsigned i = 0; i < 5; i++)
		put_range(i, 64 + i, 1, 0);
	(void)offer(VIRTIO_BLK_T_DISCARD, 0, DATA_AT, 5 * 16);
	kick();
	assert_int_equal(run_loop(), 5);
	assert_int_equal(host.n_calls, 5);
}

static void write_zeroes(void **state)
{
	blkcnt_t before;

	(void)state;
	before = blocks();
	put_range(0, 8, 16, 0);
	request(VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, VIRTIO_BLK_S_OK, 1);
	assert_true(blocks() >= before); /* the space is kept */
	put_range(0, 33, 2, 0);
	put_range(1, 48, 8, 1);
	request(VIRTIO_BLK_T_WRITE_ZEROES, 0, 2 * 16, VIRTIO_BLK_S_OK, 1);
	request(VIRTIO_BLK_T_IN, 7, 50 * 512, VIRTIO_BLK_S_OK, 50 * 512 + 1);
	expect_bytes(DATA_AT, 7, 512);
	expect_bytes(DATA_AT + 512, 0, 16 * 512);
	expect_bytes(DATA_AT + 17 * 512, 24, 512);
	expect_bytes(DATA_AT + 25 * 512, 32, 512);
	expect_bytes(DATA_AT + 26 * 512, 0, 2 * 512);
	expect_bytes(DATA_AT + 28 * 512, 35, 512);
	expect_bytes(DATA_AT + 41 * 512, 0, 8 * 512);
	expect_bytes(DATA_AT + 49 * 512, 56, 512);
}

static void discard_refused(void **state)
{
	struct blk_backing backing;
	uint16_t head;

	(void)state;
	put_range(0, 0, 8, 0);
	put_range(1, 8, 8, 0);
	host.fail_errno = EIO;
	request(VIRTIO_BLK_T_DISCARD, 0, 16, VIRTIO_BLK_S_IOERR, 1);
	host.fail_errno = EOPNOTSUPP;
	request(VIRTIO_BLK_T_DISCARD, 0, 16, VIRTIO_BLK_S_UNSUPP, 1);
	request(VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, VIRTIO_BLK_S_UNSUPP, 1);
	host.fail_errno = 0;
	/* PATCH to a file that can't, while a request is half done: a status, and the next ones get it as well. */
	head = offer(VIRTIO_BLK_T_DISCARD, 0, DATA_AT, 2 * 16);
	kick();
	assert_int_equal(evloop_turn(loop, 0), 1);
	assert_int_equal(blk_backing_open(path, false, &backing, NULL), 0);
	backing.can_discard = false;
	assert_int_equal(blk_update_backing(blk, &backing, NULL), 0);
	(void)run_loop();
	expect_used(head, 1);
	assert_int_equal(status_of(head), VIRTIO_BLK_S_UNSUPP);
	request(VIRTIO_BLK_T_DISCARD, 0, 16, VIRTIO_BLK_S_UNSUPP, 1);
	request(VIRTIO_BLK_T_IN, 16, 512, VIRTIO_BLK_S_OK, 513);
	/* Back to one that can, but shorter than a request reaches. */
	assert_int_equal(blk_backing_open(path, false, &backing, NULL), 0);
	assert_int_equal(blk_update_backing(blk, &backing, NULL), 0);
	put_range(1, SECTORS - 8, 8, 0);
	put_range(0, 0, 8, 0);
	head = offer(VIRTIO_BLK_T_DISCARD, 0, DATA_AT, 2 * 16);
	kick();
	assert_int_equal(evloop_turn(loop, 0), 1);
	write_file(16);
	assert_int_equal(blk_backing_open(path, false, &backing, NULL), 0);
	assert_int_equal(blk_update_backing(blk, &backing, NULL), 0);
	(void)run_loop();
	expect_used(head, 1);
	assert_int_equal(status_of(head), VIRTIO_BLK_S_IOERR);
	/* Never on a read-only disk. */
	recreate((struct options){ .read_only = true });
	put_range(0, 0, 8, 0);
	request(VIRTIO_BLK_T_DISCARD, 0, 16, VIRTIO_BLK_S_UNSUPP, 1);
	request(VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, VIRTIO_BLK_S_UNSUPP, 1);
}

/* What a host block device says of itself, as the guest gets it. */
static void block_device_hints(void **state)
{
	struct blk_config config = { .drive_id = "d" };
	struct blk_backing b;
	struct blk *other;
	uint8_t raw[60];

	(void)state;
	assert_int_equal(blk_backing_open(path, false, &b, NULL), 0);
	b.block_device = true;
	b.topology = (struct blk_topology){
		.logical = 4096, .physical = 16384, .alignment = 4096, .min_io = 16384, .opt_io = 65536,
	};
	assert_int_equal(blk_create(&config, &b, &other, NULL), 0);
	assert_true(blk_virtio_device(other)->features & VIRTIO_BLK_F_BLK_SIZE);
	blk_virtio_device(other)->ops->config_read(blk_virtio_device(other), 0, raw, sizeof(raw));
	assert_int_equal(le32_get(raw + 20), 4096);
	assert_int_equal(raw[24], 2);
	assert_int_equal(raw[25], 1);
	assert_int_equal(raw[26] | raw[27] << 8, 4);
	assert_int_equal(le32_get(raw + 28), 16);
	assert_int_equal(le32_get(raw + 36), 32768);
	assert_int_equal(le32_get(raw + 44), 32);
	blk_destroy(other);
}

/* --- PATCH --- */

static void patch_size(void **state)
{
	struct blk_backing backing;

	(void)state;
	request(VIRTIO_BLK_T_IN, SECTORS, 512, NO_STATUS, 0);
	write_file(SECTORS * 2);
	assert_int_equal(truncate(path, SECTORS * 2 * 512 + 100), 0);
	assert_int_equal(blk_backing_open(path, false, &backing, NULL), 0);
	assert_int_equal(blk_update_backing(blk, &backing, NULL), 0);
	assert_int_equal(backing.fd, -1);
	assert_int_equal(blk_capacity_sectors(blk), SECTORS * 2); /* floored */
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_CONFIG), SECTORS * 2);
	assert_int_equal(guest_mmio_read(t, VIRTIO_MMIO_CONFIG_GENERATION), 1);
	assert_true(guest_mmio_read(t, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_INT_CONFIG_CHANGE);
	request(VIRTIO_BLK_T_IN, SECTORS, 512, VIRTIO_BLK_S_OK, 513);
	assert_int_equal(count_of(&blk_get_stats(blk)->update_count), 1);
	/* Another mode is refused, and the file closed. */
	assert_int_equal(blk_backing_open(path, true, &backing, NULL), 0);
	assert_int_equal(blk_update_backing(blk, &backing, NULL), -EINVAL);
	assert_int_equal(backing.fd, -1);
}

/* A request is under way when the disk gets smaller: it fails with a status, the guest did nothing wrong. */
static void patch_shrinks_under_a_request(void **state)
{
	struct blk_backing backing;
	uint16_t head;

	(void)state;
	write_file(8 * MIB / 512);
	recreate((struct options){ .read_only = false });
	head = offer(VIRTIO_BLK_T_IN, 0, DATA_AT, 8 * MIB);
	kick();
	assert_int_equal(evloop_turn(loop, 0), 1);
	write_file(1);
	assert_int_equal(blk_backing_open(path, false, &backing, NULL), 0);
	assert_int_equal(blk_update_backing(blk, &backing, NULL), 0);
	(void)run_loop();
	expect_used(head, 1);
	assert_int_equal(status_of(head), VIRTIO_BLK_S_IOERR);
	request(VIRTIO_BLK_T_IN, 0, 512, VIRTIO_BLK_S_OK, 513);
}

/* A request is done in part when the file is swapped: all its bytes come from the new one. */
static void patch_swaps_under_a_request(void **state)
{
	struct blk_backing backing;
	char name[32];
	uint8_t *bytes = malloc(8 * MIB);
	uint16_t head;
	int fd = memfd_create("swap", MFD_CLOEXEC);

	(void)state;
	assert_non_null(bytes);
	memset(bytes, 0xb5, 8 * MIB);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, bytes, 8 * MIB), 0);
	(void)snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	write_file(8 * MIB / 512);
	recreate((struct options){ .read_only = false });
	head = offer(VIRTIO_BLK_T_IN, 0, DATA_AT, 8 * MIB);
	kick();
	assert_int_equal(evloop_turn(loop, 0), 1);
	assert_int_equal(guest_ring_used_idx(&ring), 0); /* there is more to do */
	assert_int_equal(blk_backing_open(name, false, &backing, NULL), 0);
	assert_int_equal(blk_update_backing(blk, &backing, NULL), 0);
	(void)run_loop();
	expect_used(head, 8 * MIB + 1);
	assert_int_equal(status_of(head), VIRTIO_BLK_S_OK);
	assert_int_equal(gmem_read(mem, GPA(DATA_AT), bytes, 8 * MIB), 0);
	for (size_t i = 0; i < 8 * MIB; i += 512)
		assert_int_equal(bytes[i], 0xb5);
	free(bytes);
	close(fd);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(discard), T(write_zeroes), T(discard_refused), T(block_device_hints),
		T(patch_size), T(patch_shrinks_under_a_request), T(patch_swaps_under_a_request),
	};

	log_set_level(LOG_OFF);
	return cmocka_run_group_tests_name("blk_change", tests, NULL, NULL);
}
