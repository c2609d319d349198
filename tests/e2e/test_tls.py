"""TLS for clients: handshakes, names, sessions over all shards, certificates that change, clients that misbehave."""

import json
import os
import shutil
import socket
import ssl
import threading

import harness
from harness import E2E, PATIENCE, ConnectionEnded, FakeEndpoint, chat, in_threads, run_program, wait_for
from tls_client import Authority, MountedSecret, TlsClient, client_context, tls_port

LISTENER = """
listeners:
  - name: secure
    address: 127.0.0.1:0
    protocol: https
    tls:
      certificates:
"""


def listener(*pairs, **more):
    text = LISTENER + "".join(f"        - {{cert: {cert}, key: {key}}}\n" for cert, key in pairs)
    return text + "".join(f"      {key}: {value}\n" for key, value in more.items())


class Tls(E2E):
    def setUp(self):
        self.folder = E2E.directory(self)
        self.authority = Authority(self.folder)
        self.pair = self.authority.issue(os.path.join(self.folder, "a"), "DNS:server.test,IP:127.0.0.1")
        self.context = client_context(self.authority)

    def start(self, *pairs, shards=2, config="", **tls):
        endpoint = self.sim()
        gateway = self.gateway([endpoint], listener(*(pairs or [self.pair]), **tls) + config, shards=shards)
        return gateway, tls_port(gateway)

    def connect(self, port, **options):
        client = TlsClient(port, options.pop("context", self.context), **options)
        self.addCleanup(client.close)
        return client

    def ask(self, port, **options):
        client = self.connect(port, **options)
        answer = client.post("/v1/chat/completions", chat())
        self.assertEqual(answer.status, 200, answer)
        return client

    def failures(self, gateway, reason):
        return gateway.value("penstock_tls_handshake_failures_total", peer="client", reason=reason)


class Serving(Tls):
    def test_flags_make_a_listener_beside_the_plain_one(self):
        endpoint = self.sim()
        cert, key = self.pair
        gateway = self.gateway(
            [endpoint], flags=("--listen-tls", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key)
        )
        port = tls_port(gateway)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client = self.ask(port, context=client_context(self.authority, version=version))
            self.assertEqual(client.sock.version(), "TLSv1.2" if version == ssl.TLSVersion.TLSv1_2 else "TLSv1.3")
            self.assertEqual(client.sock.selected_alpn_protocol(), "http/1.1")
            self.assertEqual(client.post("/v1/chat/completions", chat()).status, 200)  # kept alive
        self.assertEqual(harness.fetch(gateway.port, "/v1/models").status, 200)
        self.assertEqual(gateway.value("penstock_tls_handshakes_total", peer="client", resumed="false"), 2)

    def curl(self, port, *flags):
        code, out, err = run_program(
            "curl", "-sS", "--cacert", self.authority.path, "--resolve", f"server.test:{port}:127.0.0.1", "-N", *flags,
            f"https://server.test:{port}/v1/chat/completions", "-H", "content-type: application/json",
            "-w", "version %{http_version}",
            "-d", '{"model":"sim-model","stream":true,"max_tokens":20,"messages":[{"role":"user","content":"hi"}]}',
        )
        self.assertEqual((code, err), (0, ""), out)
        self.assertEqual(out.count("data: "), out.count("\n\n"))
        self.assertIn("data: [DONE]", out)
        return out.rsplit("version ", 1)[1]

    def test_curl_streams_an_answer_over_the_protocol_that_was_agreed_on(self):
        gateway, port = self.start()
        self.assertEqual(self.curl(port), "2")
        self.assertEqual(self.curl(port, "--http1.1"), "1.1")
        gateway.wait_outcomes({"ok": 2})
        gateway, port = self.start(config="http2: {enabled: false}\n")
        self.assertEqual(self.curl(port), "1.1")

    def test_large_bodies_arrive_whole_both_ways(self):
        received = []

        def script(request, sock):
            received.append(request.body)
            sock.sendall(harness.answer_bytes(body=bytes(range(256)) * 8192, content_type="application/octet-stream"))
            return True

        gateway = self.gateway([self.fake(script)], listener(self.pair), any_path=True)
        body = os.urandom(3_000_000)
        client = self.connect(tls_port(gateway))
        answer = client.request("POST", "/upload", body, [("content-type", "application/octet-stream")])
        self.assertEqual(answer.body, bytes(range(256)) * 8192)
        self.assertEqual(received, [body])

    def test_a_client_gets_the_certificate_of_the_name_that_it_asks_for(self):
        wild = self.authority.issue(os.path.join(self.folder, "b"), "DNS:*.wild.test")
        gateway, port = self.start(self.pair, wild, strict_sni="true")
        for name, expected in (("server.test", "server.test"), ("a.wild.test", "*.wild.test")):
            names = self.ask(port, server_name=name).certificate["subjectAltName"]
            self.assertIn(("DNS", expected), names)
        with self.assertRaisesRegex(ssl.SSLError, "UNRECOGNIZED_NAME"):
            self.connect(port, server_name="unknown.test")
        wait_for("the refusal is counted", lambda: self.failures(gateway, "unknown_name") == 1)

    def test_a_session_is_resumed_on_every_shard(self):
        gateway, port = self.start(shards=4)
        session, resumed = None, 0
        for _ in range(40):
            client = self.ask(port, session=session)
            resumed += client.sock.session_reused
            session = client.sock.session
            client.close()
        self.assertEqual(resumed, 39)
        self.assertEqual(gateway.value("penstock_tls_handshakes_total", peer="client", resumed="true"), 39)

    def test_client_certificates(self):
        good = self.authority.issue(os.path.join(self.folder, "c"), "URI:spiffe://cluster/ns/a/sa/web", "web")
        other = self.authority.issue(os.path.join(self.folder, "c"), "URI:spiffe://cluster/ns/a/sa/other", "other")
        gateway, port = self.start(
            client_certificates="required", client_ca=self.authority.path, client_names='["spiffe://cluster/ns/a/sa/web"]'
        )
        self.ask(port, context=client_context(self.authority, good))
        for certificate in (None, other):
            with self.assertRaises((ssl.SSLError, ConnectionEnded, ConnectionResetError, BrokenPipeError)):
                self.ask(port, context=client_context(self.authority, certificate))
        wait_for("both refusals are counted", lambda: self.failures(gateway, "peer_certificate") == 2)

    def test_a_certificate_names_the_flow_and_is_in_the_log(self):
        certificate = self.authority.issue(os.path.join(self.folder, "c"), "URI:spiffe://cluster/ns/a/sa/web", "web")
        endpoint = FakeEndpoint()
        self.addCleanup(endpoint.close)
        config = listener(self.pair, client_certificates="optional", client_ca=self.authority.path)
        config += "flow_control: {enabled: true, fairness_id: client_certificate}\naccess_log: {format: json}\n"
        gateway = self.gateway([endpoint], config, access_log=True)
        port = tls_port(gateway)
        forged = [("x-gateway-inference-fairness-id", "spiffe://cluster/ns/a/sa/web")]
        named = self.connect(port, context=client_context(self.authority, certificate))
        self.assertEqual(named.post("/v1/chat/completions", chat(), [("x-gateway-inference-fairness-id", "b")]).status, 200)
        self.assertEqual(self.connect(port).post("/v1/chat/completions", chat(), forged).status, 200)
        self.assertEqual(harness.fetch(gateway.port, "/v1/chat/completions", "POST", chat(), forged).status, 200)
        self.assertEqual([request.header("x-forwarded-proto") for request in endpoint.requests], ["https", "https", "http"])
        wait_for("three lines", lambda: len(self.log_lines(gateway)) == 3)
        lines = [(line["fairness_id"], line.get("tls"), line.get("client_certificate")) for line in self.log_lines(gateway)]
        web = "spiffe://cluster/ns/a/sa/web"
        expected = [(web, "TLSv1.3", web), ("default-flow", "TLSv1.3", ""), ("default-flow", None, None)]
        self.assertCountEqual(lines, expected)

    @staticmethod
    def log_lines(gateway):
        return [json.loads(line) for line in gateway.out.all() if line.startswith("{")]

    def test_without_a_plain_listener(self):
        endpoint = self.sim()
        gateway = self.gateway([endpoint], listener(self.pair), listen="none")
        self.ask(tls_port(gateway))
        self.assertEqual(gateway.port, tls_port(gateway))

    def test_bad_files_are_problems_of_the_configuration(self):
        other = self.authority.issue(os.path.join(self.folder, "b"), "DNS:b.test")
        for pair, expected in (
            ((self.pair[0], other[1]), "certificate and private key do not belong together"),
            ((self.pair[0] + "x", self.pair[1]), "cannot be read: No such file"),
        ):
            path = self.file("gateway.yaml", "kind: GatewayConfig\nendpoints: [http://127.0.0.1:1]\n" + listener(pair))
            code, _, err = run_program(harness.PENSTOCK, "check", "--config", path)
            self.assertEqual(code, 1)
            self.assertRegex(err, rf"gateway.yaml:5: listeners\[0\].tls: .*{expected}")


class Misbehaving(Tls):
    def test_half_a_request_without_a_proper_end_is_a_client_that_left(self):
        gateway, port = self.start()
        client = self.connect(port)
        client.send("POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        wait_for("it has begun", lambda: gateway.value("penstock_requests_started_total") == 1)
        socket.socket(fileno=client.sock.detach()).close()  # FIN without close_notify
        gateway.wait_outcomes({"client_gone": 1})

    def test_an_answer_that_breaks_does_not_look_complete(self):
        def script(_, sock):
            sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nhalf of")
            harness.hard_reset(sock)
            return False

        gateway = self.gateway([self.fake(script)], listener(self.pair), any_path=True)
        client = self.connect(tls_port(gateway))
        client.send(harness.request_bytes("GET", "/x", version="HTTP/1.0"))
        with self.assertRaises((ssl.SSLError, ConnectionEnded)) as ended:
            while True:
                client._fill()  # pylint: disable=protected-access
        if isinstance(ended.exception, ConnectionEnded):
            self.assertTrue(ended.exception.reset or b" 502 " in client.buffer, client.buffer)

    def test_plain_http_and_silence_are_told_apart_and_ended(self):
        gateway, port = self.start(handshake_timeout="500ms")
        plain = self.client(port)
        answer = plain.request("GET", "/")
        self.assertEqual((answer.status, answer.header("connection")), (400, "close"))
        self.assertIn(b"speaks TLS", answer.body)
        self.assertEqual(plain.read_until_end(), (b"", False))
        for method in ("OPTIONS", "DELETE", "PATCH", "CONNECT", "TRACE"):
            other = self.client(port)
            other.send(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertIn(b" 400 ", other.read_until_end()[0], method)
        mute = self.client(port)
        mute.send("\0 neither TLS nor HTTP")
        self.assertEqual(mute.read_until_end()[0], b"")
        wait_for("all are counted", lambda: self.failures(gateway, "not_tls") == 7)
        slow = [self.client(port) for _ in range(100)]
        for client in slow:
            client.send(b"\x16\x03\x01")  # the beginning of a record
        self.ask(port)  # others are served meanwhile
        for client in slow:
            client.read_until_end()
        wait_for("they are counted", lambda: self.failures(gateway, "timed_out") == 100)
        wait_for("nothing is left", lambda: gateway.value("penstock_tls_connections", peer="client") <= 1)

    def test_many_handshakes_at_once_leave_room_for_a_stream(self):
        gateway, port = self.start(shards=1)
        stream = self.connect(port)
        stream.send(harness.request_bytes("POST", "/v1/chat/completions", chat(max_tokens=400, stream=True)))
        stream.read_head()

        def handshake(_):
            for _ in range(5):
                self.ask(port).close()

        in_threads(20, handshake)
        self.assertEqual(gateway.value("penstock_tls_handshakes_total", peer="client"), 101)
        gateway.wait_outcomes({"ok": 101})


class Mounted(Tls):
    """With a pair in a Secret that changes."""

    def setUp(self):
        super().setUp()
        self.secret = MountedSecret(os.path.join(self.folder, "secret"))
        self.made = 0
        self.turn()
        self.paths = (os.path.join(self.secret.path, "tls.crt"), os.path.join(self.secret.path, "tls.key"))

    def contents(self, *names):
        self.made += 1
        folder = os.path.join(self.folder, f"made{self.made}")
        for path, name in zip(self.authority.issue(folder, "DNS:server.test,IP:127.0.0.1"), names):
            with open(path, "rb") as file:
                yield name, file.read()
        shutil.rmtree(folder)

    def turn(self, **replaced):
        files = dict(self.contents("tls.crt", "tls.key"))
        files.update({name.replace("_", "."): content for name, content in replaced.items()})
        self.secret.put(files)

    def serial(self, port):
        client = self.connect(port)
        try:
            return client.certificate["serialNumber"]
        finally:
            client.close()


class Certificates(Mounted):
    def test_a_new_certificate_is_served_without_a_failed_request(self):
        gateway, port = self.start(self.paths)
        stop, failed, asked, serials = threading.Event(), [], [0], set()

        def load(_):
            while not stop.is_set():
                try:
                    serials.add(self.ask(port).certificate["serialNumber"])
                    asked[0] += 1
                except Exception as error:  # pylint: disable=broad-except
                    failed.append(error)
                    return

        threads = [threading.Thread(target=load, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(8):
                before = gateway.value("penstock_tls_certificate_reloads_total", result="ok")
                self.turn()
                enough = asked[0] + 8
                wait_for("the load goes on", lambda: failed or asked[0] >= enough)
                wait_for(
                    "the change is noticed",
                    lambda: gateway.value("penstock_tls_certificate_reloads_total", result="ok") > before,
                )
        finally:
            stop.set()
            for thread in threads:
                thread.join(PATIENCE)
        self.assertEqual(failed, [])
        self.assertGreater(len(serials), 4)
        self.assertEqual(gateway.value("penstock_tls_certificate_reloads_total", result="refused"), 0)

    def test_a_bad_pair_is_refused_once_and_the_old_one_stays(self):
        gateway, port = self.start(self.paths)
        serial = self.serial(port)
        expiry = gateway.value("penstock_tls_certificate_expiry_timestamp_seconds", listener="secure")
        self.assertGreater(expiry, 1.7e9)
        with open(self.pair[1], "rb") as file:
            self.turn(tls_key=file.read())
        refused = lambda: gateway.value("penstock_tls_certificate_reloads_total", result="refused")
        wait_for("it is refused", lambda: refused() == 1)
        gateway.err.wait("do not belong together")
        self.assertEqual(self.serial(port), serial)
        gateway.signal(harness.signal.SIGHUP)  # the configuration as a whole is refused as well, and nothing is lost
        gateway.err.wait("reload refused")
        self.turn()
        wait_for("the next one is served", lambda: self.serial(port) != serial)
        self.assertEqual(refused(), 1)

    def test_a_reload_changes_what_is_asked_of_clients_but_not_where(self):
        gateway, port = self.start(self.paths)
        self.ask(port)
        gateway.write_config(listener(self.paths, strict_sni="true") + "access_log: {enabled: false}\npin: false\n")
        gateway.signal(harness.signal.SIGHUP)
        gateway.err.wait("reloaded")
        with self.assertRaisesRegex(ssl.SSLError, "UNRECOGNIZED_NAME"):
            self.connect(port, server_name="unknown.test")
        gateway.write_config("access_log: {enabled: false}\npin: false\n")
        gateway.signal(harness.signal.SIGHUP)
        gateway.err.wait("needs a restart.*listeners")
        self.ask(port)


class Admin(Mounted):
    def config(self, **more):
        cert, key = self.paths
        rest = "".join(f"    {key}: {value}\n" for key, value in more.items())
        return f"admin:\n  tls:\n    certificates: [{{cert: {cert}, key: {key}}}]\n{rest}"

    def start_admin(self, context=None, **tls):
        gateway = self.gateway([self.sim()], self.config(**tls), admin_context=context or self.context)
        self.assertIn("https", gateway.err.wait("admin pages.*").group(0))
        return gateway

    def test_pages_probes_and_scrapes(self):
        gateway = self.start_admin()
        port = gateway.admin_port
        for path, expected in (("healthz", "ok"), ("readyz", "ready"), ("metrics", "inference_pool_ready_pods")):
            code, out, err = run_program(
                "curl", "-sS", "--cacert", self.authority.path, "--resolve", f"server.test:{port}:127.0.0.1",
                f"https://server.test:{port}/{path}", "-w", "status %{http_code} version %{http_version}",
            )
            self.assertEqual((code, err), (0, ""))
            self.assertIn(expected, out)
            self.assertTrue(out.endswith("status 200 version 1.1"), out[-100:])
        client = self.connect(port)
        for path in ("/status", "/", "/debug/decisions", "/metrics"):
            self.assertEqual(client.request("GET", path).status, 200, path)  # kept alive
        self.assertGreater(
            gateway.value("penstock_tls_certificate_expiry_timestamp_seconds", listener="admin"), 1.7e9
        )
        self.assertGreater(gateway.value("penstock_tls_handshakes_total", peer="client"), 4)
        self.assertEqual(harness.fetch(gateway.port, "/v1/models").status, 200)  # plain, as before

    def test_plain_http_is_refused(self):
        gateway = self.start_admin()
        self.assertEqual(harness.fetch(gateway.admin_port, "/healthz").status, 400)
        wait_for("it is counted", lambda: self.failures(gateway, "not_tls") == 1)
        self.assertEqual(gateway.admin("/healthz").status, 200)

    def test_client_certificates(self):
        ours = self.authority.issue(os.path.join(self.folder, "c"), "DNS:prometheus.test", "prometheus")
        gateway = self.start_admin(
            client_context(self.authority, ours), client_certificates="required", client_ca=self.authority.path
        )
        with self.assertRaises((ssl.SSLError, ConnectionEnded, ConnectionResetError, BrokenPipeError)):
            self.connect(gateway.admin_port).request("GET", "/healthz")
        wait_for("it is counted", lambda: self.failures(gateway, "peer_certificate") == 1)

    def test_a_new_pair_is_served_and_a_bad_one_is_refused(self):
        gateway = self.start_admin()
        port = gateway.admin_port
        serial, before = self.serial(port), self.connect(port)
        self.turn()
        wait_for("the new one is served", lambda: self.serial(port) != serial)
        self.assertEqual(gateway.value("penstock_tls_certificate_reloads_total", result="ok"), 1)
        self.assertEqual(before.request("GET", "/healthz").status, 200)  # what is open stays
        serial = self.serial(port)
        with open(self.pair[1], "rb") as file:
            self.turn(tls_key=file.read())
        refused = lambda: gateway.value("penstock_tls_certificate_reloads_total", result="refused")
        wait_for("it is refused", lambda: refused() == 1)
        gateway.err.wait("of=\"?admin.*do not belong together")
        self.assertEqual(self.serial(port), serial)
        self.turn()
        wait_for("the next one is served", lambda: self.serial(port) != serial)
        self.assertEqual(refused(), 1)

    def test_a_reload_changes_what_it_says_but_not_whether_there_is_tls(self):
        gateway = self.start_admin()
        rest = "access_log: {enabled: false}\npin: false\n"
        gateway.write_config(self.config(min_version="1.3") + rest)
        gateway.signal(harness.signal.SIGHUP)
        gateway.err.wait("reloaded")
        with self.assertRaises(ssl.SSLError):
            self.connect(gateway.admin_port, context=client_context(self.authority, version=ssl.TLSVersion.TLSv1_2))
        gateway.write_config(rest)
        gateway.signal(harness.signal.SIGHUP)
        gateway.err.wait("needs a restart.*admin.tls|admin.tls.*needs a restart")
        self.assertEqual(gateway.admin("/healthz").status, 200)


if __name__ == "__main__":
    harness.main()
