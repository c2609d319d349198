"""labelSelector and fieldSelector: parsed to predicates on objects."""

import re

from .errors import ApiError

_SET = re.compile(r"^\s*(\S+)\s+(in|notin)\s*\(([^()]*)\)\s*$")


def _split(text):
    """Splits at commas that are outside of parentheses."""
    parts, depth, start = [], 0, 0
    for at, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if sign == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def _requirement(text):
    found = _SET.match(text)
    if found:
        key, values = found.group(1), {value.strip() for value in found.group(3).split(",")}
        if found.group(2) == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    for operator in ("!=", "==", "="):
        if operator in text:
            key, value = (part.strip() for part in text.split(operator, 1))
            if operator == "!=":
                return lambda labels: labels.get(key) != value
            return lambda labels: labels.get(key) == value
    if not re.fullmatch(r"!?\s*[A-Za-z0-9][-A-Za-z0-9_./]*", text):
        raise ApiError(400, f'unable to parse requirement: found "{text}"')
    if text.startswith("!"):
        key = text[1:].strip()
        return lambda labels: key not in labels
    return lambda labels: text in labels


def _labels(text):
    requirements = [_requirement(part) for part in _split(text)]
    return lambda obj: all(one(obj["metadata"].get("labels") or {}) for one in requirements)


def _field(kind, name):
    if name in ("metadata.name", "metadata.namespace"):
        return True
    return name in {"pods": ("status.phase", "status.podIP", "spec.nodeName"), "events": ("reason", "type")}.get(
        kind.plural, ()
    )


def _fields(kind, text):
    tests = []
    for part in _split(text):
        found = re.fullmatch(r"([\w.]+)\s*(!=|==|=)\s*(.*)", part)
        if not found:
            raise ApiError(400, f'invalid selector: "{text}"; can\'t understand "{part}"')
        name, operator, value = found.groups()
        if not _field(kind, name):
            raise ApiError(400, f"field label not supported: {name}")
        tests.append((name.split("."), operator != "!=", value))

    def look(obj, path):
        for step in path:
            obj = (obj or {}).get(step)
        return obj or ""

    return lambda obj: all((look(obj, path) == value) == equal for path, equal, value in tests)


def selector(kind, query):
    """A predicate of the query's two selectors, or None when it has neither."""
    tests = []
    if query.get("labelSelector"):
        tests.append(_labels(query["labelSelector"]))
    if query.get("fieldSelector"):
        tests.append(_fields(kind, query["fieldSelector"]))
    if not tests:
        return None
    return lambda obj: all(test(obj) for test in tests)
