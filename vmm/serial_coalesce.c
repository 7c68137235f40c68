/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collected writes of the transmit register.
 *
 * Linux's boot console does, for each line: read IER, write IER 0, for each byte { read LSR, write the byte }, read LSR,
 * write IER back. Interrupts are off in that phase (IER was 0), so nobody waits for an effect of the byte itself, and LSR
 * says "empty" whatever is collected: the bytes may come later, as long as they come before any other access takes effect.
 *
 * The mode begins after COLLECT_AFTER bytes of that pattern and ends with the first access that does not belong to it (the
 * driver's start-up enables interrupts before user space runs), or when nothing came for two looks of the delay timer; a lone byte
 * of a raw writer is therefore late by two delays at most, and outside the mode not at all.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdatomic.h>
#include <sys/ioctl.h>

#include "vmm/layout.h"
#include "vmm/serial_impl.h"

#define COLLECT_AFTER 64

/* On reads of LSR the ring is left alone up to this fill, so that a line is taken in one go. */
#define COLLECT_TAKE_AT 128

/* Entries between the indices @first and @last of a ring of @n. */
static uint32_t ring_fill(uint32_t first, uint32_t last, uint32_t n)
{
	return last >= first ? last - first : last + n - first;
}

static uint32_t collected(const struct serial_collect *collect)
{
	const struct kvm_coalesced_mmio_ring *ring = collect->c.ring;
	uint32_t last = __atomic_load_n(&ring->last, __ATOMIC_RELAXED);

	return ring_fill(ring->first, last, collect->c.ring_entries);
}

void serial_collect_take_locked(struct serial *s)
{
	struct kvm_coalesced_mmio_ring *ring = s->collect.c.ring;
	uint32_t n = s->collect.c.ring_entries, first, last;

	/* Out of the mode the ring is empty, and perhaps gone with its vCPU. */
	if (!s->collect.on)
		return;
	/* Pairs with the kernel's smp_wmb() between an entry and last. */
	last = __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE);
	first = ring->first;
	if (first == last)
		return;
	must(first < n && last < n);
	s->collect.active = true;
	while (first != last) {
		serial_transmit_locked(s, ring->coalesced_mmio[first].data[0]);
		first = (first + 1) % n;
	}
	/* The kernel may reuse the entries from here on. */
	__atomic_store_n(&ring->first, first, __ATOMIC_RELEASE);
}

static void collect_set(struct serial *s, bool on)
{
	struct serial_collect *collect = &s->collect;

	collect->polled_bytes = 0;
	if (collect->on == on)
		return;
	if (collect->c.set(collect->c.ctx, LAYOUT_COM1, on) < 0 && on) {
		collect->c.ring = NULL; /* this KVM can't; never asked again */
		return;
	}
	if (on) {
		collect->active = true;
		serial_wake_locked(s, WAKE_SOON);
	} else {
		serial_collect_take_locked(s); /* what came before KVM heard us */
	}
	collect->on = on;
}

/* Does the access belong to the pattern above? */
static bool in_pattern(const struct serial *s, uint32_t reg, bool is_write, uint8_t value)
{
	if ((s->lcr & 0x80) || s->ier != 0)
		return false;
	if (is_write)
		return reg == REG_DATA || (reg == REG_IER && value == 0);
	return reg == REG_LSR || reg == REG_IER || reg == REG_SCR;
}

void serial_collect_before_locked(struct serial *s, uint32_t reg, bool is_write, uint8_t value)
{
	struct serial_collect *collect = &s->collect;
	bool lsr_seen = collect->lsr_seen;

	if (!collect->c.ring)
		return;
	collect->lsr_seen = !is_write && reg == REG_LSR;
	if (collect->on && collect->lsr_seen && collected(collect) < COLLECT_TAKE_AT)
		return;
	if (collect->on)
		serial_collect_take_locked(s);
	if (!in_pattern(s, reg, is_write, value)) {
		collect_set(s, false);
	} else if (!collect->on && is_write && reg == REG_DATA) {
		collect->polled_bytes = lsr_seen ? collect->polled_bytes + 1 : 0;
		if (collect->polled_bytes >= COLLECT_AFTER)
			collect_set(s, true);
	}
}

void serial_collect_tick_locked(struct serial *s)
{
	struct serial_collect *collect = &s->collect;

	if (!collect->on)
		return;
	serial_collect_take_locked(s);
	if (!collect->active) {
		collect_set(s, false);
		return;
	}
	collect->active = false;
	serial_wake_locked(s, WAKE_SOON);
}

void serial_write_batch(struct serial *serial, const uint8_t *bytes, size_t len)
{
	(void)pthread_mutex_lock(&serial->lock);
	serial_collect_take_locked(serial);
	for (size_t i = 0; i < len; i++)
		serial_transmit_locked(serial, bytes[i]);
	(void)pthread_mutex_unlock(&serial->lock);
}

void serial_use_coalescing(struct serial *serial, const struct serial_coalescing *c)
{
	serial->collect.c = *c;
}

void serial_end_coalescing(struct serial *serial)
{
	if (!serial)
		return;
	(void)pthread_mutex_lock(&serial->lock);
	collect_set(serial, false);
	serial->collect.c.ring = NULL;
	(void)pthread_mutex_unlock(&serial->lock);
}

int serial_kvm_coalesce(void *vm_fd, uint16_t port, bool on)
{
	struct kvm_coalesced_mmio_zone zone = { .addr = port, .size = 1, .pio = 1 };

	if (ioctl(*(const int *)vm_fd, on ? KVM_REGISTER_COALESCED_MMIO : KVM_UNREGISTER_COALESCED_MMIO, &zone) < 0)
		return -errno;
	return 0;
}
