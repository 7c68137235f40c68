/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/cow_format.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/checked.h"

/* The high bit, CR LF and ^Z show a file that was sent as text, or cut to 7 bits. */
static const uint8_t magic[8] = { 0x8d, 'M', 'F', 'C', 'O', 'W', '\r', '\n' };

#define VERSION 1

/* Offsets in the header's sector. What is between MTIME_NS and CRC is zero. */
#define AT_MAGIC 0
#define AT_VERSION 8
#define AT_BLOCK 12
#define AT_SIZE 16
#define AT_MTIME_S 24
#define AT_MTIME_NS 32
#define AT_ZERO 36
#define AT_CRC 508

_Static_assert(AT_CRC + sizeof(uint32_t) == COW_HEADER_BYTES, "the checksum is last");

bool cow_layout(uint64_t size, struct cow_layout *out)
{
	struct cow_layout l = { .size = size };
	uint64_t rounded, map_bits;

	if (size > COW_SIZE_MAX || !checked_align_up(size, COW_BLOCK, &rounded))
		return false;
	l.n_blocks = rounded / COW_BLOCK;
	map_bits = l.n_blocks ? l.n_blocks : 1;
	l.map_bytes = (map_bits + COW_MAP_PAGE_BLOCKS - 1) / COW_MAP_PAGE_BLOCKS * COW_MAP_PAGE;
	l.live_at = COW_MAP_AT + l.map_bytes;
	if (!checked_align_up(l.live_at + l.map_bytes, COW_DATA_ALIGN, &l.data_at))
		return false;
	l.file_size = l.data_at + rounded;
	*out = l;
	return true;
}

/* CRC-32C (Castagnoli), bit by bit: a sector, once per open. */
static uint32_t crc32c(const uint8_t *data, size_t len)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++) {
		crc ^= data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
	}
	return ~crc;
}

void cow_header_encode(const struct cow_header *header, uint8_t sector[COW_HEADER_BYTES])
{
	memset(sector, 0, COW_HEADER_BYTES);
	memcpy(sector + AT_MAGIC, magic, sizeof(magic));
	le32_put(sector + AT_VERSION, VERSION);
	le32_put(sector + AT_BLOCK, COW_BLOCK);
	le64_put(sector + AT_SIZE, header->size);
	le64_put(sector + AT_MTIME_S, (uint64_t)header->mtime.s);
	le32_put(sector + AT_MTIME_NS, header->mtime.ns);
	le32_put(sector + AT_CRC, crc32c(sector, AT_CRC));
}

int cow_header_decode(const uint8_t sector[COW_HEADER_BYTES], struct cow_header *out, struct err *e)
{
	struct cow_header h = {
		.size = le64_get(sector + AT_SIZE),
		.mtime = { .s = (int64_t)le64_get(sector + AT_MTIME_S), .ns = le32_get(sector + AT_MTIME_NS) },
	};
	uint32_t version = le32_get(sector + AT_VERSION);
	uint32_t block = le32_get(sector + AT_BLOCK);
	uint8_t other = 0;

	if (memcmp(sector + AT_MAGIC, magic, sizeof(magic)) != 0)
		return err_set(e, -EINVAL, "it is not a delta of a copy-on-write drive; name a file that does not exist, and "
			       "one is made");
	/* Before the checksum, whose place another version may have changed. */
	if (version != VERSION)
		return err_set(e, -EINVAL, "its format has version %" PRIu32 ", this Mayfly knows version %d", version, VERSION);
	if (le32_get(sector + AT_CRC) != crc32c(sector, AT_CRC))
		return err_set(e, -EINVAL, "its header is damaged: the checksum is wrong");
	if (block != COW_BLOCK)
		return err_set(e, -EINVAL, "its blocks have %" PRIu32 " bytes, not %d", block, COW_BLOCK);
	if (h.size > COW_SIZE_MAX)
		return err_set(e, -EINVAL, "its header says %" PRIu64 " bytes, a disk has at most %" PRIu64, h.size, COW_SIZE_MAX);
	if (h.mtime.ns >= 1000000000)
		return err_set(e, -EINVAL, "its header says %" PRIu32 " nanoseconds in a second", h.mtime.ns);
	for (size_t i = AT_ZERO; i < AT_CRC; i++)
		other |= sector[i];
	if (other)
		return err_set(e, -EINVAL, "its header has a field that this Mayfly does not know");
	*out = h;
	return 0;
}
