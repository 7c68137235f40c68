# SPDX-License-Identifier: Apache-2.0
"""Files that are not what they should be: every refusal names field, value, reason and the way out; nothing is left."""
import gzip
import json
import os
import socket
import struct
import tempfile
import time

from harness import QUICK, Vm, elf, expect, has, request_bytes, run, test

START = "Start microvm error: "
NEEDED = "x86-64"


def bzimage(version=0x20f, flags=1, xflags=1, size=64):
    """A setup header with SIZE paragraphs announced and 1 KiB there."""
    image = bytearray(1024)
    image[0x1f1] = 1
    struct.pack_into("<I", image, 0x1f4, size)
    struct.pack_into("<H", image, 0x1fe, 0xaa55)
    image[0x201] = 0x6a
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, version)
    image[0x211] = flags
    struct.pack_into("<I", image, 0x230, 0x200000)
    image[0x234] = 1
    struct.pack_into("<H", image, 0x236, xflags)
    struct.pack_into("<QI", image, 0x258, 0x1000000, 0x100000)
    return bytes(image) + bytes(1024)


KERNELS = {  # name: (content, what the refusal has to say)
    "empty": (b"", ["empty"]),
    "text": (b"hello, I am not a kernel\n", ["text file", NEEDED]),
    "script": (b"#!/bin/sh\n", ["script", NEEDED]),
    "noise": (bytes(range(256)) * 20, ["neither", NEEDED]),
    "short-elf": (elf(keep=20), ["20 bytes", "cut off"]),
    "cut-elf": (elf(keep=4000), ["cut off", "4096", "4000"]),
    "arm64": (elf(machine=183), ["arm64", NEEDED]),
    "riscv": (elf(machine=243), ["RISC-V", NEEDED]),
    "i386": (elf(machine=3, bits=32), ["i386", "32-bit", NEEDED]),
    "big-endian": (elf(machine=22, big=True), ["big-endian", NEEDED]),
    "module": (elf(kind=1), ["module", "vmlinux"]),
    "gzip": (gzip.compress(elf()), ["gzip", "uncompress"]),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(100), ["zstd", "uncompress"]),
    "arm64-image": (bytes(56) + b"ARM\x64" + bytes(100), ["arm64", NEEDED]),
    "old-bzimage": (bzimage(version=0x20b), ["2.11", "2.12"]),
    "bzimage-32": (bzimage(xflags=0), ["32-bit", NEEDED]),
    "cut-bzimage": (bzimage(size=6000), ["cut off", "96000"]),
    "initrd": (b"070701" + b"0" * 200, ["cpio", "initrd"]),
    "disk": (bytes(0x438) + b"\x53\xef" + bytes(100), ["ext4", "drive"]),
}


@test
def kernels():
    with Vm(files={name: content for name, (content, _) in KERNELS.items()}) as m:
        os.mkdir(m.path("folder"))
        os.mkfifo(m.path("pipe"))
        os.symlink("nowhere", m.path("dangling"))
        cases = {name: words for name, (_, words) in KERNELS.items()}
        cases.update({"folder": ["directory", "file"], "pipe": ["not a regular file"]})
        rss, fds = m.rss_kib(), m.n_fds()
        for name, words in cases.items():
            before = time.monotonic()
            expect(f"{name}: PUT", 204, m.put("/boot-source", {"kernel_image_path": name}).status)
            reply = m.start()
            expect(f"{name}: start", 400, reply.status)
            has(name, reply.fault, START, f"'{name}'", *words)
            expect(f"{name}: quick", True, time.monotonic() - before < QUICK)
        for name, error in (("nowhere", "No such file or directory (os error 2)"), ("", "No such file or directory (os error 2)"),
                            ("dangling", "No such file or directory (os error 2)"), ("text/x", "Not a directory (os error 20)"),
                            ("x" * 5000, "(os error 36)")):
            reply = m.put("/boot-source", {"kernel_image_path": name})
            expect(f"{name:.20}: status", 400, reply.status)
            has(f"{name:.20}", reply.fault, "Boot source error: The kernel file cannot be opened: ", error,
                f"kernel_image_path '{name:.40}")
        expect("the one accepted last is still the kernel", "pipe", m.config()["boot-source"]["kernel_image_path"])
        expect("state", True, '"Not started"' in m.call("GET", "/").body)
        expect("no memory kept", True, m.rss_kib() - rss < 1024)
        expect("no descriptor kept", fds + 1, m.n_fds())


@test
def kernels_from_a_config_file():
    for name in ("text", "arm64", "cut-elf", "empty"):
        content, words = KERNELS[name]
        config = {"boot-source": {"kernel_image_path": "vmlinux"}, "drives": []}
        with run("--config-file", "c", files={"c": json.dumps(config), "vmlinux": content}) as m:
            expect(f"{name}: status", 1, m.status)
            has(name, m.err, "Could not Start MicroVM from one single json: " + START, "'vmlinux'", *words)
            has(f"{name}: log", m.log, *words)
            expect(f"{name}: nothing left", ([], True), (m.sockets_left(), m.took < QUICK))


@test
def unreadable_files():
    if os.geteuid():
        return  # not root: nothing can be given to another user
    with Vm(user=65534, files={"secret": elf(), "disk": bytes(4096)}) as m:
        os.chmod(m.path("secret"), 0o600)
        os.chmod(m.path("disk"), 0o444)
        has("kernel", m.put("/boot-source", {"kernel_image_path": "secret"}).fault, "Permission denied (os error 13)", "'secret'")
        body = {"drive_id": "d", "is_root_device": False, "path_on_host": "disk"}
        reply = m.put("/drives/d", body)
        has("read-only disk", reply.fault, "Error manipulating the backing file: Permission denied (os error 13) disk",
            "read-write", "is_read_only")
        expect("opened read-only", 204, m.put("/drives/d", {**body, "is_read_only": True}).status)
        reply = m.put("/drives/e", {**body, "drive_id": "e", "path_on_host": "secret", "is_read_only": True})
        has("secret disk", reply.fault, "Permission denied (os error 13) secret")


@test
def boot_sources():
    with Vm(files={"vmlinux": elf(), "initrd": "x" * 100}) as m:
        kernel = {"kernel_image_path": "vmlinux"}
        has("initrd", m.put("/boot-source", {**kernel, "initrd_path": "nowhere"}).fault,
            "Boot source error: The initrd file cannot be opened due to invalid path or invalid permissions. "
            "No such file or directory (os error 2)", "initrd_path 'nowhere'")
        has("control character", m.put("/boot-source", {**kernel, "boot_args": "a\x01b"}).fault,
            "Boot source error: The kernel command line is invalid: ", "0x01", "ASCII", "boot_args")
        has("too long", m.put("/boot-source", {**kernel, "boot_args": "a" * 2048}).fault,
            "Boot source error: The kernel command line is invalid: ", "2048", "2047")
        expect("as long as possible", 204, m.put("/boot-source", {**kernel, "boot_args": "a" * 1900}).status)
        has("NUL", m.put("/boot-source", '{"kernel_image_path":"a\\u0000b"}').fault, "NUL")
        has("number", m.put("/boot-source", {"kernel_image_path": 7}).fault, "invalid type: integer `7`, expected a string",
            "kernel_image_path")


@test
def disks():
    disk = "Drive config error: Unable to create the virtio block device: Virtio backend error: " \
           "Error manipulating the backing file: "
    with Vm(files={"file": bytes(512)}) as m:
        os.mkdir(m.path("folder"))
        os.mkfifo(m.path("pipe"))
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(m.path("listener"))
        for path, error, words in (("nowhere", "No such file or directory (os error 2)", []),
                                   ("", "No such file or directory (os error 2)", []),
                                   ("folder", "Is a directory (os error 21)", ["regular file or a block device"]),
                                   ("pipe", "Invalid argument (os error 22)", ["regular file or a block device"]),
                                   ("listener", "Invalid argument (os error 22)", ["regular file or a block device"]),
                                   ("/dev/null", "Invalid argument (os error 22)", ["regular file or a block device"])):
            before = time.monotonic()
            reply = m.put("/drives/d", {"drive_id": "d", "is_root_device": False, "path_on_host": path})
            expect(f"{path}: status", 400, reply.status)
            has(path, reply.fault, disk + error + " " + path, "path_on_host", *words)
            expect(f"{path}: quick", True, time.monotonic() - before < QUICK)
        expect("none was kept", [], m.config()["drives"])
        for i in range(32):
            expect("one of 32", 204, m.put(f"/drives/d{i}", {"drive_id": f"d{i}", "is_root_device": False,
                                                             "path_on_host": "file"}).status)
        reply = m.put("/drives/more", {"drive_id": "more", "is_root_device": False, "path_on_host": "file"})
        has("one too many", reply.fault, "'more'", "32")


GOOD = {"boot-source": {"kernel_image_path": "vmlinux"}, "drives": [], "machine-config": {"vcpu_count": 1, "mem_size_mib": 64}}


def changed(**sections):
    return json.dumps({**GOOD, **{name.replace("_", "-"): value for name, value in sections.items()}})


CONFIGS = {  # name: (content, what the refusal has to say)
    "wrong type": (changed(machine_config={"vcpu_count": "four", "mem_size_mib": 64}),
                   ["machine-config.vcpu_count", '"four"', "expected u8", "line 1"]),
    "wrong section": (changed(machine_config=[]), ["machine-config", "sequence"]),
    "drives not a list": (changed(drives={}), ["drives", "map", "sequence"]),
    "unknown field": (changed(boot_source={"kernel_image_path": "vmlinux", "kernel": "x"}),
                      ["boot-source", "unknown field `kernel`", "`boot_args`", "line 1"]),
    "second drive": (changed(drives=[{"drive_id": "a", "is_root_device": False, "path_on_host": "vmlinux"},
                                     {"drive_id": "b", "is_root_device": 1}]), ["drives[1].is_root_device", "a boolean"]),
    "missing disk": (changed(drives=[{"drive_id": "a", "is_root_device": False, "path_on_host": "gone"}]),
                     ["drives[0]", "No such file or directory (os error 2) gone"]),
    "missing kernel": (changed(boot_source={"kernel_image_path": "gone"}),
                       ["boot-source", "The kernel file cannot be opened: No such file", "gone"]),
    "missing field": (changed(machine_config={"vcpu_count": 1}), ["machine-config", "missing field `mem_size_mib`"]),
    "no boot source": (changed(boot_source=None), ["boot-source", "null"]),
    "bad log": (changed(logger={"log_path": "no/log"}), ["logger", "Failed to open target file", "'no/log'"]),
    "bad level": (changed(logger={"level": "Loud"}), ["logger.level", "`Loud`", "`Info`"]),
    "missing section": ('{"drives":[]}', ["missing field `boot-source`", "line 1"]),
    "bad value": (changed(machine_config={"vcpu_count": 99, "mem_size_mib": 64}), ["machine-config", "99", "1 to 32"]),
    "duplicate key": ('{"boot-source":{"kernel_image_path":"a","kernel_image_path":"b"},"drives":[]}',
                      ["boot-source", "duplicate field `kernel_image_path`", "line 1"]),
    "duplicate section": ('{"drives":[],\n"drives":[]}', ["duplicate field `drives`", "line 2"]),
    "vsock without a path": (changed(vsock={"guest_cid": 3}), ["vsock", "missing field `uds_path`", "line 1"]),
    "vsock path": (changed(vsock={"guest_cid": 3, "uds_path": "vmlinux"}),
                   ["vsock", "Error binding to the host-side Unix socket: Address in use (os error 98)", "'vmlinux'", "remove it"]),
    "no such tap descriptor": (changed(network_interfaces=[{"iface_id": "a", "tap_fd": 77}]),
                               ["network-interfaces[0]", "tap_fd 77"]),
    "MAC": (changed(network_interfaces=[{"iface_id": "a", "host_dev_name": "t", "guest_mac": "06:00:00:00:00"}]),
            ["network-interfaces[0].guest_mac", "MAC address", "line 1"]),
    "later section": (changed(metrics={"metrics_path": "m"}), ["metrics", "not available"]),
    "no such device": (changed(balloon={"amount_mib": 1}), ["balloon", "does not have"]),
    "syntax": ('{"drives":[],\n "boot-source" = 1}', ["expected `:`", "line 2 column 16"]),
    "trailing comma": ('{"drives":[],}', ["trailing comma", "line 1 column 14"]),
    "cut off": ('{"drives":[', ["EOF while parsing a list", "line 1 column 11"]),
    "empty": ("", ["EOF while parsing a value", "line 1 column 0", "is empty"]),
    "white space": (" \n ", ["EOF while parsing a value"]),
    "an array": ("[]", ["sequence"]),
    "deep lists": ("[" * 1000000, ["recursion limit exceeded", "line 1 column 129"]),
    "deep objects": ('{"drives":' * 100000, ["recursion limit exceeded"]),
    "not UTF-8": (b'{"drives":[],"boot-source":{"kernel_image_path":"\xc3\x28"}}', ["invalid unicode code point", "line 1"]),
    "UTF-16": ('{"drives":[]}'.encode("utf-16"), ["expected value", "line 1 column 1"]),
    "binary": (bytes(range(256)) * 100, ["line 1 column 1"]),
    "NUL": (b'{"drives":[]}\0', ["trailing characters", "line 1 column 14"]),
}


@test
def config_files():
    for name, (content, words) in CONFIGS.items():
        with run("--config-file", "vm.json", files={"vm.json": content, "vmlinux": "kernel"}) as m:
            expect(f"{name}: status", 1, m.status)
            has(f"{name}: stderr", m.err, "Error: Configuration for VMM from one single json failed", "vm.json", *words)
            has(f"{name}: log", m.log, "Configuration for VMM from one single json failed", *words)
            expect(f"{name}: last line", "Mayfly exiting with error. exit_code=1", m.messages()[-1])
            expect(f"{name}: one line", 1, m.err.count("\n"))
            expect(f"{name}: quick", True, m.took < QUICK)
            expect(f"{name}: no socket left", [], m.sockets_left())


@test
def config_files_that_cannot_be_read():
    for name, words in (("nowhere", ["No such file or directory (os error 2)"]), ("/etc", ["Is a directory (os error 21)"]),
                        ("", ["No such file or directory (os error 2)"])):
        with run("--no-api", "--config-file", name, api=False) as m:
            expect(f"{name}: status", 1, m.status)
            has(f"{name}: stderr", m.err, f"Unable to open or read from the configuration file: '{name}': ", *words)
            expect(f"{name}: quick", True, m.took < QUICK)


@test
def config_file_of_100_mb():
    with run("--config-file", "vm.json", files={"vm.json": b"[" * 100_000_000}, memory=16) as m:
        expect("status", 1, m.status)
        has("stderr", m.err, "Configuration for VMM from one single json failed", "vm.json", "100000000", "4194304")
        expect("quick", True, m.took < QUICK)
        expect("no socket left", [], m.sockets_left())
    most = '{"drives":[],"x":"' + "a" * (4194304 - 20) + '"}'  # as big as may be, and only then found to be wrong
    with run("--config-file", "vm.json", files={"vm.json": most}, memory=16) as m:
        expect("the limit: status", 1, m.status)
        has("the limit: stderr", m.err, "missing field `boot-source` at line 1 column 4194304")
        expect("the limit: quick", True, m.took < QUICK)


@test
def config_file_without_end():
    with run("--no-api", "--config-file", "/dev/zero", api=False, memory=16) as m:
        expect("status", 1, m.status)
        has("stderr", m.err, "/dev/zero", "4194304")
        expect("quick", True, m.took < QUICK)


@test
def unknown_sections_are_ignored_aloud():
    with run("--config-file", "c", files={"c": changed(frobnicator={}), "vmlinux": "no kernel"}) as m:
        has("log", m.log, "Unknown section `frobnicator` of the configuration file is ignored.")
        has("and went on", m.err, "Could not Start MicroVM from one single json", "text file")


@test
def clients_wait_while_a_config_file_is_read():
    """A request that comes before the microVM runs is answered after it was refused: not at all."""
    with tempfile.TemporaryDirectory() as folder:
        pipe = os.path.join(folder, "pipe")
        os.mkfifo(pipe)
        with Vm("--config-file", pipe) as m, m.connect() as c:
            c.send(request_bytes("GET", "/"))
            with open(pipe, "w", encoding="ascii") as f:
                f.write("{}")
            expect("status", 1, m.ends())
            expect("no reply, closed", b"", c.reply().raw)
