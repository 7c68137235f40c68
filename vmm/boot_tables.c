/* SPDX-License-Identifier: Apache-2.0 */
/* Everything but the images that a kernel finds in memory at its entry: see boot_write_tables() in boot.h. */
#include "vmm/boot.h"

#include <errno.h>
#include <string.h>

#include "vmm/acpi.h"
#include "vmm/boot_huge.h"
#include "vmm/bootparams.h"
#include "vmm/e820.h"
#include "vmm/mptable.h"
#include "vmm/pvh.h"
#include "vmm/x86/entry.h"

static int no_ram(struct err *e)
{
	return err_set(e, -EFAULT, "The guest's memory does not reach over the first MiB, where the boot tables are");
}

static int write_cmdline(struct gmem *mem, const struct boot_config *config, struct err *e)
{
	size_t len = strlen(config->cmdline);

	must(config->kernel->cmdline_max < LAYOUT_CMDLINE_MAX);
	if (len > config->kernel->cmdline_max)
		return err_set(e, -E2BIG, "The command line has %zu characters; this kernel takes at most %u", len,
			       config->kernel->cmdline_max);
	return gmem_write(mem, GPA(LAYOUT_CMDLINE), config->cmdline, len + 1) < 0 ? no_ram(e) : 0;
}

/*
 * Write the ACPI tables and the generation id. *@rsdp is 0 where the guest is better off without: a kernel whose ACPI
 * can't start without PCI then takes the MP table, which routes more interrupts than its MADT would.
 */
static int write_acpi(struct gmem *mem, const struct boot_config *config, gpa_t *rsdp, struct err *e)
{
	uint8_t tables[LAYOUT_ACPI_MAX];
	uint8_t pointer[ACPI_RSDP_LEN];
	int64_t len;

	*rsdp = GPA(0);
	if (config->kernel->acpi == BOOT_ACPI_NEEDS_PCI)
		return 0;
	len = acpi_build(config, LAYOUT_ACPI, tables, sizeof(tables), pointer);
	must(len > 0); /* the largest set of devices fits: tests/unit/test_acpi.c */
	if (gmem_write(mem, GPA(LAYOUT_ACPI), tables, (uint64_t)len) < 0 ||
	    gmem_write(mem, GPA(LAYOUT_RSDP), pointer, sizeof(pointer)) < 0)
		return no_ram(e);
	if (config->has_vmgenid && gmem_write(mem, GPA(LAYOUT_VMGENID), config->vmgenid, sizeof(config->vmgenid)) < 0)
		return no_ram(e);
	*rsdp = GPA(LAYOUT_RSDP);
	return 0;
}

static int write_mptable(struct gmem *mem, const struct boot_config *config, struct err *e)
{
	uint8_t table[LAYOUT_MPTABLE_MAX];
	size_t len = mptable_build(config->n_vcpus, table);

	return gmem_write(mem, GPA(LAYOUT_MPTABLE), table, len) < 0 ? no_ram(e) : 0;
}

/* What the entry of the kernel's protocol is given: its information block, and the tables its registers point to. */
static int write_entry(struct gmem *mem, const struct boot_config *config, gpa_t rsdp, struct err *e)
{
	struct e820_map map;
	uint8_t params[BOOTPARAMS_LEN];
	int rc = 0;

	e820_build(mem, &map);
	switch (config->kernel->protocol) {
	case BOOT_PROTOCOL_PVH:
		rc = pvh_write_start_info(mem, &map, config->initrd, rsdp);
		if (rc == 0)
			rc = entry_write_tables_pvh(mem);
		break;
	case BOOT_PROTOCOL_LINUX64:
		bootparams_build(config->kernel, &map, config->initrd, strlen(config->cmdline), rsdp, params);
		rc = gmem_write(mem, GPA(LAYOUT_ZERO_PAGE), params, sizeof(params));
		if (rc == 0)
			rc = entry_write_tables_64(mem);
		break;
	}
	return rc < 0 ? no_ram(e) : 0;
}

/* Ask for huge pages for Linux's page array, now that it is known where the initrd lies. */
static void advise_page_array(struct gmem *mem, const struct boot_initrd *initrd)
{
	const struct boot_huge_rule rule = {.page_array = boot_huge_default.page_array};
	struct boot_range occupied = {0};
	struct boot_huge_plan huge;

	if (initrd)
		occupied = (struct boot_range){.base = initrd->base, .len = initrd->len};
	boot_huge_plan(mem, &rule, NULL, 0, &occupied, &huge);
	boot_huge_apply(&huge, mem);
}

int boot_write_tables(struct gmem *mem, const struct boot_config *config, struct err *e)
{
	gpa_t rsdp;
	int rc;

	must(config->n_vcpus >= 1 && config->n_vcpus <= LAYOUT_MAX_VCPUS && config->n_virtio <= LAYOUT_MAX_VIRTIO);
	if (mem->region[0].size <= LAYOUT_HIGH_MEMORY)
		return no_ram(e);
	rc = write_cmdline(mem, config, e);
	if (rc == 0)
		rc = write_mptable(mem, config, e);
	if (rc == 0)
		rc = write_acpi(mem, config, &rsdp, e);
	if (rc == 0)
		rc = write_entry(mem, config, rsdp, e);
	if (rc == 0)
		advise_page_array(mem, config->initrd);
	return rc;
}
