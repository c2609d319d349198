"""What stands between clients and servers in a run: Penstock, or another program in its place."""

import collections
import json

import harness
import programs
import seen


class Fronted(harness.E2E):
    any_path = True
    options = None  # of run.py

    @property
    def ours(self):
        return self.options.program == "penstock"

    def start_front(self, endpoints, config):
        """The program, when it serves with all endpoints. `config`: Penstock's."""
        if self.ours:
            front = self.gateway(endpoints, config, shards=2)
            front.wait_pods(len(endpoints))
            return front
        front = programs.Peer(self.options.program, [endpoint.url for endpoint in endpoints], self.directory())
        self.addCleanup(self.end_peer, front)
        front.wait_ready([endpoint.name for endpoint in endpoints])
        return front

    def end_peer(self, front):
        alive = front.alive()
        front.end()
        self.assertTrue(alive, f"{self.options.program} ended by itself:\n{front.log()[-3000:]}")

    def count(self, answers, **conditions):
        """Says, and keeps, what clients saw. `answers`: (kind of question, what was seen)."""
        by_kind = collections.defaultdict(collections.Counter)
        for kind, what in answers:
            by_kind[kind][what] += 1
        for kind, counts in by_kind.items():
            told = ", ".join(f"{counts[what]} {what}" for what in seen.ALL)
            print(f"clients of {self.options.program} saw of {counts.total()} ({kind}): {told}")
        self.assertGreater(sum(counts[seen.WHOLE] for counts in by_kind.values()), 0, "nothing was served")
        if self.options.json:
            run = {"program": self.options.program, "seed": self.options.seed, "streams": self.options.streams, **conditions}
            with open(self.options.json, "a", encoding="utf-8") as file:
                file.write(json.dumps({**run, "seen": by_kind}) + "\n")
