"""Requests that a model server leaves behind: because it died, or as its answer says. As vLLM does it: when its engine
dies, it answers what it had with 500, or with an error event where a stream has begun; when it is told to stop, it ends
each answer where it is and names "abort" as the reason."""

import os
import signal
import threading

import harness
from harness import E2E, ConnectionEnded, answer_bytes, chat, completion, in_threads, request_bytes, wait_for
from test_routes import REWRITE

# Takes turns, and never loses patience. Nothing here may depend on a budget.
EVEN = "routing: {policy: round-robin}\nejection: {consecutive_failures: 1000}\nretry: {budget_percent: 0, budget_min: 0}\nresume: {enabled: false}\n"

# Takes turns, and ejects after three failures in a row.
PATIENT = "routing: {policy: round-robin}\nejection: {base_penalty: 60s}\nretry: {budget_percent: 0, budget_min: 20}\nresume: {enabled: false}\n"

DEAD = b'{"error":{"message":"The engine has died.","type":"InternalServerError","param":null,"code":500}}'
FULL_BODY = b'{"error":{"message":"Busy.","type":"Service Unavailable","param":null,"code":503}}'
FULL = answer_bytes(503, FULL_BODY)
# Of /v1/messages: no code, but a type.
FULL_MESSAGE = b'{"type":"error","error":{"type":"Service Unavailable","message":"Busy."}}'
CHOICE = b'{"id":"cmpl-1","object":"text_completion","model":"m","choices":[{"index":0,"text":" a","finish_reason":%s}]}'
CUT_SHORT = CHOICE % b'"abort"'
TEXT, LAST, DONE = (b"data: %s\n\n" % data for data in (CHOICE % b"null", CUT_SHORT, b"[DONE]"))
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def failed(code):
    return b'data: {"error": {"message": "x", "type": "y", "param": null, "code": %d}}\n\n' % code


def chunks(*events):
    return b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)


def stream(*events):
    """A whole stream in one write, a chunk for each event."""
    return HEAD + chunks(*events, DONE) + b"0\r\n\r\n"


class GivenUp(E2E):
    any_path = True

    def fakes(self, answer, count=1):
        return [self.fake(lambda _, sock: sock.sendall(answer) or True) for _ in range(count)]

    def serve(self, endpoints):
        gateway = self.gateway(endpoints, EVEN, shards=1)
        gateway.wait_pods(len(endpoints))
        return gateway

    def asked(self, fakes):
        return sum(len(fake.requests) for fake in fakes)

    def failures(self, gateway, reason):
        metrics = gateway.metrics()
        return tuple(metrics.sum(f"penstock_{name}_total", reason=reason) for name in ("attempt_failures", "retries"))


class BeforeTheFirstByte(GivenUp):
    def check_another_answers(self, bad, reason, path="/v1/completions", make=completion, **more):
        fakes = self.fakes(bad)
        gateway = self.serve([*fakes, self.sim("--instant")])
        client = self.client(gateway)
        for turn in range(4):
            answer = client.post(path, make(f"turn {turn}", max_tokens=8, **more))
            self.assertEqual(answer.status, 200, answer)
            self.assertRegex(answer.body, b"length|max_tokens")  # as each API calls it
            for word in (b"error", b"abort"):
                self.assertNotIn(word, answer.body)
        gateway.wait_outcomes({"ok": 4})
        asked = self.asked(fakes)
        self.assertGreater(asked, 0)
        self.assertEqual(self.failures(gateway, reason), (asked, asked))

    def test_a_500(self):
        for streaming in (False, True):
            self.check_another_answers(answer_bytes(500, DEAD), "status_500", stream=streaming)

    def test_a_stream_that_says_nothing_but_an_error(self):
        self.check_another_answers(stream(failed(500)), "error_event", stream=True)
        event = b'event: error\ndata: {"type":"error","error":{"type":"internal_error","message":"x"}}\n\n'
        self.check_another_answers(stream(event), "error_event", "/v1/chat/completions", chat, stream=True)

    def test_a_stream_whose_error_comes_together_with_its_text(self):
        self.check_another_answers(stream(TEXT, failed(502)), "error_event", stream=True)

    def test_an_error_that_is_the_requests_or_of_a_path_that_passes_unread_is_relayed(self):
        ours = b'data: {"error": {"type": "invalid_request_error", "code": "context_length_exceeded"}}\n\n'
        other = b'data: {"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "x"}}\n\n'
        for path, event, outcome in (("/v1/completions", ours, "endpoint_4xx"), ("/mcp", other, "ok")):
            with self.subTest(path):
                fakes = self.fakes(stream(event), count=2)
                gateway = self.serve(fakes)
                answer = self.client(gateway).post(path, completion(stream=True))
                self.assertEqual((answer.status, self.asked(fakes)), (200, 1))
                self.assertIn(event[6:].strip(), answer.body)
                gateway.wait_outcomes({outcome: 1})
                self.assertEqual(self.failures(gateway, "error_event"), (0, 0))

    def test_full_servers(self):
        """In each way in which one may say so: in the head, in the body, or, where that was too late, in a stream."""
        for bad in (FULL, answer_bytes(503, b"later", [("retry-after", "1")], "text/plain")):
            self.check_another_answers(bad, "server_full")
        self.check_another_answers(stream(failed(503)), "server_full", stream=True)
        messages = {"path": "/v1/messages", "make": chat}
        self.check_another_answers(answer_bytes(503, FULL_MESSAGE), "server_full", **messages)
        event = b"event: error\ndata: " + FULL_MESSAGE.replace(b"Service Unavailable", b"overloaded_error") + b"\n\n"
        self.check_another_answers(stream(event), "server_full", **messages, stream=True)

    def test_only_the_first_retry_after_full_servers_is_free(self):
        fakes = self.fakes(FULL, count=3)
        gateway = self.gateway(fakes, EVEN.replace("budget_min: 0", "budget_min: 2"), shards=1)
        gateway.wait_pods(3)
        client = self.client(gateway)
        for _ in range(6):
            answer = client.post("/v1/completions", completion())
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (503, 503))
        self.assertEqual(self.asked(fakes), 6 + 6 + 2)
        gateway.wait_outcomes({"endpoint_error": 6})
        self.assertEqual(self.failures(gateway, "server_full"), (14, 8))

    def test_the_words_of_a_full_server_that_is_the_only_one_are_relayed(self):
        """Also where its head and its body come apart, and where the client's name for the model is put back."""

        def script(_, sock):
            for piece in (FULL[: -len(FULL_BODY)], FULL_BODY):
                sock.sendall(piece)
            return True

        for named, model in (("", "m"), (REWRITE, "chat")):
            with self.subTest(model):
                fake, folder = self.fake(script), self.directory()
                with open(os.path.join(folder, "objects.yaml"), "w", encoding="utf-8") as file:
                    file.write(harness.pool_manifest(fake.port, name="a") + named)
                gateway = self.gateway([], EVEN, flags=("--manifests", folder), shards=1)
                gateway.wait_pods(1)
                answer = self.client(gateway).post("/v1/completions", completion(model=model))
                self.assertEqual((answer.status, answer.body), (503, FULL_BODY))
                self.assertEqual(answer.header("content-length"), str(len(FULL_BODY)))
                gateway.wait_outcomes({"endpoint_error": 1})
                self.assertEqual(self.failures(gateway, "server_full"), (1, 0))

    def test_a_full_server_is_not_ejected_and_one_that_only_says_503_is(self):
        scaling = answer_bytes(503, b'{"error":"The model is being scaled."}')
        for refusal, ejections in ((FULL, 0), (scaling, 1)):
            with self.subTest(ejections=ejections):
                [fake], sim = self.fakes(refusal), self.sim("--instant")
                gateway = self.gateway([fake, sim], PATIENT, shards=1)
                gateway.wait_pods(2)
                client = self.client(gateway)
                for _ in range(12):
                    self.assertEqual(client.post("/v1/completions", completion(max_tokens=1)).status, 200)
                self.assertTrue(self.asked([fake]) == 3 if ejections else self.asked([fake]) > 3, fake.requests)
                self.assertEqual(gateway.value("penstock_endpoint_ejections_total", endpoint=fake.address), ejections)

    def test_a_server_at_its_limit_of_requests(self):
        full, other = self.sim("--decode-ms", "20", "--max-num-queued-reqs", "1"), self.sim("--instant")
        gateway = self.gateway([full, other], PATIENT, shards=1)
        gateway.wait_pods(2)
        asking = threading.Thread(target=lambda: self.client(full).post("/v1/completions", completion(max_tokens=1000)))
        asking.start()
        wait_for("it is full", lambda: full.gauge("vllm:num_requests_running") == 1)
        client = self.client(gateway)
        for _ in range(12):
            answer = client.post("/v1/completions", completion(max_tokens=1))
            self.assertEqual((answer.status, answer.header("x-penstock-endpoint")), (200, other.address))
        refused, retries = self.failures(gateway, "server_full")
        self.assertGreater(refused, 3)
        self.assertEqual(retries, refused)
        self.assertEqual(gateway.value("penstock_endpoint_ejections_total", endpoint=full.address), 0)
        full.kill()
        asking.join()

    def test_an_answer_that_was_cut_short(self):
        self.check_another_answers(answer_bytes(200, CUT_SHORT), "aborted")
        self.check_another_answers(stream(LAST), "aborted", stream=True)

    def test_a_server_that_is_told_to_stop(self):
        sims = [self.sim("--decode-ms", "20", "--on-sigterm", "abort") for _ in range(2)]
        gateway = self.serve(sims)
        statuses = []

        def ask(i):
            answer = self.client(gateway).post("/v1/completions", completion(f"Number {i}.", max_tokens=60))
            statuses.append((answer.status, answer.json()["choices"][0]["finish_reason"]))

        asking = threading.Thread(target=in_threads, args=(20, ask))
        asking.start()
        running = lambda sim: sim.gauge("vllm:num_requests_running")
        wait_for("all of them are there", lambda: sum(map(running, sims)) == 20)
        sims[0].signal(signal.SIGTERM)
        self.assertEqual(sims[0].wait(), 0)
        asking.join()
        self.assertEqual(statuses, [(200, "length")] * 20)
        aborted, retries = self.failures(gateway, "aborted")
        self.assertGreater(aborted, 0)
        self.assertEqual(retries, aborted)

    def test_no_budget_keeps_requests_at_a_server_that_died(self):
        """However many wait there at once: that they move adds nothing to what the pool has to do."""
        sims = [self.sim("--decode-ms", "20") for _ in range(2)]
        gateway = self.serve(sims)
        answers = []
        ask = lambda i: answers.append(self.client(gateway).post("/v1/completions", completion(f"Number {i}.", 60)))
        asking = threading.Thread(target=in_threads, args=(40, ask))
        asking.start()
        there = lambda: sims[0].gauge("vllm:num_requests_running")
        wait_for("half of them are at each", lambda: there() + sims[1].gauge("vllm:num_requests_running") == 40)
        lost = there()
        sims[0].kill()
        asking.join()
        self.assertEqual([answer.status for answer in answers], [200] * 40)
        self.assertGreater(lost, 10)
        self.assertEqual(gateway.value("penstock_retries_total"), lost)

    def test_a_request_that_fails_everywhere_is_tried_twice(self):
        for bad, reason, streaming, status, outcome in (
            (answer_bytes(500, DEAD), "status_500", False, 500, "endpoint_error"),  # the last one's own words
            (stream(failed(500)), "error_event", True, 503, "upstream_failed"),
            (answer_bytes(200, CUT_SHORT), "aborted", False, 503, "upstream_failed"),
            (HEAD + chunks(TEXT) + b"0\r\n\r\n", "unfinished", True, 503, "upstream_failed"),
        ):
            with self.subTest(reason=reason):
                fakes = self.fakes(bad, count=3)
                gateway = self.serve(fakes)
                answer = self.client(gateway).post("/v1/completions", completion(stream=streaming))
                self.assertEqual(answer.status, status)
                self.assertEqual(answer.json()["error"]["code"], 500 if status == 500 else "endpoints_unavailable")
                self.assertEqual(self.asked(fakes), 2)
                gateway.wait_outcomes({outcome: 1})
                self.assertEqual(self.failures(gateway, reason)[1], 1)

    def test_what_is_no_failure_of_the_server(self):
        for bad, path, streaming, outcome in (
            (stream(failed(400)), "/v1/completions", True, "endpoint_4xx"),
            (answer_bytes(500, DEAD), "/not/known", False, "endpoint_error"),  # nobody knows what it may have done
        ):
            with self.subTest(path=path):
                fakes = self.fakes(bad, count=2)
                gateway = self.serve(fakes)
                answer = self.client(gateway).post(path, completion(stream=streaming))
                self.assertIn(b'"error"', answer.body)
                self.assertEqual(self.asked(fakes), 1)
                gateway.wait_outcomes({outcome: 1})
                self.assertEqual(gateway.value("penstock_attempts_total"), 1)

    def test_also_where_the_clients_name_for_the_model_is_put_back(self):
        """Such an answer is gathered, or gets a framing of ours."""
        for bad, streaming in ((answer_bytes(200, CUT_SHORT), False), (stream(failed(500)), True)):
            with self.subTest(streaming=streaming):
                [fake], sim = self.fakes(bad), self.sim("--instant", "--model", "base")
                folder = self.directory()
                with open(os.path.join(folder, "objects.yaml"), "w", encoding="utf-8") as file:
                    file.write(harness.pool_manifest(fake.port, sim.port, name="a") + REWRITE)
                gateway = self.gateway([], EVEN, flags=("--manifests", folder), shards=1)
                gateway.wait_pods(2)
                for _ in range(2):
                    answer = self.client(gateway).post("/v1/completions", completion(model="chat", stream=streaming))
                    self.assertEqual(answer.status, 200, answer)
                    self.assertIn(b"length", answer.body)
                    self.assertIn(b'"chat"', answer.body)
                    self.assertNotIn(b"abort", answer.body)
                    self.assertNotIn(b"error", answer.body)
                gateway.wait_outcomes({"ok": 2})
                self.assertGreater(len(fake.requests), 0)


class AfterIt(GivenUp):
    def test_a_stream_that_ends_with_an_error_is_no_success(self):
        for last, reason in ((failed(500), "error_event"), (LAST, "aborted")):
            with self.subTest(reason=reason):

                begun = threading.Event()

                def script(_, sock, last=last, begun=begun):
                    sock.sendall(HEAD + chunks(TEXT))
                    begun.wait(harness.PATIENCE)
                    sock.sendall(chunks(last, DONE) + b"0\r\n\r\n")
                    return True

                gateway = self.serve([self.fake(script)])
                client = self.client(gateway)
                client.send(request_bytes("POST", "/v1/completions", completion(stream=True)))
                answer = client.read_head()  # it comes with the first event
                begun.set()
                with self.assertRaises(ConnectionEnded):
                    client._read_body(answer, "POST")
                if reason == "error_event":
                    self.assertEqual(answer.body, TEXT + last)
                else:
                    self.assertTrue(answer.body.startswith(TEXT + b'data: {"error":{'), answer.body)
                    self.assertIn(b'"stream_broken"', answer.body)
                self.assertNotIn(b"abort", answer.body)
                gateway.wait_outcomes({"stream_broken": 1})
                self.assertEqual(self.failures(gateway, reason), (1, 0))
                self.assertEqual(gateway.value("penstock_broken_streams_total", reason=reason), 1)

    def broken_behind(self, *last, version="HTTP/1.1"):
        """What a client gets of a stream that breaks behind these events."""
        begun = threading.Event()

        def script(_, sock):
            sock.sendall(HEAD + chunks(TEXT))
            begun.wait(harness.PATIENCE)
            sock.sendall(chunks(*last))
            return False

        gateway = self.serve([self.fake(script)])
        client = self.client(gateway)
        client.send(request_bytes("POST", "/v1/completions", completion(stream=True), version=version))
        answer = client.read_head()
        begun.set()
        try:
            client._read_body(answer, "POST")
        except ConnectionEnded as ended:
            self.assertEqual(ended.reset, version == "HTTP/1.0")  # where nothing else shows that it broke
        gateway.wait_outcomes({"stream_broken": 1})
        return answer.body

    def test_a_stream_that_breaks_behind_the_servers_error_gets_no_second_one(self):
        for last in ((failed(500),), (failed(400),), (failed(500), DONE)):
            for version in ("HTTP/1.1", "HTTP/1.0")[: 1 if harness.over_http2() else 2]:
                with self.subTest(last=last, version=version):
                    self.assertEqual(self.broken_behind(*last, version=version), TEXT + last[0])

    def test_nothing_behind_an_error_is_relayed(self):
        self.assertEqual(self.broken_behind(failed(500), TEXT), TEXT + failed(500))

    def test_servers_whose_streams_break_are_ejected(self):
        """But not for errors that they lay to the requests."""
        for last, ejections in ((LAST, 1), (failed(500), 1), (failed(400), 0)):
            with self.subTest(last=last):

                def script(_, sock, last=last):
                    sock.sendall(HEAD + chunks(TEXT))
                    wait_for("it has been relayed", lambda: relayed.acquire(blocking=False))
                    sock.sendall(chunks(last, DONE) + b"0\r\n\r\n")
                    return True

                relayed = threading.Semaphore(0)
                fake = self.fake(script)
                gateway = self.gateway([fake], PATIENT, shards=1)
                gateway.wait_pods(1)
                for _ in range(3):
                    client = self.client(gateway)
                    client.send(request_bytes("POST", "/v1/completions", completion(stream=True)))
                    answer = client.read_head()
                    relayed.release()
                    with self.assertRaises(ConnectionEnded):
                        client._read_body(answer, "POST")
                gateway.wait_outcomes({"stream_broken": 3})
                self.assertEqual(gateway.value("penstock_endpoint_ejections_total", endpoint=fake.address), ejections)


if __name__ == "__main__":
    harness.main()
