/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The AML writer: see aml.h.
 *
 * A term with contents starts with an opcode and the length of all that follows, whose own encoding takes 1 to 4
 * bytes. The length is known only at the end: aml_end() moves the contents up by as many bytes as it needs. Our
 * terms are small and nest three deep, so the moving costs nothing that matters.
 */
#include "vmm/aml.h"

#include <errno.h>
#include <string.h>

#include "vmm/base/bytes.h"

/* ACPI 6.5, 20.3: opcodes. */
#define OP_ZERO 0x00
#define OP_ONE 0x01
#define OP_NAME 0x08
#define OP_BYTE 0x0a
#define OP_WORD 0x0b
#define OP_DWORD 0x0c
#define OP_STRING 0x0d
#define OP_QWORD 0x0e
#define OP_SCOPE 0x10
#define OP_BUFFER 0x11
#define OP_PACKAGE 0x12
#define OP_METHOD 0x14
#define OP_EXT 0x5b
#define OP_EXT_DEVICE 0x82
#define OP_ARG0 0x68
#define OP_NOTIFY 0x86
#define OP_LEQUAL 0x93
#define OP_IF 0xa0

#define METHOD_SERIALIZED 0x08

/* ACPI 6.5, 6.4: resource descriptors. */
#define RES_IO 0x47
#define RES_END_TAG 0x79
#define RES_MEMORY32_FIXED 0x86
#define RES_EXTENDED_INTERRUPT 0x89
#define IO_DECODE_16 1
#define MEMORY_READ_WRITE 1
#define INTERRUPT_CONSUMER 0x01
#define INTERRUPT_EDGE 0x02 /* active high and exclusive are zeroes */

#define RESOURCES_MAX 250
#define BUFFER_SIZE_LEN 2 /* BytePrefix and the byte */

void aml_init(struct aml *a, uint8_t *buf, size_t cap)
{
	*a = (struct aml){.buf = buf, .cap = cap};
}

int64_t aml_finish(const struct aml *a)
{
	if (a->failed || a->depth != 0)
		return -E2BIG;
	return (int64_t)a->len;
}

void aml_bytes(struct aml *a, const void *bytes, size_t len)
{
	if (a->failed || len > a->cap - a->len) {
		a->failed = true;
		return;
	}
	memcpy(a->buf + a->len, bytes, len);
	a->len += len;
}

static void put_byte(struct aml *a, uint8_t byte)
{
	aml_bytes(a, &byte, 1);
}

static void put_name(struct aml *a, const char *name)
{
	must(strlen(name) == 4);
	aml_bytes(a, name, 4);
}

/* The contents of an open term start here. */
static void open_term(struct aml *a)
{
	if (a->failed || a->depth == AML_MAX_DEPTH) {
		a->failed = true;
		return;
	}
	a->open[a->depth++] = a->len;
}

/* ACPI 6.5, 20.2.4: the encoded length counts its own bytes. Returns how many. */
static size_t encode_length(size_t contents, uint8_t out[4])
{
	size_t total;

	if (contents + 1 < 0x40) {
		out[0] = (uint8_t)(contents + 1);
		return 1;
	}
	if (contents + 2 < 0x1000) {
		total = contents + 2;
		out[0] = (uint8_t)(0x40 | (total & 0xf));
		out[1] = (uint8_t)(total >> 4);
		return 2;
	}
	total = contents + 3;
	must(total < 0x100000);
	out[0] = (uint8_t)(0x80 | (total & 0xf));
	out[1] = (uint8_t)(total >> 4);
	out[2] = (uint8_t)(total >> 12);
	return 3;
}

void aml_end(struct aml *a)
{
	uint8_t length[4];
	size_t start, contents, n;

	if (a->failed)
		return;
	must(a->depth > 0);
	start = a->open[--a->depth];
	contents = a->len - start;
	n = encode_length(contents, length);
	if (n > a->cap - a->len) {
		a->failed = true;
		return;
	}
	memmove(a->buf + start + n, a->buf + start, contents);
	memcpy(a->buf + start, length, n);
	a->len += n;
}

void aml_scope_begin(struct aml *a, const char *name)
{
	put_byte(a, OP_SCOPE);
	open_term(a);
	put_name(a, name);
}

void aml_device_begin(struct aml *a, const char *name)
{
	put_byte(a, OP_EXT);
	put_byte(a, OP_EXT_DEVICE);
	open_term(a);
	put_name(a, name);
}

void aml_method_begin(struct aml *a, const char *name, uint8_t n_args, bool serialized)
{
	must(n_args <= 7);
	put_byte(a, OP_METHOD);
	open_term(a);
	put_name(a, name);
	put_byte(a, (uint8_t)(n_args | (serialized ? METHOD_SERIALIZED : 0)));
}

void aml_if_equal_begin(struct aml *a, uint8_t arg, uint64_t value)
{
	must(arg < 7);
	put_byte(a, OP_IF);
	open_term(a);
	put_byte(a, OP_LEQUAL);
	put_byte(a, (uint8_t)(OP_ARG0 + arg));
	aml_integer(a, value);
}

void aml_integer(struct aml *a, uint64_t value)
{
	uint8_t bytes[9];

	le64_put(bytes + 1, value);
	if (value <= 1) {
		put_byte(a, value ? OP_ONE : OP_ZERO);
	} else if (value <= UINT8_MAX) {
		bytes[0] = OP_BYTE;
		aml_bytes(a, bytes, 2);
	} else if (value <= UINT16_MAX) {
		bytes[0] = OP_WORD;
		aml_bytes(a, bytes, 3);
	} else if (value <= UINT32_MAX) {
		bytes[0] = OP_DWORD;
		aml_bytes(a, bytes, 5);
	} else {
		bytes[0] = OP_QWORD;
		aml_bytes(a, bytes, 9);
	}
}

void aml_string(struct aml *a, const char *text)
{
	put_byte(a, OP_STRING);
	aml_bytes(a, text, strlen(text) + 1);
}

static uint8_t hex_value(char c)
{
	return (uint8_t)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* ACPI 6.5, 19.3.4: three letters of five bits each, then four hexadecimal digits, as a big-endian number. */
void aml_eisaid(struct aml *a, const char id[7])
{
	uint8_t bytes[5] = {OP_DWORD};
	unsigned int vendor = ((unsigned int)(id[0] - 'A' + 1) << 10) | ((unsigned int)(id[1] - 'A' + 1) << 5) |
			      (unsigned int)(id[2] - 'A' + 1);

	bytes[1] = (uint8_t)(vendor >> 8);
	bytes[2] = (uint8_t)vendor;
	bytes[3] = (uint8_t)(hex_value(id[3]) << 4 | hex_value(id[4]));
	bytes[4] = (uint8_t)(hex_value(id[5]) << 4 | hex_value(id[6]));
	aml_bytes(a, bytes, sizeof(bytes));
}

void aml_package_begin(struct aml *a, uint8_t n_elements)
{
	put_byte(a, OP_PACKAGE);
	open_term(a);
	put_byte(a, n_elements);
}

void aml_name(struct aml *a, const char *name)
{
	put_byte(a, OP_NAME);
	put_name(a, name);
}

void aml_notify(struct aml *a, const char *name, uint64_t value)
{
	put_byte(a, OP_NOTIFY);
	put_name(a, name);
	aml_integer(a, value);
}

void aml_resources_begin(struct aml *a)
{
	put_byte(a, OP_BUFFER);
	open_term(a);
	put_byte(a, OP_BYTE);
	put_byte(a, 0); /* the buffer's size, known at the end */
}

void aml_resource_memory32(struct aml *a, uint32_t base, uint32_t len)
{
	uint8_t desc[12] = {RES_MEMORY32_FIXED, 9, 0, MEMORY_READ_WRITE};

	le32_put(desc + 4, base);
	le32_put(desc + 8, len);
	aml_bytes(a, desc, sizeof(desc));
}

void aml_resource_io(struct aml *a, uint16_t port, uint8_t len)
{
	uint8_t desc[8] = {RES_IO, IO_DECODE_16};

	le16_put(desc + 2, port); /* lowest and highest base: it stands there and nowhere else */
	le16_put(desc + 4, port);
	desc[6] = 1; /* alignment */
	desc[7] = len;
	aml_bytes(a, desc, sizeof(desc));
}

void aml_resource_edge_irq(struct aml *a, uint32_t gsi)
{
	uint8_t desc[9] = {RES_EXTENDED_INTERRUPT, 6, 0, INTERRUPT_CONSUMER | INTERRUPT_EDGE, 1};

	le32_put(desc + 5, gsi);
	aml_bytes(a, desc, sizeof(desc));
}

void aml_resources_end(struct aml *a)
{
	static const uint8_t end_tag[2] = {RES_END_TAG, 0}; /* checksum 0: not used */
	size_t start, size;

	aml_bytes(a, end_tag, sizeof(end_tag));
	if (a->failed)
		return;
	must(a->depth > 0);
	start = a->open[a->depth - 1];
	size = a->len - start - BUFFER_SIZE_LEN;
	must(size <= RESOURCES_MAX);
	a->buf[start + 1] = (uint8_t)size;
	aml_end(a);
}
