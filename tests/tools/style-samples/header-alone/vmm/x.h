/* SPDX-License-Identifier: Apache-2.0 */
#ifndef X
#define X
/* Needs stdint.h. */
uint32_t a(void);
#endif
