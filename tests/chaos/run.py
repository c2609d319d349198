"""A chaos run: a gateway, simulated model servers under a schedule of faults, clients that go on asking, and a checker that
looks at every byte which they got. What must hold:

  - while an endpoint is alive, or all are down for less than what is promised to wait for, each stream that has begun and can
    go on elsewhere is whole;
  - while an endpoint is alive, each other request is answered, or has been tried as often as retry.attempts says;
  - what breaks all the same is broken visibly, and nothing false is ever told.

run.py [--seed S] [--seconds N] [--clients N] [--ring NAME] [--protocol NAME]
"""

import argparse
import collections
import json
import os
import signal
import sys
import threading
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))
import fleet  # pylint: disable=wrong-import-position

WHY_NO_NAMESPACE = fleet.enter_namespace()  # before the harness takes its arguments away

import harness  # pylint: disable=wrong-import-position
import schedule  # pylint: disable=wrong-import-position
from checker import BROKEN, FALSE, REFUSED, WHOLE  # pylint: disable=wrong-import-position
from clients import ChaosClient  # pylint: disable=wrong-import-position

WAIT = 5.0  # seconds for which a stream, or a request, waits for an endpoint
TOO_LONG = 7.5
ATTEMPTS = 3  # endpoints that a request is sent to, before any byte of an answer has gone to its client
ENGINE = ["--text", "varied", "--eos-mean", "300"]
# Servers that hang are found out sooner than by default, so that a short run meets many faults. Streams may break as often as
# the schedule likes.
CONFIG = f"""
resume: {{stall: 1500ms, wait: {WAIT:.0f}s, per_stream: 100}}
timeouts: {{unresponsive: 1s, connect: 500ms}}
metrics: {{health_interval: 200ms, timeout: 500ms}}
retry: {{attempts: {ATTEMPTS}, budget_percent: 100}}
flow_control: {{no_endpoint_ttl: {WAIT:.0f}s}}
"""


def options():
    parser = argparse.ArgumentParser(prog="chaos", description="Streams through a gateway under faults drawn from a seed.")
    parser.add_argument("--seed", default="1", help="of faults and questions (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="for which faults strike (%(default)s)")
    parser.add_argument("--clients", type=int, default=12, help="that ask at the same time (%(default)s)")
    parser.add_argument("--decode-ms", type=float, default=10, help="of a token (%(default)s)")
    return parser.parse_args()


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


class Chaos(harness.E2E):
    any_path = True
    options = None

    def runTest(self):
        self.begin()
        try:
            self.carried.run()
        finally:
            self.stopping.set()
        for client in self.clients:
            client.join(4 * harness.PATIENCE)
            self.assertFalse(client.is_alive(), "a client has not ended")
            if client.problem:
                raise client.problem
        self.assertEqual(self.carried.problems, [], "faults could not be carried out")
        self.report()

    def begin(self):
        ways = ["direct", "relay", "relay", "direct" if WHY_NO_NAMESPACE else "namespace"]
        self.reference = self.sim("--instant", "--keep-alive-s", 600, *ENGINE)
        self.endpoints = []
        for i, way in enumerate(ways):
            flags = [*ENGINE, "--decode-ms", self.options.decode_ms, "--on-sigterm", ["abort", "drain"][i % 2]]
            self.endpoints.append(fleet.Endpoint(f"endpoint-{i}", way, flags))
            self.addCleanup(self.endpoints[-1].close)
        self.log_path = self.directory() + "/access.log"
        log = f"access_log: {{format: json, path: {self.log_path}}}\n"
        self.front = self.gateway(self.endpoints, CONFIG + log, shards=2)
        self.front.wait_pods(len(ways))
        faults = schedule.draw(self.options.seed, self.options.seconds, ways, TOO_LONG)
        self.stopping = threading.Event()
        ports = self.front.port, self.reference.port
        self.clients = [ChaosClient(i, self.options.seed, *ports, self.stopping) for i in range(self.options.clients)]
        self.carried = schedule.Carried(faults, self.endpoints)
        for client in self.clients:
            client.start()

    # ---- what came of it ----

    def report(self):
        answers = [answer for client in self.clients for answer in client.answers]
        lines = self.read_log(answers)
        problems = [problem for answer in answers if (problem := self.problem(answer))]
        self.print_kinds(answers)
        self.print_sum(answers)
        print("repeat it: " + self.repeat(), flush=True)
        if problems:
            events = "\n".join(f"  {fault}" for fault in self.carried.struck[-40:])
            told = "\n\n".join(f"{why}\n  {vars(answer.question)}\n  {lines.get(answer.name)}" for answer, why in problems[:5])
            self.fail(f"{len(problems)} answers are not as promised; repeat with {self.repeat()}\n{told}\n\nfaults:\n{events}\n\nthe gateway:\n{self.front.log()[-3000:]}")

    def repeat(self):
        o = self.options
        return f"scripts/chaos --seed {o.seed} --seconds {o.seconds:g} --clients {o.clients} --ring {harness.RING} --protocol {harness.PROTOCOL}"

    def read_log(self, answers):
        """The access log's lines by the names of answers; fills in how often each has gone on."""
        total = len(answers)
        harness.wait_for("all requests are counted", lambda: sum(self.front.outcomes().values()) >= total)
        self.front.wait_idle()

        def read():
            with open(self.log_path, encoding="utf-8") as file:
                return {line["request_id"]: line for line in map(json.loads, file)}

        lines = harness.wait_for("the access log is written", lambda: (found := read()) and len(found) >= total and found)
        for answer in answers:
            answer.resumed, answer.attempts = lines[answer.name]["resumed"], lines[answer.name]["attempts"]
        return lines

    def during(self, answer, kinds, margin):
        """Whether any of these faults was going on while it was answered."""
        return any(
            fault.kind in kinds and fault.began <= answer.ended and answer.began <= fault.ended + margin for fault in self.carried.struck
        )

    def problem(self, answer):
        """(answer, why) if it is not as promised."""
        verdict, at = answer.verdict, f"{answer.began - self.carried.begun_at:.2f} to {answer.ended - self.carried.begun_at:.2f} s"
        excused = self.during(answer, ["too_long"], schedule.RECOVERY)
        if verdict.result == BROKEN and not answer.question.resumable and answer.question.streams:
            excused = True  # nobody promised that it goes on
        if verdict.result == REFUSED:
            excused = excused or answer.attempts >= ATTEMPTS or self.during(answer, schedule.ALL, schedule.RECOVERY)
        if verdict.result == WHOLE or (verdict.result != FALSE and excused):
            return None
        return answer, f"{answer.question.kind()} {answer.name}, {at}, resumed {answer.resumed} times: {verdict}"

    def print_kinds(self, answers):
        print(f"\n{'fault':12} {'struck':>6} {'streams met':>12} {'went on':>8} {'broken':>7} {'refused':>8} {'false':>6}")
        by_kind = collections.defaultdict(list)
        for fault in self.carried.struck:
            by_kind[fault.kind].append(fault)
        resumable = [answer for answer in answers if answer.question.resumable]
        for kind in schedule.KINDS:
            faults = by_kind.get(kind, [])
            met = [a for a in resumable if any(f.began <= a.ended and a.began <= f.ended for f in faults)]
            counts = collections.Counter(a.verdict.result for a in met)
            went_on = sum(a.resumed > 0 for a in met)
            row = f"{len(faults):6} {counts.total():12} {went_on:8} {counts[BROKEN]:7} {counts[REFUSED]:8} {counts[FALSE]:6}"
            if WHY_NO_NAMESPACE and kind == "black_hole":
                row = "skipped: " + WHY_NO_NAMESPACE
            print(f"{kind:12} {row}")

    def print_sum(self, answers):
        print(f"\n{'':28} {'answers':>8} {'whole':>8} {'went on':>8} {'broken':>7} {'refused':>8} {'false':>6}")
        for kind in ("stream", "stream that may not go on", "JSON"):
            of_kind = [a for a in answers if a.question.kind() == kind]
            counts = collections.Counter(a.verdict.result for a in of_kind)
            went_on = sum(a.resumed > 0 for a in of_kind)
            print(f"{kind:28} {len(of_kind):8} {counts[WHOLE]:8} {went_on:8} {counts[BROKEN]:7} {counts[REFUSED]:8} {counts[FALSE]:6}")
        pauses = [a.pause for a in answers if a.resumed == 1 and a.verdict.result == WHOLE]
        print(f"pause of {len(pauses)} streams that went on once: p50 {percentile(pauses, 0.5) * 1000:.0f} ms, p99 {percentile(pauses, 0.99) * 1000:.0f} ms")
        print(f"streams went on {sum(a.resumed for a in answers)} times, one of them {max(a.resumed for a in answers)} times")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    harness.skip_without_ring()
    Chaos.options = options()
    result = unittest.TextTestRunner(verbosity=0).run(Chaos())
    sys.exit(0 if result.wasSuccessful() else 1)


if __name__ == "__main__":
    main()
