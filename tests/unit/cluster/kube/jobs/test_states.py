"""A job's state and its reason in one line, as the objects of KubeRay, Kueue and the kubelet show them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.kube.client.kinds import Object
from cluster.kube.jobs.states import JobObjects, exit_code_in, view_of

STATES = {"queued", "admitted", "running", "retrying", "done", "failed", "stopped"}


def ray_job(suspend: bool = False, **status: Any) -> Object:
    labels = {"resnet-dist/verb": "train", "kueue.x-k8s.io/queue-name": "vision"}
    meta = {
        "name": "tiles",
        "labels": labels,
        "annotations": {"resnet-dist/identity": "i", "resnet-dist/run": "s3://r"},
    }
    return {"metadata": meta, "spec": {"suspend": suspend}, "status": status}


def pod(name: str, **status: Any) -> Object:
    return {"metadata": {"name": name}, "status": status}


def head(phase: str) -> Object:
    return {"metadata": {"name": "h", "labels": {"ray.io/node-type": "head"}}, "status": {"phase": phase}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"containerStatuses": [{"image": "resnet-dist:9", "state": state}]}


def workload(**conditions: tuple[str, str]) -> Object:
    found = [{"type": kind, "status": status, "message": said} for kind, (status, said) in conditions.items()]
    return {"status": {"conditions": found}}


@pytest.mark.parametrize(
    ("objects", "state", "reason"),
    [
        (JobObjects(ray_job()), "admitted", "its pods are starting"),
        (JobObjects(ray_job(suspend=True)), "queued", "queue vision: Kueue has not seen it yet"),
        (
            JobObjects(
                ray_job(suspend=True, jobDeploymentStatus="Suspended"),
                workload=workload(QuotaReserved=("False", "couldn't assign flavors: insufficient unused quota")),
            ),
            "queued",
            "queue vision: couldn't assign flavors: insufficient unused quota",
        ),
        (
            JobObjects(
                ray_job(suspend=True, jobDeploymentStatus="Suspended"),
                workload=workload(
                    QuotaReserved=(
                        "False",
                        "couldn't assign flavors to pod set workers: insufficient quota for cpu in flavor a100, "
                        "request > maximum capacity (12 > 8)",
                    )
                ),
            ),
            "queued",
            "queue vision: it will never start here: asks for 12 CPUs of a100, and there are 8",
        ),
        (
            JobObjects(
                ray_job(suspend=True, jobDeploymentStatus="Suspending"),
                workload=workload(Evicted=("True", "Preempted to accommodate a higher priority workload")),
            ),
            "queued",
            "queue vision: Preempted to accommodate a higher priority workload",
        ),
        (
            JobObjects(
                ray_job(jobDeploymentStatus="Initializing"),
                pods=(pod("w-1", **waiting("ImagePullBackOff", "not found")),),
            ),
            "admitted",
            "image resnet-dist:9 cannot be pulled for pod w-1: not found",
        ),
        (
            JobObjects(
                ray_job(jobDeploymentStatus="Initializing"),
                pods=(pod("w-1", **waiting("CreateContainerConfigError", 'secret "keys" not found')),),
            ),
            "admitted",
            'pod w-1 cannot start: secret "keys" not found',
        ),
        (
            JobObjects(
                ray_job(jobDeploymentStatus="Initializing"),
                pods=(
                    pod(
                        "w-1",
                        conditions=[
                            {
                                "type": "PodScheduled",
                                "status": "False",
                                "reason": "Unschedulable",
                                "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
                            }
                        ],
                    ),
                ),
            ),
            "admitted",
            "pod w-1 cannot be scheduled: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        ),
        (
            JobObjects(
                ray_job(jobDeploymentStatus="Initializing"),
                events=(
                    {
                        "reason": "FailedCreate",
                        "message": "pods w-2 is forbidden: exceeded quota: team, requested: cpu=8",
                        "involvedObject": {"name": "tiles"},
                    },
                ),
            ),
            "admitted",
            "quota: pods w-2 is forbidden: exceeded quota: team, requested: cpu=8",
        ),
        (JobObjects(ray_job(jobDeploymentStatus="Running", jobStatus="PENDING")), "admitted", "its pods are starting"),
        (JobObjects(ray_job(jobDeploymentStatus="Running", jobStatus="RUNNING")), "running", ""),
        (JobObjects(ray_job(jobDeploymentStatus="Running", jobStatus="SUCCEEDED")), "done", ""),
        (
            JobObjects(ray_job(jobDeploymentStatus="Running", jobStatus="FAILED", message="with exit code 9\nno")),
            "failed",
            "exit code 9: no",
        ),
        (JobObjects(ray_job(jobDeploymentStatus="Running", jobStatus="STOPPED")), "stopped", ""),
        (
            JobObjects(ray_job(jobDeploymentStatus="Running", jobStatus="RUNNING"), pods=(head("Running"),)),
            "running",
            "",
        ),
        (
            JobObjects(ray_job(jobDeploymentStatus="Running", jobStatus="RUNNING"), pods=(head("Failed"), pod("w-1"))),
            "retrying",
            "its head is lost; KubeRay makes another one, and the job is submitted to it",
        ),
        (JobObjects(ray_job(jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")), "done", ""),
        (JobObjects(ray_job(jobDeploymentStatus="Complete", jobStatus="STOPPED")), "stopped", ""),
        (
            JobObjects(
                ray_job(
                    jobDeploymentStatus="Retrying",
                    failed=1,
                    message="Job entrypoint command failed with exit code 137, last available logs:\nepoch 1",
                )
            ),
            "retrying",
            "exit code 137: epoch 1",
        ),
        (
            JobObjects(
                ray_job(
                    jobDeploymentStatus="Failed",
                    message="Job entrypoint command failed with exit code 143, last available logs:\nerror: ended",
                )
            ),
            "failed",
            "preempted: ended from outside (SIGTERM); submitted again, it resumes from its last checkpoint",
        ),
        (JobObjects(ray_job(jobDeploymentStatus="Initializing", failed=1)), "retrying", "its pods are starting"),
        (
            JobObjects(
                ray_job(
                    jobDeploymentStatus="Failed",
                    reason="AppFailed",
                    failed=4,
                    message="Job entrypoint command failed with exit code 2, last available logs (truncated to 20,000 "
                    "chars):\nerror: data.root is not set; name an ImageFolder with --data.root DIR\n",
                )
            ),
            "failed",
            "wrong configuration: data.root is not set; name an ImageFolder with --data.root DIR",
        ),
        (
            JobObjects(
                ray_job(jobDeploymentStatus="Failed", message="failed with exit code 1\nncclRemoteError: peer closed")
            ),
            "failed",
            "NCCL: ncclRemoteError: peer closed",
        ),
        (
            JobObjects(
                ray_job(jobDeploymentStatus="Failed", failed=1, message="failed with exit code 1\nworker died"),
                pods=(
                    pod("w-1", containerStatuses=[{"lastState": {"terminated": {"reason": "OOMKilled"}}}]),
                ),
            ),
            "failed",
            "out of memory: pod w-1 took more than its limit; raise cluster.memory_per_worker_gib",
        ),
        (
            JobObjects(ray_job(jobDeploymentStatus="Failed", reason="DeadlineExceeded")),
            "failed",
            "it took longer than activeDeadlineSeconds allows",
        ),
    ],
)  # fmt: skip
def test_state_and_reason(objects: JobObjects, state: str, reason: str) -> None:
    view = view_of(objects)
    assert (view.state, view.reason) == (state, reason)
    assert (view.name, view.verb, view.queue, view.identity, view.run) == ("tiles", "train", "vision", "i", "s3://r")


@pytest.mark.parametrize(
    ("status", "attempt"),
    [
        ({}, 1),
        ({"failed": 1, "jobDeploymentStatus": "Retrying"}, 2),
        ({"failed": 4, "jobDeploymentStatus": "Failed"}, 4),
        ({"failed": 0, "jobDeploymentStatus": "ValidationFailed"}, 1),
        ({"failed": 2, "succeeded": 1, "jobDeploymentStatus": "Complete"}, 3),
        ({"failed": 2, "jobStatus": "FAILED", "jobDeploymentStatus": "Running"}, 3),
    ],
)
def test_attempts_are_counted_from_one(status: dict[str, Any], attempt: int) -> None:
    assert view_of(JobObjects(ray_job(**status))).attempt == attempt


def test_a_driver_that_failed_is_tried_again_while_there_are_tries_left() -> None:
    job = ray_job(jobDeploymentStatus="Running", jobStatus="FAILED", failed=1, message="failed with exit code 1\nno")
    job["spec"]["backoffLimit"] = 2
    assert view_of(JobObjects(job)).state == "retrying"
    job["status"]["failed"] = 2
    view = view_of(JobObjects(job))
    assert (view.state, view.exit_code) == ("failed", 1)


def test_a_deleted_job_is_stopped_whatever_its_status() -> None:
    job = ray_job(jobDeploymentStatus="Running", jobStatus="RUNNING")
    job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert view_of(JobObjects(job)).state == "stopped"


@given(st.integers(-64, 255))
def test_exit_codes_are_read_from_rays_messages(code: int) -> None:
    assert exit_code_in(f"Job entrypoint command failed with exit code {code}, last available logs") == code
    assert exit_code_in(f"Driver exited with code {code}") == code


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
STATUS = st.fixed_dictionaries(
    {},
    optional={
        "jobDeploymentStatus": st.sampled_from(
            ["", "Initializing", "Running", "Complete", "Failed", "Suspended", "Retrying", "Waiting", "Newer"]
        ),
        "jobStatus": st.sampled_from(["", "PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]),
        "failed": st.integers(0, 5),
        "message": st.text(max_size=2000),
        "reason": st.text(max_size=20),
    },
)


@given(STATUS, st.booleans(), st.lists(JSON.map(lambda value: {"metadata": {}, "status": {"x": value}}), max_size=2))
def test_whatever_the_cluster_says_a_view_is_one_line(status: Any, suspend: bool, pods: list[Any]) -> None:
    view = view_of(JobObjects(ray_job(suspend=suspend, **status), tuple(pods)))
    assert view.state in STATES
    assert "\n" not in view.reason
    assert len(view.reason) <= 300
    assert (view.exit_code is None) or view.ended
