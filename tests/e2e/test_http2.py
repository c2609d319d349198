"""HTTP/2 of clients: what holds for HTTP/1.1 holds for it, and what only it makes possible has limits."""

import os
import shutil
import signal
import subprocess

import harness
from harness import E2E, answer_bytes, chat, completion, fetch, wait_for
from tls_client import Authority, tls_port
from http2_client import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Http2,
    RawHttp2,
    block,
    frame,
    head_frame,
)

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class OverHttp2(E2E):
    def http2(self, gateway, **options):
        client = Http2(gateway.port, **options)
        self.addCleanup(client.close)
        return client

    def raw(self, gateway):
        client = RawHttp2(gateway.port)
        self.addCleanup(client.close)
        return client

    def hits(self, gateway, limit):
        return gateway.value("penstock_limit_hits_total", limit=limit)


class Requests(OverHttp2):
    def test_the_same_port_speaks_both_and_answers_the_same(self):
        gateway = self.gateway([self.sim("--instant")], access_log=True)
        gateway.wait_pods(1)
        client = self.http2(gateway)
        plain = fetch(gateway.port, "/v1/completions", "POST", completion())
        answer = client.fetch("POST", "/v1/completions", completion())
        self.assertEqual((answer.status, plain.status), (200, 200))
        self.assertEqual(answer.json()["choices"], plain.json()["choices"])
        self.assertEqual(int(answer.header("content-length")), len(answer.body))
        stream = client.fetch("POST", "/v1/chat/completions", chat(stream=True))
        self.assertTrue(stream.ended)
        self.assertTrue(stream.body.endswith(b"data: [DONE]\n\n"), stream.body[-200:])
        self.assertEqual(stream.body.count(b"data: "), 10)
        self.assertIsNone(stream.header("transfer-encoding"))
        self.assertIsNone(stream.header("connection"))
        self.assertEqual(client.fetch("HEAD", "/v1/models").body, b"")
        wait_for("the access log", lambda: len([line for line in gateway.out.all() if " protocol=HTTP/" in line]) >= 3)
        protocols = [line.split(" protocol=")[1].split(" ")[0] for line in gateway.out.all() if " protocol=" in line]
        self.assertEqual(protocols[:3], ["HTTP/1.1", "HTTP/2", "HTTP/2"])
        self.assertEqual(client.fetch("GET", "/v1/models").json()["data"][0]["id"], "sim-model")

    def test_a_hundred_streams_of_one_connection_go_on_beside_each_other(self):
        gateway = self.gateway([self.sim("--decode-ms", "2")])
        gateway.wait_pods(1)
        client = self.http2(gateway)
        streams = [client.ask("POST", "/v1/completions", completion(f"Number {i}.", 20, stream=True)) for i in range(100)]
        for stream in streams:
            self.assertTrue(client.answer(stream).body.endswith(b"data: [DONE]\n\n"))
        gateway.wait_outcomes({"ok": 100})

    def test_a_large_body_passes_its_window(self):
        fake = self.fake()
        gateway = self.gateway([fake], any_path=True)
        body = b"x" * 5_000_000
        self.assertEqual(self.http2(gateway).fetch("POST", "/upload", body).status, 200)
        self.assertEqual(fake.requests[-1].body, body)
        self.assertEqual(fake.requests[-1].header("content-length"), str(len(body)))
        self.assertIsNone(fake.requests[-1].header("te"))

    def test_errors_are_those_of_http_1(self):
        gateway = self.gateway([self.fake()], "limits: {body_bytes: 10KiB, header_bytes: 4KiB}\n")
        client = self.http2(gateway)
        cases = (
            (404, "path_not_allowed", ("GET", "/secret")),
            (400, "invalid_body", ("POST", "/v1/completions", b"{not json")),
            (413, "body_too_large", ("POST", "/v1/completions", b"x" * 20_000)),
            (431, "header_too_large", ("GET", "/v1/models", None, [("x-long", "y" * 5000)])),
            (501, "method_not_supported", ("CONNECT-X", "/v1/models")),
        )
        for status, code, request in cases:
            with self.subTest(code):
                answer = client.fetch(*request)
                self.assertEqual(answer.status, status, answer.body)
                if code != "method_not_supported":
                    self.assertEqual(answer.json()["error"]["code"], code)
        # As soon as the limit is passed, without the rest of the body.
        stream = client.ask("POST", "/v1/completions", b"x" * 20_000, ends=False)
        self.assertEqual(client.answer(stream).status, 413)
        self.assertEqual(client.fetch("GET", "/v1/models").status, 200)
        self.assertEqual(client.goaways, [])

    def test_a_websocket_is_refused(self):
        fake = self.fake()
        gateway = self.gateway([fake], any_path=True)
        asks = (
            [(":method", "CONNECT"), (":protocol", "websocket")],  # RFC 8441, which is not offered
            [(":method", "GET"), ("connection", "upgrade"), ("upgrade", "websocket")],
        )
        for fields in asks:
            raw = self.raw(gateway)
            rest = [(":scheme", "http"), (":authority", "a"), (":path", "/v1/realtime")]
            fields = sorted(fields + rest, key=lambda field: not field[0].startswith(":"))
            raw.send(frame(HEADERS, END_HEADERS, 1, block(*fields)))
            raw.read_until(lambda: raw.all(RST_STREAM) or raw.all(GOAWAY))
            self.assertNotIn(DATA, [kind for kind, stream, _ in raw.frames() if stream == 1])
        settings = b"".join(raw.all(SETTINGS))
        self.assertNotIn(8, [int.from_bytes(settings[at : at + 2], "big") for at in range(0, len(settings), 6)])
        self.assertEqual([r for r in fake.requests if "realtime" in r.path], [])

    def test_an_answer_that_breaks_ends_with_a_reset(self):
        def breaks(_, sock):
            sock.sendall(STREAM_HEAD + b"20\r\n" + b"data: {\"choices\":[{\"index\":0}]}\n" + b"\r\n")
            return False

        gateway = self.gateway([self.fake(breaks)], "resume: {enabled: false}\n")
        answer = self.http2(gateway).fetch("POST", "/v1/completions", completion(stream=True))
        self.assertEqual(answer.status, 200)
        self.assertFalse(answer.ended)
        self.assertEqual(answer.reset, 2)
        gateway.wait_outcomes({"stream_broken": 1})

    def test_a_reload_closes_the_port_to_it_and_lets_connections_go_on(self):
        gateway = self.gateway([self.sim("--instant")])
        gateway.wait_pods(1)
        client = self.http2(gateway)
        self.assertEqual(client.fetch("GET", "/v1/models").status, 200)
        gateway.write_config("http2: {enabled: false}\npin: false\naccess_log: {enabled: false}\n")
        gateway.signal(signal.SIGHUP)
        wait_for("the reload", lambda: gateway.value("penstock_config_reloads_total", result="ok") >= 1)
        self.assertEqual(client.fetch("GET", "/v1/models").status, 200)
        raw = self.raw(gateway)
        raw.read_to_end()
        self.assertTrue(raw.received.startswith(b"HTTP/1.1 505 "), raw.received[:100])


class Leaving(OverHttp2):
    def test_a_reset_ends_the_work_of_the_server_and_of_no_other(self):
        sim = self.sim("--decode-ms", "10")
        gateway = self.gateway([sim])
        gateway.wait_pods(1)
        client = self.http2(gateway)
        leaves = client.ask("POST", "/v1/completions", completion(max_tokens=100_000, stream=True))
        stays = client.ask("POST", "/v1/completions", completion("Other.", max_tokens=100, stream=True))
        client.until("both stream", lambda: all(len(client.answers[s].body) > 200 for s in (leaves, stays)))
        client.reset(leaves)
        self.assertTrue(client.answer(stays).body.endswith(b"data: [DONE]\n\n"))
        wait_for("the server is free", lambda: sim.gauge("vllm:num_requests_running") == 0, harness.SOON)
        gateway.wait_outcomes({"ok": 1, "client_gone": 1})
        self.assertEqual(sim.metrics().sum("vllm:request_success_total", finished_reason="abort"), 1)

    def test_a_connection_that_closes_ends_all_of_its_requests(self):
        sim = self.sim("--decode-ms", "10")
        gateway = self.gateway([sim])
        gateway.wait_pods(1)
        client = self.http2(gateway)
        streams = [client.ask("POST", "/v1/completions", completion(f"{i}", 100_000, stream=True)) for i in range(5)]
        client.until("all stream", lambda: all(client.answers[s].body for s in streams))
        client.close()
        wait_for("the server is free", lambda: sim.gauge("vllm:num_requests_running") == 0, harness.SOON)
        gateway.wait_outcomes({"client_gone": 5})

    def test_a_drain_sends_goaway_and_waits_for_the_streams(self):
        release, script = self.held(lambda _, sock: sock.sendall(answer_bytes()) or True)
        fake = self.fake(script)
        gateway = self.gateway([fake], "lifecycle: {drain_delay: none, drain_limit: 30s}\n")
        busy, idle = self.raw(gateway), self.raw(gateway)
        body = b'{"model":"a","prompt":"b"}'
        busy.send(head_frame(1, "/v1/completions", END_HEADERS, "POST") + frame(DATA, END_STREAM, 1, body))
        wait_for("the request is there", lambda: fake.requests)
        gateway.signal(signal.SIGTERM)
        idle.read_to_end()
        self.assertEqual(idle.goaway_error(), 0)
        busy.read_until(lambda: len(busy.all(GOAWAY)) >= 2)
        self.assertEqual([payload[:8] for payload in busy.all(GOAWAY)], [b"\x7f\xff\xff\xff" + bytes(4), b"\0\0\0\1" + bytes(4)])
        self.assertEqual(busy.all(DATA), [])
        release.set()
        busy.read_to_end()
        self.assertEqual(busy.all(DATA)[0], harness.OK_JSON)
        self.assertEqual(busy.all(RST_STREAM), [])
        self.assertEqual(gateway.wait(), 0)


class Slow(OverHttp2):
    def test_who_does_not_read_stops_the_source_and_not_others(self):
        sent = []

        def endless(request, sock):
            if request.method == "GET":
                return sock.sendall(answer_bytes()) or True
            sock.sendall(STREAM_HEAD)
            event = b"data: " + b"x" * 4000 + b"\n\n"
            chunk = b"%x\r\n%s\r\n" % (len(event), event)
            sock.settimeout(harness.PATIENCE)
            try:
                while len(sent) < 10_000:
                    sock.sendall(chunk)
                    sent.append(1)
            except OSError:
                pass
            return False

        gateway = self.gateway([self.fake(endless)], "timeouts: {client_write: 1h}\nlimits: {client_min_rate: 0}\n")
        client = self.http2(gateway, reads=False)
        slow = client.ask("POST", "/v1/completions", completion(stream=True))
        client.until("its window is used up", lambda: len(client.answers[slow].body) >= 65535)
        self.assertEqual(client.fetch("GET", "/v1/models").status, 200)
        # Until nothing moves any more: what waits is in the queue and in the sockets between here and the endpoint.
        before = None

        def at_rest():
            nonlocal before
            was, before = before, len(sent)
            return was == before

        wait_for("the endpoint has to wait", at_rest, interval=0.3)
        self.assertLess(len(sent), 10_000)
        self.assertLess(gateway.memory(), 4 * 1024 * 1024)
        client.reset(slow)
        gateway.wait_idle()

    def test_a_stream_that_is_not_read_is_given_up_and_the_connection_is_not(self):
        gateway = self.gateway([self.sim("--decode-ms", "5")], "timeouts: {client_write: 500ms}\n")
        gateway.wait_pods(1)
        client = self.http2(gateway, window=100, reads=False)
        answer = client.fetch("POST", "/v1/completions", completion(max_tokens=10_000, stream=True))
        self.assertEqual((answer.reset, len(answer.body)), (8, 100))
        gateway.wait_outcomes({"timed_out_client": 1})
        self.assertEqual(client.fetch("HEAD", "/v1/models").status, 200)

    def test_a_body_that_stops_is_answered(self):
        gateway = self.gateway([self.fake()], "timeouts: {client_body: 500ms}\n")
        client = self.http2(gateway)
        stream = client.ask("POST", "/v1/completions", b"{", ends=False)
        self.assertEqual(client.answer(stream).status, 408)
        self.assertEqual(client.fetch("GET", "/v1/models").status, 200)


class Attacks(OverHttp2):
    def flood(self, gateway, limit, frames, most=2000):
        """Sends these until the server has had enough, which it says and counts."""
        raw = self.raw(gateway)
        for i in range(most):
            if not raw.send(frames(i)):
                break
        raw.read_to_end()
        self.assertEqual(raw.goaway_error(), ENHANCE_YOUR_CALM)
        self.assertGreaterEqual(self.hits(gateway, limit), 1)
        self.assertEqual(fetch(gateway.port, "/v1/models").status, 200)
        gateway.wait_idle()

    def gateway_of_sim(self, *flags):
        self.sim_ = self.sim(*flags)
        gateway = self.gateway([self.sim_], shards=1)
        gateway.wait_pods(1)
        return gateway

    def post(self, stream):
        body = b'{"model":"sim-model","prompt":"x","max_tokens":100000}'
        return head_frame(stream, "/v1/completions", END_HEADERS, "POST") + frame(DATA, END_STREAM, stream, body)

    def test_rapid_reset(self):
        gateway = self.gateway_of_sim("--decode-ms", "10")
        self.flood(
            gateway,
            "http2_resets",
            lambda i: self.post(2 * i + 1) + frame(RST_STREAM, 0, 2 * i + 1, b"\0\0\0\x08"),
        )
        self.assertLess(gateway.value("penstock_requests_started_total"), 400)
        wait_for("the server is free", lambda: self.sim_.gauge("vllm:num_requests_running") == 0, harness.SOON)

    def test_resets_that_the_server_is_made_to_send(self):
        gateway = self.gateway_of_sim("--decode-ms", "10")
        self.flood(
            gateway,
            "http2_resets",
            lambda i: self.post(2 * i + 1) + frame(WINDOW_UPDATE, 0, 2 * i + 1, b"\x7f\xff\xff\xff"),
        )
        self.assertLess(gateway.value("penstock_requests_started_total"), 400)
        wait_for("the server is free", lambda: self.sim_.gauge("vllm:num_requests_running") == 0, harness.SOON)

    def test_floods_of_frames_that_ask_for_nothing(self):
        for frames in (
            frame(PING, 0, 0, b"12345678") * 100,
            frame(SETTINGS, 0, 0) * 100,
            frame(0x2A, 0, 0, b"unknown") * 100,
            frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 100,
        ):
            with self.subTest(kind=frames[3]):
                self.flood(self.gateway_of_sim("--instant"), "http2_idle_frames", lambda _, f=frames: f)

    def test_a_head_without_end_in_continuations(self):
        gateway = self.gateway_of_sim("--instant")
        self.flood(
            gateway,
            "http2_idle_frames",
            lambda i: frame(HEADERS, 0, 1, block((":method", "GET"))) if i == 0 else frame(CONTINUATION, 0, 1),
        )

    def test_a_small_head_that_becomes_large(self):
        gateway = self.gateway_of_sim("--instant")
        raw = self.raw(gateway)
        # A field of 4000 bytes goes into the table, and is then named by its index, again and again.
        large = b"\x40\x01x\x7f" + bytes([0x80 | (4000 - 127) & 0x7F, (4000 - 127) >> 7]) + b"y" * 4000
        fields = block((":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/v1/models"))
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, fields + large + b"\xbe" * 8000))
        raw.send(head_frame(3))
        raw.send(frame(PING, 0, 0, b"12345678"))
        self.addCleanup(raw.close)
        wait_for("both are answered", lambda: gateway.value("penstock_requests_total") >= 2)
        gateway.wait_outcomes({"client_error": 1, "ok": 1})
        self.assertEqual(self.hits(gateway, "header_bytes"), 1)
        self.assertLess(gateway.memory(), 4 * 1024 * 1024)


class Spec(OverHttp2):
    def test_h2spec(self):
        program = os.environ.get("H2SPEC") or shutil.which("h2spec")
        if not program:
            self.skipTest("h2spec is not installed (go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible)")
        folder = self.directory()
        cert, key = Authority(folder).issue(os.path.join(folder, "a"), "IP:127.0.0.1")
        gateway = self.gateway(
            [self.sim("--instant")], flags=("--listen-tls", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key)
        )
        gateway.wait_pods(1)
        # On a port that both protocols share, bytes that begin no connection of HTTP/2 get an answer of HTTP/1.1.
        self.passes(program, gateway.port, excused="Sends invalid connection preface")
        self.passes(program, tls_port(gateway), "-t", "-k")

    def passes(self, program, port, *flags, excused=None):
        run = subprocess.run(
            [program, "-h", harness.LOOPBACK, "-p", str(port), "-P", "/v1/models", "-S", "-o", "5", *flags],
            capture_output=True,
            text=True,
            timeout=harness.PATIENCE * 5,
            check=False,
        )
        failures = run.stdout[run.stdout.find("Failures:") :] if "Failures:" in run.stdout else ""
        failed = [line.strip() for line in failures.splitlines() if line.strip().startswith("×")]
        self.assertEqual([line for line in failed if not excused or excused not in line], [], run.stdout[-4000:])
        self.assertIn("tests,", run.stdout)


if __name__ == "__main__":
    harness.main()
