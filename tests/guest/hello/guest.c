/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest guest: serial output, and a reset through the i8042 that ends the monitor with status 0. */
#include "guest.h"

void guest_main(void)
{
	print("Hello from a guest\n");
	expect("hello", true);
}
