"""Endpoints that die, refuse, stall or lie: what clients see of it, and what is counted."""

import re
import json
import select
import signal
import socket
import threading

import harness
from harness import (
    E2E,
    Client,
    ConnectionEnded,
    answer_bytes,
    completion,
    hard_reset,
    in_threads,
    request_bytes,
    wait_for,
)

# Takes turns, and never loses patience with an endpoint: every fault is met again and again.
ALL_TRIED = "routing: {policy: round-robin}\nejection: {consecutive_failures: 1000}\nretry: {budget_percent: 100}\n"
EVEN = ALL_TRIED + "resume: {enabled: false}\n"  # what goes on elsewhere is in test_resume.py


class Load:
    """Threads that send one request after the other until told to stop, and remember how each went."""

    def __init__(self, port, threads, max_tokens=20):
        self.port, self.max_tokens = port, max_tokens
        self.lock = threading.Lock()
        self.whole = self.broken = 0
        self.errors = []
        self.by_endpoint = {}
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(threads)]
        for thread in self.threads:
            thread.start()

    def _run(self, number):
        client, turn = None, 0
        while not self.stopping.is_set():
            turn += 1
            streaming = (number + turn) % 2 == 0
            body = completion(f"client {number}, turn {turn}", self.max_tokens, stream=streaming)
            try:
                if client is None:
                    client = Client(self.port)
                answer = client.post("/v1/completions", body)
                with self.lock:
                    if answer.status == 200:
                        self.whole += 1
                        endpoint = answer.header("x-penstock-endpoint")
                        self.by_endpoint[endpoint] = self.by_endpoint.get(endpoint, 0) + 1
                    else:
                        self.errors.append(repr(answer))
            except ConnectionEnded as end:
                client.close()
                client = None
                begun = streaming and end.response is not None and end.response.status == 200 and end.response.body
                with self.lock:
                    if begun:
                        self.broken += 1
                    else:
                        self.errors.append(repr(end))
            except Exception as error:  # pylint: disable=broad-except
                with self.lock:
                    self.errors.append(repr(error))
                break
        if client is not None:
            client.close()

    def wait_more(self, count):
        with self.lock:
            goal = self.whole + count
        wait_for(f"{count} more answers", lambda: self.whole >= goal or self.errors)

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(harness.PATIENCE)


class Death(E2E):
    SIM = ("--seed", "3", "--prefill-tokens-per-s", "20000", "--decode-ms", "4")

    def start_load(self, gateway):
        load = Load(gateway.port, 16)
        self.addCleanup(load.stop)
        return load

    def test_a_server_killed_under_load_costs_no_client_an_error(self):
        sims = [self.sim(*self.SIM) for _ in range(3)]
        gateway = self.gateway(sims)
        gateway.wait_pods(3)
        load = self.start_load(gateway)
        load.wait_more(60)
        victim = sims[1]
        self.assertGreater(load.by_endpoint.get(victim.address, 0), 0)
        victim.kill()
        gateway.wait_pods(2, harness.SOON)
        load.wait_more(200)
        # It comes back at the same address, and is used again.
        again = self.sim(*self.SIM, port=victim.port)
        gateway.wait_pods(3)
        wait_for("it gets requests again", lambda: again.gauge("vllm:request_success_total") >= 3)
        load.stop()
        self.assertEqual(load.errors, [])
        gateway.wait_outcomes({"ok": load.whole, **({"stream_broken": load.broken} if load.broken else {})})

    def test_servers_dying_one_after_the_other(self):
        sims = [self.sim(*self.SIM) for _ in range(3)]
        gateway = self.gateway(sims)
        gateway.wait_pods(3)
        load = self.start_load(gateway)
        for _ in range(2):
            for i in range(3):
                load.wait_more(40)
                port = sims[i].port
                sims[i].kill()
                load.wait_more(40)
                sims[i] = self.sim(*self.SIM, port=port)
                gateway.wait_pods(3)
        load.stop()
        self.assertEqual(load.errors, [])
        gateway.wait_outcomes({"ok": load.whole, **({"stream_broken": load.broken} if load.broken else {})})

    def test_one_live_server_of_four_answers_everything(self):
        """At once after the others have died, before any probe has failed: no dead endpoint uses up an attempt."""
        sims = [self.sim(*self.SIM) for _ in range(4)]
        for policy, attempts in (("expected-cost", 3), ("round-robin", 2)):
            with self.subTest(policy=policy):
                config = f"routing: {{policy: {policy}}}\nretry: {{attempts: {attempts}, budget_percent: 0, budget_min: 0}}\n"
                gateway = self.gateway(sims, config)
                gateway.wait_pods(4)
                for sim in sims[1:]:
                    sim.kill()
                statuses = harness.in_threads(20, lambda i, gateway=gateway: self.ask_ten(gateway, i))
                self.assertEqual(statuses, [[200] * 10] * 20)
                sims[1:] = [self.sim(*self.SIM, port=sim.port) for sim in sims[1:]]

    def ask_ten(self, gateway, number):
        client = self.client(gateway)
        return [client.post("/v1/completions", completion(f"{number}, {i}", 4)).status for i in range(10)]

    def test_a_server_that_ends_in_good_order_breaks_nothing(self):
        sims = [self.sim(*self.SIM) for _ in range(2)]
        gateway = self.gateway(sims)
        gateway.wait_pods(2)
        load = self.start_load(gateway)
        load.wait_more(40)
        sims[0].signal(signal.SIGTERM)  # finishes what runs
        self.assertEqual(sims[0].wait(), 0)
        load.wait_more(100)
        load.stop()
        self.assertEqual((load.errors, load.broken), ([], 0))
        gateway.wait_outcomes({"ok": load.whole})

    def test_without_traffic_death_is_noticed_too(self):
        sims = [self.sim("--instant") for _ in range(2)]
        gateway = self.gateway(sims)
        gateway.wait_pods(2)
        sims[0].kill()
        gateway.wait_pods(1, harness.SOON)  # health_interval is 1 s
        wait_for("the log says why", lambda: f"url=http://{sims[0].address} reason=\"connection refused\"" in gateway.log())
        sims[0] = self.sim("--instant", port=sims[0].port)
        gateway.wait_pods(2, harness.SOON)

    def test_a_stopped_server_is_left_aside_and_taken_back(self):
        sims = [self.sim("--instant") for _ in range(2)]
        polls = "metrics: {timeout: 1s, health_interval: 200ms}\n"
        config = EVEN + "timeouts: {first_byte: 1s, connect: 1s}\n" + polls
        gateway = self.gateway(sims, config)
        gateway.wait_pods(2)
        client = self.client(gateway)
        client.post("/v1/completions", completion())
        sims[0].signal(signal.SIGSTOP)
        for i in range(8):
            answer = client.post("/v1/completions", completion(f"while it stands still {i}"))
            self.assertEqual((answer.status, answer.header("x-penstock-endpoint")), (200, sims[1].address))
        gateway.wait_pods(1)

        def timeouts():
            return gateway.value("penstock_attempt_failures_total", reason="first_byte_timeout")

        before = timeouts()
        self.assertGreater(before, 0)
        for i in range(8):
            self.assertEqual(client.post("/v1/completions", completion(f"known by now {i}")).status, 200)
        self.assertEqual(timeouts(), before)  # nobody waits for it any more
        sims[0].signal(signal.SIGCONT)
        gateway.wait_pods(2)

        def used_again():
            answer = client.post("/v1/completions", completion())
            return answer.status == 200 and answer.header("x-penstock-endpoint") == sims[0].address

        wait_for("the server is used again", used_again)

    def test_requests_at_a_server_that_stands_still_are_answered_by_another(self):
        sims = [self.sim("--instant") for _ in range(2)]
        config = EVEN + "metrics: {timeout: 200ms, health_interval: 100ms, idle_interval: 100ms}\n"
        gateway = self.gateway(sims, config)  # and nobody waits less than ten minutes for a first byte
        gateway.wait_pods(2)
        sims[0].signal(signal.SIGSTOP)
        begun = []
        for i in range(8):
            begun.append(self.client(gateway))
            body = completion(f"it stands still {i}", stream=i % 4 < 2)
            begun[-1].send(request_bytes("POST", "/v1/completions", body))
        for client in begun:
            answer = client.read_response()
            self.assertEqual((answer.status, answer.header("x-penstock-endpoint")), (200, sims[1].address))
        gateway.wait_outcomes({"ok": 8})
        moved = gateway.value("penstock_retries_total", reason="probe_failed")
        self.assertGreater(moved, 0)
        self.assertEqual(gateway.value("penstock_attempt_failures_total"), moved)
        self.assertEqual(gateway.value("penstock_endpoint_ejections_total"), 0)
        sims[0].signal(signal.SIGCONT)
        gateway.wait_pods(2)
        wait_for("it has nothing to do", lambda: sims[0].gauge("vllm:num_requests_running") == 0)

    def test_a_server_that_stands_still_is_waited_for_where_there_is_no_other(self):
        sim = self.sim("--instant")
        gateway = self.gateway([sim], EVEN + "metrics: {timeout: 200ms, health_interval: 100ms, idle_interval: 100ms}\n")
        gateway.wait_pods(1)
        sim.signal(signal.SIGSTOP)
        client = self.client(gateway)
        client.send(request_bytes("POST", "/v1/completions", completion()))
        wait_for("it is at the server", lambda: gateway.value("penstock_endpoint_requests_in_flight") == 1)
        gateway.wait_pods(0)
        wait_for("the log says why", lambda: 'reason="no answer in time"' in gateway.log())
        failures = gateway.value("penstock_probe_errors_total")
        wait_for("more probes fail", lambda: gateway.value("penstock_probe_errors_total") > failures + 1)
        sim.signal(signal.SIGCONT)
        self.assertEqual(client.read_response().status, 200)
        gateway.wait_outcomes({"ok": 1})
        self.assertEqual(gateway.value("penstock_attempt_failures_total"), 0)


class Faults(E2E):
    """One faulty server, one good one, taking turns."""

    def check(self, fault, reasons, config="", streaming=(False, True), count=10):
        faulty, good = self.sim("--instant", "--fail", fault), self.sim("--instant")
        gateway = self.gateway([faulty, good], EVEN + config, shards=1)
        wait_for("the good one is ready", lambda: gateway.value("penstock_endpoint_ready", endpoint=good.address))
        client = self.client(gateway)
        for stream in streaming:
            for i in range(count):
                answer = client.post("/v1/completions", completion(f"{i}", stream=stream))
                self.assertEqual((answer.status, answer.complete), (200, True), fault)
                self.assertEqual(answer.header("x-penstock-endpoint"), good.address)
        gateway.wait_outcomes({"ok": count * len(streaming)})
        metrics = gateway.metrics()
        failed = sum(metrics.sum("penstock_attempt_failures_total", reason=reason) for reason in reasons)
        self.assertGreaterEqual(failed, count * len(streaming) // 2, metrics.series("penstock_attempt_failures_total"))
        self.assertEqual(metrics.sum("penstock_attempt_failures_total"), failed)
        self.assertEqual(metrics.sum("penstock_retries_total"), failed)
        self.assertEqual(metrics.sum("penstock_attempts_total"), failed + count * len(streaming))

    def test_errors_that_are_worth_another_try(self):
        for status, reason in ((502, "status_502"), (503, "server_full"), (504, "status_504")):
            with self.subTest(status):
                self.check(f"status={status}", [reason])

    def test_a_reset_before_the_first_body_byte(self):
        self.check("reset-after=0", ["reset_before_response"])

    def test_a_stall_before_the_first_body_byte(self):
        short = "timeouts: {first_byte: 400ms, chunk_idle: 400ms}\n"
        self.check("stall-after=0", ["idle_timeout", "first_byte_timeout"], short, count=6)

    def test_a_slow_head(self):
        self.check("slow-header=10000", ["first_byte_timeout"], "timeouts: {first_byte: 400ms}\n", count=6)

    def test_a_refusal_that_comes_and_goes(self):
        faulty, good = self.sim("--instant", "--fail", "refuse@0.5"), self.sim("--instant")
        gateway = self.gateway([faulty, good], EVEN + "timeouts: {upstream_idle: 1ms}\n", shards=1)
        client = self.client(gateway)
        for i in range(60):
            answer = client.post("/v1/completions", completion(f"{i}", stream=bool(i % 2)))
            self.assertEqual((answer.status, answer.complete), (200, True), answer)
        gateway.wait_outcomes({"ok": 60})

    def test_all_clients_fail_over_at_the_same_time(self):
        faulty, good = self.sim("--instant", "--fail", "status=503"), self.sim("--instant")
        gateway = self.gateway([faulty, good], EVEN)
        gateway.wait_pods(2)

        def one(i):
            client = Client(gateway.port)
            try:
                bodies = [completion(f"{i} {k}", stream=bool(k % 2)) for k in range(10)]
                return [client.post("/v1/completions", body).status for body in bodies]
            finally:
                client.close()

        for statuses in in_threads(16, one):
            self.assertEqual(statuses, [200] * 10)
        gateway.wait_outcomes({"ok": 160})

    def test_an_endpoint_that_closes_after_each_answer_without_saying_so(self):
        def script(_, sock):
            sock.sendall(answer_bytes())
            return False

        gateway = self.gateway([self.fake(script)], "retry: {attempts: 1}\n", shards=1)
        client = self.client(gateway)
        for i in range(100):
            self.assertEqual(client.post("/v1/completions", completion(f"{i}")).status, 200)

    def test_an_endpoint_that_is_full(self):
        deaf, good = self.fake(), self.fake()
        config = EVEN + "timeouts: {connect: 400ms}\nmetrics: {timeout: 10s}\n"
        gateway = self.gateway([deaf, good], config, shards=1)
        gateway.wait_pods(2)
        wait_for("its metrics were read", lambda: gateway.value("penstock_scrapes_total", endpoint=deaf.address) >= 1)
        self.fill_backlog(deaf)
        client = self.client(gateway)
        for i in range(6):
            answer = client.post("/v1/completions", completion(f"{i}"))
            self.assertEqual((answer.status, answer.header("x-penstock-endpoint")), (200, good.address))
        self.assertGreaterEqual(gateway.value("penstock_attempt_failures_total", reason="connect_timeout"), 2)

    def fill_backlog(self, fake):
        """From now on connections to it are neither accepted nor refused."""
        fake.go_deaf()
        for _ in range(64):
            sock = socket.socket()
            self.addCleanup(sock.close)
            sock.setblocking(False)
            sock.connect_ex((harness.LOOPBACK, fake.port))
            if not select.select([], [sock], [], 0.3)[1]:
                return
        self.fail("the backlog does not fill up")


class Exhausted(E2E):
    def test_no_more_endpoints_are_tried_than_allowed(self):
        def script(_, sock):
            hard_reset(sock)
            return False

        fakes = [self.fake(script) for _ in range(4)]
        gateway = self.gateway(fakes, EVEN + "", shards=1)
        gateway.wait_pods(4)
        answer = self.client(gateway).post("/v1/completions", completion())
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (502, "endpoint_closed"))
        self.assertEqual(sorted(len(fake.requests) for fake in fakes), [0, 1, 1, 1])
        gateway.wait_outcomes({"upstream_failed": 1})
        metrics = gateway.metrics()
        self.assertEqual(metrics.sum("penstock_attempts_total"), 3)
        self.assertEqual(metrics.sum("penstock_attempt_failures_total", reason="reset_before_response"), 3)
        self.assertEqual(metrics.sum("penstock_retries_total", reason="reset_before_response"), 2)
        self.assertIn(answer.header("x-penstock-endpoint"), [fake.address for fake in fakes if fake.requests])

    def test_the_body_of_a_last_503_is_relayed(self):
        def script(_, sock):
            sock.sendall(answer_bytes(503, b"my own words", content_type="text/plain"))
            return True

        fakes = [self.fake(script) for _ in range(3)]
        gateway = self.gateway(fakes, "retry: {attempts: 2}\n", shards=1)
        gateway.wait_pods(3)
        answer = self.client(gateway).post("/v1/completions", completion())
        self.assertEqual((answer.status, answer.body), (503, b"my own words"))
        self.assertEqual(sorted(len(fake.requests) for fake in fakes), [0, 1, 1])
        gateway.wait_outcomes({"endpoint_error": 1})

    def test_when_every_endpoint_was_tried(self):
        sims = [self.sim("--instant", "--fail", "status=503") for _ in range(2)]
        gateway = self.gateway(sims, shards=1)
        gateway.wait_pods(2)
        answer = self.client(gateway).post("/v1/completions", completion())
        # The last endpoint's own words: they say more than ours could.
        self.assertEqual(answer.status, 503)
        self.assertIn(answer.header("x-penstock-endpoint"), [sim.address for sim in sims])
        gateway.wait_outcomes({"endpoint_error": 1})

    def test_what_was_not_tried_again_is_no_retry(self):
        gateway = self.gateway([self.sim("--instant", "--fail", "status=503") for _ in range(2)], shards=1)
        gateway.wait_pods(2)
        self.client(gateway).post("/v1/completions", completion())
        gateway.wait_outcomes({"endpoint_error": 1})
        metrics = gateway.metrics()
        self.assertEqual(metrics.sum("penstock_attempts_total"), 2)
        self.assertEqual(metrics.sum("penstock_retries_total"), 1)

    def test_the_budget_for_retries(self):
        fakes = [self.fake(lambda _, sock: sock.sendall(answer_bytes(503)) or True) for _ in range(3)]
        config = "ejection: {consecutive_failures: 1000}\nretry: {budget_percent: 0, budget_min: 2, attempts: 2}\n"
        gateway = self.gateway(fakes, config, shards=1)
        gateway.wait_pods(3)
        client = self.client(gateway)
        for _ in range(6):
            self.assertEqual(client.post("/v1/completions", completion()).status, 503)
        self.assertEqual(sum(len(fake.requests) for fake in fakes), 6 + 2)
        self.assertEqual(gateway.value("penstock_retries_total"), 2)

    def test_the_last_of_as_many_attempts_as_there_may_be_fails_twice(self):
        """By its status, which is relayed for want of another attempt, and then before the first byte of its body."""

        def torso(_, sock):
            sock.sendall(b"HTTP/1.1 503 Busy\r\ncontent-length: 5\r\n\r\n")
            return False

        fakes = [self.fake(torso) for _ in range(9)]
        config = "ejection: {consecutive_failures: 1000}\nretry: {budget_min: 100, attempts: 8}\n"
        gateway = self.gateway(fakes, config, shards=1)
        gateway.wait_pods(9)
        answer = self.client(gateway).post("/v1/completions", completion())
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (502, "endpoint_closed"))
        self.assertEqual(gateway.value("penstock_attempts_total"), 8)

    def test_no_endpoint_is_there(self):
        sim = self.sim("--instant")
        sim.kill()
        gateway = self.gateway([sim], "flow_control: {no_endpoint_ttl: none}\n")
        client = self.client(gateway)
        for body in (completion(), completion(stream=True)):
            answer = client.post("/v1/completions", body)
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (503, "no_endpoint"))
            self.assertEqual(answer.header("retry-after"), "1")
        gateway.wait_outcomes({"no_endpoint": 2})
        self.sim("--instant", port=sim.port)
        gateway.wait_pods(1, harness.SOON)
        self.assertEqual(client.post("/v1/completions", completion()).status, 200)

    def test_no_endpoint_that_is_ready_serves_the_model(self):
        dead = self.sim("--instant")
        dead.kill()  # nobody knows what it would serve
        gateway = self.gateway([self.sim("--instant", "--model", "a"), dead], "flow_control: {no_endpoint_ttl: none}\n")
        first = lambda: gateway.status_page()["pools"][0]["endpoints"][0]
        wait_for("the models of the one are known", lambda: first()["models"] == ["a"])
        answer = self.client(gateway).post("/v1/completions", completion(model="b"))
        error = answer.json()["error"]
        self.assertEqual((answer.status, error["code"]), (503, "no_endpoint"))
        self.assertEqual(error["message"], "No model server that is ready serves the model `b`.")
        self.assertEqual(answer.header("retry-after"), "1")
        self.assertEqual(self.client(gateway).post("/v1/completions", completion(model="a")).status, 200)

    def test_a_total_deadline(self):
        sim = self.sim("--decode-ms", "50")
        gateway = self.gateway([sim], "timeouts: {total: 1500ms}\n", shards=1)
        client = self.client(gateway)
        answer = client.post("/v1/completions", completion(max_tokens=1000))
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (504, "endpoint_timeout"))
        with self.assertRaises(ConnectionEnded) as caught:
            self.client(gateway).post("/v1/completions", completion(max_tokens=1000, stream=True))
        self.assertEqual(json.loads(caught.exception.response.events()[-1])["error"]["code"], "stream_broken")
        wait_for("the server has nothing left to do", lambda: sim.gauge("vllm:num_requests_running") == 0)
        gateway.wait_outcomes({"upstream_failed": 1, "stream_broken": 1})

    def test_an_endpoint_that_fails_is_ejected_for_a_while(self):
        bad, good = self.fake(), self.fake()
        bad.script = lambda _, sock: sock.sendall(answer_bytes(500)) or True
        config = (
            "routing: {policy: round-robin}\n"
            "ejection: {consecutive_failures: 3, base_penalty: 3s, max_penalty: 3s, slow_start: none}\n"
        )
        gateway = self.gateway([bad, good], config, shards=1)
        gateway.wait_pods(2)
        client = self.client(gateway)
        self.assertEqual([client.post("/v1/completions", completion()).status for _ in range(6)], [200] * 6)
        self.assertEqual(len(bad.requests), 3)
        metrics = gateway.metrics()
        self.assertEqual(metrics.value("penstock_endpoint_ejections_total", endpoint=bad.address), 1)
        self.assertEqual(metrics.value("penstock_endpoint_ejected", endpoint=bad.address), 1)
        self.assertEqual(metrics.value("penstock_endpoint_ejected", endpoint=good.address), 0)
        said = f"warning endpoint is ejected endpoint={bad.address} .* last_failure=status_500 for_ms=3000"
        wait_for("the log says so", lambda: re.search(said, gateway.log()))
        self.assertEqual([client.post("/v1/completions", completion()).status for _ in range(6)], [200] * 6)
        bad.script = None
        wait_for(
            "the endpoint is used again",
            lambda: client.post("/v1/completions", completion()).header("x-penstock-endpoint") == bad.address,
        )

    def test_an_endpoint_that_breaks_its_streams_is_ejected(self):
        bad, good = self.sim("--instant", "--fail", "truncate-chunk"), self.sim("--instant")
        config = "routing: {policy: round-robin}\nejection: {consecutive_failures: 3, base_penalty: 10m, max_penalty: 10m}\n"
        gateway = self.gateway([bad, good], config + "resume: {enabled: false}\n", shards=1)
        gateway.wait_pods(2)
        broken = 0
        for _ in range(20):
            try:
                answer = self.client(gateway).post("/v1/completions", completion(max_tokens=50, stream=True))
                self.assertEqual(answer.events()[-1], "[DONE]")
            except ConnectionEnded:
                broken += 1
        self.assertEqual(broken, 3)
        self.assertEqual(gateway.value("penstock_endpoint_ejections_total", endpoint=bad.address), 1)
        gateway.wait_outcomes({"ok": 17, "stream_broken": 3})


if __name__ == "__main__":
    harness.main()
