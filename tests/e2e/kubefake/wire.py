"""One connection: HTTP/1.1 requests in, answers out, in the ways that a network can spoil."""

import gzip
import json
import socket
import ssl
import struct
import time
import urllib.parse

_REASONS = {200: "OK", 201: "Created", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
            405: "Method Not Allowed", 409: "Conflict", 410: "Gone", 415: "Unsupported Media Type",
            422: "Unprocessable Entity", 429: "Too Many Requests", 500: "Internal Server Error",
            503: "Service Unavailable", 504: "Gateway Timeout"}  # fmt: skip
_COMPRESS_FROM = 128 * 1024  # the real server compresses nothing smaller


class Gone(Exception):
    """The peer has left, or the server ends this connection."""


class Request:
    def __init__(self, method, target, headers, body):
        self.method, self.headers, self.body = method, headers, body
        self.path, _, query = target.partition("?")
        self.path = urllib.parse.unquote(self.path)
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))

    def header(self, name):
        return self.headers.get(name.lower())

    def json(self):
        return json.loads(self.body) if self.body else None


class Connection:
    """Used by its own thread alone, but for doom()."""

    def __init__(self, sock, gate):
        """`gate()` is called before anything is read or written: it blocks while the network is partitioned."""
        self.sock, self._gate = sock, gate
        self._buffer = b""
        self.doomed = None  # how it is to end: "rst" or "close"
        self.client_certificate = None

    # ---- ending ----

    def doom(self, how):
        """From any thread: ends the connection at its next step, which is now for one that waits for a request."""
        self.doomed = how
        try:
            if how == "rst":
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Wakes a thread that reads. The method of a TLS socket would forget its TLS state.
            socket.socket.shutdown(self.sock, socket.SHUT_RD)
        except OSError:
            pass

    def close(self, how="close"):
        try:
            if (self.doomed or how) == "rst":
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()
        except OSError:
            pass

    def peer_left(self):
        """Whether the client has closed; it sends nothing while it waits for an answer. Never blocks."""
        if self.doomed:
            return True
        if not self._buffer:
            self.sock.setblocking(False)
            try:
                data = self.sock.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError):
                return False
            except OSError:
                return True
            finally:
                self.sock.setblocking(True)
            if not data:
                return True
            self._buffer = data
        return False

    # ---- reading ----

    def _fill(self):
        try:
            data = self.sock.recv(65536)
        except OSError:
            raise Gone from None
        if not data or self.doomed:
            raise Gone
        self._buffer += data

    def _take_to(self, mark):
        while mark not in self._buffer:
            self._fill()
        taken, self._buffer = self._buffer.split(mark, 1)
        return taken

    def _take(self, size):
        while len(self._buffer) < size:
            self._fill()
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def read_request(self):
        lines = self._take_to(b"\r\n\r\n").decode("latin-1").split("\r\n")
        self._gate(self)
        method, target, _ = lines[0].split(" ", 2)
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while True:
                size = int(self._take_to(b"\r\n").split(b";")[0], 16)
                body += self._take(size + 2)[:-2]
                if size == 0:
                    break
        elif "content-length" in headers:
            body = self._take(int(headers["content-length"]))
        return Request(method, target, headers, body)

    # ---- writing ----

    def send(self, data, drip=None):
        """`drip` is (bytes, seconds): each piece a segment of its own."""
        pieces = [data]
        if drip:
            pieces = [data[at : at + drip[0]] for at in range(0, len(data), drip[0])]
        for number, piece in enumerate(pieces):
            if number:
                wait_a_moment(drip[1])
            self._gate(self)
            if self.doomed:
                raise Gone
            try:
                self.sock.sendall(piece)
            except OSError:
                raise Gone from None

    def answer(self, request, status, body, headers=(), drip=None):
        """`body` is an object or text."""
        content_type = "application/json"
        if isinstance(body, str):
            data, content_type = body.encode(), "text/plain; charset=utf-8"
        else:
            data = json.dumps(body, separators=(",", ":")).encode() + b"\n"
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}", f"Content-Type: {content_type}"]
        if len(data) >= _COMPRESS_FROM and "gzip" in (request.header("accept-encoding") or ""):
            data = gzip.compress(data, 1)
            lines += ["Content-Encoding: gzip", "Vary: Accept-Encoding"]
        lines += [f"{name}: {value}" for name, value in headers]
        lines += ["Cache-Control: no-cache, private", f"Content-Length: {len(data)}", "", ""]
        self.send("\r\n".join(lines).encode("latin-1") + data, drip)

    def begin_stream(self, drip=None):
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-cache, private\r\n"
        self.send((head + "Transfer-Encoding: chunked\r\n\r\n").encode(), drip)


def chunk(data):
    return b"%x\r\n" % len(data) + data + b"\r\n"


def wait_a_moment(seconds):
    """Between pieces of a drip, and for latency: here the slowness itself is what is asked for."""
    time.sleep(seconds)
