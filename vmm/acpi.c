/* SPDX-License-Identifier: Apache-2.0 */
/* The static ACPI tables: see acpi.h. Field offsets: ACPI 6.5, chapter 5.2. */
#include "vmm/acpi.h"

#include <errno.h>
#include <string.h>

#include "vmm/acpi_dsdt.h"
#include "vmm/base/bytes.h"
#include "vmm/boot.h"
#include "vmm/layout.h"

#define OEM_ID "MAYFLY"
#define OEM_TABLE_ID "MAYFLYVM"
#define CREATOR_ID "MFLY"
#define HYPERVISOR_ID "MAYFLYVM"

#define HEADER_LEN 36
#define FACS_LEN 64
#define FADT_LEN 276
#define MADT_FIXED_LEN 44
#define LAPIC_LEN 8
#define IOAPIC_LEN 12
#define OVERRIDE_LEN 10
#define NMI_LEN 6
#define XSDT_N_TABLES 2
#define TABLE_ALIGN 64 /* FACS needs it; the others don't mind */

/* FADT. */
#define FADT_FACS 36
#define FADT_DSDT 40
#define FADT_SCI 46
#define FADT_PM1_EVENT 56
#define FADT_PM1_CONTROL 64
#define FADT_PM1_EVENT_LEN 88
#define FADT_PM1_CONTROL_LEN 89
#define FADT_C2_LATENCY 96
#define FADT_C3_LATENCY 98
#define FADT_BOOT_ARCH 109
#define FADT_FLAGS 112
#define FADT_RESET 116
#define FADT_RESET_VALUE 128
#define FADT_MINOR 131
#define FADT_X_DSDT 140
#define FADT_X_PM1_EVENT 148
#define FADT_X_PM1_CONTROL 172
#define FADT_HYPERVISOR_ID 268

#define BOOT_LEGACY_DEVICES (1 << 0)
#define BOOT_8042 (1 << 1)
#define BOOT_NO_VGA (1 << 2)
#define BOOT_NO_MSI (1 << 3)
#define BOOT_NO_CMOS_RTC (1 << 5)

#define FLAG_WBINVD (1 << 0)
#define FLAG_PROC_C1 (1 << 2)
#define FLAG_PWR_BUTTON (1 << 4) /* set: no fixed power button */
#define FLAG_SLP_BUTTON (1 << 5)
#define FLAG_FIX_RTC (1 << 6)
#define FLAG_RESET_REG (1 << 10)

#define NO_C2 101   /* latencies above 100 and 1000 us: the state does not exist */
#define NO_C3 1001
#define SPACE_IO 1
#define ACCESS_BYTE 1
#define ACCESS_WORD 2

/* MADT. */
#define MADT_PCAT_COMPAT 1 /* a pair of 8259 is there too */
#define LAPIC_ENABLED 1
#define MPS_LEVEL_HIGH 0x000d
#define ALL_PROCESSORS 0xff

/* A buffer that tables are put into one behind the other; @len is always a multiple of TABLE_ALIGN. */
struct area {
	uint8_t *buf;
	size_t cap, len;
	uint64_t base; /* guest address of buf */
	bool full;
};

static uint8_t checksum(const uint8_t *bytes, size_t len)
{
	uint8_t sum = 0;
	size_t i;

	for (i = 0; i < len; i++)
		sum = (uint8_t)(sum + bytes[i]);
	return (uint8_t)-sum;
}

/* Take @len zeroed bytes; *@gpa is where the guest will see them. NULL when the area is full. */
static uint8_t *take(struct area *area, size_t len, uint64_t *gpa)
{
	size_t rounded = (len + TABLE_ALIGN - 1) & ~(size_t)(TABLE_ALIGN - 1);
	uint8_t *table = area->buf + area->len;

	if (area->full || rounded < len || rounded > area->cap - area->len) {
		area->full = true;
		return NULL;
	}
	memset(table, 0, rounded);
	*gpa = area->base + area->len;
	area->len += rounded;
	return table;
}

/* Fill in the common header of the finished @table. */
static void seal(uint8_t *table, const char signature[4], size_t len, uint8_t revision)
{
	memcpy(table, signature, 4);
	le32_put(table + 4, (uint32_t)len);
	table[8] = revision;
	table[9] = 0;
	memcpy(table + 10, OEM_ID, 6);
	memcpy(table + 16, OEM_TABLE_ID, 8);
	le32_put(table + 24, 1);
	memcpy(table + 28, CREATOR_ID, 4);
	le32_put(table + 32, 1);
	table[9] = checksum(table, len);
}

/* A generic address structure for @bits of I/O port @port. */
static void put_port(uint8_t *gas, uint16_t port, uint8_t bits, uint8_t access)
{
	gas[0] = SPACE_IO;
	gas[1] = bits;
	gas[2] = 0;
	gas[3] = access;
	le64_put(gas + 4, port);
}

static uint64_t put_facs(struct area *area)
{
	uint64_t gpa = 0;
	uint8_t *facs = take(area, FACS_LEN, &gpa);

	if (!facs)
		return 0;
	memcpy(facs, "FACS", 4);
	le32_put(facs + 4, FACS_LEN);
	facs[32] = 2; /* version */
	return gpa;
}

static uint64_t put_dsdt(struct area *area, const struct boot_config *config)
{
	uint64_t gpa = 0;
	uint8_t *dsdt;
	int64_t body = -E2BIG;

	/* The AML goes to its final place first: its length is known only then. */
	if (!area->full && area->cap - area->len > HEADER_LEN)
		body = acpi_dsdt_build(config, area->buf + area->len + HEADER_LEN, area->cap - area->len - HEADER_LEN);
	if (body < 0) {
		area->full = true;
		return 0;
	}
	gpa = area->base + area->len;
	dsdt = area->buf + area->len;
	area->len += ((size_t)body + HEADER_LEN + TABLE_ALIGN - 1) & ~(size_t)(TABLE_ALIGN - 1);
	if (area->len > area->cap) {
		area->full = true;
		return 0;
	}
	seal(dsdt, "DSDT", (size_t)body + HEADER_LEN, 2); /* 2: integers have 64 bits */
	return gpa;
}

static uint64_t put_fadt(struct area *area, uint64_t facs, uint64_t dsdt)
{
	uint64_t gpa = 0;
	uint8_t *fadt = take(area, FADT_LEN, &gpa);

	if (!fadt)
		return 0;
	le32_put(fadt + FADT_FACS, (uint32_t)facs);
	le32_put(fadt + FADT_DSDT, (uint32_t)dsdt);
	le64_put(fadt + FADT_X_DSDT, dsdt);
	le16_put(fadt + FADT_SCI, LAYOUT_ACPI_SCI_GSI);
	le32_put(fadt + FADT_PM1_EVENT, LAYOUT_ACPI_PM + ACPI_PM_STATUS);
	le32_put(fadt + FADT_PM1_CONTROL, LAYOUT_ACPI_PM + ACPI_PM_CONTROL);
	fadt[FADT_PM1_EVENT_LEN] = 4;
	fadt[FADT_PM1_CONTROL_LEN] = 2;
	put_port(fadt + FADT_X_PM1_EVENT, LAYOUT_ACPI_PM + ACPI_PM_STATUS, 32, ACCESS_WORD);
	put_port(fadt + FADT_X_PM1_CONTROL, LAYOUT_ACPI_PM + ACPI_PM_CONTROL, 16, ACCESS_WORD);
	le16_put(fadt + FADT_C2_LATENCY, NO_C2);
	le16_put(fadt + FADT_C3_LATENCY, NO_C3);
	le16_put(fadt + FADT_BOOT_ARCH,
		 BOOT_LEGACY_DEVICES | BOOT_8042 | BOOT_NO_VGA | BOOT_NO_MSI | BOOT_NO_CMOS_RTC);
	le32_put(fadt + FADT_FLAGS, FLAG_WBINVD | FLAG_PROC_C1 | FLAG_PWR_BUTTON | FLAG_SLP_BUTTON | FLAG_FIX_RTC |
					    FLAG_RESET_REG);
	put_port(fadt + FADT_RESET, LAYOUT_I8042 + LAYOUT_I8042_SIZE - 1, 8, ACCESS_BYTE);
	fadt[FADT_RESET_VALUE] = 0xfe;
	fadt[FADT_MINOR] = 5;
	memcpy(fadt + FADT_HYPERVISOR_ID, HYPERVISOR_ID, 8);
	seal(fadt, "FACP", FADT_LEN, 6);
	return gpa;
}

static uint64_t put_madt(struct area *area, uint32_t n_vcpus)
{
	size_t len = MADT_FIXED_LEN + n_vcpus * LAPIC_LEN + IOAPIC_LEN + OVERRIDE_LEN + NMI_LEN;
	uint64_t gpa = 0;
	uint8_t *madt = take(area, len, &gpa);
	uint8_t *p;
	uint32_t i;

	if (!madt)
		return 0;
	le32_put(madt + 36, (uint32_t)LAYOUT_LAPIC);
	le32_put(madt + 40, MADT_PCAT_COMPAT);
	p = madt + MADT_FIXED_LEN;
	for (i = 0; i < n_vcpus; i++, p += LAPIC_LEN) {
		p[0] = 0;
		p[1] = LAPIC_LEN;
		p[2] = (uint8_t)i; /* processor UID */
		p[3] = (uint8_t)i; /* APIC id */
		le32_put(p + 4, LAPIC_ENABLED);
	}
	p[0] = 1;
	p[1] = IOAPIC_LEN;
	p[2] = 0; /* KVM's I/O APIC comes up with id 0 */
	le32_put(p + 4, (uint32_t)LAYOUT_IOAPIC);
	le32_put(p + 8, 0); /* its first GSI */
	p += IOAPIC_LEN;

	/* The ISA lines are identity-mapped and edge-triggered by default; only the SCI is not. */
	p[0] = 2;
	p[1] = OVERRIDE_LEN;
	p[2] = 0; /* ISA */
	p[3] = LAYOUT_ACPI_SCI_GSI;
	le32_put(p + 4, LAYOUT_ACPI_SCI_GSI);
	le16_put(p + 8, MPS_LEVEL_HIGH);
	p += OVERRIDE_LEN;

	p[0] = 4; /* NMI at LINT1 of every processor, as in the MP table */
	p[1] = NMI_LEN;
	p[2] = ALL_PROCESSORS;
	p[5] = 1;
	p += NMI_LEN;
	must((size_t)(p - madt) == len);
	seal(madt, "APIC", len, 5);
	return gpa;
}

int64_t acpi_build(const struct boot_config *config, uint64_t base, uint8_t *buf, size_t cap,
		   uint8_t rsdp[ACPI_RSDP_LEN])
{
	struct area area = {.buf = buf, .cap = cap & ~(size_t)(TABLE_ALIGN - 1), .base = base};
	uint64_t facs, dsdt, fadt, madt, xsdt = 0;
	uint8_t *table;

	must(base % TABLE_ALIGN == 0 && base + cap <= UINT32_MAX);
	must(config->n_vcpus >= 1 && config->n_vcpus <= LAYOUT_MAX_VCPUS);
	facs = put_facs(&area);
	dsdt = put_dsdt(&area, config);
	fadt = put_fadt(&area, facs, dsdt);
	madt = put_madt(&area, config->n_vcpus);
	table = take(&area, HEADER_LEN + XSDT_N_TABLES * 8, &xsdt);
	if (!table)
		return -E2BIG;
	le64_put(table + HEADER_LEN, fadt);
	le64_put(table + HEADER_LEN + 8, madt);
	seal(table, "XSDT", HEADER_LEN + XSDT_N_TABLES * 8, 1);

	memset(rsdp, 0, ACPI_RSDP_LEN);
	memcpy(rsdp, "RSD PTR ", 8);
	memcpy(rsdp + 9, OEM_ID, 6);
	rsdp[15] = 2;
	le32_put(rsdp + 20, ACPI_RSDP_LEN);
	le64_put(rsdp + 24, xsdt);
	rsdp[8] = checksum(rsdp, 20);
	rsdp[32] = checksum(rsdp, ACPI_RSDP_LEN);
	return (int64_t)area.len;
}
