/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that never gives a receive buffer costs nothing, however much comes in. `measure: idle` `net: tap` */
#include "net.h"

void guest_main(void)
{
	expect("start", net_start());
	print("IDLE\n");
	for (;;)
		__asm__ volatile("sti; hlt");
}
