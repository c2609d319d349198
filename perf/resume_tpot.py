#!/usr/bin/env python3
"""What streams feel when an endpoint beside theirs dies: 300 streams on four simulated engines, one of which is killed. Its
streams are computed again on the other three, where prefill takes time from every stream that decodes.

resume_tpot.py --build DIR [--at-once N ...]   for each N (resume.at_once; default 2, 8 and 64) the time between two tokens of the
                                               streams on the three survivors: before, while streams go on there, and after

Engines are those of an H100 with a model of 32 billion parameters (docs/REPLAY.md) at half their speed, so that two cores
can carry four of them, the gateway and the clients; what is reported are ratios.
"""
import argparse
import json
import os
import random
import selectors
import socket
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ENGINE = ["--prefill-tokens-per-s", 10250, "--decode-ms", 28, "--decode-ms-per-seq", 0.2, "--decode-ms-per-1k-tokens", 0.112,
          "--kv-blocks", 17625, "--max-num-batched-tokens", 8192, "--text", "varied"]
WORDS = "water gate pipe wheel river dam flow valve steel head shaft stone level pressure turbine mill".split()
LIMIT = 30  # seconds for anything to happen


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


class Stream:
    """One stream: when its bytes came. A read that brings several events counts as one arrival."""

    def __init__(self, port, body):
        self.sock = socket.create_connection(("127.0.0.1", port))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: perf\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.sock.sendall(head.encode() + body)
        self.sock.setblocking(False)
        self.arrivals, self.server, self.ended = [], None, None

    def read(self):
        data = self.sock.recv(1 << 16)
        if self.server is None:
            head = data.split(b"\r\n\r\n")[0].lower()
            self.server = head.split(b"x-sim-name: ")[1].split(b"\r\n")[0].decode()
            return
        if not data or b'"error"' in data or b"[DONE]" in data:
            self.ended = data
        self.arrivals.append(time.monotonic())

    def gaps(self, begin, end):
        """Times between two arrivals of which the second one is in this window."""
        return [b - a for a, b in zip(self.arrivals, self.arrivals[1:]) if begin <= b < end]


class Load:
    def __init__(self, port, streams, prompt_tokens, seed):
        self.port, self.streams = port, []
        self.rng = random.Random(seed)
        self.selector = selectors.DefaultSelector()
        self.wanted, self.prompt_words = streams, prompt_tokens * 4 // 6

    def begin_one(self):
        prompt = f"{len(self.streams)} " + " ".join(self.rng.choices(WORDS, k=self.prompt_words))
        body = {"model": "sim-model", "stream": True, "max_tokens": 4000, "messages": [{"role": "user", "content": prompt}]}
        stream = Stream(self.port, json.dumps(body).encode())
        self.streams.append(stream)
        self.selector.register(stream.sock, selectors.EVENT_READ, stream)

    def run(self, seconds=LIMIT, until=None):
        """Reads for so long, or until something is so."""
        end, look_at = time.monotonic() + seconds, 0.0
        while (now := time.monotonic()) < end:
            if until and now >= look_at:
                if until():
                    return True
                look_at = now + 0.02
            for key, _ in self.selector.select(0.02):
                key.data.read()
                if key.data.ended is not None:
                    self.selector.unregister(key.data.sock)
        return False

    def begin_all(self, seconds):
        for _ in range(self.wanted):
            self.begin_one()
            self.run(seconds / self.wanted)


def measure(case, harness, options, at_once):
    names = [f"engine-{i}" for i in range(4)]
    sims = {name: case.sim(*ENGINE, "--name", name) for name in names}
    gateway = case.gateway(list(sims.values()), f"resume: {{at_once: {at_once}, wait: 30s}}\n", shards=1)
    gateway.wait_pods(4)
    load = Load(gateway.port, options.streams, options.prompt_tokens, options.seed)
    load.begin_all(8)
    if not load.run(until=lambda: all(len(s.arrivals) > 20 for s in load.streams)):
        raise AssertionError("not all streams have begun")
    began = time.monotonic()
    load.run(5)
    victim = max(names, key=lambda name: sum(s.server == name for s in load.streams))
    moved = [s for s in load.streams if s.server == victim]
    stayed = [s for s in load.streams if s.server != victim]
    killed = time.monotonic()
    sims[victim].kill()
    load.run(0.05)  # what it had sent
    counts = [(s, len(s.arrivals)) for s in moved]
    load.run(until=lambda: all(len(s.arrivals) > n or s.ended is not None for s, n in counts))
    resumed = time.monotonic()
    load.run(3)
    after = time.monotonic()
    pauses = [max(s.gaps(killed, after), default=0) for s in moved]
    for stream in load.streams:
        harness.hard_reset(stream.sock)
    windows = {"before": (began, killed), "during": (killed, resumed), "after": (resumed, after)}
    report(at_once, windows, stayed, moved, pauses)


def report(at_once, windows, stayed, moved, pauses):
    broken = sum(s.ended is not None for s in moved + stayed)
    during = windows["during"]
    print(f"\nresume.at_once {at_once}: {len(moved)} streams moved in {during[1] - during[0]:.2f} s, {broken} broken; "
          f"their pauses p50 {percentile(pauses, 0.5) * 1000:.0f} ms, p99 {percentile(pauses, 0.99) * 1000:.0f} ms")
    print(f"{'on the survivors':18} {'gap p50':>9} {'gap p99':>9} {'longest':>9} {'TPOT p50':>9} {'TPOT p99':>9}   (ms)")
    base = None
    for name, (begin, end) in windows.items():
        of_each = [gaps for s in stayed if (gaps := s.gaps(begin, end))]
        gaps = [gap * 1000 for one in of_each for gap in one]
        means = [sum(one) / len(one) * 1000 for one in of_each]
        row = [percentile(gaps, 0.5), percentile(gaps, 0.99), max(gaps), percentile(means, 0.5), percentile(means, 0.99)]
        base = base or row
        print(f"{name:18} " + " ".join(f"{value:9.1f}" for value in row) + "   x " + " ".join(f"{a / b:.2f}" for a, b in zip(row, base)))
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", required=True, help="folder with the programs")
    parser.add_argument("--at-once", type=int, nargs="+", default=[2, 8, 64], help="values of resume.at_once (2 8 64)")
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--prompt-tokens", type=int, default=500)
    parser.add_argument("--seed", default="1")
    options = parser.parse_args()
    os.environ["PENSTOCK"] = os.path.join(options.build, "src/app/penstock")
    os.environ["PENSTOCK_SIM"] = os.path.join(options.build, "src/sim/penstock-sim")
    sys.argv[1:] = []
    sys.path.insert(0, os.path.join(TOP, "tests/e2e"))
    import harness  # pylint: disable=import-outside-toplevel
    for at_once in options.at_once:
        case = harness.E2E()
        try:
            measure(case, harness, options, at_once)
        finally:
            case.doCleanups()


if __name__ == "__main__":
    main()
