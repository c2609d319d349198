"""What clients see is told apart: the standard by which programs are compared, on answers made by hand."""

import json
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
import seen  # pylint: disable=wrong-import-position
from clients import CHAT, Question  # pylint: disable=wrong-import-position
from harness import Response  # pylint: disable=wrong-import-position

STREAM = Question(CHAT, {"stream": True})
JSON = Question(CHAT, {})
DONE = "[DONE]"


def chunk(text="", finish=None, id="1", **more):
    choice = {"index": 0, "delta": {"content": text, **more}, "finish_reason": finish}
    return {"id": id, "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def usage(tokens):
    return {**chunk(), "choices": [], "usage": {"completion_tokens": tokens}}


FIRST, LAST = chunk(role="assistant"), chunk(finish="stop")
EVENTS = [FIRST, chunk("one "), chunk("two "), chunk("three"), LAST, DONE]


def answer(body, content_type, status=200, complete=True):
    response = Response("HTTP/1.1", status, "", [("content-type", content_type)])
    response.body, response.complete = body, complete
    return response


def stream(*events, complete=True, torn=b""):
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return answer("".join(f"data: {text}\n\n" for text in texts).encode() + torn, "text/event-stream", complete=complete)


def whole_json(text, finish="stop"):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return answer(json.dumps({"id": "1", "model": "m", "choices": [choice]}).encode(), "application/json")


class Seen(unittest.TestCase):
    def check(self, expected, response, question=STREAM):
        reference = stream(*EVENTS) if question.streams else whole_json("one two three")
        self.assertEqual(seen.look(question, response, reference), expected)

    def test_streams(self):
        refusal = answer(b"<html>no server</html>", "text/html", 503)
        error = {"error": {"message": "it died", "type": "server_error"}}
        aborted = chunk(finish="abort")
        for expected, response in (
            (seen.WHOLE, stream(*EVENTS)),
            (seen.WHOLE, stream(FIRST, chunk("one two "), chunk("three"), LAST, DONE)),  # in other pieces
            (seen.REFUSED, None),
            (seen.REFUSED, refusal),
            (seen.BROKEN, stream(*EVENTS[:3], complete=False)),
            (seen.BROKEN, stream(*EVENTS[:3], complete=False, torn=b'data: {"id"')),
            (seen.BROKEN, stream(*EVENTS, complete=False)),  # the client's library raises, whatever the text
            (seen.BROKEN, stream(*EVENTS[:3], error, DONE)),
            (seen.CUT_SHORT, stream(*EVENTS[:3])),
            (seen.CUT_SHORT, stream(*EVENTS[:3], torn=b'data: {"id"')),
            (seen.CUT_SHORT, stream(*EVENTS[:3], DONE)),
            (seen.CUT_SHORT, stream(*EVENTS[:3], aborted, DONE)),
            (seen.CUT_SHORT, stream(*EVENTS[:3], aborted, usage(2), DONE)),
            (seen.CUT_SHORT, stream(*EVENTS[:-2], aborted, usage(2), DONE)),  # behind the last piece
            (seen.CUT_SHORT, stream(*EVENTS[:-1])),
            (seen.CUT_SHORT, stream()),
            (seen.WRONG, stream(*EVENTS[:3], *EVENTS[2:])),  # a piece twice
            (seen.WRONG, stream(*EVENTS[:2], *EVENTS[3:])),  # one is missing
            (seen.WRONG, stream(*EVENTS[:3], chunk("three", id="2"), LAST, DONE)),
            (seen.WRONG, stream(*EVENTS[:3], FIRST, *EVENTS[3:])),
            (seen.WRONG, stream(*EVENTS[:-1], LAST, DONE)),
            (seen.WRONG, stream(*EVENTS, DONE)),
            (seen.WRONG, stream(*EVENTS[:-1], usage(4), DONE)),
            (seen.WRONG, stream(*EVENTS[:3], chunk("thirty"), complete=False)),
            (seen.WRONG, stream("not JSON", *EVENTS)),
        ):
            with self.subTest(expected, response=response):
                self.check(expected, response)

    def test_json(self):
        torn = whole_json("one two three")
        torn.complete = False
        for expected, response in (
            (seen.WHOLE, whole_json("one two three")),
            (seen.BROKEN, torn),
            (seen.CUT_SHORT, whole_json("one two", "abort")),
            (seen.CUT_SHORT, whole_json("one two three", "abort")),
            (seen.WRONG, whole_json("one two two three")),
            (seen.WRONG, answer(b"{", "application/json")),
        ):
            with self.subTest(expected, response=response):
                self.check(expected, response, JSON)


if __name__ == "__main__":
    unittest.main()
