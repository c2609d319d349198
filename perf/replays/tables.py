#!/usr/bin/env python3
"""Makes the tables of perf/results/ROUTING.md anew, or some of them, from replays.

They are between <!-- table: NAME --> and <!-- end of table --> there; rows.py says what is in them. Equal builds give
equal figures. --traces names a folder with the two recorded traces, mooncake-conversation.jsonl (of
FAST25-release/traces/conversation_trace.jsonl in github.com/kvcache-ai/Mooncake) and azure-2023-conv.jsonl (of
data/AzureLLMInferenceTrace_conv.csv in github.com/Azure/AzurePublicDataset, times in ms; or azure-2023-conv.csv, the CSV
itself), each as it is or with .gz. All others are made here (made_up_traces.py)."""
import argparse
import concurrent.futures
import gzip
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import made_up_traces
import rows

DOC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../results/ROUTING.md")
END = "<!-- end of table -->"
# Behind a policy's name in a row of `penstock replay --compare`; those with None are in no table.
COLUMNS = ("mean", None, "p90", "p99", None, None, None, "tpot", "hit", None, "slo", None, "preemptions")


class Problem(Exception):
    pass


class Bench:
    """Replays in a temporary folder, which has the traces."""

    def __init__(self, penstock, traces, folder):
        self.penstock, self.traces, self.folder = penstock, traces, folder
        self.policies = {}
        for number, (name, text) in enumerate(rows.EPP_CONFIGS.items()):
            self.policies[name] = os.path.join(folder, f"epp{number}.yaml")
            with open(self.policies[name], "w") as out:
                out.write(text)

    def trace(self, name, seed):
        """The path of a trace, made or unpacked where it is not there yet."""
        if name in made_up_traces.NAMES:
            path = os.path.join(self.folder, f"{name}-{seed}.jsonl")
            return path if os.path.exists(path) else made_up_traces.write(self.folder, name, seed)
        for ending in (".jsonl", ".csv"):
            path = os.path.join(self.traces, name + ending)
            unpacked = os.path.join(self.folder, name + ending)
            if os.path.exists(path) or os.path.exists(unpacked):
                return path if os.path.exists(path) else unpacked
            if os.path.exists(path + ".gz"):
                with gzip.open(path + ".gz", "rb") as packed, open(unpacked, "wb") as out:
                    shutil.copyfileobj(packed, out)
                return unpacked
        raise Problem(f"{self.traces} has no {name}.jsonl (see --help)")

    def command(self, load, policy, seed):
        return [self.penstock, "replay", "--trace", self.trace(load.trace, seed), *shlex.split(load.flags), "--seed", str(seed),
                "--policy", self.policies.get(policy, policy), "--compare"]

    @staticmethod
    def figures(command):
        """Those of one replay: the row below the headings, and how many requests were refused."""
        done = subprocess.run(command, capture_output=True, text=True)
        row = re.search(r"^policy .*\n\S+((?: +\S+){%d})$" % len(COLUMNS), done.stdout, re.M)
        if done.returncode != 0 or not row:
            raise Problem(f"{shlex.join(command)}\nended with status {done.returncode}: {done.stderr or done.stdout}")
        refused = re.search(r" refused (\d+) of ", done.stdout)
        figures = {name: float(cell) for name, cell in zip(COLUMNS, row[1].split()) if name}
        return {**figures, "refused": float(refused[1]) if refused else 0}


def replay_all(bench, runs, jobs):
    """The figures of each (load, policy, seed)."""
    commands = [bench.command(*run) for run in runs]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        try:
            return dict(zip(runs, pool.map(Bench.figures, commands)))
        finally:
            pool.shutdown(cancel_futures=True)  # where one failed, the rest need not be waited for


def means_of(results, load, policy):
    """Over its seeds."""
    each = [results[run] for run in runs_of(load, policy)]
    return {name: sum(one[name] for one in each) / len(each) for name in each[0]}


def runs_of(load, policy):
    return [(load, policy, seed) for seed in range(1, load.seeds + 1)]


def line(cells):
    return "| " + " | ".join(cells) + " |"


def table_lines(table, figures):
    yield line(table.headings)
    yield "|" + "---|" * len(table.headings)
    for row in table.rows:
        yield line([*row.labels, *(cell.text(figures) for cell in row.cells)]).replace("|  |", "| |")


def find_tables(text):
    """Name, what stands between the markers."""
    return re.findall(rf"^<!-- table: (\S+) -->\n\n(.*?)\n\n{END}$", text, re.M | re.S)


def put_table(text, name, lines):
    found = re.compile(rf"(^<!-- table: {re.escape(name)} -->\n\n).*?(\n\n{END}$)", re.M | re.S)
    return found.sub(lambda match: match[1] + "\n".join(lines) + match[2], text)


def cells_of(text):
    return [cell.strip() for cell in text.strip().removeprefix("|").removesuffix("|").split("|")]


def check_table(name, table, text):
    """What is not as table_lines would write it, figures aside."""
    lines = text.splitlines()
    head = list(table_lines(table._replace(rows=[]), {}))
    if lines[:2] != head:
        yield f"{name}: the headings should be\n{head[0]}"
    if len(lines) - 2 != len(table.rows):
        yield f"{name}: {len(lines) - 2} rows, should be {len(table.rows)}"
    for row, have in zip(table.rows, lines[2:]):
        cells = cells_of(have)
        labels, values = cells[:len(row.labels)], cells[len(row.labels):]
        if labels != list(row.labels):
            yield f"{name}: {line(labels)} should be {line(row.labels)}"
        elif len(values) != len(row.cells) or not all(cell.fits(value) for cell, value in zip(row.cells, values)):
            yield f"{name}: not the columns that the script writes: {have}"


def check(text):
    """Problems of the whole document."""
    found = find_tables(text)
    names = [name for name, _ in found]
    if names != list(rows.TABLES):
        yield f"the tables should be {', '.join(rows.TABLES)}; there are {', '.join(names) or 'none'}"
    if text.count(END) != len(found) or text.count("<!-- table: ") != len(found):
        yield "a table's markers do not match, or lack their empty lines"
    for name, lines in found:
        if name in rows.TABLES:
            yield from check_table(name, rows.TABLES[name], lines)


def make(options, names):
    """One table after the other, so that what is done stays when one fails. What two have in common is replayed once."""
    missing = set(names) - {name for name, _ in find_tables(read(options.doc))}
    if missing:
        raise Problem(f"{options.doc} has no markers of {', '.join(sorted(missing))}")
    with tempfile.TemporaryDirectory(prefix="penstock-replays-") as folder:
        bench, results = Bench(options.penstock, options.traces, folder), {}
        for name in names:
            started = time.monotonic()
            needs = dict.fromkeys(need for row in rows.TABLES[name].rows for cell in row.cells for need in cell.needs())
            new = [run for need in needs for run in runs_of(*need) if run not in results]
            results |= replay_all(bench, new, options.jobs)
            figures = {need: means_of(results, *need) for need in needs}
            text = put_table(read(options.doc), name, table_lines(rows.TABLES[name], figures))
            with open(options.doc, "w", encoding="utf-8") as out:
                out.write(text)
            print(f"{name}: {len(new)} replays in {time.monotonic() - started:.0f} s", flush=True)


def read(path):
    with open(path, encoding="utf-8") as text:
        return text.read()


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--penstock", help="the program, of a release build")
    parser.add_argument("--traces", help="folder of the recorded traces")
    parser.add_argument("--table", action="append", choices=rows.TABLES, help="repeat for more (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="replays at a time (default 1)")
    parser.add_argument("--doc", default=DOC, help=argparse.SUPPRESS)
    parser.add_argument("--check", action="store_true",
                        help="replay nothing; say whether markers, labels and columns are those that this would write")
    options = parser.parse_args()
    if not options.check and not (options.penstock and options.traces):
        parser.error("--penstock and --traces, or --check")
    return options


def main():
    options = parse()
    try:
        if not options.check:
            make(options, options.table or list(rows.TABLES))
        problems = list(check(read(options.doc)))
    except Problem as problem:
        problems = [str(problem)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
