"""A job is refused where no choice of flavors fits its pod sets, as Kueue chooses them, and nowhere else."""

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import SubmissionError
from cluster.kube.queues.assignment import Pool, not_judged, require_places
from cluster.kube.queues.capacity import Capacity
from cluster.kube.queues.pod_sets import PodSet, pod_sets_of
from cluster.kube.queues.quantities import CPU, GPU, MEMORY

GIB = 2**30
FLAVORS = ("a100", "l4", "cpu")

Quotas = Mapping[str, Mapping[str, int | str]]
"""Nominal quota by flavor and resource."""


def group(quotas: Quotas, **limits: str) -> dict[str, Any]:
    flavors = [
        {
            "name": flavor,
            "resources": [{"name": name, "nominalQuota": str(amount), **limits} for name, amount in of.items()],
        }
        for flavor, of in quotas.items()
    ]
    return {"coveredResources": list(next(iter(quotas.values()))), "flavors": flavors}


def queue(*groups: dict[str, Any], name: str = "vision", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"resourceGroups": list(groups), **spec}}


def flavor(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec}


def pool(*queues: dict[str, Any], flavors: list[dict[str, Any]] | None = None) -> Pool:
    named = None if flavors is None else {str(each["metadata"]["name"]): each for each in flavors}
    return Pool(Capacity(queues, []), named)


def pods(name: str, count: int = 1, spec: dict[str, Any] | None = None, **each: Any) -> PodSet:
    """`each`: what one pod requests, as cpu, memory and gpu."""
    named = {CPU: each.get("cpu"), MEMORY: each.get("memory"), GPU: each.get("gpu")}
    return PodSet(name, count, {key: count * Fraction(value) for key, value in named.items() if value}, spec or {})


def refusal(pool: Pool, *pod_sets: PodSet) -> str:
    with pytest.raises(SubmissionError) as refused:
        require_places(pool, "vision", pod_sets)
    return str(refused.value)


AMOUNT = st.integers(0, 6)
REQUESTS = st.lists(st.fixed_dictionaries({CPU: AMOUNT, GPU: AMOUNT}), min_size=1, max_size=3)
QUOTA = st.fixed_dictionaries({CPU: st.integers(0, 10), GPU: st.integers(0, 10)})


@given(
    REQUESTS,
    st.dictionaries(st.sampled_from(FLAVORS), QUOTA, min_size=1),
    st.dictionaries(st.sampled_from(FLAVORS), QUOTA),
    st.booleans(),
    st.sets(st.sampled_from(FLAVORS)),
)
def test_a_job_is_refused_if_and_only_if_no_choice_of_flavors_fits(
    requests: list[dict[str, int]],
    own: dict[str, dict[str, int]],
    lent: dict[str, dict[str, int]],
    together: bool,
    tainted: set[str],
) -> None:
    """Against a small model of Kueue's assignment: all choices of a flavor for each pod set and resource group."""
    groups = (
        [group(own)] if together else [group({name: {key: of[key]} for name, of in own.items()}) for key in (CPU, GPU)]
    )
    taint = {"key": "reserved", "value": "yes", "effect": "NoSchedule"}
    flavors = [flavor(name, **({"nodeTaints": [taint]} if name in tainted else {})) for name in FLAVORS]
    both = [queue(*groups, cohortName="c")] + ([queue(group(lent), name="other", cohortName="c")] if lent else [])
    pod_sets = [
        PodSet(str(at), 1, {key: Fraction(n) for key, n in each.items()}, {}) for at, each in enumerate(requests)
    ]

    def fits(choice: tuple[str, ...], keys: tuple[str, ...]) -> bool:
        used: Counter[tuple[str, str]] = Counter()
        for chosen, each in zip(choice, requests, strict=True):
            if chosen in tainted and any(each[key] for key in keys):
                return False
            used.update({(chosen, key): each[key] for key in keys})
        return all(amount <= own[name][key] + lent.get(name, {}).get(key, 0) for (name, key), amount in used.items())

    of_groups = [(CPU, GPU)] if together else [(CPU,), (GPU,)]
    possible = all(any(fits(choice, keys) for choice in product(own, repeat=len(requests))) for keys in of_groups)
    there = pool(*both, flavors=flavors)
    if possible:
        require_places(there, "vision", pod_sets)
    else:
        assert "can never start in queue vision" in refusal(there, *pod_sets)


def test_mig_devices_need_a_quota_of_their_own_name() -> None:
    mig, other = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-2g.20gb"
    workers = PodSet("workers", 3, {mig: Fraction(3)}, {})
    require_places(pool(queue(group({"a100": {GPU: 0, mig: 3}}))), "vision", [workers])
    said = refusal(pool(queue(group({"a100": {GPU: 8, mig: 2}}))), workers)
    assert "3 pods of workers ask for 3 nvidia.com/mig-1g.10gb" in said
    assert "flavor a100 can give at most 2 nvidia.com/mig-1g.10gb" in said
    said = refusal(pool(queue(group({"a100": {GPU: 8, other: 3}}))), workers)
    assert "it asks for 3 nvidia.com/mig-1g.10gb, and the queue has no quota of nvidia.com/mig-1g.10gb" in said


def test_the_pod_that_submits_counts() -> None:
    exact = pool(queue(group({"cpu": {CPU: 10}})))
    head, workers = pods("head", cpu=2), pods("workers", 2, cpu=4)
    require_places(exact, "vision", [head, workers])
    said = refusal(exact, head, workers, pods("submitter", cpu="0.25"))
    assert "its pods ask for 10.25 CPUs together (head 2 CPUs, workers 8 CPUs, submitter 0.25 CPUs)" in said
    assert "flavor cpu can give at most 10 CPUs" in said
    assert "cluster.num_workers" in said


def test_a_pod_set_has_its_gpus_and_cpus_from_one_flavor() -> None:
    there = pool(queue(group({"a100": {CPU: 4, MEMORY: "64Gi", GPU: 8}, "cpu": {CPU: 100, MEMORY: "64Gi", GPU: 0}})))
    said = refusal(there, pods("head", cpu=2), pods("workers", 2, cpu=4, gpu=1, memory=GIB))
    assert "its 2 pods of workers ask for 2 GPUs and 8 CPUs and 2 GiB of memory" in said
    assert "flavor a100 can give at most 8 GPUs and 4 CPUs and 64 GiB of memory" in said
    require_places(there, "vision", [pods("head", cpu=2), pods("workers", 2, cpu=2, gpu=1)])


def test_what_can_be_borrowed_counts_and_is_named() -> None:
    lender = queue(group({"a100": {GPU: 8}}), name="other", cohortName="c")
    limited = pool(queue(group({"a100": {GPU: 4}}, borrowingLimit="2"), cohortName="c"), lender)
    require_places(limited, "vision", [pods("workers", 6, gpu=1)])
    assert "at most 6 GPUs (2 of them borrowed)" in refusal(limited, pods("workers", 7, gpu=1))


def test_a_resource_without_a_quota_is_never_given() -> None:
    said = refusal(pool(queue(group({"cpu": {CPU: 10}}))), pods("workers", cpu=1, memory=GIB))
    assert "it asks for 1 GiB of memory, and the queue has no quota of GiB of memory" in said


def test_pods_count_where_a_queue_counts_them() -> None:
    few = pool(queue(group({"cpu": {CPU: 10, "pods": 3}})))
    require_places(few, "vision", [pods("workers", 3, cpu=1)])
    assert "4 pods" in refusal(few, pods("workers", 4, cpu=1))


@pytest.mark.parametrize(
    ("toleration", "is_taken"),
    [
        ({}, False),
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "value": "yes"}, True),
        ({"key": "gpu", "value": "no"}, False),
        ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
@pytest.mark.parametrize("by_flavor", [True, False])
def test_a_flavor_takes_pods_that_tolerate_its_taints(
    toleration: dict[str, str], is_taken: bool, by_flavor: bool
) -> None:
    given_ = [toleration] if toleration else []
    taints = [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]
    taints += [{"key": "soft", "effect": "PreferNoSchedule"}]
    spec = {"nodeTaints": taints} | ({"tolerations": given_} if by_flavor else {})
    there = pool(queue(group({"a100": {GPU: 8}})), flavors=[flavor("a100", **spec)])
    workers = pods("workers", spec={} if by_flavor else {"tolerations": given_}, gpu=1)
    if is_taken:
        require_places(there, "vision", [workers])
    else:
        assert "flavor a100 takes none: its pods do not tolerate the taint gpu=yes" in refusal(there, workers)


def test_a_flavor_takes_pods_that_select_its_nodes() -> None:
    flavors = [flavor("a100", nodeLabels={"product": "A100"}), flavor("l4", nodeLabels={"product": "L4"})]
    there = pool(queue(group({"a100": {GPU: 8}, "l4": {GPU: 2}})), flavors=flavors)
    choosy = {"nodeSelector": {"product": "L4", "zone": "a"}}  # flavors say nothing of zones
    require_places(there, "vision", [pods("workers", 2, choosy, gpu=1)])
    assert "flavor a100 takes none: its pods select nodes with product=L4" in refusal(
        there, pods("workers", 3, choosy, gpu=1)
    )


def test_a_flavor_that_is_not_there_gives_nothing() -> None:
    assert "there is no such ResourceFlavor" in refusal(
        pool(queue(group({"a100": {GPU: 8}})), flavors=[]), pods("workers", gpu=1)
    )


def test_what_was_not_judged_is_named() -> None:
    body = queue(group({"a100": {GPU: 8}}), admissionChecksStrategy={}, stopPolicy="None")
    topology = flavor("a100", topologyName="racks", nodeLabels={})
    choosy = pods("workers", spec={"affinity": {"nodeAffinity": {"requiredDuringScheduling": {}}}}, gpu=1)
    assert not_judged(body, pool(body, flavors=[topology]), [choosy]) == [
        "admissionChecksStrategy of ClusterQueue vision",
        "topologyName of flavor a100",
        "the pods' node affinity",
    ]
    assert not_judged(queue(), pool(queue(), flavors=[]), []) == []
    (unread,) = not_judged(queue(), pool(queue()), [])
    assert "resourceflavors.kueue.x-k8s.io" in unread


def test_pods_request_what_kueue_counts() -> None:
    def spec(*requests: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"containers": [{"resources": each} for each in requests], **more}

    ray_job = {
        "spec": {
            "submitterPodTemplate": {"spec": spec({"requests": {CPU: "250m"}, "limits": {CPU: "1"}})},
            "rayClusterSpec": {
                "headGroupSpec": {"template": {"spec": spec({"limits": {CPU: "2"}}, {"requests": {CPU: "1"}})}},
                "workerGroupSpecs": [
                    {
                        "groupName": "workers",
                        "replicas": 3,
                        "template": {
                            "spec": spec(
                                {"requests": {CPU: 1}},
                                initContainers=[{"resources": {"requests": {CPU: 4, MEMORY: "1Gi"}}}],
                                overhead={CPU: "1"},
                            )
                        },
                    }
                ],
            },
        }
    }
    found = {each.name: (each.pods, dict(each.requests)) for each in pod_sets_of(ray_job)}
    assert found == {
        "head": (1, {CPU: 3}),
        "workers": (3, {CPU: 15, MEMORY: 3 * GIB}),
        "submitter": (1, {CPU: Fraction(1, 4)}),
    }
    ray_job["spec"]["submissionMode"] = "HTTPMode"
    assert [each.name for each in pod_sets_of(ray_job)] == ["head", "workers"]
