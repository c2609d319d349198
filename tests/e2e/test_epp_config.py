"""Routing by an EndpointPickerConfig: the real gateway over simulated and scripted model servers."""

import base64
import os
import re
import signal

import harness
from harness import E2E, PENSTOCK, answer_bytes, completion, run_program, wait_for

HEAD = "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\n"
SIM_FLAGS = ("--instant", "--model", "sim-model")


def polls_with(gauges):
    """Answers polls as an idle server with these gauges besides."""
    metrics = "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0\n" + gauges

    def script(request, sock):
        found = {"/health": b"", "/metrics": metrics.encode()}.get(request.path)
        status, body = (404, b"{}") if found is None else (200, found)
        sock.sendall(answer_bytes(status, body, content_type="text/plain; version=0.0.4"))

    return script


def polls_with_adapter(name):
    """Of a server with one slot for adapters, in which `name` is ("": nobody)."""
    return polls_with(
        f'vllm:lora_requests_info{{max_lora="1",running_lora_adapters="{name}",waiting_lora_adapters=""}} 1\n'
    )


class EppConfig(E2E):
    def write(self, text):
        return self.file("epp.yaml", HEAD + text)

    def routed_by(self, text, endpoints, **options):
        self.path = self.write(text)
        return self.gateway(endpoints, flags=["--epp-config", self.path], **options)

    def ask(self, gateway, headers=(), **body):
        return self.client(gateway).post("/v1/completions", completion(**body), headers)

    def endpoint_of(self, gateway, headers=(), **body):
        answer = self.ask(gateway, headers, **body)
        self.assertEqual(answer.status, 200, answer)
        return answer.header("x-penstock-endpoint")


class Profiles(EppConfig):
    def test_a_profile_with_weights_decides_and_explains_itself(self):
        sims = [self.sim(*SIM_FLAGS), self.sim(*SIM_FLAGS)]
        text = """plugins:
  - {type: queue-scorer, name: shortest}
  - {type: prefix-cache-scorer}
schedulingProfiles:
  - name: default
    plugins:
      - {pluginRef: shortest, weight: 1}
      - {pluginRef: prefix-cache-scorer, weight: 5}
"""
        gateway = self.routed_by(text, sims)
        prompt = "Tell me about rivers, dams and turbines. " * 20
        first = self.endpoint_of(gateway, prompt=prompt)
        for _ in range(10):
            self.assertEqual(self.endpoint_of(gateway, prompt=prompt), first)
        answer = self.ask(gateway, [("x-penstock-explain", "1")], prompt=prompt)
        explanation = answer.header("x-penstock-explain")
        self.assertIn("shortest*1=1", explanation)
        self.assertIn("prefix-cache-scorer*5=1", explanation)
        self.assertTrue(explanation.startswith("profile: default; " + first + " total=6 "), explanation)
        decisions = wait_for("a decision is kept", lambda: gateway.admin("/debug/decisions").body.decode())
        self.assertIn("prefix-cache-scorer*5", decisions)
        page = self.file("page.json", decisions)
        code, out, err = run_program(PENSTOCK, "replay", "--decisions", page)
        self.assertEqual(code, 1, out)  # nothing was made again
        self.assertRegex(err, r'^penstock: "default" is no policy of replay, but a profile of an EndpointPickerConfig')
        code, _, err = run_program(PENSTOCK, "replay", "--decisions", page, "--policy", "random")
        self.assertEqual((code, err), (0, ""))

    def test_session_tokens_make_the_round_trip(self):
        sims = [self.sim(*SIM_FLAGS) for _ in range(3)]
        text = """plugins:
  - {type: session-affinity-scorer}
  - {type: random-picker}
schedulingProfiles:
  - name: default
    plugins: [{pluginRef: session-affinity-scorer}]
"""
        gateway = self.routed_by(text, sims)
        for stream in (False, True):
            answer = self.ask(gateway, stream=stream)
            token, at = answer.header("x-session-token"), answer.header("x-penstock-endpoint")
            self.assertEqual(base64.b64decode(token).decode(), at)
            for _ in range(10):
                again = self.ask(gateway, [("X-Session-Token", token)], stream=stream)
                self.assertEqual(again.header("x-penstock-endpoint"), at)
                self.assertEqual(again.header_all("x-session-token"), [token])
        # A token that nobody knows any more is no obstacle.
        self.assertIn(self.endpoint_of(gateway, [("x-session-token", "Z29uZQ==")]), [sim.address for sim in sims])
        # Without the plugin nobody is told anything.
        plain = self.gateway(sims)
        self.assertIsNone(self.ask(plain).header("x-session-token"))

    def test_the_header_for_tests_chooses(self):
        sims = [self.sim(*SIM_FLAGS) for _ in range(3)]
        text = """plugins:
  - {type: header-based-testing-filter}
  - {type: max-score-picker, parameters: {maxNumOfEndpoints: 3}}
"""
        gateway = self.routed_by(text, sims)
        header = "test-epp-endpoint-selection"
        for sim in sims:
            self.assertEqual(self.endpoint_of(gateway, [(header, sim.address)]), sim.address)
        order = ",".join(sim.address for sim in reversed(sims))
        for _ in range(5):
            self.assertEqual(self.endpoint_of(gateway, [(header, order)]), sims[2].address)
        # The list is also the order in which it goes on when one fails.
        sims[2].kill()
        self.assertEqual(self.endpoint_of(gateway, [(header, order)]), sims[1].address)
        for headers in ([], [(header, "192.0.2.1")]):
            refused = self.ask(gateway, headers)
            self.assertEqual(refused.status, 429, refused)
            self.assertEqual(refused.json()["error"]["code"], "no_endpoint_fits")
            self.assertIsNotNone(refused.header("retry-after"))
            self.assertEqual(refused.header("x-llm-d-request-dropped-reason"), "rejected-no-endpoints")

    def test_images_go_where_they_were_encoded(self):
        sims = [self.sim(*SIM_FLAGS) for _ in range(3)]
        text = """plugins: [{type: mm-embeddings-cache-producer}, {type: mm-embeddings-cache-scorer}]
schedulingProfiles: [{name: default, plugins: [{pluginRef: mm-embeddings-cache-scorer}]}]
"""
        gateway = self.routed_by(text, sims)

        def endpoint_of(*images):
            parts = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}} for image in images]
            body = {"model": "sim-model", "max_tokens": 1, "messages": [{"role": "user", "content": parts}]}
            answer = self.client(gateway).post("/v1/chat/completions", body)
            self.assertEqual(answer.status, 200, answer)
            return answer.header("x-penstock-endpoint")

        images = [f"QUJD{i:04}" for i in range(12)]
        first = [endpoint_of(image) for image in images]
        self.assertGreater(len(set(first)), 1)  # nobody has them, so that chance decides
        self.assertEqual([endpoint_of(image) for image in images], first)
        apart = next(i for i in range(12) if first[i] != first[0])
        self.assertEqual(endpoint_of(images[apart], "QUJDnew1", "QUJDnew2"), first[apart])

    def test_a_header_chooses_the_profile(self):
        sims = [self.sim(*SIM_FLAGS), self.sim(*SIM_FLAGS)]
        text = """plugins:
  - {type: header-profile-handler, parameters: {headerName: x-stage, defaultProfile: any}}
  - {type: header-based-testing-filter, name: tested}
  - {type: random-picker}
schedulingProfiles:
  - {name: any, plugins: [{pluginRef: random-picker}]}
  - {name: tested, plugins: [{pluginRef: tested}]}
"""
        gateway = self.routed_by(text, sims)
        for headers, status in (((), 200), ((("x-stage", "any"),), 200), ((("X-Stage", "tested"),), 429)):
            self.assertEqual(self.ask(gateway, headers).status, status, headers)
        wanted = sims[1].address
        for _ in range(5):
            answer = self.ask(gateway, (("x-stage", "tested"), ("test-epp-endpoint-selection", wanted)))
            self.assertEqual(answer.status, 200, answer)
        refused = self.ask(gateway, (("x-stage", "nonsense"),))
        self.assertEqual((refused.status, refused.json()["error"]["code"]), (400, "no_profile"))

    def test_gauges_that_it_names_are_scraped_and_obeyed(self):
        endpoints = [self.fake() for _ in range(3)]
        for endpoint, depth in zip(endpoints, (30, 10, 20)):
            endpoint.poll_script = polls_with(
                f'my_queue_depth{{tier="gold"}} {depth}\nmy_queue_depth{{tier="silver"}} 0\n'
            )
        text = """plugins:
  - type: core-metrics-extractor
    parameters:
      engineConfigs:
        - {name: vllm, customMetrics: [{attributeKey: depth, metricSpec: "my_queue_depth{tier=gold}"}]}
  - {type: endpoint-attribute-scorer, parameters: {attributeKey: depth, algorithm: {type: linear_lower_is_better}}}
  - name: worse
    type: endpoint-attribute-filter
    parameters: {attribute: depth, onMissing: Fail, algorithm: {type: topK, topK: {k: 2}}}
schedulingProfiles:
  - {name: default, plugins: [{pluginRef: worse}, {pluginRef: endpoint-attribute-scorer}]}
"""
        gateway = self.routed_by(text, endpoints)
        # Of the two with the most in their queues the one with less.
        wait_for("the gauges are known", lambda: self.ask(gateway).header("x-penstock-endpoint") == endpoints[2].address)
        for _ in range(5):
            self.assertEqual(self.endpoint_of(gateway), endpoints[2].address)

    def test_engines_that_it_adds_are_scraped_by_their_own_gauges(self):
        endpoints = [self.fake() for _ in range(3)]
        for endpoint, waiting in zip(endpoints, (3, 0, 2)):
            endpoint.poll_script = polls_with(f"atom:waiting {waiting}\n")
        text = """plugins:
  - type: core-metrics-extractor
    parameters: {defaultEngine: atom, engineConfigs: [{name: atom, queuedRequestsSpec: "atom:waiting"}]}
  - type: queue-scorer
schedulingProfiles: [{name: default, plugins: [{pluginRef: queue-scorer}]}]
"""
        gateway = self.routed_by(text, endpoints)
        wait_for(
            "twelve times in a row the one with the shortest queue answers",
            lambda: all(self.endpoint_of(gateway) == endpoints[1].address for _ in range(12)),
        )

    def test_adapters_are_asked_where_they_are(self):
        endpoints = [self.fake() for _ in range(3)]
        for endpoint, adapter in zip(endpoints, ("", "sql", "chat")):
            endpoint.poll_script = polls_with_adapter(adapter)
        text = "plugins: [{type: lora-affinity-scorer}]\n"
        gateway = self.routed_by(text, endpoints)
        # "sql" runs at the second; the first has a slot for it; the third has none. Until all are scraped it is chance.
        expected = {"sql": endpoints[1].address, "chat": endpoints[2].address, "new": endpoints[0].address}
        wait_for(
            "eight times in a row each adapter is asked for where it is",
            lambda: all(self.endpoint_of(gateway, model=m) == at for _ in range(8) for m, at in expected.items()),
        )


class Disaggregation(EppConfig):
    TEXT = """plugins:
  - {type: disagg-headers-handler}
  - {type: prefix-based-pd-decider, parameters: {nonCachedTokens: 32}}
  - {type: disagg-profile-handler, parameters: {deciders: {prefill: prefix-based-pd-decider}}}
  - {type: prefill-filter}
  - {type: decode-filter}
  - {type: prefix-cache-scorer, parameters: {autoTune: false}}
schedulingProfiles:
  - name: prefill
    plugins: [{pluginRef: prefill-filter}]
  - name: decode
    plugins: [{pluginRef: decode-filter}, {pluginRef: prefix-cache-scorer}]
"""

    def disaggregated(self, text, pods):
        """A gateway before pods of one pool: their names, model servers and labels."""
        folder = self.directory()
        ports = ", ".join(f"{{number: {fake.port}}}" for _, fake, _ in pods)
        objects = (
            "apiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\nmetadata: {name: pool}\n"
            "spec: {selector: {matchLabels: {app: vllm}}, targetPorts: [%s],"
            " endpointPickerRef: {name: epp, port: {number: 9002}}}\n" % ports
        )
        for name, fake, labels in pods:
            objects += (
                f"---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n"
                f"  labels: {{app: vllm, {labels}}}\n"
                f"  annotations: {{inference.networking.k8s.io/active-ports: '{fake.port}'}}\n"
                "status: {phase: Running, podIP: 127.0.0.1, conditions: [{type: Ready, status: 'True'}]}\n"
            )
        with open(os.path.join(folder, "pool.yaml"), "w", encoding="utf-8") as file:
            file.write(objects)
        gateway = self.gateway(flags=["--manifests", folder, "--epp-config", self.write(text)])
        gateway.wait_pods(len(pods))
        return gateway

    def test_the_decoding_server_is_told_who_prefills(self):
        decode, prefill = self.fake(), self.fake()
        pods = [("decode", decode, "llm-d.ai/role: decode"), ("prefill", prefill, "llm-d.ai/role: prefill")]
        gateway = self.disaggregated(self.TEXT, pods)

        prompt = "A prompt that is long enough to be computed elsewhere. " * 8
        forged = [("x-prefiller-host-port", "192.0.2.1:1"), ("x-encoder-hosts-ports", "192.0.2.1:1")]
        answer = self.ask(gateway, forged, prompt=prompt)
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual(answer.header("x-penstock-endpoint").split(":")[0].startswith("decode"), True, answer.headers)
        self.ask(gateway, forged, prompt=prompt)  # all of it is cached there now
        self.ask(gateway, forged, prompt="short")
        first, again, short = decode.wait_requests(3)
        self.assertEqual(first.header_all("x-prefiller-host-port"), [prefill.address])
        for request in (again, short):
            self.assertEqual(request.header_all("x-prefiller-host-port"), [])
        for request in (first, again, short):
            self.assertEqual(request.header_all("x-encoder-hosts-ports"), [])
        self.assertEqual(prefill.requests, [])  # calling it is the sidecar's job
        self.assertEqual(gateway.value("penstock_endpoint_requests_in_flight"), 0)
        for name in ("disagg", "pd"):
            series = gateway.metrics().series(f"llm_d_inference_scheduler_{name}_decision_total")
            found = {(labels["model_name"], labels["decision_type"]): value for labels, value in series}
            self.assertEqual(sum(found.values()), 3, found)
            self.assertEqual({decision: value for (_, decision), value in found.items()}, {"prefill-decode": 1, "decode-only": 2})

    def test_who_computes_a_prompt_is_told_who_holds_it(self):
        text = """plugins:
  - {type: header-based-testing-filter}
  - {type: p2p-source-producer, parameters: {minCachedTokenDelta: 64}}
schedulingProfiles:
  - {name: default, plugins: [{pluginRef: header-based-testing-filter}]}
"""
        first, second = self.fake(), self.fake()
        gateway = self.routed_by(text, [first, second])
        gateway.wait_pods(2)
        prompt = "A prompt that is long enough to be fetched from elsewhere. " * 8
        field = "x-kv-cache-source-host-port"
        for server in (first, second, second):
            answer = self.ask(gateway, [("test-epp-endpoint-selection", server.address), (field, "192.0.2.1:1")], prompt=prompt)
            self.assertEqual(answer.status, 200, answer)
        posted = [[r.header_all(field) for r in server.requests if r.method == "POST"] for server in (first, second)]
        self.assertEqual(posted, [[[]], [[first.address], []]])

    def test_while_a_set_is_rolled_out_one_revision_serves_a_request(self):
        text = """plugins:
  - type: disaggregatedset-rollout-screener
    parameters:
      scope: {labelSelector: "disaggregatedset.x-k8s.io/name=mine"}
      revisionGating: {mode: sum, requiredRoles: [prefill, decode]}
  - {type: disagg-profile-handler, parameters: {deciders: {prefill: always-disagg-pd-decider}}}
  - {type: always-disagg-pd-decider}
  - {type: prefill-filter}
  - {type: decode-filter}
  - {type: random-picker}
schedulingProfiles:
  - {name: prefill, plugins: [{pluginRef: prefill-filter}, {pluginRef: random-picker}]}
  - {name: decode, plugins: [{pluginRef: decode-filter}, {pluginRef: random-picker}]}
"""
        of = "disaggregatedset.x-k8s.io"
        fakes = {(revision, role): self.fake() for revision in ("old", "new") for role in ("prefill", "decode")}
        pods = [
            (f"{revision}-{role}", fake, f"{of}/name: mine, {of}/revision: {revision}, {of}/role: {role}, llm-d.ai/role: {role}")
            for (revision, role), fake in fakes.items()
        ]
        gateway = self.disaggregated(text, [pod for pod in pods if pod[0] != "new-prefill"])
        for _ in range(10):  # the new revision cannot serve anybody yet
            self.assertTrue(self.endpoint_of(gateway).startswith("old-decode"))
        gateway = self.disaggregated(text, pods)
        for _ in range(30):
            self.endpoint_of(gateway)
        for revision in ("old", "new"):
            requests = [r for r in fakes[revision, "decode"].requests if r.path == "/v1/completions"]
            self.assertGreater(len(requests), 0)
            self.assertEqual(
                {name for r in requests for name in r.header_all("x-prefiller-host-port")},
                {fakes[revision, "prefill"].address},
            )


class PredictedLatency(EppConfig):
    """Choosing by how long an answer is expected to take, and refusing who cannot be served in time."""

    PLUGINS = """plugins:
  - {type: predicted-latency-producer, parameters: {streamingMode: true}}
  - {type: slo-headroom-tier-filter}
  - {type: latency-scorer}
  - {type: latency-slo-admitter}
  - {type: weighted-random-picker}
schedulingProfiles:
  - name: default
    plugins:
      - {pluginRef: slo-headroom-tier-filter}
      - {pluginRef: latency-scorer}
      - {pluginRef: weighted-random-picker}
"""
    OBJECTIVE = """---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceObjective
metadata: {name: batch}
spec: {poolRef: {name: pool}, priority: -1}
"""

    STREAM = {"stream": True, "stream_options": {"include_usage": True}}

    def teach(self, gateway):
        """More prompt tokens than it takes for predictions, no prompt like another."""
        for i in range(24):
            answer = self.ask(gateway, prompt=f"{i} is the number of this prompt. " * 40, **self.STREAM)
            self.assertEqual(answer.status, 200, answer)

    def test_latencies_are_predicted_and_compared_with_what_they_were(self):
        sims = [self.sim("--decode-ms", "2") for _ in range(2)]
        gateway = self.routed_by(self.PLUGINS, sims)
        name = "inference_objective_request_predicted_ttft_seconds_count"
        self.assertEqual(gateway.metrics().sum(name), 0)
        self.teach(gateway)
        ask = [("x-penstock-explain", "1"), ("x-slo-ttft-ms", "60000")]
        answer = self.ask(gateway, ask, prompt="The last of them all. " * 40, **self.STREAM)
        explanation = answer.header("x-penstock-explain")
        self.assertRegex(explanation, r"first_token_s=0\.\d+")
        self.assertRegex(explanation, r"per_token_s=0\.00\d+")
        for name in (
            "inference_objective_request_predicted_ttft_seconds_count",
            "inference_objective_request_predicted_tpot_seconds_count",
            "penstock_predicted_ttft_error_seconds_count",
            "penstock_predicted_tpot_error_seconds_count",
        ):
            wait_for(name, lambda name=name: gateway.metrics().sum(name) >= 1)

    def test_who_cannot_be_served_in_time_is_refused_if_it_is_sheddable(self):
        sim = self.sim("--decode-ms", "20", "--kv-blocks", "512")
        objects = self.file("objects.yaml", harness.pool_manifest(sim.port) + self.OBJECTIVE)
        flags = ["--epp-config", self.write(self.PLUGINS), "--manifests", objects]
        gateway = self.gateway([], flags=flags)
        gateway.wait_pods(1)
        self.teach(gateway)
        running = self.client(gateway)
        body = completion(prompt="Go on and on. " * 60, max_tokens=6000, stream=True)
        running.send(harness.request_bytes("POST", "/v1/completions", body))
        batch, at_once = ("x-llm-d-inference-objective", "batch"), ("x-llm-d-slo-ttft-ms", "0.001")

        def refused():
            answer = self.ask(gateway, [batch, at_once])
            return answer if answer.status == 429 else None

        answer = wait_for("the engine is seen to be busy, and the request refused", refused)
        self.assertEqual(answer.json()["error"]["code"], "too_slow")
        self.assertEqual(answer.header("x-llm-d-request-dropped-reason"), "rejected-saturated")
        self.assertIsNotNone(answer.header("retry-after"))
        self.assertEqual(self.ask(gateway, [at_once]).status, 200)  # others are served, if late
        self.assertEqual(self.ask(gateway, [batch, ("x-slo-ttft-ms", "60000")]).status, 200)
        self.assertEqual(self.ask(gateway, [batch]).status, 200)


class Shadow(EppConfig):
    def test_a_configuration_may_decide_too_without_being_obeyed(self):
        sims = [self.sim(*SIM_FLAGS) for _ in range(2)]
        shadow = self.write("plugins: [{type: header-based-testing-filter}]\n"
                            "schedulingProfiles: [{name: by-header, plugins: [{pluginRef: header-based-testing-filter}]}]\n")
        gateway = self.gateway(sims, "routing: {policy: round-robin}\n", flags=["--shadow-epp-config", shadow])
        for _ in range(10):
            self.endpoint_of(gateway, [("test-epp-endpoint-selection", sims[0].address)])
        for agrees in ("true", "false"):  # in turn, so every other one is as the shadow wants it
            name = "penstock_shadow_decisions_total"
            wait_for(name, lambda a=agrees: gateway.value(name, policy="by-header", agrees=a) == 5)
        config = os.path.join(self.directory(), "gateway.yaml")

        def check(more=""):
            with open(config, "w", encoding="utf-8") as file:
                file.write(f"kind: GatewayConfig\nrouting: {{shadow_epp_config: {shadow}{more}}}\n")
            return run_program(PENSTOCK, "check", "--config", config)

        code, out, _ = check()
        self.assertEqual(code, 0, out)
        self.assertIn("shadow profile by-header: header-based-testing-filter", out)
        self.assertNotIn("of a shadow", out)
        with open(shadow, "a", encoding="utf-8") as file:
            file.write("featureGates: [flowControl]\n")
        self.assertIn('note: ' + shadow + ': schedulingProfiles: of a shadow only "by-header" has an effect', check()[1])
        code, _, err = check(", shadow_policy: random")
        self.assertNotEqual(code, 0)
        self.assertIn("has no effect beside an EndpointPickerConfig (routing.shadow_epp_config)", err)

    def test_it_may_be_embedded_or_given_as_text(self):
        sims = [self.sim(*SIM_FLAGS) for _ in range(2)]
        text = ("plugins: [{type: header-based-testing-filter}]\n"
                "schedulingProfiles: [{name: by-header, plugins: [{pluginRef: header-based-testing-filter}]}]\n")
        embedded = "routing:\n  policy: round-robin\n  shadow_endpoint_picker:\n    " + text.replace("\n", "\n    ") + "\n"
        flags = ["--policy", "round-robin", "--shadow-epp-config-text", HEAD + text]
        for gateway in (self.gateway(sims, embedded), self.gateway(sims, flags=flags)):
            for _ in range(4):
                self.endpoint_of(gateway, [("test-epp-endpoint-selection", sims[0].address)])
            name = "penstock_shadow_decisions_total"
            for agrees in ("true", "false"):
                wait_for(name, lambda g=gateway, a=agrees: g.value(name, policy="by-header", agrees=a) == 2)


class Replay(EppConfig):
    """A configuration decides over a recorded trace."""

    def replay(self, *policies, more=()):
        trace = os.path.join(os.path.dirname(__file__), "../../perf/traces/mooncake-excerpt.jsonl")
        flags = [flag for policy in policies for flag in ("--policy", policy)]
        return run_program(PENSTOCK, "replay", "--trace", trace, "--engines", "2", *flags, *more)

    def test_it_is_compared_with_a_policy_and_has_the_same_figures_each_time(self):
        path = self.write("plugins: [{type: queue-scorer}, {type: lora-affinity-scorer}]\n")
        equal = os.path.join(self.directory(), "equal.yaml")
        with open(equal, "w", encoding="utf-8") as file:
            file.write(HEAD)  # the Endpoint Picker's default
        policies = (path, equal, "epp-default", equal + "+hold")
        code, out, err = self.replay(*policies, more=("--compare",))
        self.assertEqual(code, 0, err)
        rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[2:]}
        self.assertEqual(set(rows), set(policies))
        self.assertEqual(rows[equal], rows["epp-default"])
        self.assertNotEqual(rows[path], rows["epp-default"])
        self.assertEqual(err.count("note: "), 1, err)
        self.assertIn(f"note: {path}:3: plugins[1]: has no effect in a replay: a trace names no adapters", err)
        self.assertEqual(self.replay(*policies, more=("--compare",))[1], out)

    def test_what_it_refuses_is_counted(self):
        path = self.write("""featureGates: [flowControl]
plugins: [{type: concurrency-detector, parameters: {maxConcurrency: 1}}, {type: queue-scorer}]
schedulingProfiles: [{name: default, plugins: [{pluginRef: queue-scorer}]}]
flowControl: {defaultRequestTTL: 1s, saturationDetector: {pluginRef: concurrency-detector}}
""")
        code, out, err = self.replay(path, more=("--speed", "20", "--seeds", "2"))
        self.assertEqual(code, 0, err)
        found = re.search(re.escape(path) + r" refused ([0-9]+) of 402 requests: ([0-9]+) that waited too long \(503\)\n", out)
        self.assertIsNotNone(found, out)
        self.assertEqual(found[1], found[2])

    def test_what_cannot_be_replayed_is_refused_with_its_line(self):
        path = self.write("""plugins:
  - type: decode-filter
  - {type: disagg-profile-handler, parameters: {deciders: {prefill: always}}}
  - {type: always-disagg-pd-decider, name: always}
schedulingProfiles: [{name: decode, plugins: [{pluginRef: decode-filter}]}, {name: prefill, plugins: []}]
""")
        code, out, err = self.replay(path)
        self.assertEqual((code, out), (1, ""), err)
        self.assertIn(f"{path}:5: plugins[1]: cannot be replayed: ", err)


class Problems(EppConfig):
    BAD = """plugins:
  - {type: quue-scorer}
  - {type: dcgm-extractor}
  - {type: load-aware-scorer, parameters: {treshold: 1}}
featureGates: [flowControls]
"""

    def test_all_of_them_are_told_with_their_lines(self):
        path = self.write(self.BAD)
        for command in (["check"], ["serve", "--endpoint", "http://127.0.0.1:1"]):
            code, out, err = run_program(PENSTOCK, *command, "--epp-config", path)
            self.assertEqual((code, out), (1, ""), err)
            for expected in (
                f"{path}:4: plugins[0].type: ",
                "did you mean queue-scorer?",
                f"{path}:5: plugins[1].type: ",
                f"{path}:6: plugins[2].parameters.treshold: ",
                f"{path}:7: featureGates[0]: ",
                "did you mean flowControl?",
            ):
                self.assertIn(expected, err)

    def test_check_shows_what_will_run(self):
        path = self.write("plugins: [{type: queue-scorer}, {type: random-picker}]\nfeatureGates: [prepareDataPlugins]\n")
        code, out, err = run_program(PENSTOCK, "check", "--epp-config", path)
        self.assertEqual((code, err), (0, ""))
        self.assertIn("profile default: queue-scorer*1 random-picker\n", out)
        self.assertIn("note: " + path + ":4: featureGates[0]: prepareDataPlugins has no effect", out)

    def test_a_reload_with_another_one_is_refused(self):
        gateway = self.routed_by("plugins: [{type: queue-scorer}]\n", [self.sim(*SIM_FLAGS)])
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(HEAD + "# only a comment\nplugins: [{type: queue-scorer}]\n")
        gateway.signal(signal.SIGHUP)
        gateway.err.wait(r"reloaded")
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(HEAD + "plugins: [{type: random-picker}]\n")
        gateway.signal(signal.SIGHUP)
        gateway.err.wait(r"needs a restart.*EndpointPickerConfig")
        gateway.err.wait(r"reload refused")


if __name__ == "__main__":
    harness.main()
