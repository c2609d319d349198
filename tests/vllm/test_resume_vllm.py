"""Streams of real vLLM that go on at another server when theirs fails, beside the same streams unbroken.

  python3 tests/vllm/test_resume_vllm.py --python VENV/bin/python [unittest options]

PENSTOCK names the gateway, as for the tests of tests/e2e. Without a Python that has vLLM it is skipped, with a word.
PENSTOCK_OPENAI_NODE names a folder with OpenAI's SDK for Node in its node_modules, if there is one.

A text that goes on must be that of the unbroken stream, to the byte, if vLLM's tokenizer gives back the tokens that were
delivered. Where it reads other tokens in them, which this model's text has now and then, only the text up to the break
must be the same. Which one it is the test asks vLLM itself.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import unittest

import servers
from events import Stream  # from tests/e2e, by servers
from harness import E2E, Client, ConnectionEnded, fetch, in_threads, main, wait_for  # from tests/e2e, by servers
from servers import PYTHON, Cut, Cuts, Relay, Strike, Vllm
from streams import CHAT, COMPLETIONS, DONE, RESPONSES, USAGE, ResponseStream, ask, ask_response, cases, drawn

CONFIG = """routing: {policy: round-robin}
ejection: {consecutive_failures: 1000}
retry: {budget_percent: 100}
resume: {stall: 2s}
"""
# Here a stall is no reason to go on elsewhere but where the server has been stopped: a machine that is busy stalls streams, too.
PATIENT = CONFIG.replace("1000}", "1000, wedged: 20s}").replace("2s", "10s")
AT_ONCE = 8
SEED = 7


class Torso:
    """What came of a stream before it was broken visibly."""

    def __init__(self, response):
        self.stream = Stream(response)


class RealServers(E2E):
    PACES_MS = (0, 0)  # of the two servers

    @classmethod
    def setUpClass(cls):
        cls.folder = E2E.directory(cls)
        cls.model = cls.folder + "/model"
        servers.make_model(cls.model)
        with open(cls.model + "/tokenizer.json", encoding="utf-8") as file:
            vocabulary = json.load(file)["model"]["vocab"]
        cls.stray = vocabulary["\u00ff"]  # how byte-level vocabularies write the byte 0xFF
        cls.end = vocabulary["<|end|>"]
        cls.servers = [Vllm(cls.model, cls.folder, pace_ms=pace) for pace in cls.PACES_MS]
        cls.addClassCleanup(lambda: [server.kill() for server in cls.servers])
        for server in cls.servers:
            server.wait_ready()

    def setUp(self):
        self.bring_back()

    def bring_back(self):
        for i, server in enumerate(self.servers):
            if not server.alive():
                self.servers[i] = Vllm(self.model, self.folder, server.port, self.PACES_MS[i])
        for server in self.servers:
            server.wait_ready()

    # ---- asking ----

    def stream(self, port, path, body):
        client = Client(port, timeout=60)
        try:
            return (ResponseStream if path == RESPONSES else Stream)(client.post(path, body))
        finally:
            client.close()

    def unbroken(self, path, body):
        return self.stream(self.servers[1].port, path, body)

    def tokens(self, text):
        """The ids that vLLM's tokenizer reads in a text."""
        body = json.dumps({"model": servers.MODEL, "prompt": text, "add_special_tokens": False})
        return fetch(self.servers[1].port, "/tokenize", "POST", body).json()["tokens"]

    def generated(self, path, body):
        """The ids that the server generated for it."""
        body = {**body, "stream": False, "return_token_ids": True, "stream_options": None}
        return fetch(self.servers[1].port, path, "POST", json.dumps(body)).json()["choices"][0]["token_ids"]

    def reads_the_same(self, path, body, delivered):
        """Whether the tokens that the text was made of are those that the tokenizer reads in it, so that it can go on as
        if nothing had been. `delivered`: the text at each break."""
        ids = self.generated(path, body)
        return all(ids[: len(read)] == read for read in map(self.tokens, delivered))

    def results(self, gateway):
        series = gateway.metrics().series("penstock_stream_resumes_total")
        return {labels["result"]: int(value) for labels, value in series if value}

    # ---- comparing ----

    def check_form(self, stream, path, body):
        """One stream, whatever its text."""
        self.assertEqual(stream.errors, [])
        self.assertEqual((stream.done, stream.events[-1:]), (1, ["[DONE]"]))
        self.assertEqual((stream.roles, len(stream.finish), len(stream.ids)), (path == CHAT, 1, 1))
        self.assertEqual(stream.usage is None, "stream_options" not in body)
        if stream.usage:
            usage = stream.usage
            self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])
            limit = body.get("max_tokens", body.get("max_completion_tokens", 16 if path == COMPLETIONS else servers.CONTEXT))
            self.assertLessEqual(usage["completion_tokens"], limit)

    def check_same(self, stream, reference):
        self.assertEqual(stream.text, reference.text)
        self.assertEqual((stream.finish, stream.usage), (reference.finish, reference.usage))

    def check_other(self, stream, reference, delivered):
        """Of a text that was read in other tokens."""
        self.assertTrue(stream.text.startswith(delivered[-1]) and reference.text.startswith(delivered[0]))
        if stream.usage:
            self.assertEqual(stream.usage["prompt_tokens"], reference.usage["prompt_tokens"])


class BrokenOnTheWay(RealServers):
    """A relay before each server breaks streams at a chosen event."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cuts = Cuts()
        cls.relays = [Relay(server.port, cls.cuts) for server in cls.servers]
        cls.addClassCleanup(lambda: [relay.close() for relay in cls.relays])
        cls.sums = {}

    @classmethod
    def tearDownClass(cls):
        for what, count in sorted(cls.sums.items()):
            print(f"{what}: {count}", file=sys.stderr)
        super().tearDownClass()

    def count(self, what):
        self.sums[what] = self.sums.get(what, 0) + 1

    def new_gateway(self, config=CONFIG):
        return self.gateway(self.relays, config, shards=1)

    def broken(self, gateway, path, body, cuts):
        """The stream, or what came of it, and the text that the client had at each break. A break that has not come about
        fails."""
        self.cuts.arm(cuts)
        try:
            stream = self.stream(gateway.port, path, body)
        except ConnectionEnded as end:
            stream = Torso(end.response)
        self.assertNotEqual(self.cuts.done, [])
        delivered, text = [], ""
        for cut in self.cuts.done:
            text += cut.text
            delivered.append(text)
        return stream, delivered

    def test_texts_are_those_of_unbroken_streams(self):
        self.check_texts(self.new_gateway())

    def test_behind_the_ids_of_tokens_texts_are_those_of_unbroken_streams(self):
        self.check_texts(self.new_gateway(CONFIG.replace("2s}", '2s, token_ids: ["*"]}')), with_ids=True)

    def check_texts(self, gateway, with_ids=False):
        draw = drawn(SEED)
        for case in cases(self.stray):
            with self.subTest(str(case)):
                reference = self.unbroken(case.path, case.body)
                if case.stop_at:
                    case.choose_stop(reference.text)
                    reference = self.unbroken(case.path, case.body)
                places = case.choose_places(reference, draw)
                hows = draw.choices(("reset", "end", "silence"), (10, 10, 1), k=len(places))
                more = draw.choices((0, 0, 40), k=len(places))
                self.one_case(gateway, case, reference, lambda: list(map(Cut, places, hows, more)), with_ids)
        pauses = gateway.value("penstock_resume_seconds_sum") / gateway.value("penstock_resume_seconds_count")
        print(f"mean pause of a stream that went on: {1000 * pauses:.1f} ms", file=sys.stderr)

    def test_responses_are_those_of_unbroken_streams(self):
        """Broken behind the first event, in the text, and in front of each event that ends it."""
        gateway, ends = self.new_gateway(), ["output_text.done", "content_part.done", "output_item.done", "completed"]
        places = [0, 1, 40, 120, [30, 50], *(f'"type":"response.{end}"' for end in ends)]
        for number, place in enumerate(places):
            with self.subTest(str(place)):
                body, chat = ask_response(number, logit_bias={str(self.stray): -100})
                reference = self.unbroken(RESPONSES, body)
                cuts = [Cut(at, "end" if number % 2 else "reset") for at in (place if isinstance(place, list) else [place])]
                before = self.results(gateway)
                stream, delivered = self.broken(gateway, RESPONSES, body, cuts)
                self.assertIsInstance(stream, ResponseStream, self.results(gateway))
                self.wait_results(gateway, before, "resumed", len(cuts))
                self.assertEqual((stream.errors, stream.last, len(stream.ids)), ([], "response.completed", 1))
                self.assertEqual(stream.numbers, list(range(len(stream.numbers))))
                self.assertEqual(len(stream.items), 1)
                if not self.reads_the_same(CHAT, chat, delivered):
                    self.count("a response: read in other tokens")
                    continue
                self.assertEqual(stream.text, reference.text)
                skipped = "response.in_progress"  # it may have been lost
                rest = [[event for event in one.rest if event["type"] != skipped] for one in (stream, reference)]
                self.assertEqual(*rest)
                self.count("a response: as if unbroken")

    def wait_results(self, gateway, before, result, more):
        """So many more of one result, and no more of any other."""
        if more:
            wait_for("it is counted", lambda: self.results(gateway) != before)
            before = {**before, result: before.get(result, 0) + more}
        self.assertEqual(self.results(gateway), before)

    def one_case(self, gateway, case, reference, cuts, exact):
        """`cuts` makes them. A server that was held up puts all the rest in its last event: behind that it is too late to
        break it, so it is asked again."""
        for _ in range(5):
            before = self.results(gateway)
            stream, delivered = self.broken(gateway, case.path, case.body, cuts())
            cuts_made = self.cuts.done
            if not (cuts_made[-1].finished and isinstance(cuts_made[-1].place, int)):
                break
        if "\ufffd" in delivered[-1] and not exact:
            self.assertIsInstance(stream, Torso)
            self.assertEqual((stream.stream.done, stream.stream.text), (0, delivered[-1]))
            self.wait_results(gateway, before, "replacement_character", 1)
            return self.count("told: U+FFFD in the text delivered")
        self.assertIsInstance(stream, Stream, (self.results(gateway), before))
        self.check_form(stream, case.path, case.body)
        self.assertEqual(len(cuts_made), len(cuts()))
        self.wait_results(gateway, before, "resumed", len([cut for cut in cuts_made if cut.place != DONE]))
        if case.sampled:
            return self.count("went on: sampled")
        if exact:
            self.check_same(stream, reference)
            return self.count("went on behind ids: the text of the unbroken stream")
        if self.reads_the_same(case.path, case.body, delivered):
            self.check_same(stream, reference)
            return self.count("went on: the text of the unbroken stream")
        self.check_other(stream, reference, delivered)
        print(f"read in other tokens: {case}, behind {delivered[-1][-20:]!r}", file=sys.stderr)
        same = stream.text == reference.text
        self.count("went on: read in other tokens, " + ("the same text all the same" if same else "another text"))

    def test_what_cannot_go_on_is_told(self):
        gateway = self.new_gateway()
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
        told = [
            ("tools", CHAT, {"tools": [tool], "tool_choice": "none"}),
            ("structured_output", CHAT, {"response_format": {"type": "json_object"}}),
            ("several_choices", CHAT, {"n": 2, "temperature": 0.8}),
            ("several_choices", COMPLETIONS, {"n": 2, "temperature": 0.8}),
            ("several_choices", COMPLETIONS, {"prompt": ["One", "Two"]}),  # its events show that before its request does
            ("logprobs", CHAT, {"logprobs": True, "top_logprobs": 1}),
            ("logprobs", COMPLETIONS, {"logprobs": 1}),
            ("token_ids", COMPLETIONS, {"echo": True}),  # vLLM sends those of the prompt with it
            ("penalties", CHAT, {"presence_penalty": 0.5}),
            ("token_ids", CHAT, {"return_token_ids": True}),
            ("usage_in_chunks", COMPLETIONS, {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}),
            ("template_input", CHAT, {"reasoning_effort": "low"}),
            ("unknown_field", CHAT, {"what_is_this": 1}),
        ]
        for result, path, fields in told:
            with self.subTest(result, path=path):
                self.check_told(gateway, result, path, ask(path, 1, **fields), Cut(40))
        body = ask(CHAT, 1, **USAGE)
        self.check_told(gateway, "finished", CHAT, body, Cut('"choices":[],'))

    def check_told(self, gateway, result, path, body, cut):
        before = self.results(gateway)
        stream, _ = self.broken(gateway, path, body, [cut])
        self.assertIsInstance(stream, Torso)
        self.assertEqual((stream.stream.done, [chunk["error"]["code"] for chunk in stream.stream.errors]), (0, ["stream_broken"]))
        self.wait_results(gateway, before, result, 1)
        self.count("told: " + result)

    def test_sdks_see_one_stream(self):
        """What OpenAI's own clients make of it: the same as of a stream that did not break."""
        node = os.environ.get("PENSTOCK_OPENAI_NODE")
        programs = {"python": [PYTHON, servers.HERE / "sdk_python.py"]}
        if node and shutil.which("node"):
            programs["node"] = ["node", servers.HERE / "sdk_node.js", node]
        else:
            print("OpenAI's SDK for Node: not there (PENSTOCK_OPENAI_NODE)", file=sys.stderr)
        gateway = self.new_gateway()
        cases = ((CHAT, 0, "reset"), (CHAT, 150, "end"), (COMPLETIONS, 30, "reset"), (COMPLETIONS, 400, "end"))
        for name, program in programs.items():
            for path, place, how in cases:
                with self.subTest(name, path=path, place=place):
                    body = ask(path, 1, max_tokens=400, **USAGE)
                    before = self.results(gateway)
                    expected = self.run_sdk(program, self.servers[1].port, path, body)
                    self.cuts.arm([Cut(place, how)])
                    found = self.run_sdk(program, gateway.port, path, body)
                    self.assertEqual(len(self.cuts.done), 1)
                    self.wait_results(gateway, before, "resumed", 1)
                    self.assertEqual(found, expected)
                    self.count(f"SDK for {name}: as if unbroken")

    def run_sdk(self, program, port, path, body):
        """What the SDK hands to its caller: the text, finish reasons, usage and number of ids."""
        asked = json.dumps({"chat": path == CHAT, "body": body})
        command = [*map(str, program), f"http://127.0.0.1:{port}/v1"]
        done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)


class Killed(RealServers):
    """The processes of a server end in the middle of streams, or stop. It is struck when a stream has brought a quarter of its
    TOKENS at the latest (Strike), and computes them no faster than its pace, so that it still has many seconds to go."""

    TOKENS = 1200
    PACES_MS = (10, 0)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cuts = Cuts()
        cls.relay = Relay(cls.servers[0].port, cls.cuts)
        cls.addClassCleanup(cls.relay.close)

    def kill(self, how, server):
        if how == "killed":
            server.kill()
        elif how == "told to end":
            server.signal(signal.SIGTERM)  # 0.32 ends its streams with an error event, others with the finish reason "abort"
        elif how == "without engine":
            server.signal_engine(signal.SIGKILL)  # all end with an error event, and [DONE]
        elif how == "stopped":
            server.signal_all(signal.SIGSTOP)

    def test_streams_of_a_server_that_ends(self):
        # None ends before its server does, and none has what it could not go on behind.
        never = {str(token): -100 for token in (self.end, self.stray)}
        fields = {"max_tokens": self.TOKENS, "logit_bias": never, **USAGE}
        questions = [(path, ask(path, number, **fields)) for number in range(AT_ONCE // 2) for path in (CHAT, COMPLETIONS)]
        references = [self.unbroken(*one) for one in questions]
        for how in ("killed", "told to end", "without engine", "stopped"):
            with self.subTest(how):
                self.bring_back()
                self.stream(self.servers[0].port, CHAT, ask(CHAT, 0, max_tokens=9))  # its first answer takes longer than all others
                try:
                    self.one_end(how, questions, references)
                finally:
                    self.servers[0].kill()

    def one_end(self, how, questions, references):
        gateway = self.gateway([self.relay, self.servers[1]], PATIENT, shards=1)
        self.cuts.arm(Strike(len(questions) // 2, lambda: self.kill(how, self.servers[0])).cuts)
        try:
            streams = in_threads(len(questions), lambda i: self.stream(gateway.port, *questions[i]))
        except ConnectionEnded as end:
            self.fail(f"{end}; {self.results(gateway)}")
        self.assertEqual(len(self.cuts.done), 1)
        resumed = gateway.value("penstock_stream_resumes_total", result="resumed")
        same = 0
        for (path, body), stream, reference in zip(questions, streams, references):
            self.check_form(stream, path, body)
            if stream.text == reference.text:
                self.check_same(stream, reference)
                same += 1
            else:
                self.check_explained(path, body, stream, reference)
        gateway.wait_outcomes({"ok": len(questions)})
        self.assertGreaterEqual(resumed, 1, gateway.metrics().text)  # those that have not begun are asked anew
        pauses = gateway.value("penstock_resume_seconds_sum") / resumed
        breaks = {labels["reason"]: int(n) for labels, n in gateway.metrics().series("penstock_broken_streams_total") if n}
        print(
            f"{how}: {resumed:.0f} of {len(questions)} streams went on {breaks}, {same} have the text of the unbroken one, "
            f"mean pause {1000 * pauses:.0f} ms",
            file=sys.stderr,
        )

    def check_explained(self, path, body, stream, reference):
        """The texts part somewhere behind the break, of which the place is not known: some text that both begin with must
        be read in other tokens."""
        common = os.path.commonprefix([stream.text, reference.text])
        ids, text = self.generated(path, body), ""
        for event_end in range(1, len(ids) + 1):
            text = self.text_of(ids[:event_end])
            if text.endswith("\ufffd"):
                continue  # within a character
            if not common.startswith(text):
                break
            if self.tokens(text) != ids[:event_end]:
                return
        self.fail(f"{body} goes on as another text behind {common[-60:]!r}")

    def text_of(self, ids):
        body = json.dumps({"model": servers.MODEL, "tokens": ids})
        return fetch(self.servers[1].port, "/detokenize", "POST", body).json()["prompt"]


def load_tests(loader, _tests, _pattern):
    found = unittest.TestSuite()
    for case in (BrokenOnTheWay, Killed):
        found.addTests(loader.loadTestsFromTestCase(case))
    return found


if __name__ == "__main__":
    missing = servers.why_not()
    if missing:
        print("skipped: " + missing)
        sys.exit(77)  # what meson takes for "skipped"
    main()
