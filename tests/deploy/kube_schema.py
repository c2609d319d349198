"""The parts of the Kubernetes API that deploy/ uses, as tables: the fields, their types, and which are required.

A type is a Python type, one of the names below, [type] for a list, {str: type} for a map with free keys, or a dict of
fields; a field whose name ends with "!" is required. A set is a choice of values. A field that is not in its table is
an error: it may exist in Kubernetes, but then it has to be added here, where somebody looks it up.
"""

import re

QUANTITY = re.compile(r"^[0-9]+(\.[0-9]+)?([kMGTPE]i?|m)?$")
DNS_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
DNS_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")
LABEL_KEY = re.compile(r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")

LABELS = "labels"
PROTOCOL = {"TCP", "UDP"}
SELECTOR = {"matchLabels": LABELS}
META = {"name!": "dns name", "namespace": "dns label", "labels": LABELS, "annotations": {str: str}}
PORT_REFERENCE = "port reference"  # a number or the name of a container's port

HTTP_PROBE = {
    "httpGet!": {"path!": str, "port!": PORT_REFERENCE, "scheme": {"HTTP", "HTTPS"}},
    "periodSeconds": "positive",
    "timeoutSeconds": "positive",
    "failureThreshold": "positive",
    "initialDelaySeconds": int,
    "successThreshold": "positive",
}
SECCOMP = {"type!": {"RuntimeDefault", "Localhost", "Unconfined"}, "localhostProfile": str}
CONTAINER = {
    "name!": "dns label",
    "image!": str,
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "command": [str],
    "args": [str],
    "env": [{"name!": str, "value": str, "valueFrom": {"fieldRef!": {"fieldPath!": str, "apiVersion": str}}}],
    "ports": [{"name!": "dns label", "containerPort!": "port", "protocol": PROTOCOL}],
    "startupProbe": HTTP_PROBE,
    "readinessProbe": HTTP_PROBE,
    "livenessProbe": HTTP_PROBE,
    "resources": {"requests": {str: "quantity"}, "limits": {str: "quantity"}},
    "securityContext": {
        "allowPrivilegeEscalation": bool,
        "readOnlyRootFilesystem": bool,
        "privileged": bool,
        "capabilities": {"drop": [str]},
    },
    "volumeMounts": [{"name!": str, "mountPath!": str, "readOnly": bool}],
}
AFFINITY_TERM = {"topologyKey!": str, "labelSelector!": SELECTOR}
POD_SPEC = {
    "serviceAccountName": "dns name",
    "automountServiceAccountToken": bool,
    "enableServiceLinks": bool,
    "restartPolicy": {"Always", "Never", "OnFailure"},
    "terminationGracePeriodSeconds": int,
    "priorityClassName": str,
    "imagePullSecrets": [{"name!": str}],
    "securityContext": {
        "runAsNonRoot": bool,
        "runAsUser": int,
        "runAsGroup": int,
        "fsGroup": int,
        "seccompProfile": SECCOMP,
    },
    "containers!": [CONTAINER],
    "volumes": [{"name!": "dns label", "configMap": {"name!": str}, "secret": {"secretName!": str}, "emptyDir": {}}],
    "topologySpreadConstraints": [
        {
            "maxSkew!": "positive",
            "topologyKey!": str,
            "whenUnsatisfiable!": {"ScheduleAnyway", "DoNotSchedule"},
            "labelSelector!": SELECTOR,
        }
    ],
    "nodeSelector": {str: str},
    "tolerations": [{"key": str, "operator": {"Exists", "Equal"}, "value": str, "effect": str}],
    "affinity": {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight!": int, "podAffinityTerm!": AFFINITY_TERM}]
        }
    },
}
PEER = {"podSelector": SELECTOR, "namespaceSelector": SELECTOR, "ipBlock": {"cidr!": str, "except": [str]}}
POLICY_PORT = {"port!": PORT_REFERENCE, "protocol!": PROTOCOL, "endPort": "port"}
RBAC_RULES = [
    {"apiGroups!": [str], "resources!": [str], "resourceNames": [str], "verbs!": [{"get", "list", "watch", "create", "patch", "update"}]}
]
SCRAPE_TLS = {
    "ca": {"secret": {"name!": "dns name", "key!": str}, "configMap": {"name!": "dns name", "key!": str}},
    "serverName": "dns name",
    "insecureSkipVerify": bool,
}
SCRAPED = [
    {"port!": str, "path": str, "interval": "duration", "scheme": {"http", "https"}, "tlsConfig": SCRAPE_TLS}
]
POOL_REFERENCE = {"group": str, "kind": str, "name!": str}

OBJECTIVE_SPEC = {"priority": int, "poolRef!": POOL_REFERENCE}
REWRITE_SPEC = {
    "poolRef!": POOL_REFERENCE,
    "rules!": [
        {
            "matches": [{"model": {"type": {"Exact"}, "value!": str}}],
            "targets": [{"modelRewrite!": str, "weight": "positive"}],
        }
    ],
}


def kind(spec=None, **fields):
    table = {"apiVersion!": str, "kind!": str, "metadata!": META, **fields}
    if spec is not None:
        table["spec!"] = spec
    return table


def binding(role):
    return kind(
        **{
            "roleRef!": {"apiGroup!": {"rbac.authorization.k8s.io"}, "kind!": {role}, "name!": "dns name"},
            "subjects!": [{"kind!": {"ServiceAccount"}, "name!": "dns name", "namespace!": "dns label"}],
        }
    )


KINDS = {
    ("v1", "Namespace"): kind(),
    ("v1", "ConfigMap"): kind(**{"data!": {str: str}}),
    ("v1", "ServiceAccount"): kind(automountServiceAccountToken=bool),
    ("v1", "Pod"): kind(POD_SPEC),
    ("v1", "Service"): kind(
        {
            "type": {"ClusterIP", "NodePort", "LoadBalancer"},
            "trafficDistribution": {"PreferClose", "PreferSameZone", "PreferSameNode"},
            "selector!": LABELS,
            "ports!": [
                {
                    "name!": "dns label",
                    "port!": "port",
                    "targetPort!": PORT_REFERENCE,
                    "protocol": PROTOCOL,
                    "appProtocol": str,
                    "nodePort": int,
                }
            ],
        }
    ),
    ("apps/v1", "Deployment"): kind(
        {
            "replicas": int,
            "revisionHistoryLimit": int,
            "strategy": {
                "type!": {"RollingUpdate"},
                "rollingUpdate": {"maxUnavailable!": "number or percent", "maxSurge!": "number or percent"},
            },
            "selector!": SELECTOR,
            "template!": {"metadata!": {"labels!": LABELS, "annotations": {str: str}}, "spec!": POD_SPEC},
        }
    ),
    ("policy/v1", "PodDisruptionBudget"): kind({"maxUnavailable!": "number or percent", "selector!": SELECTOR}),
    ("autoscaling/v2", "HorizontalPodAutoscaler"): kind(
        {
            "scaleTargetRef!": {"apiVersion!": {"apps/v1"}, "kind!": {"Deployment"}, "name!": "dns name"},
            "minReplicas!": "positive",
            "maxReplicas!": "positive",
            "metrics!": [
                {
                    "type!": {"Resource", "Pods"},
                    "resource": {
                        "name!": {"cpu", "memory"},
                        "target!": {"type!": {"Utilization"}, "averageUtilization!": "positive"},
                    },
                    "pods": {
                        "metric!": {"name!": str},
                        "target!": {"type!": {"AverageValue"}, "averageValue!": "quantity"},
                    },
                }
            ],
            "behavior": {
                "scaleDown": {
                    "stabilizationWindowSeconds": int,
                    "policies": [{"type!": {"Pods", "Percent"}, "value!": "positive", "periodSeconds!": "positive"}],
                }
            },
        }
    ),
    ("networking.k8s.io/v1", "NetworkPolicy"): kind(
        {
            "podSelector!": SELECTOR,
            "policyTypes!": [{"Ingress", "Egress"}],
            "ingress": [{"ports": [POLICY_PORT], "from": [PEER]}],
            "egress": [{"ports": [POLICY_PORT], "to": [PEER]}],
        }
    ),
    ("rbac.authorization.k8s.io/v1", "Role"): kind(**{"rules!": RBAC_RULES}),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): kind(**{"rules!": RBAC_RULES}),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): binding("Role"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): binding("ClusterRole"),
    ("monitoring.coreos.com/v1", "PodMonitor"): kind({"selector!": SELECTOR, "podMetricsEndpoints!": SCRAPED}),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): kind({"selector!": SELECTOR, "endpoints!": SCRAPED}),
    ("monitoring.coreos.com/v1", "PrometheusRule"): kind(
        {
            "groups!": [
                {
                    "name!": str,
                    "rules!": [
                        {
                            "alert!": str,
                            "expr!": str,
                            "for": "duration",
                            "labels!": {"severity!": {"critical", "warning", "info"}},
                            "annotations!": {"summary!": str, "description": str},
                        }
                    ],
                }
            ]
        }
    ),
    # Releases of the extension before 1.6 refuse a pool without endpointPickerRef.
    ("inference.networking.k8s.io/v1", "InferencePool"): kind(
        {
            "selector!": {"matchLabels!": LABELS},
            "targetPorts!": [{"number!": "port"}],
            "endpointPickerRef!": {"name!": str, "port!": {"number!": "port"}},
        }
    ),
    ("llm-d.ai/v1alpha2", "InferenceObjective"): kind(OBJECTIVE_SPEC),
    ("llm-d.ai/v1alpha2", "InferenceModelRewrite"): kind(REWRITE_SPEC),
    ("inference.networking.x-k8s.io/v1alpha2", "InferenceObjective"): kind(OBJECTIVE_SPEC),
    ("inference.networking.x-k8s.io/v1alpha2", "InferenceModelRewrite"): kind(REWRITE_SPEC),
}


def is_int(value):
    return isinstance(value, int) and not isinstance(value, bool)


NAMED_TYPES = {
    "port": lambda v: is_int(v) and 0 < v < 65536,
    "positive": lambda v: is_int(v) and v > 0,
    "quantity": lambda v: is_int(v) or isinstance(v, str) and QUANTITY.match(v),
    "dns label": lambda v: isinstance(v, str) and DNS_LABEL.match(v),
    "dns name": lambda v: isinstance(v, str) and DNS_NAME.match(v),
    PORT_REFERENCE: lambda v: is_int(v) and 0 < v < 65536 or isinstance(v, str) and DNS_LABEL.match(v),
    "number or percent": lambda v: is_int(v) and v >= 0 or isinstance(v, str) and re.match(r"^\d+%$", v),
    "duration": lambda v: isinstance(v, str) and re.match(r"^(\d+(ms|s|m|h))+$", v),
    LABELS: lambda v: isinstance(v, dict)
    and all(isinstance(x, str) and LABEL_KEY.match(k) and LABEL_VALUE.match(x) for k, x in v.items()),
}


def problems(value, table, where=""):
    """Everything in `value` that its table does not allow, as lines."""
    if isinstance(table, str):
        return [] if NAMED_TYPES[table](value) else [f"{where}: {value!r} is no {table}"]
    if isinstance(table, set):
        return [] if value in table else [f"{where}: {value!r} is none of {sorted(table)}"]
    if isinstance(table, list):
        if not isinstance(value, list):
            return [f"{where}: {value!r} is no list"]
        return [p for i, entry in enumerate(value) for p in problems(entry, table[0], f"{where}[{i}]")]
    if table is int:
        return [] if is_int(value) else [f"{where}: {value!r} is no whole number"]
    if isinstance(table, type):
        return [] if isinstance(value, table) else [f"{where}: {value!r} is no {table.__name__}"]
    return object_problems(value, table, where)


def object_problems(value, table, where):
    if not isinstance(value, dict):
        return [f"{where}: {value!r} is no object"]
    if set(table) == {str}:
        return [p for key, entry in value.items() for p in problems(entry, table[str], f"{where}.{key}")]
    fields = {name.rstrip("!"): of for name, of in table.items()}
    found = [f"{where}.{name[:-1]} is missing" for name in table if name.endswith("!") and name[:-1] not in value]
    for key, entry in value.items():
        if key not in fields:
            found.append(f"{where}.{key} is not known")
        else:
            found += problems(entry, fields[key], f"{where}.{key}")
    return found


def manifest_problems(manifest):
    key = (manifest.get("apiVersion"), manifest.get("kind"))
    if key not in KINDS:
        return [f"{key} is not known"]
    return problems(manifest, KINDS[key], f"{key[1]} {manifest.get('metadata', {}).get('name')}")
