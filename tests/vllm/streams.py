"""What clients ask of vLLM, and where each of these streams breaks."""

import json
import random

from servers import MODEL

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
FINISH, DONE = '"finish_reason":"', "[DONE]"  # in the events that have a finish reason, and in the last one
USAGE = {"stream_options": {"include_usage": True}}
NOUNS = "sea gateway stream token prompt server endpoint cache retry failure queue request".split()


def question(number):
    return f"Question {number}: what is the {NOUNS[number % len(NOUNS)]} and how does it work?"


def ask(path, number, **fields):
    """A stream of 100 greedy tokens, unless `fields` say otherwise; None leaves a field out."""
    content = {"messages": [{"role": "user", "content": question(number)}]} if path == CHAT else {"prompt": question(number)}
    body = {"model": MODEL, "stream": True, "temperature": 0, "max_tokens": 100, **content, **fields}
    return {name: value for name, value in body.items() if value is not None}


def ask_response(number, **fields):
    """A response, and the chat that vLLM makes of it."""
    content = [{"type": "input_text", "text": question(number)}, {"type": "input_text", "text": " Say it."}]
    settings = {"model": MODEL, "stream": True, "temperature": 0, **fields}
    system, user = {"role": "system", "content": "Be brief."}, {"role": "user", "content": content}
    texts = [{"type": "text", "text": part["text"]} for part in content]
    return (
        {**settings, "instructions": "Be brief.", "input": [user], "max_output_tokens": 100},
        {**settings, "messages": [system, {**user, "content": texts}], "max_tokens": 100},
    )


class ResponseStream:
    """What a client makes of the events of a response: the text, and all other events without what each run has of its
    own."""

    def __init__(self, response):
        events = [json.loads(event) for event in response.events()]
        self.errors = [event for event in events if event["type"] == "error"]
        self.text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
        self.rest = [_common(event) for event in events if event["type"] != "response.output_text.delta"]
        self.numbers = [event["sequence_number"] for event in events]
        self.ids = {event["response"]["id"] for event in events if "response" in event}
        self.items = {event["item_id"] for event in events if "item_id" in event}
        self.last = events[-1]["type"] if events else None


def _common(value):
    if isinstance(value, list):
        return [_common(held) for held in value]
    if not isinstance(value, dict):
        return value
    # How many events the text came in is the server's to choose.
    other = ("id", "item_id", "created_at", "sequence_number", "input_tokens_details", "output_tokens_details")
    return {name: _common(held) for name, held in value.items() if name not in other}


class Case:
    """One stream, and where it breaks (see Cut): one break after the other, numbers of characters counted from the one
    before. Without `places` it breaks once, somewhere. `sampled`: its text is another each
    time. `stop_at`: where in its text the stop string begins, as a share of it, and how long that is."""

    def __init__(self, path, number, places=(), sampled=False, stop_at=None, **fields):
        self.path, self.number, self.sampled, self.stop_at = path, number, sampled, stop_at
        self.places, self.fields = places, fields
        self.body = ask(path, number, **fields)

    def __str__(self):
        kind = "chat" if self.path == CHAT else "text"
        return f"{kind} {self.number} {json.dumps(self.fields)}"

    def choose_stop(self, text):
        """A string of the text that it has without one."""
        share, length = self.stop_at
        at = int(len(text) * share)
        self.body["stop"] = ["does not occur", text[at : at + length]]

    def choose_places(self, stream, draw):
        return list(self.places) or [draw.randrange(1, len(stream.text) * 3 // 4)]


def cases(stray):
    """Greedy ones but for the last, with all that a client may say beside the text and that does not keep it from going
    on. `stray`: the id of a byte that is no character."""
    found = [Case(path, number) for path in (CHAT, COMPLETIONS) for number in range(6)]
    found += [Case(path, number, **USAGE) for path in (CHAT, COMPLETIONS) for number in range(6, 12)]
    found += [
        # At the edges: behind the role alone, before the finish reason, before [DONE].
        Case(CHAT, 12, places=(0,), **USAGE),
        Case(COMPLETIONS, 12, places=(1,), **USAGE),
        Case(CHAT, 13, places=(FINISH,), max_tokens=20, **USAGE),
        Case(COMPLETIONS, 13, places=(FINISH,), max_tokens=20),
        Case(CHAT, 14, places=(DONE,), max_tokens=20),
        Case(COMPLETIONS, 14, places=(DONE,), max_tokens=20, **USAGE),
        # Again and again.
        Case(CHAT, 15, places=(100, 80, 60), **USAGE),
        Case(COMPLETIONS, 15, places=(150, 1, 1), **USAGE),
        # To the end of the text, or of the context, where nobody said where to end.
        Case(CHAT, 16, places=(700,), max_tokens=None, **USAGE),
        Case(CHAT, 17, places=(700,), max_tokens=None, max_completion_tokens=300, **USAGE),
        Case(COMPLETIONS, 16, places=(9,), max_tokens=None, **USAGE),
        # Several tokens in an event.
        Case(CHAT, 18, stream_interval=5, **USAGE),
        Case(COMPLETIONS, 18, stream_interval=7, **USAGE),
        # What vLLM samples with.
        Case(CHAT, 19, repetition_penalty=1.2, **USAGE),
        Case(COMPLETIONS, 19, repetition_penalty=1.1, logit_bias={"300": 2, "301": -100}, **USAGE),
        Case(CHAT, 20, places=(150,), min_tokens=90, **USAGE),
        Case(COMPLETIONS, 20, bad_words=[" pod", " ready"], **USAGE),
        Case(COMPLETIONS, 21, stop_token_ids=[400, 401, 402, 403], **USAGE),
        Case(CHAT, 21, places=(300,), ignore_eos=True, max_tokens=150, **USAGE),
        Case(CHAT, 22, chat_template_kwargs={"enable_thinking": False}, **USAGE),
        Case(CHAT, 23, top_k=1, temperature=None, **USAGE),
    ]
    found += [Case(path, 24 + i, stop_at=(0.7, 4 + 3 * i), **USAGE) for path in (CHAT, COMPLETIONS) for i in range(3)]
    found += [Case(COMPLETIONS, 27, stop_at=(0.8, 6), include_stop_str_in_output=True, **USAGE)]
    # Bytes that are no character.
    found += [Case(path, 30 + i, logit_bias={str(stray): 2 + i}) for path in (CHAT, COMPLETIONS) for i in range(2)]
    found += [Case(path, 28 + i, sampled=True, temperature=0.8, seed=i, **USAGE) for path in (CHAT, COMPLETIONS) for i in range(2)]
    return found


def drawn(seed):
    return random.Random(seed)
