"""What `submit` makes of the manifests is valid by every schema, rule and policy, whatever the command."""

import shlex
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.config import ClusterConfig
from cluster.jobs import HeldGpus, JobRequest, Verb
from cluster.kube.jobs.manifest import MOUNT, Placement, render_job
from cluster.kube.jobs.sizing import JobNeeds, driver_only_sizes, pod_sizes
from ray_jobs.job.toml import check
from ray_jobs.search.toml import read_search
from ray_jobs.submission.command import PoolFlags, SubmitCommand
from ray_jobs.submission.plan import plan_for_pool
from ray_jobs.submission.usage_record import held_gpus_of
from tests.laws import examples
from tests.manifests.places import needs_definitions
from tests.manifests.validation import problems_of

pytestmark = needs_definitions

LABELS = st.from_regex(r"[a-z]([a-z0-9-]{0,45}[a-z0-9])?", fullmatch=True)
WORDS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20), max_size=3)
VERBS: list[Verb] = ["train", "tune", "evaluate", "compress", "export"]


def request(verb: Verb, name: str, arguments: tuple[str, ...]) -> JobRequest:
    search = "[space]\n" if verb == "tune" else None
    return JobRequest(
        name, verb, arguments, "seed = 0\n", search, "0" * 64, "abc-1", "s3://bucket/out/runs/a", "jobs.entry"
    )


@settings(max_examples=examples(0.4))
@given(
    st.sampled_from(VERBS),
    LABELS,
    WORDS,
    st.integers(1, 8),
    st.integers(1, 8),
    st.booleans(),
    st.none() | LABELS,
    st.booleans(),
)
def test_every_rendering_is_valid(
    verb: Verb, name: str, words: list[str], pods: int, per_node: int, use_gpu: bool, queue: str | None, claim: bool
) -> None:
    cluster = ClusterConfig(num_workers=pods * per_node, workers_per_node=per_node)
    sizes = driver_only_sizes() if verb == "export" else pod_sizes(cluster, JobNeeds(32, 224, 224), use_gpu=use_gpu)
    use_gpu = use_gpu and verb != "export"
    command = request(verb, name, tuple(words))
    placement = Placement("team", sizes, use_gpu, "resnet-dist:1.2.3", queue, "research" if queue else None, claim)
    made = render_job(command, placement)
    for each in (made.ray_job, made.config_map):
        assert problems_of(each) == []
        assert each["metadata"]["name"] == name
        assert each["metadata"]["namespace"] == "team"
    spec = made.ray_job["spec"]
    # A shell reads the entrypoint: the command's words must come out of it as they went in.
    assert shlex.split(spec["entrypoint"])[3 : 4 + len(words)] == [verb, *words]
    assert "example" not in str(made.ray_job) + str(made.config_map)
    groups = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert sum(group["replicas"] for group in groups) == sizes.pods
    gpus = [
        container["resources"]["limits"].get("nvidia.com/gpu", "0")
        for group in groups
        for container in group["template"]["spec"]["containers"]
    ]
    assert gpus == ([str(sizes.gpus)] if sizes.pods else [])
    assert (MOUNT in str(made.ray_job)) == claim


def rendered(command: SubmitCommand, flags: PoolFlags | None = None) -> dict[str, Any]:
    made = plan_for_pool(command, flags or PoolFlags()).manifest("team")
    assert problems_of(made.ray_job) == []
    assert problems_of(made.config_map) == []
    return {"job": made.ray_job, "data": made.config_map["data"]}


def test_a_whole_job_file_reaches_the_pods() -> None:
    job = check(
        {
            "name": "Tiles_1",
            "data": {"root": "s3://bucket/tiles"},
            "storage": {"root": "s3://bucket/out"},
            "optimizer": {"learning_rate": 0.03},
            "cluster": {"num_workers": 4, "workers_per_node": 2},
        }
    )
    found = rendered(SubmitCommand("train", job), PoolFlags(team="vision", priority="production"))
    told = tomllib.loads(found["data"]["job.toml"])
    assert told["name"] == "Tiles_1"
    assert told["optimizer"]["learning_rate"] == 0.03
    assert told["cluster"]["address"] == "auto"
    assert told["cluster"]["cpus_per_worker"] == 4
    assert told["cluster"]["use_gpu"] is True
    labels = found["job"]["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "vision"
    assert labels["kueue.x-k8s.io/priority-class"] == "production"


def test_a_search_brings_its_space() -> None:
    job = check({"data": {"root": "s3://bucket/tiles"}, "storage": {"root": "s3://bucket/out"}})
    found = rendered(SubmitCommand("tune", job, search=read_search(None, {})))
    assert "[space]" in found["data"]["search.toml"]
    assert "--search /etc/resnet-dist/search.toml" in found["job"]["spec"]["entrypoint"]


@pytest.mark.parametrize("resource", ["nvidia.com/mig-1g.10gb", "nvidia.com/mig-1g.10gb.me", "nvidia.com/gpu.shared"])
def test_a_part_of_a_gpu_is_asked_for_by_its_name_and_ray_is_told_of_it(resource: str) -> None:
    cluster = {"num_workers": 3, "gpu_resource": resource}
    job = check({"data": {"root": "s3://bucket/tiles"}, "storage": {"root": "s3://bucket/out"}, "cluster": cluster})
    found = rendered(SubmitCommand("train", job))
    (group,) = found["job"]["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert group["replicas"] == 3
    for each in ("requests", "limits"):
        assert {name: count for name, count in container["resources"][each].items() if "/" in name} == {resource: "1"}
    assert group["rayStartParams"]["num-gpus"] == "1"
    assert "resnet-dist:0.2.0-gpu" in str(group)
    assert tomllib.loads(found["data"]["job.toml"])["cluster"]["gpu_resource"] == resource


def test_the_driver_of_a_job_in_a_queue_knows_which_gpus_it_holds() -> None:
    def places(cluster: dict[str, Any], flags: PoolFlags) -> list[str]:
        tree = {"data": {"root": "s3://bucket/tiles"}, "storage": {"root": "s3://bucket/out"}, "cluster": cluster}
        spec = rendered(SubmitCommand("train", check({"name": "tiles", **tree})), flags)["job"]["spec"]
        (head,) = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
        return [each["value"] for each in head["env"] if each["name"] == "RESNET_DIST_HELD_GPUS"]

    (text,) = places({"num_workers": 8, "workers_per_node": 4}, PoolFlags(team="vision"))
    assert held_gpus_of(text) == HeldGpus("team", "vision", "tiles", "nvidia.com/gpu", 8)
    assert places({"num_workers": 8}, PoolFlags()) == []
    assert places({"use_gpu": False}, PoolFlags(team="vision")) == []


def test_of_whole_gpus_kuberay_tells_ray() -> None:
    job = check({"data": {"root": "s3://bucket/tiles"}, "storage": {"root": "s3://bucket/out"}})
    (group,) = rendered(SubmitCommand("train", job))["job"]["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert "num-gpus" not in group["rayStartParams"]


def test_without_gpus_nothing_asks_for_one() -> None:
    job = check({"data": {"root": f"{MOUNT}/tiles"}, "storage": {"root": MOUNT}, "cluster": {"use_gpu": False}})
    found = rendered(SubmitCommand("train", job))
    assert "nvidia.com/gpu" not in str(found["job"])
    assert "resnet-dist:0.2.0-cpu" in str(found["job"])
    assert "-gpu" not in str(found["job"]["spec"]["rayClusterSpec"])
    assert "kueue" not in str(found["job"])
