# SPDX-License-Identifier: Apache-2.0
"""HTTP on the API socket, byte for byte (CONTRACT.md section 1)."""
import array
import os
import socket
import stat

from harness import Vm, expect, fault, has, parse_fault, reply_bytes, request_bytes, test

INSTANCE = '{"id":"anonymous-instance","state":"Not started","vmm_version":"1.17.0","app_name":"Firecracker"}'
VERSION = '{"firecracker_version":"1.17.0"}'
MACHINE = '{"vcpu_count":2,"mem_size_mib":256}'
TOO_MANY = (b"HTTP/1.1 503 \r\nServer: Firecracker API\r\nConnection: close\r\nContent-Length: 40\r\n\r\n"
            b'{ "error": "Too many open connections" }')


def vm(*args):
    return Vm(*args, program="firecracker")


@test
def reply_bytes_are_exact():
    with vm() as m, m.connect() as c:
        expect("GET /", reply_bytes(200, INSTANCE), c.call("GET", "/").raw)
        expect("GET /version", reply_bytes(200, VERSION), c.call("GET", "/version").raw)
        expect("204", reply_bytes(204), c.call("PUT", "/machine-config", MACHINE).raw)
        expect("400", reply_bytes(400, fault("Empty PUT request.")), c.call("PUT", "/machine-config").raw)
        expect("deprecated", reply_bytes(204, deprecated=True),
               c.call("PATCH", "/machine-config", '{"cpu_template":"None"}').raw)
    with Vm() as m:
        expect("under Mayfly's own name", reply_bytes(200, INSTANCE.replace('"Firecracker"', '"Mayfly"')),
               m.call("GET", "/").raw)


@test
def socket_mode_follows_umask():
    with vm() as m:
        expect("mode under umask 022", "srwxr-xr-x", stat.filemode(os.lstat(m.sock).st_mode))


@test
def oversize_reply_is_exact_and_connection_goes_on():
    for args, size, limit, length in (([], 51201, 51200, 149), (["--http-api-max-payload-size", "250"], 260, 250, 145)):
        with vm(*args) as m, m.connect() as c:
            text = parse_fault(f"Request payload with size {size} is larger than the limit of {limit} allowed by server.")
            reply = c.call("PUT", "/machine-config", "x" * size)
            has(f"{size} of {limit}", reply.head, f"Content-Length: {length}")
            expect(f"{size} of {limit}", reply_bytes(400, text), reply.raw)
            expect("the next request", reply_bytes(200, VERSION), c.call("GET", "/version").raw)
            expect("exactly the limit", 400, c.call("PUT", "/machine-config", " " * limit).status)


@test
def eleventh_connection_is_refused():
    with vm() as m:
        ten = [m.connect() for _ in range(10)]
        for c in ten:
            expect("one of ten", 200, c.call("GET", "/").status)
        with m.connect() as c:
            expect("the 11th", TOO_MANY, c.reply().raw)
            expect("closed", True, c.closed())
        with m.connect() as c:
            c.send(request_bytes("GET", "/"))
            expect("the 11th with a request", TOO_MANY, c.reply().raw)
        expect("the first still works", 200, ten[0].call("GET", "/").status)
        ten.pop().close()
        expect("one more after one left", 200, m.call("GET", "/").status)
        for c in ten:
            c.close()


@test
def connections_stay_open():
    with vm() as m, m.connect() as c:
        for headers in ((), ("Connection: close",), ("Connection: keep-alive",)):
            expect(f"with {headers}", reply_bytes(200, VERSION), c.call("GET", "/version", headers=headers).raw)
        expect("HTTP/1.0", reply_bytes(200, VERSION), c.send(b"GET /version HTTP/1.0\r\n\r\n").reply().raw)
        expect("after it", reply_bytes(200, VERSION), c.call("GET", "/version").raw)


@test
def pipelined_requests_are_answered_in_order():
    with vm() as m, m.connect() as c:
        c.send(request_bytes("PUT", "/machine-config", MACHINE) + request_bytes("GET", "/version") +
               request_bytes("PUT", "/nowhere", "{}") + request_bytes("GET", "/machine-config"))
        expect("1", reply_bytes(204), c.reply().raw)
        expect("2", reply_bytes(200, VERSION), c.reply().raw)
        expect("3", reply_bytes(400, fault("Invalid request method and/or path: PUT nowhere.")), c.reply().raw)
        has("4", c.reply().body, '"vcpu_count":2,"mem_size_mib":256')


@test
def expect_100_continue():
    with vm() as m, m.connect() as c:
        head, _, body = request_bytes("PUT", "/machine-config", MACHINE, ["Expect: 100-continue"]).partition(b"\r\n\r\n")
        c.send(head + b"\r\n\r\n")
        expect("interim reply", reply_bytes(100), c.reply().raw)
        expect("reply", reply_bytes(204), c.send(body).reply().raw)
        c.send(b"PUT /machine-config HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 51201\r\n\r\n")
        expect("over the limit", 400, c.reply().status)
        expect("the client sends no body then", reply_bytes(200, VERSION), c.call("GET", "/version").raw)


@test
def parse_errors_have_their_texts():
    cases = (
        ("POST", b"POST / HTTP/1.1\r\n\r\n", "Invalid HTTP Method: Unsupported HTTP method."),
        ("HEAD", b"HEAD / HTTP/1.1\r\n\r\n", "Invalid HTTP Method: Unsupported HTTP method."),
        ("OPTIONS", b"OPTIONS * HTTP/1.1\r\n\r\n", "Invalid HTTP Method: Unsupported HTTP method."),
        ("lower case", b"get / HTTP/1.1\r\n\r\n", "Invalid HTTP Method: Unsupported HTTP method."),
        ("HTTP/2", b"GET / HTTP/2.0\r\n\r\n", "Invalid HTTP Version: Unsupported HTTP version."),
        ("no target", b"GET  HTTP/1.1\r\n\r\n", "Invalid URI: Empty URI not allowed."),
        ("no colon", b"GET / HTTP/1.1\r\nnonsense\r\n\r\n",
         "Invalid header. Reason: Header is incorrectly formatted. Key: nonsense"),
        ("negative length", b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
         "Invalid header. Reason: Invalid value. Key:Content-Length; Value: -1"),
        ("no identity", b"GET / HTTP/1.1\r\nAccept-Encoding: identity;q=0\r\n\r\n",
         "Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value:identity;q=0"),
        ("long request line", b"GET /" + b"a" * 1100 + b" HTTP/1.1\r\n\r\n", "Invalid request."),
    )
    with vm() as m:
        for what, raw, reason in cases:
            with m.connect() as c:
                expect(what, reply_bytes(400, parse_fault(reason)), c.send(raw).reply().raw)
                expect(f"after {what}", reply_bytes(200, VERSION), c.call("GET", "/version").raw)
        with m.connect() as c:
            c.send(b"GET / HTTP/1.1\r\nX: " + b"a" * 1100 + b"\r\n\r\n")
            expect("long header", 400, c.reply().status)
            expect("after it", 200, c.call("GET", "/").status)


@test
def odd_but_legal_requests():
    with vm() as m, m.connect() as c:
        for target in ("/", "http://localhost/", "foo", "http://localhost", "//"):
            expect(f"GET {target}", reply_bytes(200, INSTANCE), c.call("GET", target).raw)
        for headers in (("ACCEPT: */*",), ("Content-Type: text/nonsense",), ("Transfer-Encoding: identity",),
                        ("accept-encoding: gzip, deflate",), ("X-Any: thing",), ("Expect: nonsense",)):
            expect(f"{headers}", reply_bytes(200, VERSION), c.call("GET", "/version", headers=headers).raw)
        expect("query", reply_bytes(400, fault("Invalid request method and/or path: GET version?x=1.")),
               c.call("GET", "/version?x=1").raw)
        expect("lower-case header", reply_bytes(204),
               c.send(b"PUT /machine-config HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(MACHINE), MACHINE.encode())).reply().raw)


@test
def chunked_bodies_work():
    with vm() as m, m.connect() as c:
        head = b"PUT /machine-config HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        body = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (MACHINE[:7].encode(), MACHINE[7:].encode())) + b"0\r\n\r\n"
        expect("PUT", reply_bytes(204), c.send(head + body).reply().raw)
        expect("next", reply_bytes(200, VERSION), c.call("GET", "/version").raw)
        huge = c.send(head + b"fffffff\r\n").reply()
        expect("a chunk over the limit", 400, huge.status)
        has("a chunk over the limit", huge.body, "is larger than the limit of 51200")


@test
def routing():
    rows = (
        ("GET", "/machine-config/foo", None, 200, None),
        ("GET", "/version/", None, 200, None),
        ("GET", "/vm", None, 400, "Invalid request method and/or path: GET vm."),
        ("GET", "/vm/foo", None, 400, "Invalid request method and/or path: GET vm."),
        ("GET", "/foo/bar", None, 400, "Invalid request method and/or path: GET foo."),
        ("GET", "/version", "{}", 400, "GET request cannot have a body."),
        ("GET", "/foo", "{}", 400, "GET request cannot have a body."),
        ("PUT", "/foo", None, 400, "Empty PUT request."),
        ("PUT", "/boot-source", "", 400, "Empty PUT request."),
        ("PUT", "/foo", "{}", 400, "Invalid request method and/or path: PUT foo."),
        ("PATCH", "/machine-config", None, 400, "Empty PATCH request."),
        ("PATCH", "/machine-config", "{}", 400, "Empty PATCH request."),
        ("PATCH", "/boot-source", "{}", 400, "Invalid request method and/or path: PATCH boot-source."),
        ("DELETE", "/drives/d", "{}", 400, "Empty Delete request."),
        ("DELETE", "/foo", None, 400, "Invalid request method and/or path: DELETE foo."),
        ("PUT", "/snapshot", "{}", 400, "Missing snapshot operation type."),
        ("PUT", "/snapshot/foo", "{}", 400, "Invalid request method and/or path: PUT /snapshot/foo."),
        ("PUT", "/mmds/foo", "{}", 400, "Unrecognized PUT request path `foo`."),
        ("PUT", "/balloon", "{}", 400, "Invalid request method and/or path: PUT balloon."),
        ("PUT", "/hotplug/memory", "{}", 400, "Invalid request method and/or path: PUT hotplug."),
        ("PUT", "/drives", "{}", 400, "The ID cannot be empty."),
        ("PUT", "/drives/", "{}", 400, "The ID cannot be empty."),
        ("PUT", "/drives/a-b", "{}", 400, "API Resource IDs can only contain alphanumeric characters and underscores."),
        ("PUT", "/drives/a", '{"drive_id":"b","is_root_device":false}', 400,
         "The id from the path does not match the id from the body!"),
    )
    with vm() as m, m.connect() as c:
        for method, path, body, status, text in rows:
            reply = c.call(method, path, body)
            expect(f"{method} {path} {body}: status", status, reply.status)
            if text:
                expect(f"{method} {path} {body}", reply_bytes(400, fault(text)), reply.raw)


@test
def passed_descriptors_are_dropped():
    with vm() as m, m.connect() as c:
        c.call("GET", "/")
        before = m.n_fds(1)
        with open("/dev/null", "rb") as null:
            for _ in range(20):
                fds = array.array("i", [null.fileno()] * 10)
                c.sock.sendmsg([request_bytes("GET", "/version")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
                expect("reply", reply_bytes(200, VERSION), c.reply().raw)
        expect("descriptors", before, m.n_fds(1))
