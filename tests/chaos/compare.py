"""The counts that runs have appended to a file (run.py --json), by program, as a table in Markdown.

compare.py FILE
"""

import collections
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
import seen  # pylint: disable=wrong-import-position

SHOWN = ("stream", "JSON", "stream whose server was killed", "other stream")


def main():
    by_kind = collections.defaultdict(lambda: collections.defaultdict(collections.Counter))
    seeds = collections.defaultdict(set)
    with open(sys.argv[1], encoding="utf-8") as file:
        for run in map(json.loads, file):
            seeds[run["program"]].add(run["seed"])
            for kind, counts in run["seen"].items():
                by_kind[kind][run["program"]].update(counts)
    for kind in SHOWN:
        if kind in by_kind:
            print_table(kind, by_kind[kind], seeds)


def print_table(kind, by_program, seeds):
    print(f"\n| {kind} | seeds | answers | {' | '.join(seen.ALL)} |")
    print("|---" * (3 + len(seen.ALL)) + "|")
    for program, counts in by_program.items():
        cells = [f"{counts[what]} ({100 * counts[what] / counts.total():.1f} %)" if counts[what] else "0" for what in seen.ALL]
        print(f"| {program} | {' '.join(sorted(seeds[program]))} | {counts.total()} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
