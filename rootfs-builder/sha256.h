/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 (FIPS 180-4), for cache keys and for the digests that container images name their layers by.
 *
 * Use: sha256_init(&h); sha256_update(&h, p, n); ... sha256_final_hex(&h, hex);
 */
#ifndef MAYFLY_ROOTFS_SHA256_H
#define MAYFLY_ROOTFS_SHA256_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

#define SHA256_LEN 32
#define SHA256_HEX_LEN 65 /* with the NUL */

struct err;

struct sha256 {
	uint32_t h[8];
	uint64_t n_bytes;
	uint8_t block[64];
};

/* Start a digest. */
void sha256_init(struct sha256 *s);

/* Add @len bytes at @data. */
void sha256_update(struct sha256 *s, const void *data, size_t len);

/* Finish: the digest into @out. @s must be started again before its next use. */
void sha256_final(struct sha256 *s, uint8_t out[SHA256_LEN]);

/* As sha256_final, as 64 lower-case hexadecimal digits and a NUL. */
void sha256_final_hex(struct sha256 *s, char out[SHA256_HEX_LEN]);

/* The digest of the file @path as hexadecimal digits into @out. 0 or a negative errno with @e set. May block. */
int sha256_file(const char *path, char out[SHA256_HEX_LEN], struct err *e) MUST_USE;

#endif
