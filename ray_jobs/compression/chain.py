"""`resnet-dist compress chain`: the phases of a recipe, each on the result of the one before it.

The names of its runs follow from the recipe, and a phase whose run is finished is passed over. So the same command goes
on where it was interrupted. At its end chain.json, in the folder of its name, says which run is the result.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from ray_jobs.compression.distill import run_distill
from ray_jobs.compression.max_loss import gated, judged_loss
from ray_jobs.compression.names import result_name
from ray_jobs.compression.outcome import PhaseOutcome
from ray_jobs.compression.phase_job import root_of_result
from ray_jobs.compression.prune import run_prune
from ray_jobs.compression.recipe import Phase, recipe_of
from ray_jobs.errors import GateError
from ray_jobs.job.toml_codec import Tree, merged
from ray_jobs.run.directory import CHAIN, RunDirectory
from ray_jobs.run.lookup import find_run
from resnet_dist.errors import UnreachableTargetError
from resnet_dist.sealed_json import json_bytes

Say = Callable[[str], None]
_LEAST, _FIRST = 0.05, 0.5
"""smallest: the least share that is tried, and the first one."""


@dataclass(frozen=True)
class Try:
    """A pruning of a phase that searches the smallest network."""

    share: float
    run: str
    """URI; empty where the share cannot be reached."""
    loss: str
    """On val, in words; why it was not pruned, where it was not."""
    is_small_enough: bool


@dataclass(frozen=True)
class ChainOutcome:
    """A chain that is done."""

    recipe: str
    phases: tuple[PhaseOutcome, ...]
    tries: tuple[Try, ...] = field(default=())
    """Of phases that search the smallest network."""

    @property
    def run(self) -> str:
        """URI of the result."""
        return self.phases[-1].run

    def to_json(self) -> dict[str, Any]:
        """Plain values: chain.json."""
        return {
            "schema": 1,
            "recipe": self.recipe,
            "result": self.run,
            "runs": [phase.run for phase in self.phases],
            "tries": [asdict(each) for each in self.tries],
        }


def run_chain(
    run: str, recipe: str, changes: Tree, submission: str | None = None, say: Say = lambda _: None
) -> ChainOutcome:
    """Run the phases of a recipe, or go on where that was interrupted. Raises ConfigError for a recipe that cannot be
    read, GateError where a phase loses more than it may, and what the phases raise."""
    name, phases = recipe_of(recipe)
    origin = find_run(run, changes)
    chain = str(changes.get("name") or result_name(origin.name, "chain", name))
    parent, done, tries = run, list[PhaseOutcome](), list[Try]()
    for number, phase in enumerate(phases.phase, start=1):
        is_last = number == len(phases.phase)
        phase_name = chain if is_last else f"{chain}-{number}-{phase.kind}"
        say(f"phase {number} of {len(phases.phase)}: {phase.kind} {parent}")
        own = merged(changes, {**phase.changes, "name": phase_name})
        match phase.kind:
            case "distill":
                outcome = gated(run_distill(parent, own, submission), phase.max_loss, changes, origin)
            case "prune":
                found = run_prune(parent, phase.request(str(phase.target)), own, submission, say)
                outcome = gated(found, phase.max_loss, changes, origin)
            case "smallest":
                outcome = _smallest(parent, origin, phase, own, tries, submission, say)
        done.append(outcome)
        parent = outcome.run
    outcome = ChainOutcome(name, tuple(done), tuple(tries))
    place = RunDirectory.named(root_of_result(origin, changes), chain)
    place.store.write(CHAIN, json_bytes(outcome.to_json()))
    return outcome


def _smallest(
    parent: str,
    origin: RunDirectory,
    phase: Phase,
    changes: Tree,
    tries: list[Try],
    submission: str | None,
    say: Say,
) -> PhaseOutcome:
    """The smallest network that loses less than the limit of the top-1 of `origin` on val, by bisection of the share
    that is kept."""
    too_small, enough = _LEAST, 1.0
    share, best = _FIRST, None
    for _ in range(phase.tries):
        name = f"{changes['name']}-{1000 * share:.0f}permille"
        try:
            outcome = run_prune(
                parent, phase.request(f"{phase.target}={share:.3g}"), {**changes, "name": name}, submission, say
            )
        except UnreachableTargetError as error:
            tries.append(Try(share, "", str(error), is_small_enough=False))
            too_small = share
        else:
            loss = judged_loss(origin, RunDirectory.find(outcome.run, ""), "val", changes)
            fits = phase.max_loss is not None and loss.is_within(phase.max_loss)
            tries.append(Try(share, outcome.run, str(loss), fits))
            say(f"{phase.target}={share:.3g}: {loss}; {'small enough a loss' if fits else 'too much'}")
            if fits:
                best, enough = outcome, share
            else:
                too_small = share
        share = round((too_small + enough) / 2, 3)
    if best is None:
        raise GateError(
            f"none of {len(tries)} prunings of {parent} loses less than {phase.max_loss:g} points of top-1 on val: "
            f"{'; '.join(each.loss for each in tries)}. Train longer, allow more, or start from a larger network"
        )
    return best
