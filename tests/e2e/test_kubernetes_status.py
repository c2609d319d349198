"""What the gateway writes to the statuses of objects, where more than one gateway does."""

import signal

import harness
import test_kubernetes_api as api
from harness import completion, fetch, wait_for
from kube_case import POOL, KubernetesCase
from kube_client import KubeClient


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
OWN_SERVICE = "kubernetes: {own_service: default/penstock}\n"


class Gateways(KubernetesCase):
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
