"""The faults of a chaos run: which strike what and when is drawn from a seed, then carried out against the clock."""

import random
import threading
import time

# How often each occurs among the faults, and for how long it lasts at least and at most.
KINDS = {
    "kill": (4, 0.1, 2.0),  # kill -9, then a new process on the same port
    "terminate": (3, 0.1, 1.0),  # SIGTERM: some servers finish their streams, some cut them, then a new process
    "hang": (3, 0.2, 3.0),  # SIGSTOP, then SIGCONT
    "reset": (4, 0.0, 0.0),  # RST of all its connections
    "stall": (3, 0.2, 3.0),  # the relay passes no byte
    "slow": (2, 0.5, 2.0),  # the relay passes few bytes
    "refuse": (1, 0.2, 2.0),  # no new connections; streams go on
    "black_hole": (3, 0.2, 3.0),  # packets are dropped
    "flap": (2, 0.0, 0.0),  # killed and started again, several times in a row
    "all_but_one": (1, 0.3, 2.0),  # all but one are killed at the same time
    "all_down": (1, 0.3, 1.0),  # all are killed, for less than what is promised to wait for
    "too_long": (1, 0.0, 0.0),  # likewise, for longer than that
}
NEEDS = {"reset": "relay", "stall": "relay", "slow": "relay", "refuse": "relay", "black_hole": "namespace"}
ALL = ("all_down", "too_long")
RECOVERY = 0.7  # after a fault, until its server counts as one that the others' streams may rely on


class Fault:
    def __init__(self, at, kind, endpoints, seconds, number=0):
        self.at, self.kind, self.endpoints, self.seconds, self.number = at, kind, endpoints, seconds, number
        self.began = self.ended = None  # on the clock of time.monotonic(), once it has struck

    def __str__(self):
        when = f"{self.at:6.2f} s" if self.began is None else f"{self.at:6.2f} s, until {self.at + (self.ended or self.began) - self.began:.2f} s"
        number = f" {self.number}" if self.number else ""
        return f"{when}: {self.kind}{number} of {', '.join(f'endpoint {i}' for i in self.endpoints)} for {self.seconds:.2f} s"


def draw(seed, seconds, ways, too_long):
    """The faults of a run. `ways`: how each endpoint is reached; `too_long`: seconds for which no stream is promised to wait."""
    rng = random.Random(seed)
    kinds = [kind for kind in KINDS if NEEDS.get(kind, ways[0]) in ways]
    faults, at = [], 0.0
    bag = rng.sample(kinds, len(kinds))  # each kind once, then as often as it should be
    while True:
        if not bag:
            bag = [kind for kind in kinds for _ in range(KINDS[kind][0])]
            rng.shuffle(bag)
        at += rng.uniform(0.05, 0.6)
        if at >= seconds:
            return faults
        kind = bag.pop()
        if kind == "too_long" and sum(fault.kind == kind for fault in faults) > at / 60:
            continue  # nothing else happens while all are down
        _, least, most = KINDS[kind]
        able = [i for i, way in enumerate(ways) if NEEDS.get(kind, way) == way]
        count = len(ways) if kind in ALL else len(ways) - 1 if kind == "all_but_one" else 1
        number = {"flap": rng.randint(3, 5), "slow": rng.choice([300, 1000, 5000])}.get(kind, 0)
        duration = too_long if kind == "too_long" else rng.uniform(least, most)
        faults.append(Fault(at, kind, sorted(rng.sample(able, count)), duration, number))
        at += duration / 4 if count == 1 else duration + RECOVERY


class Carried:
    """Carries out the faults on `endpoints`, each in a thread of its own: several may last at the same time, but an endpoint
    suffers one at a time, and one endpoint is always left alone, except by the faults that strike all."""

    def __init__(self, faults, endpoints):
        self.faults, self.endpoints = faults, endpoints
        self.begun_at = time.monotonic()
        self.struck, self.problems = [], []
        self._changed = threading.Condition()
        self._harmed = set()
        self._clock = threading.Event()  # never set: to wait for a time

    def run(self):
        """Returns when all faults are over."""
        threads = []
        for fault in self.faults:
            self._wait_until(self.begun_at + fault.at)
            self._reserve(fault)
            threads.append(threading.Thread(target=self._strike, args=(fault,), daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def _wait_until(self, instant):
        self._clock.wait(max(0.0, instant - time.monotonic()))

    def _reserve(self, fault):
        wanted = set(fault.endpoints)

        def free():
            leaves_one = len(self._harmed | wanted) < len(self.endpoints) or fault.kind in ALL
            return not self._harmed & wanted and leaves_one

        with self._changed:
            self._changed.wait_for(free)
            self._harmed |= wanted

    def _strike(self, fault):
        fault.began = time.monotonic()
        fault.at = fault.began - self.begun_at
        self.struck.append(fault)
        try:
            getattr(self, "_" + fault.kind)([self.endpoints[i] for i in fault.endpoints], fault)
        except Exception as problem:  # pylint: disable=broad-except
            self.problems.append(f"{fault}: {problem!r}")
        fault.ended = time.monotonic()
        self._wait_until(fault.ended + RECOVERY)
        with self._changed:
            self._harmed -= set(fault.endpoints)
            self._changed.notify_all()

    def _last(self, fault):
        self._wait_until(fault.began + fault.seconds)

    def _kill(self, endpoints, fault):
        for endpoint in endpoints:
            endpoint.kill()
        self._last(fault)
        for endpoint in endpoints:
            endpoint.start()

    _all_but_one = _all_down = _too_long = _kill

    def _terminate(self, endpoints, fault):
        endpoints[0].terminate()
        self._last(fault)
        endpoints[0].start()

    def _flap(self, endpoints, fault):
        for _ in range(fault.number):
            endpoints[0].kill()
            endpoints[0].start()
            self._clock.wait(0.15)

    def _hang(self, endpoints, fault):
        endpoints[0].hang()
        self._last(fault)
        endpoints[0].go_on()

    def _black_hole(self, endpoints, fault):
        endpoints[0].namespace.black_hole(True)
        self._last(fault)
        endpoints[0].namespace.black_hole(False)

    def _relayed(self, endpoints, fault, line):
        endpoints[0].relay.tell(line)
        self._last(fault)
        endpoints[0].relay.tell("pass")

    def _reset(self, endpoints, fault):
        self._relayed(endpoints, fault, "reset")

    def _stall(self, endpoints, fault):
        self._relayed(endpoints, fault, "stall")

    def _slow(self, endpoints, fault):
        self._relayed(endpoints, fault, f"pace {fault.number}")

    def _refuse(self, endpoints, fault):
        self._relayed(endpoints, fault, "refuse")
