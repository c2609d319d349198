"""The verbs: what a request does to the store, with the rules of the real server for each kind.

Everything here may be called from any thread; a write is one critical section of Store.lock.
"""

import base64
import copy
import datetime
import itertools
import json
import random
import re
import uuid

from . import ownership
from .errors import ApiError, already_exists, conflict, expired, invalid, not_found
from .patches import json_patch, merge_patch, strategic_merge
from .validate import fill_defaults, prune, undeclared, validate

JSON, MERGE = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = ("application/apply-patch+yaml", "application/apply-patch+json")
_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_LABEL_VALUE = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
_CRDS = "customresourcedefinitions.apiextensions.k8s.io"
_SERVER_OWNED = ("uid", "creationTimestamp", "resourceVersion", "generation", "deletionTimestamp",
                 "deletionGracePeriodSeconds", "managedFields", "selfLink")  # fmt: skip


def _without(obj, *names):
    return {name: value for name, value in obj.items() if name not in names}


def _significant(obj):
    """What must differ for a write to be an event."""
    metadata = _without(obj["metadata"], "resourceVersion", "managedFields", "generation")
    return {**obj, "metadata": metadata}


class Api:
    def __init__(self, store, kinds, faults):
        self.store, self.kinds, self.faults = store, kinds, faults
        self._addresses = itertools.count(1)
        for name in ("default", "kube-system"):
            self.create_namespace(name)

    # ---- reading ----

    def get(self, kind, namespace, name):
        obj = self.store.get(kind.storage, namespace if kind.namespaced else "", name)
        if obj is None:
            raise not_found(kind, name)
        return obj

    def items(self, kind, namespace, matches=None, at_rv=None, after_key=None):
        """[(key, object)] in key order: of a namespace or, without one, of all."""
        table = self.store.objects(kind.storage) if at_rv is None else self.store.state_at(kind.storage, at_rv)
        found = []
        for key in sorted(table):
            if namespace and key[0] != namespace or after_key is not None and key <= after_key:
                continue
            if matches is None or matches(table[key]):
                found.append((key, table[key]))
        return found

    @staticmethod
    def continue_token(rv, key):
        return base64.urlsafe_b64encode(json.dumps({"v": "fake/v1", "rv": rv, "start": key}).encode()).decode()

    def page(self, kind, namespace, matches, query, rv):
        """One page of a list as of `rv`: (objects, metadata of the list)."""
        limit = int(query.get("limit") or 0)
        after = None
        if query.get("continue"):
            try:
                token = json.loads(base64.urlsafe_b64decode(query["continue"]))
                rv, after = token["rv"], tuple(token["start"])
            except (ValueError, KeyError, TypeError):
                raise ApiError(400, "continue key is not valid") from None
            if rv == -1:
                rv = self.store.rv  # the client accepted an inconsistent rest
            elif rv < self.store.compacted:
                raise expired(
                    "The provided continue parameter is too old to display a consistent list result. You can start a "
                    "new list without the continue parameter, or use the continue token in this response for the rest.",
                    self.continue_token(-1, after),
                )
        found = self.items(kind, namespace, matches, None if rv == self.store.rv else rv, after)
        meta = {"resourceVersion": str(rv)}
        if limit and len(found) > limit:
            meta["continue"] = self.continue_token(rv, found[limit - 1][0])
            if matches is None:
                meta["remainingItemCount"] = len(found) - limit
            found = found[:limit]
        return [obj for _, obj in found], meta

    # ---- helpers of the writes ----

    def create_namespace(self, name):
        kind = self.kinds.find("", "v1", "namespaces")
        if self.store.get("namespaces", "", name) is None:
            obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            self.create(kind, "", {**obj, "status": {"phase": "Active"}}, "kube-apiserver", with_status=True)

    def _check_body(self, kind, namespace, obj, name=None):
        if not isinstance(obj, dict) or not isinstance(obj.setdefault("metadata", {}), dict):
            raise ApiError(400, "the object provided is unrecognized (must be an object with metadata)")
        for field, expected in (("apiVersion", kind.api_version), ("kind", kind.kind)):
            if obj.setdefault(field, expected) != expected:
                message = f"{field} in the body ({obj[field]}) does not match the expected one ({expected})"
                raise ApiError(400, message)
        meta = obj["metadata"]
        if name is not None and meta.setdefault("name", name) != name:
            message = f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
            raise ApiError(400, message)
        if not kind.namespaced:
            meta.pop("namespace", None)
        elif meta.setdefault("namespace", namespace) != namespace:
            message = f"the namespace of the object ({meta['namespace']}) does not match the namespace of the request"
            raise ApiError(400, message)

    def _check(self, kind, obj):
        """Raises 422 when the object is not valid."""
        causes, meta = [], obj["metadata"]
        if not _NAME.match(meta.get("name") or "") or len(meta["name"]) > 253:
            message = (
                f'Invalid value: "{meta.get("name")}": a lowercase RFC 1123 subdomain must consist of a-z, 0-9, - and .'
            )
            causes.append(("metadata.name", "FieldValueInvalid", message))
        for name, value in (meta.get("labels") or {}).items():
            if not isinstance(value, str) or len(value) > 63 or not _LABEL_VALUE.match(value):
                causes.append(("metadata.labels", "FieldValueInvalid", f'Invalid value: "{value}" of label {name}'))
        for name, value in (meta.get("annotations") or {}).items():
            if not isinstance(value, str):
                causes.append(
                    ("metadata.annotations", "FieldValueInvalid", f"Invalid value of {name}: must be a string")
                )
        if kind.schema is not None:
            validate(_without(obj, "apiVersion", "kind", "metadata"), kind.schema, "", causes)
        if kind.rule is not None and not causes:
            kind.rule(obj, causes)
        if causes:
            raise invalid(kind, meta.get("name") or "", causes)

    @staticmethod
    def _shape(kind, obj):
        if kind.schema is not None:
            prune(obj, kind.schema, top=True)
            fill_defaults(obj, kind.schema)
        metadata = obj["metadata"]
        for name in ("labels", "annotations", "finalizers", "ownerReferences"):
            if not metadata.get(name):
                metadata.pop(name, None)

    def _defaults(self, kind, obj):
        """What the real server fills in for built-in kinds."""
        spec = obj.get("spec")
        if kind.id == "pods":
            spec = obj.setdefault("spec", {})
            spec.setdefault("terminationGracePeriodSeconds", 30)
            spec.setdefault("restartPolicy", "Always")
            obj.setdefault("status", {}).setdefault("phase", "Pending")
        elif kind.id == "services" and spec is not None:
            spec.setdefault("type", "ClusterIP")
            spec.setdefault("clusterIP", f"10.96.0.{next(self._addresses) % 250 + 1}")
            for port in spec.get("ports") or []:
                port.setdefault("protocol", "TCP")
                port.setdefault("targetPort", port.get("port"))
        elif kind.id == "deployments.apps" and spec is not None:
            spec.setdefault("replicas", 1)
        elif kind.id == _CRDS:
            now = ownership.now()
            obj["status"] = {
                "acceptedNames": obj["spec"]["names"],
                "storedVersions": [version["name"] for version in obj["spec"]["versions"] if version.get("storage")],
                "conditions": [
                    {"type": name, "status": "True", "lastTransitionTime": now, "reason": reason, "message": ""}
                    for name, reason in (("NamesAccepted", "NoConflicts"), ("Established", "InitialNamesAccepted"))
                ],
            }

    def _commit(self, kind, obj):
        key = (obj["metadata"].get("namespace", "") if kind.namespaced else "", obj["metadata"]["name"])
        return self.store.commit(kind.storage, key, obj).object

    # ---- writing ----

    def create(self, kind, namespace, body, manager="kubectl", with_status=False, dry_run=False):
        """`with_status` is for the test itself: it writes as if kubelet and controllers had been there."""
        with self.store.lock:
            obj = copy.deepcopy(body)
            if kind.from_wire:
                obj = kind.from_wire(obj)
                self._check_body(self.kinds.find("", "v1", "events"), namespace, obj)
            else:
                self._check_body(kind, namespace, obj)
            meta = obj["metadata"]
            if kind.namespaced and self.store.get("namespaces", "", namespace) is None:
                raise not_found(self.kinds.find("", "v1", "namespaces"), namespace)
            if meta.get("resourceVersion"):
                raise ApiError(400, "resourceVersion should not be set on objects to be created")
            if not meta.get("name") and meta.get("generateName"):
                meta["name"] = meta["generateName"] + "".join(random.choices("bcdfghjklmnpqrstvwxz2456789", k=5))
            name = meta.get("name") or ""
            if self.store.get(kind.storage, namespace if kind.namespaced else "", name) is not None:
                raise already_exists(kind, name)
            for field in _SERVER_OWNED:
                meta.pop(field, None)
            if kind.status and not with_status:
                obj.pop("status", None)
            self._shape(kind, obj)
            self._defaults(kind, obj)
            self._check(kind, obj)
            meta["uid"], meta["creationTimestamp"] = str(uuid.uuid4()), ownership.now()
            if "spec" in obj and kind.id not in ("pods", "services", "namespaces"):
                meta["generation"] = 1
            ownership.record_update(None, obj, kind, manager, "")
            return obj if dry_run else self._commit(kind, obj)

    def update(self, kind, namespace, name, body, subresource="", manager="kubectl"):
        with self.store.lock:
            obj = copy.deepcopy(body)
            if kind.from_wire:
                obj = kind.from_wire(obj)
                self._check_body(self.kinds.find("", "v1", "events"), namespace, obj, name)
            else:
                self._check_body(kind, namespace, obj, name)
            old = self.get(kind, namespace, name)
            if kind.versioned_updates and not obj["metadata"].get("resourceVersion"):
                message = "Invalid value: 0x0: must be specified for an update"
                raise invalid(kind, name, [("metadata.resourceVersion", "FieldValueInvalid", message)])
            return self._replace(kind, old, obj, subresource, manager)

    def _replace(self, kind, old, new, subresource, manager, recorded=False):
        """Puts `new` in the place of `old`, by the main resource or its status. `recorded`: its owners are right."""
        name, meta = old["metadata"]["name"], new["metadata"]
        if meta.get("resourceVersion") not in (None, "", old["metadata"]["resourceVersion"]):
            raise conflict(kind, name)
        if meta.get("uid") not in (None, "", old["metadata"]["uid"]):
            why = (
                f'Precondition failed: UID in precondition: {meta["uid"]}, UID in object meta: {old["metadata"]["uid"]}'
            )
            raise conflict(kind, name, why)
        managed = meta.get("managedFields")
        if subresource == "status":
            new = {**old, "metadata": dict(old["metadata"]), **({"status": new["status"]} if "status" in new else {})}
        else:
            kept = {field: old["metadata"][field] for field in _SERVER_OWNED if field in old["metadata"]}
            new = {**new, "metadata": {**_without(meta, *_SERVER_OWNED), **kept}}
            if kind.status:
                new = {**_without(new, "status"), **({"status": old["status"]} if "status" in old else {})}
        new = copy.deepcopy(new)
        self._shape(kind, new)
        if kind.id == _CRDS:
            self._defaults(kind, new)
        self._check(kind, new)
        owners_differ = recorded and ownership.without_times(managed) != ownership.without_times(
            old["metadata"].get("managedFields")
        )
        if _significant(new) == _significant(old) and not owners_differ:
            return old
        ignored = ("metadata", "status") if kind.status else ("metadata",)
        if "generation" in new["metadata"] and _without(new, *ignored) != _without(old, *ignored):
            new["metadata"]["generation"] += 1
        if recorded:
            new["metadata"].pop("managedFields", None)
            if managed:
                new["metadata"]["managedFields"] = managed
        else:
            ownership.record_update(old, new, kind, manager, subresource)
        if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers") and kind.id != "pods":
            return self.store.commit(kind.storage, self._key(kind, old), None, self.faults.loses_deletes(kind)).object
        return self._commit(kind, new)

    @staticmethod
    def _key(kind, obj):
        return (obj["metadata"].get("namespace", "") if kind.namespaced else "", obj["metadata"]["name"])

    def patch(self, kind, namespace, name, content_type, body, subresource="", manager="kubectl", force=False):
        """Returns (object, whether it was created)."""
        if not isinstance(body, list if content_type == JSON else dict):
            raise ApiError(400, "the body is no such patch")
        with self.store.lock:
            if content_type in APPLY:
                return self._apply(kind, namespace, name, body, subresource, manager, force)
            how = {JSON: json_patch, MERGE: merge_patch, STRATEGIC: strategic_merge if kind.typed else None}.get(
                content_type
            )
            if how is None:
                supported = ", ".join([JSON, MERGE, STRATEGIC, *APPLY] if kind.typed else [JSON, MERGE, *APPLY])
                raise ApiError(
                    415, f"the body of the request was in an unknown format - accepted media types include: {supported}"
                )
            old = self.get(kind, namespace, name)
            base = kind.to_wire(old) if kind.to_wire else old
            new = how(base, body)
            if kind.from_wire:
                new = kind.from_wire(new)
            self._check_body(kind if not kind.from_wire else self.kinds.find("", "v1", "events"), namespace, new, name)
            return self._replace(kind, old, new, subresource, manager), False

    def _apply(self, kind, namespace, name, body, subresource, manager, force):
        if kind.from_wire:
            body = kind.from_wire(body)
        if body.get("apiVersion") is None or body.get("kind") is None:
            raise ApiError(400, "invalid object type: apiVersion and kind are required in an applied object")
        if not manager:
            message = "Required value: is required for apply patch"
            raise invalid(kind, name, [("fieldManager", "FieldValueRequired", message)])
        body = copy.deepcopy(body)
        self._check_body(kind if not kind.from_wire else self.kinds.find("", "v1", "events"), namespace, body, name)
        if body["metadata"].get("managedFields"):
            raise ApiError(400, "metadata.managedFields must be nil")
        if kind.schema:
            part = {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "metadata")}
            if field := undeclared(part, kind.schema):
                what = f"{namespace}/{name}; {kind.api_version}, Kind={kind.kind}"
                raise ApiError(500, f"failed to create typed patch object ({what}): {field}: field not declared in schema")
        live = self.store.get(kind.storage, namespace if kind.namespaced else "", name)
        if live is None and subresource:
            raise not_found(kind, name)
        if live is not None and body["metadata"].get("resourceVersion") not in (
            None,
            live["metadata"]["resourceVersion"],
        ):
            raise conflict(kind, name)
        merged = ownership.apply(live, body, kind, manager, subresource, force)
        if live is None:
            owners = merged["metadata"].get("managedFields")
            merged["apiVersion"], merged["kind"] = body["apiVersion"], body["kind"]
            merged["metadata"].update({"name": name, **({"namespace": namespace} if kind.namespaced else {})})
            created = self.create(kind, namespace, merged, manager, dry_run=True)
            created["metadata"]["managedFields"] = owners
            return self._commit(kind, created), True
        return self._replace(kind, live, merged, subresource, manager, recorded=True), False

    # ---- deleting ----

    def delete(self, kind, namespace, name, options=None):
        """Returns (object, whether it is gone)."""
        options = options or {}
        with self.store.lock:
            obj = self.get(kind, namespace, name)
            wanted = options.get("preconditions") or {}
            for field in ("uid", "resourceVersion"):
                if wanted.get(field) not in (None, obj["metadata"][field]):
                    have = obj["metadata"][field]
                    why = f"Precondition failed: {field} in precondition: {wanted[field]}, in object meta: {have}"
                    raise conflict(kind, name, why)
            grace = self._grace(kind, obj, options.get("gracePeriodSeconds"))
            if grace == 0 and not obj["metadata"].get("finalizers"):
                return self.remove(kind, obj), True
            return self._mark(kind, obj, grace), False

    @staticmethod
    def _grace(kind, obj, asked):
        """Only pods that run somewhere end slowly."""
        if (
            kind.id != "pods"
            or not obj["spec"].get("nodeName")
            or obj["status"].get("phase") in ("Succeeded", "Failed")
        ):
            return 0
        return obj["spec"]["terminationGracePeriodSeconds"] if asked is None else max(int(asked), 0)

    def _mark(self, kind, obj, grace):
        meta = obj["metadata"]
        if meta.get("deletionTimestamp") and grace >= meta.get("deletionGracePeriodSeconds", 0):
            return obj
        at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=grace)
        marked = copy.deepcopy(obj)
        marked["metadata"]["deletionTimestamp"] = at.strftime("%Y-%m-%dT%H:%M:%SZ")
        marked["metadata"]["deletionGracePeriodSeconds"] = grace
        return self._commit(kind, marked)

    def remove(self, kind, obj):
        """Takes the object out of the store, and with it what cannot be without it."""
        with self.store.lock:
            key = self._key(kind, obj)
            if kind.id == _CRDS:
                for served in (one for one in self.kinds.all() if one.id == key[1]):
                    for _, instance in self.items(served, None):
                        self.remove(served, instance)
            if kind.id == "namespaces":
                for inner in (one for one in self.kinds.all() if one.namespaced and not one.stored_as):
                    for _, instance in self.items(inner, key[1]):
                        self.remove(inner, instance)
            if self.store.get(kind.storage, *key) is None:
                return obj
            return self.store.commit(kind.storage, key, None, self.faults.loses_deletes(kind)).object
