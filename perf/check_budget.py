#!/usr/bin/env python3
"""Holds Penstock to a budget of system calls and instructions per request and per relayed chunk.

Counts, not times: they do not depend on what else the machine does, so CI can check them. System calls are
those of the shard's thread (strace). Instructions are user-space ones of that thread (valgrind's callgrind),
as the difference between a long and a short run, so that start-up cancels out; the two engines differ little
in them, and valgrind does not end a process well whose ring is busy, so they are counted on epoll alone.
"""
import argparse
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

SKIPPED = 77  # what meson takes for "skipped"
CONNECTIONS = 32

# (engine, work): (system calls, instructions) at most, for one request of 1 KiB or one chunk of 200 bytes: a ratchet, a
# little above what was counted last. Lower it with each gain.
BUDGET = {
    # 1,600 of them since paths, refusals and more fields of the log are looked at; 900 since an exchange is four objects and
    # its answer goes through a Responder; 140 for what came with TLS and WebSocket, 300 since answers may be asked for again
    # and endpoints waited for (25,524 were seen, and gcc varies).
    ("epoll", "request"): (4.5, 25650),
    ("io_uring", "request"): (2.4, None),
    ("epoll", "chunk"): (2.5, 2540),  # up to 2,490 were seen: it depends on how many chunks one read brings
    ("io_uring", "chunk"): (1.9, None),
}


def free_port():
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(what, seconds, condition):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: nothing after {seconds} s")
        time.sleep(0.05)


class Rig:
    """A back end and a gateway, both ended by their ids."""

    def __init__(self, options, folder):
        self.options = options
        self.folder = folder
        self.backend, self.gateway, self.port = None, None, 0
        self.backend_log = os.path.join(folder, "backend.log")
        with open(self.backend_log, "wb") as log:
            self.backend = subprocess.Popen([options.backend, "--ports", "2", "--step-ms", "20"], stdout=log)
        wait_until("back end", 10, lambda: self.text(self.backend_log).count("listening on") == 2)
        self.backends = re.findall(r"127\.0\.0\.1:\d+", self.text(self.backend_log))

    @staticmethod
    def text(path):
        with open(path, errors="replace") as f:
            return f.read()

    def start_gateway(self, ring, prefix=()):
        self.port = free_port()
        self.gateway_log = os.path.join(self.folder, "gateway.log")
        config = os.path.join(self.folder, "gateway.yaml")
        with open(config, "w") as f:
            f.write(f"kind: GatewayConfig\nlisten: 127.0.0.1:{self.port}\nadmin: 127.0.0.1:{free_port()}\nshards: 1\n"
                    f"ring: {{engine: {ring}}}\nlifecycle: {{drain_delay: none}}\nendpoints:\n"
                    + "".join(f"  - http://{backend}\n" for backend in self.backends))
        argv = [*prefix, self.options.penstock, "serve", "--config", config]
        with open(self.gateway_log, "wb") as log:
            self.gateway = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=log)
        wait_until("gateway", 60, self.ready)

    def ready(self):
        if self.gateway.poll() is not None:
            raise RuntimeError(f"gateway ended with status {self.gateway.returncode}: {self.text(self.gateway_log)[-400:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/models", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop_gateway(self, how=signal.SIGKILL):
        if self.gateway and self.gateway.poll() is None:
            self.gateway.send_signal(how)
            try:
                self.gateway.wait(60)
            except subprocess.TimeoutExpired:
                self.gateway.kill()
                self.gateway.wait()

    def close(self):
        self.stop_gateway()
        self.backend.kill()
        self.backend.wait()

    def load(self, work, amount):
        """Sends `amount` requests, prompts of 220 KB, or streams with `amount` chunks in all."""
        flags = ["--connections", str(CONNECTIONS), "--drain", "120", "--duration", "300"]
        if work == "chunk":
            flags += ["--mode", "sse", "--requests", str(CONNECTIONS), "--max-tokens", str(amount // CONNECTIONS)]
        else:
            flags += ["--mode", "request", "--requests", str(amount)]
        if work == "prompt":
            flags += ["--body-bytes", "220000", "--unique"]
        done = subprocess.run([self.options.sse_load, "--target", f"127.0.0.1:{self.port}", *flags], capture_output=True,
                              text=True)
        if done.returncode != 0:
            raise RuntimeError(f"load failed: {done.stdout} {done.stderr}")


def shard_thread(pid):
    for task in os.listdir(f"/proc/{pid}/task"):
        if Rig.text(f"/proc/{pid}/task/{task}/comm").startswith("shard"):
            return task
    raise RuntimeError("the gateway has no thread named shard...")


def traced(task):
    with open(f"/proc/{task}/status") as f:
        return "TracerPid:\t0\n" not in f.read()


def count_syscalls(rig, ring, work, amount):
    rig.start_gateway(ring)
    try:
        rig.load(work, 8 * CONNECTIONS)
        task = shard_thread(rig.gateway.pid)
        out = os.path.join(rig.folder, "strace.txt")
        tracer = subprocess.Popen(["strace", "-qq", "-c", "-p", task, "-o", out], stderr=subprocess.PIPE, text=True)
        try:
            wait_until("strace", 10, lambda: tracer.poll() is not None or traced(task))
            if tracer.poll() is not None:
                raise PermissionError(tracer.stderr.read().strip())
            rig.load(work, amount)
        finally:
            if tracer.poll() is None:
                tracer.send_signal(signal.SIGINT)
            tracer.wait()
        table = Rig.text(out)
        total = re.search(r"^\s*100\.00\s+\S+\s+\S*?\s+(\d+)\s.*total$", table, re.M)
        # Streams ask for late acknowledgements after each pause: how many there are is up to the machine's mood.
        asked = re.search(r"^\s*\S+\s+\S+\s+\S+\s+(\d+)\s.*setsockopt$", table, re.M) if work == "chunk" else None
        return (int(total[1]) - (int(asked[1]) if asked else 0)) / amount, table
    finally:
        rig.stop_gateway()


def instructions_of_run(rig, ring, work, amount):
    """Of each thread, by its number."""
    out = os.path.join(rig.folder, "callgrind.out")
    for old in glob.glob(out + "*"):
        os.unlink(old)
    rig.start_gateway(ring, ("valgrind", "-q", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={out}"))
    try:
        rig.load(work, 4 * CONNECTIONS)
        rig.load(work, amount)
    finally:
        rig.stop_gateway(signal.SIGTERM)
    totals = {}
    for path in glob.glob(out + "-*"):
        found = re.search(r"^totals: (\d+)", Rig.text(path), re.M)
        totals[path] = int(found[1]) if found else 0
    if not totals:
        raise RuntimeError(f"callgrind left nothing: {Rig.text(rig.gateway_log)[-400:]}")
    return totals


def count_instructions(rig, ring, work, amount):
    """The thread whose count grew most is the shard. Also says where its instructions went."""
    few, many = amount // 4, amount + amount // 4
    short = instructions_of_run(rig, ring, work, few)
    long = instructions_of_run(rig, ring, work, many)
    shard = max(long, key=lambda path: long[path] - short.get(path, 0))
    profile = subprocess.run(["callgrind_annotate", shard], capture_output=True, text=True).stdout
    lines = [line[:160] for line in profile.splitlines() if re.match(r"\s*[\d,]+ \(", line)][:30]
    return (long[shard] - short.get(shard, 0)) / (many - few), "\n".join(lines) + "\n"


def usable(options, ring):
    done = subprocess.run([options.penstock, "version"], capture_output=True, text=True)
    return ring == "epoll" or "io_uring usable" in done.stdout


def measure(options, rig):
    """Prints one line for each count; the number of those over budget."""
    over = 0
    for (ring, work), limits in BUDGET.items():
        if not usable(options, ring):
            print(f"{ring}: not usable here, skipped")
            continue
        amount = 3200 if work == "request" else 6400
        counts = []
        if "syscalls" in options.counts:
            value, table = count_syscalls(rig, ring, work, amount)
            counts.append(("system calls", value, limits[0], table))
        if "instructions" in options.counts and limits[1]:
            value, profile = count_instructions(rig, ring, work, amount)
            counts.append(("instructions", value, limits[1], profile))
        for name, value, limit, detail in counts:
            bad = value > limit
            over += bad
            print(f"{'OVER' if bad else 'ok  '}  {ring:8}  {name:12} per {work:7}  {value:10.2f}  budget {limit:g}", flush=True)
            if bad or options.verbose:
                print(detail)
    return over


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--penstock", required=True)
    parser.add_argument("--sse-load", required=True)
    parser.add_argument("--backend", required=True)
    parser.add_argument("--counts", default="syscalls,instructions")
    parser.add_argument("--verbose", action="store_true", help="show system calls and where the instructions go")
    options = parser.parse_args()
    options.counts = options.counts.split(",")
    for count, tool in (("syscalls", "strace"), ("instructions", "valgrind")):
        if count in options.counts and not shutil.which(tool):
            print(f"{tool} is missing: {count} are not counted")
            options.counts.remove(count)
    if not options.counts:
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="penstock-budget-") as folder:
        rig = Rig(options, folder)
        try:
            over = measure(options, rig)
        except PermissionError as problem:
            print(f"tracing is not allowed here: {problem}")
            return SKIPPED
        finally:
            rig.close()
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
