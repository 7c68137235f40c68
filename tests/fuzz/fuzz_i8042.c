/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keyboard controller under any sequence of port accesses and key presses.
 *
 * Input: pairs of bytes (action, value). Checked beside "no crash": the buffer gives at most what it can hold, data is
 * announced exactly when it can be read, a press is refused only for lack of room, a pending key is never forgotten.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/cdefs.h"
#include "vmm/i8042.h"

#define DATA 0
#define COMMAND 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_reset(void *ctx)
{
	(*(uint64_t *)ctx)++;
}

static uint8_t in(struct i8042 *dev, uint64_t port)
{
	uint8_t value = 0;

	i8042_bus_ops.read(dev, port, &value, 1);
	return value;
}

static void act(struct i8042 *dev, uint8_t action, uint8_t value, uint32_t *since_read)
{
	uint8_t wide[8] = { value, value };

	switch (action & 7) {
	case 0:
	case 1:
		i8042_bus_ops.write(dev, DATA, &value, 1);
		break;
	case 2:
	case 3:
		i8042_bus_ops.write(dev, COMMAND, &value, 1);
		break;
	case 4:
		(void)in(dev, DATA);
		*since_read = 0;
		break;
	case 5:
		if (i8042_send_ctrl_alt_del(dev, NULL) == 0)
			must(++*since_read <= I8042_BUFFER_MAX / 4);
		break;
	case 6:
		i8042_bus_ops.write(dev, action >> 3 & 3, wide, 1u << (value & 3));
		i8042_bus_ops.read(dev, action >> 3 & 3, wide, 1u << (value & 3));
		break;
	case 7:
		must((in(dev, COMMAND) & 0x22) == 0);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t keyboard_on[] = { 0xae };
	struct irq_line irq = { .fd = -1 };
	struct i8042 *dev = NULL;
	uint64_t resets = 0;
	struct i8042_stats stats;
	uint32_t since_read = 0, n = 0;
	int rc;

	rc = i8042_create(&dev, &irq, on_reset, &resets, NULL);
	must(rc == 0);
	for (size_t i = 0; i + 1 < size; i += 2)
		act(dev, data[i], data[i + 1], &since_read);
	i8042_bus_ops.write(dev, COMMAND, keyboard_on, 1);
	while (in(dev, COMMAND) & 0x01) {
		(void)in(dev, DATA);
		must(++n <= I8042_BUFFER_MAX + 1);
	}
	rc = i8042_send_ctrl_alt_del(dev, NULL);
	must(rc == 0);
	i8042_get_stats(dev, &stats);
	must(stats.reset_count == resets);
	i8042_destroy(dev);
	return 0;
}
