"""From a job to its tracker, and what the tracker learns of the run."""

import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import assert_never

from pydantic import BaseModel

from ray_jobs.job.config import JobConfig, run_name
from ray_jobs.job.tracker import TrackerConfig
from ray_jobs.run.directory import RunDirectory
from ray_jobs.trackers.guarded import GuardedTracker
from ray_jobs.trackers.mlflow_tracker import MlflowTracker
from ray_jobs.trackers.tensorboard_tracker import TensorBoardTracker
from ray_jobs.trackers.tracker import Plain, TrackedRun, Tracker
from ray_jobs.trackers.wandb_tracker import WandbTracker

_FOLDER = "tracker"
_ID = f"{_FOLDER}/id"


def build_tracker(config: TrackerConfig, run: Callable[[], TrackedRun]) -> GuardedTracker:
    """The tracker of that kind, guarded; for "none" one that does nothing. Imports no tracker's package.

    `run` is read under the guard, too, as storage may fail.
    """
    return GuardedTracker(config.kind, _maker(config, run), config.finish_s)


def tracked_run(job: JobConfig, run: RunDirectory, resumed_step: int | None) -> TrackedRun:
    """What a tracker learns of a run. `job` is the resolved one. The run's first call gives it its id."""
    run_id = _id(run)
    files = run.store.child(f"{_FOLDER}/{job.tracker.kind}")
    is_local = files.local_path is not None
    return TrackedRun(
        name=run_name(job),
        id=run_id,
        project=job.tracker.project,
        group=job.tracker.group,
        tags=job.tracker.tags,
        config=dotted(job),
        resumed_step=resumed_step,
        folder=files.local_path or _scratch(run_id, job.tracker.kind),
        place=files.uri,
        upload=None if is_local else files.write,
    )


def dotted(section: BaseModel, prefix: str = "") -> dict[str, Plain]:
    """Every value of a config by its dotted key, a list as text."""
    found: dict[str, Plain] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            found |= dotted(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value if isinstance(value, str | int | float | None) else str(value)
    return found


def _maker(config: TrackerConfig, run: Callable[[], TrackedRun]) -> Callable[[], Tracker] | None:
    match config.kind:
        case "none":
            return None
        case "wandb":
            return lambda: WandbTracker(run(), config.capture, config.finish_s)
        case "tensorboard":
            return lambda: TensorBoardTracker(run())
        case "mlflow":
            return lambda: MlflowTracker(run(), config.uri)
        case _:
            assert_never(config.kind)


def _id(run: RunDirectory) -> str:
    """Random, as the place is no identity: a run may be deleted and trained anew, or lie on another machine.

    Stored with the run's name, so that a copy under another name is another run.
    """
    found, _, name = (run.store.read_or_none(_ID) or b"").decode().partition(" ")
    if found and name == run.name:
        return found
    # One without a name was stored before names were.
    kept = found if found and not name else secrets.token_hex(8)
    run.store.write(_ID, f"{kept} {run.name}".encode())
    return kept


def _scratch(run_id: str, kind: str) -> Path:
    """The same for every start of a run on this machine, so that a restarted worker finds what is there."""
    return Path(tempfile.gettempdir()) / f"resnet-dist-tracker-{os.getuid()}" / run_id / kind
