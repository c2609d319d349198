"""HTTPS listeners of Gateways: certificates from Secrets, names, grants, and what their statuses say."""

import base64
import os
import ssl
import sys
import threading

import harness
from fake_cluster import FakeCluster
from harness import E2E, PATIENCE, completion, wait_for
from kube_case import POOL, KubernetesCase
from tls_client import Authority, TlsClient, client_context, tls_port

REF = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": POOL}
BODY = completion("hello", model="m")


def gateway_api(kind, name, spec, namespace=None, version="v1"):
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": f"gateway.networking.k8s.io/{version}", "kind": kind, "metadata": meta, "spec": spec}


def https(name, secret, hostname=None, namespace=None):
    ref = {"name": secret, **({"namespace": namespace} if namespace else {})}
    listener = {"name": name, "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [ref]}}
    return {**listener, **({"hostname": hostname} if hostname else {})}


class Https(KubernetesCase):
    def setUp(self):
        self.folder = E2E.directory(self)
        self.authority = Authority(self.folder)
        self.context = client_context(self.authority)
        self.made = 0
        self.server = self.api()
        self.cluster(1, server=self.server, sim=("--instant", "--model", "m"))

    def pair(self, names="DNS:server.test"):
        self.made += 1
        data = {}
        for path, name in zip(self.authority.issue(os.path.join(self.folder, str(self.made)), names), ("tls.crt", "tls.key")):
            with open(path, "rb") as file:
                data[name] = base64.b64encode(file.read()).decode()
        return data

    def create_secret(self, name, data=None, namespace="default"):
        meta = {"name": name, "namespace": namespace}
        self.server.create({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "kubernetes.io/tls", "data": data or self.pair()})

    def create_gateway(self, *listeners, **route):
        self.server.create(gateway_api("GatewayClass", "penstock", {"controllerName": "penstock.dev/gateway"}))
        self.server.create(gateway_api("Gateway", "gw", {"gatewayClassName": "penstock", "listeners": list(listeners)}))
        rules = [{"backendRefs": [REF]}]
        self.server.create(gateway_api("HTTPRoute", "r", {"parentRefs": [{"name": "gw"}], "rules": rules, **route}))

    def start(self, *flags, **options):
        options.setdefault("config", "kubernetes: {gateway_address: 192.0.2.7}\n")
        gateway = self.penstock(self.server, "--listen-tls", "127.0.0.1:0", *flags, **options)
        gateway.wait_pods(1)
        return gateway, tls_port(gateway)

    def ask(self, port, name="server.test", **headers):
        client = TlsClient(port, self.context, server_name=name)
        try:
            fields = [("host", headers.get("host", name)), ("content-type", "application/json")]
            return client.request("POST", "/v1/completions", BODY, fields), client.certificate
        finally:
            client.close()

    def serial(self, port, **options):
        answer, certificate = self.ask(port, **options)
        self.assertEqual(answer.status, 200, answer)
        return certificate["serialNumber"]

    def conditions(self, listener):
        status = self.server.get("gateways", "gw").get("status") or {}
        for one in status.get("listeners") or []:
            if one["name"] == listener:
                return {c["type"]: (c["status"], c["reason"]) for c in one["conditions"]}
        return {}

    def wait_condition(self, listener, kind, *expected):
        self.server.wait(f"{listener} says {kind} {expected}", lambda: self.conditions(listener).get(kind) == expected)

    def test_a_certificate_follows_its_secret_without_a_failed_request(self):
        self.create_secret("cert")
        self.create_gateway(https("https", "cert"))
        gateway, port = self.start()
        self.wait_condition("https", "ResolvedRefs", "True", "ResolvedRefs")
        stop, failed, asked, serials = threading.Event(), [], [0], set()

        def load(kept):
            client = TlsClient(port, self.context) if kept else None
            while not stop.is_set():
                try:
                    if kept:  # one connection through all changes
                        self.assertEqual(client.post("/v1/completions", BODY).status, 200)
                    else:
                        serials.add(self.serial(port))
                    asked[0] += 1
                except Exception as error:  # pylint: disable=broad-except
                    failed.append(error)
                    return

        threads = [threading.Thread(target=load, args=(i == 0,)) for i in range(3)]
        for thread in threads:
            thread.start()
        reloads = lambda: gateway.value("penstock_tls_certificate_reloads_total", result="ok")  # noqa: E731
        try:
            for _ in range(6):
                before, seen = reloads(), len(serials)
                self.server.patch("secrets", "cert", {"data": self.pair()})
                wait_for("the change is noticed", lambda b=before: reloads() > b or failed)
                wait_for("clients see it", lambda s=seen: len(serials) > s or failed)
        finally:
            stop.set()
            for thread in threads:
                thread.join(PATIENCE)
        self.assertEqual(failed, [])
        self.assertGreater(asked[0], 20)
        self.assertGreaterEqual(len(serials), 7)
        self.assertGreater(gateway.value("penstock_tls_certificate_expiry_timestamp_seconds"), 1.7e9)

    def test_what_cannot_be_used_is_told_and_the_certificate_of_before_stays(self):
        good = self.pair()
        self.create_secret("cert", good)
        self.create_gateway(https("https", "cert"))
        gateway, port = self.start()
        serial = self.serial(port)
        self.server.patch("secrets", "cert", {"data": {"tls.key": self.pair()["tls.key"]}})
        self.wait_condition("https", "ResolvedRefs", "False", "InvalidCertificateRef")
        self.assertEqual(self.conditions("https")["Programmed"], ("False", "Invalid"))
        self.assertEqual(self.serial(port), serial)
        problems = [one for one in gateway.status_page()["problems"] if one["reason"] == "InvalidCertificateRef"]
        self.assertIn("do not belong together", problems[0]["message"])
        self.server.patch("secrets", "cert", {"data": self.pair()})
        self.wait_condition("https", "Programmed", "True", "Programmed")
        wait_for("the next one is served", lambda: self.serial(port) != serial)
        for text in (good["tls.key"], base64.b64decode(good["tls.key"]).decode().split("\n")[1]):
            self.assertNotIn(text, gateway.log())

    def test_nothing_of_a_secret_is_in_the_log(self):
        self.create_secret("cert")
        self.create_gateway(https("https", "cert"))
        gateway, port = self.start()
        self.server.faults.inject("secrets", '{"type":"MODIFIED","object":{"data":{"tls.key":"cGVuZ3Vpbi10ZXh0"},"metadata":[1]}}')
        self.assertIsNotNone(gateway.err.wait("cannot be decoded"))
        self.server.patch("secrets", "cert", {"data": {"tls.key": "cGVuZ3Vpbi10ZXh0"}})
        self.wait_condition("https", "ResolvedRefs", "False", "InvalidCertificateRef")
        self.serial(port)
        pages = [gateway.admin(path).body.decode() for path in ("/status", "/metrics", "/")]
        for text in ("cGVuZ3Vpbi10ZXh0", "penguin-text"):
            self.assertNotIn(text, gateway.log())
            self.assertNotIn(text, str(pages))

    def test_a_secret_of_another_namespace_needs_a_grant(self):
        self.create_secret("cert", namespace="other")
        self.create_gateway(https("https", "cert", namespace="other"))
        _, port = self.start("--namespace", "other")
        self.wait_condition("https", "ResolvedRefs", "False", "RefNotPermitted")
        self.assertEqual(self.conditions("https")["Accepted"], ("True", "Accepted"))
        with self.assertRaisesRegex(ssl.SSLError, "UNRECOGNIZED_NAME"):
            self.ask(port)
        asked = lambda: self.server.seen(resource="secrets")  # noqa: E731
        self.assertEqual(asked(), [])
        spec = {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "default"}],
            "to": [{"group": "", "kind": "Secret", "name": "cert"}],
        }
        self.server.create(gateway_api("ReferenceGrant", "grant", spec, "other", "v1beta1"))
        self.wait_condition("https", "ResolvedRefs", "True", "ResolvedRefs")
        self.serial(port)
        self.assertTrue(asked())
        self.server.delete("referencegrants", "grant", "other")
        self.wait_condition("https", "ResolvedRefs", "False", "RefNotPermitted")
        with self.assertRaisesRegex(ssl.SSLError, "UNRECOGNIZED_NAME"):
            self.ask(port)

    def test_names_decide_the_certificate_and_the_routes(self):
        self.create_secret("one", self.pair("DNS:one.test"))
        self.create_secret("many", self.pair("DNS:a.many.test,DNS:a.b.many.test"))
        self.create_gateway(
            https("one", "one", "one.test"),
            https("again", "one", "again.test"),
            https("many", "many", "*.many.test"),
            {"name": "plain", "port": 80, "protocol": "HTTP"},
            parentRefs=[{"name": "gw", "sectionName": "many"}],
        )
        gateway, port = self.start()
        self.server.wait("there is a status", lambda: self.conditions("many"))
        for name in ("a.many.test", "a.b.many.test"):
            self.serial(port, name=name)
        answer, certificate = self.ask(port, "one.test")
        self.assertIn(("DNS", "one.test"), certificate["subjectAltName"])
        self.assertEqual(answer.status, 404)  # its listener has no route
        with self.assertRaisesRegex(ssl.SSLError, "UNRECOGNIZED_NAME"):
            self.ask(port, "unknown.test")
        plain = harness.fetch(gateway.port, "/v1/completions", "POST", BODY, [("host", "a.many.test")])
        self.assertEqual(plain.status, 404)  # the route is not at the plain listener
        attached = {one["name"]: one["attachedRoutes"] for one in self.server.get("gateways", "gw")["status"]["listeners"]}
        self.assertEqual(attached, {"one": 0, "again": 0, "many": 1, "plain": 0})
        series = [labels["certificate"] for labels, _ in gateway.metrics().series("penstock_tls_certificate_expiry_timestamp_seconds")]
        self.assertEqual(sorted(series), ["Secret default/many", "Secret default/one"])  # each once


class Backends(KubernetesCase):
    """Endpoints that speak TLS, as a BackendTLSPolicy says."""

    def setUp(self):
        self.folder = E2E.directory(self)
        self.authority = Authority(self.folder)
        pair = self.authority.issue(os.path.join(self.folder, "pod"), "DNS:model.test,URI:spiffe://models/a")
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake_pod.py")
        self.server = self.api()
        cluster = FakeCluster(
            self.server, lambda pod, address, port: [sys.executable, "-I", script, pod, address, str(port), *pair]
        )
        self.addCleanup(cluster.close)
        cluster.scale(2)
        cluster.wait_ready(2)

    def create_authority(self, name, authority):
        self.server.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"ca.crt": self.pem(authority)}})

    @staticmethod
    def pem(authority):
        with open(authority.path, encoding="utf-8") as file:
            return file.read()

    def create_policy(self, name="tls", **validation):
        ref = {"group": "", "kind": "ConfigMap", "name": "ca"}
        target = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": POOL}
        spec = {"targetRefs": [target], "validation": {"hostname": "model.test", "caCertificateRefs": [ref], **validation}}
        self.server.create(gateway_api("BackendTLSPolicy", name, spec))

    def conditions(self, name="tls"):
        status = self.server.get("backendtlspolicies", name).get("status") or {}
        return [
            (one["ancestorRef"]["kind"], one["ancestorRef"]["name"], *sorted((c["type"], c["reason"]) for c in one["conditions"]))
            for one in status.get("ancestors") or []
        ]

    def wait_conditions(self, accepted, resolved, name="tls"):
        expected = [("Service", "penstock", ("Accepted", accepted), ("ResolvedRefs", resolved))]
        self.server.wait(f"the status is {expected}", lambda: self.conditions(name) == expected)

    def status_of(self, gateway):
        return harness.fetch(gateway.port, "/v1/completions", "POST", BODY).status

    def test_endpoints_are_spoken_to_in_tls_and_never_without(self):
        self.create_authority("ca", self.authority)
        self.create_policy()
        gateway = self.penstock(self.server, config=harness.AT_ONCE)
        gateway.wait_pods(2)
        self.assertEqual(self.status_of(gateway), 200)
        self.wait_conditions("Accepted", "ResolvedRefs")
        self.assertGreater(gateway.value("penstock_tls_handshakes_total", peer="endpoint"), 0)
        # Another authority: nobody is trusted any more, and nothing goes out in plain text.
        other = Authority(self.folder, "other")
        self.server.patch("configmaps", "ca", {"data": {"ca.crt": self.pem(other)}})
        wait_for("requests fail", lambda: self.status_of(gateway) >= 500)
        self.server.patch("configmaps", "ca", {"data": {"ca.crt": self.pem(self.authority)}})
        wait_for("they are answered again", lambda: self.status_of(gateway) == 200)
        self.server.delete("configmaps", "ca")
        self.wait_conditions("NoValidCACertificate", "InvalidCACertificateRef")
        wait_for("requests fail", lambda: self.status_of(gateway) >= 500)

    def test_the_certificate_must_have_the_name_or_one_of_the_others(self):
        self.create_authority("ca", self.authority)
        self.create_policy(hostname="elsewhere.test")
        gateway = self.penstock(self.server, ready=False)
        wait_for(
            "it is refused",
            lambda: gateway.value("penstock_tls_handshake_failures_total", peer="endpoint", reason="peer_certificate") > 0,
        )
        names = [{"type": "Hostname", "hostname": "no.test"}, {"type": "URI", "uri": "spiffe://models/a"}]
        self.server.patch("backendtlspolicies", "tls", {"spec": {"validation": {"subjectAltNames": names}}})
        wait_for("it is trusted", lambda: self.status_of(gateway) == 200)

    def test_the_older_of_two_policies_counts(self):
        self.create_authority("ca", self.authority)
        self.create_policy()
        gateway = self.penstock(self.server)
        gateway.wait_pods(2)
        self.create_policy("z-later", hostname="elsewhere.test")
        self.wait_conditions("Conflicted", "ResolvedRefs", "z-later")
        self.wait_conditions("Accepted", "ResolvedRefs")
        self.assertEqual(self.status_of(gateway), 200)


if __name__ == "__main__":
    harness.main()
