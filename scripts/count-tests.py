#!/usr/bin/env python3
"""Counts test cases in meson's log of a test run, for scripts/test.

  count-tests.py TYPE TESTLOG [SECOND]   one line for each program: TYPE NAME PASSED FAILED SKIPPED [again]
                                where SECOND, the log of those that were run once more, stands for the first
  count-tests.py --again TESTLOG   the names of failed tests that another run is due
  count-tests.py --sum FILE     adds such lines up, prints the sum last; status 1 when anything failed
A program that says how many cases it ran (doctest, unittest) counts with these, any other as one.
What a test expects to fail is counted as skipped: it did not pass.
"""
import json
import os
import re
import sys

DOCTEST = re.compile(r"test cases:\s*(\d+)\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed(?:\s*\|\s*(\d+) skipped)?")
UNITTEST = re.compile(r"^Ran (\d+) tests? in", re.M)
TIMED_SUITES = {"e2e", "load", "cluster", "vllm", "budget", "perf"}  # real processes, real clocks: a busy machine can fail them
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def count(entry):
    result = entry["result"]
    ok = result in ("OK", "EXPECTEDFAIL")
    if result == "SKIP":
        return 0, 0, 1
    text = COLOUR.sub("", (entry.get("stdout") or "") + "\n" + (entry.get("stderr") or ""))
    passed, failed, skipped = 0, 0, 0
    for found in DOCTEST.finditer(text):
        passed += int(found[2])
        failed += int(found[3])
    for found in UNITTEST.finditer(text):
        after = text[found.end():].lstrip("0123456789.s \n").split("\n")[0]
        amounts = {k.strip(): int(n) for k, n in re.findall(r"([a-z ]*[a-z])=(\d+)", after)}
        bad = sum(amounts.get(k, 0) for k in ("failures", "errors", "unexpected successes"))
        known = amounts.get("skipped", 0) + amounts.get("expected failures", 0)
        failed += bad
        skipped += known
        passed += int(found[1]) - bad - known
    if ok:
        return (passed, 0, skipped) if passed + skipped else (1, 0, 0)
    return passed, max(failed, 1), skipped


def entries(path):
    """(name, entry) for each line of a log; the entry is None where another run wrote into the same file."""
    with open(path) as f:
        for line in f:
            try:
                entry = json.loads(line)
            except ValueError:
                yield "unreadable-log-line", None
                continue
            yield entry["name"].split(" / ")[-1].replace(" ", "-"), entry


def has_failed(entry):
    return entry is not None and entry["result"] not in ("OK", "EXPECTEDFAIL", "SKIP")


def print_again(path):
    for name, entry in entries(path):
        if has_failed(entry) and TIMED_SUITES & suites_of(entry):
            print(name)


def suites_of(entry):
    """Meson's log names a test "project:suite+suite / name"."""
    return set(entry["name"].split(" / ")[0].split(":")[-1].split("+"))


def print_counts(kind, path, second_path=None):
    second = dict(entries(second_path)) if second_path and os.path.exists(second_path) else {}
    for name, entry in entries(path):
        if entry is None:
            print(kind, name, 0, 1, 0)
        elif has_failed(entry) and second.get(name):
            print(kind, name, *count(second[name]), *([] if has_failed(second[name]) else ["again"]))
        else:
            print(kind, name, *count(entry))


def print_sum(path):
    totals = {}
    remarks = []
    with open(path) as f:
        for line in f:
            kind, name, *numbers = line.split()
            if numbers[3:]:
                remarks.append(f"passed only when run once more: {kind}: {name}")
            row = totals.setdefault(kind, [0, 0, 0])
            for i, number in enumerate(numbers[:3]):
                row[i] += int(number)
            if numbers[1] != "0":
                remarks.append(f"failed: {kind}: {name}")
    for line in remarks:
        print(line)
    for kind, (passed, failed, skipped) in totals.items():
        print(f"{kind}: {passed} passed, {failed} failed, {skipped} skipped")
    passed, failed, skipped = (sum(row[i] for row in totals.values()) for i in range(3))
    if passed + failed == 0:
        print("no test was run")
        failed = 1
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--sum":
        return print_sum(sys.argv[2])
    if len(sys.argv) == 3 and sys.argv[1] == "--again":
        print_again(sys.argv[2])
        return 0
    if len(sys.argv) in (3, 4):
        print_counts(*sys.argv[1:])
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
