"""Clients that are slow, idle, many, or behind a proxy: what they may cost, and what they are told."""

import json
import os
import socket
import threading

import harness
from harness import E2E, ConnectionEnded, answer_bytes, completion, fetch, in_threads, request_bytes, wait_for

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
# A client may fall short for a second; nobody waits for anything else here.
STRICT = "limits: {client_min_rate: 1KiB}\ntimeouts: {client_rate_grace: 1s}\n"


class Slow(E2E):
    def hits(self, gateway, limit):
        return gateway.value("penstock_limit_hits_total", limit=limit)

    def logged(self, config, endpoints, **options):
        """A gateway with an access log, and a function that returns its lines once there are as many."""
        path = os.path.join(self.directory(), "access.log")
        gateway = self.gateway(
            endpoints, config + f"access_log: {{format: json, path: {path}}}\n", access_log=True, **options
        )

        def lines(count):
            def read():
                with open(path, encoding="utf-8") as file:
                    found = file.read().splitlines()
                return found if len(found) >= count else None

            return [json.loads(line) for line in wait_for(f"{count} lines", read)]

        return gateway, lines


class Rates(Slow):
    def test_a_body_that_trickles_is_ended_though_it_never_pauses(self):
        gateway, lines = self.logged(STRICT, [self.fake()])
        client = self.client(gateway)
        client.send("POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n")
        ended = threading.Event()
        self.addCleanup(ended.set)

        def trickle():
            while not ended.wait(0.05):
                try:
                    client.send("x")
                except OSError:
                    return

        threading.Thread(target=trickle, daemon=True).start()
        answer = client.read_response()
        ended.set()
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (408, "request_timeout"))
        self.assertEqual(self.hits(gateway, "client_min_rate"), 1)
        (line,) = lines(1)
        self.assertEqual((line["outcome"], line["reason"]), ("timed_out_client", "request_timeout"))
        self.assertLess(line["duration_ms"], 1000 * harness.SOON + 2000)

    def test_a_reader_that_is_too_slow_is_ended_and_the_log_says_what_it_got(self):
        size = 30_000_000
        fake = self.fake(lambda _, sock: sock.sendall(answer_bytes(body=b"x" * size)) or True)
        config = "limits: {client_min_rate: 100MiB}\ntimeouts: {client_rate_grace: 1s}\n"
        gateway, lines = self.logged(config, [fake], shards=1)
        client = self.client(gateway, receive_buffer=4096)
        client.send(request_bytes("GET", "/version"))
        head = client.read_head()
        self.assertEqual(head.status, 200)
        got = len(client.buffer)
        with self.assertRaises(ConnectionEnded):
            while True:
                client.buffer = b""
                client._fill()  # pylint: disable=protected-access
                got += len(client.buffer)
                threading.Event().wait(0.01)
        self.assertLess(got, size)
        gateway.wait_outcomes({"timed_out_client": 1})
        self.assertEqual(self.hits(gateway, "client_min_rate"), 1)
        (line,) = lines(1)
        self.assertEqual((line["reason"], line["status"]), ("read_too_slow", 200))
        self.assertLess(line["response_bytes"], size)
        self.assertGreaterEqual(line["response_bytes"], got)

    def test_slow_tokens_never_count_against_their_reader(self):
        def script(_, sock):
            sock.sendall(HEAD)
            for _ in range(8):
                data = b'data: {"choices":[{"index":0,"text":"a"}]}\n\n'
                sock.sendall(b"%x\r\n%s\r\n" % (len(data), data))
                threading.Event().wait(0.4)
            data = b'data: {"choices":[{"index":0,"text":"","finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
            sock.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))
            return True

        config = "limits: {client_min_rate: 100MiB}\ntimeouts: {client_rate_grace: 500ms}\n"
        gateway, lines = self.logged(config, [self.fake(script)])
        answer = self.client(gateway).post("/v1/completions", completion(stream=True))
        self.assertEqual(len(answer.events()), 10)
        self.assertEqual(self.hits(gateway, "client_min_rate"), 0)
        (line,) = lines(1)
        self.assertEqual((line["outcome"], line["stream"], line["finish_reason"]), ("ok", True, "stop"))
        self.assertEqual(line["response_bytes"], len(answer.body))

    def test_no_timeout_means_none(self):
        config = "timeouts: {client_idle: none, client_body: none, client_header: none, client_write: none}\n"
        gateway = self.gateway([self.fake()], config)
        client = self.client(gateway)
        for _ in range(2):
            client.send("GET /version HTT")
            threading.Event().wait(0.2)
            client.send("P/1.1\r\nhost: a\r\n\r\n")
            self.assertEqual(client.read_response().status, 200)


class Crowds(Slow):
    def test_idle_connections_give_way_oldest_first(self):
        gateway = self.gateway([self.fake()], "limits: {connections: 20}\n", shards=1)
        clients = []
        for _ in range(20):
            clients.append(self.client(gateway))
            self.assertEqual(clients[-1].request("GET", "/version").status, 200)
        for _ in range(5):
            self.assertEqual(self.client(gateway).request("GET", "/version").status, 200)
        evicted = lambda: gateway.value("penstock_client_idle_evictions_total")
        self.assertEqual(evicted(), 5)
        self.assertEqual(self.hits(gateway, "connections"), 0)
        self.assertEqual(gateway.value("penstock_client_connections"), 20)
        for client in clients[5:]:
            self.assertEqual(client.request("GET", "/version").status, 200)
        for client in clients[:5]:
            self.assertEqual(client.read_until_end(), (b"", False))

    def test_connections_that_never_ask_give_way_too(self):
        gateway = self.gateway([self.fake()], "limits: {connections: 20}\n")
        for _ in range(40):
            self.client(gateway)
        self.assertEqual(self.client(gateway).request("GET", "/version").status, 200)

    @harness.plain_http1_only("a connection that is refused is closed before the handshake")
    def test_busy_ones_stay_and_the_new_one_is_refused(self):
        release, script = self.held(lambda _, sock: sock.sendall(answer_bytes()) or True)
        gateway = self.gateway([self.fake(script)], "limits: {connections: 20}\n", shards=4)
        clients = [self.client(gateway) for _ in range(20)]
        for client in clients:
            client.send(request_bytes("GET", "/version"))
        wait_for("all are busy", lambda: gateway.value("penstock_requests_in_flight") == 20)
        for _ in range(3):
            self.assertEqual(self.client(gateway).read_response().status, 503)
        self.assertEqual(self.hits(gateway, "connections"), 3)
        release.set()
        for client in clients:
            self.assertEqual(client.read_response().status, 200)
        # An idle one of another shard gives way as well.
        for _ in range(8):
            self.assertEqual(self.client(gateway).request("GET", "/version").status, 200)

    @harness.http1_only("half a head is not sent here")
    def test_half_sent_heads_hold_their_share_and_no_more(self):
        config = "limits: {memory: 64MiB, incomplete_heads_percent: 1, header_bytes: 64KiB}\n"
        gateway = self.gateway([self.fake()], config, shards=1)  # with two, few may be on the shard of the oldest
        half = b"GET /version HTTP/1.1\r\nhost: a\r\nx-long: " + b"h" * 30_000
        slow = [self.client(gateway) for _ in range(30)]
        for client in slow:
            client.send(half)
        crowded = lambda: self.hits(gateway, "incomplete_heads")
        wait_for("the oldest give way", lambda: crowded() >= 8)
        self.assertLess(gateway.memory(), 2 << 20)
        self.assertEqual(self.client(gateway).request("GET", "/version").status, 200)
        client = self.client(gateway)
        client.send(half)
        client.send("\r\n\r\n")
        self.assertEqual(client.read_response().status, 200)
        self.assertEqual(slow[0].read_response().json()["error"]["code"], "memory_budget_exhausted")
        for client in slow:
            client.close()
        gateway.wait_idle()

    @harness.plain_http1_only("a connection that is refused is closed before the handshake")
    def test_connections_of_one_client(self):
        gateway = self.gateway([self.fake()], "limits: {connections_per_client: 3}\n")
        clients = [self.client(gateway) for _ in range(3)]
        for client in clients:
            self.assertEqual(client.request("GET", "/version").status, 200)
        extra = self.client(gateway).read_response()
        self.assertEqual((extra.status, extra.json()["error"]["code"]), (429, "too_many_client_connections"))
        self.assertIsNotNone(extra.header("retry-after"))
        self.assertEqual(self.hits(gateway, "connections_per_client"), 1)
        other = socket.create_connection(("127.0.0.1", gateway.port), source_address=("127.0.0.9", 0))
        other.sendall(request_bytes("GET", "/version"))
        self.assertIn(b" 200 ", other.recv(4096))
        other.close()
        clients.pop().close()
        wait_for("it has ended", lambda: gateway.value("penstock_client_connections") == 2)
        self.assertEqual(self.client(gateway).request("GET", "/version").status, 200)


class BehindProxies(Slow):
    PROXY = "trusted_proxies: [127.0.0.1]\n"

    def ask(self, gateway, *headers, client=None):
        return (client or self.client(gateway)).request("GET", "/version", headers=list(headers))

    def test_whose_address_counts(self):
        fake = self.fake()
        gateway, lines = self.logged(self.PROXY, [fake], shards=1)
        client = self.client(gateway)
        for sent in ("203.0.113.7", "6.6.6.6, 203.0.113.7, 127.0.0.1", "x, 2001:db8::1", "203.0.113.7, nonsense"):
            self.ask(gateway, ("x-forwarded-for", sent), client=client)
        found = [line["client"] for line in lines(4)]
        self.assertEqual(found, ["203.0.113.7", "203.0.113.7", "2001:db8::1", "127.0.0.1"])
        # Whoever wrote it, what came is forwarded, and our peer behind it.
        self.assertEqual(fake.requests[0].header("x-forwarded-for"), "203.0.113.7, 127.0.0.1")

    def test_from_others_the_field_is_not_believed(self):
        fake = self.fake()
        gateway, lines = self.logged("", [fake], shards=1)
        true, false = ("https", "http") if harness.over_tls() else ("http", "https")
        self.ask(gateway, ("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", false))
        self.assertEqual(lines(1)[0]["client"], "127.0.0.1")
        self.assertEqual(fake.requests[0].header("x-forwarded-for"), "203.0.113.7, 127.0.0.1")
        self.assertEqual(fake.requests[0].header("x-forwarded-proto"), true)

    def test_requests_of_one_client_behind_a_proxy_are_counted(self):
        release, script = self.held(lambda _, sock: sock.sendall(answer_bytes()) or True)
        gateway = self.gateway([self.fake(script)], self.PROXY + "limits: {connections_per_client: 2}\n")
        one, other = [("x-forwarded-for", "203.0.113.7")], [("x-forwarded-for", "203.0.113.8")]
        held = [self.client(gateway) for _ in range(4)]
        for client, headers in zip(held, (one, one, other, [])):
            client.send(request_bytes("GET", "/version", headers=headers))
        wait_for("they wait", lambda: gateway.value("penstock_requests_in_flight") == 4)
        refused = self.ask(gateway, *one)
        self.assertEqual((refused.status, self.hits(gateway, "connections_per_client")), (429, 1))
        release.set()
        for client in held:
            self.assertEqual(client.read_response().status, 200)
        self.assertEqual(self.ask(gateway, *one).status, 200)

    def test_who_is_told_about_the_inside(self):
        fake = self.fake()
        explain = ("x-penstock-explain", "1")
        via = ("x-forwarded-for", "203.0.113.7")

        def told(config, *headers):
            gateway = self.gateway([fake], config)
            gateway.wait_pods(1)
            answer = self.client(gateway).request("POST", "/v1/completions", completion(), [explain, *headers])
            self.assertEqual(answer.status, 200)
            return tuple(answer.header(name) is not None for name in ("x-penstock-endpoint", "x-penstock-explain"))

        self.assertEqual(told(""), (True, True))
        self.assertEqual(told("", via), (False, False))  # behind a proxy that nobody vouches for
        self.assertEqual(told(self.PROXY, via), (False, False))
        self.assertEqual(told(self.PROXY, ("x-forwarded-for", "10.1.2.3")), (True, True))
        self.assertEqual(told("identity: {trusted: []}\n"), (False, False))
        self.assertEqual(told("identity: {endpoint_header: never, explain: always}\n", via), (False, True))
        self.assertEqual(told("identity: {endpoint_header: always, explain: never}\n", via), (True, False))
        # Errors of the gateway are answers as well.
        fake.script = lambda _, sock: False
        gateway = self.gateway([fake], "identity: {endpoint_header: never}\n")
        gateway.wait_pods(1)
        answer = self.client(gateway).post("/v1/completions", completion())
        self.assertIn(answer.status, (502, 503))
        self.assertIsNone(answer.header("x-penstock-endpoint"))


class AccessLogFields(Slow):
    TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

    def test_what_a_line_says_of_flow_and_trace(self):
        gateway, lines = self.logged("", [self.sim("--instant")], shards=1)
        gateway.wait_pods(1)
        client = self.client(gateway)
        headers = [("traceparent", f"00-{self.TRACE}-00f067aa0ba902b7-01"), ("x-llm-d-inference-fairness-id", "team-a")]
        client.post("/v1/completions?api_key=secret", completion(max_tokens=2), headers)
        client.post("/v1/completions", completion(max_tokens=2), [("traceparent", "00-nonsense")])
        first, second = lines(2)
        self.assertEqual((first["trace_id"], first["fairness_id"], first["priority"]), (self.TRACE, "team-a", 0))
        self.assertEqual((first["path"], first["finish_reason"], first["stream"]), ("/v1/completions", "length", False))
        self.assertEqual(second["trace_id"], "")

    def test_queries_are_written_if_asked_for(self):
        path = os.path.join(self.directory(), "access.log")
        config = f"access_log: {{format: json, path: {path}, query: true}}\n"
        gateway = self.gateway([self.fake()], config, access_log=True)
        self.client(gateway).request("GET", "/version?a=1")

        def read():
            with open(path, encoding="utf-8") as file:
                return file.read()

        self.assertEqual(json.loads(wait_for("a line", read))["path"], "/version?a=1")

    def test_numbers_in_the_operators_log_are_numbers(self):
        gateway = self.gateway([self.fake()], "log: {format: json}\n")
        line = next(line for line in gateway.err.all() if '"serving"' in line)
        serving = json.loads(line)
        self.assertIsInstance(serving["shards"], int)
        self.assertIsInstance(serving["memory_budget"], int)
        self.assertIsInstance(serving["policy"], str)


class MemoryGoesBack(Slow):
    def resident(self, gateway):
        with open(f"/proc/{gateway.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def test_after_a_load_of_large_bodies(self):
        release, script = self.held(lambda _, sock: sock.sendall(answer_bytes()) or True)
        gateway = self.gateway([self.fake(script)], "")
        with open(f"/proc/{gateway.pid}/maps", encoding="ascii", errors="replace") as maps:
            if "san.so" in maps.read():
                self.skipTest("a sanitizer's allocator keeps what was freed")
        before = self.resident(gateway)
        body = completion(prompt="a" * (1 << 20), max_tokens=1)
        threads = threading.Thread(target=in_threads, args=(150, lambda _: self.post_and_close(gateway, body)))
        threads.start()
        arrived = lambda: gateway.value("penstock_requests_in_flight") == 150
        wait_for("all are there", arrived, 2 * harness.PATIENCE, interval=0.5)
        under_load = self.resident(gateway)
        self.assertGreater(under_load, before + (150 << 20))
        release.set()
        threads.join()
        # The allocator keeps the freed parts of what is still partly in use, which differ from run to run.
        enough = before + (under_load - before) // 2
        wait_for("memory is back", lambda: self.resident(gateway) < enough, 10 + harness.SOON)

    def post_and_close(self, gateway, body):
        return fetch(gateway.port, "/v1/completions", "POST", body)


class ImplausibleMetrics(Slow):
    def test_a_cache_that_no_engine_has_does_not_grow_the_index(self):
        fake = self.fake()

        def poll(request, sock):
            if request.path == "/metrics":
                text = b'vllm:num_requests_running 0\nvllm:cache_config_info{block_size="1",num_gpu_blocks="4000000000"} 1\n'
                sock.sendall(answer_bytes(body=text, content_type="text/plain"))
            else:
                sock.sendall(fake._poll_answer(request))  # pylint: disable=protected-access

        fake.poll_script = poll
        gateway = self.gateway([fake], "metrics: {idle_interval: 50ms}\n")
        read = lambda: gateway.value("penstock_scrapes_implausible_total")
        wait_for("the page is read often", lambda: read() >= 5)
        entries = lambda: gateway.value("penstock_prefix_index_entries")
        self.assertEqual(entries(), 1 << 22)
        said = [line for line in gateway.err.all() if "a KV cache that no engine has" in line]
        self.assertEqual(len(said), 1)


if __name__ == "__main__":
    harness.main()
