"""The APIs of OpenAI and Anthropic through the gateway: the same bytes as straight from the model server."""

import json
import queue
import re
import socket
import struct

import harness
from harness import E2E, OK_JSON, answer_bytes, chat, chunked, completion

SIM_FLAGS = ("--instant", "--seed", "7", "--model", "sim-model", "--model", "second-model")

# One request for each API, by path.
REQUESTS = {
    "/v1/completions": completion(max_tokens=20),
    "/v1/chat/completions": chat(max_tokens=20),
    "/v1/responses": {"model": "sim-model", "input": "Tell me about water.", "max_output_tokens": 20},
    "/v1/messages": {
        "model": "sim-model",
        "max_tokens": 20,
        "messages": [{"role": "user", "content": "Tell me about water."}],
    },
    "/v1/embeddings": {"model": "sim-model", "input": ["one text", "another text"]},
}
STREAMING = [path for path in REQUESTS if path != "/v1/embeddings"]


def masked(data):
    """Without what differs between two answers to the same request: the time of creation."""
    return re.sub(rb'("created(?:_at)?":)\d+', rb"\1T", data)


def end_to_end_fields(response):
    """The fields of a head that the gateway must relay, in their order."""
    own = {"date", "via", "x-request-id", "x-penstock-endpoint", "x-penstock-explain"}
    hop_by_hop = {"connection", "keep-alive", "transfer-encoding"}
    return [(name.lower(), value) for name, value in response.headers if name.lower() not in own | hop_by_hop]


class SameBytes(E2E):
    """One simulated server is asked directly, its twin through the gateway."""

    any_path = True

    @classmethod
    def setUpClass(cls):
        cls.straight = E2E.sim(cls, *SIM_FLAGS)
        cls.behind = E2E.sim(cls, *SIM_FLAGS)
        cls.shared = E2E.gateway(cls, [cls.behind])

    def both(self, path, body, headers=()):
        """The same request to both; ids follow from x-request-id."""
        headers = [("x-request-id", "same-for-both"), *headers]
        return (
            self.client(self.straight.port).post(path, body, headers),
            self.client(self.shared).post(path, body, headers),
        )

    def test_whole_answers_are_the_same(self):
        for path, body in REQUESTS.items():
            with self.subTest(path=path):
                direct, through = self.both(path, body)
                self.assertEqual(direct.status, 200, direct)
                self.assertEqual((through.status, through.reason), (direct.status, direct.reason))
                self.assertEqual(masked(through.raw), masked(direct.raw))
                self.assertEqual(end_to_end_fields(through), end_to_end_fields(direct))

    def test_streams_are_the_same_down_to_their_chunks(self):
        for path in STREAMING:
            with self.subTest(path=path):
                body = {**REQUESTS[path], "stream": True}
                if path in ("/v1/completions", "/v1/chat/completions"):
                    body["stream_options"] = {"include_usage": True}
                direct, through = self.both(path, body)
                self.assertEqual(direct.header("transfer-encoding"), "chunked")
                self.assertGreater(len(direct.events()), 5)
                if harness.over_http2():  # which has no chunks
                    through.raw, direct.raw = through.body, direct.body
                self.assertEqual(masked(through.raw), masked(direct.raw))
                self.assertEqual(end_to_end_fields(through), end_to_end_fields(direct))
                self.assertEqual(through.header_all("transfer-encoding"), ["chunked"])

    def test_a_chunk_is_relayed_for_each_event(self):
        answer = self.client(self.shared).post("/v1/chat/completions", chat(max_tokens=30, stream=True))
        self.assertEqual(answer.events()[-1], "[DONE]")
        text = "".join(
            json.loads(event)["choices"][0]["delta"].get("content", "") for event in answer.events()[:-1]
        )
        self.assertEqual(len(text), 30 * 4)  # a token of the sim is four characters

    def test_several_choices_echo_and_unusual_fields_arrive_unchanged(self):
        odd = {"logit_bias": {"7": -100}, "user": "ünïcödé \u2028 \U0001f4a7", "stop": None}
        body = completion(max_tokens=5, n=3, echo=True, **odd)
        direct, through = self.both("/v1/completions", body)
        self.assertEqual(direct.status, 200, direct)
        self.assertEqual(len(through.json()["choices"]), 3)
        self.assertEqual(masked(through.raw), masked(direct.raw))

    def test_errors_of_the_model_server_are_relayed_as_they_are(self):
        cases = {
            "unknown model": ("/v1/completions", completion(model="nobody-knows-it"), 404),
            "bad parameter": ("/v1/completions", completion(n=10**6), 400),
            "too long": ("/v1/completions", completion(max_tokens=10**9), 400),
        }
        for name, (path, body, status) in cases.items():
            with self.subTest(name):
                direct, through = self.both(path, body)
                self.assertEqual(direct.status, status, direct)
                self.assertEqual((through.status, through.raw), (direct.status, direct.raw))
                self.assertEqual(through.header("x-penstock-endpoint"), self.behind.address)

    def test_a_500_is_relayed(self):
        direct, through = self.both("/v1/completions", completion(), [("x-sim-fail", "status=500")])
        self.assertEqual((through.status, through.raw), (500, direct.raw))

    def test_unknown_paths_are_relayed(self):
        for method, path, body in [
            ("GET", "/version", None),
            ("GET", "/no/such/path?a=b&c=%20d", None),
            ("POST", "/tokenize", {"model": "sim-model", "prompt": "some text to cut"}),
            ("POST", "/v1/rerank", {"model": "sim-model", "query": "q", "documents": ["a", "b"]}),
            ("POST", "/v1/score", {"model": "sim-model", "text_1": "a", "text_2": "b"}),
            ("DELETE", "/v1/completions", None),
        ]:
            with self.subTest(f"{method} {path}"):
                headers = [("x-request-id", "same-for-both")]
                direct = self.client(self.straight.port).request(method, path, body, headers)
                through = self.client(self.shared).request(method, path, body, headers)
                self.assertEqual((through.status, masked(through.raw)), (direct.status, masked(direct.raw)))
                self.assertEqual(through.header("x-penstock-endpoint"), self.behind.address)

    def test_models_of_the_pool_are_listed(self):
        def listed():
            answer = self.client(self.shared).request("GET", "/v1/models")
            self.assertEqual(answer.status, 200)
            ids = sorted(model["id"] for model in answer.json()["data"])
            # Relayed until the gateway has read the endpoints' lists; its own answer has no permissions.
            return ids if "permission" not in answer.json()["data"][0] else None

        ids = harness.wait_for("the gateway's own list of models", listed)
        self.assertEqual(ids, ["second-model", "sim-model"])
        client = self.client(self.shared)
        for path, status in (("/v1/models", 200), ("/v1/models/sim-model", 200), ("/v1/models/other", 404)):
            whole = client.request("GET", path)
            head = client.request("HEAD", path)
            self.assertEqual((whole.status, head.status, head.body), (status, status, b""))
            self.assertEqual(head.header("content-length"), str(len(whole.body)))

    def test_the_list_of_models_is_the_union_over_the_pool(self):
        one = self.sim("--instant", "--model", "alpha", "--model", "shared")
        two = self.sim("--instant", "--model", "beta", "--model", "shared", "--max-model-len", "1000")
        gateway = self.gateway([one, two])

        def ids():
            data = self.client(gateway).request("GET", "/v1/models").json()["data"]
            return sorted(model["id"] for model in data) == ["alpha", "beta", "shared"]

        harness.wait_for("both lists of models have been read", ids)
        listed = {m["id"]: m for m in self.client(gateway).request("GET", "/v1/models").json()["data"]}
        said = {m["id"]: m for m in one.get("/v1/models").json()["data"]}
        for key in ("root", "parent", "owned_by", "max_model_len"):
            self.assertEqual(listed["alpha"][key], said["alpha"][key], key)
        self.assertEqual(listed["shared"]["max_model_len"], 1000)  # what every one of them can take
        self.assertGreater(listed["alpha"]["created"], 0)
        single = self.client(gateway).request("GET", "/v1/models/shared").json()
        self.assertEqual(single, listed["shared"])
        # Each request goes where its model is served, whatever the load says.
        for model, sim in [("alpha", one), ("beta", two)] * 4:
            answer = self.client(gateway).post("/v1/completions", completion(model=model, max_tokens=2))
            self.assertEqual((answer.status, answer.header("x-penstock-endpoint")), (200, sim.address))


class Heads(E2E):
    """Against an endpoint that records the bytes it is sent."""

    any_path = True

    def setUp(self):
        self.endpoint = self.fake()
        self.gateway_ = self.gateway([self.endpoint])

    def exchange(self, method="POST", path="/v1/completions", body=None, headers=()):
        body = completion() if body is None and method == "POST" else body
        answer = self.client(self.gateway_).request(method, path, body, headers)
        return answer, self.endpoint.requests[-1]

    def test_a_request_id_is_kept_and_one_is_made_where_there_is_none(self):
        answer, seen = self.exchange(headers=[("X-Request-Id", "client's own: 42")])
        self.assertEqual(seen.header_all("x-request-id"), ["client's own: 42"])
        self.assertEqual(answer.header_all("x-request-id"), ["client's own: 42"])
        ids = set()
        for _ in range(3):
            answer, seen = self.exchange()
            made = seen.header("x-request-id")
            self.assertRegex(made, r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
            self.assertEqual(answer.header_all("x-request-id"), [made])
            ids.add(made)
        self.assertEqual(len(ids), 3)

    def test_forwarding_fields_are_added_and_extended(self):
        _, seen = self.exchange()
        self.assertEqual(seen.header_all("x-forwarded-for"), ["127.0.0.1"])
        self.assertEqual(seen.header_all("x-forwarded-proto"), ["https" if harness.over_tls() else "http"])
        ours = "2 penstock" if harness.over_http2() else "1.1 penstock"
        self.assertEqual(seen.header_all("via"), [ours])
        _, seen = self.exchange(headers=[("X-Forwarded-For", "203.0.113.9"), ("Via", "1.0 edge")])
        self.assertEqual(seen.header_all("x-forwarded-for"), ["203.0.113.9, 127.0.0.1"])
        self.assertEqual(seen.header_all("via"), ["1.0 edge, " + ours])

    def test_answers_say_which_way_they_took(self):
        answer, _ = self.exchange()
        self.assertEqual(answer.header_all("x-penstock-endpoint"), [self.endpoint.address])
        self.assertEqual(answer.header_all("via"), ["1.1 penstock"])
        self.assertIsNone(answer.header("x-penstock-explain"))

    def test_the_decision_is_explained_on_request(self):
        other = self.fake()
        gateway = self.gateway([self.endpoint, other])
        answer = self.client(gateway).post("/v1/completions", completion(), [("x-penstock-explain", "1")])
        explanation = answer.header("x-penstock-explain")
        self.assertIsNotNone(explanation)
        self.assertTrue(explanation.startswith("profile: expected-cost; "), explanation)
        for endpoint in (self.endpoint, other):
            self.assertIn(endpoint.address, explanation)
        self.assertIn(answer.header("x-penstock-endpoint"), explanation)

    def test_control_fields_do_not_reach_the_endpoint(self):
        control = [
            "x-session-token",
            "x-gateway-inference-objective",
            "x-gateway-inference-fairness-id",
            "x-gateway-destination-endpoint",
            "x-gateway-destination-endpoint-subset",
            "x-gateway-destination-endpoint-served",
            "x-prefiller-host-port",
            "x-encoder-hosts-ports",
            "x-data-parallel-host-port",
            "x-slo-ttft-ms",
            "x-slo-tpot-ms",
            "x-llm-d-inference-objective",
            "x-llm-d-inference-fairness-id",
            "x-llm-d-slo-ttft-ms",
            "x-penstock-explain",
            "x-penstock-endpoint",
            "test-epp-endpoint-selection",
        ]
        hop_by_hop = [
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("TE", "trailers"),
            ("Upgrade", "h2c"),
            ("Proxy-Authorization", "Basic eDp5"),
        ]
        if not harness.over_http2():
            hop_by_hop += [("Connection", "keep-alive, x-named-by-connection"), ("x-named-by-connection", "1")]
        kept = [("authorization", "Bearer k"), ("traceparent", "00-ab-cd-01"), ("cookie", "c=d")]
        kept += [("x-own", "a"), ("x-own", "b")]
        _, seen = self.exchange(headers=[(name.title(), "1") for name in control] + hop_by_hop + kept)
        for name in control + [name for name, _ in hop_by_hop]:
            self.assertEqual(seen.header_all(name), [], name)
        by_name = lambda field: field[0]  # Cookie is put together, at the end, where HTTP/2 takes it apart
        self.assertEqual(sorted((h for h in seen.headers if h in kept), key=by_name), sorted(kept, key=by_name))

    def test_a_client_cannot_make_the_endpoint_lose_its_framing(self):
        _, seen = self.exchange(headers=[("Connection", "content-length, host, content-type")])
        self.assertEqual(seen.header("content-length"), str(len(seen.body)))
        self.assertEqual(seen.header("host"), "test")
        self.assertEqual(seen.header("content-type"), "application/json")

    def test_the_body_arrives_byte_for_byte(self):
        odd = b' {"max_tokens" : 3,\n\t"model":"sim-model" , "prompt" : "\\u00e9\\/ \xc3\xa9", "x":1e400, "x": [ ] }  '
        _, seen = self.exchange(body=odd)
        self.assertEqual(seen.body, odd)

    def test_a_model_rewrite_changes_only_the_models_value(self):
        cases = [
            (b'{"model":"a","prompt":"p"}', b'{"model":"b/c-7","prompt":"p"}'),
            (
                b'{ "prompt":"\\"model\\":\\"a\\"", "x":{"model":"a"} , "model" : "a"  }',
                b'{ "prompt":"\\"model\\":\\"a\\"", "x":{"model":"a"} , "model" : "b/c-7"  }',
            ),
            (b'{"model":"b/c-7","prompt":"p"}', b'{"model":"b/c-7","prompt":"p"}'),
        ]
        for body, expected in cases:
            for name in ("x-gateway-model-name-rewrite", "X-LLM-D-Model-Name-Rewrite"):
                with self.subTest(body=body, name=name):
                    _, seen = self.exchange(body=body, headers=[(name, "b/c-7")])
                    self.assertEqual(seen.body, expected)
                    self.assertEqual(seen.header("content-length"), str(len(expected)))
                    self.assertEqual(seen.header_all(name), [])

    def test_a_rewritten_name_is_escaped_for_json(self):
        _, seen = self.exchange(body=b'{"model":"a","prompt":"p"}', headers=[("x-gateway-model-name-rewrite", 'q"\\z')])
        self.assertEqual(json.loads(seen.body), {"model": 'q"\\z', "prompt": "p"})

    def test_bodies_that_are_not_json_are_relayed_where_forms_are_usual_and_refused_elsewhere(self):
        cases = [
            (b"\x00\xff binary \r\n\r\n0\r\n", "application/octet-stream"),
            (b"--b\r\ncontent-disposition: form-data\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b"),
            (b"this is not JSON", "application/json"),
            (b"", "application/json"),
        ]
        for body, content_type in cases:
            for path in ("/v1/completions", "/v1/audio/transcriptions"):
                with self.subTest(body=body, path=path):
                    if body and path == "/v1/completions":
                        answer = self.client(self.gateway_).post(path, body, [("Content-Type", content_type)])
                        self.assertEqual((answer.status, answer.json()["error"]["code"]), (400, "invalid_body"))
                        continue
                    answer, seen = self.exchange(path=path, body=body, headers=[("Content-Type", content_type)])
                    self.assertEqual((answer.status, answer.body), (200, OK_JSON))
                    self.assertEqual((seen.body, seen.path), (body, path))
                    self.assertEqual(seen.header("content-type"), content_type)

    def test_json_that_is_said_to_be_a_form_is_read(self):
        for content_type in ("application/x-www-form-urlencoded", "text/plain"):
            with self.subTest(content_type=content_type):
                headers = [("Content-Type", content_type), ("x-gateway-model-name-rewrite", "b")]
                _, seen = self.exchange(body=b' {"model":"a","prompt":"p"}', headers=headers)
                self.assertEqual(seen.body, b' {"model":"b","prompt":"p"}')
                self.assertEqual(seen.header("content-type"), content_type)

    def test_the_usage_of_a_long_answer_is_read(self):
        vectors = b",".join([b'{"object":"embedding","embedding":[0.5,0.25]}'] * 50_000)  # 2 MB
        long = b'{"object":"list","data":[' + vectors + b'],"usage":{"prompt_tokens":7,"total_tokens":7}}'
        self.endpoint.script = lambda _, sock: sock.sendall(answer_bytes(200, long)) or True
        answer, _ = self.exchange(path="/v1/embeddings", body={"model": "a", "input": "text"})
        self.assertEqual(answer.body, long)
        self.gateway_.wait_idle()
        self.assertEqual(self.gateway_.metrics().sum("inference_objective_input_tokens_sum"), 7)

    def test_json_that_is_no_request_is_refused_in_openais_form(self):
        cases = [
            ("/v1/completions", b'{"model":7,"prompt":"p"}', "model"),
            ("/v1/completions", b'{"model":"a","model":"b","prompt":"p"}', "model"),
            ("/v1/completions", b'{"model":"a","prompt":{}}', "prompt"),
            ("/v1/chat/completions", b'{"model":"a","messages":"p"}', "messages"),
            ("/v1/embeddings", b'{"model":"a","input":[1,"p"]}', "input"),
        ]
        for path, body, param in cases:
            with self.subTest(body=body):
                answer = self.client(self.gateway_).post(path, body)
                error = answer.json()["error"]
                self.assertEqual((answer.status, error["type"]), (400, "invalid_request_error"))
                self.assertEqual(error["code"], "invalid_body")
                self.assertEqual(set(error), {"message", "type", "param", "code"})
                self.assertEqual(error["param"], param)
                self.assertIsNone(answer.header("connection"))  # it stays open, as HTTP/1.1 has it
        self.assertEqual(self.endpoint.requests, [])

    def test_what_servers_may_take_is_theirs_to_judge(self):
        bodies = [
            b'{"prompt":"p"}',
            b'{"model":null,"prompt":"p"}',
            b'{"model":"a"}',
            b'{"model":"a","prompt":""}',
            b'{"model":"a","prompt":"p","max_tokens":"5","n":1.5,"stream":"yes"}',
            b'{"model":"a","prompt":"p","stream":1,"stream_options":{"include_usage":"on"},"cache_salt":7}',
        ]
        for body in bodies:
            with self.subTest(body=body):
                self.assertEqual(self.client(self.gateway_).post("/v1/completions", body).status, 200)
                self.assertEqual(self.endpoint.requests[-1].body, body)
        self.assertEqual(self.client(self.gateway_).post("/v1/responses", b'{"prompt":{"id":"x"}}').status, 200)

    def test_targets_arrive_as_they_were(self):
        for target, expected in [
            ("/a/b;c/..d?x=1&y=%2F&z=//../", "/a/b;c/..d?x=1&y=%2F&z=//../"),
            ("http://elsewhere.example/v1/thing?q", "/v1/thing?q"),
            ("HTTPS://elsewhere.example?q=/no", "/?q=/no"),
            ("http://elsewhere.example", "/"),
            ("/%20%7C", "/%20%7C"),
            ("/http:/elsewhere.example/", "/http:/elsewhere.example/"),
        ]:
            with self.subTest(target):
                _, seen = self.exchange("GET", target)
                self.assertEqual(seen.path, expected)
                # A host in the target counts, and not the Host field (RFC 9112, section 3.2.2).
                self.assertEqual(seen.header_all("host"), ["test" if target[0] == "/" else "elsewhere.example"])

    def test_fields_of_answers_are_relayed_and_hop_by_hop_ones_are_not(self):
        def script(_, sock):
            headers = [
                ("Set-Cookie", "a=1"),
                ("Set-Cookie", "b=2"),
                ("X-Odd", "  spaced  "),
                ("Keep-Alive", "timeout=5"),
                ("Connection", "keep-alive, x-secret"),
                ("X-Secret", "1"),
                ("Via", "1.1 inner"),
                ("x-penstock-endpoint", "forged"),
            ]
            sock.sendall(answer_bytes(201, b"made", headers, "text/plain", "Made Up"))
            return True

        self.endpoint.script = script
        answer, _ = self.exchange()
        reason = "Created" if harness.over_http2() else "Made Up"
        self.assertEqual((answer.status, answer.reason, answer.body), (201, reason, b"made"))
        self.assertEqual(answer.header_all("set-cookie"), ["a=1", "b=2"])
        self.assertEqual(answer.header("x-odd"), "spaced")
        self.assertEqual(answer.header_all("via"), ["1.1 inner, 1.1 penstock"])
        self.assertEqual(answer.header_all("x-penstock-endpoint"), [self.endpoint.address])
        for name in ("keep-alive", "x-secret"):
            self.assertEqual(answer.header_all(name), [], name)

    def test_a_compressed_or_odd_stream_is_relayed_unread(self):
        payload = bytes(range(256)) * 40

        def script(_, sock):
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: br\r\n"
            sock.sendall(head + b"transfer-encoding: chunked\r\n\r\n" + chunked(payload, payload))
            return True

        self.endpoint.script = script
        answer, _ = self.exchange(path="/v1/chat/completions", body=chat(stream=True))
        self.assertEqual(answer.body, payload * 2)
        self.assertEqual(answer.header("content-encoding"), "br")


class Acknowledgements(E2E):
    """When the endpoint's kernel hears that its bytes were read."""

    def pieces_acknowledged_late(self, content_type, piece, most):
        """How many of up to `most` pieces were not acknowledged yet when the client had them; ends with the first."""
        passed_on, late = queue.Queue(), []

        def unacknowledged(sock):
            return struct.unpack_from("=I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0]

        def script(_, sock):
            head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
            sock.sendall(head.encode())
            while not late and most > passed_on.unfinished_tasks:
                sock.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
                passed_on.get(timeout=harness.PATIENCE)
                if unacknowledged(sock):
                    late.append(True)
                harness.wait_for("the acknowledgement", lambda: not unacknowledged(sock))
            done = b"data: [DONE]\n\n"
            sock.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(done), done))
            return True

        endpoint = self.fake(script)
        client = self.client(self.gateway([endpoint], shards=1))
        client.send(harness.request_bytes("POST", "/v1/completions", completion()))
        seen, got = 0, b""
        while not got.endswith(b"0\r\n\r\n"):
            received = client.sock.recv(65536)
            self.assertTrue(received, "the answer broke")
            got += received
            for _ in range(seen, got.count(piece)):
                passed_on.put(True)
            seen = got.count(piece)
        return len(late)

    def test_those_of_a_streams_events_are_late_and_others_are_not(self):
        event = b'data: {"choices":[{"text":"water"}]}\n\n'
        self.assertEqual(self.pieces_acknowledged_late("text/event-stream", event, 40), 1)
        self.assertEqual(self.pieces_acknowledged_late("text/plain", b"as much as an event has, about so", 6), 0)


if __name__ == "__main__":
    harness.main()
