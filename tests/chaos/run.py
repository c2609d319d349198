"""A chaos run: a gateway, simulated model servers under a schedule of faults, clients that go on asking, and a checker that
looks at every byte which they got. What must hold of Penstock:

  - while an endpoint is alive, or all are down for less than what is promised to wait for, each stream that has begun and can
    go on elsewhere is whole;
  - while an endpoint is alive, each other request is answered, or has been tried as often as retry.attempts says;
  - what breaks all the same is broken visibly, and nothing false is ever told.

Of another program in its place nothing is demanded but that it serves: what its clients saw is counted in the same way.

run.py [--seed S] [--seconds N] [--clients N] [--streams N] [--program NAME] [--json FILE] [--ring NAME] [--protocol NAME]
"""

import argparse
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
import loss  # pylint: disable=wrong-import-position
import programs  # pylint: disable=wrong-import-position
import schedule  # pylint: disable=wrong-import-position
import seen  # pylint: disable=wrong-import-position
import tables  # pylint: disable=wrong-import-position
from checker import BROKEN, FALSE, REFUSED, WHOLE  # pylint: disable=wrong-import-position
from clients import ChaosClient  # pylint: disable=wrong-import-position
from front import Fronted  # pylint: disable=wrong-import-position

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
    parser.add_argument("--streams", type=int, help="instead of a schedule: so many at once lose two of three servers")
    parser.add_argument("--program", default="penstock", choices=programs.NAMES, help="which stands before the servers (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="to which a line with the counts is appended")
    return parser.parse_args()


class Chaos(Fronted):
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
        self.front = self.start_front(self.endpoints, CONFIG + log)
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
        lines = self.read_log(answers) if self.ours else {}
        for answer in answers:
            if answer.seen == seen.REFUSED and self.during(answer, schedule.ALL, schedule.RECOVERY):
                answer.seen = seen.NONE_UP
        shown = tables.promised if self.ours else tables.seen_by_clients
        tables.print_kinds(self.carried.struck, answers, shown, {"black_hole": WHY_NO_NAMESPACE} if WHY_NO_NAMESPACE else {})
        tables.print_sum(answers, shown)
        if self.ours:
            tables.print_pauses(answers)
        self.count([(answer.question.kind(), answer.seen) for answer in answers], seconds=self.options.seconds)
        for answer in [answer for answer in answers if answer.seen == seen.WRONG][:3]:
            print(f"wrong: {answer.verdict}")
        print("repeat it: " + self.repeat(), flush=True)
        problems = [problem for answer in answers if (problem := self.problem(answer))] if self.ours else []
        if problems:
            events = "\n".join(f"  {fault}" for fault in self.carried.struck[-40:])
            told = "\n\n".join(f"{why}\n  {vars(answer.question)}\n  {lines.get(answer.name)}" for answer, why in problems[:5])
            self.fail(f"{len(problems)} answers are not as promised; repeat with {self.repeat()}\n{told}\n\nfaults:\n{events}\n\nthe gateway:\n{self.front.log()[-3000:]}")

    def repeat(self):
        o = self.options
        ours = f"--ring {harness.RING} --protocol {harness.PROTOCOL}" if self.ours else f"--program {o.program}"
        return f"scripts/chaos --seed {o.seed} --seconds {o.seconds:g} --clients {o.clients} {ours}"

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


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    harness.skip_without_ring()
    Fronted.options = options()
    name = Fronted.options.program
    if name != "penstock" and not programs.find(name):
        print(f"skipped: {name} is not installed ({programs.FROM[name]})")
        sys.exit(77)  # what meson takes for "skipped"
    case = Chaos() if Fronted.options.streams is None else loss.Loss()
    result = unittest.TextTestRunner(verbosity=0).run(case)
    sys.exit(0 if result.wasSuccessful() else 1)


if __name__ == "__main__":
    main()
