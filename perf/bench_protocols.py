"""The scenarios of run_bench.py in which clients speak TLS or HTTP/2, with h2load. The back ends speak HTTP/1.1."""
import re
import shutil
import subprocess

# How h2load is told to speak it; over the port with TLS or the plain one. nginx has no HTTP/2 on a port with HTTP/1.1.
WIRES = {
    "HTTP/1.1": (["--h1"], False),
    "HTTP/1.1 over TLS": (["--h1"], True),
    "HTTP/2": ([], False),
    "HTTP/2 over TLS": ([], True),
}
# Many events of each stream, so that the handshakes count little.
STREAMS, EVENTS = 200, 500


def make_certificate(folder):
    """A P-256 pair, valid for a day: certificate, key, and both in one file."""
    cert, key, both = (f"{folder}/bench.{ending}" for ending in ("crt", "key", "pem"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                    "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
                   capture_output=True, check=True)
    with open(both, "w") as out:
        for part in (cert, key):
            with open(part) as f:
                out.write(f.read())
    return cert, key, both


class Protocols:
    def __init__(self, bench, cpu_us):
        self.bench, self.cpu_us = bench, cpu_us
        self.unary = bench.write("h2load.json", '{"model":"bench","max_tokens":100,"prompt":"' + "water gate " * 88 + '"}')
        self.stream = bench.write("h2load-sse.json", '{"model":"bench","stream":true,"max_tokens":%d,"prompt":"water gate"}' % EVENTS)

    def measure(self, name, ports, gateway):
        for wire, (flags, tls) in WIRES.items():
            if name == "nginx" and wire == "HTTP/2":
                continue
            url = f"{'https' if tls else 'http'}://127.0.0.1:{ports[tls]}/v1/completions"
            self.requests(f"1 KiB requests, h2load, 64 connections, {wire}", name, gateway, [*flags, "-c", "64", "-m", "1"], url)
            self.events(f"SSE, h2load, {STREAMS} connections, {wire}", name, gateway, [*flags, "-c", STREAMS, "-m", "1"], url)
            if not flags:
                self.events(f"SSE, h2load, {STREAMS} streams on 2 connections, {wire}", name, gateway, ["-c", "2", "-m", "100"], url)

    def requests(self, scenario, name, gateway, flags, url):
        seconds = max(1, round(self.bench.options.seconds))
        spent, text = self.h2load(gateway, [*flags, "-D", seconds, "-d", self.unary], url)
        succeeded, failed = self.counts(text)
        if succeeded:
            self.bench.add(scenario, "CPU us/request", name, spent / succeeded)
            self.bench.add(scenario, "requests/s", name, succeeded / seconds)
        self.bench.add(scenario, "errors", name, failed)

    def events(self, scenario, name, gateway, flags, url):
        spent, text = self.h2load(gateway, [*flags, "-n", STREAMS, "-d", self.stream], url)
        succeeded, failed = self.counts(text)
        if succeeded:
            self.bench.add(scenario, "CPU us/chunk", name, spent / (succeeded * EVENTS))
        self.bench.add(scenario, "errors", name, failed)

    def h2load(self, gateway, flags, url):
        program = shutil.which("h2load")
        if program is None:
            self.bench.missing["h2load"] = "not installed"
            return 0, ""
        before = self.cpu_us(gateway.pid)
        done = subprocess.run(["taskset", "-c", str(self.bench.options.load_cpu), program, *map(str, flags), url],
                              capture_output=True, text=True, timeout=120)
        return self.cpu_us(gateway.pid) - before, done.stdout

    @staticmethod
    def counts(text):
        codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
        failed = re.search(r"(\d+) failed, (\d+) errored", text)
        if not codes or not failed:
            return 0, 1
        return int(codes[1]), sum(int(n) for n in codes.groups()[1:]) + int(failed[1])
