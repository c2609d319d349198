"""The clients of a chaos run: each asks one question after the other, drawn from the seed, and keeps every byte."""

import random
import threading
import time

import checker
import seen
from harness import Client, ConnectionEnded, chat, completion

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
BACK_OFF = 0.5  # seconds until who was refused asks again
WORDS = "water gate pipe wheel river dam flow valve steel head shaft stone level pressure turbine mill".split()


class Question:
    """`exact`: the text behind a break is determined. Where a request has stop strings, servers keep back as many bytes as the
    longest has, less one. If these are no whole tokens (of four bytes), the text goes on in other tokens than before."""

    def __init__(self, path, body, headers=(), exact=True):
        self.path, self.body, self.exact = path, body, exact
        self.headers = list(headers)
        self.streams = bool(body.get("stream"))
        self.stops = body.get("stop", [])
        self.resumable = self.streams and not self.headers

    def may_say_stop(self):
        """Before the least number of tokens a stop string is text like any other."""
        return "include_stop_str_in_output" in self.body or "min_tokens" in self.body

    def kind(self):
        return "JSON" if not self.streams else "stream" if self.resumable else "stream that may not go on"


def draw(rng, reference):
    """A question. `reference(question)` is its answer from a server that nothing happens to."""
    prompt = " ".join(rng.choices(WORDS, k=rng.choice([3, 20, 100, 400])))
    more = {"max_tokens": rng.choice([1, 5, 30, 100, 100, 200, 200, 400]), "temperature": 0}
    path = rng.choice([CHAT, COMPLETIONS])
    kind = rng.random()
    if kind < 0.85:
        more["stream"] = True
        if rng.random() < 0.5:
            more["stream_options"] = {"include_usage": True}
    if rng.random() < 0.2:
        more["seed"] = rng.randrange(1000)
    if rng.random() < 0.1:
        more["min_tokens"] = more["max_tokens"] // 2
    body = chat(prompt, **more) if path == CHAT else completion(prompt, **more)
    question = Question(path, body, headers=[("x-penstock-resume", "off")] if 0.75 < kind < 0.85 else ())
    return with_stop(rng, question, reference) if rng.random() < 0.25 else question


def with_stop(rng, question, reference):
    """The same, to be stopped by something that stands in its answer."""
    body = {name: value for name, value in question.body.items() if not name.startswith("stream")}
    plain = Question(question.path, body)
    choice = reference(plain).json()["choices"][0]
    text = choice.get("text") or choice.get("message", {}).get("content") or ""
    sizes = (1, 5, 9) if rng.random() < 0.8 else (2, 3, 4, 6, 7)
    size = rng.choice(sizes)
    stops = [text[at : at + n] for at in range(len(text)) for n in range(1, size + 1) if len(text[at : at + n].encode()) == size]
    if not stops:
        return question
    more = {"include_stop_str_in_output": True} if rng.random() < 0.3 else {}
    exact = size in (1, 5, 9) or bool(more)
    return Question(question.path, {**question.body, "stop": [rng.choice(stops)], **more}, question.headers, exact)


class TimedClient(Client):
    """Remembers the longest time between two arrivals of bytes."""

    longest, last = 0.0, None

    def _fill(self):
        super()._fill()
        now = time.monotonic()
        if self.last is not None:
            self.longest = max(self.longest, now - self.last)
        self.last = now


class Answer:
    """What became of one question."""

    def __init__(self, name, question, began):
        self.name, self.question, self.began = name, question, began
        self.ended = self.pause = 0.0
        self.resumed = self.attempts = 0
        self.verdict = self.seen = None


class ChaosClient(threading.Thread):
    def __init__(self, number, seed, port, reference_port, stopping):
        super().__init__(daemon=True)
        self.number, self.rng = number, random.Random(f"{seed}/{number}")
        self.port, self.reference_port, self.stopping = port, reference_port, stopping
        self.answers, self.problem = [], None
        self.client = self.reference_client = None
        self.longest_of_dropped = 0.0

    def run(self):
        try:
            while not self.stopping.is_set():
                self.answers.append(self.ask(draw(self.rng, self.reference)))
                if self.answers[-1].seen == seen.REFUSED:
                    self.stopping.wait(BACK_OFF)
        except BaseException as problem:  # pylint: disable=broad-except
            self.problem = problem
        finally:
            for client in (self.client, self.reference_client):
                if client is not None:
                    client.close()

    def reference(self, question):
        if self.reference_client is None:
            self.reference_client = Client(self.reference_port)
        return self.reference_client.post(question.path, question.body)

    def ask(self, question):
        answer = Answer(f"{self.number}-{len(self.answers)}", question, time.monotonic())
        try:
            response = self.post(question, answer)
        except AssertionError as silence:
            answer.verdict, answer.seen = checker.Verdict(checker.FALSE, f"hung: {silence}"), seen.HUNG
            self.drop()
            response = None
        answer.ended = time.monotonic()
        if answer.verdict is None:
            reference = self.reference(question)
            answer.verdict, answer.seen = (judge(question, response, reference) for judge in (checker.judge, seen.look))
        return answer

    def post(self, question, answer):
        if self.client is None:
            self.client = TimedClient(self.port)
        self.client.longest, self.client.last = 0.0, None
        try:
            response = self.client.post(question.path, question.body, [*question.headers, ("x-request-id", answer.name)])
        except ConnectionEnded as end:
            response = end.response
            self.drop()
        else:
            if (response.header("connection") or "").lower() == "close" or self.rng.random() < 0.2:
                self.drop()
        answer.pause = self.client.longest if self.client else self.longest_of_dropped
        return response

    def drop(self):
        self.longest_of_dropped = self.client.longest
        self.client.close()
        self.client = None
