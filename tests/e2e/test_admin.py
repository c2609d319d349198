"""The admin port: its pages, and what its clients may do to each other."""

import threading

import harness
from harness import E2E, answer_bytes, completion, request_bytes, wait_for

PROMPT = "All rivers run into the sea; yet the sea is not full. " * 8


class Pages(E2E):
    @classmethod
    def setUpClass(cls):
        cls.sim_ = E2E.sim(cls, "--instant")
        cls.gw = E2E.gateway(cls, [cls.sim_])
        cls.gw.wait_pods(1)
        for _ in range(3):
            harness.fetch(cls.gw.port, "/v1/completions", "POST", completion(PROMPT))
        cls.gw.wait_outcomes({"ok": 3})

    def test_status_is_json(self):
        answer = self.gw.admin("/status")
        self.assertEqual((answer.status, answer.header("content-type")), (200, "application/json"))
        status = answer.json()
        self.assertTrue(status["ready"])
        self.assertEqual(status["ring"], harness.RING)
        self.assertEqual(status["totals"]["outcomes"]["ok"], 3)
        self.assertEqual(status["totals"]["started"], 3)
        self.assertEqual(len(status["shards"]), 2)
        (pool,) = status["pools"]
        (endpoint,) = pool["endpoints"]
        self.assertEqual((pool["ready"], endpoint["url"], endpoint["state"]), (1, self.sim_.url, "ready"))
        self.assertEqual((endpoint["picks"], endpoint["in_flight"]), (3, 0))

        def models():
            return self.gw.status_page()["pools"][0]["endpoints"][0]["models"]

        wait_for("the models are known", lambda: models() == ["sim-model"])

    def test_the_status_page(self):
        answer = self.gw.admin("/")
        self.assertEqual((answer.status, answer.header("content-type")), (200, "text/html; charset=utf-8"))
        self.assertIn(b"<html", answer.body.lower())
        self.assertNotIn(b"http://", answer.body.replace(b"http://www.w3.org/", b""))  # it needs nothing from elsewhere

    def test_decisions(self):
        decisions = self.gw.admin("/debug/decisions").json()["decisions"]
        self.assertGreaterEqual(len(decisions), 1)
        for decision in decisions:
            self.assertEqual((decision["model"], decision["endpoint"]), ("sim-model", self.sim_.address))
            (candidate,) = decision["why"]["candidates"]
            self.assertEqual(candidate["endpoint"], self.sim_.address)
            self.assertEqual(len(candidate["scores"]), len(decision["why"]["scorers"]))

    def test_probes(self):
        self.assertEqual((self.gw.admin("/healthz").status, self.gw.admin("/readyz").status), (200, 200))
        self.assertEqual(self.gw.admin("/healthz?verbose=1").status, 200)

    def test_pages_that_are_not_there_and_methods_that_are_not_allowed(self):
        missing = self.gw.admin("/nope")
        self.assertEqual(missing.status, 404)
        self.assertIn(b"/metrics", missing.body)
        for method in ("POST", "PUT", "DELETE"):
            for path in ("/metrics", "/status", "/"):
                answer = self.gw.admin(path, method, b"some body")
                self.assertEqual((answer.status, answer.header("allow")), (405, "GET, HEAD"))
        self.assertEqual(self.gw.admin("/v1/completions", "POST", completion()).status, 404)

    def test_head_and_connections(self):
        client = self.client(self.gw.admin_port)
        head = client.request("HEAD", "/status")
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertGreater(int(head.header("content-length")), 100)
        for path in ("/metrics", "/healthz", "/status"):
            self.assertEqual(client.request("GET", path).status, 200)
        client.send(request_bytes("GET", "/healthz") * 3)
        self.assertEqual([client.read_response().status for _ in range(3)], [200] * 3)
        self.assertEqual(client.request("GET", "/healthz", version="HTTP/1.0").status, 200)
        self.assertEqual(client.read_until_end(), (b"", False))

    def test_bad_requests_to_the_admin_port(self):
        for wire in (b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"):
            client = self.client(self.gw.admin_port)
            client.send(wire)
            self.assertEqual(client.read_response().status, 400)
            client.read_until_end()
        self.assertEqual(self.gw.admin("/healthz").status, 200)

    def test_the_admin_port_has_a_limit_of_its_own(self):
        few = ["sh", "-c", 'ulimit -n 512 && exec "$@"', "sh"]  # an eighth of it for the admin port
        gateway = self.gateway([self.sim_], prefix=few, shards=1)
        gateway.wait_pods(1)
        begun = [self.client(gateway.admin_port) for _ in range(64)]
        for client in begun:
            client.send(b"GET /")
        extra = [self.client(gateway.admin_port) for _ in range(8)]
        for client in extra:
            answer = client.read_response()
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (503, "too_many_connections"))
            client.read_until_end()
        self.assertEqual(harness.fetch(gateway.port, "/v1/completions", "POST", completion()).status, 200)
        for client in begun:
            client.close()

        def admitted():
            answer = gateway.admin("/metrics")
            return answer.status == 200 and harness.Metrics(answer.body.decode())

        metrics = wait_for("the admin port has room again", admitted)
        self.assertGreaterEqual(metrics.sum("penstock_limit_hits_total", limit="admin_connections"), 8)

    def test_before_the_endpoints_were_probed_it_is_not_ready(self):
        endpoint = self.fake()
        release, endpoint.poll_script = self.held(lambda _, sock: sock.sendall(answer_bytes(body=b"")))
        gateway = self.gateway([endpoint], "metrics: {timeout: 20s}\n", ready=False)
        answer = gateway.admin("/readyz")
        self.assertEqual(answer.status, 503)
        self.assertIn(b"not probed", answer.body)
        self.assertEqual(gateway.admin("/healthz").status, 200)
        release.set()
        gateway.wait_ready()

    def test_an_endpoint_whose_probe_never_ends_is_not_waited_for(self):
        gone = threading.Event()
        self.addCleanup(gone.set)

        def trickle(_, sock):
            sock.sendall(b"HTTP/1.1 200 OK\r\nx: ")
            while not gone.wait(0.05):
                sock.sendall(b"x")

        slow = self.fake()
        slow.poll_script = trickle
        gateway = self.gateway([slow, self.fake()])
        gateway.wait_pods(1)
        self.assertEqual(gateway.value("penstock_endpoint_ready", endpoint=slow.address), 0)
        self.assertEqual(self.client(gateway).post("/v1/completions", completion()).status, 200)


if __name__ == "__main__":
    harness.main()
