"""What a job on Kubernetes is doing and why, read off its RayJob, pods, events and, with Kueue, its Workload."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.jobs import PREEMPTED, TERMINATED, JobState, JobView
from cluster.kube.client.kinds import Object, entries, part
from cluster.storage.credentials import address_without_secret

PREFIX = "resnet-dist"
IDENTITY, CONTENT, SUBMISSION, RUN, VERB = (
    f"{PREFIX}/{name}" for name in ("identity", "content", "submission", "run", "verb")
)
JOB_LABEL, NAME_LABEL = f"{PREFIX}/job", "app.kubernetes.io/name"
QUEUE_LABEL, PRIORITY_LABEL = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"

_EXIT = re.compile(r"exit(?:ed)?(?: with)?(?: exit)? code:? (-?\d{1,3})\b")
_ERROR_LINE = re.compile(r"^\s*error: (.+)$", re.MULTILINE)
_MOST = 300
"""Letters of a reason."""
_PULL = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
_CONFIG = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
_WORDS = {
    "out of memory": ("OutOfMemoryError", "Cannot allocate memory", "CUDA out of memory", "OOMKilled"),
    "NCCL": ("ncclUnhandledCudaError", "ncclSystemError", "ncclRemoteError", "NCCL error", "NCCL timeout"),
}
"""What stands in the end of a log when that was the reason."""


@dataclass(frozen=True)
class JobObjects:
    """All that a job's state is read off."""

    ray_job: Object
    pods: tuple[Object, ...] = ()
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
    return JobView(
        name=str(meta.get("name", "")),
        verb=str(labels.get(VERB, "")),
        state=state,
        reason=_line(reason),
        identity=str(notes.get(IDENTITY, "")),
        content=str(notes.get(CONTENT, "")),
        submission=str(notes.get(SUBMISSION, "")),
        run=address_without_secret(str(notes.get(RUN, ""))),
        queue=str(labels.get(QUEUE_LABEL, "")),
        position=objects.position if state == "queued" else None,
        priority=str(labels.get(PRIORITY_LABEL, "")),
        attempt=int(part(job, "status").get("failed") or 0) + (0 if state == "failed" else 1) or 1,
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
        case "Running" if ray == "RUNNING":
            return "running", _hindrance(objects.pods, objects.events), None
        case _:
            pass
    waiting = part(job, "spec").get("suspend") is True or deployment in {"Suspended", "Suspending"}
    if waiting:
        return "queued", _queue_reason(objects), None
    # A retry is a new cluster that starts as the first did.
    state: JobState = "retrying" if int(status.get("failed") or 0) > 0 else "admitted"
    return state, _hindrance(objects.pods, objects.events) or "its pods are starting", None


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
    hindrance = _hindrance(objects.pods, objects.events)
    if hindrance:
        return hindrance
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


def _hindrance(pods: Iterable[Object], events: Iterable[Object]) -> str:
    """What keeps pods from running, the most telling first; empty where nothing does."""
    found: dict[int, str] = {}
    for pod in pods:
        name = str(part(pod, "metadata").get("name", ""))
        status = part(pod, "status")
        for container in [*entries(status, "initContainerStatuses"), *entries(status, "containerStatuses")]:
            for rank, text in _container_hindrance(name, container):
                found.setdefault(rank, text)
        for condition in entries(status, "conditions"):
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                why = str(condition.get("message") or condition.get("reason") or "")
                found.setdefault(3, f"pod {name} cannot be scheduled: {why}")
        if status.get("reason") == "Evicted":
            found.setdefault(4, f"pod {name} was evicted: {status.get('message', '')}")
    for event in events:
        why = str(event.get("reason") or "")
        about = str(part(event, "involvedObject").get("name", ""))
        if why in {"FailedMount", "FailedAttachVolume"}:
            found.setdefault(2, f"pod {about} cannot mount a volume: {event.get('message', '')}")
        elif why == "FailedCreate" or "exceeded quota" in str(event.get("message") or ""):
            found.setdefault(5, f"quota: {event.get('message', '')}")
    return found[min(found)] if found else ""


def _container_hindrance(pod: str, container: Object) -> Iterable[tuple[int, str]]:
    state = part(container, "state")
    waiting = part(state, "waiting")
    why, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    image = str(container.get("image", ""))
    if why in _PULL:
        yield 0, f"image {image} cannot be pulled for pod {pod}: {message or why}"
    elif why in _CONFIG:
        yield 1, f"pod {pod} cannot start: {message or why}"
    for ended in (part(state, "terminated"), part(part(container, "lastState"), "terminated")):
        if ended.get("reason") == "OOMKilled":
            yield 0, f"out of memory: pod {pod} took more than its limit; raise cluster.memory_per_worker_gib"


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
            return f"queue {queue}: {condition['message']}"
    return f"queue {queue}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _line(text: str) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= _MOST else f"{joined[: _MOST - 3]}..."
