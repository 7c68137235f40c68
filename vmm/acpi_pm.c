/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi_pm.h"

#include <string.h>

#include "vmm/acpi.h"
#include "vmm/base/bytes.h"

static void acpi_pm_read(void *dev, uint64_t off, void *data, uint32_t len)
{
	const struct acpi_pm *pm = dev;

	memset(data, 0, len);
	if (len != sizeof(uint16_t))
		return;
	if (off == ACPI_PM_ENABLE)
		le16_put(data, atomic_load(&pm->enable));
	else if (off == ACPI_PM_CONTROL)
		le16_put(data, atomic_load(&pm->control));
}

static void acpi_pm_write(void *dev, uint64_t off, const void *data, uint32_t len)
{
	struct acpi_pm *pm = dev;
	uint16_t value;

	if (len != sizeof(uint16_t))
		return;
	value = le16_get(data);
	if (off == ACPI_PM_ENABLE) {
		atomic_store(&pm->enable, value);
	} else if (off == ACPI_PM_CONTROL) {
		atomic_store(&pm->control, (uint16_t)(value & ~ACPI_PM_SLEEP_ENABLE)); /* the bit is write-only */
		if (value & ACPI_PM_SLEEP_ENABLE)
			pm->off(pm->ctx);
	}
}

const struct bus_ops acpi_pm_bus_ops = {.read = acpi_pm_read, .write = acpi_pm_write};
