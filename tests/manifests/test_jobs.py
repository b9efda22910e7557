"""The jobs that ship: what they run, that they agree with each other, with the code and with Ray."""

import re
import shlex
import tomllib
from typing import Any

import pytest
import ray

from cluster.jobs import Verb
from cluster.kube.manifests import load_job, manifest_folder
from ray_jobs.job.toml import read_job_text
from ray_jobs.search.toml import read_search_text
from resnet_dist.runtime.telemetry import TELEMETRY_OFF
from tests.manifests.places import K8S, VERBS, build, jobs, needs_kubectl
from tests.manifests.pods import containers, pod_templates

PROJECT = tomllib.loads((K8S.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONTAINERS = {"submitter": "ray-job-submitter", "head": "ray-head", "worker": "ray-worker"}


def objects_of(verb: Verb) -> tuple[dict[str, Any], dict[str, Any]]:
    config_map, ray_job = sorted(load_job(verb), key=lambda each: each["kind"])
    return config_map, ray_job


@pytest.fixture(params=VERBS)
def verb(request: pytest.FixtureRequest) -> Verb:
    return request.param


def roles(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["labels"]["resnet-dist/role"]: each for _, each in pod_templates(job)}


def test_the_folder_is_the_checkouts():
    assert manifest_folder() == K8S


def test_each_call_gives_objects_of_its_own(verb: Verb):
    load_job(verb)[0]["metadata"]["name"] = "changed"
    assert load_job(verb)[0]["metadata"]["name"] != "changed"


def test_names_and_labels_belong_together(verb: Verb):
    config_map, job = objects_of(verb)
    name = job["metadata"]["name"]
    labels = {"app.kubernetes.io/name": "resnet-dist", "resnet-dist/verb": verb, "resnet-dist/job": name}
    assert config_map["metadata"] == {"name": name, "labels": labels}
    assert job["metadata"]["labels"] == labels
    for _, template in pod_templates(job):
        assert labels.items() <= template["metadata"]["labels"].items()
        assert template["metadata"]["labels"]["app.kubernetes.io/part-of"] == "resnet-dist"
    head = roles(job)["head"]["spec"]
    assert {"name": "job", "configMap": {"name": name}} in head["volumes"]


def test_the_containers_are_those_that_submit_sets(verb: Verb):
    _, job = objects_of(verb)
    found = roles(job)
    assert found.keys() == CONTAINERS.keys() - ({"worker"} if verb == "export" else set())
    for role, template in found.items():
        (container,) = [each for _, each in containers(template)]
        assert container["name"] == CONTAINERS[role]
    groups = job["spec"]["rayClusterSpec"].get("workerGroupSpecs", [])
    assert [each["groupName"] for each in groups] == ([] if verb == "export" else ["workers"])
    assert not any("kueue" in label for label in job["metadata"]["labels"])


def test_the_entrypoint_runs_the_verb_on_the_mounted_files(verb: Verb):
    config_map, job = objects_of(verb)
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:4] == ["python", "-m", "ray_jobs.submission.entrypoint", verb]
    (container,) = roles(job)["head"]["spec"]["containers"]
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "job"]
    used = [word for word in words if word.startswith("/")]
    assert used == [f"{mount['mountPath']}/{name}" for name in config_map["data"]]
    assert mount["readOnly"] is True


def check_files(config_map: dict[str, Any], job: dict[str, Any]) -> None:
    config = read_job_text(config_map["data"]["job.toml"], config_map["metadata"]["name"])
    run = next(
        each["value"]
        for each in roles(job)["head"]["spec"]["containers"][0]["env"]
        if each["name"] == "RESNET_DIST_RUN"
    )
    assert config.name is not None
    kind = "searches" if config_map["metadata"]["labels"]["resnet-dist/verb"] == "tune" else "runs"
    assert run == f"{config.storage.root}/{kind}/{config.name}"
    words = shlex.split(job["spec"]["entrypoint"])
    if words[3] in ("evaluate", "export"):
        assert words[4] == run
    if words[3] == "compress":
        assert (words[4], words[5]) == ("prune", "example")


def test_the_job_file_is_one_and_says_where_it_writes(verb: Verb):
    check_files(*objects_of(verb))


@needs_kubectl
def test_the_job_files_of_a_laptop_are_job_files_too():
    objects = build(K8S / "overlays" / "cpu-kind")
    files = {
        each["metadata"]["labels"]["resnet-dist/verb"]: each
        for each in objects
        if each["kind"] == "ConfigMap" and "job.toml" in each.get("data", {})
    }
    assert files.keys() == set(VERBS)
    for verb, job in jobs(objects).items():
        check_files(files[verb], job)


def test_the_search_file_is_one():
    search, space = read_search_text(objects_of("tune")[0]["data"]["search.toml"], "tune.yaml")
    assert search.trials == 40
    assert space


def test_versions_are_those_of_the_lock(verb: Verb):
    _, job = objects_of(verb)
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__
    for _, template in pod_templates(job):
        for _, container in containers(template):
            assert re.fullmatch(rf"resnet-dist:{re.escape(PROJECT['version'])}-(gpu|cpu)", container["image"])


def test_nothing_tells_anybody_of_itself(verb: Verb):
    _, job = objects_of(verb)
    for _, template in pod_templates(job):
        for _, container in containers(template):
            environment = {each["name"]: each.get("value") for each in container["env"]}
            assert environment.items() >= TELEMETRY_OFF.items()
    for group in (
        job["spec"]["rayClusterSpec"]["headGroupSpec"],
        *job["spec"]["rayClusterSpec"].get("workerGroupSpecs", []),
    ):
        assert group["rayStartParams"]["disable-usage-stats"] == "true"


def test_every_pod_but_the_submitter_has_what_ray_and_a_read_only_root_need(verb: Verb):
    _, job = objects_of(verb)
    for role, template in roles(job).items():
        (container,) = template["spec"]["containers"]
        paths = {each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")}
        assert paths == ({"/tmp"} if role == "submitter" else {"/tmp", "/var/cache/resnet-dist", "/dev/shm"})
        if role != "submitter":
            assert template["spec"]["terminationGracePeriodSeconds"] >= 60
            assert container["envFrom"] == [{"secretRef": {"name": "resnet-dist-storage", "optional": True}}]


def test_retries_resume_and_gpus_go_back_at_once(verb: Verb):
    _, job = objects_of(verb)
    spec = job["spec"]
    assert spec["submissionMode"] == "K8sJobMode"
    assert spec["backoffLimit"] == 0  # the entry point tries again itself
    assert spec["submitterConfig"]["backoffLimit"] == 3
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] == 0
    assert not {"suspend", "deletionStrategy", "clusterSelector", "activeDeadlineSeconds"} & spec.keys()
    assert spec["rayClusterSpec"]["enableInTreeAutoscaling"] is False
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_gpus_stand_where_workers_are_and_nowhere_else(verb: Verb):
    _, job = objects_of(verb)
    for role, template in roles(job).items():
        (container,) = template["spec"]["containers"]
        assert ("nvidia.com/gpu" in container["resources"]["limits"]) is (role == "worker")
        assert ("tolerations" in template["spec"]) is (role == "worker")


def without_names(tree: Any, own: set[str]) -> Any:
    """A tree with a job's own words replaced, so that two jobs can be compared."""
    if isinstance(tree, dict):
        return {key: without_names(value, own) for key, value in tree.items()}
    if isinstance(tree, list):
        return [without_names(value, own) for value in tree]
    return "..." if isinstance(tree, str) and any(word in tree for word in own) else tree


def test_the_jobs_are_the_same_but_for_what_they_do(verb: Verb):
    """A rule that is changed in one is changed in all: every difference is named here."""
    (_, first), (_, other) = objects_of("train"), objects_of(verb)
    compared = []
    for each in (first, other):
        name = each["metadata"]["name"]
        own = {name, each["metadata"]["labels"]["resnet-dist/verb"], "s3://", "resnet-dist:"}
        spec = without_names(each["spec"], own)
        cluster = spec["rayClusterSpec"]
        if verb == "export":
            cluster.pop("workerGroupSpecs", None)
            cluster["headGroupSpec"]["template"]["spec"]["containers"][0].pop("resources")
        compared.append(spec)
    assert compared[0] == compared[1]
