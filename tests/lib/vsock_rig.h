/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole vsock device for unit tests: a guest's driver (guest_vsock.h) on one side, Unix sockets and an event loop on the other,
 * and a host whose system calls fail on demand. One at a time: it is all static.
 */
#ifndef MAYFLY_TESTS_VSOCK_RIG_H
#define MAYFLY_TESTS_VSOCK_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <stdbool.h>

#include "tests/lib/guest_vsock.h"
#include "virtio/vsock_impl.h"

#define FEATURES (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX)
#define QSIZE 64
#define FIRST_PORT (UINT32_C(1) << 30)
#define REQUEST VIRTIO_VSOCK_OP_REQUEST
#define RESPONSE VIRTIO_VSOCK_OP_RESPONSE
#define RST VIRTIO_VSOCK_OP_RST
#define SHUTDOWN VIRTIO_VSOCK_OP_SHUTDOWN
#define RW VIRTIO_VSOCK_OP_RW
#define CREDIT_UPDATE VIRTIO_VSOCK_OP_CREDIT_UPDATE
#define CREDIT_REQUEST VIRTIO_VSOCK_OP_CREDIT_REQUEST

/* The parts, as long as a test runs. */
extern struct gmem *rig_mem;
extern struct evloop *rig_loop;
extern struct vsock *rig_vsock;
extern struct virtio_mmio *rig_mmio;
extern struct guest_vsock rig_guest;
extern char rig_path[96];
extern uint8_t rig_data[VSOCK_PKT_DATA_MAX + 64]; /* of the packet that the guest got last */

struct rig_host {
	unsigned countdown; /* the call that fails; 0: none */
	int errnum;         /* 0: it comes short instead */
	unsigned n_calls;
};

extern struct rig_host rig_host;

/* Of a group: memory, loop, a folder for the sockets. Of a test: a device whose guest runs and has posted receive buffers. */
int rig_group_setup(void **state);
int rig_group_teardown(void **state);
int rig_setup(void **state);
int rig_teardown(void **state);

/* Reset the device and bring it up again with queues of @qsize; @post: with receive buffers. */
void rig_restart(uint16_t qsize, bool post);

/* Let the I/O thread work until nothing is left to do. Returns the turns that it took. */
unsigned rig_settle(void);

/* The same; nothing may be ready for ever: after a few turns the loop sleeps. */
void rig_expect_sleep(void);

unsigned rig_open_descriptors(void);

/* Host programs: connect to @to, write, what there is to read ("(end)" at end of file, "" for nothing). */
int rig_connect(const char *to);
void rig_put(int fd, const char *text);
const char *rig_get(int fd);

/* Did the device close the connection? */
bool rig_is_closed(int fd);

/* Listen where guest connections to @port arrive, and end that. */
int rig_listen(uint32_t port);
void rig_unlisten(int fd, uint32_t port);

/* The guest's next packet, which must be an @op; none. */
struct guest_vsock_pkt rig_expect(uint16_t op);
void rig_expect_nothing(void);

/* The guest sends @op, or @text, back to where @to came from. */
void rig_reply(const struct guest_vsock_pkt *to, uint16_t op);
void rig_send_text(const struct guest_vsock_pkt *to, const char *text);

/* A host program's connection to port 52 that the guest accepted; *@conn: the REQUEST. */
int rig_connected(struct guest_vsock_pkt *conn);

#endif
