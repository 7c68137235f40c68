# SPDX-License-Identifier: Apache-2.0
"""PATCH of everything while everything is busy, for test_patch.sh: patches.py ENGINE SECONDS, in the environment VMM, KERNEL_DEFAULT,
GUEST_INITRD. A random sequence (SEED=N for another); prints what went wrong, nothing if all was well; runs where the guest's KVM is."""
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "api"))

import harness  # noqa: E402
from harness import Vm, expect, failures, wait_for  # noqa: E402

ENGINE, SECONDS = sys.argv[1], float(sys.argv[2])
PAIRS = (("base", "delta"), ("base2", "delta2"))  # of the copy-on-write drive
NO_LIMIT = {"bandwidth": {"size": 0, "refill_time": 0}, "ops": {"size": 0, "refill_time": 0}}


def bucket(rnd, scale):
    return {"size": rnd.choice((0, 100, 10000, 1 << 20)) * scale, "refill_time": rnd.choice((10, 100, 1000)),
            "one_time_burst": rnd.choice((0, 500 * scale))}


def one_patch(rnd):
    kind = rnd.randrange(6)
    if kind == 0:
        return "/drives/a", {"drive_id": "a", "path_on_host": rnd.choice(("disk", "copy"))}
    if kind == 1:
        base, delta = rnd.choice(PAIRS)
        return "/drives/b", {"drive_id": "b", "path_on_host": base, "delta_path": delta}
    if kind in (2, 3):
        name = "ab"[kind - 2]
        return f"/drives/{name}", {"drive_id": name, "rate_limiter": {"bandwidth": bucket(rnd, 100), "ops": bucket(rnd, 1)}}
    if kind == 4:
        return "/network-interfaces/n", {"iface_id": "n", "rx_rate_limiter": {"ops": bucket(rnd, 1)},
                                         "tx_rate_limiter": {"bandwidth": bucket(rnd, 10)}}
    return "/vm", {"state": "Paused"}


def echo(m):
    """Send some bytes through vsock and back. True if all came."""
    data, back = os.urandom(3000), b""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(m.path("v"))
        s.sendall(b"CONNECT 7000\n")
        if not s.recv(100).startswith(b"OK "):
            return False  # a guest that is slow to accept: the device gives up after 2 s
        s.sendall(data)
        while len(back) < len(data):
            more = s.recv(len(data))
            if not more:
                break
            back += more
    return back == data


def echo_for_ever(m, stop, count):
    while not stop.is_set():
        try:
            count[0] += echo(m)
        except OSError:
            pass


def configure(m):
    boot = {"kernel_image_path": os.environ["KERNEL_DEFAULT"], "initrd_path": os.environ["GUEST_INITRD"],
            "boot_args": 'console=ttyS0 quiet reboot=k panic=1 mayfly.cmd="patch-guest"'}
    a = {"drive_id": "a", "is_root_device": False, "path_on_host": "disk", "is_read_only": True, "io_engine": ENGINE}
    b = {"drive_id": "b", "is_root_device": False, "path_on_host": "base", "delta_path": "delta", "cache_type": "Writeback",
         "io_engine": ENGINE}
    for path, body in (("/machine-config", {"vcpu_count": 2, "mem_size_mib": 128}), ("/boot-source", boot), ("/drives/a", a),
                       ("/drives/b", b), ("/network-interfaces/n", {"iface_id": "n", "host_dev_name": "mft0"}),
                       ("/vsock", {"guest_cid": 3, "uds_path": "v"}), ("/actions", {"action_type": "InstanceStart"})):
        reply = m.put(path, body)
        expect(f"PUT {path} {reply.fault}", 204, reply.status)
    expect("the guest is ready", True, wait_for(lambda: "patch-guest: ready" in m.read("out"), 60))


def patch_all(m, rnd):
    n = 0
    with m.connect() as c:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and m.process.poll() is None and not failures:
            path, body = one_patch(rnd)
            bodies = [body, {"state": "Resumed"}] if path == "/vm" else [body]
            for body in bodies:
                reply = c.call("PATCH", path, body)
                expect(f"PATCH {n} {path} {json.dumps(body)}: {reply.fault}", 204, reply.status)
            n += 1
            time.sleep(0.01)
        for path, body in (("/drives/a", {"drive_id": "a", "rate_limiter": NO_LIMIT}),
                           ("/drives/b", {"drive_id": "b", "rate_limiter": NO_LIMIT}),
                           ("/network-interfaces/n", {"iface_id": "n", "rx_rate_limiter": NO_LIMIT, "tx_rate_limiter": NO_LIMIT})):
            expect(f"the end of {path}'s limits", 204, c.call("PATCH", path, body).status)
    expect(f"patches ({n})", True, n > 20)


def main():
    harness.VMM = os.path.abspath(os.environ["VMM"])
    rnd = random.Random(int(os.environ.get("SEED", "1")))
    disk = os.urandom(1 << 20)
    stop, count = threading.Event(), [0]
    with Vm(program=harness.VMM, level="Info", files={"disk": disk, "copy": disk, "base": bytes(4 << 20), "base2": bytes(4 << 20)}) as m:
        configure(m)
        thread = threading.Thread(target=echo_for_ever, args=(m, stop, count), daemon=True)
        thread.start()
        fds = m.n_fds(20)
        patch_all(m, rnd)
        before = count[0]
        expect("vsock works afterwards", True, wait_for(lambda: count[0] > before, 20))
        ping = subprocess.run("busybox ping -q -c 3 -i 0.2 -W 10 10.99.0.2", shell=True, capture_output=True, text=True, check=False)
        expect(f"the network works afterwards\n{ping.stdout}", 0, ping.returncode)
        stop.set()
        thread.join()
        expect("at most a few descriptors more", True, m.n_fds(20) <= fds + 4)
        expect("what the guest found", [], [line for line in m.read("out").splitlines() if "bad:" in line or "error" in line])
        expect("the bases", [bytes(4 << 20)] * 2, [open(m.path(name), "rb").read() for name in ("base", "base2")])
        expect("SIGTERM", (-15, []), (m.stop(), m.sockets_left()))
        expect("standard error", "", m.err[-3000:])
    print("\n".join(failures))
    return 1 if failures else 0


sys.exit(main())
