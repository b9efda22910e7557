"""A team's share of the GPUs in a cluster: its objects are applied, and what its jobs need is read from them."""

from dataclasses import dataclass
from typing import Any, Literal, cast

from pydantic import ValidationError

from cluster.errors import NoSuchObjectError, ObjectChangedError, SubmissionError
from cluster.kube.client.api import MANAGER, KubeApi
from cluster.kube.client.kinds import (
    ADMISSION_POLICY_BINDING,
    CLUSTER_QUEUE,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    LOCAL_QUEUE,
    NAMESPACE,
    RESOURCE_FLAVOR,
    Kind,
    Object,
    name_of,
    part,
)
from cluster.kube.queues.manifest import CLAIM, POD_POLICY, SECRET, TEAM_LABEL, TeamObjects, kind_of, render_team
from cluster.kube.queues.team import Storage, Team

Change = Literal["created", "changed", "unchanged", "not judged"]

_VOLATILE = {"resourceVersion", "managedFields", "generation", "uid", "creationTimestamp"}


@dataclass(frozen=True)
class Applied:
    """What became of an object."""

    kind: str
    name: str
    change: Change
    """In a dry run: what would become of it; not judged where its namespace is not there yet."""


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
    _require_policy(api)
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


def _require_permissions(api: KubeApi, team: Team, objects: TeamObjects) -> None:
    missing: list[str] = []
    # A server-side apply is a patch, and a create where there is nothing yet.
    needed: dict[Kind, tuple[str, ...]] = dict.fromkeys((CLUSTER_ROLE, ADMISSION_POLICY_BINDING), ("get",))
    needed[RESOURCE_FLAVOR] = ("list",)
    needed |= dict.fromkeys((kind_of(each) for each in objects.all), ("get", "create", "patch"))
    if _is_there(api, team.namespace):
        needed[NAMESPACE] = ("get", "patch")  # others than its own are nobody's business here
    for kind, wanted in needed.items():
        namespace = team.namespace if kind.namespaced else None
        verbs = [verb for verb in wanted if not api.may(verb, kind, team.namespace)]
        if verbs:
            group = kind.api_version.rpartition("/")[0]
            where = f" in namespace {namespace}" if namespace else ""
            missing.append(f"{' and '.join(verbs)} {kind.plural}{f'.{group}' if group else ''}{where}")
    if missing:
        name = team.team.name
        raise SubmissionError(
            f"no permission to {'; '.join(missing)}.\n"
            "Ask an admin, who has the role resnet-dist-queue-admin and, in the namespace, resnet-dist-team-admin "
            f"(k8s/queues/admin): `resnet-dist queue create {name} --config FILE --output {name}.yaml` writes the "
            f"objects, and `kubectl apply --server-side --field-manager={MANAGER} -f {name}.yaml` applies them"
        )


def _is_there(api: KubeApi, namespace: str) -> bool:
    if not api.may("get", NAMESPACE, namespace):
        return False
    try:
        api.get(NAMESPACE, namespace)
    except NoSuchObjectError:
        return False
    return True


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


def _require_policy(api: KubeApi) -> None:
    """Without it, members could mount every Secret of the namespace and run as any of its accounts."""
    try:
        api.get(ADMISSION_POLICY_BINDING, POD_POLICY)
    except NoSuchObjectError as error:
        raise SubmissionError(
            f"the cluster has no ValidatingAdmissionPolicyBinding {POD_POLICY}, without which members' jobs could read "
            "every Secret of the namespace; let an admin apply it: kubectl apply --server-side -k k8s/queues/admin"
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
