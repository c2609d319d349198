"""Answers with a 4xx status: an endpoint that refuses what others answer, and clients whose requests are refused
everywhere. What clients see, where requests go, who is ejected, and what is said about it."""

import json
import re
import threading

import harness
from harness import E2E, answer_bytes, completion, in_threads, wait_for

POLICIES = ("expected-cost", "least-load", "epp-default", "round-robin", "random")
# A profile of the Endpoint Picker's own, for which idle endpoints are the best.
PICKER = """kind: GatewayConfig
routing:
  endpoint_picker:
    apiVersion: inference.networking.x-k8s.io/v1alpha1
    kind: EndpointPickerConfig
    plugins: [{type: queue-scorer}, {type: active-request-scorer}, {type: max-score-picker}]
    schedulingProfiles:
    - {name: default, plugins: [{pluginRef: queue-scorer}, {pluginRef: active-request-scorer}, {pluginRef: max-score-picker}]}
"""
SIM = ("--seed", "3", "--prefill-tokens-per-s", "20000", "--decode-ms", "2")
FAILURES, RETRIES = "penstock_attempt_failures_total", "penstock_retries_total"
EJECTIONS = "penstock_ejections_total"


class Refusals(E2E):
    def ask(self, gateway, count, threads=10, headers=(), **more):
        """Sends so many requests from so many clients; their statuses, with how often each came."""
        turns, lock, got = iter(range(count)), threading.Lock(), {}

        def client(_):
            mine = self.client(gateway)
            while True:
                with lock:
                    turn = next(turns, None)
                if turn is None:
                    return
                body = completion(f"This is turn {turn}.", max_tokens=8, stream=turn % 2 == 0, **more)
                status = mine.post("/v1/completions", body, headers=headers).status
                with lock:
                    got[status] = got.get(status, 0) + 1

        in_threads(threads, client)
        return got


class OneOfThree(Refusals):
    def check(self, config, status, shards=2):
        bad = self.sim(*SIM, "--fail", f"status={status}")
        gateway = self.gateway([bad, self.sim(*SIM), self.sim(*SIM)], config, shards=shards)
        gateway.wait_pods(3)
        got = self.ask(gateway, 300)
        self.assertGreaterEqual(got.get(200, 0), 295, got)
        picked = gateway.value("penstock_endpoint_picks_total", endpoint=bad.address)
        self.assertLess(picked, 100)
        ejections = gateway.value("penstock_endpoint_ejections_total", endpoint=bad.address)
        self.assertEqual(ejections, gateway.value(EJECTIONS))
        if status == 429:
            self.assertEqual(ejections, 0)
        else:
            self.assertGreater(ejections, 0)
        gateway.wait_idle()
        gateway.stop()
        return got

    def test_every_policy(self):
        for policy in POLICIES:
            for status in (400, 429, 500):
                with self.subTest(policy=policy, status=status):
                    self.check(f"routing: {{policy: {policy}}}\n", status)

    def test_the_other_statuses(self):
        for status in (401, 403, 404, 413, 422):
            with self.subTest(status=status):
                self.check("routing: {policy: least-load}\n", status)

    def test_a_profile_of_an_endpoint_picker_config(self):
        for status in (401, 422):
            with self.subTest(status=status):
                self.check(PICKER, status)

    def test_what_is_said_about_it(self):
        bad, good = self.sim("--instant", "--fail", "status=404"), self.sim("--instant")
        config = "routing: {policy: round-robin}\nejection: {base_penalty: 10m, max_penalty: 10m}\n"
        gateway = self.gateway([bad, good], config, shards=1)
        gateway.wait_pods(2)
        self.assertEqual(self.ask(gateway, 20, threads=1), {200: 20})
        said = (
            f"warning endpoint is ejected for one kind of request endpoint={bad.address} .* model=sim-model "
            f"api=completions last_failure=status_404 answered_well_by={good.address} for_ms=600000"
        )
        wait_for("the log says so", lambda: re.search(said, gateway.log()), interval=0.05)
        self.assertEqual(len(re.findall("endpoint is ejected", gateway.log())), 1)
        self.assertEqual(gateway.value(FAILURES, reason="status_4xx"), 3)
        self.assertEqual(gateway.value(RETRIES, reason="status_4xx"), 3)
        self.assertEqual(gateway.value(EJECTIONS, reason="refuses_kind"), 1)
        self.assertEqual(gateway.value("penstock_endpoint_refused_kinds", endpoint=bad.address), 1)
        self.assertEqual(gateway.value("penstock_endpoint_ejected", endpoint=bad.address), 0)
        endpoints = gateway.status_page()["pools"][0]["endpoints"]
        self.assertEqual({e["name"]: e["refused_kinds"] for e in endpoints}, {bad.address: 1, good.address: 0})
        explained = self.client(gateway).post("/v1/completions", completion(), headers=[("x-penstock-explain", "1")])
        self.assertIn(f"{bad.address} excluded: ejected for this kind of request", explained.header("x-penstock-explain"))
        decisions = json.dumps(json.loads(gateway.admin("/debug/decisions").body))
        self.assertIn("ejected for this kind of request", decisions)
        # Another API is another matter.
        other = {"model": "sim-model", "input": "x"}
        statuses = [self.client(gateway).post("/v1/embeddings", other).status for _ in range(4)]
        self.assertEqual(statuses, [200] * 4)
        self.assertGreater(gateway.value(FAILURES, reason="status_4xx"), 3)

    def test_the_key_that_one_server_does_not_know(self):
        bad, good = self.sim("--instant", "--fail", "status=401"), self.sim("--instant")
        config = "routing: {policy: round-robin}\nejection: {base_penalty: 1s, max_penalty: 1s, slow_start: none}\n"
        gateway = self.gateway([bad, good], config, shards=1)
        gateway.wait_pods(2)
        self.assertEqual(self.ask(gateway, 20, threads=1), {200: 20})
        self.assertEqual(gateway.value(EJECTIONS, reason="refuses_all"), 1)
        self.assertEqual(gateway.value("penstock_endpoint_ejected", endpoint=bad.address), 1)
        wait_for("the log says so", lambda: re.search("is ejected .* last_failure=status_401", gateway.log()))

    def test_a_full_server_that_says_for_how_long(self):
        full = self.fake(lambda _, sock: sock.sendall(answer_bytes(429, b"{}", [("retry-after", "30")])) or True)
        good = self.sim("--instant")
        gateway = self.gateway([full, good], "routing: {policy: least-load}\n", shards=1)
        gateway.wait_pods(2)
        self.assertEqual(self.ask(gateway, 200, threads=4), {200: 200})
        self.assertLess(len(full.requests), 40)
        self.assertEqual(gateway.value("penstock_endpoint_busy", endpoint=full.address), 1)
        self.assertEqual(gateway.value(EJECTIONS), 0)
        [busy] = [e for e in gateway.status_page()["pools"][0]["endpoints"] if e["name"] == full.address]
        self.assertTrue(20_000 < busy["busy_for_ms"] <= 30_000, busy)


class Poisonous(Refusals):
    """Requests that each server refuses in the same way: x-sim-fail asks for it."""

    STATUSES = (400, 401, 404, 413, 422, 429)

    def start(self, policy="expected-cost"):
        gateway = self.gateway([self.sim(*SIM) for _ in range(3)], f"routing: {{policy: {policy}}}\n")
        gateway.wait_pods(3)
        return gateway

    def test_alone(self):
        gateway = self.start()
        for status in self.STATUSES:
            with self.subTest(status=status):
                self.assertEqual(self.ask(gateway, 500, headers=[("x-sim-fail", f"status={status}")]), {status: 500})
        self.assertEqual(gateway.value(EJECTIONS), 0)
        self.assertGreater(gateway.value("penstock_limit_hits_total", limit="second_opinions"), 0)
        # Of each endpoint's refusals fifty are tried elsewhere at once, and then one a second.
        self.assertLess(gateway.value(RETRIES), 3 * 50 + 3 * harness.PATIENCE)

    def test_among_honest_clients(self):
        for policy in ("expected-cost", "least-load"):
            with self.subTest(policy=policy):
                gateway = self.start(policy)
                results = {}

                def run(i, gateway=gateway, results=results):
                    if i < len(self.STATUSES):
                        header = ("x-sim-fail", f"status={self.STATUSES[i]}")
                        results[self.STATUSES[i]] = self.ask(gateway, 500, threads=2, headers=[header])
                    elif i == len(self.STATUSES):
                        self.leave_early(gateway, 500)
                    else:
                        results["honest"] = self.ask(gateway, 500, threads=8)

                in_threads(len(self.STATUSES) + 2, run)
                self.assertEqual(results.pop("honest"), {200: 500})
                self.assertEqual(results, {status: {status: 500} for status in self.STATUSES})
                self.assertEqual(gateway.value(EJECTIONS), 0)
                gateway.wait_idle()

    def leave_early(self, gateway, count):
        for turn in range(count):
            client = harness.Client(gateway.port)
            client.send(harness.request_bytes("POST", "/v1/completions", completion(f"Left {turn}.", 500, stream=True)))
            client.reset()


if __name__ == "__main__":
    harness.main()
