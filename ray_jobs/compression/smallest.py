"""The phase of a chain that searches the smallest network within a loss: a bisection of the share that is kept."""

from collections.abc import Callable, Sequence

from ray_jobs.compression.max_loss import judged_loss
from ray_jobs.compression.outcome import PhaseOutcome, Try
from ray_jobs.compression.prune import run_prune
from ray_jobs.compression.recipe import Phase
from ray_jobs.errors import GateError
from ray_jobs.job.toml_codec import Tree
from ray_jobs.run.directory import RunDirectory
from resnet_dist.errors import UnreachableTargetError

_LEAST, _FIRST = 0.05, 0.5
"""The share that is taken to be too small, and the first one that is tried."""


def next_share(tries: Sequence[Try], most: int) -> float | None:
    """The share, in thousandths, between the largest one that failed and the smallest one that did not.

    None where `most` prunings were trained, or no share lies between. A share out of reach counts as none of them.
    """
    if not tries:
        return _FIRST
    failed = max((each.share for each in tries if not each.is_small_enough), default=_LEAST)
    held = min((each.share for each in tries if each.is_small_enough), default=1.0)
    share = round((failed + held) / 2, 3)
    return share if sum(bool(each.run) for each in tries) < most and failed < share < held else None


def run_smallest(
    parent: str,
    origin: RunDirectory,
    phase: Phase,
    changes: Tree,
    submission: str | None,
    say: Callable[[str], None],
) -> tuple[PhaseOutcome, tuple[Try, ...]]:
    """The smallest network that loses at most `phase.max_loss` points of the top-1 of `origin` on val, and all tries.

    Raises GateError where each of them loses more, and what `run_prune` raises.
    """
    tries, best = list[Try](), None
    while (share := next_share(tries, phase.tries)) is not None:
        own = {**changes, "name": f"{changes['name']}-{1000 * share:.0f}permille"}
        try:
            outcome = run_prune(parent, phase.request(f"{phase.target}={share:.3g}"), own, submission, say)
        except UnreachableTargetError as error:
            tries.append(Try(share, "", str(error), is_small_enough=False))
            continue
        loss = judged_loss(origin, RunDirectory.find(outcome.run, ""), "val", changes)
        fits = phase.max_loss is not None and loss.is_within(phase.max_loss)
        tries.append(Try(share, outcome.run, str(loss), fits))
        say(f"{phase.target}={share:.3g}: {loss}; {'small enough a loss' if fits else 'too much'}")
        if fits:
            best = outcome
    if best is None:
        raise GateError(
            f"none of {len(tries)} prunings of {parent} loses less than {phase.max_loss:g} points of top-1 on val: "
            f"{'; '.join(each.loss for each in tries)}. Train longer, allow more, or start from a larger network"
        )
    return best, tuple(tries)
