"""The gate of `--max-loss`: how much top-1 a compressed run may lose, of its teacher or of the run before a chain."""

from dataclasses import dataclass, replace

from ray_jobs.compression.lineage import ancestor_of, teacher_of
from ray_jobs.compression.outcome import PhaseOutcome
from ray_jobs.errors import GateError
from ray_jobs.evaluation.answers import answers_of, compared, judged_split
from ray_jobs.job.toml_codec import Tree
from ray_jobs.run.directory import RunDirectory
from resnet_dist.evaluation.paired_interval import Changes


@dataclass(frozen=True)
class JudgedLoss:
    """What a run lost of another one's top-1, on the same images of a split."""

    split: str
    changes: Changes

    def is_within(self, points: float) -> bool:
        """Whether the whole interval of the loss lies at or below so many points."""
        return 100 * self.changes.interval()[1] <= points

    def __str__(self) -> str:
        low, high = self.changes.interval()
        return (
            f"top-1 on {self.split} ({self.changes.samples} images) fell by {100 * self.changes.loss:.2f} points "
            f"({100 * low:.2f} .. {100 * high:.2f})"
        )


def judged_loss(first: RunDirectory, run: RunDirectory, split: str, changes: Tree) -> JudgedLoss:
    """What `run` lost of the top-1 of `first`, each judged by its best checkpoint."""
    before, after = answers_of(first, split, changes), answers_of(run, split, changes)
    return JudgedLoss(split, compared(before, after))


def gated(
    outcome: PhaseOutcome, points: float | None, changes: Tree, first: RunDirectory | None = None
) -> PhaseOutcome:
    """The outcome with what its run lost of the top-1 of `first`, by default its teacher, on test where there is one,
    else on val.

    Without a limit, as it is. Raises GateError as `enforce` does.
    """
    if points is None:
        return outcome
    run = RunDirectory.find(outcome.run, "")
    loss = judged_loss(first or _teacher(run), run, judged_split(run), changes)
    enforce(loss, points)
    return replace(outcome, loss=str(loss))


def _teacher(run: RunDirectory) -> RunDirectory:
    teacher = teacher_of(run)
    if teacher is None:
        raise ValueError(f"{run.uri} has no teacher, and every run of a phase has one")
    return ancestor_of(run, teacher)


def enforce(loss: JudgedLoss, points: float, remedy: str = "keep more of the network, or train it longer") -> None:
    """Raise GateError unless the loss is below so many points, the whole interval of it."""
    if loss.is_within(points):
        return
    if 100 * loss.changes.interval()[0] > points:
        raise GateError(f"{loss}, more than --max-loss {points:g}; {remedy}")
    needed = loss.changes.samples_to_tell(points / 100)
    images = "more images than can be collected" if needed is None else f"{needed} images"
    raise GateError(
        f"{loss}: whether that is more than --max-loss {points:g} cannot be told from so few; with the same shares "
        f"{images} would tell. Judge it on more images, or {remedy}"
    )
