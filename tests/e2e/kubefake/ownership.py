"""Who owns which field: metadata.managedFields, and server-side apply on top of it.

A set of fields is a set of paths; a path is a tuple of steps as FieldsV1 writes them: "f:NAME" for a member, "k:{...}"
for an element of a keyed list, "." for the element itself.
"""

import copy
import datetime
import json

from .errors import ApiError

_KEYED_IN_BUILT_IN = {"conditions": ["type"], "containers": ["name"], "ownerReferences": ["uid"]}
_METADATA = ("labels", "annotations", "finalizers", "ownerReferences")


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sub(schema, name):
    if not schema:
        return None
    return (schema.get("properties") or {}).get(name) or schema.get("additionalProperties") or None


def _list_keys(schema, name):
    if schema is not None:
        return schema.get("x-kubernetes-list-map-keys")
    return _KEYED_IN_BUILT_IN.get(name)


def _element(item, keys):
    return "k:" + json.dumps({key: item.get(key) for key in keys}, separators=(",", ":"), sort_keys=True)


def paths_of(value, schema, path=(), name=""):
    """The paths of every leaf. `schema` None means a built-in kind, whose lists are known by name."""
    if isinstance(value, dict) and value:
        for key, sub in value.items():
            inner = _sub(schema, key) if schema is not None else None
            yield from paths_of(sub, inner if schema is not None else None, path + ("f:" + key,), key)
        return
    keys = _list_keys(schema, name) if isinstance(value, list) else None
    if keys and all(isinstance(item, dict) for item in value):
        for item in value:
            step = path + (_element(item, keys),)
            yield step + (".",)
            yield from paths_of(item, (schema or {}).get("items") if schema is not None else None, step)
        return
    yield path


def owned_part(obj, subresource):
    """What of an object can be owned through the main resource, or through its status."""
    if subresource == "status":
        return {"status": obj["status"]} if "status" in obj else {}
    part = {name: value for name, value in obj.items() if name not in ("apiVersion", "kind", "metadata")}
    metadata = {name: obj["metadata"][name] for name in _METADATA if obj["metadata"].get(name)}
    if metadata:
        part["metadata"] = metadata
    return part


def _look(value, path):
    for step in path:
        if step == ".":
            return True
        if step.startswith("f:"):
            value = value.get(step[2:]) if isinstance(value, dict) else None
        else:
            value = _find(value, step)
        if value is None:
            return None
    return value


def _find(items, step):
    wanted = json.loads(step[2:])
    for item in items if isinstance(items, list) else ():
        if all(item.get(key) == one for key, one in wanted.items()):
            return item
    return None


def _remove(value, path):
    """Removes what is at the path, and what that leaves empty."""
    step, rest = path[0], path[1:]
    if step.startswith("f:"):
        name = step[2:]
        if not isinstance(value, dict) or name not in value:
            return
        if rest:
            _remove(value[name], rest)
        if not rest or value[name] in ({}, []):
            del value[name]
        return
    item = _find(value, step)
    if item is None:
        return
    if rest == (".",):
        value.remove(item)
    else:
        _remove(item, rest)


def _merge(live, applied, schema, name=""):
    if isinstance(applied, dict) and isinstance(live, dict):
        result = dict(live)
        for key, value in applied.items():
            inner = _sub(schema, key) if schema is not None else None
            result[key] = _merge(live[key], value, inner, key) if key in live else copy.deepcopy(value)
        return result
    keys = _list_keys(schema, name) if isinstance(applied, list) and isinstance(live, list) else None
    if keys and all(isinstance(item, dict) for item in applied):
        result = [copy.deepcopy(item) for item in live]
        for item in applied:
            step = _element(item, keys)
            at = next((i for i, have in enumerate(result) if _element(have, keys) == step), None)
            if at is None:
                result.append(copy.deepcopy(item))
            else:
                result[at] = _merge(result[at], item, (schema or {}).get("items") if schema is not None else None)
        return result
    return copy.deepcopy(applied)


# ---- managedFields ----


def _tree(paths):
    root = {}
    for path in sorted(paths):
        at = root
        for step in path:
            at = at.setdefault(step, {})
    return root


def _paths(tree, path=()):
    if not tree:
        if path:
            yield path
        return
    for step, sub in tree.items():
        yield from _paths(sub, path + (step,))


def _entries(obj):
    """Mutable records of the object's managedFields."""
    found = []
    for entry in obj["metadata"].get("managedFields") or []:
        found.append({**entry, "paths": set(_paths(entry.get("fieldsV1") or {}))})
    return found


def _write(obj, entries):
    kept = []
    for entry in entries:
        if entry["paths"]:
            kept.append({**{k: v for k, v in entry.items() if k != "paths"}, "fieldsV1": _tree(entry["paths"])})
    if kept:
        obj["metadata"]["managedFields"] = kept
    else:
        obj["metadata"].pop("managedFields", None)


def without_times(managed):
    """managedFields to compare: when a field was last claimed is no difference."""
    return [{name: value for name, value in entry.items() if name != "time"} for entry in managed or []]


def _entry(entries, manager, operation, subresource, api_version):
    for entry in entries:
        if (entry["manager"], entry["operation"], entry.get("subresource", "")) == (manager, operation, subresource):
            return entry
    entry = {
        "manager": manager,
        "operation": operation,
        "apiVersion": api_version,
        "fieldsType": "FieldsV1",
        "paths": set(),
    }
    if subresource:
        entry["subresource"] = subresource
    entries.append(entry)
    return entry


def record_update(old, new, kind, manager, subresource):
    """After an ordinary write: what changed belongs to the writer."""
    before = owned_part(old, subresource) if old else {}
    after = owned_part(new, subresource)
    old_paths, new_paths = set(paths_of(before, kind.schema)), set(paths_of(after, kind.schema))
    changed = {path for path in new_paths if path not in old_paths or _look(before, path) != _look(after, path)}
    gone = old_paths - new_paths
    if not changed and not gone:
        return
    entries = _entries(old) if old else []
    for entry in entries:
        entry["paths"] -= changed | gone
    if changed:
        mine = _entry(entries, manager, "Update", subresource, kind.api_version)
        mine["paths"] |= changed
        mine["time"] = now()
    _write(new, entries)


def apply(live, applied, kind, manager, subresource, force):
    """The object that server-side apply makes of `live` (None: there is none yet)."""
    base = live if live is not None else {"metadata": {}}
    config = owned_part(applied, subresource)
    wanted = set(paths_of(config, kind.schema)) - {()}
    entries = _entries(base)
    mine = _entry(entries, manager, "Apply", subresource, kind.api_version)
    conflicts = []
    for entry in entries:
        if entry is mine:
            continue
        for path in sorted(entry["paths"] & wanted):
            if path[-1] != "." and _look(base, path) != _look(config, path):
                conflicts.append((entry, path))
    if conflicts and not force:
        raise _conflict(conflicts)
    for entry, path in conflicts:
        entry["paths"].discard(path)
    merged = copy.deepcopy(_merge(base, config, kind.schema))
    others = set().union(*[entry["paths"] for entry in entries if entry is not mine])
    # Fields before the elements that held them, deep ones first.
    for path in sorted(mine["paths"] - wanted - others, key=lambda path: (-len(path), path)):
        if path[-1] == "." and any(other[: len(path) - 1] == path[:-1] for other in others):
            continue
        if path[-1] != "." and any(step.startswith("k:") for step in path) and _is_list_key(path):
            continue  # the keys go with their element
        _remove(merged, path)
    if mine["paths"] != wanted or "time" not in mine:
        mine["time"] = now()
    mine["paths"] = wanted
    _write(merged, entries)
    return merged


def _is_list_key(path):
    return path[-2].startswith("k:") and path[-1][2:] in json.loads(path[-2][2:])


def _conflict(conflicts):
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{entry["manager"]}" using {entry["apiVersion"]}',
            "field": "".join("." + step[2:] if step.startswith("f:") else f"[{step[2:]}]" for step in path),
        }
        for entry, path in conflicts
    ]
    text = "; ".join(f'{cause["message"]}: {cause["field"]}' for cause in causes)
    word = "conflict" if len(causes) == 1 else "conflicts"
    return ApiError(409, f"Apply failed with {len(causes)} {word}: {text}", details={"causes": causes})
