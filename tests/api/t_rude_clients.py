# SPDX-License-Identifier: Apache-2.0
"""Clients that come and go, dawdle, never read, flood or send noise: the monitor stays small, and serves the next one."""
import random
import threading
import time

from harness import Vm, expect, has, reply_bytes, request_bytes, test

VERSION = reply_bytes(200, '{"firecracker_version":"1.17.0"}')


def still_fine(m, rss, fds):
    expect("GET /version", VERSION, m.call("GET", "/version").raw)
    expect("descriptors", fds, m.n_fds())
    grown = m.rss_kib() - rss
    expect(f"memory (grew by {grown} KiB)", True, grown < 256)


def settled():
    """A monitor that has served something of everything, so that what it needs once is there."""
    m = Vm(level="Error")
    for _ in range(3):
        connections = [m.connect() for _ in range(10)]
        for c in connections:
            c.call("GET", "/vm/config")
            c.call("PUT", "/machine-config", " " * 51200)
            c.close()
    return m, m.rss_kib(), m.n_fds()


def ticks(m):
    """CPU time used, in clock ticks of 10 ms."""
    return sum(int(t) for t in m.proc("stat").rsplit(")", 1)[1].split()[11:13])


@test
def clients_that_connect_and_go():
    m, rss, fds = settled()
    with m:
        for _ in range(50):
            connections = [m.connect() for _ in range(10)]
            for c in connections:
                c.close()
        for cut in (1, 10, 40):
            for _ in range(20):
                with m.connect() as c:
                    c.send(request_bytes("PUT", "/machine-config", '{"vcpu_count":1,"mem_size_mib":64}')[:cut])
        for _ in range(100):  # gone before the reply
            m.connect().send(request_bytes("GET", "/vm/config")).close()
        still_fine(m, rss, fds)


@test
def a_client_that_sends_byte_by_byte():
    m, rss, fds = settled()
    with m, m.connect() as slow:
        data = request_bytes("PUT", "/machine-config", '{"vcpu_count":3,"mem_size_mib":64}')
        for i in range(len(data)):
            slow.send(data[i:i + 1])
            if i % 40 == 0:
                expect("another client is served meanwhile", VERSION, m.call("GET", "/version").raw)
        expect("its reply", reply_bytes(204), slow.reply().raw)
        has("what it set", m.call("GET", "/machine-config").body, '"vcpu_count":3')
        slow.close()
        still_fine(m, rss, fds)


@test
def a_client_that_never_reads():
    m, rss, fds = settled()
    with m, m.connect() as deaf:
        deaf.sock.settimeout(0.2)
        sent = 0
        try:
            for _ in range(20000):
                sent += len(request_bytes("GET", "/vm/config"))
                deaf.send(request_bytes("GET", "/vm/config"))
        except TimeoutError:
            pass
        expect("it is not read from for ever", True, sent < 5_000_000)
        expect("another client is served", VERSION, m.call("GET", "/version").raw)
        before = ticks(m)
        time.sleep(0.3)
        expect("it costs no CPU time", True, ticks(m) - before <= 1)
        deaf.close()
        still_fine(m, rss, fds)


@test
def a_client_that_reads_late():
    m, rss, fds = settled()
    with m, m.connect() as c:
        c.send(request_bytes("GET", "/vm/config") * 200)
        time.sleep(0.2)
        expect("200 replies, all whole", {200}, {c.reply().status for _ in range(200)})
        c.close()
        still_fine(m, rss, fds)


@test
def a_thousand_requests_pipelined():
    m, rss, fds = settled()
    with m, m.connect() as c:
        before = time.monotonic()
        kinds = (request_bytes("GET", "/version"), request_bytes("PUT", "/machine-config", "nonsense"),
                 request_bytes("PUT", "/machine-config", '{"vcpu_count":1,"mem_size_mib":64}'))
        c.sock.setblocking(False)
        data, replies, at = b"".join(kinds[i % 3] for i in range(1000)), b"", 0
        while at < len(data):
            try:
                at += c.sock.send(data[at:])
            except BlockingIOError:
                pass
            try:
                c.rest += c.sock.recv(65536)
            except BlockingIOError:
                pass
        c.sock.settimeout(5)
        expect("in order", [(200, 400, 204)[i % 3] for i in range(1000)], [c.reply().status for i in range(1000)])
        expect("nothing more", replies, c.rest)
        expect("quick", True, time.monotonic() - before < 2)
        c.close()
        still_fine(m, rss, fds)


@test
def a_flood_does_not_starve_others():
    m, rss, fds = settled()
    with m, m.connect() as flood:
        stop = threading.Event()
        block = request_bytes("GET", "/vm/config") * 50

        def pour():
            flood.sock.settimeout(0.05)
            while not stop.is_set():
                try:
                    flood.sock.send(block)
                    flood.sock.recv(1 << 20)
                except TimeoutError:
                    pass
        thread = threading.Thread(target=pour)
        thread.start()
        slowest = 0.0
        for _ in range(100):
            before = time.monotonic()
            expect("another client's reply", VERSION, m.call("GET", "/version").raw)
            slowest = max(slowest, time.monotonic() - before)
        stop.set()
        thread.join()
        expect(f"the slowest of 100 replies ({slowest * 1000:.0f} ms) under half a second", True, slowest < 0.5)
        flood.close()
        still_fine(m, rss, fds)


@test
def no_descriptors_left_to_accept_with():
    with Vm(level="Error", shell='ulimit -n 10; exec "$@"') as m:
        free = 10 - m.n_fds()
        connections = [m.connect() for _ in range(free + 3)]
        expect("the first is served", 200, connections[0].call("GET", "/").status)
        before = ticks(m)
        time.sleep(0.5)
        expect("no CPU time is burnt by those who wait", True, ticks(m) - before <= 2)
        for c in connections[:free]:
            c.close()
        for c in connections[free:]:
            expect("served when there is room again", 200, c.call("GET", "/").status)
            c.close()


@test
def noise():
    m, rss, fds = settled()
    with m:
        rng = random.Random(1)
        line = b"GET / HTTP/1.1\r\n\r\n"
        for i in range(100):
            with m.connect() as c:
                c.sock.settimeout(1)
                data = rng.randbytes(rng.randrange(1, 20000))
                try:
                    c.send(line * (i % 2) + data + b"\r\n" * (i % 3))
                except (TimeoutError, BrokenPipeError, ConnectionResetError):
                    pass  # its replies were not read, which is its own fault
                if i % 2:
                    expect("what came before the noise is answered", 200, c.reply().status)
        for data in (b"\0" * 5000, b"\n" * 5000, b"\r\n" * 5000, b"GET" * 5000, b":" * 5000, b"\xff" * 5000,
                     b"PUT / HTTP/1.1\r\nContent-Length: 4294967295\r\n\r\n", b"PUT / HTTP/1.1\r\n" + b"a: b\r\n" * 10000,
                     b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n"):
            with m.connect() as c:
                c.sock.settimeout(1)
                try:
                    c.send(data)
                except (TimeoutError, BrokenPipeError):
                    pass
        still_fine(m, rss, fds)
