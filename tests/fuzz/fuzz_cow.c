/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deltas of copy-on-write disks: any bytes in the header and the maps, right or wrong in length, over a small
 * base; then reads, writes, zeros, flushes, and host calls that fail or are short.
 *
 * Asserted: what is refused is named and left as it was; no host call outside the delta's data and maps, none that
 * writes the base; a disk that opened holds what was written to it, also when it is opened again.
 *
 * Input: how the delta is made (0: the monitor makes it), then steps.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/cow_disk.h"
#include "tests/lib/fuzz_input.h"
#include "virtio/cow_impl.h"
#include "vmm/base/checked.h"
#include "vmm/base/log.h"
#include "vmm/base/sys.h"

#define SIZE (11 * COW_BLOCK + 1024)
#define N_SECTORS (SIZE / 512)
#define MAX_STEPS 60

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct cow_disk d;
static struct cow_layout layout;
static struct run {
	struct fuzz_input in;
	bool faults;
} run;
static uint8_t model[SIZE], buf[SIZE];

/* --- Host --- */

static bool fails(void)
{
	static const int errors[] = { EIO, EINTR, ENOSPC, EAGAIN };

	if (!run.faults || !fuzz_rarely(&run.in))
		return false;
	errno = errors[fuzz_below(&run.in, ARRAY_SIZE(errors))];
	return true;
}

static uint64_t sum_of(const struct iovec *iov, int n)
{
	uint64_t sum = 0;

	must(n > 0 && n <= VQ_CHAIN_MAX);
	for (int i = 0; i < n; i++)
		sum += iov[i].iov_len;
	must(sum > 0);
	return sum;
}

static ssize_t host_preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	uint64_t len = sum_of(iov, n), at = (uint64_t)offset;

	if (fd == cow_delta_fd(d.cow))
		must(at >= layout.data_at && range_within(at - layout.data_at, len, SIZE));
	else
		must(fd == cow_base_fd(d.cow) && range_within(at, len, SIZE));
	return fails() ? -1 : sys_preadv2(fd, iov, run.faults && fuzz_rarely(&run.in) ? 1 : n, offset, flags);
}

static ssize_t host_pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	uint64_t len = sum_of(iov, n), at = (uint64_t)offset;

	must(fd == cow_delta_fd(d.cow) && !d.cow->read_only);
	if (at >= layout.data_at)
		must(range_within(at - layout.data_at, len, layout.n_blocks * COW_BLOCK));
	else
		must(at >= COW_MAP_AT && range_within(at - COW_MAP_AT, len, 2 * layout.map_bytes));
	return fails() ? -1 : sys_pwritev2(fd, iov, run.faults && fuzz_rarely(&run.in) ? 1 : n, offset, flags);
}

static int host_fdatasync(int fd)
{
	must(fd == cow_delta_fd(d.cow));
	return fails() ? -1 : 0;
}

static int host_fallocate(int fd, int mode, off_t offset, off_t len)
{
	uint64_t at = (uint64_t)offset;

	must(fd == cow_delta_fd(d.cow) && mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) && len > 0);
	must(at >= layout.data_at && range_within(at - layout.data_at, (uint64_t)len, layout.n_blocks * COW_BLOCK));
	if (run.faults && fuzz_rarely(&run.in)) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return fails() ? -1 : fallocate(fd, mode, offset, len);
}

static const struct blk_io_ops ops = {
	.preadv2 = host_preadv2, .pwritev2 = host_pwritev2, .fdatasync = host_fdatasync, .fallocate = host_fallocate,
};

/* --- The file --- */

static void put(int fd, const void *p, size_t len, uint64_t at)
{
	ssize_t n = pwrite(fd, p, len, (off_t)at);

	must(n == (ssize_t)len);
}

/* A delta that somebody else made: valid but for what the input breaks. */
static void make_file(void)
{
	struct cow_header header = { .size = SIZE };
	uint8_t sector[COW_HEADER_BYTES];
	uint64_t length = layout.file_size;
	struct stat st;
	int fd = open(d.delta, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int rc = stat(d.base, &st);

	must(fd >= 0 && rc == 0);
	header.mtime = (struct cow_mtime){ .s = st.st_mtim.tv_sec, .ns = (uint32_t)st.st_mtim.tv_nsec };
	if (fuzz_rarely(&run.in))
		header.size = fuzz_u64(&run.in);
	if (fuzz_rarely(&run.in))
		header.mtime.s = (int64_t)fuzz_u64(&run.in);
	if (fuzz_rarely(&run.in))
		header.mtime.ns = fuzz_u32(&run.in);
	cow_header_encode(&header, sector);
	if (fuzz_rarely(&run.in))
		sector[fuzz_u16(&run.in) % sizeof(sector)] ^= fuzz_u8(&run.in);
	put(fd, sector, sizeof(sector), COW_HEADER_AT);
	for (uint64_t map = COW_MAP_AT; map <= layout.live_at; map += layout.map_bytes) {
		uint8_t bits[4] = { fuzz_u8(&run.in), fuzz_u8(&run.in) & 0xf, 0, 0 };

		if (fuzz_rarely(&run.in))
			bits[fuzz_below(&run.in, sizeof(bits))] = fuzz_u8(&run.in);
		put(fd, bits, sizeof(bits), map);
		if (fuzz_rarely(&run.in))
			put(fd, bits, sizeof(bits), map + fuzz_u16(&run.in) % (layout.map_bytes - sizeof(bits)));
	}
	memset(buf, 0x77, sizeof(buf));
	put(fd, buf, sizeof(buf), layout.data_at);
	if (fuzz_rarely(&run.in))
		length = fuzz_u32(&run.in);
	rc = ftruncate(fd, (off_t)length);
	must(rc == 0);
	(void)close(fd);
}

static bool open_disk(bool read_only)
{
	d.err.msg[0] = '\0';
	if (cow_disk_open(&d, read_only) == 0)
		return true;
	must(!d.cow && d.err.msg[0]);
	return false;
}

/* --- Steps --- */

static void read_all(uint8_t *out)
{
	bool faults = run.faults;
	int rc;

	run.faults = false;
	rc = cow_disk_read(&d, &ops, out, SIZE, 0, SIZE, 1);
	must(rc == 0);
	run.faults = faults;
}

/* Bytes [@from, @to) are old or @fresh, each; nothing else has changed. */
static void expect_change(uint64_t from, uint64_t to, uint8_t fresh)
{
	read_all(buf);
	for (uint64_t i = 0; i < SIZE; i++) {
		must(buf[i] == model[i] || (i >= from && i < to && buf[i] == fresh));
		model[i] = buf[i];
	}
}

static void step(void)
{
	uint64_t first = fuzz_u8(&run.in) % N_SECTORS;
	uint64_t n = 1 + fuzz_u8(&run.in) % (N_SECTORS - first);
	uint64_t offset = first * 512, len = n * 512;
	uint8_t what = fuzz_u8(&run.in);
	uint64_t slice = 512 * (1 + fuzz_u8(&run.in) % 40);
	int rc;

	if (d.cow->read_only)
		what = 2;
	switch (what % 5) {
	case 0:
		memset(buf, what, len);
		rc = cow_disk_write(&d, &ops, buf, len, offset, slice, 1 + what % 7);
		if (rc != 0)
			expect_change(offset, offset + len, what);
		else
			memset(model + offset, what, len);
		break;
	case 1:
		rc = cow_zero(&ops, d.cow, offset, len);
		if (rc != 0)
			expect_change(offset, offset + len, 0);
		else
			memset(model + offset, 0, len);
		break;
	case 2:
		rc = cow_disk_read(&d, &ops, buf, len, offset, slice, 1 + what % 7);
		must(run.faults || rc == 0);
		must(rc != 0 || memcmp(buf, model + offset, len) == 0);
		break;
	case 3:
		rc = cow_flush(&ops, d.cow);
		must(run.faults || rc == 0 || d.cow->broken);
		break;
	case 4:
		cow_disk_close(&d);
		rc = open_disk(false);
		must(rc);
		read_all(buf);
		must(memcmp(buf, model, SIZE) == 0);
		break;
	}
}

static void clean_up(void)
{
	cow_disk_remove(&d);
}

static void set_up(void)
{
	bool ok = cow_layout(SIZE, &layout);

	must(ok);
	log_set_level(LOG_OFF);
	cow_disk_make(&d, cow_disk_fast_parent(), SIZE);
	(void)atexit(clean_up);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!d.size)
		set_up();
	run = (struct run){ .in = { .data = data, .left = size } };
	(void)unlink(d.delta);
	switch (fuzz_u8(&run.in) % 3) {
	case 0:
		break;
	case 1:
		make_file();
		break;
	case 2: { /* any bytes at all */
		int fd = open(d.delta, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

		must(fd >= 0);
		put(fd, run.in.data, run.in.left, 0);
		(void)close(fd);
		break;
	}
	}
	if (!open_disk(fuzz_rarely(&run.in)))
		return 0;
	read_all(model);
	run.faults = fuzz_rarely(&run.in);
	for (unsigned i = 0; i < MAX_STEPS && !fuzz_empty(&run.in); i++)
		step();
	cow_disk_close(&d);
	return 0;
}
