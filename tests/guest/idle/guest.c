/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that waits for an interrupt for ever costs the monitor no processor time. `measure: idle` */
#include "guest.h"

void guest_main(void)
{
	print("IDLE\n");
	for (;;)
		__asm__ volatile("sti; hlt");
}
