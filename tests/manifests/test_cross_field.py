"""Each rule between fields is broken once, named with its place, and kept by what ships."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from cluster.kube.manifests import load_job
from tests.manifests.cross_field import problems_of, quantity

Object = dict[str, Any]
QUEUED = {"kueue.x-k8s.io/queue-name": "team"}


@pytest.fixture
def job() -> Object:
    (found,) = [each for each in load_job("train") if each["kind"] == "RayJob"]
    assert problems_of(found) == []
    return found


def cluster(job: Object) -> Object:
    return job["spec"]["rayClusterSpec"]


def head(job: Object) -> Object:
    return cluster(job)["headGroupSpec"]


def workers(job: Object) -> Object:
    return cluster(job)["workerGroupSpecs"][0]


def container(job: Object) -> Object:
    return workers(job)["template"]["spec"]["containers"][0]


def spec(**fields: Any) -> Callable[[Object], None]:
    return lambda job: job["spec"].update(fields)


def queued(**fields: Any) -> Callable[[Object], None]:
    def change(job: Object) -> None:
        job["metadata"]["labels"].update(QUEUED)
        job["spec"].update(fields)

    return change


def sidecar(job: Object) -> None:
    del job["spec"]["submitterPodTemplate"], job["spec"]["submitterConfig"]
    job["spec"]["submissionMode"] = "SidecarMode"
    head(job)["template"]["spec"]["restartPolicy"] = "Always"


def selecting(job: Object) -> None:
    del job["spec"]["rayClusterSpec"]
    job["spec"].update(clusterSelector={"ray.io/cluster": "a"}, suspend=True, backoffLimit=1)


def autoscaling(**of_workers: Any) -> Callable[[Object], None]:
    def change(job: Object) -> None:
        cluster(job).update(enableInTreeAutoscaling=True, autoscalerOptions={"version": "v2"})
        workers(job).update(of_workers)

    return change


BREACHES: dict[str, tuple[Callable[[Object], Any], str]] = {
    "long name": (lambda job: job["metadata"].update(name="a" * 48), "metadata.name: 48 letters"),
    "name begins with a digit": (lambda job: job["metadata"].update(name="1a"), "begins with a letter"),
    "name with a dot": (lambda job: job["metadata"].update(name="a.b"), "no DNS label"),
    "suspend and no shutdown": (
        spec(suspend=True, shutdownAfterJobFinishes=False, ttlSecondsAfterFinished=0),
        "spec.suspend: needs shutdownAfterJobFinishes",
    ),
    "TTL and no shutdown": (
        spec(shutdownAfterJobFinishes=False, ttlSecondsAfterFinished=60), "spec.ttlSecondsAfterFinished: needs",
    ),
    "deletion rules and shutdown": (
        spec(deletionStrategy={"deletionRules": [{}]}), "deletionRules: exclude shutdownAfterJobFinishes",
    ),
    "deletion rules and TTL": (
        spec(shutdownAfterJobFinishes=False, ttlSecondsAfterFinished=0, deletionStrategy={"deletionRules": [{}]}),
        "deletionRules: exclude",
    ),
    "two clusters": (spec(clusterSelector={"ray.io/cluster": "a"}), "one of rayClusterSpec and clusterSelector"),
    "no cluster": (lambda job: job["spec"].pop("rayClusterSpec"), "one of rayClusterSpec and clusterSelector"),
    "selected and suspended": (selecting, "spec.clusterSelector: excludes suspend"),
    "selected and retried": (selecting, "spec.clusterSelector: excludes backoffLimit"),
    "negative retries": (spec(backoffLimit=-1), "spec.backoffLimit: must not be negative"),
    "no time": (spec(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds: must be positive"),
    "interactive retries": (
        spec(submissionMode="InteractiveMode", backoffLimit=1), "InteractiveMode excludes backoffLimit",
    ),
    "HTTP with a submitter": (spec(submissionMode="HTTPMode"), "HTTPMode has no pod for submitterPodTemplate"),
    "sidecar with a submitter": (spec(submissionMode="SidecarMode"), "SidecarMode has no pod for"),
    "sidecar in a head that restarts": (sidecar, "SidecarMode needs restartPolicy Never for the head"),
    "submitter that restarts": (
        lambda job: job["spec"]["submitterPodTemplate"]["spec"].update(restartPolicy="Always"),
        "submitterPodTemplate.spec.restartPolicy: must be Never or OnFailure",
    ),
    "priority without queue": (
        lambda job: job["metadata"]["labels"].update({"kueue.x-k8s.io/priority-class": "idle"}),
        "priority-class does nothing without kueue.x-k8s.io/queue-name",
    ),
    "Kueue and autoscaling": (
        lambda job: (queued()(job), autoscaling()(job)), "Kueue refuses enableInTreeAutoscaling",
    ),
    "Kueue and no shutdown": (
        queued(shutdownAfterJobFinishes=False, ttlSecondsAfterFinished=0), "shutdownAfterJobFinishes: Kueue needs it",
    ),
    "Kueue and deletion rules": (queued(deletionStrategy={"deletionRules": [{}]}), "do not go with Kueue"),
    "Kueue and a selected cluster": (
        lambda job: (selecting(job), queued()(job)), "spec.clusterSelector: such a job is not managed by Kueue",
    ),
    "Kueue and many groups": (
        lambda job: (
            queued()(job),
            cluster(job)["workerGroupSpecs"].extend({**workers(job), "groupName": f"g{at}"} for at in range(7)),
        ),
        "at most 6 worker groups",
    ),
    "token and an old Ray": (lambda job: cluster(job).update(rayVersion="2.51.1"), "rayVersion: authOptions"),
    "token and no version": (lambda job: cluster(job).pop("rayVersion"), "rayVersion: authOptions.mode token"),
    "restart with autoscaler v2": (
        lambda job: (autoscaling()(job), workers(job)["template"]["spec"].update(restartPolicy="Always")),
        "workerGroupSpecs[0].template.spec.restartPolicy: must be Never with autoscaler v2",
    ),
    "suspended group with autoscaling": (autoscaling(suspend=True), "suspend: excludes enableInTreeAutoscaling"),
    "fewer replicas than the least": (lambda job: workers(job).update(replicas=1), "must be from minReplicas=2"),
    "more replicas than the most": (lambda job: workers(job).update(replicas=3), "to maxReplicas=2"),
    "two groups of a name": (
        lambda job: cluster(job)["workerGroupSpecs"].append(copy.deepcopy(workers(job))), "workers is there twice",
    ),
    "resources twice": (lambda job: head(job).update(resources={"CPU": "1"}), "exclude rayStartParams num-cpus"),
    "labels as a parameter": (
        lambda job: head(job)["rayStartParams"].update(labels="a=b"), "rayStartParams.labels: write the group's labels",
    ),
    "a number as a parameter": (
        lambda job: head(job)["rayStartParams"].update({"num-cpus": 0}), "rayStartParams.num-cpus: must be a string",
    ),
    "no shared memory": (
        lambda job: container(job).update(volumeMounts=container(job)["volumeMounts"][:2]),
        "/dev/shm must be an emptyDir in memory",
    ),
    "shared memory on disk": (
        lambda job: workers(job)["template"]["spec"]["volumes"][2]["emptyDir"].pop("medium"),
        "/dev/shm must be an emptyDir in memory",
    ),
    "shared memory as large as all": (
        lambda job: workers(job)["template"]["spec"]["volumes"][2]["emptyDir"].update(sizeLimit="9Gi"),
        "/dev/shm of 9Gi is over half of the memory limit 16Gi",
    ),
    "object store larger than shared memory": (
        lambda job: workers(job)["rayStartParams"].update({"object-store-memory": str(3 * 2**30)}),
        "do not fit into /dev/shm of 2304Mi",
    ),
    "mount without volume": (
        lambda job: container(job)["volumeMounts"].append({"name": "gone", "mountPath": "/gone"}),
        "workerGroupSpecs[0].template.spec.containers[0].volumeMounts: there is no volume gone",
    ),
    "two volumes of a name": (
        lambda job: workers(job)["template"]["spec"]["volumes"].append({"name": "tmp", "emptyDir": {}}),
        "spec.volumes: tmp is there twice",
    ),
    "two mounts at a path": (
        lambda job: container(job)["volumeMounts"].append({"name": "cache", "mountPath": "/tmp"}),
        "volumeMounts: /tmp is there twice",
    ),
    "request above the limit": (
        lambda job: container(job)["resources"]["requests"].update(memory="17Gi"), "requests 17Gi of memory, more than",
    ),
    "GPU not requested": (
        lambda job: container(job)["resources"]["requests"].pop("nvidia.com/gpu"),
        "nvidia.com/gpu must be requested as it is limited",
    ),
    "pause longer than the grace": (
        lambda job: workers(job)["template"]["spec"].update(terminationGracePeriodSeconds=30),
        "preStop: may take 30 s of terminationGracePeriodSeconds=30",
    ),
}  # fmt: skip


@pytest.mark.parametrize("breach", BREACHES)
def test_each_breach_is_named(job: Object, breach: str):
    change, said = BREACHES[breach]
    change(job)
    problems = problems_of(job)
    assert any(said in each for each in problems), problems


def test_a_queued_job_is_right_as_it_is(job: Object):
    job["metadata"]["labels"].update(QUEUED | {"kueue.x-k8s.io/priority-class": "research"})
    assert problems_of(job) == []


def test_with_its_annotation_kueue_takes_autoscaling(job: Object):
    autoscaling()(job)
    job["metadata"]["labels"].update(QUEUED)
    assert problems_of(job) != []
    job["metadata"]["annotations"] = {"kueue.x-k8s.io/elastic-job": "true"}
    assert problems_of(job) == []


def test_a_cluster_of_its_own_is_held_to_the_same(job: Object):
    alone = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "a"}, "spec": cluster(job)}
    assert problems_of(alone) == []
    workers(job)["replicas"] = 3
    assert problems_of(alone) == ["workerGroupSpecs[0].replicas: must be from minReplicas=2 to maxReplicas=2"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("250m", 0.25), ("2", 2), ("1280Mi", 1280 * 2**20), ("1.5Gi", 1.5 * 2**30), (3, 3), ("5G", 5e9)],
)
def test_quantities_are_read(text: Any, number: float):
    assert float(quantity(text)) == number


@pytest.mark.parametrize("text", ["", "many", "1 Gi", "-1", None])
def test_what_is_no_quantity_is_refused(text: Any):
    with pytest.raises(ValueError, match="is no quantity"):
        quantity(text)
