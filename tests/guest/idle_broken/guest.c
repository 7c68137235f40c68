/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that breaks its queue, leaves the pieces there and waits for ever: the monitor does not spin. `measure: idle` */
#include "blk.h"

void guest_main(void)
{
	expect("start", blk_start());
	avail_put(0xffff);
	kick();
	while (!(reg_read(REG_STATUS) & ST_NEEDS_RESET))
		wait_turns(1);
	kick();
	avail_put(0);
	kick();
	print("IDLE\n");
	for (;;)
		__asm__ volatile("sti; hlt");
}
