/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two versions: Mayfly's own, and that of the Firecracker API it is compatible with, which clients parse out of
 * `--version`, the first log line and GET /version (a semantic version, CONTRACT.md section 6).
 */
#ifndef MAYFLY_BASE_VERSION_H
#define MAYFLY_BASE_VERSION_H

#define MAYFLY_VERSION "0.1.0"
#define MAYFLY_API_VERSION "1.17.0"

#endif
