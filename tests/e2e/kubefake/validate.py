"""Structural schemas as a CRD carries them: validation, pruning of unknown fields, defaults.

Causes are (field, reason, message), as in the details of a 422 answer. CEL rules cannot be run here: schemas.py states
those that matter as functions.
"""

import copy
import datetime
import re

_TYPES = {
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
    "boolean": lambda v: isinstance(v, bool),
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
}


def fill_defaults(value, schema):
    """Fills in the defaults of what `value` has, in place."""
    if isinstance(value, dict):
        for name, sub in (schema.get("properties") or {}).items():
            if name not in value and "default" in sub:
                value[name] = copy.deepcopy(sub["default"])
            if name in value:
                fill_defaults(value[name], sub)
        if isinstance(schema.get("additionalProperties"), dict):
            for sub in value.values():
                fill_defaults(sub, schema["additionalProperties"])
    elif isinstance(value, list) and "items" in schema:
        for item in value:
            fill_defaults(item, schema["items"])


def prune(value, schema, top=False):
    """Drops, in place, what the schema does not name."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    if isinstance(value, dict):
        known = schema.get("properties") or {}
        if "additionalProperties" in schema:
            if isinstance(schema["additionalProperties"], dict):
                for sub in value.values():
                    prune(sub, schema["additionalProperties"])
            return
        for name in list(value):
            if top and name in ("apiVersion", "kind", "metadata"):
                continue
            if name in known:
                prune(value[name], known[name])
            else:
                del value[name]
    elif isinstance(value, list) and "items" in schema:
        for item in value:
            prune(item, schema["items"])


def undeclared(value, schema, path=""):
    """Where in `value` a field stands that the schema does not name, as server-side apply tells it; None: nowhere."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return None
    found = None
    if isinstance(value, dict):
        more = schema.get("additionalProperties")
        for name, sub in value.items():
            known = (schema.get("properties") or {}).get(name) or (more if isinstance(more, dict) else None)
            if known is None and not more:
                return f"{path}.{name}"
            found = found or undeclared(sub, known or {}, f"{path}.{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            found = found or undeclared(item, schema.get("items") or {}, f"{path}[{number}]")
    return found


def _string(value, schema, path, causes):
    if len(value) > schema.get("maxLength", len(value)):
        causes.append((path, "FieldValueTooLong", f"Too long: may not be more than {schema['maxLength']} bytes"))
    if len(value) < schema.get("minLength", 0):
        message = f'Invalid value: "{value}": {path} in body should be at least {schema["minLength"]} chars long'
        causes.append((path, "FieldValueInvalid", message))
    if "pattern" in schema and not re.search(schema["pattern"], value):
        message = f"Invalid value: \"{value}\": {path} in body should match '{schema['pattern']}'"
        causes.append((path, "FieldValueInvalid", message))
    if schema.get("format") == "date-time" and not is_time(value):
        message = f'Invalid value: "{value}": {path} in body must be of type date-time: "{value}"'
        causes.append((path, "FieldValueInvalid", message))


def is_time(value):
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value):
        return False
    try:
        datetime.datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _number(value, schema, path, causes):
    if value < schema.get("minimum", value):
        message = f"Invalid value: {value}: {path} in body should be greater than or equal to {schema['minimum']}"
        causes.append((path, "FieldValueInvalid", message))
    if value > schema.get("maximum", value):
        message = f"Invalid value: {value}: {path} in body should be less than or equal to {schema['maximum']}"
        causes.append((path, "FieldValueInvalid", message))


def _array(value, schema, path, causes):
    if len(value) > schema.get("maxItems", len(value)):
        message = f"Too many: {len(value)}: must have at most {schema['maxItems']} items"
        causes.append((path, "FieldValueTooMany", message))
    if len(value) < schema.get("minItems", 0):
        message = f"Invalid value: {len(value)}: {path} in body should have at least {schema['minItems']} items"
        causes.append((path, "FieldValueInvalid", message))
    keys = schema.get("x-kubernetes-list-map-keys")
    seen = set()
    for number, item in enumerate(value):
        validate(item, schema.get("items") or {}, f"{path}[{number}]", causes)
        if keys and isinstance(item, dict):
            key = tuple(repr(item.get(name)) for name in keys)
            if key in seen:
                causes.append((f"{path}[{number}]", "FieldValueDuplicate", f"Duplicate value: {item.get(keys[0])!r}"))
            seen.add(key)


def _object(value, schema, path, causes):
    prefix = path + "." if path else ""
    for name in schema.get("required") or ():
        if name not in value:
            causes.append((prefix + name, "FieldValueRequired", "Required value"))
    if len(value) > schema.get("maxProperties", len(value)):
        causes.append(
            (path, "FieldValueTooMany", f"Too many: {len(value)}: must have at most {schema['maxProperties']} items")
        )
    if len(value) < schema.get("minProperties", 0):
        message = (
            f"Invalid value: {len(value)}: {path} in body should have at least {schema['minProperties']} properties"
        )
        causes.append((path, "FieldValueInvalid", message))
    known = schema.get("properties") or {}
    for name, sub in value.items():
        if name in known:
            validate(sub, known[name], prefix + name, causes)
        elif isinstance(schema.get("additionalProperties"), dict):
            validate(sub, schema["additionalProperties"], prefix + name, causes)


def validate(value, schema, path, causes):
    """Adds what is wrong with `value` to `causes`."""
    if value is None:
        if not schema.get("nullable") and schema.get("type"):
            message = f'Invalid value: "null": {path} in body must be of type {schema["type"]}: "null"'
            causes.append((path, "FieldValueTypeInvalid", message))
        return
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, (int, str)) or isinstance(value, bool):
            causes.append((path, "FieldValueTypeInvalid", f"Invalid value: {value!r}: must be an integer or a string"))
        return
    kind = schema.get("type")
    if kind and not _TYPES[kind](value):
        message = f"Invalid value: {value!r}: {path} in body must be of type {kind}"
        causes.append((path, "FieldValueTypeInvalid", message))
        return
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(f'"{one}"' for one in schema["enum"])
        causes.append((path, "FieldValueNotSupported", f'Unsupported value: "{value}": supported values: {supported}'))
    if isinstance(value, str):
        _string(value, schema, path, causes)
    elif isinstance(value, list):
        _array(value, schema, path, causes)
    elif isinstance(value, dict):
        _object(value, schema, path, causes)
    elif kind in ("integer", "number"):
        _number(value, schema, path, causes)
