/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boottimer.h"

#include <string.h>
#include <time.h>

#include "vmm/base/log.h"

static uint64_t clock_us(clockid_t clock)
{
	struct timespec ts;

	(void)clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void boottimer_read(void *dev, uint64_t off, void *data, uint32_t len)
{
	(void)dev;
	(void)off;
	memset(data, 0, len);
}

static void boottimer_write(void *dev, uint64_t off, const void *data, uint32_t len)
{
	const struct boottimer *timer = dev;
	unsigned long long us, cpu_us;

	if (off != 0 || len != 1 || *(const uint8_t *)data != BOOTTIMER_MAGIC)
		return;
	us = clock_us(CLOCK_MONOTONIC) - timer->start_us;
	cpu_us = clock_us(CLOCK_PROCESS_CPUTIME_ID) - timer->start_cpu_us;
	log_guest(LOG_INFO, "Guest-boot-time = %6llu us %llu ms, %6llu CPU us %llu CPU ms", us, us / 1000, cpu_us,
		  cpu_us / 1000);
}

const struct bus_ops boottimer_bus_ops = { .read = boottimer_read, .write = boottimer_write };
