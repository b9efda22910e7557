"""`resnet-dist compress chain`: the phases of a recipe, each on the result of the one before it.

The names of its runs follow from the recipe, and a phase whose run is finished is passed over. So the same command goes
on where it was interrupted. At its end chain.json, in the folder of its name, says which run is the result.
"""

from collections.abc import Callable

from ray_jobs.compression.distill import run_distill
from ray_jobs.compression.max_loss import gated
from ray_jobs.compression.names import result_name
from ray_jobs.compression.outcome import ChainOutcome, PhaseOutcome, Try
from ray_jobs.compression.phase_job import root_of_result
from ray_jobs.compression.prune import run_prune
from ray_jobs.compression.quantize import run_quantize
from ray_jobs.compression.recipe import recipe_of
from ray_jobs.compression.smallest import run_smallest
from ray_jobs.job.toml_codec import Tree, merged
from ray_jobs.run.directory import CHAIN, RunDirectory
from ray_jobs.run.lookup import find_run
from resnet_dist.sealed_json import json_bytes

Say = Callable[[str], None]


def run_chain(
    run: str, recipe: str, changes: Tree, submission: str | None = None, say: Say = lambda _: None
) -> ChainOutcome:
    """Run the phases of a recipe, or go on where that was interrupted. Raises ConfigError for a recipe that cannot be
    read, GateError where a phase loses more than it may, and what the phases raise."""
    name, phases = recipe_of(recipe)
    origin = find_run(run, changes)
    chain = str(changes.get("name") or result_name(origin.name, "chain", name))
    parent, done, tries = run, list[PhaseOutcome](), tuple[Try, ...]()
    for number, phase in enumerate(phases.phase, start=1):
        is_last = number == len(phases.phase)
        phase_name = chain if is_last else f"{chain}-{number}-{phase.kind}"
        say(f"phase {number} of {len(phases.phase)}: {phase.kind} {parent}")
        own = merged(changes, {**phase.changes, "name": phase_name})
        match phase.kind:
            case "distill":
                outcome = gated(run_distill(parent, own, submission), phase.max_loss, changes, origin)
            case "prune":
                pruned = run_prune(parent, phase.request(str(phase.target)), own, submission, say)
                outcome = gated(pruned, phase.max_loss, changes, origin)
            case "quantize":
                outcome = run_quantize(parent, phase.quantize_request, own, submission, say, origin)
            case "smallest":
                outcome, found = run_smallest(parent, origin, phase, own, submission, say)
                tries += found
        done.append(outcome)
        parent = outcome.run
    outcome = ChainOutcome(name, tuple(done), tries)
    place = RunDirectory.named(root_of_result(origin, changes), chain)
    place.store.write(CHAIN, json_bytes(outcome.to_json()))
    return outcome
