/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/vsock_line.h"

#include <string.h>

#include "vmm/base/cdefs.h"

size_t vsock_line_scan(const struct vsock_line *line, const char *bytes, size_t len)
{
	size_t room = VSOCK_LINE_MAX - line->len;
	const char *lf;

	if (len > room)
		len = room;
	lf = memchr(bytes, '\n', len);
	return lf ? (size_t)(lf - bytes) + 1 : len;
}

void vsock_line_add(struct vsock_line *line, const char *bytes, size_t len)
{
	must(len <= (size_t)VSOCK_LINE_MAX - line->len);
	memcpy(line->text + line->len, bytes, len);
	line->len = (uint8_t)(line->len + len);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static size_t skip_blanks(const struct vsock_line *line, size_t i)
{
	while (i < line->len && is_blank(line->text[i]))
		i++;
	return i;
}

/* Behind the keyword at @i, or 0. */
static size_t skip_keyword(const struct vsock_line *line, size_t i)
{
	static const char keyword[] = "connect";

	for (size_t k = 0; k < sizeof(keyword) - 1; k++, i++) {
		/* Letters differ from their capitals in this bit; no other byte becomes one of these letters with it. */
		if (i >= line->len || (line->text[i] | 0x20) != keyword[k])
			return 0;
	}
	return i;
}

enum vsock_line_state vsock_line_parse(const struct vsock_line *line, uint32_t *port)
{
	uint64_t number = 0;
	size_t i, digits;

	if (line->len == 0 || line->text[line->len - 1] != '\n')
		return line->len < VSOCK_LINE_MAX ? VSOCK_LINE_PART : VSOCK_LINE_BAD;
	i = skip_keyword(line, skip_blanks(line, 0));
	digits = skip_blanks(line, i);
	if (i == 0 || digits == i)
		return VSOCK_LINE_BAD;
	for (i = digits; line->text[i] >= '0' && line->text[i] <= '9'; i++) {
		number = 10 * number + (uint64_t)(line->text[i] - '0');
		if (number > UINT32_MAX)
			return VSOCK_LINE_BAD;
	}
	/* The LF is the last byte, so i ends there at the latest. */
	if (i == digits || skip_blanks(line, i) != (size_t)line->len - 1)
		return VSOCK_LINE_BAD;
	*port = (uint32_t)number;
	return VSOCK_LINE_PORT;
}
