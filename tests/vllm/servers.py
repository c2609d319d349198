"""Real vLLM servers on the CPU with a tiny model, and relays that break a stream of theirs at a chosen place.

PENSTOCK_VLLM_PYTHON (or --python) names a Python that has vLLM: this file itself needs nothing but Debian's.
"""

import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

import harness  # noqa: E402  pylint: disable=wrong-import-position
from harness import LOOPBACK, Process, fetch, hard_reset, wait_for  # noqa: E402  pylint: disable=wrong-import-position

PYTHON = harness._argument("--python", os.environ.get("PENSTOCK_VLLM_PYTHON", ""))  # pylint: disable=protected-access
MODEL = "tiny"
CONTEXT = 2048  # that of make_model.py
START_S = 240  # two servers start on two cores at the same time
# A thread of its own for each server, which the kernel may move: both would take the same core otherwise.
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


def why_not():
    """Why there is no vLLM to test with; None if there is one."""
    if not PYTHON:
        return "PENSTOCK_VLLM_PYTHON does not name a Python that has vLLM"
    try:
        asked = subprocess.run([PYTHON, "-c", "import vllm"], capture_output=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{PYTHON} does not run: {error}"
    if asked.returncode != 0:
        return f"{PYTHON} has no vLLM: {asked.stderr.decode(errors='replace').strip().splitlines()[-1:]}"
    return None


def make_model(folder):
    subprocess.run([PYTHON, HERE / "make_model.py", folder], check=True, timeout=120)


class Vllm(Process):
    """A vLLM server and its engine, in a process group of their own. Its port stays its own, as that of a Sim does. `pace_ms`:
    that each step of its engine takes at least (pace.py)."""

    def __init__(self, model, folder, port=0, pace_ms=0):
        self.port = port = port or harness.reserve_port()
        self.url = f"http://{LOOPBACK}:{port}"
        flags = {
            "model": model,
            "served-model-name": MODEL,
            "host": LOOPBACK,
            "port": port,
            "dtype": "float32",
            "max-model-len": CONTEXT,
            "max-num-seqs": 16,
        }
        command = ["setsid", PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
        command += [word for name, value in flags.items() for word in (f"--{name}", value)]
        environment = {**ENVIRONMENT, "VLLM_CACHE_ROOT": folder, "VLLM_CONFIG_ROOT": folder}
        if pace_ms:
            command += ["--logits-processors", "pace:Pace"]
            environment |= {"PENSTOCK_VLLM_PACE_MS": str(pace_ms), "PYTHONPATH": str(HERE)}
        super().__init__(command, environment)

    def wait_ready(self):
        def healthy():
            if not self.alive():
                raise AssertionError(f"vLLM ended with {self.popen.returncode}:\n{self.log()[-4000:]}")
            try:
                return fetch(self.port, "/health").status == 200
            except (OSError, harness.ConnectionEnded):
                return False

        wait_for("vLLM serves", healthy, START_S, interval=0.2)

    def processes(self):
        """The pids of all that belongs to it, by their command line's name: {pid: name}."""
        found = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                if os.getpgid(int(entry)) == self.pid:
                    found[int(entry)] = pathlib.Path("/proc", entry, "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue  # it has ended since
        return found

    def signal_engine(self, number):
        """Only what computes: the server that speaks HTTP lives on."""
        engines = [pid for pid, name in self.processes().items() if "EngineCore" in name]
        if not engines:
            raise AssertionError(f"no engine among {self.processes()}")
        for pid in engines:
            os.kill(pid, number)

    def signal_all(self, number):
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    def kill(self):
        self.signal_all(signal.SIGKILL)
        return super().kill()


class Cut:
    """One break of the next stream. `place`: behind the event with which so many characters of text have gone through
    (vLLM puts more or fewer tokens into an event, as it comes), or in front of the event that has this string. `more`:
    so many bytes of the next event go through as well. `how`: "reset", "end", or "silence"."""

    strike = None

    def __init__(self, place, how="reset", more=0):
        self.place, self.how, self.more = place, how, more
        self.events = []  # that have gone through: the data of each
        self.text = ""  # of these
        self.finished = False  # one of them had a finish reason
        self._beginning = b""

    def reached_in(self, data):
        """Where in these bytes of the body, chunk sizes and all, the break is; None: not in these."""
        before, whole, at = len(self._beginning), self._beginning + data, 0
        for end in re.finditer(rb"\n\n(\r\n)?", whole):
            event = whole[at : end.end()]
            event = event[event.find(b"data: ") + 6 :].strip()
            if isinstance(self.place, str) and self.place.encode() in event:
                return at - before + self.more
            self._passed(event.decode())
            at = end.end()
            if self.is_behind():
                return at - before + self.more
        self._beginning = whole[at:]
        return None

    def is_behind(self):
        return isinstance(self.place, int) and len(self.text) >= self.place

    def _passed(self, event):
        self.events.append(event)
        if event != "[DONE]":
            event = json.loads(event)
            if event.get("type") == "response.output_text.delta":
                self.text += event["delta"]
            for choice in event.get("choices", ()):
                self.finished = self.finished or bool(choice.get("finish_reason"))
                self.text += choice.get("delta", choice).get("content" if "delta" in choice else "text") or ""


class Strike:
    """Something that happens to the server of several streams: when each has brought EACH tokens, or one of them AT_LATEST.
    Nothing else of the stream that was counted last goes through until it has happened."""

    EACH, AT_LATEST = 20, 300

    def __init__(self, streams, happens):
        self.happens = happens
        self.cuts = [Counted(self) for _ in range(streams)]
        self._lock, self._due = threading.Lock(), False

    def is_due(self):
        """True once."""
        counts = [len(cut.events) for cut in self.cuts]  # an event has one token at least
        with self._lock:
            due = not self._due and (min(counts) >= self.EACH or max(counts) >= self.AT_LATEST)
            self._due = self._due or due
            return due


class Counted(Cut):
    """Not a break of this stream, but of all those that it is counted with."""

    def __init__(self, strike):
        super().__init__(place=None, how="strike")
        self.strike = strike

    def is_behind(self):
        return self.strike.is_due()


class Cuts:
    """The breaks that are still to come, for the streams through all relays that share this, one after the other."""

    def __init__(self):
        self._lock = threading.Lock()
        self._next, self.done = [], []

    def arm(self, cuts):
        with self._lock:
            self._next, self.done = list(cuts), []

    def take(self):
        with self._lock:
            return self._next.pop(0) if self._next else None

    def made(self, cut):
        with self._lock:
            self.done.append(cut)


class Relay:
    """Stands before a server, and passes bytes on until a cut says otherwise."""

    STREAM = re.compile(rb"^content-type: text/event-stream.*?\r\n\r\n", re.I | re.M | re.S)

    def __init__(self, port, cuts):
        self.behind, self.cuts = port, cuts
        self.listener = socket.create_server((LOOPBACK, 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            server = socket.create_connection((LOOPBACK, self.behind))
        except OSError:
            hard_reset(client)
            return
        try:
            self._pass(client, server)
        except OSError:
            pass
        finally:
            server.close()
            client.close()

    def _pass(self, client, server):
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        cut = None
        while True:
            ready, _, _ = select.select([client, server], [], [])
            if client in ready:
                data = client.recv(65536)
                if not data:
                    return
                cut = None  # another request
                server.sendall(data)
            if server in ready:
                data = server.recv(65536)
                if not data:
                    return
                head = self.STREAM.search(data)
                if head:
                    cut = self.cuts.take()
                if cut is None:
                    client.sendall(data)
                elif not self._pass_until(cut, data, head.end() if head else 0, client):
                    if not cut.strike:
                        return
                    cut = None

    def _pass_until(self, cut, data, body_at, client):
        """False: the place has come, and what was to be done there is done."""
        at = cut.reached_in(data[body_at:])
        if at is None:
            client.sendall(data)
            return True
        at = body_at + max(0, at)
        client.sendall(data[:at])
        self.cuts.made(cut)
        if cut.strike:
            cut.strike.happens()
            client.sendall(data[at:])
        if cut.how == "reset":
            hard_reset(client)
        elif cut.how == "silence":
            client.recv(65536)  # until the gateway has had enough
        return False

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join(harness.PATIENCE)
        self.listener.close()
