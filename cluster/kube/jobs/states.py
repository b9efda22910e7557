"""What a job on Kubernetes is doing and why, read off its RayJob, pods, events and, with Kueue, its Workload."""

import re
from dataclasses import dataclass

from cluster.jobs import PREEMPTED, TERMINATED, JobState, JobView
from cluster.kube.client.kinds import Object, entries, part
from cluster.kube.jobs.hindrance import Hindrance, hindrance_of
from cluster.kube.queues.causes import cause_of
from cluster.storage.credentials import address_without_secret

PREFIX = "resnet-dist"
IDENTITY, CONTENT, SUBMISSION, RUN, VERB = (
    f"{PREFIX}/{name}" for name in ("identity", "content", "submission", "run", "verb")
)
JOB_LABEL, NAME_LABEL = f"{PREFIX}/job", "app.kubernetes.io/name"
QUEUE_LABEL, PRIORITY_LABEL = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"

_EXIT = re.compile(r"exit(?:ed)?(?: with)?(?: exit)? code:? (-?\d{1,3})\b")
_ERROR_LINE = re.compile(r"^\s*error: (.+)$", re.MULTILINE)
_NODE_TYPE = "ray.io/node-type"
_MOST = 300
"""Letters of a reason."""
_WORDS = {
    "out of memory": ("OutOfMemoryError", "Cannot allocate memory", "CUDA out of memory", "OOMKilled"),
    "NCCL": ("ncclUnhandledCudaError", "ncclSystemError", "ncclRemoteError", "NCCL error", "NCCL timeout"),
}
"""What stands in the end of a log when that was the reason."""


@dataclass(frozen=True)
class JobObjects:
    """All that a job's state is read off."""

    ray_job: Object
    pods: tuple[Object, ...] | None = None
    """None where nobody looked."""
    events: tuple[Object, ...] = ()
    """Of the job and its pods."""
    workload: Object | None = None
    """Kueue's, with a queue."""
    position: int | None = None
    """Workloads that the queue admits before this one."""


def view_of(objects: JobObjects) -> JobView:
    """The job as its objects show it."""
    job = objects.ray_job
    meta = part(job, "metadata")
    labels, notes = part(meta, "labels"), part(meta, "annotations")
    state, reason, exit_code = _state(objects)
    status = part(job, "status")
    # KubeRay counts an attempt as failed when it has closed it.
    is_counted = state == "failed" and status.get("jobDeploymentStatus") != "Running"
    return JobView(
        name=str(meta.get("name", "")),
        verb=str(labels.get(VERB, "")),
        state=state,
        reason=_line(reason),
        hindered=state in ("admitted", "retrying") and _hindrance(objects).is_lasting,
        identity=str(notes.get(IDENTITY, "")),
        content=str(notes.get(CONTENT, "")),
        submission=str(notes.get(SUBMISSION, "")),
        run=address_without_secret(str(notes.get(RUN, ""))),
        queue=str(labels.get(QUEUE_LABEL, "")),
        position=objects.position if state == "queued" else None,
        priority=str(labels.get(PRIORITY_LABEL, "")),
        attempt=int(status.get("failed") or 0) + (0 if is_counted else 1) or 1,
        exit_code=exit_code,
        submitted=str(meta.get("creationTimestamp", "")),
    )


def _state(objects: JobObjects) -> tuple[JobState, str, int | None]:
    job = objects.ray_job
    status = part(job, "status")
    deployment, ray = str(status.get("jobDeploymentStatus") or ""), str(status.get("jobStatus") or "")
    message = str(status.get("message") or "")
    if part(job, "metadata").get("deletionTimestamp"):
        return "stopped", "deleted", None
    match deployment:
        case "Complete":
            if ray == "STOPPED":
                return "stopped", message, None
            if ray == "FAILED":
                return "failed", _failure(objects), exit_code_in(message)
            return "done", "", 0
        case "Failed" | "ValidationFailed":
            return "failed", _failure(objects), exit_code_in(message)
        case "Retrying":
            return "retrying", _failure(objects), None
        case "Running" if ray in {"SUCCEEDED", "FAILED", "STOPPED"}:  # its driver has ended, its cluster not yet
            return _just_ended(objects, ray)
        case "Running" if ray == "RUNNING":
            if _is_headless(objects.pods):
                return "retrying", "its head is lost; KubeRay makes another one, and the job is submitted to it", None
            return "running", _hindrance(objects).text, None
        case _:
            pass
    waiting = part(job, "spec").get("suspend") is True or deployment in {"Suspended", "Suspending"}
    if waiting:
        return "queued", _queue_reason(objects), None
    # A retry is a new cluster that starts as the first did.
    state: JobState = "retrying" if int(status.get("failed") or 0) > 0 else "admitted"
    return state, _hindrance(objects).text or "its pods are starting", None


def _just_ended(objects: JobObjects, ray: str) -> tuple[JobState, str, int | None]:
    """A job whose driver has ended and whose cluster KubeRay has not closed yet."""
    status, spec = part(objects.ray_job, "status"), part(objects.ray_job, "spec")
    message = str(status.get("message") or "")
    if ray == "SUCCEEDED":
        return "done", "", 0
    if ray == "STOPPED":
        return "stopped", message, None
    if int(status.get("failed") or 0) < int(spec.get("backoffLimit") or 0):
        return "retrying", _failure(objects), None
    return "failed", _failure(objects), exit_code_in(message)


def _is_headless(pods: tuple[Object, ...] | None) -> bool:
    """Whether no pod of Ray's head lives; KubeRay's own status tells a minute later."""
    if pods is None:
        return False
    heads = [each for each in pods if part(each, "metadata", "labels").get(_NODE_TYPE) == "head"]
    return not any(
        part(each, "status").get("phase") in {"Pending", "Running"}
        and "deletionTimestamp" not in part(each, "metadata")
        for each in heads
    )


def _hindrance(objects: JobObjects) -> Hindrance:
    meta, status = part(objects.ray_job, "metadata"), part(objects.ray_job, "status")
    began = max(str(meta.get("creationTimestamp") or ""), str(status.get("startTime") or ""))
    return hindrance_of(objects.pods or (), objects.events, began)


def exit_code_in(message: str) -> int | None:
    """The exit code that Ray's message about an ended job names."""
    found = _EXIT.search(message)
    return int(found[1]) if found else None


def _failure(objects: JobObjects) -> str:
    """Why a job, or its last attempt, failed."""
    status = part(objects.ray_job, "status")
    message, reason = str(status.get("message") or ""), str(status.get("reason") or "")
    code = exit_code_in(message)
    errors = _ERROR_LINE.findall(message)
    if code in {2, 3, 4} and errors:
        kind = {2: "wrong configuration", 3: "unusable data, run or storage", 4: "a quality gate said no"}[code]
        return f"{kind}: {errors[-1]}"
    if code == TERMINATED:
        return PREEMPTED
    hindrance = _hindrance(objects)
    if hindrance.text:
        return hindrance.text
    for name, words in _WORDS.items():
        if any(word in message for word in words):
            return f"{name}: {errors[-1]}" if errors else f"{name}: {_last_line(message)}"
    match reason:
        case "DeadlineExceeded":
            return "it took longer than activeDeadlineSeconds allows"
        case "PreRunningDeadlineExceeded":
            return "it did not begin within preRunningDeadlineSeconds"
        case "SubmissionFailed":
            return f"Ray did not take the job: {_last_line(message)}"
        case _:
            pass
    text = errors[-1] if errors else _last_line(message)
    return " ".join(part for part in (f"exit code {code}:" if code is not None else "", text or reason) if part)


def _queue_reason(objects: JobObjects) -> str:
    """Why a queue has not let a job in."""
    queue = str(part(part(objects.ray_job, "metadata"), "labels").get(QUEUE_LABEL, ""))
    if not queue:
        return "suspended"
    if objects.workload is None:
        return f"queue {queue}: Kueue has not seen it yet"
    conditions = {str(each.get("type")): each for each in entries(part(objects.workload, "status"), "conditions")}
    for kind in ("Evicted", "QuotaReserved", "Admitted"):
        condition = conditions.get(kind)
        wrong = condition is not None and (condition.get("status") == "True") is (kind == "Evicted")
        if condition is not None and wrong and condition.get("message"):
            return f"queue {queue}: {cause_of(str(condition['message']))}"
    return f"queue {queue}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _line(text: str) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= _MOST else f"{joined[: _MOST - 3]}..."
