"""What an API server says about itself."""

from collections.abc import Iterable

from cluster.kube.client.kinds import Kind, Object
from tests.kube_server.refusals import group_of

_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


def discovered(path: str, kinds: Iterable[Kind]) -> Object | None:
    """The document at a path; None: there is none."""
    kinds = tuple(kinds)
    groups = sorted({group_of(kind) for kind in kinds} - {""})
    match path.strip("/").split("/"):
        case ["version"]:
            return {"major": "1", "minor": "37", "gitVersion": "v1.37.0", "platform": "linux/amd64"}
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["api", "v1"]:
            return _resources("v1", kinds)
        case ["apis"]:
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(group, kinds) for group in groups]}
        case ["apis", group] if group in groups:
            return _group(group, kinds) | {"kind": "APIGroup", "apiVersion": "v1"}
        case ["apis", group, version] if any(kind.api_version == f"{group}/{version}" for kind in kinds):
            return _resources(f"{group}/{version}", kinds)
        case _:
            return None


def _group(group: str, kinds: tuple[Kind, ...]) -> Object:
    found = sorted({kind.api_version for kind in kinds if group_of(kind) == group})
    versions = [{"groupVersion": each, "version": each.rpartition("/")[2]} for each in found]
    return {"name": group, "versions": versions, "preferredVersion": versions[-1]}


def _resources(version: str, kinds: tuple[Kind, ...]) -> Object:
    resources = [
        {
            "name": kind.plural, "singularName": kind.name.lower(), "namespaced": kind.namespaced, "kind": kind.name,
            "verbs": _VERBS,
        }
        for kind in kinds if kind.api_version == version
    ]  # fmt: skip
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
