"""HTTP/1.1 as clients and endpoints really speak it: framing both ways, ambiguity refused, limits kept."""

import json
import select
import socket
import threading

import harness
from harness import (
    E2E,
    Client,
    ConnectionEnded,
    answer_bytes,
    chunked,
    hard_reset,
    in_threads,
    request_bytes,
    wait_for,
)

# An endpoint that misbehaves on purpose is not to be ejected for it.
TOLERANT = "ejection: {consecutive_failures: 1000}\nretry: {attempts: 1}\n"


def echo_path(request, sock):
    """Answers with what was asked for, so that answers can be told apart."""
    body = f"{request.method} {request.path} {len(request.body)}".encode()
    sock.sendall(answer_bytes(body=b"" if request.method == "HEAD" else body, content_type="text/plain"))
    return True


class WithEndpoint(E2E):
    """A gateway before one scripted endpoint, for all tests of a class."""

    any_path = True
    config = TOLERANT

    @classmethod
    def setUpClass(cls):
        cls.endpoint = E2E.fake(cls)
        cls.gw = E2E.gateway(cls, [cls.endpoint], cls.config, shards=1)

    def setUp(self):
        self.endpoint.script = echo_path
        self.endpoint.early = None
        del self.endpoint.requests[:]

    def connect(self, **options):
        return self.client(self.gw, **options)

    def serve(self, data, keep=True):
        """From now on the endpoint answers with these bytes; with `keep` unset it then closes."""

        def script(_, sock):
            sock.sendall(data)
            return keep

        self.endpoint.script = script

    def assert_ends(self, client):
        rest, _ = client.read_until_end()
        self.assertEqual(rest, b"")


class Requests(WithEndpoint):
    def test_a_connection_serves_many_requests(self):
        client = self.connect()
        for i in range(20):
            answer = client.request("GET", f"/n/{i}")
            self.assertEqual(answer.body, f"GET /n/{i} 0".encode())
            self.assertIsNone(answer.header("connection"))

    def test_connections_to_the_endpoint_are_used_again(self):
        self.connect().request("GET", "/warm")
        before = self.endpoint.connections
        for i in range(10):
            self.connect().request("GET", f"/{i}")
        self.assertEqual(self.endpoint.connections, before)

    @harness.http1_only("pipelining")
    def test_pipelined_requests_are_answered_in_order(self):
        client = self.connect()
        wire = b"".join(
            request_bytes("POST", f"/p/{i}", "x" * (i * 100)) if i % 2 else request_bytes("GET", f"/p/{i}")
            for i in range(16)
        )
        client.send(wire)
        for i in range(16):
            expected = f"POST /p/{i} {i * 100}" if i % 2 else f"GET /p/{i} 0"
            self.assertEqual(client.read_response().body, expected.encode())

    @harness.plain_http1_only("pipelining, and a TLS socket of Python is not for two threads at a time")
    def test_more_is_pipelined_than_the_gateway_keeps(self):
        client = self.connect()
        count, size = 60, 20_000
        wire = b"".join(request_bytes("POST", f"/p/{i}", b"y" * size) for i in range(count))
        sender = threading.Thread(target=client.send, args=(wire,), daemon=True)
        sender.start()
        for i in range(count):
            self.assertEqual(client.read_response().body, f"POST /p/{i} {size}".encode())
        sender.join(harness.PATIENCE)
        self.assertFalse(sender.is_alive())

    def test_a_chunked_body_arrives_with_its_length(self):
        pieces = [b"a", b"bc" * 700, b"\r\n0\r\n\r\n", b"z" * 70_000]
        client = self.connect()
        client.send(request_bytes("POST", "/c", b"", [("Transfer-Encoding", "chunked")]) + chunked(*pieces))
        self.assertEqual(client.read_response().status, 200)
        seen = self.endpoint.requests[-1]
        self.assertEqual(seen.body, b"".join(pieces))
        self.assertEqual(seen.header_all("content-length"), [str(len(seen.body))])
        self.assertEqual(seen.header_all("transfer-encoding"), [])

    @harness.http1_only("chunks")
    def test_chunk_extensions_and_trailers_of_a_request_go_no_further(self):
        client = self.connect()
        body = b"3;a=b\r\nabc\r\n0;last\r\nX-Trailer: 1\r\n\r\n"
        headers = [("Transfer-Encoding", "chunked"), ("Trailer", "X-Trailer")]
        client.send(request_bytes("POST", "/t", b"", headers) + body)
        self.assertEqual(client.read_response().status, 200)
        seen = self.endpoint.requests[-1]
        self.assertEqual(seen.body, b"abc")
        self.assertEqual(seen.header_all("x-trailer") + seen.header_all("trailer"), [])
        self.assertEqual(client.request("GET", "/next").body, b"GET /next 0")

    def test_a_request_may_come_byte_by_byte(self):
        in_chunks = request_bytes("POST", "/slow", b"", [("Transfer-Encoding", "chunked")]) + chunked("ab", "cde")
        for wire, expected in [
            (request_bytes("POST", "/slow", b"12345"), b"POST /slow 5"),
            (in_chunks, b"POST /slow 5"),
            (b"\r\n" + request_bytes("GET", "/slow"), b"GET /slow 0"),
        ]:
            client = self.connect()
            for i in range(len(wire)):
                client.send(wire[i : i + 1])
            self.assertEqual(client.read_response().body, expected)

    def test_large_bodies_arrive_whole(self):
        body = bytes(i * 7 % 251 for i in range(65_536)) * 64  # 4 MiB
        answer = self.connect().post("/large", body, [("Content-Type", "application/octet-stream")])
        self.assertEqual(answer.status, 200)
        self.assertEqual(self.endpoint.requests[-1].body, body)

    def test_expect_100_continue_is_answered(self):
        client = self.connect()
        client.send(request_bytes("POST", "/e", b"", [("Expect", "100-continue"), ("Content-Length", "4")]))
        interim = client.read_head()
        self.assertEqual(interim.status, 100)
        self.assertEqual(self.endpoint.requests, [])
        client.send(b"body")
        self.assertEqual(client.read_response().body, b"POST /e 4")
        self.assertEqual(self.endpoint.requests[-1].header_all("expect"), [])

    def test_head_has_the_head_only(self):
        self.serve(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1234\r\n\r\n")
        client = self.connect()
        for _ in range(2):
            answer = client.request("HEAD", "/h")
            self.assertEqual((answer.status, answer.header("content-length"), answer.body), (200, "1234", b""))
        self.assertEqual(self.endpoint.requests[-1].method, "HEAD")
        self.serve(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        self.assertEqual(client.request("HEAD", "/h").status, 200)
        self.endpoint.script = echo_path
        self.assertEqual(client.request("GET", "/next").body, b"GET /next 0")

    @harness.http1_only("HTTP/1.0")
    def test_http_1_0_closes_unless_asked_to_keep(self):
        client = self.connect()
        answer = client.request("GET", "/old", version="HTTP/1.0")
        self.assertEqual((answer.body, answer.header("connection")), (b"GET /old 0", "close"))
        self.assert_ends(client)
        client = self.connect()
        for i in range(3):
            answer = client.request("GET", f"/kept/{i}", headers=[("Connection", "keep-alive")], version="HTTP/1.0")
            self.assertEqual((answer.body, answer.header("connection")), (f"GET /kept/{i} 0".encode(), "keep-alive"))

    @harness.http1_only("HTTP/1.0")
    def test_http_1_0_without_host(self):
        client = self.connect()
        client.send(b"GET /nohost HTTP/1.0\r\n\r\n")
        self.assertEqual(client.read_response().body, b"GET /nohost 0")
        self.assertEqual(self.endpoint.requests[-1].header_all("host"), [self.endpoint.address])

    @harness.http1_only("Connection: close")
    def test_connection_close_closes(self):
        client = self.connect()
        answer = client.request("GET", "/bye", headers=[("Connection", "close")])
        self.assertEqual((answer.body, answer.header("connection")), (b"GET /bye 0", "close"))
        self.assert_ends(client)

    @harness.plain_http1_only("half-closed connections, which a TLS client of Python cannot make")
    def test_a_client_that_has_finished_sending_gets_its_answer(self):
        client = self.connect()
        client.send(request_bytes("POST", "/half", b"abc"))
        client.half_close()
        answer = client.read_response()
        self.assertEqual(answer.body, b"POST /half 3")
        self.assert_ends(client)

    @harness.plain_http1_only("half-closed connections, which a TLS client of Python cannot make")
    def test_a_half_closed_client_gets_a_slow_answer_too(self):
        release, self.endpoint.script = self.held(echo_path)
        client = self.connect()
        client.send(request_bytes("GET", "/half-slow"))
        client.half_close()
        probe = client.read_head()  # the gateway's question whether anybody is still there
        release.set()
        self.assertEqual(probe.status, 100)
        self.assertEqual(client.read_response().body, b"GET /half-slow 0")
        self.assert_ends(client)

    @harness.plain_http1_only("half-closed connections, which a TLS client of Python cannot make")
    def test_a_client_that_leaves_in_the_middle_of_its_request_reaches_nobody(self):
        before = self.gw.outcomes().get("client_gone", 0)
        for wire in (request_bytes("POST", "/torn", b"abcdef")[:-2], b"POST /torn HTTP/1.1\r\nhost: a\r\ncontent-le"):
            client = self.connect()
            client.send(wire)
            client.half_close()
            client.read_until_end()
        wait_for("the torn request is counted", lambda: self.gw.outcomes().get("client_gone", 0) == before + 1)
        self.assertEqual(self.endpoint.requests, [])


class Answers(WithEndpoint):
    def test_an_answer_until_close_is_chunked_for_http_1_1(self):
        self.serve(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n" + b"until the end " * 5000, keep=False)
        client = self.connect()
        for _ in range(2):
            answer = client.request("GET", "/")
            self.assertTrue(answer.complete)
            self.assertEqual(answer.body, b"until the end " * 5000)
            self.assertEqual(answer.header("transfer-encoding"), "chunked")

    def test_an_empty_answer_until_close(self):
        self.serve(b"HTTP/1.1 200 OK\r\n\r\n", keep=False)
        client = self.connect()
        for _ in range(2):
            answer = client.request("GET", "/")
            self.assertEqual((answer.status, answer.body, answer.complete), (200, b"", True))

    @harness.http1_only("HTTP/1.0")
    def test_answers_to_http_1_0_end_with_the_connection(self):
        for wire, keep in [
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunked("some ", "text"), True),
            (b"HTTP/1.1 200 OK\r\n\r\nsome text", False),
        ]:
            self.serve(wire, keep)
            client = self.connect()
            client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            answer = client.read_response()
            self.assertEqual(answer.body, b"some text")
            self.assertEqual(answer.header_all("transfer-encoding"), [])
            self.assertEqual(answer.header("connection"), "close")

    def test_an_answer_of_http_1_0(self):
        self.serve(b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nold")
        client = self.connect()
        for _ in range(2):
            answer = client.request("GET", "/")
            self.assertEqual((answer.version, answer.body), ("HTTP/1.1", b"old"))

    @harness.http1_only("chunks")
    def test_chunks_trailers_and_extensions_of_an_answer_are_relayed(self):
        body = b"5;note=x\r\nhello\r\n0\r\nX-Checksum: 42\r\n\r\n"
        self.serve(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body)
        client = self.connect()
        answer = client.request("GET", "/")
        self.assertEqual((answer.raw, answer.trailers), (body, [("X-Checksum", "42")]))
        self.assertEqual(client.request("GET", "/").body, b"hello")

    def test_trailers_of_an_answer_that_end_at_this_hop_go_no_further(self):
        hop = b"Connection: close\r\nkeep-alive: x\r\nTE: x\r\nTrailer: x\r\nUpgrade: x\r\nProxy-Authenticate: x\r\nMine: 1\r\n"
        body = b"5\r\nhello\r\n0\r\nX-Checksum: 42\r\n" + hop + b"X-Last: 1\r\n\r\n"
        head = b"HTTP/1.1 200 OK\r\nconnection: mine\r\ntransfer-encoding: chunked\r\n\r\n"
        for cut in (0, 1, 40, len(body) - 1):

            def script(_, sock, cut=cut):
                sock.sendall(head + body[: len(body) - cut])
                sock.sendall(body[len(body) - cut :])
                return True

            self.endpoint.script = script
            client = self.connect()
            for _ in range(2):  # the connection goes on
                answer = client.request("GET", "/")
                self.assertEqual(answer.body, b"hello")
                trailers = [(name.lower(), value) for name, value in answer.trailers]
                self.assertEqual(trailers, [("x-checksum", "42"), ("x-last", "1")])

    def test_trailers_of_an_answer_that_speak_of_framing_break_it(self):
        for line in (b"Content-Length: 5", b"transfer-encoding: chunked", b"Host: a"):
            self.serve(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n" + line + b"\r\n\r\n")
            with self.assertRaises(harness.ConnectionEnded) as caught:
                self.connect().request("GET", "/")
            self.assertNotIn(b"X: y", caught.exception.response.raw)

    def test_an_answer_may_come_byte_by_byte(self):
        def script(_, sock):
            for byte in b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunked("drop", "by drop"):
                sock.sendall(bytes([byte]))
            return True

        self.endpoint.script = script
        self.assertEqual(self.connect().request("GET", "/").body, b"dropby drop")

    def test_answers_without_a_body(self):
        client = self.connect()
        for wire in (
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\nabc",  # which must not be there
            b"HTTP/1.1 304 Not Modified\r\netag: a\r\ncontent-length: 99\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ):
            self.serve(wire)
            answer = client.request("GET", "/")
            self.assertEqual((str(answer.status), answer.body), (wire[9:12].decode(), b""))
            if answer.status == 204:
                self.assertIsNone(answer.header("content-length"))
        self.endpoint.script = echo_path
        self.assertEqual(client.request("GET", "/next").body, b"GET /next 0")

    def test_interim_answers_are_not_taken_for_the_answer(self):
        early_hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
        self.serve(b"HTTP/1.1 100 Continue\r\n\r\n" + early_hints + answer_bytes(body=b"real"))
        self.assertEqual(self.connect().request("GET", "/").body, b"real")

    def test_an_answer_that_comes_before_the_body_was_taken(self):
        def early(_, sock):
            sock.sendall(answer_bytes(413, b"too much for me", [("Connection", "close")], "text/plain"))
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
            return True

        self.endpoint.early = early
        answer = self.connect().post("/early", b"x" * 8_000_000)
        self.assertEqual((answer.status, answer.body), (413, b"too much for me"))

    def test_an_answer_followed_by_a_reset_of_the_rest_of_the_body(self):
        def early(_, sock):
            sock.sendall(answer_bytes(413, b"too much for me", [("Connection", "close")], "text/plain"))
            sock.recv(1)  # what is left unread turns the close into RST
            return True

        self.endpoint.early = early
        for _ in range(5):
            answer = self.connect().post("/early", b"x" * 8_000_000)
            # RST may destroy the answer on its way to the gateway, but not turn into a hang or a false success.
            self.assertIn(answer.status, (413, 502))

    def test_bytes_behind_an_answer_go_to_nobody(self):
        self.serve(answer_bytes(body=b"first") + answer_bytes(body=b"forged"))
        client = self.connect()
        for _ in range(3):
            self.assertEqual(client.request("GET", "/").body, b"first")
        if not harness.over_http2():
            client.half_close()
            self.assertEqual(client.read_until_end()[0], b"")

    def test_answers_that_are_not_http_become_502(self):
        cases = {
            "garbage": b"this is not HTTP\r\n\r\n",
            "length and coding": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc",
            "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
            "signed length": b"HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\nabc",
            "unknown coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc",
            "folded field": b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 0\r\n\r\n",
            "bare LF": b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
            "status of two digits": b"HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/2": b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
            "NUL": b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n",
            "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
            "nothing but a close": b"",
        }
        for name, wire in cases.items():
            with self.subTest(name):
                self.serve(wire, keep=False)
                client = self.connect()
                answer = client.request("GET", "/")
                self.assertEqual((answer.status, answer.json()["error"]["type"]), (502, "server_error"))
                self.endpoint.script = echo_path
                self.assertEqual(client.request("GET", "/next").body, b"GET /next 0")

    def test_a_torn_answer_is_never_complete(self):
        head = b"HTTP/1.1 200 OK\r\n"
        cases = {
            "length": head + b"content-length: 100\r\n\r\nonly this",
            "in a chunk": head + b"transfer-encoding: chunked\r\n\r\n20\r\nonly this",
            "between chunks": head + b"transfer-encoding: chunked\r\n\r\n4\r\nonly\r\n",
            "bad chunk": head + b"transfer-encoding: chunked\r\n\r\n4\r\nonly\r\nzz\r\n",
        }
        for name, wire in cases.items():
            for reset in (False, True):
                with self.subTest(name, reset=reset):
                    received = threading.Event()

                    def script(_, sock, wire=wire, reset=reset, received=received):
                        sock.sendall(wire)
                        if reset:
                            received.wait(harness.PATIENCE)  # so that RST does not destroy it
                            hard_reset(sock)
                        return False

                    self.endpoint.script = script
                    client = self.connect()
                    client.send(request_bytes("GET", "/torn"))
                    response = client.read_head()
                    self.assertEqual(response.status, 200)
                    received.set()
                    with self.assertRaises(ConnectionEnded):
                        client._read_body(response, "GET")
        self.gw.wait_idle()


HOST = b"Host: a\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def post(*lines, body=b""):
    return b"POST /m HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def chunks(body):
    return post(b"Transfer-Encoding: chunked", body=body)


# What no two programs read alike, or nobody should read at all. The statuses are what the gateway must answer with.
MALFORMED = {
    "length before coding": (400, post(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    "coding before length": (400, post(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"0\r\n\r\n")),
    "two lengths that agree": (400, post(b"Content-Length: 4", b"Content-Length: 4", body=b"abcd")),
    "two lengths that differ": (400, post(b"Content-Length: 4", b"Content-Length: 0", body=b"abcd")),
    "list of lengths": (400, post(b"Content-Length: 4, 4", body=b"abcd")),
    "length with plus": (400, post(b"Content-Length: +4", body=b"abcd")),
    "negative length": (400, post(b"Content-Length: -4", body=b"abcd")),
    "hexadecimal length": (400, post(b"Content-Length: 0x4", body=b"abcd")),
    "length in two words": (400, post(b"Content-Length: 4 4", body=b"abcd")),
    "empty length": (400, post(b"Content-Length:", body=b"abcd")),
    "length that overflows": (400, post(b"Content-Length: 18446744073709551620", body=b"abcd")),
    "chunked twice in a list": (400, post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n")),
    "chunked in two fields": (400, post(*[b"Transfer-Encoding: chunked"] * 2, body=b"0\r\n\r\n")),
    "chunked not last": (400, post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n")),
    "empty coding": (400, post(b"Transfer-Encoding:", body=b"0\r\n\r\n")),
    "coding with vertical tab": (400, post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n")),
    "unknown coding": (501, post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    "misspelled coding": (501, post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n")),
    "quoted coding": (501, post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n")),
    "identity": (501, post(b"Transfer-Encoding: identity", b"Content-Length: 4", body=b"abcd")),
    "coding in HTTP/1.0": (400, b"POST /m HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "blank before the colon": (400, post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n")),
    "tab before the colon": (400, post(b"Content-Length\t: 4", body=b"abcd")),
    "folded field": (400, post(b"X-A: b", b" Content-Length: 4", body=b"abcd")),
    "first field indented": (400, b"GET /m HTTP/1.1\r\n Host: a\r\n\r\n"),
    "bare LF": (400, b"GET /m HTTP/1.1\nHost: a\n\n"),
    "bare LF within": (400, b"GET /m HTTP/1.1\r\nHost: a\r\nX-A: b\nX-C: d\r\n\r\n"),
    "bare CR in a value": (400, b"GET /m HTTP/1.1\r\nHost: a\r\nX-A: b\rTransfer-Encoding: chunked\r\n\r\n"),
    "NUL in a value": (400, b"GET /m HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n"),
    "control character in a value": (400, b"GET /m HTTP/1.1\r\nHost: a\r\nX-A: b\x01c\r\n\r\n"),
    "no host": (400, b"GET /m HTTP/1.1\r\nX-A: b\r\n\r\n"),
    "two hosts": (400, b"GET /m HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    "list of hosts": (400, b"GET /m HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    "host with userinfo": (400, b"GET /m HTTP/1.1\r\nHost: x@a\r\n\r\n"),
    "host with path": (400, b"GET /m HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "port that is no number": (400, b"GET /m HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    "host with two ports": (400, b"GET /m HTTP/1.1\r\nHost: a:1:2\r\n\r\n"),
    "host with an open bracket": (400, b"GET /m HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    "host with empty brackets": (400, b"GET /m HTTP/1.1\r\nHost: []:80\r\n\r\n"),
    "host with brackets within": (400, b"GET /m HTTP/1.1\r\nHost: a[::1]\r\n\r\n"),
    "host behind brackets": (400, b"GET /m HTTP/1.1\r\nHost: [::1]a\r\n\r\n"),
    "target with a port that is no number": (400, b"GET http://a:b/m HTTP/1.1\r\n" + HOST + b"\r\n"),
    "HTTP/0.9": (400, b"GET /m\r\n\r\n"),
    "HTTP/1.2": (505, b"GET /m HTTP/1.2\r\n" + HOST + b"\r\n"),
    "HTTP/2.0": (505, b"GET /m HTTP/2.0\r\n" + HOST + b"\r\n"),
    "HTTP/2 preface behind an empty line": (505, b"\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "version in lower case": (400, b"GET /m http/1.1\r\n" + HOST + b"\r\n"),
    "version of three digits": (400, b"GET /m HTTP/1.10\r\n" + HOST + b"\r\n"),
    "no target": (400, b"GET  HTTP/1.1\r\n" + HOST + b"\r\n"),
    "blank in the target": (400, b"GET /m m HTTP/1.1\r\n" + HOST + b"\r\n"),
    "tab for a blank": (400, b"GET\t/m\tHTTP/1.1\r\n" + HOST + b"\r\n"),
    "control character in the target": (400, b"GET /m\x01 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "asterisk without OPTIONS": (400, b"GET * HTTP/1.1\r\n" + HOST + b"\r\n"),
    "asterisk and more": (400, b"OPTIONS *m HTTP/1.1\r\n" + HOST + b"\r\n"),
    "target of another protocol": (400, b"GET ftp://a/m HTTP/1.1\r\n" + HOST + b"\r\n"),
    "target with a fragment": (400, b"GET /x#frag HTTP/1.1\r\n" + HOST + b"\r\n"),
    "absolute target with a fragment": (400, b"GET http://a/x?q#frag HTTP/1.1\r\n" + HOST + b"\r\n"),
    "target with userinfo": (400, b"GET http://x@a/m HTTP/1.1\r\n" + HOST + b"\r\n"),
    "target without a host": (400, b"GET http:///m HTTP/1.1\r\n" + HOST + b"\r\n"),
    "8-bit target": (400, b"GET /m\xff HTTP/1.1\r\n" + HOST + b"\r\n"),
    "unknown method": (501, b"FROB /m HTTP/1.1\r\n" + HOST + b"\r\n"),
    "method in lower case": (501, b"get /m HTTP/1.1\r\n" + HOST + b"\r\n"),
    "method that is no token": (400, b"GE(T /m HTTP/1.1\r\n" + HOST + b"\r\n"),
    "field name with a blank": (400, b"GET /m HTTP/1.1\r\nHost: a\r\nX A: b\r\n\r\n"),
    "empty field name": (400, b"GET /m HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
    "field without a colon": (400, b"GET /m HTTP/1.1\r\nHost: a\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
    "chunk size with 0x": (400, chunks(b"0x4\r\nabcd\r\n0\r\n\r\n")),
    "negative chunk size": (400, chunks(b"-4\r\nabcd\r\n0\r\n\r\n")),
    "chunk size that overflows": (400, chunks(b"10000000000000004\r\nabcd\r\n0\r\n\r\n")),
    "chunk size with a blank": (400, chunks(b"4 \r\nabcd\r\n0\r\n\r\n")),
    "empty chunk size": (400, chunks(b"\r\nabcd\r\n0\r\n\r\n")),
    "chunk longer than its size": (400, chunks(b"3\r\nabcd\r\n0\r\n\r\n")),
    "chunk that ends with LF": (400, chunks(b"4\r\nabcd\n0\r\n\r\n")),
    "chunk size that ends with LF": (400, chunks(b"4\nabcd\r\n0\r\n\r\n")),
    "control character in an extension": (400, chunks(b"4;a=\x01\r\nabcd\r\n0\r\n\r\n")),
    "LF in an extension": (400, chunks(b"4;a=\n\r\nabcd\r\n0\r\n\r\n")),
    "length in the trailers": (400, chunks(b"4\r\nabcd\r\n0\r\nContent-Length: 40\r\n\r\n")),
    "coding in the trailers": (400, chunks(b"4\r\nabcd\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n")),
    "folded trailer": (400, chunks(b"4\r\nabcd\r\n0\r\nX: y\r\n z\r\n\r\n")),
    "TLS": (400, b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\x5a" * 40),
    "CONNECT": (405, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    "TRACE": (405, b"TRACE /m HTTP/1.1\r\n" + HOST + b"\r\n"),
}


@harness.http1_only("bytes of HTTP/1.1; those of HTTP/2 are in test_http2.py")
class Smuggling(WithEndpoint):
    def test_what_is_ambiguous_is_refused_and_reaches_nobody(self):
        self.assertGreaterEqual(len(MALFORMED), 30)
        before = self.gw.outcomes().get("client_error", 0)
        for name, (status, wire) in MALFORMED.items():
            with self.subTest(name):
                client = self.connect()
                client.send(wire + SMUGGLED)
                answer = client.read_response()
                self.assertEqual(answer.status, status)
                self.assertEqual(answer.header("connection"), "close")
                self.assertEqual(set(answer.json()["error"]), {"message", "type", "param", "code"})
                self.assert_ends(client)
        self.assertEqual(self.endpoint.requests, [])
        self.assertFalse(b"smuggled" in self.endpoint.all_bytes() or b" /m " in self.endpoint.all_bytes())
        self.assertEqual(self.gw.outcomes()["client_error"] - before, len(MALFORMED))
        self.assertEqual(self.connect().request("GET", "/after").body, b"GET /after 0")

    def test_it_is_refused_behind_a_good_request_too(self):
        for name, (status, wire) in MALFORMED.items():
            with self.subTest(name):
                del self.endpoint.requests[:]
                client = self.connect()
                client.send(request_bytes("GET", "/good") + wire + SMUGGLED)
                self.assertEqual(client.read_response().body, b"GET /good 0")
                self.assertEqual(client.read_response().status, status)
                self.assert_ends(client)
                self.assertEqual([r.path for r in self.endpoint.requests], ["/good"])
        self.assertFalse(b"smuggled" in self.endpoint.all_bytes() or b" /m " in self.endpoint.all_bytes())

    def test_it_is_refused_byte_by_byte_too(self):
        for name, (status, wire) in MALFORMED.items():
            with self.subTest(name):
                client = self.connect()
                try:
                    for i in range(len(wire)):
                        client.send(wire[i : i + 1])
                except OSError:
                    pass  # refused already, and closed
                answer = client.read_response()
                self.assertEqual(answer.status, status)
                self.assert_ends(client)
        self.assertEqual(self.endpoint.requests, [])


class Limits(E2E):
    any_path = True

    def setUp(self):
        self.endpoint = self.fake(echo_path)

    def start(self, config, **options):
        return self.gateway([self.endpoint], config, **{"shards": 1, **options})

    def assert_refused(self, client, status, reason=None):
        answer = client.read_response()
        error = answer.json()["error"]
        self.assertEqual((answer.status, error["code"]), (status, reason or error["code"]))
        if status == 503:
            self.assertRegex(answer.header("retry-after") or "", r"^\d+$")
        return answer

    def assert_ends(self, client):
        if not harness.over_http2():  # where the stream has ended and the connection goes on
            client.read_until_end()

    def hits(self, gateway, limit):
        return gateway.value("penstock_limit_hits_total", limit=limit)

    def test_a_large_head(self):
        gateway = self.start("limits: {header_bytes: 8KiB}\n")
        fits = [(f"x-{i}", "v" * 1000) for i in range(7)]
        self.assertEqual(self.client(gateway).request("GET", "/", headers=fits).status, 200)
        for extra in ([("x-more", "v" * 2000)], [("x-more", "v" * (60_000 if harness.over_http2() else 100_000))], [(f"y-{i}", "") for i in range(300)]):
            client = self.client(gateway)
            client.send(request_bytes("GET", "/", headers=fits + extra))
            self.assert_refused(client, 431, "header_too_large")
            self.assert_ends(client)
        gateway.wait_outcomes({"ok": 1, "client_error": 3})
        if harness.over_http2():
            return
        client = self.client(gateway)
        client.send(request_bytes("GET", "/", headers=[("connection", "x-more," * 100)]))
        self.assertIn("Connection", self.assert_refused(client, 431, "header_too_large").json()["error"]["message"])

    @harness.http1_only("half a head is not sent here")
    def test_a_head_that_never_ends(self):
        gateway = self.start("limits: {header_bytes: 8KiB}\n")
        client = self.client(gateway)
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"v" * 9000)
        self.assert_refused(client, 431, "header_too_large")

    def test_a_long_target(self):
        gateway = self.start("")
        client = self.client(gateway)
        client.send(request_bytes("GET", "/" + "a" * 40_000))
        self.assert_refused(client, 414, "uri_too_long")
        self.assert_ends(client)
        self.assertEqual(self.client(gateway).request("GET", "/" + "a" * 30_000).status, 200)

    def test_a_large_body_by_its_length(self):
        gateway = self.start("limits: {body_bytes: 64KiB}\n")
        self.assertEqual(self.client(gateway).post("/", b"x" * 65536).status, 200)
        client = self.client(gateway)
        client.send(request_bytes("POST", "/", b"", [("Content-Length", "65537"), ("Expect", "100-continue")]))
        self.assert_refused(client, 413, "body_too_large")  # and no 100 before it
        client.read_until_end()
        client = self.client(gateway)  # sends it all the same, and can still read the answer
        client.send(request_bytes("POST", "/", b"x" * 5_000_000))
        self.assert_refused(client, 413, "body_too_large")
        client.read_until_end()
        self.assertEqual(self.hits(gateway, "body_bytes"), 2)
        gateway.wait_outcomes({"ok": 1, "client_error": 2})
        self.assertEqual(len(self.endpoint.requests), 1)

    def test_a_body_that_grows_too_large(self):
        gateway = self.start("limits: {body_bytes: 64KiB}\n")
        client = self.client(gateway)
        client.send(request_bytes("POST", "/", b"", [("Transfer-Encoding", "chunked")]))
        for _ in range(64):
            client.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
        client.send(b"1\r\nx")
        self.assert_refused(client, 413, "body_too_large")
        client.read_until_end()
        self.assertEqual(self.hits(gateway, "body_bytes"), 1)
        self.assertEqual(self.endpoint.requests, [])
        client = self.client(gateway)
        client.send(request_bytes("POST", "/", b"", [("Transfer-Encoding", "chunked")]))
        client.send(b"400\r\n" + b"x" * 1024 + b"\r\n0\r\n\r\n")
        self.assertEqual(client.read_response().body, b"POST / 1024")

    def test_a_body_that_the_memory_could_never_hold(self):
        gateway = self.start("limits: {memory: 1MiB, body_bytes: 1MiB}\n")
        self.assertRegex(gateway.log(), "limits.body_bytes: .*more than 458752 are refused")
        client = self.client(gateway)
        client.send(request_bytes("POST", "/", b"x" * 458753))
        self.assert_refused(client, 413, "body_too_large")  # not 503: it would not fit later either
        body = chunked(*[b"x" * 65536] * 7)
        answer = self.client(gateway).post("/", body, [("Transfer-Encoding", "chunked")])
        self.assertEqual((answer.status, answer.body), (200, b"POST / 458752"))

    def test_reading_a_large_body_takes_memory_too(self):
        gateway = self.start("limits: {memory: 16MiB, body_bytes: 2MiB}\n")
        size, frame = 2 * 1024 * 1024, (b'{"model":"m","z":[1', b'],"prompt":"x"}')
        body = frame[0] + b",1" * ((size - len(frame[0] + frame[1])) // 2) + frame[1]
        holder, client = self.client(gateway), self.client(gateway)
        holder.send(request_bytes("POST", "/", b"x" * size)[:-1])
        wait_for("another body is held", lambda: gateway.memory() >= size)
        client.send(request_bytes("POST", "/v1/completions", body))
        self.assert_refused(client, 503, "memory_budget_exhausted")
        self.assertEqual(self.hits(gateway, "memory"), 1)
        holder.close()
        idle = 64 << 10 if harness.over_http2() else 0  # a connection of HTTP/2 takes memory when nothing is asked, too
        wait_for("its memory is free", lambda: gateway.memory() <= idle)
        self.assertEqual(client.post("/v1/completions", body).status, 200)
        wait_for("all of it is free", lambda: gateway.memory() <= idle)

    def test_the_last_eighth_of_the_memory_is_for_what_has_begun(self):
        gateway = self.start("limits: {memory: 8MiB, body_bytes: 1MiB}\n")
        size = 1 << 20
        held = [self.client(gateway) for _ in range(6)]
        for client in held:
            client.send(request_bytes("POST", "/held", b"x" * size)[:-1])
        wait_for("most of it is taken", lambda: gateway.memory() > 6 * size)
        # Would fit: seven and the padding of each.
        late = self.client(gateway)
        late.send(request_bytes("POST", "/late", b"x" * size)[:-1])
        self.assert_refused(late, 503, "memory_budget_exhausted")
        self.assertEqual(self.hits(gateway, "memory"), 1)
        for client in held:
            client.send(b"x")
            self.assertEqual(client.read_response().status, 200)
        self.assertEqual(self.client(gateway).request("GET", "/late").status, 200)

    @harness.plain_http1_only("half heads, and sockets on which nothing comes but answers")
    def test_heads_that_never_end_take_memory(self):
        gateway = self.start("limits: {memory: 1MiB, body_bytes: 256KiB}\n")
        begun = b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"v" * 60_000
        in_trailers = request_bytes("POST", "/", b"", [("Transfer-Encoding", "chunked")])
        in_trailers += b"1\r\nx\r\n0\r\nx: " + b"v" * 60_000
        for wire, limit in ((begun, "incomplete_heads"), (in_trailers, "memory")):
            refused = self.hits(gateway, limit)
            clients = [self.client(gateway) for _ in range(20)]
            for client in clients:
                client.send(wire)
            wait_for("some are refused", lambda: self.hits(gateway, limit) > refused)
            self.assertLessEqual(gateway.memory(), 1 << 20)
            answered = select.select([client.sock for client in clients], [], [], harness.PATIENCE)[0]
            self.assertTrue(answered)
            for client in clients:
                if client.sock in answered:
                    self.assert_refused(client, 503, "memory_budget_exhausted")
            for client in clients:
                client.close()
            wait_for("the memory is given back", lambda: gateway.memory() == 0)
        head = [("x", "v" * 60_000)]
        self.assertEqual(self.client(gateway).request("GET", "/", headers=head).status, 200)
        wait_for("the memory is given back", lambda: gateway.memory() == 0)

    @harness.http1_only("pipelining")
    def test_pipelined_bytes_take_memory(self):
        gateway = self.start("limits: {memory: 1MiB, body_bytes: 256KiB}\n")
        release, self.endpoint.script = self.held(echo_path)
        clients = [self.client(gateway) for _ in range(40)]
        for client in clients:
            client.send(request_bytes("GET", "/first"))
        self.endpoint.wait_requests(len(clients))
        for client in clients:
            client.send(request_bytes("POST", "/second", b"y" * 60_000))
        wait_for("some is dropped", lambda: self.hits(gateway, "memory") > 10)
        self.assertLessEqual(gateway.memory(), 1 << 20)
        release.set()
        ended = 0
        for client in clients:
            self.assertEqual(client.read_response().body, b"GET /first 0")  # each is answered
        for client in clients:
            try:
                answer = client.read_response()
            except harness.ConnectionEnded:
                ended += 1  # and may ask the second again
            else:
                self.assertIn(answer.status, (200, 503))
        self.assertGreater(ended, 10)
        wait_for("the memory is given back", lambda: gateway.memory() == 0)

    def test_a_text_that_would_be_copied(self):
        gateway = self.start("")
        client = self.client(gateway)
        for field in ("model", "cache_salt", "session_id"):
            body = {"model": "m", "prompt": "x", field: "n" * 4096}
            self.assertEqual(client.post("/v1/completions", json.dumps(body).encode()).status, 200)
            body[field] += "n"
            client.send(request_bytes("POST", "/v1/completions", body))
            error = self.assert_refused(client, 400, "invalid_body").json()["error"]
            self.assertEqual((error["param"], error["type"]), (field, "invalid_request_error"))
        self.assertEqual(self.hits(gateway, "field_bytes"), 3)

    @harness.plain_http1_only("a connection that is refused hears so on a plain socket, in HTTP/1.1")
    def test_many_connections(self):
        gateway = self.start("limits: {connections: 3}\n")
        release, self.endpoint.script = self.held(echo_path)
        clients = [self.client(gateway) for _ in range(3)]
        for client in clients:
            client.send(request_bytes("GET", "/"))
        wait_for("nobody is idle", lambda: gateway.value("penstock_requests_in_flight") == 3)
        extra = self.client(gateway)
        self.assert_refused(extra, 503, "too_many_connections")
        extra.read_until_end()
        self.assertEqual(self.hits(gateway, "connections"), 1)
        release.set()
        for client in clients:
            self.assertEqual(client.read_response().status, 200)
        clients.pop().close()
        wait_for("the connection has ended", lambda: gateway.value("penstock_client_connections") == 2)
        self.assertEqual(self.client(gateway).request("GET", "/").status, 200)
        for client in clients:
            self.assertEqual(client.request("GET", "/").status, 200)

    def test_many_requests_at_a_time(self):
        gateway = self.start("limits: {requests_per_shard: 2}\n")
        release, self.endpoint.script = self.held(echo_path)
        held = [self.client(gateway) for _ in range(2)]
        for client in held:
            client.send(request_bytes("GET", "/held"))
        self.endpoint.wait_requests(2)
        third = self.client(gateway)
        for _ in range(2):
            third.send(request_bytes("POST", "/third", b"abc"))
            self.assert_refused(third, 503, "too_many_requests")
        release.set()
        for client in held:
            self.assertEqual(client.read_response().body, b"GET /held 0")
        self.assertEqual(third.request("GET", "/now").body, b"GET /now 0")
        self.assertEqual(self.hits(gateway, "requests_per_shard"), 2)
        gateway.wait_outcomes({"ok": 3, "overloaded": 2})

    @harness.http1_only("connections take memory too, and some are refused for it")
    def test_many_large_bodies_at_a_time(self):
        gateway = self.start("limits: {memory: 4MiB, body_bytes: 1MiB}\nretry: {attempts: 1}\n", shards=2)
        release, self.endpoint.script = self.held(echo_path)
        statuses = []
        watched = threading.Event()
        most = []

        def watch():
            while not watched.wait(0.01):
                most.append(gateway.memory())

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()

        def one(i):
            client = Client(gateway.port)
            try:
                client.send(request_bytes("POST", f"/{i}", b"m" * 400_000))
                answer = client.read_response()
                statuses.append(answer.status)
                if answer.status == 503:
                    self.assertEqual(answer.json()["error"]["code"], "memory_budget_exhausted")
                    self.assertIsNotNone(answer.header("retry-after"))
                if len(statuses) >= 24:
                    release.set()  # enough were refused: let the others go
                return answer.status
            except ConnectionEnded:  # over TLS: what comes with the end of the handshake takes memory, too
                statuses.append(0)
                return 0
            finally:
                client.close()

        try:
            found = in_threads(40, one)
        finally:
            watched.set()
            watcher.join(harness.PATIENCE)
        self.assertEqual(set(found) - {0}, {200, 503})
        unheard = gateway.value("penstock_tls_handshake_failures_total", peer="client", reason="no_memory")
        self.assertEqual(found.count(0), unheard)
        self.assertLessEqual(max(most), 4 * 1024 * 1024)
        gateway.wait_outcomes({"ok": found.count(200), "overloaded": found.count(503)})
        self.assertEqual(self.hits(gateway, "memory"), found.count(503))
        wait_for("the memory is given back", lambda: gateway.memory() < 300_000)
        self.assertEqual(self.client(gateway).post("/after", b"m" * 400_000).status, 200)

    @harness.http1_only("half a head is not sent here")
    def test_slow_heads_and_bodies(self):
        gateway = self.start("timeouts: {client_header: 150ms, client_body: 150ms, client_idle: 1s}\n")
        client = self.client(gateway)
        client.send(b"GET / HTTP/1.1\r\nhost:")
        self.assert_refused(client, 408, "request_timeout")
        client.read_until_end()
        client = self.client(gateway)
        client.send(request_bytes("POST", "/", b"abc", [("Content-Length", "4")]))
        self.assert_refused(client, 408, "request_timeout")
        client.read_until_end()
        client = self.client(gateway)
        self.assertEqual(client.request("GET", "/").status, 200)
        self.assertEqual(client.read_until_end(), (b"", False))  # idle for long enough
        self.assertEqual(self.client(gateway).read_until_end(), (b"", False))
        gateway.wait_outcomes({"ok": 1, "timed_out_client": 2})


if __name__ == "__main__":
    harness.main()
