/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tap back end against the kernel's. Needs /dev/net/tun and the right to make a tap: elsewhere it is skipped here, and
 * tests/lab/test_tap.sh runs it in the lab.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio/net_backend.h"
#include "virtio/virtio_spec.h"
#include "vmm/base/log.h"

#define FRAME 100

static char name[IFNAMSIZ];
static struct net_backend *tap;
static bool possible;

static int setup(void **state)
{
	struct err e = { .code = 0 };

	(void)state;
	(void)snprintf(name, sizeof(name), "mft%d", getpid() % 100000);
	possible = net_tap_open(name, &tap, &e) == 0;
	if (!possible)
		print_message("no tap can be made here: %s\n", e.msg);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (possible)
		net_backend_close(tap);
	return 0;
}

#define NEED_TAP()                                                                                                     \
	do {                                                                                                           \
		if (!possible)                                                                                         \
			skip();                                                                                        \
	} while (0)

/* A packet socket on the tap, which is up: frames sent there come to us and the other way round. */
static int host_side(void)
{
	struct ifreq req = { .ifr_flags = 0 };
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	char path[80];
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL)), off;

	assert_true(fd >= 0);
	/* No frames but those of the test. */
	(void)snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
	off = open(path, O_WRONLY | O_CLOEXEC);
	if (off >= 0) {
		assert_int_equal(write(off, "1", 1), 1);
		(void)close(off);
	}
	memcpy(req.ifr_name, name, sizeof(name));
	assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &req), 0);
	req.ifr_flags |= IFF_UP;
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &req), 0);
	assert_int_equal(ioctl(fd, SIOCGIFINDEX, &req), 0);
	at.sll_ifindex = req.ifr_ifindex;
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	return fd;
}

static void fill(uint8_t *frame)
{
	for (int i = 0; i < FRAME; i++)
		frame[i] = (uint8_t)(i * 3);
	memset(frame, 0xff, 6);
	frame[6] = 2;
	frame[12] = 0x88; /* an Ethernet type for experiments */
	frame[13] = 0xb5;
}

static void both_ways(void **state)
{
	uint8_t hdr[NET_HDR_LEN] = { 0 }, frame[FRAME], buf[NET_FRAME_MAX];
	struct iovec out[2] = { { hdr, sizeof(hdr) }, { frame, sizeof(frame) } };
	struct iovec in[2] = { { buf, 20 }, { buf + 20, sizeof(buf) - 20 } };
	int fd;

	(void)state;
	NEED_TAP();
	fd = host_side();
	assert_int_equal(tap->ops->recv(tap, in, 2), -EAGAIN);
	fill(frame);
	assert_int_equal(tap->ops->send(tap, out, 2), 0);
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), FRAME);
	assert_memory_equal(buf, frame, FRAME);
	/* The other way. What is in num_buffers differs between kernels. */
	memset(buf, 0xee, sizeof(buf));
	assert_int_equal(send(fd, frame, FRAME, 0), FRAME);
	assert_int_equal(tap->ops->recv(tap, in, 2), NET_HDR_LEN + FRAME);
	assert_memory_equal(buf + NET_HDR_LEN, frame, FRAME);
	for (int i = 0; i < 10; i++)
		assert_int_equal(buf[i], 0);
	assert_int_equal(tap->ops->recv(tap, in, 2), -EAGAIN);
	/* What the kernel refuses is lost, and says so. */
	hdr[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	hdr[7] = 0xff;
	assert_true(tap->ops->send(tap, out, 2) < 0);
	out[1].iov_len = 5;
	assert_true(tap->ops->send(tap, out, 2) < 0);
	(void)close(fd);
}

static void features(void **state)
{
	static const struct {
		uint64_t acked;
		int result;
	} cases[] = {
		{ 0, 0 },
		{ VIRTIO_NET_F_GUEST_CSUM, 0 },
		{ VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_UFO, 0 }, /* nothing without GUEST_CSUM */
		{ VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6 | VIRTIO_NET_F_GUEST_UFO, 0 },
		{ UINT64_MAX, 0 },
	};

	(void)state;
	NEED_TAP();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(tap->ops->set_features(tap, cases[i].acked), cases[i].result);
}

static void busy_and_wrong_names(void **state)
{
	struct net_backend *other = NULL;
	struct err e = { .code = 0 };

	(void)state;
	assert_int_equal(net_tap_open("", &other, &e), -EINVAL);
	assert_string_equal(e.msg, "Invalid interface name: it has 1 to 15 bytes.");
	assert_int_equal(net_tap_open("0123456789abcdef", &other, &e), -EINVAL);
	NEED_TAP();
	assert_int_equal(net_tap_open(name, &other, &e), -EBUSY);
	assert_non_null(strstr(e.msg, "Error while creating ifreq structure: "));
	assert_non_null(strstr(e.msg, "usy (os error 16)."));
	/* An interface that is no tap. */
	assert_int_equal(net_tap_open("lo", &other, &e), -EINVAL);
	assert_string_equal(e.msg, "Error while creating ifreq structure: Invalid argument (os error 22).");
	assert_null(other);
}

static int open_tun(short flags)
{
	struct ifreq req = { .ifr_flags = flags };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	(void)snprintf(req.ifr_name, sizeof(req.ifr_name), "mfx%d", getpid() % 100000);
	assert_int_equal(ioctl(fd, TUNSETIFF, &req), 0);
	return fd;
}

static void adopt(void **state)
{
	struct net_backend *other = NULL;
	struct err e = { .code = 0 };
	int fd, pipe_fd[2];

	(void)state;
	assert_int_equal(pipe(pipe_fd), 0);
	assert_true(net_tap_adopt(pipe_fd[0], &other, &e) < 0);
	assert_non_null(strstr(e.msg, "is not a tap device"));
	(void)close(pipe_fd[0]);
	(void)close(pipe_fd[1]);
	assert_int_equal(net_tap_adopt(-1, &other, &e), -EBADF);
	NEED_TAP();
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	assert_true(net_tap_adopt(fd, &other, &e) < 0); /* not attached */
	(void)close(fd);
	fd = open_tun(IFF_TUN | IFF_NO_PI | IFF_VNET_HDR);
	assert_int_equal(net_tap_adopt(fd, &other, &e), -EINVAL);
	(void)close(fd);
	fd = open_tun(IFF_TAP | IFF_NO_PI);
	assert_int_equal(net_tap_adopt(fd, &other, &e), -EINVAL);
	(void)close(fd);
	fd = open_tun(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	assert_int_equal(net_tap_adopt(fd, &other, &e), 0);
	assert_int_equal(other->fd, fd);
	assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	net_backend_close(other);
}

static void duplicate(void **state)
{
	struct net_backend *other = NULL;
	uint8_t buf[NET_FRAME_MAX];
	struct iovec in = { buf, sizeof(buf) };

	(void)state;
	NEED_TAP();
	assert_int_equal(tap->ops->dup(tap, &other, NULL), 0);
	assert_int_not_equal(other->fd, tap->fd);
	assert_int_equal(other->ops->recv(other, &in, 1), -EAGAIN);
	net_backend_close(other);
	assert_int_equal(tap->ops->recv(tap, &in, 1), -EAGAIN);
}

/* The tap is deleted under us: the end, not an error that might pass. RTM_DELLINK needs netlink: spelled out here. */
static void delete_link(void)
{
	struct {
		struct nlmsghdr nh;
		struct ifinfomsg info;
	} msg = { .nh = { .nlmsg_len = sizeof(msg), .nlmsg_type = RTM_DELLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK } };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	char answer[256];

	msg.info.ifi_index = (int)if_nametoindex(name);
	assert_true(fd >= 0 && msg.info.ifi_index > 0);
	assert_int_equal(send(fd, &msg, sizeof(msg), 0), sizeof(msg));
	assert_true(recv(fd, answer, sizeof(answer), 0) > 0);
	(void)close(fd);
}

static void removed(void **state)
{
	uint8_t buf[FRAME] = { 0 };
	struct iovec io = { buf, FRAME };

	(void)state;
	NEED_TAP();
	delete_link();
	assert_int_equal(tap->ops->recv(tap, &io, 1), -EPIPE);
	assert_int_equal(tap->ops->send(tap, &io, 1), -EPIPE);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(both_ways), TEST(features), TEST(busy_and_wrong_names), TEST(adopt), TEST(duplicate), TEST(removed),
	};

	log_set_level(LOG_OFF);
	return cmocka_run_group_tests_name("net_tap", tests, NULL, NULL);
}
