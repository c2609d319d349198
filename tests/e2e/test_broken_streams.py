"""Streams that an endpoint breaks in the middle: no client may take a torso for a whole answer."""

import json
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
        except ConnectionEnded:
            complete = False
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

    def test_a_stream_to_http_1_0_too(self):
        self.assertTrue(self.broken_between_events("HTTP/1.0"))

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
        gateway = self.gateway([sim])
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


if __name__ == "__main__":
    harness.main()
