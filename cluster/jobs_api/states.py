"""A job as Ray describes it, as a view."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from ray.dashboard.modules.job.pydantic_models import JobDetails
from ray.job_submission import JobErrorType, JobStatus

from cluster.jobs import PREEMPTED, TERMINATED, JobState, JobView
from cluster.jobs_api.names import attempt_of
from cluster.storage.credentials import address_without_secret

PROGRAM = "resnet-dist"
_EXIT_CODE = re.compile(r"exit code (-?\d+)")
_LONGEST_REASON = 300
_NOT_STARTED = {
    JobErrorType.JOB_SUPERVISOR_ACTOR_START_TIMEOUT,
    JobErrorType.JOB_SUPERVISOR_ACTOR_START_FAILURE,
    JobErrorType.JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE,
    JobErrorType.JOB_ENTRYPOINT_COMMAND_START_ERROR,
}
_OUT_OF_MEMORY = ("outofmemory", "out of memory", "cannot allocate memory", "memoryerror")


def view_of(details: JobDetails) -> JobView | None:
    """A job of this program; None for what others run on the same Ray."""
    metadata = details.metadata or {}
    name = metadata.get("name", "")
    attempt = attempt_of(name, details.submission_id or "")
    if metadata.get("program") != PROGRAM or attempt is None:
        return None
    started = details.start_time
    return JobView(
        name=name,
        verb=metadata.get("verb", ""),
        state=_state(details.status),
        reason=reason_of(details),
        identity=metadata.get("identity", ""),
        content=metadata.get("content", ""),
        submission=metadata.get("submission", ""),
        run=address_without_secret(metadata.get("run", "")),
        attempt=attempt,
        exit_code=exit_code_of(details),
        submitted="" if started is None else datetime.fromtimestamp(started / 1000, UTC).isoformat(timespec="seconds"),
    )


def tree_of(details: JobDetails) -> str:
    """The digest of the working tree that a job runs; empty where it runs the image's code."""
    metadata: Mapping[str, str] = details.metadata or {}
    return metadata.get("tree", "")


def exit_code_of(details: JobDetails) -> int | None:
    """The driver's exit code as a shell has it: 128 and the signal's number where a signal ended it."""
    if details.status not in (JobStatus.SUCCEEDED, JobStatus.FAILED):
        return None
    code = details.driver_exit_code
    if code is None:
        found = _EXIT_CODE.search((details.message or "").partition("\n")[0])
        code = int(found.group(1)) if found else None
    if code is None:
        return 0 if details.status is JobStatus.SUCCEEDED else None
    return 128 - code if code < 0 else code


def reason_of(details: JobDetails) -> str:
    """Why a job is in its state, in one line; empty without a reason."""
    match details.status:
        case JobStatus.PENDING:
            return "its environment is being made"
        case JobStatus.FAILED:
            return _cut(_failure(details))
        case _:
            return ""


def _state(status: JobStatus) -> JobState:
    match status:
        case JobStatus.PENDING:
            return "admitted"  # Ray keeps no queue: what is pending has a cluster, and waits for its files
        case JobStatus.RUNNING:
            return "running"
        case JobStatus.SUCCEEDED:
            return "done"
        case JobStatus.STOPPED:
            return "stopped"
        case JobStatus.FAILED:
            return "failed"


def _failure(details: JobDetails) -> str:
    lines = [line.strip() for line in (details.message or "").splitlines() if line.strip()]
    first = lines[0] if lines else "Ray does not say why"
    kind = details.error_type
    if kind == JobErrorType.RUNTIME_ENV_SETUP_FAILURE:
        return f"its environment could not be made: {first.removeprefix('runtime_env setup failed: ')}"
    if kind in _NOT_STARTED:
        return f"it could not be started: {first}"
    if kind == JobErrorType.JOB_SUPERVISOR_ACTOR_DIED:
        return f"the node that its driver ran on is gone: {first}"
    code, logged = exit_code_of(details), lines[1:]
    if code is None:
        return first
    if code == TERMINATED:
        return PREEMPTED
    # The program ends with one block that begins so; whatever else is there came before it.
    reported = next((line.removeprefix("error: ") for line in reversed(logged) if line.startswith("error: ")), "")
    if reported:
        return reported
    if any("No module named" in line and "ray_jobs" in line for line in logged):
        return "the cluster has no resnet-dist; send a checkout with the job, or use an image that has it"
    starved = next((line for line in reversed(logged) if any(word in line.lower() for word in _OUT_OF_MEMORY)), "")
    if starved:
        return f"out of memory: {starved}"
    if code == 128 + 9:
        return "killed (signal 9), as the system does to a process when memory runs out"
    return f"exit code {code}: {logged[-1]}" if logged else f"exit code {code}"


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 3] + "..."
