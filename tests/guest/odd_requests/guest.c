/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of the wrong shape: too short, not whole sectors, data in the wrong direction. Each fails alone. */
#include "blk.h"

static void refused(const char *name)
{
	expect_eq(name, BLK_UNTOUCHED, request_run());
	expect_eq("used-len", 0, last_used_len());
}

void guest_main(void)
{
	expect("start", blk_start());
	memset(data, 0x55, sizeof(data));

	request_build(T_IN, 0, 511);
	refused("length-511");
	request_build(T_OUT, 0, 513);
	refused("length-513");
	request_build(T_GET_ID, 0, 19);
	refused("get-id-19-bytes");

	request_build(T_IN, 0, 512);
	desc_set(0, &header, 15, F_NEXT, 1);
	refused("short-header");
	request_build(T_IN, 0, 512);
	desc_set(0, &header, 16, 0, 0);
	refused("header-alone");
	request_build(T_IN, 0, 512);
	desc_set(0, &header, 16, F_NEXT | F_WRITE, 1);
	refused("header-writable");

	request_build(T_IN, 0, 512);
	desc_set(1, data, 512, F_NEXT, 2);
	refused("read-into-readable");
	request_build(T_OUT, 0, 512);
	desc_set(1, data, 512, F_NEXT | F_WRITE, 2);
	refused("write-from-writable");
	request_build(T_OUT, 0, 512);
	desc_set(0, &status_byte, 1, F_NEXT | F_WRITE, 1);
	desc_set(1, &header, 16, F_NEXT, 2);
	desc_set(2, data, 512, 0, 0);
	refused("writable-first");
	request_build(T_OUT, 0, 512);
	desc_set(2, (const volatile uint8_t *)&status_byte, 1, 0, 0);
	refused("status-not-writable");

	expect("no-data-touched", data[0] == 0x55 && data[511] == 0x55);
	expect_works("works");
}
