/* SPDX-License-Identifier: Apache-2.0 */
/*
 * COM1 under any sequence of register accesses, input and output that comes and goes, turns of the loop, and coalescing.
 *
 * Input: pairs of bytes (action, value). Checked beside "no crash": at most SERIAL_TX_MAX bytes wait; every byte that was
 * transmitted is either read from the output, in order, or counted as missed; each access sees the registers of a 16550A.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/cdefs.h"
#include "vmm/serial_impl.h"

#define RING_ENTRIES 170

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bench {
	struct evloop *loop;
	struct irq_line irq;
	struct serial *serial;
	int in[2], out[2];
	bool collecting;
	uint64_t received;
	struct kvm_coalesced_mmio_ring *ring;
	uint64_t ring_page[512];
};

static int fake_set(void *ctx, uint16_t port, bool on)
{
	struct bench *b = ctx;

	must(port == 0x3f8 && on != b->collecting);
	b->collecting = on;
	return 0;
}

static void reg_write(struct bench *b, uint32_t reg, uint8_t value)
{
	uint32_t next = (b->ring->last + 1) % RING_ENTRIES;

	if (reg == REG_DATA && b->collecting && next != b->ring->first) {
		b->ring->coalesced_mmio[b->ring->last].len = 1;
		b->ring->coalesced_mmio[b->ring->last].data[0] = value;
		b->ring->last = next;
		return;
	}
	serial_bus_ops.write(b->serial, reg, &value, 1);
}

static uint8_t reg_read(struct bench *b, uint32_t reg)
{
	uint8_t value = 0;

	serial_bus_ops.read(b->serial, reg, &value, 1);
	return value;
}

static void read_output(struct bench *b)
{
	uint8_t buf[4096];
	ssize_t n = read(b->out[0], buf, sizeof(buf));

	if (n > 0)
		b->received += (uint64_t)n;
}

/* Linux's console in short: enough polled bytes to begin coalescing. */
static void console_line(struct bench *b, uint8_t len)
{
	reg_write(b, REG_IER, 0);
	for (uint8_t i = 0; i < len; i++) {
		must((reg_read(b, REG_LSR) & 0x60) == 0x60 || (reg_read(b, REG_LCR) & 0x80));
		reg_write(b, REG_DATA, i == len - 1 ? '\n' : 'c');
	}
}

static void act(struct bench *b, uint8_t action, uint8_t value)
{
	uint8_t bytes[300];
	uint64_t n;

	switch (action >> 3 & 7) {
	case 0:
	case 1:
		reg_write(b, action & 7, value);
		break;
	case 2:
		(void)reg_read(b, action & 7);
		must(reg_read(b, REG_MCR) < 0x20 && ((reg_read(b, REG_LCR) & 0x80) || reg_read(b, REG_IER) < 0x10));
		break;
	case 3:
		memset(bytes, value, sizeof(bytes));
		(void)!write(b->in[1], bytes, value);
		break;
	case 4:
		must(evloop_turn(b->loop, 0) >= 0);
		break;
	case 5:
		read_output(b);
		(void)!read(b->irq.fd, &n, sizeof(n));
		break;
	case 6:
		memset(bytes, value, sizeof(bytes));
		serial_write_batch(b->serial, bytes, (action & 7) * 42);
		break;
	case 7:
		console_line(b, value);
		break;
	}
	must(b->serial->tx_len <= SERIAL_TX_MAX && b->serial->rx_len <= SERIAL_RX_MAX);
	/* S2: what waits has somebody who sees to it. */
	must(b->serial->tx_len == 0 || b->serial->tx_blocked || b->serial->wake != WAKE_NONE);
}

static void open_bench(struct bench *b)
{
	struct serial_coalescing c = { .set = fake_set, .ctx = b, .ring_entries = RING_ENTRIES };
	struct serial_params params = { 0 };
	int ok;

	ok = evloop_create(&b->loop, NULL) == 0 && irq_init(&b->irq, 4, NULL) == 0 &&
	     pipe2(b->in, O_NONBLOCK | O_CLOEXEC) == 0 && pipe2(b->out, O_NONBLOCK | O_CLOEXEC) == 0;
	must(ok);
	(void)fcntl(b->out[1], F_SETPIPE_SZ, 4096);
	params.loop = b->loop;
	params.irq = &b->irq;
	params.in_fd = b->in[0];
	params.out_fd = b->out[1];
	ok = serial_create(&b->serial, &params, NULL) == 0;
	must(ok);
	b->ring = (void *)b->ring_page;
	c.ring = b->ring;
	serial_use_coalescing(b->serial, &c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bench b = { 0 };
	struct serial_stats stats;

	(void)signal(SIGPIPE, SIG_IGN);
	open_bench(&b);
	for (size_t i = 0; i + 1 < size && i < 4096; i += 2)
		act(&b, data[i], data[i + 1]);
	serial_end_coalescing(b.serial);
	must(!b.collecting);
	for (int i = 0; i < 20; i++) {
		(void)!serial_flush(b.serial, 0);
		read_output(&b);
	}
	serial_get_stats(b.serial, &stats);
	must(b.serial->tx_len == 0);
	must(b.received + stats.missed_write_count == stats.write_count);
	serial_destroy(b.serial);
	irq_fini(&b.irq);
	evloop_destroy(b.loop);
	for (int i = 0; i < 2; i++) {
		(void)close(b.in[i]);
		(void)close(b.out[i]);
	}
	return 0;
}
