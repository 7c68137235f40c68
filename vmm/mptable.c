/* SPDX-License-Identifier: Apache-2.0 */
/* The MP table: see mptable.h. Entry layouts: MultiProcessor Specification 1.4, chapter 4. */
#include "vmm/mptable.h"

#include <string.h>

#include "vmm/base/bytes.h"

#define POINTER_LEN 16
#define HEADER_LEN 44
#define PROCESSOR_LEN 20
#define ENTRY_LEN 8 /* all the others */
#define SPEC_1_4 4

enum entry_type { ENTRY_PROCESSOR, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_IO_INTERRUPT, ENTRY_LOCAL_INTERRUPT };
enum interrupt_type { INTERRUPT_INT, INTERRUPT_NMI, INTERRUPT_SMI, INTERRUPT_EXTINT };

#define APIC_VERSION 0x14
#define CPU_ENABLED 1
#define CPU_BOOTSTRAP 2
#define CPU_SIGNATURE 0x600
#define CPU_FEATURES 0x201 /* FPU and APIC on chip */
#define IOAPIC_ENABLED 1
#define ALL_LOCAL_APICS 0xff

_Static_assert(POINTER_LEN + HEADER_LEN + LAYOUT_MAX_VCPUS * PROCESSOR_LEN +
			       (2 + LAYOUT_N_IOAPIC_PINS + 2) * ENTRY_LEN <= LAYOUT_MPTABLE_MAX,
	       "the largest table fits");

static uint8_t checksum(const uint8_t *bytes, size_t len)
{
	uint8_t sum = 0;
	size_t i;

	for (i = 0; i < len; i++)
		sum = (uint8_t)(sum + bytes[i]);
	return (uint8_t)-sum;
}

static uint8_t *put_interrupt(uint8_t *p, enum entry_type type, enum interrupt_type kind, uint8_t irq, uint8_t apic,
			      uint8_t pin)
{
	p[0] = (uint8_t)type;
	p[1] = (uint8_t)kind;
	le16_put(p + 2, 0); /* as the bus has it: for ISA active high and edge */
	p[4] = 0;           /* bus 0 */
	p[5] = irq;
	p[6] = apic;
	p[7] = pin;
	return p + ENTRY_LEN;
}

static uint8_t *put_processors(uint8_t *p, uint32_t n_vcpus)
{
	uint32_t i;

	for (i = 0; i < n_vcpus; i++, p += PROCESSOR_LEN) {
		p[0] = ENTRY_PROCESSOR;
		p[1] = (uint8_t)i; /* APIC id */
		p[2] = APIC_VERSION;
		p[3] = i == 0 ? CPU_ENABLED | CPU_BOOTSTRAP : CPU_ENABLED;
		le32_put(p + 4, CPU_SIGNATURE);
		le32_put(p + 8, CPU_FEATURES);
	}
	return p;
}

size_t mptable_build(uint32_t n_vcpus, uint8_t out[LAYOUT_MPTABLE_MAX])
{
	uint8_t ioapic_id = (uint8_t)(n_vcpus + 1);
	uint8_t *table = out + POINTER_LEN;
	uint8_t *p = table + HEADER_LEN;
	uint16_t n_entries, table_len;
	uint8_t pin;

	must(n_vcpus >= 1 && n_vcpus <= LAYOUT_MAX_VCPUS);
	memset(out, 0, LAYOUT_MPTABLE_MAX);

	p = put_processors(p, n_vcpus);
	p[0] = ENTRY_BUS;
	p[1] = 0;
	memcpy(p + 2, "ISA   ", 6);
	p += ENTRY_LEN;
	p[0] = ENTRY_IOAPIC;
	p[1] = ioapic_id;
	p[2] = APIC_VERSION;
	p[3] = IOAPIC_ENABLED;
	le32_put(p + 4, (uint32_t)LAYOUT_IOAPIC);
	p += ENTRY_LEN;
	for (pin = 0; pin < LAYOUT_N_IOAPIC_PINS; pin++)
		p = put_interrupt(p, ENTRY_IO_INTERRUPT, INTERRUPT_INT, pin, ioapic_id, pin);
	p = put_interrupt(p, ENTRY_LOCAL_INTERRUPT, INTERRUPT_EXTINT, 0, 0, 0);
	p = put_interrupt(p, ENTRY_LOCAL_INTERRUPT, INTERRUPT_NMI, 0, ALL_LOCAL_APICS, 1);

	table_len = (uint16_t)(p - table);
	n_entries = (uint16_t)(n_vcpus + 2 + LAYOUT_N_IOAPIC_PINS + 2);
	memcpy(table, "PCMP", 4);
	le16_put(table + 4, table_len);
	table[6] = SPEC_1_4;
	memcpy(table + 8, "MAYFLY  ", 8);
	memcpy(table + 16, "000000000000", 12);
	le16_put(table + 34, n_entries);
	le32_put(table + 36, (uint32_t)LAYOUT_LAPIC);
	table[7] = checksum(table, table_len);

	memcpy(out, "_MP_", 4);
	le32_put(out + 4, (uint32_t)(LAYOUT_MPTABLE + POINTER_LEN));
	out[8] = POINTER_LEN / 16;
	out[9] = SPEC_1_4;
	out[10] = checksum(out, POINTER_LEN);
	return (size_t)(p - out);
}
