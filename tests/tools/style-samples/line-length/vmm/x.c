/* SPDX-License-Identifier: Apache-2.0 */
/* long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long . */
