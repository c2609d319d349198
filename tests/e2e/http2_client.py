"""A client of HTTP/2 with prior knowledge, for end-to-end tests: python3-h2 keeps the rules, raw frames break them."""

import json
import socket
import struct
import sys
import time

import harness

try:
    import h2.config
    import h2.connection
    import h2.errors
    import h2.events
    import h2.settings
except ImportError as missing:
    print(f"skipped: {missing.name} is not installed (Debian: python3-h2)")
    sys.exit(77)  # what meson takes for "skipped"

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
ENHANCE_YOUR_CALM = 11


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def block(*fields):
    """Fields as literals that are not indexed."""
    out = b""
    for name, value in fields:
        for index, text in enumerate((name.encode(), value.encode())):
            assert len(text) < 127
            out += (b"\0" if index == 0 else b"") + bytes([len(text)]) + text
    return out


def head_frame(stream, path="/v1/models", flags=END_STREAM | END_HEADERS, method="GET", more=()):
    fields = [(":method", method), (":scheme", "http"), (":authority", "a"), (":path", path), *more]
    return frame(HEADERS, flags, stream, block(*fields))


class Answer:
    def __init__(self):
        self.status = None
        self.headers = []
        self.body = b""
        self.ended = False
        self.reset = None  # the error of RST_STREAM

    @property
    def over(self):
        return self.ended or self.reset is not None

    def json(self):
        return json.loads(self.body)

    def header(self, name):
        return dict(self.headers).get(name)


class Http2:
    """One connection. `window`: of a stream; without `reads` no window is opened again by itself."""

    def __init__(self, port, window=65535, reads=True):
        self.socket = socket.create_connection((harness.LOOPBACK, port), harness.PATIENCE)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.h2.increment_flow_control_window(1 << 24)  # of the connection
        self.answers = {}
        self.reads = reads
        self.goaways = []
        self.closed = False
        self.flush()

    def close(self):
        self.socket.close()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def ask(self, method, path, body=None, headers=(), ends=True):
        stream = self.h2.get_next_available_stream_id()
        self.answers[stream] = Answer()
        fields = [(":method", method), (":scheme", "http"), (":authority", "gateway"), (":path", path)]
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        if data is not None:
            fields.append(("content-type", "application/json"))
        self.h2.send_headers(stream, fields + list(headers), end_stream=ends and data is None)
        if data is not None:
            self.send_body(stream, data, ends)
        self.flush()
        return stream

    def send_body(self, stream, data, ends=True):
        while True:
            size = min(len(data), self.h2.max_outbound_frame_size, self.h2.local_flow_control_window(stream))
            if size == 0 and data:
                self.flush()
                self.read()
                if self.answers[stream].over:
                    return
                continue
            last = size == len(data)
            self.h2.send_data(stream, data[:size], end_stream=ends and last)
            data = data[size:]
            if last:
                return self.flush()

    def reset(self, stream, error=8):
        self.h2.reset_stream(stream, error)
        self.flush()

    def read(self, timeout=None):
        """Waits for bytes and handles them. False: the connection has ended."""
        self.socket.settimeout(harness.PATIENCE if timeout is None else timeout)
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self.closed = True
            return False
        for event in self.h2.receive_data(data):
            self.handle(event)
        self.flush()
        return True

    def handle(self, event):
        answer = self.answers.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaways.append((int(event.error_code), event.last_stream_id))
        if answer is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            answer.headers = event.headers
            answer.status = int(dict(event.headers)[":status"])
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data
            if self.reads:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            answer.ended = True
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = int(event.error_code)

    def until(self, what, probe):
        deadline = time.monotonic() + harness.PATIENCE
        while not probe():
            if time.monotonic() > deadline or self.closed:
                raise AssertionError(f"waited in vain: {what} (connection closed: {self.closed}, {self.goaways})")
            self.read()

    def answer(self, stream):
        """Waits for its end."""
        answer = self.answers[stream]
        self.until(f"the end of stream {stream}", lambda: answer.over)
        return answer

    def fetch(self, method, path, body=None, headers=()):
        return self.answer(self.ask(method, path, body, headers))


class RawHttp2:
    """A connection that sends what it is told."""

    def __init__(self, port):
        self.socket = socket.create_connection((harness.LOOPBACK, port), harness.PATIENCE)
        self.received = b""
        self.send(PREFACE + frame(SETTINGS, 0, 0))

    def close(self):
        self.socket.close()

    def send(self, data):
        """False: the server takes no more."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def read_to_end(self):
        try:
            while data := self.socket.recv(65536):
                self.received += data
        except OSError:
            pass
        return self.frames()

    def read_until(self, probe):
        while not probe():
            data = self.socket.recv(65536)
            if not data:
                raise AssertionError(f"the connection has ended: {self.frames()}")
            self.received += data

    def all(self, kind):
        return [payload for found, _, payload in self.frames() if found == kind]

    def frames(self):
        found, at = [], 0
        while at + 9 <= len(self.received):
            size = int.from_bytes(self.received[at : at + 3], "big")
            stream = int.from_bytes(self.received[at + 5 : at + 9], "big")
            found.append((self.received[at + 3], stream, self.received[at + 9 : at + 9 + size]))
            at += 9 + size
        return found

    def goaway_error(self):
        errors = [int.from_bytes(payload[4:8], "big") for kind, _, payload in self.frames() if kind == GOAWAY]
        return errors[-1] if errors else None
