/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy-on-write disks that come to a sudden end.
 *
 * Loss of power, and processes that are killed, are simulated: every change of the delta goes through a recorder that
 * knows which bytes of the file are on the medium and which are only in the page cache. Before (and in the middle
 * of) any call, the file is rebuilt as a crash may leave it, opened, and read:
 *
 *   power lost:  each sector of the file that was not synced has any of the contents it had since. Then each sector of
 *                the disk has what it had at the end of the last flush, or something written since.
 *   killed:      the page cache stays. Then each sector of the disk has what was last reported as written; those
 *                of the operation that was going on have that or the new.
 *
 * And a process is really killed, many times, at random moments.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/cow_disk.h"
#include "virtio/cow_impl.h"
#include "vmm/base/bytes.h"
#include "vmm/base/sys.h"

#define SECTOR 512
#define N_SECTORS 203 /* the last block is cut */
#define SIZE (N_SECTORS * SECTOR)
#define PENDING_MAX 4096
#define VERSIONS_MAX 64

static struct cow_disk d, crashed;
static struct cow_layout layout;
static uint64_t seed;

/* --- What the disk may hold: sectors carry the number of the write that wrote them, 0 for the base, and zeros --- */

#define ZEROED UINT32_MAX

static struct sector {
	uint32_t done;                    /* last reported as written */
	uint32_t going_on;                /* being written, or like done */
	uint32_t since_flush[VERSIONS_MAX]; /* begun since the last flush began; done at the last flush */
	unsigned n;
} sectors[N_SECTORS];
static uint32_t version;

static void fill(uint8_t *sector, uint64_t index, uint32_t v)
{
	if (v == ZEROED) {
		memset(sector, 0, SECTOR);
		return;
	}
	if (v == 0) {
		for (size_t i = 0; i < SECTOR; i++)
			sector[i] = cow_disk_byte(index * SECTOR + i);
		return;
	}
	for (size_t i = 0; i < SECTOR; i += 8) {
		le32_put(sector + i, v);
		le32_put(sector + i + 4, (uint32_t)(index << 8 | i / 8));
	}
}

static bool holds(const uint8_t *sector, uint64_t index, uint32_t v)
{
	uint8_t want[SECTOR];

	fill(want, index, v);
	return memcmp(sector, want, SECTOR) == 0;
}

static void begin_change(uint64_t index, uint32_t v)
{
	struct sector *s = &sectors[index];

	s->going_on = v;
	assert_true(s->n < VERSIONS_MAX);
	s->since_flush[s->n++] = v;
}

/* --- The medium --- */

struct pending {
	uint64_t at; /* sector of the file */
	uint8_t data[SECTOR];
};

static struct pending *pending;
static size_t n_pending;
static uint8_t *medium; /* the file as it is on the medium, without what is between the live map and the data */
static uint64_t n_crashes, n_calls;
static bool crashing;   /* not again while the crashed file is looked at */

/* Offsets in the file, packed: the space between maps and data is left out. */
#define HEAD_BYTES (COW_MAP_AT + 2 * COW_MAP_PAGE)
#define FILE_BYTES (HEAD_BYTES + (SIZE + COW_BLOCK - 1) / COW_BLOCK * COW_BLOCK)

static uint64_t pack(uint64_t offset)
{
	if (offset < HEAD_BYTES)
		return offset;
	assert_true(offset >= layout.data_at && offset < layout.file_size);
	return offset - layout.data_at + HEAD_BYTES;
}

static void write_image(const uint8_t *image, bool same_boot)
{
	static const uint8_t other_boot[COW_BOOT_ID_BYTES] = { 0xaa };
	int fd = open(crashed.delta, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)layout.file_size), 0);
	assert_int_equal(pwrite(fd, image, HEAD_BYTES, 0), HEAD_BYTES);
	assert_int_equal(pwrite(fd, image + HEAD_BYTES, FILE_BYTES - HEAD_BYTES, (off_t)layout.data_at),
			 FILE_BYTES - HEAD_BYTES);
	if (!same_boot)
		assert_int_equal(pwrite(fd, other_boot, sizeof(other_boot), COW_SESSION_AT), sizeof(other_boot));
	(void)close(fd);
}

static void expect_after_power_loss(const uint8_t *disk)
{
	for (uint64_t i = 0; i < N_SECTORS; i++) {
		const struct sector *s = &sectors[i];
		unsigned k = 0;

		while (k < s->n && !holds(disk + i * SECTOR, i, s->since_flush[k]))
			k++;
		if (k == s->n)
			fail_msg("power lost at call %llu: sector %llu holds 0x%08x, flushed was %u, last written %u",
				 (unsigned long long)n_calls, (unsigned long long)i, le32_get(disk + i * SECTOR),
				 s->since_flush[0], s->done);
	}
}

static void expect_after_kill(const uint8_t *disk)
{
	for (uint64_t i = 0; i < N_SECTORS; i++) {
		const struct sector *s = &sectors[i];

		if (!holds(disk + i * SECTOR, i, s->done) && !holds(disk + i * SECTOR, i, s->going_on))
			fail_msg("killed at call %llu: sector %llu holds 0x%08x, last written was %u, going on %u",
				 (unsigned long long)n_calls, (unsigned long long)i, le32_get(disk + i * SECTOR), s->done,
				 s->going_on);
	}
}

static void look_at(const uint8_t *image, bool killed)
{
	static uint8_t disk[SIZE];

	write_image(image, killed);
	/* Twice: what the first opening writes into the file changes nothing. */
	for (unsigned i = 0; i < 2; i++) {
		if (cow_disk_open(&crashed, i == 1) < 0)
			fail_msg("%s at call %llu: %s", killed ? "killed" : "power lost", (unsigned long long)n_calls,
				 crashed.err.msg);
		assert_int_equal(cow_disk_read(&crashed, &blk_io_host, disk, SIZE, 0, SIZE, 1), 0);
		cow_disk_close(&crashed);
		(killed ? expect_after_kill : expect_after_power_loss)(disk);
	}
	n_crashes++;
}

enum loss { LOSE_ALL, LOSE_DATA, LOSE_MAPS, LOSE_SOME, LOSE_MOST };

/* Does the pending @p reach the medium? */
static bool survives(const struct pending *p, enum loss loss)
{
	switch (loss) {
	case LOSE_ALL: return false;
	case LOSE_DATA: return p->at * SECTOR < HEAD_BYTES;
	case LOSE_MAPS: return p->at * SECTOR >= HEAD_BYTES;
	case LOSE_SOME: return cow_disk_random(&seed, 4) != 0;
	case LOSE_MOST: return cow_disk_random(&seed, 4) == 0;
	}
	return false;
}

/* The machine stops now. */
static void crash(void)
{
	static uint8_t image[FILE_BYTES];

	crashing = true;
	for (enum loss loss = LOSE_ALL; loss <= LOSE_MOST; loss++) {
		memcpy(image, medium, FILE_BYTES);
		/* A sector is written at any time, with what it holds then: the last that survives. */
		for (size_t i = 0; i < n_pending; i++)
			if (survives(&pending[i], loss))
				memcpy(image + pending[i].at * SECTOR, pending[i].data, SECTOR);
		look_at(image, false);
	}
	memcpy(image, medium, FILE_BYTES);
	for (size_t i = 0; i < n_pending; i++)
		memcpy(image + pending[i].at * SECTOR, pending[i].data, SECTOR);
	look_at(image, true);
	crashing = false;
}

/* The page cache's content of the file's sector @at. */
static void present(uint64_t at, uint8_t *sector)
{
	memcpy(sector, medium + at * SECTOR, SECTOR);
	for (size_t i = 0; i < n_pending; i++)
		if (pending[i].at == at)
			memcpy(sector, pending[i].data, SECTOR);
}

static void change(uint64_t offset, const uint8_t *bytes, uint64_t len)
{
	while (len > 0) {
		uint64_t packed = pack(offset);
		uint64_t in_sector = packed % SECTOR;
		uint64_t n = SECTOR - in_sector < len ? SECTOR - in_sector : len;
		struct pending *p = &pending[n_pending];

		assert_true(n_pending < PENDING_MAX);
		present(packed / SECTOR, p->data);
		p->at = packed / SECTOR;
		if (bytes) {
			memcpy(p->data + in_sector, bytes, n);
			bytes += n;
		} else {
			memset(p->data + in_sector, 0, n);
		}
		n_pending++;
		offset += n;
		len -= n;
	}
}

/* --- The recorder --- */

static void before_call(void)
{
	n_calls++;
	assert_false(crashing);
	if (cow_disk_random(&seed, 4) == 0)
		crash();
}

static ssize_t rec_pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	static uint8_t bytes[SIZE + COW_BLOCK];
	uint64_t at = (uint64_t)offset;
	uint64_t len = 0, cut;

	assert_int_equal(fd, cow_delta_fd(d.cow));
	before_call();
	for (int i = 0; i < n; i++) {
		assert_true(iov[i].iov_len <= sizeof(bytes) - len);
		memcpy(bytes + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	/*
	 * In the middle of a map at any byte, of data between sectors: what a page holds while the kernel copies into
	 * it may reach the medium as well.
	 */
	cut = cow_disk_random(&seed, len);
	if (at >= layout.data_at)
		cut -= cut % SECTOR;
	change(at, bytes, cut);
	if (cow_disk_random(&seed, 4) == 0)
		crash();
	change(at + cut, bytes + cut, len - cut);
	return sys_pwritev2(fd, iov, n, offset, flags);
}

static int rec_fdatasync(int fd)
{
	assert_int_equal(fd, cow_delta_fd(d.cow));
	before_call();
	for (size_t i = 0; i < n_pending; i++)
		memcpy(medium + pending[i].at * SECTOR, pending[i].data, SECTOR);
	n_pending = 0;
	return 0;
}

static int rec_fallocate(int fd, int mode, off_t offset, off_t len)
{
	assert_int_equal(fd, cow_delta_fd(d.cow));
	before_call();
	change((uint64_t)offset, NULL, (uint64_t)len);
	return fallocate(fd, mode, offset, len);
}

static const struct blk_io_ops recorder = {
	.preadv2 = sys_preadv2, .pwritev2 = rec_pwritev2, .fdatasync = rec_fdatasync, .fallocate = rec_fallocate,
};

/* --- The guest --- */

static void step_write(uint64_t first, uint64_t n, bool zero)
{
	static uint8_t data[SIZE];
	uint32_t v = zero ? ZEROED : ++version;

	for (uint64_t i = 0; i < n; i++) {
		fill(data + i * SECTOR, first + i, v);
		begin_change(first + i, v);
	}
	if (zero)
		assert_int_equal(cow_zero(&recorder, d.cow, first * SECTOR, n * SECTOR), 0);
	else
		assert_int_equal(cow_disk_write(&d, &recorder, data, n * SECTOR, first * SECTOR, SIZE,
						1 + (unsigned)cow_disk_random(&seed, 3)), 0);
	for (uint64_t i = 0; i < n; i++)
		sectors[first + i].done = v;
}

static void step_flush(void)
{
	assert_int_equal(cow_flush(&recorder, d.cow), 0);
	for (uint64_t i = 0; i < N_SECTORS; i++) {
		sectors[i].since_flush[0] = sectors[i].done;
		sectors[i].n = 1;
	}
}

static void step(void)
{
	uint64_t first = cow_disk_random(&seed, N_SECTORS);
	uint64_t n = 1 + cow_disk_random(&seed, cow_disk_random(&seed, 4) ? 20 : 60);

	if (cow_disk_random(&seed, 3) == 0) { /* whole blocks */
		first -= first % 8;
		n = (n + 7) / 8 * 8;
	}
	if (n > N_SECTORS - first)
		n = N_SECTORS - first;
	switch (cow_disk_random(&seed, 8)) {
	case 0:
		step_flush();
		break;
	case 1:
	case 2:
		step_write(first, n, true);
		break;
	default:
		step_write(first, n, false);
		break;
	}
}

/* A fresh delta as it is on the medium after its first flush. */
static void begin_round(void)
{
	int fd;

	n_pending = 0;
	version = 0;
	for (uint64_t i = 0; i < N_SECTORS; i++)
		sectors[i] = (struct sector){ .n = 1 };
	assert_int_equal(cow_disk_open(&d, false), 0);
	assert_int_equal(cow_flush(&blk_io_host, d.cow), 0);
	fd = cow_delta_fd(d.cow);
	assert_int_equal(pread(fd, medium, HEAD_BYTES, 0), HEAD_BYTES);
	memset(medium + HEAD_BYTES, 0, FILE_BYTES - HEAD_BYTES);
	/*
	 * What an earlier life of this delta wrote and lost the bits of: it must never be seen. Sync'ed bytes under
	 * clear bits are the worst case of it.
	 */
	memset(medium + HEAD_BYTES, 0x66, FILE_BYTES - HEAD_BYTES);
	assert_int_equal(pwrite(fd, medium + HEAD_BYTES, FILE_BYTES - HEAD_BYTES, (off_t)layout.data_at),
			 FILE_BYTES - HEAD_BYTES);
}

static void loss_of_power_and_kills_at_any_call(void **state)
{
	(void)state;
	seed = 20261121;
	cow_disk_make(&d, cow_disk_fast_parent(), SIZE);
	assert_true(cow_layout(SIZE, &layout));
	assert_int_equal(layout.live_at + layout.map_bytes, HEAD_BYTES);
	crashed = d;
	(void)snprintf(crashed.delta, sizeof(crashed.delta), "%s/crashed", d.dir);
	pending = calloc(PENDING_MAX, sizeof(*pending));
	medium = calloc(1, FILE_BYTES);
	assert_true(pending && medium);
	for (unsigned round = 0; round < 12; round++) {
		begin_round();
		for (unsigned i = 0; i < 40; i++)
			step();
		cow_disk_close(&d);
		assert_int_equal(unlink(d.delta), 0);
	}
	print_message("%llu crashes\n", (unsigned long long)n_crashes);
	assert_true(n_crashes > 1000);
	free(pending);
	free(medium);
	(void)unlink(crashed.delta);
	cow_disk_remove(&d);
}

/* --- A process that is really killed --- */

#define KILL_SECTORS 4096

/* Shared with the child: what the guest was told. */
struct told {
	_Atomic uint32_t begun[KILL_SECTORS], done[KILL_SECTORS];
};

static void child(struct told *told, uint64_t child_seed)
{
	static uint8_t data[64 * SECTOR];
	uint32_t v = 0;

	if (cow_disk_open(&d, false) < 0)
		_exit(2);
	for (size_t i = 0; i < KILL_SECTORS; i++)
		if (told->begun[i] > v && told->begun[i] != ZEROED)
			v = told->begun[i];
	for (;;) {
		uint64_t first = cow_disk_random(&child_seed, KILL_SECTORS - 64);
		uint64_t n = 1 + cow_disk_random(&child_seed, 64);
		bool zero = cow_disk_random(&child_seed, 8) == 0;
		uint32_t now = zero ? ZEROED : ++v;
		int rc;

		for (uint64_t i = 0; i < n; i++) {
			fill(data + i * SECTOR, first + i, now);
			told->begun[first + i] = now;
		}
		if (zero)
			rc = cow_zero(&blk_io_host, d.cow, first * SECTOR, n * SECTOR);
		else
			rc = cow_disk_write(&d, &blk_io_host, data, n * SECTOR, first * SECTOR, MIB, 2);
		if (rc != 0)
			_exit(3);
		for (uint64_t i = 0; i < n; i++)
			told->done[first + i] = now;
		if (cow_disk_random(&child_seed, 16) == 0 && cow_flush(&blk_io_host, d.cow) != 0)
			_exit(4);
	}
}

static void killed_at_random_moments(void **state)
{
	static uint8_t disk[KILL_SECTORS * SECTOR];
	struct told *told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t n_seen = 0;

	(void)state;
	assert_true(told != MAP_FAILED);
	seed = 99;
	cow_disk_make(&d, cow_disk_fast_parent(), sizeof(disk));
	for (unsigned round = 0; round < 60; round++) {
		pid_t pid = fork();
		int status;

		assert_true(pid >= 0);
		if (pid == 0)
			child(told, round + 1);
		(void)usleep((useconds_t)cow_disk_random(&seed, 15000));
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status)); /* else it ended by itself: an error in child() */
		if (cow_disk_open(&d, false) < 0)
			fail_msg("round %u: %s", round, d.err.msg);
		assert_int_equal(cow_disk_read(&d, &blk_io_host, disk, sizeof(disk), 0, MIB, 1), 0);
		if (round % 2)
			assert_int_equal(cow_flush(&blk_io_host, d.cow), 0);
		cow_disk_close(&d);
		for (uint64_t i = 0; i < KILL_SECTORS; i++) {
			const uint8_t *sector = disk + i * SECTOR;

			if (!holds(sector, i, told->done[i]) && !holds(sector, i, told->begun[i]))
				fail_msg("round %u: sector %llu holds 0x%08x, last written was %u", round,
					 (unsigned long long)i, le32_get(sector), told->done[i]);
			if (holds(sector, i, told->begun[i]))
				told->done[i] = told->begun[i];
			told->begun[i] = told->done[i];
			n_seen += told->done[i] != 0;
		}
	}
	assert_true(n_seen > 1000);
	(void)munmap(told, sizeof(*told));
	cow_disk_remove(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loss_of_power_and_kills_at_any_call),
		cmocka_unit_test(killed_at_random_moments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
