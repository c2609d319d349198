"""Streams that an endpoint breaks in the middle: no client may take a torso for a whole answer."""

import json
import signal
import threading

import harness
from harness import (
    E2E,
    Client,
    ConnectionEnded,
    chat,
    completion,
    hard_reset,
    in_threads,
    request_bytes,
    wait_for,
)
from test_failover import EVEN


class BrokenStreams(E2E):
    any_path = True

    def stream(self, gateway, **options):
        """The torso of a stream that must not end well."""
        client = self.client(gateway)
        with self.assertRaises(ConnectionEnded) as caught:
            client.post("/v1/chat/completions", chat(max_tokens=200, stream=True), **options)
        response = caught.exception.response
        self.assertEqual(response.status, 200)
        self.assertNotIn("[DONE]", response.events())
        return response

    def test_a_reset_in_the_middle(self):
        sim = self.sim("--instant", "--fail", "reset-after=6000")
        gateway = self.gateway([sim], EVEN, shards=1)
        response = self.stream(gateway)
        self.assertGreater(len(response.events()), 5)
        gateway.wait_outcomes({"stream_broken": 1})
        self.assertEqual(gateway.value("penstock_attempt_failures_total", reason="reset_in_body"), 1)

    def test_a_connection_that_ends_inside_a_chunk(self):
        sim = self.sim("--instant", "--fail", "truncate-chunk")
        gateway = self.gateway([sim], EVEN, shards=1)
        response = self.stream(gateway)
        # The client is inside a chunk of the endpoint: anything inserted there would be taken for the answer's text.
        self.assertNotIn(b'"error"', response.raw)
        gateway.wait_outcomes({"stream_broken": 1})
        self.assertEqual(gateway.value("penstock_attempt_failures_total", reason="closed_in_body"), 1)

    def test_a_stall_in_the_middle(self):
        sim = self.sim("--decode-ms", "1", "--fail", "stall-after=3000")
        gateway = self.gateway([sim], EVEN + "timeouts: {chunk_idle: 400ms}\n", shards=1)
        self.stream(gateway)
        gateway.wait_outcomes({"stream_broken": 1})
        self.assertEqual(gateway.value("penstock_attempt_failures_total", reason="idle_timeout"), 1)
        wait_for("the server has nothing left to do", lambda: sim.gauge("vllm:num_requests_running") == 0)

    def broken_between_events(self, version, reset=False):
        event = b'data: {"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
        relayed = threading.Event()

        def script(_, sock):
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            sock.sendall(b"%x\r\n" % len(event) + event + b"\r\n")
            relayed.wait(harness.PATIENCE)
            if reset:
                hard_reset(sock)
            return False

        gateway = self.gateway([self.fake(script)], EVEN, shards=1)
        client = self.client(gateway)
        client.send(request_bytes("POST", "/v1/chat/completions", chat(stream=True), version=version))
        response = client.read_head()
        self.assertEqual(response.status, 200)
        relayed.set()
        try:
            client._read_body(response, "POST")
            complete = True
        except ConnectionEnded as ended:
            complete = False
            self.assertEqual(ended.reset, version == "HTTP/1.0")  # where nothing else shows that it broke
        events = response.events()
        self.assertEqual(len(events), 2)
        error = json.loads(events[1])["error"]
        self.assertEqual((error["code"], error["type"]), ("stream_broken", "server_error"))
        gateway.wait_outcomes({"stream_broken": 1})
        return complete

    def test_a_stream_that_is_reset_between_events_ends_with_an_error_event(self):
        self.assertFalse(self.broken_between_events("HTTP/1.1", reset=True))

    def test_a_stream_that_is_closed_between_events_ends_with_an_error_event(self):
        self.assertFalse(self.broken_between_events("HTTP/1.1"))

    @harness.http1_only("HTTP/1.0")
    def test_a_stream_to_http_1_0_too(self):
        self.assertFalse(self.broken_between_events("HTTP/1.0"))

    @harness.http1_only("HTTP/1.0")
    def test_http_1_0_cannot_take_a_torso_for_an_answer(self):
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
        relayed = threading.Event()

        def script(_, sock):
            sock.sendall(head + b"9\r\nonly this\r\n")
            relayed.wait(harness.PATIENCE)
            return False

        gateway = self.gateway([self.fake(script)], EVEN, shards=1)
        client = self.client(gateway)
        client.send(request_bytes("GET", "/torso", version="HTTP/1.0"))
        response = client.read_head()
        self.assertEqual(response.status, 200)
        relayed.set()
        with self.assertRaises(ConnectionEnded) as caught:
            client._read_body(response, "GET")
        self.assertTrue(caught.exception.reset)
        gateway.wait_outcomes({"stream_broken": 1})

    def test_the_streams_of_a_killed_server_end_with_error_events(self):
        # The sim sends whole chunks of whole events: all streams stand between two events.
        self.assertEqual([last for _, last in self.killed_streams()], ["stream_broken"] * 8)

    def test_the_streams_of_a_killed_server_do_not_look_whole(self):
        self.assertEqual([whole for whole, _ in self.killed_streams()], [False] * 8)

    def killed_streams(self):
        sim = self.sim("--decode-ms", "5")
        gateway = self.gateway([sim], harness.AT_ONCE)
        gateway.wait_pods(1)
        started = threading.Barrier(9)

        def one(_):
            client = Client(gateway.port)
            try:
                client.send(request_bytes("POST", "/v1/completions", completion(max_tokens=100_000, stream=True)))
                response = client.read_head()
                started.wait(harness.PATIENCE)
                try:
                    client._read_body(response, "POST")
                    whole = True
                except ConnectionEnded:
                    whole = False
                return whole, json.loads(response.events()[-1]).get("error", {}).get("code", "no error event")
            finally:
                client.close()

        killer = threading.Thread(target=lambda: (started.wait(harness.PATIENCE), sim.kill()), daemon=True)
        killer.start()
        ends = in_threads(8, one)
        killer.join(harness.PATIENCE)
        gateway.wait_outcomes({"stream_broken": 8})
        return ends


EVENT = b'data: {"id":"1","object":"text_completion","choices":[{"index":0,"text":"x","finish_reason":null}]}\n\n'
CLOSE_FRAMED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class CleanEnds(E2E):
    """Streams that end, as HTTP has it, properly, but not as their API does."""

    def torso(self, head, first, last, path="/v1/completions"):
        relayed = threading.Event()

        def script(_, sock):
            sock.sendall(head + first)
            relayed.wait(harness.PATIENCE)
            sock.sendall(last)
            return head == CHUNKED

        gateway = self.gateway([self.fake(script)], EVEN, shards=1)
        client = self.client(gateway)
        client.send(request_bytes("POST", path, completion(stream=True, messages=[{"role": "user", "content": "x"}])))
        response = client.read_head()
        relayed.set()
        with self.assertRaises(ConnectionEnded):
            client._read_body(response, "POST")
        self.assertIn(b"stream_broken", response.body)
        gateway.wait_outcomes({"stream_broken": 1})
        return gateway, response

    def test_a_server_that_dies_where_only_its_end_ends_the_answer(self):
        gateway, _ = self.torso(CLOSE_FRAMED, EVENT, b"")
        self.assertEqual(gateway.value("penstock_broken_streams_total", reason="closed_in_body"), 1)

    def test_a_stream_without_a_finish_reason_and_without_done(self):
        gateway, _ = self.torso(CHUNKED, b"%x\r\n%s\r\n" % (len(EVENT), EVENT), b"0\r\n\r\n")
        self.assertEqual(gateway.value("penstock_broken_streams_total", reason="unfinished"), 1)

    def test_messages_get_their_own_errors(self):
        gateway = self.gateway([self.fake()], EVEN, shards=1)
        refused = self.client(gateway).post("/v1/messages", b'{"model": 5}', [("content-type", "application/json")])
        self.assertEqual(refused.status, 400)
        error = refused.json()
        self.assertEqual((error["type"], error["error"]["type"]), ("error", "invalid_request_error"))
        self.assertEqual(error["request_id"], refused.header("x-request-id"))
        self.assertEqual(sorted(error["error"]), ["message", "type"])

    def test_no_server_for_a_message(self):
        gateway = self.gateway(["http://127.0.0.1:1"], EVEN, shards=1)
        answer = self.client(gateway).post("/v1/messages", chat())
        self.assertEqual(answer.status // 100, 5)
        self.assertIn(answer.json()["error"]["type"], ("api_error", "overloaded_error"))


class StoppedServer(E2E):
    def test_its_streams_end_soon_after_its_probes_fail_and_no_others(self):
        stopped, other = self.sim("--decode-ms", "20"), self.sim("--decode-ms", "20")
        config = EVEN + "timeouts: {unresponsive: 1s}\nmetrics: {health_interval: 200ms, timeout: 300ms}\n"
        gateway = self.gateway([stopped, other], config, shards=1)
        gateway.wait_pods(2)
        running = lambda: stopped.gauge("vllm:num_requests_running") + other.gauge("vllm:num_requests_running")
        begun, ends = threading.Barrier(21), []

        def one(i):
            client = Client(gateway.port)
            try:
                body = completion(f"Number {i}.", max_tokens=500, stream=True)
                client.send(request_bytes("POST", "/v1/completions", body))
                response = client.read_head()
                begun.wait(harness.PATIENCE)
                try:
                    client._read_body(response, "POST")
                    ends.append((response.header("x-penstock-endpoint"), response.events()[-1]))
                except ConnectionEnded:
                    code = json.loads(response.events()[-1]).get("error", {}).get("code")
                    ends.append((response.header("x-penstock-endpoint"), code))
            finally:
                client.close()

        asking = threading.Thread(target=in_threads, args=(20, one), daemon=True)
        asking.start()
        begun.wait(harness.PATIENCE)
        self.assertEqual(running(), 20)
        stopped.signal(signal.SIGSTOP)
        try:
            broken = lambda: gateway.value("penstock_broken_streams_total", reason="probe_failed")
            wait_for("its streams have ended", lambda: broken() == 10)
            asking.join(harness.PATIENCE)
        finally:
            stopped.signal(signal.SIGCONT)
        expected = [(stopped.address, "stream_broken")] * 10 + [(other.address, "[DONE]")] * 10
        self.assertEqual(sorted(ends), sorted(expected))
        gateway.wait_outcomes({"ok": 10, "stream_broken": 10})


if __name__ == "__main__":
    harness.main()
