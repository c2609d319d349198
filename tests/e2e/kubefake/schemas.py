"""What the CRDs of the Inference Extension, llm-d and the Gateway API demand, as far as a gateway can notice.

Each entry makes a CustomResourceDefinition with a structural schema. RULES has what the real ones state in CEL.
"""

NAME = {"type": "string", "minLength": 1, "maxLength": 253}
_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_GROUP = {"type": "string", "maxLength": 253, "pattern": rf"^$|^{_SUBDOMAIN}$"}
_KIND = {"type": "string", "minLength": 1, "maxLength": 63, "pattern": r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"}
_NAMESPACE = {"type": "string", "minLength": 1, "maxLength": 63, "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
_HOSTNAME = {"type": "string", "minLength": 1, "maxLength": 253, "pattern": rf"^(\*\.)?{_SUBDOMAIN}$"}
_CONTROLLER = {
    "type": "string",
    "minLength": 1,
    "maxLength": 253,
    "pattern": rf"^{_SUBDOMAIN}\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$",
}
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def obj(required=(), **properties):
    schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return schema


def array(items, **more):
    return {"type": "array", "items": items, "x-kubernetes-list-type": "atomic", **more}


def keyed(items, *keys, **more):
    return {
        "type": "array",
        "items": items,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": list(keys),
        **more,
    }


def _with(schema, **more):
    return {**schema, **more}


CONDITION = obj(
    ("lastTransitionTime", "message", "reason", "status", "type"),
    lastTransitionTime={"type": "string", "format": "date-time"},
    message={"type": "string", "maxLength": 32768},
    observedGeneration={"type": "integer", "minimum": 0},
    reason={
        "type": "string",
        "minLength": 1,
        "maxLength": 1024,
        "pattern": r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
    },
    status={"type": "string", "enum": ["True", "False", "Unknown"]},
    type={
        "type": "string",
        "maxLength": 316,
        "pattern": rf"^({_SUBDOMAIN}/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
    },
)


def conditions(pending=None):
    schema = keyed(CONDITION, "type", maxItems=8)
    if pending:
        schema["default"] = [
            {
                "lastTransitionTime": "1970-01-01T00:00:00Z",
                "message": "Waiting for controller",
                "reason": "Pending",
                "status": "Unknown",
                "type": pending,
            }
        ]
    return schema


# ---- inference ----

_LABEL_VALUE = {"type": "string", "maxLength": 63, "pattern": r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"}
_PICKER = obj(
    ("name",),
    group=_with(_GROUP, default=""),
    kind=_with(_KIND, default="Service"),
    name=NAME,
    port=obj(("number",), number=_PORT),
    failureMode={"type": "string", "enum": ["FailOpen", "FailClose"], "default": "FailClose"},
)
_POOL_PARENT = obj(
    ("parentRef",),
    parentRef=obj(
        ("name",),
        group=_with(_GROUP, default="gateway.networking.k8s.io"),
        kind=_with(_KIND, default="Gateway"),
        name=NAME,
        namespace=_NAMESPACE,
    ),
    controllerName=_CONTROLLER,
    conditions=conditions(),
)
POOL = obj(
    ("spec",),
    spec=obj(
        ("selector", "targetPorts"),
        selector=obj(
            ("matchLabels",),
            matchLabels={
                "type": "object",
                "additionalProperties": _LABEL_VALUE,
                "minProperties": 1,
                "maxProperties": 64,
            },
        ),
        targetPorts=array(obj(("number",), number=_PORT), minItems=1, maxItems=8),
        appProtocol={"type": "string", "enum": ["http", "kubernetes.io/h2c"]},
        endpointPickerRef=_PICKER,
    ),
    status=obj(parents=array(_POOL_PARENT, maxItems=32)),
)


def _pool_ref(group):
    return obj(("name",), group=_with(_GROUP, default=group), kind=_with(_KIND, default="InferencePool"), name=NAME)


_MATCH = obj(
    ("model",),
    model=obj(
        ("value",),
        type={"type": "string", "enum": ["Exact"], "default": "Exact"},
        value={"type": "string", "minLength": 1},
    ),
)
_TARGET = obj(
    ("modelRewrite",),
    modelRewrite={"type": "string"},
    weight={"type": "integer", "minimum": 1, "maximum": 1000000},
)


def rewrite(pool_group):
    spec = obj(
        ("poolRef", "rules"),
        poolRef=_pool_ref(pool_group),
        rules=array(obj(matches=array(_MATCH), targets=array(_TARGET, minItems=1))),
    )
    return obj(spec=spec, status=obj(conditions=conditions("Accepted")))


def objective(pool_group):
    spec = obj(("poolRef",), poolRef=_pool_ref(pool_group), priority={"type": "integer"})
    return obj(spec=spec, status=obj(conditions=conditions("Ready")))


# ---- Gateway API ----

_PARENT_REF = obj(
    ("name",),
    group=_with(_GROUP, default="gateway.networking.k8s.io"),
    kind=_with(_KIND, default="Gateway"),
    name=NAME,
    namespace=_NAMESPACE,
    sectionName=NAME,
    port=_PORT,
)
_BACKEND_REF = obj(
    ("name",),
    group=_with(_GROUP, default=""),
    kind=_with(_KIND, default="Service"),
    name=NAME,
    namespace=_NAMESPACE,
    port=_PORT,
    weight={"type": "integer", "minimum": 0, "maximum": 1000000, "default": 1},
    filters=array(OPEN, maxItems=16),
)
_HEADER_MATCH = obj(
    ("name", "value"),
    type={"type": "string", "enum": ["Exact", "RegularExpression"], "default": "Exact"},
    name={"type": "string", "minLength": 1, "maxLength": 256},
    value={"type": "string", "minLength": 1, "maxLength": 4096},
)
_PATH_MATCH = {
    **obj(
        type={"type": "string", "enum": ["Exact", "PathPrefix", "RegularExpression"], "default": "PathPrefix"},
        value={"type": "string", "maxLength": 1024, "default": "/"},
    ),
    "default": {"type": "PathPrefix", "value": "/"},
}
_ROUTE_RULE = obj(
    name=NAME,
    matches={
        **array(
            obj(
                path=_PATH_MATCH,
                headers=keyed(_HEADER_MATCH, "name", maxItems=16),
                queryParams=keyed(_HEADER_MATCH, "name", maxItems=16),
                method={"type": "string"},
            ),
            maxItems=64,
        ),
        "default": [{"path": {"type": "PathPrefix", "value": "/"}}],
    },
    filters=array(OPEN, maxItems=16),
    backendRefs=array(_BACKEND_REF, maxItems=16),
    timeouts=OPEN,
    retry=OPEN,
)
ROUTE = obj(
    ("spec",),
    spec=obj(
        parentRefs=array(_PARENT_REF, maxItems=32),
        hostnames=array(_HOSTNAME, maxItems=16),
        rules=array(_ROUTE_RULE, minItems=1, maxItems=16),
    ),
    status=obj(
        ("parents",),
        parents=array(
            obj(
                ("conditions", "controllerName", "parentRef"),
                parentRef=_PARENT_REF,
                controllerName=_CONTROLLER,
                conditions=_with(conditions(), minItems=1),
            ),
            maxItems=32,
        ),
    ),
)
_ROUTE_KINDS = array(obj(("kind",), group=_with(_GROUP, default="gateway.networking.k8s.io"), kind=_KIND), maxItems=8)
_LISTENER = obj(
    ("name", "port", "protocol"),
    name={"type": "string", "minLength": 1, "maxLength": 253, "pattern": rf"^{_SUBDOMAIN}$"},
    hostname=_HOSTNAME,
    port=_PORT,
    protocol={"type": "string", "minLength": 1, "maxLength": 255},
    tls=OPEN,
    allowedRoutes={
        **obj(
            namespaces={
                **obj(
                    **{
                        "from": {"type": "string", "enum": ["All", "Selector", "Same"], "default": "Same"},
                        "selector": OPEN,
                    }
                ),
                "default": {"from": "Same"},
            },
            kinds=_ROUTE_KINDS,
        ),
        "default": {"namespaces": {"from": "Same"}},
    },
)
_GATEWAY_ADDRESS = obj(
    type={"type": "string", "minLength": 1, "maxLength": 253, "default": "IPAddress"},
    value={"type": "string", "maxLength": 253},
)
GATEWAY = obj(
    ("spec",),
    spec=obj(
        ("gatewayClassName", "listeners"),
        gatewayClassName=NAME,
        listeners=keyed(_LISTENER, "name", minItems=1, maxItems=64),
        addresses=array(_GATEWAY_ADDRESS, maxItems=16),
        infrastructure=OPEN,
        allowedListeners=OPEN,
        tls=OPEN,
    ),
    status=obj(
        addresses=array(
            {**_GATEWAY_ADDRESS, "required": ["value"]},
            maxItems=16,
        ),
        conditions=conditions(),
        listeners=keyed(
            obj(
                ("attachedRoutes", "conditions", "name"),
                name=NAME,
                attachedRoutes={"type": "integer"},
                supportedKinds=_ROUTE_KINDS,
                conditions=conditions(),
            ),
            "name",
            maxItems=64,
        ),
    ),
)
GATEWAY_CLASS = obj(
    ("spec",),
    spec=obj(
        ("controllerName",),
        controllerName=_CONTROLLER,
        description={"type": "string", "maxLength": 64},
        parametersRef=OPEN,
    ),
    status=obj(
        conditions=conditions("Accepted"), supportedFeatures=keyed(obj(("name",), name=NAME), "name", maxItems=64)
    ),
)
REFERENCE_GRANT = obj(
    spec=obj(
        ("from", "to"),
        **{
            "from": array(
                obj(("group", "kind", "namespace"), group=_GROUP, kind=_KIND, namespace=_NAMESPACE),
                minItems=1,
                maxItems=16,
            ),
            "to": array(obj(("group", "kind"), group=_GROUP, kind=_KIND, name=NAME), minItems=1, maxItems=16),
        },
    ),
)


_LOCAL_REF = obj(("group", "kind", "name"), group=_GROUP, kind=_KIND, name=NAME)
BACKEND_TLS_POLICY = obj(
    ("spec",),
    spec=obj(
        ("targetRefs", "validation"),
        targetRefs=array(
            obj(("group", "kind", "name"), group=_GROUP, kind=_KIND, name=NAME, sectionName=NAME), minItems=1, maxItems=16
        ),
        validation=obj(
            ("hostname",),
            hostname=_HOSTNAME,
            caCertificateRefs=array(_LOCAL_REF, maxItems=8),
            wellKnownCACertificates={"type": "string", "minLength": 1},
            subjectAltNames=array(OPEN, maxItems=5),
        ),
        options=OPEN,
    ),
    status=obj(
        ("ancestors",),
        ancestors=array(
            obj(
                ("ancestorRef", "conditions", "controllerName"),
                ancestorRef=OPEN,
                controllerName=_CONTROLLER,
                conditions=conditions(),
            ),
            maxItems=16,
        ),
    ),
)


# ---- what the real ones state in CEL ----


def _pool_rules(pool, causes):
    ports = [port.get("number") for port in pool["spec"].get("targetPorts") or []]
    if len(set(ports)) != len(ports):
        causes.append(("spec.targetPorts", "FieldValueInvalid", "Invalid value: port number must be unique"))
    picker = pool["spec"].get("endpointPickerRef")
    if picker and picker.get("kind") == "Service" and "port" not in picker:
        causes.append(
            ("spec.endpointPickerRef", "FieldValueInvalid", "Invalid value: port is required when kind is Service")
        )


def _rewrite_rules(rewrite, causes):
    for number, rule in enumerate((rewrite.get("spec") or {}).get("rules") or []):
        weighted = ["weight" in target for target in rule.get("targets") or []]
        if any(weighted) and not all(weighted):
            message = "Invalid value: a weight must be set for all targets or for none"
            causes.append((f"spec.rules[{number}].targets", "FieldValueInvalid", message))


def _route_rules(route, causes):
    for number, rule in enumerate(route["spec"].get("rules") or []):
        for match in rule.get("matches") or []:
            path = match.get("path") or {}
            if path.get("type") in ("Exact", "PathPrefix") and not path.get("value", "/").startswith("/"):
                field = f"spec.rules[{number}].matches"
                causes.append((field, "FieldValueInvalid", "Invalid value: value must be an absolute path"))
        for ref in rule.get("backendRefs") or []:
            if ref.get("group") == "" and ref.get("kind") == "Service" and "port" not in ref:
                field = f"spec.rules[{number}].backendRefs"
                causes.append((field, "FieldValueInvalid", "Invalid value: Must have port for Service reference"))


RULES = {
    "inferencepools.inference.networking.k8s.io": _pool_rules,
    "inferencemodelrewrites.inference.networking.x-k8s.io": _rewrite_rules,
    "inferencemodelrewrites.llm-d.ai": _rewrite_rules,
    "httproutes.gateway.networking.k8s.io": _route_rules,
}

_INFERENCE, _EXPERIMENTAL, _LLMD = "inference.networking.k8s.io", "inference.networking.x-k8s.io", "llm-d.ai"
_GATEWAYS = "gateway.networking.k8s.io"
# llm-d's definitions fill in their own group for that of the pool; the older ones name the pool's.
REWRITE, OBJECTIVE = rewrite(_INFERENCE), objective(_INFERENCE)
LLMD_REWRITE, LLMD_OBJECTIVE = rewrite(_LLMD), objective(_LLMD)
# (group, plural, kind, versions, short names, scope, status subresource, schema)
TABLE = [
    (_INFERENCE, "inferencepools", "InferencePool", ["v1"], ["infpool"], "Namespaced", True, POOL),
    (_EXPERIMENTAL, "inferencemodelrewrites", "InferenceModelRewrite", ["v1alpha2"], [], "Namespaced", True, REWRITE),
    (_EXPERIMENTAL, "inferenceobjectives", "InferenceObjective", ["v1alpha2"], [], "Namespaced", True, OBJECTIVE),
    (_LLMD, "inferencemodelrewrites", "InferenceModelRewrite", ["v1alpha2"], [], "Namespaced", True, LLMD_REWRITE),
    (_LLMD, "inferenceobjectives", "InferenceObjective", ["v1alpha2"], [], "Namespaced", True, LLMD_OBJECTIVE),
    (_GATEWAYS, "gatewayclasses", "GatewayClass", ["v1"], ["gc"], "Cluster", True, GATEWAY_CLASS),
    (_GATEWAYS, "gateways", "Gateway", ["v1"], ["gtw"], "Namespaced", True, GATEWAY),
    (_GATEWAYS, "httproutes", "HTTPRoute", ["v1"], [], "Namespaced", True, ROUTE),
    (_GATEWAYS, "referencegrants", "ReferenceGrant", ["v1beta1"], ["refgrant"], "Namespaced", False, REFERENCE_GRANT),
    (_GATEWAYS, "backendtlspolicies", "BackendTLSPolicy", ["v1"], ["btlspolicy"], "Namespaced", True, BACKEND_TLS_POLICY),
]


def crd_objects():
    """Every CustomResourceDefinition, by its name."""
    found = {}
    for group, plural, kind, versions, short, scope, status, schema in TABLE:
        found[f"{plural}.{group}"] = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {
                "group": group,
                "scope": scope,
                "names": {
                    "kind": kind,
                    "listKind": kind + "List",
                    "plural": plural,
                    "singular": kind.lower(),
                    "shortNames": short,
                },
                "versions": [
                    {
                        "name": version,
                        "served": True,
                        "storage": version == versions[-1],
                        "schema": {"openAPIV3Schema": schema},
                        **({"subresources": {"status": {}}} if status else {}),
                    }
                    for version in versions
                ],
            },
        }
    return found
