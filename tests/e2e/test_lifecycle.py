"""Start, reload, drain and end; the access log."""

import contextlib
import ctypes
import fcntl
import json
import os
import re
import signal
import socket
import struct
import threading
import time

import harness
from harness import (
    E2E,
    LOOPBACK,
    PENSTOCK,
    ConnectionEnded,
    answer_bytes,
    completion,
    request_bytes,
    run_program,
    wait_for,
)
from test_failover import Load


def listed(*endpoints):
    """The endpoints as a configuration says them."""
    return "endpoints:\n" + "".join(f"  - {endpoint.url}\n" for endpoint in endpoints)


class CommandLine(E2E):
    any_path = True

    def test_wrong_usage_exits_with_2_and_says_what_is_wrong(self):
        cases = [
            ([], "Usage"),
            (["sevre"], "did you mean serve"),
            (["serve"], "--endpoint"),
            (["serve", "--no-such-flag"], "--no-such-flag"),
            (["serve", "--endpoint"], "--endpoint"),
            (["serve", "--endpoint", "ftp://127.0.0.1:1"], "ftp://127.0.0.1:1"),
            (["serve", "--endpoint", "http://127.0.0.1:1", "--ring", "kqueue"], "--ring"),
            (["serve", "--endpoint", "http://127.0.0.1:1", "--shards", "many"], "--shards"),
            (["serve", "--endpoint", "http://127.0.0.1:1", "--shards", ""], '--shards: "" is not'),
            (["serve", "--endpoint", "http://127.0.0.1:1", "--policy", "best"], "epp-default"),
            (["serve", "--endpoint", "http://127.0.0.1:1", "--listen", "nowhere"], "--listen"),
            (["check"], "--config"),
        ]
        for arguments, expected in cases:
            with self.subTest(arguments):
                code, out, err = run_program(PENSTOCK, *arguments)
                self.assertEqual((code, out), (2, ""), err)
                self.assertIn(expected, err)

    def test_help_and_version(self):
        for arguments, expected in [
            (["--help"], "serve"),
            (["serve", "--help"], "--endpoint"),
            (["check", "--help"], "--config"),
            (["version"], "io_uring"),
        ]:
            code, out, err = run_program(PENSTOCK, *arguments)
            self.assertEqual((code, err), (0, ""))
            self.assertIn(expected, out)

    def test_a_file_that_cannot_be_read(self):
        folder = self.directory()
        empty = self.write("")
        cases = {"/no/such/file.yaml": "No such file", folder: "Is a directory", empty: "not a map"}
        for path, reason in cases.items():
            for command in ("check", "serve"):
                with self.subTest(f"{command} {reason}"):
                    code, out, err = run_program(PENSTOCK, command, "--config", path)
                    self.assertEqual((code, out), (1, ""))
                    self.assertRegex(err, f"^{re.escape(path)}:.*{reason}")

    def test_an_empty_manifest_is_no_problem(self):
        path = self.write("")
        code, _, err = run_program(PENSTOCK, "check", "--manifests", os.path.dirname(path))
        self.assertEqual((code, err), (0, ""))
        os.symlink("/no/such/file", os.path.join(os.path.dirname(path), "gone.yaml"))
        code, _, err = run_program(PENSTOCK, "check", "--manifests", os.path.dirname(path))
        self.assertEqual(code, 1)
        self.assertRegex(err, r"gone\.yaml: cannot be read: No such file")
        code, _, err = run_program(PENSTOCK, "check", "--manifests", "/no/such/folder")
        self.assertEqual((code, err), (1, "/no/such/folder: cannot be read: No such file or directory\n1 problem\n"))

    def test_a_trace_that_cannot_be_read_says_why(self):
        folder, empty = self.directory(), self.write("")
        cases = [
            (["--trace", "/no/such/trace"], "/no/such/trace: cannot be read: No such file or directory"),
            (["--trace", folder], f"{folder}: cannot be read: Is a directory"),
            (["--trace", empty], f"{empty}:1: no request in it"),
            (["--decisions", folder], f"{folder}: cannot be read: Is a directory"),
        ]
        for arguments, expected in cases:
            with self.subTest(arguments):
                code, out, err = run_program(PENSTOCK, "replay", *arguments)
                self.assertEqual((code, out, err), (1, "", f"penstock: {expected}\n"))

    def write(self, text):
        return self.file("file.yaml", text)

    BAD = """kind: GatewayConfig
listen: nowhere
endpoints:
  - http://127.0.0.1:8001/path
  - url: ftp://127.0.0.1:8002
  - url: http://127.0.0.1:8003
    nmae: x
timeouts:
  connect: 5
  conect: 5s
limits:
  body_bytes: lots
shards: -1
shards: 2
routing: {policy: best}
no_such_section: {a: b}
"""

    def test_every_problem_of_a_file_is_told_with_its_line(self):
        path = self.write(self.BAD)
        expected = {
            2: "listen",
            4: "endpoints[0]",
            5: "endpoints[1].url",
            7: "endpoints[2].nmae",
            9: "timeouts.connect",
            10: "timeouts.conect",
            12: "limits.body_bytes",
            13: "shards",
            14: "shards",
            15: "routing.policy",
            16: "no_such_section",
        }
        for command in ("check", "serve"):
            with self.subTest(command):
                code, out, err = run_program(PENSTOCK, command, "--config", path)
                self.assertEqual((code, out), (1, ""), err)
                found = re.findall(rf"^{re.escape(path)}:(\d+): ([^:]+): .+$", err, re.M)
                self.assertEqual({int(line): key for line, key in found}, expected)
                self.assertEqual(len(found), len(expected))
        self.assertIn(f"\n{len(expected)} problems\n", run_program(PENSTOCK, "check", "--config", path)[2])

    def test_a_file_that_is_not_yaml(self):
        path = self.write("kind: GatewayConfig\n a: [\n")
        code, _, err = run_program(PENSTOCK, "check", "--config", path)
        self.assertEqual(code, 1)
        self.assertIn(f"{path}:2: ", err)

    def test_a_good_file(self):
        urls = "endpoints:\n  - http://127.0.0.1:8001\n  - http://127.0.0.1:8002\n"
        path = self.write("kind: GatewayConfig\n" + urls + "timeouts: {connect: 2s}\n")
        code, out, err = run_program(PENSTOCK, "check", "--config", path)
        self.assertEqual((code, err), (0, ""))
        self.assertIn("2 endpoints", out)
        self.assertIn("timeouts.connect: 1s -> 2s", out)

    def serve(self, **addresses):
        command = [PENSTOCK, "serve", "--endpoint", "http://127.0.0.1:1", "--ring", harness.RING, "--shards", "1"]
        for flag, default in (("listen", f"{LOOPBACK}:0"), ("admin", f"{LOOPBACK}:0")):
            command += [f"--{flag}", addresses.get(flag, default)]
        return run_program(*command)

    def test_a_port_in_use(self):
        gateway = self.gateway([self.fake()])
        taken = socket.socket()
        self.addCleanup(taken.close)
        taken.bind((LOOPBACK, 0))
        taken.listen()
        ports = {"other program": taken.getsockname()[1], "gateway": gateway.port, "admin": gateway.admin_port}
        for name, port in ports.items():
            for flag in ("listen", "admin"):
                with self.subTest(f"{flag}, {name}"):
                    code, _, err = self.serve(**{flag: f"{LOOPBACK}:{port}"})
                    self.assertEqual(code, 1)
                    self.assertRegex(err, rf"cannot listen.*:{port}")
                    self.assertIn("in use", err)
        self.assertEqual(self.client(gateway).request("GET", "/").status, 200)

    def test_an_access_log_that_cannot_be_written(self):
        log = "access_log: {path: /no/such/dir/log}\n"
        path = self.write("kind: GatewayConfig\nendpoints: ['http://127.0.0.1:1']\n" + log)
        addresses = ["--listen", f"{LOOPBACK}:0", "--admin", f"{LOOPBACK}:0"]
        code, _, err = run_program(PENSTOCK, "serve", "--config", path, *addresses, "--ring", harness.RING)
        self.assertEqual(code, 1)
        self.assertRegex(err, r"access log /no/such/dir/log cannot be opened: No such file .*access_log\.path")

    def test_closed_standard_streams_are_no_place_for_sockets(self):
        """Else the access log, which is written to standard output, would go to a client."""
        fake = self.fake()
        closed = ["sh", "-c", 'exec "$@" <&- >&-', "sh"]
        gateway = self.gateway([fake], "access_log: {enabled: true}\n", prefix=closed)
        for number in (0, 1):
            self.assertEqual(os.readlink(f"/proc/{gateway.pid}/fd/{number}"), "/dev/null")
        self.assertEqual(self.client(gateway).request("GET", "/").status, 200)

    def test_the_ring_asked_for_is_used(self):
        gateway = self.gateway([self.fake()])
        self.assertEqual(gateway.value("penstock_ring_info", engine=harness.RING), 1)
        self.assertEqual(gateway.status_page()["ring"], harness.RING)


class Shards(E2E):
    any_path = True

    def test_a_shard_asks_for_short_slices_of_its_cpu(self):
        gateway = self.gateway([self.sim()])
        slices = []
        for task in os.listdir(f"/proc/{gateway.pid}/task"):
            with open(f"/proc/{gateway.pid}/task/{task}/comm") as name:
                if name.read().startswith("shard-"):
                    slices.append(self.slice_ns(int(task)))
        self.assertTrue(slices)
        supported = tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (6, 12)
        for length in slices:
            self.assertEqual(length, 100_000 if supported else 0)

    @staticmethod
    def slice_ns(task):
        """`sched_runtime` of a thread, as sched_getattr(2) gives it."""
        attributes = ctypes.create_string_buffer(128)
        sched_getattr = {"x86_64": 315, "aarch64": 275}[os.uname().machine]
        if ctypes.CDLL(None, use_errno=True).syscall(sched_getattr, task, attributes, len(attributes), 0) != 0:
            raise OSError(ctypes.get_errno(), "sched_getattr")
        return struct.unpack_from("=IIQiIQ", attributes)[5]


class Reload(E2E):
    any_path = True

    def reload(self, gateway, config, result="ok"):
        """Writes the file, sends SIGHUP, and waits until it has been dealt with."""
        text = config + "\npin: false\n"
        if "access_log" not in config:
            text += "access_log: {enabled: false}\n"
        before = gateway.value("penstock_config_reloads_total", result=result)
        gateway.write_config(text)
        gateway.signal(signal.SIGHUP)
        wait_for(
            f"the reload is {result}",
            lambda: gateway.value("penstock_config_reloads_total", result=result) == before + 1,
        )

    def endpoints(self, gateway):
        return {labels["endpoint"] for labels, _ in gateway.metrics().series("penstock_endpoint_ready")}

    def stream(self, gateway, **more):
        client = self.client(gateway)
        client.send(request_bytes("POST", "/v1/completions", completion(max_tokens=150, stream=True, **more)))
        return client, client.read_head()

    def assert_whole(self, client, response):
        client._read_body(response, "POST")
        self.assertEqual(response.events()[-1], "[DONE]")
        self.assertEqual(len(response.events()), 151)

    def test_an_endpoint_is_added_while_a_stream_runs(self):
        first, second = self.sim("--decode-ms", "3"), self.sim("--instant")
        gateway = self.gateway(config=listed(first))
        gateway.wait_pods(1)
        client, response = self.stream(gateway)
        self.reload(gateway, listed(first, second))
        gateway.wait_pods(2)

        def second_used():
            answer = self.client(gateway).post("/v1/completions", completion())
            return answer.status == 200 and answer.header("x-penstock-endpoint") == second.address

        wait_for("the new endpoint is used", second_used)
        self.assert_whole(client, response)
        self.assertEqual(response.header("x-penstock-endpoint"), first.address)

    def test_an_endpoint_is_removed_while_a_stream_runs_on_it(self):
        leaving, staying = self.sim("--decode-ms", "3"), self.sim("--instant")
        gateway = self.gateway(config=listed(leaving))
        gateway.wait_pods(1)
        client, response = self.stream(gateway)
        self.reload(gateway, listed(staying))
        self.assertEqual(self.endpoints(gateway), {staying.address})
        gateway.wait_pods(1)
        for _ in range(10):
            answer = self.client(gateway).post("/v1/completions", completion())
            self.assertEqual((answer.status, answer.header("x-penstock-endpoint")), (200, staying.address))
        self.assert_whole(client, response)
        self.assertEqual(response.header("x-penstock-endpoint"), leaving.address)
        gateway.wait_outcomes({"ok": 11})

    def test_a_bad_file_is_refused_whole(self):
        first, second = self.sim("--instant"), self.sim("--instant")
        gateway = self.gateway(config=listed(first))
        self.reload(gateway, listed(first, second) + "limits: {body_bytes: lots}\ntimeouts: {conect: 1s}\n", "refused")
        for problem in (r"gateway\.yaml:\d+: limits\.body_bytes", r"gateway\.yaml:\d+: timeouts\.conect"):
            self.assertIsNotNone(gateway.err.wait(problem))
        self.assertIsNotNone(gateway.err.wait("reload refused"))
        self.assertEqual(self.endpoints(gateway), {first.address})
        os.unlink(gateway.config_path)
        gateway.signal(signal.SIGHUP)
        wait_for(
            "a missing file is refused too",
            lambda: gateway.value("penstock_config_reloads_total", result="refused") == 2,
        )
        self.assertEqual(self.client(gateway).post("/v1/completions", completion()).status, 200)
        self.reload(gateway, listed(first, second))
        gateway.wait_pods(2)

    def test_a_key_that_needs_a_restart_refuses_the_reload_whole(self):
        first, second = self.sim("--instant"), self.sim("--instant")
        gateway = self.gateway(config=listed(first))
        changes = ["ring: {spin_us: 5}", "routing: {policy: random}", "pool: other"]
        changes += ["routing: {prefix_index_entries: 2048}"]
        for change in changes:
            with self.subTest(change):
                self.reload(gateway, listed(first, second) + change + "\n", "refused")
                self.assertEqual(self.endpoints(gateway), {first.address})
                key = change.split(":")[0]
                self.assertIsNotNone(gateway.err.wait(f"needs a restart.*{key}"))

    def test_an_access_log_that_cannot_be_opened_refuses_the_reload_whole(self):
        first, second = self.sim("--instant"), self.sim("--instant")
        gateway = self.gateway(config=listed(first))
        self.reload(gateway, listed(first, second) + "access_log: {path: /no/such/dir/log}\n", "refused")
        self.assertEqual(self.endpoints(gateway), {first.address})

    def test_limits_and_timeouts_change_while_it_runs(self):
        sim = self.sim("--instant")
        gateway = self.gateway(config=listed(sim))
        kept = self.client(gateway)
        large = completion("x" * 100_000)
        self.assertEqual(kept.post("/v1/completions", large).status, 200)
        limits = "limits: {body_bytes: 64KiB, header_bytes: 4KiB}\n"
        self.reload(gateway, listed(sim) + limits + "timeouts: {client_idle: 1s}\n")
        self.assertIsNotNone(gateway.err.wait(r"reload .*limits\.body_bytes"))

        self.assertEqual(self.client(gateway).post("/v1/completions", large).status, 413)
        client = self.client(gateway)
        self.assertEqual(client.request("GET", "/", headers=[("x", "y" * 5000)]).status, 431)
        self.assertEqual(self.client(gateway).read_until_end(), (b"", False))  # idle for a second
        self.assertEqual(kept.post("/v1/completions", large).status, 413)  # a connection from before too

    def test_the_retry_policy_changes_while_it_runs(self):
        fakes = [self.fake(lambda _, sock: sock.sendall(answer_bytes(503)) or True) for _ in range(2)]
        common = listed(*fakes) + "ejection: {consecutive_failures: 1000}\n"
        gateway = self.gateway(config=common + "retry: {attempts: 1}\n", shards=1)
        gateway.wait_pods(2)
        client = self.client(gateway)
        client.post("/v1/completions", completion())
        self.assertEqual(sum(len(fake.requests) for fake in fakes), 1)
        self.reload(gateway, common + "retry: {attempts: 2}\n")

        def tried_twice():
            before = sum(len(fake.requests) for fake in fakes)
            client.post("/v1/completions", completion())
            return sum(len(fake.requests) for fake in fakes) == before + 2

        wait_for("both are tried", tried_twice)

    def test_the_router_hears_of_a_reload(self):
        sim = self.sim("--instant")
        gateway = self.gateway(config=listed(sim), shards=1)
        gateway.wait_pods(1)
        self.reload(gateway, listed(sim) + "metrics: {idle_interval: 5s}\nejection: {slow_start: 20s}\n")
        client = self.client(gateway)

        def decided_by_it():
            client.post("/v1/completions", completion())
            inputs = [decision["inputs"] for decision in gateway.admin("/debug/decisions").json()["decisions"]]
            return (15 * 10**9, 20 * 10**9) in [(i["metrics_stale_after_ns"], i["slow_start_ns"]) for i in inputs]

        wait_for("metrics are old after three intervals of 5 s", decided_by_it)

    def test_reloads_under_load_cost_nobody_anything(self):
        sims = [self.sim("--prefill-tokens-per-s", "50000", "--decode-ms", "2") for _ in range(3)]
        gateway = self.gateway(config=listed(*sims))
        gateway.wait_pods(3)
        load = Load(gateway.port, 8)
        self.addCleanup(load.stop)
        for i in range(12):
            kept = sims[: 1 + i % 3]
            self.reload(gateway, listed(*kept) + f"timeouts: {{connect: {i + 1}s}}\n")
            gateway.wait_pods(len(kept))
            load.wait_more(20)
        load.stop()
        self.assertEqual((load.errors, load.broken), ([], 0))
        gateway.wait_outcomes({"ok": load.whole})


class Drain(E2E):
    any_path = True

    def start(self, lifecycle, sim_flags=("--decode-ms", "5"), **options):
        self.sim_ = self.sim(*sim_flags)
        self.gw = self.gateway([self.sim_], f"lifecycle: {{{lifecycle}}}\n", **options)
        self.gw.wait_pods(1)

    def stream(self, max_tokens):
        client = self.client(self.gw)
        client.send(request_bytes("POST", "/v1/completions", completion(max_tokens=max_tokens, stream=True)))
        return client, client.read_head()

    def test_a_running_stream_ends_well(self):
        self.start("drain_delay: 3s, drain_limit: 10m")
        idle = self.client(self.gw)
        self.assertEqual(idle.request("GET", "/version").status, 200)
        client, response = self.stream(2000)  # ten seconds
        self.assertEqual(self.gw.admin("/readyz").status, 200)
        self.gw.signal(signal.SIGTERM)
        unready = wait_for("it is not ready", lambda: (a := self.gw.admin("/readyz")).status == 503 and a)
        self.assertIn(b"draining", unready.body)
        self.assertEqual(self.gw.admin("/healthz").status, 200)
        # Connections are still accepted for a while, for those that have not heard yet.
        self.assertEqual(fetch_status(self.gw.port), 200)

        def refused():
            try:
                self.client(self.gw).close()
                return False
            except ConnectionRefusedError:
                return True

        wait_for("nothing is accepted any more", refused)
        self.assertEqual(idle.read_until_end(), (b"", False))
        self.assertTrue(self.gw.alive())
        self.assertEqual(self.gw.value("penstock_requests_in_flight"), 1)
        client._read_body(response, "POST")
        self.assertEqual(response.events()[-1], "[DONE]")
        self.assertEqual(self.gw.wait(), 0)
        self.assertEqual(client.read_until_end(), (b"", False))

    @harness.http1_only("Connection: close")
    def test_a_kept_connection_is_closed_after_its_answer(self):
        self.start("drain_delay: 1ms, drain_limit: 10m")
        client = self.client(self.gw)
        client.send(request_bytes("POST", "/v1/completions", completion(max_tokens=100)))
        wait_for("it runs", lambda: self.sim_.gauge("vllm:num_requests_running") == 1)
        self.gw.signal(signal.SIGTERM)
        answer = client.read_response()
        self.assertEqual((answer.status, answer.header("connection")), (200, "close"))
        self.assertEqual(self.gw.wait(harness.SOON), 0)

    def test_a_signal_without_meaning_does_not_keep_it_from_ending(self):
        self.start("drain_delay: 1ms, drain_limit: 10m")
        self.gw.signal(signal.SIGUSR2)
        self.gw.signal(signal.SIGTERM)
        self.assertEqual(self.gw.wait(harness.SOON), 0)

    @harness.http1_only("Connection: close")
    def test_a_promise_to_keep_the_connection_is_kept(self):
        self.start("drain_delay: 1ms, drain_limit: 10m")
        client, response = self.stream(100)
        self.assertIsNone(response.header("connection"))
        self.gw.signal(signal.SIGTERM)
        self.gw.err.wait("draining")
        client._read_body(response, "POST")
        answer = client.request("POST", "/v1/completions", completion())
        self.assertEqual((answer.status, answer.header("connection")), (200, "close"))
        self.assertEqual(self.gw.wait(harness.SOON), 0)

    @harness.http1_only("Connection: close")
    def test_in_the_second_half_of_the_delay_answers_say_that_the_connection_ends(self):
        self.start("drain_delay: 1s, drain_limit: 10m")
        self.gw.signal(signal.SIGTERM)
        self.gw.err.wait("draining")

        def closes():
            with contextlib.closing(self.client(self.gw)) as client:
                return client.request("GET", "/version").header("connection") == "close"

        wait_for("they do, while connections are accepted", closes)
        self.assertEqual(self.gw.wait(harness.SOON), 0)

    def test_in_the_first_half_of_the_delay_connections_are_kept(self):
        self.start("drain_delay: 10m, drain_limit: 10m")
        client = self.client(self.gw)
        self.gw.signal(signal.SIGTERM)
        self.gw.err.wait("draining")
        for _ in range(2):
            answer = client.request("GET", "/version")
            self.assertEqual((answer.status, answer.header("connection")), (200, None))

    @harness.http1_only("half a head is not sent here")
    def test_half_a_head_does_not_hold_up_the_end(self):
        self.start("drain_delay: 1ms, drain_limit: 10m")
        client = self.client(self.gw)
        client.send(b"GET / HTTP/1.1\r\nhost:")
        wait_for("it is accepted", lambda: self.gw.value("penstock_client_connections") == 1)
        self.gw.signal(signal.SIGTERM)
        self.assertEqual(self.gw.wait(harness.SOON), 0)
        self.assertEqual(client.read_response().status, 408)

    def test_what_outlives_the_limit_is_cut(self):
        self.start("drain_delay: 1ms, drain_limit: 300ms")
        client, response = self.stream(100_000)
        began = time.monotonic()
        self.gw.signal(signal.SIGTERM)
        self.assertEqual(self.gw.wait(harness.SOON), 0)
        self.assertGreater(time.monotonic() - began, 0.3)
        with self.assertRaises(ConnectionEnded):
            client._read_body(response, "POST")
        self.assertEqual(json.loads(response.events()[-1])["error"]["code"], "shutting_down")
        self.assertIn("drain limit reached", self.gw.log())
        wait_for("the server has nothing left to do", lambda: self.sim_.gauge("vllm:num_requests_running") == 0)

    def test_what_has_no_answer_at_the_limit_is_told(self):
        self.start("drain_delay: 1ms, drain_limit: 300ms", ["--fail", "stall-after=0"])
        client = self.client(self.gw)
        client.send(request_bytes("POST", "/v1/completions", completion()))
        wait_for("it waits", lambda: self.gw.value("penstock_requests_in_flight") == 1)
        self.gw.signal(signal.SIGTERM)
        answer = client.read_response()
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (503, "shutting_down"))
        self.assertEqual(self.gw.wait(harness.SOON), 0)

    def test_sigint_skips_the_delay(self):
        self.start("drain_delay: 10m, drain_limit: 10m")
        client, response = self.stream(100)
        self.gw.signal(signal.SIGINT)
        client._read_body(response, "POST")
        self.assertEqual(response.events()[-1], "[DONE]")
        self.assertEqual(self.gw.wait(harness.SOON), 0)

    def test_a_second_signal_ends_at_once(self):
        term, interrupt = signal.SIGTERM, signal.SIGINT
        for first, second in ((term, term), (term, interrupt), (interrupt, interrupt)):
            with self.subTest(f"{first.name}, {second.name}"):
                self.start("drain_delay: 10m, drain_limit: 10m")
                client, response = self.stream(100_000)
                self.gw.signal(first)
                self.gw.err.wait("draining")
                self.gw.signal(second)
                self.assertEqual(self.gw.wait(harness.SOON), 0)
                with self.assertRaises(ConnectionEnded):
                    client._read_body(response, "POST")

    def test_output_that_nobody_reads_stops_neither_the_work_nor_the_end(self):
        fake = self.fake()
        config = listed(fake) + "access_log: {enabled: true}\nlifecycle: {drain_delay: 1ms}\n"
        gateway = self.gateway(config=config, access_log=True, shards=1)
        for lines in (gateway.out, gateway.err):
            lines.hold()
            self.addCleanup(lines.release)
            fcntl.fcntl(lines._pipe.fileno(), fcntl.F_SETPIPE_SZ, 4096)
        client = self.client(gateway)

        def both_are_full():
            gateway.signal(signal.SIGHUP)
            self.assertEqual(client.request("GET", "/").status, 200)
            metrics = gateway.metrics()
            return all(metrics.value(f"penstock_{log}_dropped_total") > 0 for log in ("log", "access_log"))

        wait_for("both pipes are full", both_are_full)
        self.assertEqual(client.request("GET", "/").status, 200)
        gateway.signal(signal.SIGTERM)
        self.assertEqual(gateway.popen.wait(harness.SOON), 0)

    def test_with_nothing_to_do_it_ends_after_the_delay(self):
        self.start("drain_delay: 200ms, drain_limit: 10m")
        began = time.monotonic()
        self.gw.signal(signal.SIGTERM)
        self.assertEqual(self.gw.wait(harness.SOON), 0)
        self.assertGreater(time.monotonic() - began, 0.2)

    def test_load_on_a_second_gateway_goes_on_while_the_first_drains(self):
        sim = self.sim("--prefill-tokens-per-s", "50000", "--decode-ms", "2")
        gateways = [self.gateway([sim], "lifecycle: {drain_delay: 100ms, drain_limit: 10m}\n") for _ in range(2)]
        load = Load(gateways[1].port, 4)
        self.addCleanup(load.stop)
        load.wait_more(10)
        gateways[0].signal(signal.SIGTERM)
        self.assertEqual(gateways[0].wait(harness.SOON), 0)
        load.wait_more(10)
        load.stop()
        self.assertEqual(load.errors, [])

    def test_an_endpoint_that_never_answers_does_not_hold_up_a_second_signal(self):
        endpoint = self.fake(lambda _, __: threading.Event().wait(harness.PATIENCE) or False)
        gateway = self.gateway([endpoint], "lifecycle: {drain_delay: 1ms}\n", shards=1)
        client = self.client(gateway)
        client.send(request_bytes("POST", "/v1/completions", completion()))
        endpoint.wait_requests(1)
        gateway.signal(signal.SIGTERM)
        gateway.err.wait("draining")
        gateway.signal(signal.SIGTERM)
        self.assertEqual(gateway.wait(harness.SOON), 0)


def fetch_status(port):
    return harness.fetch(port, "/version").status


class AccessLog(E2E):
    any_path = True

    TLS = "tls client_certificate " if harness.over_tls() else ""
    KEYS = (
        f"time client protocol {TLS}method path status outcome reason model target_model endpoint attempts resumed ttft_ms "
        "duration_ms "
        "hold_ms request_bytes response_bytes stream finish_reason prompt_tokens completion_tokens cached_tokens chunks "
        "matched_blocks prompt_blocks fairness_id priority request_id trace_id"
    ).split()

    def start(self, form, **options):
        self.sim_ = self.sim("--instant")
        self.path = os.path.join(self.directory(), "access.log")
        config = f"access_log: {{format: {form}, path: {self.path}}}\n"
        self.gw = self.gateway([self.sim_], config, access_log=True, **options)
        self.gw.wait_pods(1)

    def lines(self, count, path=None):
        """The lines of the log as dicts, once there are as many."""

        def read():
            try:
                with open(path or self.path, encoding="utf-8") as file:
                    text = file.read()
            except FileNotFoundError:
                return None
            return text.splitlines() if text.count("\n") >= count else None

        found = wait_for(f"{count} lines", read)
        self.assertEqual(len(found), count)
        return [self.parse(line) for line in found]

    def parse(self, line):
        if line.startswith("{"):
            pairs = json.loads(line, object_pairs_hook=list)
        else:
            pairs = []
            for key, value in re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|[^ "]*)(?: |$)', line):
                pairs.append((key, json.loads(value) if value.startswith('"') else None if value == "-" else value))
        self.assertEqual([key for key, _ in pairs], self.KEYS, line)
        return dict(pairs)

    def various_requests(self):
        """Requests of all kinds; returns what their lines must say."""
        expected = []

        def done(answer, **line):
            line.setdefault("status", answer.status)
            expected.append(line)

        client = self.client(self.gw)
        ids = [("x-request-id", "id-1")]
        answer = client.post("/v1/completions", completion(max_tokens=7), ids)
        done(answer, method="POST", path="/v1/completions", outcome="ok", reason=None, attempts=1, request_id="id-1")
        expected[-1].update(model="sim-model", endpoint=self.sim_.address, client="127.0.0.1")
        expected[-1].update(completion_tokens=7, chunks=None)
        body = completion(max_tokens=7, stream=True, stream_options={"include_usage": True})
        done(client.post("/v1/completions", body), outcome="ok", completion_tokens=7, chunks=8)
        done(client.request("GET", "/not/there?x=1"), outcome="endpoint_4xx", path="/not/there", method="GET", model=None)
        answer = client.post("/v1/completions", {"model": "sim-model", "prompt": 7})
        done(answer, outcome="client_error", reason="invalid_body", endpoint=None, status=400)
        done(client.request("GET", '/quote"'), outcome="endpoint_4xx", path="/quote%22")
        answer = client.request("GET", '/quote"back\\slash')
        done(answer, outcome="client_error", reason="malformed_request", path='/quote"back\\slash', endpoint=None, status=400)
        evil = 'x"\n2026-01-01 status=200 \x1b[31m\u0000\x7f'
        done(client.post("/v1/completions", completion(model=evil)), outcome="endpoint_4xx", model=evil, status=404)
        done(client.request("GET", "/", headers=[("x-request-id", "caf\u00e9")]), outcome="endpoint_4xx", request_id="caf\ufffd")
        done(client.request("CONNECT", "a:1"), outcome="client_error", reason="method_not_supported", status=405)
        bad = self.client(self.gw)
        bad.send(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n")
        answer = bad.read_response()
        done(answer, outcome="client_error", reason="ambiguous_request", method=None, path=None, status=400)
        return expected

    def check(self):
        expected = self.various_requests()
        lines = self.lines(len(expected))
        # Two connections may be on two shards, and each shard's lines are written in their own order.
        lines.sort(key=lambda line: line["method"] is None or line["method"] == "")
        for line, wanted in zip(lines, expected):
            self.assertRegex(line["time"], r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$")
            self.assertGreaterEqual(float(line["duration_ms"]), 0)
            for key, value in wanted.items():
                found = line[key]
                if isinstance(value, int) and isinstance(found, str):
                    found = int(found)
                self.assertEqual(found or None, value, (key, line))
        return lines

    @harness.http1_only("one of its requests is ambiguous")
    def test_as_text(self):
        self.start("text")
        self.check()
        with open(self.path, "rb") as file:
            text = file.read()
        self.assertFalse(re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", text), "control characters in the log")

    @harness.http1_only("one of its requests is ambiguous")
    def test_as_json(self):
        self.start("json")
        lines = self.check()
        self.assertIsInstance(lines[0]["status"], int)
        self.assertIsInstance(lines[0]["duration_ms"], float)
        self.assertIsNone(lines[2]["completion_tokens"])
        self.assertEqual([line["stream"] for line in lines[:2]], [False, True])
        self.assertEqual([line["finish_reason"] for line in lines[:2]], ["length", "length"])
        self.assertEqual((lines[0]["hold_ms"], lines[0]["priority"]), (0, 0))

    def test_on_standard_output(self):
        sim = self.sim("--instant")
        gateway = self.gateway([sim], "access_log: {format: json}\n", access_log=True)
        client = self.client(gateway)  # one connection, one shard: the lines come in order
        for i in range(3):
            client.request("GET", f"/n/{i}")
        gateway.out.wait('"path"', count=3)
        self.assertEqual([json.loads(line)["path"] for line in gateway.out.all()], ["/n/0", "/n/1", "/n/2"])

    def test_clients_that_leave_and_streams_that_break_have_their_lines(self):
        self.start("json")
        slow = self.sim("--decode-ms", "20")
        path = os.path.join(self.directory(), "second.log")
        gateway = self.gateway([slow], f"access_log: {{format: json, path: {path}}}\n", access_log=True, shards=1)
        gateway.wait_pods(1)
        client = self.client(gateway)
        client.send(request_bytes("POST", "/v1/completions", completion(max_tokens=10_000, stream=True)))
        client.read_head()
        client.close()
        gateway.wait_outcomes({"client_gone": 1})
        client = self.client(gateway)
        with self.assertRaises(ConnectionEnded):
            body = completion(max_tokens=50, stream=True)
            client.post("/v1/completions", body, [("x-sim-fail", "reset-after=500")])
        gone, broken = self.lines(2, path)
        self.assertEqual((gone["outcome"], gone["reason"], gone["status"]), ("client_gone", "client_gone", 200))
        self.assertEqual((broken["outcome"], broken["reason"]), ("stream_broken", "reset_in_body"))
        self.assertEqual(broken["status"], 200)
        self.assertGreater(broken["chunks"], 0)

    def test_what_a_drain_cuts_has_its_line(self):
        slow = self.sim("--decode-ms", "20")
        path = os.path.join(self.directory(), "access.log")
        config = f"access_log: {{format: json, path: {path}}}\nlifecycle: {{drain_delay: 1ms, drain_limit: 100ms}}\n"
        gateway = self.gateway([slow], config, access_log=True)
        gateway.wait_pods(1)
        client = self.client(gateway)
        client.send(request_bytes("POST", "/v1/completions", completion(max_tokens=10_000, stream=True)))
        client.read_head()
        gateway.signal(signal.SIGTERM)
        self.assertEqual(gateway.wait(harness.SOON), 0)
        (line,) = self.lines(1, path)
        self.assertEqual((line["outcome"], line["status"]), ("draining", 200))

    def test_the_file_is_rotated(self):
        self.start("json")
        client = self.client(self.gw)
        for i in range(5):
            client.request("GET", f"/before/{i}")
        self.lines(5)
        old = self.path + ".1"
        os.rename(self.path, old)
        self.gw.signal(signal.SIGHUP)
        wait_for("the reload is done", lambda: self.gw.value("penstock_config_reloads_total", result="ok") == 1)
        for i in range(5):
            client.request("GET", f"/after/{i}")
        self.assertEqual([line["path"] for line in self.lines(5)], [f"/after/{i}" for i in range(5)])
        self.assertEqual([line["path"] for line in self.lines(5, old)], [f"/before/{i}" for i in range(5)])

    def test_a_full_disk_costs_lines_and_nothing_else(self):
        fake = self.fake()
        path = os.path.join(self.directory(), "access.log")
        os.symlink("/dev/full", path)
        gateway = self.gateway([fake], f"access_log: {{format: json, path: {path}}}\n", access_log=True)
        for i in range(20):
            self.assertEqual(self.client(gateway).request("GET", f"/{i}").status, 200)
        wait_for("the lines are given up", lambda: gateway.value("penstock_access_log_dropped_total") == 20)
        os.remove(path)
        gateway.signal(signal.SIGHUP)
        wait_for("the reload is done", lambda: gateway.value("penstock_config_reloads_total", result="ok") == 1)
        self.client(gateway).request("GET", "/written")
        self.assertTrue(gateway.err.wait(r"access log is written again.*lines_lost\W+20\b"))
        lost = [line for line in gateway.err.all() if "access log cannot be written" in line]
        self.assertEqual(len(lost), 1, lost)
        self.assertIn("No space left on device", lost[0])

    def test_no_line_is_lost_while_the_file_is_rotated_under_load(self):
        self.start("text")
        load = Load(self.gw.port, 8, max_tokens=4)
        self.addCleanup(load.stop)
        files = [self.path]
        for i in range(5):
            load.wait_more(50)
            files.append(f"{self.path}.{i}")
            os.rename(self.path, files[-1])
            self.gw.signal(signal.SIGHUP)
            wait_for("the new file is there", lambda: os.path.exists(self.path))
        load.stop()
        self.assertEqual(load.errors, [])

        def written():
            count = 0
            for path in files:
                with open(path, "rb") as file:
                    count += file.read().count(b"\n")
            return count

        wait_for("all lines are there", lambda: written() == load.whole)
        self.assertEqual(self.gw.value("penstock_access_log_dropped_total"), 0)
        wait_for("all lines are counted", lambda: self.gw.value("penstock_access_log_lines_total") == load.whole)


if __name__ == "__main__":
    harness.main()
