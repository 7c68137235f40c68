/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that writes the serial port without pause while nobody reads. `measure: memory` */
#include "guest.h"

void guest_main(void)
{
	for (;;)
		out8(0x3f8, 'x');
}
