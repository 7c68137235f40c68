/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/vsock_rig.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "virtio/mmio.h"
#include "vmm/base/log.h"

static char dir[64];
static struct irq_line irq;
struct gmem *rig_mem;
struct evloop *rig_loop;
struct vsock *rig_vsock;
struct virtio_mmio *rig_mmio;
struct guest_vsock rig_guest;
char rig_path[96];
uint8_t rig_data[VSOCK_PKT_DATA_MAX + 64];

/* --- A host that fails on demand --- */

struct rig_host rig_host;

static bool fails(void)
{
	rig_host.n_calls++;
	if (rig_host.countdown == 0 || --rig_host.countdown > 0)
		return false;
	errno = rig_host.errnum;
	return true;
}

static int io_accept(int fd)
{
	return fails() && rig_host.errnum ? -1 : vsock_io_host.accept(fd);
}

static int io_connect(const char *to)
{
	return fails() && rig_host.errnum ? -1 : vsock_io_host.connect(to);
}

static ssize_t io_recv(int fd, void *buf, size_t len, int flags)
{
	if (fails()) {
		if (rig_host.errnum)
			return -1;
		len = 1;
	}
	return vsock_io_host.recv(fd, buf, len, flags);
}

static ssize_t io_readv(int fd, const struct iovec *iov, int n)
{
	struct iovec one = { .iov_base = iov->iov_base, .iov_len = 1 };

	if (!fails())
		return vsock_io_host.readv(fd, iov, n);
	return rig_host.errnum ? -1 : vsock_io_host.readv(fd, &one, 1);
}

static ssize_t io_writev(int fd, const struct iovec *iov, int n)
{
	struct iovec one = { .iov_base = iov->iov_base, .iov_len = 1 };

	if (!fails())
		return vsock_io_host.writev(fd, iov, n);
	return rig_host.errnum ? -1 : vsock_io_host.writev(fd, &one, 1);
}

static void io_shutdown(int fd, int how)
{
	vsock_io_host.shutdown(fd, how);
}

static void io_close(int fd)
{
	vsock_io_host.close(fd);
}

static const struct vsock_io_ops io = { io_accept, io_connect, io_recv, io_readv, io_writev, io_shutdown, io_close };

/* --- Life --- */

static void create(bool in_vcpu)
{
	struct vsock_config config = { .guest_cid = GUEST_VSOCK_CID, .uds_path = rig_path, .loop = rig_loop, .io = &io };
	struct virtio_mmio_config mmio = { .mem = rig_mem, .irq = &irq, .loop = rig_loop, .kick_in_vcpu = in_vcpu };

	memset(&rig_host, 0, sizeof(rig_host));
	assert_int_equal(vsock_listener_open(rig_path, &config.listen_fd, NULL), 0);
	assert_int_equal(vsock_create(&config, &rig_vsock, NULL), 0);
	mmio.dev = vsock_virtio_device(rig_vsock);
	assert_int_equal(virtio_mmio_create(&mmio, &rig_mmio, NULL), 0);
}

static void destroy(void)
{
	virtio_mmio_destroy(rig_mmio);
	vsock_destroy(rig_vsock);
	(void)unlink(rig_path); /* who had it bound removes it */
}

int rig_setup(void **state)
{
	(void)state;
	create(true);
	rig_restart(QSIZE, true);
	return 0;
}

int rig_teardown(void **state)
{
	(void)state;
	destroy();
	return access(rig_path, F_OK) == 0; /* the device's end removes its socket */
}

/* Let the I/O thread work until nothing is left to do. Returns the turns that it took. */
unsigned rig_settle(void)
{
	unsigned turns = 0;

	while (evloop_turn(rig_loop, 0) > 0)
		assert_true(++turns < 5000);
	return turns;
}

/* Nothing must be ready for ever: after a few turns the loop sleeps. */
void rig_expect_sleep(void)
{
	assert_true(rig_settle() < 100);
	assert_int_equal(evloop_turn(rig_loop, 0), 0);
}

unsigned rig_open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	(void)closedir(d);
	return n;
}

/* --- Host programs --- */

int rig_connect(const char *to)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	memcpy(addr.sun_path, to, strlen(to) + 1);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

void rig_put(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

/* What is there to read, as text; "(end)" at end of file, "" when there is nothing. */
const char *rig_get(int fd)
{
	static char text[256];
	ssize_t n = read(fd, text, sizeof(text) - 1);

	if (n < 0)
		return errno == EAGAIN ? "" : "(error)";
	text[n] = 0;
	return n == 0 ? "(end)" : text;
}

int rig_listen(uint32_t port)
{
	char to[120];
	int fd;

	(void)snprintf(to, sizeof(to), "%s_%u", rig_path, port);
	assert_int_equal(vsock_listener_open(to, &fd, NULL), 0);
	return fd;
}

void rig_unlisten(int fd, uint32_t port)
{
	char to[120];

	(void)snprintf(to, sizeof(to), "%s_%u", rig_path, port);
	(void)close(fd);
	(void)unlink(to);
}

/* --- The guest --- */

struct guest_vsock_pkt rig_expect(uint16_t op)
{
	struct guest_vsock_pkt pkt = { .op = 0 };

	(void)rig_settle();
	if (!guest_vsock_receive(&rig_guest, &pkt, rig_data))
		fail_msg("the guest got no packet, not operation %u", op);
	assert_int_equal(pkt.op, op);
	return pkt;
}

void rig_expect_nothing(void)
{
	struct guest_vsock_pkt pkt;

	(void)rig_settle();
	if (guest_vsock_receive(&rig_guest, &pkt, rig_data))
		fail_msg("the guest got operation %u, not nothing", pkt.op);
}

void rig_reply(const struct guest_vsock_pkt *to, uint16_t op)
{
	struct guest_vsock_pkt pkt = guest_vsock_pkt(op, to->dst_port, to->src_port);

	if (op == SHUTDOWN)
		pkt.flags = VSOCK_NO_MORE;
	guest_vsock_send(&rig_guest, &pkt, NULL, 0);
	(void)rig_settle();
	assert_true(guest_vsock_sent(&rig_guest));
}

void rig_send_text(const struct guest_vsock_pkt *conn, const char *text)
{
	struct guest_vsock_pkt pkt = guest_vsock_pkt(RW, conn->dst_port, conn->src_port);

	pkt.len = (uint32_t)strlen(text);
	guest_vsock_send(&rig_guest, &pkt, text, pkt.len);
	(void)rig_settle();
}

/* A host program's connection to port 52; @conn: the REQUEST. */
int rig_connected(struct guest_vsock_pkt *conn)
{
	char ok[32];
	int fd = rig_connect(rig_path);

	rig_put(fd, "CONNECT 52\n");
	*conn = rig_expect(REQUEST);
	assert_int_equal(conn->dst_port, 52);
	rig_reply(conn, RESPONSE);
	(void)snprintf(ok, sizeof(ok), "OK %u\n", conn->src_port);
	assert_string_equal(rig_get(fd), ok);
	return fd;
}

/* --- The group --- */

int rig_group_setup(void **state)
{
	struct rlimit limit;

	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_OFF);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	(void)snprintf(dir, sizeof(dir), "/tmp/vsock.XXXXXX");
	if (!mkdtemp(dir) || gmem_create(&rig_mem, GUEST_VSOCK_MEM, GMEM_PAGES_DEFAULT, NULL) < 0 ||
	    evloop_create(&rig_loop, NULL) < 0)
		return -1;
	(void)snprintf(rig_path, sizeof(rig_path), "%s/v.sock", dir);
	return irq_init(&irq, 5, NULL);
}

int rig_group_teardown(void **state)
{
	(void)state;
	irq_fini(&irq);
	evloop_destroy(rig_loop);
	gmem_destroy(rig_mem);
	return rmdir(dir);
}

void rig_restart(uint16_t qsize, bool post)
{
	assert_true(guest_vsock_start(&rig_guest, rig_mem, rig_mmio, qsize, FEATURES));
	if (post)
		guest_vsock_post_all(&rig_guest);
}

bool rig_is_closed(int fd)
{
	return strcmp(rig_get(fd), "(end)") == 0 || errno == ECONNRESET;
}
