/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A passt that says anything, and one that is slow, against the back end that speaks to it.
 *
 * Input: choices (tests/lib/fuzz_input.h). Checked beside "no crash": each frame is, byte for byte, the one that a simple
 * reader of the same stream sees; after an impossible length or the end it is -EPIPE for good; what passt receives is what
 * was accepted for sending, in order, each frame once; send() refuses only while passt has bytes of ours to read.
 */
#include <endian.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/fuzz_input.h"
#include "virtio/net_passt.h"
#include "vmm/base/log.h"

#define STREAM_MAX (1024 * KIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Bytes of one direction: [given, end) are on their way. */
struct stream {
	size_t given, end;
	uint8_t bytes[STREAM_MAX];
};

struct bench {
	struct net_backend *be, *second;
	int peer;       /* -1: passt has ended */
	bool dead;
	struct stream from, to;
	uint8_t frame[NET_FRAME_MAX], got[NET_FRAME_MAX];
};

static size_t frame_size(struct fuzz_input *in)
{
	switch (fuzz_below(in, 4)) {
	case 0:
		return PASST_FRAME_MIN + fuzz_u8(in);
	case 1:
		return 1500;
	case 2:
		return PASST_FRAME_MIN + fuzz_u16(in);
	default:
		return PASST_FRAME_MAX;
	}
}

static void passt_writes(struct bench *b, const void *bytes, size_t len)
{
	ssize_t n;

	if (b->peer < 0 || b->from.end + len > STREAM_MAX)
		return;
	n = send(b->peer, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n <= 0)
		return;
	memcpy(b->from.bytes + b->from.end, bytes, (size_t)n);
	b->from.end += (size_t)n;
}

static void passt_sends_frame(struct bench *b, struct fuzz_input *in)
{
	uint32_t len = (uint32_t)frame_size(in), prefix;

	memset(b->frame, fuzz_u8(in), NET_FRAME_MAX);
	if (len > PASST_FRAME_MAX)
		len = PASST_FRAME_MAX;
	prefix = htobe32(fuzz_rarely(in) ? fuzz_u32(in) : len);
	passt_writes(b, &prefix, sizeof(prefix));
	passt_writes(b, b->frame, fuzz_rarely(in) ? len / 2 : len);
}

static void passt_reads(struct bench *b, size_t max)
{
	ssize_t n;

	if (b->peer < 0)
		return;
	n = recv(b->peer, b->got, max, MSG_DONTWAIT);
	if (n <= 0)
		return;
	must((size_t)n <= b->to.end - b->to.given);
	must(memcmp(b->got, b->to.bytes + b->to.given, (size_t)n) == 0);
	b->to.given += (size_t)n;
}

/* What a reader with all the time and memory in the world sees in front: its bytes, 0, or -EBADMSG. */
static ssize_t reference(const struct stream *s)
{
	uint32_t len;

	if (s->end - s->given < 4)
		return 0;
	memcpy(&len, s->bytes + s->given, 4);
	len = be32toh(len);
	if (len < PASST_FRAME_MIN || len > PASST_FRAME_MAX)
		return -EBADMSG;
	return s->end - s->given - 4 < len ? 0 : (ssize_t)len;
}

static void device_receives(struct bench *b, struct fuzz_input *in)
{
	size_t room = fuzz_rarely(in) ? NET_HDR_LEN + fuzz_u8(in) : NET_FRAME_MAX, first = fuzz_below(in, 20);
	struct iovec iov[2] = { { b->got, first < room ? first : room } };
	ssize_t want = reference(&b->from), rc;

	iov[1] = (struct iovec){ b->got + iov[0].iov_len, room - iov[0].iov_len };
	rc = b->be->ops->recv(b->be, iov, 2);
	if (b->dead) {
		must(rc == -EPIPE);
		return;
	}
	if (rc == -EPIPE) {
		must(want < 0 || b->peer < 0);
		b->dead = true;
	} else if (rc == -EMSGSIZE) {
		must(want > 0 && (size_t)want + NET_HDR_LEN > room);
		b->from.given += 4 + (size_t)want;
	} else if (rc == -EAGAIN) {
		must(want == 0); /* or the frame would wait for an edge that does not come */
	} else {
		must(want > 0 && rc == NET_HDR_LEN + want);
		must(memcmp(b->got + NET_HDR_LEN, b->from.bytes + b->from.given + 4, (size_t)want) == 0);
		for (size_t i = 0; i < NET_HDR_LEN; i++)
			must(b->got[i] == 0);
		b->from.given += 4 + (size_t)want;
	}
}

static void device_sends(struct bench *b, struct fuzz_input *in)
{
	size_t len = fuzz_rarely(in) ? fuzz_u16(in) : NET_HDR_LEN + frame_size(in), first;
	struct iovec iov[2];
	uint32_t prefix;
	int rc;

	if (len > NET_FRAME_MAX)
		len = NET_FRAME_MAX;
	if (b->to.end + 4 + len > STREAM_MAX)
		return;
	memset(b->frame, fuzz_u8(in), len);
	first = fuzz_below(in, 20) < len ? 0 : len;
	iov[0] = (struct iovec){ b->frame, first };
	iov[1] = (struct iovec){ b->frame + first, len - first };
	rc = b->be->ops->send(b->be, iov, 2);
	if (rc == -EPIPE) {
		must(b->dead || b->peer < 0);
		b->dead = true;
		return;
	}
	must(!b->dead);
	if (len < NET_HDR_LEN + PASST_FRAME_MIN) {
		must(rc == -EINVAL);
		return;
	}
	if (rc != 0) {
		must(rc == -EAGAIN && b->to.given < b->to.end);
		return;
	}
	prefix = htobe32((uint32_t)(len - NET_HDR_LEN));
	memcpy(b->to.bytes + b->to.end, &prefix, 4);
	memcpy(b->to.bytes + b->to.end + 4, b->frame + NET_HDR_LEN, len - NET_HDR_LEN);
	b->to.end += 4 + len - NET_HDR_LEN;
}

static void device_flushes(struct bench *b)
{
	int rc = b->be->ops->flush(b->be);

	must(!b->dead || rc == -EPIPE);
	if (rc == -EPIPE) {
		must(b->dead || b->peer < 0);
		b->dead = true;
	} else {
		must(rc == 0 || (rc == -EAGAIN && b->to.given < b->to.end));
	}
}

/* As a failed start and its second try. */
static void change_handle(struct bench *b)
{
	int rc = b->be->ops->dup(b->be, &b->second, NULL);

	must(rc == 0 || (rc == -EPIPE && (b->dead || b->peer < 0)));
	if (rc < 0)
		return;
	b->be->ops->close(b->be);
	b->be = b->second;
}

static void act(struct bench *b, struct fuzz_input *in)
{
	uint8_t raw[64];

	switch (fuzz_below(in, 12)) {
	case 0:
	case 1:
		passt_sends_frame(b, in);
		break;
	case 2:
		for (size_t i = 0; i < sizeof(raw); i++)
			raw[i] = fuzz_u8(in);
		passt_writes(b, raw, fuzz_below(in, sizeof(raw)));
		break;
	case 3:
	case 4:
	case 5:
		device_receives(b, in);
		break;
	case 6:
	case 7:
		device_sends(b, in);
		break;
	case 8:
		device_flushes(b);
		break;
	case 9:
		passt_reads(b, 1 + fuzz_u16(in) % NET_FRAME_MAX);
		break;
	case 10:
		change_handle(b);
		break;
	case 11:
		if (fuzz_rarely(in) && b->peer >= 0) {
			(void)close(b->peer);
			b->peer = -1;
		}
		break;
	}
}

/* passt reads all there is: nothing that was accepted is missing. */
static void drain(struct bench *b)
{
	for (int i = 0; i < 2000 && !b->dead && b->peer >= 0 && b->to.given < b->to.end; i++) {
		device_flushes(b);
		passt_reads(b, sizeof(b->got));
	}
	must(b->dead || b->peer < 0 || b->to.given == b->to.end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct bench *b = calloc(1, sizeof(*b));
	int fds[2] = { -1, -1 }, ok;

	log_set_level(LOG_OFF);
	(void)signal(SIGPIPE, SIG_IGN);
	ok = b && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0;
	must(ok);
	b->peer = fds[0];
	ok = net_passt_adopt(fds[1], "/run/passt", &b->be, NULL) == 0;
	must(ok);
	for (int i = 0; i < 2000 && !fuzz_empty(&in); i++)
		act(b, &in);
	drain(b);
	b->be->ops->close(b->be);
	if (b->peer >= 0)
		(void)close(b->peer);
	free(b);
	return 0;
}
