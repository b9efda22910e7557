"""What Ray says of a job, as a view of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.dashboard.modules.job.pydantic_models import JobDetails
from ray.job_submission import JobErrorType, JobStatus

from cluster.jobs_api.states import PROGRAM, exit_code_of, reason_of, view_of

OURS = {
    "program": PROGRAM,
    "name": "digits",
    "verb": "train",
    "identity": "a" * 64,
    "submission": "s",
    "run": "file:///r",
}


def details(status: str, **other: Any) -> JobDetails:
    known = {"type": "SUBMISSION", "entrypoint": "python", "submission_id": "digits-3", "metadata": OURS}
    return JobDetails(**known | {"status": status} | other)


def failed(code: int | None, *logged: str, kind: str = JobErrorType.JOB_ENTRYPOINT_COMMAND_ERROR.value) -> JobDetails:
    message = "\n".join(
        [
            f"Job entrypoint command failed with exit code {code}, last available logs (truncated to 20,000 chars):",
            *logged,
        ]
    )
    return details("FAILED", message=message, driver_exit_code=code, error_type=kind)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("PENDING", "admitted"),
        ("RUNNING", "running"),
        ("SUCCEEDED", "done"),
        ("FAILED", "failed"),
        ("STOPPED", "stopped"),
    ],
)
def test_every_status_is_a_state(status: str, state: str) -> None:
    view = view_of(details(status, start_time=1_700_000_000_000))
    assert view is not None
    assert (view.state, view.name, view.attempt, view.run) == (state, "digits", 3, "file:///r")
    assert view.submitted == "2023-11-14T22:13:20+00:00"
    assert view.ended == JobStatus(status).is_terminal()


@pytest.mark.parametrize(
    "metadata", [None, {}, {"name": "digits"}, OURS | {"program": "other"}, OURS | {"name": "digit"}]
)
def test_what_others_run_is_not_ours(metadata: dict[str, str] | None) -> None:
    assert view_of(details("RUNNING", metadata=metadata)) is None


@given(
    st.sampled_from([status.value for status in JobStatus]),
    st.none() | st.text(max_size=1000),
    st.none() | st.integers(-64, 255),
    st.none() | st.sampled_from([kind.value for kind in JobErrorType]),
)
def test_whatever_ray_says_is_a_view_with_one_line(
    status: str, message: str | None, code: int | None, kind: str | None
) -> None:
    view = view_of(details(status, message=message, driver_exit_code=code, error_type=kind))
    assert view is not None
    assert len(view.reason) <= 300
    assert len(view.reason.splitlines()) <= 1
    assert bool(view.reason) == (view.state in {"failed", "admitted"})
    assert view.exit_code is None or (view.ended and 0 <= view.exit_code <= 255)


@given(st.integers(1, 255), st.text(max_size=200))
def test_the_exit_code_is_also_read_from_the_message(code: int, logged: str) -> None:
    said = failed(code, logged)
    assert exit_code_of(said) == exit_code_of(said.model_copy(update={"driver_exit_code": None})) == code


@given(st.integers(1, 64))
def test_a_signal_is_an_exit_code_as_a_shell_has_it(signal: int) -> None:
    assert exit_code_of(failed(-signal)) == 128 + signal


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (failed(2, "epoch 1", "error: data.root=x: is no folder"), "data.root=x: is no folder"),
        (failed(1, "python: No module named ray_jobs"), "the cluster has no resnet-dist"),
        (failed(1, "torch.OutOfMemoryError: 2 GiB", "later"), "out of memory: torch.OutOfMemoryError: 2 GiB"),
        (failed(-9), "killed (signal 9)"),
        (failed(143, "error: ended from outside (SIGTERM); the same command resumes"), "preempted: ended from outside"),
        (failed(-15), "preempted: ended from outside"),
        (failed(7, "last words"), "exit code 7: last words"),
        (failed(7), "exit code 7"),
        (details("FAILED"), "Ray does not say why"),
        (
            details("FAILED", message="runtime_env setup failed: no space", error_type="RUNTIME_ENV_SETUP_FAILURE"),
            "its environment could not be made: no space",
        ),
        (
            details("FAILED", message="in 900 s", error_type="JOB_SUPERVISOR_ACTOR_START_TIMEOUT"),
            "it could not be started: in 900 s",
        ),
        (
            details("FAILED", message="died", error_type="JOB_SUPERVISOR_ACTOR_DIED"),
            "the node that its driver ran on is gone: died",
        ),
    ],
)
def test_why_a_job_failed(said: JobDetails, reason: str) -> None:
    assert reason_of(said).startswith(reason)
