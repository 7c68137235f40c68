/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The line with which a host program asks for a port of the guest: "CONNECT <port>\n" (CONTRACT.md 11.1).
 *
 * Trust: the bytes come from a host program, in pieces of any size. Firecracker wants the line in one
 * piece; we take it as it comes.
 *
 * Threads: pure functions.
 *
 * Use: zero-initialise; show vsock_line_scan() what can be read without taking it; take as many bytes as
 * it says; vsock_line_add() them; when the line is complete, vsock_line_parse().
 */
#ifndef MAYFLY_VIRTIO_VSOCK_LINE_H
#define MAYFLY_VIRTIO_VSOCK_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

/* With its LF. */
#define VSOCK_LINE_MAX 32

struct vsock_line {
	uint8_t len;
	char text[VSOCK_LINE_MAX];
};

/*
 * Of the @len bytes at @bytes that come next: how many belong to the line? All up to its LF, so what is
 * behind stays in the socket; at most what the line has room for.
 */
size_t vsock_line_scan(const struct vsock_line *line, const char *bytes, size_t len) MUST_USE;

/* Append @len bytes, as vsock_line_scan() allowed. */
void vsock_line_add(struct vsock_line *line, const char *bytes, size_t len);

enum vsock_line_state {
	VSOCK_LINE_PART, /* no LF yet, and room for one */
	VSOCK_LINE_PORT, /* *port is set */
	VSOCK_LINE_BAD,
};

/*
 * What is it so far? The keyword in any case, blanks (space or tab), a decimal number of 32 bits, LF; blanks in front, behind
 * and a CR before the LF are allowed.
 */
enum vsock_line_state vsock_line_parse(const struct vsock_line *line, uint32_t *port) MUST_USE;

#endif
