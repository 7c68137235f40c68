/* SPDX-License-Identifier: Apache-2.0 */
/* The registers, the interrupt logic and the receiver of the 16550A; see serial.h for the whole. */
#include "vmm/serial.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/serial_impl.h"

#define IER_RDI 0x01 /* received data */
#define IER_THRI 0x02 /* transmitter empty */
#define IER_RLSI 0x04 /* line status: an overrun */
#define IER_MASK 0x0f

#define IIR_NONE 0x01
#define IIR_THRI 0x02
#define IIR_RDI 0x04
#define IIR_RLSI 0x06
#define IIR_TIMEOUT 0x0c /* data below the trigger level */
#define IIR_FIFO_ON 0xc0

#define FCR_ENABLE 0x01
#define FCR_CLEAR_RX 0x02

#define LCR_DLAB 0x80

#define MCR_MASK 0x1f
#define MCR_OUT2 0x08 /* on a PC: the gate of the interrupt line, which drivers open for good */
#define MCR_LOOP 0x10

#define LSR_DATA 0x01
#define LSR_OVERRUN 0x02
#define LSR_EMPTY 0x60 /* THRE and TEMT: a byte is sent the moment it is written */

#define MSR_CONNECTED 0xb0 /* carrier, data set ready, clear to send */

/* So many reads of LSR with nothing between them are a guest that polls for input: transmitting Linux reads it once a byte. */
#define LSR_READS_OF_POLLER 16

/* A guest that had a full FIFO gets more once it has read down to this. */
#define RX_LOW (SERIAL_RX_MAX / 4)

/* The interrupt that IIR reports: the enabled condition of the highest priority. */
static uint8_t pending_interrupt(const struct serial *s)
{
	static const uint8_t trigger[] = { 1, 4, 8, 14 };

	if ((s->ier & IER_RLSI) && s->overrun)
		return IIR_RLSI;
	if ((s->ier & IER_RDI) && s->rx_len > 0)
		return (s->fcr & FCR_ENABLE) && s->rx_len < trigger[s->fcr >> 6] ? IIR_TIMEOUT : IIR_RDI;
	if ((s->ier & IER_THRI) && s->thre_pending)
		return IIR_THRI;
	return IIR_NONE;
}

/* Put a byte into the receive FIFO; the caller raises the interrupt. A full FIFO loses it, as the chip does. */
static void rx_push(struct serial *s, uint8_t byte)
{
	if (s->rx_len == SERIAL_RX_MAX) {
		s->overrun = true;
		return;
	}
	s->rx[(s->rx_head + s->rx_len) % SERIAL_RX_MAX] = byte;
	s->rx_len++;
}

static void rx_raise(const struct serial *s)
{
	if (s->ier & (IER_RDI | IER_RLSI))
		irq_raise(s->irq);
}

static void rx_clear(struct serial *s)
{
	s->rx_head = 0;
	s->rx_len = 0;
	if (s->input_stopped)
		serial_wake_locked(s, WAKE_NOW);
}

static uint8_t rx_pop(struct serial *s)
{
	uint8_t byte;

	if (s->rx_len == 0)
		return 0;
	byte = s->rx[s->rx_head];
	s->rx_head = (s->rx_head + 1) % SERIAL_RX_MAX;
	s->rx_len--;
	if (s->input_stopped && s->rx_len == RX_LOW)
		serial_wake_locked(s, WAKE_NOW);
	return byte;
}

/*
 * Does the guest take input by interrupt? All four enables at once are what a probe writes to see that the register is
 * there (Linux's autoconfig); its driver clears the FIFO after that.
 */
static bool takes_input(const struct serial *s)
{
	return (s->ier & IER_RDI) && (s->ier != IER_MASK || (s->mcr & MCR_OUT2));
}

static void want_input(struct serial *s)
{
	if (s->input_wanted || s->in_fd < 0)
		return;
	s->input_wanted = true;
	serial_wake_locked(s, WAKE_NOW);
}

void serial_transmit_locked(struct serial *s, uint8_t byte)
{
	if (s->lcr & LCR_DLAB) {
		s->divisor[0] = byte;
		return;
	}
	if (s->mcr & MCR_LOOP) {
		rx_push(s, byte);
		rx_raise(s);
	} else {
		serial_tx_byte_locked(s, byte);
	}
	if (!s->thre_pending && (s->ier & IER_THRI))
		irq_raise(s->irq);
	s->thre_pending = true;
}

/*
 * Enabling a condition that holds raises its interrupt: Linux starts to transmit by enabling THRI on an empty
 * transmitter and sends the first byte from the handler.
 */
static void write_ier(struct serial *s, uint8_t value)
{
	uint8_t enabled = value & (uint8_t)~s->ier & IER_MASK;

	s->ier = value & IER_MASK;
	if (enabled & IER_THRI)
		s->thre_pending = true;
	if ((enabled & IER_THRI) || ((enabled & IER_RDI) && s->rx_len > 0) || ((enabled & IER_RLSI) && s->overrun))
		irq_raise(s->irq);
	if (takes_input(s))
		want_input(s);
	/* The guest begins or ends a burst: what it has sent so far is complete. */
	serial_tx_push_locked(s);
}

static void write_fcr(struct serial *s, uint8_t value)
{
	/*
	 * Clearing the transmitter clears nothing: for the guest its bytes have left already. Nor does switching the FIFO on or
	 * off, as it would on the chip: Linux does so after it has enabled the interrupt, and would lose what came between.
	 */
	if (value & FCR_CLEAR_RX)
		rx_clear(s);
	s->fcr = value & 0xc9;
}

static void write_register(struct serial *s, uint32_t reg, uint8_t value)
{
	switch (reg) {
	case REG_DATA:
		serial_transmit_locked(s, value);
		break;
	case REG_IER:
		if (s->lcr & LCR_DLAB)
			s->divisor[1] = value;
		else
			write_ier(s, value);
		break;
	case REG_IIR_FCR:
		write_fcr(s, value);
		break;
	case REG_LCR:
		s->lcr = value;
		break;
	case REG_MCR:
		s->mcr = value & MCR_MASK;
		if (takes_input(s))
			want_input(s);
		break;
	case REG_SCR:
		s->scr = value;
		break;
	default: /* LSR and MSR are read only */
		break;
	}
}

static uint8_t read_lsr(struct serial *s)
{
	uint8_t value = LSR_EMPTY | (s->rx_len > 0 ? LSR_DATA : 0) | (s->overrun ? LSR_OVERRUN : 0);

	s->overrun = false;
	/* While KVM collects the writes between them, reads in a row mean nothing. */
	if (!s->collect.on && ++s->lsr_reads >= LSR_READS_OF_POLLER)
		want_input(s);
	return value;
}

static uint8_t read_iir(struct serial *s)
{
	uint8_t value = pending_interrupt(s);

	if (value == IIR_THRI)
		s->thre_pending = false;
	return value | ((s->fcr & FCR_ENABLE) ? IIR_FIFO_ON : 0);
}

/* In loopback the four outputs appear as inputs: DTR as DSR, RTS as CTS, OUT1 as RI, OUT2 as DCD. */
static uint8_t read_msr(const struct serial *s)
{
	uint8_t m = s->mcr;

	if (!(m & MCR_LOOP))
		return MSR_CONNECTED;
	return (uint8_t)((m & 0x01) << 5 | (m & 0x02) << 3 | (m & 0x04) << 4 | (m & 0x08) << 4);
}

static uint8_t read_register(struct serial *s, uint32_t reg)
{
	switch (reg) {
	case REG_DATA:
		return (s->lcr & LCR_DLAB) ? s->divisor[0] : rx_pop(s);
	case REG_IER:
		return (s->lcr & LCR_DLAB) ? s->divisor[1] : s->ier;
	case REG_IIR_FCR:
		return read_iir(s);
	case REG_LCR:
		return s->lcr;
	case REG_MCR:
		return s->mcr;
	case REG_LSR:
		return read_lsr(s);
	case REG_MSR:
		return read_msr(s);
	default:
		return s->scr;
	}
}

static void serial_bus_read(void *dev, uint64_t off, void *data, uint32_t len)
{
	struct serial *s = dev;
	uint8_t *out = data;

	(void)pthread_mutex_lock(&s->lock);
	if (len == 1) {
		serial_collect_before_locked(s, (uint32_t)off, false, 0);
		if (off != REG_LSR)
			s->lsr_reads = 0;
		s->stats.read_count++;
		*out = read_register(s, (uint32_t)off);
	} else {
		s->stats.missed_read_count++;
		memset(data, 0, len);
	}
	(void)pthread_mutex_unlock(&s->lock);
}

static void serial_bus_write(void *dev, uint64_t off, const void *data, uint32_t len)
{
	struct serial *s = dev;
	uint8_t value = *(const uint8_t *)data;

	(void)pthread_mutex_lock(&s->lock);
	if (len == 1) {
		serial_collect_before_locked(s, (uint32_t)off, true, value);
		s->lsr_reads = 0;
		write_register(s, (uint32_t)off, value);
	} else {
		s->stats.missed_write_count++;
	}
	(void)pthread_mutex_unlock(&s->lock);
}

const struct bus_ops serial_bus_ops = { .read = serial_bus_read, .write = serial_bus_write };

static void silence(struct serial *s, struct ev_source *src)
{
	int rc = evloop_set_events(s->loop, src, 0);

	must(rc == 0); /* taking a descriptor out of the set that we put in */
}

/* in_source: as many bytes as the FIFO has room for. */
static void on_input(void *ctx, uint32_t ready)
{
	struct serial *s = ctx;
	uint8_t bytes[SERIAL_RX_MAX];
	ssize_t n = 0;

	(void)ready;
	(void)pthread_mutex_lock(&s->lock);
	if (s->rx_len < SERIAL_RX_MAX) {
		n = read(s->in_fd, bytes, SERIAL_RX_MAX - s->rx_len);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			/* The other end is gone: no input any more. */
			evloop_remove(s->loop, &s->in_source);
			s->in_fd = -1;
		}
	}
	for (ssize_t i = 0; i < n; i++)
		rx_push(s, bytes[i]);
	if (n > 0)
		rx_raise(s);
	if (s->rx_len == SERIAL_RX_MAX && s->in_fd >= 0) {
		s->input_stopped = true;
		silence(s, &s->in_source);
	}
	(void)pthread_mutex_unlock(&s->lock);
}

/* out_source: the output takes bytes again. */
static void on_output(void *ctx, uint32_t ready)
{
	struct serial *s = ctx;

	(void)ready;
	(void)pthread_mutex_lock(&s->lock);
	s->tx_blocked = false;
	serial_tx_write_locked(s);
	if (!s->tx_blocked)
		silence(s, &s->out_source);
	(void)pthread_mutex_unlock(&s->lock);
}

/* The output has refused: wait until it takes bytes, or try again later if it is of a kind that can't be waited for. */
static void wait_for_output(struct serial *s)
{
	if (evloop_set_events(s->loop, &s->out_source, EPOLLOUT) == 0)
		return;
	s->tx_blocked = false;
	serial_wake_locked(s, WAKE_SOON);
}

/* timer_source: a vCPU thread asked for something, or the delay is over. */
static void on_timer(void *ctx, uint32_t ready)
{
	struct serial *s = ctx;

	(void)ready;
	(void)pthread_mutex_lock(&s->lock);
	s->wake = WAKE_NONE;
	serial_collect_tick_locked(s);
	if (!s->tx_blocked)
		serial_tx_write_locked(s);
	if (s->tx_blocked)
		wait_for_output(s);
	if (s->in_fd >= 0 && s->input_wanted && s->rx_len < SERIAL_RX_MAX) {
		s->input_stopped = false;
		if (evloop_set_events(s->loop, &s->in_source, EPOLLIN) < 0)
			log_warn("The guest gets no console input: standard input can't be waited for.");
	}
	(void)pthread_mutex_unlock(&s->lock);
}

int serial_create(struct serial **out, const struct serial_params *params, struct err *e)
{
	struct serial *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_sys(e, -ENOMEM, "create the serial port");
	(void)pthread_mutex_init(&s->lock, NULL);
	s->loop = params->loop;
	s->irq = params->irq;
	s->in_fd = params->in_fd;
	s->out_fd = params->out_fd;
	s->divisor[0] = 12; /* 9600 baud, the chip's usual state */
	s->thre_pending = true;
	serial_limit_init(&s->limit, params, params->bucket_size > 0 ? evloop_now_ns() : 0);
	s->in_source = (struct ev_source){ .fd = s->in_fd, .group = EV_DEVICE, .fn = on_input, .ctx = s };
	s->out_source = (struct ev_source){ .fd = s->out_fd, .group = EV_CONTROL, .fn = on_output, .ctx = s };
	s->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	/* Edge-triggered: setting the timer again clears what fired, so it is never read. */
	s->timer_source = (struct ev_source){
		.fd = s->timer_fd, .events = EPOLLIN | EPOLLET, .group = EV_CONTROL, .fn = on_timer, .ctx = s,
	};
	rc = s->timer_fd < 0 ? -errno : evloop_add(s->loop, &s->timer_source);
	if (rc == 0 && s->in_fd >= 0)
		rc = evloop_add(s->loop, &s->in_source);
	if (rc == 0 && s->out_fd >= 0)
		rc = evloop_add(s->loop, &s->out_source);
	if (rc < 0) {
		serial_destroy(s);
		return err_sys(e, rc, "create the serial port");
	}
	*out = s;
	return 0;
}

void serial_destroy(struct serial *serial)
{
	if (!serial)
		return;
	evloop_remove(serial->loop, &serial->in_source);
	evloop_remove(serial->loop, &serial->out_source);
	evloop_remove(serial->loop, &serial->timer_source);
	fd_close(&serial->timer_fd);
	(void)pthread_mutex_destroy(&serial->lock);
	free(serial);
}

bool serial_flush(struct serial *serial, int timeout_ms)
{
	uint64_t end_ns = evloop_now_ns() + (uint64_t)timeout_ms * 1000000;
	bool done;

	(void)pthread_mutex_lock(&serial->lock);
	serial_collect_take_locked(serial);
	for (;;) {
		struct pollfd out = { .fd = serial->out_fd, .events = POLLOUT };
		uint64_t now_ns;

		serial->tx_blocked = false;
		serial_tx_write_locked(serial);
		done = serial->tx_len == 0;
		if (done)
			break;
		now_ns = evloop_now_ns();
		if (now_ns >= end_ns)
			break;
		(void)poll(&out, 1, (int)((end_ns - now_ns) / 1000000) + 1);
	}
	(void)pthread_mutex_unlock(&serial->lock);
	return done;
}

void serial_get_stats(struct serial *serial, struct serial_stats *out)
{
	(void)pthread_mutex_lock(&serial->lock);
	*out = serial->stats;
	(void)pthread_mutex_unlock(&serial->lock);
}
