"""WebSocket sessions: the upgrade, both directions, back-pressure, every way to end, and every way not to begin."""

import base64
import hashlib
import os
import re
import select
import signal
import socket
import struct
import threading

import harness
from harness import E2E, PATIENCE, ConnectionEnded, answer_bytes, hard_reset, wait_for
from tls_client import Authority, TlsClient, TlsFront, client_context, tls_port

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ASKS = [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", KEY), ("sec-websocket-version", "13")]
TEXT, CLOSE, PING = 1, 8, 9
LISTENER = """
listeners:
  - {{name: secure, address: "127.0.0.1:0", protocol: https, tls: {{certificates: [{{cert: {0}, key: {1}}}]}}}}
"""


def accept_of(key):
    return base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()


def switches(request, more=""):
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_of(request.header('sec-websocket-key'))}\r\n{more}\r\n"
    ).encode()


def frame(payload, opcode=TEXT, masked=False):
    payload = payload if isinstance(payload, bytes) else payload.encode()
    size, mask_bit = len(payload), 0x80 if masked else 0
    head = bytes([0x80 | opcode])
    if size < 126:
        head += bytes([mask_bit | size])
    elif size < 65536:
        head += bytes([mask_bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([mask_bit | 127]) + struct.pack(">Q", size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    key = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


class Frames:
    """Reads frames from a function that takes bytes."""

    def __init__(self, take):
        self.take = take

    def next(self):
        first, second = self.take(2)
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(self.take(2 if size == 126 else 8), "big")
        mask = self.take(4) if second & 0x80 else None
        payload = self.take(size)
        if mask:
            payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        return first & 15, payload


def taker(sock, early=b""):
    held = [early]

    def take(size):
        while len(held[0]) < size:
            data = sock.recv(65536)
            if not data:
                raise EOFError
            held[0] += data
        taken, held[0] = held[0][:size], held[0][size:]
        return taken

    return take


def echo(request, sock):
    """A WebSocket server: answers each frame with its payload, and a Close with a Close."""
    sock.sendall(switches(request, "Sec-WebSocket-Protocol: chat\r\n"))
    frames = Frames(taker(sock))
    while True:
        opcode, payload = frames.next()
        sock.sendall(frame(payload, opcode))
        if opcode == CLOSE:
            return False


class Sessions(E2E):
    def open(self, gateway, path="/v1/realtime", headers=(), client=None):
        client = client or self.client(gateway)
        answer = client.request("GET", path, headers=[*ASKS, *headers])
        self.assertEqual(answer.status, 101, answer)
        return client, answer

    def start(self, script=echo, config=None, **options):
        endpoint = self.fake(script)
        return self.gateway([endpoint], config, **options), endpoint

    def echoes(self, client, payload):
        client.send(frame(payload, masked=True))
        opcode, back = Frames(client._take).next()
        self.assertEqual((opcode, back), (TEXT, payload if isinstance(payload, bytes) else payload.encode()))

    def close(self, client):
        client.send(frame(struct.pack(">H", 1000), CLOSE, masked=True))
        self.assertEqual(Frames(client._take).next()[0], CLOSE)
        with self.assertRaises(ConnectionEnded) as end:
            client._take(1)
        self.assertFalse(end.exception.reset)


class Served(Sessions):
    def test_a_session_from_the_handshake_to_the_close(self):
        gateway, endpoint = self.start(access_log=True)
        gateway.wait_pods(1)
        connections = gateway.value("penstock_upstream_connections")
        client, answer = self.open(gateway, "/v1/realtime?model=m", [("sec-websocket-protocol", "chat")])
        self.assertEqual(answer.header("sec-websocket-accept"), accept_of(KEY))
        self.assertEqual(answer.header("sec-websocket-protocol"), "chat")
        self.assertEqual(answer.header("upgrade"), "websocket")
        self.assertEqual(answer.header("connection"), "upgrade")
        self.assertIsNone(answer.header("transfer-encoding"))
        self.assertIsNotNone(answer.header("x-request-id"))
        seen = endpoint.requests[0]
        self.assertEqual(seen.header_all("upgrade"), ["websocket"])
        self.assertEqual(seen.header_all("connection"), ["upgrade"])
        self.assertEqual(seen.header("sec-websocket-protocol"), "chat")
        self.assertIsNotNone(seen.header("x-forwarded-for"))
        for payload in ("hello", b"x" * 70000, "again"):
            self.echoes(client, payload)
        # It counts as a running request of its endpoint for as long as it lives.
        metrics = gateway.metrics()
        self.assertEqual(metrics.sum("penstock_tunnels"), 1)
        self.assertEqual(metrics.sum("penstock_endpoint_requests_in_flight"), 1)
        self.assertEqual(metrics.sum("penstock_requests_in_flight"), 1)
        self.assertGreater(metrics.sum("penstock_tunnel_bytes_total", direction="from_client"), 70000)
        self.assertGreater(metrics.sum("penstock_tunnel_bytes_total", direction="to_client"), 70000)
        self.close(client)
        gateway.wait_outcomes({"ok": 1})
        gateway.wait_idle()
        self.assertEqual(gateway.value("penstock_tunnels"), 0)
        wait_for("its connection has closed", lambda: gateway.value("penstock_upstream_connections") <= connections)
        line = dict(re.findall(r"(\w+)=(\S+)", gateway.out.wait(r"^.*realtime.*$").group(0)))
        self.assertEqual((line["status"], line["outcome"]), ("101", "ok"), line)
        self.assertGreater(int(line["request_bytes"]), 70000, line)
        self.assertGreater(int(line["response_bytes"]), 70000, line)

    def test_bytes_before_the_101_wait_for_it(self):
        release, script = self.held(echo)
        gateway, endpoint = self.start(script)
        client = self.client(gateway)
        client.send(harness.request_bytes("GET", "/v1/realtime", headers=ASKS) + frame("early", masked=True))
        endpoint.wait_requests(1)
        client.send(frame("a bit later", masked=True))
        release.set()
        self.assertEqual(client.read_head().status, 101)
        frames = Frames(client._take)
        self.assertEqual(frames.next(), (TEXT, b"early"))
        self.assertEqual(frames.next(), (TEXT, b"a bit later"))
        self.assertNotIn(b"early", endpoint.all_bytes().split(b"\r\n\r\n")[0])
        self.close(client)

    def test_bytes_with_the_101_come_behind_it(self):
        def script(request, sock):
            sock.sendall(switches(request) + frame("welcome"))
            return Frames(taker(sock)).next() and False

        gateway, _ = self.start(script)
        client, _ = self.open(gateway)
        self.assertEqual(Frames(client._take).next(), (TEXT, b"welcome"))
        client.send(frame(b"", CLOSE, masked=True))
        self.assertEqual(client.read_until_end(), (b"", False))
        gateway.wait_outcomes({"ok": 1})

    def test_half_close_in_both_directions(self):
        seen = threading.Event()

        def script(request, sock):
            sock.sendall(switches(request))
            take = taker(sock)
            try:
                while True:
                    take(1)
            except EOFError:
                seen.set()
            sock.sendall(b"after your end" + frame(b"", CLOSE))
            return False

        gateway, _ = self.start(script)
        client, _ = self.open(gateway)
        client.send(b"abc")
        client.half_close()
        self.assertTrue(seen.wait(PATIENCE))
        self.assertEqual(client.read_until_end(), (b"after your end" + frame(b"", CLOSE), False))
        gateway.wait_idle()

    def test_any_path_that_is_allowed(self):
        gateway, _ = self.start(config='paths: {allow: ["/ws/**"]}\n')
        client, _ = self.open(gateway, "/ws/audio")
        self.echoes(client, "hi")
        self.close(client)
        self.assertEqual(self.client(gateway).request("GET", "/socket", headers=ASKS).status, 404)

    def test_another_endpoint_if_the_first_fails_before_the_101(self):
        def dies(_request, sock):
            hard_reset(sock)
            return False

        bad, good = self.fake(dies), self.fake(echo)
        gateway = self.gateway([bad, good], shards=1)
        for _ in range(3):
            client, _ = self.open(gateway)
            self.echoes(client, "hi")
            self.close(client)
        gateway.wait_outcomes({"ok": 3})

    def test_many_at_once(self):
        gateway, _ = self.start()

        def session(i):
            client = self.client(gateway)
            self.open(gateway, client=client)
            for n in range(20):
                self.echoes(client, f"{i}:{n}" * 50)
            self.close(client)

        harness.in_threads(20, session)
        gateway.wait_outcomes({"ok": 20})


class BackPressure(Sessions):
    CONFIG = "limits: {memory: 64MiB, client_min_rate: 0}\ntimeouts: {client_write: 1h}\n"
    AMOUNT = 24 * 1024 * 1024

    def held_memory(self, gateway, ended):
        """The most that the gateway held while bytes flowed until nothing moved any more."""
        most, before = 0, -1
        while not ended.wait(0.2):
            metrics = gateway.metrics()
            most = max(most, metrics.value("penstock_memory_used_bytes"))
            moved = metrics.sum("penstock_tunnel_bytes_total")
            if moved == before:
                break
            before = moved
        return most

    def test_a_client_that_does_not_read_stops_the_endpoint(self):
        done = threading.Event()

        def script(request, sock):
            sock.sendall(switches(request))
            sock.sendall(b"\x82\x7f" + struct.pack(">Q", self.AMOUNT) + b"s" * self.AMOUNT)
            done.set()
            sock.sendall(frame(b"", CLOSE))
            return Frames(taker(sock)).next() and False

        gateway, _ = self.start(script, self.CONFIG, shards=1)
        client, _ = self.open(gateway, client=self.client(gateway, receive_buffer=65536))
        self.assertLess(self.held_memory(gateway, done), 2 * 1024 * 1024)
        self.assertFalse(done.is_set())
        opcode, payload = Frames(client._take).next()
        self.assertEqual((opcode, len(payload)), (2, self.AMOUNT))
        self.assertTrue(done.wait(PATIENCE))
        client.send(frame(b"", CLOSE, masked=True))
        gateway.wait_idle()

    def test_an_endpoint_that_does_not_read_stops_the_client(self):
        release, done = threading.Event(), threading.Event()
        self.addCleanup(release.set)

        def script(request, sock):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.sendall(switches(request))
            release.wait(PATIENCE)
            opcode, payload = Frames(taker(sock)).next()
            sock.sendall(frame(f"{opcode} {len(payload)}") + frame(b"", CLOSE))
            return False

        gateway, _ = self.start(script, self.CONFIG, shards=1)
        client, _ = self.open(gateway)

        def send():
            client.send(b"\x82\x7f" + struct.pack(">Q", self.AMOUNT) + b"c" * self.AMOUNT)
            done.set()

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        self.assertLess(self.held_memory(gateway, done), 2 * 1024 * 1024)
        self.assertFalse(done.is_set())
        release.set()
        self.assertEqual(Frames(client._take).next(), (TEXT, f"2 {self.AMOUNT}".encode()))
        thread.join(PATIENCE)
        client.close()
        gateway.wait_idle()
        wait_for("memory is given back", lambda: gateway.memory() < 1024 * 1024)

    def test_a_client_that_reads_nothing_for_long(self):
        def script(request, sock):
            sock.sendall(switches(request))
            sock.sendall(frame(b"s" * self.AMOUNT))
            return False

        gateway, endpoint = self.start(script, "timeouts: {client_write: 500ms}\n", shards=1)
        self.open(gateway, client=self.client(gateway, receive_buffer=4096))
        endpoint.wait_requests(1)
        gateway.wait_outcomes({"timed_out_client": 1})


class Ends(Sessions):
    def talking(self, sockets):
        """A server that waits until its connection ends."""

        def script(request, sock):
            sock.sendall(switches(request))
            sockets.append(sock)
            try:
                while sock.recv(65536):
                    pass
                sockets.append("eof")
            except OSError:
                sockets.append("reset")
            return False

        return script

    def session(self, config=None, **options):
        sockets = []
        gateway, endpoint = self.start(self.talking(sockets), config, **options)
        client, _ = self.open(gateway)
        return gateway, endpoint, client, sockets

    def test_the_client_vanishes(self):
        gateway, _, client, sockets = self.session()
        client.reset()
        wait_for("the endpoint is told", lambda: len(sockets) > 1)
        gateway.wait_outcomes({"client_gone": 1})

    def test_the_endpoint_vanishes_and_what_it_sent_arrives(self):
        gateway, _, client, sockets = self.session()
        wait_for("the server has it", lambda: sockets)
        sockets[0].sendall(frame("last words"))
        self.assertEqual(Frames(client._take).next(), (TEXT, b"last words"))
        sockets[0].shutdown(socket.SHUT_RDWR)
        self.assertEqual(client.read_until_end(), (b"", False))
        client.close()
        gateway.wait_outcomes({"stream_broken": 1})
        self.assertEqual(gateway.value("penstock_broken_streams_total", reason="closed_in_body"), 1)

    def test_silence(self):
        gateway, _, client, sockets = self.session("timeouts: {tunnel_idle: 300ms}\n")
        client.send(frame("x", masked=True))
        bytes_left, reset = client.read_until_end()
        self.assertEqual((bytes_left, reset), (frame(struct.pack(">H", 1001), CLOSE), False))
        wait_for("the endpoint is told", lambda: len(sockets) > 1)
        client.close()
        gateway.wait_outcomes({"timed_out_client": 1})
        self.assertEqual(gateway.value("penstock_limit_hits_total", limit="tunnel_idle"), 1)

    def test_pings_keep_it(self):
        gateway, _, client, _ = self.session("timeouts: {tunnel_idle: 1s}\n")
        for _ in range(8):
            client.send(frame("", PING, masked=True))
            self.assertEqual(select.select([client.sock], [], [], 0.25)[0], [])
        client.close()
        gateway.wait_outcomes({"client_gone": 1})

    def test_a_drain_waits_for_the_session(self):
        gateway, _ = self.start(config="lifecycle: {drain_delay: 1ms, drain_limit: 10m}\n")
        client, _ = self.open(gateway)
        self.echoes(client, "before")
        gateway.signal(signal.SIGTERM)
        gateway.err.wait("draining")
        self.echoes(client, "during")
        self.close(client)
        client.close()
        self.assertEqual(gateway.wait(), 0)

    def test_the_end_of_a_drain_says_going_away(self):
        gateway, _ = self.start(config="lifecycle: {drain_delay: 1ms, drain_limit: 500ms}\n")
        client, _ = self.open(gateway)
        self.echoes(client, "before")
        gateway.signal(signal.SIGTERM)
        self.assertEqual(Frames(client._take).next(), (CLOSE, struct.pack(">H", 1001)))
        self.assertEqual(client.read_until_end()[0], b"")
        client.close()
        gateway.wait()

    def test_no_close_frame_inside_of_another_frame(self):
        def script(request, sock):
            sock.sendall(switches(request) + frame(b"x" * 1000)[:500])
            return sock.recv(1) and False

        gateway, _ = self.start(script, "timeouts: {tunnel_idle: 300ms}\n")
        client, _ = self.open(gateway)
        self.assertEqual(client.read_until_end(), (frame(b"x" * 1000)[:500], False))
        client.close()
        gateway.wait_outcomes({"timed_out_client": 1})


class Refused(Sessions):
    any_path = True

    def answers(self, text):
        return lambda request, sock: sock.sendall(text(request) if callable(text) else text) or True

    def asks(self, gateway, headers=ASKS, method="GET", version="HTTP/1.1", body=None):
        return self.client(gateway).request(method, "/v1/realtime", body, headers, version)

    def test_another_answer_is_relayed_and_ends_the_connection(self):
        for status in (200, 401, 404, 426):
            with self.subTest(status=status):
                gateway, _ = self.start(self.answers(answer_bytes(status, b"{}")))
                client = self.client(gateway)
                # What follows is never taken for a request: it may be bytes of the protocol that was refused.
                client.send(
                    harness.request_bytes("GET", "/v1/realtime", headers=ASKS)
                    + b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
                )
                answer = client.read_response()
                self.assertEqual((answer.status, answer.body), (status, b"{}"))
                self.assertEqual(answer.header("connection"), "close")
                self.assertEqual(client.read_until_end()[0], b"")
                self.assertEqual(gateway.value("penstock_requests_started_total"), 1)

    def test_a_101_that_does_not_belong_to_the_request(self):
        bad = {
            "unasked": (lambda r: switches(FakeKey()), []),
            "another key's": (lambda r: switches(FakeKey()), ASKS),
            "no accept": (lambda r: re.sub(rb"Sec-WebSocket-Accept[^\n]*\n", b"", switches(r)), ASKS),
            "another protocol": (lambda r: switches(r).replace(b"Upgrade: websocket", b"Upgrade: h2c"), ASKS),
            "two protocols": (lambda r: switches(r).replace(b"Upgrade: websocket", b"Upgrade: websocket, h2c"), ASKS),
            "no connection": (lambda r: switches(r).replace(b"Connection: Upgrade\r\n", b""), ASKS),
            "a length": (lambda r: switches(r, "Content-Length: 3\r\n"), ASKS),
        }
        for name, (text, headers) in bad.items():
            with self.subTest(name):
                gateway, endpoint = self.start(self.answers(text))
                answer = self.asks(gateway, headers)
                self.assertEqual(answer.status, 502)
                self.assertEqual(answer.json()["error"]["code"], "bad_endpoint_response")
                self.assertEqual(gateway.value("penstock_tunnels"), 0)

    def test_what_asks_for_no_websocket_is_a_plain_request(self):
        def without(name):
            return [pair for pair in ASKS if pair[0] != name]

        plain = {
            "h2c": [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABk")],
            "another token": [("connection", "upgrade"), ("upgrade", "foo/2")],
            "not in connection": [*without("connection"), ("connection", "keep-alive")],
            "no key": without("sec-websocket-key"),
            "two keys": [*ASKS, ("sec-websocket-key", KEY)],
        }
        gateway, endpoint = self.start(self.answers(answer_bytes()))
        for name, headers in plain.items():
            with self.subTest(name):
                client = self.client(gateway)
                self.assertEqual(client.request("GET", "/v1/realtime", headers=headers).status, 200)
                seen = endpoint.requests[-1]
                for field in ("upgrade", "connection", "http2-settings"):
                    self.assertEqual(seen.header_all(field), [])
                # The connection lives on: nothing but requests can follow.
                self.assertEqual(client.request("GET", "/v1/realtime").status, 200)
        for method, version, body in (("POST", "HTTP/1.1", b"{}"), ("GET", "HTTP/1.1", b"{}"), ("GET", "HTTP/1.0", None)):
            with self.subTest(method=method, version=version):
                self.assertEqual(self.asks(gateway, ASKS, method, version, body).status, 200)
                self.assertEqual(endpoint.requests[-1].header_all("upgrade"), [])

    def test_one_protocol_of_several(self):
        gateway, endpoint = self.start(echo)
        headers = [("upgrade", "h2c, WebSocket") if name == "upgrade" else (name, value) for name, value in ASKS]
        client = self.client(gateway)
        self.assertEqual(client.request("GET", "/v1/realtime", headers=headers).status, 101)
        self.assertEqual(endpoint.requests[0].header_all("upgrade"), ["websocket"])
        client.close()

    def test_the_limit_of_sessions(self):
        gateway, _ = self.start(config="limits: {tunnels_per_shard: 2}\n", shards=1)
        first, _ = self.open(gateway)
        self.open(gateway)
        answer = self.asks(gateway)
        self.assertEqual(answer.status, 503)
        self.assertEqual(answer.json()["error"]["code"], "too_many_tunnels")
        self.assertIsNotNone(answer.header("retry-after"))
        self.assertEqual(gateway.value("penstock_limit_hits_total", limit="tunnels_per_shard"), 1)
        self.close(first)
        wait_for("one has ended", lambda: gateway.value("penstock_tunnels") == 1)
        client, _ = self.open(gateway)
        self.echoes(client, "hi")
        client.close()

    def test_none_if_none_is_allowed(self):
        gateway, endpoint = self.start(config="limits: {tunnels_per_shard: 0}\n")
        self.assertEqual(self.asks(gateway).status, 503)
        self.assertEqual(endpoint.requests, [])


class FakeKey:
    """Stands for a request with another key than the client's."""

    @staticmethod
    def header(_name):
        return "AAAAAAAAAAAAAAAAAAAAAA=="


class Tls(Sessions):
    def setUp(self):
        self.folder = E2E.directory(self)
        self.authority = Authority(self.folder)
        self.certificate = self.authority.issue(os.path.join(self.folder, "server"), "DNS:server.test,IP:127.0.0.1")

    def test_on_both_sides(self):
        fake = self.fake(echo)
        front = TlsFront(fake.port, self.certificate)
        self.addCleanup(front.close)
        config = LISTENER.format(*self.certificate) + f"endpoint_tls: {{ca: {self.authority.path}}}\n"
        gateway = self.gateway([front], config)
        gateway.wait_pods(1)
        client = TlsClient(tls_port(gateway), client_context(self.authority))
        self.addCleanup(client.close)
        self.open(gateway, client=client)
        for payload in ("hello", b"y" * 300000, "again"):
            self.echoes(client, payload)
        self.close(client)
        gateway.wait_outcomes({"ok": 1})
        gateway.wait_idle()

    def test_a_client_that_ends_without_a_goodbye(self):
        gateway, _ = self.start(config=LISTENER.format(*self.certificate))
        client = TlsClient(tls_port(gateway), client_context(self.authority))
        self.open(gateway, client=client)
        self.echoes(client, "hello")
        socket.socket(fileno=client.sock.detach()).close()
        gateway.wait_outcomes({"client_gone": 1})


if __name__ == "__main__":
    harness.main()
