/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's header of a frame: each rule broken alone, and what is passed on (virtio 1.2, 5.1.6.2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <endian.h>

#include "virtio/net_hdr.h"

#define ALL                                                                                                            \
	(VIRTIO_NET_F_CSUM | VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_TSO6 | VIRTIO_NET_F_HOST_UFO)
#define LEN 1514

static struct virtio_net_hdr_wire out;

static struct virtio_net_hdr_wire hdr(uint8_t flags, uint8_t gso_type, uint16_t hdr_len, uint16_t gso_size,
				      uint16_t csum_start, uint16_t csum_offset)
{
	return (struct virtio_net_hdr_wire){
		.flags = flags, .gso_type = gso_type, .hdr_len = htole16(hdr_len), .gso_size = htole16(gso_size),
		.csum_start = htole16(csum_start), .csum_offset = htole16(csum_offset), .num_buffers = htole16(7),
	};
}

static enum verdict check(struct virtio_net_hdr_wire wire, uint32_t len, uint64_t acked)
{
	memset(&out, 0xee, sizeof(out));
	return net_hdr_check(&wire, len, acked, &out);
}

static void expect_out(struct virtio_net_hdr_wire want)
{
	want.num_buffers = 0;
	assert_memory_equal(&out, &want, sizeof(want));
}

static void plain(void **state)
{
	(void)state;
	assert_int_equal(check(hdr(0, 0, 0, 0, 0, 0), LEN, ALL), VERDICT_OK);
	expect_out(hdr(0, 0, 0, 0, 0, 0));
	/* Fields that mean nothing are not passed on, nor flags of the other direction or of later versions. */
	assert_int_equal(check(hdr(0xfe, 0, 1, 2, 3, 4), LEN, ALL), VERDICT_OK);
	expect_out(hdr(0, 0, 0, 0, 0, 0));
	assert_int_equal(check(hdr(0, 0, 0, 0, 0, 0), 0, 0), VERDICT_OK);
}

static void checksum(void **state)
{
	(void)state;
	assert_int_equal(check(hdr(1, 0, 0, 0, 34, 16), LEN, ALL), VERDICT_OK);
	expect_out(hdr(1, 0, 0, 0, 34, 16));
	assert_int_equal(check(hdr(1, 0, 0, 0, 34, 16), LEN, 0), VERDICT_REQ_ERROR);
	/* The last place, and one behind it. */
	assert_int_equal(check(hdr(1, 0, 0, 0, 34, 6), 42, ALL), VERDICT_OK);
	assert_int_equal(check(hdr(1, 0, 0, 0, 34, 7), 42, ALL), VERDICT_REQ_ERROR);
	assert_int_equal(check(hdr(1, 0, 0, 0, 41, 0), 42, ALL), VERDICT_REQ_ERROR);
	/* The sum does not wrap. */
	assert_int_equal(check(hdr(1, 0, 0, 0, 0xffff, 0xffff), LEN, ALL), VERDICT_REQ_ERROR);
	assert_int_equal(check(hdr(1, 0, 0, 0, 0, 0), 1, ALL), VERDICT_REQ_ERROR);
}

static void segmentation(void **state)
{
	static const struct {
		uint8_t type;
		uint64_t feature;
	} kinds[] = {
		{ VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_F_HOST_TSO4 },
		{ VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_F_HOST_TSO6 },
		{ VIRTIO_NET_HDR_GSO_UDP, VIRTIO_NET_F_HOST_UFO },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		uint8_t type = kinds[i].type;

		assert_int_equal(check(hdr(1, type, 54, 1448, 34, 16), 60000, ALL), VERDICT_OK);
		expect_out(hdr(1, type, 54, 1448, 34, 16));
		assert_int_equal(check(hdr(1, type, 54, 1448, 34, 16), 60000, VIRTIO_NET_F_CSUM | kinds[i].feature), VERDICT_OK);
		assert_int_equal(check(hdr(1, type, 54, 1448, 34, 16), 60000, ALL & ~kinds[i].feature), VERDICT_REQ_ERROR);
		assert_int_equal(check(hdr(0, type, 54, 1448, 34, 16), 60000, ALL), VERDICT_REQ_ERROR);
		assert_int_equal(check(hdr(1, type, 54, 0, 34, 16), 60000, ALL), VERDICT_REQ_ERROR);
		/* ECN was not offered. */
		assert_int_equal(check(hdr(1, (uint8_t)(type | 0x80), 54, 1448, 34, 16), 60000, ALL), VERDICT_REQ_ERROR);
	}
	/* Every kind that there is not. */
	for (unsigned type = 1; type < 256; type++) {
		if (type != 1 && type != 3 && type != 4)
			assert_int_equal(check(hdr(1, (uint8_t)type, 54, 1448, 34, 16), 60000, UINT64_MAX), VERDICT_REQ_ERROR);
	}
}

/* 5.1.6.2.2: the hint may be wrong; what is passed on lies inside the frame. */
static void header_length(void **state)
{
	(void)state;
	assert_int_equal(check(hdr(1, 1, 0xffff, 1448, 34, 16), 3000, ALL), VERDICT_OK);
	expect_out(hdr(1, 1, 3000, 1448, 34, 16));
	assert_int_equal(check(hdr(1, 1, 3000, 1448, 34, 16), 3000, ALL), VERDICT_OK);
	expect_out(hdr(1, 1, 3000, 1448, 34, 16));
	assert_int_equal(check(hdr(1, 1, 0, 1448, 34, 16), 3000, ALL), VERDICT_OK);
	expect_out(hdr(1, 1, 0, 1448, 34, 16));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain), cmocka_unit_test(checksum), cmocka_unit_test(segmentation),
		cmocka_unit_test(header_length),
	};

	return cmocka_run_group_tests_name("net_hdr", tests, NULL, NULL);
}
