"""TLS with model servers: verified by authority and name, with our own certificate, for requests, scrapes and probes."""

import json
import os

import harness
from harness import E2E, chat, run_program, wait_for
from tls_client import Authority, TlsFront


class TlsEndpoints(E2E):
    def setUp(self):
        self.folder = E2E.directory(self)
        self.authority = Authority(self.folder)
        self.sim_behind = self.sim()

    def front(self, names, **options):
        certificate = self.authority.issue(os.path.join(self.folder, "server"), names)
        front = TlsFront(self.sim_behind.port, certificate, **options)
        self.addCleanup(front.close)
        return front

    def start(self, front, ready=True, **settings):
        settings.setdefault("ca", self.authority.path)
        config = harness.AT_ONCE + "endpoint_tls:\n" + "".join(f"  {key}: {value}\n" for key, value in settings.items() if value)
        gateway = self.gateway([front], config)
        if ready:
            gateway.wait_pods(1)
        return gateway

    def ask(self, gateway, **more):
        return self.client(gateway).post("/v1/chat/completions", chat(**more))

    def failures(self, gateway, reason):
        return gateway.value("penstock_tls_handshake_failures_total", peer="endpoint", reason=reason)


class Served(TlsEndpoints):
    def check(self, gateway):
        self.assertEqual(self.ask(gateway).status, 200)
        answer = self.ask(gateway, stream=True, max_tokens=50)
        self.assertTrue(answer.complete)
        self.assertEqual(answer.events()[-1], "[DONE]")
        # Scrapes go the same way.
        wait_for(
            "a scrape",
            lambda: gateway.value("penstock_scrapes_total") > gateway.value("penstock_scrape_errors_total"),
        )
        gateway.wait_outcomes({"ok": 2})

    def test_by_the_address_in_the_certificate(self):
        front = self.front("DNS:a.test,IP:127.0.0.1")
        gateway = self.start(front)
        self.check(gateway)
        self.assertEqual(set(front.names), {None})  # an address is not asked for by name
        self.assertGreater(gateway.value("penstock_tls_handshakes_total", peer="endpoint"), 0)

    def test_by_a_name_for_all(self):
        front = self.front("DNS:server.test")
        self.check(self.start(front, server_name="server.test"))
        self.assertEqual(set(front.names), {"server.test"})

    def test_by_the_name_of_the_entry_or_of_the_url(self):
        front = self.front("DNS:server.test,DNS:localhost")
        for entry in (f"{{url: '{front.url}', tls_server_name: server.test}}", f"https://localhost:{front.port}"):
            gateway = self.gateway([], f"endpoints:\n  - {entry}\nendpoint_tls: {{ca: {self.authority.path}}}\n")
            gateway.wait_pods(1)
            self.assertEqual(self.ask(gateway).status, 200)
        self.assertEqual(set(front.names), {"server.test", "localhost"})

    def test_with_our_own_certificate(self):
        front = self.front("IP:127.0.0.1", client_authority=self.authority)
        cert, key = self.authority.issue(os.path.join(self.folder, "us"), "DNS:gateway.test")
        self.check(self.start(front, cert=cert, key=key))
        self.assertEqual(front.failed, 0)

    def test_without_verifying_only_if_the_word_is_said(self):
        front = self.front("DNS:another.test")
        gateway = self.start(front, ca=None, insecure_skip_verify="true")
        self.check(gateway)
        self.assertIsNotNone(gateway.err.wait("endpoint_tls.insecure_skip_verify.*accepts any certificate"))

    def test_sessions_are_resumed(self):
        front = self.front("IP:127.0.0.1")
        gateway = self.start(front)
        for _ in range(6):
            self.assertEqual(self.ask(gateway).status, 200)
        # Both shards, and the control thread, have a connection and a session of their own. Idle ones close after 4 s.
        wait_for("a connection that follows a closed one resumes its session", lambda: self.ask(gateway).status == 200 and (
            front.resumed > 0), interval=5)


class Refused(TlsEndpoints):
    def unusable(self, gateway, reason="peer_certificate"):
        wait_for("failed handshakes are counted", lambda: self.failures(gateway, reason) > 0)
        self.assertIsNotNone(gateway.err.wait("TLS with an endpoint has failed"))
        self.assertIn(self.ask(gateway).status, (502, 503))
        wait_for("the status page says why", lambda: "TLS failed: " in json.dumps(gateway.status_page()))

    def test_of_another_name(self):
        self.unusable(self.start(self.front("DNS:another.test"), ready=False))

    def test_of_an_unknown_authority_until_it_is_known(self):
        bundle = os.path.join(self.folder, "bundle", "ca.crt")
        os.makedirs(os.path.dirname(bundle))
        stranger = Authority(self.folder, "stranger")
        with open(stranger.path, "rb") as file:
            unknown = file.read()
        with open(bundle, "wb") as file:
            file.write(unknown)
        gateway = self.start(self.front("IP:127.0.0.1"), ready=False, ca=bundle)
        self.unusable(gateway)
        with open(self.authority.path, "rb") as file:
            known = file.read()
        with open(bundle, "wb") as file:
            file.write(unknown + known)
        gateway.wait_pods(1)
        self.assertEqual(self.ask(gateway).status, 200)

    def test_a_server_that_does_not_speak_tls(self):
        gateway = self.gateway([f"https://{self.sim_behind.address}"], harness.AT_ONCE)
        self.unusable(gateway, "not_tls")

    def test_settings_that_cannot_be(self):
        for settings, expected in (
            ("cert: /x", "endpoint_tls.cert: needs endpoint_tls.key beside it"),
            ("ca: /nowhere/ca.crt", "endpoint_tls.ca: /nowhere/ca.crt: cannot be read"),
            ("{ca: /x, insecure_skip_verify: true}", "endpoint_tls.ca: has no effect beside"),
        ):
            text = "kind: GatewayConfig\nendpoints: ['https://127.0.0.1:1']\nendpoint_tls:\n  "
            path = self.file("gateway.yaml", text.rstrip() + " " + settings + "\n" if "{" in settings else text + settings + "\n")
            code, _, err = run_program(harness.PENSTOCK, "check", "--config", path)
            self.assertEqual(code, 1)
            self.assertIn(expected, err)


if __name__ == "__main__":
    harness.main()
