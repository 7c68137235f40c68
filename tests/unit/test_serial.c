/* SPDX-License-Identifier: Apache-2.0 */
/*
 * COM1 at register level: what Linux's 8250 driver probes and relies on, the bounded output, the input, coalescing.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/serial.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };

#define FCR IIR
#define RING_ENTRIES 170

/* A port whose output and input are pipes and whose interrupt line is an eventfd that nobody but us reads. */
struct port {
	struct evloop *loop;
	struct irq_line irq;
	struct serial *serial;
	int out[2], in[2];
	/* Coalescing, played by us. */
	struct kvm_coalesced_mmio_ring *ring;
	bool collecting;
	int switches;
};

static void out(struct port *p, uint64_t reg, uint8_t value)
{
	serial_bus_ops.write(p->serial, reg, &value, 1);
}

static uint8_t in(struct port *p, uint64_t reg)
{
	uint8_t value = 0xee;

	serial_bus_ops.read(p->serial, reg, &value, 1);
	return value;
}

/* Interrupts raised since the last call. */
static uint64_t edges(struct port *p)
{
	uint64_t n = 0;

	return read(p->irq.fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static void turns(struct port *p, int n, int wait_ms)
{
	while (n-- > 0)
		assert_true(evloop_turn(p->loop, wait_ms) >= 0);
}

/* What has arrived at the reader, as a string. */
static const char *output(struct port *p)
{
	static char buf[SERIAL_TX_MAX * 2];
	ssize_t n = read(p->out[0], buf, sizeof(buf) - 1);

	buf[n > 0 ? n : 0] = '\0';
	return buf;
}

static struct port *open_port(struct serial_params params)
{
	struct port *p = calloc(1, sizeof(*p));
	struct err e;

	assert_non_null(p);
	assert_int_equal(evloop_create(&p->loop, &e), 0);
	assert_int_equal(irq_init(&p->irq, 4, &e), 0);
	assert_int_equal(pipe2(p->out, O_NONBLOCK | O_CLOEXEC), 0);
	assert_int_equal(pipe2(p->in, O_NONBLOCK | O_CLOEXEC), 0);
	params.loop = p->loop;
	params.irq = &p->irq;
	params.in_fd = p->in[0];
	params.out_fd = p->out[1];
	assert_int_equal(serial_create(&p->serial, &params, &e), 0);
	return p;
}

static void close_port(struct port *p)
{
	serial_destroy(p->serial);
	irq_fini(&p->irq);
	evloop_destroy(p->loop);
	(void)close(p->out[0]);
	(void)close(p->out[1]);
	(void)close(p->in[0]);
	(void)close(p->in[1]);
	free(p->ring);
	free(p);
}

static int setup(void **state)
{
	*state = open_port((struct serial_params){ 0 });
	return 0;
}

static int teardown(void **state)
{
	close_port(*state);
	return 0;
}

static void print(struct port *p, const char *text)
{
	for (; *text; text++)
		out(p, DATA, (uint8_t)*text);
}

/* ---- what Linux asks ------------------------------------------------------------------------------------------- */

/* autoconfig(): a UART is there, it passes the loopback test, it is a 16550A and nothing newer. */
static void test_linux_autoconfig(void **state)
{
	struct port *p = *state;
	uint8_t iir, mcr;

	out(p, IER, 0);
	assert_int_equal(in(p, IER) & 0x0f, 0);
	out(p, IER, 0x0f);
	assert_int_equal(in(p, IER) & 0x0f, 0x0f);
	out(p, IER, 0);
	mcr = in(p, MCR);
	out(p, MCR, 0x10 | 0x0a);
	assert_int_equal(in(p, MSR) & 0xf0, 0x90);
	out(p, MCR, mcr);
	out(p, LCR, 0xbf);
	out(p, FCR, 0);
	out(p, LCR, 0);
	out(p, FCR, 0x01);
	iir = in(p, IIR);
	assert_int_equal(iir >> 6, 3);
	/* No second register behind IIR with DLAB, no 64-byte FIFO, no UART unit enable: not a variant. */
	out(p, LCR, 0x80);
	assert_int_not_equal(in(p, IIR), 0);
	out(p, FCR, 0x21);
	assert_int_equal(in(p, IIR) & 0x20, 0);
	out(p, LCR, 0);
	out(p, IER, 0x40);
	assert_int_equal(in(p, IER) & 0x40, 0);
	out(p, SCR, 0x5a);
	assert_int_equal(in(p, SCR), 0x5a);
}

/* serial8250_do_startup(): enabling THRI on an empty transmitter interrupts, each time, and IIR says so once. */
static void test_linux_thre_test(void **state)
{
	struct port *p = *state;

	out(p, IER, 0x02);
	assert_int_equal(edges(p), 1);
	assert_int_equal(in(p, IIR) & 0x0f, 0x02);
	assert_int_equal(in(p, IIR) & 0x0f, 0x01);
	out(p, IER, 0);
	out(p, IER, 0x02);
	assert_int_equal(edges(p), 1);
	assert_int_equal(in(p, IIR) & 0x0f, 0x02);
	out(p, IER, 0);
	assert_int_equal(in(p, LSR), 0x60);
}

/* The interrupt-driven transmitter: each emptying after a read of IIR interrupts again; one edge for a burst. */
static void test_transmit_interrupts(void **state)
{
	struct port *p = *state;

	out(p, FCR, 0x01);
	out(p, IER, 0x02);
	(void)edges(p);
	assert_int_equal(in(p, IIR), 0xc2);
	for (int i = 0; i < 16; i++)
		out(p, DATA, 'x');
	assert_int_equal(edges(p), 1);
	assert_int_equal(in(p, IIR), 0xc2);
	assert_int_equal(edges(p), 0);
	/* Nothing more to send: the driver masks THRI, and what it sent is complete. */
	assert_string_equal(output(p), "");
	out(p, IER, 0);
	assert_string_equal(output(p), "xxxxxxxxxxxxxxxx");
	assert_int_equal(in(p, IIR), 0xc1);
}

static void test_loopback(void **state)
{
	struct port *p = *state;

	out(p, MCR, 0x10);
	out(p, IER, 0x05);
	out(p, DATA, 'L');
	assert_int_equal(edges(p), 1);
	assert_int_equal(in(p, LSR) & 0x01, 1);
	assert_int_equal(in(p, DATA), 'L');
	for (int i = 0; i < SERIAL_RX_MAX + 1; i++)
		out(p, DATA, (uint8_t)i);
	assert_int_equal(in(p, IIR) & 0x0f, 0x06);
	assert_int_equal(in(p, LSR), 0x63);
	assert_int_equal(in(p, LSR), 0x61);
	out(p, FCR, 0x02);
	assert_int_equal(in(p, LSR), 0x60);
	assert_int_equal(in(p, DATA), 0);
	out(p, MCR, 0x1f);
	assert_int_equal(in(p, MSR), 0xf0);
	out(p, MCR, 0);
	assert_int_equal(in(p, MSR), 0xb0);
	assert_string_equal(output(p), "");
}

static void test_divisor_latch(void **state)
{
	struct port *p = *state;

	out(p, LCR, 0x83);
	out(p, DATA, 0x34);
	out(p, IER, 0x12);
	assert_int_equal(in(p, DATA), 0x34);
	assert_int_equal(in(p, IER), 0x12);
	out(p, LCR, 0x03);
	assert_int_equal(in(p, IER), 0);
	assert_int_equal(in(p, LCR), 0x03);
	assert_string_equal(output(p), "");
}

static void test_wrong_sizes(void **state)
{
	struct port *p = *state;
	uint32_t word = 0x41414141;
	struct serial_stats stats;

	serial_bus_ops.write(p->serial, DATA, &word, 4);
	serial_bus_ops.read(p->serial, DATA, &word, 4);
	assert_int_equal(word, 0);
	out(p, LSR, 0xff);
	out(p, MSR, 0xff);
	assert_int_equal(in(p, LSR), 0x60);
	serial_get_stats(p->serial, &stats);
	assert_int_equal(stats.missed_write_count, 1);
	assert_int_equal(stats.missed_read_count, 1);
	assert_int_equal(stats.write_count, 0);
	assert_string_equal(output(p), "");
}

/* ---- output ---------------------------------------------------------------------------------------------------- */

static void test_output_by_line(void **state)
{
	struct port *p = *state;
	struct serial_stats stats;

	print(p, "[    0.000000] Linux\r");
	assert_string_equal(output(p), "");
	print(p, "\n");
	assert_string_equal(output(p), "[    0.000000] Linux\r\n");
	print(p, "\033[1;31m\t");
	assert_string_equal(output(p), "");
	print(p, "\001");
	assert_string_equal(output(p), "\033[1;31m\t\001");
	serial_get_stats(p->serial, &stats);
	assert_int_equal(stats.flush_count, 2);
	assert_int_equal(stats.write_count, 31);
}

/* A prompt without line end leaves by itself within a few milliseconds; the timer does not run without cause. */
static void test_output_of_prompt(void **state)
{
	struct port *p = *state;
	uint64_t start_ns = evloop_now_ns();

	print(p, "login: ");
	turns(p, 1, 1000);
	assert_string_equal(output(p), "login: ");
	assert_true(evloop_now_ns() - start_ns >= SERIAL_TX_DELAY_NS);
	assert_int_equal(evloop_turn(p->loop, 20), 0);
}

static void test_output_in_chunks(void **state)
{
	struct port *p = *state;

	for (int i = 0; i < SERIAL_TX_CHUNK - 1; i++)
		out(p, DATA, 'c');
	assert_int_equal(strlen(output(p)), 0);
	out(p, DATA, 'c');
	assert_int_equal(strlen(output(p)), SERIAL_TX_CHUNK);
}

static void test_write_batch(void **state)
{
	struct port *p = *state;

	serial_write_batch(p->serial, (const uint8_t *)"one\ntwo", 7);
	assert_string_equal(output(p), "one\n");
	assert_true(serial_flush(p->serial, 0));
	assert_string_equal(output(p), "two");
}

/* A reader that stands still: the ring fills, the rest is dropped and counted, and nothing is lost or reordered before. */
static void test_output_blocked(void **state)
{
	struct port *p = *state;
	struct serial_stats stats;
	uint64_t sent = 0, got = 0;
	char buf[4096];
	ssize_t n;

	assert_true(fcntl(p->out[1], F_SETPIPE_SZ, 4096) > 0);
	for (; sent < 100000; sent++)
		out(p, DATA, sent % 64 == 63 ? '\n' : (uint8_t)('0' + sent / 64 % 64));
	serial_get_stats(p->serial, &stats);
	assert_int_equal(stats.write_count, sent);
	assert_true(stats.missed_write_count >= sent - SERIAL_TX_MAX - 8192);
	assert_true(stats.missed_write_count <= sent - SERIAL_TX_MAX);
	assert_int_equal(in(p, LSR), 0x60);
	assert_false(serial_flush(p->serial, 0));
	turns(p, 2, 0);
	/* The reader wakes up: the I/O thread delivers the rest. */
	for (int idle = 0; idle < 5;) {
		n = read(p->out[0], buf, sizeof(buf));
		for (ssize_t i = 0; i < n; i++, got++)
			assert_int_equal(buf[i], got % 64 == 63 ? '\n' : (char)('0' + got / 64 % 64));
		idle = n > 0 ? 0 : idle + 1;
		turns(p, 1, 0);
	}
	assert_int_equal(got, sent - stats.missed_write_count);
	/* And all is as before. */
	print(p, "again\n");
	assert_string_equal(output(p), "again\n");
	assert_int_equal(evloop_turn(p->loop, 0), 0);
}

static void test_output_reader_gone(void **state)
{
	struct port *p = *state;
	struct serial_stats stats;

	(void)signal(SIGPIPE, SIG_IGN);
	(void)close(p->out[0]);
	print(p, "lost\n");
	serial_get_stats(p->serial, &stats);
	assert_int_equal(stats.error_count, 1);
	assert_int_equal(stats.missed_write_count, 5);
	assert_true(serial_flush(p->serial, 0));
	p->out[0] = dup(p->out[1]);
}

/* One bucket of bytes, burst first; what is over is dropped and counted. */
static void test_output_limited(void **state)
{
	struct port *p = open_port((struct serial_params){ .bucket_size = 10, .bucket_burst = 5, .bucket_refill_ms = 3600000 });
	struct serial_stats stats;

	(void)state;
	print(p, "0123456789abcdefghij\n");
	assert_true(serial_flush(p->serial, 0));
	assert_string_equal(output(p), "0123456789abcde");
	serial_get_stats(p->serial, &stats);
	assert_int_equal(stats.rate_limiter_dropped_bytes, 6);
	assert_int_equal(stats.missed_write_count, 0);
	close_port(p);

	p = open_port((struct serial_params){ .bucket_size = 1000, .bucket_refill_ms = 1000 });
	for (int i = 0; i < 1100; i++)
		out(p, DATA, 'x');
	(void)usleep(20000);
	for (int i = 0; i < 15; i++)
		out(p, DATA, 'y');
	assert_true(serial_flush(p->serial, 0));
	assert_non_null(strstr(output(p), "yyyyyyyyyyyyyyy"));
	close_port(p);
}

/* ---- input ----------------------------------------------------------------------------------------------------- */

/* What was typed before the guest's driver came up survives the driver clearing its FIFO. */
static void test_input_waits_for_driver(void **state)
{
	struct port *p = *state;

	assert_int_equal(write(p->in[1], "early", 5), 5);
	out(p, IER, 0x0f); /* a probe */
	turns(p, 2, 1);
	out(p, IER, 0);
	(void)edges(p);
	assert_int_equal(in(p, LSR), 0x60);
	out(p, FCR, 0x07);
	out(p, FCR, 0x01);
	(void)in(p, DATA);
	out(p, IER, 0x05);
	turns(p, 2, 100);
	assert_int_equal(edges(p), 1);
	assert_int_equal(in(p, IIR), 0xc4);
	for (const char *c = "early"; *c; c++) {
		assert_int_equal(in(p, LSR) & 0x01, 1);
		assert_int_equal(in(p, DATA), *c);
	}
	assert_int_equal(in(p, LSR), 0x60);
	assert_int_equal(in(p, IIR), 0xc1);
}

static void test_input_for_poller(void **state)
{
	struct port *p = *state;
	int reads = 0;

	assert_int_equal(write(p->in[1], "k", 1), 1);
	while (!(in(p, LSR) & 0x01)) {
		assert_true(++reads < 100);
		turns(p, 1, 1);
	}
	assert_int_equal(in(p, DATA), 'k');
}

/* More than the FIFO holds: the descriptor is left alone until there is room, and nothing is lost. */
static void test_input_back_pressure(void **state)
{
	struct port *p = *state;
	uint8_t sent[300], got[300];
	size_t n = 0;

	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (uint8_t)i;
	assert_int_equal(write(p->in[1], sent, sizeof(sent)), sizeof(sent));
	out(p, IER, 0x01);
	turns(p, 3, 10);
	/* Idle: a full FIFO does not keep the loop busy. */
	assert_int_equal(evloop_turn(p->loop, 0), 0);
	while (n < sizeof(got)) {
		while (n < sizeof(got) && (in(p, LSR) & 0x01))
			got[n++] = in(p, DATA);
		turns(p, 2, 10);
	}
	assert_memory_equal(got, sent, sizeof(sent));
	(void)close(p->in[1]);
	turns(p, 2, 10);
	/* End of file: the source is gone, not busy. */
	assert_int_equal(evloop_turn(p->loop, 0), 0);
	p->in[1] = dup(p->in[0]);
}

static void test_input_paused(void **state)
{
	struct port *p = *state;

	out(p, IER, 0x01);
	turns(p, 1, 10);
	evloop_pause_devices(p->loop);
	assert_int_equal(write(p->in[1], "x", 1), 1);
	assert_int_equal(evloop_turn(p->loop, 10), 0);
	evloop_resume_devices(p->loop);
	turns(p, 1, 10);
	assert_int_equal(in(p, DATA), 'x');
}

/* ---- coalescing ------------------------------------------------------------------------------------------------ */

static int fake_set(void *ctx, uint16_t port, bool on)
{
	struct port *p = ctx;

	assert_int_equal(port, 0x3f8);
	p->collecting = on;
	p->switches++;
	return 0;
}

static void use_ring(struct port *p)
{
	struct serial_coalescing c = { .set = fake_set, .ctx = p, .ring_entries = RING_ENTRIES };

	p->ring = calloc(1, 4096);
	assert_non_null(p->ring);
	c.ring = p->ring;
	serial_use_coalescing(p->serial, &c);
}

/* A guest's write of the transmit register, as KVM would treat it. */
static void transmit(struct port *p, uint8_t byte)
{
	uint32_t next = (p->ring->last + 1) % RING_ENTRIES;

	if (!p->collecting || next == p->ring->first) {
		out(p, DATA, byte);
		return;
	}
	p->ring->coalesced_mmio[p->ring->last].len = 1;
	p->ring->coalesced_mmio[p->ring->last].data[0] = byte;
	p->ring->last = next;
}

/* One line as Linux's boot console writes it. */
static void console_write(struct port *p, const char *line)
{
	uint8_t ier = in(p, IER);

	out(p, IER, 0);
	for (; *line; line++) {
		assert_int_equal(in(p, LSR) & 0x20, 0x20);
		transmit(p, (uint8_t)*line);
	}
	(void)in(p, LSR);
	out(p, IER, ier);
}

static void test_coalescing(void **state)
{
	struct port *p = *state;
	char line[600], all[6000] = "";

	use_ring(p);
	assert_int_equal(write(p->in[1], "early", 5), 5);
	memset(line, 'a', sizeof(line));
	line[sizeof(line) - 2] = '\n';
	line[sizeof(line) - 1] = '\0';
	for (int i = 0; i < 8; i++) {
		memset(line, 'a' + i, sizeof(line) - 2);
		console_write(p, line + i * 60);
		(void)strncat(all, line + i * 60, sizeof(all) - strlen(all) - 1);
	}
	assert_true(p->collecting);
	assert_int_equal(p->switches, 1);
	assert_string_equal(output(p), all);
	/* Its many reads of LSR are no polling for input. */
	turns(p, 2, 1);
	assert_int_equal(in(p, LSR), 0x60);
	/* The driver starts up: no byte of the past may follow, none of the future may wait. */
	transmit(p, 'z');
	out(p, IER, 0x05);
	assert_false(p->collecting);
	assert_string_equal(output(p), "z");
}

/* A byte that comes when the pattern has ended without notice is late by two delays at most, and the mode ends. */
static void test_coalescing_ends_by_itself(void **state)
{
	struct port *p = *state;
	uint64_t start_ns;

	use_ring(p);
	console_write(p, "a line that is long enough for the mode to begin, which needs a good number of bytes\n");
	assert_true(p->collecting);
	(void)output(p);
	transmit(p, '!');
	assert_string_equal(output(p), "");
	start_ns = evloop_now_ns();
	while (p->collecting)
		turns(p, 1, 100);
	assert_string_equal(output(p), "!");
	assert_true(evloop_now_ns() - start_ns < 50 * SERIAL_TX_DELAY_NS);
	assert_int_equal(evloop_turn(p->loop, 20), 0);
	out(p, DATA, '\n');
	assert_string_equal(output(p), "\n");
}

static void test_coalescing_end_for_good(void **state)
{
	struct port *p = *state;

	use_ring(p);
	console_write(p, "a line that is long enough for the mode to begin, which needs a good number of bytes\n");
	(void)output(p);
	transmit(p, 'e');
	serial_end_coalescing(p->serial);
	assert_false(p->collecting);
	free(p->ring);
	p->ring = NULL;
	assert_true(serial_flush(p->serial, 0));
	assert_string_equal(output(p), "e");
	(void)in(p, LSR);
	out(p, DATA, '\n');
	assert_string_equal(output(p), "\n");
}

/* ---- threads --------------------------------------------------------------------------------------------------- */

#define THREAD_LINES 2000

/* A vCPU that prints lines of its own digit, and reads what comes in. */
static void *vcpu(void *ctx)
{
	struct port *p = ctx;

	out(p, IER, 0x01);
	for (int i = 0; i < THREAD_LINES; i++) {
		for (int j = 0; j < 20; j++) {
			(void)in(p, LSR);
			out(p, DATA, j == 19 ? '\n' : 'v');
		}
		(void)in(p, DATA);
		(void)in(p, IIR);
		out(p, IER, i & 1);
	}
	return NULL;
}

/* Two vCPUs against the I/O thread and a slow reader: every byte arrives or is counted (also a case for TSan). */
static void test_threads(void **state)
{
	struct port *p = *state;
	struct serial_stats stats;
	pthread_t threads[2];
	uint64_t got = 0, end_ns = evloop_now_ns() + UINT64_C(20000000000);

	assert_true(fcntl(p->out[1], F_SETPIPE_SZ, 4096) > 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, vcpu, p), 0);
	do {
		got += strlen(output(p));
		assert_true(write(p->in[1], "key", 3) == 3 || errno == EAGAIN);
		turns(p, 1, 1);
		serial_get_stats(p->serial, &stats);
		assert_true(evloop_now_ns() < end_ns);
	} while (stats.write_count < 2 * 20 * THREAD_LINES);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	while (!serial_flush(p->serial, 0))
		got += strlen(output(p));
	for (size_t n = 1; n > 0; got += n)
		n = strlen(output(p));
	serial_get_stats(p->serial, &stats);
	assert_int_equal(got + stats.missed_write_count, stats.write_count);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_linux_autoconfig, setup, teardown),
		cmocka_unit_test_setup_teardown(test_linux_thre_test, setup, teardown),
		cmocka_unit_test_setup_teardown(test_transmit_interrupts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loopback, setup, teardown),
		cmocka_unit_test_setup_teardown(test_divisor_latch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_sizes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_output_by_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_output_of_prompt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_output_in_chunks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_batch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_output_blocked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_output_reader_gone, setup, teardown),
		cmocka_unit_test(test_output_limited),
		cmocka_unit_test_setup_teardown(test_input_waits_for_driver, setup, teardown),
		cmocka_unit_test_setup_teardown(test_input_for_poller, setup, teardown),
		cmocka_unit_test_setup_teardown(test_input_back_pressure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_input_paused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_coalescing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_coalescing_ends_by_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(test_coalescing_end_for_good, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
	};

	return cmocka_run_group_tests_name("serial", tests, NULL, NULL);
}
