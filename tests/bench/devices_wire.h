/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What guest_devices.c (in the guest) and devices_in_lab.c (on the host) agree on.
 *
 * On the serial port, for each job: DEVICES_BEGIN, the work, DEVICES_END, and a line "JOB NS OPS BETWEEN_NS"; behind the
 * last one DEVICES_DONE. NS and OPS are of the measured part; BETWEEN_NS is the guest's clock from mark to mark, which the host
 * compares with its own. The guest sleeps beside the marks, so that the host has time to set up and to read its counters.
 *
 * On a connection (TCP to DEVICES_HOST, or vsock to the host, port DEVICES_PORT): any number of requests, each a
 * devices_request and what belongs to it.
 */
#ifndef MAYFLY_TESTS_BENCH_DEVICES_WIRE_H
#define MAYFLY_TESTS_BENCH_DEVICES_WIRE_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#define DEVICES_BEGIN 2
#define DEVICES_END 3
#define DEVICES_DONE 4

#define DEVICES_HOST 0x0a000001u  /* 10.0.0.1 */
#define DEVICES_GUEST 0x0a000002u /* 10.0.0.2 */
#define DEVICES_PORT 5001
#define DEVICES_CHUNK (1024 * 1024) /* bytes that both sides offer a call: what is there goes at once */

enum devices_what {
	DEVICES_SINK = 1, /* the guest sends n bytes, the host answers one byte when it has them all */
	DEVICES_SOURCE,	  /* the host sends n bytes */
	DEVICES_ECHO,	  /* n times: the guest sends one byte, the host sends it back */
	DEVICES_PING,	  /* the host pings the guest n times, and sends one byte */
};

struct devices_request {
	uint64_t what, n;
};

/* Ping @address @n times as ping(8) does, without its pauses. @fd: a raw ICMP socket. Returns 0, or -1. */
static inline int devices_ping(int fd, uint32_t address, uint64_t n)
{
	struct {
		struct icmphdr head;
		char data[56];
	} echo = { .head = { .type = ICMP_ECHO, .un.echo.id = htons(77) } };
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(address) };
	union {
		char bytes[200];
		uint16_t words[100];
	} buf;

	for (uint64_t i = 0; i < n; i++) {
		uint32_t sum = 0;

		echo.head.un.echo.sequence = htons((uint16_t)i);
		echo.head.checksum = 0;
		memcpy(buf.bytes, &echo, sizeof(echo));
		for (size_t w = 0; w < sizeof(echo) / 2; w++)
			sum += buf.words[w];
		sum = (sum & 0xffff) + (sum >> 16);
		echo.head.checksum = (uint16_t)~(sum + (sum >> 16));
		if (sendto(fd, &echo, sizeof(echo), 0, (struct sockaddr *)&to, sizeof(to)) != sizeof(echo))
			return -1;
		do /* the other side's kernel answers, and a raw socket sees requests too */
			if (recv(fd, buf.bytes, sizeof(buf), 0) != (ssize_t)(sizeof(struct iphdr) + sizeof(echo)))
				return -1;
		while (buf.bytes[sizeof(struct iphdr)] != ICMP_ECHOREPLY);
	}
	return 0;
}

#endif
