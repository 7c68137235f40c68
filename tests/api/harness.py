# SPDX-License-Identifier: Apache-2.0
"""What the tests of the monitor's outside share: a monitor in a directory of its own, raw HTTP, made-up kernels.

A test is a function under @test; it calls expect() and has() as often as it likes, and all that went wrong is shown.
"""
import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
VMM = os.path.join(os.path.abspath(os.environ["B"]) if "B" in os.environ else os.path.join(ROOT, "build"), "mayfly-vmm")
QUICK = 2.0  # seconds that refusing something may take

tests = []  # (name, where, function) in order of definition
failures = []  # of the running test


def test(function):
    """Register FUNCTION, which runs on any machine."""
    tests.append((function.__name__, "here", function))
    return function


def lab_test(function):
    """Register FUNCTION, which starts guests: it runs in the lab."""
    tests.append((function.__name__, "lab", function))
    return function


def expect(what, expected, got):
    if expected != got:
        failures.append(f"{what}:\n    expected: {expected!r}\n    got:      {got!r}")


def has(what, text, *parts):
    """TEXT contains every one of PARTS."""
    for part in parts:
        if part not in text:
            failures.append(f"{what}:\n    expected: something with {part!r}\n    got:      {text!r}")


# ---- HTTP ------------------------------------------------------------------------------------------------------------

def reply_bytes(status, body=None, deprecated=False):
    """The whole reply as CONTRACT.md 1.3 has it."""
    head = f"HTTP/1.1 {status} \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
    head += "Deprecation: true\r\n" if deprecated else ""
    if body is None:
        return (head + "\r\n").encode()
    body = body.encode()
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def fault(text):
    return json.dumps({"fault_message": text}, separators=(",", ":"), ensure_ascii=False)


def parse_fault(reason):
    return '{ "error": "%s\nAll previous unanswered requests will be dropped." }' % reason


def request_bytes(method, path, body=None, headers=()):
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + (body or b"")


class Reply:
    def __init__(self, raw):
        self.raw = raw
        head, _, body = raw.partition(b"\r\n\r\n")
        self.status = int(head.split(b" ")[1]) if head.startswith(b"HTTP/1.1 ") else 0
        self.head, self.body = head.decode(), body.decode(errors="replace")
        self.fault = ""
        with contextlib.suppress(ValueError, AttributeError):
            self.fault = json.loads(self.body).get("fault_message", "")


class Connection:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)  # without a time limit, which would make a full backlog an error
        self.sock.settimeout(5)
        self.rest = b""

    def send(self, data):
        with contextlib.suppress(BrokenPipeError):  # the peer's last words may still be there to read
            self.sock.sendall(data)
        return self

    def reply(self):
        """The next reply; its raw bytes are all that came so far when the peer closes or says nothing for 5 s."""
        while b"\r\n\r\n" not in self.rest:
            if not self.more():
                return self.take(len(self.rest))
        head, _, body = self.rest.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.startswith(b"Content-Length: "):
                length = int(line[16:])
        while len(self.rest) < len(head) + 4 + length:
            if not self.more():
                break
        return self.take(len(head) + 4 + length)

    def more(self):
        try:
            data = self.sock.recv(65536)
        except (TimeoutError, ConnectionError):
            return False
        self.rest += data
        return bool(data)

    def take(self, n):
        raw, self.rest = self.rest[:n], self.rest[n:]
        return Reply(raw)

    def call(self, method, path, body=None, headers=()):
        return self.send(request_bytes(method, path, body, headers)).reply()

    def closed(self):
        """Has the peer closed, with nothing more to read?"""
        with contextlib.suppress(TimeoutError, ConnectionError):
            return not self.rest and self.sock.recv(1) == b""
        return False

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# ---- the monitor -----------------------------------------------------------------------------------------------------

class Vm:
    """One monitor with its own directory, which is its working directory; gone at the end of the with block.

    log=False: the log goes to standard output. api=False: no --api-sock and no wait for the API. user: its user id.
    memory: a limit of its address space in MiB. shell: starts it, as "$@". pass_fds: it inherits these descriptors.
    """

    def __init__(self, *args, program=VMM, api=True, log=True, level="Debug", files=None, stdin=None, user=None, memory=None,
                 shell=None, wait=True, pass_fds=()):
        self.dir = tempfile.mkdtemp(prefix="api.", dir=os.environ.get("TMPDIR", "/tmp"))
        os.chmod(self.dir, 0o755)
        self.sock = os.path.join(self.dir, "sock")
        self.pending = None
        for name, content in (files or {}).items():
            with open(self.path(name), "wb") as f:
                f.write(content if isinstance(content, bytes) else content.encode())
        if program != VMM:
            os.symlink(VMM, self.path(program))
            program = self.path(program)
        self.argv = [program] + (["--api-sock", "sock"] if api else []) + (["--log-path", "log"] if log else [])
        self.argv += (["--level", level] if level else []) + list(args)
        if user:
            self.argv = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] + self.argv
            os.chown(self.dir, user, user)
        if memory:
            self.argv = ["prlimit", f"--as={memory << 20}"] + self.argv
        if shell:
            self.argv = ["/bin/sh", "-c", shell, "sh"] + self.argv
        self.log_name = "log" if log else "out"
        self.started = time.monotonic()
        with open(self.path("out"), "wb") as out, open(self.path("err"), "wb") as err:
            self.process = subprocess.Popen(self.argv, cwd=self.dir, stdin=stdin or subprocess.DEVNULL, stdout=out, stderr=err,
                                            umask=0o22, pass_fds=pass_fds)
        if api and wait:
            wait_for(lambda: self.answers() or self.process.poll() is not None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def read(self, name):
        try:
            with open(self.path(name), errors="replace") as f:
                return f.read()
        except (FileNotFoundError, IsADirectoryError):
            return ""

    @property
    def log(self):
        return self.read(self.log_name)

    @property
    def err(self):
        return self.read("err")

    def messages(self):
        """The log without times and origins."""
        return [line.split("] ", 1)[-1] for line in self.log.splitlines()]

    def wait_log(self, text, seconds=10):
        return wait_for(lambda: text in self.log or self.process.poll() is not None, seconds) and text in self.log

    def connect(self):
        return Connection(self.sock)

    def answers(self):
        """Does somebody listen on the socket?"""
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            self.connect().close()
            return True
        return False

    def call(self, method, path, body=None, headers=()):
        with self.connect() as c:
            return c.call(method, path, body, headers)

    def put(self, path, body):
        return self.call("PUT", path, body)

    def config(self):
        return json.loads(self.call("GET", "/vm/config").body)

    def start(self):
        return self.put("/actions", {"action_type": "InstanceStart"})

    def ends(self, seconds=10):
        """Wait for the end; the exit status, negative after a signal, None if it goes on."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(seconds)
        return None

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.ends()

    def rss_kib(self):
        return int(next(line for line in self.proc("status").splitlines() if line.startswith("VmRSS")).split()[1])

    def n_fds(self, connections=0):
        """Open descriptors but those of KVM, once there are no more sockets than CONNECTIONS and the listener."""
        count = [0, 0]

        def settled():
            try:
                links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{self.process.pid}/fd")]
            except FileNotFoundError:  # one was closed meanwhile
                return False
            count[:] = [sum("kvm" not in text for text in links), sum(text.startswith("socket:") for text in links)]
            return count[1] <= connections + 1
        wait_for(settled, 2)
        return count[0]

    def proc(self, name):
        with open(f"/proc/{self.process.pid}/{name}", errors="replace") as f:
            return f.read()

    def sockets_left(self):
        return sorted(n for n in os.listdir(self.dir) if stat_is_socket(self.path(n)))


def stat_is_socket(path):
    return (os.lstat(path).st_mode & 0o170000) == 0o140000


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def run(*args, files=None, seconds=10, **kwargs):
    """Run a monitor that is expected to end by itself. Returns it (ended), with .status and .took."""
    vm = Vm(*args, files=files, wait=False, **kwargs)
    vm.status = vm.ends(seconds)
    vm.took = time.monotonic() - vm.started
    return vm


# ---- kernels ---------------------------------------------------------------------------------------------------------

HALT = b"\xfa\xf4\xeb\xfd"  # cli; 1: hlt; jmp 1b
RESET = b"\xb0\xfe\xe6\x64\xf4\xeb\xfd"  # mov al, 0xfe; out 0x64, al; 1: hlt; jmp 1b
TRIPLE_FAULT = b"\x0f\x01\x1d\x01\x00\x00\x00\xcc" + bytes(10)  # lidt [rip + 1]; int3; an empty table


def elf(code=HALT, machine=62, bits=64, big=False, kind=2, keep=None):
    """A kernel of one segment at 1 MiB that runs CODE, or only the first KEEP bytes of its file."""
    order = ">" if big else "<"
    ident = b"\x7fELF" + bytes([bits // 32, 2 if big else 1, 1]) + bytes(9)
    if bits == 32:
        head = struct.pack(order + "HHIIIIIHHHHHH", kind, machine, 1, 0x100000, 52, 0, 0, 52, 32, 1, 40, 0, 0)
        table = struct.pack(order + "IIIIIIII", 1, 4096, 0x100000, 0x100000, len(code), 4096, 5, 4096)
    else:
        head = struct.pack(order + "HHIQQQIHHHHHH", kind, machine, 1, 0x100000, 64, 0, 0, 64, 56, 1, 64, 0, 0)
        table = struct.pack(order + "IIQQQQQQ", 1, 5, 4096, 0x100000, 0x100000, len(code), 4096, 4096)
    image = (ident + head + table).ljust(4096, b"\0") + code
    return image if keep is None else image[:keep]
