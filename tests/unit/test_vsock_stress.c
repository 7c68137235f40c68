/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vsock device between threads, for TSan: a vCPU that kicks, the I/O thread, and a host program that echoes.
 */
#include "tests/lib/vsock_rig.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/evloop.h"

#define TOTAL 300000u
#define WINDOW 30000u
#define MAX_POLLS 20000000u

static void *io_thread(void *arg)
{
	int rc = evloop_run(rig_loop);

	(void)arg;
	must(rc == 0);
	return NULL;
}

static void *echo_thread(void *arg)
{
	static char bytes[5000];
	int l = *(const int *)arg, fd;
	ssize_t n;

	while ((fd = accept(l, NULL, NULL)) < 0)
		(void)sched_yield();
	while ((n = read(fd, bytes, sizeof(bytes))) > 0) {
		for (ssize_t at = 0; at < n;) {
			ssize_t k = write(fd, bytes + at, (size_t)(n - at));

			must(k > 0 || errno == EPIPE || errno == ECONNRESET); /* the reset at the end */
			at = k > 0 ? at + k : n;
		}
	}
	(void)close(fd);
	return NULL;
}

static void next_packet(struct guest_vsock_pkt *pkt)
{
	for (unsigned i = 0; !guest_vsock_receive(&rig_guest, pkt, rig_data); i++) {
		must(i < MAX_POLLS);
		(void)sched_yield();
	}
}

/* What the guest sends comes back, whoever serves it; then a reset in the middle of it. */
static void echo_between_threads(void **state)
{
	int l = rig_listen(90);
	pthread_t io, echo;
	struct guest_vsock_pkt pkt = guest_vsock_pkt(REQUEST, 5, 90);
	uint32_t sent = 0, got = 0;

	(void)state;
	assert_int_equal(pthread_create(&io, NULL, io_thread, NULL), 0);
	assert_int_equal(pthread_create(&echo, NULL, echo_thread, &l), 0);
	guest_vsock_send(&rig_guest, &pkt, NULL, 0);
	next_packet(&pkt);
	assert_int_equal(pkt.op, RESPONSE);
	while (got < TOTAL) {
		static uint8_t bytes[4000];
		uint32_t n = 1 + sent % sizeof(bytes);

		if (sent < TOTAL && sent - got < WINDOW && guest_vsock_sent(&rig_guest)) {
			for (uint32_t i = 0; i < n; i++)
				bytes[i] = (uint8_t)(sent + i);
			pkt = guest_vsock_pkt(RW, 5, 90);
			pkt.len = n;
			pkt.fwd_cnt = got;
			guest_vsock_send(&rig_guest, &pkt, bytes, n);
			sent += n;
			continue;
		}
		if (sent == got || !guest_vsock_receive(&rig_guest, &pkt, rig_data)) {
			(void)sched_yield();
			continue;
		}
		for (uint32_t i = 0; i < pkt.len; i++)
			assert_int_equal(rig_data[i], (uint8_t)(got + i));
		got += pkt.len;
	}
	pkt = guest_vsock_pkt(RW, 5, 90);
	pkt.len = 4000;
	guest_vsock_send(&rig_guest, &pkt, rig_data, 4000);
	guest_mmio_write(rig_mmio, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(pthread_join(echo, NULL), 0); /* the I/O thread closed its connection */
	evloop_stop(rig_loop);
	assert_int_equal(pthread_join(io, NULL), 0);
	rig_unlisten(l, 90);
	assert_int_equal(rig_vsock->n_used, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(echo_between_threads, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, rig_group_setup, rig_group_teardown);
}
