#!/usr/bin/env python3
"""Compares Penstock with HAProxy, nginx and a bare relay on the same back ends, on loopback.

The gateway under test has one core to itself; load and back ends share the other. What counts is the CPU
time that the gateway spends for a unit of work: it does not depend on how fast the load generator is.
Contenders take turns in random order within each repetition; medians are reported.
"""
import argparse
import json
import os
import random
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import bench_report
from bench_protocols import Protocols, make_certificate

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCENARIOS = ("unary", "prompts", "sse", "memory", "protocols")
PODS = 8
PROMPT_BYTES = 220_000
PROMPT_CONCURRENCY = (20, 60, 100, 150, 200)
MANY = 5000


def say(text):
    print(text, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_us(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as f:
            total += int(f.read().split()[0])
    return total / 1e3


def pss_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        for line in f:
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


class Process:
    """A child pinned to one CPU, its output in a file, ended by its id."""

    def __init__(self, argv, cpu, log):
        self.log = log
        with open(log, "wb") as out:
            self.child = subprocess.Popen(["taskset", "-c", str(cpu)] + argv, stdout=out, stderr=subprocess.STDOUT)
        self.pid = self.child.pid

    def tail(self):
        with open(self.log, errors="replace") as f:
            return f.read()[-600:].strip()

    def listening_ports(self, count):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with open(self.log) as f:
                ports = re.findall(r"listening on 127\.0\.0\.1:(\d+)", f.read())
            if len(ports) == count:
                return [int(p) for p in ports]
            if self.child.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"did not start: {self.tail()}")

    def stop(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()


HAPROXY_CONFIG = """\
global
  nbthread 1
  maxconn {maxconn}
defaults
  mode http
  option http-keep-alive
  option http-no-delay
  http-reuse always
  retries 0
  timeout connect 2s
  timeout client 600s
  timeout server 600s
  timeout http-keep-alive 600s
frontend in
{binds}
  default_backend pods
backend pods
  balance roundrobin
{servers}
"""

NGINX_CONFIG = """\
daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {work}/nginx.pid;
error_log {work}/nginx-error.log warn;
events {{ worker_connections 16000; }}
http {{
  access_log off;
  client_body_temp_path {work}/nginx-body;
  proxy_temp_path {work}/nginx-proxy;
  fastcgi_temp_path {work}/nginx-fastcgi;
  uwsgi_temp_path {work}/nginx-uwsgi;
  scgi_temp_path {work}/nginx-scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  tcp_nodelay on;
  upstream pods {{
{servers}
    keepalive 6000;
    keepalive_requests 1000000000;
  }}
  server {{
{binds}
    client_max_body_size 0;
    location / {{
      proxy_pass http://pods;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_read_timeout 600s;
    }}
  }}
}}
"""


class Bench:
    def __init__(self, options):
        self.options = options
        self.work = tempfile.mkdtemp(prefix="penstock-bench-")
        self.processes = []
        self.count = 0
        self.results = {}  # (scenario, metric) -> {contender: [values]}
        self.missing = {}  # contender or tool -> why
        self.tools = os.path.join(options.build, "perf")
        self.descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def log(self, name):
        self.count += 1
        return os.path.join(self.work, f"{self.count}-{name}.log")

    def start(self, argv, cpu, name):
        process = Process(argv, cpu, self.log(name))
        self.processes.append(process)
        return process

    def stop(self, process):
        process.stop()
        self.processes.remove(process)

    def close(self):
        for process in list(self.processes):
            self.stop(process)
        shutil.rmtree(self.work, ignore_errors=True)

    # ---- back ends and contenders

    def start_backend(self, step_ms, staggered):
        argv = [os.path.join(self.tools, "bench_backend"), "--ports", str(PODS), "--step-ms", str(step_ms)]
        process = self.start(argv + (["--staggered"] if staggered else []), self.options.load_cpu, "backend")
        return process.listening_ports(PODS)

    def contenders(self):
        names = ["floor", "haproxy", "nginx", "penstock-io_uring", "penstock-epoll"]
        if self.options.only:
            names = [n for n in names if any(word in n for word in self.options.only.split(","))]
        present = []
        for name in names:
            program = self.program(name)
            if program and os.path.exists(program):
                present.append(name)
            else:
                self.missing[name] = "not built" if name.startswith(("penstock", "floor")) else "not installed"
        return present

    def program(self, name):
        if name.startswith("penstock"):
            return os.path.join(self.options.build, "src/app/penstock")
        if name == "floor":
            return os.path.join(self.tools, "floor_relay")
        return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")

    def start_gateway(self, name, backends, tls_port=0):
        """The process and its port, or None when it did not come up (then `missing` says why)."""
        port = free_port()
        program = self.program(name)
        if name == "floor":
            argv = [program, "--port", str(port)]
            for backend in backends:
                argv += ["--backend", f"127.0.0.1:{backend}"]
        elif name.startswith("penstock"):
            argv = [program, "serve", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{free_port()}"]
            argv += ["--shards", "1", "--ring", name.removeprefix("penstock-")]
            if tls_port:
                argv += ["--listen-tls", f"127.0.0.1:{tls_port}", "--tls-cert", self.pair[0], "--tls-key", self.pair[1]]
            for backend in backends:
                argv += ["--endpoint", f"http://127.0.0.1:{backend}"]
        elif name == "haproxy":
            servers = "\n".join(f"  server s{b} 127.0.0.1:{b}" for b in backends)
            binds = f"  bind 127.0.0.1:{port} backlog 4096"
            if tls_port:
                binds += f"\n  bind 127.0.0.1:{tls_port} backlog 4096 ssl crt {self.pair[2]} alpn h2,http/1.1"
            text = HAPROXY_CONFIG.format(binds=binds, servers=servers, maxconn=self.descriptors // 2 - 100)
            argv = [program, "-db", "-f", self.write("haproxy.cfg", text)]
        else:
            servers = "\n".join(f"    server 127.0.0.1:{b};" for b in backends)
            binds = f"    listen 127.0.0.1:{port} backlog=4096;"
            if tls_port:
                binds += f"\n    listen 127.0.0.1:{tls_port} ssl http2 backlog=4096;"
                binds += f"\n    ssl_certificate {self.pair[0]};\n    ssl_certificate_key {self.pair[1]};"
            text = NGINX_CONFIG.format(binds=binds, servers=servers, work=self.work)
            argv = [program, "-p", self.work, "-c", self.write("nginx.conf", text)]
        process = self.start(argv, self.options.gateway_cpu, name)
        problem = self.wait_ready(process, port)
        if problem:
            self.stop(process)
            self.missing[name] = problem
            say(f"  {name}: {problem}")
            return None, 0
        return process, port

    def write(self, name, text):
        path = os.path.join(self.work, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def wait_ready(self, process, port):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if process.child.poll() is not None:
                return f"ended with status {process.child.returncode}: {process.tail()}"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=1) as answer:
                    if answer.status == 200:
                        return None
            except OSError:
                time.sleep(0.05)
        return f"not ready after 10 s: {process.tail()}"

    # ---- one measurement each

    def load(self, port, gateway, *flags):
        """Runs sse_load against a gateway, or without one against the back ends (then `port` is their list)."""
        argv = [os.path.join(self.tools, "sse_load"), "--json", *map(str, flags)]
        for target in [port] if gateway else port:
            argv += ["--target", f"127.0.0.1:{target}"]
        if gateway:
            argv += ["--watch-pid", str(gateway.pid)]
        done = subprocess.run(["taskset", "-c", str(self.options.load_cpu)] + argv, capture_output=True, text=True)
        if not done.stdout.startswith("{"):
            raise RuntimeError(done.stderr.strip() or f"sse_load ended with {done.returncode}")
        return json.loads(done.stdout)

    def add(self, scenario, metric, name, value):
        self.results.setdefault((scenario, metric), {}).setdefault(name, []).append(value)

    def add_errors(self, scenario, name, report):
        if report["errors"]:
            kinds = {k[7:]: v for k, v in report.items() if k.startswith("errors_") and v}
            say(f"  {name}: {scenario}: errors {kinds}")
        self.add(scenario, "errors", name, report["errors"])

    def unary_wrk(self, name, port, gateway):
        if not shutil.which("wrk"):
            self.missing["wrk"] = "not installed"
            return
        port = port if gateway else port[0]
        script = self.write("post.lua", 'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
                            'wrk.body = \'{"model":"bench","max_tokens":100,"prompt":"' + "water gate " * 88 + '"}\'\n')
        before = cpu_us(gateway.pid) if gateway else 0
        done = subprocess.run(["taskset", "-c", str(self.options.load_cpu), "wrk", "-t1", "-c64", "--latency",
                               "-d", f"{max(1, round(self.options.seconds))}s", "-s", script,
                               f"http://127.0.0.1:{port}/v1/completions"], capture_output=True, text=True)
        spent = cpu_us(gateway.pid) - before if gateway else 0
        requests = re.search(r"(\d+) requests in", done.stdout)
        if not requests or int(requests[1]) == 0:
            say(f"  {name}: wrk: {done.stdout} {done.stderr}")
            return
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
        failed = sum(int(n) for n in re.findall(r"(?:connect|read|write|timeout) (\d+)", done.stdout))
        scenario = "1 KiB requests, wrk, 64 connections"
        self.add(scenario, "CPU us/request", name, spent / int(requests[1]))
        self.add(scenario, "requests/s", name, float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1]))
        for q in (50, 99):
            value, unit = re.search(rf"\s{q}%\s+([\d.]+)(us|ms|s)", done.stdout).groups()
            self.add(scenario, f"p{q} us", name, float(value) * {"us": 1, "ms": 1e3, "s": 1e6}[unit])
        self.add(scenario, "errors", name, failed + (int(bad[1]) if bad else 0))

    def unary_hey(self, name, port, gateway):
        port = port if gateway else port[0]
        hey = shutil.which("hey")
        oha = shutil.which("oha")
        body = self.write("hey.json", '{"model":"bench","max_tokens":100,"prompt":"' + "water gate " * 88 + '"}')
        url = f"http://127.0.0.1:{port}/v1/completions"
        for tool, argv in (("hey", [hey, "-z", f"{self.options.seconds}s", "-c", "64", "-m", "POST", "-D", body, url]),
                           ("oha", [oha, "--no-tui", "-z", f"{self.options.seconds}s", "-c", "64", "-m", "POST", "-D",
                                    body, url])):
            if not argv[0]:
                self.missing[tool] = "not installed"
                continue
            before = cpu_us(gateway.pid) if gateway else 0
            done = subprocess.run(["taskset", "-c", str(self.options.load_cpu)] + argv, capture_output=True, text=True)
            spent = cpu_us(gateway.pid) - before if gateway else 0
            answered = sum(int(n) for n in re.findall(r"\[2\d\d\]\s+(\d+) responses", done.stdout))
            if answered:
                self.add(f"1 KiB requests, {tool}, 64 connections", "CPU us/request", name, spent / answered)

    def unary_rate(self, name, port, gateway):
        report = self.load(port, gateway, "--mode", "request", "--rate", 3000, "--poisson", "--connections", 256,
                           "--warmup", 0.3, "--duration", self.options.seconds, "--seed", self.options.seed)
        scenario = "1 KiB requests, open loop, 3000/s"
        self.add(scenario, "CPU us/request", name, report["cpu_us"] / max(1, report["requests"]))
        for q in (50, 99):
            self.add(scenario, f"p{q} us", name, report["latency"][f"p{q}_us"])
        self.add_errors(scenario, name, report)

    def prompts(self, name, port, gateway):
        for n in PROMPT_CONCURRENCY:
            report = self.load(port, gateway, "--mode", "request", "--connections", n, "--body-bytes", PROMPT_BYTES,
                               "--unique", "--warmup", 0.3, "--duration", max(1, self.options.seconds / 2))
            scenario = f"220 KB prompts, {n} at a time"
            self.add(scenario, "requests/s", name, report["requests_per_s"])
            self.add(scenario, "p50 us", name, report["latency"]["p50_us"])
            self.add(scenario, "CPU us/request", name, report["cpu_us"] / max(1, report["requests"]))
            self.add_errors(scenario, name, report)

    def streams(self, name, port, gateway, count, pace):
        warmup = 0.8 + count / 2500
        report = self.load(port, gateway, "--mode", "sse", "--unique", "--connections", count, "--max-tokens", 1_000_000,
                           "--warmup", warmup, "--duration", self.options.seconds)
        scenario = f"SSE, {count} streams, {pace}"
        if report["in_flight_at_start"] < count:
            say(f"  {name}: {scenario}: only {report['in_flight_at_start']} streams open")
        self.add(scenario, "CPU us/chunk", name, report["cpu_us"] / max(1, report["events"]))
        self.add(scenario, "chunks/s", name, report["events_per_s"])
        for q in (50, 99):
            self.add(scenario, f"due to read p{q} us", name, report["added"][f"p{q}_us"])
        self.add_errors(scenario, name, report)

    def prime(self, port, gateway):
        self.load(port, gateway, "--mode", "request", "--connections", 64, "--duration", 0.5)

    def idle_memory(self, name, port, gateway):
        self.prime(port, gateway)
        report = self.load(port, gateway, "--mode", "idle", "--connections", MANY, "--duration", 0.5)
        self.add("memory", "bytes per idle connection", name, report["pss_bytes_each"])
        self.add_errors("memory", name, report)

    def stream_memory(self, name, port, gateway):
        self.prime(port, gateway)
        before = pss_kib(gateway.pid)
        report = self.load(port, gateway, "--mode", "sse", "--connections", MANY, "--max-tokens", 1_000_000,
                           "--warmup", 3, "--duration", 1)
        self.add("memory", "bytes per stream", name, (report["pss_kib_after"] - before) * 1024 / MANY)
        self.add_errors("memory", name, report)

    def protocols(self, contenders, backends):
        """Plain and TLS ports on the same process."""
        self.pair = make_certificate(self.work)
        scenarios = Protocols(self, cpu_us)
        order = [c for c in contenders if c not in self.missing and c != "floor"]
        random.shuffle(order)
        for name in order:
            tls_port = free_port()
            gateway, port = self.start_gateway(name, backends, tls_port)
            if gateway is None:
                continue
            say(f"  TLS and HTTP/2: {name}")
            scenarios.measure(name, (port, tls_port), gateway)
            self.stop(gateway)

    # ---- the run

    def group(self, title, contenders, backends, measures):
        """Every contender once, in random order, on the same back ends."""
        order = [c for c in contenders if c == "direct" or c not in self.missing]
        random.shuffle(order)
        for name in order:
            gateway, port = (None, backends) if name == "direct" else self.start_gateway(name, backends)
            if port == 0:
                continue
            say(f"  {title}: {name}")
            for measure in measures:
                try:
                    measure(name, port, gateway)
                except (RuntimeError, OSError) as problem:
                    say(f"  {name}: {problem}")
            if gateway:
                self.stop(gateway)

    def run(self):
        contenders = self.contenders()
        with_direct = contenders + ["direct"]
        bursts_50 = self.start_backend(50, False)
        staggered_50 = self.start_backend(50, True)
        bursts_100 = self.start_backend(100, False)
        staggered_100 = self.start_backend(100, True)
        staggered_10 = self.start_backend(10, True)
        wanted = self.options.scenarios
        for rep in range(self.options.reps):
            say(f"repetition {rep + 1} of {self.options.reps}")
            if "unary" in wanted:
                tools = [self.unary_wrk, self.unary_rate] + ([] if self.options.quick else [self.unary_hey])
                self.group("requests", with_direct, bursts_50, tools)
            if "prompts" in wanted:
                self.group("220 KB prompts", contenders, bursts_50, [self.prompts])
            if "sse" in wanted:
                for backends, count, pace in ((bursts_50, 1000, "50 ms bursts"), (staggered_50, 1000, "50 ms staggered"),
                                              (bursts_100, 5000, "100 ms bursts"),
                                              (staggered_100, 5000, "100 ms staggered")):
                    self.group(f"{count} streams, {pace}", with_direct, backends,
                               [lambda n, p, g, c=count, w=pace: self.streams(n, p, g, c, w)])
            if "protocols" in wanted:
                self.protocols(contenders, staggered_10)
            if "memory" in wanted and rep == 0:
                self.group("idle connections", contenders, bursts_100, [self.idle_memory])
                self.group("memory of streams", contenders, bursts_100, [self.stream_memory])
        return self.results


def parse():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=os.path.join(TOP, "build/pgo"), help="build folder (build/pgo)")
    parser.add_argument("--reps", type=int, default=3, help="interleaved repetitions (3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement (3)")
    parser.add_argument("--quick", action="store_true", help="one short repetition, about 3 minutes in all")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help=f"which to run ({','.join(SCENARIOS)})")
    parser.add_argument("--only", default="", help="contenders to run, by part of the name: floor,haproxy,nginx,epoll")
    parser.add_argument("--gateway-cpu", type=int, help="CPU of the gateway (the first allowed)")
    parser.add_argument("--load-cpu", type=int, help="CPU of load and back ends (the second allowed)")
    parser.add_argument("--seed", type=int, default=1, help="of the order and the arrivals (1)")
    parser.add_argument("--json", metavar="FILE", help="write all values")
    parser.add_argument("--markdown", metavar="FILE", help="write the table for perf/results/DATA_PLANE.md")
    parser.add_argument("--check-arguments", action="store_true", help=argparse.SUPPRESS)  # and do no more
    options = parser.parse_args()
    options.scenarios = options.scenarios.split(",")
    for name in options.scenarios:
        if name not in SCENARIOS:
            parser.error(f"--scenarios: {name!r} is not one of {', '.join(SCENARIOS)}")
    if options.check_arguments:
        sys.exit()
    if options.quick:
        options.reps, options.seconds = 1, 1.5
    cpus = sorted(os.sched_getaffinity(0))
    if options.gateway_cpu is None:
        options.gateway_cpu = cpus[0]
    if options.load_cpu is None:
        options.load_cpu = cpus[min(1, len(cpus) - 1)]
    if options.gateway_cpu == options.load_cpu:
        say("only one CPU: gateway and load share it, latencies mean little")
    return options


def main():
    options = parse()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    random.seed(options.seed)
    if hard < 2 * MANY + 500:
        sys.exit(f"a gateway with {MANY} streams needs {2 * MANY + 500} descriptors, the limit here is {hard} (ulimit -Hn)")
    bench = Bench(options)
    missing_tools = [t for t in ("bench_backend", "sse_load") if not os.path.exists(os.path.join(bench.tools, t))]
    try:
        if missing_tools:
            sys.exit(f"{', '.join(missing_tools)} not found in {bench.tools}: run scripts/build first")
        results = bench.run()
    except KeyboardInterrupt:
        results = bench.results
    finally:
        bench.close()
    if not results:
        sys.exit("nothing was measured: " + "; ".join(f"{k}: {v}" for k, v in bench.missing.items()))
    print(bench_report.plain(results, options, bench.missing))
    if options.json:
        values = [{"scenario": s, "metric": m, "values": v} for (s, m), v in results.items()]
        with open(options.json, "w") as f:
            json.dump({"conditions": bench_report.conditions(options), "results": values, "missing": bench.missing}, f, indent=1)
    if options.markdown:
        with open(options.markdown, "w") as f:
            f.write(bench_report.markdown(results, options, bench.missing))


if __name__ == "__main__":
    main()
