"""The objects of a team's share of the GPUs: filled into those that ship, and applied."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import ValidationError

from cluster.errors import NoSuchObjectError, ObjectChangedError, SubmissionError
from cluster.kube.client.api import MANAGER, KubeApi
from cluster.kube.client.fields import name_of, part
from cluster.kube.client.kinds import (
    CLUSTER_QUEUE,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    DISRUPTION_BUDGET,
    LIMIT_RANGE,
    LOCAL_QUEUE,
    NAMESPACE,
    NETWORK_POLICY,
    RESOURCE_FLAVOR,
    RESOURCE_QUOTA,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    Kind,
    Object,
)
from cluster.kube.queues.manifests import manifest_folder
from cluster.kube.queues.quantities import CPU, GPU, MEMORY
from cluster.kube.queues.team import Amounts, Quota, Storage, Team

TEAM_LABEL = "resnet-dist/team"
SECRET, CLAIM = "resnet-dist/storage-secret", "resnet-dist/storage-claim"
"""Annotations of a team's LocalQueue: how its jobs reach storage."""
NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""The label by which Kubernetes itself names a namespace."""

Change = Literal["created", "changed", "unchanged", "not judged"]

_KINDS = {
    (kind.api_version, kind.name): kind
    for kind in (
        *(NAMESPACE, CLUSTER_QUEUE, CLUSTER_ROLE_BINDING, SERVICE_ACCOUNT, ROLE, NETWORK_POLICY, DISRUPTION_BUDGET),
        *(LOCAL_QUEUE, RESOURCE_QUOTA, LIMIT_RANGE, ROLE_BINDING),
    )
}
_VOLATILE = {"resourceVersion", "managedFields", "generation", "uid", "creationTimestamp"}


@dataclass(frozen=True)
class TeamObjects:
    """A team's objects, each in an order in which they can be made."""

    cluster_scoped: tuple[Object, ...]
    """An admin's to apply."""
    namespaced: tuple[Object, ...]
    """In the team's namespace."""

    @property
    def all(self) -> tuple[Object, ...]:
        """All of them, the namespace before what is in it."""
        return self.cluster_scoped + self.namespaced

    def as_yaml(self) -> str:
        """All of them as `kubectl apply --server-side -f` takes them."""
        return yaml.safe_dump_all(self.all, sort_keys=False, width=120)


@dataclass(frozen=True)
class Applied:
    """What became of an object."""

    kind: str
    name: str
    change: Change
    """In a dry run: what would become of it; not judged where its namespace is not there yet."""


def render_team(team: Team) -> TeamObjects:
    """A team's objects. Raises SubmissionError when those that ship are missing."""
    queues = manifest_folder() / "queues" / "team"
    cluster_scoped = tuple(_filled(each, team) for each in _shipped(queues / "cluster"))
    in_namespace = [*_shipped(manifest_folder() / "base"), *_shipped(queues / "namespaced")]
    return TeamObjects(cluster_scoped, tuple(_filled(each, team) for each in in_namespace))


def apply_team(api: KubeApi, team: Team, *, dry_run: bool = False) -> list[Applied]:
    """Make a team's objects, or bring them to what the team is now; nothing is ever deleted.

    Raises SubmissionError before anything is written where Kueue, flavors or permissions are missing (naming all of
    them), or where the namespace or the queue belongs to somebody else.
    """
    objects = render_team(team)
    api.require(CLUSTER_QUEUE)
    _require_permissions(api, team, objects)
    _require_flavors(api, team)
    _require_roles(api, objects)
    own_namespace = _require_own(api, NAMESPACE, team.namespace, team)
    _require_own(api, CLUSTER_QUEUE, team.team.name, team)
    applied = [_apply(api, each, dry_run=dry_run) for each in objects.cluster_scoped]
    for each in objects.namespaced:
        # In a dry run the server would miss the namespace, which is not made.
        judged = own_namespace or not dry_run
        applied.append(
            _apply(api, each, dry_run=dry_run) if judged else Applied(each["kind"], name_of(each), "not judged")
        )
    return applied


def storage_of(api: KubeApi, queue: str | None) -> Storage:
    """How the jobs of a LocalQueue of the namespace reach storage, as its team's file says; else nothing is named.

    Raises SubmissionError where the queue cannot be read.
    """
    if queue is None:
        return Storage()
    notes = part(api.get(LOCAL_QUEUE, queue), "metadata", "annotations")
    try:
        return Storage(secret=notes.get(SECRET), claim=notes.get(CLAIM))
    except ValidationError as error:
        raise SubmissionError(
            f"queue {queue} in namespace {api.namespace} names storage that cannot be ({error.errors()[0]['msg']}); an "
            "admin corrects [storage] in the team's file: resnet-dist queue create"
        ) from error


def _filled(shipped: Object, team: Team) -> Object:
    """An object that ships with what is the team's own."""
    name, metadata = team.team.name, shipped["metadata"]
    kind = kind_of(shipped)
    if kind.namespaced:
        metadata["namespace"] = team.namespace
    if TEAM_LABEL in metadata.get("labels", {}):
        metadata["labels"][TEAM_LABEL] = name
    if kind is NAMESPACE:
        metadata["name"] = team.namespace
    elif kind is CLUSTER_QUEUE:
        metadata["name"] = name
        _fill_queue(shipped["spec"], team)
    elif kind is LOCAL_QUEUE:
        metadata["name"] = name
        shipped["spec"]["clusterQueue"] = name
        storage = {SECRET: team.storage.secret, CLAIM: team.storage.claim}
        notes = {key: value for key, value in storage.items() if value is not None}
        if notes:
            metadata["annotations"] = notes
    elif kind is CLUSTER_ROLE_BINDING:
        metadata["name"] = f"resnet-dist-queue-viewers-{name}"
        shipped["subjects"] = list(_subjects(team))
    elif kind is ROLE_BINDING:
        shipped["subjects"] = list(_subjects(team))
    return shipped


def _fill_queue(spec: Object, team: Team) -> None:
    if team.team.cohort is None:
        del spec["cohortName"]
    else:
        spec["cohortName"] = team.team.cohort
    spec["namespaceSelector"]["matchLabels"] = {NAMESPACE_NAME: team.namespace}
    (group,) = spec["resourceGroups"]
    group["flavors"] = [_flavor(quota, group["coveredResources"]) for quota in team.quota]
    spec["preemption"] = {
        "reclaimWithinCohort": team.preemption.reclaim_within_cohort,
        "withinClusterQueue": team.preemption.within_cluster_queue,
        "borrowWithinCohort": {"policy": team.preemption.borrow_within_cohort},
    }
    spec["fairSharing"]["weight"] = f"{Decimal(str(team.team.weight)).normalize():f}"


def _flavor(quota: Quota, resources: list[str]) -> Object:
    own = Amounts(gpus=quota.gpus, cpus=quota.cpus, memory_gib=quota.memory_gib)
    limits = (("nominalQuota", own), ("borrowingLimit", quota.borrow), ("lendingLimit", quota.lend))
    return {
        "name": quota.flavor,
        "resources": [
            {"name": name} | {key: amount for key, amounts in limits if (amount := _amounts(amounts)[name]) is not None}
            for name in resources
        ],
    }


def _amounts(amounts: Amounts) -> dict[str, str | None]:
    """Limits as quantities, by resource."""
    memory = None if amounts.memory_gib is None else f"{amounts.memory_gib}Gi"
    return {
        CPU: None if amounts.cpus is None else str(amounts.cpus),
        MEMORY: memory,
        GPU: None if amounts.gpus is None else str(amounts.gpus),
    }


def _subjects(team: Team) -> Iterator[Object]:
    for kind, names in (("User", team.members.users), ("Group", team.members.groups)):
        for name in names:
            yield {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}


def _shipped(folder: Path) -> Iterator[Object]:
    """The objects of a folder in the order of its kustomization, with the labels that it states."""
    try:
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
        labels = {key: value for each in kustomization.get("labels", ()) for key, value in each["pairs"].items()}
        for name in kustomization["resources"]:
            for each in yaml.safe_load_all((folder / name).read_text(encoding="utf-8")):
                each["metadata"]["labels"] = each["metadata"].get("labels", {}) | labels
                yield each
    except OSError as error:
        raise SubmissionError(f"{folder} cannot be read ({error}); install resnet-dist again") from error


def kind_of(body: Object) -> Kind:
    """The kind of one of a team's objects."""
    return _KINDS[str(body["apiVersion"]), str(body["kind"])]


def _require_permissions(api: KubeApi, team: Team, objects: TeamObjects) -> None:
    missing: list[str] = []
    # A server-side apply is a patch, and a create where there is nothing yet.
    needed = {RESOURCE_FLAVOR: ("list",), CLUSTER_ROLE: ("get",)}
    needed |= dict.fromkeys((kind_of(each) for each in objects.all), ("get", "create", "patch"))
    for kind, wanted in needed.items():
        namespace = team.namespace if kind.namespaced else None
        verbs = [verb for verb in wanted if not api.may(verb, kind, namespace)]
        if verbs:
            group = kind.api_version.rpartition("/")[0]
            where = f" in namespace {namespace}" if namespace else ""
            missing.append(f"{' and '.join(verbs)} {kind.plural}{f'.{group}' if group else ''}{where}")
    if missing:
        name = team.team.name
        raise SubmissionError(
            f"no permission to {'; '.join(missing)}.\n"
            "Ask an admin, who has the role resnet-dist-queue-admin (k8s/queues/admin): `resnet-dist queue create "
            f"{name} --config FILE --output {name}.yaml` writes the objects, and `kubectl apply --server-side "
            f"--field-manager={MANAGER} -f {name}.yaml` applies them"
        )


def _require_flavors(api: KubeApi, team: Team) -> None:
    there = sorted(name_of(each) for each in api.list(RESOURCE_FLAVOR))
    missing = [each.flavor for each in team.quota if each.flavor not in there]
    if missing:
        raise SubmissionError(
            f"quota.flavor: the cluster has no ResourceFlavor {', '.join(missing)}; use one of "
            f"{', '.join(there) or '(there is none)'}, or let an admin apply it: kubectl apply --server-side -k "
            "k8s/queues/admin makes those of flavors.yaml there"
        )


def _require_roles(api: KubeApi, objects: TeamObjects) -> None:
    """Roles that are bound must be there: Kubernetes takes a binding to nothing, and members could do nothing."""
    for each in objects.all:
        if kind_of(each) is CLUSTER_ROLE_BINDING:
            name = str(each["roleRef"]["name"])
            try:
                api.get(CLUSTER_ROLE, name)
            except NoSuchObjectError as error:
                raise SubmissionError(
                    f"the cluster has no ClusterRole {name}; let an admin apply what all teams share: kubectl apply "
                    "--server-side -k k8s/queues/admin"
                ) from error


def _require_own(api: KubeApi, kind: Kind, name: str, team: Team) -> bool:
    """Whether an object is there; it must be the team's then."""
    try:
        found = api.get(kind, name)
    except NoSuchObjectError:
        return False
    owner = found["metadata"].get("labels", {}).get(TEAM_LABEL)
    if owner == team.team.name:
        return True
    what = "Pod Security and network rules" if kind is NAMESPACE else "quotas"
    whose = f"belongs to team {owner}" if owner else "was not made for a team"
    raise SubmissionError(
        f"{kind.name} {name} is there already and {whose}: other {what} would hold for what runs there; take another "
        f"name, or let the team have it: kubectl label {kind.name.lower()} {name} {TEAM_LABEL}={team.team.name} "
        "--overwrite"
    )


def _apply(api: KubeApi, body: Object, *, dry_run: bool) -> Applied:
    kind = kind_of(body)
    try:
        before = api.get(kind, name_of(body), body["metadata"].get("namespace"))
    except NoSuchObjectError:
        before = None
    try:
        after = api.apply(kind, body, dry_run=dry_run)
    except ObjectChangedError as error:
        raise SubmissionError(
            f"{error}. Somebody has changed it by other means: put that into the team's file, or take it back with "
            f"--output FILE and kubectl apply --server-side --field-manager={MANAGER} --force-conflicts -f FILE"
        ) from error
    if before is None:
        return Applied(kind.name, name_of(body), "created")
    return Applied(kind.name, name_of(body), "unchanged" if _lasting(before) == _lasting(after) else "changed")


def _lasting(body: Object) -> dict[str, Any]:
    """What of an object its writers decide."""
    metadata = cast("Object", body["metadata"])
    kept = {key: value for key, value in metadata.items() if key not in _VOLATILE}
    return {key: value for key, value in body.items() if key != "status"} | {"metadata": kept}
