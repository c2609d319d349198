"""The Status object that every failure is answered with."""

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class ApiError(Exception):
    """Ends a request with a Status. `details` and `list_meta` go into it; `headers` go with the answer."""

    def __init__(self, code, message, reason=None, details=None, list_meta=None, headers=()):
        super().__init__(message)
        self.code, self.message = code, message
        self.reason = reason or REASONS.get(code, "")
        self.details, self.list_meta, self.headers = details, list_meta, list(headers)

    def status(self):
        body = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.list_meta or {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            body["details"] = self.details
        return body


def not_found(kind, name):
    return ApiError(
        404,
        f'{kind.qualified} "{name}" not found',
        details={"name": name, "group": kind.group, "kind": kind.plural},
    )


def already_exists(kind, name):
    return ApiError(
        409,
        f'{kind.qualified} "{name}" already exists',
        reason="AlreadyExists",
        details={"name": name, "group": kind.group, "kind": kind.plural},
    )


def conflict(
    kind, name, why="the object has been modified; please apply your changes to the latest version and try again"
):
    return ApiError(
        409,
        f'Operation cannot be fulfilled on {kind.qualified} "{name}": {why}',
        details={"name": name, "group": kind.group, "kind": kind.plural},
    )


def invalid(kind, name, causes):
    """422. `causes` are (field, reason, message) as validate.py makes them."""
    text = "; ".join(f"{field}: {message}" for field, _, message in causes)
    return ApiError(
        422,
        f'{kind.kind}{"." + kind.group if kind.group else ""} "{name}" is invalid: {text}',
        details={
            "name": name,
            "group": kind.group,
            "kind": kind.kind,
            "causes": [{"reason": reason, "message": message, "field": field} for field, reason, message in causes],
        },
    )


def expired(message, continue_token=None):
    meta = {"continue": continue_token} if continue_token else None
    return ApiError(410, message, list_meta=meta)


def too_old(asked, oldest):
    return expired(f"too old resource version: {asked} ({oldest})")


def too_large(asked, current):
    return ApiError(
        504,
        f"Too large resource version: {asked}, current: {current}",
        details={
            "retryAfterSeconds": 1,
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        },
    )


def no_progress():
    """What a server whose etcd does not report progress says to every watch with initial events."""
    return ApiError(
        500,
        "a watch stream was requested by the client but the required storage feature RequestWatchProgress is disabled",
    )
