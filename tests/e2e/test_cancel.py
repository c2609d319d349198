"""A client that leaves ends the model server's work at once, wherever its request is."""

import harness
from harness import E2E, Client, chat, completion, request_bytes, wait_for

LONG = "word " * 4000  # 5,000 tokens
# Nearly a minute for such a prompt, in steps of a sixth of a second.
SLOW_PREFILL = ("--prefill-tokens-per-s", "100", "--max-num-seqs", "16", "--max-num-batched-tokens", "16")


class Cancel(E2E):
    any_path = True

    def start(self, *flags, config="", **options):
        self.sim_ = self.sim(*flags)
        self.gw = self.gateway([self.sim_], config, **{"shards": 1, **options})
        self.gw.wait_pods(1)

    def load(self):
        metrics = self.sim_.metrics()
        return metrics.sum("vllm:num_requests_running"), metrics.sum("vllm:num_requests_waiting")

    def begin(self, body, path="/v1/completions"):
        client = self.client(self.gw)
        client.send(request_bytes("POST", path, body))
        return client

    def leave_in_every_way(self, begin, reached):
        """Starts a request, waits until it is where it should be, leaves; the server must be free soon: its work would take a minute."""
        ways = {"reset": Client.reset, "close": Client.close}
        for count, (name, leave) in enumerate(ways.items(), 1):
            with self.subTest(name):
                client = begin()
                wait_for("the request is where it should be", lambda c=client: reached(c))
                leave(client)
                wait_for("the server is free", lambda: self.load() == (0, 0), harness.SOON)
                self.gw.wait_outcomes({"client_gone": count})
                self.assertEqual(self.sim_.metrics().sum("vllm:request_success_total", finished_reason="abort"), count)
        self.gw.wait_idle(harness.SOON)

    def test_in_prefill(self):
        self.start(*SLOW_PREFILL)
        for stream in (False, True):
            with self.subTest(stream=stream):
                client = self.begin(completion(LONG, stream=stream))
                wait_for("it runs", lambda: self.load() == (1, 0))
                client.close()
                wait_for("the server is free", lambda: self.load() == (0, 0), timeout=harness.SOON)
        self.gw.wait_outcomes({"client_gone": 2})

    def test_in_prefill_of_a_whole_answer(self):
        self.start(*SLOW_PREFILL)
        self.leave_in_every_way(lambda: self.begin(completion(LONG)), lambda _: self.load() == (1, 0))

    def test_in_decode_of_a_stream(self):
        self.start("--decode-ms", "10")

        def streaming(client):
            client.read_head()
            return client._take(200)  # some tokens have come

        self.leave_in_every_way(lambda: self.begin(completion(max_tokens=100_000, stream=True)), streaming)

    def test_in_decode_of_a_whole_answer(self):
        self.start("--decode-ms", "10")
        self.leave_in_every_way(
            lambda: self.begin(chat(max_tokens=100_000), "/v1/chat/completions"),
            lambda _: self.sim_.gauge("vllm:num_requests_running") == 1,
        )

    def test_in_the_servers_queue(self):
        self.start("--max-num-seqs", "1", "--decode-ms", "10")
        first = self.begin(completion(max_tokens=100_000, stream=True))
        first.read_head()
        waiting = [self.begin(completion(f"waits {i}", stream=bool(i % 2))) for i in range(4)]
        wait_for("the others wait", lambda: self.load() == (1, 4))
        for client in waiting:
            client.close()
        wait_for("nobody waits", lambda: self.load() == (1, 0), timeout=harness.SOON)
        self.gw.wait_outcomes({"client_gone": 4})
        first.close()
        wait_for("the server is free", lambda: self.load() == (0, 0), timeout=harness.SOON)
        self.gw.wait_outcomes({"client_gone": 5})

    def test_others_on_the_same_server_go_on(self):
        self.start("--decode-ms", "2")
        keeper = self.begin(completion("keeps on", max_tokens=150, stream=True))
        for i in range(10):
            client = self.begin(completion(f"leaves {i}", max_tokens=100_000, stream=True))
            client.read_head()
            client.reset()
        answer = keeper.read_response()
        self.assertEqual(answer.events()[-1], "[DONE]")
        self.gw.wait_outcomes({"client_gone": 10, "ok": 1})
        wait_for("the server is free", lambda: self.load() == (0, 0), timeout=harness.SOON)

    def test_many_leave_at_the_same_time(self):
        self.start("--decode-ms", "20", "--max-num-seqs", "16", shards=2)
        clients = [self.begin(completion(f"{i}", max_tokens=100_000, stream=bool(i % 2))) for i in range(64)]
        wait_for("all are there", lambda: sum(self.load()) == 64)
        for i, client in enumerate(clients):
            (client.close if i % 3 else client.reset)()
        wait_for("the server is free", lambda: self.load() == (0, 0), timeout=harness.SOON)
        self.gw.wait_outcomes({"client_gone": 64})

    def test_the_load_reserved_is_given_back(self):
        self.start(*SLOW_PREFILL)
        client = self.begin(completion(LONG))
        wait_for("it runs", lambda: self.load() == (1, 0))
        endpoint = self.gw.status_page()["pools"][0]["endpoints"][0]
        self.assertEqual(endpoint["in_flight"], 1)
        self.assertGreater(endpoint["prefill_tokens"], 1000)
        client.close()
        self.gw.wait_idle()
        endpoint = self.gw.status_page()["pools"][0]["endpoints"][0]
        for key in ("in_flight", "decoding", "prefill_tokens", "kv_tokens"):
            self.assertEqual(endpoint[key], 0, key)

    @harness.http1_only("pipelining")
    def test_behind_a_pipelined_request(self):
        self.start("--decode-ms", "10")
        client = self.client(self.gw)
        client.send(request_bytes("POST", "/v1/completions", completion(max_tokens=100_000, stream=True)) * 3)
        client.read_head()
        client.reset()
        wait_for("the server is free", lambda: self.load() == (0, 0), timeout=harness.SOON)
        self.gw.wait_outcomes({"client_gone": 1})  # the others never began

    @harness.http1_only("pipelining")
    def test_behind_pipelined_bytes_that_nobody_reads(self):
        self.start("--fail", "slow-header=60000")
        for behind in (200, 40_000):  # what the kernel holds: a FIN behind more does not arrive
            for leave in (Client.reset, Client.close):
                client = self.client(self.gw)
                client.send(request_bytes("POST", "/v1/completions", completion()))
                more = request_bytes("POST", "/x", b"", [("Content-Length", "9000000")]) + b"a" * behind
                client.send(more)
                wait_for("it is there", lambda: self.gw.value("penstock_requests_in_flight") == 1)
                leave(client)
                wait_for("it is gone", lambda: self.gw.value("penstock_requests_in_flight") == 0, harness.SOON)
        self.gw.wait_outcomes({"client_gone": 4})
        wait_for("the memory is given back", lambda: self.gw.memory() == 0, harness.SOON)

    def test_in_the_middle_of_a_large_upload(self):
        self.start("--instant")
        for leave in (Client.reset, Client.close):
            client = self.client(self.gw)
            client.send(request_bytes("POST", "/v1/completions", b"", [("Content-Length", "20000000")]))
            client.send(b"x" * 5_000_000)
            wait_for("it is being read", lambda: self.gw.memory() > 4_000_000)
            leave(client)
            wait_for("the memory is given back", lambda: self.gw.memory() < 1_000_000, harness.SOON)
        self.gw.wait_outcomes({"client_gone": 2})
        self.assertEqual(self.sim_.metrics().sum("vllm:request_success_total"), 0)

    def test_while_a_large_body_goes_to_an_endpoint_that_does_not_read(self):
        endpoint = self.fake()
        _, endpoint.early = self.held(lambda _, __: True)
        gateway = self.gateway([endpoint], "", shards=1)
        client = self.client(gateway)
        client.send(request_bytes("POST", "/x", b"x" * 20_000_000))
        wait_for("an attempt is under way", lambda: gateway.value("penstock_endpoint_requests_in_flight") == 1)
        client.close()
        gateway.wait_outcomes({"client_gone": 1}, timeout=harness.SOON)
        wait_for("the memory is given back", lambda: gateway.memory() < 1_000_000, harness.SOON)
        wait_for("the connection is given up", lambda: gateway.value("penstock_upstream_connections") <= 1, harness.SOON)

    @harness.plain_http1_only("half-closed connections, which a TLS client of Python cannot make")
    def test_a_client_that_only_finished_sending_is_not_taken_for_gone(self):
        self.start("--decode-ms", "10")
        client = self.begin(completion(max_tokens=30))  # a third of a second: longer than the gateway's patience
        client.half_close()
        answer = client.read_response()
        self.assertEqual((answer.status, answer.complete), (200, True))
        self.gw.wait_outcomes({"ok": 1})


if __name__ == "__main__":
    harness.main()
