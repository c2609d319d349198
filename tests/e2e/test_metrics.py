"""What the gateway tells of its work: exact counts for known requests, and the admin pages."""

import json
import os
import re
import threading
import unittest

import harness
from harness import E2E, Client, chat, completion, request_bytes, wait_for

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
GOLDEN = os.path.join(ROOT, "tests", "golden", "metrics", "epp_metrics.txt")
NEWER_NAMES = os.path.join(ROOT, "tests", "golden", "metrics", "epp_newer_names.txt")
NEWER_ONLY = os.path.join(ROOT, "tests", "golden", "metrics", "epp_newer_only.txt")
# They appear with the Kubernetes objects that they count: see test_kubernetes_api.py.
NEED_OBJECTS = {"inference_extension_model_rewrite_decisions_total", "penstock_object_problems"}
# These with a profile that disaggregates: see test_epp_config.py.
NEED_STAGES = {f"llm_d_inference_scheduler_{name}_decision_total" for name in ("disagg", "pd")}
# And these with one that looks at predicted latencies: likewise.
NEED_PREDICTIONS = {f"penstock_predicted_{name}_error_seconds" for name in ("ttft", "tpot")}
# There are none of these while no request has ever waited for room: see test_flow.py.
FLOW = "inference_extension_flow_control_"
NEED_WAITING = {
    FLOW + name for name in ("queue_size", "queue_bytes", "request_queue_duration_seconds", "request_enqueue_duration_seconds")
}
PROMPT = "All rivers run into the sea; yet the sea is not full. " * 8  # 432 bytes: 108 tokens of the sim


class Counts(E2E):
    """One gateway, a known sequence of requests; each test looks at another part of what was counted."""

    @classmethod
    def setUpClass(cls):
        cls.sim_ = E2E.sim(cls, "--instant", "--model", "sim-model", "--model", "other-model")
        cls.gw = E2E.gateway(cls, [cls.sim_], "pool: my-pool\nmetrics: {epp_names: both}\n")
        cls.gw.wait_pods(1)
        cls.sent, cls.received, cls.usages = [], [], []
        cls.client_ = Client(cls.gw.port)
        cls.addClassCleanup(cls.client_.close)
        usage = {"stream_options": {"include_usage": True}}
        cls.ask("/v1/completions", completion(PROMPT, 8))
        cls.ask("/v1/completions", completion(PROMPT, 9))  # most of the prompt is cached now
        asked = [("x-slo-ttft-ms", "0.001"), ("x-slo-tpot-ms", "60000")]
        cls.ask("/v1/completions", completion(PROMPT, 10, stream=True, **usage), headers=asked)
        cls.ask("/v1/completions", completion(PROMPT, 11, stream=True), has_usage=False)
        cls.ask("/v1/chat/completions", chat(PROMPT, 12, stream=True, **usage))
        # Other names, which have series of their own.
        rewrite = [("x-gateway-model-name-rewrite", "other-model")]
        cls.client_.post("/v1/completions", completion(PROMPT, 4), rewrite)
        cls.client_.post("/v1/completions", completion(model="invented"))  # 404
        cls.client_.post("/v1/completions", {"model": "sim-model", "prompt": 7})  # 400
        cls.client_.request("GET", "/version")
        cls.client_.post("/v1/completions", completion(), [("x-sim-fail", "status=500")])
        cls.gw.wait_outcomes({"ok": 7, "endpoint_4xx": 1, "client_error": 1, "endpoint_error": 1})
        wait_for("the index is counted", lambda: cls.gw.metrics().value("inference_extension_prefix_indexer_size") > 0)
        cls.metrics = cls.gw.metrics()

    @classmethod
    def ask(cls, path, body, has_usage=True, headers=()):
        data = json.dumps(body).encode()
        answer = cls.client_.post(path, data, headers)
        assert answer.status == 200, answer
        cls.sent.append(len(data))
        cls.received.append(len(answer.body))
        if has_usage:
            last = json.loads(answer.events()[-2]) if body.get("stream") else answer.json()
            cls.usages.append(last["usage"])

    def histogram(self, name, **labels):
        labels = labels or {"model_name": "sim-model", "target_model_name": "sim-model"}
        name = "inference_objective_" + name
        return self.metrics.value(name + "_count", **labels), self.metrics.value(name + "_sum", **labels)

    def test_requests_by_model_and_priority(self):
        found = {
            (labels["model_name"], labels["target_model_name"], labels["priority"]): value
            for labels, value in self.metrics.series("inference_objective_request_total")
        }
        # A model that no server knows has no place of its own, so that nobody can fill the page with names.
        expected = {("sim-model", "sim-model", "0"): 6, ("sim-model", "other-model", "0"): 1, ("other",) * 3: 1}
        self.assertEqual(found, expected)

    def test_invented_models_have_no_series_at_all(self):
        series = [(name, labels) for name in self.metrics.names() for labels, _ in self.metrics.series(name)]
        self.assertEqual([name for name, labels in series if "invented" in labels.values()], [])

    def test_errors_by_code(self):
        series = self.metrics.series("inference_objective_request_error_total")
        found = {labels["error_code"]: value for labels, value in series}
        self.assertEqual(found, {"BadRequest": 1, "ModelServerError": 1})

    def test_answers_by_endpoint_and_status(self):
        series = self.metrics.series("penstock_endpoint_responses_total", pool="my-pool", endpoint=self.sim_.address)
        self.assertEqual({labels["code"]: n for labels, n in series}, {"200": 7, "404": 1, "500": 1})
        (endpoint,) = self.gw.status_page()["pools"][0]["endpoints"]
        self.assertEqual(endpoint["responses"], {"200": 7, "404": 1, "500": 1})

    def test_times_of_streams_and_whole_answers_are_apart_and_errors_are_in_neither(self):
        self.assertEqual(self.metrics.value("penstock_time_to_first_token_seconds_count"), 3)
        self.assertEqual(self.metrics.value("penstock_time_to_whole_answer_seconds_count"), 3)
        totals = self.gw.status_page()["totals"]
        self.assertGreaterEqual(totals["ttft_ms_p99"], totals["ttft_ms_p50"])
        self.assertLess(totals["latency_window_s"], 330)

    def test_tokens_as_the_server_counted_them(self):
        self.assertEqual(self.histogram("input_tokens"), (4, sum(u["prompt_tokens"] for u in self.usages)))
        self.assertEqual(self.histogram("output_tokens"), (4, 8 + 9 + 10 + 12))
        cached = [u["prompt_tokens_details"]["cached_tokens"] for u in self.usages]
        self.assertEqual(cached[0], 0)
        self.assertEqual(cached[1], 96)  # six whole blocks of 16
        self.assertEqual(self.histogram("prompt_cached_tokens"), (4, sum(cached)))

    def test_sizes_are_those_of_the_bodies(self):
        count, total = self.histogram("request_sizes")
        self.assertEqual((count, total - sum(self.sent)), (6, len(json.dumps(completion()))))
        count, total = self.histogram("response_sizes")
        self.assertEqual(count, 6)
        self.assertGreater(total, sum(self.received))
        self.assertLess(total, sum(self.received) + 300)  # the 500

    def test_times(self):
        counts = {"request_ttft": 6, "request_duration": 6, "normalized_time_per_output_token": 4}
        counts["request_tpot"] = 2  # streams with a usage
        self.assertEqual({name: self.histogram(f"{name}_seconds")[0] for name in counts}, counts)
        first, whole = (self.histogram(f"request_{name}_seconds")[1] for name in ("ttft", "duration"))
        self.assertLessEqual(first, whole + 1e-9)  # may be the same times, added up in another order

    def test_the_newer_names_tell_tenants_and_streams_apart(self):
        def sums(name, **labels):
            kind = {"model_name": "sim-model", "target_model_name": "sim-model", "fairness_id": "default-flow"}
            return self.metrics.sum(f"llm_d_epp_request_{name}", **kind, priority="0", **labels)

        first = [sums("ttft_seconds_count", streaming=streaming) for streaming in ("true", "false")]
        self.assertEqual((sum(first), min(first) > 0), (6, True))
        self.assertEqual(sums("duration_seconds_count"), 6)
        self.assertEqual(sums("streaming_tpot_seconds_count"), 2)
        gaps = self.metrics.sum("llm_d_epp_request_streaming_itl_seconds_count")
        self.assertEqual(gaps, self.metrics.value("penstock_inter_token_seconds_count"))
        total = self.metrics.sum("llm_d_epp_request_total")
        self.assertEqual(total, self.metrics.sum("inference_objective_request_total"))
        passed = self.metrics.sum("llm_d_epp_flow_control_requests_total", outcome="Dispatched", priority="0")
        self.assertEqual(passed, total)  # none had to wait

    def test_times_against_what_clients_asked_for(self):
        names = {"model_name": "sim-model", "target_model_name": "sim-model"}
        series = self.metrics.series("inference_objective_request_slo_violation_total")
        self.assertEqual(series, [({**names, "type": "ttft"}, 1)])
        values = {
            labels["type"]: value
            for labels, value in self.metrics.series("inference_objective_inference_request_metric", **names)
        }
        self.assertEqual((values.pop("ttft_slo_threshold"), values.pop("ttft_slo_violation")), (1e-6, 1))
        self.assertEqual((values.pop("tpot_slo_threshold"), values.pop("tpot_slo_violation")), (60, 0))
        self.assertEqual(set(values), {"ttft", "tpot"})
        self.assertTrue(0 < values["ttft"] < harness.PATIENCE and 0 <= values["tpot"] < harness.PATIENCE, values)

    def test_plugins_are_timed_in_a_sample_of_the_decisions(self):
        name = "inference_extension_plugin_duration_seconds_count"
        counts = {(at["extension_point"], at["plugin_type"]): n for at, n in self.metrics.series(name)}
        self.assertEqual(set(counts), {("Scorer", "expected-cost-scorer"), ("Picker", "max-score-picker")})
        self.assertEqual(len(set(counts.values())), 1, counts)
        self.assertLessEqual(max(counts.values()), 10)

    def test_events_and_bytes(self):
        # A chunk for each token, one for the role of a chat, one for the usage; [DONE] is none.
        self.assertEqual(self.metrics.value("penstock_stream_events_total"), (10 + 1) + 11 + (1 + 12 + 1))
        self.assertEqual(self.metrics.value("penstock_inter_token_seconds_count"), (10 + 11 + 14) + 1 - 3)

    def test_decisions(self):
        found = [
            (labels["target_model_name"], labels["pod_name"], labels["port"], labels["namespace"], value)
            for labels, value in self.metrics.series("inference_extension_scheduler_attempts_total", status="success")
        ]
        self.assertEqual(sum(value for *_, value in found), 9)  # all but the 400
        self.assertIn(("sim-model", self.sim_.address, str(self.sim_.port), "", 6.0), found)
        self.assertIn(("other-model", self.sim_.address, str(self.sim_.port), "", 1.0), found)
        self.assertEqual(self.metrics.sum("inference_extension_scheduler_attempts_total", status="failure"), 0)
        self.assertGreaterEqual(self.metrics.value("inference_extension_scheduler_e2e_duration_seconds_count"), 9)

    def test_prefix_hits(self):
        ratio = self.metrics.value("inference_extension_prefix_indexer_hit_ratio_count")
        self.assertEqual(ratio, 6)  # requests with a prompt of a block or more: five of PROMPT, one for the other model
        self.assertGreater(self.metrics.value("inference_extension_prefix_indexer_hit_ratio_sum"), 2.5)
        self.assertGreater(self.metrics.value("inference_extension_prefix_indexer_hit_bytes_sum"), 3 * 300)

    def test_the_pool(self):
        for name in (
            "inference_pool_ready_pods",
            "inference_pool_average_kv_cache_utilization",
            "inference_pool_average_queue_size",
            "inference_pool_average_running_requests",
        ):
            self.metrics.value(name, name="my-pool")
        self.assertEqual(self.metrics.value("inference_pool_ready_pods", name="my-pool"), 1)
        self.assertEqual(self.metrics.value("penstock_endpoint_picks_total", endpoint=self.sim_.address), 9)

    def test_names_types_and_labels_are_the_endpoint_pickers(self):
        with open(GOLDEN, encoding="utf-8") as file:
            rows = [line.split("|") for line in file if "|" in line and not line.startswith("#")]
        self.assertGreater(len(rows), 15)
        wait_for("the queues are known", lambda: self.gw.metrics().series("inference_pool_per_pod_queue_size"))
        metrics = self.gw.metrics()
        for row in rows:
            name, kind, labels, bounds = (part.strip() for part in row)
            if name in NEED_OBJECTS | NEED_STAGES | NEED_WAITING:
                continue
            with self.subTest(name):
                self.assertEqual(metrics.types.get(name), kind)
                series = metrics.series(name + "_count" if kind == "histogram" else name)
                self.assertTrue(series)
                for found, _ in series:
                    self.assertEqual(set(found), set(labels.split()))
                if kind == "histogram":
                    buckets = metrics.series(name + "_bucket", **series[0][0])
                    found = [float(labels["le"]) for labels, _ in buckets if labels["le"] != "+Inf"]
                    self.assertEqual(found, [float(bound) for bound in bounds.split()])
        with open(NEWER_NAMES, encoding="utf-8") as file:
            newer = {line.split("|")[1].strip(): line.split("|")[0].strip() for line in file if not line.startswith("#")}
        with open(NEWER_ONLY, encoding="utf-8") as file:
            alone = {line.split("|")[0].strip() for line in file if not line.startswith("#")}
        known = {row[0].strip() for row in rows} | set(newer) | alone
        for name, older in newer.items():
            self.assertEqual(metrics.types.get(name), metrics.types.get(older), name)
        ours = {name for name in metrics.types if not name.startswith(("penstock_", "process_"))}
        self.assertEqual(ours - known, set())

    def documented(self, page, pattern):
        with open(os.path.join(ROOT, "docs", page), encoding="utf-8") as file:
            return set(re.findall(pattern, file.read()))

    def test_the_metrics_to_watch_exist(self):
        names = self.documented("MONITORING.md", r"`((?:penstock|inference)_\w+)")
        self.assertGreater(len(names), 8)
        # Those of a cluster, of KV events and of certificates are there when there are any: see test_kubernetes.py,
        # test_kv_events.py, test_tls.py.
        conditional = ("penstock_kube_", "penstock_kv_events_", "penstock_tls_certificate_")
        here = {name for name in names if not name.startswith(conditional)}
        elsewhere = NEED_WAITING | NEED_OBJECTS | NEED_PREDICTIONS
        self.assertEqual(here - elsewhere - set(self.gw.metrics().types), set())

    def test_the_keys_that_the_pages_for_operators_name_exist(self):
        with open(os.path.join(ROOT, "docs", "CONFIGURATION.md"), encoding="utf-8") as file:
            known = set(re.findall(r"^\| `([\w.]+)` \|", file.read(), re.M))
        pattern = r"`((?:limits|timeouts|retry|lifecycle|flow_control|readiness|http2)\.\w+)`"
        names = set().union(*(self.documented(page, pattern) for page in ("RUN.md", "LIMITS.md", "FLOW_CONTROL.md", "PROTOCOLS.md")))
        self.assertGreater(len(names), 30)
        self.assertEqual(names - known, set())

    def test_the_page_is_well_formed(self):
        metrics = self.gw.metrics()
        lines = metrics.text.splitlines()
        for mark in ("# HELP ", "# TYPE "):
            names = [line.split()[2] for line in lines if line.startswith(mark)]
            self.assertEqual(len(names), len(set(names)))
            self.assertEqual(set(names), set(metrics.types))
        keys = [line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")]
        self.assertEqual(len(keys), len(set(keys)))
        histograms = [name for name, kind in metrics.types.items() if kind == "histogram"]
        self.assertGreater(len(histograms), 10)
        for name in histograms:
            for labels, count in metrics.series(name + "_count"):
                buckets = [value for _, value in metrics.series(name + "_bucket", **labels)]
                self.assertEqual(buckets, sorted(buckets), name)
                self.assertEqual(buckets[-1], count, name)

    def test_they_agree_with_the_servers_own_counts(self):
        server = self.sim_.metrics()
        ended = server.sum("vllm:request_success_total")
        self.assertEqual(ended, 6)
        self.assertEqual(server.sum("vllm:prompt_tokens_total"), sum(u["prompt_tokens"] for u in self.usages) + 108 * 2)
        self.assertEqual(server.sum("vllm:generation_tokens_total"), 8 + 9 + 10 + 11 + 12 + 4)


class Gauges(E2E):
    def test_running_requests_and_queues(self):
        sim = self.sim("--decode-ms", "10", "--max-num-seqs", "1")
        gateway = self.gateway([sim])
        gateway.wait_pods(1)
        clients = [self.client(gateway) for _ in range(4)]
        for i, client in enumerate(clients):
            client.send(request_bytes("POST", "/v1/completions", completion(f"{i}", max_tokens=100_000, stream=True)))

        def known(name, value, **labels):
            wait_for(f"{name} is {value}", lambda: gateway.value(name, **labels) == value)

        known("inference_objective_running_requests", 4, model_name="sim-model")
        known("penstock_requests_in_flight", 4)
        known("penstock_endpoint_requests_in_flight", 4, endpoint=sim.address)
        known("inference_pool_average_running_requests", 1)
        known("inference_pool_average_queue_size", 3)
        known("inference_pool_per_pod_queue_size", 3, model_server_pod=sim.address)
        known("penstock_client_connections", 4)
        metrics = gateway.metrics()
        self.assertEqual(metrics.value("penstock_requests_started_total"), 4)
        self.assertEqual(metrics.sum("penstock_requests_total"), 0)
        for client in clients:
            client.close()
        gateway.wait_outcomes({"client_gone": 4})
        gateway.wait_idle()
        known("inference_pool_average_queue_size", 0)
        known("penstock_client_connections", 0)
        # A client that leaves is no error of the model server.
        self.assertEqual(gateway.value("inference_objective_request_error_total"), 0)

    def test_started_is_in_flight_plus_outcomes_at_any_moment(self):
        faults = ("--fail", "status=500@0.2", "--fail", "reset-after=300@0.2")
        sim = self.sim("--prefill-tokens-per-s", "50000", "--decode-ms", "1", *faults)
        gateway = self.gateway([sim], "ejection: {consecutive_failures: 1000}\nresume: {enabled: false}\n")
        stop = threading.Event()

        def traffic(number):
            turn = 0
            while not stop.is_set():
                turn += 1
                client = Client(gateway.port)
                try:
                    body = completion(f"{number} {turn}", 10, stream=bool(turn % 2))
                    client.send(request_bytes("POST", "/v1/completions", body))
                    if turn % 5:
                        client.read_response()
                except (harness.ConnectionEnded, OSError):
                    pass
                finally:
                    client.close()

        threads = [threading.Thread(target=traffic, args=(i,), daemon=True) for i in range(8)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(60):
                metrics = gateway.metrics()
                ended = metrics.sum("penstock_requests_total")
                in_flight = metrics.value("penstock_requests_in_flight")
                self.assertEqual(metrics.value("penstock_requests_started_total"), in_flight + ended)
                self.assertLessEqual(metrics.value("penstock_requests_in_flight"), 8 + 8)
            wait_for("enough has happened", lambda: sum(gateway.outcomes().values()) > 200)
        finally:
            stop.set()
            for thread in threads:
                thread.join(harness.PATIENCE)
        gateway.wait_idle()
        outcomes = gateway.outcomes()
        for name in ("ok", "endpoint_error", "stream_broken", "client_gone"):
            self.assertGreater(outcomes.get(name, 0), 0, outcomes)

    def test_a_prefix_index_smaller_than_the_caches_is_warned_of(self):
        sim = self.sim("--instant", "--kv-blocks", "3000")
        gateway = self.gateway([sim, self.sim("--instant", "--kv-blocks", "2000")], "routing: {prefix_index_entries: 4096}\n")
        roomy = self.gateway([sim], "routing: {prefix_index_entries: 4096}\n")

        def warnings(of):
            return [line for line in of.log().splitlines() if "routing.prefix_index_entries" in line]

        wait_for("the warning", lambda: warnings(gateway))
        (line,) = warnings(gateway)
        self.assertIn("entries=4096", line)
        self.assertIn("wanted_entries=5000", line)
        wait_for("the other cache is known", lambda: roomy.value("penstock_prefix_index_wanted_entries") == 3000)
        self.assertEqual(warnings(roomy), [])

    def test_an_endpoint_without_metrics_is_warned_of_once_and_serves(self):
        sim = self.sim("--instant")  # has those of vLLM
        for config, said in (("engine: sglang", "engine=sglang path=/metrics reason=.no metric of"), ("path: /x", "path=/x reason=.status 404")):
            gateway = self.gateway([sim], "metrics: {interval: 5ms, idle_interval: 5ms, " + config + "}\n")
            wait_for("some scrapes", lambda gw=gateway: gw.value("penstock_scrape_errors_total") > 3)
            (line,) = [line for line in gateway.log().splitlines() if "endpoint has no metrics" in line]
            self.assertRegex(line, said)
            self.assertEqual(self.client(gateway).post("/v1/completions", completion()).status, 200)

    def test_the_prefix_index_grows_with_the_caches(self):
        gateway = self.gateway([self.sim("--instant", "--kv-blocks", "2600000") for _ in range(2)])
        self.assertEqual(gateway.value("penstock_prefix_index_limit_bytes") % 8, gateway.value("penstock_prefix_index_bytes") % 8)
        wait_for("room for both caches", lambda: gateway.value("penstock_prefix_index_entries") == 8388608)
        index = gateway.status_page()["prefix_index"]
        self.assertEqual(index["entries"], 8388608)
        self.assertGreaterEqual(index["bytes"], 64 << 20)
        self.assertLessEqual(index["bytes"], index["limit_bytes"])

    def test_a_repeated_prompt_goes_where_it_is_cached(self):
        sims = [self.sim("--instant", "--seed", "5") for _ in range(3)]
        gateway = self.gateway(sims)
        gateway.wait_pods(3)
        client = self.client(gateway)
        for number in range(6):
            prompt = f"conversation {number}: " + PROMPT * 4
            first = client.post("/v1/completions", completion(prompt))
            for turn in range(3):
                again = client.post("/v1/completions", completion(prompt + f" turn {turn}"))
                self.assertEqual(again.header("x-penstock-endpoint"), first.header("x-penstock-endpoint"))
                cached = again.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
                self.assertGreater(cached, 400)


class Decisions(E2E):
    """Recorded decisions are made again, and a shadow policy is compared."""

    def gateway_with(self, config):
        sims = [self.sim("--instant", "--model", "sim-model") for _ in range(3)]
        gateway = self.gateway(sims, config, shards=1)
        gateway.wait_pods(3)
        client = self.client(gateway)
        sent = 0

        def enough():
            nonlocal sent
            answer = client.post("/v1/completions", completion(PROMPT * (1 + sent % 5), 8, stream=sent % 3 > 0))
            self.assertEqual(answer.status, 200)
            sent += 1
            return len(gateway.admin("/debug/decisions").json()["decisions"]) >= 30

        wait_for("decisions are recorded", enough)  # one in 10 ms at most
        return gateway, sent

    def test_decisions_are_made_again_the_same_way(self):
        gateway, _ = self.gateway_with("routing: {policy: expected-cost}\n")
        page = self.file("page.json", gateway.admin("/debug/decisions").body.decode())
        code, out, problems = harness.run_program(harness.PENSTOCK, "replay", "--decisions", page)
        self.assertEqual((code, problems), (0, ""), out)
        self.assertRegex(out, r"^[0-9]+ decisions: 0 differ; 0 without inputs, 0 of an unknown policy\n$")
        code, out, _ = harness.run_program(harness.PENSTOCK, "replay", "--decisions", page, "--policy", "round-robin")
        self.assertEqual(code, 0)  # another policy may decide otherwise
        self.assertRegex(out, r"[0-9]+ decisions: [0-9]+ differ; 0 without inputs, 0 of an unknown policy\n$")
        picker = os.path.join(self.directory(), "epp.yaml")
        for plugins, expected in (("expected-cost-scorer}, {type: decode-filter", r"^[0-9]+ decisions: 0 differ;"),
                                  ("queue-scorer", r"(?m)^[0-9]+ decisions: [0-9]+ differ; 0 without inputs, 0 of")):
            with open(picker, "w", encoding="utf-8") as file:
                file.write("apiVersion: llm-d.ai/v1\nkind: EndpointPickerConfig\nplugins: [{type: " + plugins + "}]\n")
            code, out, notes = harness.run_program(harness.PENSTOCK, "replay", "--decisions", page, "--policy", picker)
            self.assertEqual(code, 0, notes)
            self.assertRegex(out, expected)
            self.assertEqual("labels of engines are not known" in notes, "decode-filter" in plugins)

    def test_whoever_asks_for_an_explanation_is_recorded(self):
        gateway = self.gateway([self.sim("--instant", "--model", "sim-model")])
        gateway.wait_pods(1)
        client = self.client(gateway)
        for _ in range(40):
            answer = client.post("/v1/completions", completion(PROMPT), [("x-penstock-explain", "1")])
            self.assertIn("in-flight", answer.header("x-penstock-explain"))
        decisions = gateway.admin("/debug/decisions").json()["decisions"]
        self.assertEqual(len(decisions), 40)
        self.assertTrue(all(decision["why"]["candidates"] for decision in decisions))

    def test_recorded_decisions_are_events_of_the_log_at_level_debug(self):
        sim = self.sim("--instant", "--model", "sim-model")
        for level, lines in (("debug", 3), ("info", 0)):
            gateway = self.gateway([sim], f"log: {{level: {level}, format: json}}\n", shards=1)
            gateway.wait_pods(1)
            client = self.client(gateway)
            for _ in range(3):
                client.post("/v1/completions", completion(PROMPT), [("x-penstock-explain", "1")])
            gateway.wait_outcomes({"ok": 3})

            def events():
                found = [json.loads(line) for line in gateway.err.all() if line.startswith("{")]
                return [event for event in found if event["message"] == "decision"]

            wait_for("all are told", lambda: len(events()) >= lines)
            kept = gateway.admin("/debug/decisions").json()["decisions"]
            self.assertEqual(len(kept), 3)
            self.assertEqual(len(events()), lines)
            for event, decision in zip(events(), reversed(kept)):
                self.assertEqual((event["level"], event["endpoint"], event["model"]), ("debug", sim.address, "sim-model"))
                self.assertEqual(json.loads(event["why"]), decision["why"])

    def test_a_shadow_policy_is_counted_and_not_obeyed(self):
        gateway, sent = self.gateway_with("routing: {policy: round-robin, shadow_policy: expected-cost}\n")
        metrics = gateway.metrics()
        agrees = metrics.value("penstock_shadow_decisions_total", policy="expected-cost", agrees="true")
        differs = metrics.value("penstock_shadow_decisions_total", policy="expected-cost", agrees="false")
        self.assertEqual(agrees + differs, sent)
        self.assertGreater(differs, 0)
        self.assertGreater(metrics.value("penstock_shadow_gain_seconds_total", policy="expected-cost"), 0)
        picks = [metrics.value("penstock_endpoint_picks_total", pool="default", endpoint=endpoint["name"])
                 for endpoint in gateway.status_page()["pools"][0]["endpoints"]]
        self.assertLessEqual(max(picks) - min(picks), 1)  # in turn, whatever the shadow says
        shadows = [decision["shadow"] for decision in gateway.admin("/debug/decisions").json()["decisions"]]
        self.assertTrue(all(shadow["endpoint"] for shadow in shadows))

    def test_without_a_shadow_policy_there_is_nothing_of_it(self):
        gateway = self.gateway([self.fake()])
        self.assertNotIn(b"penstock_shadow", gateway.admin("/metrics").body)


if __name__ == "__main__":
    harness.main()
