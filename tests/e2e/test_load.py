"""Short bursts of load: many connections, idle connections, clients that do not read."""

import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import threading
import time
import unittest

import harness
from harness import E2E, completion, in_threads, request_bytes, wait_for

SECONDS = "3"
MiB = 1024 * 1024

SCRIPT = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
local turn = 0
request = function()
  turn = turn + 1
  local body = string.format('{"model":"sim-model","prompt":"request %d","max_tokens":2,"stream":STREAM}', turn)
  return wrk.format(nil, nil, nil, body)
end
"""


def has(program):
    found = shutil.which(program) is not None
    if not found:
        print(f"skipped: {program} is not installed")
    return found


class Wrk(E2E):
    def wrk(self, gateway, connections=64, path="/v1/completions", stream=False):
        """Runs wrk and returns how many requests it finished; whatever went wrong fails the test."""
        script = self.file("post.lua", SCRIPT.replace("STREAM", "true" if stream else "false"))
        command = ["wrk", "-t", "2", "-c", str(connections), "-d", SECONDS + "s", "--timeout", "10s", "-s", script]
        code, out, err = harness.run_program(*command, f"http://{gateway.address}{path}", timeout=60)
        self.assertEqual((code, err), (0, ""), out)
        self.assertNotIn("Non-2xx", out)
        self.assertNotIn("Socket errors", out)
        return int(re.search(r"(\d+) requests in", out).group(1))

    def check(self, gateway, sims, finished):
        gateway.wait_idle()
        outcomes = gateway.outcomes()
        # wrk leaves in the middle of its last requests.
        self.assertLessEqual(outcomes.pop("client_gone", 0), 64)
        self.assertEqual(set(outcomes), {"ok"})
        self.assertGreaterEqual(outcomes["ok"], finished)
        self.assertGreater(finished, 64)  # each connection has had its turn
        metrics = gateway.metrics()
        failures = {labels["reason"] for labels, count in metrics.series("penstock_attempt_failures_total") if count}
        self.assertLessEqual(failures, {"reuse_race"})
        self.assertEqual(metrics.sum("penstock_ring_completion_overflows_total"), 0)
        self.assertEqual(metrics.value("penstock_memory_used_bytes"), 0)
        for sim in sims:
            self.assertEqual(sim.gauge("vllm:num_requests_running"), 0)
            self.assertGreater(sim.gauge("vllm:request_success_total"), 0)

    @unittest.skipUnless(has("wrk"), "wrk is not installed")
    def test_64_connections_of_small_requests(self):
        sims = [self.sim("--instant") for _ in range(2)]
        gateway = self.gateway(sims)
        gateway.wait_pods(2)
        self.check(gateway, sims, self.wrk(gateway))

    @unittest.skipUnless(has("wrk"), "wrk is not installed")
    def test_64_connections_of_small_streams(self):
        sims = [self.sim("--instant") for _ in range(2)]
        gateway = self.gateway(sims)
        gateway.wait_pods(2)
        self.check(gateway, sims, self.wrk(gateway, stream=True))

    @unittest.skipUnless(has("wrk"), "wrk is not installed")
    def test_the_access_log_keeps_up(self):
        sim = self.sim("--instant")
        path = os.path.join(self.directory(), "access.log")
        gateway = self.gateway([sim], f"access_log: {{format: json, path: {path}}}\n", access_log=True)
        gateway.wait_pods(1)
        self.check(gateway, [sim], self.wrk(gateway, connections=16))
        ended = sum(gateway.outcomes().values())

        def lines():
            with open(path, "rb") as file:
                return file.read().count(b"\n")

        dropped = gateway.value("penstock_access_log_dropped_total")
        wait_for("all lines are written", lambda: lines() == ended - dropped)

    @unittest.skipUnless(has("wrk"), "wrk is not installed")
    def test_a_thousand_idle_connections(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = min(hard, 4096)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
        sims = [self.sim("--instant")]
        gateway = self.gateway(sims, "metrics: {interval: 50ms}\n")
        gateway.wait_pods(1)
        idle = [self.client(gateway) for _ in range(1000)]
        for client in idle[::10]:  # some have been used before
            self.assertEqual(client.request("GET", "/version").status, 200)
        wait_for("all are there", lambda: gateway.value("penstock_client_connections") == 1000)
        self.check(gateway, sims, self.wrk(gateway))
        wait_for("only the idle ones are left", lambda: gateway.value("penstock_client_connections") == 1000)
        for client in idle[::7]:
            self.assertEqual(client.post("/v1/completions", completion(max_tokens=1)).status, 200)


def few_descriptors(count):
    """Runs what follows with a limit on open files that it cannot raise, whoever runs it."""
    bound = ["setpriv", "--bounding-set=-sys_resource"] if os.geteuid() == 0 and has("setpriv") else []
    return ["sh", "-c", f'ulimit -n {count} && exec "$@"', "sh", *bound]


class Descriptors(E2E):
    """A small limit on open files. Of 100, two shards leave 54 to clients."""

    def crowd(self, gateway, count):
        """Connects so many clients at once; those that stay, once all others were refused or gave way to later ones."""
        clients = [self.client(gateway) for _ in range(count)]
        refused = lambda: gateway.value("penstock_limit_hits_total", limit="connections")
        evicted = lambda: gateway.value("penstock_client_idle_evictions_total")
        wait_for("the others are gone", lambda: refused() + evicted() == count - 54)

        def staying():
            found = []
            for client in clients:
                client.sock.setblocking(False)
                try:
                    first = client.sock.recv(65536, socket.MSG_PEEK)
                    if first:
                        self.assertIn(b"HTTP/1.1 503 ", first)
                        self.assertIn(b"limits.connections", first)
                except BlockingIOError:
                    found.append(client)
                client.sock.settimeout(harness.PATIENCE)
            return found

        return wait_for("54 stay", lambda: len(staying()) == 54 and staying())

    def test_clients_leave_some_for_requests_scrapes_and_pages(self):
        sims = [self.sim("--instant") for _ in range(2)]
        gateway = self.gateway(sims, prefix=few_descriptors(100))
        gateway.wait_pods(2)
        # Those that give way are closed at the end of the turn, so that more at once would use up all descriptors for a moment.
        accepted = self.crowd(gateway, 75)
        for client in accepted:
            self.assertEqual(client.post("/v1/completions", completion(max_tokens=1)).status, 200)
        self.assertEqual(gateway.value("penstock_limit_hits_total", limit="descriptors"), 0)
        self.assertNotIn("cannot accept", gateway.log())
        scrapes = lambda: gateway.value("penstock_scrapes_total")
        before = scrapes()
        wait_for("endpoints are still scraped", lambda: scrapes() > before)
        for client in accepted:
            client.close()
        wait_for("they are gone", lambda: gateway.value("penstock_client_connections") == 0)
        answer = self.client(gateway).post("/v1/completions", completion(max_tokens=1))
        self.assertEqual(answer.status, 200)  # those that left are no longer counted

    def test_requests_leave_some_for_scrapes_and_pages(self):
        fake = self.fake(lambda request, sock: released.wait(harness.PATIENCE) and sock.sendall(harness.answer_bytes()))
        released = threading.Event()
        gateway = self.gateway([fake], "flow_control: {enabled: false}\n", prefix=few_descriptors(100))
        gateway.wait_pods(1)
        accepted = self.crowd(gateway, 60)
        for client in accepted:
            client.send(request_bytes("POST", "/v1/completions", completion(max_tokens=1)))
        refused = lambda: gateway.value("penstock_limit_hits_total", limit="descriptors")
        in_flight = lambda: gateway.value("penstock_requests_in_flight")
        wait_for("nobody is left undecided", lambda: in_flight() + gateway.outcomes().get("overloaded", 0) == 54)
        self.assertGreaterEqual(in_flight(), 10)
        self.assertGreater(refused(), 0)  # a client more than could be served was told so
        self.assertEqual(gateway.admin("/readyz").status, 200)
        released.set()
        statuses = [client.read_response().status for client in accepted]
        self.assertEqual(set(statuses), {200, 503})

    def test_a_limit_that_cannot_be_kept_is_lowered_and_said(self):
        gateway = self.gateway([self.sim("--instant")], "limits: {connections: 90}\n", prefix=few_descriptors(100))
        self.assertRegex(gateway.log(), "limits.connections: 90 .*100 open files.* 54 clients are accepted")
        self.crowd(gateway, 60)


class SlowReaders(E2E):
    """Clients that ask for a long stream and do not read it."""

    COUNT = 200
    LIMIT = 96 * MiB

    def slow_readers(self, gateway, count):
        long_story = completion("a long story", max_tokens=20_000, stream=True)  # some 4 MB each
        slow = [self.client(gateway, receive_buffer=4096) for _ in range(count)]
        for client in slow:
            client.send(request_bytes("POST", "/v1/completions", long_story))
        return slow

    def test_they_cost_bounded_memory_and_do_not_hold_up_others(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
        sim = self.sim("--instant", "--max-num-seqs", "512", "--kv-blocks", "1000000")
        # However long this takes, it is not for a client's slowness that a stream ends here.
        limits = f"limits: {{memory: {self.LIMIT}, body_bytes: 1MiB, client_min_rate: 0}}\ntimeouts: {{client_write: 1h}}\n"
        gateway = self.gateway([sim], limits)
        gateway.wait_pods(1)
        slow = self.slow_readers(gateway, self.COUNT)
        for client in slow:
            self.assertEqual(client.read_head().status, 200)

        used = []

        def sample():
            metrics = gateway.metrics()
            used.append(metrics.value("penstock_memory_used_bytes"))
            return metrics

        # Everybody is stuck when the endpoint's connections are paused: nothing more is received.
        last = [None]

        def stuck():
            metrics = sample()
            received = metrics.sum("penstock_stream_events_total"), metrics.sum("penstock_ring_received_bytes_total")
            same, last[0] = last[0] is not None and received[1] - last[0][1] < 200_000, received
            return same

        wait_for("the streams stand still", stuck, interval=0.1)
        times = []
        for i in range(100):
            began = time.monotonic()
            body = completion(f"quick {i}", max_tokens=4, stream=bool(i % 2))
            answer = self.client(gateway).post("/v1/completions", body)
            self.assertEqual((answer.status, answer.complete), (200, True), answer)
            times.append(time.monotonic() - began)
            if i % 10 == 0:
                sample()
        # Who had to wait for a slow one would have to wait for ever; a pause of the machine is nobody's fault.
        self.assertLess(statistics.median(times), harness.PATIENCE / 20)
        self.assertLessEqual(max(used), self.LIMIT)
        self.assertGreater(max(used), self.COUNT * 64 * 1024)  # they do hold something back
        self.assertLess(max(used), self.COUNT * 512 * 1024)
        wait_for(
            "only the slow ones are left", lambda: gateway.value("penstock_requests_in_flight") == self.COUNT
        )

        # Some read on and get all of it; the others leave.
        def read_on(i):
            client = slow[i]
            received, tail = 0, b""
            while True:
                data = client.buffer or client.sock.recv(262144)
                client.buffer = b""
                if not data:
                    return False, received
                received += len(data)
                tail = (tail + data)[-64:]
                if tail.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
                    return True, received

        readers = 20
        for whole, received in in_threads(readers, read_on):
            self.assertTrue(whole, (received, gateway.outcomes()))
            self.assertGreater(received, 2_000_000)
        for client in slow[readers:]:
            client.reset()
        gateway.wait_outcomes({"ok": readers + 100, "client_gone": self.COUNT - readers})
        wait_for("the memory is given back", lambda: gateway.memory() == 0)
        wait_for("the server is free", lambda: sim.gauge("vllm:num_requests_running") == 0)

    def test_when_they_exhaust_the_budget_nobody_crashes(self):
        sim = self.sim("--instant", "--max-num-seqs", "512", "--kv-blocks", "1000000")
        limit = 4 * MiB
        gateway = self.gateway([sim], f"limits: {{memory: {limit}, body_bytes: 1MiB}}\n")
        gateway.wait_pods(1)
        slow = self.slow_readers(gateway, 100)
        used = []

        def under_pressure():
            metrics = gateway.metrics()
            used.append(metrics.value("penstock_memory_used_bytes"))
            return used[-1] > limit / 2

        wait_for("the budget is under pressure", under_pressure)
        for _ in range(30):
            under_pressure()
        self.assertLessEqual(max(used), limit)
        for client in slow:
            client.reset()
        gateway.wait_idle()
        self.assertEqual(sum(gateway.outcomes().values()), 100)
        wait_for("the memory is given back", lambda: gateway.memory() == 0)
        self.assertEqual(self.client(gateway).post("/v1/completions", completion()).status, 200)

    def test_what_the_budget_cuts_is_not_laid_to_the_clients(self):
        sim = self.sim("--instant", "--max-num-seqs", "512", "--kv-blocks", "1000000")
        gateway = self.gateway([sim], f"limits: {{memory: {MiB}, body_bytes: 512KiB}}\n")
        gateway.wait_pods(1)
        slow = self.slow_readers(gateway, 100)
        wait_for("some were cut", lambda: gateway.outcomes().get("overloaded", 0) > 0)
        self.assertNotIn("client_gone", gateway.outcomes())
        self.assertGreater(gateway.value("penstock_limit_hits_total", limit="memory"), 0)
        for client in slow:
            client.reset()
        gateway.wait_idle()

    def test_enough_memory_for_a_receive_of_each_is_enough(self):
        sim = self.sim("--instant", "--max-num-seqs", "512", "--kv-blocks", "1000000")
        gateway = self.gateway([sim], f"limits: {{memory: {32 * MiB}, body_bytes: 1MiB}}\n")
        gateway.wait_pods(1)
        slow = self.slow_readers(gateway, 100)
        for client in slow:
            self.assertEqual(client.read_head().status, 200)
        last = [0]

        def stuck():
            received = gateway.metrics().sum("penstock_ring_received_bytes_total")
            few, last[0] = received - last[0] < 200_000, received
            return few

        wait_for("the streams stand still", stuck, interval=0.1)
        self.assertEqual(gateway.outcomes(), {})
        for client in slow:
            client.reset()
        gateway.wait_outcomes({"client_gone": 100})

    def test_a_client_that_takes_nothing_is_given_up(self):
        sim = self.sim("--instant")
        gateway = self.gateway([sim], "timeouts: {client_write: 300ms}\n", shards=1)
        gateway.wait_pods(1)
        client = self.client(gateway, receive_buffer=4096)
        client.send(request_bytes("POST", "/v1/completions", completion(max_tokens=30_000, stream=True)))
        gateway.wait_outcomes({"timed_out_client": 1})
        wait_for("the server is free", lambda: sim.gauge("vllm:num_requests_running") == 0, harness.SOON)
        wait_for("the memory is given back", lambda: gateway.memory() == 0, harness.SOON)


class Curl(E2E):
    """A client that others wrote."""

    @classmethod
    def setUpClass(cls):
        if not has("curl"):
            raise unittest.SkipTest("curl is not installed")
        cls.sim_ = E2E.sim(cls, "--instant", "--seed", "9")
        cls.gw = E2E.gateway(cls, [cls.sim_])
        cls.gw.wait_pods(1)

    def curl(self, *arguments, path="/v1/completions", data=None):
        upload = ["-d", "@-"] if data else []
        done = subprocess.run(
            ["curl", "-sS", "--max-time", "20", *arguments, *upload, f"http://{self.gw.address}{path}"],
            input=data,
            capture_output=True,
            timeout=30,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, b""), arguments)
        return done.stdout

    def test_it_gets_the_same_answer_in_every_way(self):
        body = request_bytes("POST", "/", completion("the same for all", max_tokens=12)).split(b"\r\n\r\n", 1)[1]
        json_type = ["-H", "content-type: application/json"]
        ways = {
            "plain": [],
            "HTTP/1.0": ["--http1.0"],
            "chunked": ["-H", "transfer-encoding: chunked"],
            "expect": ["-H", "expect: 100-continue"],
            "close": ["-H", "connection: close"],
            "upgrade": ["--http2"],
        }
        texts = set()
        for name, flags in ways.items():
            with self.subTest(name):
                out = self.curl(*json_type, *flags, data=body)
                texts.add(re.search(rb'"text":"([^"]*)"', out).group(1))
        self.assertEqual(len(texts), 1)

    def test_streams_heads_and_uploads(self):
        body = b'{"model":"sim-model","prompt":"p","max_tokens":9,"stream":true}'
        out = self.curl("-N", "-H", "content-type: application/json", data=body)
        self.assertEqual(out.count(b"data: "), 10)
        self.assertIn(b"200 OK", self.curl("-I", path="/version"))
        large = b'{"model":"sim-model","max_tokens":1,"prompt":"' + b"w" * 3_000_000 + b'"}'
        answer = self.curl("-H", "content-type: application/json", "-o", "/dev/null", "-w", "%{http_code}", data=large)
        self.assertIn(answer, (b"200", b"400"))  # 400: longer than the simulated model takes


if __name__ == "__main__":
    harness.main()
