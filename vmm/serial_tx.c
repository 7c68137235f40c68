/* SPDX-License-Identifier: Apache-2.0 */
/* The transmitter: a bounded ring in front of a descriptor that may refuse (invariants S1 to S4 of serial.h). */
#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "vmm/serial_impl.h"

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

void serial_wake_locked(struct serial *s, enum serial_wake when)
{
	struct itimerspec spec = { .it_value = { .tv_nsec = when == WAKE_NOW ? 1 : (long)SERIAL_TX_DELAY_NS } };

	if (s->wake >= when)
		return;
	s->wake = when;
	(void)timerfd_settime(s->timer_fd, 0, &spec, NULL);
}

void serial_limit_init(struct serial_limit *limit, const struct serial_params *params, uint64_t now_ns)
{
	uint64_t refill_ns;

	*limit = (struct serial_limit){ 0 };
	if (params->bucket_size == 0 || params->bucket_refill_ms == 0)
		return;
	if (__builtin_mul_overflow(params->bucket_refill_ms, NS_PER_MS, &refill_ns))
		return;
	*limit = (struct serial_limit){
		.size = params->bucket_size,
		.budget = params->bucket_size,
		.burst = params->bucket_burst,
		.refill_ns = refill_ns,
		.last_ns = now_ns,
	};
}

/* Take one byte's token. The clock is read only when the budget is used up. */
static bool limit_take(struct serial_limit *limit)
{
	uint64_t now_ns, tokens;

	if (limit->size == 0)
		return true;
	if (limit->burst > 0) {
		limit->burst--;
		return true;
	}
	if (limit->budget == 0) {
		now_ns = evloop_now_ns();
		if (now_ns - limit->last_ns >= limit->refill_ns) {
			limit->budget = limit->size;
			limit->last_ns = now_ns;
		} else {
			tokens = (uint64_t)((unsigned __int128)(now_ns - limit->last_ns) * limit->size / limit->refill_ns);
			if (tokens == 0)
				return false;
			limit->budget = tokens;
			/* Only the time that the tokens cost is used up; the rest counts for the next. */
			limit->last_ns += (uint64_t)((unsigned __int128)tokens * limit->refill_ns / limit->size);
		}
	}
	limit->budget--;
	return true;
}

/* Bytes that end a piece of text: line ends, and control characters that programs use as marks. */
static bool ends_piece(uint8_t byte)
{
	return byte == '\n' || (byte < ' ' && byte != '\r' && byte != '\t' && byte != '\b' && byte != '\033');
}

void serial_tx_write_locked(struct serial *s)
{
	while (s->tx_len > 0 && !s->tx_blocked) {
		uint32_t to_end = SERIAL_TX_MAX - s->tx_head;
		ssize_t n = write(s->out_fd, s->tx + s->tx_head, s->tx_len < to_end ? s->tx_len : to_end);

		if (n < 0 && errno == EINTR)
			continue;
		s->stats.flush_count++;
		if (n < 0 && errno == EAGAIN) {
			s->tx_blocked = true;
			return;
		}
		if (n <= 0) {
			/* Gone or full for good: what waits is lost, later bytes try again. */
			s->stats.error_count++;
			s->stats.missed_write_count += s->tx_len;
			n = s->tx_len;
		}
		s->tx_head = (s->tx_head + (uint32_t)n) % SERIAL_TX_MAX;
		s->tx_len -= (uint32_t)n;
	}
	/* From the start again, so that only a reader who falls behind makes us touch more than the first page. */
	if (s->tx_len == 0)
		s->tx_head = 0;
}

void serial_tx_push_locked(struct serial *s)
{
	if (s->tx_len == 0 || s->tx_blocked)
		return;
	serial_tx_write_locked(s);
	if (s->tx_blocked)
		serial_wake_locked(s, WAKE_NOW);
}

void serial_tx_byte_locked(struct serial *s, uint8_t byte)
{
	s->stats.write_count++;
	if (!limit_take(&s->limit)) {
		s->stats.rate_limiter_dropped_bytes++;
		return;
	}
	if (s->out_fd < 0)
		return;
	if (s->tx_len == SERIAL_TX_MAX) {
		s->stats.missed_write_count++;
		return;
	}
	s->tx[(s->tx_head + s->tx_len) % SERIAL_TX_MAX] = byte;
	s->tx_len++;
	if (s->tx_blocked)
		return;
	if (ends_piece(byte) || s->tx_len >= SERIAL_TX_CHUNK)
		serial_tx_push_locked(s);
	else
		serial_wake_locked(s, WAKE_SOON);
}
