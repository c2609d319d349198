"""Whether the gateway calls itself ready, what it says is wrong with endpoints, and the key that it shows to them."""

import os

import harness
from harness import E2E, answer_bytes, completion, run_program, wait_for

METRICS = b"vllm:num_requests_running 0\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0\n"
MODELS = b'{"object":"list","data":[{"id":"m","object":"model","owned_by":"vllm"}]}'
QUICK = "metrics: {health_interval: 100ms, idle_interval: 100ms%s}\n"


def problems(gateway, i=0):
    endpoint = gateway.status_page()["pools"][0]["endpoints"][i]
    return {p["what"]: p for p in endpoint["problems"]}


class Ready(E2E):
    def test_without_a_living_endpoint_it_is_not_ready_and_says_why(self):
        a, b = self.sim("--instant"), self.sim("--instant")
        gateway = self.gateway([a, b], QUICK % "" + harness.AT_ONCE)
        self.assertEqual(gateway.admin("/readyz").body, b"ready\n")
        self.assertEqual(problems(gateway), {})
        a.kill()
        gateway.wait_pods(1)
        self.assertEqual(gateway.admin("/readyz").status, 200)  # one is enough
        found = wait_for("its problem", lambda: problems(gateway, 0) or problems(gateway, 1))
        self.assertEqual(found["health"]["why"], "GET /health: connection refused")
        b.kill()
        answer = wait_for("it is not ready", lambda: (r := gateway.admin("/readyz")).status == 503 and r)
        text = answer.body.decode()
        self.assertRegex(text, r"^not ready: no endpoint can be used: 2 endpoints are not ready \([^\n]*\)\n$")
        self.assertIn(f"{a.address}: GET /health: connection refused", text)
        status = gateway.status_page()
        self.assertFalse(status["ready"])
        self.assertIn("no endpoint can be used", status["not_ready_because"])
        endpoint = status["pools"][0]["endpoints"][0]
        self.assertEqual(endpoint["state"], "not_ready")
        self.assertGreaterEqual(endpoint["problems"][0]["for_s"], 0)
        self.assertLess(endpoint["state_for_s"], status["uptime_s"] + 1)
        self.assertEqual(self.client(gateway).post("/v1/completions", completion()).status, 503)
        self.assertEqual(gateway.admin("/healthz").status, 200)
        self.sim("--instant", port=a.port)
        wait_for("it is ready again", lambda: gateway.admin("/readyz").status == 200)

    def test_a_gateway_that_starts_without_a_living_endpoint_is_not_ready(self):
        sim = self.sim()
        sim.kill()
        gateway = self.gateway([sim], QUICK % "", ready=False)
        wait_for("the reason", lambda: b"connection refused" in gateway.admin("/readyz").body)
        self.assertEqual(gateway.admin("/readyz").status, 503)
        self.sim("--instant", port=sim.port)
        wait_for("it is ready", lambda: gateway.admin("/readyz").status == 200)

    def test_a_health_probe_that_is_answered_with_an_error_is_the_reason(self):
        fake = self.fake()
        fake.poll_script = lambda _, sock: sock.sendall(answer_bytes(503, b""))
        gateway = self.gateway([fake], QUICK % "", ready=False)
        wait_for("the reason", lambda: b"GET /health: status 503" in gateway.admin("/readyz").body)

    def test_a_probe_that_times_out_is_the_reason(self):
        fake = self.fake()
        _, fake.poll_script = self.held(lambda _, sock: sock.sendall(answer_bytes(200, b"")))
        gateway = self.gateway([fake], QUICK % ", timeout: 50ms", ready=False)
        wait_for("the reason", lambda: b"GET /health: no answer in time" in gateway.admin("/readyz").body)

    def test_a_setting_keeps_it_ready(self):
        sim = self.sim()
        sim.kill()
        gateway = self.gateway([sim], QUICK % "" + "readiness: {no_endpoint: ready}\n", ready=False)
        wait_for("it is ready", lambda: gateway.admin("/readyz").status == 200)
        wait_for("its problem", lambda: problems(gateway))

    def test_while_requests_wait_for_the_last_endpoint_it_is_ready(self):
        sim = self.sim()
        gateway = self.gateway([sim], QUICK % "" + "flow_control: {no_endpoint_ttl: 2s}\n")
        sim.kill()
        gateway.wait_pods(0)
        self.assertEqual(gateway.admin("/readyz").body, b"ready\n")
        wait_for("it is not ready", lambda: gateway.admin("/readyz").status == 503)
        self.assertEqual(self.client(gateway).post("/v1/completions", completion()).status, 503)


class Keys(E2E):
    """An endpoint that wants a key for its metrics and its list of models, and sees what each request brings."""

    def endpoint(self, key):
        fake = self.fake()
        fake.key, fake.seen = key, []

        def poll(request, sock):
            fake.seen.append((request.path, request.header("authorization")))
            good = request.header("authorization") == f"Bearer {fake.key}"
            if request.path == "/health":
                sock.sendall(answer_bytes(200, b""))
            elif not good:
                sock.sendall(answer_bytes(401, b'{"error":"Unauthorized"}'))
            else:
                sock.sendall(answer_bytes(200, METRICS if request.path == "/metrics" else MODELS))

        fake.poll_script = poll
        return fake

    def known(self, gateway, i=0):
        endpoint = gateway.status_page()["pools"][0]["endpoints"][i]
        return endpoint["models"] == ["m"] and endpoint["metrics"] is not None

    def test_the_key_is_sent_by_us_and_to_nobody_for_clients(self):
        fake = self.endpoint("s3cret-one")
        path = self.file("key", "  s3cret-one\n")
        gateway = self.gateway([fake], QUICK % f", api_key_file: {path}")
        wait_for("metrics and models are known", lambda: self.known(gateway))
        self.assertEqual({auth for _, auth in fake.seen}, {"Bearer s3cret-one"})
        client = self.client(gateway)
        client.post("/v1/completions", completion())
        client.post("/v1/completions", completion(), headers=[("authorization", "Bearer mine")])
        self.assertEqual([r.header("authorization") for r in fake.requests], [None, "Bearer mine"])
        for page in ("/status", "/metrics", "/", "/debug/decisions"):
            self.assertNotIn(b"s3cret", gateway.admin(page).body)
        self.assertNotIn("s3cret", gateway.log())

    def test_without_or_with_a_wrong_key_the_status_says_so(self):
        fake = self.endpoint("right")
        gateway = self.gateway([fake], QUICK % "")
        found = wait_for("both problems", lambda: len(p := problems(gateway)) == 2 and p)
        for what, path in (("metrics", "/metrics"), ("models", "/v1/models")):
            self.assertRegex(found[what]["why"], f"^GET {path}: status 401: it wants a key")
        path = self.file("key", "wrong-s3cret")
        gateway = self.gateway([fake], QUICK % f", api_key_file: {path}")
        found = wait_for("both problems", lambda: len(p := problems(gateway)) == 2 and p)
        self.assertEqual(found["metrics"]["why"], f"GET /metrics: status 401: it refuses the key in {path}")
        self.assertNotIn("s3cret", gateway.log())

    def test_each_endpoint_may_have_its_own(self):
        a, b = self.endpoint("key-a"), self.endpoint("key-b")
        path_a, path_b = self.file("a", "key-a"), self.file("b", "key-b\n")
        config = f"endpoints:\n  - {a.url}\n  - {{url: {b.url}, api_key_file: {path_b}}}\n"
        gateway = self.gateway(config=config + QUICK % f", api_key_file: {path_a}")
        for i in range(2):
            wait_for("it is known", lambda i=i: self.known(gateway, i))

    def test_a_changed_file_changes_the_key(self):
        fake = self.endpoint("first")
        folder = self.directory()
        # As a mounted Secret: the name leads through a link to a folder, and the link is replaced.
        for version in ("1", "2"):
            os.mkdir(os.path.join(folder, version))
        with open(os.path.join(folder, "1", "key"), "w", encoding="utf-8") as file:
            file.write("first")
        os.symlink("1", os.path.join(folder, "..data"))
        os.symlink(os.path.join("..data", "key"), os.path.join(folder, "key"))
        gateway = self.gateway([fake], QUICK % f", api_key_file: {folder}/key")
        wait_for("it is known", lambda: self.known(gateway))
        fake.key = "second"
        wait_for("the old one is refused", lambda: "refuses the key" in problems(gateway).get("metrics", {}).get("why", ""))
        with open(os.path.join(folder, "2", "key"), "w", encoding="utf-8") as file:
            file.write("second")
        os.symlink("2", os.path.join(folder, "..tmp"))
        os.rename(os.path.join(folder, "..tmp"), os.path.join(folder, "..data"))
        wait_for("the new one is used", lambda: not problems(gateway))
        # A file that is no use changes nothing.
        os.unlink(os.path.join(folder, "2", "key"))
        with open(os.path.join(folder, "2", "key"), "w", encoding="utf-8") as file:
            file.write("")
        wait_for("it is reported", lambda: "the key for endpoints stays as it was" in gateway.log())
        self.assertEqual(problems(gateway), {})

    def test_a_file_that_is_no_use_is_an_error_of_the_configuration(self):
        for name, text, wanted in (
            ("empty", " \n", "the file is empty"),
            ("two-words", "a b", "not one word of visible ASCII"),
            ("missing", None, "No such file"),
        ):
            key = self.file(name, text or "")
            if text is None:
                os.unlink(key)
            text = f"kind: GatewayConfig\nmetrics:\n  api_key_file: {key}\nendpoints:\n  - {{url: 'http://127.0.0.1:1', api_key_file: {key}}}\n"
            path = self.file("gateway.yaml", text)
            for command in ("check", "serve"):
                code, _, err = run_program(harness.PENSTOCK, command, "--config", path)
                self.assertEqual(code, 1, err)
                self.assertRegex(err, f"gateway.yaml:3: metrics.api_key_file: .*{key}.*{wanted}")
                self.assertRegex(err, rf"gateway.yaml:5: endpoints\[0\].api_key_file: .*{key}.*{wanted}")


if __name__ == "__main__":
    harness.main()
