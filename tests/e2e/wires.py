"""What clients of the tests speak with a gateway, under the bytes of HTTP/1.1 in which the tests are written.

A test file says `--protocol tls`, `h2c` or `h2`, and each Client of a gateway's port has one of these sockets: TLS around
the bytes, or a connection of HTTP/2 with a stream for each request, whose answer reads as HTTP/1.1 would have sent it.
"""

import atexit
import http
import os
import shutil
import socket
import ssl
import tempfile
import urllib.parse

import harness
from tls_client import Authority, tls_port

NAME = "server.test"


class Certificates:
    """One authority and one certificate for all gateways of a test program."""

    def __init__(self):
        directory = tempfile.mkdtemp(prefix="penstock-e2e-wires-")
        atexit.register(shutil.rmtree, directory, True)
        self.authority = Authority(directory)
        self.files = self.authority.issue(os.path.join(directory, "server"), f"DNS:{NAME}")


_certificates = None


def certificates():
    global _certificates  # pylint: disable=global-statement
    _certificates = _certificates or Certificates()
    return _certificates


def gateway_flags():
    """What opens the listener that clients use."""
    if not harness.over_tls():
        return []
    cert, key = certificates().files
    return ["--listen-tls", f"{harness.LOOPBACK}:0", "--tls-cert", cert, "--tls-key", key]


def client_port(gateway):
    """Where clients connect."""
    return tls_port(gateway) if harness.over_tls() else gateway.port


class TlsSocket(ssl.SSLSocket):
    """An end without close_notify is none that may be trusted: it reads like a reset."""

    def recv(self, *arguments):
        try:
            return super().recv(*arguments)
        except ssl.SSLEOFError as error:
            raise ConnectionResetError(str(error)) from None


def wrap(sock):
    """What a Client of a gateway uses in place of its connected socket."""
    if harness.over_tls():
        alpn = "h2" if harness.over_http2() else "http/1.1"
        context = ssl.create_default_context(cafile=certificates().authority.path)
        context.set_alpn_protocols([alpn])
        context.sslsocket_class = TlsSocket
        sock = context.wrap_socket(sock, server_hostname=NAME, suppress_ragged_eofs=False)
        if sock.selected_alpn_protocol() != alpn:
            raise AssertionError(f"{alpn} was asked for, not {sock.selected_alpn_protocol()}")
    return Http2Socket(sock) if harness.over_http2() else sock


class RequestReader:
    """Requests as HTTP/1.1 writes them, in pieces of any size: calls head(method, path, fields), data(bytes, last)."""

    def __init__(self, head, data):
        self._on_head, self._on_data = head, data
        self._bytes = b""
        self._next = self._head

    def feed(self, data):
        self._bytes += data
        while self._next():
            pass

    def _line(self, end=b"\r\n"):
        if end not in self._bytes:
            return None
        line, self._bytes = self._bytes.split(end, 1)
        return line

    def _head(self):
        text = self._line(b"\r\n\r\n")
        if text is None:
            return False
        first, *lines = text.decode("latin-1").lstrip("\r\n").split("\r\n")
        method, path, version = first.split(" ")
        if version != "HTTP/1.1":
            raise AssertionError(f"{version} cannot be said in HTTP/2; the test is one of HTTP/1.1 alone")
        fields = [(name.lower(), value.strip()) for name, value in (line.split(":", 1) for line in lines)]
        lengths = [int(value) for name, value in fields if name == "content-length"]
        in_chunks = ("transfer-encoding", "chunked") in fields
        self._left = lengths[0] if lengths else 0
        has_body = in_chunks or self._left > 0
        self._on_head(method, path, fields, not has_body)
        if has_body:
            self._next = self._chunk_head if in_chunks else self._body
        return True

    def _body(self):
        return self._piece(self._head, ends_body=True)

    def _piece(self, then, ends_body):
        part, self._bytes = self._bytes[: self._left], self._bytes[self._left :]
        if not part:
            return False
        self._left -= len(part)
        self._on_data(part, ends_body and self._left == 0)
        if self._left == 0:
            self._next = then
        return True

    def _chunk_head(self):
        line = self._line()
        if line is None:
            return False
        self._left = int(line.split(b";")[0], 16)
        self._next = self._chunk if self._left else self._trailers
        return True

    def _chunk(self):
        return self._piece(self._chunk_end, ends_body=False)

    def _chunk_end(self):
        if self._line() is None:
            return False
        self._next = self._chunk_head
        return True

    def _trailers(self):
        line = self._line()
        if line == b"":
            self._on_data(b"", True)
            self._next = self._head
        return line is not None


class Stream:
    """One request and its answer, the latter as text of HTTP/1.1 in `out`."""

    def __init__(self, method):
        self.method = method
        self.out = b""
        self.pieces = []  # of the body, not yet sent, each with whether it is the last
        self.in_chunks = False
        self.ended = self.broken = False

    def head(self, fields):
        status = dict(fields)[":status"]
        names = {name for name, _ in fields}
        self.in_chunks = self.method != "HEAD" and status not in ("204", "304") and "content-length" not in names
        phrases = {str(int(known)): known.phrase for known in http.HTTPStatus}
        lines = [f"HTTP/1.1 {status} {phrases.get(status, '')}"] + [f"{name}: {value}" for name, value in fields if not name.startswith(":")]
        if self.in_chunks and not status.startswith("1"):
            lines.append("transfer-encoding: chunked")
        self.out += "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    def data(self, data):
        if data:
            self.out += b"%x\r\n%b\r\n" % (len(data), data) if self.in_chunks else data

    def end(self, trailers=()):
        if self.in_chunks:
            self.out += b"0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in trailers).encode() + b"\r\n"
        self.ended = True


class Http2Socket:
    """A socket that takes requests and gives answers in the bytes of HTTP/1.1 and speaks HTTP/2 with its peer."""

    def __init__(self, sock):
        import h2.config  # pylint: disable=import-outside-toplevel
        import h2.connection  # pylint: disable=import-outside-toplevel

        self._sock = sock
        # What reaches the peer is what the test wrote, right or wrong.
        config = h2.config.H2Configuration(
            client_side=True, header_encoding="latin-1", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self._h2 = h2.connection.H2Connection(config)
        self._h2.initiate_connection()
        self._reader = RequestReader(self._begin, self._continue)
        self._streams = {}  # by id, in the order of the requests
        self._newest = None
        self._closed = False
        self._unread = b""
        self._flush()

    # What tests do with the socket below.
    def fileno(self):
        return self._sock.fileno()

    def settimeout(self, seconds):
        self._sock.settimeout(seconds)

    def setsockopt(self, *arguments):
        self._sock.setsockopt(*arguments)

    def shutdown(self, how):
        raise AssertionError("half a connection cannot be closed in HTTP/2; the test is one of HTTP/1.1 alone")

    def close(self):
        self._sock.close()

    def sendall(self, data):
        self._reader.feed(data)
        self._send_bodies()
        while any(stream.pieces for stream in self._streams.values()) and self._read():
            pass

    def recv(self, size):
        while True:
            taken = self._take(size)
            if taken is not None:
                return taken
            if self._closed or not self._read():
                return b""

    def _take(self, size):
        """Bytes of the oldest answer that is not finished; b"" when that was broken off, None when there are none yet."""
        for number, stream in list(self._streams.items()):
            if stream.out:
                taken, stream.out = stream.out[:size], stream.out[size:]
                return taken
            if stream.broken:
                return b""
            if not stream.ended:
                return None
            if number != self._newest or not stream.pieces:
                del self._streams[number]
        return None

    def _begin(self, method, path, fields, whole):
        self._newest = self._h2.get_next_available_stream_id()
        self._streams[self._newest] = Stream(method)
        authority = [value for name, value in fields if name == "host"]
        if "://" in path:
            elsewhere = urllib.parse.urlsplit(path)
            authority, path = [elsewhere.netloc], path[path.index("//") + 2 + len(elsewhere.netloc) :] or "/"
            path = path if path.startswith("/") else "/" + path
        dropped = ("host", "connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection")
        pseudo = [(":method", method), (":scheme", "http"), (":authority", (authority or ["test"])[0]), (":path", path)]
        kept = pseudo + [field for field in fields if field[0] not in dropped]
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in kept]
        self._h2.send_headers(self._newest, encoded, end_stream=whole)
        self._flush()

    def _continue(self, data, last):
        stream = self._streams.get(self._newest)
        if stream is not None and not stream.broken:
            stream.pieces.append((data, last))

    def _send_bodies(self):
        for number, stream in self._streams.items():
            while stream.pieces and not stream.broken and not stream.ended:
                data, last = stream.pieces[0]
                size = min(len(data), self._h2.max_outbound_frame_size, self._h2.local_flow_control_window(number))
                if size == 0 and data:
                    break
                whole = size == len(data)
                self._h2.send_data(number, data[:size], end_stream=last and whole)
                stream.pieces[0] = (data[size:], last)
                if whole:
                    stream.pieces.pop(0)
            if stream.broken or (stream.ended and stream.pieces):
                stream.pieces.clear()  # the peer has answered and wants no more of it
        self._flush()

    def _flush(self):
        self._sock.sendall(self._h2.data_to_send())

    def _read(self):
        """Waits for what the peer sends next. False: it has closed."""
        try:
            data = self._sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self._closed = True
            for stream in self._streams.values():
                stream.broken = stream.broken or not stream.ended
                stream.pieces.clear()
            return False
        for event in self._h2.receive_data(self._without_goaway(data)):
            self._handle(event)
        self._send_bodies()
        return True

    def _without_goaway(self, data):
        """Whole frames. python3-h2 takes GOAWAY for the end of all streams, where those that have begun go on."""
        self._unread += data
        frames = b""
        while len(self._unread) >= 9:
            size = 9 + int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < size:
                break
            frame, self._unread = self._unread[:size], self._unread[size:]
            if frame[3] != 7:
                frames += frame
        return frames

    def _handle(self, event):
        stream = self._streams.get(getattr(event, "stream_id", None))
        kind = type(event).__name__
        if kind == "DataReceived":
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if stream is None:
            return
        if kind in ("ResponseReceived", "InformationalResponseReceived"):
            stream.head(event.headers)
        elif kind == "DataReceived":
            stream.data(event.data)
        elif kind == "TrailersReceived":
            stream.trailers = event.headers
        elif kind == "StreamEnded":
            stream.end(getattr(stream, "trailers", ()))
        elif kind == "StreamReset":
            stream.broken = True  # behind an answer: its request is not read to the end, for which HTTP/1.1 would close
