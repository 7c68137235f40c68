# SPDX-License-Identifier: Apache-2.0
"""Started microVMs, with kernels of a few bytes: legality after the start, failed starts, ways to end (CONTRACT 3, 17)."""
import json
import os
import signal
import subprocess
import time

from harness import HALT, RESET, TRIPLE_FAULT, Vm, elf, expect, has, lab_test, run
from t_resources import DEFAULTS, EMPTY, drive, shown

START = "Start microvm error: "
KERNEL = {"kernel_image_path": "vmlinux"}


def config(**machine):
    return json.dumps({"boot-source": KERNEL, "drives": [], "machine-config": {"vcpu_count": 1, "mem_size_mib": 64, **machine}})


@lab_test
def after_the_start():
    after = "The requested operation is not supported after starting the microVM."
    with Vm(files={"vmlinux": elf(HALT), "disk": bytes(4096), "other": bytes(8192)}) as m:
        m.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64})
        m.put("/boot-source", {**KERNEL, "boot_args": "quiet"})
        m.put("/drives/d", drive("d"))
        before = m.config()
        expect("start", 204, m.start().status)
        has("state", m.call("GET", "/").body, '"state":"Running"')
        expect("GET /vm/config is as before", before, m.config())
        expect("its whole text", {**EMPTY, "drives": [shown("d")], "machine-config": {**DEFAULTS, "mem_size_mib": 64},
                                  "boot-source": {**KERNEL, "initrd_path": None, "boot_args": "quiet"}}, m.config())
        for method, path, body in (
                ("PUT", "/boot-source", KERNEL), ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 64}),
                ("PATCH", "/machine-config", {"vcpu_count": 1}), ("PUT", "/logger", {"level": "Info"}), ("PUT", "/serial", {}),
                ("PUT", "/actions", {"action_type": "InstanceStart"})):
            reply = m.call(method, path, body)
            expect(f"{method} {path} {body}", (400, after), (reply.status, reply.fault))
        expect("hot-plug", "PCI is not enabled", m.put("/drives/e", drive("e")).fault)
        expect("unplug", "PCI is not enabled", m.call("DELETE", "/drives/d").fault)
        expect("metrics", 204, m.put("/actions", {"action_type": "FlushMetrics"}).status)
        for path in ("/", "/version", "/machine-config", "/vm/config"):
            expect(f"GET {path}", 200, m.call("GET", path).status)
        patch_drive(m)
        for body, state in (("Paused", "Paused"), ("Paused", "Paused"), ("Resumed", "Running"), ("Resumed", "Running")):
            expect(f"PATCH /vm {body}", 204, m.call("PATCH", "/vm", {"state": body}).status)
            has("state", m.call("GET", "/").body, f'"state":"{state}"')
        has("log", m.log, "'pause vm' VMM action took ", "'resume vm' VMM action took ")
        keys = [m.put("/actions", {"action_type": "SendCtrlAltDel"}) for _ in range(5)]
        expect("Ctrl-Alt-Del that nobody takes", [204] * 4 + [400], [r.status for r in keys])
        has("the 5th", keys[4].fault, "Internal VMM error: ", "i8042 internal buffer full.")
        names = [m.proc(f"task/{t}/comm").strip() for t in os.listdir(f"/proc/{m.process.pid}/task")]
        expect("a thread of its own for the vCPU", 1, names.count("fc_vcpu 0"))
        has("log", m.log, "event_start: build microvm for boot", "event_end: build microvm for boot",
            "Kernel loaded using Linux 64-bit boot protocol")
        expect("SIGTERM", (-signal.SIGTERM, []), (m.stop(), m.sockets_left()))


def patch_drive(m):
    prefix = "Drive config error: Unable to patch the block device: "
    expect("another file", 204, m.call("PATCH", "/drives/d", {"drive_id": "d", "path_on_host": "other"}).status)
    expect("shown", "other", m.config()["drives"][0]["path_on_host"])
    limiter = {"ops": {"size": 10, "one_time_burst": None, "refill_time": 100}}
    expect("limits", 204, m.call("PATCH", "/drives/d", {"drive_id": "d", "rate_limiter": limiter}).status)
    expect("shown", {"bandwidth": None, **limiter}, m.config()["drives"][0]["rate_limiter"])
    for name, body, texts in (("d", {}, [prefix, "Running method expected different backend."]),
                              ("x", {"path_on_host": "other"}, [prefix, "Device not found", "'x'"]),
                              ("d", {"path_on_host": "gone"},
                               ["Error manipulating the backing file: No such file or directory (os error 2) gone"]),
                              ("d", {"path_on_host": "/"}, ["Is a directory (os error 21) /", "regular file or a block device"])):
        has(f"PATCH {name} {body}", m.call("PATCH", f"/drives/{name}", {"drive_id": name, **body}).fault, *texts)
    expect("the last good one is still shown", "other", m.config()["drives"][0]["path_on_host"])


@lab_test
def a_failed_start_is_corrected():
    with Vm(files={"vmlinux": elf(HALT), "text": "x", "initrd": bytes(100 << 20), "disk": bytes(512)}) as m:
        rss, fds = m.rss_kib(), m.n_fds()

        def fails(what, *texts):
            reply = m.start()
            expect(f"{what}: status", 400, reply.status)
            has(what, reply.fault, START, *texts)
            has(f"{what}: state", m.call("GET", "/").body, '"Not started"')

        fails("nothing", "Cannot start microvm without kernel configuration.")
        m.put("/boot-source", KERNEL)
        for mib in (1 << 30, 1 << 44, (1 << 64) - 1):
            expect("absurd memory is taken", 204, m.call("PATCH", "/machine-config", {"mem_size_mib": mib}).status)
            fails("absurd memory", "Invalid Memory Configuration: Cannot create mmap region: Out of memory (os error 12)",
                  f"mem_size_mib is {mib}")
        m.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64, "huge_pages": "2M"})
        fails("no huge pages", "Invalid Memory Configuration", "huge")
        m.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64})
        m.put("/boot-source", {"kernel_image_path": "text"})
        fails("a text file", "'text'", "text file")
        m.put("/boot-source", {**KERNEL, "initrd_path": "initrd"})
        fails("an initrd that does not fit", "initrd", "does not fit", str(100 << 20), "64 MiB", "more memory")
        m.put("/boot-source", {**KERNEL, "initrd_path": "/etc"})
        fails("an initrd that is a folder", "initrd", "directory")
        m.put("/boot-source", {**KERNEL, "initrd_path": "/dev/null"})
        fails("an initrd that is a device", "initrd", "not a regular file")
        m.put("/boot-source", KERNEL)
        m.put("/serial", {"serial_out_path": "nodir/console"})
        fails("no folder for the serial output", "nodir/console", "No such file or directory (os error 2)")
        m.put("/serial", {})
        for i in range(18):
            m.put(f"/drives/d{i}", drive(f"d{i}"))
        fails("too many devices", "Could not allocate GSI: The requested resource is not available.")
        m.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 1})
        fails("too little memory", "MiB")
        m.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64, "cpu_template": "T2"})
        fails("a CPU template", "cpu_template")
        expect("memory", True, m.rss_kib() - rss < 3 << 10)
        with Vm(files={"vmlinux": elf(HALT), "disk": bytes(512)}) as n:
            n.put("/boot-source", KERNEL)
            n.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 1 << 40})
            expect("absurd", 400, n.start().status)
            n.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64})
            n.put("/drives/d", drive("d"))
            expect("corrected", 204, n.start().status)
            has("runs", n.call("GET", "/").body, '"Running"')
        expect("descriptors: kernel and drives more", fds + 19, m.n_fds())


@lab_test
def ways_to_end():
    for program, name in (("mayfly-vmm", "Mayfly"), ("firecracker", "Firecracker")):
        for what, code in (("reset", RESET), ("triple fault", TRIPLE_FAULT)):
            if what == "triple fault" and "MAYFLY_LAB" not in os.environ:
                continue  # many a KVM inside a virtual machine can't emulate it
            with run("--config-file", "c", program=program, log=False,
                     files={"vmlinux": elf(code), "c": config()}, seconds=20) as m:
                expect(f"{name}, {what}: status", 0, m.status)
                messages = m.messages()
                expect(f"{name}, {what}: first line", True, messages[0].startswith(f"Running {name} v") or messages[0])
                expect(f"{name}, {what}: order", ['Listening on API socket ("sock").', "API server started."],
                       [t for t in messages if "API s" in t])
                has(f"{name}, {what}", m.log, "Successfully started microvm that was configured from one single json",
                    "Vmm is stopping.")
                expect(f"{name}, {what}: last line", f"{name} exiting successfully. exit_code=0", messages[-1])
                expect(f"{name}, {what}: no socket left", [], m.sockets_left())
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV):
        with Vm("--config-file", "c", files={"vmlinux": elf(HALT), "c": config(vcpu_count=2)}) as m:
            expect("runs", True, m.wait_log("Successfully started"))
            m.process.send_signal(number)
            want = {signal.SIGTERM: -signal.SIGTERM, signal.SIGHUP: 156, signal.SIGSEGV: 150}[number]
            expect(f"{number.name} while it runs", want, m.ends())
    with Vm("--config-file", "c", files={"vmlinux": elf(HALT), "c": config()}) as m:
        expect("runs", True, m.wait_log("Successfully started"))
        for number in (35, signal.SIGPIPE):
            m.process.send_signal(number)
        time.sleep(0.1)
        has("survived", m.call("GET", "/").body, '"Running"')


@lab_test
def first_reply_with_a_config_file_says_running():
    for _ in range(5):
        with Vm("--config-file", "c", wait=False, files={"vmlinux": elf(HALT), "c": config()}) as m:
            while not m.answers():
                pass
            has("state", m.call("GET", "/").body, '"state":"Running"')
            back = json.loads(m.call("GET", "/vm/config").body)
        with Vm("--config-file", "c", files={"vmlinux": elf(HALT), "c": json.dumps(back)}) as m:
            expect("GET /vm/config fed back", True, m.wait_log("Successfully started"))
            expect("is the same again", back, m.config())


@lab_test
def without_an_api():
    with run("--no-api", "--config-file", "c", api=False, log=False,
             files={"vmlinux": elf(RESET), "c": config()}, seconds=20) as m:
        expect("status", 0, m.status)
        expect("no API in the log", False, "API" in m.log)
        expect("no socket", [], m.sockets_left())


@lab_test
def a_disk_on_a_read_only_file_system():
    if "MAYFLY_LAB" not in os.environ:
        return  # it mounts
    with Vm(files={"vmlinux": elf(HALT)}) as m:
        os.mkdir(m.path("mnt"))
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", m.path("mnt")], check=True)
        try:
            with open(m.path("mnt/disk"), "wb") as f:
                f.write(bytes(4096))
            subprocess.run(["mount", "-o", "remount,ro", m.path("mnt")], check=True)
            body = drive("d", "mnt/disk")
            has("read-write", m.put("/drives/d", body).fault,
                "Error manipulating the backing file: Read-only file system (os error 30) mnt/disk", "read-write",
                "is_read_only")
            expect("read-only", 204, m.put("/drives/d", {**body, "is_read_only": True}).status)
            m.put("/boot-source", KERNEL)
            expect("start", 204, m.start().status)
            m.stop()
        finally:
            subprocess.run(["umount", m.path("mnt")], check=True)
