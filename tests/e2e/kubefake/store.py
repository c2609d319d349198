"""Objects, the one counter of resource versions, and what happened.

Stored objects are never changed: every write puts a new one. They may be read without the lock once they are at hand.
"""

import bisect
import threading

_LONGEST_LOG = 100_000  # events of one resource; older ones are forgotten as by a compaction


class Event:
    """One change. `previous` is the object before it, None for a creation."""

    __slots__ = ("rv", "type", "key", "object", "previous", "lost")

    def __init__(self, rv, kind, key, obj, previous, lost):
        self.rv, self.type, self.key, self.object, self.previous, self.lost = rv, kind, key, obj, previous, lost


def with_rv(obj, rv):
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(rv)}}


class Store:
    def __init__(self, first_rv=1000):
        self.lock = threading.RLock()
        # Signalled after every change of objects, settings and faults: all that a watch waits for.
        self.changed = threading.Condition(self.lock)
        self.rv = first_rv
        self.compacted = first_rv  # what was before this is not known any more
        self._objects = {}  # resource -> {(namespace, name): object}
        self._logs = {}  # resource -> [Event], by rv
        self._subscribers = []

    def subscribe(self, function):
        """function(resource, event) is called with the lock held, after each change."""
        with self.lock:
            self._subscribers.append(function)

    def unsubscribe(self, function):
        with self.lock:
            self._subscribers.remove(function)

    def get(self, resource, namespace, name):
        with self.lock:
            return self._objects.get(resource, {}).get((namespace or "", name))

    def objects(self, resource):
        """All objects of a resource by (namespace, name): a copy of the table, not of the objects."""
        with self.lock:
            return dict(self._objects.get(resource, {}))

    def commit(self, resource, key, obj, lost=False):
        """Stores `obj`, or removes what is at `key` when it is None. Returns the event; no watch sees a `lost` one."""
        with self.changed:
            table, log = self._objects.setdefault(resource, {}), self._logs.setdefault(resource, [])
            previous = table.get(key)
            self.rv += 1
            if obj is None:
                event = Event(self.rv, "DELETED", key, with_rv(previous, self.rv), previous, lost)
                del table[key]
            else:
                kind = "MODIFIED" if previous is not None else "ADDED"
                event = Event(self.rv, kind, key, with_rv(obj, self.rv), previous, lost)
                table[key] = event.object
            log.append(event)
            if len(log) > _LONGEST_LOG * 1.2:
                self.compacted = max(self.compacted, log[-_LONGEST_LOG].rv)
                del log[:-_LONGEST_LOG]
            for function in list(self._subscribers):
                function(resource, event)
            self.changed.notify_all()
            return event

    def events_after(self, resource, rv, limit_rv=None):
        """Events with rv < event.rv <= limit_rv, oldest first."""
        log = self._logs.get(resource, [])
        found = log[bisect.bisect_right(log, rv, key=lambda event: event.rv) :]
        return found if limit_rv is None else [event for event in found if event.rv <= limit_rv]

    def state_at(self, resource, rv):
        """The table as it was at `rv`, which must not be before `compacted`."""
        with self.lock:
            table = self.objects(resource)
            for event in reversed(self.events_after(resource, rv)):
                if event.previous is None:
                    table.pop(event.key, None)
                else:
                    table[event.key] = event.previous
            return table

    def oldest_watch(self, resource, window):
        """The oldest resource version from which a watch cache of `window` events can resume."""
        log = self._logs.get(resource, [])
        return max(self.compacted, log[-window - 1].rv if len(log) > window else 0)

    def compact(self):
        """Forgets all history, as etcd does every five minutes, and as a restart does to the watch caches."""
        with self.changed:
            self._logs.clear()
            self.compacted = self.rv
            self.changed.notify_all()

    def rewind(self, rv):
        """As a restored backup of etcd: the counter goes back. The objects stay, none newer than the counter."""
        with self.changed:
            self.rv = rv
            for table in self._objects.values():
                for key, obj in table.items():
                    if int(obj["metadata"]["resourceVersion"]) > rv:
                        table[key] = with_rv(obj, rv)
            self.compact()
