"""What the runs of a cross-validation say of the images that each was not trained on."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from cluster.storage.store import Store
from ray_jobs.errors import ConfigError
from ray_jobs.evaluation.answers import answers_of, splits_of
from ray_jobs.job.toml_codec import Tree
from ray_jobs.run.argument import RUNS
from ray_jobs.run.directory import RunDirectory
from resnet_dist.errors import RunError
from resnet_dist.plain_json import json_object

_FOLDS = "folds.json"


def folds_of(name: str, storage_root: str) -> list[RunDirectory]:
    """The runs of the cross-validation `name`. Raises ConfigError where it is none that is done, RunError where its
    files are damaged."""
    store = Store.open(storage_root).child(f"{RUNS}/{name}")
    content = store.read_or_none(_FOLDS)
    if content is None:
        raise ConfigError(
            f"--predictions {name} is no finished cross-validation: {store.uri} has no {_FOLDS}; "
            "name a run of data.folds that is done"
        )
    runs = json_object(content, f"{store.uri}/{_FOLDS}", "train it again").get("runs")
    count = len(cast("list[object]", runs)) if isinstance(runs, list) else 0
    if not count:
        raise RunError(f"{store.uri}/{_FOLDS} names no runs; train it again: finished folds are not trained anew")
    return [RunDirectory.find(f"{name}-fold{fold}", storage_root) for fold in range(count)]


def fold_predictions(folds: Sequence[RunDirectory], fingerprint: str, changes: Tree) -> dict[str, NDArray[np.float64]]:
    """By sample id the probabilities [C] of a run that did not train on it, the classes in the data's order.

    Each fold's val is judged by its own run, and test, which none was trained on, by the first; what was judged before
    is read. `changes`: where they are judged. Raises ConfigError for folds that were trained on other data than those
    with the `fingerprint`.
    """
    for fold in folds:
        trained_on = fold.read_dataset().fingerprint
        if trained_on != fingerprint:
            raise ConfigError(
                f"--predictions names a cross-validation on other data: {fold.uri} has the fingerprint "
                f"{trained_on[:12]}, the folder {fingerprint[:12]}; train it anew"
            )
    parts = [(fold, "val") for fold in folds]
    if splits_of(folds[0]).get("test"):
        parts.append((folds[0], "test"))
    found: dict[str, NDArray[np.float64]] = {}
    for fold, split in parts:
        answers = answers_of(fold, split, changes)
        found.update(zip(answers.sample_ids, answers.probabilities, strict=True))
    return found
