"""What came of a run, for a reader: by the kind of fault, and by the kind of question."""

import collections

import schedule
import seen
from checker import BROKEN, FALSE, REFUSED, WHOLE


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def promised(answers):
    """Of Penstock's, by its promises: how many, by the title of the column."""
    counts = collections.Counter(answer.verdict.result for answer in answers)
    went_on = sum(answer.resumed > 0 for answer in answers)
    return {WHOLE: counts[WHOLE], "went on": went_on, **{result: counts[result] for result in (BROKEN, REFUSED, FALSE)}}


def seen_by_clients(answers):
    counts = collections.Counter(answer.seen for answer in answers)
    return {what: counts[what] for what in seen.ALL}


def print_kinds(struck, answers, shown, skipped):
    """`struck`: the faults; `shown`: promised or seen_by_clients; `skipped`: why there were none of some kinds."""
    by_kind = collections.defaultdict(list)
    for fault in struck:
        by_kind[fault.kind].append(fault)
    resumable = [answer for answer in answers if answer.question.resumable]
    print(f"\n{'fault':12} {'struck':>6} {'streams met':>12}{titles(shown)}")
    for kind in schedule.KINDS:
        faults = by_kind.get(kind, [])
        met = [a for a in resumable if any(f.began <= a.ended and a.began <= f.ended for f in faults)]
        row = f"{len(faults):6} {len(met):12}{cells(shown, met)}"
        print(f"{kind:12} {'skipped: ' + skipped[kind] if kind in skipped else row}")


def print_sum(answers, shown):
    print(f"\n{'':28} {'answers':>8}{titles(shown)}")
    for kind in ("stream", "stream that may not go on", "JSON"):
        of_kind = [a for a in answers if a.question.kind() == kind]
        print(f"{kind:28} {len(of_kind):8}{cells(shown, of_kind)}")


def titles(shown):
    return "".join(f" {title:>{width(title)}}" for title in shown(()))


def cells(shown, answers):
    return "".join(f" {count:{width(title)}}" for title, count in shown(answers).items())


def width(title):
    return max(8, len(title))


def print_pauses(answers):
    pauses = [a.pause for a in answers if a.resumed == 1 and a.verdict.result == WHOLE]
    print(f"pause of {len(pauses)} streams that went on once: p50 {percentile(pauses, 0.5) * 1000:.0f} ms, p99 {percentile(pauses, 0.99) * 1000:.0f} ms")
    print(f"streams went on {sum(a.resumed for a in answers)} times, one of them {max(a.resumed for a in answers)} times")
