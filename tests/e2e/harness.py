"""Runs the real programs for end-to-end tests: penstock, penstock-sim, and endpoints scripted in Python.

Everything binds to 127.0.0.1 and a port that the kernel chooses; nothing waits without a deadline; every process and
socket that a test makes ends with it. PENSTOCK and PENSTOCK_SIM name the programs; --ring chooses the I/O engine and
--protocol what clients speak with the gateway (wires.py).
"""

import collections
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest



def _argument(name, otherwise):
    """Takes `name VALUE` out of this program's arguments, which unittest reads afterwards."""
    if name not in sys.argv:
        return otherwise
    at = sys.argv.index(name)
    value = sys.argv[at + 1]
    del sys.argv[at : at + 2]
    return value


PENSTOCK = os.environ.get("PENSTOCK", "penstock")
SIM = os.environ.get("PENSTOCK_SIM", "penstock-sim")
RING = _argument("--ring", "epoll")
PROTOCOL = _argument("--protocol", "http/1.1")
# Longest wait for anything that should happen at once: the machine may be busy with something else.
PATIENCE = float(os.environ.get("E2E_PATIENCE_S", "20"))
# Longest for what an event brings about by itself, where without it a minute or more would pass.
SOON = PATIENCE / 4
LOOPBACK = "127.0.0.1"


def over_http2():
    return PROTOCOL in ("h2c", "h2")


def over_tls():
    return PROTOCOL in ("tls", "h2")


def http1_only(why):
    """A test of what only HTTP/1.1 has, be it over TLS or not."""
    return unittest.skipIf(over_http2(), why)


def plain_http1_only(why):
    return unittest.skipIf(PROTOCOL != "http/1.1", why)


# ---- waiting ----


def wait_for(what, probe, timeout=None, interval=0.01):
    """Calls `probe` until it returns something true, and returns that."""
    deadline = time.monotonic() + (PATIENCE if timeout is None else timeout)
    while True:
        result = probe()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain: {what} (last: {result!r})")
        time.sleep(interval)


class Lines:
    """The lines that a process writes to one pipe, as they come."""

    def __init__(self, pipe):
        self._pipe = pipe
        self._changed = threading.Condition()
        self._lines = []
        self._ended = False
        self._reading = threading.Event()
        self._reading.set()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for raw in self._pipe:
            self._reading.wait()
            with self._changed:
                self._lines.append(raw.decode("utf-8", "replace").rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._pipe.close()

    def all(self):
        with self._changed:
            return list(self._lines)

    def wait(self, pattern, timeout=None, count=1):
        """The match of the count-th line that has `pattern`; None when the process ends without it."""
        deadline = time.monotonic() + (PATIENCE if timeout is None else timeout)
        with self._changed:
            looked_at = found = 0
            while True:
                for line in self._lines[looked_at:]:
                    match = re.search(pattern, line)
                    if match:
                        found += 1
                        if found == count:
                            return match
                looked_at = len(self._lines)
                if self._ended:
                    return None
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"no line with {pattern!r} in time; there are:\n" + "\n".join(self._lines))
                self._changed.wait(left)

    def hold(self):
        """What the process writes stays in the pipe, but for what is buffered here, until release()."""
        self._reading.clear()

    def release(self):
        self._reading.set()

    def join(self):
        self._thread.join(PATIENCE)


# ---- processes ----


class Process:
    """A child that cannot outlive us, with its output at hand."""

    def __init__(self, command, env=None):
        wrapper = shutil.which("setpriv")
        guard = [wrapper, "--pdeathsig", "KILL"] if wrapper else []
        self.command = [str(word) for word in command]
        self.popen = subprocess.Popen(
            guard + self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        self.out = Lines(self.popen.stdout)
        self.err = Lines(self.popen.stderr)

    @property
    def pid(self):
        return self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def signal(self, number):
        if self.alive():
            self.popen.send_signal(number)

    def wait(self, timeout=None):
        code = self.popen.wait(PATIENCE if timeout is None else timeout)
        self.out.join()
        self.err.join()
        return code

    def kill(self):
        if self.alive():
            self.popen.send_signal(signal.SIGCONT)
            self.popen.kill()
        return self.wait()

    def log(self):
        return "\n".join(self.err.all())


RESERVED = {}  # by port: a socket that is bound and does not listen, so that the kernel gives the port to nobody


def reserve_port():
    """A port for a program of ours, which stays its own also while that is not running."""
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind((LOOPBACK, 0))
    port = place.getsockname()[1]
    RESERVED[port] = place
    return port


class Sim(Process):
    """A running penstock-sim. Its port stays its own when it ends, for the next one that is started there."""

    def __init__(self, *flags, port=0, host=LOOPBACK, prefix=()):
        port = port or reserve_port()
        # The gateway is what is under test: the sim takes the engine that starts fastest and is the same everywhere.
        where = () if "--host" in flags else ("--host", host)
        super().__init__([*prefix, SIM, *where, "--port", port, "--ring", "epoll", *flags])
        line = self.out.wait(r"listening on (\S+):(\d+)")
        if line is None:
            raise AssertionError(f"the sim ended with {self.wait()}:\n{self.log()}")
        self.port = int(line.group(2))
        self.address = f"{host}:{self.port}"
        self.url = "http://" + self.address

    def get(self, path):
        return fetch(self.port, path)

    def metrics(self):
        return Metrics(self.get("/metrics").body.decode())

    def gauge(self, name):
        return self.metrics().sum(name)


def wires():
    import wires as module  # pylint: disable=import-outside-toplevel,redefined-outer-name

    return module


# A failure is told at once, where waiting for an endpoint to come back is not what the test is about.
AT_ONCE = "flow_control: {no_endpoint_ttl: none}\nresume: {wait: 200ms}\n"


class Gateway(Process):
    """A running penstock. `endpoints` are URLs; `config` is the text of a configuration without listen and admin;
    `prefix` is a command that executes what follows it; `admin` is where its admin port is (None: the config says), and
    `admin_context` what TLS to use there."""

    ports = set()  # where gateways serve clients that speak another protocol than HTTP/1.1 on a plain socket

    def __init__(
        self,
        endpoints=(),
        config=None,
        flags=(),
        directory=None,
        ready=True,
        access_log=False,
        shards=2,
        prefix=(),
        any_path=False,
        admin=f"{LOOPBACK}:0",
        listen=f"{LOOPBACK}:0",
        admin_context=None,
    ):
        self.admin_context = admin_context
        self.directory = directory
        self.any_path = any_path
        self.config_path = None
        command = [PENSTOCK, "serve", "--listen", listen, "--ring", RING, "--shards", str(shards)]
        command += wires().gateway_flags() if PROTOCOL != "http/1.1" else []
        command += ["--admin", admin] if admin else []
        if config is None and (any_path or not access_log):
            config = ""
        if config is not None:
            if not access_log and "access_log" not in config:
                config += "\naccess_log: {enabled: false}\n"
            if "pin:" not in config:
                config += "pin: false\n"  # many gateways run at the same time on these few CPUs
            self.config_path = os.path.join(directory, "gateway.yaml")
            self.write_config(config)
            command += ["--config", self.config_path]
        for url in endpoints:
            command += ["--endpoint", url]
        # The locked memory of a user who may lock little is shared with the tests beside this one, and that of a gateway
        # that has ended comes back late.
        deadline = time.monotonic() + PATIENCE
        while not self._start([*prefix, *command, *flags], ready, may_lack_memory=time.monotonic() < deadline):
            pass

    def _start(self, command, ready, may_lack_memory):
        """False when it could not for want of locked memory, and that is nothing to fail for."""
        super().__init__(command)
        try:
            self._await_start(ready)
        except BaseException as error:
            code = self.kill()
            if may_lack_memory and "RLIMIT_MEMLOCK is used up" in self.log():
                return False
            raise AssertionError(f"the gateway did not start, {code}: {error}\n{self.log()}") from None
        return True

    def _await_start(self, ready):
        started = self.err.wait(r"serving\W.*?listen\W+(?:\S+?):(\d+)")
        if started is None:
            raise AssertionError("it ended")
        self.port = int(started.group(1))
        self.admin_port = int(self.err.wait(r"admin pages\W.*?listen\W+(?:\S+?):(\d+)").group(1))
        if PROTOCOL != "http/1.1":
            self.port = wires().client_port(self)
            Gateway.ports.discard(self.admin_port)
            Gateway.ports.add(self.port)
        self.address = f"{LOOPBACK}:{self.port}"
        if ready:
            self.wait_ready()

    def write_config(self, text):
        if "kind:" not in text:
            text = "kind: GatewayConfig\n" + text
        if self.any_path and "kind: GatewayConfig" in text and "paths:" not in text:
            text += '\npaths: {allow: ["/**"]}\n'
        with open(self.config_path, "w", encoding="utf-8") as file:
            file.write(text)

    def wait_ready(self):
        """Until it has begun to serve: it is ready, or all that it lacks is an endpoint that lives."""

        def begun():
            answer = self.admin("/readyz")
            return answer.status == 200 or b"no endpoint can be used" in answer.body

        wait_for("the gateway is ready", begun)

    def wait_pods(self, count, timeout=None):
        wait_for(f"{count} ready pods", lambda: self.metrics().sum("inference_pool_ready_pods") == count, timeout)

    def admin(self, path, method="GET", body=None):
        return fetch(self.admin_port, path, method, body, tls=self.admin_context)

    def metrics(self):
        return Metrics(self.admin("/metrics").body.decode())

    def status_page(self):
        return json.loads(self.admin("/status").body)

    def value(self, name, /, **labels):
        """The sum of a metric's series with these labels, now."""
        return self.metrics().sum(name, **labels)

    def memory(self):
        return self.metrics().value("penstock_memory_used_bytes")

    def outcomes(self):
        metrics = self.metrics()
        found = {labels["outcome"]: int(value) for labels, value in metrics.series("penstock_requests_total")}
        return {name: count for name, count in found.items() if count}

    def wait_outcomes(self, expected, timeout=None):
        """Waits until as many requests have ended as expected, then compares how. A client may have its whole answer
        a moment before the request is counted: counts are looked at only behind this."""
        total = sum(expected.values())
        wait_for(f"{total} requests have ended", lambda: sum(self.outcomes().values()) >= total, timeout)
        found = self.outcomes()
        if found != expected:
            raise AssertionError(f"outcomes: {found}, expected {expected}\n{self.log()[-2000:]}")

    def wait_idle(self, timeout=None):
        """Everything that was begun has ended, and nothing is held for it any more."""

        def at_rest():
            metrics = self.metrics()
            left = {
                name: metrics.sum(name)
                for name in (
                    "penstock_requests_in_flight",
                    "penstock_endpoint_requests_in_flight",
                    "inference_objective_running_requests",
                )
            }
            return not any(left.values())

        wait_for("the gateway is at rest", at_rest, timeout)
        metrics = self.metrics()
        started, ended = metrics.sum("penstock_requests_started_total"), metrics.sum("penstock_requests_total")
        if started != ended:
            raise AssertionError(f"{started} requests started, {ended} ended, none in flight")

    def stop(self):
        """Ends in the orderly way and says whether it was; safe to call twice."""
        for _ in range(2):  # the second signal ends at once, whatever is still running
            if not self.alive():
                break
            self.signal(signal.SIGINT)
            try:
                self.wait(2)
            except subprocess.TimeoutExpired:
                pass
        Gateway.ports.discard(self.port)  # the next program may get it
        if self.alive():
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError("the gateway did not end after two signals:\n" + self.log()) from None
        return self.popen.returncode


def run_program(*arguments, timeout=None):
    """Runs a program that is expected to end; returns its exit code, stdout and stderr."""
    done = subprocess.run(
        [str(word) for word in arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE if timeout is None else timeout,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


# ---- metrics ----


class Metrics:
    """A page in the Prometheus text format."""

    _line = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
    _label = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

    def __init__(self, text):
        self.text = text
        self.types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
        self._series = collections.defaultdict(list)
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            match = self._line.match(line)
            if match is None:
                raise AssertionError(f"not a metric: {line!r}")
            labels = {name: value.replace(r"\"", '"') for name, value in self._label.findall(match.group(2) or "")}
            self._series[match.group(1)].append((labels, float(match.group(3))))

    def names(self):
        return set(self._series)

    def series(self, name, /, **labels):
        return [s for s in self._series.get(name, []) if all(s[0].get(k) == v for k, v in labels.items())]

    def value(self, name, /, **labels):
        """The one series with these labels."""
        found = self.series(name, **labels)
        if len(found) != 1:
            raise AssertionError(f"{len(found)} series {name}{labels}; there are {self._series.get(name)}")
        return found[0][1]

    def sum(self, name, /, **labels):
        return sum(value for _, value in self.series(name, **labels))


# ---- a client that sees bytes ----


class Response:
    """An answer: its head, its body as sent (`raw`) and decoded (`body`)."""

    def __init__(self, version, status, reason, headers):
        self.version, self.status, self.reason, self.headers = version, status, reason, headers
        self.raw = self.body = b""
        self.chunks = []
        self.trailers = []
        self.interim = []
        self.complete = False  # ended as its framing says

    def header(self, name):
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return values[0] if values else None

    def header_all(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def json(self):
        return json.loads(self.body)

    def events(self):
        """The data of each server-sent event."""
        text = self.body.decode()
        found = []
        for block in text.split("\n\n"):
            data = [line[5:].strip() for line in block.split("\n") if line.startswith("data:")]
            if data:
                found.append("\n".join(data))
        return found

    def __repr__(self):
        return f"<{self.status} {self.reason} {len(self.body)} bytes, complete={self.complete}: {self.body[:300]!r}>"


class ConnectionEnded(Exception):
    """The peer closed (or reset) where an answer should have come or gone on."""

    def __init__(self, response=None, reset=False):
        super().__init__(f"connection ended: reset={reset} {response}")
        self.response, self.reset = response, reset


class Client:
    """One connection, used byte by byte."""

    def __init__(self, port, timeout=None, receive_buffer=None, address=LOOPBACK):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(PATIENCE if timeout is None else timeout)
        try:
            self.sock.connect((address, port))
        except OSError:
            self.sock.close()
            raise
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if port in Gateway.ports:
            self.sock = wires().wrap(self.sock)
        self.buffer = b""
        self.ended = False

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def close(self):
        self.sock.close()

    def reset(self):
        """Closes with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def _fill(self):
        try:
            data = self.sock.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            self.ended = True
            raise ConnectionEnded(reset=True) from None
        except socket.timeout:
            raise AssertionError(f"no bytes in time; have {self.buffer[-300:]!r}") from None
        if not data:
            self.ended = True
            raise ConnectionEnded()
        self.buffer += data

    def _take(self, size):
        while len(self.buffer) < size:
            self._fill()
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def _take_line(self):
        while b"\r\n" not in self.buffer:
            self._fill()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def read_head(self):
        start = self._take_line().decode("latin-1")
        version, status, reason = (start.split(" ", 2) + [""])[:3]
        headers = []
        while True:
            line = self._take_line().decode("latin-1")
            if not line:
                return Response(version, int(status), reason, headers)
            name, value = line.split(":", 1)
            headers.append((name, value.strip()))

    def read_response(self, method="GET"):
        """A whole answer. ConnectionEnded carries what there was of it."""
        interim = []
        while True:
            response = self.read_head()
            if response.status >= 200 or response.status == 101:
                break
            interim.append(response)
        response.interim = interim
        try:
            self._read_body(response, method)
        except ConnectionEnded as end:
            raise ConnectionEnded(response, end.reset) from None
        response.complete = True
        return response

    def _read_body(self, response, method):
        if method == "HEAD" or response.status in (101, 204, 304):
            return
        if (response.header("transfer-encoding") or "").lower() == "chunked":
            return self._read_chunks(response)
        length = response.header("content-length")
        if length is not None:
            self._read_length(response, int(length))
            return
        try:
            while True:
                if self.buffer:
                    response.raw += self.buffer
                    self.buffer = b""
                    response.body = response.raw
                self._fill()
        except ConnectionEnded as end:
            if end.reset:
                raise

    def _read_length(self, response, length):
        parts, have = [], 0
        try:
            while have < length:
                if not self.buffer:
                    self._fill()
                part, self.buffer = self.buffer[: length - have], self.buffer[length - have :]
                parts.append(part)
                have += len(part)
        finally:
            response.raw = response.body = b"".join(parts)

    def _read_chunks(self, response):
        try:
            self._read_chunks_inner(response)
        finally:
            response.body = b"".join(response.chunks)

    def _read_chunks_inner(self, response):
        while True:
            line = self._take_line()
            response.raw += line + b"\r\n"
            size = int(line.split(b";")[0], 16)
            if size == 0:
                break
            data = self._take(size + 2)
            response.raw += data
            response.chunks.append(data[:-2])
        while True:
            line = self._take_line()
            response.raw += line + b"\r\n"
            if not line:
                return
            name, value = line.decode("latin-1").split(":", 1)
            response.trailers.append((name, value.strip()))

    def request(self, method, path, body=None, headers=(), version="HTTP/1.1"):
        self.send(request_bytes(method, path, body, headers, version))
        return self.read_response(method)

    def post(self, path, body, headers=(), **more):
        return self.request("POST", path, body, headers, **more)

    def read_until_end(self):
        """All bytes up to the end of the connection, and whether that was a reset."""
        try:
            while True:
                self._fill()
        except ConnectionEnded as end:
            return self.buffer, end.reset


def request_bytes(method, path, body=None, headers=(), version="HTTP/1.1"):
    if isinstance(body, (dict, list)):
        body = json.dumps(body).encode()
    elif isinstance(body, str):
        body = body.encode()
    names = {name.lower() for name, _ in headers}
    head = f"{method} {path} {version}\r\n"
    if "host" not in names:
        head += "host: test\r\n"
    if body is not None and "content-length" not in names and "transfer-encoding" not in names:
        head += f"content-length: {len(body)}\r\n"
    if body is not None and "content-type" not in names:
        head += "content-type: application/json\r\n"
    for name, value in headers:
        head += f"{name}: {value}\r\n"
    return head.encode("latin-1") + b"\r\n" + (body or b"")


def chunked(*pieces, trailers=""):
    data = b""
    for piece in pieces:
        piece = piece if isinstance(piece, bytes) else piece.encode()
        data += b"%x\r\n" % len(piece) + piece + b"\r\n"
    return data + b"0\r\n" + trailers.encode() + b"\r\n"


def fetch(port, path, method="GET", body=None, headers=(), tls=None):
    """One request on a connection of its own."""
    client = Client(port)
    try:
        if tls:
            client.sock = tls.wrap_socket(client.sock, server_hostname=LOOPBACK, suppress_ragged_eofs=False)
        return client.request(method, path, body, [*headers, ("connection", "close")])
    finally:
        client.close()


# ---- an endpoint that does what a test says ----


class FakeRequest:
    def __init__(self, head, body, raw_body):
        self.raw_head, self.body, self.raw_body = head, body, raw_body
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, self.version = lines[0].split(" ", 2)
        self.headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:] if line]

    def header(self, name):
        values = self.header_all(name)
        return values[0] if values else None

    def header_all(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]


OK_JSON = b'{"object":"test","choices":[],"usage":{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2}}'


def answer_bytes(status=200, body=OK_JSON, headers=(), content_type="application/json", reason="Fine"):
    head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n"
    for name, value in headers:
        head += f"{name}: {value}\r\n"
    return head.encode("latin-1") + b"\r\n" + body


class FakeEndpoint:
    """An endpoint in threads. `script(request, sock)` answers each request that is not the gateway's own poll; it
    returns True to keep the connection. Without a script every answer is 200 with a small JSON body.
    `early(head, sock)` is asked when only the head has come; the connection ends when it returns True.
    `poll_script(request, sock)` answers the polls instead."""

    def __init__(self, script=None):
        self.script = script
        self.early = self.poll_script = None
        self.requests = []
        self.connections = 0
        self.bytes_seen = []  # per connection: everything it brought, whether or not it made a request
        self._lock = threading.Lock()
        self._sockets = set()
        self._closed = self._deaf = False
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.bind((LOOPBACK, 0))
        self.listener.listen(512)
        self.port = self.listener.getsockname()[1]
        self.address = f"{LOOPBACK}:{self.port}"
        self.url = "http://" + self.address
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closed:
                    sock.close()
                    return
                self._sockets.add(sock)
                if self._deaf:
                    return
                self.connections += 1
                seen = bytearray()
                self.bytes_seen.append(seen)
            threading.Thread(target=self._serve, args=(sock, seen), daemon=True).start()

    def _serve(self, sock, seen):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        state = {"buffer": b""}

        def fill():
            data = sock.recv(65536)
            if not data:
                raise EOFError
            seen.extend(data)
            state["buffer"] += data

        def take(size):
            while len(state["buffer"]) < size:
                fill()
            taken, state["buffer"] = state["buffer"][:size], state["buffer"][size:]
            return taken

        def take_to(mark):
            while mark not in state["buffer"]:
                fill()
            taken, state["buffer"] = state["buffer"].split(mark, 1)
            return taken

        try:
            while True:
                request = self._read_request(take, take_to, sock)
                if request is None:
                    return
                if self._is_poll(request):
                    if self.poll_script is not None:
                        self.poll_script(request, sock)
                    else:
                        sock.sendall(self._poll_answer(request))
                    continue
                with self._lock:
                    self.requests.append(request)
                if self.script is None:
                    sock.sendall(answer_bytes())
                elif not self.script(request, sock):
                    return
        except (EOFError, OSError):
            pass
        finally:
            with self._lock:
                self._sockets.discard(sock)
            sock.close()

    def _read_request(self, take, take_to, sock):
        head = take_to(b"\r\n\r\n")
        text = head.lower()
        if self.early is not None and b"\r\nvia: " in text and self.early(head, sock):
            return None
        length = re.search(rb"\r\ncontent-length: *(\d+)", text)
        if length:
            body = take(int(length.group(1)))
            return FakeRequest(head, body, body)
        if b"\r\ntransfer-encoding: chunked" not in text:
            return FakeRequest(head, b"", b"")
        body = raw = b""
        while True:
            line = take_to(b"\r\n")
            raw += line + b"\r\n"
            size = int(line.split(b";")[0], 16)
            data = take(size + 2)
            raw += data
            if size == 0:
                return FakeRequest(head, body, raw)
            body += data[:-2]

    @staticmethod
    def _is_poll(request):
        return request.header("user-agent") == "penstock" and request.header("via") is None

    @staticmethod
    def _poll_answer(request):
        if request.path == "/health":
            return answer_bytes(body=b"", content_type="text/plain")
        if request.path == "/metrics":
            text = b"vllm:num_requests_running 0\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0\n"
            return answer_bytes(body=text, content_type="text/plain; version=0.0.4")
        return answer_bytes(404, b"{}")

    def all_bytes(self):
        """What has come on all connections together."""
        with self._lock:
            return b"".join(bytes(seen) + b"\n" for seen in self.bytes_seen)

    def go_deaf(self):
        """No further connection is served, and hardly any queued."""
        with self._lock:
            self._deaf = True
        waker = socket.create_connection((LOOPBACK, self.port))  # the last one that is accepted
        self._thread.join(PATIENCE)
        with self._lock:
            self._sockets.add(waker)
        self.listener.listen(0)

    def wait_requests(self, count):
        wait_for(f"{count} requests at the endpoint", lambda: len(self.requests) >= count)
        return self.requests

    def close(self):
        with self._lock:
            self._closed = True
            sockets = list(self._sockets)
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join(PATIENCE)
        self.listener.close()
        for sock in sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it
            except OSError:
                pass
            sock.close()


def hard_reset(sock):
    """Closes a socket with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    sock.close()


# ---- test cases ----


class E2E(unittest.TestCase):
    """Makes processes that end with the test. Class-wide ones: E2E.sim(cls, ...) from setUpClass."""

    longMessage = True
    any_path = False  # its gateways let clients reach all paths, not only those of model servers
    maxDiff = 2000

    def _later(self, function, *arguments):
        # Called on an instance, or on a class from setUpClass.
        (self.addClassCleanup if isinstance(self, type) else self.addCleanup)(function, *arguments)

    def directory(self):
        path = tempfile.mkdtemp(prefix="penstock-e2e-")
        E2E._later(self, shutil.rmtree, path, True)
        return path

    def file(self, name, text):
        """The path of a new file, alone in its folder."""
        path = os.path.join(E2E.directory(self), name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def held(self, script):
        """An event, and a script of a FakeEndpoint that waits for it first. The event comes with the test's end at last."""
        release = threading.Event()
        self.addCleanup(release.set)

        def when_released(*arguments):
            release.wait(PATIENCE)
            return script(*arguments)

        return release, when_released

    def sim(self, *flags, port=0):
        sim = Sim(*flags, port=port)
        E2E._later(self, sim.kill)
        return sim

    def fake(self, script=None):
        fake = FakeEndpoint(script)
        E2E._later(self, fake.close)
        return fake

    def gateway(self, endpoints=(), config=None, **options):
        urls = [e if isinstance(e, str) else e.url for e in endpoints]
        options.setdefault("any_path", self.any_path)
        gateway = Gateway(urls, config, directory=E2E.directory(self), **options)
        E2E._later(self, E2E._end_gateway, gateway)
        return gateway

    @staticmethod
    def _end_gateway(gateway):
        ended_before = not gateway.alive()
        try:
            if not ended_before:
                gateway.wait_idle()
        finally:
            code = gateway.stop()
            if code != 0 and not getattr(gateway, "expected_code", None) == code:
                raise AssertionError(f"the gateway ended with {code}:\n{gateway.log()[-6000:]}")

    def client(self, gateway_or_port, **options):
        port = gateway_or_port if isinstance(gateway_or_port, int) else gateway_or_port.port
        client = Client(port, **options)
        E2E._later(self, client.close)
        return client


def in_threads(count, work):
    """Runs work(i) in `count` threads and returns what each returned; raises the first exception."""
    results, errors = [None] * count, []

    def run(i):
        try:
            results[i] = work(i)
        except BaseException as error:  # pylint: disable=broad-except
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE * 3)
        if thread.is_alive():
            raise AssertionError("a client thread did not end in time")
    if errors:
        raise errors[0]
    return results


def completion(prompt="Tell me about water.", max_tokens=8, **more):
    return {"model": "sim-model", "prompt": prompt, "max_tokens": max_tokens, **more}


def chat(text="Tell me about water.", max_tokens=8, **more):
    return {"model": "sim-model", "messages": [{"role": "user", "content": text}], "max_tokens": max_tokens, **more}


def pool_manifest(*ports, name="pool"):
    """An InferencePool and its one pod, which listens at these ports."""
    numbers = ", ".join(f"{{number: {port}}}" for port in ports)
    return f"""---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {{name: {name}}}
spec: {{selector: {{matchLabels: {{app: {name}}}}}, targetPorts: [{numbers}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}-0, uid: {name}, labels: {{app: {name}}}}}
status: {{phase: Running, podIP: {LOOPBACK}, conditions: [{{type: Ready, status: "True"}}]}}
"""


def skip_without_ring():
    """Ends this program, and says why, where the ring that was asked for cannot be used."""
    if RING == "io_uring":
        _, text, _ = run_program(PENSTOCK, "version")
        if not re.search(r"^io_uring usable", text, re.M):
            reason = re.search(r"^io_uring (.*)$", text, re.M)
            print(f"skipped: io_uring is {reason.group(1) if reason else 'not known to this build'}")
            sys.exit(77)  # what meson takes for "skipped"


def main():
    """Runs the tests of the calling module: FILE [--ring epoll|io_uring] [--protocol NAME] [unittest options]."""
    skip_without_ring()
    unittest.main(module="__main__", verbosity=2)
