/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headers of vsock packets, field by field, and the CONNECT line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "virtio/virtio_spec.h"
#include "virtio/vsock.h"
#include "virtio/vsock_line.h"
#include "virtio/vsock_pkt.h"
#include "vmm/base/bytes.h"

#define CID 42

/* A RW packet of 100 bytes from port 7 of the guest to port 9 of the host. */
static void good(uint8_t hdr[VSOCK_HDR_BYTES])
{
	memset(hdr, 0, VSOCK_HDR_BYTES);
	le64_put(hdr, CID);
	le64_put(hdr + 8, VSOCK_CID_HOST);
	le32_put(hdr + 16, 7);
	le32_put(hdr + 20, 9);
	le32_put(hdr + 24, 100);
	le16_put(hdr + 28, VIRTIO_VSOCK_TYPE_STREAM);
	le16_put(hdr + 30, VIRTIO_VSOCK_OP_RW);
	le32_put(hdr + 36, 0x11111);
	le32_put(hdr + 40, 0x22222);
}

static enum vsock_pkt_fate parse(const uint8_t *hdr, uint64_t behind)
{
	struct vsock_pkt pkt;

	return vsock_pkt_parse(hdr, behind, CID, &pkt);
}

static void every_field(void **state)
{
	uint8_t hdr[VSOCK_HDR_BYTES];
	struct vsock_pkt pkt;

	(void)state;
	good(hdr);
	assert_int_equal(vsock_pkt_parse(hdr, 100, CID, &pkt), VSOCK_PKT_OK);
	assert_int_equal(pkt.guest_port, 7);
	assert_int_equal(pkt.host_port, 9);
	assert_int_equal(pkt.len, 100);
	assert_int_equal(pkt.op, VSOCK_OP_RW);
	assert_int_equal(pkt.type, VIRTIO_VSOCK_TYPE_STREAM);
	assert_int_equal(pkt.buf_alloc, 0x11111);
	assert_int_equal(pkt.fwd_cnt, 0x22222);
	assert_int_equal(pkt.flags, 0);
}

static void cids(void **state)
{
	static const uint64_t wrong[] = { 0, 1, 2, 3, CID + (UINT64_C(1) << 32), UINT64_MAX };
	uint8_t hdr[VSOCK_HDR_BYTES];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		good(hdr);
		le64_put(hdr, wrong[i]);
		assert_int_equal(parse(hdr, 100), VSOCK_PKT_DROP);
		good(hdr);
		le64_put(hdr + 8, wrong[i]);
		assert_int_equal(parse(hdr, 100), wrong[i] == VSOCK_CID_HOST ? VSOCK_PKT_OK : VSOCK_PKT_DROP);
	}
}

static void types_and_ops(void **state)
{
	uint8_t hdr[VSOCK_HDR_BYTES];

	(void)state;
	for (uint32_t v = 0; v <= UINT16_MAX; v++) {
		good(hdr);
		le16_put(hdr + 28, (uint16_t)v);
		assert_int_equal(parse(hdr, 100), v == VIRTIO_VSOCK_TYPE_STREAM ? VSOCK_PKT_OK : VSOCK_PKT_REFUSE);
		le16_put(hdr + 30, VIRTIO_VSOCK_OP_RST);
		assert_int_equal(parse(hdr, 100), v == VIRTIO_VSOCK_TYPE_STREAM ? VSOCK_PKT_OK : VSOCK_PKT_DROP);
		good(hdr);
		le16_put(hdr + 30, (uint16_t)v);
		assert_int_equal(parse(hdr, 100), v >= 1 && v <= 7 ? VSOCK_PKT_OK : VSOCK_PKT_REFUSE);
	}
}

/* What is refused names whom to reset, with the type that it came with. */
static void refused_ports(void **state)
{
	uint8_t hdr[VSOCK_HDR_BYTES];
	struct vsock_pkt pkt;

	(void)state;
	good(hdr);
	le16_put(hdr + 28, 2);
	assert_int_equal(vsock_pkt_parse(hdr, 100, CID, &pkt), VSOCK_PKT_REFUSE);
	assert_int_equal(pkt.guest_port, 7);
	assert_int_equal(pkt.host_port, 9);
	assert_int_equal(pkt.type, 2);
}

static void lengths(void **state)
{
	uint8_t hdr[VSOCK_HDR_BYTES];
	struct vsock_pkt pkt;

	(void)state;
	good(hdr);
	assert_int_equal(parse(hdr, 99), VSOCK_PKT_REFUSE);
	assert_int_equal(parse(hdr, 101), VSOCK_PKT_OK);
	le32_put(hdr + 24, VSOCK_PKT_DATA_MAX);
	assert_int_equal(parse(hdr, UINT32_MAX), VSOCK_PKT_OK);
	le32_put(hdr + 24, VSOCK_PKT_DATA_MAX + 1);
	assert_int_equal(parse(hdr, UINT32_MAX), VSOCK_PKT_REFUSE);
	le32_put(hdr + 24, UINT32_MAX);
	assert_int_equal(parse(hdr, UINT32_MAX), VSOCK_PKT_REFUSE);
	/* Data that an operation has no use for is not looked at. */
	le16_put(hdr + 30, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(vsock_pkt_parse(hdr, 0, CID, &pkt), VSOCK_PKT_OK);
	assert_int_equal(pkt.len, 0);
}

static void flags(void **state)
{
	uint8_t hdr[VSOCK_HDR_BYTES];
	struct vsock_pkt pkt;

	(void)state;
	good(hdr);
	le32_put(hdr + 32, UINT32_MAX);
	assert_int_equal(vsock_pkt_parse(hdr, 100, CID, &pkt), VSOCK_PKT_OK);
	assert_int_equal(pkt.flags, 0);
	le16_put(hdr + 30, VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(vsock_pkt_parse(hdr, 100, CID, &pkt), VSOCK_PKT_OK);
	assert_int_equal(pkt.flags, VSOCK_NO_MORE);
}

static void print_and_parse(void **state)
{
	const struct vsock_pkt pkt = {
		.guest_port = 0xaabbccdd, .host_port = 0x40000000, .len = 0, .buf_alloc = 65536, .fwd_cnt = 0xfffffff0,
		.type = VIRTIO_VSOCK_TYPE_STREAM, .op = VSOCK_OP_SHUTDOWN, .flags = VSOCK_NO_SEND,
	};
	uint8_t hdr[VSOCK_HDR_BYTES], swapped[VSOCK_HDR_BYTES];
	struct vsock_pkt back;

	(void)state;
	vsock_pkt_print(&pkt, CID, hdr);
	assert_int_equal(le64_get(hdr), VSOCK_CID_HOST);
	assert_int_equal(le64_get(hdr + 8), CID);
	/* As if the guest sent it. */
	memcpy(swapped, hdr, sizeof(hdr));
	memcpy(swapped, hdr + 8, 8);
	memcpy(swapped + 8, hdr, 8);
	memcpy(swapped + 16, hdr + 20, 4);
	memcpy(swapped + 20, hdr + 16, 4);
	assert_int_equal(vsock_pkt_parse(swapped, 0, CID, &back), VSOCK_PKT_OK);
	assert_memory_equal(&back, &pkt, sizeof(pkt));
}

/* --- The line --- */

/* Feed @text in pieces of @piece bytes; returns the state and how many bytes belonged to the line. */
static enum vsock_line_state feed(const char *text, size_t piece, uint32_t *port, size_t *taken)
{
	struct vsock_line line = { .len = 0 };
	enum vsock_line_state st = VSOCK_LINE_PART;
	size_t len = strlen(text);

	*taken = 0;
	while (st == VSOCK_LINE_PART && *taken < len) {
		size_t n = len - *taken < piece ? len - *taken : piece;

		n = vsock_line_scan(&line, text + *taken, n);
		assert_true(n > 0);
		vsock_line_add(&line, text + *taken, n);
		*taken += n;
		st = vsock_line_parse(&line, port);
	}
	return st;
}

static void lines(void **state)
{
	static const struct {
		const char *text;
		enum vsock_line_state st;
		uint32_t port;
		size_t taken;
	} cases[] = {
		{ "CONNECT 52\n", VSOCK_LINE_PORT, 52, 11 },
		{ "connect 52\nhello\n", VSOCK_LINE_PORT, 52, 11 },
		{ "CoNnEcT \t 0\n", VSOCK_LINE_PORT, 0, 12 },
		{ "  CONNECT 4294967295 \n", VSOCK_LINE_PORT, 4294967295, 22 },
		{ "CONNECT 1024\r\n", VSOCK_LINE_PORT, 1024, 14 },
		{ "CONNECT 00000000000000000000012\n", VSOCK_LINE_PORT, 12, 32 },
		{ "CONNECT 000000000000000000000012\n", VSOCK_LINE_BAD, 0, 32 },
		{ "CONNECT 4294967296\n", VSOCK_LINE_BAD, 0, 19 },
		{ "CONNECT 99999999999999999999999\n", VSOCK_LINE_BAD, 0, 32 },
		{ "CONNECT\n", VSOCK_LINE_BAD, 0, 8 },
		{ "CONNECT \n", VSOCK_LINE_BAD, 0, 9 },
		{ "CONNECT52\n", VSOCK_LINE_BAD, 0, 10 },
		{ "CONNECT 52 x\n", VSOCK_LINE_BAD, 0, 13 },
		{ "CONNECT -1\n", VSOCK_LINE_BAD, 0, 11 },
		{ "CONNECT +1\n", VSOCK_LINE_BAD, 0, 11 },
		{ "CONNECT 0x10\n", VSOCK_LINE_BAD, 0, 13 },
		{ "CONN\x05""CT 5\n", VSOCK_LINE_BAD, 0, 10 },
		{ "\n", VSOCK_LINE_BAD, 0, 1 },
		{ "GET / HTTP/1.1\r\n", VSOCK_LINE_BAD, 0, 16 },
		{ "CONNECT 5", VSOCK_LINE_PART, 0, 9 },
		{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", VSOCK_LINE_BAD, 0, 32 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (size_t piece = 1; piece <= 40; piece++) {
			uint32_t port = 0;
			size_t taken;

			assert_int_equal(feed(cases[i].text, piece, &port, &taken), cases[i].st);
			assert_int_equal(port, cases[i].port);
			assert_int_equal(taken, cases[i].taken);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_field), cmocka_unit_test(cids), cmocka_unit_test(types_and_ops),
		cmocka_unit_test(refused_ports), cmocka_unit_test(lengths), cmocka_unit_test(flags),
		cmocka_unit_test(print_and_parse), cmocka_unit_test(lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
