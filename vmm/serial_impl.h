/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the three files of the serial port share: serial.c (registers, receiver, construction), serial_tx.c (transmitter) and
 * serial_coalesce.c (collected writes). Nobody else includes this.
 *
 * Functions that end in _locked need serial->lock.
 */
#ifndef MAYFLY_VMM_SERIAL_IMPL_H
#define MAYFLY_VMM_SERIAL_IMPL_H

#include <pthread.h>

#include "vmm/serial.h"

/* Register offsets (16550A); the first two are the divisor while LCR_DLAB is set. */
enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

/* Token bucket of the output, in bytes. */
struct serial_limit {
	uint64_t size;      /* 0: no limit */
	uint64_t budget;
	uint64_t burst;     /* what is left of it; spent first, never refilled */
	uint64_t refill_ns; /* time for size tokens */
	uint64_t last_ns;   /* up to when refilling is accounted */
};

struct serial_collect {
	struct serial_coalescing c; /* c.ring NULL: not available */
	bool on;
	bool lsr_seen;              /* the previous access read LSR */
	bool active;                /* a byte came since the delay timer last looked */
	uint32_t polled_bytes;      /* transmitted in a row after a read of LSR each */
};

/* What the timer is set to; it is set again only for an earlier time. */
enum serial_wake { WAKE_NONE, WAKE_SOON, WAKE_NOW };

struct serial {
	pthread_mutex_t lock; /* over everything below, except the borrowed and constant members */

	struct evloop *loop;        /* borrowed */
	const struct irq_line *irq; /* borrowed */
	int in_fd, out_fd;          /* borrowed */
	int timer_fd;               /* owned; set from any thread, wakes the I/O thread: soon (delay) or at once (kick) */
	struct ev_source in_source, out_source, timer_source;

	/* Registers as the guest wrote them. */
	uint8_t ier, fcr, lcr, mcr, scr, divisor[2];
	bool thre_pending; /* the transmitter became empty and the guest has not yet read so from IIR */
	bool overrun;

	uint8_t rx[SERIAL_RX_MAX];
	uint32_t rx_head, rx_len;
	bool input_wanted;  /* the guest has shown that it reads */
	bool input_stopped; /* in_source is silent because the FIFO was full */
	uint32_t lsr_reads; /* in a row with no other access between */

	uint8_t tx[SERIAL_TX_MAX];
	uint32_t tx_head, tx_len;
	bool tx_blocked;  /* the output refused; the I/O thread waits for EPOLLOUT */
	enum serial_wake wake;

	struct serial_limit limit;
	struct serial_collect collect;
	struct serial_stats stats;
};

/* Wake the I/O thread: WAKE_NOW, or WAKE_SOON (after SERIAL_TX_DELAY_NS). */
void serial_wake_locked(struct serial *s, enum serial_wake when);

/* Transmitter. */
void serial_limit_init(struct serial_limit *limit, const struct serial_params *params, uint64_t now_ns);
void serial_tx_byte_locked(struct serial *s, uint8_t byte);

/* Write what waits. When the output refuses, tx_blocked is set and the caller sees to S2; _push asks the I/O thread to. */
void serial_tx_write_locked(struct serial *s);
void serial_tx_push_locked(struct serial *s);

/* One write of the transmit register, in the state that the registers have. */
void serial_transmit_locked(struct serial *s, uint8_t byte);

/* Note an access, and take what KVM has collected so far where the order of things needs it. Before each access. */
void serial_collect_before_locked(struct serial *s, uint32_t reg, bool is_write, uint8_t value);

/* Feed everything that is collected. */
void serial_collect_take_locked(struct serial *s);

/* The delay timer fired: take, and end the mode when nothing came for a while. */
void serial_collect_tick_locked(struct serial *s);

#endif
