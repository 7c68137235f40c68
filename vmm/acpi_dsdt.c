/* SPDX-License-Identifier: Apache-2.0 */
/* The devices of the DSDT: see acpi.h. */
#include "vmm/acpi_dsdt.h"

#include "vmm/aml.h"
#include "vmm/boot.h"
#include "vmm/layout.h"

#define NOTIFY_VMGENID_CHANGED 0x80

static void put_com1(struct aml *a)
{
	aml_device_begin(a, "COM1");
	aml_name(a, "_HID");
	aml_eisaid(a, "PNP0501");
	aml_name(a, "_UID");
	aml_integer(a, 0);
	aml_name(a, "_DDN");
	aml_string(a, "COM1");
	aml_name(a, "_CRS");
	aml_resources_begin(a);
	aml_resource_io(a, LAYOUT_COM1, LAYOUT_COM1_SIZE);
	aml_resource_edge_irq(a, LAYOUT_COM1_GSI);
	aml_resources_end(a);
	aml_end(a);
}

/* Without it Linux 5.18 and later does not look for a keyboard controller, and SendCtrlAltDel would go nowhere. */
static void put_keyboard(struct aml *a)
{
	aml_device_begin(a, "PS2_");
	aml_name(a, "_HID");
	aml_eisaid(a, "PNP0303");
	aml_name(a, "_UID");
	aml_integer(a, 0);
	aml_name(a, "_CRS");
	aml_resources_begin(a);
	aml_resource_io(a, LAYOUT_I8042, 1);
	aml_resource_io(a, LAYOUT_I8042 + LAYOUT_I8042_SIZE - 1, 1);
	aml_resource_edge_irq(a, LAYOUT_I8042_GSI);
	aml_resources_end(a);
	aml_end(a);
}

static void put_virtio(struct aml *a, size_t index, const struct boot_virtio *dev)
{
	const char name[5] = {'V', '0', (char)('0' + index / 10), (char)('0' + index % 10), '\0'};

	must(index < 100 && dev->base.v + LAYOUT_VIRTIO_MMIO_SIZE <= UINT32_MAX);
	aml_device_begin(a, name);
	aml_name(a, "_HID");
	aml_string(a, "LNRO0005");
	aml_name(a, "_UID");
	aml_integer(a, index);
	aml_name(a, "_CCA"); /* its memory accesses are coherent with the processors' caches */
	aml_integer(a, 1);
	aml_name(a, "_CRS");
	aml_resources_begin(a);
	aml_resource_memory32(a, (uint32_t)dev->base.v, (uint32_t)LAYOUT_VIRTIO_MMIO_SIZE);
	aml_resource_edge_irq(a, dev->gsi);
	aml_resources_end(a);
	aml_end(a);
}

/* Microsoft, "Virtual Machine Generation ID": the identifiers and ADDR are its; the guest maps the page at ADDR. */
static void put_vmgenid(struct aml *a)
{
	aml_device_begin(a, "VGEN");
	aml_name(a, "_HID");
	aml_string(a, "MFLY0001");
	aml_name(a, "_CID");
	aml_string(a, "VM_Gen_Counter");
	aml_name(a, "_DDN");
	aml_string(a, "VM_Gen_Counter");
	aml_name(a, "ADDR");
	aml_package_begin(a, 2);
	aml_integer(a, LAYOUT_VMGENID & UINT32_MAX);
	aml_integer(a, LAYOUT_VMGENID >> 32);
	aml_end(a);
	aml_end(a);
}

/* The generic event device (ACPI 6.5, 5.6.9): one interrupt, and the method that says what it means. */
static void put_event_device(struct aml *a, uint32_t gsi)
{
	aml_device_begin(a, "GED_");
	aml_name(a, "_HID");
	aml_string(a, "ACPI0013");
	aml_name(a, "_UID");
	aml_integer(a, 0);
	aml_name(a, "_CRS");
	aml_resources_begin(a);
	aml_resource_edge_irq(a, gsi);
	aml_resources_end(a);
	aml_method_begin(a, "_EVT", 1, true);
	aml_if_equal_begin(a, 0, gsi);
	aml_notify(a, "VGEN", NOTIFY_VMGENID_CHANGED);
	aml_end(a);
	aml_end(a);
	aml_end(a);
}

/* S5, soft off: the sleep type is ours to choose; the device looks at the enable bit only. */
static void put_soft_off(struct aml *a)
{
	aml_name(a, "_S5_");
	aml_package_begin(a, 4);
	aml_integer(a, 5);
	aml_integer(a, 5);
	aml_integer(a, 0);
	aml_integer(a, 0);
	aml_end(a);
}

int64_t acpi_dsdt_build(const struct boot_config *config, uint8_t *buf, size_t cap)
{
	struct aml a;
	size_t i;

	must(config->n_virtio <= LAYOUT_MAX_VIRTIO);
	aml_init(&a, buf, cap);
	if (config->has_power_off)
		put_soft_off(&a);
	aml_scope_begin(&a, "_SB_");
	put_com1(&a);
	put_keyboard(&a);
	for (i = 0; i < config->n_virtio; i++)
		put_virtio(&a, i, &config->virtio[i]);
	if (config->has_vmgenid) {
		put_vmgenid(&a);
		put_event_device(&a, config->vmgenid_gsi);
	}
	aml_end(&a);
	return aml_finish(&a);
}
