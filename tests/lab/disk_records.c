// SPDX-License-Identifier: Apache-2.0
/*
 * Runs in a guest of the disk tests, static, as /bin/disk-records:
 *
 *     disk-records write FILE ID         append numbered records, each with fsync, and tell the console of each that is stable
 *     disk-records check FILE ID LAST    the records up to number LAST are there; says how many there are
 *     disk-records churn DEVICE MIB      write, read back and compare for ever, in blocks of many sizes, past the page cache
 *     disk-records rate DEVICE BYTES MS [MIB]
 *                                        write blocks of BYTES for so long (or MIB, if that comes first); says how much per second
 *     disk-records reads DEVICE N        N reads of 4 KiB at random places; says how long they took, and the longest of them
 *
 * What is wrong is a line "bad: ...", as disk_lib.sh has it. Exit status 1 then.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A record's length: neither a divisor nor a multiple of sectors and pages, so that neighbours share them. */
#define RECORD 1500

static int bad(const char *what, const char *path, long long n)
{
	printf("bad: %s: %s at %lld (errno: %s)\n", path, what, n, strerror(errno));
	return 1;
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* A generator of numbers that is the same everywhere. */
static uint64_t step(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void fill(uint8_t *p, size_t len, uint64_t seed)
{
	uint64_t state = seed * 2654435761u + 88172645463325252u;

	for (size_t i = 0; i + 8 <= len; i += 8)
		memcpy(p + i, &(uint64_t){ step(&state) }, 8);
	for (size_t i = len & ~(size_t)7; i < len; i++)
		p[i] = (uint8_t)step(&state);
}

static void make_record(uint8_t *p, const char *id, long long n)
{
	fill(p, RECORD, (uint64_t)n + 1000000 * (uint64_t)(uint8_t)id[0]);
	memset(p, 0, 40);
	snprintf((char *)p, 40, "%s %lld", id, n);
}

/* How many records from the first on are as they were written. */
static long long count_records(int fd, const char *id)
{
	uint8_t want[RECORD], got[RECORD];
	long long n = 0;

	for (;; n++) {
		make_record(want, id, n);
		if (pread(fd, got, RECORD, n * RECORD) != RECORD || memcmp(want, got, RECORD) != 0)
			return n;
	}
}

static int write_records(const char *path, const char *id)
{
	uint8_t record[RECORD];
	int fd = open(path, O_RDWR | O_CREAT, 0644);

	if (fd < 0)
		return bad("open", path, 0);
	for (long long n = count_records(fd, id);; n++) {
		make_record(record, id, n);
		if (pwrite(fd, record, RECORD, n * RECORD) != RECORD)
			return bad("write", path, n);
		if (fsync(fd) != 0)
			return bad("fsync", path, n);
		printf("rec %s %lld\n", id, n);
	}
}

static int check_records(const char *path, const char *id, long long last)
{
	int fd = open(path, O_RDONLY);
	long long n = fd < 0 ? 0 : count_records(fd, id);

	if (n <= last)
		return bad("the record is missing that was stable", path, n);
	printf("mark: records %s %lld\n", id, n);
	return 0;
}

static int open_direct(const char *path, off_t *size)
{
	int fd = open(path, O_RDWR | O_DIRECT);

	if (fd < 0)
		fd = open(path, O_RDONLY | O_DIRECT);
	*size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	return *size >= 4096 ? fd : -1;
}

static void *buffer(size_t len)
{
	void *p = NULL;

	if (posix_memalign(&p, 4096, len) != 0)
		exit(1);
	memset(p, 0x5a, len);
	return p;
}

static int churn(const char *path, long long mib)
{
	uint8_t *want = buffer(262144), *got = buffer(262144);
	uint64_t state = 88172645463325252u;
	off_t size;
	int fd = open_direct(path, &size);

	if (fd < 0)
		return bad("open", path, 0);
	for (uint64_t n = 0;; n++) {
		size_t len = (step(&state) % 512 + 1) * 512;
		off_t at = (off_t)(step(&state) % (uint64_t)((mib << 20) - 262144)) & ~511;

		fill(want, len, n);
		if (pwrite(fd, want, len, at) != (ssize_t)len)
			return bad("write", path, at);
		if (pread(fd, got, len, at) != (ssize_t)len || memcmp(want, got, len) != 0)
			return bad("what is read is not what was written", path, at);
		if (n == 0)
			printf("mark: churning %s\n", path);
	}
}

static int rate(const char *path, size_t len, uint64_t ms, uint64_t mib)
{
	void *p = buffer(len);
	off_t size, at = 0;
	int fd = open_direct(path, &size);
	uint64_t start = now_us(), end, n = 0, most = mib << 20;

	if (fd < 0)
		return bad("open", path, 0);
	do {
		if (pwrite(fd, p, len, at) != (ssize_t)len)
			return bad("write", path, at);
		at += (off_t)len;
		if (at + (off_t)len > size)
			at = 0;
		n++;
		end = now_us();
	} while (end - start < ms * 1000 && (!most || n * len < most));
	printf("mark: rate %s %llu bytes/s %llu ops/s %llu ms\n", path, (unsigned long long)(n * len * 1000000 / (end - start)),
	       (unsigned long long)(n * 1000000 / (end - start)), (unsigned long long)((end - start) / 1000));
	return 0;
}

static int reads(const char *path, long long n)
{
	void *p = buffer(4096);
	uint64_t start = now_us(), longest = 0, state = 88172645463325252u;
	off_t size;
	int fd = open_direct(path, &size);

	if (fd < 0)
		return bad("open", path, 0);
	for (long long i = 0; i < n; i++) {
		uint64_t before = now_us(), took;

		if (pread(fd, p, 4096, (off_t)(step(&state) % ((uint64_t)size / 4096) * 4096)) != 4096)
			return bad("read", path, i);
		took = now_us() - before;
		longest = took > longest ? took : longest;
	}
	printf("mark: reads %s %llu ms, longest %llu us\n", path, (unsigned long long)((now_us() - start) / 1000),
	       (unsigned long long)longest);
	return 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 4 && !strcmp(argv[1], "write"))
		return write_records(argv[2], argv[3]);
	if (argc == 5 && !strcmp(argv[1], "check"))
		return check_records(argv[2], argv[3], atoll(argv[4]));
	if (argc == 4 && !strcmp(argv[1], "churn"))
		return churn(argv[2], atoll(argv[3]));
	if ((argc == 5 || argc == 6) && !strcmp(argv[1], "rate"))
		return rate(argv[2], (size_t)atoll(argv[3]), (uint64_t)atoll(argv[4]), argc == 6 ? (uint64_t)atoll(argv[5]) : 0);
	if (argc == 4 && !strcmp(argv[1], "reads"))
		return reads(argv[2], atoll(argv[3]));
	fprintf(stderr, "disk-records: see the head of tests/lab/disk_records.c\n");
	return 2;
}
