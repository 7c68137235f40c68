/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI power management registers that acpi.h promises: six ports at LAYOUT_ACPI_PM (ACPI 6.5, 4.8.3). Status reads 0,
 * enable and control read back what was written, and the sleep-enable bit turns the microVM off: `poweroff` works.
 *
 * Threads: any vCPU thread; the registers are atomic and independent of each other.
 */
#ifndef MAYFLY_VMM_ACPI_PM_H
#define MAYFLY_VMM_ACPI_PM_H

#include <stdatomic.h>
#include <stdint.h>

#include "vmm/bus.h"

struct acpi_pm {
	void (*off)(void *ctx); /* the guest turned itself off; called in a vCPU thread */
	void *ctx;
	_Atomic uint16_t enable, control; /* zero-initialised */
};

/* For bus_add(); the device is a struct acpi_pm. */
extern const struct bus_ops acpi_pm_bus_ops;

#endif
