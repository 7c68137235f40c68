// SPDX-License-Identifier: Apache-2.0
/*
 * SHA-256 after FIPS 180-4: the round constants are section 4.2.2, the functions 4.1.2, padding 5.1.1.
 */
#include "rootfs-builder/sha256.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"

static const uint32_t round_constant[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotr(uint32_t v, unsigned int n)
{
	return v >> n | v << (32 - n);
}

static void compress_block(uint32_t h[8], const uint8_t block[64])
{
	uint32_t w[64], v[8];

	for (int i = 0; i < 16; i++) {
		memcpy(&w[i], block + 4 * i, 4);
		w[i] = be32toh(w[i]);
	}
	for (int i = 16; i < 64; i++) {
		uint32_t s0 = rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
		uint32_t s1 = rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ w[i - 2] >> 10;

		w[i] = w[i - 16] + s0 + w[i - 7] + s1;
	}
	memcpy(v, h, sizeof(v));
	for (int i = 0; i < 64; i++) {
		uint32_t s1 = rotr(v[4], 6) ^ rotr(v[4], 11) ^ rotr(v[4], 25);
		uint32_t ch = (v[4] & v[5]) ^ (~v[4] & v[6]);
		uint32_t t1 = v[7] + s1 + ch + round_constant[i] + w[i];
		uint32_t s0 = rotr(v[0], 2) ^ rotr(v[0], 13) ^ rotr(v[0], 22);
		uint32_t maj = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);

		memmove(v + 1, v, 7 * sizeof(v[0]));
		v[4] += t1;
		v[0] = t1 + s0 + maj;
	}
	for (int i = 0; i < 8; i++)
		h[i] += v[i];
}

void sha256_init(struct sha256 *s)
{
	static const uint32_t start[8] = {
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
	};

	memcpy(s->h, start, sizeof(start));
	s->n_bytes = 0;
}

void sha256_update(struct sha256 *s, const void *data, size_t len)
{
	const uint8_t *p = data;
	size_t fill = s->n_bytes % sizeof(s->block);

	s->n_bytes += len;
	while (len) {
		size_t n = sizeof(s->block) - fill;

		if (n > len)
			n = len;
		memcpy(s->block + fill, p, n);
		fill += n;
		p += n;
		len -= n;
		if (fill == sizeof(s->block)) {
			compress_block(s->h, s->block);
			fill = 0;
		}
	}
}

void sha256_final(struct sha256 *s, uint8_t out[SHA256_LEN])
{
	static const uint8_t padding[64] = { 0x80 };
	uint64_t n_bits = htobe64(s->n_bytes * 8);
	size_t fill = s->n_bytes % 64;

	sha256_update(s, padding, fill < 56 ? 56 - fill : 120 - fill);
	sha256_update(s, &n_bits, sizeof(n_bits));
	for (int i = 0; i < 8; i++) {
		uint32_t v = htobe32(s->h[i]);

		memcpy(out + 4 * i, &v, 4);
	}
}

void sha256_final_hex(struct sha256 *s, char out[SHA256_HEX_LEN])
{
	uint8_t digest[SHA256_LEN];

	sha256_final(s, digest);
	for (size_t i = 0; i < sizeof(digest); i++) {
		out[2 * i] = "0123456789abcdef"[digest[i] >> 4];
		out[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
	}
	out[SHA256_HEX_LEN - 1] = '\0';
}

int sha256_file(const char *path, char out[SHA256_HEX_LEN], struct err *e)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	AUTO_FREE uint8_t *buf = malloc(MIB);
	struct sha256 s;
	ssize_t n;

	if (fd < 0)
		return err_sys(e, -errno, "open '%s'", path);
	if (!buf)
		return err_set(e, -ENOMEM, "no memory to read '%s'", path);
	sha256_init(&s);
	while ((n = read(fd, buf, MIB)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, -errno, "read '%s'", path);
		sha256_update(&s, buf, (size_t)n);
	}
	sha256_final_hex(&s, out);
	return 0;
}
