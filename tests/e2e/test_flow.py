"""Flow control: requests wait while the model servers are saturated, and are told when they may not."""

import json
import signal
import threading

import harness
from harness import E2E, completion, in_threads, request_bytes, wait_for

# One request in flight for each endpoint, so that any two requests are one too many.
ONE_EACH = "flow_control: {enabled: true, detector: concurrency, concurrency: 1, ordering: fcfs"
# The same, and two may wait, said by an EndpointPickerConfig.
ONE_EACH_TWO_WAIT = """routing:
  endpoint_picker:
    featureGates: [flowControl]
    plugins:
      - {type: queue-scorer}
      - {name: one, type: concurrency-detector, parameters: {maxConcurrency: 1}}
    saturationDetector: {pluginRef: one}
    flowControl: {maxRequests: 2}
"""
# Its gauges show a request after its first step: 256 tokens, a sixth of a second.
SLOW_PREFILL = ("--prefill-tokens-per-s", "1600", "--max-num-batched-tokens", "256")
OBJECTIVE = """---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata: {name: NAME}
spec: {poolRef: {name: pool}, priority: PRIORITY}
"""
DROPPED = "x-llm-d-request-dropped-reason"
QUEUE_SIZE = "inference_extension_flow_control_queue_size"
REQUESTS = "llm_d_epp_flow_control_requests_total"
QUEUE_TIME = "inference_extension_flow_control_request_queue_duration_seconds_count"


class FlowCase(E2E):
    def start(self, config, *sim_flags, objectives=None, **options):
        self.sim_ = self.sim("--decode-ms", "10", *sim_flags)
        if objectives is None:
            self.gw = self.gateway([self.sim_], config, **options)
        else:
            text = harness.pool_manifest(self.sim_.port)
            for name, priority in objectives.items():
                text += OBJECTIVE.replace("NAME", name).replace("PRIORITY", str(priority))
            manifests = self.file("objects.yaml", text)
            self.gw = self.gateway([], config, flags=("--manifests", manifests), **options)
        self.gw.wait_pods(1)

    def begin(self, body, headers=()):
        client = self.client(self.gw)
        client.send(request_bytes("POST", "/v1/completions", body, headers))
        return client

    def occupy(self):
        """A stream that ends only when its client leaves."""
        client = self.begin(completion(max_tokens=100_000, stream=True))
        client.read_head()
        return client

    def held(self):
        return self.gw.value("penstock_held_requests")

    def wait_held(self, count):
        wait_for(f"{count} requests are held", lambda: self.held() == count)


class Flow(FlowCase):
    def test_requests_wait_and_then_succeed(self):
        self.start(ONE_EACH + "}")
        busy = self.occupy()
        waiting = [self.begin(completion(f"waits {i}", max_tokens=2)) for i in range(6)]
        self.wait_held(6)
        self.assertEqual(self.sim_.gauge("vllm:num_requests_running"), 1)
        self.assertEqual(self.sim_.gauge("vllm:num_requests_waiting"), 0)
        pool = self.gw.status_page()["pools"][0]
        self.assertEqual(pool["held"], 6)
        self.assertGreater(pool["held_bytes"], 0)
        self.assertGreaterEqual(pool["saturation"], 1)
        self.assertGreaterEqual(self.gw.value("inference_extension_flow_control_pool_saturation"), 1)
        self.assertEqual(self.gw.value("inference_extension_flow_control_queue_size", fairness_id="default-flow"), 6)
        busy.close()
        for client in waiting:
            self.assertEqual(client.read_response().status, 200)
        self.gw.wait_outcomes({"ok": 6, "client_gone": 1})
        self.assertEqual(self.held(), 0)
        self.assertEqual(self.gw.value(QUEUE_TIME, outcome="Dispatched"), 6)
        labels = {
            "fairness_id": "default-flow",
            "priority": "0",
            "inference_pool": "default",
            "model_name": "sim-model",
            "target_model_name": "sim-model",
        }
        metrics = self.gw.metrics()
        for name in ("queue_size", "queue_bytes"):
            self.assertEqual(metrics.series("inference_extension_flow_control_" + name), [(labels, 0)])
        enqueued = metrics.series("inference_extension_flow_control_request_enqueue_duration_seconds_count")
        self.assertEqual(enqueued, [({"fairness_id": "default-flow", "priority": "0", "outcome": "NotYetFinalized"}, 6)])

    def test_bytes_of_clients_that_are_no_text_spoil_no_page(self):
        self.start(ONE_EACH + "}\n", access_log=True)
        raw = "\xff\xfe"  # latin-1: two bytes that are no UTF-8
        headers = [
            ("x-llm-d-inference-fairness-id", raw),
            ("x-llm-d-inference-objective", raw),
            ("test-epp-endpoint-selection", raw),
            ("x-session-token", raw),
            ("x-request-id", raw),
            ("x-penstock-explain", "1"),
        ]
        busy = self.occupy()
        waiting = self.begin(completion("waits", max_tokens=2), headers[:2] + headers[3:])
        odd_model = self.begin({**completion("waits", max_tokens=2), "model": "a\0b\x7f"}, headers)
        self.wait_held(2)
        held = [labels["fairness_id"] for labels, _ in self.gw.metrics().series(QUEUE_SIZE) if labels]
        self.assertEqual(set(held), {"other"})
        busy.close()
        answer = waiting.read_response()
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.header("x-penstock-explain").isprintable())
        odd_model.read_response()
        self.gw.admin("/metrics").body.decode()
        self.assertTrue(json.loads(self.gw.admin("/debug/decisions").body))
        self.gw.status_page()
        self.gw.out.wait(r"request_id=.*\\ufffd\\ufffd")

    def test_an_endpoint_picker_config_says_so(self):
        self.start(ONE_EACH_TWO_WAIT)
        busy = self.occupy()
        waiting = [self.begin(completion(f"waits {i}", max_tokens=2)) for i in range(2)]
        self.wait_held(2)
        refused = self.begin(completion("too many")).read_response()
        self.assertEqual((refused.status, refused.header(DROPPED)), (429, "rejected-saturated"))
        busy.close()
        for client in waiting:
            self.assertEqual(client.read_response().status, 200)

    def test_a_saturated_server_by_the_work_reserved_there(self):
        # Nobody streams a first token before its prefill of six seconds is over. Before anything is learnt that is taken for
        # half a second; a quarter of one is too much. It is believed while the engine has been sent more than it had when it
        # was asked last: so it is asked once, before them.
        metrics = "metrics: {interval: 1m, idle_interval: 1m}\n"
        config = metrics + "flow_control: {enabled: true}\nrouting: {policy: expected-cost}"
        self.start(config, *SLOW_PREFILL)
        wait_for("it was asked", lambda: self.gw.status_page()["pools"][0]["endpoints"][0]["metrics"])
        bodies = [completion(f"{i} " + "word " * 8000, max_tokens=2, stream=True) for i in range(3)]
        # Two shards that look at once both see room: the first is on its way before the others come.
        clients = [self.begin(bodies[0])]
        wait_for("the first is there", lambda: self.sim_.gauge("vllm:num_requests_running") == 1)
        clients += [self.begin(body) for body in bodies[1:]]
        self.wait_held(2)
        self.assertEqual(self.sim_.gauge("vllm:num_requests_waiting"), 0)
        clients.pop().close()
        self.wait_held(1)
        for client in clients:
            self.assertEqual(client.read_response().status, 200)
        self.gw.wait_outcomes({"ok": 2, "client_gone": 1})

    def test_a_client_that_leaves_is_gone_from_the_queue(self):
        self.start(ONE_EACH + "}")
        busy = self.occupy()
        waiting = [self.begin(completion(f"waits {i}")) for i in range(3)]
        self.wait_held(3)
        for client in waiting:
            client.close()
        self.wait_held(0)
        self.gw.wait_outcomes({"client_gone": 3})
        self.assertEqual(self.gw.value(QUEUE_TIME, outcome="EvictedContextCancelled"), 3)
        busy.close()

    def test_negative_priority_is_refused_at_once_with_flow_control_and_without(self):
        for enabled in ("true", "false"):
            with self.subTest(enabled=enabled):
                config = f"flow_control: {{enabled: {enabled}, detector: concurrency, concurrency: 1}}"
                self.start(config, objectives={"batch": -1})
                for name in ("x-gateway-inference-objective", "x-llm-d-inference-objective"):
                    answer = self.begin(completion(), [(name, "batch")]).read_response()
                    self.assertEqual(answer.status, 200)
                    busy = self.occupy()
                    answer = self.begin(completion(), [(name, "batch")]).read_response()
                    self.assertEqual(answer.status, 429)
                    self.assertEqual(answer.header("retry-after"), "1")
                    self.assertEqual(answer.header(DROPPED), "rejected-saturated")
                    self.assertEqual(answer.json()["error"]["code"], "saturated")
                    busy.close()
                    wait_for("it is free", lambda: self.sim_.gauge("vllm:num_requests_running") == 0)
                    self.gw.wait_idle()
                self.assertEqual(self.gw.value("penstock_limit_hits_total", limit="saturation"), 2)
                refused = self.gw.value(REQUESTS, outcome="RejectedCapacity", priority="-1")
                self.assertEqual(refused, 2 if enabled == "true" else 0)

    def test_negative_priority_waits_where_an_endpoint_picker_config_has_a_band_for_it(self):
        bands = {"priorityBands: [{priority: -1, maxRequests: 1}]": 1, "defaultPriorityBand: {maxRequests: 1}": 1,
                 "priorityBands: [{priority: -2}]": 0, "maxRequests: 1": 0}
        for band, room in bands.items():
            with self.subTest(band=band):
                self.start(ONE_EACH_TWO_WAIT.replace("maxRequests: 2", band), objectives={"batch": -1})
                busy = self.occupy()
                headers = [("x-llm-d-inference-objective", "batch")]
                waiting = [self.begin(completion("waits", max_tokens=2), headers) for _ in range(room)]
                self.wait_held(room)
                queued = self.gw.value("inference_extension_flow_control_queue_size", priority="-1")
                self.assertEqual(queued, room)
                refused = self.begin(completion(), headers).read_response()
                self.assertEqual(refused.json()["error"]["code"], "queue_full" if room else "saturated")
                busy.close()
                for client in waiting:
                    self.assertEqual(client.read_response().status, 200)

    def test_the_highest_priority_goes_first(self):
        self.start(ONE_EACH + "}", objectives={"high": 10}, shards=1)
        busy = self.occupy()
        order, lock = [], threading.Lock()

        def ask(i):
            headers = [("x-gateway-inference-objective", "high")] if i % 2 else []
            client = self.begin(completion(f"waits {i}", max_tokens=50), headers)
            self.assertEqual(client.read_response().status, 200)
            with lock:
                order.append(i % 2)

        threads = [threading.Thread(target=ask, args=(i,), daemon=True) for i in range(6)]
        for thread in threads:
            thread.start()
        self.wait_held(6)
        busy.close()
        for thread in threads:
            thread.join(harness.PATIENCE)
        self.assertEqual(order, [1, 1, 1, 0, 0, 0])

    def test_the_time_to_live_and_a_full_queue(self):
        self.start(ONE_EACH + ", ttl: 3s, requests: 2}")
        busy = self.occupy()
        waiting = [self.begin(completion(f"waits {i}")) for i in range(2)]
        self.wait_held(2)
        answer = self.begin(completion("no place")).read_response()
        self.assertEqual(answer.status, 429)
        self.assertEqual(answer.header("retry-after"), "1")
        self.assertEqual(answer.header(DROPPED), "rejected-saturated")
        self.assertEqual(answer.json()["error"]["code"], "queue_full")
        for client in waiting:
            answer = client.read_response()
            self.assertEqual(answer.status, 503)
            self.assertEqual(answer.header("retry-after"), "1")
            self.assertEqual(answer.header(DROPPED), "rejected-ttl-expired")
        self.gw.wait_outcomes({"overloaded": 3})
        self.assertEqual(self.gw.value(QUEUE_TIME, outcome="EvictedTTL"), 2)
        self.assertEqual(self.gw.value(QUEUE_TIME, outcome="RejectedCapacity"), 1)
        busy.close()

    def test_one_tenant_with_many_requests_does_not_hold_up_another(self):
        self.start(ONE_EACH + "}", shards=1)
        busy = self.occupy()
        many = [self.begin(completion(f"many {i}", max_tokens=50), [("x-gateway-inference-fairness-id", "many")])
                for i in range(8)]
        self.wait_held(8)
        one = self.begin(completion("one", max_tokens=2), [("x-llm-d-inference-fairness-id", "one")])
        self.wait_held(9)
        busy.close()
        self.assertEqual(one.read_response().status, 200)
        self.assertGreaterEqual(self.held(), 4)
        in_threads(len(many), lambda i: self.assertEqual(many[i].read_response().status, 200))

    def test_a_reload_that_turns_it_off_lets_everybody_go(self):
        self.start(ONE_EACH + "}")
        busy = self.occupy()
        waiting = [self.begin(completion(f"waits {i}", max_tokens=2)) for i in range(4)]
        self.wait_held(4)
        self.gw.write_config("flow_control: {enabled: false}\naccess_log: {enabled: false}\npin: false\n")
        self.gw.signal(signal.SIGHUP)
        for client in waiting:
            self.assertEqual(client.read_response().status, 200)
        busy.close()

    def test_at_the_end_of_the_drain_those_that_wait_are_told(self):
        # What one shard cuts makes room; no other may send a request there. Some of so many are cut before others look.
        self.start(ONE_EACH + "}\nlifecycle: {drain_delay: none, drain_limit: 300ms}", shards=16)
        busy = self.occupy()
        waiting = [self.begin(completion(f"waits {i}")) for i in range(48)]
        self.wait_held(48)
        self.gw.signal(signal.SIGTERM)
        for client in waiting:
            answer = client.read_response()
            self.assertEqual(answer.status, 503)
            self.assertEqual(answer.header("retry-after"), "1")
            self.assertEqual(answer.header(DROPPED), "rejected-shutting-down")
        self.assertEqual(self.gw.wait(), 0)
        busy.close()

    def test_scaled_to_zero_requests_wait_for_the_first_pod(self):
        self.start(ONE_EACH + ", no_endpoint_ttl: 20s}", "--instant")
        port = self.sim_.port
        self.sim_.kill()
        self.gw.wait_pods(0)
        client = self.begin(completion())
        self.wait_held(1)
        self.sim_ = self.sim("--instant", port=port)
        self.assertEqual(client.read_response().status, 200)


# Probes often enough that a test sees soon what they find.
PROBED = "metrics: {health_interval: 100ms, idle_interval: 100ms}\n"


class NoEndpoint(FlowCase):
    """The last server of a pool dies, and comes back or does not."""

    def kill_with_requests_there(self, config, count=4):
        """Requests of which the server has begun the prefill when it dies."""
        self.start(PROBED + config, *SLOW_PREFILL)
        clients = [self.begin(completion("x " * 8000 + str(i), stream=i % 2 == 0)) for i in range(count)]
        wait_for("they are there", lambda: self.gw.value("penstock_requests_in_flight") == count)
        wait_for("one runs", lambda: self.sim_.gauge("vllm:num_requests_running") >= 1)
        self.sim_.kill()
        self.gw.wait_pods(0)
        return clients

    def test_the_only_server_is_restarted_and_no_request_is_lost(self):
        clients = self.kill_with_requests_there("flow_control: {hold: none}\n")
        wait_for("they wait", lambda: self.held() == len(clients))
        self.assertEqual(self.gw.admin("/readyz").status, 200)
        clients += [self.begin(completion(f"later {i}")) for i in range(4)]
        self.wait_held(len(clients))
        self.sim("--instant", port=self.sim_.port)
        for client in clients:
            self.assertEqual(client.read_response().status, 200)
        self.gw.wait_outcomes({"ok": len(clients)})

    def test_it_does_not_come_back(self):
        clients = self.kill_with_requests_there("flow_control: {hold: none, no_endpoint_ttl: 1s}\n")
        for client in clients:
            answer = client.read_response()
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (503, "no_endpoint"))
            self.assertEqual(answer.header(DROPPED), "rejected-no-endpoints")
        # From then on requests are refused at once.
        waited = self.gw.value("penstock_limit_hits_total", limit="flow_control_ttl")
        answer = self.begin(completion()).read_response()
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (503, "no_endpoint"))
        self.assertEqual(self.gw.value("penstock_limit_hits_total", limit="flow_control_ttl"), waited)
        self.assertEqual(self.gw.admin("/readyz").status, 503)

    def test_who_waits_for_room_does_not_wait_for_a_server_that_is_gone(self):
        self.start(PROBED + ONE_EACH + ", no_endpoint_ttl: 1s}\nresume: {enabled: false}\n")
        self.occupy()
        waiting = [self.begin(completion(f"waits {i}")) for i in range(3)]
        self.wait_held(3)
        self.sim_.kill()
        for client in waiting:
            answer = client.read_response()
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (503, "no_endpoint"))

    def test_a_request_that_kills_servers_is_not_sent_for_ever(self):
        fake = self.fake(lambda _, sock: harness.hard_reset(sock) or False)
        gateway = self.gateway([fake], PROBED + "retry: {attempts: 2}\n")
        answer = self.client(gateway).post("/v1/completions", completion())
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (502, "endpoint_closed"))
        self.assertEqual(len(fake.requests), 2)


# With eviction, as our own configuration and as an EndpointPickerConfig says it.
EVICTS = ONE_EACH + ", eviction: true}"
EVICTS_AS_PICKER = ONE_EACH_TWO_WAIT.replace("{maxRequests: 2}", "{enableEviction: true, priorityBands: [{priority: -1}]}")
PRIORITIES = {"batch": -1, "spare": -2, "high": 10}
REVOCATIONS = "llm_d_epp_flow_control_revocations_"
FOREVER = 100_000  # tokens: it ends when somebody ends it


class Eviction(FlowCase):
    """Requests of negative priority that run make room for others."""

    def run_one(self, name, tokens=FOREVER, stream=True):
        """A request that runs: of a stream the head is there."""
        running = self.sim_.gauge("vllm:num_requests_running")
        headers = [("x-llm-d-inference-objective", name)] if name else []
        client = self.begin(completion(f"runs {name}", max_tokens=tokens, stream=stream), headers)
        wait_for("it runs", lambda: self.sim_.gauge("vllm:num_requests_running") == running + 1)
        if stream:
            self.assertEqual(client.read_head().status, 200)
        return client

    def wait_free(self):
        wait_for("nothing runs", lambda: self.sim_.gauge("vllm:num_requests_running") == 0)

    def error_at_end_of(self, client):
        """Of a stream that was cut off: the error that its last event tells."""
        rest, _ = client.read_until_end()
        self.assertFalse(rest.endswith(b"0\r\n\r\n"), "a torso that passes for a whole answer")
        last = [line for line in rest.split(b"\n") if line.startswith(b"data: ")][-1]
        return json.loads(last[len("data: "):])["error"]

    def counts(self):
        metrics = self.gw.metrics()
        return metrics.sum(REVOCATIONS + "issued_total"), metrics.sum(REVOCATIONS + "total")

    def test_one_that_has_no_answer_yet_is_told_why_and_the_other_one_runs(self):
        for config in (EVICTS, EVICTS_AS_PICKER):
            with self.subTest(config=config):
                path = self.directory() + "/access.log"
                log = f"\naccess_log: {{format: json, path: {path}}}\n"
                self.start(config + log, objectives=PRIORITIES, access_log=True)
                batch = self.run_one("batch", stream=False)
                answer = self.begin(completion("matters", max_tokens=2)).read_response()
                self.assertEqual(answer.status, 200)
                answer = batch.read_response()
                self.assertEqual((answer.status, answer.header(DROPPED)), (429, "evicted"))
                self.assertEqual(answer.header("retry-after"), "1")
                self.assertEqual(answer.json()["error"]["code"], "evicted")
                self.wait_free()
                self.gw.wait_outcomes({"ok": 1, "evicted": 1})
                self.assertEqual(self.counts(), (1, 1))
                pool = {"inference_pool": "pool"}
                metrics = self.gw.metrics()
                self.assertEqual(metrics.series(REVOCATIONS + "issued_total"), [({"priority": "0", **pool}, 1)])
                self.assertEqual(metrics.series(REVOCATIONS + "total"), [({"outcome": "confirmed", **pool}, 1)])
                took = self.gw.value("llm_d_epp_flow_control_revocation_confirmation_seconds_count")
                self.assertEqual(took, 1)
                with open(path) as lines:
                    log = [json.loads(line) for line in lines]
                evicted = [line for line in log if line["outcome"] == "evicted"]
                self.assertEqual([(line["status"], line["reason"]) for line in evicted], [(429, "evicted")])
                # The connection is as good as before.
                batch.send(request_bytes("POST", "/v1/completions", completion(max_tokens=2)))
                self.assertEqual(batch.read_response().status, 200)

    def test_a_stream_ends_with_an_error_event(self):
        self.start(EVICTS, objectives=PRIORITIES)
        batch = self.run_one("batch")
        self.assertEqual(self.begin(completion("matters", max_tokens=2)).read_response().status, 200)
        error = self.error_at_end_of(batch)
        self.assertEqual((error["code"], error["type"]), ("evicted", "rate_limit_error"))
        self.wait_free()
        self.gw.wait_outcomes({"ok": 1, "evicted": 1})

    def test_off_and_for_others_nobody_is_evicted(self):
        for config, running in ((EVICTS.replace("true}", "false}"), "batch"), (EVICTS, ""), (EVICTS, "high")):
            with self.subTest(config=config, running=running):
                self.start(config, objectives=PRIORITIES)
                client = self.run_one(running)
                waiting = self.begin(completion("waits", max_tokens=2), [("x-llm-d-inference-objective", "high")])
                self.wait_held(1)
                self.assertEqual(self.sim_.gauge("vllm:num_requests_running"), 1)
                self.assertEqual(self.counts(), (0, 0))
                client.close()
                self.assertEqual(waiting.read_response().status, 200)
                self.gw.wait_outcomes({"ok": 1, "client_gone": 1})

    def test_turned_on_by_a_reload_it_goes_for_those_that_already_run(self):
        self.start(EVICTS.replace("true}", "false}"), objectives=PRIORITIES)
        streaming = self.run_one("batch")
        waiting = self.begin(completion("waits", max_tokens=2), [("x-llm-d-inference-objective", "high")])
        self.wait_held(1)
        self.gw.write_config(EVICTS + "\npin: false\naccess_log: {enabled: false}\n")  # the rest as it was
        self.gw.signal(signal.SIGHUP)
        self.assertEqual(waiting.read_response().status, 200)
        self.assertEqual(self.error_at_end_of(streaming)["code"], "evicted")
        self.gw.wait_outcomes({"ok": 1, "evicted": 1})

    def test_the_lowest_goes_first_then_the_newest_one_for_each_that_waits(self):
        self.start(EVICTS.replace("concurrency: 1", "concurrency: 4"), objectives=PRIORITIES, shards=4)
        first, _, spare, last = (self.run_one(name) for name in ("batch", "", "spare", "batch"))
        for evictions, client in enumerate((spare, last, first), start=1):
            self.occupy()  # it runs
            self.assertEqual(self.error_at_end_of(client)["code"], "evicted")
            self.assertEqual(self.counts(), (evictions, evictions))
        # Of those that are left none may go.
        self.begin(completion("waits"))
        self.wait_held(1)
        self.gw.wait_outcomes({"evicted": 3})
        self.assertEqual(self.counts(), (3, 3))

    def test_as_many_are_evicted_as_come(self):
        self.start(EVICTS.replace("concurrency: 1", "concurrency: 8"), objectives=PRIORITIES, shards=4)
        batch = [self.run_one("batch") for _ in range(8)]
        waiting = [self.begin(completion(f"matters {i}", max_tokens=FOREVER, stream=True)) for i in range(5)]
        for client in waiting:
            self.assertEqual(client.read_head().status, 200)
        self.gw.wait_outcomes({"evicted": 5})
        self.assertEqual(self.counts(), (5, 5))
        wait_for("they run in their place", lambda: self.sim_.gauge("vllm:num_requests_running") == 8)
        for client in batch[3:]:
            self.assertEqual(self.error_at_end_of(client)["code"], "evicted")

    def test_by_the_prefill_before_it(self):
        # As when a server is saturated by the work reserved there: the prefill that fills it is the other one's.
        metrics = "metrics: {interval: 1m, idle_interval: 1m}\n"
        config = metrics + "flow_control: {enabled: true, eviction: true}\nrouting: {policy: expected-cost}"
        self.start(config, *SLOW_PREFILL, objectives=PRIORITIES)
        wait_for("it was asked", lambda: self.gw.status_page()["pools"][0]["endpoints"][0]["metrics"])
        big = completion("0 " + "word " * 10_000, max_tokens=2, stream=True)
        batch = self.begin(big, [("x-llm-d-inference-objective", "batch")])
        wait_for("it computes", lambda: self.sim_.gauge("vllm:num_requests_running") == 1)
        self.assertEqual(self.begin(completion("matters", max_tokens=2)).read_response().status, 200)
        answer = batch.read_response()
        self.assertEqual((answer.status, answer.header(DROPPED)), (429, "evicted"))
        self.gw.wait_outcomes({"ok": 1, "evicted": 1})

    def test_one_of_lower_priority_that_waits_evicts_nobody_of_its_own(self):
        self.start(EVICTS_AS_PICKER, objectives=PRIORITIES)
        batch = self.run_one("batch")
        waiting = self.begin(completion("waits", max_tokens=2), [("x-llm-d-inference-objective", "batch")])
        self.wait_held(1)
        self.assertEqual(self.counts(), (0, 0))
        batch.close()
        self.assertEqual(waiting.read_response().status, 200)


if __name__ == "__main__":
    harness.main()
