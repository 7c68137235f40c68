/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables: read back as a guest reads them, and one small DSDT byte for byte: the bytes that iasl
 * (acpica-tools 20200925) makes of the source that the comment above them abbreviates.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/acpi.h"
#include "vmm/acpi_dsdt.h"
#include "vmm/aml.h"
#include "vmm/base/bytes.h"
#include "vmm/boot.h"
#include "vmm/layout.h"

#define BASE LAYOUT_ACPI

struct tables {
	uint8_t buf[LAYOUT_ACPI_MAX];
	uint8_t rsdp[ACPI_RSDP_LEN];
	int64_t len;
};

static uint8_t sum(const uint8_t *bytes, size_t len)
{
	unsigned int s = 0;

	while (len-- > 0)
		s += *bytes++;
	return (uint8_t)s;
}

static struct boot_config make_config(uint32_t n_vcpus, size_t n_virtio)
{
	struct boot_config config = {.n_vcpus = n_vcpus, .n_virtio = n_virtio};
	size_t i;

	for (i = 0; i < n_virtio; i++) {
		config.virtio[i].base = GPA(LAYOUT_VIRTIO_MMIO + i * LAYOUT_VIRTIO_MMIO_SIZE);
		config.virtio[i].gsi = (uint32_t)(LAYOUT_GSI_FIRST + i);
	}
	return config;
}

static void build(const struct boot_config *config, struct tables *t)
{
	memset(t, 0xa5, sizeof(*t));
	t->len = acpi_build(config, BASE, t->buf, sizeof(t->buf), t->rsdp);
	assert_true(t->len > 0);
}

/* The table at guest address @gpa, with its checksum verified. */
static const uint8_t *table_at(const struct tables *t, uint64_t gpa, const char *signature)
{
	const uint8_t *p;

	assert_true(gpa >= BASE && gpa + 36 <= BASE + (uint64_t)t->len);
	p = t->buf + (gpa - BASE);
	assert_memory_equal(p, signature, 4);
	assert_true(gpa + le32_get(p + 4) <= BASE + (uint64_t)t->len);
	if (memcmp(signature, "FACS", 4) != 0) {
		assert_int_equal(sum(p, le32_get(p + 4)), 0);
		assert_memory_equal(p + 10, "MAYFLY", 6);
	}
	return p;
}

static void chain(void **state)
{
	static const uint32_t n_vcpus[] = {1, 2, LAYOUT_MAX_VCPUS};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(n_vcpus); i++) {
		struct boot_config config = make_config(n_vcpus[i], 3);
		const uint8_t *xsdt, *fadt, *facs;
		struct tables t;

		build(&config, &t);
		assert_memory_equal(t.rsdp, "RSD PTR ", 8);
		assert_int_equal(t.rsdp[15], 2);
		assert_int_equal(sum(t.rsdp, 20), 0);
		assert_int_equal(sum(t.rsdp, 36), 0);
		xsdt = table_at(&t, le64_get(t.rsdp + 24), "XSDT");
		assert_int_equal(le32_get(xsdt + 4), 36 + 16);
		fadt = table_at(&t, le64_get(xsdt + 36), "FACP");
		assert_int_equal(le32_get(fadt + 4), 276);
		table_at(&t, le64_get(xsdt + 44), "APIC");
		table_at(&t, le64_get(fadt + 140), "DSDT");
		assert_int_equal(le32_get(fadt + 40), le64_get(fadt + 140));
		facs = table_at(&t, le32_get(fadt + 36), "FACS");
		assert_int_equal(le32_get(fadt + 36) % 64, 0);
		assert_int_equal(le32_get(facs + 4), 64);
	}
}

static void fadt_registers(void **state)
{
	struct boot_config config = make_config(1, 0);
	const uint8_t *fadt;
	struct tables t;

	(void)state;
	build(&config, &t);
	fadt = table_at(&t, le64_get(t.buf + (le64_get(t.rsdp + 24) - BASE) + 36), "FACP");
	assert_int_equal(le16_get(fadt + 46), 3);            /* SCI */
	assert_int_equal(le32_get(fadt + 48), 0);            /* no SMI command: always in ACPI mode */
	assert_int_equal(le32_get(fadt + 56), 0x600);        /* PM1a event */
	assert_int_equal(le32_get(fadt + 64), 0x604);        /* PM1a control */
	assert_int_equal(fadt[88], 4);
	assert_int_equal(fadt[89], 2);
	assert_memory_equal(fadt + 148, "\x01\x20\x00\x02\x00\x06\0\0\0\0\0\0", 12);
	assert_memory_equal(fadt + 172, "\x01\x10\x00\x02\x04\x06\0\0\0\0\0\0", 12);
	assert_int_equal(le32_get(fadt + 112) & 1u << 20, 0); /* not hardware-reduced: see acpi.h */
	assert_int_equal(le32_get(fadt + 112) & 1u << 10, 1u << 10);
	assert_memory_equal(fadt + 116, "\x01\x08\x00\x01\x64\0\0\0\0\0\0\0", 12);
	assert_int_equal(fadt[128], 0xfe);
	assert_int_equal(le16_get(fadt + 109), 0x2f);
}

static void madt_entries(void **state)
{
	uint32_t n_vcpus;

	(void)state;
	for (n_vcpus = 1; n_vcpus <= LAYOUT_MAX_VCPUS; n_vcpus++) {
		struct boot_config config = make_config(n_vcpus, 0);
		unsigned int n[5] = {0};
		const uint8_t *p, *end;
		struct tables t;

		build(&config, &t);
		p = table_at(&t, le64_get(t.buf + (le64_get(t.rsdp + 24) - BASE) + 44), "APIC");
		assert_int_equal(le32_get(p + 36), 0xfee00000);
		end = p + le32_get(p + 4);
		for (p += 44; p < end; p += p[1]) {
			assert_true(p[0] < 5 && p[1] >= 6);
			if (p[0] == 0) {
				assert_int_equal(p[2], n[0]);
				assert_int_equal(p[3], n[0]);
				assert_int_equal(le32_get(p + 4), 1);
			} else if (p[0] == 1) {
				assert_int_equal(le32_get(p + 4), 0xfec00000);
				assert_int_equal(le32_get(p + 8), 0);
			}
			n[p[0]]++;
		}
		assert_ptr_equal(p, end);
		assert_int_equal(n[0], n_vcpus);
		assert_int_equal(n[1], 1);
		assert_int_equal(n[2], 1);
		assert_int_equal(n[4], 1);
	}
}

/* The largest machine fits; a buffer one alignment step too small gives -E2BIG and no byte beyond it. */
static void sizes(void **state)
{
	struct boot_config config = make_config(LAYOUT_MAX_VCPUS, LAYOUT_MAX_VIRTIO);
	uint8_t rsdp[ACPI_RSDP_LEN];
	struct tables t;
	size_t cap;

	(void)state;
	config.has_vmgenid = true;
	config.vmgenid_gsi = LAYOUT_GSI_LAST;
	config.has_power_off = true;
	build(&config, &t);
	assert_true(t.len <= (int64_t)LAYOUT_ACPI_MAX);
	for (cap = 0; cap < (size_t)t.len; cap += 17) {
		uint8_t *exact = malloc(cap + 1);

		assert_int_equal(acpi_build(&config, BASE, exact, cap, rsdp), -E2BIG);
		free(exact);
	}
	assert_int_equal(acpi_build(&config, BASE, t.buf, (size_t)t.len, rsdp), t.len);
}

static bool contains(const uint8_t *haystack, size_t len, const char *needle, size_t needle_len)
{
	return memmem(haystack, len, needle, needle_len) != NULL;
}

static void options(void **state)
{
	struct boot_config config = make_config(1, 1);
	uint8_t body[4096];
	int64_t len = acpi_dsdt_build(&config, body, sizeof(body));

	(void)state;
	assert_true(len > 0);
	assert_false(contains(body, (size_t)len, "_S5_", 4));
	assert_false(contains(body, (size_t)len, "VGEN", 4));
	assert_false(contains(body, (size_t)len, "ACPI0013", 8));
	config.has_power_off = true;
	config.has_vmgenid = true;
	config.vmgenid_gsi = 22;
	len = acpi_dsdt_build(&config, body, sizeof(body));
	assert_true(contains(body, (size_t)len, "\x08_S5_\x12\x08\x04\x0a\x05\x0a\x05\x00\x00", 14));
	assert_true(contains(body, (size_t)len, "VM_Gen_Counter", 15));
	/* ADDR: Package {0x000df000, 0} */
	assert_true(contains(body, (size_t)len, "\x08" "ADDR\x12\x08\x02\x0c\x00\xf0\x0d\x00\x00", 14));
	/* If (Arg0 == 0x16) { Notify (VGEN, 0x80) } */
	assert_true(contains(body, (size_t)len, "\xa0\x0c\x93\x68\x0a\x16\x86VGEN\x0a\x80", 13));
}

/*
 * Scope (_SB) {
 *   Device (COM1) { _HID PNP0501, _UID 0, _DDN "COM1", _CRS: IO 0x3f8 8, interrupt edge high 4 }
 *   Device (PS2) { _HID PNP0303, _UID 0, _CRS: IO 0x60 1, IO 0x64 1, interrupt edge high 1 }
 *   Device (V000) { _HID "LNRO0005", _UID 0, _CCA 1, _CRS: memory 0xc0001000 0x1000, interrupt edge high 5 } }
 */
static const uint8_t golden_dsdt[] = {
	0x10, 0x42, 0x0c, 0x5f, 0x53, 0x42, 0x5f, 0x5b, 0x82, 0x3c, 0x43, 0x4f, 0x4d, 0x31, 0x08, 0x5f,
	0x48, 0x49, 0x44, 0x0c, 0x41, 0xd0, 0x05, 0x01, 0x08, 0x5f, 0x55, 0x49, 0x44, 0x00, 0x08, 0x5f,
	0x44, 0x44, 0x4e, 0x0d, 0x43, 0x4f, 0x4d, 0x31, 0x00, 0x08, 0x5f, 0x43, 0x52, 0x53, 0x11, 0x16,
	0x0a, 0x13, 0x47, 0x01, 0xf8, 0x03, 0xf8, 0x03, 0x01, 0x08, 0x89, 0x06, 0x00, 0x03, 0x01, 0x04,
	0x00, 0x00, 0x00, 0x79, 0x00, 0x5b, 0x82, 0x39, 0x50, 0x53, 0x32, 0x5f, 0x08, 0x5f, 0x48, 0x49,
	0x44, 0x0c, 0x41, 0xd0, 0x03, 0x03, 0x08, 0x5f, 0x55, 0x49, 0x44, 0x00, 0x08, 0x5f, 0x43, 0x52,
	0x53, 0x11, 0x1e, 0x0a, 0x1b, 0x47, 0x01, 0x60, 0x00, 0x60, 0x00, 0x01, 0x01, 0x47, 0x01, 0x64,
	0x00, 0x64, 0x00, 0x01, 0x01, 0x89, 0x06, 0x00, 0x03, 0x01, 0x01, 0x00, 0x00, 0x00, 0x79, 0x00,
	0x5b, 0x82, 0x41, 0x04, 0x56, 0x30, 0x30, 0x30, 0x08, 0x5f, 0x48, 0x49, 0x44, 0x0d, 0x4c, 0x4e,
	0x52, 0x4f, 0x30, 0x30, 0x30, 0x35, 0x00, 0x08, 0x5f, 0x55, 0x49, 0x44, 0x00, 0x08, 0x5f, 0x43,
	0x43, 0x41, 0x01, 0x08, 0x5f, 0x43, 0x52, 0x53, 0x11, 0x1a, 0x0a, 0x17, 0x86, 0x09, 0x00, 0x01,
	0x00, 0x10, 0x00, 0xc0, 0x00, 0x10, 0x00, 0x00, 0x89, 0x06, 0x00, 0x03, 0x01, 0x05, 0x00, 0x00,
	0x00, 0x79, 0x00,
};

static void golden(void **state)
{
	struct boot_config config = make_config(1, 1);
	uint8_t body[1024];
	int64_t len = acpi_dsdt_build(&config, body, sizeof(body));

	(void)state;
	assert_int_equal(len, sizeof(golden_dsdt));
	assert_memory_equal(body, golden_dsdt, sizeof(golden_dsdt));
}

/*
 * ---- the AML writer ---------------------------------------------------------------------------------------------
 */

static void aml_integers(void **state)
{
	static const struct {
		uint64_t value;
		const char *want;
		size_t len;
	} table[] = {
		{0, "\x00", 1},
		{1, "\x01", 1},
		{2, "\x0a\x02", 2},
		{0xff, "\x0a\xff", 2},
		{0x100, "\x0b\x00\x01", 3},
		{0xffff, "\x0b\xff\xff", 3},
		{0x10000, "\x0c\x00\x00\x01\x00", 5},
		{UINT64_C(0x100000000), "\x0e\x00\x00\x00\x00\x01\x00\x00\x00", 9},
	};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		uint8_t buf[16];
		struct aml a;

		aml_init(&a, buf, sizeof(buf));
		aml_integer(&a, table[i].value);
		assert_int_equal(aml_finish(&a), table[i].len);
		assert_memory_equal(buf, table[i].want, table[i].len);
	}
}

/* The three encodings of a package length, each at its borders. */
static void aml_lengths(void **state)
{
	static const struct {
		size_t contents; /* with the name's 4 bytes */
		const char *want;
		size_t n;
	} table[] = {
		{4, "\x05", 1},
		{62, "\x3f", 1},
		{63, "\x41\x04", 2},
		{0xffd, "\x4f\xff", 2},
		{0xffe, "\x81\x00\x01", 3},
		{0x8000, "\x83\x00\x08", 3},
	};
	static const uint8_t filler[0x8000];
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		uint8_t *buf = malloc(0x9000);
		struct aml a;

		aml_init(&a, buf, 0x9000);
		aml_scope_begin(&a, "_SB_");
		aml_bytes(&a, filler, table[i].contents - 4);
		aml_end(&a);
		assert_int_equal(aml_finish(&a), 1 + table[i].n + table[i].contents);
		assert_memory_equal(buf + 1, table[i].want, table[i].n);
		assert_memory_equal(buf + 1 + table[i].n, "_SB_", 4);
		free(buf);
	}
}

static void aml_eisa(void **state)
{
	uint8_t buf[8];
	struct aml a;

	(void)state;
	aml_init(&a, buf, sizeof(buf));
	aml_eisaid(&a, "PNP0501");
	assert_int_equal(aml_finish(&a), 5);
	assert_memory_equal(buf, "\x0c\x41\xd0\x05\x01", 5);
}

static void aml_failures(void **state)
{
	uint8_t buf[256];
	struct aml a;
	int i;

	(void)state;
	aml_init(&a, buf, 3);
	aml_integer(&a, 0x12345678);
	aml_integer(&a, 0); /* would fit, but nothing follows a failure */
	assert_int_equal(aml_finish(&a), -E2BIG);
	aml_init(&a, buf, sizeof(buf));
	aml_scope_begin(&a, "_SB_");
	assert_int_equal(aml_finish(&a), -E2BIG); /* still open */
	aml_init(&a, buf, sizeof(buf));
	for (i = 0; i <= AML_MAX_DEPTH; i++)
		aml_package_begin(&a, 1);
	for (i = 0; i <= AML_MAX_DEPTH; i++)
		aml_end(&a);
	assert_int_equal(aml_finish(&a), -E2BIG);
	aml_init(&a, buf, 6); /* the contents fit, the length does not */
	aml_scope_begin(&a, "_SB_");
	aml_integer(&a, 0);
	aml_end(&a);
	assert_int_equal(aml_finish(&a), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chain),
		cmocka_unit_test(fadt_registers),
		cmocka_unit_test(madt_entries),
		cmocka_unit_test(sizes),
		cmocka_unit_test(options),
		cmocka_unit_test(golden),
		cmocka_unit_test(aml_integers),
		cmocka_unit_test(aml_lengths),
		cmocka_unit_test(aml_eisa),
		cmocka_unit_test(aml_failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
