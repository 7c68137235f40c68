# SPDX-License-Identifier: Apache-2.0
"""Network interfaces, vsock and what is Mayfly's own about devices: tap_fd, passt_socket, delta_path (CONTRACT.md 4.8 to 4.10, 18)."""
import contextlib
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import subprocess

from harness import HALT, Vm, elf, expect, has, lab_test, reply_bytes, run, test
from t_resources import DEFAULTS, EMPTY, JSON_FAULT, drive, shown

NET = "Network config error: "
CREATE = NET + "Could not create the network device: "
VSOCK = "Vsock config error: Cannot create backend for vsock device: Error binding to the host-side Unix socket: "
DOCS = "Check our documentation on setting up the network devices."
KERNEL = {"kernel_image_path": "vmlinux"}
IN_LAB = "MAYFLY_LAB" in os.environ
BUCKET = {"size": 1000, "one_time_burst": 5, "refill_time": 100}


def net(name, tap="tap0", **more):
    return {"iface_id": name, "host_dev_name": tap, **more}


def passt(name, path="passt", **more):
    return {"iface_id": name, "passt_socket": path, **more}


def net_shown(name, tap="tap0", **more):
    return {"iface_id": name, "host_dev_name": tap, "guest_mac": None, "mtu": None, "rx_rate_limiter": None,
            "tx_rate_limiter": None, **more}


@contextlib.contextmanager
def listening(path):
    """Somebody who listens where passt would."""
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
        s.listen(64)
        yield s


def put_net(m, body):
    return m.put(f"/network-interfaces/{body['iface_id']}", body)


@test
def network_rules():
    rows = (
        ({"iface_id": "n"}, (JSON_FAULT + "missing field `host_dev_name` at line 1 column 17.",)),
        ({"iface_id": "n", "host_dev_name": None}, (JSON_FAULT + "missing field `host_dev_name`",)),
        (net("n", 7), (JSON_FAULT + "invalid type: integer `7`, expected a string", "host_dev_name")),
        (net("n", guest_mac="06:00:00:00:00"), (JSON_FAULT + "invalid value: string ", "MAC address", "06:00:ac:10:00:02")),
        (net("n", guest_mac="6:0:0:0:0:0"), (JSON_FAULT, "MAC address", "(field `guest_mac`)")),
        (net("n", guest_mac=7), (JSON_FAULT + "invalid type: integer `7`, expected a string", "guest_mac")),
        (net("n", mtu=65536), (JSON_FAULT + "invalid value: integer `65536`, expected u16", "mtu")),
        (net("n", mtu=-1), (JSON_FAULT + "invalid value: integer `-1`, expected u16", "mtu")),
        (passt("n", mtu=67), (CREATE + "MTU 67 is out of range [68, 65535]",)),
        (passt("n", mtu=0), (CREATE + "MTU 0 is out of range [68, 65535]",)),
        (net("n", allow_mmds_requests=True), (JSON_FAULT + "unknown field `allow_mmds_requests`, expected one of `iface_id`, ",)),
        (net("n", rx_rate_limiter={"speed": {}}), (JSON_FAULT + "unknown field `speed`, expected `bandwidth` or `ops`",)),
        (net("n", tx_rate_limiter={"ops": {"size": 1}}), (JSON_FAULT + "missing field `refill_time`", "tx_rate_limiter.ops")),
        (net("n", rx_rate_limiter=[]), (JSON_FAULT + "invalid type: sequence, expected struct RateLimiterConfig",)),
        (net("n", tap_fd=3), (JSON_FAULT + "too many fields: expected one of `host_dev_name`, `tap_fd`, `passt_socket`",)),
        (passt("n", tap_fd=3), (JSON_FAULT + "too many fields: expected one of `host_dev_name`, `tap_fd`, `passt_socket`",)),
        ({"iface_id": "n", "tap_fd": 0}, (CREATE + "tap_fd 0: ", "not a tap")),
        ({"iface_id": "n", "tap_fd": 999}, (CREATE + "tap_fd 999: ", "Bad file descriptor (os error 9)")),
        ({"iface_id": "n", "tap_fd": 1 << 31}, (CREATE + "tap_fd 2147483648: ",)),
        ({"iface_id": "n", "tap_fd": 1 << 32}, (JSON_FAULT + "invalid value: integer `4294967296`, expected u32", "tap_fd")),
        (passt("n", "nowhere"), (CREATE + "passt_socket: ", "nowhere", "No such file or directory (os error 2)")),
        (passt("n", "x" * 200), (CREATE + "passt_socket: ",)),
        (net("n", "sixteen-bytes-it"), (CREATE + "Open tap device failed: ", f"provided by sixteen-bytes-it. {DOCS}")),
        (net("n", ""), (CREATE + "Open tap device failed: ", f"Invalid TUN/TAP Backend provided by . {DOCS}")),
        (passt("n", guest_mac="06:00:00:00:00:0A"), (NET + "The MAC address is already in use: 06:00:00:00:00:0a",)),
    )
    with Vm() as m, listening(m.path("passt")):
        expect("one", 204, put_net(m, passt("one", guest_mac="06:00:00:00:00:0a")).status)
        for body, texts in rows:
            reply = put_net(m, body)
            expect(f"{body}: status", 400, reply.status)
            has(f"{body}", reply.fault, *texts)
        expect("ids", "The id from the path [a] does not match the id from the body [b]!",
               m.put("/network-interfaces/a", net("b")).fault)
        expect("no id", "The ID cannot be empty.", m.put("/network-interfaces", net("b")).fault)
        expect("bad id", "API Resource IDs can only contain alphanumeric characters and underscores.",
               m.put("/network-interfaces/a-b", net("a-b")).fault)
        expect("no half-made interface", ["one"], [n["iface_id"] for n in m.config()["network-interfaces"]])
        has("PATCH", m.call("PATCH", "/network-interfaces/one", {"iface_id": "one", "guest_mac": "06:00:00:00:00:0b"}).fault,
            "unknown field `guest_mac`, expected one of `iface_id`, `rx_rate_limiter`, `tx_rate_limiter`")
        fds = m.n_fds(2)
        for _ in range(30):
            put_net(m, passt("one", guest_mac="06:00:00:00:00:0a"))
            put_net(m, passt("two", "nowhere"))
            put_net(m, {"iface_id": "two", "tap_fd": 0})
        expect("descriptors after 90 replacements and refusals", fds, m.n_fds(2))


@test
def vsock_rules():
    rows = (
        ({"guest_cid": 3}, (JSON_FAULT + "missing field `uds_path` at line 1 column 16.",)),
        ({"uds_path": "v"}, (JSON_FAULT + "missing field `guest_cid` at line 1 column 17.",)),
        ({"guest_cid": "3", "uds_path": "v"}, (JSON_FAULT + 'invalid type: string "3", expected u32', "guest_cid")),
        ({"guest_cid": 1 << 32, "uds_path": "v"}, (JSON_FAULT + "invalid value: integer `4294967296`, expected u32",)),
        ({"guest_cid": 3, "uds_path": None}, (JSON_FAULT + "invalid type: null, expected a string", "uds_path")),
        ({"guest_cid": 3, "uds_path": "v", "cid": 1},
         (JSON_FAULT + "unknown field `cid`, expected one of `vsock_id`, `guest_cid`, `uds_path`",)),
        ({"guest_cid": 3, "uds_path": "file"}, (VSOCK + "Address in use (os error 98)", "'file'", "remove it")),
        ({"guest_cid": 3, "uds_path": "old"}, (VSOCK + "Address in use (os error 98)", "'old'", "remove it")),
        ({"guest_cid": 3, "uds_path": "no/v"}, (VSOCK + "No such file or directory (os error 2)", "'no/v'", "folder")),
        ({"guest_cid": 3, "uds_path": ""}, ("Error binding to the host-side Unix socket",)),
        ({"guest_cid": 3, "uds_path": "x" * 150}, ("Error binding to the host-side Unix socket", "150")),
    )
    with Vm(files={"file": "x"}) as m:
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(m.path("old"))
        good = m.put("/vsock", {"guest_cid": 3, "uds_path": "v"})
        expect("whole reply", reply_bytes(204), good.raw)
        os.chmod(m.path("v"), 0o640)  # as Kata does
        for body, texts in rows:
            reply = m.put("/vsock", body)
            expect(f"{body}: status", 400, reply.status)
            has(f"{body}", reply.fault, *texts)
        expect("the first one is still there", {"guest_cid": 3, "uds_path": "v"}, m.config()["vsock"])
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(m.path("v"))
        fds = m.n_fds(1)
        expect("another, with an id", reply_bytes(204, deprecated=True),
               m.put("/vsock", {"guest_cid": 4, "uds_path": "w", "vsock_id": "root"}).raw)
        has("log", m.log, "PUT /vsock: vsock_id field is deprecated.")
        expect("sockets", ["old", "sock", "w"], m.sockets_left())
        expect("the same path again", 204, m.put("/vsock", {"guest_cid": 5, "uds_path": "w", "vsock_id": None}).status)
        expect("sockets", ["old", "sock", "w"], m.sockets_left())
        expect("shown", {"guest_cid": 5, "uds_path": "w"}, m.config()["vsock"])
        reply = m.put("/vsock", {"guest_cid": 5, "uds_path": "file", "vsock_id": "x"})
        expect("deprecated also when refused", True, "Deprecation: true" in reply.head and reply.status == 400)
        expect("descriptors", fds, m.n_fds(1))
        m.put("/vsock", {"guest_cid": 2, "uds_path": "w"})
        has("a cid that is no guest's", m.log, "guest_cid 2 ", "3 or more")
        expect("SIGTERM leaves no socket of ours", (-signal.SIGTERM, ["old"]), (m.stop(), m.sockets_left()))
    with Vm() as m:
        m.put("/vsock", {"guest_cid": 3, "uds_path": "v"})
        m.process.kill()
        expect("SIGKILL leaves both", (-signal.SIGKILL, ["sock", "v"]), (m.ends(), m.sockets_left()))


@test
def network_order_and_echo():
    with Vm(files={"disk": bytes(4096)}) as m, listening(m.path("passt")), listening(m.path("other")):
        expect("nothing", ([], None), (m.config()["network-interfaces"], m.config()["vsock"]))
        for body in (passt("a"), passt("b", "other", guest_mac="AA:bb:CC:dd:EE:0f", mtu=68, rx_rate_limiter={"ops": BUCKET},
                                       tx_rate_limiter={"bandwidth": None}), passt("c", mtu=65535)):
            expect(f"{body}", 204, put_net(m, body).status)
        a, b, c = (net_shown("a", None, passt_socket="passt"),
                   net_shown("b", None, passt_socket="other", guest_mac="aa:bb:cc:dd:ee:0f", mtu=68,
                             rx_rate_limiter={"bandwidth": None, "ops": BUCKET}),
                   net_shown("c", None, passt_socket="passt", mtu=65535))
        expect("in order of insertion", [a, b, c], m.config()["network-interfaces"])
        expect("the first one again", 204, put_net(m, passt("a")).status)
        expect("it went to the end", [b, c, a], m.config()["network-interfaces"])
        expect("a failed replacement", 400, put_net(m, passt("b", "gone")).status)
        expect("changes nothing", [b, c, a], m.config()["network-interfaces"])
        for i in range(29):
            expect("one of 32", 204, put_net(m, passt(f"n{i}")).status)
        has("one too many", put_net(m, passt("more")).fault, "'more'", "32")


CONFIGS = {  # name: (sections, what the refusal has to say)
    "not a list": ({"network-interfaces": {}}, ["network-interfaces", "map", "sequence"]),
    "second interface": ({"network-interfaces": [net("a"), {"iface_id": "b"}]},
                         ["network-interfaces[1]", "missing field `host_dev_name`"]),
    "two ways": ({"network-interfaces": [net("a", passt_socket="p")]}, ["network-interfaces[0]", "too many fields", "`tap_fd`"]),
    "MTU": ({"network-interfaces": [{"iface_id": "a", "tap_fd": 5, "mtu": 5}]}, ["network-interfaces[0]", "MTU 5 is out of range"]),
    "too many": ({"network-interfaces": [net(f"n{i}") for i in range(33)]}, ["network-interfaces", "more than 32"]),
    "vsock a list": ({"vsock": []}, ["vsock", "sequence", "VsockDeviceConfig"]),
    "vsock path": ({"vsock": {"guest_cid": 3, "uds_path": "no/v"}}, ["vsock", "No such file or directory (os error 2)", "no/v"]),
    "vsock cid": ({"vsock": {"guest_cid": -3, "uds_path": "v"}}, ["vsock.guest_cid", "`-3`", "u32"]),
    "delta": ({"drives": [drive("d", "vmlinux", delta_path=5)]}, ["drives[0].delta_path", "`5`", "a string"]),
}


@test
def config_files_with_devices():
    for name, (sections, words) in CONFIGS.items():
        content = json.dumps({"boot-source": KERNEL, "drives": [], **sections})
        with run("--config-file", "vm.json", files={"vm.json": content, "vmlinux": "kernel"}) as m:
            expect(f"{name}: status", 1, m.status)
            has(f"{name}: stderr", m.err, "Error: Configuration for VMM from one single json failed", "vm.json", *words)
            expect(f"{name}: no socket left", [], m.sockets_left())


@test
def copy_on_write_rules():
    create = "Drive config error: Unable to create the virtio block device: Virtio backend error: "
    with Vm(files={"base": bytes(1 << 20), "other": b"o" * 8192, "junk": b"j" * (1 << 20)}) as m:
        put = lambda name, path="base", **more: m.put(f"/drives/{name}", drive(name, path, **more))
        expect("new", 204, put("a", delta_path="delta").status)
        expect("the delta is for its owner only", 0o100600, os.stat(m.path("delta")).st_mode)
        expect("shown", [shown("a", "base", delta_path="delta")], m.config()["drives"])
        expect("reopened", 204, put("a", delta_path="delta").status)  # a new one also holds its folder
        fds = m.n_fds()
        for name, path, more, texts in (
                ("b", "base", {"delta_path": "delta"}, ("'delta'", "it is in use", "delta of its own")),
                ("b", "base", {"delta_path": "junk"}, ("'junk'",)),
                ("b", "base", {"delta_path": "base"}, ("'base'", "it is the base itself")),
                ("b", "base", {"delta_path": "no/delta"}, ("'no/delta'", "No such file or directory (os error 2)")),
                ("b", "base", {"delta_path": "/tmp"}, ("'/tmp'",)),
                ("b", "base", {"delta_path": ""}, ("delta ''",)),
                ("b", "gone", {"delta_path": "never"}, ("No such file or directory (os error 2)", "gone")),
                ("a", "other", {"delta_path": "delta"}, ("'delta'", "it belongs to a base of 1048576 bytes")),
                ("a", "gone", {"delta_path": "delta"}, ("No such file or directory (os error 2)", "gone"))):
            reply = put(name, path, **more)
            expect(f"{name} {path} {more}: status", 400, reply.status)
            has(f"{name} {path} {more}", reply.fault, create, *texts)
        has("no base", put("b", None, delta_path="never").fault, "Invalid block config.", "path_on_host is missing")
        expect("no file of a refused drive", False, os.path.exists(m.path("never")))
        expect("the drive is what it was", ([shown("a", "base", delta_path="delta")], fds), (m.config()["drives"], m.n_fds()))
        has("and holds its delta", put("b", delta_path="delta").fault, "it is in use")
        expect("again", 204, put("a", delta_path="delta", cache_type="Writeback").status)
        expect("read-only, without a delta file", 204, put("b", delta_path="none", is_read_only=True).status)
        expect("is not made", False, os.path.exists(m.path("none")))
        expect("raw now", 204, put("a", "other").status)
        expect("its delta is free", 204, put("c", delta_path="delta").status)
        expect("shown", [shown("a", "other"), shown("b", "base", delta_path="none", is_read_only=True),
                         shown("c", "base", delta_path="delta")], m.config()["drives"])


# ---- started microVMs ------------------------------------------------------------------------------------------------

@lab_test
def devices_after_the_start():
    after = "The requested operation is not supported after starting the microVM."
    unable = NET + "Unable to update the network device: "
    with Vm(files={"vmlinux": elf(HALT)}) as m, listening(m.path("passt")) as p:
        m.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64})
        m.put("/boot-source", KERNEL)
        put_net(m, passt("a", rx_rate_limiter={"ops": BUCKET}, mtu=1500))
        m.put("/vsock", {"guest_cid": 3, "uds_path": "v"})
        patch = {"iface_id": "a", "rx_rate_limiter": {"bandwidth": BUCKET}, "tx_rate_limiter": {"ops": BUCKET}}
        expect("PATCH before", "The requested operation is not supported before starting the microVM.",
               m.call("PATCH", "/network-interfaces/a", patch).fault)
        before = m.config()
        expect("start", 204, m.start().status)
        expect("GET /vm/config is as before", before, m.config())
        for path, body, text in (("/network-interfaces/b", passt("b"), "PCI is not enabled"),
                                 ("/network-interfaces/a", passt("a"), "PCI is not enabled"),
                                 ("/vsock", {"guest_cid": 3, "uds_path": "w"}, after)):
            reply = m.put(path, body)
            expect(f"PUT {path}", (400, text), (reply.status, reply.fault))
        expect("DELETE", "PCI is not enabled", m.call("DELETE", "/network-interfaces/a").fault)
        reply = m.put("/vsock", {"guest_cid": 3, "uds_path": "w", "vsock_id": "x"})
        expect("vsock_id", (400, True), (reply.status, "Deprecation: true" in reply.head))
        expect("PATCH", 204, m.call("PATCH", "/network-interfaces/a", patch).status)
        want = net_shown("a", None, passt_socket="passt", mtu=1500, rx_rate_limiter={"bandwidth": BUCKET, "ops": BUCKET},
                         tx_rate_limiter={"bandwidth": None, "ops": BUCKET})
        expect("shown", [want], m.config()["network-interfaces"])
        for body in ({}, {"rx_rate_limiter": {}}, {"rx_rate_limiter": None, "tx_rate_limiter": {"ops": None}}):
            expect(f"PATCH {body}", 204, m.call("PATCH", "/network-interfaces/a", {"iface_id": "a", **body}).status)
        expect("changed nothing", [want], m.config()["network-interfaces"])
        off = {"size": 0, "refill_time": 0}
        expect("off", 204, m.call("PATCH", "/network-interfaces/a",
                                  {"iface_id": "a", "rx_rate_limiter": {"bandwidth": off, "ops": off}}).status)
        expect("shown as none", None, m.config()["network-interfaces"][0]["rx_rate_limiter"])
        has("unknown", m.call("PATCH", "/network-interfaces/x", {"iface_id": "x"}).fault, unable + "Device not found", "'x'")
        for state in ("Paused", "Resumed"):
            expect(state, 204, m.call("PATCH", "/vm", {"state": state}).status)
        expect("one connection to passt", True, p.accept() and waits(p))
        expect("SIGTERM", (-signal.SIGTERM, ["passt"]), (m.stop(), m.sockets_left()))


def waits(listener):
    """Is there no further connection?"""
    listener.settimeout(0.05)
    try:
        listener.accept()
    except TimeoutError:
        return True
    return False


@lab_test
def a_failed_start_keeps_devices():
    with Vm(files={"vmlinux": elf(HALT), "disk": bytes(4096)}) as m, listening(m.path("passt")) as p:
        m.put("/boot-source", KERNEL)
        m.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64})
        m.put("/drives/d", drive("d"))
        put_net(m, passt("a"))
        m.put("/vsock", {"guest_cid": 3, "uds_path": "v"})
        m.put("/serial", {"serial_out_path": "nodir/console"})
        fds = m.n_fds(3)
        for _ in range(3):
            has("no folder for the console", m.start().fault, "nodir/console")
        expect("descriptors", fds, m.n_fds(3))
        for i in range(13):
            put_net(m, passt(f"b{i}"))
        m.put("/drives/e", drive("e"))
        m.put("/drives/f", drive("f"))
        m.put("/serial", {})
        reply = m.start()  # 3 drives, 14 interfaces, vsock
        has("18 devices", reply.fault, "Could not allocate GSI: The requested resource is not available.", "17", "18")
        p.accept()
    with Vm(files={"vmlinux": elf(HALT)}) as m:  # a step behind the devices fails
        m.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64})
        m.put("/vsock", {"guest_cid": 3, "uds_path": "v"})
        m.put("/boot-source", {**KERNEL, "boot_args": "a" * 2030})
        for _ in range(2):
            has("command line", m.start().fault, "The kernel command line is invalid", "2047")
            expect("the vsock socket is still there", ["sock", "v"], m.sockets_left())
        m.put("/boot-source", KERNEL)
        expect("start", 204, m.start().status)
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(m.path("v"))
    with Vm(files={"vmlinux": elf(HALT), "disk": bytes(4096)}) as m, listening(m.path("passt")):
        m.put("/boot-source", KERNEL)
        m.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64})
        for i in range(8):
            put_net(m, passt(f"n{i}"))
            m.put(f"/drives/d{i}", drive(f"d{i}"))
        m.put("/vsock", {"guest_cid": 3, "uds_path": "v"})
        m.put("/serial", {"serial_out_path": "nodir/console"})
        expect("refused", 400, m.start().status)
        m.put("/serial", {})
        expect("17 devices, at the second try", 204, m.start().status)
        has("command line", m.log, "virtio_mmio.device=4K@0xc0001000:5 ", "virtio_mmio.device=4K@0xc0011000:21")


@lab_test
def a_start_that_runs_out_of_descriptors():
    """Whatever step fails: the reason is said, all is given back, and the next try works."""
    with Vm(files={"vmlinux": elf(HALT), "disk": bytes(4096), "base": bytes(8192)}) as m, listening(m.path("passt")):
        m.put("/boot-source", KERNEL)
        m.put("/machine-config", {"vcpu_count": 2, "mem_size_mib": 64})
        for body in (drive("s"), drive("c", "base", delta_path="delta"), drive("a", io_engine="Async")):
            m.put(f"/drives/{body['drive_id']}", body)
        put_net(m, passt("n"))
        m.put("/vsock", {"guest_cid": 3, "uds_path": "v"})
        with m.connect() as c:  # needs one, too
            expect("state", 200, c.call("GET", "/").status)
            fds = m.n_fds(4)
            failed, spare, replies = 0, 0, set()
            while spare < 100:
                resource.prlimit(m.process.pid, resource.RLIMIT_NOFILE, (fds + spare, 4096))
                reply = c.call("PUT", "/actions", {"action_type": "InstanceStart"})
                if reply.status == 204:
                    break
                has(f"{spare} to spare", reply.fault, "Start microvm error: ", "No file descriptors available (os error 24)")
                expect(f"{spare} to spare: descriptors", fds, m.n_fds(4))
                failed, spare = failed + 1, spare + 1
                replies.add(reply.fault)
            expect("started at last", (204, True), (reply.status, failed > 10))
            expect("reasons of several kinds", True, len(replies) > 5 or replies)
            has("state", c.call("GET", "/").body, '"Running"')


@lab_test
def a_config_file_with_devices():
    want = {**EMPTY, "boot-source": {**KERNEL, "initrd_path": None, "boot_args": None},
            "machine-config": {**DEFAULTS, "mem_size_mib": 64}, "drives": [shown("d")], "vsock": {"guest_cid": 3, "uds_path": "v"}}
    with Vm("--config-file", "c", files={"vmlinux": elf(HALT), "disk": bytes(4096), "c": json.dumps(want)}) as m:
        expect("GET /vm/config is a configuration file", True, m.wait_log("Successfully started") and want == m.config())
        expect("attach order", True, "virtio_mmio.device=4K@0xc0001000:5 virtio_mmio.device=4K@0xc0002000:6" in m.log)
        expect("sockets", ["sock", "v"], m.sockets_left())
        expect("SIGTERM", (-signal.SIGTERM, []), (m.stop(), m.sockets_left()))


@lab_test
def copy_on_write_after_the_start():
    patch = "Drive config error: Unable to patch the block device: "
    with Vm(files={"vmlinux": elf(HALT), "base": bytes(1 << 20), "other": b"o" * (2 << 20), "raw": bytes(4096)}) as m:
        m.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64})
        m.put("/boot-source", KERNEL)
        m.put("/drives/c", drive("c", "base", delta_path="delta"))
        m.put("/drives/c", drive("c", "base", delta_path="delta"))  # a new one also holds its folder
        m.put("/drives/r", drive("r", "raw"))
        m.put("/serial", {"serial_out_path": "nodir/console"})
        expect("a start that fails", 400, m.start().status)
        m.put("/serial", {})
        expect("start", 204, m.start().status)
        before, fds = m.config(), m.n_fds()
        for name, body, texts in (
                ("c", {"path_on_host": "other"}, ("'c' is a copy-on-write drive", "delta_path")),
                ("c", {"path_on_host": "other", "delta_path": "delta"}, ("'c' is a copy-on-write drive", "another delta_path")),
                ("c", {"delta_path": "new"}, ("delta_path goes together with path_on_host",)),
                ("c", {"path_on_host": "gone", "delta_path": "new"}, ("No such file or directory (os error 2)", "gone")),
                ("c", {"path_on_host": "other", "delta_path": "raw"}, ("'raw'",)),
                ("r", {"path_on_host": "base", "delta_path": "new"}, ("'r' is not a copy-on-write drive",)),
                ("r", {"delta_path": "new"}, ("'r' is not a copy-on-write drive",)),
                ("c", {}, ("Running method expected different backend.",))):
            reply = m.call("PATCH", f"/drives/{name}", {"drive_id": name, **body})
            expect(f"{name} {body}: status", 400, reply.status)
            has(f"{name} {body}", reply.fault, patch, *texts)
        expect("nothing changed", (before, fds), (m.config(), m.n_fds()))
        limiter = {"bandwidth": None, "ops": BUCKET}
        for body in ({"path_on_host": "base"}, {"path_on_host": "base", "delta_path": "delta"}, {"rate_limiter": limiter},
                     {"path_on_host": "base", "rate_limiter": {"ops": BUCKET}}):
            expect(f"the same files, {body}", 204, m.call("PATCH", "/drives/c", {"drive_id": "c", **body}).status)
        expect("shown", shown("c", "base", delta_path="delta", rate_limiter=limiter), m.config()["drives"][0])
        expect("another pair", 204, m.call("PATCH", "/drives/c", {"drive_id": "c", "path_on_host": "other", "delta_path": "new"}).status)
        expect("shown", shown("c", "other", delta_path="new", rate_limiter=limiter), m.config()["drives"][0])
        expect("back to the first", 204, m.call("PATCH", "/drives/c", {"drive_id": "c", "path_on_host": "base", "delta_path": "delta"}).status)
        expect("descriptors", fds, m.n_fds())
    with Vm(files={"vmlinux": elf(HALT), "base": bytes(1 << 20)}) as m, Vm(files={"vmlinux": elf(HALT)}) as n:
        both = {"path_on_host": m.path("base"), "drive_id": "c", "is_root_device": True}
        for vm, delta in ((m, "one"), (n, "two")):
            vm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64})
            vm.put("/boot-source", KERNEL)
            expect("a drive on the shared base", 204, vm.put("/drives/c", {**both, "delta_path": delta}).status)
            expect("start", 204, vm.start().status)
        has("the other's delta", n.call("PATCH", "/drives/c", {"drive_id": "c", "path_on_host": m.path("base"),
                                                              "delta_path": m.path("one")}).fault, "in use, by another microVM or another drive")


# ---- taps, in the lab's own network ----------------------------------------------------------------------------------

TUNSETIFF, TUNSETVNETHDRSZ = 0x400454ca, 0x400454d8
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000


def ip(*words):
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def tap(name, *words):
    ip("tuntap", "add", "dev", name, "mode", "tap", *words)
    try:
        yield
    finally:
        ip("link", "del", name)


def open_tap(name, flags):
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    return fd


@lab_test
def interfaces_on_taps():
    if not IN_LAB:
        return  # it makes network devices
    failed = CREATE + "Open tap device failed: Error while creating ifreq structure: "
    with tap("tap0"), tap("tap1"), tap("many", "multi_queue"), Vm(files={"vmlinux": elf(HALT)}) as m:
        expect("one", 204, put_net(m, net("a", guest_mac="06:00:AC:10:00:02")).status)
        fds = m.n_fds()
        has("its tap for another", put_net(m, net("b")).fault,
            failed + f"Resource busy (os error 16). Invalid TUN/TAP Backend provided by tap0. {DOCS}")
        has("a tap with queues", put_net(m, net("b", "many")).fault,
            failed + f"Invalid argument (os error 22). Invalid TUN/TAP Backend provided by many. {DOCS}", "multi_queue")
        has("no tap", put_net(m, net("b", "lo")).fault, failed, "provided by lo.")
        expect("again on the same tap", 204, put_net(m, net("a")).status)
        expect("shown", [net_shown("a")], m.config()["network-interfaces"])
        expect("on another tap", 204, put_net(m, net("a", "tap1")).status)
        expect("the first tap is free", 204, put_net(m, net("b", "tap0")).status)
        expect("and changed hands", 400, put_net(m, net("b", "tap1")).status)
        expect("shown", [net_shown("a", "tap1"), net_shown("b")], m.config()["network-interfaces"])
        expect("descriptors", fds + 1, m.n_fds())
        m.put("/boot-source", KERNEL)
        expect("start", 204, m.start().status)
        m.stop()
    with tap("tap0"), Vm() as m:
        put_net(m, net("a"))
        ip("link", "del", "tap0")
        ip("tuntap", "add", "dev", "tap0", "mode", "tap")  # another one of that name
        expect("opened anew", 204, put_net(m, net("a")).status)
        busy = subprocess.run(["ip", "-d", "link", "show", "tap0"], capture_output=True, text=True, check=True).stdout
        has("and held", busy, "LOWER_UP" if "UP" in busy else "tap0")


@lab_test
def taps_without_root():
    if not IN_LAB:
        return
    os.chmod("/dev/net/tun", 0o666)
    with tap("tap0", "user", "65534"), tap("tap1"), Vm(user=65534) as m:
        expect("its own", 204, put_net(m, net("a")).status)
        has("somebody else's", put_net(m, net("b", "tap1")).fault, "(os error 1)", "tap1", "ip tuntap add", "user")
        has("a new one", put_net(m, net("b", "tap2")).fault, "(os error 1)", "tap2")


@lab_test
def inherited_taps():
    if not IN_LAB:
        return
    with tap("tap0"), tap("tap1"):
        good, tun = open_tap("tap0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR), open_tap("tap1", IFF_TAP | IFF_NO_PI)
        try:
            with Vm(files={"vmlinux": elf(HALT)}, pass_fds=(good, tun)) as m:
                body = {"iface_id": "a", "tap_fd": good}
                has("without headers", put_net(m, {"iface_id": "a", "tap_fd": tun}).fault, f"tap_fd {tun}: ", "IFF_VNET_HDR")
                expect("good", 204, put_net(m, body).status)
                expect("again", 204, put_net(m, {**body, "mtu": 1400}).status)
                has("for another", put_net(m, {"iface_id": "b", "tap_fd": good}).fault, f"tap_fd {good} is in use by interface 'a'")
                expect("shown", [net_shown("a", None, mtu=1400, tap_fd=good)], m.config()["network-interfaces"])
                m.put("/boot-source", KERNEL)
                expect("start", 204, m.start().status)
        finally:
            os.close(good)
            os.close(tun)


@lab_test
def a_host_without_io_uring():
    knob = "/proc/sys/kernel/io_uring_disabled"
    if not IN_LAB:
        return  # it changes the host
    with Vm(files={"vmlinux": elf(HALT), "disk": bytes(4096)}) as m:
        m.put("/boot-source", KERNEL)
        m.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64})
        expect("Async", 204, m.put("/drives/d", drive("d", io_engine="Async")).status)
        with open(knob, "w", encoding="ascii") as f:
            f.write("2")
        try:
            has("at PUT", m.put("/drives/e", drive("e", io_engine="Async")).fault,
                "Drive config error: Unable to create the virtio block device: io_engine 'Async': ", "io_uring_disabled", "Sync")
            has("at the start", m.start().fault, "Start microvm error: ", "io_uring_disabled", "Sync")
        finally:
            with open(knob, "w", encoding="ascii") as f:
                f.write("0")
        expect("as it was", [shown("d", io_engine="Async")], m.config()["drives"])
        expect("start", 204, m.start().status)


# ---- what clients send (CONTRACT.md section 18) ----------------------------------------------------------------------

@lab_test
def as_the_go_sdk_does():
    if not IN_LAB:
        return
    with tap("tap0"), tap("tap1"), Vm(files={"vmlinux": elf(HALT), "rootfs": bytes(1 << 20), "data": bytes(4096)}) as m:
        calls = (
            ("/logger", {"log_path": "log", "level": "Debug", "show_level": True, "show_log_origin": False}),
            ("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64, "smt": True, "track_dirty_pages": False}),
            ("/boot-source", {**KERNEL, "boot_args": "ro console=ttyS0 noapic reboot=k panic=1 pci=off nomodules"}),
            ("/drives/2", {"drive_id": "2", "is_read_only": False, "is_root_device": False, "path_on_host": "data",
                           "rate_limiter": {"bandwidth": {"size": 1 << 20, "refill_time": 100}}}),
            ("/drives/1", {"drive_id": "1", "is_read_only": False, "is_root_device": True, "path_on_host": "rootfs"}),
            ("/network-interfaces/1", {"iface_id": "1", "host_dev_name": "tap0", "guest_mac": "AA:FC:00:00:00:01"}),
            ("/network-interfaces/2", {"iface_id": "2", "host_dev_name": "tap1", "guest_mac": "AA:FC:00:00:00:02",
                                       "rx_rate_limiter": {"ops": {"size": 10, "one_time_burst": 10, "refill_time": 100}}}),
            ("/vsock", {"guest_cid": 3, "uds_path": "v.sock", "vsock_id": "1"}),
            ("/actions", {"action_type": "InstanceStart"}),
        )
        for path, body in calls:
            expect(path, 204, m.put(path, body).status)
        for path, body in (
                ("/drives/2", {"drive_id": "2", "path_on_host": "data"}),
                ("/network-interfaces/2", {"iface_id": "2", "rx_rate_limiter": {"bandwidth": {"size": 1, "refill_time": 1}}}),
                ("/vm", {"state": "Paused"}), ("/vm", {"state": "Resumed"})):
            expect(path, 204, m.call("PATCH", path, body).status)
        config = m.config()
        expect("drives, root first", ["1", "2"], [d["drive_id"] for d in config["drives"]])
        expect("addresses", ["aa:fc:00:00:00:01", "aa:fc:00:00:00:02"], [n["guest_mac"] for n in config["network-interfaces"]])
        expect("vsock", {"guest_cid": 3, "uds_path": "v.sock"}, config["vsock"])
        has("attach order: block, net, vsock", m.log, "root=/dev/vda rw", *(f"4K@0xc000{i + 1}000:{i + 5}" for i in range(5)))


def kata_config(taps):
    empty = {"path_on_host": "empty", "is_root_device": False, "is_read_only": False}
    return {
        "boot-source": {**KERNEL, "boot_args": "pci=off reboot=k panic=1 iommu=off net.ifnames=0 random.trust_cpu=on acpi=off "
                                               "root=/dev/vda1 rootflags=data=ordered ro rootfstype=ext4"},
        "drives": [{"drive_id": "rootfs", "path_on_host": "image", "is_root_device": False, "is_read_only": True}]
                  + [{"drive_id": f"drive_{i}", **empty} for i in range(8)],
        "machine-config": {"vcpu_count": 1, "mem_size_mib": 64},
        "network-interfaces": [{"iface_id": name, "host_dev_name": name, "guest_mac": f"02:42:00:00:00:0{i}",
                                "rx_rate_limiter": {}, "tx_rate_limiter": {}} for i, name in enumerate(taps)],
        "vsock": {"vsock_id": "root", "guest_cid": 3, "uds_path": "kata.hvsock"},
        "logger": {"log_path": "log", "level": "Debug"},
    }


@lab_test
def as_kata_does():
    if not IN_LAB:
        return
    files = {"vmlinux": elf(HALT), "image": bytes(1 << 20), "empty": b"", "block": bytes(8192)}
    with tap("eth0"), tap("eth1"), Vm("--config-file", "c", files={**files, "c": json.dumps(kata_config(["eth0", "eth1"]))}) as m:
        has("state", m.call("GET", "/").body, '"state":"Running"')
        os.chmod(m.path("kata.hvsock"), 0o640)
        for i in range(8):
            expect(f"drive_{i}", 204, m.call("PATCH", f"/drives/drive_{i}", {"drive_id": f"drive_{i}", "path_on_host": "block"}).status)
        config = m.config()
        expect("patched", ["image"] + ["block"] * 8, [d["path_on_host"] for d in config["drives"]])
        expect("no limits", [(None, None)] * 2, [(n["rx_rate_limiter"], n["tx_rate_limiter"]) for n in config["network-interfaces"]])
        expect("vsock", {"guest_cid": 3, "uds_path": "kata.hvsock"}, config["vsock"])
        has("12 devices on the command line", m.log, "acpi=off", "virtio_mmio.device=4K@0xc000c000:16")
        expect("SIGTERM", (-signal.SIGTERM, []), (m.stop(), m.sockets_left()))


@lab_test
def as_kata_runtime_rs_does():
    if not IN_LAB:
        return
    with tap("tap0"), Vm(files={"vmlinux": elf(HALT), "image": bytes(1 << 20), "empty": b"", "block": bytes(4096)}) as m:
        headers = ("Accept: application/json", "Content-Type: application/json")
        calls = [("/boot-source", {**KERNEL, "boot_args": "reboot=k panic=1 pci=off", "initrd_path": None}),
                 ("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64}),
                 ("/drives/rootfs", drive("rootfs", "image", is_read_only=True))]
        calls += [(f"/drives/drive{i}", drive(f"drive{i}", "empty", rate_limiter=None)) for i in range(1, 6)]
        calls += [("/vsock", {"guest_cid": 3, "uds_path": "kata.hvsock", "vsock_id": "root"}),
                  ("/network-interfaces/eth0", net("eth0", guest_mac=None)),
                  ("/actions", {"action_type": "InstanceStart"})]
        for path, body in calls:
            expect(path, 204, m.call("PUT", path, body, headers).status)
        expect("PATCH", 204, m.call("PATCH", "/drives/drive1", {"drive_id": "drive1", "path_on_host": "block", "rate_limiter": None},
                                    headers).status)
