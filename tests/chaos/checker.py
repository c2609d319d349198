"""Says of every answer whether it is what an unbroken run would have brought, byte for byte where that is determined."""

import copy
import json

from events import Stream, without_details

WHOLE, BROKEN, REFUSED, FALSE = "whole", "broken", "refused", "false"
# What a server says of one run and not of its text.
OF_ONE_RUN = ("id", "created", "system_fingerprint", "kv_transfer_params")


class Verdict:
    """`result`: whole, as from an unbroken run; broken or refused, and the client can tell; or false, which is what must
    never be: the client has been told something that is not so, or cannot tell. `why`: in words."""

    def __init__(self, result, why=""):
        self.result, self.why = result, why

    def __repr__(self):
        return f"{self.result}: {self.why}"


def difference(got, expected):
    """Where two texts begin to differ."""
    at = next((i for i, (a, b) in enumerate(zip(got, expected)) if a != b), min(len(got), len(expected)))
    begin = max(0, at - 20)
    return f"differs at {at} of {len(got)} and {len(expected)}: {got[begin : at + 40]!r}, expected {expected[begin : at + 40]!r}"


def is_error(body):
    """An error in OpenAI's shape."""
    error = body.get("error") if isinstance(body, dict) else None
    return isinstance(error, dict) and isinstance(error.get("message"), str) and bool(error.get("type"))


def judge(question, response, reference):
    """`response`: what came, also where it has ended too early; `reference`: the same of a server that nothing happens to."""
    if response is None:
        return Verdict(BROKEN, "the connection ended before an answer")
    if response.status != 200:
        return judge_refusal(response)
    return (judge_stream if question.streams else judge_json)(question, response, reference)


def judge_refusal(response):
    try:
        shaped = is_error(response.json())
    except ValueError:
        shaped = False
    if not response.complete or not shaped:
        return Verdict(FALSE, f"a refusal that clients cannot read: {response}")
    return Verdict(REFUSED, f"{response.status} {response.json()['error']['message']}")


def judge_json(question, response, reference):
    if not response.complete:
        return Verdict(BROKEN, "the JSON ended too early")
    try:
        got, expected = (facts_of(one.json()) for one in (response, reference))
    except ValueError:
        return Verdict(FALSE, f"not JSON: {response.body[-200:]!r}")
    return Verdict(WHOLE) if got == expected else Verdict(FALSE, f"{got}, expected {expected}")


def facts_of(body):
    facts = {name: value for name, value in body.items() if name not in OF_ONE_RUN}
    if facts.get("usage"):
        facts["usage"] = without_details(facts["usage"])
    return facts


def whole_events(response):
    """The response without what came of an event behind the last whole one, and that."""
    at = response.body.rfind(b"\n\n") + 2 if b"\n\n" in response.body else 0
    events = copy.copy(response)
    events.body = response.body[:at]
    return events, response.body[at:]


def judge_stream(question, response, reference):
    response, torn = whole_events(response)
    try:
        got, expected = Stream(response), Stream(reference)
    except (ValueError, KeyError) as problem:
        return Verdict(FALSE, f"events that cannot be read, {problem!r}: {response.body[-300:]!r}")
    problems = check_events(question, response, got, expected)
    if not response.complete or got.errors or torn:
        problems += check_break(question, response, got, torn)
        result = BROKEN
    else:
        problems += check_end(question, got, expected)
        result = WHOLE
    if problems:
        return Verdict(FALSE, "; ".join(problems))
    return Verdict(result, got.errors[0]["error"]["message"] if got.errors else "in the middle of an event" if torn else "")


def check_events(question, response, got, expected):
    """What holds for each stream, broken or not."""
    problems = []
    if (response.header("content-type") or "").split(";")[0] != "text/event-stream":
        problems.append(f"content-type {response.header('content-type')}")
    if response.body != b"".join(f"data: {event}\n\n".encode() for event in got.events):
        problems.append("there is more in it than events")
    if not got.events and response.complete:
        problems.append("no event at all")
    if len(got.ids) > 1:
        problems.append(f"more than one id, created, model or object: {got.ids}")
    if not expected.text.startswith(got.text) and question.exact:
        problems.append(f"the text {difference(got.text, expected.text)}")
    roles = expected.roles if got.chunks and not (got.chunks[0].get("error")) else 0
    if got.roles != roles:
        problems.append(f"{got.roles} chunks with a role, expected {roles}")
    if any(stop in got.text for stop in question.stops) and not question.may_say_stop():
        problems.append("a stop string is in the text")
    return problems


def check_break(question, response, got, torn):
    """A client must see that it is one: an error event and no end, unless the server broke off within an event."""
    problems = []
    if response.complete:
        problems.append("HTTP ended properly")
    if got.done:
        problems.append("[DONE] in a stream that is broken")
    if not got.errors and not (torn and not question.resumable):
        problems.append("no error event")
    if got.errors and not (is_error(got.chunks[-1]) and len(got.errors) == 1):
        problems.append(f"the error is not the last event, or has another shape: {got.events[-2:]}")
    return problems


def check_end(question, got, expected):
    problems = []
    if (got.done, got.events[-1:]) != (1, ["[DONE]"]):
        problems.append(f"{got.done} [DONE], the last event is {got.events[-1:]}")
    if not question.exact:
        if len(got.finish) != 1:
            problems.append(f"finish reasons {got.finish}")
        return problems
    if got.text != expected.text:
        problems.append(f"the text {difference(got.text, expected.text)}")
    if got.finish != expected.finish:
        problems.append(f"it ended with {got.finish}, expected {expected.finish}")
    usages = [json.dumps(one.usage and without_details(one.usage), sort_keys=True) for one in (got, expected)]
    if usages[0] != usages[1]:
        problems.append(f"usage {usages[0]}, expected {usages[1]}")
    if sum("usage" in chunk and bool(chunk["usage"]) for chunk in got.chunks) > 1:
        problems.append("usage more than once")
    return problems
