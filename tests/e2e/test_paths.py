"""Nobody gets around the queue, or to a path that controls a model server: spellings of paths and bodies, what may be
reached, and stored responses that only one endpoint has."""

import json
import signal

import harness
from harness import E2E, answer_bytes, completion, request_bytes, wait_for
from test_flow import DROPPED, FlowCase, ONE_EACH
from test_routes import GATEWAY, ROUTE, prefix, rewrite, rule

BODY = json.dumps(completion(max_tokens=2))
# (method, path, body, content type): all of them cost a model server work, however they are written.
SPELLINGS = [
    ("POST", "/v1/completions", BODY, "application/json"),
    ("POST", "/v1/%63ompletions", BODY, "application/json"),
    ("POST", "/v1%2Fcompletions", BODY, "application/json"),
    ("POST", "//v1//completions", BODY, "application/json"),
    ("POST", "/v1/completions/", BODY, "application/json"),
    ("PUT", "/v1/completions", BODY, "application/json"),
    ("POST", "/v1/completions", BODY, "text/plain"),
    ("POST", "/v1/completions", b"\xef\xbb\xbf" + BODY.encode(), "text/plain"),
    ("POST", "/v1/completions", BODY.replace("{", '{"temperature":NaN,', 1), "application/json"),
    ("POST", "/v1/completions", BODY.replace("{", '{"x":[Infinity,-Infinity],', 1), "application/json"),
    ("POST", "/v1/completions", None, "application/json"),
    ("POST", "/v1/rerank", BODY, "application/json"),
    ("POST", "/generate", BODY, "application/json"),
    ("POST", "/v1/audio/transcriptions", b"--x\r\n\r\naudio\r\n--x--", "multipart/form-data; boundary=x"),
    ("POST", "/lab/anything", b"\x00\x01", "application/octet-stream"),
]
REFUSED_BODIES = {
    "UTF-16": BODY.encode("utf-16-le"),
    "UTF-16 with a mark": BODY.encode("utf-16"),
    "UTF-16 as text": (BODY.encode("utf-16-be"), "text/plain"),
    "UTF-32": BODY.encode("utf-32-be"),
    "a form": (b"model=m&prompt=p", "application/x-www-form-urlencoded"),
    "model twice": BODY.replace("{", '{"model":"other",', 1).encode(),
    "an array": f"[{BODY}]".encode(),
    "bytes": (bytes(range(1, 100)), "application/octet-stream"),
}


class Spellings(E2E):
    def test_what_is_forwarded_is_the_canonical_path(self):
        fake = self.fake()
        gateway = self.gateway([fake], "paths: {allow: [/lab/**]}\naccess_log: {query: true}\n", access_log=True)
        client = self.client(gateway)
        for asked, seen in (
            ("/v1/%63ompletions?a=%63&b=//x", "/v1/completions?a=%63&b=//x"),
            ("/v1%2fcompletions", "/v1/completions"),
            ("//v1/completions/", "/v1/completions/"),
            ("/lab/a%20b%3a%c3%a9", "/lab/a%20b:%C3%A9"),
            ("http://some.host/v1//completions", "/v1/completions"),
        ):
            with self.subTest(asked):
                self.assertEqual(client.post(asked, BODY).status, 200)
                self.assertEqual(fake.requests[-1].path, seen)
                gateway.out.wait("path=\"?" + seen.replace("?", r"\?") + r"[\" ]")

    def test_paths_that_servers_read_differently_are_refused(self):
        fake = self.fake()
        gateway = self.gateway([fake], 'paths: {allow: ["/**"]}')
        paths = ("/v1/../completions", "/v1/%2e%2e/completions", "/v1/./completions", "/v1%5Ccompletions",
                 "/v1\\completions", "/v1/completions%00", "/v1/completions%0a", "/v1/%zz", "/v1/%")  # fmt: skip
        for path in paths:
            with self.subTest(path):
                answer = harness.fetch(gateway.port, path, "POST", BODY)
                self.assertEqual((answer.status, answer.json()["error"]["code"]), (400, "malformed_request"))
                self.assertIn("The path has", answer.json()["error"]["message"])
        self.assertEqual(fake.requests, [])

    def test_bodies_that_only_others_could_read_are_refused(self):
        fake = self.fake()
        gateway = self.gateway([fake])
        client = self.client(gateway)
        for path in ("/v1/completions", "/v1/chat%2Fcompletions", "/generate", "/v1/rerank"):
            for name, body in REFUSED_BODIES.items():
                with self.subTest(f"{name} to {path}"):
                    body, content_type = body if isinstance(body, tuple) else (body, "application/json")
                    answer = client.post(path, body, [("content-type", content_type)])
                    self.assertEqual((answer.status, answer.json()["error"]["code"]), (400, "invalid_body"))
                    if name.startswith("UTF"):
                        self.assertIn("UTF-8", answer.json()["error"]["message"])
        packed = [("content-encoding", "gzip")]
        answer = client.post("/v1/completions", bytes.fromhex("1f8b0800000000000003"), packed)
        self.assertEqual(answer.status, 400)
        self.assertIn("compressed", answer.json()["error"]["message"])
        self.assertEqual(fake.requests, [])


class Queue(FlowCase):
    def test_every_spelling_waits_for_room(self):
        self.start(ONE_EACH + "}\npaths: {allow: [/lab/**]}")
        busy = self.occupy()
        clients = []
        for count, (method, path, body, content_type) in enumerate(SPELLINGS, 1):
            with self.subTest(f"{method} {path} {content_type}"):
                client = self.client(self.gw)
                client.send(request_bytes(method, path, body, [("content-type", content_type)]))
                clients.append(client)
                self.wait_held(count)
        for path in ("/v1/models", "/health", "/version"):
            self.assertEqual(self.client(self.gw).request("GET", path).status, 200)
        text = {"model": "sim-model", "prompt": "some text"}
        self.assertEqual(self.client(self.gw).post("/tokenize", text).status, 200)
        self.assertEqual(self.held(), len(SPELLINGS))
        busy.close()
        for client in clients:
            self.assertIn(client.read_response().status, (200, 400, 404, 405, 422))

    def test_every_spelling_may_be_shed(self):
        self.start(ONE_EACH + "}\npaths: {allow: [/lab/**]}", objectives={"batch": -1})
        busy = self.occupy()
        for method, path, body, content_type in SPELLINGS:
            with self.subTest(f"{method} {path} {content_type}"):
                headers = [("content-type", content_type), ("x-gateway-inference-objective", "batch")]
                answer = self.client(self.gw).request(method, path, body, headers)
                self.assertEqual((answer.status, answer.header(DROPPED)), (429, "rejected-saturated"))
        busy.close()


CONTROL = [
    ("POST", "/shutdown"), ("POST", "/sleep?level=1"), ("POST", "/wake_up"), ("POST", "/v1/load_lora_adapter"),
    ("POST", "/v1/unload_lora_adapter"), ("POST", "/load_lora_adapter"), ("POST", "/collective_rpc"),
    ("POST", "/reset_prefix_cache"), ("GET", "/metrics"), ("GET", "/docs"), ("GET", "/openapi.json"),
    ("GET", "/server_info"), ("POST", "/flush_cache"), ("GET", "/flush_cache"), ("POST", "/start_profile"),
    ("POST", "/%73hutdown"), ("POST", "//shutdown"), ("POST", "/v1/models"), ("DELETE", "/v1/models/m"), ("GET", "/"),
    ("PUT", "/shutdown/"), ("POST", "/v1/completions/shutdown"),
]  # fmt: skip


class Reach(E2E):
    def asked(self, gateway, method, path):
        return self.client(gateway).request(method, path, None if method == "GET" else "{}")

    def test_control_paths_are_out_of_reach_by_default(self):
        fake = self.fake()
        gateway = self.gateway([fake], access_log=True)
        for method, path in CONTROL:
            with self.subTest(f"{method} {path}"):
                answer = self.asked(gateway, method, path)
                error = answer.json()["error"]
                self.assertEqual((answer.status, error["code"]), (404, "path_not_allowed"))
                self.assertIn("paths.allow", error["message"])
                self.assertIn("HTTPRoute", error["message"])
        self.assertEqual(fake.requests, [])
        self.assertEqual(gateway.value("penstock_limit_hits_total", limit="paths"), len(CONTROL))
        self.assertTrue(gateway.out.wait("path_not_allowed"))
        for method, path in (("GET", "/version"), ("OPTIONS", "/v1/chat/completions"), ("GET", "/v1/responses/resp_1")):
            self.assertEqual(self.asked(gateway, method, path).status, 200)

    def test_settings_open_and_close_paths(self):
        fake = self.fake()
        gateway = self.gateway([fake], "paths: {defaults: false, allow: [/reset_prefix_cache, /lab/*/x]}")
        for method, path, status in (
            ("POST", "/reset_prefix_cache", 200), ("POST", "/%72eset_prefix_cache/", 200), ("GET", "/lab/1/x?y", 200),
            ("POST", "/v1/completions", 404), ("GET", "/lab/1/2/x", 404), ("POST", "/shutdown", 404),
        ):  # fmt: skip
            self.assertEqual(self.asked(gateway, method, path).status, status, path)
        self.assertTrue(gateway.err.wait(r"paths\.allow.*/reset_prefix_cache"))
        gateway.write_config('paths: {allow: ["/**"]}\naccess_log: {enabled: false}\npin: false\n')
        gateway.signal(signal.SIGHUP)
        self.assertTrue(gateway.err.wait(r"\breloaded\b"))
        self.assertTrue(gateway.err.wait(r"paths\.allow.*/shutdown"))
        self.assertEqual(self.asked(gateway, "POST", "/shutdown").status, 200)
        self.assertEqual(fake.requests[-1].path, "/shutdown")

    def test_check_says_what_is_opened(self):
        file = self.file("gateway.yaml", 'kind: GatewayConfig\nendpoints: [{url: "http://127.0.0.1:1"}]\npaths:\n  allow: ["*"]\n')
        code, out, err = harness.run_program(harness.PENSTOCK, "check", "--config", file)
        self.assertEqual(code, 0, err)
        self.assertRegex(out, r"gateway.yaml:4: paths\.allow: lets clients control or inspect .*/shutdown")
        bad = self.file("gateway.yaml", "kind: GatewayConfig\npaths: {allow: [v1/x]}\n")
        code, out, err = harness.run_program(harness.PENSTOCK, "check", "--config", bad)
        self.assertNotEqual(code, 0)
        self.assertRegex(out + err, r"gateway.yaml:2: paths\.allow.*\"v1/x\" does not begin with a slash")

    def test_a_route_allows_the_paths_that_it_names(self):
        fake = self.fake()
        rules = [
            rule("/"),
            rule("/lab"),
            rule("/shutdown", match="Exact"),
            rule("/team", rewrite(prefix("/"))),
            rule("/tools", rewrite(prefix("/internal/tools"))),
            rule("/nap", rewrite("path: {type: ReplaceFullPath, replaceFullPath: /sleep}")),
        ]
        text = GATEWAY + ROUTE + "".join(rules) + "---\n" + harness.pool_manifest(fake.port, name="a")
        gateway = self.gateway([], flags=("--manifests", self.file("objects.yaml", text)))
        gateway.wait_pods(1)
        for path, seen in (
            ("/v1/completions", "/v1/completions"),
            ("/lab/shutdown", "/lab/shutdown"),
            ("/l%61b//x", "/lab/x"),
            ("/shutdown", "/shutdown"),
            ("/team/v1/completions", "/v1/completions"),
            ("/tools/x", "/internal/tools/x"),
            ("/nap", "/sleep"),
            ("/sleep", None),
            ("/shutdown/x", None),
            ("/team/shutdown", None),
            ("/team%2Fshutdown", None),
            ("/team", None),
        ):
            with self.subTest(path):
                answer = self.client(gateway).post(path, BODY)
                if seen is None:
                    self.assertEqual((answer.status, answer.json()["error"]["code"]), (404, "path_not_allowed"))
                else:
                    self.assertEqual((answer.status, fake.requests[-1].path), (200, seen))


class StoredResponses(E2E):
    """Two endpoints; each stores the responses that it makes, as vLLM does."""

    def start(self, config=None):
        self.stored = [{}, {}]
        self.fakes = [self.fake(self.server(i)) for i in range(2)]
        self.gw = self.gateway(self.fakes, config)
        self.gw.wait_pods(2)

    def server(self, number):
        def answer(request, sock):
            stored = self.stored[number]
            path = request.path.split("?")[0]
            if request.method == "POST" and path == "/v1/responses":
                body = json.loads(request.body)
                previous = body.get("previous_response_id")
                if previous is not None and previous not in stored:
                    sock.sendall(answer_bytes(404, b'{"error":{"message":"not found"}}'))
                    return True
                made = f"resp_{number}_{len(stored)}"
                stored[made] = body
                if body.get("stream"):
                    event = {"type": "response.created", "response": {"id": made, "object": "response"}}
                    done = {"type": "response.completed", "response": {"id": made, "object": "response"}}
                    text = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in (event, done))
                    sock.sendall(answer_bytes(200, text.encode(), content_type="text/event-stream"))
                else:
                    reply = {"metadata": {"id": "resp_none"}, "id": made, "object": "response", "output": []}
                    sock.sendall(answer_bytes(200, json.dumps(reply).encode()))
                return True
            known = path.split("/")[3] in stored
            sock.sendall(answer_bytes(200 if known else 404, json.dumps({"at": number}).encode()))
            return True

        return answer

    def make(self, **more):
        answer = self.client(self.gw).post("/v1/responses", {"model": "m", "input": "hello", **more})
        self.assertEqual(answer.status, 200, answer)
        data = answer.json() if not more.get("stream") else json.loads(answer.events()[0])["response"]
        return data["id"]

    def test_requests_for_a_response_go_to_the_endpoint_that_made_it(self):
        self.start()
        made = [self.make(stream=i % 2 == 1) for i in range(24)]
        self.assertEqual({name[5] for name in made}, {"0", "1"}, "both endpoints made some")
        for name in made:
            at = int(name[5])
            for method, path in (("GET", ""), ("GET", "?stream=false"), ("GET", "/input_items"), ("POST", "/cancel"),
                                 ("DELETE", "")):  # fmt: skip
                answer = self.client(self.gw).request(method, f"/v1/responses/{name}{path}")
                self.assertEqual((answer.status, answer.json()["at"]), (200, at), f"{method} {name}{path}")
        for name in made:
            self.assertEqual(self.make(previous_response_id=name)[5], name[5])
        self.assertEqual(self.gw.value("penstock_response_lookups_total", result="found"), 24 * 6)
        self.assertEqual(self.gw.value("penstock_responses_remembered"), 48)
        answer = self.client(self.gw).request("GET", "/v1/responses/resp_unknown")
        self.assertEqual(answer.status, 404)
        self.assertEqual(self.gw.value("penstock_response_lookups_total", result="unknown"), 1)

    def test_without_the_endpoint_the_request_goes_by_load(self):
        self.start("ejection: {consecutive_failures: 1}")
        made = self.make()
        at = int(made[5])
        self.fakes[at].close()
        answer = self.client(self.gw).request("GET", f"/v1/responses/{made}")
        self.assertEqual((answer.status, answer.json()["at"]), (404, 1 - at))

    def test_it_can_be_turned_off(self):
        self.start("responses: {remembered: 0}")
        made = self.make()
        seen = {self.client(self.gw).request("GET", f"/v1/responses/{made}").json()["at"] for _ in range(40)}
        self.assertEqual(seen, {0, 1})
        self.assertEqual(self.gw.value("penstock_responses_remembered"), 0)


if __name__ == "__main__":
    harness.main()
