"""JSON patch, JSON merge patch, and strategic merge patch as far as kubectl apply needs it."""

import copy

from .errors import ApiError

# The keys by which lists of built-in kinds are merged.
_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "conditions": "type",
    "ports": "port",
    "ownerReferences": "uid",
}


def _step(value, name):
    return value[int(name)] if isinstance(value, list) else value[name]


def json_patch(target, operations):
    """RFC 6902 without move and copy. Returns a new value."""
    result = copy.deepcopy(target)
    for one in operations:
        names = [name.replace("~1", "/").replace("~0", "~") for name in one["path"].split("/")[1:]]
        try:
            parent = result
            for name in names[:-1]:
                parent = _step(parent, name)
            last = names[-1]
            if one["op"] == "test":
                if _step(parent, last) != one["value"]:
                    raise ApiError(422, f"the server rejected our request: testing path {one['path']} failed")
            elif one["op"] == "add" and isinstance(parent, list):
                parent.insert(len(parent) if last == "-" else int(last), one["value"])
            elif one["op"] in ("add", "replace"):
                if one["op"] == "replace":
                    _step(parent, last)
                parent[int(last) if isinstance(parent, list) else last] = one["value"]
            elif one["op"] == "remove":
                del parent[int(last) if isinstance(parent, list) else last]
            else:
                raise ApiError(400, f"operation {one['op']} is not supported")
        except (KeyError, IndexError):
            raise ApiError(422, f"the server rejected our request: path {one['path']} does not exist") from None
    return result


def merge_patch(target, patch):
    """RFC 7386. Returns a new value."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def _merge_list(target, patch, key):
    result = [copy.deepcopy(item) for item in target]
    for item in patch:
        at = next((i for i, have in enumerate(result) if have.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            if at is not None:
                del result[at]
        elif at is None:
            result.append(strategic_merge({}, item))
        else:
            result[at] = strategic_merge(result[at], item)
    return result


def strategic_merge(target, patch):
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {name: copy.deepcopy(value) for name, value in patch.items() if name != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if name.startswith("$"):  # orders of elements and retained keys: nothing that a test could see
            continue
        if value is None:
            result.pop(name, None)
            continue
        key = _merge_key(name, value)
        if key and isinstance(result.get(name), list):
            result[name] = _merge_list(result[name], value, key)
        else:
            result[name] = strategic_merge(result.get(name), value)
    return result


def _merge_key(name, value):
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value) or not value:
        return None
    key = _MERGE_KEYS.get(name)
    if name == "ports" and any("containerPort" in item for item in value):
        key = "containerPort"
    return key if key and all(key in item for item in value) else None
