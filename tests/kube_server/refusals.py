"""What an API server refuses, and the Status object that says so."""

from typing import Any

from cluster.kube.client.kinds import Kind, Object

Json = dict[str, Any]


def group_of(kind: Kind) -> str:
    """The API group of a kind; empty for the core one."""
    return kind.api_version.rpartition("/")[0]


def resource_of(kind: Kind) -> str:
    """How messages call it: "rayjobs.ray.io", "pods"."""
    return f"{kind.plural}.{group}" if (group := group_of(kind)) else kind.plural


class Refusal(Exception):  # noqa: N818 - it is an answer, and no failure of the server
    """A request that is answered with a Status."""

    def __init__(
        self, code: int, reason: str, message: str, details: Json | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        self.status: Object = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": reason, "code": code,
        }  # fmt: skip
        if details is not None:
            self.status["details"] = details


def not_found(kind: Kind, name: str) -> Refusal:
    """There is no such object."""
    details = {"name": name, "kind": kind.plural} | ({"group": group_of(kind)} if group_of(kind) else {})
    return Refusal(404, "NotFound", f'{resource_of(kind)} "{name}" not found', details)


def exists(kind: Kind, name: str) -> Refusal:
    """There is one of that name."""
    details = {"name": name, "group": group_of(kind), "kind": kind.plural}
    return Refusal(409, "AlreadyExists", f'{resource_of(kind)} "{name}" already exists', details)


def changed(kind: Kind, name: str, why: str) -> Refusal:
    """It is not what the writer has read."""
    details = {"name": name, "group": group_of(kind), "kind": kind.plural}
    message = f'Operation cannot be fulfilled on {resource_of(kind)} "{name}": {why}'
    return Refusal(409, "Conflict", message, details)


def invalid(kind: Kind, name: str, problems: list[str]) -> Refusal:
    """The body breaks rules; each problem is "field: message"."""
    causes = [
        {"reason": "FieldValueInvalid", "field": field, "message": message.strip()}
        for field, _, message in (problem.partition(":") for problem in problems)
    ]
    text = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
    message = f'{kind.name}.{group_of(kind)} "{name}" is invalid: {text}'.replace('. "', ' "')
    return Refusal(
        422, "Invalid", message, {"name": name, "group": group_of(kind), "kind": kind.name, "causes": causes}
    )


def bad_request(message: str) -> Refusal:
    """The request itself is wrong."""
    return Refusal(400, "BadRequest", message)


def expired(version: int, oldest: int) -> Refusal:
    """What happened since that version is not known any more."""
    return Refusal(410, "Expired", f"too old resource version: {version} ({oldest})")


def unauthorized() -> Refusal:
    """Nobody knows who asks."""
    return Refusal(401, "Unauthorized", "Unauthorized")


def forbidden(kind: Kind, name: str, verb: str, namespace: str, user: str) -> Refusal:
    """It is known who asks, and that they may not; words as RBAC has them."""
    where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
    named = f' "{name}"' if name else ""
    message = (
        f'{resource_of(kind)}{named} is forbidden: User "{user}" cannot {verb} resource "{kind.plural}" '
        f'in API group "{group_of(kind)}"{where}'
    )
    return Refusal(403, "Forbidden", message, {"name": name, "group": group_of(kind), "kind": kind.plural})
