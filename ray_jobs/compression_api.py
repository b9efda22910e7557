"""The commands that compress a run as functions. Callers have them from `ray_jobs.api`.

Importing this module is cheap: each function imports what it runs. `changes` are the fields that differ from the run's
own job, nested by section.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.pool_api import Say, silent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ray_jobs.compression.ladder import Ladder
    from ray_jobs.compression.outcome import ChainOutcome, PhaseOutcome
    from ray_jobs.compression.plan import PlanOutcome
    from ray_jobs.compression.request import PruneRequest, QuantizeRequest

    Changes = Mapping[str, Any]


def compress_plan(run: str, request: PruneRequest, *, changes: Changes | None = None, say: Say = silent) -> PlanOutcome:
    """What a target comes to, and what can be reached. Nothing is trained."""
    _check(run, changes)
    from ray_jobs.compression.plan import run_plan

    return run_plan(run, request, changes or {}, say)


def compress_distill(
    run: str,
    *,
    changes: Changes | None = None,
    max_loss: float | None = None,
    submission: str | None = None,
) -> PhaseOutcome:
    """Train a smaller network that learns from a finished run. `max_loss`: points of top-1; GateError beyond."""
    _check(run, changes, max_loss)
    from ray_jobs.compression.distill import run_distill
    from ray_jobs.compression.max_loss import gated

    return gated(run_distill(run, changes or {}, submission), max_loss, changes or {})


def compress_prune(
    run: str,
    request: PruneRequest,
    *,
    changes: Changes | None = None,
    max_loss: float | None = None,
    submission: str | None = None,
    say: Say = silent,
) -> PhaseOutcome:
    """Remove the channels or blocks that matter least until a target is met, and recover what was lost."""
    _check(run, changes, max_loss)
    from ray_jobs.compression.max_loss import gated
    from ray_jobs.compression.prune import run_prune

    return gated(run_prune(run, request, changes or {}, submission, say), max_loss, changes or {})


def compress_quantize(
    run: str,
    request: QuantizeRequest,
    *,
    changes: Changes | None = None,
    submission: str | None = None,
    say: Say = silent,
) -> PhaseOutcome:
    """Have a run compute in 8 bits: by ranges alone where they lose little, else by training."""
    _check(run, changes, request.max_loss)
    from ray_jobs.compression.quantize import run_quantize

    return run_quantize(run, request, changes or {}, submission, say)


def compress_chain(
    run: str,
    recipe: str,
    *,
    changes: Changes | None = None,
    submission: str | None = None,
    say: Say = silent,
) -> ChainOutcome:
    """The phases of a recipe, one after the other. `recipe`: the name of one that ships, or a TOML file."""
    _check(run, changes)
    from ray_jobs.compression.recipe import recipe_of

    recipe_of(recipe)
    from ray_jobs.compression.chain import run_chain

    return run_chain(run, recipe, changes or {}, submission, say)


def compress_show(
    run: str,
    *,
    changes: Changes | None = None,
    split: str | None = None,
    threads: int = 1,
    seconds: float = 5.0,
    say: Say = silent,
) -> Ladder:
    """What each phase cost in accuracy and gave in size and speed, on the same images."""
    from ray_jobs.compression.request import check_showing

    check_showing(split, threads, seconds)
    _check(run, changes)
    from ray_jobs.compression.ladder import run_ladder

    return run_ladder(run, changes or {}, split, threads, seconds, say)


def _check(run: str, changes: Changes | None, max_loss: float | None = None) -> None:
    """Raise what is wrong with the arguments before torch is imported."""
    from ray_jobs.compression.request import check_max_loss
    from ray_jobs.run.lookup import find_run

    check_max_loss(max_loss)
    find_run(run, changes or {})
