"""Where it is decided how often failed workers are restarted, with what, and when the driver gives up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cluster.errors import RayDiedError, RayNotStartedError, ResourceError
from ray_jobs.errors import CERTAIN, JobFailedError, first_line
from resnet_dist.errors import RunError
from resnet_dist.training.out_of_memory import MicrobatchTooLargeError, halved

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0


class NoWholeCheckpointError(RunError):
    """Rank zero found no whole checkpoint in a run that the driver took for a begun one: what is wrong with each."""


@dataclass(frozen=True)
class Limits:
    """What a job allows; the same from its first worker group to its last."""

    max_failures: int
    """How often in a row workers may fail without a checkpoint beyond all before."""
    wait_for_room_s: float
    """How long to wait in a row for others to free the workers' places."""
    global_batch_size: int
    workers: str
    """How many there are and what each takes, for messages."""


@dataclass(frozen=True)
class Past:
    """What the driver remembers from one worker group to the next."""

    reached: int
    """The most steps of a whole checkpoint that a failure has found; 0 before the first failure."""
    failures: int = 0
    """Worker groups that failed since a checkpoint went beyond all before."""
    full_since_s: float | None = None
    """When the first worker group in a row that found no room was started; None where the last one did find room."""
    restarts: int = 0
    """How often the embedded Ray was started again."""
    died_at: tuple[str, str] | None = None
    """How Ray died the last time, and how far the work had come then."""


@dataclass(frozen=True)
class Failure:
    """How a worker group ended."""

    causes: Sequence[BaseException]
    """What its workers raised, or what ended it before they could: at least one."""
    no_room: bool
    """Whether it did not start because its places were taken."""
    began_s: float
    ended_s: float
    """On the driver's monotonic clock, as `began_s`."""


@dataclass(frozen=True)
class Retry:
    """Start again from the newest checkpoint."""

    past: Past
    step: int
    """The newest whole checkpoint's."""


@dataclass(frozen=True)
class Shrink:
    """Start again from the newest checkpoint with smaller microbatches."""

    past: Past
    microbatch_size: int
    cause: MicrobatchTooLargeError


@dataclass(frozen=True)
class StartOver:
    """Start again from the initial weights: no checkpoint is whole."""

    past: Past


@dataclass(frozen=True)
class Restart:
    """Start the embedded Ray again, and go on from what is stored."""

    past: Past
    pause_s: float
    """How long to wait before."""


@dataclass(frozen=True)
class Wait:
    """Ask again for room; others may use it now."""

    past: Past
    left_s: float
    """How much longer at most."""


@dataclass(frozen=True)
class Raise:
    """Give up."""

    error: BaseException


Decision = Retry | Shrink | StartOver | Wait | Raise


def decide(failure: Failure, past: Past, limits: Limits, newest_step: Callable[[], int]) -> Decision:
    """What follows a worker group's failure. The first rule that applies decides:

    1. It found no room: wait, at most `wait_for_room_s` in a row. That is no failure.
    2. A rank ran out of memory: shrink its microbatches. The same size would fail again, and a smaller one makes
       progress, so it is no failure either.
    3. No checkpoint is whole: start over. That happens once at most, since initial weights need none.
    4. Another attempt would end with the same error: raise it.
    5. Otherwise retry, until more than `max_failures` in a row brought no checkpoint beyond all before.

    `newest_step` reads the step of the newest whole checkpoint, 0 where there is none. Only rule 5 calls it: storage
    may be what failed. Steps that were reached before count no second time, so a storage that damages every checkpoint
    cannot cause restarts without end.
    """
    if failure.no_room:
        return _wait_or_raise(failure, past, limits)
    past = replace(past, full_since_s=None)
    for cause in failure.causes:
        if isinstance(cause, MicrobatchTooLargeError):
            return _shrink_or_raise(cause, past, limits)
    for cause in failure.causes:
        if isinstance(cause, NoWholeCheckpointError):
            return StartOver(past)
        if isinstance(cause, CERTAIN):
            return Raise(cause)
    step = newest_step()
    failures = 1 if step > past.reached else past.failures + 1
    if failures > limits.max_failures:
        return Raise(
            JobFailedError(
                f"workers failed {failures} times without a new checkpoint (cluster.max_failures="
                f"{limits.max_failures}); the last failure:\n{first_line(failure.causes[0])}"
            )
        )
    return Retry(replace(past, reached=max(step, past.reached), failures=failures), step)


def after_death(death: RayDiedError, past: Past, max_restarts: int, reached: str) -> Restart | Raise:
    """What follows the death of the embedded Ray: a restart, at most `max_restarts` in all, each after a longer pause.

    Where it died alike with no more work stored than before, another try would, too; one that did not come up may have
    met a busy machine. `reached`: how far the stored
    work has come, such as "step 7".
    """
    died_at = (str(death), reached)
    if past.died_at == died_at and not isinstance(death, RayNotStartedError):
        return Raise(JobFailedError(f"{death}, twice at {reached}; what is stored stays, and the same command resumes"))
    if past.restarts >= max_restarts:
        return Raise(
            JobFailedError(
                f"{death}; it was started again {past.restarts} times (cluster.max_restarts={max_restarts}); what is "
                "stored stays, and the same command resumes"
            )
        )
    pause_s = min(FIRST_PAUSE_S * 2.0**past.restarts, LONGEST_PAUSE_S)
    return Restart(replace(past, full_since_s=None, restarts=past.restarts + 1, died_at=died_at), pause_s)


def _wait_or_raise(failure: Failure, past: Past, limits: Limits) -> Wait | Raise:
    since_s = failure.began_s if past.full_since_s is None else past.full_since_s
    left_s = limits.wait_for_room_s - (failure.ended_s - since_s)
    if left_s > 0:
        return Wait(replace(past, full_since_s=since_s), left_s)
    return Raise(
        ResourceError(
            f"no room for {limits.workers} came free within cluster.wait_for_nodes_s={limits.wait_for_room_s:g}; end "
            "other jobs, use fewer or smaller workers, or wait for longer"
        )
    )


def _shrink_or_raise(cause: MicrobatchTooLargeError, past: Past, limits: Limits) -> Shrink | Raise:
    try:
        return Shrink(past, halved(cause.microbatch_size, limits.global_batch_size), cause)
    except RunError as error:
        return Raise(error)
