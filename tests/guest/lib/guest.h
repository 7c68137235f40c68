/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a test guest may use: ports, the serial port, results. A guest is guest_main(); when it returns, the machine is
 * reset. Results go out as lines that tests/guest/run reads: "ok NAME", "not ok NAME expected ... got ...", at last "END".
 */
#ifndef MAYFLY_TEST_GUEST_H
#define MAYFLY_TEST_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void guest_main(void);

/* Print "END" and reset the machine through the i8042. */
__attribute__((noreturn)) void guest_end(void);

/* Called by the exception handlers: report and end. */
__attribute__((noreturn)) void guest_exception(uint64_t vector, uint64_t top, uint64_t next);

void print(const char *s);
void print_hex(uint64_t v);

/* One result: passes when both are equal, else prints both. */
void expect_eq(const char *name, uint64_t expected, uint64_t got);
void expect(const char *name, bool passed);

void *memset(void *dst, int c, size_t n);
void *memcpy(void *dst, const void *src, size_t n);
int memcmp(const void *a, const void *b, size_t n);

/* About @n turns through the monitor (reads of a port that nobody owns), for waiting without a clock. */
void wait_turns(unsigned n);

/* Read @msr; false when that faults. */
bool msr_read(uint32_t msr, uint64_t *value);

static inline void out8(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline void out32(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline uint32_t in32(uint16_t port)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
}

static inline uint32_t read32(uint64_t addr)
{
	uint32_t v;

	__asm__ volatile("movl (%1), %0" : "=r"(v) : "r"(addr) : "memory");
	return v;
}

static inline void write32(uint64_t addr, uint32_t v)
{
	__asm__ volatile("movl %0, (%1)" : : "r"(v), "r"(addr) : "memory");
}

#endif
