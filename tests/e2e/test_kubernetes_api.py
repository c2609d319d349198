"""The gateway and the API server: outages, broken watches, credentials, permissions; what its objects make it do."""

import os
import re
import time

import harness
from harness import completion, fetch, wait_for
from kube_case import POOL, PROMPT_S, KubernetesCase, pod_of
from kube_client import KubeClient

LLMD, LEGACY = "llm-d.ai/v1alpha2", "inference.networking.x-k8s.io/v1alpha2"
# What docs and charts ask for; nothing else may be needed.
READ = ["get", "list", "watch"]
WRITE = ["get", "patch", "update"]
GRANTS = [
    *[(one, READ, None) for one in ("pods", "services", "endpointslices", "inferencepools")],
    *[(one, READ, None) for one in ("inferencemodelrewrites", "inferenceobjectives")],
]
STATUS_GRANTS = [
    ("inferencepools/status", WRITE, None),
    ("inferencemodelrewrites/status", WRITE, None),
    ("inferenceobjectives/status", WRITE, None),
    ("events", ["create", "patch"], None),
]


def rewrite(name, model, *targets, api=LLMD, pool=POOL):
    rule = {"targets": [{"modelRewrite": one} for one in targets]}
    if model:
        rule["matches"] = [{"model": {"value": model}}]
    spec = {"poolRef": {"name": pool}, "rules": [rule]}
    return {"apiVersion": api, "kind": "InferenceModelRewrite", "metadata": {"name": name}, "spec": spec}


class Outages(KubernetesCase):
    def begin(self, count=3, **options):
        self.pods = self.cluster(count, server=self.api(**options))
        self.server = self.pods.server
        self.gate = self.penstock(self.server)
        self.gate.wait_pods(count)
        self.load = self.traffic(self.gate)
        self.load.wait_more(20)

    def scale(self, count):
        """The gateway has seen so many ready pods."""
        self.pods.scale(count)
        self.pods.wait_ready(count)
        self.gate.wait_pods(count)

    def converged(self):
        """The gateway has the pods that there are, and uses every one of them."""
        names = self.pods.ready_pods()
        self.gate.wait_pods(len(names))
        for name in names:
            self.load.wait_pod(name)

    def test_a_restart(self):
        self.begin()
        for how in ("close", "rst"):
            self.server.restart(how=how)
            self.scale(2)
            self.pods.scale(3)
            self.pods.wait_ready(3)
            self.converged()
        self.assert_nothing_failed(self.load, self.gate)

    def test_a_server_that_has_not_read_its_roles_yet(self):
        """One that has just started refuses everybody for a moment: nobody waits half a minute for that."""
        self.begin()
        self.server.stop()
        self.server.faults.fail("pods", 403, count=2)
        self.server.serve()
        self.server.wait_seen(status=403)
        self.scale(2)
        self.assert_nothing_failed(self.load, self.gate)

    def test_what_happened_while_it_was_down(self):
        self.begin()
        self.server.stop()
        gone = self.pods.ready_pods()[0]
        self.pods.delete_pod(gone)
        self.pods.wait_gone(gone)
        self.pods.wait_ready(3)
        self.load.wait_more(60)  # the dead one refuses: another answers
        self.server.forget()
        self.server.serve()
        self.converged()
        begun = time.monotonic() + PROMPT_S
        self.load.wait_more(30, begun)
        self.assertNotIn(gone, self.load.pods_of(begun))
        self.assert_nothing_failed(self.load, self.gate)

    def test_a_restored_backup(self):
        """Versions went backwards, so that nothing looks new: the full list that follows an outage tells."""
        self.begin()
        self.server.stop()
        self.pods.scale(1)
        wait_for(
            "the gateway has missed it",
            lambda: self.gate.metrics().sum("penstock_kube_watch_restarts_total", reason="connect") > 0,
        )
        self.server.restart(rv=self.server.store.rv - 20)
        self.pods.wait_ready(1)
        self.gate.wait_pods(1)
        self.pods.scale(2)
        self.pods.wait_ready(2)
        self.gate.wait_pods(2, 100)
        self.converged()
        self.assert_nothing_failed(self.load, self.gate)

    def test_after_an_outage_nobody_waits_long_for_the_others(self):
        """Pauses have grown to 6 s and more, each watch has its own; the first that gets through calls the others."""
        self.begin()
        known = set(self.errors_of_watches())
        self.server.stop()

        def fewest_failures():
            series = self.gate.metrics().series("penstock_kube_watch_restarts_total", reason="connect")
            return min(value for labels, value in series if labels["resource"] in known)

        wait_for("pauses are long", lambda: fewest_failures() >= 4, 60)
        self.server.serve()
        wait_for("one is back", lambda: "" in self.errors_of_watches().values(), 60)
        begun = time.monotonic()
        wait_for("all are back", lambda: not any(self.errors_of_watches().values()), 60)
        self.assertLess(time.monotonic() - begun, 4)
        self.assert_nothing_failed(self.load, self.gate)

    def errors_of_watches(self):
        """The last error of each watch of what is installed; "" while all is well."""
        watches = self.gate.status_page()["kubernetes"]["watches"]
        return {one["resource"]: one["last_error"] for one in watches if one["state"] != "absent"}

    def test_partitions(self):
        self.begin()
        for how in ("refuse", "drop", "blackhole"):
            self.server.partition(how)
            self.load.wait_more(60)  # with what was known last
            self.assertEqual(self.gate.admin("/healthz").status, 200)
            self.assertEqual(self.gate.admin("/readyz").status, 200)
            self.server.heal(reset=True)
            self.scale(2)
            self.pods.scale(3)
            self.pods.wait_ready(3)
            self.converged()
        self.assert_nothing_failed(self.load, self.gate)

    def test_watches_that_break(self):
        self.begin(bookmark_period_s=0.2)
        self.server.faults.duplicate_added("*")
        for how in ("eof", "close", "rst", "rst-mid-line"):
            self.server.faults.cut("*", how)
            self.scale(2)
            self.scale(3)
        self.server.faults.drip("*", size=11, interval=0.0005)
        self.server.faults.inject("pods", {"type": "SURPRISE", "object": {"metadata": {"name": "x"}}})
        self.server.faults.inject("pods", '{"type":"MODIFIED","object":{"metadata":[1,2]}}')
        self.scale(1)
        self.assert_nothing_failed(self.load, self.gate)

    def test_a_deletion_that_no_watch_tells_of(self):
        self.begin()
        self.server.faults.cut("pods", "rst")
        self.server.faults.lose_deletes("pods")
        gone = self.pods.ready_pods()[0]
        self.pods.force_delete(gone)
        self.pods.wait_ready(3)
        self.server.faults.lose_deletes("pods", False)
        self.server.restart()  # every version is too old now: the next list tells
        self.converged()
        self.assert_nothing_failed(self.load, self.gate)

    def test_servers_of_many_kinds(self):
        """Old ones without streamed lists or bookmarks, answers in pages, limits, versions that are too new."""
        refusals = ("invalid", "ignore", "error")
        for settings in (*({"initial_events": how} for how in refusals), {"bookmark_period_s": None}):
            cluster = self.cluster(2, server=self.api(**settings))
            cluster.server.faults.fail("pods", 429, count=1, retry_after=0)
            cluster.server.faults.fail("inferencepools", 503, count=2)
            gateway = self.penstock(cluster.server)
            gateway.wait_pods(2)
            cluster.scale(1)
            gateway.wait_pods(1)

    def test_the_history_is_short(self):
        self.begin(history=1)
        self.server.faults.cut("*", "rst")
        for _ in range(5):  # more events than the history has, before the watch comes back
            self.server.patch(
                "pods", self.pods.ready_pods()[0], {"metadata": {"labels": {"turn": str(time.time_ns())}}}
            )
        self.scale(2)
        self.server.faults.http_410("*")
        self.server.faults.cut("*", "eof")
        self.pods.scale(3)
        self.pods.wait_ready(3)
        self.converged()
        self.assert_nothing_failed(self.load, self.gate)


class Access(KubernetesCase):
    def test_tls_and_a_token_that_is_rotated(self):
        server = self.api(tls=True, tokens=["first"])
        cluster = self.cluster(1, server=server)
        token = os.path.join(self.directory(), "token")
        self.write(token, "first")
        path = server.kubeconfig(token_file=token)
        gateway = self.penstock(server, access=["--kubeconfig", path])
        gateway.wait_pods(1)
        server.rotate_token("second")
        self.write(token + ".new", "second")
        os.rename(token + ".new", token)
        server.faults.cut("*", "rst")
        cluster.scale(2)
        gateway.wait_pods(2)
        # Answers are noted when they begin: those to the first token may still be among the last.
        server.wait_seen(resource="pods", status=200, token="second")
        server.wait_seen(resource="inferencepools", status=200, token="second")

    @staticmethod
    def write(path, text):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def test_a_client_certificate(self):
        server = self.api(tls=True, tokens=["nobody has it"])
        cluster = self.cluster(1, server=server)
        path = server.kubeconfig(client=server.certificates.client_files(), inline=True)
        gateway = self.penstock(server, access=["--kubeconfig", path])
        gateway.wait_pods(1)
        cluster.scale(2)
        gateway.wait_pods(2)

    def test_an_api_server_that_is_not_who_it_should_be(self):
        for certificate in ("wrong-san", "expired", "other-ca"):
            server = self.api(tls=True)
            self.cluster(1, server=server)
            server.present(certificate)
            path = server.kubeconfig()
            gateway = self.penstock(server, access=["--kubeconfig", path], ready=False)
            self.assertIsNotNone(gateway.err.wait("(?i)certificate"))
            self.assertNotEqual(gateway.admin("/readyz").status, 200)
            self.assertEqual(server.seen(), [])
            server.present("good")
            gateway.wait_ready()
            gateway.wait_pods(1)

    def test_permissions_that_the_charts_ask_for_are_enough(self):
        cluster = self.cluster(1)
        cluster.server.faults.grant_only(GRANTS + STATUS_GRANTS)
        cluster.server.create(rewrite("alias", "chat", "sim-model"))
        gateway = self.penstock(cluster.server, "--gateway-api=false")
        gateway.wait_pods(1)
        self.wait_accepted(cluster.server)
        self.assertEqual([one.path for one in cluster.server.seen(status=403)], [])

    def test_without_permission_to_write_it_serves_and_warns_once(self):
        cluster = self.cluster(1)
        cluster.server.faults.grant_only(GRANTS)
        gateway = self.penstock(cluster.server, "--gateway-api=false")
        gateway.wait_pods(1)
        cluster.server.wait_seen(status=403)
        self.assertEqual(fetch(gateway.port, "/v1/completions", "POST", completion("hello")).status, 200)
        cluster.scale(2)
        gateway.wait_pods(2)
        warnings = [
            line for line in gateway.err.all() if "inferencepools" in line and "403" in line or "forbidden" in line
        ]
        self.assertLessEqual(len(warnings), 1, warnings)

    def test_without_permission_to_read_it_says_so_and_comes_when_it_may(self):
        cluster = self.cluster(1)
        cluster.server.faults.forbid("inferenceobjectives")
        gateway = self.penstock(cluster.server)
        gateway.wait_pods(1)  # what is optional holds nothing up
        self.assertIsNotNone(gateway.err.wait("inferenceobjectives"))

    def wait_accepted(self, server):
        def accepted():
            parents = ((server.get("inferencepools", POOL).get("status") or {}).get("parents")) or []
            return {(one["type"], one["status"]) for parent in parents for one in parent.get("conditions") or []}

        server.wait("the pool is accepted", lambda: ("Accepted", "True") in accepted())


class Scale(KubernetesCase):
    COUNT, TURNS, CPU_MAX_S = 1000, 200, 3.0

    def pod(self, number):
        meta = {"name": f"vllm-{number}", "labels": {"app": "vllm"}}
        address = f"127.19.{number // 250}.{number % 250 + 1}"
        status = {"phase": "Running", "podIP": address, "conditions": [{"type": "Ready", "status": "True"}]}
        spec = {"containers": [{"name": "vllm", "image": "vllm"}]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status}

    def test_a_thousand_pods(self):
        """What an event costs must not grow with their number squared: the bound is some twenty times what is needed.
        One sim is all of them: it listens on every address of the loopback network."""
        sim, server = self.sim("--host", "0.0.0.0", "--instant", "--keep-alive-s", "60"), self.api()
        for number in range(self.COUNT):
            server.create(self.pod(number))
        spec = {"selector": {"matchLabels": {"app": "vllm"}}, "targetPorts": [{"number": sim.port}]}
        meta, api = {"name": POOL}, "inference.networking.k8s.io/v1"
        server.create({"apiVersion": api, "kind": "InferencePool", "metadata": meta, "spec": spec})
        gateway = self.penstock(server)
        gateway.wait_pods(self.COUNT)
        before, seen = self.cpu_s(gateway), self.events(gateway)
        for number in range(self.TURNS):
            server.delete("pods", f"vllm-{number}", grace=0)
            server.create(self.pod(number))
        wait_for("all events are there", lambda: self.events(gateway) >= seen + 2 * self.TURNS)
        gateway.wait_pods(self.COUNT)
        self.assertLess(self.cpu_s(gateway) - before, self.CPU_MAX_S)
        for _ in range(20):
            self.assertEqual(fetch(gateway.port, "/v1/completions", "POST", completion("hello")).status, 200)

    @staticmethod
    def events(gateway):
        return gateway.value("penstock_kube_watch_events_total", resource="pods in default with app=vllm")

    @staticmethod
    def cpu_s(gateway):
        with open(f"/proc/{gateway.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Objects(KubernetesCase):
    def begin(self, *objects, crds=None, models=("base-model", "other-model")):
        flags = [word for model in models for word in ("--model", model)]
        cluster = self.cluster(1, server=self.api(crds=crds), sim=("--instant", *flags))
        for obj in objects:
            cluster.server.create(obj)
        gateway = self.penstock(cluster.server)
        gateway.wait_pods(1)
        return cluster.server, gateway

    def ask(self, gateway, model, stream=False):
        return fetch(gateway.port, "/v1/completions", "POST", completion("hello", model=model, stream=stream))

    def wait_model(self, gateway, model, status=200):
        """Until requests for the model are answered so."""
        return wait_for(f"{model}: {status}", lambda: (a := self.ask(gateway, model)).status == status and a)

    def decisions(self, gateway, **labels):
        return gateway.value("inference_extension_model_rewrite_decisions_total", **labels)

    def test_an_alias(self):
        for api in (LLMD, LEGACY):
            # Where the newer group is installed, the legacy one does not count.
            group = api.split("/")[0]
            crds = ["inferencepools.inference.networking.k8s.io", f"inferencemodelrewrites.{group}"]
            server, gateway = self.begin(rewrite("alias", "chat", "base-model", api=api), crds=crds)
            answer = self.wait_model(gateway, "chat")
            self.assertEqual(answer.json()["model"], "chat")
            streamed = self.ask(gateway, "chat", stream=True)
            names = {harness.json.loads(event)["model"] for event in streamed.events() if event != "[DONE]"}
            self.assertEqual(names, {"chat"})
            listed = {one["id"]: one for one in fetch(gateway.port, "/v1/models").json()["data"]}
            self.assertEqual(listed["chat"]["root"], "chat")  # and not what stands behind it
            self.assertIsNone(listed["chat"]["max_model_len"])
            taken = self.decisions(gateway, model_rewrite_name="alias", model_name="chat", target_model="base-model")
            self.assertGreaterEqual(taken, 2)
            self.assertEqual(server.seen(verb="list", resource="inferencemodelrewrites", status=422), [])

    def test_an_alias_changes_and_goes(self):
        server, gateway = self.begin(rewrite("alias", "chat", "base-model"))
        self.wait_model(gateway, "chat")
        rules = [{"matches": [{"model": {"value": "talk"}}], "targets": [{"modelRewrite": "other-model"}]}]
        server.patch("inferencemodelrewrites.llm-d.ai", "alias", {"spec": {"rules": rules}})
        self.wait_model(gateway, "talk")
        self.assertEqual(self.wait_model(gateway, "chat", 404).json()["error"]["type"], "NotFoundError")
        server.delete("inferencemodelrewrites.llm-d.ai", "alias")
        self.wait_model(gateway, "talk", 404)

    def test_an_exact_match_beats_a_generic_one_and_the_older_the_younger(self):
        _, gateway = self.begin(
            rewrite("a-generic", None, "other-model"),
            rewrite("b-exact", "chat", "base-model"),
            rewrite("c-exact", "chat", "other-model"),
        )
        self.wait_model(gateway, "chat")
        self.wait_model(gateway, "anything")
        self.assertGreater(self.decisions(gateway, model_rewrite_name="b-exact"), 0)
        self.assertGreater(self.decisions(gateway, model_rewrite_name="a-generic", model_name="other"), 0)
        self.assertEqual(self.decisions(gateway, model_rewrite_name="c-exact"), 0)

    def test_the_new_group_wins_where_both_are_installed(self):
        _, gateway = self.begin(rewrite("old", "chat", "other-model", api=LEGACY), rewrite("new", "chat", "base-model"))
        self.wait_model(gateway, "chat")
        self.assertGreater(self.decisions(gateway, model_rewrite_name="new"), 0)
        self.assertEqual(self.decisions(gateway, model_rewrite_name="old"), 0)

    def test_crds_that_come_later(self):
        """Pool and rewrites are discovered while the gateway runs; it is ready when it has its pool."""
        server = self.api(crds=[])
        cluster = self.cluster(1, server=server, pool=None, sim=("--instant", "--model", "base-model"))
        gateway = self.penstock(server, ready=False)
        server.wait_seen(status=404)
        self.assertNotEqual(gateway.admin("/readyz").status, 200)
        server.install_crd("inferencepools.inference.networking.k8s.io")
        server.install_crd("inferencemodelrewrites.llm-d.ai")
        cluster.create_pool(POOL)
        server.create(rewrite("alias", "chat", "base-model"))
        wait_for("it is ready", lambda: gateway.admin("/readyz").status == 200, 60)
        gateway.wait_pods(1)
        self.wait_model(gateway, "chat")

    def test_the_metrics_that_the_page_about_monitoring_names_exist(self):
        _, gateway = self.begin()
        with open(os.path.join(os.path.dirname(__file__), "..", "..", "docs", "MONITORING.md"), encoding="utf-8") as file:
            names = set(re.findall(r"`(penstock_kube_\w+)", file.read()))
        self.assertGreater(len(names), 5)
        self.assertEqual(names - set(gateway.metrics().types), set())

    def test_status_is_written(self):
        server, gateway = self.begin(rewrite("alias", "chat", "base-model"), crds=None)
        objective = {"apiVersion": LLMD, "kind": "InferenceObjective", "metadata": {"name": "urgent"}}
        server.create({**objective, "spec": {"poolRef": {"name": POOL}, "priority": 10}})

        def parents():
            status = server.get("inferencepools", POOL).get("status") or {}
            return [one for one in status.get("parents") or [] if one.get("controllerName") == "penstock.dev/gateway"]

        parent = server.wait("the pool has a parent", parents)[0]
        conditions = {one["type"]: one for one in parent["conditions"]}
        self.assertEqual(
            {name: one["status"] for name, one in conditions.items()}, {"Accepted": "True", "ResolvedRefs": "True"}
        )
        self.assertEqual(conditions["Accepted"]["observedGeneration"], 1)
        for resource, name in (
            ("inferencemodelrewrites.llm-d.ai", "alias"),
            ("inferenceobjectives.llm-d.ai", "urgent"),
        ):
            server.wait(f"{name} is accepted", lambda r=resource, n=name: self.accepted(server, r, n))
        writes = [one for one in server.seen(verb="patch") if one.resource.split("/")[-1].startswith("status")]
        self.assertTrue(writes)
        self.assertEqual({one.query.get("fieldManager") for one in writes}, {"penstock"})
        self.assertEqual([one for one in server.seen(verb="patch") if one.status not in (200, 201)], [])
        before = len(server.seen(verb="patch"))
        self.wait_model(gateway, "chat")
        self.assertEqual(len(server.seen(verb="patch")), before)  # nothing changed: nothing is written

    @staticmethod
    def accepted(server, resource, name):
        conditions = (server.get(resource, name).get("status") or {}).get("conditions") or []
        return any(one["type"] == "Accepted" and one["status"] == "True" for one in conditions)

    def test_the_parents_of_others_stay(self):
        server, _ = self.begin()
        other = {"parentRef": {"name": "envoy"}, "controllerName": "example.com/envoy", "conditions": []}
        time_of = {"lastTransitionTime": "2026-01-01T00:00:00Z"}
        other["conditions"] = [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", **time_of}]

        def controllers():
            status = server.get("inferencepools", POOL).get("status") or {}
            return {one.get("controllerName") for one in status.get("parents") or []}

        server.wait("ours is there", lambda: "penstock.dev/gateway" in controllers())
        client = KubeClient(server)
        path = f"/apis/inference.networking.k8s.io/v1/namespaces/default/inferencepools/{POOL}/status"
        parents = server.get("inferencepools", POOL)["status"]["parents"]
        self.assertEqual(client.merge(path, {"status": {"parents": [*parents, other]}}).status, 200)
        server.patch("inferencepools", POOL, {"spec": {"appProtocol": "http"}})  # ours has a new generation to tell of
        server.wait("ours follows", lambda: self.generation(server) == 2)
        self.assertEqual(controllers(), {"penstock.dev/gateway", "example.com/envoy"})

    @staticmethod
    def generation(server):
        for parent in server.get("inferencepools", POOL)["status"]["parents"]:
            if parent.get("controllerName") == "penstock.dev/gateway":
                return parent["conditions"][0].get("observedGeneration")
        return None

    def test_nothing_is_written_when_that_is_turned_off(self):
        cluster = self.cluster(1)
        gateway = self.penstock(cluster.server, "--kube-write=false")
        gateway.wait_pods(1)
        cluster.scale(2)
        gateway.wait_pods(2)
        written = [one for one in cluster.server.seen() if one.method != "GET"]
        self.assertEqual(written, [])

    REF = {"group": "inference.networking.k8s.io", "kind": "InferencePool"}

    @staticmethod
    def create_routes(server, *rules):
        """A Gateway of ours, and an HTTPRoute of these rules."""

        def create(kind, name, spec):
            meta = {"name": name}
            server.create({"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": meta, "spec": spec})

        create("GatewayClass", "penstock", {"controllerName": "penstock.dev/gateway"})
        listener = {"name": "http", "port": 80, "protocol": "HTTP"}
        create("Gateway", "gw", {"gatewayClassName": "penstock", "listeners": [listener]})
        create("HTTPRoute", "r", {"parentRefs": [{"name": "gw"}], "rules": list(rules)})

    def test_a_rule_that_cannot_be_obeyed_is_reported_everywhere(self):
        server = self.api()
        self.cluster(1, server=server, sim=("--instant", "--model", "m"))
        backend = {"backendRefs": [{**self.REF, "name": POOL}]}
        path = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v1"}
        mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "m", "port": 80}}}
        self.create_routes(
            server,
            {"matches": [{"path": {"value": "/team"}}], "filters": [{"type": "URLRewrite", "urlRewrite": {"path": path}}], **backend},
            {"matches": [{"path": {"value": "/mirror"}}], "filters": [mirror], **backend},
        )
        gateway = self.penstock(server)
        gateway.wait_pods(1)
        body = completion("hello", model="m")
        # From the first request on: no 404 before the route is known.
        self.assertEqual(fetch(gateway.port, "/team/completions", "POST", body).status, 200)
        self.assertEqual(fetch(gateway.port, "/mirror", "POST", body).status, 500)
        problems = [one for one in gateway.status_page()["problems"] if one["kind"] == "HTTPRoute"]
        self.assertEqual([(one["name"], one["reason"]) for one in problems], [("r", "UnsupportedValue")])
        self.assertEqual(gateway.value("penstock_object_problems", kind="HTTPRoute", name="r"), 1)
        parents = lambda: (server.get("httproutes", "r").get("status") or {}).get("parents")  # noqa: E731
        conditions = server.wait("the route has a status", parents)[0]["conditions"]
        found = {one["type"]: (one["status"], one["reason"]) for one in conditions}
        self.assertEqual(found["PartiallyInvalid"], ("True", "UnsupportedValue"))

    def test_routes_decide_the_pool(self):
        server, second = self.api(), None
        self.cluster(1, server=server, sim=("--instant", "--model", "m"))
        second = self.cluster(1, server=server, name="other", pool="other", sim=("--instant", "--model", "m"))
        self.create_routes(
            server,
            {
                "matches": [{"headers": [{"name": "x-pool", "value": "other"}]}],
                "backendRefs": [{**self.REF, "name": "other"}],
            },
            {"backendRefs": [{**self.REF, "name": POOL}]},
        )
        gateway = self.penstock(server, pool=None)
        wait_for("two pods in two pools", lambda: gateway.metrics().sum("inference_pool_ready_pods") == 2)

        def ask(*headers):
            return fetch(gateway.port, "/v1/completions", "POST", completion("hello", model="m"), headers)

        wait_for("the route is used", lambda: pod_of(ask(("x-pool", "other"))) == second.ready_pods()[0])
        self.assertNotEqual(pod_of(ask()), second.ready_pods()[0])
        route = lambda: (server.get("httproutes", "r").get("status") or {}).get("parents")  # noqa: E731
        parent = server.wait("the route has a status", route)[0]
        self.assertEqual(
            {one["type"]: one["status"] for one in parent["conditions"]}, {"Accepted": "True", "ResolvedRefs": "True"}
        )


if __name__ == "__main__":
    harness.main()
