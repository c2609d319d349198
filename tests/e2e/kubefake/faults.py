"""What goes wrong, per resource. A resource is named by plural or plural.group, or "*" for all; changes act at once.

Faults that last: stall, drip, batch, lose_deletes, duplicate_added, http_410, latency, hang, forbid, fail. Those that
happen once: cut, inject, short_watches (counted), fail with a count. clear() ends all that last.
"""

import dataclasses
import json
import time


@dataclasses.dataclass
class Failure:
    status: int
    count: int = None  # None: until `until`
    until: float = None  # monotonic seconds; None: until cleared
    retry_after: int = None
    verbs: tuple = None
    message: str = None


@dataclasses.dataclass
class Rule:
    failures: list = dataclasses.field(default_factory=list)
    forbidden: set = dataclasses.field(default_factory=set)
    stalled: bool = False
    drip: tuple = None  # (bytes, seconds between)
    batch_s: float = 0
    lose_deletes: bool = False
    duplicate_added: bool = False
    short_watches: int = 0
    http_410: bool = False
    latency_s: float = 0
    hang: bool = False


CUTS = ("eof", "close", "rst", "rst-mid-line")


class Faults:
    def __init__(self, store):
        self._store, self._rules = store, {}
        self._cuts = []  # (resource, how), in order: a watch looks at those that came after it began
        self._injected = []  # (resource, bytes)
        self.grants = None  # None: everything; otherwise [(resource, verbs, namespace or None)]

    def _change(self, resource, **values):
        with self._store.changed:
            rule = self._rules.setdefault(resource, Rule())
            for name, value in values.items():
                setattr(rule, name, value)
            self._store.changed.notify_all()

    # ---- switched on by tests ----

    def cut(self, resource="*", how="eof"):
        """Ends the open watches: "eof" as at their time-out, "close" without a last chunk, "rst" or "rst-mid-line"."""
        if how not in CUTS:
            raise ValueError(f"a watch is cut by one of {CUTS}")
        with self._store.changed:
            self._cuts.append((resource, how))
            self._store.changed.notify_all()

    def stall(self, resource="*", on=True):
        """Open watches, and new ones, send nothing more, but stay open."""
        self._change(resource, stalled=on)

    def drip(self, resource="*", size=7, interval=0.001):
        """Answers are sent in pieces of `size` bytes, a segment each. Size 0: as usual."""
        self._change(resource, drip=(size, interval) if size else None)

    def batch(self, resource="*", seconds=0.05):
        """Watches collect events for so long and send them together."""
        self._change(resource, batch_s=seconds)

    def lose_deletes(self, resource="*", on=True):
        """What is deleted from now on is told to no watch, not even later."""
        self._change(resource, lose_deletes=on)

    def duplicate_added(self, resource="*", on=True):
        """Every ADDED comes twice, and every MODIFIED is preceded by an ADDED of the same object."""
        self._change(resource, duplicate_added=on)

    def inject(self, resource, line):
        """Sends a line in the open watches: bytes or text as they are, anything else as JSON."""
        if not isinstance(line, (bytes, str)):
            line = json.dumps(line)
        data = (line if isinstance(line, bytes) else line.encode()) + b"\n"
        with self._store.changed:
            self._injected.append((resource, data))
            self._store.changed.notify_all()

    def short_watches(self, resource="*", count=1):
        """The next `count` watches end at once, without an event."""
        self._change(resource, short_watches=count)

    def http_410(self, resource="*", on=True):
        """A watch from a version that is too old is answered with 410 itself, not with an ERROR event."""
        self._change(resource, http_410=on)

    def latency(self, resource="*", seconds=0.0):
        self._change(resource, latency_s=seconds)

    def hang(self, resource="*", on=True):
        """Requests are read and not answered until this ends."""
        self._change(resource, hang=on)

    def fail(self, resource="*", status=500, count=None, seconds=None, retry_after=None, verbs=None, message=None):
        until = time.monotonic() + seconds if seconds is not None else None
        failure = Failure(status, count, until, retry_after, tuple(verbs) if verbs else None, message)
        with self._store.changed:
            self._rules.setdefault(resource, Rule()).failures.append(failure)

    def forbid(self, resource="*", verbs=("*",)):
        """403 for these verbs; a subresource is a resource of its own ("inferencepools/status")."""
        with self._store.changed:
            self._rules.setdefault(resource, Rule()).forbidden.update(verbs)

    def allow(self, resource="*", verbs=None):
        """Takes forbid() back."""
        with self._store.changed:
            rule = self._rules.setdefault(resource, Rule())
            rule.forbidden = set() if verbs is None else rule.forbidden - set(verbs)

    def grant_only(self, grants):
        """RBAC with nothing else allowed: [(resource with subresource and group, [verbs], namespace or None)]."""
        with self._store.changed:
            self.grants = None if grants is None else [tuple(grant) for grant in grants]

    def clear(self, resource=None):
        with self._store.changed:
            if resource is None:
                self._rules.clear()
                self.grants = None
            else:
                self._rules.pop(resource, None)
            self._store.changed.notify_all()

    # ---- asked by the server, with the lock held or not ----

    def _of(self, kind):
        """The rules that apply, with the specific ones first."""
        names = (kind.id, kind.plural, "*") if kind is not None else ("*",)
        return [self._rules[name] for name in dict.fromkeys(names) if name in self._rules]

    def value(self, kind, name):
        """The first setting of this name that is on."""
        with self._store.lock:
            for rule in self._of(kind):
                if getattr(rule, name):
                    return getattr(rule, name)
            return None

    def loses_deletes(self, kind):
        return bool(self.value(kind, "lose_deletes"))

    def take_failure(self, kind, verb):
        """The failure that this request meets, counted down."""
        with self._store.lock:
            for rule in self._of(kind):
                for failure in list(rule.failures):
                    over = failure.count == 0 or failure.until is not None and time.monotonic() > failure.until
                    if over:
                        rule.failures.remove(failure)
                    elif failure.verbs is None or verb in failure.verbs:
                        if failure.count is not None:
                            failure.count -= 1
                        return failure
            return None

    def take_short_watch(self, kind):
        with self._store.lock:
            for rule in self._of(kind):
                if rule.short_watches > 0:
                    rule.short_watches -= 1
                    return True
            return False

    def forbids(self, kind, subresource, verb, namespace):
        with self._store.lock:
            suffix = "/" + subresource if subresource else ""
            full = f"{kind.plural}{suffix}" + (f".{kind.group}" if kind.group else "")
            names = {full, kind.plural + suffix, "*"} | ({kind.id} if not subresource else set())
            for name in names:
                rule = self._rules.get(name)
                if rule is not None and rule.forbidden & {verb, "*"}:
                    return True
            if self.grants is None:
                return False
            for resource, verbs, where in self.grants:
                if resource in names and (verb in verbs or "*" in verbs) and where in (None, namespace):
                    return False
            return True

    def mark(self):
        """Where a watch that begins now stands among the cuts and injected lines."""
        return len(self._cuts), len(self._injected)

    def _concerns(self, resource, kind):
        return resource in (kind.id, kind.plural, "*")

    def cut_since(self, kind, mark):
        for resource, how in self._cuts[mark[0] :]:
            if self._concerns(resource, kind):
                return how
        return None

    def injected_since(self, kind, position):
        found = [data for resource, data in self._injected[position:] if self._concerns(resource, kind)]
        return found, len(self._injected)
