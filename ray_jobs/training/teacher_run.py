"""The run that a job learns from: found, and compared with the job, without torch."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Self

from cluster.storage.store import absolute_root
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig, run_name
from ray_jobs.job.preprocessing import preprocess_of
from ray_jobs.run.argument import names_a_place
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.lifecycle import is_done
from resnet_dist.checkpoint.manifest import MODEL, WEIGHTS
from resnet_dist.errors import RunError
from resnet_dist.plain_json import json_object
from resnet_dist.runtime.preprocess import Preprocess

_DIGITS = 16
_BOUND = "max_pixels"
"""Of the preprocessing, what refuses images and changes none."""


@dataclass(frozen=True)
class TeacherRun:
    """A finished run whose best checkpoint answers; its weights are not read yet."""

    run: RunDirectory
    step: int
    """Of its best checkpoint."""
    digest: str
    """What `distillation.teacher_digest` says of it."""

    @classmethod
    def of(cls, job: JobConfig) -> Self | None:
        """The job's teacher, None where it has none.

        Raises ConfigError where the teacher is the run itself or sees images otherwise, RunError where it is not there,
        not finished, or has no whole checkpoint.
        """
        name = job.distillation.teacher
        if name is None:
            return None
        own = RunDirectory.named(job.storage.root, run_name(job))
        try:
            run = _find(name, job.storage.root)
            if _is_same(run, own):
                raise ConfigError(
                    f"distillation.teacher={name} is the run itself, {own.uri}; choose another --name for the student"
                )
            views = _views(run.read_preprocess())
            _check_views(name, views, _views(preprocess_of(job)))
            step, digest = _best(run, views)
        except RunError as error:
            raise RunError(f"distillation.teacher={name}: {error}") from error
        return cls(run, step, digest)

    def check_classes(self, job: JobConfig, classes: tuple[str, ...]) -> None:
        """Raise ConfigError where the teacher's classes, or their order, are not the job's."""
        theirs = self.run.read_dataset().classes
        if theirs == classes:
            return
        only = "; ".join(
            f"{who} alone has {', '.join(names[:5])}{' and more' if len(names) > 5 else ''}"
            for who, names in (
                ("the teacher", [name for name in theirs if name not in classes]),
                ("the job", [name for name in classes if name not in theirs]),
            )
            if names
        )
        raise ConfigError(
            f"distillation.teacher={job.distillation.teacher} has other classes than this job: "
            + (only or f"they are in the order {', '.join(theirs[:5])} ...; set data.class_order to the teacher's")
            + "; logits are compared one by one, so classes and their order must be the same"
        )


def absolute_teacher(teacher: str | None) -> str | None:
    """A path from the root of this machine; a URI or a bare name as it is."""
    return absolute_root(teacher) if teacher is not None and names_a_place(teacher) else teacher


def _find(name: str, storage_root: str) -> RunDirectory:
    try:
        return RunDirectory.find(name, storage_root)
    except RunError as error:
        raise RunError(
            f"{error}; a run that is to be trained needs its teacher at each start: restore it, or name the place "
            "where it lies now"
        ) from error


def _is_same(one: RunDirectory, other: RunDirectory) -> bool:
    places = one.store.local_path, other.store.local_path
    if places[0] is None or places[1] is None:
        return one.uri == other.uri
    return places[0].resolve() == places[1].resolve()


def run_digest(run: RunDirectory) -> str:
    """16 hex digits that stand for what a finished run answers: its network, the weights of its best checkpoint and
    its preprocessing. Raises RunError for a run that is not finished, or has no whole checkpoint."""
    return _best(run, _views(run.read_preprocess()))[1]


def _best(run: RunDirectory, views: dict[str, Any]) -> tuple[int, str]:
    """Step of a finished run's best checkpoint, and the digest."""
    job, progress = run.read_config(), run.progress()
    if progress is None:
        raise RunError(f"{run.uri} has no whole checkpoint; train it first")
    if not is_done(progress, job):
        raise RunError(
            f"{run.uri} is not finished, with {progress.epoch} of {job.training.epochs} epochs done; train it to its "
            "end, or lower its training.epochs to those that are done"
        )
    best = run.best_manifest()
    model = json_object(best.read(run.store, MODEL), f"{run.uri}: {MODEL}", "choose another teacher")
    decides = {"model": model, "weights": best.files[WEIGHTS][1], "preprocess": views}
    return best.step, hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:_DIGITS]


def _check_views(name: str, theirs: dict[str, Any], own: dict[str, Any]) -> None:
    changed = [f"{field}: {theirs[field]} -> {own[field]}" for field in own if theirs[field] != own[field]]
    if changed:
        raise ConfigError(
            f"distillation.teacher={name} was trained on images that were prepared otherwise than this job's; give the "
            "job the teacher's [data], or choose another teacher:\n" + "\n".join(changed)
        )


def _views(preprocess: Preprocess) -> dict[str, Any]:
    """What decides how an image is seen, as JSON values."""
    views: dict[str, Any] = json.loads(json.dumps(preprocess.to_json()))
    del views[_BOUND]
    return views
