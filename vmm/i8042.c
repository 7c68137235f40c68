/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The controller has two sources of bytes for the guest: its own answer to a command (one byte, first), and the buffer of
 * what the keyboard sent (answers and keys). IRQ 1 tells of keyboard bytes only, one edge for each byte as Linux's
 * handler reads one byte an interrupt; answers of the controller are polled for.
 */
#include "vmm/i8042.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PORT_DATA 0
#define PORT_COMMAND 4 /* read: status */

#define STATUS_DATA 0x01 /* the guest may read PORT_DATA */
#define STATUS_SYSTEM 0x04
#define STATUS_COMMAND 0x08 /* the last write was a command */
#define STATUS_UNLOCKED 0x10

/* Command byte ("CTR"). */
#define CTR_KEYBOARD_IRQ 0x01
#define CTR_SYSTEM 0x04
#define CTR_KEYBOARD_OFF 0x10
#define CTR_MOUSE_OFF 0x20
#define CTR_TRANSLATE 0x40

/* Controller commands. */
#define CMD_READ_CTR 0x20
#define CMD_WRITE_CTR 0x60
#define CMD_MOUSE_OFF 0xa7
#define CMD_MOUSE_ON 0xa8
#define CMD_MOUSE_TEST 0xa9
#define CMD_SELF_TEST 0xaa
#define CMD_KEYBOARD_TEST 0xab
#define CMD_KEYBOARD_OFF 0xad
#define CMD_KEYBOARD_ON 0xae
#define CMD_READ_INPUT_PORT 0xc0
#define CMD_READ_OUTPUT_PORT 0xd0
#define CMD_WRITE_OUTPUT_PORT 0xd1
#define CMD_WRITE_KEYBOARD_BUFFER 0xd2
#define CMD_MOUSE_LOOP 0xd3
#define CMD_WRITE_MOUSE 0xd4
#define CMD_RESET 0xfe

#define OUTPUT_PORT_NO_RESET 0x01
#define OUTPUT_PORT_A20 0x02

/* Keyboard commands. */
#define KBD_SET_LEDS 0xed
#define KBD_ECHO 0xee
#define KBD_SCANCODE_SET 0xf0
#define KBD_IDENTIFY 0xf2
#define KBD_SET_REPEAT 0xf3
#define KBD_RESET 0xff
#define KBD_ACK 0xfa
#define KBD_SELF_TEST_OK 0xaa

struct i8042 {
	pthread_mutex_t lock;       /* over what follows @ctx */
	const struct irq_line *irq; /* borrowed */
	void (*reset)(void *ctx);
	void *ctx;

	uint8_t ctr, output_port;
	uint8_t command;          /* controller command that waits for its data byte; 0: none */
	uint8_t keyboard_command; /* likewise of the keyboard */
	bool last_was_command;
	bool has_answer;
	uint8_t answer;
	uint8_t buffer[I8042_BUFFER_MAX];
	uint32_t head, len;
	struct i8042_stats stats;
};

/* Can the guest see the keyboard's bytes? */
static bool keyboard_ready(const struct i8042 *k)
{
	return k->len > 0 && !(k->ctr & CTR_KEYBOARD_OFF);
}

static void raise_if_ready(const struct i8042 *k)
{
	if (keyboard_ready(k) && (k->ctr & CTR_KEYBOARD_IRQ))
		irq_raise(k->irq);
}

/* Put @len bytes of the keyboard into the buffer, all or none, and tell the guest if it was empty. */
static bool keyboard_send(struct i8042 *k, const uint8_t *bytes, uint32_t len)
{
	bool was_empty = k->len == 0;

	if (len > I8042_BUFFER_MAX - k->len)
		return false;
	for (uint32_t i = 0; i < len; i++)
		k->buffer[(k->head + k->len++) % I8042_BUFFER_MAX] = bytes[i];
	if (was_empty)
		raise_if_ready(k);
	return true;
}

static void keyboard_answer(struct i8042 *k, const uint8_t *bytes, uint32_t len)
{
	if (!keyboard_send(k, bytes, len))
		k->stats.error_count++;
}

static void keyboard_write(struct i8042 *k, uint8_t byte)
{
	static const uint8_t identity[] = { KBD_ACK, 0xab, 0x83 };
	static const uint8_t after_reset[] = { KBD_ACK, KBD_SELF_TEST_OK };
	static const uint8_t current_set[] = { KBD_ACK, 2 };
	static const uint8_t ack[] = { KBD_ACK };
	static const uint8_t echo[] = { KBD_ECHO };
	uint8_t command = k->keyboard_command;

	k->keyboard_command = 0;
	if (command == KBD_SCANCODE_SET && byte == 0) {
		keyboard_answer(k, current_set, sizeof(current_set));
		return;
	}
	if (command != 0) {
		keyboard_answer(k, ack, sizeof(ack));
		return;
	}
	switch (byte) {
	case KBD_SET_LEDS:
	case KBD_SCANCODE_SET:
	case KBD_SET_REPEAT:
		k->keyboard_command = byte;
		keyboard_answer(k, ack, sizeof(ack));
		break;
	case KBD_ECHO:
		keyboard_answer(k, echo, sizeof(echo));
		break;
	case KBD_IDENTIFY:
		keyboard_answer(k, identity, sizeof(identity));
		break;
	case KBD_RESET:
		keyboard_answer(k, after_reset, sizeof(after_reset));
		break;
	default: /* enable, disable, defaults, and what we don't know: there is nothing to do */
		keyboard_answer(k, ack, sizeof(ack));
		break;
	}
}

static void set_ctr(struct i8042 *k, uint8_t ctr)
{
	bool was_ready = keyboard_ready(k) && (k->ctr & CTR_KEYBOARD_IRQ);

	k->ctr = ctr;
	if (!was_ready)
		raise_if_ready(k);
}

static void controller_answer(struct i8042 *k, uint8_t byte)
{
	k->has_answer = true;
	k->answer = byte;
}

/* Returns true when the guest asks for a reset. */
static bool write_command(struct i8042 *k, uint8_t command)
{
	k->last_was_command = true;
	k->command = 0;
	switch (command) {
	case CMD_READ_CTR:
		controller_answer(k, k->ctr);
		break;
	case CMD_MOUSE_OFF:
		k->ctr |= CTR_MOUSE_OFF;
		break;
	case CMD_MOUSE_ON:
		k->ctr &= (uint8_t)~CTR_MOUSE_OFF;
		break;
	case CMD_MOUSE_TEST:
		controller_answer(k, 0x01); /* its clock line is stuck: there is no mouse port */
		break;
	case CMD_SELF_TEST:
		controller_answer(k, 0x55);
		break;
	case CMD_KEYBOARD_TEST:
	case CMD_READ_INPUT_PORT:
		controller_answer(k, 0x00);
		break;
	case CMD_KEYBOARD_OFF:
		set_ctr(k, k->ctr | CTR_KEYBOARD_OFF);
		break;
	case CMD_KEYBOARD_ON:
		set_ctr(k, k->ctr & (uint8_t)~CTR_KEYBOARD_OFF);
		break;
	case CMD_READ_OUTPUT_PORT:
		controller_answer(k, k->output_port);
		break;
	case CMD_WRITE_CTR:
	case CMD_WRITE_OUTPUT_PORT:
	case CMD_WRITE_KEYBOARD_BUFFER:
	case CMD_MOUSE_LOOP:
	case CMD_WRITE_MOUSE:
		k->command = command;
		break;
	case CMD_RESET:
		return true;
	default:
		break;
	}
	return false;
}

/* Returns true when the guest asks for a reset. */
static bool write_data(struct i8042 *k, uint8_t byte)
{
	uint8_t command = k->command;

	k->last_was_command = false;
	k->command = 0;
	switch (command) {
	case CMD_WRITE_CTR:
		set_ctr(k, byte);
		break;
	case CMD_WRITE_OUTPUT_PORT:
		k->output_port = byte | OUTPUT_PORT_NO_RESET;
		return !(byte & OUTPUT_PORT_NO_RESET);
	case CMD_WRITE_KEYBOARD_BUFFER:
		keyboard_answer(k, &byte, 1);
		break;
	case CMD_MOUSE_LOOP:
		/* Without the status bit that marks a mouse byte: Linux takes that for a controller without mouse port, at once. */
		controller_answer(k, byte);
		break;
	case CMD_WRITE_MOUSE:
		break;
	default:
		keyboard_write(k, byte);
		break;
	}
	return false;
}

static uint8_t read_status(const struct i8042 *k)
{
	uint8_t status = STATUS_UNLOCKED | (k->ctr & CTR_SYSTEM ? STATUS_SYSTEM : 0);

	if (k->last_was_command)
		status |= STATUS_COMMAND;
	if (k->has_answer || keyboard_ready(k))
		status |= STATUS_DATA;
	return status;
}

static uint8_t read_data(struct i8042 *k)
{
	uint8_t byte;

	if (k->has_answer) {
		k->has_answer = false;
		return k->answer;
	}
	if (!keyboard_ready(k))
		return 0;
	byte = k->buffer[k->head];
	k->head = (k->head + 1) % I8042_BUFFER_MAX;
	k->len--;
	raise_if_ready(k);
	return byte;
}

static void i8042_bus_read(void *dev, uint64_t off, void *data, uint32_t len)
{
	struct i8042 *k = dev;
	uint8_t *out = data;

	memset(data, 0, len);
	(void)pthread_mutex_lock(&k->lock);
	if (len == 1 && off == PORT_DATA) {
		k->stats.read_count++;
		*out = read_data(k);
	} else if (len == 1 && off == PORT_COMMAND) {
		k->stats.read_count++;
		*out = read_status(k);
	} else {
		k->stats.missed_read_count++;
	}
	(void)pthread_mutex_unlock(&k->lock);
}

static void i8042_bus_write(void *dev, uint64_t off, const void *data, uint32_t len)
{
	struct i8042 *k = dev;
	uint8_t byte = *(const uint8_t *)data;
	bool reset = false;

	(void)pthread_mutex_lock(&k->lock);
	if (len == 1 && off == PORT_DATA) {
		k->stats.write_count++;
		reset = write_data(k, byte);
	} else if (len == 1 && off == PORT_COMMAND) {
		k->stats.write_count++;
		reset = write_command(k, byte);
	} else {
		k->stats.missed_write_count++;
	}
	if (reset)
		k->stats.reset_count++;
	(void)pthread_mutex_unlock(&k->lock);
	if (reset)
		k->reset(k->ctx);
}

const struct bus_ops i8042_bus_ops = { .read = i8042_bus_read, .write = i8042_bus_write };

int i8042_create(struct i8042 **out, const struct irq_line *irq, void (*reset)(void *ctx), void *ctx, struct err *e)
{
	struct i8042 *k = calloc(1, sizeof(*k));

	if (!k)
		return err_sys(e, -ENOMEM, "create the keyboard controller");
	(void)pthread_mutex_init(&k->lock, NULL);
	k->irq = irq;
	k->reset = reset;
	k->ctx = ctx;
	/* As a BIOS would leave it, except for the translation, so that Linux does not ask for it either. */
	k->ctr = CTR_SYSTEM | CTR_KEYBOARD_IRQ | CTR_MOUSE_OFF;
	k->output_port = OUTPUT_PORT_NO_RESET | OUTPUT_PORT_A20;
	*out = k;
	return 0;
}

void i8042_destroy(struct i8042 *i8042)
{
	if (!i8042)
		return;
	(void)pthread_mutex_destroy(&i8042->lock);
	free(i8042);
}

int i8042_send_ctrl_alt_del(struct i8042 *i8042, struct err *e)
{
	static const uint8_t set2[] = { 0x14, 0x11, 0xe0, 0x71 };
	static const uint8_t translated[] = { 0x1d, 0x38, 0xe0, 0x53 };
	bool sent;

	(void)pthread_mutex_lock(&i8042->lock);
	sent = keyboard_send(i8042, i8042->ctr & CTR_TRANSLATE ? translated : set2, sizeof(set2));
	(void)pthread_mutex_unlock(&i8042->lock);
	return sent ? 0 : err_set(e, -ENOSPC, "i8042 internal buffer full.");
}

void i8042_get_stats(struct i8042 *i8042, struct i8042_stats *out)
{
	(void)pthread_mutex_lock(&i8042->lock);
	*out = i8042->stats;
	(void)pthread_mutex_unlock(&i8042->lock);
}
