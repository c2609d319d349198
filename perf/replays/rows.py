"""What the tables of perf/results/ROUTING.md hold: of each its headings and rows, and of each cell the load and the policy."""
import collections
import re

CONVERSATION, AZURE = "mooncake-conversation", "azure-2023-conv"  # recorded; all other traces are made up
H100, H200, A100 = "--engine h100-32b", "--engine h200-32b", "--engine a100-8b"
OURS = "expected-cost+hold"
OTHERS = ("epp-default", "llmd-token", "llmd-blend", "lmetric", "sglang-lmetric", "sglang", "dynamo", "aibrix", "chwbl",
          "least-load")
ASSUMED_PACE = "coldStart: assumed-pace"  # no policy's name but a configuration, below
EPP_CONFIGS = {ASSUMED_PACE: """apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
  - {type: expected-cost-scorer, parameters: {coldStart: assumed-pace}}
  - {type: max-score-picker}
schedulingProfiles:
  - name: default
    plugins:
      - {pluginRef: expected-cost-scorer}
      - {pluginRef: max-score-picker}
"""}

TTFT = "{mean:.2f} / {p90:.2f} / {p99:.2f}"
TPOT, HIT, SLO, PREEMPTIONS = "{tpot:.1f}", "{hit:.1f}", "{slo:.1f}", "{preemptions:.0f}"
ALL_IN_ONE = f"{TTFT}; {TPOT}; {SLO}"
MARGIN = 1.02  # what is less than 2 % better is not said to be better

# What is replayed: a trace, further flags, and how many seeds. A made-up load has a trace for each seed.
Load = collections.namedtuple("Load", "trace flags seeds")
# One policy's figures under one load, written as `form` says.
Cell = collections.namedtuple("Cell", "load policy form")
# Labels are the same at any time; cells are what replays say.
Row = collections.namedtuple("Row", "labels cells")
Table = collections.namedtuple("Table", "headings rows")


class Better(collections.namedtuple("Better", "load")):
    """Where the best of the other policies is better than ours, figure by figure."""
    FIGURES = (("mean", "mean", "{:.2f}"), ("p90", "p90", "{:.2f}"), ("p99", "p99", "{:.2f}"), ("TPOT", "tpot", "{:.1f}"),
               ("SLO", "slo", "{:.1f}"))

    def needs(self):
        return [(self.load, policy) for policy in (OURS, *OTHERS)]

    def text(self, figures):
        found = []
        for name, key, form in self.FIGURES:
            of = {policy: figures[self.load, policy][key] for policy in (OURS, *OTHERS)}
            best = (max if key == "slo" else min)(OTHERS, key=of.get)
            better, worse = (of[OURS], of[best]) if key == "slo" else (of[best], of[OURS])
            if better * MARGIN < worse and form.format(better) != form.format(worse):
                found.append(f"{name} {form.format(of[best])} {best}")
        return ", ".join(found)

    def fits(self, text):
        return all(re.fullmatch(r"(mean|p90|p99|TPOT|SLO) [\d.]+ \S+", part) for part in text.split(", ") if part)


class Figures(Cell):
    def needs(self):
        return [(self.load, self.policy)]

    def text(self, figures):
        of = figures[self.load, self.policy]
        # Times are those of the requests that were answered, so that refusals must be told along with them.
        refusals = f" ({of['refused']:.0f} refused)" if of["refused"] and self.form.startswith(TTFT) else ""
        return self.form.format_map(of) + refusals

    def fits(self, text):
        without = re.sub(r" \([\d]+ refused\)$", "", text)
        return re.sub(r"[\d.]+", "#", without) == re.sub(r"\{[^}]*\}", "#", self.form)


def conversation(flags):
    return Load(CONVERSATION, flags, 2)


def made_up(name, flags):
    return Load(name, flags, 3)


def policies():
    """Every policy, at once, where caches overflow and where they do not."""
    names = ("expected-cost", OURS, *OTHERS, "epp-capped", "round-robin", "random")
    loads = (conversation(f"{H100} --speed 1.6"), conversation(f"{H200} --speed 2"))
    headings = ("policy", "H100 × 1.6: TTFT", "TPOT", "hit %", "SLO %", "H200 × 2: TTFT", "TPOT", "hit %", "SLO %")
    return Table(headings, [Row((name,), [Figures(load, name, form) for load in loads for form in (TTFT, TPOT, HIT, SLO)])
                            for name in names])


def long_table(entries, forms, more_headings=()):
    """A row for each load and policy."""
    rows = [Row((label, policy), [Figures(load, policy, form) for form in forms])
            for label, load, names in entries for policy in names]
    return Table(("load", "policy", "TTFT", "TPOT", "hit %", "SLO %", *more_headings), rows)


def conditions():
    """The recorded traces under harder and easier conditions."""
    loads = {
        "H100 × 1.3": conversation(f"{H100} --speed 1.3"),
        "H100 × 1.8, over capacity": conversation(f"{H100} --speed 1.8"),
        "H100 × 1.6, half of the requests do not stream": conversation(f"{H100} --speed 1.6 --streaming 0.5"),
        "H100 × 1.6, nobody streams": conversation(f"{H100} --speed 1.6 --streaming 0"),
        "H200 × 2.6": conversation(f"{H200} --speed 2.6"),
        "H200 × 2, scrape 1 s": conversation(f"{H200} --speed 2 --scrape-ms 1000"),
        "H200 × 2, bursts of 10": conversation(f"{H200} --speed 2 --burst 10"),
        "H200 × 2, one engine half as fast": conversation(f"{H200} --speed 2 --slow-engines 1"),
        "H200 × 2, token estimates off (σ 0.3)": conversation(f"{H200} --speed 2 --token-noise 0.3"),
        "H200 × 2, nobody streams": conversation(f"{H200} --speed 2 --streaming 0"),
        "Azure 2023 conversation × 9, H100": Load(AZURE, f"{H100} --speed 9", 2),
        "Azure × 12, over capacity": Load(AZURE, f"{H100} --speed 12", 2),
    }
    names = ("expected-cost", "epp-default", "llmd-token", "lmetric")
    return long_table([(label, load, names) for label, load in loads.items()], (TTFT, TPOT, HIT, SLO))


def late_binding():
    both = ("expected-cost", "expected-cost+hold")
    over = f"{H100} --speed 1.8"
    entries = [
        ("H100 × 1.8, over capacity", conversation(over), both),
        ("H100 × 1.8, over capacity, `--aging-s 5`", conversation(f"{over} --aging-s 5"), both[1:]),
        ("H100 × 1.8, over capacity, `--aging-s 60`", conversation(f"{over} --aging-s 60"), both[1:]),
        ("H100 × 1.6", conversation(f"{H100} --speed 1.6"), both),
        ("H200 × 2", conversation(f"{H200} --speed 2"), both),
        ("H200 × 2.6", conversation(f"{H200} --speed 2.6"), both),
        ("H200 × 2.8", conversation(f"{H200} --speed 2.8"), both),
        ("H200 × 2, nobody streams", conversation(f"{H200} --speed 2 --streaming 0"), both),
    ]
    return long_table(entries, (TTFT, TPOT, HIT, SLO, PREEMPTIONS), ("preemptions",))


def wide_table(loads, names, first="load", headings=None):
    """A row for each load, a column for each policy."""
    rows = [Row((label,), [Figures(load, name, ALL_IN_ONE) for name in names]) for label, load in loads.items()]
    return Table((first, *(headings or names)), rows)


def against_all(loads, names):
    """Some policies as in wide_table, and what the others do better."""
    table = wide_table(loads, names)
    return Table((*table.headings, "where any other is better than ours"),
                 [Row(row.labels, [*row.cells, Better(load)]) for row, load in zip(table.rows, loads.values())])


def eight():
    """The loads that were made once the formula was settled."""
    return against_all({
        "conversations, ten times as many begin for 10 s of every 120 s; H100": made_up("tenfold", f"{H100} --speed 1.3"),
        "equal prompts of 30,000 tokens, 36 a second; H200": made_up("equal", f"{H200} --speed 2"),
        "conversations, and 300 prompts at once each minute, half of the requests do not stream; H100":
            made_up("bulk", f"{H100} --speed 1.3 --streaming 0.5"),
        "heavy-tailed answers (Pareto 1.05, to 8,000 tokens); H100": made_up("heavytail", H100),
        "60 system prompts of 12,000 tokens by Zipf, others popular each 100 s; H200": made_up("zipf", f"{H200} --speed 1.6"),
        "32,768 and 512 prompt tokens in turn; H200": made_up("alternate", H200),
        "conversations of 64 turns with time to think, over capacity; H100": made_up("turns64", H100),
        "20,000 tokens in common to ever more of the requests; H200": made_up("ramp", H200),
    }, (OURS, "epp-default", "llmd-token", "lmetric", "sglang", "dynamo", "least-load"))


def nineteen():
    """The loads that were made later, against every other policy."""
    loads = {
        "long documents (40,000 to 100,000 tokens), each asked about 2 to 20 times, 12 s apart; H200": made_up("docs", H200),
        "the same, twice as fast": made_up("docs", f"{H200} --speed 2"),
        "crowds about long documents: 8 questions in 5 s on each; H200": made_up("crowd", H200),
        "agents: 5 to 40 turns that grow to 100,000 tokens; H200": made_up("agents", H200),
        "the same, 1.5 times as fast": made_up("agents", f"{H200} --speed 1.5"),
        "one of 200 tenants sends 70 %; 8 H100": made_up("tenants", H100),
        "the same, half as fast; 3 H100": made_up("tenants", f"{H100} --engines 3 --speed 0.5"),
        "trains of ten bursts of 60 requests, then a minute of little; H100": made_up("trains", H100),
        "short prompts with answers of 2,000 tokens and 9,000 tokens with answers of 40, half each; H100":
            made_up("mixed", H100),
        "the same, 1.5 times as fast; H100": made_up("mixed", f"{H100} --speed 1.5"),
        "the same; A100 with 8B": made_up("mixed", A100),
        "chat, retrieval over 300 documents and code, 68 requests a second; 32 H100":
            made_up("wide", f"{H100} --engines 32 --speed 1.5"),
        "agents with tools: 10 to 45 short turns on 20,000 to 60,000 tokens; H200": made_up("tools", H200),
        "the same, two engines half as fast": made_up("tools", f"{H200} --engine-speeds 1,1,1,1,1,1,0.5,0.5"),
        "retrieval: 3 to 10 of any chunks behind a short system prompt × 0.7; H100": made_up("rag", f"{H100} --speed 0.7"),
        "the same × 0.6, engines of speed 0.6 and 0.4 among them":
            made_up("rag", f"{H100} --speed 0.6 --engine-speeds 1,1,1,1,1,1,0.6,0.4"),
        "embeddings and chat, half of the requests do not stream; H100": made_up("embeddings", f"{H100} --streaming 0.5"),
        "chat, 20 s of 34 requests a second, then 20 s of none; H100": made_up("onoff", H100),
        "the same × 0.8, engines of speed 0.6 and 0.3 among them":
            made_up("onoff", f"{H100} --speed 0.8 --engine-speeds 1,1,1,1,1,1,0.6,0.3"),
    }
    return against_all(loads, (OURS, "epp-default", "llmd-token"))


def unequal():
    """Engines of unequal speed."""
    three, slower = "--engine-speeds 1,1,1,1,0.5,0.5,0.25,0.25", "--change-speed 900:0:0.25"
    return wide_table({
        f"conversation trace × 1.5, H200, `{three}`": conversation(f"{H200} --speed 1.5 {three}"),
        f"conversation trace × 2, H200, `{slower}`": conversation(f"{H200} --speed 2 {slower}"),
        "trains of bursts (above), H100, engine 3 five times as slow from 150 to 300 s":
            made_up("trains", f"{H100} --change-speed 150:3:0.2 --change-speed 300:3:1"),
        "agents (above), H200, four of eight half as fast":
            made_up("agents", f"{H200} --engine-speeds 1,1,1,1,0.5,0.5,0.5,0.5"),
        "one of 200 tenants sends 70 % (above), 3 H100 × 0.4, one half as fast":
            made_up("tenants", f"{H100} --engines 3 --speed 0.4 --engine-speeds 1,1,0.5"),
    }, (OURS, "epp-default", "llmd-token", "lmetric", "dynamo"))


def nothing_yet():
    return wide_table({
        "24 H100, 120 a second, a system prompt of 20,000 tokens": made_up("cold", f"{H100} --engines 24"),
        "6 H100, 20 a second, equal prompts of 10,240 tokens": made_up("coldequal", f"{H100} --engines 6"),
    }, ("expected-cost", "llmd-token", "least-load"), first="nothing learnt yet")


def never():
    """No metrics after the first, nobody streams, no usage."""
    loads = {
        "bursts of conversations (above), H100": made_up("tenfold", f"{H100} --speed 1.3"),
        "equal prompts (above), H200": made_up("equal", f"{H200} --speed 2"),
        "60 system prompts (above), H200": made_up("zipf", f"{H200} --speed 1.6"),
        "20,000 tokens in common to ever more (above), H200": made_up("ramp", H200),
        "conversation trace, H200 × 2": conversation(f"{H200} --speed 2"),
        "conversation trace, H100 × 1.3": conversation(f"{H100} --speed 1.3"),
        "conversation trace, H100 × 1.6": conversation(f"{H100} --speed 1.6"),
    }
    silent = {label: load._replace(flags=load.flags + " --silent") for label, load in loads.items()}
    return wide_table(silent, ("expected-cost", ASSUMED_PACE, "llmd-token", "least-load"), first="never (`--silent`)",
                      headings=("expected-cost", f"the same, `{ASSUMED_PACE}`", "llmd-token", "least-load"))


TABLES = {
    "policies": policies(), "conditions": conditions(), "late-binding": late_binding(), "made-up": eight(),
    "made-up-later": nineteen(), "unequal-engines": unequal(), "nothing-learnt-yet": nothing_yet(), "never-learnt": never(),
}
