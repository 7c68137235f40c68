/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The controller's network interfaces and vsock device without KVM and without a tap: rules, texts and what is opened and
 * closed (CONTRACT.md 4.9, 4.10). The interfaces are on Unix sockets of this test, where passt would listen.
 */
#include "tests/lib/control_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define NET_FAULT "Network config error: Could not create the network device: "
#define VSOCK_FAULT "Vsock config error: Cannot create backend for vsock device: Error binding to the host-side Unix socket: "

/* Actions of this file are made where they are used. */
static void refuses_copy(struct action action, const char *text)
{
	refuses(&action, text);
}

static void accepts_copy(struct action action)
{
	accepts(&action);
}

/* The controller has removed its own sockets: what is left are those of the test. */
static int tear_down(void **state)
{
	static const char *const names[] = {"p0", "p1", "file"};

	(void)state;
	return control_fixture_end(names, ARRAY_SIZE(names));
}

static unsigned n_open(void)
{
	DIR *fds = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(fds);
	while (readdir(fds))
		n++;
	closedir(fds);
	return n;
}

/* Listen as passt does. Returns the listener. */
static int listen_at(const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path_of(name));
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

static const struct vm_config *config(void)
{
	struct action get = {.type = ACTION_GET_VM_CONFIG};
	struct reply r = act(&get);

	assert_int_equal(r.status, 200);
	return r.config;
}

static struct action net(const char *id, const char *passt, uint8_t last_of_mac)
{
	struct action a = {.type = ACTION_PUT_NET, .net = {.iface_id = strdup(id), .passt_socket = strdup(path_of(passt))}};

	a.net.has_guest_mac = last_of_mac != 0;
	memcpy(a.net.guest_mac, (const uint8_t[]){0x06, 0, 0xac, 0x10, 0, last_of_mac}, CONFIG_MAC_BYTES);
	return a;
}

static struct action vsock(uint32_t cid, const char *path)
{
	return (struct action){.type = ACTION_PUT_VSOCK, .vsock = {.guest_cid = cid, .uds_path = strdup(path)}};
}

static void expect_order(const char *order)
{
	const struct vm_config *c = config();
	char ids[64] = "";

	for (size_t i = 0; i < c->n_nets; i++)
		(void)snprintf(ids + strlen(ids), sizeof(ids) - strlen(ids), "%s ", c->net[i].iface_id);
	assert_string_equal(ids, order);
}

static void test_not_before_the_start(void **state)
{
	struct action a = {.type = ACTION_PATCH_NET, .net = {.iface_id = strdup("a")}};

	(void)state;
	refuses_copy(a, "The requested operation is not supported before starting the microVM.");
}

static void test_order_and_replacement(void **state)
{
	int p0 = listen_at("p0"), p1 = listen_at("p1");
	unsigned n;

	(void)state;
	accepts_copy(net("a", "p0", 1));
	accepts_copy(net("b", "p1", 2));
	accepts_copy(net("c", "p1", 0));
	expect_order("a b c ");
	n = n_open();
	accepts_copy(net("a", "p0", 1)); /* its own address is not somebody else's */
	expect_order("b c a ");
	accepts_copy(net("b", "p0", 0));
	expect_order("c a b ");
	assert_false(config()->net[2].has_guest_mac);
	assert_int_equal(n_open(), n);
	close(p0);
	close(p1);
}

/* passt and a tap can be opened once only: the same again keeps the connection, unless it has ended. */
static void test_the_same_host_side_again(void **state)
{
	int p0 = listen_at("p0"), first, second;

	(void)state;
	accepts_copy(net("a", "p0", 1));
	first = accept(p0, NULL, NULL);
	assert_true(first >= 0);
	accepts_copy(net("a", "p0", 2));
	assert_int_equal(accept(p0, NULL, NULL), -1);
	assert_int_equal(config()->net[0].guest_mac[5], 2);
	close(first);
	accepts_copy(net("a", "p0", 3));
	second = accept(p0, NULL, NULL);
	assert_true(second >= 0);
	close(second);
	close(p0);
}

static void test_refusals_change_nothing(void **state)
{
	int p0 = listen_at("p0"), p1 = listen_at("p1");
	struct action a;
	unsigned n;

	(void)state;
	accepts_copy(net("a", "p0", 1));
	accepts_copy(net("b", "p1", 2));
	n = n_open();
	refuses_copy(net("b", "p1", 1), "Network config error: The MAC address is already in use: 06:00:ac:10:00:01");
	refuses_copy(net("c", "p1", 2), "Network config error: The MAC address is already in use: 06:00:ac:10:00:02");
	refuses_copy(net("a", "nobody", 0), NET_FAULT "passt_socket: ");
	refuses_copy(net("c", "nobody", 0), "nobody");
	a = net("c", "p0", 0);
	a.net.has_mtu = true;
	a.net.mtu = 67;
	refuses_copy(a, "MTU 67 is out of range [68, 65535]");
	a = net("c", "p0", 0);
	a.net.has_mtu = true;
	refuses_copy(a, "MTU 0 is out of range [68, 65535]");
	expect_order("a b ");
	assert_string_equal(config()->net[0].passt_socket, path_of("p0"));
	assert_int_equal(n_open(), n);
	a = net("c", "p0", 0);
	a.net.has_mtu = true;
	a.net.mtu = 68;
	accepts_copy(a);
	close(p0);
	close(p1);
}

static void test_taps(void **state)
{
	static const uint32_t not_taps[] = {0, 12345, INT32_MAX, UINT32_MAX};
	struct action a = {.type = ACTION_PUT_NET};
	char text[128];
	unsigned n = n_open();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(not_taps); i++) {
		a.net = (struct config_net){.iface_id = strdup("a"), .has_tap_fd = true, .tap_fd = not_taps[i]};
		(void)snprintf(text, sizeof(text), NET_FAULT "tap_fd %u: ", not_taps[i]);
		refuses_copy(a, text);
	}
	a.net = (struct config_net){.iface_id = strdup("a"), .host_dev_name = strdup("a-name-of-16-byt")};
	refuses_copy(a, NET_FAULT "Open tap device failed: ");
	a.net = (struct config_net){.iface_id = strdup("a"), .host_dev_name = strdup("")};
	refuses_copy(a, "Invalid TUN/TAP Backend provided by . Check our documentation on setting up the network devices.");
	assert_int_equal(config()->n_nets, 0);
	assert_int_equal(n_open(), n);
}

/* A descriptor that the monitor uses for one interface is not another one's. */
static void test_tap_fd_in_use(void **state)
{
	int p0 = listen_at("p0");
	unsigned n_in_use = 0;

	(void)state;
	accepts_copy(net("a", "p0", 0));
	for (uint32_t fd = 0; fd < 64; fd++) {
		struct action a = {.type = ACTION_PUT_NET,
				   .net = {.iface_id = strdup("b"), .has_tap_fd = true, .tap_fd = fd}};
		struct reply r = act(&a);

		assert_int_equal(r.status, 400);
		n_in_use += strstr(r.fault, "is in use by interface 'a'") != NULL;
	}
	assert_int_equal(n_in_use, 1);
	close(p0);
}

static void test_too_many_nets(void **state)
{
	int p0 = listen_at("p0");
	char id[16];

	(void)state;
	for (int i = 0; i < 8; i++) {
		(void)snprintf(id, sizeof(id), "n%d", i);
		accepts_copy(net(id, "p0", 0));
		close(accept(p0, NULL, NULL));
	}
	for (int i = 8; i < CONFIG_MAX_NETS; i++) {
		(void)snprintf(id, sizeof(id), "n%d", i);
		accepts_copy(net(id, "p0", 0));
		close(accept(p0, NULL, NULL));
	}
	refuses_copy(net("more", "p0", 0), "interface 'more': a microVM can have at most 32 interfaces");
	assert_int_equal(config()->n_nets, CONFIG_MAX_NETS);
	close(p0);
}

/* ---- vsock ------------------------------------------------------------------------------------------------------- */

static bool there(const char *name)
{
	struct stat st;

	return lstat(path_of(name), &st) == 0;
}

/* Connect to the socket @name: does somebody listen there? */
static bool answers(const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;

	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path_of(name));
	rc = connect(fd, (const struct sockaddr *)&addr, sizeof(addr));
	close(fd);
	return rc == 0;
}

static void test_vsock_binds_at_once(void **state)
{
	(void)state;
	accepts_copy(vsock(3, path_of("v")));
	assert_true(answers("v"));
	assert_int_equal(config()->vsock.guest_cid, 3);
	assert_string_equal(config()->vsock.uds_path, path_of("v"));
	/* tear_down finds nothing left. */
}

static void test_vsock_replaced(void **state)
{
	unsigned n;

	(void)state;
	accepts_copy(vsock(3, path_of("v")));
	n = n_open();
	accepts_copy(vsock(4, path_of("w")));
	assert_true(!there("v") && answers("w"));
	accepts_copy(vsock(5, path_of("w"))); /* the same path again */
	assert_true(answers("w"));
	assert_int_equal(config()->vsock.guest_cid, 5);
	accepts_copy(vsock(6, path_of("./w"))); /* in other words */
	assert_true(answers("w"));
	assert_int_equal(config()->vsock.guest_cid, 6);
	assert_int_equal(n_open(), n);
}

static void test_vsock_refusals_keep_the_old_one(void **state)
{
	char text[300];
	unsigned n;
	int fd = open(path_of("file"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	accepts_copy(vsock(3, path_of("v")));
	n = n_open();
	refuses_copy(vsock(4, path_of("file")), VSOCK_FAULT "Address in use (os error 98)");
	refuses_copy(vsock(4, path_of("no/v")), VSOCK_FAULT "No such file or directory (os error 2)");
	refuses_copy(vsock(4, ""), "Error binding to the host-side Unix socket");
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	refuses_copy(vsock(4, text), "Error binding to the host-side Unix socket");
	assert_true(answers("v") && there("file"));
	assert_int_equal(config()->vsock.guest_cid, 3);
	assert_int_equal(n_open(), n);
}

/* What somebody else put in the place of our socket is not ours to remove. */
static void test_vsock_not_ours_any_more(void **state)
{
	int p0;

	(void)state;
	accepts_copy(vsock(3, path_of("p0")));
	assert_int_equal(unlink(path_of("p0")), 0);
	p0 = listen_at("p0");
	refuses_copy(vsock(4, path_of("p0")), "Address in use (os error 98)");
	accepts_copy(vsock(4, path_of("v")));
	assert_true(answers("p0") && answers("v"));
	close(p0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_not_before_the_start),
		T(test_order_and_replacement),
		T(test_the_same_host_side_again),
		T(test_refusals_change_nothing),
		T(test_taps),
		T(test_tap_fd_in_use),
		T(test_too_many_nets),
		T(test_vsock_binds_at_once),
		T(test_vsock_replaced),
		T(test_vsock_refusals_keep_the_old_one),
		T(test_vsock_not_ours_any_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
