# SPDX-License-Identifier: Apache-2.0
"""The API's resources before the start: rules, faults, what GET /vm/config shows, log lines (CONTRACT.md 2 to 5, 14)."""
import json
import re

from harness import Vm, elf, expect, has, test

JSON_FAULT = "An error occurred when deserializing the json body of a request: "
DEFAULTS = {"vcpu_count": 1, "mem_size_mib": 128, "smt": False, "track_dirty_pages": False, "huge_pages": "None"}
EMPTY = {"balloon": None, "drives": [], "boot-source": {"kernel_image_path": "", "initrd_path": None, "boot_args": None},
         "cpu-config": None, "logger": None, "machine-config": DEFAULTS, "metrics": None, "mmds-config": None,
         "network-interfaces": [], "vsock": None, "entropy": None, "pmem": [], "memory-hotplug": None}


def drive(name, path="disk", **more):
    return {"drive_id": name, "is_root_device": False, "path_on_host": path, **more}


def shown(name, path="disk", **more):
    return {"drive_id": name, "partuuid": None, "is_root_device": False, "cache_type": "Unsafe", "is_read_only": False,
            "path_on_host": path, "rate_limiter": None, "io_engine": "Sync", "socket": None, **more}


@test
def vm_config_is_exact():
    with Vm(files={"vmlinux": elf(), "initrd": "x", "disk": bytes(4096), "root": bytes(512)}) as m:
        expect("before", EMPTY, m.config())
        expect("before, its text is compact", False, " " in m.call("GET", "/vm/config").body)
        bucket = {"size": 1000, "one_time_burst": 5, "refill_time": 100}
        steps = (
            ("/machine-config", {"vcpu_count": 4, "mem_size_mib": 512, "smt": True, "huge_pages": "Transparent"}),
            ("/boot-source", {"kernel_image_path": "vmlinux", "initrd_path": "initrd", "boot_args": "quiet  a=\"b c\""}),
            ("/drives/data", drive("data", cache_type="Writeback", rate_limiter={"bandwidth": bucket, "ops": None})),
            ("/drives/root", drive("root", "root", is_root_device=True, is_read_only=True, partuuid="1-02",
                                   rate_limiter={}, io_engine="Sync", socket=None)),
            ("/serial", {"serial_out_path": "console"}),
            ("/logger", {"level": "Debug"}),
        )
        for path, body in steps:
            expect(path, 204, m.put(path, body).status)
        want = dict(EMPTY)
        want["machine-config"] = {**DEFAULTS, "vcpu_count": 4, "mem_size_mib": 512, "smt": True, "huge_pages": "Transparent"}
        want["boot-source"] = steps[1][1]
        want["drives"] = [shown("root", "root", is_root_device=True, is_read_only=True, partuuid="1-02"),
                          shown("data", cache_type="Writeback", rate_limiter={"bandwidth": bucket, "ops": None})]
        expect("after", want, m.config())
        expect("replaced boot source", 204, m.put("/boot-source", {"kernel_image_path": "vmlinux", "boot_args": ""}).status)
        want["boot-source"] = {"kernel_image_path": "vmlinux", "initrd_path": None, "boot_args": ""}
        expect("after a second boot source", want, m.config())
        expect("not the root any more", 204, m.put("/drives/root", drive("root", "root")).status)
        expect("another root", 204, m.put("/drives/data", drive("data", is_root_device=True)).status)
        want["drives"] = [shown("data", is_root_device=True), shown("root", "root")]
        expect("after the roots changed", want, m.config())


@test
def machine_config_rules():
    with Vm() as m:
        def get():
            return json.loads(m.call("GET", "/machine-config").body)
        expect("defaults", DEFAULTS, get())
        both = {"vcpu_count": 2, "mem_size_mib": 256}
        m.put("/machine-config", {**both, "smt": True, "track_dirty_pages": True, "huge_pages": "2M"})
        expect("all", {**both, "smt": True, "track_dirty_pages": True, "huge_pages": "2M"}, get())
        m.put("/machine-config", both)
        expect("PUT resets", {**DEFAULTS, **both}, get())
        m.call("PATCH", "/machine-config", {"mem_size_mib": 512, "smt": None})
        expect("PATCH merges", {**DEFAULTS, **both, "mem_size_mib": 512}, get())
        bad = m.call("PATCH", "/machine-config", {"mem_size_mib": 1024, "vcpu_count": 33})
        expect("PATCH refused", 400, bad.status)
        expect("and changed nothing", {**DEFAULTS, **both, "mem_size_mib": 512}, get())
        expect("32 vCPUs", 204, m.put("/machine-config", {"vcpu_count": 32, "mem_size_mib": 1}).status)
        expect("1 vCPU with SMT", 204, m.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 1, "smt": True}).status)
        expect("a lot of memory", 204, m.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 1 << 40}).status)
        cpus = ("Machine config error: The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even number "
                "if SMT is enabled.")
        memory = "Machine config error: The memory size (MiB) is either 0, or not a multiple of the configured page size."
        for body, text in (({"vcpu_count": 0, "mem_size_mib": 1}, cpus), ({"vcpu_count": 33, "mem_size_mib": 1}, cpus),
                           ({"vcpu_count": 3, "mem_size_mib": 1, "smt": True}, cpus),
                           ({"vcpu_count": 1, "mem_size_mib": 0}, memory),
                           ({"vcpu_count": 1, "mem_size_mib": 3, "huge_pages": "2M"}, memory),
                           ({"vcpu_count": 1, "mem_size_mib": 3, "huge_pages": "Transparent"}, memory)):
            reply = m.put("/machine-config", body)
            expect(f"{body}: status", 400, reply.status)
            has(f"{body}", reply.fault, text)
            if text == cpus:
                has(f"{body} names field and value", reply.fault, f"vcpu_count is {body['vcpu_count']}")
            else:
                has(f"{body} names field and value", reply.fault, f"mem_size_mib is {body['mem_size_mib']}")
        for template in ("None", "T2", None):
            reply = m.put("/machine-config", {**both, "cpu_template": template})
            expect(f"cpu_template {template}", (204, template is not None), (reply.status, "Deprecation: true" in reply.head))
        expect("an omitted template stays", "T2", get().get("cpu_template"))
        has("log", m.log, "PUT /machine-config: cpu_template field is deprecated.")


@test
def json_faults_have_serde_texts():
    rows = (
        ({"mem_size_mib": 128}, "missing field `vcpu_count` at line 1 column 21."),
        ({"vcpu_count": 1}, "missing field `mem_size_mib` at line 1 column 17."),
        ({"vcpu_count": 1, "mem_size_mib": "128"}, 'invalid type: string "128", expected usize at line 1 column 39'),
        ({"vcpu_count": 1.5, "mem_size_mib": 1}, "invalid type: floating point `1.5`, expected u8 at line 1 column 18"),
        ({"vcpu_count": {}, "mem_size_mib": 1}, "invalid type: map, expected u8 at line 1 column 15"),
        ({"vcpu_count": True, "mem_size_mib": 1}, "invalid type: boolean `true`, expected u8 at line 1 column 19"),
        ({"vcpu_count": -5, "mem_size_mib": 1}, "invalid value: integer `-5`, expected u8 at line 1 column 17"),
        ({"vcpu_count": 256, "mem_size_mib": 1}, "invalid value: integer `256`, expected u8 at line 1 column 18"),
        ({"vcpu_count": 1, "mem_size_mib": 1, "smt": None}, "invalid type: null, expected a boolean at line 1 column 48"),
        ({"vcpu_count": 1, "mem_size_mib": 1, "huge_pages": "1G"},
         "unknown variant `1G`, expected one of `None`, `Transparent`, `2M` at line 1 column 55"),
        ({"vcpu_count": 1, "mem_size_mib": 1, "foo": 1}, "unknown field `foo`, expected one of `vcpu_count`, `mem_size_mib`, "),
        ('{"vcpu_count":1,"vcpu_count":1}', "duplicate field `vcpu_count` at line 1 column 28"),
        ('{"vcpu_count":1,\n"mem_size_mib":x}', "expected value at line 2 column 16"),
        ('{"vcpu_count":1', "EOF while parsing an object at line 1 column 15"),
        ('{"vcpu_count":1,"mem_size_mib":1} x', "trailing characters at line 1 column 35"),
        ("[1,2]", "invalid type: "),
        (b'{"\xff":1}', "invalid unicode code point at line 1 column 4"),
        ("[" * 1000, "recursion limit exceeded at line 1 column 1"),
        ('{"vcpu_count":' * 1000, "recursion limit exceeded at line 1 column "),
    )
    with Vm() as m, m.connect() as c:
        for body, text in rows:
            reply = c.call("PUT", "/machine-config", body)
            expect(f"{body!r:.80}: status", 400, reply.status)
            has(f"{body!r:.80}", reply.fault, JSON_FAULT + text)
        for field, value in (("vcpu_count", "x"), ("mem_size_mib", -1), ("smt", 1), ("huge_pages", 2)):
            fault = c.call("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 1, field: value}).fault
            has("a value of the wrong type: its field is named", fault, field)
        expect("nothing of all that was taken", DEFAULTS, m.config()["machine-config"])


@test
def drive_rules():
    disk = "Drive config error: Unable to create the virtio block device: "
    rows = (
        (drive("d", None), (disk + "Invalid block config.", "path_on_host")),
        (drive("d", socket="s"), (disk + "Invalid block config.", "socket")),
        (drive("d", io_engine="Turbo"), (JSON_FAULT + "unknown variant `Turbo`, expected `Async` or `Sync`", "io_engine")),
        (drive("d", cache_type="Fast"), (JSON_FAULT + "unknown variant `Fast`, expected `Unsafe` or `Writeback`",)),
        (drive("d", cache_type=None), (JSON_FAULT, "cache_type")),
        (drive("d", is_root_device="no"), (JSON_FAULT + 'invalid type: string "no", expected a boolean', "is_root_device")),
        ({"drive_id": "d", "path_on_host": "disk"}, (JSON_FAULT + "missing field `is_root_device` at line 1 column 41.",)),
        (drive("d", rate_limiter={"bandwidth": {"size": 1}}), (JSON_FAULT + "missing field `refill_time`",)),
        (drive("d", rate_limiter={"speed": {}}), (JSON_FAULT + "unknown field `speed`, expected `bandwidth` or `ops`",)),
        (drive("d", is_root_device=True), ("Drive config error: A root block device already exists!",)),
    )
    with Vm(files={"disk": bytes(4096)}) as m:
        expect("root", 204, m.put("/drives/root", drive("root", is_root_device=True)).status)
        for body, texts in rows:
            reply = m.put("/drives/d", body)
            expect(f"{body}: status", 400, reply.status)
            has(f"{body}", reply.fault, *texts)
        expect("no half-made drive", ["root"], [d["drive_id"] for d in m.config()["drives"]])
        fds = m.n_fds()
        for _ in range(50):
            m.put("/drives/root", drive("root", is_root_device=True))
            m.put("/drives/d", drive("d", "missing"))
            m.put("/boot-source", {"kernel_image_path": "disk"})
        expect("descriptors after 150 replacements and refusals", fds + 1, m.n_fds())


@test
def configured_again_and_again():
    with Vm(files={"vmlinux": elf(), "text": "x"}, level="Error") as m, m.connect() as c:
        def turn(i):
            c.call("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 64 + i % 5})
            c.call("PUT", "/boot-source", {"kernel_image_path": ("vmlinux", "text", "gone")[i % 3], "boot_args": "a" * (i % 900)})
            c.call("PATCH", "/machine-config", {"mem_size_mib": 1 << 50})
            c.call("PUT", "/logger", {"log_path": "log", "level": "Error"})
            c.call("PUT", "/serial", {"serial_out_path": "o" * (i % 90)})
        def measure():
            return m.rss_kib(), m.n_fds(1), len(m.proc("maps").splitlines())
        for i in range(30):
            turn(i)
        rss, fds, maps = measure()
        for i in range(300):
            turn(i)
        grown, fds_now, maps_now = measure()
        expect("descriptors and mappings", (fds, maps), (fds_now, maps_now))
        expect(f"memory (grew by {grown - rss} KiB)", True, grown - rss < 256)


@test
def before_the_start_is_refused():
    text = "The requested operation is not supported before starting the microVM."
    rows = (
        ("PATCH", "/vm", {"state": "Paused"}), ("PATCH", "/vm", {"state": "Resumed"}),
        ("PATCH", "/drives/d", {"drive_id": "d", "path_on_host": "disk"}), ("DELETE", "/drives/d", None),
        ("PUT", "/actions", {"action_type": "FlushMetrics"}), ("PUT", "/actions", {"action_type": "SendCtrlAltDel"}),
    )
    with Vm(files={"disk": bytes(512)}) as m:
        m.put("/drives/d", drive("d"))
        for method, path, body in rows:
            reply = m.call(method, path, body)
            expect(f"{method} {path} {body}", (400, text), (reply.status, reply.fault))
        has("start", m.start().fault, "Start microvm error: Cannot start microvm without kernel configuration.")
        has("PATCH /vm", m.call("PATCH", "/vm", {"state": "Running"}).fault,
            JSON_FAULT + "unknown variant `Running`, expected `Paused` or `Resumed` at line 1 column 19.")
        for field in ("is_read_only", "io_engine", "is_root_device", "cache_type", "partuuid"):
            has("PATCH drive", m.call("PATCH", "/drives/d", {"drive_id": "d", field: True}).fault, f"unknown field `{field}`")
        for body, reason in (({"action_type": "Stop"}, "unknown variant `Stop`, expected one of "),
                             ({"action_type": "InstanceStart", "payload": ""}, "unknown field `payload`"),
                             ({}, "missing field `action_type` at line 1 column 2.")):
            has(f"action {body}", m.put("/actions", body).fault, JSON_FAULT + reason)


@test
def what_is_not_there_yet_says_so():
    with Vm() as m:
        for method, path in (("PUT", "/metrics"), ("PUT", "/snapshot/load"), ("PUT", "/mmds"), ("PUT", "/mmds/config"),
                             ("PUT", "/cpu-config"), ("PATCH", "/mmds")):
            reply = m.call(method, path, {"x": 1})
            expect(path, (400, f'The resource "{path}" is not available in this version of Mayfly.'), (reply.status, reply.fault))


@test
def logger_rules():
    with Vm(level=None, files={"old": "o" * 5}) as m:
        expect("another file", 204, m.put("/logger", {"log_path": "second", "level": "wArNiNg", "show_level": True}).status)
        first = m.log
        m.call("GET", "/")
        m.call("GET", "/nowhere")
        expect("the first file is left alone", first, m.log)
        expect("Warn is without Info", False, "received a Get" in m.read("second"))
        has("decorated", m.read("second"), ":fc_api:ERROR] Received Error. Status code: 400 Bad Request.")
        expect("level left out", 204, m.put("/logger", {"show_log_origin": True}).status)
        m.call("GET", "/")
        line = next((text for text in m.read("second").splitlines() if 'Get request on "/"' in text), "")
        expect("Info again, with level and origin", True,
               bool(re.fullmatch(r"[0-9T:.-]{29} \[anonymous-instance:fc_api:INFO:[^:]+/[^:]+:\d+\] The API server received a "
                                 r'Get request on "/"\.', line)) or line)
        reply = m.put("/logger", {"log_path": "nodir/log"})
        expect("status", 400, reply.status)
        has("no such folder", reply.fault, "Logger error: Failed to open target file: No such file or directory (os error 2)",
            "nodir/log")
        expect("its words once", 1, reply.fault.count("Failed to open"))
        has("level", m.put("/logger", {"level": "Loud"}).fault, "unknown variant `Loud`, expected one of ", "`Info`")
        m.call("GET", "/version")
        has("the sink is still there", m.read("second"), '"/version"')
        m.put("/logger", {"log_path": "old", "level": "Off"})
        m.put("/logger", {"log_path": "fifo-to-be", "level": "Info"})
        expect("not truncated", True, len(m.read("old")) >= 5)


@test
def log_lines_of_requests():
    with Vm() as m:
        m.call("GET", "/")
        m.put("/boot-source", {"kernel_image_path": "nowhere \"x\""})
        m.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 128})
        m.call("PATCH", "/machine-config", '{"smt":\n\ttrue}')
        messages = m.messages()
        at = messages.index('The API server received a Get request on "/".')
        lines = [re.sub(r"\d+ us\.$", "N us.", text) for text in messages[at:] if not text.startswith("Kernel")]
        took = "Total previous API call duration: N us."
        want = [
            'The API server received a Get request on "/".',
            "The request was executed successfully. Status code: 200 OK.", took,
            r'The API server received a Put request on "/boot-source" with body "{\"kernel_image_path\": \"nowhere \\\"x\\\"\"}".',
            None, took,
            r'The API server received a Put request on "/machine-config" with body "{\"vcpu_count\": 1, \"mem_size_mib\": 128}".',
            "The request was executed successfully. Status code: 204 No Content.", took,
            r'The API server received a Patch request on "/machine-config" with body "{\"smt\":\n\ttrue}".',
            "The request was executed successfully. Status code: 204 No Content.", took,
        ]
        has("the refusal", lines[4], "Received Error. Status code: 400 Bad Request. Message: Boot source error: "
            "The kernel file cannot be opened: No such file or directory (os error 2)")
        lines[4] = None
        expect("lines", want, lines)
        durations = [int(t) for t in re.findall(r"API call duration: (\d+) us", m.log)]
        expect("all under 700 ms", True, max(durations) < 700000)
