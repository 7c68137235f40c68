/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/cdefs.h"

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static struct iovec text_iov(const char *text)
{
	return (struct iovec){ .iov_base = (char *)(uintptr_t)text, .iov_len = strlen(text) };
}

void must_failed(const char *what, const char *where)
{
	struct iovec line[] = {
		text_iov("internal error: must("), text_iov(what), text_iov(") failed at "), text_iov(where), text_iov("\n"),
	};

	if (writev(STDERR_FILENO, line, (int)ARRAY_SIZE(line)) < 0) {
		/* Nobody to tell; the abort below says it. */
	}
	abort();
}
