"""Which operators a cluster has: what its API server says that it serves."""

from cluster.errors import SubmissionError
from cluster.kube.client.connection import Connection, Request
from cluster.kube.client.kinds import Kind, entries
from cluster.kube.client.outage import RefusedError

_OPERATORS = {
    "ray.io": ("KubeRay", "1.1"),
    "kueue.x-k8s.io": ("Kueue", "0.15"),
}
"""Who serves a group, and from which version on as we need it."""


def serves(connection: Connection, kind: Kind) -> bool:
    """Whether the API server has this kind in this version."""
    try:
        answer = connection.ask(Request("GET", kind.path))
    except RefusedError as error:
        if error.status.code == 404:
            return False
        raise
    return any(each.get("name") == kind.plural for each in entries(answer, "resources"))


def refuse_unserved(connection: Connection, kind: Kind) -> None:
    """Raise SubmissionError if the kind is not served in its version, and say which operator is missing or old."""
    if serves(connection, kind):
        return
    group, _, version = kind.api_version.rpartition("/")
    if not group:
        raise SubmissionError(
            f"{connection.server} serves no {kind.plural} of {version}; is it an API server's address?"
        )
    operator, needed = _OPERATORS.get(group, (group, ""))
    newer = f"{operator} {needed} or newer" if needed else operator
    try:
        answer = connection.ask(Request("GET", f"/apis/{group}"))
    except RefusedError as error:
        if error.status.code != 404:
            raise
        instead = (
            "; or name a Ray that needs no Kubernetes: --cluster.address http://HOST:8265" if group == "ray.io" else ""
        )
        raise SubmissionError(
            f"{connection.server} serves no {group}: {operator} is not installed there; have {newer} installed{instead}"
        ) from None
    versions = ", ".join(str(each.get("version")) for each in entries(answer, "versions"))
    if version in versions.split(", "):
        raise SubmissionError(f"{connection.server}: {kind.api_version} has no {kind.plural}; {newer} is needed")
    raise SubmissionError(f"{connection.server}: {group} serves {versions or 'nothing'}; {version} is needed: {newer}")
