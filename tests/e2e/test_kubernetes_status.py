"""What the gateway writes to the statuses of objects, where more than one gateway does."""

import copy
import signal

import harness
import test_kubernetes_api as api
from harness import completion, fetch, wait_for
from kube_case import POOL, KubernetesCase
from kube_client import POOLS, KubeClient
from kubefake import schemas


class TwoGateways(KubernetesCase):
    """Several that write the statuses of the same objects."""

    TURNS = 20

    def parents(self, server):
        status = server.get("inferencepools", POOL).get("status") or {}
        return [(one["parentRef"].get("kind"), one["parentRef"]["name"]) for one in status.get("parents") or []]

    def writes_when_touched(self, server, *gateways):
        """How many statuses are written while the pool changes often, in nothing that matters."""

        def events(gateway):
            return gateway.value("penstock_kube_watch_events_total", resource="inferencepools.inference.networking.k8s.io in default")

        before, seen = len(server.seen(verb="patch")), {gateway: events(gateway) for gateway in gateways}
        for turn in range(self.TURNS):
            server.patch("inferencepools", POOL, {"metadata": {"labels": {"turn": str(turn)}}})
            for gateway in gateways:
                wait_for("it has seen that", lambda g=gateway, t=turn: events(g) > seen[g] + t)
        return len(server.seen(verb="patch")) - before

    def test_releases_with_services_of_their_own_leave_each_other_alone(self):
        server = self.cluster(1).server
        blue = self.penstock(server, config="kubernetes: {own_service: blue}\n")
        green = self.penstock(server, config="kubernetes: {own_service: green}\n")
        server.wait("both are parents", lambda: sorted(self.parents(server)) == [("Service", "blue"), ("Service", "green")])
        server.patch("inferencepools", POOL, {"spec": {"appProtocol": "http"}})

        def generations():
            parents = server.get("inferencepools", POOL)["status"]["parents"]
            return {one["observedGeneration"] for parent in parents for one in parent["conditions"]}

        server.wait("both follow", lambda: generations() == {2})
        self.assertEqual(self.writes_when_touched(server, blue, green), 0)
        self.assertLess(len(server.seen(verb="patch")), 20)
        for gateway in (blue, green):
            self.assertEqual(gateway.status_page()["problems"], [])

    def test_settings_that_exclude_each_other_end_in_a_few_writes_and_are_reported(self):
        """The same Service, and only one of them obeys the Gateway."""
        server = self.cluster(1).server
        api.Objects.create_routes(server, {"backendRefs": [{**api.Objects.REF, "name": POOL}]})
        gateways = [self.penstock(server), self.penstock(server, "--gateway-api=false")]

        def reported():
            return [
                one
                for gateway in gateways
                for one in gateway.status_page()["problems"]
                if (one["kind"], one["name"], one["reason"]) == ("InferencePool", POOL, "StatusContested")
            ]

        wait_for("one of them says so", reported, 60)
        self.assertIn(("Gateway", "gw"), self.parents(server))  # is never taken away
        self.assertLess(self.writes_when_touched(server, *gateways), self.TURNS // 2)
        self.assertLess(len(server.seen(verb="patch")), 60)

    def test_who_drains_writes_no_status(self):
        server = self.cluster(1).server
        gateway = self.penstock(server, config="lifecycle: {drain_delay: 60s}\n")
        server.wait("it is the parent", lambda: self.parents(server) == [("Service", "penstock")])
        gateway.signal(signal.SIGTERM)
        wait_for("it drains", lambda: gateway.admin("/readyz").status == 503)
        path = f"/apis/inference.networking.k8s.io/v1/namespaces/default/inferencepools/{POOL}/status"
        self.assertEqual(KubeClient(server).merge(path, {"status": {"parents": []}}).status, 200)
        server.patch("inferencepools", POOL, {"spec": {"appProtocol": "http"}})
        server.create(api.rewrite("late", "chat", "base-model"))  # which it sees:
        wait_for("it follows", lambda: "chat" in str(fetch(gateway.port, "/v1/models").body))
        self.assertEqual(self.writes_when_touched(server, gateway), 0)
        self.assertEqual(self.parents(server), [])


class TakenBack(KubernetesCase):
    """What was said once, and is not so any more."""

    @staticmethod
    def parents(server, resource, name):
        status = server.get(resource, name).get("status") or {}
        return [one["parentRef"]["name"] for one in status.get("parents") or []]

    def test_entries_go_with_the_gateway_its_class_or_what_attached_the_route(self):
        server = self.cluster(1).server
        api.Objects.create_routes(server, {"backendRefs": [{**api.Objects.REF, "name": POOL}]})
        gateway = self.penstock(server, config=OWN_SERVICE)
        said = lambda: (self.parents(server, "inferencepools", POOL), self.parents(server, "httproutes", "r"))  # noqa: E731
        both = lambda: said() == (["gw"], ["gw"])  # noqa: E731
        server.wait("the Gateway is the parent", both)
        elsewhere = {"backendRefs": [{**api.Objects.REF, "name": "nowhere"}]}
        here = {"backendRefs": [{**api.Objects.REF, "name": POOL}]}
        server.patch("httproutes", "r", {"spec": {"rules": [elsewhere]}})
        server.wait("the pool has no parent", lambda: said() == ([], ["gw"]))
        server.patch("httproutes", "r", {"spec": {"rules": [here]}})
        server.wait("it has one again", both)
        server.patch("httproutes", "r", {"spec": {"parentRefs": [{"name": "theirs"}]}})
        server.wait("the route is not ours", lambda: said() == ([], []))
        server.patch("httproutes", "r", {"spec": {"parentRefs": [{"name": "gw"}]}})
        server.wait("it is again", both)
        # Without any Gateway of ours the pool's parent is our Service.
        server.delete("gateways", "gw")
        server.wait("the Gateway is gone", lambda: said() == (["penstock"], []))
        listener = {"name": "http", "port": 80, "protocol": "HTTP"}
        spec = {"gatewayClassName": "penstock", "listeners": [listener]}
        server.create({"apiVersion": GATEWAYS, "kind": "Gateway", "metadata": {"name": "gw"}, "spec": spec})
        server.wait("it is back", both)
        server.delete("gatewayclasses", "penstock")
        server.wait("its class is gone", lambda: said() == (["penstock"], []))
        self.assertEqual(gateway.status_page()["problems"], [])

    def test_what_an_uninstalled_release_has_left_is_taken_away_by_the_next_one(self):
        """Of the same name, or one that reads Gateways."""
        server = self.cluster(1).server
        api.Objects.create_routes(server, {"backendRefs": [{**api.Objects.REF, "name": POOL}]})
        first = self.penstock(server, config=OWN_SERVICE)
        server.wait("the Gateway is the parent", lambda: self.parents(server, "inferencepools", POOL) == ["gw"])
        first.stop()
        server.delete("gateways", "gw")
        server.delete("httproutes", "r")
        self.penstock(server, config="kubernetes: {own_service: default/next}\n")
        server.wait("the entry is gone", lambda: self.parents(server, "inferencepools", POOL) == ["next"])

    def test_what_somebody_writes_over_our_status_at_once_is_repaired(self):
        """Both are told in one read of the watch, so that the status looks as if ours had not come yet."""
        server = self.cluster(1).server
        gateway = self.penstock(server)
        pool = lambda: self.parents(server, "inferencepools", POOL)  # noqa: E731
        server.wait("it is the parent", lambda: pool() == ["penstock"])
        server.faults.batch("inferencepools", 1.0)
        KubeClient(server).merge(POOLS + f"/{POOL}/status", {"status": {"parents": []}})
        server.wait("it is written", lambda: pool() == ["penstock"])
        KubeClient(server).merge(POOLS + f"/{POOL}/status", {"status": {"parents": []}})
        self.assertEqual(pool(), [])
        server.wait("it is written again", lambda: pool() == ["penstock"])
        wait_for("and again read", lambda: gateway.value("penstock_kube_writes_waiting", kind="status") == 0)
        self.assertEqual(gateway.status_page()["problems"], [])

    def condition(self, server, resource, name, kind="Accepted"):
        conditions = (server.get(resource, name).get("status") or {}).get("conditions") or []
        found = [one for one in conditions if one["type"] == kind]
        return found and (found[0]["status"], found[0]["reason"], found[0]["observedGeneration"])

    def test_what_refers_to_a_pool_that_is_not_there_is_not_accepted(self):
        server = self.cluster(1).server
        server.create(api.rewrite("alias", "chat", "sim-model"))
        spec = {"poolRef": {"name": POOL}, "priority": 10}
        server.create({"apiVersion": api.LLMD, "kind": "InferenceObjective", "metadata": {"name": "urgent"}, "spec": spec})
        self.penstock(server)
        for resource, name in (("inferencemodelrewrites.llm-d.ai", "alias"), ("inferenceobjectives.llm-d.ai", "urgent")):
            said = lambda r=resource, n=name: self.condition(server, r, n)  # noqa: E731
            server.wait("it is accepted", lambda s=said: s() == ("True", "Accepted", 1))
            server.patch(resource, name, {"spec": {"poolRef": {"name": "nowhere"}}})
            server.wait("it is not", lambda s=said: s() == ("False", "PoolNotFound", 2))
            server.patch(resource, name, {"spec": {"poolRef": {"name": POOL}}})
            server.wait("it is again", lambda s=said: s() == ("True", "Accepted", 3))

    def test_a_pool_of_a_protocol_that_we_do_not_speak_is_not_accepted_and_served_where_it_can_be(self):
        server = self.cluster(1, sim=("--instant",)).server
        gateway = self.penstock(server)
        accepted = lambda: [  # noqa: E731
            (one["status"], one["reason"])
            for parent in (server.get("inferencepools", POOL).get("status") or {}).get("parents") or []
            for one in parent["conditions"]
            if one["type"] == "Accepted"
        ]
        server.wait("it is accepted", lambda: accepted() == [("True", "Accepted")])
        server.patch("inferencepools", POOL, {"spec": {"appProtocol": "kubernetes.io/h2c"}})
        server.wait("it is not", lambda: accepted() == [("False", "NotSupportedByParent")])
        problems = [(one["kind"], one["name"], one["reason"]) for one in gateway.status_page()["problems"]]
        self.assertEqual(problems, [("InferencePool", POOL, "UnsupportedProtocol")])
        self.assertEqual(gateway.value("penstock_object_problems", name=POOL, reason="UnsupportedProtocol"), 1)
        self.assertEqual(fetch(gateway.port, "/v1/completions", "POST", completion("hello")).status, 200)


# Outside a cluster nobody tells its namespace.
GATEWAYS = "gateway.networking.k8s.io/v1"
OWN_SERVICE = "kubernetes: {own_service: default/penstock}\n"


class Gateways(KubernetesCase):
    def class_status(self, server):
        return server.get("gatewayclasses", "penstock").get("status") or {}

    def accepted(self, server):
        return [one["status"] for one in self.class_status(server).get("conditions") or [] if one["type"] == "Accepted"]

    def test_a_class_tells_its_features_before_it_is_accepted(self):
        server = self.cluster(1).server
        api.Objects.create_routes(server, {"backendRefs": [{**api.Objects.REF, "name": POOL}]})
        self.penstock(server)
        server.wait("it is accepted", lambda: self.accepted(server) == ["True"])
        features = [one["name"] for one in self.class_status(server)["supportedFeatures"]]
        self.assertEqual(features, sorted(features))
        self.assertLessEqual({"Gateway", "HTTPRoute", "HTTPRouteHostRewrite", "ReferenceGrant"}, set(features))
        self.assertFalse({"HTTPRouteRequestMirror", "HTTPRouteCORS", "TLSRoute", "GRPCRoute"} & set(features))
        # What is not so any more goes.
        KubeClient(server).merge(
            f"/apis/{GATEWAYS}/gatewayclasses/penstock/status", {"status": {"supportedFeatures": [{"name": "Old"}]}}
        )
        server.wait("ours are back", lambda: set(features) <= {one["name"] for one in self.class_status(server)["supportedFeatures"]})

    def test_a_class_is_accepted_where_its_definition_knows_no_features(self):
        known = schemas.crd_objects()
        name = "gatewayclasses.gateway.networking.k8s.io"
        server = self.api(crds=[one for one in known if one != name])
        old = copy.deepcopy(known[name])
        del old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["supportedFeatures"]
        server.create(old)
        self.cluster(1, server=server)
        api.Objects.create_routes(server, {"backendRefs": [{**api.Objects.REF, "name": POOL}]})
        gateway = self.penstock(server)
        server.wait("it is accepted", lambda: self.accepted(server) == ["True"])
        parents = lambda: (server.get("httproutes", "r").get("status") or {}).get("parents")  # noqa: E731
        server.wait("what comes after it is written, too", parents)
        server.patch("gatewayclasses", "penstock", {"spec": {"description": "changed"}})
        generation = lambda: self.class_status(server)["conditions"][0]["observedGeneration"]  # noqa: E731
        server.wait("it follows", lambda: generation() == 2)
        self.assertEqual(len(server.seen(verb="patch", status=500)), 1)
        self.assertEqual(gateway.value("penstock_kube_write_failures_total"), 1)

    def test_two_releases_of_different_pools_say_the_same_of_a_route_to_both(self):
        server = self.cluster(1).server
        self.cluster(1, server=server, name="other", pool="other")
        rule = lambda path, pool: {  # noqa: E731
            "matches": [{"path": {"value": path}}],
            "backendRefs": [{**api.Objects.REF, "name": pool}],
        }
        api.Objects.create_routes(server, rule("/a", POOL), rule("/b", "other"))
        config = "kubernetes: {own_service: default/%s, gateway_address: 192.0.2.7}\n"
        said = set()

        def resolved():
            parents = (server.get("httproutes", "r").get("status") or {}).get("parents") or [{"conditions": []}]
            found = [one for one in parents[0]["conditions"] if one["type"] == "ResolvedRefs"]
            said.update(one["status"] for one in found)
            return [(one["status"], one["observedGeneration"]) for one in found]

        listen = lambda resource, _: resolved() if resource.startswith("httproutes") else None  # noqa: E731
        server.store.subscribe(listen)
        self.addCleanup(server.store.unsubscribe, listen)
        blue = self.penstock(server, pool=POOL, config=config % "blue")
        green = self.penstock(server, pool="other", config=config % "green")
        reasons = lambda gateway: [one["reason"] for one in gateway.status_page()["problems"]]  # noqa: E731
        for gateway in (blue, green):
            wait_for("it tells what it does not serve", lambda g=gateway: reasons(g) == ["BackendNotServed"])
        events = lambda g: g.value("penstock_kube_watch_events_total", resource="httproutes.gateway.networking.k8s.io in default")  # noqa: E731
        for turn in range(5):
            seen = {gateway: events(gateway) for gateway in (blue, green)}
            server.patch("httproutes", "r", {"spec": {"hostnames": [f"host-{turn}.example.com"]}})
            for gateway in (blue, green):
                wait_for("it has seen that", lambda g=gateway, s=seen: events(g) > s[g])
        server.wait("the references are good", lambda: resolved() == [("True", 6)])
        for gateway in (blue, green):
            self.assertEqual(reasons(gateway), ["BackendNotServed"])
        self.assertEqual(said, {"True"})

    def test_a_gateway_is_programmed_at_our_own_service(self):
        server = self.cluster(1).server
        api.Objects.create_routes(server, {"backendRefs": [{**api.Objects.REF, "name": POOL}]})
        self.penstock(server, config=OWN_SERVICE)
        status = lambda: server.get("gateways", "gw").get("status") or {}  # noqa: E731
        said = lambda one: {c["type"]: c["status"] for c in one.get("conditions") or []}  # noqa: E731
        server.wait("it is programmed", lambda: said(status()) == {"Accepted": "True", "Programmed": "True"})
        self.assertEqual(status()["addresses"], [{"type": "Hostname", "value": "penstock.default.svc"}])
        self.assertEqual(said(status()["listeners"][0])["Programmed"], "True")

    def test_what_a_gateway_asks_for_in_vain_is_said_everywhere(self):
        server = self.cluster(1).server
        api.Objects.create_routes(server, {"backendRefs": [{**api.Objects.REF, "name": POOL}]})
        gateway = self.penstock(server, config=OWN_SERVICE)
        condition = lambda kind: [  # noqa: E731
            (one["status"], one["reason"], one["observedGeneration"])
            for one in (server.get("gateways", "gw").get("status") or {}).get("conditions") or []
            if one["type"] == kind
        ]
        server.wait("it is programmed", lambda: condition("Programmed") == [("True", "Programmed", 1)])
        asked = {"addresses": [{"type": "IPAddress", "value": "192.0.2.9"}], "infrastructure": {"labels": {"a": "b"}}}
        server.patch("gateways", "gw", {"spec": asked})
        server.wait("it is not", lambda: condition("Programmed") == [("False", "AddressNotUsable", 2)])
        self.assertEqual(condition("Accepted"), [("True", "Accepted", 2)])
        problems = {one["reason"]: one["message"] for one in gateway.status_page()["problems"] if one["name"] == "gw"}
        self.assertEqual(set(problems), {"AddressNotUsable", "FieldIgnored"})
        self.assertIn("192.0.2.9", problems["AddressNotUsable"])
        self.assertIn("infrastructure.labels", problems["FieldIgnored"])
        for reason in problems:
            self.assertEqual(gateway.value("penstock_object_problems", kind="Gateway", name="gw", reason=reason), 1)
        server.patch("gateways", "gw", {"spec": {"addresses": [{"type": "NamedAddress", "value": "mine"}]}})
        server.wait("nor accepted", lambda: condition("Accepted") == [("False", "UnsupportedAddress", 3)])
        self.assertEqual(fetch(gateway.port, "/v1/completions", "POST", completion("hello")).status, 200)


if __name__ == "__main__":
    harness.main()
