"""One watch: from its resourceVersion to its end."""

import json
import time

from .errors import invalid, no_progress, too_old
from .ownership import now
from .store import with_rv
from .wire import Gone, chunk

_LOOK_S = 0.25  # how often a quiet watch looks whether its client is still there
INITIAL_END = "k8s.io/initial-events-end"


class Watch:
    """Lives in the thread of its connection."""

    def __init__(self, server, connection, kind, namespace, matches, query):
        self._server, self._store, self._faults = server, server.store, server.faults
        self._connection, self._kind, self._namespace, self._matches = connection, kind, namespace, matches
        self._bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        self._asked = query.get("resourceVersion") or ""
        self._initial = self._initial_mode(query)
        seconds = int(query.get("timeoutSeconds") or 0) or server.settings.watch_timeout_s
        self._begun = time.monotonic()
        self._deadline = self._begun + seconds
        self._last_bookmark, self._farewell = self._begun, False
        self._mark = self._faults.mark()
        self._injected = self._mark[1]
        self._refused = False
        self._cursor = 0  # the last version that this watch has dealt with

    def _initial_mode(self, query):
        """Whether there are synthetic ADDED events first: "stream" (with an end mark), "state" or None."""
        wanted, mode = query.get("sendInitialEvents"), self._server.settings.initial_events
        if wanted is not None and mode == "ignore":
            wanted = None
        if wanted is not None:
            causes = []
            if mode == "invalid":
                message = (
                    "Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
                )
                causes.append(("sendInitialEvents", "FieldValueForbidden", message))
            elif query.get("resourceVersionMatch") != "NotOlderThan":
                message = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
                causes.append(("resourceVersionMatch", "FieldValueForbidden", message))
            if causes:
                raise invalid(self._kind, "", causes)
            return "stream" if wanted in ("true", "1") else None
        if query.get("resourceVersionMatch") and mode != "ignore":
            message = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            raise invalid(self._kind, "", [("resourceVersionMatch", "FieldValueForbidden", message)])
        return "state" if self._asked in ("", "0") else None

    # ---- the lines ----

    def _wire(self, obj):
        return self._kind.to_wire(obj) if self._kind.to_wire else obj

    def _line(self, kind, obj):
        return json.dumps({"type": kind, "object": self._wire(obj)}, separators=(",", ":")).encode() + b"\n"

    def _bookmark(self, rv, initial_end=False):
        meta = {"resourceVersion": str(rv), "creationTimestamp": None}
        if initial_end:
            meta["annotations"] = {INITIAL_END: "true"}
        obj = {"kind": self._kind.kind, "apiVersion": self._kind.api_version, "metadata": meta}
        if self._kind.id == "pods":
            obj.update({"spec": {"containers": None}, "status": {}})
        return json.dumps({"type": "BOOKMARK", "object": obj}, separators=(",", ":")).encode() + b"\n"

    def _lines_of(self, event):
        """What this watch says of an event: an object may begin or cease to match the selector."""
        if event.lost or self._namespace and event.key[0] != self._namespace:
            return []
        matches = self._matches or (lambda _: True)
        is_in = event.type != "DELETED" and matches(event.object)
        was_in = event.previous is not None and matches(event.previous)
        if is_in and not was_in:
            line = self._line("ADDED", event.object)
            return [line, line] if self._faults.value(self._kind, "duplicate_added") else [line]
        if is_in:
            lines = [self._line("MODIFIED", event.object)]
            if self._faults.value(self._kind, "duplicate_added"):
                lines.insert(0, self._line("ADDED", event.object))
            return lines
        if was_in:
            obj = event.object if event.type == "DELETED" else with_rv(event.previous, event.rv)
            return [self._line("DELETED", obj)]
        return []

    # ---- the course of a watch ----

    def run(self):
        first = self._first_lines()
        self._connection.begin_stream(self._drip())
        if self._faults.take_short_watch(self._kind):
            return self._end("eof")
        self._send(first)
        if self._refused:
            return self._end("eof")
        while True:
            with self._store.changed:
                ending, lines = self._next()
            if lines and not ending:
                batch_s = self._faults.value(self._kind, "batch_s")
                if batch_s:
                    with self._store.changed:
                        until = time.monotonic() + batch_s
                        while (left := until - time.monotonic()) > 0:
                            self._store.changed.wait(left)
                        lines += self._new_lines()
            self._send(lines)
            if ending:
                return self._end(ending)

    def _first_lines(self):
        """Decides where the watch begins. Raises ApiError for what is answered without a stream."""
        asked = self._server.parse_version(self._asked)
        if self._initial == "stream" and self._server.settings.initial_events == "error":
            return self._refusal(no_progress())
        if self._initial == "stream" and asked:
            self._server.wait_fresh(asked)
        with self._store.changed:
            current = self._server.visible_rv()
            self._cursor = asked if asked else current
            if self._initial is None and asked:
                oldest = self._server.oldest_watch(self._kind)
                if asked < oldest:
                    error = too_old(asked, oldest)
                    if self._faults.value(self._kind, "http_410"):
                        raise error
                    return self._refusal(error)
            if self._initial is None:
                return []
            self._cursor = current
            lines = []
            for _, obj in self._server.api.items(self._kind, self._namespace, self._matches, current):
                line = self._line("ADDED", obj)
                lines += [line, line] if self._faults.value(self._kind, "duplicate_added") else [line]
            if self._initial == "stream" and self._bookmarks:
                lines.append(self._bookmark(current, initial_end=True))
            return lines

    def _refusal(self, error):
        """The one line of a watch that is refused after its 200."""
        self._refused = True
        return [json.dumps({"type": "ERROR", "object": error.status()}, separators=(",", ":")).encode() + b"\n"]

    def _new_lines(self):
        """With the lock held: what has happened since the cursor, which moves on."""
        lines, limit = [], self._server.visible_rv()
        for event in self._store.events_after(self._kind.storage, self._cursor, limit):
            lines += self._lines_of(event)
            self._cursor = event.rv
        found, self._injected = self._faults.injected_since(self._kind, self._injected)
        return lines + found

    def _next(self):
        """With the lock held: waits for something to say. Returns (how to end or None, lines)."""
        while True:
            if self._connection.doomed:
                return self._connection.doomed, []
            how = self._faults.cut_since(self._kind, self._mark)
            if how:
                return how, []
            if self._server.kinds.find(self._kind.group, self._kind.version, self._kind.plural) is None:
                return "eof", []  # its CRD is gone
            now_s = time.monotonic()
            stalled = self._faults.value(self._kind, "stalled")
            if not stalled:
                if now_s >= self._deadline:
                    return "eof", self._new_lines()
                lines = self._new_lines() + self._due_bookmark(now_s)
                if lines:
                    return None, lines
            if self._connection.peer_left():
                raise Gone
            wait_s = _LOOK_S if stalled else min(_LOOK_S, max(0, self._next_time() - time.monotonic()))
            self._store.changed.wait(wait_s)

    def _next_time(self):
        times = [self._deadline]
        period = self._server.settings.bookmark_period_s
        if self._bookmarks and period is not None:
            times.append(self._last_bookmark + period)
            if not self._farewell:
                times.append(self._deadline - 2)
        return min(times)

    def _due_bookmark(self, now_s):
        """A bookmark every period, and one two seconds before the end."""
        period = self._server.settings.bookmark_period_s
        if not self._bookmarks or period is None:
            return []
        farewell = not self._farewell and now_s >= self._deadline - 2
        if not farewell and now_s < self._last_bookmark + period:
            return []
        self._farewell, self._last_bookmark = self._farewell or farewell, now_s
        return [self._bookmark(max(self._cursor, self._server.visible_rv()))]

    # ---- sending ----

    def _drip(self):
        return self._faults.value(self._kind, "drip")

    def _send(self, lines):
        if lines:
            self._connection.send(b"".join(chunk(line) for line in lines), self._drip())

    def _end(self, how):
        """Returns whether the connection can be used again."""
        if how == "eof":
            self._connection.send(b"0\r\n\r\n", self._drip())
            return True
        if how == "rst-mid-line":
            line = self._line(
                "MODIFIED", {"kind": self._kind.kind, "metadata": {"name": "cut", "creationTimestamp": now()}}
            )
            self._connection.send(chunk(line)[: len(line) // 2])
        self._connection.close("rst" if how.startswith("rst") else "close")
        raise Gone
