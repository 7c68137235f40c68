/* SPDX-License-Identifier: Apache-2.0 */
#ifndef X
#define X
/* Documented, with its neighbour. */
int a(void);
int b(int long_one,
	int more);

int c(void);
#endif
