"""Who goes first, and how far, by what an EndpointPickerConfig says of programs and of priorities."""

import harness
from harness import E2E, completion, request_bytes, wait_for
from test_flow import DROPPED, OBJECTIVE, QUEUE_SIZE

CONFIG = """routing:
  endpoint_picker:
    featureGates: [flowControl]
    plugins:
      - {type: queue-scorer}
      - {name: detector, type: concurrency-detector, parameters: {maxConcurrency: ROOM}}
      - {type: agent-identity, parameters: {additionalSessionHeaders: [X-My-Agent]}}
      - {name: programs, type: program-aware-fairness, parameters: {strategy: STRATEGY}}
      - {name: holdback, type: priority-holdback-policy, parameters: {minCeiling: 0.5}}
    saturationDetector: {pluginRef: detector}
    flowControl: {FLOW}
"""


class Fairness(E2E):
    def start(self, flow, room=1, strategy="las", objectives=()):
        self.sim_ = self.sim("--decode-ms", "2")
        text = harness.pool_manifest(self.sim_.port)
        for name, priority in objectives:
            text += OBJECTIVE.replace("NAME", name).replace("PRIORITY", str(priority))
        path = self.file("objects.yaml", text)
        config = CONFIG.replace("ROOM", str(room)).replace("STRATEGY", strategy).replace("FLOW", flow)
        self.gw = self.gateway([], config, flags=("--manifests", path))
        self.gw.wait_pods(1)

    def begin(self, headers, max_tokens=100_000, stream=True):
        client = self.client(self.gw)
        client.send(request_bytes("POST", "/v1/completions", completion(max_tokens=max_tokens, stream=stream), headers))
        return client

    def serve(self, headers, max_tokens=10):
        self.assertEqual(self.begin(headers, max_tokens, stream=False).read_response().status, 200)

    def wait_held(self, count):
        wait_for(f"{count} requests are held", lambda: self.gw.value("penstock_held_requests") == count)

    def queue(self):
        return {labels["fairness_id"]: size for labels, size in self.gw.metrics().series(QUEUE_SIZE) if size}

    def test_the_program_that_had_the_fewest_tokens_is_next(self):
        self.start("defaultPriorityBand: {fairnessPolicyRef: programs}")
        greedy, modest = ("session-id", "greedy"), ("x-claude-code-session-id", "modest")
        self.serve([greedy], 300)
        self.serve([modest], 5)
        busy = self.begin([])
        busy.read_head()
        first = []
        for count in (1, 2):  # one after the other: they may come to two shards
            first.append(self.begin([greedy]))
            self.wait_held(count)
        second = self.begin([modest])
        self.wait_held(3)
        self.assertEqual(self.queue(), {"greedy": 2, "modest": 1})
        busy.close()
        self.assertEqual(second.read_head().status, 200)
        self.assertEqual(self.queue(), {"greedy": 2})
        metrics, aware = self.gw.metrics(), "llm_d_epp_program_aware_"
        self.assertGreater(metrics.value(aware + "attained_service_tokens", program_id="greedy"), 100)
        self.assertGreater(metrics.value(aware + "avg_wait_time_milliseconds", program_id="modest"), 0)
        self.assertEqual(metrics.value(aware + "jains_fairness_index"), 1)  # of the one that has waited and gone
        second.close()
        self.assertEqual(first[0].read_head().status, 200)
        for client in first:
            client.close()

    def test_the_deepest_session_is_next(self):
        self.start("defaultPriorityBand: {fairnessPolicyRef: programs}", strategy="turn-priority")
        deep, shallow = ("x-my-agent", "deep"), ("session_id", "shallow")
        for _ in range(40):
            self.serve([deep, ("session-id", "another")], 1)
        busy = self.begin([])
        busy.read_head()
        first = self.begin([shallow])
        self.wait_held(1)
        second = self.begin([deep])
        self.wait_held(2)
        self.assertEqual(self.queue(), {"deep": 1, "shallow": 1})
        busy.close()
        self.assertEqual(second.read_head().status, 200)
        self.assertEqual(self.queue(), {"shallow": 1})
        second.close()
        self.assertEqual(first.read_head().status, 200)
        first.close()

    def test_a_fairness_id_that_is_said_counts_before_a_session(self):
        self.start("maxRequests: 5")
        busy = self.begin([])
        busy.read_head()
        waits = self.begin([("session-id", "agent"), ("x-llm-d-inference-fairness-id", "tenant")])
        self.wait_held(1)
        self.assertEqual(self.queue(), {"tenant": 1})
        busy.close()
        waits.close()

    def test_room_is_held_back_for_the_higher_priority(self):
        bands = "usageLimitPolicyPluginRef: holdback, priorityBands: [{priority: 10}, {priority: -10, defaultRequestTTL: 1s}]"
        self.start(bands, room=4, objectives=[("high", 10), ("low", -10)])
        high, low = ("x-llm-d-inference-objective", "high"), ("x-llm-d-inference-objective", "low")
        running = [self.begin([low]) for _ in range(2)]
        for client in running:
            self.assertEqual(client.read_head().status, 200)
        waits = self.begin([low])
        self.wait_held(1)
        running += [self.begin([high]) for _ in range(2)]  # they do not wait: half of the room is theirs
        for client in running[2:]:
            self.assertEqual(client.read_head().status, 200)
        answer = waits.read_response()  # the band's own time to live
        self.assertEqual((answer.status, answer.header(DROPPED)), (503, "rejected-ttl-expired"))
        waits = self.begin([high])
        self.wait_held(1)
        for client in running:
            client.close()
        self.assertEqual(waits.read_head().status, 200)
        waits.close()


if __name__ == "__main__":
    harness.main()
