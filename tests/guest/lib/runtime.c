/* SPDX-License-Identifier: Apache-2.0 */
#include "guest.h"

#define COM1 0x3f8
#define COM1_LSR (COM1 + 5)
#define LSR_THR_EMPTY 0x20
#define I8042_COMMAND 0x64
#define NOBODYS_PORT 0x80

extern volatile uint64_t msr_fault_expected;

void print(const char *s)
{
	for (; *s; s++) {
		while (!(in8(COM1_LSR) & LSR_THR_EMPTY))
			;
		out8(COM1, (uint8_t)*s);
	}
}

void print_hex(uint64_t v)
{
	char text[19] = "0x";
	size_t n = 2;
	int shift = 60;

	while (shift > 0 && !(v >> shift))
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		text[n++] = "0123456789abcdef"[(v >> shift) & 15];
	text[n] = 0;
	print(text);
}

void expect_eq(const char *name, uint64_t expected, uint64_t got)
{
	print(expected == got ? "ok " : "not ok ");
	print(name);
	if (expected != got) {
		print(" expected ");
		print_hex(expected);
		print(" got ");
		print_hex(got);
	}
	print("\n");
}

void expect(const char *name, bool passed)
{
	expect_eq(name, 1, passed);
}

void guest_end(void)
{
	print("END\n");
	out8(I8042_COMMAND, 0xfe);
	for (;;)
		__asm__ volatile("cli; hlt");
}

void guest_exception(uint64_t vector, uint64_t top, uint64_t next)
{
	print("not ok exception ");
	print_hex(vector);
	print(" stack ");
	print_hex(top);
	print(" ");
	print_hex(next);
	print("\n");
	guest_end();
}

void wait_turns(unsigned n)
{
	while (n--)
		(void)in8(NOBODYS_PORT);
}

bool msr_read(uint32_t msr, uint64_t *value)
{
	uint32_t low = 0, high = 0;

	msr_fault_expected = 1;
	__asm__ volatile("rdmsr" : "+a"(low), "+d"(high) : "c"(msr) : "memory", "rdi", "rsi");
	if (msr_fault_expected == 2) {
		msr_fault_expected = 0;
		return false;
	}
	msr_fault_expected = 0;
	*value = (uint64_t)high << 32 | low;
	return true;
}

void *memset(void *dst, int c, size_t n)
{
	uint8_t *p = dst;

	while (n--)
		*p++ = (uint8_t)c;
	return dst;
}

void *memcpy(void *dst, const void *src, size_t n)
{
	uint8_t *d = dst;
	const uint8_t *s = src;

	while (n--)
		*d++ = *s++;
	return dst;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	for (; n--; x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}
