# SPDX-License-Identifier: Apache-2.0
"""Command line, start, log lines, signals, end (CONTRACT.md 6, 14, 17)."""
import os
import re
import signal
import socket
import stat
import tempfile
import time

from harness import QUICK, Vm, expect, has, run, test

MORE = "For more information try --help."


@test
def wrong_command_lines():
    rows = (
        (["--bogus"], 153, ["Arguments parsing error: ", "'--bogus'", MORE]),
        (["word"], 153, ["Arguments parsing error: ", "'word'", MORE]),
        (["-x"], 153, ["'-x'", MORE]),
        (["--api-sock"], 153, ["'--api-sock' requires a value", MORE]),
        (["--api-sock", "--no-api"], 153, ["'--api-sock' requires a value", MORE]),
        (["--api-sock=x"], 153, ["'--api-sock=x'", "--api-sock PATH", MORE]),
        (["--level=Debug"], 153, ["'--level=Debug'", "--level LEVEL", MORE]),
        (["--no-seccomp=1"], 153, ["'--no-seccomp=1'", "takes no value", MORE]),
        (["--id", "a", "--id", "b"], 153, ["'--id' was provided more than once", MORE]),
        (["--no-seccomp", "--no-seccomp"], 153, ["'--no-seccomp' was provided more than once", MORE]),
        (["--no-api"], 153, ["--no-api", "--config-file", MORE]),
        (["--id", "a_b"], 153, ["a_b", "1 to 64", "letters, digits and '-'", MORE]),
        (["--id", "a" * 65], 153, ["1 to 64", MORE]),
        (["--id", ""], 153, ["1 to 64", MORE]),
        (["--http-api-max-payload-size", "12k"], 153, ["--http-api-max-payload-size", "12k", "whole number", MORE]),
        (["--start-time-us", "-1"], 153, ["--start-time-us", "-1", "whole number", MORE]),
        (["--http-api-max-payload-size", "99999999999999999999"], 153, ["whole number", MORE]),
        (["--enable-pci"], 153, ["--enable-pci", "PCI", MORE]),
        (["--metrics-path", "x"], 153, ["--metrics-path", "not", MORE]),
        (["--level", "Loud"], 152, ["Loud", "Error, Warn, Info, Debug"]),
        (["--level", ""], 152, ["Error, Warn, Info, Debug"]),
    )
    for args, status, texts in rows:
        with run(*args, api=False, log=False, level=None) as m:
            expect(f"{args}: status", status, m.status)
            has(f"{args}: stderr", m.err, *texts)
            expect(f"{args}: in time", True, m.took < QUICK)
            expect(f"{args}: files", ["err", "out"], sorted(os.listdir(m.dir)))


@test
def what_comes_behind_two_dashes_is_ignored():
    with Vm("--", "--bogus", "word") as m:
        expect("it runs", 200, m.call("GET", "/").status)


@test
def version_and_help():
    for program, first in (("firecracker", "Firecracker v1.17.0"), ("mayfly-vmm", None)):
        with run("--version", program=program, api=False, log=False, level=None) as m:
            lines = m.read("out").split("\n")
            expect(f"{program}: status", (0, ""), (m.status, m.err))
            expect(f"{program}: first line", True, lines[0] == first or (not first and lines[0].startswith("Mayfly v")))
            if first:
                expect("an empty line", "", lines[1])
                has("the log's line", lines[2], "] Firecracker exiting successfully. exit_code=0")
    for option in ("--help", "-h"):
        with run(option, api=False, log=False, level=None) as m:
            expect(f"{option}: status", (0, ""), (m.status, m.err))
            has(option, m.read("out"), "Usage:", "--api-sock PATH", "--config-file PATH", "Examples:")
            expect("no wide lines", True, max(len(text) for text in m.read("out").split("\n")) <= 120)


@test
def start_and_end_in_the_log():
    for program, name in (("firecracker", "Firecracker"), ("mayfly-vmm", "Mayfly")):
        with Vm("--id", "the-id-7", program=program, log=False, level=None) as m:
            expect("a request", 200, m.call("GET", "/").status)
            lines = m.log.splitlines()[:3]
            expect(f"{name}: first line", True, bool(re.search(rf"\] Running {name} v\d+\.\d+\.\d+$", lines[0])) or lines[0])
            expect(f"{name}: prefix", True,
                   bool(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9} \[the-id-7:main\] ", lines[0])) or lines[0])
            expect(f"{name}: the next", ['Listening on API socket ("sock").', "API server started."],
                   [text.split("] ", 1)[1] for text in lines[1:]])
            has("its id in the API", m.call("GET", "/").body, '"id":"the-id-7"')
            expect("SIGTERM", -signal.SIGTERM, m.stop())
            expect("the socket is gone", [], m.sockets_left())
            expect("stderr", "", m.err)


@test
def every_level_can_be_asked_for():
    for level in ("Off", "error", "WARN", "Warning", "Info", "debug", "Trace"):
        with Vm(level=level) as m:
            expect(f"{level}: reply", 200, m.call("GET", "/").status)
            has_info, has_debug = "received a Get" in m.log, "API call duration" in m.log
            expect(level, (level.lower() in ("info", "debug", "trace"), level.lower() in ("debug", "trace")),
                   (has_info, has_debug))
    with Vm("--module", "vmm/", "--show-level", "--show-log-origin") as m:
        m.call("GET", "/")
        expect("--module", False, "received a Get" in m.log)
        has("decorations", m.log, "[anonymous-instance:main:INFO:vmm/main.c:")


@test
def signals_end_it_as_the_contract_says():
    statuses = {signal.SIGBUS: 149, signal.SIGSEGV: 150, signal.SIGXFSZ: 151, signal.SIGXCPU: 154, signal.SIGHUP: 156,
                signal.SIGILL: 157, signal.SIGSYS: 2}
    for number, status in statuses.items():
        with Vm() as m:
            m.process.send_signal(number)
            expect(f"{number.name}: status", status, m.ends())
            expect(f"{number.name}: the last log line", f"Shutting down VM after intercepting signal {number.value}, code 0.",
                   m.messages()[-1])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGKILL):
        with Vm() as m:
            m.process.send_signal(number)
            expect(f"{number.name}: wait status", -number, m.ends())
            expect(f"{number.name}: not taken for a fault", False, "intercepting signal" in m.log)
            if number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                expect(f"{number.name}: the socket is gone", [], m.sockets_left())


@test
def signals_that_are_survived():
    with Vm() as m:
        for number in (35, signal.SIGPIPE, 35, signal.SIGPIPE):
            m.process.send_signal(number)
        expect("logged", True, m.wait_log("Received signal 13, code 0."))
        expect("alive", 200, m.call("GET", "/").status)


@test
def standard_descriptors_may_be_closed():
    body = {"drive_id": "d", "is_root_device": False, "path_on_host": "disk"}
    for closed in ("0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"):
        with Vm(shell=f'exec "$@" {closed}', log=False, files={"disk": bytes(4096)}) as m:
            expect(f"{closed}: works", 200, m.call("GET", "/").status)
            m.put("/drives/d", body)
            links = {n: os.readlink(f"/proc/{m.process.pid}/fd/{n}") for n in "012"}
            expect(f"{closed}: what has their numbers", True, all(text.startswith("/") and "disk" not in text
                                                                  for text in links.values()) or links)
            m.stop()
            with open(m.path("disk"), "rb") as f:
                expect(f"{closed}: the disk", bytes(4096), f.read())


@test
def it_ends_while_it_waits_for_its_configuration():
    with tempfile.TemporaryDirectory() as folder:
        pipe = os.path.join(folder, "pipe")
        os.mkfifo(pipe)
        for number in (signal.SIGTERM, signal.SIGINT):
            with Vm("--config-file", pipe) as m, open(pipe, "w", encoding="ascii"):
                time.sleep(0.1)  # until it reads, which can't be seen from outside without a right to trace it
                m.process.send_signal(number)
                expect(f"{number.name}: wait status", -number, m.ends(2))
                expect(f"{number.name}: no socket left", [], m.sockets_left())


@test
def the_log_goes_nowhere():
    with Vm("--log-path", "/dev/full", log=False) as m:
        expect("API with a full disk for the log", 200, m.call("GET", "/").status)
    with Vm(log=False) as m:
        os.mkfifo(m.path("pipe"))
        expect("a FIFO that nobody reads", 204, m.put("/logger", {"log_path": "pipe", "level": "Debug"}).status)
        with m.connect() as c:
            for _ in range(1000):
                c.call("GET", "/vm/config")
            expect("still there", 200, c.call("GET", "/").status)
    with run("--log-path", "nodir/log", log=False) as m:
        expect("no such folder: status", 1, m.status)
        has("no such folder", m.err, "Error: ", "nodir/log", "No such file or directory (os error 2)", "--log-path")
        expect("no socket", [], m.sockets_left())


@test
def socket_paths():
    def refused(what, path, *texts, prepare=None):
        with run("--api-sock", path, api=False, log=False, files=prepare) as m:
            expect(f"{what}: status", 1, m.status)
            has(f"{what}: log", m.log, f"Failed to open the API socket at: {path}. Check that it is not already used.")
            has(f"{what}: last line", m.messages()[-1], "Mayfly exiting with error. exit_code=1")
            has(f"{what}: stderr", m.err, "Error: ", path, *texts)
            expect(f"{what}: in time", True, m.took < QUICK)
            expect(f"{what}: no socket", [], m.sockets_left())
            return m.read(path)
    expect("a file's content", "precious", refused("a file", "file", "Address in use (os error 98)", "not a socket",
                                                   prepare={"file": "precious"}))
    refused("no folder", "no/dir/s", "No such file or directory (os error 2)", "folder")
    refused("too long", "s" * 108, "108", "107")
    refused("empty", "", "1 to 107")
    refused("a folder", "/etc", "Address in use", "not a socket")
    with Vm("--api-sock", "s" * 107, api=False, log=False, wait=False) as m:
        expect("as long as possible", True, m.wait_log("API server started."))

    with Vm() as live, run("--api-sock", live.sock, api=False, log=False) as m:
        expect("live: status", 1, m.status)
        has("live: stderr", m.err, live.sock, "Address in use (os error 98)", "another process")
        expect("live: the other goes on", 200, live.call("GET", "/").status)
    with Vm() as dead:
        dead.process.kill()
        dead.ends()
        expect("left by SIGKILL", ["sock"], dead.sockets_left())
        with Vm("--api-sock", dead.sock, api=False, log=False, wait=False) as m:
            expect("stale: starts", True, m.wait_log("API server started."))
            has("stale: log", m.log, "stale")
            expect("stale: mode", stat.S_IFSOCK | 0o755, os.lstat(dead.sock).st_mode)
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(dead.sock)
            m.stop()
        expect("stale: gone at the end", [], dead.sockets_left())
