"""HTTPRoutes in manifests: what filters, limits and mistakes in them do to requests, and what operators are told."""

import gzip
import json
import os
import re
import signal
import socket

import harness
from harness import ConnectionEnded, E2E, answer_bytes, completion, fetch, wait_for
from http2_client import Http2
from tls_client import tls_port

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: penstock}
spec: {controllerName: penstock.dev/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: penstock
  listeners: [{name: http, port: 8081, protocol: HTTP}, {name: tls, port: 443, protocol: HTTPS}]
---"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: gw}]
  rules:
"""
REWRITE = """---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {name: alias}
spec:
  poolRef: {name: a}
  rules: [{matches: [{model: {value: chat}}], targets: [{modelRewrite: base}]}]
"""
TOLERANT = "ejection: {consecutive_failures: 1000}\n"


def to_pool(name, more=""):
    return f"{{group: inference.networking.k8s.io, kind: InferencePool, name: {name}{more}}}"


def rule(path, *filters, to="a", match="PathPrefix", more=""):
    """One rule in YAML; `to`: pools, none for "". """
    refs = ", ".join(one if "{" in one else to_pool(one) for one in ([to] if isinstance(to, str) else to) if one)
    text = f"  - matches: [{{path: {{type: {match}, value: {path}}}}}]\n"
    text += "    filters: [" + ", ".join(filters) + "]\n" if filters else ""
    text += f"    backendRefs: [{refs}]\n" if refs else ""
    return text + more


def redirect(text):
    return f"{{type: RequestRedirect, requestRedirect: {{{text}}}}}"


def rewrite(text):
    return f"{{type: URLRewrite, urlRewrite: {{{text}}}}}"


def prefix(value):
    return f"path: {{type: ReplacePrefixMatch, replacePrefixMatch: {value}}}"


def set_header(of, name, value):
    return f"{{type: {of}HeaderModifier, {of[0].lower()}{of[1:]}HeaderModifier: {{set: [{{name: {name}, value: {value}}}]}}}}"


class Routes(E2E):
    """A gateway on manifests, with a scripted endpoint in each of the pools a and b."""

    any_path = True

    def start(self, *rules, gateway="", more="", config=TOLERANT, slow=None, **options):
        """`slow`: one more endpoint in pool a."""
        self.ends = {name: self.fake() for name in ("a", "b")}
        self.folder = self.directory()
        for name, end in self.ends.items():
            ports = [end.port] + ([slow.port] if slow and name == "a" else [])
            self.write(f"pool-{name}.yaml", harness.pool_manifest(*ports, name=name))
        self.write("gateway.yaml", gateway or "---\n")
        self.write("route.yaml", ROUTE + "".join(rules) + more)
        self.gw = self.gateway([], config, flags=("--manifests", self.folder), **options)
        self.gw.wait_pods(3 if slow else 2)

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
            file.write(text)

    def get(self, path, *headers):
        return fetch(self.gw.port, path, "GET", None, headers)

    def post(self, path, body=None, *headers):
        return fetch(self.gw.port, path, "POST", body or completion(), headers)

    def assert_problem(self, reason, message, kind="HTTPRoute", name="r"):
        """It is on all three: /status, /metrics and the log."""
        about = {"kind": kind, "name": name, "reason": reason}
        problems = [one for one in self.gw.status_page()["problems"] if about.items() <= one.items()]
        self.assertTrue([one for one in problems if re.search(message, one["message"])], problems)
        self.assertEqual(self.gw.value("penstock_object_problems", **about), len(problems))
        self.assertIsNotNone(self.gw.err.wait(reason))

    # ---- redirects ----

    def test_redirects(self):
        whole = "scheme: https, hostname: b.example.com, port: 8443, statusCode: 308"
        self.start(
            rule("/old", redirect(prefix("/new/")), to=""),
            rule("/secure", redirect("scheme: https, statusCode: 301"), set_header("Response", "x-a", "b"), to=""),
            rule("/full", redirect(whole + ", path: {type: ReplaceFullPath, replaceFullPath: /x}"), to=""),
        )
        client = self.client(self.gw)
        for path, status, location in (
            ("/old/a?q=1", 302, "http://test/new/a?q=1"),
            ("/old", 302, "http://test/new"),
            ("/secure/a", 301, "https://test/secure/a"),
            ("/full/a?q=1", 308, "https://b.example.com:8443/x?q=1"),
        ):
            answer = client.request("GET", path)  # all on one connection
            self.assertEqual((answer.status, answer.header("location"), answer.body), (status, location, b""))
        self.assertEqual(client.request("GET", "/secure").header("x-a"), "b")
        answer = client.request("POST", "/old", completion(), [("host", "h:8080")])
        self.assertEqual(answer.header("location"), "http://h:8080/new")
        answer = fetch(self.gw.port, "/old", "HEAD")
        self.assertEqual((answer.status, answer.header("content-length")), (302, "0"))
        self.assertEqual([one.requests for one in self.ends.values()], [[], []])
        self.gw.wait_outcomes({"ok": 7})

    @harness.plain_http1_only("bytes of HTTP/1.0 on a plain socket")
    def test_a_redirect_without_any_host_is_refused(self):
        self.start(rule("/", redirect("scheme: https"), to=""))
        with socket.create_connection(("127.0.0.1", self.gw.port), harness.PATIENCE) as sock:
            sock.sendall(b"GET //evil.example.com HTTP/1.0\r\n\r\n")
            self.assertIn(b" 400 ", sock.makefile("rb").readline())

    @harness.plain_http1_only("it is about the listeners of plain HTTP")
    def test_a_redirect_leads_to_the_port_of_the_listener(self):
        self.start(rule("/", redirect("hostname: b.example.com"), to=""), gateway=GATEWAY)
        self.assertEqual(self.get("/x").header("location"), "http://b.example.com:8081/x")
        self.assert_problem("PortUnavailable", "listener tls: .*with TLS", "Gateway", "gw")

    @harness.plain_http1_only("it is about the listeners of plain HTTP")
    def test_a_redirect_of_several_listeners_leads_to_the_port_of_the_request(self):
        two = GATEWAY.replace("listeners: [", "listeners: [{name: plain, port: 80, protocol: HTTP, hostname: h}, "
                              "{name: also, port: 8081, protocol: HTTP, hostname: h}, ")
        self.start(rule("/", redirect(prefix("/new")), to=""), gateway=two)
        for host, location in (
            ("h:8081", "http://h:8081/new/x"),
            ("h", "http://h/new/x"),
            ("other", "http://other:8081/new/x"),  # only one listener takes it
        ):
            self.assertEqual(self.get("/x", ("host", host)).header("location"), location)

    # ---- listeners ----

    @harness.plain_http1_only("it is about the listeners of plain HTTP")
    def test_a_route_takes_only_requests_of_its_listener(self):
        two = GATEWAY.replace("listeners: [", "listeners: [{name: other, port: 9000, protocol: HTTP}, ")
        bound = "---" + ROUTE.replace("name: r", "name: bound").replace("name: gw", "name: gw, sectionName: other")
        own = "listeners:\n  - {name: own, address: '127.0.0.1:0', gateway_port: 9000}\n"
        self.start(rule("/"), gateway=two, more=bound + rule("/only", to="b"), config=TOLERANT + own)
        port = tls_port(self.gw, "own")
        self.assertEqual(self.get("/only").status, 200)
        for path, seen in (("/only", [1, 1]), ("/", [2, 1])):  # a route that names no section is everywhere
            self.assertEqual(fetch(port, path, "GET", None).status, 200)
            self.assertEqual([len(self.ends[name].requests) for name in ("a", "b")], seen)
        client = Http2(port)
        self.addCleanup(client.close)
        self.assertEqual(client.fetch("GET", "/only").status, 200)
        self.assertEqual([len(self.ends[name].requests) for name in ("a", "b")], [2, 2])

    # ---- rewrites ----

    def test_rewrites(self):
        self.start(
            rule("/team-a", rewrite("hostname: a.internal, " + prefix("/"))),
            rule("/all", rewrite("path: {type: ReplaceFullPath, replaceFullPath: /one}"), to="b"),
            config=TOLERANT + "access_log: {format: json}\n",
            access_log=True,
        )
        for path, end, seen, host in (
            ("/team-a/x/y?q=/team-a", "a", "/x/y?q=/team-a", "a.internal"),
            ("/team-a", "a", "/", "a.internal"),
            ("/all/of/it?q=1", "b", "/one?q=1", "test"),
        ):
            self.assertEqual(self.get(path).status, 200)
            request = self.ends[end].requests[-1]
            self.assertEqual((request.path, request.header("host")), (seen, host))
            self.assertIsNotNone(self.gw.out.wait(f'"path":"{path.split("?")[0]}'), "the log has the client's path")
        self.assertEqual(self.get("/team-ax").status, 404)

    def test_what_a_request_means_is_told_by_the_rewritten_path(self):
        self.start(
            rule("/team", rewrite(prefix("/v1"))),
            rule("/ask", rewrite("path: {type: ReplaceFullPath, replaceFullPath: /v1/completions}")),
            rule(
                "/canary",
                to=to_pool("a", ", filters: [" + rewrite("path: {type: ReplaceFullPath, replaceFullPath: /v1/completions}") + "]"),
            ),
            rule("/v1/completions", rewrite("path: {type: ReplaceFullPath, replaceFullPath: /raw}")),
            more=REWRITE,
        )
        for path, seen, model in (
            ("/team/completions", "/v1/completions", "base"),
            ("/ask", "/v1/completions", "base"),
            ("/canary", "/v1/completions", "base"),
        ):
            self.assertEqual(self.post(path, completion(model="chat")).status, 200)
            request = self.ends["a"].requests[-1]
            self.assertEqual((request.path, harness.json.loads(request.body)["model"]), (seen, model))
        # It is no completion any more, which would need a prompt.
        self.assertEqual(self.post("/v1/completions", b'{"model":"chat"}').status, 200)
        self.assertEqual((self.ends["a"].requests[-1].path, self.ends["a"].requests[-1].body), ("/raw", b'{"model":"base"}'))
        listed = [one["id"] for one in self.get("/team/models").json()["data"]]
        self.assertIn("chat", listed)

    # ---- models ----

    def test_aliases_on_paths_that_are_read_for_them_only(self):
        self.start(rule("/"), more=REWRITE)
        self.ends["a"].script = lambda request, sock: sock.sendall(answer_bytes(body=b'{"n":1,"model":"base"}')) is None
        for path in ("/v1/rerank", "/v1/score", "/pooling", "/tokenize", "/detokenize", "/v1/audio/speech"):
            answer = self.post(path, b'{"input":"x","model":"chat"}')
            self.assertEqual(self.ends["a"].requests[-1].body, b'{"input":"x","model":"base"}', path)
            self.assertEqual((answer.status, answer.body), (200, b'{"n":1,"model":"chat"}'), path)

    def test_an_answer_with_an_alias_is_not_compressed(self):
        body = b'{"model":"base","choices":[]}'

        def compress(request, sock):
            if always or "gzip" in (request.header("accept-encoding") or ""):
                sock.sendall(answer_bytes(body=gzip.compress(body), headers=[("content-encoding", "gzip")]))
            else:
                sock.sendall(answer_bytes(body=body))
            return True

        self.start(rule("/"), more=REWRITE)
        self.ends["a"].script, always = compress, False
        answer = self.post("/v1/completions", completion(model="chat"), ("accept-encoding", "gzip"))
        self.assertEqual((answer.header("content-encoding"), answer.json()["model"]), (None, "chat"))
        answer = self.post("/v1/completions", completion(model="base"), ("accept-encoding", "gzip"))
        self.assertEqual((answer.header("content-encoding"), gzip.decompress(answer.body)), ("gzip", body))
        self.assertEqual(self.gw.value("penstock_models_not_restored_total"), 0)
        always = True  # it compresses unasked: the answer goes out as it came
        answer = self.post("/v1/completions", completion(model="chat"))
        self.assertEqual((answer.header("content-encoding"), gzip.decompress(answer.body)), ("gzip", body))
        self.assertEqual(self.gw.value("penstock_models_not_restored_total"), 1)

    def test_an_answer_tells_no_other_name_than_the_clients(self):
        self.start(rule("/"), more=REWRITE)
        private, text = b'"model":"/models/private-base-v2"', rb'"text":"{\"model\":\"/models/private-base-v2\"}"'
        for path, shape in (
            ("/v1/completions", b'{%s,"choices":[{%s}]}'),
            ("/v1/messages", b'{"type":"message_start","message":{%s,"content":[{%s}]}}'),
            ("/v1/responses", b'{"type":"response.completed","response":{%s,"output":[{%s}]}}'),
        ):
            asked = {"model": "chat", "prompt": "x", "input": "x", "messages": [{"role": "user", "content": "x"}]}
            body, expected = shape % (private, text), shape % (b'"model":"chat"', text)
            self.ends["a"].script = lambda request, sock: sock.sendall(answer_bytes(body=body)) is None
            self.assertEqual(self.post(path, asked).body, expected)
            body, expected = (b"data: " + text + b"\n\ndata: [DONE]\n\n" for text in (body, expected))
            self.ends["a"].script = lambda request, sock: (
                sock.sendall(answer_bytes(body=body, content_type="text/event-stream")) is None
            )
            self.assertEqual(self.post(path, {**asked, "stream": True}).body, expected)

    # ---- paths that lead elsewhere ----

    def test_a_path_that_leads_elsewhere_is_refused(self):
        self.start(rule("/v1"), rule("/admin", to="b"))
        client = self.client(self.gw)
        for path in ("/v1/../admin", "/v1/%2e%2e/admin", "/v1/%2E./admin", "/v1/..%2fadmin", "/v1/./x", "/v1/..?q"):
            answer = client.request("GET", path)
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (400, "malformed_request"), path)
        self.assertEqual(client.request("GET", "/v1/a..b/.c?q=/../").status, 200)
        self.assertEqual([len(self.ends[name].requests) for name in ("a", "b")], [1, 0])

    def test_every_spelling_of_a_path_matches_the_same_rule(self):
        self.start(rule("/v1"), rule("/%61dmin%2fx", to="b"))
        for path in ("/admin/x", "/%61dmin/x", "/admin%2Fx", "/%61%64%6d%69%6e%2fx/", "//admin//x", "/admin/x?y=/v1"):
            self.assertEqual(self.get(path).status, 200, path)
        self.assertEqual([len(self.ends[name].requests) for name in ("a", "b")], [0, 6])
        self.assertEqual({one.path.split("?")[0].rstrip("/") for one in self.ends["b"].requests}, {"/admin/x"})

    # ---- header fields, and filters of one backend ----

    def test_filters_of_one_backend(self):
        more = [set_header("Request", "x-canary", "yes"), set_header("Response", "x-from", "canary")]
        canary = to_pool("b", f", filters: [{', '.join(more)}, {rewrite(prefix('/beta'))}]")
        moved = to_pool("b", f", filters: [{redirect('hostname: beta.example.com')}]")
        self.start(
            rule("/v1", set_header("Request", "x-rule", "r"), set_header("Response", "x-from", "rule"), to=["a", canary]),
            rule("/moved", to=moved),
        )
        seen = {}

        def both():
            answer = self.get("/v1/x")
            seen[answer.header("x-penstock-endpoint")] = answer.header_all("x-from")
            return len(seen) == 2

        wait_for("both backends answer", both)
        self.assertEqual(seen, {"a-0-rank-0": ["rule"], "b-0-rank-0": ["canary"]})
        for name, canary, path in (("a", None, "/v1/x"), ("b", "yes", "/beta/x")):
            request = self.ends[name].requests[-1]
            self.assertEqual((request.header("x-rule"), request.header("x-canary"), request.path), ("r", canary, path))
        self.assertEqual(self.get("/moved").header("location"), "http://beta.example.com/moved")

    def test_a_backend_that_moves_a_request_to_an_unknown_path_makes_it_unread(self):
        moved = to_pool("a", f", filters: [{rewrite('path: {type: ReplaceFullPath, replaceFullPath: /custom/run}')}]")
        self.start(rule("/v1", to=moved))
        self.assertEqual(self.post("/v1/completions", completion()).status, 200)
        request = self.ends["a"].requests[-1]
        self.assertEqual((request.path, json.loads(request.body)), ("/custom/run", completion()))
        self.assertEqual(self.gw.metrics().series("inference_objective_request_total"), [])

    def test_the_list_of_models_under_a_rule_with_filters(self):
        beta = to_pool("a", f", filters: [{set_header('Response', 'x-backend', 'b')}, {rewrite(prefix('/v1'))}]")
        raw = to_pool("a", f", filters: [{rewrite(prefix('/raw'))}]")
        self.start(
            rule("/team", set_header("Response", "x-rule", "r"), to=beta),
            rule("/v1/models", to=raw),
            more=REWRITE,
        )
        answer = self.get("/team/models")
        self.assertEqual([one["id"] for one in answer.json()["data"]], ["chat"])
        self.assertEqual((answer.header("x-rule"), answer.header("x-backend")), ("r", "b"))
        self.assertEqual(self.get("/team/models/chat").json()["id"], "chat")
        answer = fetch(self.gw.port, "/team/models", "HEAD")
        self.assertEqual((answer.status, answer.header("x-rule"), answer.body), (200, "r", b""))
        self.assertEqual(self.ends["a"].requests, [])
        self.get("/v1/models")  # of the endpoint it is something else
        self.assertEqual([one.path for one in self.ends["a"].requests], ["/raw"])

    # ---- what cannot be done ----

    def test_a_filter_that_is_not_supported_is_never_skipped(self):
        mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: m, port: 80}}}"
        self.start(
            rule("/mirror", mirror),
            rule("/ext", "{type: ExtensionRef, extensionRef: {group: example.com, kind: Auth, name: x}}"),
            rule("/backend", to=to_pool("a", f", filters: [{mirror}]")),
            rule("/good"),
        )
        for path in ("/mirror", "/ext", "/backend"):
            answer = self.get(path)
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (500, "no_backend"))
        self.assertEqual(self.get("/good").status, 200)
        self.assertEqual(len(self.ends["a"].requests), 1)
        self.assert_problem("UnsupportedValue", "rule 0: .*RequestMirror")
        self.assert_problem("UnsupportedValue", "rule 2: .*RequestMirror")
        self.assert_problem("InvalidKind", "rule 1: .*ExtensionRef")

    def test_what_is_ignored_is_named(self):
        self.start(rule("/", more="    sessionPersistence: {sessionName: s}\n    retry: {codes: [500]}\n"))
        self.assertEqual(self.get("/").status, 200)
        self.assert_problem("FieldIgnored", r"rules\[0\]\.sessionPersistence, rules\[0\]\.retry\.codes")

    # ---- limits ----

    @staticmethod
    def silent(_, sock):
        """Reads a request and answers nothing until the gateway gives up."""
        return sock.recv(1) != b""

    def test_an_attempt_that_takes_too_long_moves_to_another_endpoint(self):
        slow = self.fake(self.silent)
        self.start(rule("/", more="    timeouts: {backendRequest: 200ms}\n"), slow=slow)

        def tried():
            self.assertEqual(self.get("/x").status, 200)
            return slow.requests

        wait_for("the silent one was tried", tried)
        self.assertGreater(self.gw.value("penstock_retries_total", reason="attempt_timeout"), 0)

    def test_a_limit_for_attempts_without_another_endpoint(self):
        self.start(
            rule("/none", more="    timeouts: {backendRequest: 150ms}\n    retry: {attempts: 0}\n"),
            rule("/whole", more="    timeouts: {request: 150ms}\n"),
        )
        self.ends["a"].script = self.silent
        for path in ("/none", "/whole"):
            answer = self.get(path)
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (504, "endpoint_timeout"))
        self.assertEqual(len(self.ends["a"].requests), 2)
        self.assertEqual(self.gw.value("penstock_attempt_failures_total", reason="attempt_timeout"), 1)
        self.assertEqual(self.gw.value("penstock_endpoint_ejections_total"), 0)

    def test_a_stream_that_outlives_its_attempts_limit_is_broken_visibly(self):
        self.start(rule("/", more="    timeouts: {backendRequest: 300ms}\n"))
        part = b"data: {}\n\n"

        def stream(_, sock):
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            sock.sendall(head + b"%x\r\n" % len(part) + part + b"\r\n")
            return sock.recv(1) != b""

        self.ends["a"].script = stream
        with self.assertRaises(ConnectionEnded) as ended:
            self.post("/v1/completions", completion(stream=True))
        self.assertTrue(ended.exception.response.body.startswith(part))
        self.assertIn(b"stream_broken", ended.exception.response.body)
        self.gw.wait_outcomes({"stream_broken": 1})

    # ---- reload ----

    def test_a_reload_takes_manifests_whole_or_not_at_all(self):
        self.start(rule("/one"))
        self.assertRegex(self.gw.log(), r"serving .* endpoints=2 ")
        self.assertEqual(self.get("/one").status, 200)
        self.write("route.yaml", ROUTE + rule("/two") + rule("bad"))
        self.gw.signal(signal.SIGHUP)
        self.assertIsNotNone(self.gw.err.wait(r"reload refused"))
        self.assertEqual(self.get("/one").status, 200)
        self.write("route.yaml", ROUTE + rule("/two"))
        self.gw.signal(signal.SIGHUP)
        self.assertIsNotNone(self.gw.err.wait(r"reloaded"))
        self.assertEqual((self.get("/one").status, self.get("/two").status), (404, 200))


if __name__ == "__main__":
    harness.main()
