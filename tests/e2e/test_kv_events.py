"""What model servers publish of their KV caches, over ZeroMQ's protocol, decides where prompts of token ids go."""

import os
import re

import harness
from harness import E2E, PENSTOCK, completion, run_program, wait_for

SIM_FLAGS = ("--instant", "--model", "sim-model")
PRECISE = """apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
  - type: precise-prefix-cache-scorer
    parameters:
      tokenProcessorConfig: {blockSize: 16, hashSeed: "42"}
      indexerConfig: {tokenizersPoolConfig: {modelName: sim-model}}
      kvEventsConfig: {discoverPods: true, podDiscoveryConfig: {socketPort: 5557}}
schedulingProfiles:
  - name: default
    plugins: [{pluginRef: precise-prefix-cache-scorer, weight: 10}]
"""
BLOCKS = 6


def ids(seed, blocks=BLOCKS, block_size=16):
    """A prompt of token ids with so many whole blocks and a token more."""
    return [seed * 1000 + i for i in range(blocks * block_size + 1)]


class Publisher:
    """A sim that publishes, and what it takes to start it again at the same ports."""

    def __init__(self, test, *flags, replay=True, block_size=16):
        self.test = test
        self.flags = [*SIM_FLAGS, "--block-size", str(block_size), *flags]
        self.port = self.events_port = self.replay_port = 0
        self.replays = replay
        self.start()

    def start(self, *more):
        ports = ["--kv-events-port", self.events_port]
        if self.replays:
            ports += ["--kv-events-replay-port", self.replay_port]
        self.sim = self.test.sim(*self.flags, *more, *[str(word) for word in ports], port=self.port)
        line = self.sim.out.wait(r":(\d+), KV events on \S+?:(\d+)(?:, replays on \S+?:(\d+))?$")
        self.port, self.events_port, self.replay_port = (int(found or 0) for found in line.groups())
        self.address = self.sim.address

    def entry(self):
        replay = f", kv_replay_port: {self.replay_port}" if self.replays else ""
        return f"  - {{url: {self.sim.url}, kv_events_port: {self.events_port}{replay}}}\n"

    def warm(self, prompt, **more):
        """Asks it directly, behind the gateway's back."""
        answer = harness.fetch(self.port, "/v1/completions", "POST", completion(prompt=prompt, max_tokens=1, **more))
        self.test.assertEqual(answer.status, 200, answer)


class KvEvents(E2E):
    def precise(self, publishers, epp=PRECISE, more=""):
        flags = []
        if epp:
            flags = ["--epp-config", self.file("epp.yaml", epp)]
        config = more + "endpoints:\n" + "".join(one.entry() for one in publishers)
        gateway = self.gateway(config=config, flags=flags)
        wait_for("all publishers are connected to", lambda: gateway.value("penstock_kv_events_connected") == len(publishers))
        return gateway

    def wait_blocks(self, gateway, publisher, count):
        wait_for(
            f"{count} blocks of {publisher.address} are known",
            lambda: gateway.value("penstock_kv_events_blocks", endpoint=publisher.address) == count,
        )

    def ask(self, gateway, prompt, **more):
        answer = self.client(gateway).post(
            "/v1/completions", completion(prompt=prompt, max_tokens=1, **more), [("x-penstock-explain", "1")]
        )
        self.assertEqual(answer.status, 200, answer)
        return answer

    def matches(self, gateway, prompt, **more):
        """Blocks that each endpoint is thought to hold, and whether it told so; the choice comes first."""
        found = {}
        explanation = self.ask(gateway, prompt, **more).header("x-penstock-explain")
        for part in explanation.split("; ")[1:]:  # behind the name of the profile
            words = part.split()
            matched = next(word for word in words if word.startswith("matched="))
            found[words[0]] = (int(matched.removeprefix("matched=")), "(told)" in words)
        return found


class Precise(KvEvents):
    def test_blocks_of_another_size_match_under_a_policy_of_our_own(self):
        publishers = [Publisher(self, block_size=64) for _ in range(2)]
        gateway = self.precise(publishers, epp=None, more="kv_events: {enabled: true}\n")

        def sizes():
            return {(one["metrics"] or {}).get("block_size") for one in gateway.status_page()["pools"][0]["endpoints"]}

        wait_for("all have said how long their blocks are", lambda: sizes() == {64})
        for number, publisher in enumerate(publishers):
            prompt = ids(number + 1, block_size=64)
            publisher.warm(prompt)
            self.wait_blocks(gateway, publisher, BLOCKS)
            found = self.matches(gateway, prompt)
            self.assertEqual(next(iter(found.items())), (publisher.address, (BLOCKS, True)), found)

    def test_a_prompt_warmed_behind_our_back_goes_where_it_is(self):
        # One of them writes its events as older versions of vLLM do: as arrays.
        publishers = [Publisher(self), Publisher(self, "--kv-events-older"), Publisher(self, replay=False)]
        gateway = self.precise(publishers)
        for number, publisher in enumerate(publishers):
            prompt = ids(number + 1)
            publisher.warm(prompt)
            self.wait_blocks(gateway, publisher, BLOCKS)
            for _ in range(4):
                self.assertEqual(self.ask(gateway, prompt).header("x-penstock-endpoint"), publisher.address)
            found = self.matches(gateway, prompt)
            self.assertEqual(next(iter(found.items())), (publisher.address, (BLOCKS, True)), found)
            # The others say that they have none of it: nothing is believed of them.
            for other in publishers:
                if other is not publisher and other.replays:
                    self.assertEqual(found[other.address], (0, True), found)
        self.assertEqual(gateway.value("penstock_kv_events_gaps_total"), 0)
        self.assertEqual(gateway.value("penstock_kv_events_complete"), len(publishers))
        for publisher in publishers:
            self.assertEqual(gateway.value("penstock_kv_events_connects_total", endpoint=publisher.address), 1)
        with open(os.path.join(os.path.dirname(__file__), "../../docs/MONITORING.md"), encoding="utf-8") as file:
            documented = set(re.findall(r"`(penstock_kv_events_\w+)", file.read()))
        self.assertGreaterEqual(len(documented), 3)
        self.assertEqual(documented - set(gateway.metrics().types), set())
        # Four times asked and once explained, and each time somebody had all of it.
        metrics = gateway.metrics()
        self.assertEqual(metrics.value("kvcache_index_lookup_requests_total"), 5 * len(publishers))
        for name in ("kvcache_index_lookup_hits_total", "kvcache_index_max_pod_hit_count_total"):
            self.assertEqual((name, metrics.value(name)), (name, 5 * len(publishers) * BLOCKS))
        self.assertEqual(metrics.types["kvcache_index_lookup_latency_seconds"], "histogram")
        self.assertGreaterEqual(metrics.value("kvcache_index_lookup_latency_seconds_count"), len(publishers))
        admitted = metrics.value("kvcache_index_admissions_total") - metrics.value("kvcache_index_evictions_total")
        self.assertEqual(admitted, metrics.sum("penstock_kv_events_blocks"))
        status = gateway.status_page()["pools"][0]["endpoints"]
        told = {endpoint["address"]: endpoint["kv_events"] for endpoint in status}
        for publisher in publishers:
            self.assertEqual([(r["connected"], r["blocks"]) for r in told[publisher.address]], [(True, BLOCKS)])

    def test_without_events_the_same_prompt_is_not_known(self):
        publishers = [Publisher(self), Publisher(self)]
        gateway = self.gateway([one.sim for one in publishers], flags=["--policy", "epp-default"])
        publishers[1].warm(ids(1))
        found = self.matches(gateway, ids(1))
        self.assertEqual(set(found.values()), {(0, False)})

    def test_what_was_there_before_us_is_replayed(self):
        # Whether or not replays carry the topic.
        topic = ("--kv-events-topic", "kv@10.0.0.1:8000@sim-model")
        for flags in ((), topic, ("--kv-events-older", *topic)):
            with self.subTest(flags=flags):
                old, new = Publisher(self, *flags), Publisher(self)
                old.warm(ids(1))
                old.warm(ids(2))
                gateway = self.precise([old, new])
                self.wait_blocks(gateway, old, 2 * BLOCKS)
                self.assertEqual(gateway.value("penstock_kv_events_replayed_total", endpoint=old.address), 2)
                wait_for("all is known", lambda: gateway.value("penstock_kv_events_complete") == 2)
                self.assertEqual(gateway.value("penstock_kv_events_replay_failures_total"), 0)
                for seed in (1, 2):
                    self.assertEqual(self.ask(gateway, ids(seed)).header("x-penstock-endpoint"), old.address)

    def test_evicted_blocks_are_forgotten(self):
        small, other = Publisher(self, "--kv-blocks", str(2 * BLOCKS)), Publisher(self)
        gateway = self.precise([small, other])
        small.warm(ids(1))
        self.wait_blocks(gateway, small, BLOCKS)
        for seed in (2, 3, 4):
            small.warm(ids(seed))
        here = {"endpoint": small.address}
        wait_for("all is told", lambda: gateway.value("penstock_kv_events_batches_total", **here) == 4)
        self.assertGreater(gateway.value("penstock_kv_events_total", event="removed", **here), 0)
        self.assertLessEqual(gateway.value("penstock_kv_events_blocks", **here), 2 * BLOCKS)
        # What the decision saw, before the request itself brings the prompt back.
        self.assertEqual(self.matches(gateway, ids(1))[small.address], (0, True))
        self.assertEqual(self.matches(gateway, ids(4))[small.address][1], True)

    def test_adapters_and_salts_have_caches_of_their_own(self):
        publishers = [Publisher(self, "--lora", "sql"), Publisher(self, "--lora", "sql")]
        gateway = self.precise(publishers)
        publishers[0].warm(ids(1), model="sql")
        self.wait_blocks(gateway, publishers[0], BLOCKS)
        self.assertEqual(self.matches(gateway, ids(1), model="sql")[publishers[0].address], (BLOCKS, True))
        publishers[1].warm(ids(1))
        self.wait_blocks(gateway, publishers[1], BLOCKS)
        self.assertEqual(self.ask(gateway, ids(1)).header("x-penstock-endpoint"), publishers[1].address)
        # Events do not tell salts: such prompts are matched by what was sent.
        found = self.matches(gateway, ids(1), cache_salt="mine")
        self.assertEqual({told for _, told in found.values()}, {False})

    def test_any_policy_uses_what_is_told(self):
        publishers = [Publisher(self), Publisher(self)]
        gateway = self.precise(publishers, epp=None, more="kv_events: {enabled: true}\n")
        publishers[1].warm(ids(1))
        self.wait_blocks(gateway, publishers[1], BLOCKS)
        self.assertEqual(self.ask(gateway, ids(1)).header("x-penstock-endpoint"), publishers[1].address)

    def test_prompts_given_as_text_are_matched_by_what_was_sent(self):
        publishers = [Publisher(self), Publisher(self)]
        gateway = self.precise(publishers)
        text = "What a river carries it leaves in the lake behind the dam. " * 8
        first = self.ask(gateway, text).header("x-penstock-endpoint")
        found = self.matches(gateway, text)
        self.assertGreater(found[first][0], 0)
        self.assertFalse(found[first][1])


class Losses(KvEvents):
    def test_a_gap_is_filled_by_a_replay(self):
        publisher, other = Publisher(self, "--kv-events-drop", "1"), Publisher(self)
        gateway = self.precise([publisher, other])
        for seed in (1, 2, 3):
            publisher.warm(ids(seed))
        self.wait_blocks(gateway, publisher, 3 * BLOCKS)
        here = {"endpoint": publisher.address}
        self.assertEqual(gateway.value("penstock_kv_events_gaps_total", **here), 1)
        self.assertGreaterEqual(gateway.value("penstock_kv_events_replayed_total", **here), 2)
        self.assertEqual(gateway.value("penstock_kv_events_given_up_total", **here), 0)
        wait_for("all is known again", lambda: gateway.value("penstock_kv_events_complete", **here) == 1)
        self.assertEqual(self.matches(gateway, ids(2))[publisher.address], (BLOCKS, True))

    def test_without_a_replay_a_gap_voids_what_was_known(self):
        publisher, other = Publisher(self, "--kv-events-drop", "1", replay=False), Publisher(self)
        gateway = self.precise([publisher, other])
        publisher.warm(ids(1))
        self.wait_blocks(gateway, publisher, BLOCKS)
        publisher.warm(ids(2))
        publisher.warm(ids(3))
        here = {"endpoint": publisher.address}
        wait_for("the gap is seen", lambda: gateway.value("penstock_kv_events_gaps_total", **here) == 1)
        self.wait_blocks(gateway, publisher, BLOCKS)  # those of the last prompt alone
        self.assertEqual(gateway.value("penstock_kv_events_given_up_total", **here), 1)
        self.assertEqual(gateway.value("penstock_kv_events_complete", **here), 0)
        self.assertEqual(self.matches(gateway, ids(3))[publisher.address], (BLOCKS, True))
        self.assertEqual(self.matches(gateway, ids(1))[publisher.address][0], 0)

    def test_a_cleared_cache_is_empty_at_once_for_text_too(self):
        publisher = Publisher(self)
        gateway = self.precise([publisher])
        text = "Concrete sets slowly in the middle of a dam. " * 8
        self.ask(gateway, text)
        self.ask(gateway, ids(1))
        self.assertGreater(self.matches(gateway, text)[publisher.address][0], 0)
        self.assertEqual(harness.fetch(publisher.port, "/reset_prefix_cache", "POST").status, 200)
        wait_for("it is told", lambda: gateway.value("penstock_kv_events_total", event="cleared") == 1)
        self.assertEqual(self.matches(gateway, text)[publisher.address], (0, False))
        self.assertEqual(self.matches(gateway, ids(1))[publisher.address], (0, True))

    def test_a_server_that_is_started_again_holds_nothing(self):
        for replay in (True, False):
            with self.subTest(replay=replay):
                publisher, other = Publisher(self, replay=replay), Publisher(self)
                gateway = self.precise([publisher, other])
                publisher.warm(ids(1))
                publisher.warm(ids(2))
                self.wait_blocks(gateway, publisher, 2 * BLOCKS)
                publisher.sim.kill()
                here = {"endpoint": publisher.address}
                wait_for("it is gone", lambda: gateway.value("penstock_kv_events_connected", **here) == 0)
                publisher.start()
                wait_for("it is back", lambda: gateway.value("penstock_kv_events_connected", **here) == 1)
                gateway.wait_pods(2)
                publisher.warm(ids(3))
                self.wait_blocks(gateway, publisher, BLOCKS)
                self.assertEqual(gateway.value("penstock_kv_events_restarts_total", **here), 1)
                self.assertEqual(self.matches(gateway, ids(1))[publisher.address], (0, True))
                self.assertEqual(self.ask(gateway, ids(3)).header("x-penstock-endpoint"), publisher.address)

    def test_nobody_there_or_somebody_else_hurts_nobody(self):
        publisher = Publisher(self)
        talks_http = self.sim(*SIM_FLAGS)
        config = (
            "kv_events: {enabled: true}\nendpoints:\n"
            + publisher.entry()
            + f"  - {{url: {talks_http.url}, kv_events_port: {talks_http.port}}}\n"
        )
        gateway = self.gateway(config=config)
        publisher.warm(ids(1))
        self.wait_blocks(gateway, publisher, BLOCKS)
        self.ask(gateway, ids(1))
        wait_for(
            "the other one is refused",
            lambda: any("KV events: no connection" in line and talks_http.address in line for line in gateway.err.all()),
        )


class Configuration(KvEvents):
    def check(self, parameters):
        text = PRECISE.split("    parameters:")[0] + "    parameters: " + parameters + "\n"
        path = self.file("epp.yaml", text)
        code, out, err = run_program(PENSTOCK, "check", "--epp-config", path)
        return code, out + err

    def test_each_parameter_is_obeyed_noted_or_refused(self):
        code, said = self.check("{kvEventsConfig: {topicFilter: kv@, podDiscoveryConfig: {socketPort: 5600}}}")
        self.assertEqual(code, 0, said)
        for parameters, where, why in (
            ("{kvEventsConfig: {podDiscoveryConfig: {socketPort: 70000}}}", ".socketPort: ", "65535"),
            ("{kvEventsConfig: {topicFilters: x}}", ".kvEventsConfig.topicFilters: ", "did you mean topicFilter?"),
        ):
            code, said = self.check(parameters)
            self.assertEqual(code, 1, parameters)
            self.assertIn("epp.yaml:5: plugins[0].parameters", said)
            self.assertIn(where, said)
            self.assertIn(why, said)
        for parameters, note in (
            ('{kvEventsConfig: {zmqEndpoint: "tcp://*:5557"}}', ".zmqEndpoint: has no effect: nobody connects to us"),
            ("{kvEventsConfig: {discoverPods: false}}", ".discoverPods: false has no effect: every endpoint is connected to"),
            ("{speculativeIndexing: true}", ".speculativeIndexing: true has no effect: prompts given as text are"),
            ("{indexerConfig: {kvBlockIndexConfig: {redisConfig: {}}}}", "indexerConfig: has no effect: "),
        ):
            code, said = self.check(parameters)
            self.assertEqual(code, 0, said)
            self.assertIn(note, said)
        code, said = self.check("{speculativeIndexing: false, kvEventsConfig: {discoverPods: true}}")
        self.assertEqual(code, 0, said)
        self.assertNotIn("note:", said)

    def test_the_topic_filters(self):
        ours, theirs = Publisher(self, "--kv-events-topic", "kv@a"), Publisher(self, "--kv-events-topic", "other")
        gateway = self.precise([ours, theirs], more="kv_events: {topic: kv@}\n")
        theirs.warm(ids(1))
        ours.warm(ids(2))
        self.wait_blocks(gateway, ours, BLOCKS)
        self.assertEqual(gateway.value("penstock_kv_events_batches_total", endpoint=ours.address), 1)


if __name__ == "__main__":
    harness.main()
