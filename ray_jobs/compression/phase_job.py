"""The job of a phase: its parent's own, with what the phase and the user change."""

import tomllib
from typing import Any

from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check, print_config
from ray_jobs.job.toml_codec import Tree, merged
from ray_jobs.run.directory import RunDirectory
from resnet_dist.checkpoint.contents import Checkpoint
from resnet_dist.model.config import ModelConfig
from resnet_dist.model.model_json import ranges_in
from resnet_dist.model.structure import Structure

PRUNED = "pruned; prune the run that it came from, and quantise that"
_SLOWER = 0.5
"""Peak learning rate of a recovery over that of the training whose weights it goes on from."""


def phase_job(parent: RunDirectory, changes: Tree, phase: Tree) -> JobConfig:
    """The parent's job without what belongs to it alone, `changes` of the user on top, and above both the `phase`'s.

    Raises ConfigError as `check` does and for several folds, RunError where the parent's config cannot be read.
    """
    stored: dict[str, Any] = tomllib.loads(print_config(parent.read_config()))
    for section, names in _ITS_OWN.items():
        for name in names:
            stored.get(section, {}).pop(name, None)
    stored.pop("cluster", None)  # it may be used elsewhere than it was trained
    job = check(merged(merged(stored, changes), phase))
    if job.data.folds is not None and job.data.fold is None:
        raise ConfigError(
            f"data.folds={job.data.folds} trains as many runs, and compression makes one; name one with data.fold, or "
            f"cross-validate a student with train --distillation.teacher {parent.name}"
        )
    return job


_ITS_OWN: dict[str, tuple[str, ...]] = {
    "schedule": ("epochs",),  # those of its training
    "training": ("reduction",),  # by the machine
    "distillation": ("teacher", "teacher_digest"),
    "model": ("quantisation",),
}


def require_float(run: RunDirectory, found: Checkpoint, otherwise: str) -> None:
    """Raise ConfigError for a checkpoint whose network computes in 8 bits; `otherwise`: what it then cannot be."""
    if ranges_in(found.model_json()) is not None:
        raise ConfigError(f"{run.uri} learnt to compute in 8 bits, so it cannot be {otherwise}")


def check_same_network(model: ModelConfig, structure: Structure, doing: str) -> None:
    """Raise ConfigError where a job asks for another network than the run's; `doing`: such as "pruning cuts"."""
    pairs = (
        ("arch", model.arch, structure.arch),
        ("squeeze_excite", model.squeeze_excite, structure.squeeze_excite),
        ("widths", model.structure.layer_widths.text, structure.layer_widths.text),
    )
    for name, asked, own in pairs:
        if asked != own:
            raise ConfigError(
                f"model.{name}={getattr(model, name)}: {doing} the run's own network, of which it is {own}; leave "
                f"model.{name} unset, or train another network with compress distill"
            )


def root_of_result(parent: RunDirectory, changes: Tree) -> str:
    """The storage root of what a phase makes: the changes', else the one that the parent lies under now, which its
    config does not know where the root was moved, else the config's."""
    named = changes.get("storage", {}).get("root")
    return str(named or parent.storage_root or parent.read_config().storage.root)


def gentler(parent: JobConfig, changes: Tree) -> Tree:
    """The learning rate for weights that are good already, unless the user sets one."""
    if "learning_rate" in changes.get("optimizer", {}):
        return {}
    return {"optimizer": {"learning_rate": parent.optimizer.learning_rate * _SLOWER}}


def epochs_of_rounds(epochs: int, rounds: int) -> list[int]:
    """How `epochs` of recovery are spread: half or more after the last cut, the rest evenly, one each at least."""
    before = max(epochs // 2 // (rounds - 1), 1) if rounds > 1 else 0
    return [*[before] * (rounds - 1), max(epochs - before * (rounds - 1), 1)]
