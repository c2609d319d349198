"""What a client sees of an answer, whichever program stands before the servers and whatever that has promised: the standard by
which programs are compared. checker.py has the stricter one of what Penstock promises."""

from checker import check_end, check_events, facts_of, whole_events
from events import Stream, without_details

WHOLE = "whole"  # as from an unbroken run, byte for byte where that is determined
BROKEN = "broken"  # it began, and the client can tell that it is not whole: HTTP does not end properly, or an event says so
REFUSED = "refused"  # an error status, in whatever shape; or the connection ended before an answer began
NONE_UP = "refused, none up"  # that, while all servers were down
CUT_SHORT = "cut short"  # it ends as if it were whole, and lacks something
WRONG = "wrong"  # text that an unbroken run does not have, or has once, or elsewhere
HUNG = "hung"  # nothing came for so long that the client gave up
ALL = (WHOLE, BROKEN, REFUSED, NONE_UP, CUT_SHORT, WRONG, HUNG)


def look(question, response, reference):
    if response is None:
        return REFUSED
    if response.status != 200:
        return REFUSED if response.complete else BROKEN
    return (look_at_stream if question.streams else look_at_json)(question, response, reference)


def look_at_json(_question, response, reference):
    if not response.complete:
        return BROKEN
    try:
        got, expected = (facts_of(one.json()) for one in (response, reference))
        if got == expected:
            return WHOLE
        mine, whole = (facts["choices"][0] for facts in (got, expected))
    except (ValueError, LookupError):
        return WRONG
    return CUT_SHORT if text_of(whole).startswith(text_of(mine)) and mine != whole else WRONG


def text_of(choice):
    return choice.get("text") or choice.get("message", {}).get("content") or ""


def look_at_stream(question, response, reference):
    response, torn = whole_events(response)
    try:
        got, expected = Stream(response), Stream(reference)
    except (ValueError, KeyError):
        return WRONG
    if got.events and check_events(question, response, got, expected):
        return WRONG
    if not response.complete or got.errors:
        return BROKEN
    if not torn and not check_end(question, got, expected):
        return WHOLE
    twice = got.done > 1 or len(got.finish) > 1
    miscounted = (got.text, got.finish) == (expected.text, expected.finish) and got.usage and usage_of(got) != usage_of(expected)
    return WRONG if twice or miscounted else CUT_SHORT


def usage_of(stream):
    return without_details(stream.usage or {})
