"""Streams that go on at another endpoint when theirs fails: the client gets the text of an unbroken run, and sees one stream."""

import json
import threading

import harness
from events import Stream, without_details
from harness import E2E, ConnectionEnded, chat, completion, hard_reset, in_threads, request_bytes, wait_for
from test_failover import ALL_TRIED



def config(more=""):
    return ALL_TRIED + f"resume: {{stall: 500ms{more}}}\n"


CONFIG = config()
BREAKS = {
    "reset": "reset_in_body",
    "end": "unfinished",
    "error": "error_event",
    "abort": "aborted",
    "stall": "idle_timeout",
}
CHAT, COMPLETIONS, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"


def question(path, **more):
    more = {"max_tokens": 40, "stream": True, **more}
    if path == MESSAGES:
        more = {"system": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}], **more}
        return chat("Tell me about the sea.", **more)
    if path == RESPONSES:
        more["max_output_tokens"] = more.pop("max_tokens")
        parts = [{"type": "input_text", "text": "Tell me "}, {"type": "input_text", "text": "about the sea."}]
        return {"model": "sim-model", "instructions": "Be brief.", "input": [{"role": "user", "content": parts}], **more}
    return chat("Tell me about the sea.", **more) if path == CHAT else completion("Once upon a time", **more)


class NamedStream:
    """The same of a stream whose events have names: all of them but the text, in their order, and the text."""

    def __init__(self, response):
        self.events = [json.loads(event) for event in response.events()]
        names = [line[7:] for line in response.body.decode().split("\n") if line.startswith("event: ")]
        assert names == [event["type"] for event in self.events], response
        self.errors = [event for event in self.events if event["type"] == "error"]
        self.text = "".join(event["delta"]["text"] for event in self.events if event["type"] == "content_block_delta")
        self.rest = [plain(event) for event in self.events if event["type"] != "content_block_delta"]


class NumberedStream(NamedStream):
    """The same of the responses API. Where nothing has failed, the events are numbered and the last ones say the text."""

    TEXT = "response.output_text.delta"

    def __init__(self, response):
        super().__init__(response)
        self.text = "".join(event["delta"] for event in self.events if event["type"] == self.TEXT)
        self.rest = [plain(event) for event in self.events if event["type"] != self.TEXT]
        self.ids = {event["response"]["id"] for event in self.events if "response" in event}
        self.items = {event["item_id"] for event in self.events if "item_id" in event}
        self.numbers = [event["sequence_number"] for event in self.events]


def plain(value):
    """Without what differs between two runs: ids, times, and which tokens were cached."""
    if isinstance(value, list):
        return [plain(held) for held in value]
    if not isinstance(value, dict):
        return value
    other = ("id", "item_id", "created_at", "cache_read_input_tokens", "input_tokens_details")
    return {name: plain(held) for name, held in value.items() if name not in other}


class Resume(E2E):
    any_path = True

    def stream(self, gateway_or_port, body, path=CHAT, **options):
        return Stream(self.client(gateway_or_port).post(path, body, **options))

    def unbroken(self, body, path=CHAT, text="varied"):
        """The same from a server that does not fail."""
        return self.stream(self.sim("--instant", "--text", text).port, body, path)

    def wait_for_text(self, client):
        """Some of it has come, and is still to be read."""
        while b'"content":"' not in client.buffer.replace(b'"content":""', b""):
            client._fill()

    def check_whole(self, stream, reference):
        self.assertEqual(stream.errors, [])
        self.assertEqual((stream.done, stream.events[-1]), (1, "[DONE]"))
        self.assertEqual(stream.text, reference.text)
        self.assertEqual((stream.roles, stream.finish), (reference.roles, reference.finish))
        self.assertEqual(stream.usage and without_details(stream.usage), reference.usage and without_details(reference.usage))
        self.assertEqual(len(stream.ids), 1)

    def wait_resumes(self, gateway, **expected):
        wait_for(
            f"resumes are {expected}",
            lambda: all(gateway.value("penstock_stream_resumes_total", result=r) == n for r, n in expected.items()),
        )

    def test_each_kind_of_break_at_many_places(self):
        for path in (CHAT, COMPLETIONS):
            body = question(path, stream_options={"include_usage": True})
            reference = self.unbroken(body, path)
            for kind, reason in BREAKS.items():
                with self.subTest(path=path, kind=kind):
                    places = (0, 1, 17, 39) if kind != "stall" else (17,)
                    faults = [flag for at in places for flag in ("--fail", f"{kind}-after-tokens={at}x1")]
                    bad = self.sim("--decode-ms", "1", "--text", "varied", *faults)
                    good = self.sim("--instant", "--text", "varied")
                    gateway = self.gateway([bad, good], CONFIG, shards=1)
                    for _ in range(2 * len(places)):
                        self.check_whole(self.stream(gateway, body, path), reference)
                    gateway.wait_outcomes({"ok": 2 * len(places)})
                    broken = gateway.value("penstock_broken_streams_total", reason=reason)
                    self.assertGreater(broken, 0)
                    self.wait_resumes(gateway, resumed=broken)

    def test_messages_go_on_at_many_places(self):
        self.check_named(MESSAGES, NamedStream, "message_stop")

    def test_responses_go_on_at_many_places(self):
        for stream in self.check_named(RESPONSES, NumberedStream, "response.completed"):
            self.assertEqual(stream.numbers, list(range(len(stream.events))))
            self.assertEqual((len(stream.ids), len(stream.items)), (1, 1))
            response = stream.events[-1]["response"]
            self.assertEqual((response["status"], response["incomplete_details"]), ("incomplete", {"reason": "max_output_tokens"}))
            self.assertEqual([part["text"] for item in response["output"] for part in item["content"]], [stream.text])
            self.assertEqual([event["text"] for event in stream.events if event["type"].endswith("text.done")], [stream.text])
            self.assertEqual(response["usage"]["output_tokens"], 40)

    def check_named(self, path, kind_of_stream, last):
        """All streams that went on."""
        body, streams = question(path), []
        ask = lambda port: kind_of_stream(self.client(port).post(path, body))
        reference = ask(self.sim("--instant", "--text", "varied").port)
        self.assertEqual([event["type"] for event in reference.rest][-1], last)
        for kind, reason in BREAKS.items():
            with self.subTest(kind):
                places = (0, 1, 17, 39) if kind != "stall" else (17,)
                faults = [flag for at in places for flag in ("--fail", f"{kind}-after-tokens={at}x1")]
                bad = self.sim("--decode-ms", "1", "--text", "varied", *faults)
                gateway = self.gateway([bad, self.sim("--instant", "--text", "varied")], CONFIG, shards=1)
                for _ in range(2 * len(places)):
                    streams.append(stream := ask(gateway))
                    self.assertEqual((stream.errors, stream.text, stream.rest), ([], reference.text, reference.rest))
                gateway.wait_outcomes({"ok": 2 * len(places)})
                broken = gateway.value("penstock_broken_streams_total", reason=reason)
                self.assertGreater(broken, 0)
                self.wait_resumes(gateway, resumed=broken)
        return streams

    def test_messages_that_cannot_be_continued_are_told(self):
        cases = {"reasoning": {"thinking": {"type": "enabled", "budget_tokens": 1024}}, "template_input": {"output_config": {"effort": "low"}}}
        for result, fields in cases.items():
            with self.subTest(result):
                sims = [self.sim("--decode-ms", "5", "--fail", "abort-after-tokens=5") for _ in range(2)]
                gateway = self.gateway(sims, CONFIG, shards=1)
                with self.assertRaises(ConnectionEnded) as caught:
                    self.client(gateway).post(MESSAGES, {**question(MESSAGES), **fields})
                stream = NamedStream(caught.exception.response)
                self.assertEqual([error["error"]["type"] for error in stream.errors], ["api_error"])
                self.assertNotIn("message_stop", [event["type"] for event in stream.rest])
                self.wait_resumes(gateway, resumed=0, **{result: 1})

    def test_responses_that_cannot_be_continued_are_told(self):
        cases = {
            "stored": {"previous_response_id": "resp_1"},
            "tools": {"tools": [{"type": "function", "name": "f", "parameters": {}}]},
            "structured_output": {"text": {"format": {"type": "json_object"}}},
            "truncated_prompt": {"truncation": "auto"},
        }
        for result, fields in cases.items():
            with self.subTest(result):
                sims = [self.sim("--decode-ms", "5", "--fail", "abort-after-tokens=5") for _ in range(2)]
                gateway = self.gateway(sims, CONFIG, shards=1)
                with self.assertRaises(ConnectionEnded) as caught:
                    self.client(gateway).post(RESPONSES, {**question(RESPONSES), **fields})
                stream = NumberedStream(caught.exception.response)
                self.assertEqual([error["code"] for error in stream.errors], ["stream_broken"])
                self.assertEqual(stream.events[-1], stream.errors[0])
                self.assertNotIn("response.completed", [event["type"] for event in stream.rest])
                self.assertEqual(stream.numbers, list(range(len(stream.events))))
                self.wait_resumes(gateway, resumed=0, **{result: 1})

    def test_a_response_keeps_the_clients_name_of_its_model(self):
        flags = ("--instant", "--text", "varied", "--model", "theirs")
        bad, good = self.sim(*flags, "--fail", "reset-after-tokens=9x1"), self.sim(*flags)
        gateway = self.gateway([bad, good], CONFIG, shards=1)
        for _ in range(2):
            body = {**question(RESPONSES), "model": "ours"}
            answer = self.client(gateway).post(RESPONSES, body, headers=[("x-gateway-model-name-rewrite", "theirs")])
            stream = NumberedStream(answer)
            self.assertEqual({event["response"]["model"] for event in stream.events if "response" in event}, {"ours"})
            self.assertEqual((stream.errors, stream.numbers), ([], list(range(len(stream.events)))))
        self.wait_resumes(gateway, resumed=1)

    def test_the_access_log_tells(self):
        bad, good = self.sim("--decode-ms", "1", "--fail", "reset-after-tokens=5x1"), self.sim("--instant")
        path = self.directory() + "/access.log"
        gateway = self.gateway([bad, good], CONFIG + f"access_log: {{format: json, path: {path}}}\n", shards=1)
        for _ in range(2):
            self.stream(gateway, question(CHAT))
        gateway.wait_outcomes({"ok": 2})
        wait_for("both are written", lambda: len(read_lines(path)) == 2)
        lines = read_lines(path)
        self.assertEqual(sorted((line["resumed"], line["attempts"], line["outcome"]) for line in lines), [(0, 1, "ok"), (1, 2, "ok")])

    def test_who_asks_why_is_told_of_the_seam(self):
        bad = self.sim("--instant", "--text", "varied", "--fail", "reset-after-tokens=5x1")
        good = self.sim("--instant", "--text", "varied")
        gateway = self.gateway([bad, good], CONFIG, shards=1)
        for _ in range(2):
            response = self.client(gateway).post(CHAT, question(CHAT), headers=[("x-penstock-explain", "1")])
            self.check_whole(Stream(response), self.unbroken(question(CHAT)))
            if b": resumed" in response.body:
                break
        self.assertIn(f"\n: resumed at {good.address}; profile: round-robin; ".encode(), response.body)
        decisions = json.loads(gateway.admin("/debug/decisions").body)
        told = [(d["attempt"], d["endpoint"]) for d in decisions["decisions"] if d["resumes"]]
        self.assertEqual(told, [(2, good.address)])

    def test_a_model_that_is_renamed_keeps_the_clients_name(self):
        flags = ("--instant", "--text", "varied", "--model", "theirs")
        bad, good = self.sim(*flags, "--fail", "reset-after-tokens=9x1"), self.sim(*flags)
        gateway = self.gateway([bad, good], CONFIG, shards=1)
        body = {**question(CHAT), "model": "ours"}
        streams = [self.stream(gateway, body, headers=[("x-gateway-model-name-rewrite", "theirs")]) for _ in range(2)]
        for stream in streams:
            self.assertEqual(({one[2] for one in stream.ids}, len(stream.ids), stream.done), ({"ours"}, 1, 1))
        self.assertEqual(streams[0].text, streams[1].text)
        self.wait_resumes(gateway, resumed=1)

    def test_stop_strings_hold_behind_the_break(self):
        """Where there are any, the text that has gone out may end within a token, and goes on in other tokens than before."""
        whole = self.unbroken(question(COMPLETIONS), COMPLETIONS).text
        flags = ("--decode-ms", "1", "--text", "varied")
        bad = self.sim(*flags, "--fail", "reset-after-tokens=4..12")
        gateway = self.gateway([bad, self.sim(*flags)], config(", per_stream: 9"), shards=1)
        for at in range(5, len(whole) - 12, 7):
            stop = whole[at : at + 9]
            for _ in range(2):
                stream = self.stream(gateway, question(COMPLETIONS, stop=[stop]), COMPLETIONS)
                self.assertEqual((stream.errors, stream.done, len(stream.finish)), ([], 1, 1))
                self.assertEqual(stream.text[:10], whole[: min(10, at)][: len(stream.text[:10])])
                self.assertNotIn(stop, stream.text)
        self.assertGreater(gateway.value("penstock_stream_resumes_total", result="resumed"), 0)

    def exact(self, *faults, text="broken", more=""):
        """Servers of which one fails, and a gateway that asks them for the ids of their tokens."""
        bad = self.sim("--decode-ms", "1", "--text", text, *(flag for fault in faults for flag in ("--fail", fault)))
        good = self.sim("--instant", "--text", text)
        return self.gateway([bad, good], config(', token_ids: ["*"], per_stream: 9' + more), shards=1)

    def test_text_whose_bytes_are_not_known_goes_on_behind_the_ids_of_its_tokens(self):
        usage = {"include_usage": True}
        for path in (CHAT, COMPLETIONS):
            body = question(path, stream_options=usage, max_tokens=60)
            reference = self.unbroken(body, path, "broken")
            self.assertIn("\ufffd", reference.text)
            self.assertRegex(reference.text, "[^\\x00-\\x7f\ufffd]")
            for kind in ("reset", "error", "abort"):
                with self.subTest(path=path, kind=kind):
                    places = (0, 1, 2, 3, 5, 9, 17, 18, 19, 39, 58)
                    gateway = self.exact(*(f"{kind}-after-tokens={at}x1" for at in places))
                    for _ in range(2 * len(places)):
                        response = self.client(gateway).post(path, body)
                        self.check_whole(Stream(response), reference)
                        self.assertNotRegex(response.body, rb'token_ids":\s*\[')
                    gateway.wait_outcomes({"ok": 2 * len(places)})
                    self.wait_resumes(gateway, resumed=gateway.metrics().sum("penstock_broken_streams_total"))
        off = self.gateway([self.sim("--decode-ms", "1", "--text", "broken", "--fail", "reset-after-tokens=50x1")], CONFIG, shards=1)
        with self.assertRaises(ConnectionEnded):
            self.stream(off, question(CHAT, max_tokens=60))
        self.wait_resumes(off, replacement_character=1)

    def test_a_stream_with_ids_may_break_again_and_again(self):
        body = question(CHAT, max_tokens=60, stream_options={"include_usage": True})
        sims = [self.sim("--instant", "--text", "broken", "--fail", "reset-after-tokens=7x4") for _ in range(2)]
        gateway = self.gateway(sims, config(', token_ids: ["default"], per_stream: 9'), shards=1)
        self.check_whole(self.stream(gateway, body), self.unbroken(body, CHAT, "broken"))
        self.wait_resumes(gateway, resumed=8)

    def test_with_ids_stop_strings_end_the_stream_where_they_always_do(self):
        for text in ("varied", "broken"):
            whole = self.unbroken(question(COMPLETIONS), COMPLETIONS, text).text
            gateway = self.exact("reset-after-tokens=4..12", text=text)
            for at in range(5, len(whole) - 12, 11):
                stop = whole[at : at + 9]
                if "\ufffd" in stop:
                    continue
                body = question(COMPLETIONS, stop=[stop, "no such"], stream_options={"include_usage": True})
                reference = self.unbroken(body, COMPLETIONS, text)
                for _ in range(3):
                    stream = self.stream(gateway, body, COMPLETIONS)
                    # One that the gateway finds may have cost tokens that the endpoint kept back behind it.
                    more = stream.usage["completion_tokens"] - reference.usage["completion_tokens"]
                    self.assertIn(more, range(4))
                    stream.usage = reference.usage
                    self.check_whole(stream, reference)
            self.assertGreater(gateway.value("penstock_stream_resumes_total", result="resumed"), 0)

    def test_a_client_that_wants_ids_itself_gets_them(self):
        gateway = self.exact("reset-after-tokens=7x1", text="varied")
        sizes = []
        for more in ({"return_token_ids": True}, {}):
            body = question(CHAT, stream_options={"include_usage": True}, **more)
            try:
                response = self.client(gateway).post(CHAT, body)
            except ConnectionEnded as ended:
                response = ended.response
            sizes.append(response.body.count(b'"token_ids":['))
        self.assertGreater(sizes[0], 5)
        self.assertEqual(sizes[1], 0)

    def test_a_stream_may_break_again_and_again_but_not_for_ever(self):
        sims = [self.sim("--instant", "--text", "varied", "--fail", "reset-after-tokens=6x2") for _ in range(2)]
        reference = self.unbroken(question(CHAT))
        gateway = self.gateway(sims, config(", per_stream: 3"), shards=1)
        with self.assertRaises(ConnectionEnded) as caught:
            self.stream(gateway, question(CHAT))
        torso = Stream(caught.exception.response)
        self.assertTrue(reference.text.startswith(torso.text) and torso.text)
        self.assertEqual((torso.done, torso.errors[0]["error"]["code"]), (0, "stream_broken"))
        self.wait_resumes(gateway, resumed=3, too_often=1)
        self.check_whole(self.stream(gateway, question(CHAT)), reference)

    def test_what_cannot_be_continued_is_told(self):
        cases = {
            "tools": {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
            "structured_output": {"response_format": {"type": "json_object"}},
            "penalties": {"presence_penalty": 0.5},
            "unknown_field": {"what_is_this": 1},
        }
        for result, fields in cases.items():
            with self.subTest(result):
                sim = self.sim("--instant", "--fail", "reset-after-tokens=5")
                gateway = self.gateway([sim, self.sim("--instant", "--fail", "reset-after-tokens=5")], CONFIG, shards=1)
                with self.assertRaises(ConnectionEnded) as caught:
                    self.stream(gateway, {**question(CHAT), **fields})
                self.assertEqual(Stream(caught.exception.response).done, 0)
                self.wait_resumes(gateway, resumed=0, **{result: 1})

    def test_a_servers_own_error_reaches_the_client_if_nobody_goes_on(self):
        sim = self.sim("--decode-ms", "1", "--fail", "error-after-tokens=5")
        gateway = self.gateway([sim], config(", per_stream: 1"), shards=1)
        direct = self.stream(sim.port, question(CHAT))
        with self.assertRaises(ConnectionEnded) as caught:
            self.stream(gateway, question(CHAT))
        self.assertEqual(Stream(caught.exception.response).errors, direct.errors)
        self.wait_resumes(gateway, resumed=1, too_often=1)

    def test_a_stream_that_cannot_go_on_any_more_is_told_between_two_events(self):
        def event(text):
            choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
            return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"

        def script(_request, sock):
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for whole in (event("a"), event("\ufffd"), event("b")):
                sock.sendall(b"%x\r\n%s\r\n" % (len(whole), whole))
            sock.sendall(b"100\r\n" + event("c")[:20])
            return False

        gateway = self.gateway([self.fake(script)], CONFIG, shards=1)
        with self.assertRaises(ConnectionEnded) as caught:
            self.stream(gateway, question(CHAT))
        torso = Stream(caught.exception.response)
        self.assertEqual((torso.text, [chunk["error"]["code"] for chunk in torso.errors]), ("a\ufffdb", ["stream_broken"]))
        self.wait_resumes(gateway, resumed=0, replacement_character=1)

    def test_a_connection_that_breaks_behind_the_last_event_breaks_nothing(self):
        text = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
        for last in (b"data: [DONE]\n\n", b"data: [DONE]\n\n: a comm"):
            for reset in (True, False):
                with self.subTest(last=last, reset=reset):

                    def script(_request, sock):
                        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
                        sock.sendall(b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (text, last)))
                        if reset:
                            hard_reset(sock)
                        return False

                    gateway = self.gateway([self.fake(script)], CONFIG, shards=1)
                    for usage in ({}, {"stream_options": {"include_usage": True}}):
                        stream = self.stream(gateway, question(CHAT, **usage))
                        self.assertEqual((stream.text, stream.done, stream.events[-1], stream.errors), ("a", 1, "[DONE]", []))
                    gateway.wait_outcomes({"ok": 2})

    def test_it_can_be_turned_off(self):
        for more, headers in ((", enabled: false", ()), ("", (("x-penstock-resume", "off"),))):
            sims = [self.sim("--instant", "--fail", "reset-after-tokens=5") for _ in range(2)]
            gateway = self.gateway(sims, config(more), shards=1)
            with self.assertRaises(ConnectionEnded):
                self.stream(gateway, question(CHAT), headers=headers)
            self.wait_resumes(gateway, resumed=0, off=1)

    def test_without_a_tokenizer_texts_go_on_and_chats_are_told(self):
        def sims():
            flags = ("--instant", "--no-tokenizer")
            return [self.sim(*flags, "--fail", "reset-after-tokens=5x1"), self.sim(*flags)]

        gateway = self.gateway(sims(), CONFIG, shards=1)
        streams = [self.stream(gateway, question(COMPLETIONS), COMPLETIONS) for _ in range(2)]
        self.assertEqual([(stream.done, stream.errors) for stream in streams], [(1, [])] * 2)
        self.wait_resumes(gateway, resumed=1)
        gateway = self.gateway(sims(), CONFIG, shards=1)
        ends = 0
        for _ in range(2):
            try:
                self.stream(gateway, question(CHAT))
            except ConnectionEnded:
                ends += 1
        self.assertEqual(ends, 1)
        self.wait_resumes(gateway, resumed=0, no_tokenizer=1)

    def test_the_only_endpoint_comes_back(self):
        sim = self.sim("--text", "varied", "--decode-ms", "5")
        port = sim.port
        gateway = self.gateway([sim], CONFIG, shards=1)
        reference = self.unbroken(question(CHAT))
        client = self.client(gateway)
        client.send(request_bytes("POST", CHAT, question(CHAT)))
        response = client.read_head()
        self.wait_for_text(client)
        sim.kill()
        wait_for("it is broken", lambda: gateway.value("penstock_broken_streams_total") >= 1)
        self.sim("--text", "varied", "--instant", port=port)
        client._read_body(response, "POST")
        self.check_whole(Stream(response), reference)

    def test_nobody_goes_on_for_ever_where_no_endpoint_is_left(self):
        sim = self.sim("--decode-ms", "5")
        gateway = self.gateway([sim], config(", wait: 400ms"), shards=1)
        client = self.client(gateway)
        client.send(request_bytes("POST", CHAT, question(CHAT, max_tokens=400)))
        response = client.read_head()
        self.wait_for_text(client)
        sim.kill()
        with self.assertRaises(ConnectionEnded):
            client._read_body(response, "POST")
        self.assertEqual(Stream(response).errors[0]["error"]["code"], "stream_broken")
        self.wait_resumes(gateway, resumed=0, no_endpoint=1)

    def test_a_client_that_leaves_while_its_stream_waits(self):
        sim = self.sim("--decode-ms", "5")
        gateway = self.gateway([sim], CONFIG, shards=1)
        client = self.client(gateway)
        client.send(request_bytes("POST", CHAT, question(CHAT, max_tokens=400)))
        client.read_head()
        self.wait_for_text(client)
        sim.kill()
        wait_for("it is broken", lambda: gateway.value("penstock_broken_streams_total") >= 1)
        hard_reset(client.sock)
        gateway.wait_outcomes({"client_gone": 1})

    def check_leaving(self, bad, good, ejection, reason, tokens):
        """Streams at both servers; those of the bad one go on at the good one, which has begun with its own."""
        even = "routing: {policy: round-robin}\nresume: {stall: 5m}\n"
        gateway = self.gateway([bad, good], even + f"ejection: {{{ejection}}}\n", shards=1)
        body = question(CHAT, max_tokens=tokens, ignore_eos=True)
        reference = self.unbroken(body)
        clients = [self.client(gateway) for _ in range(8)]
        responses = []
        for client in clients:
            client.send(request_bytes("POST", CHAT, body))
            responses.append(client.read_head())
        wait_for("it is ejected", lambda: gateway.value("penstock_ejections_total", reason=reason) == 1, 40)
        for client, response in zip(clients, responses):
            client._read_body(response, "POST")
            self.check_whole(Stream(response), reference)
        moved = gateway.value("penstock_broken_streams_total", reason="too_slow")
        self.assertGreaterEqual(moved, 3)
        self.wait_resumes(gateway, resumed=moved)

    def test_the_streams_of_an_endpoint_that_hangs_leave_it(self):
        bad = self.sim("--text", "varied", "--decode-ms", "20", "--fail", "stall-after-tokens=5..30")
        good = self.sim("--text", "varied", "--instant", "--decode-ms", "20")
        self.check_leaving(bad, good, "wedged: 2s", "wedged", 200)

    @harness.http1_only("endpoints, whatever clients speak")
    def test_the_streams_of_an_endpoint_that_is_far_slower_leave_it(self):
        bad = self.sim("--text", "varied", "--instant", "--decode-ms", "1200")
        good = self.sim("--text", "varied", "--instant", "--decode-ms", "30")
        self.check_leaving(bad, good, "slow_factor: 10", "slow", 450)

    def test_sixty_streams_lose_two_of_three_servers(self):
        sims = [self.sim("--text", "varied", "--decode-ms", "10") for _ in range(3)]
        gateway = self.gateway(sims, ALL_TRIED, shards=1)
        bodies = [
            chat(f"Question {i}: what is the sea?", max_tokens=100, stream=True, stream_options={"include_usage": True})
            for i in range(60)
        ]
        references = {i: self.unbroken(body) for i, body in enumerate(bodies[:6])}
        streams = [None] * len(bodies)
        begun = threading.Semaphore(0)

        def run(i):
            client = self.client(gateway)
            client.send(request_bytes("POST", CHAT, bodies[i]))
            response = client.read_head()
            self.wait_for_text(client)
            begun.release()
            client._read_body(response, "POST")
            streams[i] = Stream(response)

        def kill():
            for _ in bodies:
                begun.acquire(timeout=harness.PATIENCE)
            for sim in sims[:2]:
                sim.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        in_threads(len(bodies), run)
        killer.join()
        for stream in streams:
            self.assertEqual((stream.errors, stream.done, len(stream.ids), stream.usage["completion_tokens"]), ([], 1, 1, 100))
        for i, reference in references.items():
            self.check_whole(streams[i], reference)
        self.assertGreater(gateway.value("penstock_stream_resumes_total", result="resumed"), 20)
        gateway.wait_outcomes({"ok": 60})


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


if __name__ == "__main__":
    harness.main()
