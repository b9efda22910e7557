"""Queues of teams: what kustomize builds from them and what `queue create` renders, by the operators' definitions."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.kube.client import kinds as client_kinds
from cluster.kube.client.kinds import NAMESPACE, Kind
from cluster.kube.queues.manifest import TEAM_LABEL, kind_of, render_team
from cluster.kube.queues.quantities import CPU, GPU, MEMORY, parsed
from cluster.kube.queues.team import Amounts, Devices, Members, Names, Preemption, Quota, Storage, Team
from ray_jobs.job.team_toml import example_team, print_team, read_team_text
from tests.laws import examples
from tests.manifests import crd_schemas
from tests.manifests.places import VERBS
from tests.manifests.validation import problems_of

K8S = Path(__file__).parents[2] / "k8s"
Object = dict[str, Any]

needs_definitions = pytest.mark.skipif(not crd_schemas.available(), reason=crd_schemas.MISSING)
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,12}[a-z0-9])?", fullmatch=True)
PARTS = ["nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb.me", "nvidia.com/gpu.shared"]
AMOUNTS = st.one_of(st.none(), st.integers(0, 5000))


@pytest.fixture(autouse=True, scope="module")
def rules_are_read() -> None:
    """The interpreter of rules raises the recursion limit when it starts, which hypothesis wants left alone."""
    if crd_schemas.available():
        problems_of(of_kind(render_team(example_team("vision")).all, "ClusterQueue"))


@st.composite
def devices(draw: st.DrawFn, alone: bool) -> tuple[Devices, ...]:
    names = draw(st.lists(st.sampled_from(PARTS), max_size=2, unique=True))
    counts = [draw(st.integers(0, 5000)) for _ in names]
    limits = [
        {} if alone else {"borrow": draw(AMOUNTS), "lend": draw(st.one_of(st.none(), st.integers(0, count)))}
        for count in counts
    ]
    return tuple(
        Devices(resource=name, count=count, **limit) for name, count, limit in zip(names, counts, limits, strict=True)
    )


@st.composite
def quotas(draw: st.DrawFn, flavor: str, alone: bool) -> Quota:
    own = {name: draw(st.integers(0, 5000)) for name in Amounts.model_fields}
    limits = {
        "borrow": Amounts(**{name: draw(AMOUNTS) for name in own}),
        "lend": Amounts(**{name: draw(st.one_of(st.none(), st.integers(0, most))) for name, most in own.items()}),
    }
    return Quota(flavor=flavor, **own, devices=draw(devices(alone)), **({} if alone else limits))


@st.composite
def teams(draw: st.DrawFn) -> Team:
    cohort = draw(st.one_of(st.none(), LABELS))
    flavors = draw(st.lists(LABELS, min_size=1, max_size=4, unique=True))
    reclaim = draw(st.sampled_from(["Never", "LowerPriority", "Any"]))
    names = st.lists(st.text(st.characters(codec="ascii", exclude_categories=["C", "Z"]), min_size=1), max_size=3)
    return Team(
        team=Names(
            name=draw(LABELS.filter(lambda name: name != "default" and not name.startswith("kube-"))),
            cohort=None if cohort == "none" else cohort,
            weight=draw(st.integers(1, 1_000_000)) / 1000,
        ),
        members=Members(users=tuple(draw(names)), groups=tuple(draw(names))),
        quota=tuple(draw(quotas(flavor, cohort in {None, "none"})) for flavor in flavors),
        preemption=Preemption(
            reclaim_within_cohort=reclaim,
            within_cluster_queue=draw(st.sampled_from(["Never", "LowerPriority", "LowerOrNewerEqualPriority"])),
            borrow_within_cohort="Never" if reclaim == "Never" else draw(st.sampled_from(["Never", "LowerPriority"])),
        ),
        storage=Storage(secret=draw(st.one_of(st.none(), LABELS)), claim=draw(st.one_of(st.none(), LABELS))),
    )


@needs_definitions
@settings(max_examples=examples(0.4))
@given(teams())
def test_every_team_makes_objects_that_the_cluster_takes(team: Team) -> None:
    for each in render_team(team).all:
        assert problems_of(each) == []


@settings(max_examples=examples(0.6))
@given(teams())
def test_a_teams_objects_say_what_its_file_says(team: Team) -> None:
    objects = render_team(team)
    assert not any(kind_of(each).namespaced for each in objects.cluster_scoped)
    assert {each["metadata"]["namespace"] for each in objects.namespaced} == {team.namespace}
    queue, local = of_kind(objects.all, "ClusterQueue"), of_kind(objects.all, "LocalQueue")
    spec = queue["spec"]
    assert spec.get("cohortName") == team.team.cohort
    assert spec["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": team.namespace}}
    assert local["spec"]["clusterQueue"] == queue["metadata"]["name"] == team.team.name
    assert parsed(spec["fairSharing"]["weight"]) == parsed(str(team.team.weight))
    (group,) = spec["resourceGroups"]
    for quota, flavor in zip(team.quota, group["flavors"], strict=True):
        assert flavor["name"] == quota.flavor
        assert [each["name"] for each in flavor["resources"]] == group["coveredResources"]
        said = {each["name"]: each for each in flavor["resources"]}
        for name, resource, unit in (("gpus", GPU, 1), ("cpus", CPU, 1), ("memory_gib", MEMORY, 2**30)):
            assert parsed(said[resource]["nominalQuota"]) == getattr(quota, name) * unit
            for key, limits in (("borrowingLimit", quota.borrow), ("lendingLimit", quota.lend)):
                limit = getattr(limits, name)
                assert (None if limit is None else limit * unit) == (
                    parsed(said[resource][key]) if key in said[resource] else None
                )
        parts = {each.resource: each for each in quota.devices}
        assert said.keys() == {CPU, MEMORY, GPU, *team.devices}
        for name in team.devices:
            device = parts.get(name, Devices(resource=name, count=0))
            counts = {"nominalQuota": device.count, "borrowingLimit": device.borrow, "lendingLimit": device.lend}
            expected = {key: str(count) for key, count in counts.items() if count is not None}
            assert said[name] == {"name": name, **expected}
    for binding in (of_kind(objects.all, "RoleBinding"), of_kind(objects.all, "ClusterRoleBinding")):
        found = [(each["kind"], each["name"]) for each in binding["subjects"]]
        assert found == [("User", name) for name in team.members.users] + [("Group", n) for n in team.members.groups]
    assert list(yaml.safe_load_all(objects.as_yaml())) == list(objects.all)


@given(teams())
def test_a_printed_team_is_read_as_the_same_team(team: Team) -> None:
    assert read_team_text(print_team(team), "printed") == team


@given(st.data())
def test_rendering_one_team_leaves_nothing_in_another(data: st.DataObject) -> None:
    first, second = data.draw(teams()), data.draw(teams())
    before = render_team(first)
    render_team(second)
    assert render_team(first) == before


@needs_kubectl
@needs_definitions
@pytest.mark.parametrize("folder", ["queues/admin", "queues/team", "overlays/team-example"])
def test_what_kustomize_builds_is_taken_by_the_cluster(folder: str) -> None:
    objects = built(folder)
    assert {f"{each['kind']} {each['metadata']['name']}": problems_of(each) for each in objects} == {
        f"{each['kind']} {each['metadata']['name']}": [] for each in objects
    }


@needs_kubectl
def test_the_example_by_kustomize_is_what_queue_create_makes() -> None:
    team = example_team("inspection").model_copy(
        update={
            "quota": (
                Quota(flavor="cpu", cpus=16, memory_gib=64),
                Quota(flavor="a100", gpus=2, cpus=16, memory_gib=128, borrow=Amounts(gpus=6)),
            ),
            "storage": Storage(),
        }
    )
    by_kustomize = {identity(each): each for each in built("overlays/team-example") if not is_job(each)}
    rendered = {identity(each): each for each in render_team(team).all}
    assert by_kustomize.keys() == rendered.keys()
    for key, each in by_kustomize.items():
        assert each == rendered[key]


@needs_kubectl
def test_jobs_of_the_example_wait_in_its_queue_and_nothing_is_left_of_the_base_team() -> None:
    objects = built("overlays/team-example")
    jobs = [each for each in objects if each["kind"] == "RayJob"]
    assert len(jobs) == len(VERBS)
    for job in jobs:
        labels = job["metadata"]["labels"]
        assert labels["kueue.x-k8s.io/queue-name"] == "inspection"
        assert labels["kueue.x-k8s.io/priority-class"] in priorities()
    for each in objects:
        assert each["metadata"].get("namespace", "inspection") == "inspection"
        assert each["metadata"].get("labels", {}).get(TEAM_LABEL, "inspection") == "inspection"
        assert "team" not in strings(each)


def test_who_may_make_queues_has_all_that_they_give_to_members() -> None:
    """Kubernetes lets nobody grant what they lack: each role of admins holds what is bound where it is bound itself."""
    rules = {each["metadata"]["name"]: each["rules"] for each in shipped("queues/admin/roles.yaml")}
    (user,) = shipped("base/user-role.yaml")
    cluster, namespace = (granted(rules[f"resnet-dist-{name}"]) for name in ("queue-admin", "team-admin"))
    assert granted(user["rules"]) <= namespace
    assert granted(rules["resnet-dist-queue-viewer"]) <= cluster
    for kind in {kind_of(each) for each in render_team(example_team("vision")).all} - {NAMESPACE}:
        group = kind.api_version.rpartition("/")[0]
        needed = {(group, kind.plural, verb) for verb in ("get", "create", "patch")}
        assert needed <= (namespace if kind.namespaced else cluster)
    assert {("", "namespaces", verb) for verb in ("get", "patch")} <= namespace


def test_what_can_be_bound_in_a_namespace_is_not_bound_cluster_wide() -> None:
    rules = {each["metadata"]["name"]: each["rules"] for each in shipped("queues/admin/roles.yaml")}
    kinds = {kind.plural: kind for kind in vars(client_kinds).values() if isinstance(kind, Kind)}
    for name in ("resnet-dist-queue-admin", "resnet-dist-queue-viewer"):
        for _, resource, _ in granted(rules[name]):
            assert not kinds[resource].namespaced
            assert resource != "namespaces"
    # Who may change the policy, or roles that are bound everywhere, may do everything.
    for each in rules.values():
        changed = {resource for _, resource, verb in granted(each) if verb not in {"get", "list", "watch"}}
        assert not any("polic" in resource and resource != "networkpolicies" for resource in changed)
        assert "clusterroles" not in changed


def test_the_page_on_clusters_has_each_role_in_its_table() -> None:
    page = (K8S.parent / "docs" / "cluster.md").read_text()
    table = {line.split("|")[1].split("`")[1] for line in page.splitlines() if line.startswith("| `resnet-dist")}
    roles = [
        *shipped("queues/admin/roles.yaml"),
        *shipped("base/user-role.yaml"),
        *shipped("base/service-account.yaml"),
    ]
    assert table == {each["metadata"]["name"] for each in roles}


def test_watch_is_given_for_jobs_and_pods_only() -> None:
    for role in [*shipped("queues/admin/roles.yaml"), *shipped("base/user-role.yaml")]:
        watched = {resource for _, resource, verb in granted(role["rules"]) if verb == "watch"}
        assert watched in (set(), {"rayjobs", "pods"})


def test_no_role_reads_secrets_deletes_queues_or_gives_more_than_it_has() -> None:
    for role in [*shipped("queues/admin/roles.yaml"), *shipped("base/user-role.yaml")]:
        for group, resource, verb in granted(role["rules"]):
            assert resource not in {"secrets", "pods/exec", "*"}
            assert verb not in {"escalate", "bind", "impersonate", "*", "deletecollection"}
            assert not (verb == "delete" and group in {"kueue.x-k8s.io", "rbac.authorization.k8s.io"})


def test_priorities_are_ordered_as_their_names_say() -> None:
    values = priorities()
    assert values["production"] > values["research"] > values["idle"] == 0  # 0 is that of a job without a class


def priorities() -> dict[str, int]:
    return {each["metadata"]["name"]: each["value"] for each in shipped("queues/admin/priorities.yaml")}


def granted(rules: list[Object]) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def is_job(body: Object) -> bool:
    return "resnet-dist/verb" in body["metadata"].get("labels", {})


def identity(body: Object) -> tuple[str, str]:
    return str(body["kind"]), str(body["metadata"]["name"])


def of_kind(objects: Any, kind: str) -> Object:
    (found,) = [each for each in objects if each["kind"] == kind]
    return found


def strings(tree: Any) -> set[str]:
    match tree:
        case str():
            return {tree}
        case dict():
            return {text for each in tree.values() for text in strings(each)}
        case list():
            return {text for each in tree for text in strings(each)}
        case _:
            return set()


def shipped(path: str) -> Iterator[Object]:
    yield from yaml.safe_load_all((K8S / path).read_text())


def built(folder: str) -> list[Object]:
    done = subprocess.run(["kubectl", "kustomize", str(K8S / folder)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))
