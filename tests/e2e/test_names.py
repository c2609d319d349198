"""Endpoints that are named by host: names that appear late, change, have several addresses, or a resolver in trouble."""

import socket
import threading
import time

import harness
from fake_dns import FakeDns
from harness import E2E, LOOPBACK, PATIENCE, SOON, Sim, completion, run_program, wait_for

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def event(text):
    return 'data: {"choices":[{"index":0,"text":"%s","finish_reason":null}]}\n\n' % text


def chunk(text):
    return b"%x\r\n%s\r\n" % (len(text), text.encode())


class Names(E2E):
    def setUp(self):
        self.dns = FakeDns()
        self.addCleanup(self.dns.close)

    def config(self, *endpoints, more="", dns=""):
        lines = "".join(f"  - {endpoint}\n" for endpoint in endpoints)
        return (
            f'dns: {{servers: ["{self.dns.address}"], min_ttl: 100ms, timeout: 2s{dns}}}\n'
            f"endpoints:\n{lines}metrics: {{health_interval: 100ms}}\n{more}"
        )

    def start(self, *endpoints, **options):
        dns, more = options.pop("dns", ""), options.pop("more", "")
        return self.gateway(config=self.config(*endpoints, dns=dns, more=more), ready=False, **options)

    def sims(self, *hosts):
        """A server at each of these addresses, all at the same port."""
        place = socket.socket()
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((LOOPBACK, 0))
        port = place.getsockname()[1]
        self.addCleanup(place.close)
        sims = [Sim("--instant", "--host", host, port=port) for host in hosts]
        for sim in sims:
            self.addCleanup(sim.kill)
        return port, sims

    def answered_by(self, gateway):
        answer = self.client(gateway).post("/v1/completions", completion())
        return answer.header("x-penstock-endpoint") if answer.status == 200 else answer.status

    def names(self, gateway):
        return {name["host"]: name for name in gateway.status_page()["names"]}

    def test_a_gateway_that_starts_before_its_servers_exist_becomes_ready_when_they_do(self):
        port, _ = self.sims("127.0.0.1")
        gateway = self.start(f"http://llm.test:{port}", more=harness.AT_ONCE)
        answer = wait_for("it says why", lambda: (a := gateway.admin("/readyz")).body.count(b"llm.test") and a)
        self.assertEqual(answer.status, 503)
        self.assertRegex(answer.body.decode(), r"^not ready: no endpoint can be used: 1 name does not resolve \(llm.test: .+\)\n$")
        self.assertEqual(gateway.admin("/healthz").status, 200)
        self.assertEqual(self.answered_by(gateway), 503)
        found = self.names(gateway)["llm.test"]
        self.assertEqual((found["addresses"], bool(found["error"])), ([], True))
        metrics = gateway.metrics()
        self.assertEqual(metrics.value("penstock_names_unresolved"), 1)
        self.assertGreaterEqual(metrics.value("penstock_name_lookup_failures_total"), 1)
        self.dns.records["llm.test"] = ["127.0.0.1"]
        wait_for("it is ready", lambda: gateway.admin("/readyz").status == 200)
        self.assertEqual(gateway.value("penstock_names_unresolved"), 0)
        self.assertEqual(self.answered_by(gateway), f"llm.test:{port}")
        found = self.names(gateway)["llm.test"]
        self.assertEqual((found["addresses"], found["error"]), (["127.0.0.1"], ""))
        self.assertGreaterEqual(found["failures"], 1)

    def test_a_changed_address_moves_requests_and_lets_running_ones_end(self):
        release = threading.Event()
        self.addCleanup(release.set)

        def old(_request, sock):
            sock.sendall(STREAM_HEAD + chunk(event("first")))
            release.wait(PATIENCE)
            sock.sendall(chunk(event("last")) + chunk("data: [DONE]\n\n") + b"0\r\n\r\n")
            return True

        fake = self.fake(old)
        new = Sim("--instant", "--host", "127.0.0.2", port=fake.port)
        self.addCleanup(new.kill)
        self.dns.records["llm.test"] = ["127.0.0.1"]
        gateway = self.start(f"{{url: http://llm.test:{fake.port}, name: llm}}")
        gateway.wait_pods(1)
        client = self.client(gateway)
        client.send(harness.request_bytes("POST", "/v1/completions", completion(stream=True)))
        head = client.read_head()
        self.assertEqual(head.status, 200)
        self.dns.records["llm.test"] = ["127.0.0.2"]

        def moved():
            pool = gateway.status_page()["pools"][0]["endpoints"]
            return [(e["address"], e["state"]) for e in pool] == [(f"127.0.0.2:{fake.port}", "ready")]

        wait_for("the new address is the endpoint", moved)
        before = len(fake.requests)
        for _ in range(5):
            self.assertEqual(self.answered_by(gateway), "llm")
        self.assertEqual(len(fake.requests), before)
        release.set()
        client._read_body(head, "POST")  # the head was read before
        self.assertIn(b"last", head.body)
        self.assertIn(b"[DONE]", head.body)
        gateway.wait_outcomes({"ok": 6})

    def test_all_addresses_of_a_name_are_endpoints_if_asked(self):
        port, _ = self.sims("127.0.0.1", "127.0.0.2", "127.0.0.3")
        self.dns.records["llm.test"] = ["127.0.0.3", "127.0.0.1", "127.0.0.2", "127.0.0.1"]
        gateway = self.start(f"{{url: http://llm.test:{port}, name: llm, dns: all, labels: {{tier: gold}}}}",
                             more="routing: {policy: round-robin}\n")
        gateway.wait_pods(3)
        self.assertEqual({self.answered_by(gateway) for _ in range(12)}, {"llm-127.0.0.1", "llm-127.0.0.2", "llm-127.0.0.3"})
        self.dns.records["llm.test"] = ["127.0.0.2"]
        wait_for("two are gone", lambda: len(gateway.status_page()["pools"][0]["endpoints"]) == 1)
        self.assertEqual({self.answered_by(gateway) for _ in range(4)}, {"llm-127.0.0.2"})
        self.dns.records["llm.test"] = ["127.0.0.2", "127.0.0.3"]
        gateway.wait_pods(2)

    def test_our_own_requests_have_the_name_in_the_host_field(self):
        fake, hosts = self.fake(), set()

        def poll(request, sock):
            hosts.add(request.header("host"))
            sock.sendall(fake._poll_answer(request))

        fake.poll_script = poll
        self.dns.records["llm.test"] = ["127.0.0.1"]
        gateway = self.start(f"http://llm.test:{fake.port}", dns=", addresses: all")
        gateway.wait_pods(1)
        self.assertEqual(self.answered_by(gateway), f"llm.test-127.0.0.1:{fake.port}")
        self.assertEqual(hosts, {f"llm.test:{fake.port}"})

    def test_one_of_several_addresses_stays_until_it_cannot_be_reached(self):
        port, (first,) = self.sims("127.0.0.2")
        self.dns.records["llm.test"] = ["127.0.0.2", "127.0.0.3"]
        gateway = self.start(f"http://llm.test:{port}")
        gateway.wait_pods(1)
        used = gateway.status_page()["pools"][0]["endpoints"][0]["address"]
        self.assertEqual(used, f"127.0.0.2:{port}")
        self.dns.records["llm.test"] = ["127.0.0.3", "127.0.0.2"]  # the order is not news
        before = self.dns.count("llm.test")
        wait_for("it was asked again", lambda: self.dns.count("llm.test") >= before + 4)
        self.assertEqual(self.names(gateway)["llm.test"]["addresses"][0], "127.0.0.3")
        self.assertEqual(gateway.status_page()["pools"][0]["endpoints"][0]["address"], used)
        second = Sim("--instant", "--host", "127.0.0.3", port=port)
        self.addCleanup(second.kill)
        first.kill()
        wait_for("the other one answers", lambda: self.answered_by(gateway) == f"llm.test:{port}")
        self.assertEqual(gateway.status_page()["pools"][0]["endpoints"][0]["address"], f"127.0.0.3:{port}")

    def trouble(self, mode):
        port, _ = self.sims("127.0.0.1")
        self.dns.records["llm.test"] = ["127.0.0.1"]
        gateway = self.start(f"http://llm.test:{port}", dns=", max_ttl: 200ms")
        gateway.wait_pods(1)
        self.dns.mode = mode
        wait_for("a lookup has failed", lambda: self.names(gateway)["llm.test"]["error"])
        self.assertEqual(self.names(gateway)["llm.test"]["addresses"], ["127.0.0.1"])
        self.assertEqual(gateway.admin("/readyz").status, 200)
        self.assertEqual(self.answered_by(gateway), f"llm.test:{port}")
        wait_for("the log says it", lambda: "a name does not resolve" in gateway.log())
        self.dns.mode = "good"
        wait_for("it recovers", lambda: not self.names(gateway)["llm.test"]["error"])
        wait_for("the log says that, too", lambda: "a name resolves again" in gateway.log())

    def test_addresses_stay_while_the_resolver_is_silent(self):
        self.trouble("silent")

    def test_addresses_stay_while_the_resolver_fails(self):
        self.trouble("servfail")

    def test_addresses_stay_while_the_resolver_talks_nonsense(self):
        self.trouble("garbage")

    def test_a_name_that_is_gone_keeps_its_addresses(self):
        port, _ = self.sims("127.0.0.1")
        self.dns.records["llm.test"] = ["127.0.0.1"]
        gateway = self.start(f"http://llm.test:{port}", dns=", max_ttl: 200ms")
        gateway.wait_pods(1)
        del self.dns.records["llm.test"]
        wait_for("it is gone", lambda: self.names(gateway)["llm.test"]["error"])
        self.assertEqual(self.answered_by(gateway), f"llm.test:{port}")

    def test_answers_to_other_questions_are_not_believed(self):
        port, _ = self.sims("127.0.0.1")
        self.dns.records["llm.test"] = ["127.0.0.1"]
        for mode in ("wrong_id", "wrong_question"):
            self.dns.mode = mode
            gateway = self.start(f"http://llm.test:{port}")
            found = wait_for("it resolves", lambda: self.names(gateway)["llm.test"]["addresses"])
            self.assertEqual(found, ["127.0.0.1"], mode)

    def test_a_truncated_answer_is_read_over_tcp(self):
        port, _ = self.sims("127.0.0.1")
        self.dns.records["llm.test"] = ["127.0.0.1"]
        self.dns.mode = "truncated"
        gateway = self.start(f"http://llm.test:{port}")
        gateway.wait_pods(1)
        self.assertGreater(self.dns.by_tcp, 0)

    def test_a_silent_resolver_blocks_nothing(self):
        port, _ = self.sims("127.0.0.1")
        self.dns.mode = "silent"
        gateway = self.start(f"http://llm.test:{port}", f"http://127.0.0.1:{port}", f"{{url: http://localhost:{port}, name: hosts}}")
        gateway.wait_pods(2)  # the address, and the name that /etc/hosts knows
        worst = 0
        while self.dns.count("llm.test") < 4:
            begin = time.monotonic()
            self.assertEqual(gateway.admin("/healthz").status, 200)
            worst = max(worst, time.monotonic() - begin)
        self.assertLess(worst, SOON)
        self.assertIn(self.answered_by(gateway), ("hosts", f"127.0.0.1:{port}"))
        self.dns.records["llm.test"] = ["127.0.0.1"]
        self.dns.mode = "good"
        gateway.wait_pods(3)

    def test_an_answer_counts_for_its_time_to_live_within_bounds(self):
        port, _ = self.sims("127.0.0.1")
        self.dns.records["llm.test"] = ["127.0.0.1"]
        self.dns.ttl = 3600
        gateway = self.start(f"http://llm.test:{port}")  # max_ttl is 30 s
        gateway.wait_pods(1)
        asked = self.dns.count("llm.test")
        begin = time.monotonic()
        for _ in range(20):
            self.answered_by(gateway)
        if time.monotonic() - begin < 20:
            self.assertEqual(self.dns.count("llm.test"), asked)
        # A reload asks again.
        gateway.signal(1)
        wait_for("it was asked again", lambda: self.dns.count("llm.test") > asked)

    def test_an_endpoint_that_dies_has_its_name_looked_up_early(self):
        port, (first,) = self.sims("127.0.0.2")
        self.dns.records["llm.test"] = ["127.0.0.2"]
        self.dns.ttl = 3600
        gateway = self.start(f"http://llm.test:{port}", dns=", max_ttl: 1h")
        gateway.wait_pods(1)
        second = Sim("--instant", "--host", "127.0.0.3", port=port)
        self.addCleanup(second.kill)
        self.dns.records["llm.test"] = ["127.0.0.3"]
        first.kill()
        wait_for(
            "the name was looked up again",
            lambda: gateway.status_page()["pools"][0]["endpoints"][0]["address"] == f"127.0.0.3:{port}",
        )
        gateway.wait_pods(1)

    def check(self, *endpoints):
        path = self.file("gateway.yaml", "kind: GatewayConfig\n" + self.config(*endpoints))
        return run_program(harness.PENSTOCK, "check", "--config", path)

    def test_check_warns_of_names_that_do_not_resolve(self):
        self.dns.records["known.test"] = ["127.0.0.1"]
        endpoints = ("http://known.test:1", "http://127.0.0.1:2", "http://unknown.test:3", "http://localhost:4")
        code, out, err = self.check(*endpoints)
        self.assertEqual((code, err), (0, ""), out)
        self.assertRegex(out, r"warning: \S+gateway.yaml:6: endpoints\[2\]: the name unknown.test does not resolve here: ")
        self.assertEqual(out.count("warning"), 1, out)

    def test_check_does_not_wait_for_a_resolver_that_says_nothing(self):
        self.dns.mode = "silent"
        begin = time.monotonic()
        code, out, _ = self.check("http://a.test:1", "http://b.test:3")
        self.assertLess(time.monotonic() - begin, 3 + SOON)
        self.assertEqual(code, 0, out)
        self.assertEqual(out.count("does not resolve here"), 2, out)


if __name__ == "__main__":
    harness.main()
