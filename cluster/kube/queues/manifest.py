"""A team's share of the GPUs as Kubernetes objects: those that ship in k8s/base and k8s/queues/team, filled in.

Nothing is templated: every field that is set here is there already, with its reason beside it in the manifest.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import yaml

from cluster.errors import SubmissionError
from cluster.kube.client.kinds import (
    CLUSTER_QUEUE,
    CLUSTER_ROLE_BINDING,
    DISRUPTION_BUDGET,
    LIMIT_RANGE,
    LOCAL_QUEUE,
    NAMESPACE,
    NETWORK_POLICY,
    RESOURCE_QUOTA,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    Kind,
    Object,
)
from cluster.kube.manifests import manifest_folder
from cluster.kube.queues.quantities import CPU, GPU, MEMORY
from cluster.kube.queues.team import Amounts, Quota, Team

TEAM_LABEL = "resnet-dist/team"
SECRET, CLAIM = "resnet-dist/storage-secret", "resnet-dist/storage-claim"
"""Annotations of a team's LocalQueue: how its jobs reach storage. The first is the namespace's, too: of its Secrets the
policy on pods (k8s/queues/admin/pod-policy.yaml) lets jobs use that one and the one that jobs name by default."""
POD_POLICY = "resnet-dist-pods"
"""The policy on pods of namespaces with the team's label, and its binding."""
NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""The label by which Kubernetes itself names a namespace."""

_KINDS = {
    (kind.api_version, kind.name): kind
    for kind in (
        *(NAMESPACE, CLUSTER_QUEUE, CLUSTER_ROLE_BINDING, SERVICE_ACCOUNT, ROLE, NETWORK_POLICY, DISRUPTION_BUDGET),
        *(LOCAL_QUEUE, RESOURCE_QUOTA, LIMIT_RANGE, ROLE_BINDING),
    )
}


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


def render_team(team: Team) -> TeamObjects:
    """A team's objects. Raises SubmissionError when those that ship are missing."""
    queues = manifest_folder() / "queues" / "team"
    cluster_scoped = tuple(_filled(each, team) for each in _shipped(queues / "cluster"))
    in_namespace = [*_shipped(manifest_folder() / "base"), *_shipped(queues / "namespaced")]
    return TeamObjects(cluster_scoped, tuple(_filled(each, team) for each in in_namespace))


def kind_of(body: Object) -> Kind:
    """The kind of one of a team's objects."""
    return _KINDS[str(body["apiVersion"]), str(body["kind"])]


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
        _annotate(metadata, {SECRET: team.storage.secret})
    elif kind is CLUSTER_QUEUE:
        metadata["name"] = name
        _fill_queue(shipped["spec"], team)
    elif kind is LOCAL_QUEUE:
        metadata["name"] = name
        shipped["spec"]["clusterQueue"] = name
        _annotate(metadata, {SECRET: team.storage.secret, CLAIM: team.storage.claim})
    elif kind is CLUSTER_ROLE_BINDING:
        metadata["name"] = f"resnet-dist-queue-viewers-{name}"
        shipped["subjects"] = list(_subjects(team))
    elif kind is ROLE_BINDING:
        shipped["subjects"] = list(_subjects(team))
    return shipped


def _annotate(metadata: Object, notes: dict[str, str | None]) -> None:
    if named := {key: value for key, value in notes.items() if value is not None}:
        metadata["annotations"] = named


def _fill_queue(spec: Object, team: Team) -> None:
    if team.team.cohort is None:
        del spec["cohortName"]
    else:
        spec["cohortName"] = team.team.cohort
    spec["namespaceSelector"]["matchLabels"] = {NAMESPACE_NAME: team.namespace}
    (group,) = spec["resourceGroups"]
    # Kueue wants a quota of every covered resource in every flavor; where the file names none, it is 0.
    group["coveredResources"] = [*group["coveredResources"], *team.devices]
    group["flavors"] = [_flavor(quota, group["coveredResources"]) for quota in team.quota]
    spec["preemption"] = {
        "reclaimWithinCohort": team.preemption.reclaim_within_cohort,
        "withinClusterQueue": team.preemption.within_cluster_queue,
        "borrowWithinCohort": {"policy": team.preemption.borrow_within_cohort},
    }
    spec["fairSharing"]["weight"] = f"{Decimal(str(team.team.weight)).normalize():f}"


def _flavor(quota: Quota, resources: list[str]) -> Object:
    own = Amounts(gpus=quota.gpus, cpus=quota.cpus, memory_gib=quota.memory_gib)
    devices = {each.resource: each for each in quota.devices}
    limits = (
        ("nominalQuota", own, {name: each.count for name, each in devices.items()}),
        ("borrowingLimit", quota.borrow, {name: each.borrow for name, each in devices.items()}),
        ("lendingLimit", quota.lend, {name: each.lend for name, each in devices.items()}),
    )
    quantities = [(key, _amounts(amounts, counts)) for key, amounts, counts in limits]
    return {
        "name": quota.flavor,
        "resources": [
            {"name": name, "nominalQuota": "0"}
            | {key: amount for key, named in quantities if (amount := named.get(name)) is not None}
            for name in resources
        ],
    }


def _amounts(amounts: Amounts, devices: Mapping[str, int | None]) -> dict[str, str | None]:
    """Limits as quantities, by resource. `devices`: those of parts of GPUs."""
    memory = None if amounts.memory_gib is None else f"{amounts.memory_gib}Gi"
    counts = {CPU: amounts.cpus, GPU: amounts.gpus, **devices}
    return {MEMORY: memory, **{name: None if count is None else str(count) for name, count in counts.items()}}


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
