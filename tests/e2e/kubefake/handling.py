"""What becomes of a request: authentication, faults, and the verbs of its resource."""

import dataclasses
import http.client
import time

from .errors import ApiError, too_large
from .routing import parse_path, verb_of
from .selection import selector
from .watching import Watch
from .wire import Gone, wait_a_moment

_BODY_ERRORS = (ValueError, KeyError, TypeError, AttributeError)


@dataclasses.dataclass
class Seen:
    """A request that was answered, or is a watch that has begun."""

    time: float
    method: str
    path: str
    query: dict
    verb: str
    resource: str  # with "/status" where the subresource is meant
    namespace: str
    name: str
    agent: str
    token: str
    body: bytes
    status: int = 0


class Handling:
    """The part of FakeApiServer that answers requests. Each runs in the thread of its connection."""

    # ---- one request ----

    def _handle(self, connection, request):
        """Answers; returns whether the connection goes on."""
        if request.path.startswith("/_fake/"):
            return self.control.handle(connection, request)
        target = parse_path(request.path)
        kind = self.kinds.find(target.group, target.version, target.plural) if target else None
        verb = verb_of(request, target) if target else request.method.lower()
        seen = self._record(request, kind, target, verb)
        drip = self.faults.value(kind, "drip")
        try:
            self._await_leave(connection, kind)
            self._authenticate(connection, request)
            if kind is None:
                status, body = self._other(request)
            else:
                self._authorize(request, kind, target, verb)
                self._maybe_fail(kind, verb)
                if verb == "watch":
                    return self._watch(connection, request, kind, target, seen)
                status, body = self._perform(request, kind, target, verb)
            headers = ()
        except ApiError as error:
            status, body, headers = error.code, error.status(), error.headers
        except _BODY_ERRORS as error:
            error = ApiError(400, f"the request cannot be understood: {error!r}")
            status, body, headers = error.code, error.status(), ()
        self._done(seen, status)  # who has the answer finds the request among those seen
        connection.answer(request, status, body, headers, drip)
        return True

    def _record(self, request, kind, target, verb):
        bearer = (request.header("authorization") or "").removeprefix("Bearer ")
        sub = "/" + target.subresource if target and target.subresource else ""
        where = (kind.id + sub if kind else "", target.namespace if target else "", target.name if target else "")
        agent = request.header("user-agent") or ""
        return Seen(
            time.monotonic(), request.method, request.path, request.query, verb, *where, agent, bearer, request.body
        )

    def _done(self, seen, status):
        with self.store.changed:
            seen.status = status
            self.requests.append(seen)
            self.store.changed.notify_all()

    def _await_leave(self, connection, kind):
        latency = self.faults.value(kind, "latency_s")
        if latency:
            wait_a_moment(latency)
        with self.store.changed:
            while self.faults.value(kind, "hang"):
                if connection.peer_left():
                    raise Gone
                self.store.changed.wait(0.25)

    def _authenticate(self, connection, request):
        if (
            self.tokens is None
            or connection.client_certificate
            or request.path in ("/version", "/healthz", "/livez", "/readyz")
        ):
            return
        bearer = request.header("authorization") or ""
        with self.store.lock:
            if not bearer.startswith("Bearer ") or bearer.removeprefix("Bearer ") not in self.tokens:
                raise ApiError(401, "Unauthorized")

    def _authorize(self, request, kind, target, verb):
        if self.faults.forbids(kind, target.subresource, verb, target.namespace):
            plural = kind.plural + ("/" + target.subresource if target.subresource else "")
            where = f' in the namespace "{target.namespace}"' if target.namespace else " at the cluster scope"
            user = "system:serviceaccount:default:penstock"
            action = f'cannot {verb} resource "{plural}" in API group "{kind.group}"{where}'
            message = f'{plural} is forbidden: User "{user}" {action}'
            raise ApiError(403, message, details={"group": kind.group, "kind": kind.plural})

    def _maybe_fail(self, kind, verb):
        failure = self.faults.take_failure(kind, verb)
        if failure is None:
            return
        headers, details = [], None
        if failure.retry_after is not None:
            headers.append(("Retry-After", str(failure.retry_after)))
            details = {"retryAfterSeconds": failure.retry_after}
        message = failure.message or http.client.responses.get(failure.status, "failure")
        raise ApiError(failure.status, message, details=details, headers=headers)

    def _other(self, request):
        if request.path in ("/healthz", "/livez", "/readyz"):
            return 200, "ok"
        if request.path == "/version":
            return 200, {"major": "1", "minor": "34", "gitVersion": "v1.34.0-fake", "platform": "linux/amd64"}
        document = self.kinds.discovery(request.path) if request.method == "GET" else None
        return (200, document) if document is not None else (404, "404 page not found\n")

    # ---- versions ----

    @staticmethod
    def parse_version(text):
        """0 for "" and "0"."""
        if not (text or "0").isdigit():
            raise ApiError(400, f'Invalid value: "{text}": resource version must be a number')
        return int(text or 0)

    def visible_rv(self):
        """The newest version that this server knows."""
        return self.store.rv if self.frozen_rv is None else min(self.frozen_rv, self.store.rv)

    def oldest_watch(self, kind):
        return max(self.started_rv, self.store.oldest_watch(kind.storage, self.settings.history))

    def wait_fresh(self, rv):
        """Until this server knows `rv`; 504 when that takes too long."""
        deadline = time.monotonic() + self.settings.fresh_wait_s
        with self.store.changed:
            while self.visible_rv() < rv:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise too_large(rv, self.visible_rv())
                self.store.changed.wait(left)

    # ---- verbs ----

    def _perform(self, request, kind, target, verb):
        """Returns (status, body)."""
        manager = request.query.get("fieldManager") or (request.header("user-agent") or "unknown").split("/")[0]
        if target.subresource and not getattr(kind, target.subresource, False):
            return 404, "404 page not found\n"
        if target.subresource == "scale":
            return 200, self._scale(request, kind, target, verb, manager)
        if verb == "list":
            return 200, self._list(request, kind, target)
        where = (kind, target.namespace, target.name)
        if verb == "get":
            return 200, self._wire(kind, self.api.get(*where))
        if verb == "create":
            return 201, self._wire(kind, self.api.create(kind, target.namespace, request.json(), manager))
        if verb == "update":
            return 200, self._wire(kind, self.api.update(*where, request.json(), target.subresource, manager))
        if verb == "patch":
            content_type = (request.header("content-type") or "").split(";")[0].strip()
            manager = request.query.get("fieldManager", "") if "apply" in content_type else manager
            force = request.query.get("force") == "true"
            obj, created = self.api.patch(*where, content_type, request.json(), target.subresource, manager, force)
            return 201 if created else 200, self._wire(kind, obj)
        if verb == "delete":
            return 200, self._delete(request, kind, target)
        if verb == "deletecollection":
            for _, obj in self.api.items(kind, target.namespace, selector(kind, request.query)):
                self.api.delete(
                    kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"], self._options(request)
                )
            return 200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        raise ApiError(405, "the server does not allow this method on the requested resource")

    @staticmethod
    def _wire(kind, obj):
        return kind.to_wire(obj) if kind.to_wire else obj

    @staticmethod
    def _options(request):
        options = request.json() or {}
        if "gracePeriodSeconds" in request.query:
            options["gracePeriodSeconds"] = int(request.query["gracePeriodSeconds"])
        return options

    def _delete(self, request, kind, target):
        obj, gone = self.api.delete(kind, target.namespace, target.name, self._options(request))
        if kind.id == "pods" or not gone:
            return self._wire(kind, obj)
        details = {"name": target.name, "group": kind.group, "kind": kind.plural, "uid": obj["metadata"]["uid"]}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def _scale(self, request, kind, target, verb, manager):
        obj = self.api.get(kind, target.namespace, target.name)
        if verb in ("update", "patch"):
            replicas = request.json()["spec"]["replicas"]
            body = {"spec": {"replicas": replicas}}
            patch_type = "application/merge-patch+json"
            obj, _ = self.api.patch(kind, target.namespace, target.name, patch_type, body, manager=manager)
        meta = {
            name: obj["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        }
        status = {"replicas": (obj.get("status") or {}).get("replicas", 0), "selector": ""}
        scale = {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta}
        return {**scale, "spec": {"replicas": obj["spec"].get("replicas", 1)}, "status": status}

    def _list(self, request, kind, target):
        query = dict(request.query)
        text, match = query.get("resourceVersion") or "", query.get("resourceVersionMatch")
        asked = self.parse_version(text)
        if query.get("continue") and text not in ("", "0"):
            raise ApiError(400, "specifying resource version is not allowed when using continue")
        if match and (not text or match not in ("Exact", "NotOlderThan") or match == "Exact" and not asked):
            raise ApiError(
                400, "resourceVersionMatch is forbidden unless resourceVersion is provided, or not of a known value"
            )
        if asked:
            self.wait_fresh(asked)
        with self.store.lock:
            rv = self.store.rv if text == "" else self.visible_rv()
            if match == "Exact":
                if asked < self.store.compacted:
                    raise ApiError(410, f"The resourceVersion for the provided list is too old: {asked}")
                rv = asked
            if text == "0" and not query.get("continue"):
                query.pop("limit", None)  # from the watch cache, which does not page
            objects, meta = self.api.page(kind, target.namespace, selector(kind, query), query, rv)
        items = [self._wire(kind, obj) for obj in objects]
        if kind.typed:
            items = [
                {name: value for name, value in item.items() if name not in ("apiVersion", "kind")} for item in items
            ]
            if not items and self.settings.null_items:
                items = None
        return {"kind": kind.kind + "List", "apiVersion": kind.api_version, "metadata": meta, "items": items}

    def _watch(self, connection, request, kind, target, seen):
        query = dict(request.query)
        if target.name:
            query["fieldSelector"] = f"metadata.name={target.name}"
        watch = Watch(self, connection, kind, target.namespace, selector(kind, query), query)
        entry = (kind, connection, seen)
        with self.store.changed:
            self._open_watches.append(entry)
        try:
            self._done(seen, 200)
            return watch.run()
        finally:
            with self.store.changed:
                self._open_watches.remove(entry)
                self.store.changed.notify_all()
