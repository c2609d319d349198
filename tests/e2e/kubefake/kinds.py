"""Which resources are served: a table of the built-in ones, and what the installed CRDs add. Discovery documents."""

import dataclasses
import re

from . import schemas
from .events import from_new_event, new_event_causes, to_new_event
from .validate import is_time


@dataclasses.dataclass(frozen=True)
class Kind:
    """One resource of one API version."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    status: bool = False
    scale: bool = False
    short: tuple = ()
    typed: bool = True  # list items of typed APIs carry no apiVersion and kind
    versioned_updates: bool = False  # an update must name the resourceVersion
    schema: dict = None
    rule: object = None  # rule(object, causes): what a schema cannot state
    stored_as: str = None  # the resource that really holds the objects
    to_wire: object = None  # conversions from and to what is stored
    from_wire: object = None

    @property
    def id(self):
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def storage(self):
        return self.stored_as or self.id

    @property
    def qualified(self):
        return self.id

    @property
    def api_version(self):
        return f"{self.group}/{self.version}" if self.group else self.version


# ---- rules of the built-in kinds that a client of ours may break ----


def _need(obj, path, causes):
    value = obj
    for step in path.split("."):
        value = (value or {}).get(step) if isinstance(value, dict) else None
    if value in (None, "", []):
        causes.append((path, "FieldValueRequired", "Required value"))
    return value


def _pod(pod, causes):
    for number, container in enumerate(_need(pod, "spec.containers", causes) or []):
        if not container.get("name"):
            causes.append((f"spec.containers[{number}].name", "FieldValueRequired", "Required value"))


def _service(service, causes):
    for number, port in enumerate((service.get("spec") or {}).get("ports") or []):
        if not isinstance(port.get("port"), int) or not 0 < port["port"] < 65536:
            causes.append((f"spec.ports[{number}].port", "FieldValueInvalid", f"Invalid value: {port.get('port')!r}"))


def _endpoint_slice(endpoint_slice, causes):
    """Loopback addresses are refused by the real server; here they are the only ones that a test has."""
    kind = _need(endpoint_slice, "addressType", causes)
    if kind and kind not in ("IPv4", "IPv6", "FQDN"):
        causes.append(("addressType", "FieldValueNotSupported", f'Unsupported value: "{kind}"'))
    for number, endpoint in enumerate(endpoint_slice.get("endpoints") or []):
        addresses = endpoint.get("addresses") or []
        if not 1 <= len(addresses) <= 100:
            causes.append((f"endpoints[{number}].addresses", "FieldValueRequired", "must contain at least 1 address"))
        for address in addresses:
            if kind == "IPv4" and not re.fullmatch(r"\d{1,3}(\.\d{1,3}){3}", address):
                message = f'Invalid value: "{address}": must be a valid IPv4 address'
                causes.append((f"endpoints[{number}].addresses", "FieldValueInvalid", message))


def _lease(lease, causes):
    spec = lease.get("spec") or {}
    for field in ("acquireTime", "renewTime"):
        if spec.get(field) is not None and not (isinstance(spec[field], str) and is_time(spec[field])):
            causes.append((f"spec.{field}", "FieldValueInvalid", f"Invalid value: {spec[field]!r}"))
    seconds = spec.get("leaseDurationSeconds")
    if seconds is not None and (not isinstance(seconds, int) or seconds <= 0):
        causes.append(("spec.leaseDurationSeconds", "FieldValueInvalid", "Invalid value: must be greater than 0"))


def _event(event, causes):
    involved = event.get("involvedObject") or {}
    namespace = event["metadata"].get("namespace")
    if (involved.get("namespace") or "default") != namespace:
        message = f'Invalid value: "{involved.get("namespace", "")}": does not match event.namespace'
        causes.append(("involvedObject.namespace", "FieldValueInvalid", message))
    if event.get("type") not in (None, "Normal", "Warning") and event.get("eventTime"):
        causes.append(("type", "FieldValueInvalid", f'Invalid value: "{event.get("type")}"'))
    if len(event.get("message") or "") > 1024 and event.get("eventTime"):
        causes.append(("message", "FieldValueInvalid", "can have at most 1024 characters"))


def _deployment(deployment, causes):
    _need(deployment, "spec.selector", causes)
    _need(deployment, "spec.template.spec.containers", causes)


BUILT_IN = [
    Kind("", "v1", "namespaces", "Namespace", namespaced=False, status=True, short=("ns",)),
    Kind("", "v1", "pods", "Pod", status=True, short=("po",), rule=_pod),
    Kind("", "v1", "services", "Service", status=True, short=("svc",), rule=_service),
    Kind("", "v1", "secrets", "Secret"),
    Kind("", "v1", "configmaps", "ConfigMap", short=("cm",)),
    Kind("", "v1", "events", "Event", short=("ev",), rule=_event),
    Kind("events.k8s.io", "v1", "events", "Event", short=("ev",), rule=new_event_causes, stored_as="events",
         to_wire=to_new_event, from_wire=from_new_event),
    Kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", rule=_endpoint_slice),
    Kind("coordination.k8s.io", "v1", "leases", "Lease", versioned_updates=True, rule=_lease),
    Kind("apps", "v1", "deployments", "Deployment", status=True, scale=True, short=("deploy",), rule=_deployment),
    Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False,
         status=True, short=("crd", "crds")),
]  # fmt: skip


def kinds_of_crd(crd):
    """The resources that a CustomResourceDefinition object serves."""
    spec, found = crd["spec"], []
    names = spec["names"]
    for version in spec["versions"]:
        if not version.get("served", True):
            continue
        found.append(
            Kind(
                spec["group"],
                version["name"],
                names["plural"],
                names["kind"],
                namespaced=spec.get("scope") != "Cluster",
                status="status" in (version.get("subresources") or {}),
                short=tuple(names.get("shortNames") or ()),
                typed=False,
                versioned_updates=True,
                schema=(version.get("schema") or {}).get("openAPIV3Schema") or schemas.OPEN,
                rule=schemas.RULES.get(crd["metadata"]["name"]),
            )
        )
    return found


class Kinds:
    """What is served now. The CRDs among it change with the objects in the store."""

    def __init__(self, store):
        self._store = store
        self._built_in = BUILT_IN
        self._cache = (None, None)

    def all(self):
        crds = self._store.objects("customresourcedefinitions.apiextensions.k8s.io")
        stamp = tuple((id(crd)) for crd in crds.values())
        if self._cache[0] != stamp:
            found = list(self._built_in)
            for crd in crds.values():
                found += kinds_of_crd(crd)
            self._cache = (stamp, found, list(crds.values()))  # the list keeps the ids from being used again
        return self._cache[1]

    def find(self, group, version, plural):
        for kind in self.all():
            if (kind.group, kind.version, kind.plural) == (group, version, plural):
                return kind
        return None

    def of_object(self, obj):
        group, _, version = obj["apiVersion"].rpartition("/")
        for kind in self.all():
            if (kind.group, kind.version, kind.kind) == (group, version, obj["kind"]):
                return kind
        raise KeyError(f"no kind {obj['kind']} in {obj['apiVersion']}")

    def named(self, name):
        """The kind for "pods", "endpointslices" or "inferenceobjectives.llm-d.ai"."""
        found = [kind for kind in self.all() if kind.id == name] or [kind for kind in self.all() if kind.plural == name]
        if not found:
            raise KeyError(f"no resource {name}")
        if len({kind.id for kind in found}) > 1:
            raise KeyError(f"{name} is ambiguous: {[kind.id for kind in found]}")
        return found[0]

    # ---- discovery documents ----

    def groups(self):
        found = {}
        for kind in self.all():
            if kind.group:
                versions = found.setdefault(kind.group, [])
                if kind.version not in versions:
                    versions.append(kind.version)
        return found

    def discovery(self, path):
        """The document at this path of /api or /apis; None when there is none."""
        parts = path.strip("/").split("/")
        if parts == ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        if parts == ["api", "v1"]:
            return self._resources("", "v1")
        groups = self.groups()
        if parts == ["apis"]:
            listed = [self._group(name, versions) for name, versions in groups.items()]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
        if parts[0] == "apis" and len(parts) == 2 and parts[1] in groups:
            return {"kind": "APIGroup", "apiVersion": "v1", **self._group(parts[1], groups[parts[1]])}
        if parts[0] == "apis" and len(parts) == 3 and parts[2] in groups.get(parts[1], ()):
            return self._resources(parts[1], parts[2])
        return None

    @staticmethod
    def _group(name, versions):
        listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
        return {"name": name, "versions": listed, "preferredVersion": listed[0]}

    def _resources(self, group, version):
        listed = []
        for kind in self.all():
            if (kind.group, kind.version) != (group, version):
                continue
            base = {"namespaced": kind.namespaced, "kind": kind.kind}
            verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
            entry = {"name": kind.plural, "singularName": kind.kind.lower(), **base, "verbs": verbs}
            if kind.short:
                entry["shortNames"] = list(kind.short)
            listed.append(entry)
            if kind.status:
                listed.append(
                    {"name": kind.plural + "/status", "singularName": "", **base, "verbs": ["get", "patch", "update"]}
                )
            if kind.scale:
                scale = {"group": "autoscaling", "version": "v1", "kind": "Scale", "namespaced": kind.namespaced}
                listed.append(
                    {"name": kind.plural + "/scale", "singularName": "", **scale, "verbs": ["get", "patch", "update"]}
                )
        name = f"{group}/{version}" if group else version
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": listed}
