"""/_fake/: what tests call as methods, for other processes. No token is asked for.

  POST /_fake/faults/NAME     {"resource": ..., ...}: a method of Faults      e.g. cut, stall, fail, clear
  POST /_fake/server/NAME     {...}: set, restart, partition, forget, freeze, rotate_token, rotate_ca, install_crd,
                              remove_crd, present
  GET  /_fake/requests        what was asked, oldest first (?since=N)
  GET  /_fake/state           resource version, open watches, numbers of objects

restart and partition are answered first, and then done. A server that is down or partitioned cannot be reached here
either: they take {"down_s": N} and {"seconds": N} to come back by themselves.
"""

import dataclasses
import threading

_FAULTS = ("cut", "stall", "drip", "batch", "lose_deletes", "duplicate_added", "inject", "short_watches", "http_410",
           "latency", "hang", "fail", "forbid", "allow", "grant_only", "clear")  # fmt: skip
_AT_ONCE = ("set", "forget", "freeze", "rotate_token", "install_crd", "remove_crd", "present", "rotate_ca")
_AFTER_THE_ANSWER = ("restart", "partition")


class Control:
    def __init__(self, server):
        self._server = server

    def handle(self, connection, request):
        parts = request.path.split("/")[2:]
        later = None
        try:
            if request.method == "GET":
                status, body = 200, self._read(parts, request)
            else:
                later = self._write(parts, request.json() or {})
                status, body = 200, {"done": "/".join(parts)}
        except (KeyError, ValueError, TypeError) as error:
            status, body = 400, {"error": repr(error)}
        connection.answer(request, status, body)
        if later is not None:
            threading.Thread(target=later, daemon=True).start()
        return True

    def _read(self, parts, request):
        server = self._server
        if parts == ["requests"]:
            with server.store.lock:
                seen = server.requests[int(request.query.get("since", 0)) :]
            return [{**dataclasses.asdict(one), "body": one.body.decode("utf-8", "replace")} for one in seen]
        if parts == ["state"]:
            kinds = {kind.id: kind for kind in server.kinds.all()}
            objects = {name: len(server.store.objects(kind.storage)) for name, kind in kinds.items()}
            watches = {name: server.watches(name) for name in kinds if server.watches(name)}
            return {"resourceVersion": server.store.rv, "objects": objects, "watches": watches}
        raise KeyError("/".join(parts))

    def _write(self, parts, arguments):
        """Does it, or returns what is to be done after the answer."""
        server, (where, name) = self._server, parts
        if where == "faults" and name in _FAULTS:
            getattr(server.faults, name)(**arguments)
            return None
        if where == "server" and name in _AT_ONCE:
            getattr(server, name)(**arguments)
            return None
        if where == "server" and name in _AFTER_THE_ANSWER:
            return lambda: getattr(self, "_" + name)(**arguments)
        raise KeyError("/".join(parts))

    def _restart(self, down_s=0.0, rv=None, how="close"):
        self._server.stop(how)
        threading.Event().wait(down_s)
        self._server.forget(rv)
        self._server.serve()

    def _partition(self, how="blackhole", seconds=1.0, reset=False):
        self._server.partition(how)
        threading.Event().wait(seconds)
        self._server.heal(reset)
