"""The fake cluster around the fake API server: its timelines; and the server as a process of its own."""

import json
import os
import shutil
import signal
import time
import unittest
import urllib.request

import harness
from fake_cluster import FakeCluster, python_command
from harness import run_program, wait_for
from kube_client import PODS, FakeCase, pod, pool


class Cluster(FakeCase):
    def cluster(self, count, **options):
        server, client = self.both()
        cluster = FakeCluster(server, python_command, **options)
        self.addCleanup(cluster.close)
        cluster.scale(count)
        return cluster, client, cluster.wait_ready(count)

    def slice_of(self, cluster):
        """{pod: (ready, serving, terminating)} as the EndpointSlice has it."""
        obj = cluster.server.get("endpointslices", cluster.name + "-slice")
        keys = ("ready", "serving", "terminating")
        return {
            one["targetRef"]["name"]: tuple(one["conditions"][key] for key in keys)
            for one in (obj or {}).get("endpoints", [])
        }

    def wait_slice(self, cluster, expected):
        cluster.server.wait(f"the slice is {expected}", lambda: self.slice_of(cluster) == expected)

    def story(self, watch, name):
        """What a watch tells of a pod, up to its end: (type, marked, ready, has an address)."""
        found = []
        while True:
            kind, obj = watch.next()
            if obj["metadata"]["name"] != name:
                continue
            ready = any(
                one["type"] == "Ready" and one["status"] == "True" for one in obj["status"].get("conditions") or []
            )
            found.append((kind, "deletionTimestamp" in obj["metadata"], ready, bool(obj["status"].get("podIP"))))
            if kind == "DELETED":
                return found

    def ask(self, cluster, name):
        with urllib.request.urlopen(
            f"http://{cluster.address(name)}:{cluster.ports[0]}/", timeout=harness.PATIENCE
        ) as answer:
            return answer.read().decode()

    def test_pods_are_processes_on_addresses_of_their_own(self):
        cluster, _, names = self.cluster(3)
        self.assertEqual(len({cluster.address(name) for name in names}), 3)
        for name in names:
            self.assertEqual(self.ask(cluster, name), name)
        self.wait_slice(cluster, {name: (True, True, False) for name in names})

    def test_scaling_down_and_up(self):
        cluster, client, names = self.cluster(2)
        scale = "/apis/apps/v1/namespaces/default/deployments/vllm/scale"
        client.merge(scale, {"spec": {"replicas": 1}})
        cluster.wait_gone(names[1])  # the younger one
        self.assertEqual(cluster.wait_ready(1), names[:1])
        client.merge(scale, {"spec": {"replicas": 3}})
        cluster.wait_ready(3)
        cluster.scale(0)
        cluster.server.wait("no pods", lambda: not cluster.server.list("pods"))

    def test_the_timeline_of_a_deletion(self):
        cluster, client, names = self.cluster(2, teardown_s=0.2)
        watch = client.watch(PODS, cluster.server.store.rv)
        begun = time.monotonic()
        client.delete(f"{PODS}/{names[0]}")
        self.wait_slice(
            cluster, {names[0]: (False, True, True), names[1]: (True, True, False)} | self.extra(cluster, names)
        )
        self.assertGreater(cluster.wait_note("sigterm", names[0]) - begun, 0.015)
        told = self.story(watch, names[0])
        self.assertEqual(
            told,
            [
                ("MODIFIED", True, True, True),  # marked, and still ready
                ("MODIFIED", True, False, True),  # ended, and still with its address
                ("DELETED", True, False, True),
            ],
        )
        self.assertNotIn(names[0], cluster.wait_ready(2))

    def extra(self, cluster, names):
        """The replacement in the slice, whatever its state now."""
        return {name: state for name, state in self.slice_of(cluster).items() if name not in names}

    def test_a_pre_stop_hook_delays_the_signal(self):
        cluster, _, names = self.cluster(1)
        begun = time.monotonic()
        cluster.delete_pod(names[0], pre_stop_s=0.4)
        self.assertGreaterEqual(cluster.wait_note("sigterm", names[0]) - begun, 0.4)
        cluster.wait_gone(names[0])

    def test_a_process_that_does_not_end_is_killed_after_its_grace(self):
        cluster, _, names = self.cluster(1)
        process = cluster.process(names[0])
        process.signal(signal.SIGSTOP)
        cluster.delete_pod(names[0], grace=1)
        cluster.wait_gone(names[0])
        self.assertEqual(process.popen.returncode, -signal.SIGKILL)

    def test_a_forced_deletion_comes_before_the_end_of_the_process(self):
        cluster, client, names = self.cluster(1, sigterm_after_s=0.3)
        watch = client.watch(PODS, cluster.server.store.rv)
        process = cluster.process(names[0])
        cluster.force_delete(names[0])
        self.assertEqual(self.story(watch, names[0]), [("DELETED", False, True, True)])
        self.assertTrue(process.alive())
        self.assertEqual(process.wait(), 0)

    def test_an_evicted_pod_fails_and_loses_its_address(self):
        cluster, _, names = self.cluster(1)
        process = cluster.process(names[0])
        cluster.evict(names[0])
        cluster.wait_note("evicted", names[0])
        self.assertNotEqual(cluster.wait_ready(1), names)
        left = cluster.server.get("pods", names[0])
        self.assertEqual((left["status"]["phase"], left["status"].get("podIP")), ("Failed", None))
        self.assertNotIn("deletionTimestamp", left["metadata"])
        process.wait()

    def test_the_same_name_comes_back_with_another_uid(self):
        cluster, _, _ = self.cluster(0)
        cluster.add_pod("vllm-0")
        cluster.wait_ready(1)
        old = cluster.recreate("vllm-0")
        cluster.wait_note("ready", "vllm-0", count=2)
        self.assertNotEqual(cluster.server.get("pods", "vllm-0")["metadata"]["uid"], old)
        self.assertEqual(self.ask(cluster, "vllm-0"), "vllm-0")

    def test_an_address_can_come_back_with_another_pod(self):
        cluster, _, names = self.cluster(1)
        address = cluster.address(names[0])
        cluster.scale(0)
        cluster.wait_gone(names[0])
        cluster.server.wait("its life has ended", lambda: not cluster.lives())
        cluster.recycle_addresses()
        cluster.scale(1)
        self.assertEqual(cluster.address(cluster.wait_ready(1)[0]), address)

    def test_readiness_flips_without_the_process_knowing(self):
        cluster, _, names = self.cluster(1)
        cluster.set_ready(names[0], False)
        cluster.wait_ready(0)
        self.wait_slice(cluster, {names[0]: (False, False, False)})
        self.assertEqual(self.ask(cluster, names[0]), names[0])
        cluster.set_ready(names[0], True)
        cluster.wait_ready(1)

    def test_a_crashed_container_starts_again_in_its_pod(self):
        cluster, _, names = self.cluster(1, restart_s=0.05)
        uid, pid = cluster.server.get("pods", names[0])["metadata"]["uid"], cluster.process(names[0]).pid
        cluster.crash(names[0])
        cluster.wait_note("ready", names[0], count=2)
        self.assertEqual(cluster.server.get("pods", names[0])["metadata"]["uid"], uid)
        self.assertNotEqual(cluster.process(names[0]).pid, pid)

    def test_several_ports_are_several_processes(self):
        cluster, _, names = self.cluster(1, ports=(8000, 8001))
        self.assertNotEqual(cluster.process(names[0], 0).pid, cluster.process(names[0], 1).pid)
        spec = cluster.server.get("inferencepools", "gaie-sim")["spec"]
        self.assertEqual(spec["targetPorts"], [{"number": 8000}, {"number": 8001}])

    def test_a_program_that_does_not_start_is_not_waited_for(self):
        server, _ = self.both()
        cluster = FakeCluster(server, lambda *_: ["false"])
        self.addCleanup(cluster.close)
        cluster.scale(1)
        with self.assertRaisesRegex(AssertionError, "the process of pod"):
            cluster.wait_ready(1)


class OtherProcesses(FakeCase):
    def test_faults_over_http(self):
        server = self.server(tokens=["secret"])
        client, driver = self.client(server, token="secret"), self.client(server)
        self.assertEqual(driver.post("/_fake/faults/fail", {"resource": "pods", "status": 500, "count": 1}).status, 200)
        self.assertEqual([client.get(PODS).status for _ in range(2)], [500, 200])
        self.assertEqual(driver.post("/_fake/server/set", {"null_items": True}).status, 200)
        self.assertIsNone(client.get(PODS).body["items"])
        seen = driver.get("/_fake/requests").body
        self.assertEqual(
            [(one["verb"], one["resource"], one["status"]) for one in seen[:2]],
            [("list", "pods", 500), ("list", "pods", 200)],
        )
        self.assertEqual(driver.get("/_fake/state").body["objects"]["pods"], 0)
        for path in ("/_fake/faults/nonsense", "/_fake/server/close"):
            self.assertEqual(driver.post(path, {}).status, 400)

    def test_a_restart_over_http(self):
        server, client = self.both()
        before = server.store.rv
        server.create(pod("a"))
        client.post("/_fake/server/restart", {"down_s": 0.05})
        server.wait("it is up again", lambda: server.started_rv > before)
        wait_for("it answers", lambda: self.answers(client))
        self.assertEqual([event["type"] for event in client.watch(PODS, before).until_end()], ["ERROR"])

    @staticmethod
    def answers(client):
        try:
            return client.get(PODS).status == 200
        except OSError:
            return False

    @unittest.skipUnless(shutil.which("kubectl"), "kubectl is not installed")
    def test_kubectl_against_a_server_of_its_own(self):
        directory = self.directory()
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake_apiserver.py")
        with open(os.path.join(directory, "pool.json"), "w", encoding="utf-8") as file:
            json.dump(pool(), file)
        config = os.path.join(directory, "kubeconfig")
        command = ["python3", script, "--tls", os.path.join(directory, "tls"), "--token", "secret"]
        process = harness.Process([*command, "--manifests", directory, "--kubeconfig", config])
        self.addCleanup(process.kill)
        self.assertIsNotNone(process.out.wait("^kubeconfig "), process.err.all())

        def kubectl(*words):
            code, out, err = run_program("kubectl", "--kubeconfig", config, "--request-timeout=10s", *words)
            self.assertEqual(code, 0, err)
            return out

        self.assertIn("inferencepool.inference.networking.k8s.io/p", kubectl("get", "infpool", "-o", "name"))
        path = os.path.join(directory, "pod.json.txt")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(pod("a", {"app": "vllm"}), file)
        self.assertIn("created", kubectl("apply", "--validate=false", "-f", path))
        self.assertIn(
            "serverside-applied", kubectl("apply", "--server-side", "--force-conflicts", "--validate=false", "-f", path)
        )
        self.assertIn("labeled", kubectl("label", "pod", "a", "x=y"))
        self.assertEqual(kubectl("get", "pods", "-l", "x=y", "-o", "jsonpath={.items[*].metadata.name}"), "a")
        self.assertIn("deleted", kubectl("delete", "pod", "a"))
        process.signal(2)
        self.assertEqual(process.wait(), 0)

    def directory(self):
        return harness.E2E.directory(self)

    _later = harness.E2E._later  # pylint: disable=protected-access


if __name__ == "__main__":
    harness.main()
