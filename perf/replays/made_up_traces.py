#!/usr/bin/env python3
"""Writes made-up traces for `penstock replay`, as FOLDER/LOAD-SEED.jsonl.

Each load is a function below that says what it is like. Equal seeds give equal traces. The format is Mooncake's: a line
of JSON for each request, with one id for each 512 tokens of the prompt (perf/traces/README.md)."""
import argparse
import json
import math
import os
import random
import sys

BLOCK = 512


class Trace:
    """A trace that is being made: its requests, its random numbers and the ids of blocks that were not given out yet."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.next_id = 1
        self.requests = []  # (seconds, prompt tokens, output tokens, ids)

    def blocks(self, count):
        """Ids that nobody has."""
        self.next_id += count
        return list(range(self.next_id - count, self.next_id))

    def length(self, mean, sigma):
        """A log-normal length of this mean."""
        return self.random.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma)

    def arrivals(self, rate, start, end):
        """Times of a Poisson process."""
        at = start + self.random.expovariate(rate)
        while at < end:
            yield at
            at += self.random.expovariate(rate)

    def pause(self, mean):
        return self.random.expovariate(1 / mean)

    def ask(self, at, own, output, prefix=()):
        """A prompt of the blocks `prefix` and `own` tokens that no other has."""
        own = int(own)
        ids = [*prefix, *self.blocks(blocks_of(own))]
        self.requests.append((at, len(prefix) * BLOCK + own, int(output), ids))

    def converse(self, starts, turns, think, first, step, output, system=lambda: ()):
        """A conversation from each of `starts`: every prompt is the one before, its answer and something new."""
        for at in starts:
            ids = list(system())
            tokens = len(ids) * BLOCK
            for turn in range(turns()):
                tokens += max(32, int((step if turn else first)()))
                answer = max(4, int(output()))
                ids += self.blocks(blocks_of(tokens) - len(ids))
                self.requests.append((at, tokens, answer, list(ids)))
                at += 0.5 + answer * 0.03 + think()
                tokens += answer

    def write(self, path):
        with open(path, "w") as out:
            for at, tokens, answer, ids in sorted(self.requests, key=lambda request: request[0]):
                line = {"timestamp": int(at * 1000), "input_length": tokens, "output_length": max(1, answer), "hash_ids": ids}
                out.write(json.dumps(line) + "\n")


def blocks_of(tokens):
    return -(-tokens // BLOCK)


def tenfold(t):
    """Conversations with one system prompt; ten times as many begin in the last 10 s of every 120 s."""
    system = t.blocks(4)
    starts, at = [], 0
    while at < 900:
        at += t.random.expovariate(20)
        if t.random.random() < (1 if at % 120 >= 110 else 0.1):
            starts.append(at)
    t.converse(starts, turns=lambda: t.random.randint(1, 6), think=lambda: t.pause(8), first=lambda: t.length(4000, 0.8),
               step=lambda: t.length(800, 0.8), output=lambda: t.length(250, 0.7), system=lambda: system)


def equal(t):
    """Equal prompts of 30,720 tokens, 18 a second."""
    prompt = t.blocks(60)
    for at in t.arrivals(18, 0, 200):
        t.ask(at, own=0, output=t.length(200, 0.6), prefix=prompt)


def alternate(t):
    """Prompts of 512 and of 32,768 tokens in turn, which share nothing."""
    for number, at in enumerate(t.arrivals(4.6, 0, 600)):
        long = number % 2
        t.ask(at, own=32768 if long else 512, output=150 if long else 300)


def turns64(t):
    """Conversations of 64 turns with time to think, of ten tenants with a short system prompt each."""
    systems = [t.blocks(3) for _ in range(10)]
    t.converse(list(t.arrivals(0.2, 0, 900)), turns=lambda: 64, think=lambda: t.pause(10), first=lambda: t.length(1500, 0.8),
               step=lambda: t.length(350, 0.8), output=lambda: t.length(180, 0.6), system=lambda: t.random.choice(systems))


def bulk(t):
    """300 prompts within 2 s, once a minute, with 1,536 tokens in common; beside them conversations."""
    system = t.blocks(4)
    for minute in range(10):
        common = t.blocks(3)
        for _ in range(300):
            t.ask(30 + 60 * minute + 2 * t.random.random(), own=t.length(2500, 0.6), output=t.length(400, 0.5), prefix=common)
    t.converse(list(t.arrivals(2, 0, 600)), turns=lambda: t.random.randint(1, 8), think=lambda: t.pause(8),
               first=lambda: t.length(3000, 0.8), step=lambda: t.length(600, 0.8), output=lambda: t.length(250, 0.7),
               system=lambda: system)


def heavytail(t):
    """Answers by Pareto 1.05, from 50 to 8,000 tokens, to short prompts."""
    system = t.blocks(2)
    for at in t.arrivals(40, 0, 400):
        t.ask(at, own=t.length(1500, 0.7), output=min(8000, 50 * t.random.paretovariate(1.05)), prefix=system)


def zipf(t):
    """60 system prompts of 12,288 tokens, by Zipf; every 100 s others are the popular ones."""
    systems = [t.blocks(24) for _ in range(60)]
    weights = [1 / (rank + 1) for rank in range(60)]

    def system(at):
        return systems[(t.random.choices(range(60), weights)[0] + int(at // 100) * 7) % 60]

    for at in t.arrivals(22, 0, 600):
        t.ask(at, own=t.length(900, 0.8), output=t.length(250, 0.7), prefix=system(at))


def ramp(t):
    """A beginning of 20,480 tokens that ever more of the requests share: none at the start, all after 120 s."""
    common = t.blocks(40)
    for at in t.arrivals(60, 0, 120):
        if t.random.random() < at / 120:
            t.ask(at, own=t.length(300, 0.5), output=t.length(150, 0.5), prefix=common)
        else:
            t.ask(at, own=max(16, t.length(1500, 0.7)), output=t.length(150, 0.5))


def cold(t):
    """120 requests a second from the first moment, all with a system prompt of 20,480 tokens."""
    system = t.blocks(40)
    for at in t.arrivals(120, 0, 21):
        t.ask(at, own=t.random.choice([1, 2]) * BLOCK, output=t.random.randint(50, 350), prefix=system)


def coldequal(t):
    """Equal prompts of 10,240 tokens, 20 a second from the first moment."""
    prompt = t.blocks(20)
    for at in t.arrivals(20, 0, 75):
        t.ask(at, own=0, output=t.random.randint(50, 350), prefix=prompt)


def docs(t):
    """Documents of 40,000 to 100,000 tokens; each is asked about 2 to 20 times, 12 s apart."""
    for at in t.arrivals(0.12, 0, 500):
        document = t.blocks(t.random.randint(80, 200))
        for _ in range(t.random.randint(2, 20)):
            t.ask(at, own=t.length(150, 0.6), output=t.length(200, 0.7), prefix=document)
            at += t.pause(12)


def crowd(t):
    """Documents of 40,000 to 100,000 tokens; about 8 questions on each, all within 5 s or so."""
    documents = {}
    for number, at in enumerate(t.arrivals(1.5, 0, 340)):
        which = number // 8 + t.random.randint(0, 2)
        if which not in documents:
            documents[which] = t.blocks(80 + t.random.randint(0, 120))
        t.ask(at, own=200, output=t.length(200, 0.6), prefix=documents[which])


def agents(t):
    """Agents: 5 to 40 turns, of which the context grows to 100,000 tokens by results of tools; short answers."""
    system = t.blocks(12)
    t.converse(list(t.arrivals(0.55, 0, 300)), turns=lambda: t.random.randint(5, 40), think=lambda: t.random.uniform(0.5, 4),
               first=lambda: t.length(1500, 0.8), step=lambda: t.length(1800, 1.0), output=lambda: t.length(90, 0.8),
               system=lambda: system)


def tenants(t):
    """200 tenants with a system prompt of 8,192 tokens each; one of them sends 70 % of the requests."""
    systems = [t.blocks(16) for _ in range(200)]
    for at in t.arrivals(14, 0, 250):
        tenant = 0 if t.random.random() < 0.7 else t.random.randint(1, 199)
        t.ask(at, own=t.length(1200, 0.8), output=t.length(250, 0.7), prefix=systems[tenant])


def trains(t):
    """Ten bursts of 60 requests, 4 s apart, then a minute of little; 20 tenants, prompts of 2,000 to 32,000 tokens."""
    systems = [t.blocks(4) for _ in range(20)]

    def request(at):
        t.ask(at, own=min(30000, t.length(2500, 1.1)), output=t.length(250, 0.8), prefix=t.random.choice(systems))

    for start in range(0, 400, 100):
        for burst in range(10):
            for _ in range(60):
                request(start + 4 * burst + 0.3 * t.random.random())
        for at in t.arrivals(3, start, start + 100):
            request(at)


def mixed(t):
    """Half short prompts with answers of 2,000 tokens, half prompts of 9,000 tokens with answers of 40."""
    for at in t.arrivals(7, 0, 300):
        if t.random.random() < 0.5:
            t.ask(at, own=max(16, t.length(600, 0.6)), output=min(8000, t.length(2000, 0.7)))
        else:
            t.ask(at, own=t.length(9000, 0.6), output=t.length(40, 0.5))


def wide(t):
    """For 32 engines: chat, retrieval over 300 documents of 6,144 tokens by Zipf, and code completion in 40 contexts."""
    documents = [t.blocks(12) for _ in range(300)]
    weights = [1 / (rank + 1) ** 0.9 for rank in range(300)]
    contexts = [t.blocks(30) for _ in range(40)]
    t.converse(list(t.arrivals(8, 0, 100)), turns=lambda: t.random.randint(1, 8), think=lambda: t.pause(6),
               first=lambda: t.length(2500, 0.9), step=lambda: t.length(600, 0.8), output=lambda: t.length(300, 0.7))
    for at in t.arrivals(25, 0, 140):
        t.ask(at, own=t.length(400, 0.6), output=t.length(200, 0.6), prefix=t.random.choices(documents, weights)[0])
    for at in t.arrivals(15, 0, 140):
        t.ask(at, prefix=t.random.choice(contexts), own=t.length(700, 0.8), output=t.length(40, 0.6))


def tools(t):
    """Agents with tools: 10 to 45 short turns on 20,000 to 60,000 tokens; now and then a tool returns 6,000."""
    systems = [t.blocks(20) for _ in range(3)]
    t.converse(list(t.arrivals(0.45, 0, 260)), turns=lambda: t.random.randint(10, 45), think=lambda: t.random.uniform(0.3, 3),
               first=lambda: t.length(12000, 0.5),
               step=lambda: t.length(6000, 0.6) if t.random.random() < 0.12 else t.length(500, 0.8),
               output=lambda: t.length(70, 0.9), system=lambda: t.random.choice(systems))


def rag(t):
    """Retrieval: 3 to 10 chunks of 1,024 tokens, in any choice and order, behind a system prompt of 512 tokens."""
    system = t.blocks(1)
    for at in t.arrivals(16, 0, 260):
        t.ask(at, own=t.random.randint(3, 10) * 1024 + int(t.length(150, 0.6)), output=t.length(350, 0.6), prefix=system)


def embeddings(t):
    """25 prompts a second of which the answer is one token, beside chat."""
    system = t.blocks(4)
    t.converse(list(t.arrivals(2.2, 0, 260)), turns=lambda: t.random.randint(1, 8), think=lambda: t.pause(8),
               first=lambda: t.length(1500, 0.9), step=lambda: t.length(400, 0.8), output=lambda: t.length(350, 0.7),
               system=lambda: system)
    for at in t.arrivals(25, 0, 280):
        t.ask(at, own=min(8000, 32 + t.length(1500, 1)), output=1)


def onoff(t):
    """20 s of 34 requests a second, then 20 s of none; ten tenants with a system prompt of 2,048 tokens each."""
    systems = [t.blocks(4) for _ in range(10)]
    for start in range(0, 320, 40):
        for at in t.arrivals(34, start, start + 20):
            t.ask(at, own=min(20000, t.length(1800, 1)), output=t.length(300, 0.8), prefix=t.random.choice(systems))


# The seed of its first trace, and what is added for each further one.
LOADS = {
    tenfold: (1, 1000), equal: (2, 1000), alternate: (3, 1000), turns64: (4, 1000), bulk: (5, 1000), heavytail: (6, 1000),
    zipf: (7, 1000), ramp: (8, 1000), cold: (9, 1000), coldequal: (10, 1000), tenants: (101, 1), agents: (201, 1),
    docs: (301, 1), trains: (401, 1), mixed: (501, 1), wide: (601, 1), crowd: (701, 1), tools: (9101, 1), rag: (9201, 1),
    embeddings: (9301, 1), onoff: (9401, 1),
}
NAMES = {load.__name__: load for load in LOADS}


def write(folder, name, seed):
    """Writes one trace, seeds from 1; returns its path."""
    load = NAMES[name]
    first, step = LOADS[load]
    trace = Trace(first + step * (seed - 1))
    load(trace)
    path = os.path.join(folder, f"{name}-{seed}.jsonl")
    trace.write(path)
    return path


def main():
    parser = argparse.ArgumentParser(description="Writes made-up traces for `penstock replay`.",
                                     epilog="Loads: " + "; ".join(f"{name}: {load.__doc__}" for name, load in NAMES.items()))
    parser.add_argument("folder")
    parser.add_argument("--load", action="append", choices=NAMES, metavar="NAME", help="repeat for more (default: all)")
    parser.add_argument("--seeds", type=int, default=1, help="how many traces of each load (default 1)")
    options = parser.parse_args()
    os.makedirs(options.folder, exist_ok=True)
    for name in options.load or NAMES:
        for seed in range(1, options.seeds + 1):
            print(write(options.folder, name, seed))


if __name__ == "__main__":
    sys.exit(main())
