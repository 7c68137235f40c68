/* SPDX-License-Identifier: Apache-2.0 */
/* Ports and addresses that nobody owns read as zero and swallow writes; odd use of the ones that exist harms nobody. */
#include "guest.h"

void guest_main(void)
{
	uint32_t sum = 0;

	for (uint32_t port = 0x100; port < 0x3e8; port++) {
		out8((uint16_t)port, 0xff);
		sum |= in8((uint16_t)port);
	}
	expect_eq("unknown-ports-8", 0, sum);
	out32(0xcf8, 0x80000000);
	expect_eq("pci-config-address", 0, in32(0xcf8));
	expect_eq("pci-config-data", 0, in32(0xcfc));
	out32(0xfffe, 0x12345678);
	expect_eq("last-ports", 0, in32(0xfffc));
	/* Accesses that begin before a device's range or leave it at the end. */
	sum = in32(0x3f6) | in32(0x3fe) | in32(0x5e);
	out32(0x3fe, 0xffffffff);
	out32(0x5e, 0);
	expect("straddling-ports", true);
	/* Every keyboard controller command but the reset, each with data that asks for none. */
	for (unsigned c = 0; c < 0x100; c++) {
		if (c == 0xfe)
			continue;
		out8(0x64, (uint8_t)c);
		out8(0x60, 0xff);
		(void)in8(0x60);
		(void)in8(0x64);
	}
	expect("i8042-commands", true);
	/* The serial port: every register with every value, then back to a usable state. */
	for (unsigned reg = 1; reg < 8; reg++)
		for (unsigned v = 0; v < 0x100; v++) {
			out8((uint16_t)(0x3f8 + reg), (uint8_t)v);
			(void)in8((uint16_t)(0x3f8 + reg));
		}
	out8(0x3fb, 3);
	out8(0x3f9, 0);
	out8(0x3fa, 0);
	out8(0x3fc, 0);
	expect("serial-registers", true);
	expect_eq("unknown-mmio", 0, read32(0xd0000000) | read32(0xc0003000) | read32(0xfffff000));
	write32(0xd0000000, 0xffffffff);
	expect("unknown-mmio-write", true);
}
