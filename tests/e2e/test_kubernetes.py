"""The gateway on a cluster: pods come, end, fail and come back under requests and long streams; no request fails."""

import signal
import threading
import time

import harness
from harness import completion, wait_for
from kube_case import PROMPT_S, KubernetesCase, pod_of


class Pods(KubernetesCase):
    def begin(self, count, **options):
        """A cluster of `count` pods, a gateway on it, traffic, and the eye on the gauge."""
        self.pods = self.cluster(count, **options)
        self.gate = self.penstock(self.pods.server)
        self.gate.wait_pods(count)
        self.follower = self.follower_of(self.pods, self.gate)
        self.load = self.traffic(self.gate)
        self.load.wait_more(20)
        return self.pods

    def busy_pod(self):
        return self.wait_busy_pod(self.pods, self.gate)

    def assert_no_more_for(self, name, begun):
        """Of many requests that began later none goes to this pod."""
        self.load.wait_more(40, begun)
        self.assertNotIn(name, self.load.pods_of(begun))

    def test_scaling_up_and_down(self):
        cluster = self.begin(1)
        cluster.scale(3)
        for name in cluster.wait_ready(3):
            self.load.wait_pod(name)
        cluster.scale(1)
        kept = cluster.wait_ready(1)
        self.gate.wait_pods(1)
        begun = time.monotonic() + PROMPT_S
        self.load.wait_more(60, begun)
        self.assertEqual(self.load.pods_of(begun), set(kept))
        cluster.server.wait("the others have drained", lambda: len(cluster.server.list("pods")) == 1)
        cluster.scale(3)
        cluster.wait_ready(3)
        self.load.wait_more(60)
        self.assert_nothing_failed(self.load, self.gate)
        self.assert_prompt(self.follower)

    def test_a_deleted_pod_gets_no_request_and_ends_its_streams(self):
        cluster = self.begin(3)
        for _ in range(3):
            name = self.busy_pod()
            cluster.delete_pod(name)
            begun = self.wait_left_out(self.gate, name)
            cluster.wait_note("exited", name)
            cluster.wait_ready(3)
            self.assert_no_more_for(name, begun)
        self.assert_nothing_failed(self.load, self.gate)
        self.assert_prompt(self.follower)

    def test_a_pre_stop_hook_and_a_slow_drain(self):
        cluster = self.begin(2, pre_stop_s=1.0)
        name = self.busy_pod()
        cluster.delete_pod(name)
        begun = self.wait_left_out(self.gate, name)
        self.assert_no_more_for(name, begun)
        cluster.wait_gone(name)
        self.assert_nothing_failed(self.load, self.gate)

    def test_a_forced_deletion(self):
        cluster = self.begin(3)
        for _ in range(2):
            name = self.busy_pod()
            cluster.force_delete(name)
            begun = self.wait_left_out(self.gate, name)
            cluster.wait_ready(3)
            self.assert_no_more_for(name, begun)
        self.assert_nothing_failed(self.load, self.gate)
        self.assert_prompt(self.follower)

    def test_an_eviction(self):
        cluster = self.begin(3)
        name = self.busy_pod()
        cluster.evict(name, grace_s=30)
        cluster.wait_note("evicted", name)
        begun = self.wait_left_out(self.gate, name)
        cluster.wait_ready(3)
        self.assert_no_more_for(name, begun)
        self.assert_nothing_failed(self.load, self.gate)
        self.assert_prompt(self.follower)

    def test_the_same_name_comes_back(self):
        cluster = self.begin(1)
        cluster.add_pod("vllm-0")
        cluster.wait_ready(2)
        for number in (2, 3):
            self.load.wait_pod("vllm-0")
            cluster.recreate("vllm-0")
            cluster.wait_note("ready", "vllm-0", count=number)
        self.load.wait_pod("vllm-0")
        self.assert_nothing_failed(self.load, self.gate)
        self.assert_prompt(self.follower)

    def test_another_pod_gets_the_address(self):
        cluster = self.begin(2)
        addresses = {name: cluster.address(name) for name in cluster.ready_pods()}
        cluster.scale(1)
        kept = cluster.wait_ready(1)[0]
        cluster.server.wait("the life of the other has ended", lambda: cluster.lives() == 1)
        cluster.recycle_addresses()
        cluster.scale(2)
        new = next(name for name in cluster.wait_ready(2) if name != kept)
        self.assertNotIn(new, addresses)
        self.assertEqual({cluster.address(kept), cluster.address(new)}, set(addresses.values()))
        self.load.wait_pod(new)
        self.assert_nothing_failed(self.load, self.gate)

    def test_readiness_flips(self):
        cluster = self.begin(2)
        name = self.busy_pod()
        for _ in range(2):
            cluster.set_ready(name, False)
            cluster.wait_ready(1)
            begun = self.wait_left_out(self.gate, name)
            self.assert_no_more_for(name, begun)
            cluster.set_ready(name, True)
            cluster.wait_ready(2)
            self.load.wait_pod(name)
        self.assert_nothing_failed(self.load, self.gate)
        self.assert_prompt(self.follower)

    def test_a_crash_fails_nothing_that_has_not_begun(self):
        cluster = self.begin(3)
        name = self.busy_pod()
        cluster.crash(name)
        cluster.wait_note("crashed", name)
        cluster.wait_note("ready", name, count=2)
        self.load.wait_pod(name)
        self.load.stop()
        self.assertEqual(self.load.errors, [])
        self.assert_prompt(self.follower)

    def test_all_pods_are_replaced_one_after_the_other(self):
        """A rolling restart."""
        cluster = self.begin(3)
        for name in cluster.ready_pods():
            cluster.delete_pod(name)
            cluster.wait_ready(3)
        cluster.server.wait("the old ones are gone", lambda: len(cluster.server.list("pods")) == 3)
        self.load.wait_more(60)
        self.assert_nothing_failed(self.load, self.gate)
        self.assert_prompt(self.follower)

    def test_the_only_pod_is_replaced(self):
        """While none is ready, requests go to the one that ends and still serves, or wait for the next."""
        cluster = self.begin(1, pre_stop_s=1.0)
        name = cluster.ready_pods()[0]
        cluster.delete_pod(name)
        cluster.wait_gone(name)
        self.load.wait_more(30)
        self.assert_nothing_failed(self.load, self.gate)


class Quiet(KubernetesCase):
    """Without traffic: every request here is one that the test makes."""

    def test_the_gauge_follows_within_the_promise(self):
        cluster = self.cluster(2)
        gateway = self.penstock(cluster.server)
        gateway.wait_pods(2)
        follower = self.follower_of(cluster, gateway)
        name = cluster.ready_pods()[0]
        for changes in range(1, 10):
            cluster.set_ready(name, changes % 2 == 0)
            wait_for("the change is seen and has lasted", lambda: len(follower.lags()) == changes and follower.settled())
        lags = self.assert_prompt(follower)
        self.assertGreaterEqual(len(lags), 9)
        self.assertLess(lags[len(lags) // 2], PROMPT_S, lags)

    def test_a_stream_outlives_the_deletion_of_its_pod(self):
        cluster = self.cluster(2)
        gateway = self.penstock(cluster.server)
        gateway.wait_pods(2)
        client = self.client(gateway)
        stream = {}

        def run():
            stream["answer"] = client.post("/v1/completions", completion("a long story", 400, stream=True))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        busy = self.wait_busy_pod(cluster, gateway)
        cluster.delete_pod(busy)
        gateway.wait_pods(2)
        for _ in range(10):
            answer = harness.fetch(gateway.port, "/v1/completions", "POST", completion("hello"))
            self.assertNotEqual(pod_of(answer), busy)
        thread.join(harness.PATIENCE)
        self.assertEqual((pod_of(stream["answer"]), stream["answer"].events()[-1]), (busy, "[DONE]"))

    def test_another_engine_after_a_reload(self):
        cluster = self.cluster(1)
        gateway = self.penstock(cluster.server, config="metrics: {engine: sglang}\n")
        wait_for("its metrics are not found", lambda: "endpoint has no metrics" in gateway.log())
        self.assertEqual(self.first_endpoint(gateway)["engine"], "sglang")
        with open(gateway.config_path, encoding="utf-8") as file:
            text = file.read()
        gateway.write_config(text.replace("sglang", "vllm"))
        gateway.signal(signal.SIGHUP)
        wait_for("they are", lambda: self.first_endpoint(gateway)["metrics"] is not None)

    @staticmethod
    def first_endpoint(gateway):
        return gateway.status_page()["pools"][0]["endpoints"][0]

    def test_a_pod_with_two_ports_is_two_endpoints(self):
        cluster = self.cluster(1, ports=(8000, 8001))
        gateway = self.penstock(cluster.server)
        gateway.wait_pods(2)
        name = cluster.ready_pods()[0]
        seen = set()

        def both():
            answer = harness.fetch(gateway.port, "/v1/completions", "POST", completion("hello"))
            seen.add(answer.header("x-penstock-endpoint"))
            return len(seen) == 2

        wait_for("both ranks answer", both)
        self.assertEqual(seen, {f"{name}-rank-0", f"{name}-rank-1"})
        attempts = gateway.metrics().series("inference_extension_scheduler_attempts_total", status="success")
        where = {(labels["pod_name"], labels["namespace"], labels["port"]) for labels, _ in attempts}
        self.assertEqual(where, {(f"{name}-rank-{i}", cluster.namespace, str(8000 + i)) for i in (0, 1)})
        # The pod says that only one of them is in use.
        annotations = {"metadata": {"annotations": {"llm-d.ai/active-ports": "8001"}}}
        cluster.server.patch("pods", name, annotations)
        gateway.wait_pods(1)
        answer = harness.fetch(gateway.port, "/v1/completions", "POST", completion("hello"))
        self.assertEqual(answer.header("x-penstock-endpoint"), f"{name}-rank-1")

    def test_the_pool_changes(self):
        cluster = self.cluster(2)
        gateway = self.penstock(cluster.server)
        gateway.wait_pods(2)
        labelled = cluster.ready_pods()[0]
        cluster.server.patch("pods", labelled, {"metadata": {"labels": {"tier": "fast"}}})
        selector = {"spec": {"selector": {"matchLabels": {"app": "vllm", "tier": "fast"}}}}
        cluster.server.patch("inferencepools", "gaie-sim", selector)
        gateway.wait_pods(1)
        answer = harness.fetch(gateway.port, "/v1/completions", "POST", completion("hello"))
        self.assertEqual(pod_of(answer), labelled)
        cluster.server.patch("pods", labelled, {"metadata": {"labels": {"tier": None}}})
        gateway.wait_pods(0)
        cluster.server.delete("inferencepools", "gaie-sim")
        cluster.create_pool("gaie-sim")
        gateway.wait_pods(2)

    def test_pods_without_a_pool_by_their_labels(self):
        cluster = self.cluster(2, server=self.api(crds=[]), pool=None)
        flags = ("--endpoint-selector", "app=vllm", "--endpoint-ports", str(cluster.ports[0]))
        gateway = self.penstock(cluster.server, *flags, pool=None)
        gateway.wait_pods(2)
        cluster.scale(1)
        gateway.wait_pods(1)
        self.assertEqual(harness.fetch(gateway.port, "/v1/completions", "POST", completion("hello")).status, 200)

    def test_the_status_page_follows(self):
        cluster = self.cluster(2)
        gateway = self.penstock(cluster.server)
        gateway.wait_pods(2)
        page = str(gateway.status_page())
        for name in cluster.ready_pods():
            self.assertIn(name, page)


if __name__ == "__main__":
    harness.main()
