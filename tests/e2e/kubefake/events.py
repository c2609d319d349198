"""Events have two faces, core/v1 and events.k8s.io/v1, for the same stored objects (in core form)."""

_RENAMED = {
    "regarding": "involvedObject",
    "note": "message",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
    "reportingController": "reportingComponent",
}


def from_new_event(event):
    stored = {_RENAMED.get(name, name): value for name, value in event.items()}
    stored["apiVersion"] = "v1"
    return stored


def to_new_event(stored):
    back = {old: new for new, old in _RENAMED.items()}
    event = {back.get(name, name): value for name, value in stored.items()}
    event["apiVersion"] = "events.k8s.io/v1"
    return event


def new_event_causes(stored, causes):
    """events.k8s.io is stricter than core/v1. Looks at the stored form, names the fields of the new one."""
    for field, stored_name in (
        ("eventTime", "eventTime"),
        ("reportingController", "reportingComponent"),
        ("reportingInstance", "reportingInstance"),
        ("action", "action"),
        ("reason", "reason"),
    ):
        if not stored.get(stored_name):
            causes.append((field, "FieldValueRequired", "Required value"))
    for field, stored_name, longest in (
        ("note", "message", 1024),
        ("reason", "reason", 128),
        ("action", "action", 128),
    ):
        if len(stored.get(stored_name) or "") > longest:
            causes.append((field, "FieldValueInvalid", f"can have at most {longest} characters"))
    if stored.get("type") not in ("Normal", "Warning"):
        causes.append(("type", "FieldValueInvalid", f'Invalid value: "{stored.get("type") or ""}"'))
    involved = stored.get("involvedObject") or {}
    if (involved.get("namespace") or "default") != stored["metadata"].get("namespace"):
        message = f'Invalid value: "{involved.get("namespace", "")}": does not match event.namespace'
        causes.append(("regarding.namespace", "FieldValueInvalid", message))
