/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs in a guest, as root: is its memory really memory?
 *
 *     guest-mem MIB|all
 *
 * Takes so much anonymous memory (all: what /proc/meminfo says is available, less a reserve), writes each page's own
 * number at both ends of the page, reads everything back, and counts where the pages are: in the gap below 4 GiB, where
 * there must be none, and from 4 GiB on. Two guest pages on one host page, or a region that swallows writes, shows as a
 * wrong number.
 *
 * Prints "guest-mem: filled N MiB, M MiB of it from 4 GiB on"; exit status 1, with a line "bad: ...", when something is
 * wrong.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define PAGE UINT64_C(4096)
#define WORDS (PAGE / sizeof(uint64_t))
#define RESERVE_MIB 24 /* page tables of the fill, and what the rest of the guest needs meanwhile */
#define PFN_MASK ((UINT64_C(1) << 55) - 1)
#define PRESENT (UINT64_C(1) << 63)

static uint64_t available_mib(void)
{
	char line[128];
	uint64_t kib = 0;
	FILE *f = fopen("/proc/meminfo", "r");

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1)
			break;
	}
	if (f)
		(void)fclose(f);
	return kib / 1024;
}

static uint64_t pattern(uint64_t page, int end)
{
	return (page * 2 + (uint64_t)end) * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

/* Count the pages of @area by where they are. Needs CONFIG_PROC_PAGE_MONITOR; false without. */
static int locate(const uint64_t *area, uint64_t pages, uint64_t *in_gap, uint64_t *high)
{
	static uint64_t entry[8192];
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t done = 0;

	*in_gap = *high = 0;
	while (fd >= 0 && done < pages) {
		uint64_t n = pages - done < 8192 ? pages - done : 8192;
		off_t from = (off_t)(((uintptr_t)area / PAGE + done) * sizeof(uint64_t));

		if (pread(fd, entry, n * sizeof(uint64_t), from) != (ssize_t)(n * sizeof(uint64_t)))
			break;
		for (uint64_t i = 0; i < n; i++) {
			uint64_t at = (entry[i] & PFN_MASK) * PAGE;

			if (!(entry[i] & PRESENT))
				continue;
			*high += at >= 4 * GIB;
			*in_gap += at >= 3 * GIB && at < 4 * GIB;
		}
		done += n;
	}
	if (fd >= 0)
		(void)close(fd);
	return done == pages;
}

int main(int argc, char **argv)
{
	uint64_t mib = argc == 2 && strcmp(argv[1], "all") != 0 ? strtoull(argv[1], NULL, 10) : 0;
	uint64_t pages, wrong = 0, first = 0, in_gap, high;
	uint64_t *area;

	if (!mib) {
		mib = available_mib();
		mib = mib > RESERVE_MIB ? mib - RESERVE_MIB : 1;
	}
	pages = mib * MIB / PAGE;
	area = mmap(NULL, mib * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED) {
		printf("bad: memory: expected %" PRIu64 " MiB of address space, got an error\n", mib);
		return 1;
	}
	(void)madvise(area, mib * MIB, MADV_HUGEPAGE); /* fewer faults where the kernel can */
	for (uint64_t i = 0; i < pages; i++) {
		area[i * WORDS] = pattern(i, 0);
		area[i * WORDS + WORDS - 1] = pattern(i, 1);
	}
	for (uint64_t i = 0; i < pages; i++) {
		if (area[i * WORDS] == pattern(i, 0) && area[i * WORDS + WORDS - 1] == pattern(i, 1))
			continue;
		if (!wrong++)
			first = i;
	}
	if (wrong)
		printf("bad: memory: expected every page as written, got %" PRIu64 " wrong ones, the first is %" PRIu64 "\n", wrong,
		       first);
	if (!locate(area, pages, &in_gap, &high)) {
		printf("bad: memory: expected /proc/self/pagemap to say where pages are, got nothing\n");
		return 1;
	}
	if (in_gap)
		printf("bad: memory: expected no page between 3 and 4 GiB, got %" PRIu64 "\n", in_gap);
	printf("guest-mem: filled %" PRIu64 " MiB, %" PRIu64 " MiB of it from 4 GiB on\n", mib, high * PAGE / MIB);
	return wrong || in_gap;
}
