"""The admin port: its pages, and what its clients may do to each other."""

import gzip
import json
import signal
import socket
import threading
import time

import harness
from harness import E2E, answer_bytes, completion, request_bytes, wait_for
from tls_client import Authority, TlsClient, client_context

PROMPT = "All rivers run into the sea; yet the sea is not full. " * 8


def own_address():
    """An address of this machine other than loopback, or None. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # where its packets would leave
        except OSError:
            return None
        return None if probe.getsockname()[0].startswith("127.") else probe.getsockname()[0]


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

    def test_pages_are_compressed_for_those_who_take_it(self):
        client = self.client(self.gw.admin_port)
        plain = client.request("GET", "/metrics")
        self.assertIsNone(plain.header("content-encoding"))
        packed = client.request("GET", "/metrics", headers=[("Accept-Encoding", "gzip")])
        self.assertEqual((packed.header("content-encoding"), packed.header("vary")), ("gzip", "accept-encoding"))
        names = set(harness.Metrics(gzip.decompress(packed.body).decode()).types)
        self.assertEqual(names, set(harness.Metrics(plain.body.decode()).types))
        self.assertLess(len(packed.body) * 4, len(plain.body))
        self.assertIsNone(client.request("GET", "/metrics", headers=[("Accept-Encoding", "gzip;q=0")]).header("content-encoding"))

    def test_the_process(self):
        metrics = self.gw.metrics()
        for name in ("cpu_seconds_total", "resident_memory_bytes", "virtual_memory_bytes", "start_time_seconds", "threads"):
            self.assertGreater(metrics.value("process_" + name), 0, name)
        self.assertLess(metrics.value("process_open_fds"), metrics.value("process_max_fds"))
        self.assertAlmostEqual(metrics.value("process_start_time_seconds"), time.time(), delta=24 * 3600)

    def test_by_default_each_metric_of_the_endpoint_picker_has_one_name(self):
        types = self.gw.metrics().types
        self.assertIn("inference_objective_request_total", types)
        self.assertNotIn("llm_d_epp_request_total", types)
        self.assertNotIn("llm_d_epp_ready_endpoints", types)
        newer = self.gateway([self.sim_], "metrics: {epp_names: llm_d}\n")
        newer.wait_ready()
        types = newer.metrics().types
        self.assertIn("llm_d_epp_ready_endpoints", types)
        self.assertEqual([name for name in types if name.startswith("inference_")], [])

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


class FewConnections(E2E):
    """With room for few at the admin port."""

    FEW = ["sh", "-c", 'ulimit -n 512 && exec "$@"', "sh"]  # an eighth of it for the admin port
    LIMIT = 64

    def start(self, config="", **options):
        self.sim_ = self.sim("--instant")
        gateway = self.gateway([self.sim_], config, prefix=self.FEW, shards=1, **options)
        gateway.wait_pods(1)
        return gateway

    def admin_client(self, gateway, **options):
        return self.client(gateway.admin_port, **options)


class AdminPort(FewConnections):
    """What clients of the admin port may do to each other, and to those who probe the gateway."""

    def test_idle_connections_give_way_oldest_first(self):
        gateway = self.start()
        silent = [self.admin_client(gateway) for _ in range(self.LIMIT)]
        kept = silent.pop(0)
        self.assertEqual(kept.request("GET", "/healthz").status, 200)  # the first one is idle for the shortest time now
        for _ in range(20):
            self.assertEqual(gateway.admin("/healthz").status, 200)
        self.assertEqual(silent[0].read_until_end()[0], b"")
        self.assertEqual(kept.request("GET", "/readyz").status, 200)
        metrics = gateway.metrics()
        self.assertGreater(metrics.value("penstock_admin_connections_evicted_total"), 0)
        self.assertEqual(metrics.value("penstock_limit_hits_total", limit="admin_connections"), 0)

    def test_unfinished_heads_and_bodies_give_way(self):
        gateway = self.start()
        begun = [self.admin_client(gateway) for _ in range(2 * self.LIMIT)]
        for number, client in enumerate(begun):
            try:
                client.send(b"GET /" if number % 2 else b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nx")
            except OSError:
                pass  # it has given way already
        for _ in range(20):
            self.assertEqual(gateway.admin("/healthz").status, 200)
        self.assertEqual(harness.fetch(gateway.port, "/v1/completions", "POST", completion()).status, 200)

    def test_while_all_connections_are_being_answered_probes_are(self):
        """Clients that ask for pages and do not read them. The pages are larger than what a socket takes, and together
        smaller than the memory of the admin port."""
        config = "metrics: {epp_names: both}\nlimits: {metrics_page: 64MiB}\n"
        sim, fewer = self.sim("--instant"), ["sh", "-c", 'ulimit -n 96 && exec "$@"', "sh"]
        gateway = self.gateway([sim], config, prefix=fewer, shards=1)
        gateway.wait_pods(1)
        client = self.client(gateway)
        number = 0
        while len(gateway.admin("/metrics").body) < 4_500_000:
            for number in range(number, number + 25):
                headers = [("x-gateway-inference-fairness-id", f"tenant-{number}")]
                client.post("/v1/completions", completion(stream=True), headers)
            number += 1
        stuck = [self.admin_client(gateway, receive_buffer=4096) for _ in range(12)]
        for one in stuck:
            one.send(request_bytes("GET", "/metrics"))
        for one in stuck:
            one.sock.recv(1)  # its answer has begun: it does not give way any more

        def refused():
            answer = gateway.admin("/status")
            return answer.status == 503 and answer

        answer = wait_for("other pages are refused", refused)
        self.assertIn(b"only probes", answer.body)
        for _ in range(20):
            self.assertEqual((gateway.admin("/healthz").status, gateway.admin("/readyz").status), (200, 200))
        for one in stuck:
            one.close()
        wait_for("they are answered again", lambda: gateway.admin("/status").status == 200)
        self.assertGreater(gateway.value("penstock_limit_hits_total", limit="admin_pages"), 0)

    def test_pages_that_nobody_reads_are_bounded(self):
        gateway = self.start("metrics: {epp_names: both}\nlimits: {metrics_page: 64MiB}\n")
        client = self.client(gateway)
        for number in range(200):  # nine megabytes
            client.post("/v1/completions", completion(), [("x-gateway-inference-fairness-id", f"tenant-{number}")])
        stuck = [self.admin_client(gateway, receive_buffer=4096) for _ in range(self.LIMIT)]
        for one in stuck:
            one.send(request_bytes("GET", "/metrics"))
        wait_for("pages are refused", lambda: gateway.admin("/metrics").status == 503)
        for _ in range(20):
            self.assertEqual((gateway.admin("/healthz").status, gateway.admin("/readyz").status), (200, 200))
        for one in stuck:
            one.close()
        wait_for("they are answered again", lambda: gateway.admin("/metrics").status == 200)

    def test_probes_do_not_wait_for_pages(self):
        gateway = self.start("metrics: {epp_names: both}\n")
        client = self.client(gateway)
        for number in range(60):
            client.post("/v1/completions", completion(), [("x-gateway-inference-fairness-id", f"tenant-{number}")])
        stop, sizes = threading.Event(), []

        def scrape():
            scraper = self.admin_client(gateway)
            while not stop.is_set():
                sizes.append(len(scraper.request("GET", "/metrics").body))

        scrapers = [threading.Thread(target=scrape, daemon=True) for _ in range(20)]
        for thread in scrapers:
            thread.start()
        try:
            wait_for("all have had a page", lambda: len(sizes) >= 20)
            before = len(sizes)
            prober = self.admin_client(gateway)
            for _ in range(100):
                self.assertEqual(prober.request("GET", "/healthz").status, 200)
            wait_for("they go on", lambda: len(sizes) > before)
        finally:
            stop.set()
            for thread in scrapers:
                thread.join(harness.PATIENCE)
        self.assertGreater(min(sizes), 300_000)


class AdminNames(FewConnections):
    """What its pages tell of the names that clients bring, and to whom."""

    def test_invented_fairness_ids_neither_fill_the_page_nor_stay(self):
        config = "metrics: {epp_names: both, series_idle: %s}\n"
        gateway = self.start(config % "10m")
        client = self.client(gateway)
        for number in range(600):
            headers = [("x-gateway-inference-fairness-id", f"invented-{number}")]
            self.assertEqual(client.post("/v1/completions", completion(), headers).status, 200)
        page = gateway.admin("/metrics").body
        self.assertLess(len(page), 2_000_000)
        metrics = harness.Metrics(page.decode())
        self.assertEqual(metrics.sum("llm_d_epp_request_total"), metrics.sum("inference_objective_request_total"))
        self.assertGreater(metrics.sum("llm_d_epp_request_total", fairness_id="other"), 0)
        self.assertGreater(metrics.value("penstock_metrics_folded_total"), 500)

        gateway.write_config(config % "1s" + "pin: false\naccess_log: {enabled: false}\n")
        gateway.signal(signal.SIGHUP)

        def gone():
            return b"invented-" not in gateway.admin("/metrics").body

        wait_for("their series are gone", gone)
        self.assertEqual(gateway.metrics().sum("inference_objective_request_total"), 600)  # and their model's are not
        client.post("/v1/completions", completion(), [("x-gateway-inference-fairness-id", "later")])
        wait_for("there is room again", lambda: gateway.metrics().sum("llm_d_epp_request_total", fairness_id="later") == 1)

    def test_debug_pages_show_no_ids(self):
        gateway = self.start()
        secret = "alice@example.com"
        headers = [("x-gateway-inference-fairness-id", secret), ("x-session-token", secret)]
        client = self.client(gateway)

        def kept():
            client.post("/v1/completions", {**completion(), "user": secret}, headers)
            return gateway.admin("/debug/decisions").json()["decisions"]

        decisions = wait_for("a decision is kept", kept)
        self.assertNotIn(secret, json.dumps(decisions))
        self.assertRegex(decisions[0]["inputs"]["fairness_id"], "^#[0-9a-f]+$")

    def test_from_elsewhere_details_are_hidden_until_admin_debug(self):
        address = own_address()
        if address is None:
            self.skipTest("this machine has no address but loopback")
        for debug in (False, True):
            gateway = self.start(f"admin: {{listen: '0.0.0.0:0', debug: {str(debug).lower()}}}\n", admin=None)

            def ask(path, to=address, gateway=gateway):
                client = self.client(gateway.admin_port, address=to)
                return client.request("GET", path)

            self.assertEqual(ask("/debug/decisions").status, 200 if debug else 403)
            self.assertEqual(ask("/debug/decisions", harness.LOOPBACK).status, 200)
            self.assertEqual(self.sim_.url.encode() in ask("/status").body, debug)
            for path in ("/healthz", "/readyz", "/metrics", "/"):
                self.assertEqual(ask(path).status, 200)


class AdminPortOverTls(AdminPort):
    """The same with `admin.tls`: handshakes are part of it, and what waits to be read has been encrypted."""

    def gateway(self, endpoints=(), config="", **options):  # pylint: disable=arguments-differ
        folder = E2E.directory(self)
        authority = Authority(folder)
        cert, key = authority.issue(folder, "DNS:server.test,IP:127.0.0.1")
        config += f"admin: {{tls: {{certificates: [{{cert: {cert}, key: {key}}}]}}}}\n"
        self.context = client_context(authority)
        return super().gateway(endpoints, config, admin_context=self.context, **options)

    def admin_client(self, gateway, **options):
        client = TlsClient(gateway.admin_port, self.context, **options)
        self.addCleanup(client.close)
        return client

    def test_connections_that_begin_no_handshake_give_way(self):
        gateway = self.start()
        silent = [self.client(gateway.admin_port) for _ in range(2 * self.LIMIT)]
        for client in silent[1::2]:
            try:
                client.send(b"\x16\x03\x01")  # the beginning of a record
            except OSError:
                pass  # it has given way already
        for _ in range(20):
            self.assertEqual(gateway.admin("/healthz").status, 200)
        self.assertGreater(gateway.value("penstock_admin_connections_evicted_total"), self.LIMIT)


if __name__ == "__main__":
    harness.main()
