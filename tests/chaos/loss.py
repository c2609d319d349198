"""So many streams at once, of whose three servers two are killed (-9) when each stream has begun: how many are whole?"""

import threading

import fleet
import harness
import seen
from clients import CHAT, Question, TimedClient
from front import Fronted
from harness import ConnectionEnded, chat, request_bytes
from tables import percentile

TOKENS = 300  # of each stream: long enough to be in its middle when all have begun
CONFIG = """
metrics: {health_interval: 200ms, timeout: 500ms}
retry: {attempts: 3, budget_percent: 100}
"""


class Asked(threading.Thread):
    """One stream, and what came of it."""

    def __init__(self, number, port, begun):
        super().__init__(daemon=True)
        body = chat(f"Question {number}: what is the sea?", max_tokens=TOKENS, stream=True, temperature=0, ignore_eos=True)
        self.question = Question(CHAT, {**body, "stream_options": {"include_usage": True}})
        self.port, self.begun = port, begun
        self.server, self.response, self.hung, self.pause = None, None, False, 0.0

    def run(self):
        client = TimedClient(self.port)
        try:
            client.send(request_bytes("POST", CHAT, self.question.body))
            self.response = client.read_head()
            self.server = self.response.header("x-sim-name")
            while client.buffer.count(b"\n\n") < 3:
                client._fill()  # pylint: disable=protected-access
            self.begun.release()
            client._read_body(self.response, "POST")  # pylint: disable=protected-access
            self.response.complete = True
        except ConnectionEnded:
            pass
        except AssertionError:
            self.hung = True
        finally:
            self.pause = client.longest
            client.close()


class Loss(Fronted):
    def runTest(self):
        self.reference = self.sim("--instant", "--text", "varied")
        flags = ["--text", "varied", "--decode-ms", self.options.decode_ms]
        endpoints = [fleet.Endpoint(f"endpoint-{i}", "direct", flags) for i in range(3)]
        for endpoint in endpoints:
            self.addCleanup(endpoint.close)
        front = self.start_front(endpoints, CONFIG)
        begun = threading.Semaphore(0)
        asked = [Asked(i, front.port, begun) for i in range(self.options.streams)]
        for one in asked:
            one.start()
        for _ in asked:
            self.assertTrue(begun.acquire(timeout=harness.PATIENCE), "not all streams have begun")
        for endpoint in endpoints[:2]:
            endpoint.kill()
        for one in asked:
            one.join(4 * harness.PATIENCE)
            self.assertFalse(one.is_alive(), "a client has not ended")
        self.report(asked, [endpoint.name for endpoint in endpoints[:2]])

    def report(self, asked, killed):
        for one in asked:
            one.seen = seen.HUNG if one.hung else seen.look(one.question, one.response, self.unbroken(one.question))
        lost = [one for one in asked if one.server in killed]
        self.count([("stream whose server was killed" if one in lost else "other stream", one.seen) for one in asked])
        pauses = [one.pause for one in lost if one.seen == seen.WHOLE]
        if pauses:
            print(f"longest pause of those that went on: p50 {1000 * percentile(pauses, 0.5):.0f} ms, at most {1000 * max(pauses):.0f} ms")
        self.assertGreater(len(lost), len(asked) // 3, "hardly any stream was at a server that was killed")
        if self.ours:
            self.assertEqual([one.seen for one in asked], [seen.WHOLE] * len(asked))

    def unbroken(self, question):
        client = self.client(self.reference)
        try:
            return client.post(question.path, question.body)
        finally:
            client.close()
